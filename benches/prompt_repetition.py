#!/usr/bin/env python3
"""What repeating the question does (arXiv 2512.14982), beside asking once and a placebo of periods.

    benches/prompt_repetition.py CANDOR MODEL [MODEL ...] [--tasks name_index middle_match openbookqa]
        [--questions 300] [--arms off x2 x3 pad] [--batch 1] [--data DIR] [--runs FOLDER]

Greedy answers, one question at a time, so times are those of a single user; a larger --batch is
faster and changes no answer. Gains are questions that became correct, losses those that ceased to
be; p is McNemar's exact two-sided p-value. A gain over `off` that is not also a gain over `pad`
only re-rolls close calls.
"""
import argparse, json, os, pathlib, subprocess, tempfile


def run(arguments, model, task, folder):
    strategies = ",".join(f"greedy:repeat={arm}" for arm in arguments.arms)
    command = [arguments.candor, "eval", task, "-m", model, "--offline", "--limit", str(arguments.questions), "--max-tokens", "48",
               "--batch", str(arguments.batch), "--prefix-cache", "0", "-o", str(folder), "--compare", strategies]
    subprocess.run(command + (["--data", arguments.data] if arguments.data else []), check=True, stdout=subprocess.DEVNULL)
    baselines = [word for arm in ("off", "pad") if arm in arguments.arms for word in ("--baseline", f"greedy_repeat={arm}")]
    scored = subprocess.run([arguments.candor, "score", str(folder), "--json", *baselines], check=True, capture_output=True, text=True)
    return json.loads(scored.stdout)


def paired(differences, arm, baseline):
    for d in differences:
        if d["run"].endswith(f"repeat={arm}") and d["baseline"].endswith(f"repeat={baseline}"):
            return f"+{d['gains']} −{d['losses']}, p = {d['p_value']:.2g}"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candor")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--tasks", nargs="+", default=["name_index", "middle_match", "openbookqa"])
    parser.add_argument("--arms", nargs="+", default=["off", "x2", "x3", "pad"])
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--data", default=os.environ.get("CANDOR_DATA"))
    parser.add_argument("--runs")
    arguments = parser.parse_args()
    print("| model | task | repeat | right | against off | against pad | prompt tokens | ms to the first token | ms from there |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as made:
        for model in arguments.models:
            for task in arguments.tasks:
                folder = pathlib.Path(arguments.runs or made) / pathlib.Path(model).stem / task
                report = run(arguments, model, task, folder)
                for arm in arguments.arms:
                    one = next(r for r in report["runs"] if r["run"].endswith(f"repeat={arm}"))
                    right = next(f["value"] for f in one["metrics"] if f["name"] == "accuracy")
                    cost, differences = one["cost"], report["differences"]
                    print(f"| {pathlib.Path(model).stem} | {task} | {arm} | {round(right * one['questions'])} of {one['questions']} | "
                          f"{paired(differences, arm, 'off')} | {paired(differences, arm, 'pad')} | {cost['prompt_tokens']:.0f} | "
                          f"{cost['prefill_ms']:.0f} | {cost['decode_ms']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
