"""Golden logits of the three real models, from llama.cpp through llama-cpp-python, and the comparison with any other engine's.

    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python numpy gguf
    python tests/golden/real_logits.py reference MODELS OUT       # MODELS: the GGUF files; OUT: outside the repository
    python tests/golden/real_logits.py dequantised MODELS OUT     # llama.cpp again: the same weights dequantised to f32, an f32 cache
    python tests/golden/real_logits.py exact MODELS OUT           # the same weights through the plain decoder of tiny_logits.py, in float32
    python tests/golden/real_logits.py compare REFERENCE OTHER    # two logits files; prints what README.md here defines
    python tests/golden/real_logits.py golden GOLDEN.json OTHER   # a golden of this folder against a logits file, without llama.cpp

`reference` writes, for each model, OUT/<name>.logits (every logit of every position, hundreds of megabytes) and the small golden
tests/golden/logits/real-<name>.json; `dequantised` the same under <name>-f32. It and `exact` take their tokens from `reference`.
A logits file is one line of JSON, padded with spaces to a multiple of 64 bytes with its newline, then `rows` rows of `vocab`
little-endian f32 values: the positions of prompt 0 in order, then those of prompt 1, and so on. Of the JSON, `compare` needs
"engine", "file", "tokens" (a list of ids for each prompt), "rows" and "vocab".
"""
import argparse
import hashlib
import json
import pathlib
import platform
import sys
from importlib.metadata import version

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE / "logits"
COMMAND = "python tests/golden/real_logits.py"
MODELS = {
    "smollm2": "smollm2-135m-instruct.Q4_1.gguf",
    "gemma3": "gemma-3-270m.Q4_K_M.gguf",
    "qwen2": "qwen2.5-coder-0.5b-instruct.Q4_K_M.gguf",
}
TOP = 16
THREADS = 2

