"""A tiny model's GGUF file in llama.cpp against its golden from mlx-lm: a judge of the GGUF writer of the tests, not only of the decoder.

    pip install llama-cpp-python numpy
    python tests/golden/tiny_llama_cpp.py FOLDER     # FOLDER/tiny-<family>.gguf with f32 tensors, for every golden tiny-<family>.json

llama.cpp does not read the score scale of gemma3 from a file (it takes head_dim^-0.5), and keeps a table of GELU in f16: that family is
compared with our float64 decoder at head_dim^-0.5 instead, and less closely.
"""
import json
import pathlib
import sys

import llama_cpp
import numpy as np

from tiny_logits import GOLDEN, ROOT, Reference, recipe

LIMIT = {"gemma3": 1e-2}


def llama_cpp_logits(path, tokens):
    llm = llama_cpp.Llama(str(path), n_ctx=64, logits_all=True, verbose=False, type_k=0, type_v=0, n_threads=1, n_threads_batch=1)
    llm.eval(tokens)
    return np.array(llm.scores[:len(tokens)])


def main():
    folder, failed = pathlib.Path(sys.argv[1]), False
    for path in sorted(GOLDEN.glob("tiny-*.json")):
        family, golden = path.stem.removeprefix("tiny-"), json.loads(path.read_text())
        wanted = np.array(golden["logits"])
        if family == "gemma3":
            config, weights, tokens = recipe(ROOT / golden["recipe"])
            wanted = Reference(config, weights, "scale by head_dim").logits(tokens)
        difference = float(np.abs(llama_cpp_logits(folder / f"tiny-{family}.gguf", golden["tokens"]) - wanted).max())
        wrong = not difference < LIMIT.get(family, 1e-3)
        failed |= wrong
        print(f"{family}: llama.cpp against the golden: max abs difference {difference:.2e}{' TOO LARGE' if wrong else ''}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
