"""Golden uncertainty scores, from lm-polygraph, uqlm, infomeasure and rouge-score.

    pip install numpy==2.4.6 scipy==1.17.1 rouge-score==0.1.2 infomeasure==0.6.3
    pip download --no-deps lm-polygraph==0.7.0 uqlm==0.6.7 -d WHEELS   # both need torch, the formulas do not
    python tests/golden/uncertainty/make.py WHEELS                     # writes reference.json beside this file

The estimators' own modules are loaded from the wheels without their packages, which would import torch. What no package computes on
such inputs is written here in numpy from the paper: windows, margins and varentropy of tokens, answer shares by Lyu et al., the mean
surprisal of answers by Kuhn et al.; `from_paper` lists these names.

`tokens`: the statistics of every step are those of a full distribution over 50 tokens, the scores are of one sample.
`samples`: `group` is a sample's answer by its place in the vote (the answers of group 0 lead), null without an answer; `judged` is a
matrix of similarities in meaning, or null where those of the groups (1 or 0) hold. Scores about one response are the mean over the
samples of group 0. lm-polygraph stems words before ROUGE-L, which is turned off here.
"""
import importlib
import json
import pathlib
import sys
import types
import zipfile
from importlib.metadata import version

import infomeasure
import numpy as np
from rouge_score import rouge_scorer

HERE = pathlib.Path(__file__).resolve().parent
COMMAND = "python tests/golden/uncertainty/make.py WHEELS"
VOCABULARY = 50
WORDS = "red blue green brown white black pink grey gold violet cyan teal".split()


def load(wheels):
    """Makes the modules of both wheels importable without running their packages."""
    for name in ["lm_polygraph", "uqlm"]:
        (wheel,) = pathlib.Path(wheels).glob(f"{name}-*.whl")
        sys.path.append(f"{wheel}")
        inside = zipfile.ZipFile(wheel).namelist()
        packages = {name} | {path.rsplit("/", 1)[0].replace("/", ".") for path in inside if path.endswith(".py")}
        for package in sorted(packages):
            module = types.ModuleType(package)
            module.__path__ = [f"{wheel}/{package.replace('.', '/')}"]
            sys.modules[package] = module
    # What the base class imports and no score uses.
    sys.modules["lm_polygraph.utils.common"] = types.SimpleNamespace(polygraph_module_init=lambda function: function)


def polygraph(module, name, **options):
    return getattr(importlib.import_module(f"lm_polygraph.estimators.{module}"), name)(**options)


def one(estimator, **stats):
    return float(np.asarray(estimator({name: [value] for name, value in stats.items()}))[0])