# Plain text, no template: facts, code, lists, arithmetic, stories, several languages; 8 to 40 tokens in every vocabulary.
PROMPTS = [
    "The capital of France is Paris. The capital of Japan is",
    "Water boils at 100 degrees Celsius and freezes at",
    "The largest planet in our solar system is called",
    "Monday, Tuesday, Wednesday, Thursday, Friday,",
    "1, 2, 3, 5, 8, 13, 21, 34, 55,",
    "2 + 2 = 4\n3 + 5 = 8\n7 + 6 = 13\n9 + 8 =",
    "Q: A shop sells 3 apples for 2 dollars. How much do 12 apples cost?\nA:",
    "def factorial(n):\n    if n == 0:\n        return 1\n    return n *",
    "for (int i = 0; i < n; i++) {\n    sum += values[",
    "SELECT name, age FROM users WHERE age > 18 ORDER BY",
    "{\"name\": \"Ada\", \"born\": 1815, \"languages\": [\"en\", \"fr\"], \"known",
    "use std::collections::HashMap;\n\nfn main() {\n    let mut map = HashMap::",
    "Shopping list:\n- milk\n- bread\n- eggs\n-",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    "To be, or not to be, that is the",
    "Die Hauptstadt von Deutschland ist Berlin, und die Hauptstadt von Österreich ist",
    "La Révolution française a commencé en",
    "El perro corre por el parque y el gato duerme en la",
    "日本の首都は東京です。フランスの首都は",
    "Dear Sir or Madam,\n\nI am writing to complain about the washing machine that I bought from your shop last",
]


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_logits(path, header, rows):
    """`rows`: one [positions, vocab] float32 array per prompt."""
    line = json.dumps(header | {"vocab": rows[0].shape[1], "rows": sum(map(len, rows)), "dtype": "f32 little-endian"}, ensure_ascii=True)
    line += " " * (-(len(line) + 1) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(line.encode())
        for block in rows:
            file.write(np.ascontiguousarray(block, "<f4").tobytes())


def read_logits(path):
    """The header and one memory-mapped [positions, vocab] array per prompt."""
    with open(path, "rb") as file:
        line = file.readline()
    header = json.loads(line)
    flat = np.memmap(path, "<f4", "r", len(line), (header["rows"], header["vocab"]))
    ends = np.cumsum([len(tokens) for tokens in header["tokens"]])
    if ends[-1] != header["rows"]:
        sys.exit(f"{path}: {header['rows']} rows for {ends[-1]} tokens")
    return header, np.split(flat, ends[:-1])


def log_softmax(logits):
    x = logits.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def margins(logits):
    """The difference of the two largest logits of every row."""
    best = np.partition(logits, -2, axis=-1)[:, -2:].astype(np.float64)
    return best.max(-1) - best.min(-1)


def top(row):
    """The TOP most probable tokens as [id, log-probability], lower id first among equals."""
    order = np.lexsort((np.arange(len(row)), -row))[:TOP]
    return [[int(i), round(float(row[i]), 5)] for i in order]


def summary(tokens, logits):
    return {
        "tokens": tokens,
        "argmax": [int(i) for i in logits.argmax(-1)],
        "margin": [round(float(m), 5) for m in margins(logits)],
        "last_top": top(log_softmax(logits[-1:])[0]),
    }


def llama_cpp_rows(path, **options):
    import llama_cpp
    llm = llama_cpp.Llama(str(path), n_ctx=512, n_batch=512, n_ubatch=512, n_threads=THREADS, n_threads_batch=THREADS, logits_all=True,
                          verbose=False, **options)
    tokens, rows = [], []
    for prompt in PROMPTS:
        # add_bos asks llama.cpp to add what the file says: Gemma's BOS, nothing for the two others.
        tokens.append(llm.tokenize(prompt.encode(), add_bos=True, special=False))
        llm.reset()
        llm.eval(tokens[-1])
        rows.append(np.array(llm.scores[:len(tokens[-1])], np.float32))
    return tokens, rows


def reference(models, out, name):
    path = models / MODELS[name]
    tokens, rows = llama_cpp_rows(path)
    header = {
        "engine": f"llama.cpp, llama-cpp-python {version('llama-cpp-python')}", "file": path.name, "sha256": sha256(path),
        "prompts": PROMPTS, "tokens": tokens,
    }
    write_logits(out / f"{name}.logits", header, rows)
    write_golden(f"real-{name}", "reference", header, rows)


def dequantised(models, out, name):
    """llama.cpp quantises activations to 8 bits for quantised weights and keeps its cache in f16; on f32 weights with an f32 cache it does
    neither. What is left between this and `exact` is rounding; between this and `reference`, those two."""
    from real_weights import rewrite
    header, _ = read_logits(out / f"{name}.logits")
    path = out / f"{name}-f32.gguf"
    rewrite(models / MODELS[name], path)
    tokens, rows = llama_cpp_rows(path, type_k=0, type_v=0)
    path.unlink()
    if tokens != header["tokens"]:
        sys.exit(f"{name}: the dequantised file gives other tokens")
    header["engine"] += ", weights dequantised to f32, f32 cache"
    write_logits(out / f"{name}-f32.logits", header, rows)
    write_golden(f"real-{name}-f32", "dequantised", header, rows)


def write_golden(name, verb, header, rows):
    about = {
        "about": "per prompt: token ids; argmax and top-2 logit margin at every position; the 16 most probable tokens after the last one "
                 "as [id, natural log-probability over the whole vocabulary]. Plain text, no template, special tokens off.",
        "command": f"{COMMAND} {verb} MODELS OUT", "engine": header["engine"],
        "versions": {n: version(n) for n in ("llama-cpp-python", "gguf", "numpy")} | {"python": platform.python_version()},
        "threads": THREADS, "file": header["file"], "sha256": header["sha256"], "vocab": rows[0].shape[1],
    }
    lines = [json.dumps({"text": text} | summary(tokens, block), ensure_ascii=False, separators=(",", ":"))
             for text, tokens, block in zip(header["prompts"], header["tokens"], rows)]
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
    text = f'{{\n{head},\n "prompts": [\n' + ",\n".join(lines) + "\n ]\n}\n"
    json.loads(text)
    (GOLDEN / f"{name}.json").write_text(text, encoding="utf-8")
    lengths = [len(t) for t in header["tokens"]]
    print(f"{name}: {len(lengths)} prompts of {min(lengths)} to {max(lengths)} tokens, golden of {len(text.encode()) // 1000} kB")


def exact(models, out, name):
    """The same prompts through the plain decoder of tiny_logits.py on the dequantised weights: no activation is ever quantised, no
    cache is in f16."""
    from real_weights import load
    from tiny_logits import Reference
    header, _ = read_logits(out / f"{name}.logits")
    config, weights = load(models / MODELS[name])
    model = Reference(config, weights, precision=np.float32)
    rows = [model.logits(tokens).astype(np.float32) for tokens in header["tokens"]]
    header["engine"] = "tests/golden/tiny_logits.py Reference, float32, dequantised weights"
    write_logits(out / f"{name}-exact.logits", header, rows)


def kl_divergence(reference_rows, other_rows):
    """KL(reference || other) of every position in nats, at temperature 1, over the whole vocabulary, in float64."""
    p, q = log_softmax(reference_rows), log_softmax(other_rows)
    return (np.exp(p) * (p - q)).sum(-1)


def compare(reference_path, other_path):
    (left, left_rows), (right, right_rows) = read_logits(reference_path), read_logits(other_path)
    if left["tokens"] != right["tokens"] or left["vocab"] != right["vocab"]:
        sys.exit("the two files differ in tokens or vocabulary")
    kl = [kl_divergence(np.array(a), np.array(b)) for a, b in zip(left_rows, right_rows)]
    everywhere, last = np.concatenate(kl), np.array([k[-1] for k in kl])
    same = np.concatenate([np.equal(a.argmax(-1), b.argmax(-1)) for a, b in zip(left_rows, right_rows)])
    margin = np.concatenate([margins(np.array(a)) for a in left_rows])
    ends = np.cumsum([len(k) for k in kl]) - 1
    largest = max(float(np.abs(a - b).max()) for a, b in zip(left_rows, right_rows))
    result = {
        "reference": left["engine"], "other": right["engine"], "file": left["file"], "prompts": len(kl), "positions": len(everywhere),
        "kl_last_mean": last.mean(), "kl_last_max": last.max(), "kl_all_mean": everywhere.mean(), "kl_all_max": everywhere.max(),
        "argmax_differs_last": int((~same[ends]).sum()),
        "argmax_differs_last_where_margin_over_half": int((~same & (margin > 0.5))[ends].sum()),
        "argmax_differs_all": int((~same).sum()), "argmax_differs_all_where_margin_over_half": int((~same & (margin > 0.5)).sum()),
        "largest_margin_with_another_argmax": float(margin[~same].max(initial=0.0)), "max_abs_logit_difference": largest,
    }
    print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in result.items()}, indent=1))


