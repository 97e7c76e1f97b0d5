"""Writes sampling.json: statistics of rows of logits by numpy and scipy, and random points by a plain ChaCha8.

    pip install numpy==2.4.6 scipy==1.17.1 && python3 tests/golden/sampling/make.py > tests/golden/sampling/sampling.json

A row is made from its vocabulary size and scale by integer arithmetic, exactly representable in f32, so that the test can remake it.
"""

import json
import struct

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


def draws(seed, sample, step):
    shift = bits("candor draw: lattice", seed, 0, 0)
    inverse = int(f"{sample:064b}"[::-1], 2)
    return {
        "seed": seed,
        "sample": sample,
        "step": step,
        "independent": (bits("candor draw: independent", seed, sample, step) >> 11) / 2**53,
        "first_stratified": ((inverse + shift) % 2**64 >> 11) / 2**53,
    }


rows = [(2, 1.0), (5, 4.0), (19, 4.0), (20, 4.0), (21, 4.0), (127, 0.5), (129, 30.0), (4096, 10.0), (49152, 16.0), (151936, 0.125)]
points = [(0, 0, 0), (7, 0, 0), (7, 1, 0), (8, 0, 0), (7, 1, 1), (7, 1, 499), (2**64 - 1, 4095, 100000)]
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