def tokens(rng, length):
    logits = rng.normal(0, rng.uniform(0.5, 4, (length, 1)), (length, VOCABULARY))
    logp = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    p = np.exp(logp)
    drawn = np.array([rng.choice(VOCABULARY, p=row / row.sum()) for row in p])
    best = np.sort(logp, axis=1)[:, ::-1]
    entropy = -(p * logp).sum(1)
    stats = {
        "logprob": logp[np.arange(length), drawn],
        "entropy": entropy,
        "varentropy": (p * logp**2).sum(1) - entropy**2,
        "margin": np.exp(best[:, 0]) - np.exp(best[:, 1]),
        "max_prob": np.exp(best[:, 0]),
        "self_certainty": -logp.mean(1) - np.log(VOCABULARY),
        "top_confidence": -best[:, :20].mean(1),
    }
    likelihoods = stats["logprob"]
    tail = slice(-max(16, -(-length // 10)), None)
    width = min(length, max(16, length // 8))
    window = lambda values: np.array([values[i : i + width].mean() for i in range(length - width + 1)])
    confidences = np.sort(window(stats["top_confidence"]))
    expected = {
        "sequence_logprob": -one(polygraph("max_probability", "MaximumSequenceProbability"), greedy_log_likelihoods=likelihoods),
        "perplexity": np.exp(one(polygraph("perplexity", "Perplexity"), greedy_log_likelihoods=likelihoods)),
        "mean_token_entropy": one(polygraph("token_entropy", "MeanTokenEntropy"), entropy=entropy),
        "self_certainty": -one(polygraph("self_certainty", "SelfCertainty"), greedy_log_probs=list(logp)),
        "max_token_entropy": entropy.max(),
        "tail_token_entropy": entropy[tail].mean(),
        "window_token_entropy": window(entropy).max(),
        "mean_token_varentropy": stats["varentropy"].mean(),
        "min_token_prob": np.exp(likelihoods).min(),
        "mean_token_margin": stats["margin"].mean(),
        "min_token_margin": stats["margin"].min(),
        "mean_token_confidence": stats["top_confidence"].mean(),
        "tail_confidence": stats["top_confidence"][tail].mean(),
        "lowest_group_confidence": confidences[0],
        "bottom_group_confidence": confidences[: max(1, len(confidences) // 10)].mean(),
    }
    return {"tokens": {name: values.tolist() for name, values in stats.items()}, "expected": plain(expected)}


def plain(expected):
    return {name: float(value) for name, value in expected.items()}


def samples(rng, name, groups, judged):
    n = len(groups)
    # Samples of a group share some words, and sometimes the whole text.
    texts = []
    for at, group in enumerate(groups):
        same = [t for t, g in zip(texts, groups) if g is not None and g == group]
        if same and not judged and rng.random() < 0.4:
            texts.append(same[0])
            continue
        start = [] if group is None else [WORDS[group]] * 2
        texts.append(" ".join(start + [str(word) for word in rng.choice(WORDS, rng.integers(1, 9))]))
    logprobs, entropies = [], []
    for at, text in enumerate(texts):
        if text in texts[:at]:
            logprobs.append(logprobs[texts.index(text)])
            entropies.append(entropies[texts.index(text)])
        else:
            length = int(rng.integers(1, 8))
            logprobs.append([round(float(value), 6) for value in -rng.exponential(0.7, length)])
            entropies.append([round(float(value), 6) for value in rng.exponential(0.9, length)])
    own = np.array([[float(i == j or (a is not None and a == b)) for j, b in enumerate(groups)] for i, a in enumerate(groups)])
    semantic = own
    if judged:
        semantic = np.triu(np.round(rng.uniform(0, 1, (n, n)), 3), 1)
        semantic = semantic + semantic.T + np.eye(n)
    rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    rouge_l = np.array([[1.0 if i == j else rouge.score(a, b)["rougeL"].fmeasure for j, b in enumerate(texts)] for i, a in enumerate(texts)])
    jaccard = importlib.import_module("lm_polygraph.estimators.common")._compute_Jaccard_score(texts)

    sums = np.array([sum(values) for values in logprobs])
    classes, of_sample = {}, []
    for at, group in enumerate(groups):
        key = group if group is not None else f"none {at}"
        classes.setdefault(key, []).append(at)
    indices = list(classes.values())
    for at in range(n):
        of_sample.append(next(c for c, members in enumerate(indices) if at in members))
    counts = np.array([len(members) for members in indices])
    labels = np.repeat(np.arange(len(counts)), counts).tolist()

    uqlm = importlib.import_module("uqlm.nli.entropy_utils")
    as_uqlm = [[{"logprob": value} for value in values] for values in logprobs]
    per_token, uniform = uqlm.compute_response_probabilities(as_uqlm, n)
    by_class = np.array(uqlm.compute_cluster_probabilities(per_token, indices))
    semantic_classes = {"class_to_sample": [indices], "sample_to_class": [of_sample]}
    counted = polygraph("semantic_entropy", "SemanticEntropy", class_probability_estimation="frequency")
    entropy = lambda approach: float(infomeasure.entropy(labels, approach=approach, base="e"))

    graph = {"sample_texts": texts, "semantic_matrix_entail": semantic}
    lexical = polygraph("lexical_similarity", "LexicalSimilarity")
    lexical.scorer = rouge
    kernel = lambda matrix: one(
        polygraph("kernel_language_entropy", "KernelLanguageEntropy"), semantic_matrix_entail=matrix, semantic_matrix_contra=1 - matrix
    )

    def of_graph(module, estimator, **options):
        found = polygraph(module, estimator, **options)
        return float(found({"sample_texts": [texts], "semantic_matrix_entail": np.array([semantic])})[0])

    leading = [at for at, group in enumerate(groups) if group == 0]

    def cocoa(estimator, matrix):
        scores = []
        for y in leading:
            others = [at for at in range(n) if at != y]
            stats = {"greedy_sentence_similarity": matrix[y, others], "greedy_log_likelihoods": logprobs[y], "entropy": entropies[y]}
            scores.append(one(polygraph("cocoa", estimator), **stats))
        return np.mean(scores)

    def density():
        scores = {}
        for y in leading:
            others = [at for at in range(n) if texts[at] != texts[y]]
            contradiction = 1 - semantic[y, others]
            scores[texts[y]] = -one(
                polygraph("semantic_density", "SemanticDensity", concat_input=False),
                sample_log_probs=sums[others],
                sample_tokens=[logprobs[at] for at in others],
                sample_texts=[texts[at] for at in others],
                greedy_log_likelihoods=logprobs[y],
                greedy_semantic_matrix_contra_forward=contradiction,
                greedy_semantic_matrix_neutral_forward=0 * contradiction,
            ) if others else 1.0
        return np.mean(list(scores.values()))

    sar = lambda matrix: one(polygraph("sentence_sar", "SentenceSAR"), sample_log_probs=sums, sample_sentence_similarity=matrix)
    p = counts / n
    plug_in = -(p * np.log(p)).sum()
    expected = {
        "vote_evenness": plug_in / np.log(len(counts)) if len(counts) > 1 else 0.0,
        "semantic_sets": len(counts),
        "discrete_semantic_entropy": uqlm.compute_semantic_entropy(uqlm.compute_cluster_probabilities(uniform, indices)),
        "semantic_entropy_miller_madow": entropy("miller_madow"),
        "semantic_entropy_chao_shen": entropy("chao_shen"),
        "semantic_entropy_rao": uqlm.compute_semantic_entropy(list(by_class)),
        "semantic_entropy_kuhn": -np.log(by_class).mean(),
        "sequence_entropy": one(polygraph("monte_carlo_sequence_entropy", "MonteCarloSequenceEntropy"), sample_log_probs=sums),
        "sequence_entropy_per_token": one(
            polygraph("monte_carlo_normalized_sequence_entropy", "MonteCarloNormalizedSequenceEntropy"),
            sample_log_probs=sums,
            sample_tokens=logprobs,
        ),
        "semantic_eigv": of_graph("eig_val_laplacian", "EigValLaplacian"),
        "semantic_degree": of_graph("deg_mat", "DegMat"),
        "semantic_eccentricity": of_graph("eccentricity", "Eccentricity"),
        "lexical_eigv": of_graph("eig_val_laplacian", "EigValLaplacian", similarity_score="Jaccard_score"),
        "lexical_degree": of_graph("deg_mat", "DegMat", similarity_score="Jaccard_score"),
        "lexical_eccentricity": of_graph("eccentricity", "Eccentricity", similarity_score="Jaccard_score"),
        "kernel_language_entropy": kernel(semantic),
        "lexical_kernel_entropy": kernel(jaccard),
        "lexical_similarity": -one(lexical, sample_texts=texts),
        "semantic_density": density(),
        "semantic_sar": sar(semantic),
        "lexical_sar": sar(rouge_l),
        "semantic_cocoa_msp": cocoa("CocoaMSP", semantic),
        "semantic_cocoa_perplexity": cocoa("CocoaPPL", semantic),
        "semantic_cocoa_entropy": cocoa("CocoaMTE", semantic),
        "lexical_cocoa_msp": cocoa("CocoaMSP", rouge_l),
        "lexical_cocoa_perplexity": cocoa("CocoaPPL", rouge_l),
        "lexical_cocoa_entropy": cocoa("CocoaMTE", rouge_l),
    }
    # The same entropy by two packages.
    other = float(counted({"sample_texts": [texts], "semantic_classes_entail": semantic_classes})[0])
    assert abs(expected["discrete_semantic_entropy"] - other) < 1e-12
    each = [
        {"group": group, "text": text, "logprob": lp, "entropy": h}
        for group, text, lp, h in zip(groups, texts, logprobs, entropies)
    ]
    matrix = semantic.tolist() if judged else None
    return {"name": name, "samples": each, "judged": matrix, "expected": plain(expected)}


def main():
    load(sys.argv[1])
    rng = np.random.default_rng(7)
    silent = None
    cases = [
        ("all agree", [0, 0, 0, 0], False),
        ("none agrees", [0, 1, 2, 3, 4], False),
        ("a pair", [0, 1], False),
        ("a majority", [0, 1, 0, 0, 2, 0, 1, 0], False),
        ("two without an answer", [0, 0, silent, 1, silent, 0], False),
        ("judged, one leads", [0, 1, 2, 3, 4, 5], True),
        ("judged, ten in three groups", [0, 1, 0, 2, 0, 1, 0, 2, 0, 0], True),
    ]
    from_paper = """max_token_entropy tail_token_entropy window_token_entropy mean_token_varentropy min_token_prob mean_token_margin
        min_token_margin mean_token_confidence tail_confidence lowest_group_confidence bottom_group_confidence vote_evenness semantic_sets
        semantic_entropy_kuhn""".split()
    reference = {
        "command": COMMAND,
        "versions": {"lm-polygraph": "0.7.0", "uqlm": "0.6.7"}
        | {name: version(name) for name in ["infomeasure", "rouge-score", "scipy", "numpy"]},
        "from_paper": from_paper,
        "tokens": [tokens(rng, length) for length in [3, 16, 40, 170]],
        "samples": [samples(rng, *case) for case in cases],
    }
    text = json.dumps(reference, separators=(",", ":"))
    (HERE / "reference.json").write_text(text.replace('{"name"', '\n{"name"').replace('{"tokens":{', '\n{"tokens":{') + "\n")


main()
