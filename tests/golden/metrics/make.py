"""Golden metrics, from scikit-learn, MAPIE, relplot and scipy.

    pip install scikit-learn==1.9.1 mapie==1.6.0 relplot==1.0.3 scipy==1.17.1 numpy==2.4.6
    python tests/golden/metrics/make.py                  # writes tests/golden/metrics/reference.json
    python tests/golden/metrics/make.py --uq-nlg FOLDER  # writes tests/golden/metrics/uq_nlg.json from UQ-NLG's demo_data.jsonl

UQ-NLG (Lin, Trivedi and Sun, MIT licence): 500 TriviaQA questions with 20 samples of LLaMA-13B each. What is kept of it is a table of
counts: of the questions whose leading answer has k of 20 votes, how many leading answers are right and how many wrong (exact match after
SQuAD's normalisation, the first answer seen wins a tie).

Where no package has the tie convention, the definition is spelled out here over numpy, independent of the Rust code.
"""
import argparse
import collections
import json
import pathlib
import re
import string
from importlib.metadata import version

import numpy as np
import relplot.metrics as relplot
from mapie.metrics.calibration import expected_calibration_error
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, f1_score, log_loss, precision_score, recall_score, roc_auc_score

HERE = pathlib.Path(__file__).resolve().parent


def tie_averaged_errors(uncertainty, right):
    """Expected errors among the k surest: e + m j within a group of share m."""
    errors, before = [], 0.0
    for value in np.unique(uncertainty):
        group = uncertainty == value
        share = 1 - right[group].mean()
        errors += [before + share * j for j in range(1, group.sum() + 1)]
        before += (~right[group].astype(bool)).sum()
    return np.array(errors)


def equal_mass(confidence, right, bins=10):
    averaged = np.array([right[confidence == c].mean() for c in confidence])
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, bins)
    return sum(abs(averaged[part].sum() - confidence[part].sum()) for part in parts) / len(right)


