"""Golden calibration maps and tests, from scikit-learn, MAPIE, betacal and scipy.

    pip install scikit-learn==1.9.1 mapie==1.6.0 betacal==1.1.0 scipy==1.17.1 numpy==2.4.6
    python tests/golden/calibration/make.py                  # writes tests/golden/calibration/reference.json
    python tests/golden/calibration/make.py --uq-nlg FOLDER  # writes tests/golden/calibration/uq_nlg.json from UQ-NLG's demo_data.jsonl

Logistic fits are scikit-learn's, unpenalised (C = infinity), by its Newton solver to a tolerance of 1e-13; its default solver stops at four
digits. Venn-Abers is the definition: scikit-learn's isotonic regression fitted twice, with the query added under either label. UQ-NLG (Lin,
Trivedi and Sun, MIT licence) is kept as counts of right and wrong leading answers by votes, for questions on even and on odd lines.
"""
import argparse
import collections
import json
import pathlib
import re
import string
from importlib.metadata import version

import numpy as np
from betacal import BetaCalibration
from mapie.risk_control.fwer_control import control_fwer
from scipy import optimize, stats
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from sklearn.preprocessing import StandardScaler

HERE = pathlib.Path(__file__).resolve().parent


def logistic(features, right, intercept=True, c=np.inf):
    fit = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-13, max_iter=1000, fit_intercept=intercept).fit(features, right)
    return fit.coef_[0].tolist(), float(fit.intercept_[0]) if intercept else 0.0


def venn_abers(p, right, query):
    bands = []
    for q in query:
        band = [
            float(IsotonicRegression().fit(np.r_[p, q], np.r_[right, label]).predict([q])[0]) for label in (0, 1)
        ]
        bands.append(band)
    return bands


def log_likelihood_loss(beta, logit, right):
    return float(np.sum(np.logaddexp(0, np.where(right == 1, -1, 1) * beta * logit)))


def maps(p, right, query):
    """Maps of a probability-like score p; candor's uncertainty is -p."""
    (slope,), intercept = logistic(p[:, None], right)
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(p, right)
    out = {
        "sigmoid": {"slope": -slope, "intercept": intercept},
        "isotonic": isotonic.predict(query).tolist(),
        "venn_abers": venn_abers(p, right, query),
    }
    if p.min() >= 0 and p.max() <= 1:
        eps = np.finfo(float).eps
        q = np.clip(p, eps, 1 - eps)
        logit = np.log(q) - np.log1p(-q)
        best = optimize.minimize_scalar(log_likelihood_loss, args=(logit, right), bracket=(0.1, 1.0), tol=1e-14)
        out["temperature"] = float(1 / best.x)
        features = np.c_[np.log(q), -np.log1p(-q)]
        (a, b), c = logistic(features, right)
        if a < 0:
            (b,), c = logistic(features[:, 1:], right)
            a = 0.0
        elif b < 0:
            (a,), c = logistic(features[:, :1], right)
            b = 0.0
        out["beta"] = {"a": a, "b": b, "c": c}
        out["betacal"] = BetaCalibration("abm").fit(p, right).predict(query).tolist()
    return out