def coarse_kl(listed, logprobs):
    """KL over the listed tokens and one bin for all others: a lower bound of the true KL (merging outcomes never raises it)."""
    ids, p = np.array([i for i, _ in listed]), np.array([l for _, l in listed])
    q, rest_p, rest_q = logprobs[ids], max(1.0 - np.exp(p).sum(), 1e-12), max(1.0 - np.exp(logprobs[ids]).sum(), 1e-12)
    return float((np.exp(p) * (p - q)).sum() + rest_p * np.log(rest_p / rest_q))


def check_golden(golden_path, engine_path):
    prompts = json.loads(golden_path.read_text(encoding="utf-8"))["prompts"]
    header, rows = read_logits(engine_path)
    if [p["tokens"] for p in prompts] != header["tokens"]:
        sys.exit("the golden and the logits file differ in tokens")
    kl = [coarse_kl(p["last_top"], log_softmax(np.array(r[-1:]))[0]) for p, r in zip(prompts, rows)]
    wrong = [(n, i) for n, (p, r) in enumerate(zip(prompts, rows)) for i, (a, m) in enumerate(zip(p["argmax"], p["margin"]))
             if m > 0.5 and int(r[i].argmax()) != a]
    result = {"coarse_kl_last_mean": float(np.mean(kl)), "coarse_kl_last_max": max(kl), "argmax_differs_where_margin_over_half": wrong}
    print(json.dumps(result))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["reference", "dequantised", "exact", "compare", "golden"])
    parser.add_argument("paths", nargs=2, type=pathlib.Path)
    parser.add_argument("--only", choices=list(MODELS))
    arguments = parser.parse_args()
    first, second = arguments.paths
    if arguments.verb == "compare":
        return compare(first, second)
    if arguments.verb == "golden":
        return check_golden(first, second)
    second.mkdir(parents=True, exist_ok=True)
    for name in [arguments.only] if arguments.only else MODELS:
        {"reference": reference, "dequantised": dequantised, "exact": exact}[arguments.verb](first, second, name)


if __name__ == "__main__":
    main()