def figures(confidence, right):
    confidence, right = np.asarray(confidence, float), np.asarray(right, int)
    n, uncertainty = len(right), -confidence
    errors = tie_averaged_errors(uncertainty, right)
    risks = errors / np.arange(1, n + 1)
    rate = errors[-1] / n
    out = {
        "accuracy": right.mean(),
        "aurc": risks.mean(),
        "e_aurc": risks.mean() - (rate + ((1 - rate) * np.log(1 - rate) if rate < 1 else 0)),
        # The polygon through (0, 0) and (k/n, errors_k/n).
        "augrc": np.trapezoid(np.r_[0, errors] / n, np.arange(n + 1) / n),
        "brier": brier_score_loss(right, confidence),
        "log_loss": log_loss(right, np.c_[1 - confidence, confidence], labels=[0, 1]),
        "smooth_ece": relplot.smECE(confidence, right),
        # Ten bins (low, high]: numpy.digitize with the nine inner borders.
        "ece": sum(
            abs(right[which].sum() - confidence[which].sum())
            for b in range(10)
            for which in [np.digitize(confidence, np.arange(1, 10) / 10, right=True) == b]
        ) / n,
        "ece_equal_mass": equal_mass(confidence, right),
        "ece_relplot": relplot.binnedECE(confidence, right, 10),
        "ece_mapie": float(expected_calibration_error(right, confidence, num_bins=10)),
    }
    recalibrated = IsotonicRegression().fit(confidence, right).predict(confidence)
    base = np.full(n, right.mean())
    out["brier_uncertainty"] = brier_score_loss(right, base)
    out["brier_reliability"] = out["brier"] - brier_score_loss(right, recalibrated)
    out["brier_resolution"] = out["brier_uncertainty"] - brier_score_loss(right, recalibrated)
    if 0 < right.sum() < n:
        out["auroc"] = roc_auc_score(right, confidence)
        for name, most in [("prr", 1.0), ("prr_50", 0.5)]:
            # lm-polygraph's PredictionRejectionArea over the expected order; a random order keeps the accuracy.
            steps = int(most * n)
            k = np.arange(n - steps + 1, n + 1)
            area = (1 - errors[k - 1] / k).mean()
            oracle = np.minimum(1, right.sum() / k).mean()
            out[name] = (area - right.mean()) / (oracle - right.mean())
    for c in (50, 80, 90):
        k = -(-c * n // 100)
        out[f"risk_at_coverage_{c}"] = risks[k - 1]
    for r in (5, 10, 20):
        passing = np.flatnonzero(risks <= r / 100 + 1e-12)
        out[f"coverage_at_risk_{r}"] = (passing[-1] + 1) / n if len(passing) else 0.0
    return {name: float(value) for name, value in out.items()}


def made(n):
    """A long case that nobody needs to store: confidence and being right as arithmetic on the index."""
    i = np.arange(n)
    confidence = (i * 7919 % 10007) / 10007
    return confidence, ((i * 104729 % 9973) / 9973 < confidence * confidence).astype(int)


def reference():
    rng = np.random.default_rng(7)
    cases = []
    for name, n in [("votes of 8", 60), ("votes of 5", 37), ("continuous", 50), ("overconfident", 45), ("five", 5), ("all right", 12), ("all wrong", 11)]:
        p = rng.random(n)
        right = (rng.random(n) < p).astype(int)
        if name.startswith("votes"):
            most = int(name[-1])
            p = np.round(p * most) / most
        if name == "overconfident":
            p = p ** 0.3
        if name == "five":
            right = np.array([1, 0, 1, 1, 0])
        if name.startswith("all"):
            right[:] = name == "all right"
        p = np.round(p, 6)
        cases.append({"name": name, "confidence": p.tolist(), "right": right.tolist(), "expected": figures(p, right)})
    long = figures(*made(10_000))
    # Without ties, and with as many questions in each bin, scikit-learn's quantile bins are the same.
    accuracy, mean = calibration_curve(made(10_000)[1], made(10_000)[0], n_bins=10, strategy="quantile")
    assert abs(np.abs(accuracy - mean).mean() - long["ece_equal_mass"]) < 1e-12
    tails = [[k, n, p, float(stats.binom.cdf(k, n, p))] for k, n, p in [
        (0, 22, .1), (1, 50, .1), (2, 50, .1), (9, 99, .1), (0, 1, .5), (37, 500, .1), (480, 500, .97), (4999, 100_000, .05), (3, 10, 1e-9), (0, 4000, .001)]]
    intervals = []
    for k, n, level in [(0, 5, .95), (5, 5, .95), (1, 5, .9), (3, 10, .95), (50, 500, .95), (176, 500, .99), (1, 10_000, .95), (9_999, 10_000, .8)]:
        ci = stats.binomtest(k, n).proportion_ci(level, method="exact")
        intervals.append([k, n, level, float(ci.low), float(ci.high)])
    mcnemar = [[b, c, float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0] for b, c in [(0, 0), (1, 0), (5, 0), (3, 9), (11, 12), (228, 0), (100, 130), (7, 7)]]
    unanswerable, abstained = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    detection = {
        "unanswerable": unanswerable.tolist(),
        "abstained": abstained.tolist(),
        "unanswerable_precision": float(precision_score(unanswerable, abstained)),
        "unanswerable_recall": float(recall_score(unanswerable, abstained)),
        "unanswerable_f1": float(f1_score(unanswerable, abstained)),
    }
    return {"cases": cases, "made_10000": long, "lower_tail": tails, "clopper_pearson": intervals, "mcnemar": mcnemar, "detection": detection}


def normalised(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def uq_nlg(folder):
    confidence, right = [], []
    for line in open(pathlib.Path(folder) / "demo_data.jsonl", encoding="utf-8"):
        row = json.loads(line)
        forms = [normalised(text) for text in row["generations"]]
        answer, votes = collections.Counter(forms).most_common(1)[0]
        confidence.append(votes / len(forms))
        right.append(int(answer == normalised(row["answer"])))
    counts = collections.Counter((round(c * 20), y) for c, y in zip(confidence, right))
    table = [[votes, counts[votes, 1], counts[votes, 0]] for votes in range(21) if counts[votes, 1] + counts[votes, 0]]
    return {"votes_right_wrong": table, "expected": figures(confidence, right)}


def write(name, command, body):
    versions = {package: version(package) for package in ["scikit-learn", "mapie", "relplot", "scipy", "numpy"]}
    (HERE / name).write_text(json.dumps({"command": command, "versions": versions, **body}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--uq-nlg")
    folder = parser.parse_args().uq_nlg
    if folder:
        write("uq_nlg.json", "python tests/golden/metrics/make.py --uq-nlg FOLDER", uq_nlg(folder))
    else:
        write("reference.json", "python tests/golden/metrics/make.py", reference())
