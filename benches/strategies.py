"""Tables of strategies and estimators from a folder of `candor eval --compare` runs.

    python3 benches/strategies.py RUN [CANDOR] > tables.md

RUN holds a run folder for each strategy, self-consistency among them. CANDOR is the program that
computes the estimators from the records, `candor` if it is not given.

The last part judges the bounds of `enumerate` by the samples of self-consistency, drawn from the
same distribution: for each answer that either found, the exact binomial probability of a share as
far outside the bounds as the sampled one. With m answers, the smallest one must be above .05 / m.
"""

import json
import math
import subprocess
import sys
from pathlib import Path


def records(run):
    return [json.loads(line) for line in open(run / "records.jsonl", encoding="utf-8")]


def tail(k, n, p):
    """P(Bin(n, p) >= k)."""
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


def outside(k, n, low, high):
    """The probability of a count at least as far outside the bounds; 1 within them."""
    if k > n * high:
        return tail(k, n, min(high, 1.0))
    if k < n * low:
        return 1 - tail(k + 1, n, max(low, 0.0))
    return 1.0


def report(candor, runs):
    command = [candor, "report", *map(str, runs), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def value(metrics, name):
    found = next((m for m in metrics if m["name"] == name), None)
    if found is None or found.get("value") is None:
        return "–"
    text = f"{found['value']:.3f}"
    if found.get("interval") and name == "auroc":
        text += " ({:.2f} to {:.2f})".format(*found["interval"])
    return text.replace("0.", ".")


def strategies(candor, runs):
    print("| strategy | right | answered | answered wrong | samples | forward tokens | prompt tokens | "
          "AUROC | AURC |")
    print("|---|---|---|---|---|---|---|---|---|")
    of_report = {run["label"]: run for run in report(candor, runs)["runs"]}
    for run in runs:
        rows = [row for row in records(run) if row["outcome"]]
        mean = lambda part: sum(map(part, rows)) / len(rows)
        answers = lambda row: row["outcome"]["decision"] == "answer"
        right = lambda row: row["grade"] == "correct"
        cost = lambda key: mean(lambda row: row["outcome"]["cost"][key])
        found = of_report.get(run.name)
        metrics = found["metrics"] if found else []
        cells = [
            run.name.split("__")[0].replace("=_", "=").replace("_", ":", 1),
            f"{mean(right):.3f}",
            f"{mean(answers):.3f}",
            f"{mean(lambda row: answers(row) and not right(row)):.3f}",
            f"{mean(lambda row: len(row['outcome']['samples'])):.1f}",
            f"{cost('forward_tokens'):.0f}",
            f"{cost('prompt_tokens'):.0f}",
            value(metrics, "auroc"),
            value(metrics, "aurc"),
        ]
        print("|", " | ".join(cells).replace(" 0.", " ."), "|")


def estimators(candor, runs):
    reports = report(candor, runs)["runs"]
    tables = [{e["name"]: e["metrics"] for e in run["estimators"]} for run in reports]
    names = list(dict.fromkeys(name for table in tables for name in table))
    heads = [f"{run['label']}: {metric}" for run in reports for metric in ("AUROC", "AURC")]
    print("| estimator |", " | ".join(heads), "|")
    print("|---" * (1 + len(heads)) + "|")
    best = lambda name: value(tables[0].get(name, []), "auroc")
    for name in sorted(names, key=best, reverse=True):
        cells = [value(t.get(name, []), metric) for t in tables for metric in ("auroc", "aurc")]
        print(f"| `{name}` |", " | ".join(cells), "|")


def bounds(sampled, enumerated):
    """Answers judged, the smallest probability, and the number below .05."""
    probabilities = []
    shares = {row["doc_id"]: row["outcome"]["vote"] for row in records(sampled) if row["outcome"]}
    for row in records(enumerated):
        vote = shares.get(row["doc_id"])
        if vote is None or not row["outcome"]:
            continue
        mass = {p["answer"]: p["parts"] for p in row["outcome"].get("probes", []) if p["name"] == "mass"}
        left = min((high - low for low, high in mass.values()), default=1.0)
        n = len(vote["answers"])
        counts = {cluster["answer"]: len(cluster["samples"]) for cluster in vote["clusters"]}
        for answer in counts.keys() | mass.keys():
            low, high = mass.get(answer, (0.0, left))
            probabilities.append(outside(counts.get(answer, 0), n, low, high))
    print(f"{len(probabilities)} answers; the smallest probability is {min(probabilities):.2g}, "
          f"{sum(p < 0.05 for p in probabilities)} are below .05; the level is "
          f"{0.05 / len(probabilities):.2g}.")


def main():
    folder, candor = Path(sys.argv[1]), (sys.argv + ["candor"])[2] if len(sys.argv) > 2 else "candor"
    runs = sorted(path.parent for path in folder.glob("*/records.jsonl"))
    first = [run for run in runs if run.name == "self-consistency"]
    strategies(candor, first + [run for run in runs if run not in first])
    print()
    estimators(candor, [run for run in runs if run.name in ("self-consistency", "greedy")][::-1])
    if (folder / "enumerate").exists():
        print()
        bounds(folder / "self-consistency", folder / "enumerate")


if __name__ == "__main__":
    main()
