"""candor and other engines on the same model files: a table of medians and ratios on stdout.

    cargo build --release
    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python
    python benches/peers/compare.py target/release/candor MODEL.gguf... [--ik FOLDER] [--candle PROGRAM]
        [--rounds 5] [--threads 2] [--device cpu] [--questions 5] [--json OUT]

Each round runs every engine once on every part, one after the other; the table shows medians over
the rounds and candor's ratio to llama.cpp. Parts: prefill of 512 tokens; a single stream of 128
tokens after a prompt of 16; 8 and 32 samples of 64 tokens after a shared prompt of 256, one row per
sample; questions with short answers, 32 samples each, at temperature 0.7 and top-p 0.9 (candor
shares rows, llama.cpp draws the samples in one batch); a new process up to its first token; peak
memory. `--ik` is the folder with ik_llama.cpp's llama-bench and llama-batched-bench, `--candle` the
program built from candle/src/main.rs, whose samples are shorter (see there). Run nothing else at
the same time.

`--device cpu:avx2` limits candor to AVX2; build the others with `-DGGML_NATIVE=OFF -DGGML_AVX2=ON
-DGGML_FMA=ON -DGGML_F16C=ON` for that.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from lazy_forking import COUNTRIES  # noqa: E402

PINNED = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
SYSTEM = {"qwen2": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
          "llama": "You are a helpful AI assistant named SmolLM, trained by Hugging Face"}
ROWS = [("prefill", "prefill of 512 tokens", "tokens/s"), ("single", "single stream, 128 tokens", "tokens/s"),
        ("samples8", "8 samples of 64, prompt of 256", "tokens/s"), ("samples32", "32 samples of 64, prompt of 256", "tokens/s"),
        ("questions", "32 samples of a short answer", "ms"), ("process", "new process to the first token", "ms"),
        ("memory", "peak memory", "MB")]


def questions(count=None):
    return [f"What is the capital of {country}? Answer with one word." for country in COUNTRIES[:count]]


def run(command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout if done.stdout.strip() else done.stderr


def candor(arguments, model):
    asked = [part for question in questions(arguments.questions) for part in ("--question", question)]
    sampling = ["--temperature", "0.7", "--top-p", "0.9"]
    report = json.loads(run([arguments.candor, "bench", "--json", "--repeat", "1", "-m", model, "-t", arguments.threads, "--device", arguments.device, *asked, *sampling]))
    figures = {"prefill": report["prefill"]["tokens_per_second"], "single": report["decode"]["tokens_per_second"],
               "memory": report["peak_memory_bytes"] / 1e6}
    figures |= {f"samples{s['n']}": s["tokens_per_second"] for s in report["samples"]}
    forking = [f for f in report["lazy_forking"] if f["n"] == 32]
    if forking:
        figures["questions"] = forking[0]["milliseconds_per_question"]
        started = time.perf_counter()
        run([arguments.candor, "ask", "-m", model, "-t", arguments.threads, "--device", arguments.device, "-n", "1", "--max-tokens", "1", "The capital of France is"])
        figures["process"] = (time.perf_counter() - started) * 1e3
    return figures, report


def llama_cpp(arguments, model, family):
    rendered = [f"<|im_start|>system\n{SYSTEM[family]}<|im_end|>\n<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n"
                for q in questions(arguments.questions)] if family in SYSTEM else []
    asked = [part for prompt in rendered for part in ("--question", prompt)]
    base = [sys.executable, HERE / "llama_cpp.py", model, "--threads", arguments.threads, "--repeat", "1", "--warmup", "0"]
    environment = PINNED | os.environ
    report = json.loads(run([*base, "--only", "process", "prefill", "decode", "samples"], env=environment))
    figures = {"prefill": report["prefill"]["tokens_per_s"]["median"], "single": report["decode"][0]["tokens_per_s"]["median"],
               "process": report["process"]["wall_without_import_s"] * 1e3, "memory": report["peak_memory_mb"]}
    figures |= {f"samples{s['samples']}": s["tokens_per_s"]["median"] for s in report["samples"]}
    if asked:
        answered = json.loads(run([*base, "--only", "questions", "--samples", "32", *asked], env=environment))
        figures["questions"] = answered["questions"][0]["milliseconds_per_question"]["median"]
    return figures, report


def ik(arguments, model):
    # Its tools write a log into the current folder.
    environment, model = PINNED | os.environ, model.resolve()
    folder = tempfile.gettempdir()
    bench = run([arguments.ik.resolve() / "llama-bench", "-m", model, "-t", arguments.threads, "-p", "512", "-n", "128", "-r", "1", "-rtr", "1"], env=environment, cwd=folder)
    rate = lambda test: float(re.search(rf"{test} \|\s*([\d.]+)", bench).group(1))
    figures = {"prefill": rate("pp512"), "single": rate("tg128")}
    batched = run([arguments.ik.resolve() / "llama-batched-bench", "-m", model, "-t", arguments.threads, "-c", "4096", "-b", "512", "-ub", "512",
                   "-npp", "256", "-ntg", "64", "-npl", "8,32", "-pps", "-rtr"], env=environment, cwd=folder)
    for line in batched.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) == 10 and cells[0] == "256":
            figures[f"samples{cells[2]}"] = float(cells[7])
    return figures


def candle(arguments, model):
    return json.loads(run([arguments.candle, model], env=os.environ | {"RAYON_NUM_THREADS": str(arguments.threads)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candor", type=pathlib.Path)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--ik", type=pathlib.Path)
    parser.add_argument("--candle", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="candor's device: cpu:avx2 against engines built without AVX-512")
    parser.add_argument("--questions", type=int, default=5, help="how many questions, at most 20")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    everything = {}
    for model in arguments.models:
        rounds = []
        for _ in range(arguments.rounds):
            ours, report = candor(arguments, model)
            theirs, peer_report = llama_cpp(arguments, model, report["family"])
            others = {"ik_llama.cpp": ik(arguments, model)} if arguments.ik else {}
            others |= {"candle-transformers": candle(arguments, model)} if arguments.candle else {}
            rounds.append({"candor": ours, "llama.cpp": theirs} | others)
            print(f"{model.name}: round {len(rounds)} of {arguments.rounds}", file=sys.stderr, flush=True)
        everything[model.name] = rounds
        engines = list(rounds[0])
        median = {engine: {key: statistics.median(r[engine][key] for r in rounds) for key in rounds[0][engine]} for engine in engines}
        if model == arguments.models[0]:
            print(f"{report['cpu']}, {arguments.threads} threads; candor {report['version']}, llama-cpp-python "
                  f"{peer_report['llama_cpp_python']}; {time.strftime('%Y-%m-%d')}; medians of {arguments.rounds} alternating rounds\n")
        print(f"| {model.name} | unit | " + " | ".join(engines) + " | candor / llama.cpp |")
        print("|---|---|" + "---|" * (len(engines) + 1))
        for key, name, unit in ROWS:
            if key not in median["candor"]:
                continue
            cells = [f"{median[e][key]:.0f}" if key in median[e] else "" for e in engines]
            a, b = median["candor"][key], median["llama.cpp"].get(key)
            ratio = "" if b is None else f"{a / b:.2f}" if unit != "ms" else f"{b / a:.1f} times as fast"
            print(f"| {name} | {unit} | " + " | ".join(cells) + f" | {ratio} |", flush=True)
        print(flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
