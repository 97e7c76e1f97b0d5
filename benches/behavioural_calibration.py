#!/usr/bin/env python3
"""Whether telling a model the price of a wrong answer makes it abstain, beside abstaining by calibrated agreement (arXiv 2509.04664).

    benches/behavioural_calibration.py CANDOR MODEL TASK [--questions 600] [--samples 8] [--targets 0 0.5 0.75 0.9] [--runs FOLDER]

For each target t: score_t (right 1, silent 0, wrong -t / (1 - t), per question), coverage, and accuracy of the answers, of
- neither: no word of t in the prompt; answers where half of the samples agree;
- prompt: the paper's sentence with t after every question; half of the samples must agree;
- engine: no word of t in the prompt; answers where the calibrated confidence exceeds t;
- both: the sentence, and the confidence calibrated under it.
The confidence of engine and both is calibrated on the part of the same run that `candor calibrate` deals out; every row is about the
questions that are left, the same ones in all rows. Runs go on where they stopped if --runs names their folder.
"""
import argparse, json, pathlib, subprocess, tempfile

FIT = ["--fit", "0.25", "--threshold", "0.25", "--split-seed", "0", "--method", "sigmoid"]


def candor(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def recorded(run, made_on):
    """(questions, answered, right, declined) by the run's own decisions, on the questions that no calibration saw."""
    left = [record for record in map(json.loads, (run / "records.jsonl").open()) if record["doc"]["id"] not in made_on]
    given = [record for record in left if record["outcome"] and record["outcome"]["decision"] == "answer"]
    declined = sum((record["outcome"]["reason"] or {}).get("code") == "model_abstained" for record in left if record["outcome"])
    return len(left), len(given), sum(record["grade"] == "correct" for record in given), declined


def redecided(program, run, policy):
    """The same by a policy file."""
    report = json.loads(candor(program, "score", run, "--policy", policy, "--json"))
    figures = {figure["name"]: figure["value"] for figure in report["metrics"]}
    answered = round(figures["coverage"] * report["questions"])
    right = answered - round(figures.get("selective_risk", 0) * answered)
    return report["questions"], answered, right, report["abstained"].get("model_abstained", 0)


def row(name, t, counts):
    questions, answered, right, declined = counts
    score = (right - (answered - right) * t / (1 - t)) / questions
    accuracy = f"{right / answered:.3f}" if answered else "none"
    print(f"| {t} | {name} | {score:+.3f} | {answered / questions:.3f} | {accuracy} | {declined} | {questions} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candor")
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--targets", nargs="+", type=float, default=[0, 0.5, 0.75, 0.9])
    parser.add_argument("--runs")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(a.runs or made)
        arms = ["self-consistency"] + [f"self-consistency:confidence-target={t}" for t in a.targets]
        command = [a.candor, "eval", a.task, "-m", a.model, "--offline", "-n", a.samples, "--limit", a.questions, "-o", folder / "runs",
                   "--compare", ",".join(arms)]
        if candor(*command) is None:
            raise SystemExit("the runs failed: " + " ".join(map(str, command)))
        plain = folder / "runs" / "self-consistency"
        print("| t | abstains by | score_t | coverage | accuracy of answers | said \"I don't know\" | questions |\n|---|---|---|---|---|---|---|")
        for t in a.targets:
            told = folder / "runs" / f"self-consistency_confidence-target={t}"
            for without, run, names in [("neither", plain, "engine"), ("prompt", told, "both")]:
                policy = folder / f"{names}-{t}.json"
                made_it = candor(a.candor, "calibrate", run, "-o", policy, "--target", f"confidence={t}", *FIT)
                if made_it is None:
                    print(f"| {t} | {names} | no confidence could be fitted | | | | |")
                    continue
                made_on = set(json.loads(policy.read_text())["calibration_ids"])
                row(without, t, recorded(run, made_on))
                row(names, t, redecided(a.candor, run, policy))


if __name__ == "__main__":
    main()
