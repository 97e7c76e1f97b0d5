"""What ggml's own Python package makes of random blocks: one row of 256 numbers of every type, written to blocks.json.

    pip install gguf==0.19.0 numpy==2.4.6
    python tests/golden/cpu/blocks.py

Random bytes are the blocks; only the f16 scales are kept finite (and below 2). Numbers are the f32 bits in hexadecimal.
"""
import json
import pathlib

import gguf
import numpy as np

SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "F16": [0], "BF16": [0], "F32": [2]}

rng = np.random.default_rng(20261124)
rows = {}
for name, scales in SCALES.items():
    kind = gguf.GGMLQuantizationType[name]
    length, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (256 // length, size), dtype=np.uint8)
    for at in scales:
        blocks[:, at + 1] &= 0xBF
    numbers = gguf.dequantize(blocks.reshape(1, -1), kind).astype(np.float32).reshape(-1)
    assert numbers.size == 256 and np.isfinite(numbers).all(), name
    rows[name] = {"bytes": blocks.tobytes().hex(), "f32": numbers.astype("<f4").tobytes().hex()}

golden = {"command": "python tests/golden/cpu/blocks.py", "versions": {"gguf": "0.19.0", "numpy": np.__version__}, "rows": rows}
pathlib.Path(__file__).with_name("blocks.json").write_text(json.dumps(golden, indent=1) + "\n")
