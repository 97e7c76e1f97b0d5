#!/usr/bin/env python3
"""Judges the grouping of `candor ask --jsonl` runs against the hand-made groups.

    jq -c '{id, prompt: .question}' everyday.jsonl > input.jsonl
    candor ask -m MODEL --input input.jsonl --jsonl -n 8 --seed 1 --max-tokens 64 > RUN.jsonl
    python3 score.py [--sure] RUN.jsonl ...

Line k of a run answers line k of everyday.jsonl. A line counts only if its texts are those that
were labeled (compared by hash); the others are counted as unmatched. Figures, per model, run and
split:

n                questions
false split      share of questions with two samples of one hand group in different groups
false merge      share of questions with two samples of different hand groups in one group
verdict          share of questions whose verdict (leading answer, tie, or nothing) is another one
                 under the hand groups of the samples that vote
precision/recall of "same" over all pairs of samples that have an answer by hand; a text without one
                 may get one by asking, and counts only where it joins or splits a verdict
acc              accuracy of the leading answer, questions with a gold answer; hand: under the
                 hand groups, ties broken as candor does, by mean token log-probability
auroc            area under the ROC curve of entropy over groups for the correctness of that
                 grouping's leading answer; a sample without an answer is its own group
no vote          share of samples with an answer by hand that do not vote

With --sure, samples whose label is not a sure one are left out of splits, merges and pairs.
"""
import collections
import hashlib
import json
import math
import os
import sys
from itertools import combinations

HERE = os.path.dirname(os.path.abspath(__file__))


def digest(text):
    return hashlib.sha256(text.strip().encode()).hexdigest()[:8]


