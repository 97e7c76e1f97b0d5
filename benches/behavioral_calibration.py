#!/usr/bin/env python3
"""Does a model abstain when its prompt states the price of a mistake (arXiv 2509.04664)?

    benches/behavioral_calibration.py CANDOR MODEL TASK [--questions 600] [--samples 8]
        [--targets 0 0.5 0.75 0.9] [--runs FOLDER]

For each confidence target t: score_t per question (1 for a correct answer, 0 for an abstention, -t
/ (1 - t) for an incorrect answer), coverage, and accuracy of the answers, for four ways to abstain:
- neither: t is not in the prompt; answer where half of the samples agree;
- prompt: the paper's sentence with t after every question; answer where half of the samples agree;
- engine: t is not in the prompt; answer where the calibrated confidence exceeds t;
- both: the paper's sentence, and the confidence calibrated under it.

`candor calibrate` fits the confidence of engine and both on a split of the same run. All rows are
about the same remaining questions. With --runs, interrupted runs resume in that folder.
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
