"""Writes sampling.json: statistics of rows of logits by numpy and scipy, and random points by a plain ChaCha8; and steps.json:
the steps of the chain that follow the text or the entropy, by their definitions in llama.cpp (src/llama-sampler.cpp).

    pip install numpy==2.4.6 scipy==1.17.1 && python3 tests/golden/sampling/make.py > tests/golden/sampling/sampling.json
    python3 tests/golden/sampling/make.py steps > tests/golden/sampling/steps.json

A row is made from its vocabulary size and scale by integer arithmetic, exactly representable in f32, so that the test can remake it.
"""

import json
import struct
import sys

import numpy as np
import scipy
import scipy.stats
from scipy.special import log_softmax, logsumexp


def row(vocab, scale):
    i = np.arange(vocab, dtype=np.uint64)
    grid = ((i * np.uint64(1103515245) + np.uint64(12345)) >> np.uint64(7)) % np.uint64(4096)
    return ((grid.astype(np.float64) - 2048.0) * scale / 2048.0).astype(np.float32).astype(np.float64)


def statistics(vocab, scale):
    z = row(vocab, scale)
    logp = log_softmax(z)
    p = np.exp(logp)
    best = np.sort(z)[::-1]
    lse = logsumexp(z)
    entropy = scipy.stats.entropy(p)
    return {
        "vocab": vocab,
        "scale": scale,
        "log_sum_exp": lse,
        "argmax": int(np.argmax(z)),
        "entropy": entropy,
        "varentropy": float(np.sum(p * (logp + entropy) ** 2)),
        "margin": float(np.exp(best[0] - lse) - np.exp(best[1] - lse)),
        "max_prob": float(p.max()),
        "self_certainty": float(np.mean(-np.log(vocab * p))),
        "top_confidence": float(-np.mean(best[:20] - lse)),
        "deviation": float(np.std(z)),
    }


def chacha8_block(key, stream, block):
    words = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8I", key)]
    words += [block & 0xFFFFFFFF, block >> 32, stream & 0xFFFFFFFF, stream >> 32]
    x = list(words)

    def quarter(a, b, c, d):
        for first, second, third, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[first] = (x[first] + x[second]) & 0xFFFFFFFF
            mixed = x[third] ^ x[first]
            x[third] = ((mixed << bits) | (mixed >> (32 - bits))) & 0xFFFFFFFF

    for _ in range(4):
        for a in range(4):
            quarter(a, a + 4, a + 8, a + 12)
        for a in range(4):
            quarter(a, 4 + (a + 1) % 4, 8 + (a + 2) % 4, 12 + (a + 3) % 4)
    return [(a + b) & 0xFFFFFFFF for a, b in zip(x, words)]


def bits(label, seed, sample, step):
    words = chacha8_block(label.ljust(24).encode() + struct.pack("<Q", seed), sample, step)
    return words[0] | words[1] << 32


def unit(label, seed, sample, step):
    return (bits(label, seed, sample, step) >> 11) / 2**53


def draws(seed, sample, step):
    shift = bits("candor draw: lattice", seed, 0, 0)
    inverse = int(f"{sample:064b}"[::-1], 2)
    return {
        "seed": seed,
        "sample": sample,
        "step": step,
        "independent": unit("candor draw: independent", seed, sample, step),
        "first_stratified": ((inverse + shift) % 2**64 >> 11) / 2**53,
    }


def f32(value):
    return float(np.float32(value))


def dynatemp(vocab, scale, temperature, reach, exponent):
    """Logits divided by a temperature that follows the share of the largest possible entropy."""
    z = row(vocab, scale)
    share = scipy.stats.entropy(np.exp(log_softmax(z))) / np.log(vocab)
    low, high = max(0.0, f32(temperature) - f32(reach)), f32(temperature) + f32(reach)
    chosen = low + (high - low) * share ** f32(exponent)
    top = np.sort(log_softmax(z / chosen))[::-1][:20]
    return {
        "vocab": vocab,
        "scale": scale,
        "params": {"temperature": temperature, "dynatemp_range": reach, "dynatemp_exponent": exponent},
        "chosen": chosen,
        "top": top.tolist(),
    }


def without_top_choices(p, threshold):
    ranked = sorted(range(len(p)), key=lambda i: (-p[i], i))
    top = [i for i in ranked if p[i] >= threshold]
    rest = np.array(p)
    rest[top[:-1]] = 0.0
    return rest / rest.sum()


def xtc(p, probability, threshold):
    mixed = (1 - probability) * np.array(p) + probability * without_top_choices(p, threshold)
    return {"p": p, "params": {"xtc_probability": probability, "xtc_threshold": threshold}, "mixed": mixed.tolist()}


def xtc_draws(seed, p, probability, threshold):
    """The tokens of 8 samples at 8 steps: one number decides about the exclusion, another one selects the token."""
    tokens = []
    for sample in range(8):
        for step in range(8):
            excludes = unit("candor draw: exclusion", seed, sample, step) < probability
            q = without_top_choices(p, threshold) if excludes else np.array(p)
            u = unit("candor draw: independent", seed, sample, step)
            tokens.append(int(np.searchsorted(np.cumsum(q), u, side="right")))
    return {"seed": seed, "p": p, "params": {"xtc_probability": probability, "xtc_threshold": threshold}, "tokens": tokens}