def read(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def entropy(weights):
    total = sum(weights)
    return -sum(w / total * math.log(w / total) for w in weights) if total else 0.0


def auroc(scored):
    """P(an incorrect question's entropy is above a correct one's), ties 1/2; None if undefined."""
    right = [e for e, ok in scored if ok]
    wrong = [e for e, ok in scored if not ok]
    if not right or not wrong:
        return None
    wins = sum((w > r) + 0.5 * (w == r) for r in right for w in wrong)
    return wins / len(right) / len(wrong)


def mean_logprob(sample):
    values = [t.get("logprob", 0.0) for t in sample.get("tokens") or []]
    return sum(values) / len(values) if values else -1e9


def system_groups(outcome):
    """The run's voting groups as lists of sample positions; abstentions are not answers."""
    vote = outcome.get("vote", {})
    groups = vote.get("clusters", vote.get("groups", []))
    return [
        (list(g["samples"]), g.get("weight", len(g["samples"])))
        for g in groups
        if g["samples"] and g.get("canonical") != "i dont know"
    ]


def verdict(groups, label):
    """The leader as hand label, `tie` or `nothing`; groups are (samples, weight)."""
    if not groups:
        return "nothing"
    top = max(w for _, w in groups)
    leaders = [g for g, w in groups if abs(w - top) < 1e-9]
    return label(leaders[0]) if len(leaders) == 1 else "tie"


def judge(row, outcome, has_gold, sure=False):
    samples = outcome["samples"]
    n = len(samples)
    hand = {}  # sample -> hand label; a sample without an answer has a label of its own
    for k, group in enumerate(row["groups"]):
        for i in group:
            hand[i] = k
    answered = set(hand)
    system = system_groups(outcome)
    cluster = {i: k for k, (g, _) in enumerate(system) for i in g}
    voters = set(cluster)
    for k, (group, _) in enumerate(system):  # a voter without an answer by hand: its group's label
        labels = collections.Counter(hand[i] for i in group if i in answered)
        for i in group:
            hand.setdefault(i, labels.most_common(1)[0][0] if labels else ("asked", k))
    for i in range(n):
        hand.setdefault(i, -1 - i)

    def label(group):  # the hand label of most of its samples
        return collections.Counter(hand[i] for i in sorted(group)).most_common(1)[0][0]

    def as_groups(members):
        groups = collections.defaultdict(list)
        for i in sorted(members):
            groups[hand[i]].append(i)
        return [(g, len(g)) for g in groups.values()]

    left_out = set(row.get("unsure", [])) if sure else set()
    pairs = list(combinations([i for i in range(n) if i in answered and i not in left_out], 2))
    same = {p for p in pairs if hand[p[0]] == hand[p[1]]}
    found = {(i, j) for i, j in pairs if i in voters and j in voters and cluster[i] == cluster[j]}
    voting = {(i, j) for i, j in pairs if i in voters and j in voters}
    mine = verdict(system, label)
    hand_all = as_groups(answered)

    def leader(groups):
        best = max(groups, key=lambda gw: (gw[1], sum(mean_logprob(samples[i]) for i in gw[0]) / len(gw[0])), default=None)
        return None if best is None else best[0]

    hand_leader = leader(hand_all)
    correct = row["correct"]
    out = dict(
        split=any(cluster[i] != cluster[j] for i, j in same & voting),
        merge=any(p not in same for p in found),
        verdict=mine != verdict(as_groups(voters), label),
        hit=len(same & found), found=len(found), same=len(same), same_voting=len(same & voting),
        answered=len(answered), unread=len(answered - voters),
        has_gold=has_gold,
        system_right=bool(system) and correct is not None and label(system[0][0]) == correct,
        hand_right=hand_leader is not None and correct is not None and hand[hand_leader[0]] == correct,
        system_entropy=entropy([w for _, w in system] + [1] * (n - len(voters))),
        hand_entropy=entropy([w for _, w in hand_all] + [1] * (n - len(answered))),
    )
    return out


def table(name, found):
    n = len(found)
    total = lambda key: sum(f[key] for f in found)
    share = lambda a, b: f"{a / b:.3f}" if b else "-"
    gold = [f for f in found if f["has_gold"]]
    roc = lambda who: auroc([(f[who + "_entropy"], f[who + "_right"]) for f in gold])
    show = lambda v: "-" if v is None else f"{v:.3f}"
    return [
        name, str(n), share(total("split"), n), share(total("merge"), n),
        share(total("verdict"), n),
        share(total("hit"), total("found")) + "/" + share(total("hit"), total("same")),
        share(total("hit"), total("same_voting")),
        share(sum(f["system_right"] for f in gold), len(gold)), share(sum(f["hand_right"] for f in gold), len(gold)),
        show(roc("system")), show(roc("hand")), share(total("unread"), total("answered")),
    ]


def main(paths, sure):
    questions = read(os.path.join(HERE, "everyday.jsonl"))
    labels = collections.defaultdict(dict)  # (model, run) -> question id -> row
    for row in read(os.path.join(HERE, "groups.jsonl")):
        labels[row["model"], row["run"]][row["id"]] = row
    results = collections.defaultdict(list)
    unmatched = 0
    for path in paths:
        lines = [(q, o) for q, o in zip(questions, read(path)) if "samples" in o]
        texts = {q["id"]: [digest(s["text"]) for s in o["samples"]] for q, o in lines}
        same = lambda run, q: q["id"] in labels[run] and labels[run][q["id"]]["texts"] == texts[q["id"]]
        # Short answers are alike in several runs: the file is the run that most lines match.
        run = max(labels, key=lambda run: sum(same(run, q) for q, _ in lines))
        for q, outcome in lines:
            if not same(run, q):
                unmatched += 1
                continue
            found = judge(labels[run][q["id"]], outcome, bool(q["gold"]), sure)
            name = " ".join(run)
            for part in (q["split"], "all", " " + q["kind"]):
                results[f"{name} {part}"].append(found)
    head = ["model run split/kind", "n", "false split", "false merge", "verdict", "P/R same", "R voters", "acc", "acc hand", "auroc", "auroc hand", "no vote"]
    order = {"dev": 0, "held": 1, "all": 2}
    key = lambda name: (name.split()[:2], order.get(name.split(" ", 2)[2], 3), name)
    rows = [head] + [table(name, results[name]) for name in sorted(results, key=key)]
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(head))
    for row in rows[1:]:
        print("| " + " | ".join(row) + " |")
    print(f"\n{unmatched} lines with other texts than those labeled")


if __name__ == "__main__":
    main([a for a in sys.argv[1:] if a != "--sure"], "--sure" in sys.argv)
