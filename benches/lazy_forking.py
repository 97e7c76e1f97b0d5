#!/usr/bin/env python3
"""Rows computed per sampled token with lazy forking, on 20 capital-city questions.

    benches/lazy_forking.py CANDOR MODEL [MODEL ...] [--temperatures 0.3 0.6 0.7 0.8] [--samples 4 8 16 32]
        [--top-p 0.9]

A row is a distinct token prefix; samples that agree share it. The figure is the sum of
forward_tokens over the sum of completion_tokens, from the outcomes themselves. It depends on the
seed, not on the machine.
"""
import argparse, json, pathlib, subprocess, tempfile

COUNTRIES = ["France", "Japan", "Italy", "Spain", "Germany", "Egypt", "Peru", "Canada", "Kenya", "Norway", "Greece", "Cuba", "Poland",
             "Portugal", "Austria", "Thailand", "Ireland", "Chile", "Hungary", "Australia"]


def measure(candor, model, questions, temperature, samples, top_p):
    command = [candor, "ask", "-m", model, "--input", questions, "--jsonl", "-n", str(samples), "--temperature", str(temperature),
               "--top-p", str(top_p), "--top-k", "0", "--repetition-penalty", "1", "--max-tokens", "64"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    outcomes = [json.loads(line) for line in lines]
    drawn = sum(o["cost"]["completion_tokens"] for o in outcomes)
    rows = sum(o["cost"]["forward_tokens"] for o in outcomes)
    answered = sum(o["decision"] == "answer" for o in outcomes)
    return rows / drawn, drawn / len(outcomes) / samples, answered, len(outcomes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candor")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.3, 0.6, 0.7, 0.8])
    parser.add_argument("--samples", nargs="+", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--top-p", type=float, default=0.9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        questions = pathlib.Path(folder) / "questions.jsonl"
        rows = [json.dumps({"prompt": f"What is the capital of {c}? Answer with one word."}) for c in COUNTRIES]
        questions.write_text("\n".join(rows) + "\n")
        print("| model | temperature | " + " | ".join(f"n = {n}" for n in arguments.samples) + " | tokens per sample | answered |")
        print("|---|---|" + "---|" * (len(arguments.samples) + 2))
        for model in arguments.models:
            for temperature in arguments.temperatures:
                results = [measure(arguments.candor, model, str(questions), temperature, n, arguments.top_p) for n in arguments.samples]
                figures = " | ".join(f"{rate:.2f}" for rate, *_ in results)
                _, length, answered, asked = results[-1]
                print(f"| {pathlib.Path(model).name} | {temperature} | {figures} | {length:.1f} | {answered} of {asked} |", flush=True)


if __name__ == "__main__":
    main()