def dry(prompt, output, breakers, multiplier, base, allowed, last_n):
    """The penalty of every token, by comparing the end of the text with the text before every position."""
    text = prompt + output
    text = text if last_n == -1 else text[len(text) - min(last_n, len(text)) :]
    backward = text[::-1]
    most = next((i for i, token in enumerate(backward) if token in breakers), len(text))
    longest = {}
    for at in range(1, len(text)):
        length = 0
        while length < min(at, most) and text[at - 1 - length] == text[-1 - length]:
            length += 1
        if length >= allowed and text[at] not in breakers:
            longest[text[at]] = max(longest.get(text[at], 0), length)
    penalties = {str(t): f32(multiplier) * f32(base) ** (m - allowed) for t, m in sorted(longest.items())}
    return {
        "prompt": prompt,
        "output": output,
        "breakers": breakers,
        "params": {
            "dry_multiplier": multiplier,
            "dry_base": base,
            "dry_allowed_length": allowed,
            "dry_penalty_last_n": last_n,
        },
        "penalties": penalties,
    }


def random_dry(generator):
    letters = int(generator.integers(1, 5))
    prompt = generator.integers(0, letters, generator.integers(0, 25)).tolist()
    output = generator.integers(0, letters, generator.integers(0, 25)).tolist()
    breakers = [0] if generator.random() < 0.3 else []
    allowed, last_n = int(generator.integers(0, 4)), int(generator.integers(-1, 40))
    return dry(prompt, output, breakers, 0.5, 1.0625, allowed, last_n)


def mirostat(vocab, scale, temperature, tau, eta, steps):
    z = row(vocab, scale) / f32(temperature)
    p = np.exp(log_softmax(z))
    mu, found = 2 * f32(tau), []
    for step in range(steps):
        u = unit("candor draw: independent", 5, 0, step)
        kept = -np.log2(p) <= mu
        if not kept.any():
            kept[np.argmax(p)] = True
        q = np.where(kept, p, 0.0) / p[kept].sum()
        token = int(np.searchsorted(np.cumsum(q), u, side="right"))
        found.append({"mu": mu, "kept": int(kept.sum()), "u": u, "token": token})
        mu -= f32(eta) * (-np.log2(q[token]) - f32(tau))
    return {
        "vocab": vocab,
        "scale": scale,
        "params": {"temperature": temperature, "mirostat": 2, "mirostat_tau": tau, "mirostat_eta": eta},
        "steps": found,
    }


generator = np.random.default_rng(1)
falling = [0.45, 0.25, 0.15, 0.1, 0.05]
story = [1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3]
steps = {
    "dynatemp": [
        dynatemp(*case)
        for case in [(5, 4.0, 1.0, 0.5, 1.0), (129, 30.0, 0.8, 0.3, 2.0), (4096, 10.0, 1.0, 1.5, 1.0), (49152, 16.0, 0.7, 0.5, 0.5), (49152, 0.125, 0.7, 0.5, 3.0)]
    ],
    "xtc": [
        xtc(*case)
        for case in [
            (falling, 0.5, 0.12),
            (falling, 1.0, 0.12),
            (falling, 0.25, 0.0),
            (falling, 1.0, 0.3),
            (falling, 1.0, 0.6),
            ([0.1, 0.3, 0.3, 0.3], 1.0, 0.2),
        ]
    ],
    "xtc_draws": [xtc_draws(3, falling, 0.5, 0.12), xtc_draws(4, [0.2, 0.3, 0.5], 0.3, 0.25)],
    "dry": [
        dry(story[:6], story[6:], [], 0.8, 1.75, 2, -1),
        dry(story[:6], story[6:], [9], 0.8, 1.75, 2, -1),
        dry(story[:6], story[6:], [2], 0.8, 1.75, 2, -1),
        dry(story[:6], story[6:], [4], 0.8, 1.75, 2, -1),
        dry(story, [], [], 0.8, 1.75, 2, 8),
        dry(story, [], [], 0.8, 1.75, 2, 0),
        dry([7] * 6, [7] * 6, [], 0.8, 1.25, 2, -1),
        *(random_dry(generator) for _ in range(60)),
    ],
    "mirostat": [
        mirostat(*case, 40)
        for case in [(5, 4.0, 1.0, 1.0, 0.1), (129, 30.0, 0.8, 5.0, 0.5), (4096, 10.0, 1.0, 3.0, 1.0), (49152, 16.0, 0.7, 5.0, 0.1)]
    ],
}

rows = [(2, 1.0), (5, 4.0), (19, 4.0), (20, 4.0), (21, 4.0), (127, 0.5), (129, 30.0), (4096, 10.0), (49152, 16.0), (151936, 0.125)]
points = [(0, 0, 0), (7, 0, 0), (7, 1, 0), (8, 0, 0), (7, 1, 1), (7, 1, 499), (2**64 - 1, 4095, 100000)]
if sys.argv[1:] == ["steps"]:
    # One case a line.
    lines = {name: ",\n".join(map(json.dumps, cases)) for name, cases in steps.items()}
    print("{" + ",\n".join(f'"{name}": [\n{text}\n]' for name, text in lines.items()) + "}")
    sys.exit()
print(
    json.dumps(
        {
            "command": "python3 tests/golden/sampling/make.py",
            "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
            "statistics": [statistics(*r) for r in rows],
            "points": [draws(*p) for p in points],
        },
        indent=1,
    )
)