def reference():
    rng = np.random.default_rng(11)
    cases = []
    for name, n in [("votes of 8", 150), ("continuous", 130), ("overconfident", 400), ("inverted in the middle", 200), ("any score", 120)]:
        p = rng.beta(1.2, 0.8, n)
        truth = p ** 2 if name == "overconfident" else 0.1 + 0.8 * p
        if name == "inverted in the middle":
            truth = np.clip(0.3 + 0.5 * p + 0.3 * np.sin(6 * p), 0, 1)
        right = (rng.random(n) < truth).astype(int)
        if name == "votes of 8":
            p = np.round(p * 8) / 8
            # No share of 0 or 1, at which logits are a matter of clipping.
            p = np.clip(p, 1 / 8, 7 / 8)
        if name == "any score":
            p = 40 * p - 100
        p = np.round(p, 6)
        query = np.round(np.r_[p.min() - 0.01, p.max() + 0.001, np.quantile(p, [0, 0.1, 0.3, 0.5, 0.77, 1]), rng.uniform(p.min(), p.max(), 6)], 7)
        if name != "any score":
            query = np.clip(query, 1e-6, 1 - 1e-6)
        cases.append({"name": name, "p": p.tolist(), "right": right.tolist(), "query": query.tolist(), "expected": maps(p, right, query)})
    n = 240
    latent = rng.normal(size=n)
    scores = np.round(np.c_[latent + rng.normal(size=n), 50 + 9 * (latent + 2 * rng.normal(size=n)), rng.exponential(size=n)], 6)
    right = (rng.random(n) < 1 / (1 + np.exp(1.5 * latent - 0.4))).astype(int)
    scaler = StandardScaler().fit(scores)
    weights, intercept = logistic(scaler.transform(scores), right, c=1.0)
    fusion = {"scores": scores.tolist(), "right": right.tolist(), "weights": weights, "intercept": intercept, "means": scaler.mean_.tolist(), "scales": scaler.scale_.tolist()}
    walks = []
    for _ in range(12):
        answered = np.sort(rng.integers(20, 300, 8))
        wrong = np.array([rng.binomial(m, rng.choice([0.02, 0.05, 0.08])) for m in answered])
        wrong = np.maximum.accumulate(wrong)
        p_values = stats.binom.cdf(wrong, answered, 0.1)
        passed = control_fwer(p_values, 0.1, "fixed_sequence")
        walks.append({"answered": answered.tolist(), "wrong": wrong.tolist(), "passed": len(passed)})
    fewest = []
    for alpha, delta in [(.2, .1), (.1, .1), (.1, .05), (.05, .1), (.05, .05), (.01, .1), (.5, .25), (.003, .001)]:
        n = next(n for n in range(1, 10_000) if stats.binom.cdf(0, n, alpha) <= delta)
        fewest.append([alpha, delta, n])
    return {"cases": cases, "fusion": fusion, "walks": walks, "fewest": fewest}


def normalised(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def uq_nlg(folder):
    votes, right = [], []
    for line in open(pathlib.Path(folder) / "demo_data.jsonl", encoding="utf-8"):
        row = json.loads(line)
        answer, count = collections.Counter(normalised(text) for text in row["generations"]).most_common(1)[0]
        votes.append(count)
        right.append(int(answer == normalised(row["answer"])))
    votes, right = np.array(votes), np.array(right)
    p, even = votes / 20, np.arange(len(right)) % 2 == 0
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(p[even], right[even])
    (slope,), intercept = logistic(p[even, None], right[even])
    sigmoid = 1 / (1 + np.exp(-(slope * p + intercept)))
    table = lambda half: [[int(v), int(((votes == v) & half & (right == 1)).sum()), int(((votes == v) & half & (right == 0)).sum())] for v in np.unique(votes)]
    return {
        "even": table(even),
        "odd": table(~even),
        "isotonic_brier": float(brier_score_loss(right[~even], isotonic.predict(p[~even]))),
        "sigmoid_brier": float(brier_score_loss(right[~even], sigmoid[~even])),
        "slope": slope,
        "intercept": intercept,
    }


def write(name, command, body):
    versions = {package: version(package) for package in ["scikit-learn", "mapie", "betacal", "scipy", "numpy"]}
    (HERE / name).write_text(json.dumps({"command": command, "versions": versions, **body}) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--uq-nlg")
    folder = parser.parse_args().uq_nlg
    if folder:
        write("uq_nlg.json", "python tests/golden/calibration/make.py --uq-nlg FOLDER", uq_nlg(folder))
    else:
        write("reference.json", "python tests/golden/calibration/make.py", reference())
