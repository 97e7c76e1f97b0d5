"""The speed of llama.cpp on a GGUF file, through llama-cpp-python, as one JSON object on stdout.

    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python
    python benches/peers/llama_cpp.py MODEL.gguf [--threads 2] [--repeat 5] [--samples 8 32]
        [--only prefill decode samples process]

Every figure is a list of runs with its median; --warmup (1) runs are dropped. Times are wall-clock
times. Parts:
  prefill   --prefill (512) tokens at once into an empty cache, logits of the last position only
  decode    --decode (128) greedy tokens, one at a time, after a prompt of 16 (and, with more than
            one run, after one of --shared)
  samples   --shared (256) prompt tokens once, shared by n sequences of one cache, then --length
            (64) tokens of each, n per step; the prompt is not timed. `decode_tokens_per_s` excludes
            the sampling (top-k 40, temperature 0.7, one seed each)
  questions every --question in ChatML, one after another: prefill and --samples samples in one
            batch until each has ended, at temperature 0.7 and top-p 0.9, at most --length tokens;
            only if requested
  process   a new process: import, load, prefill of one short prompt, one token; total wall-clock
            time, peak resident memory

llama.cpp runs at its best setting: threads pinned to cores (OMP_PROC_BIND, OMP_PLACES, unless set
outside), flash attention on its own choice, one cache for all sequences. Run nothing else at the
same time, and alternate with the engine to compare.
"""
import argparse
import ctypes
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

# This file is named like the package that it imports: keep its folder out of the search.
sys.path = [p for p in sys.path if pathlib.Path(p or ".").resolve() != pathlib.Path(__file__).resolve().parent]

PINNED = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
SHORT_PROMPT = "The capital of France is"
SHORT_CONTEXT = 16
PARTS = ["process", "prefill", "decode", "samples", "questions"]


class Peer:
    """One loaded model with one context. Nothing of llama.cpp is imported before this: it must see the environment first."""

    def __init__(self, path, threads, context, sequences):
        started = time.perf_counter()
        import llama_cpp
        self.api = llama_cpp
        self.import_s = time.perf_counter() - started
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        started = time.perf_counter()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            sys.exit(f"{path}: llama.cpp cannot load it")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = context, sequences, True
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"{path}: llama.cpp makes no context of {context} tokens and {sequences} sequences")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.load_s = time.perf_counter() - started
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)

    def clear(self):
        self.api.llama_memory_clear(self.memory, True)

    def tokenize(self, text, special=False):
        data = text.encode()
        buffer = (self.api.llama_token * (len(data) + 8))()
        count = self.api.llama_tokenize(self.vocab, data, len(data), buffer, len(buffer), not special, special)
        return list(buffer[:count])

    def prompt(self, count):
        """`count` tokens of ordinary text; the same for every run."""
        sentence = "In the year {} the ships left the harbour with {} men, and {} of them came back."
        return self.tokenize(" ".join(sentence.format(1500 + n, n, n // 3) for n in range(count)))[:count]

    def decode(self, entries):
        """entries: (token, position, sequence, wants logits), at most 512; returns once the logits are there."""
        batch = self.batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, logits) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, logits
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if (status := self.api.llama_decode(self.context, batch)) != 0:
            sys.exit(f"llama_decode returned {status}")
        self.api.llama_synchronize(self.context)

    def prefill(self, tokens):
        for start in range(0, len(tokens), 512):
            chunk = tokens[start:start + 512]
            self.decode([(t, start + i, 0, start + i + 1 == len(tokens)) for i, t in enumerate(chunk)])

    def samplers(self, count, greedy):
        made = []
        for seed in range(count):
            chain = self.api.llama_sampler_chain_init(self.api.llama_sampler_chain_default_params())
            steps = [self.api.llama_sampler_init_greedy()] if greedy else [
                self.api.llama_sampler_init_top_k(40), self.api.llama_sampler_init_temp(0.7), self.api.llama_sampler_init_dist(seed)]
            for step in steps:
                self.api.llama_sampler_chain_add(chain, step)
            made.append(chain)
        return made

    def question_sampler(self, seed):
        api = self.api
        chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        for step in [api.llama_sampler_init_top_p(0.9, 1), api.llama_sampler_init_temp(0.7), api.llama_sampler_init_dist(seed)]:
            api.llama_sampler_chain_add(chain, step)
        return chain

    def sample(self, sampler, row):
        return self.api.llama_sampler_sample(sampler, self.context, row)


def time_prefill(peer, tokens):
    peer.clear()
    started = time.perf_counter()
    peer.prefill(tokens)
    return {"tokens_per_s": len(tokens) / (time.perf_counter() - started)}


def time_generation(peer, prompt, samples, length, greedy):
    """`samples` sequences over one shared prompt, `length` tokens each."""
    peer.clear()
    peer.prefill(prompt)
    for sequence in range(1, samples):
        peer.api.llama_memory_seq_cp(peer.memory, 0, sequence, -1, -1)
    samplers, decoding = peer.samplers(samples, greedy), 0.0
    started = time.perf_counter()
    tokens = [peer.sample(s, -1) for s in samplers]
    for step in range(length):
        before = time.perf_counter()
        peer.decode([(t, len(prompt) + step, sequence, True) for sequence, t in enumerate(tokens)])
        decoding += time.perf_counter() - before
        tokens = [peer.sample(s, row) for row, s in enumerate(samplers)]
    total = time.perf_counter() - started
    for sampler in samplers:
        peer.api.llama_sampler_free(sampler)
    return {"tokens_per_s": samples * length / total, "decode_tokens_per_s": samples * length / decoding}


def time_questions(peer, questions, samples, length):
    """Each question's samples in one batch until all have ended: (milliseconds, tokens drawn) over all questions."""
    milliseconds, drawn, prompts = 0.0, 0, 0
    for question in questions:
        prompt = peer.tokenize(question, special=True)
        samplers = [peer.question_sampler(seed) for seed in range(samples)]
        started = time.perf_counter()
        peer.clear()
        peer.prefill(prompt)
        for sequence in range(1, samples):
            peer.api.llama_memory_seq_cp(peer.memory, 0, sequence, -1, -1)
        live = {sequence: peer.sample(sampler, -1) for sequence, sampler in enumerate(samplers)}
        for step in range(length):
            drawn += len(live)
            live = {s: t for s, t in live.items() if not peer.api.llama_vocab_is_eog(peer.vocab, t)}
            if not live or step + 1 == length:
                break
            peer.decode([(t, len(prompt) + step, s, True) for s, t in live.items()])
            live = {s: peer.sample(samplers[s], row) for row, s in enumerate(live)}
        milliseconds += (time.perf_counter() - started) * 1e3
        prompts += len(prompt)
        for sampler in samplers:
            peer.api.llama_sampler_free(sampler)
    return {"milliseconds_per_question": milliseconds / len(questions), "tokens_drawn": drawn, "prompt_tokens": prompts}


def runs(arguments, measure):
    measured = [measure() for _ in range(arguments.repeat + arguments.warmup)][arguments.warmup:]
    values = {key: [round(m[key], 2) for m in measured] for key in measured[0]}
    return {key: {"median": round(statistics.median(all_runs), 2), "runs": all_runs} for key, all_runs in values.items()}


def child_bench(arguments):
    most = max([1, *arguments.samples])
    context = max(arguments.prefill, arguments.shared + arguments.decode, arguments.shared + most * (arguments.length + 1)) + 256
    peer = Peer(arguments.model, arguments.threads, context, most)
    peer.prefill(peer.prompt(SHORT_CONTEXT))  # first touch
    result = {"llama_cpp_python": peer.api.__version__, "system_info": peer.api.llama_print_system_info().decode().strip(),
              "load_s": round(peer.load_s, 3)}
    if "prefill" in arguments.only:
        tokens = peer.prompt(arguments.prefill)
        result["prefill"] = {"tokens": len(tokens)} | runs(arguments, lambda: time_prefill(peer, tokens))
    if "decode" in arguments.only:
        result["decode"] = [
            {"prompt": size, "tokens": arguments.decode}
            | runs(arguments, lambda: time_generation(peer, peer.prompt(size), 1, arguments.decode, True))
            for size in (SHORT_CONTEXT, arguments.shared)[:1 + (arguments.repeat > 1)]]
    if "samples" in arguments.only:
        result["samples"] = [
            {"samples": n, "prompt": arguments.shared, "tokens_each": arguments.length}
            | runs(arguments, lambda: time_generation(peer, peer.prompt(arguments.shared), n, arguments.length, False))
            for n in arguments.samples]
    if "questions" in arguments.only and arguments.question:
        result["questions"] = [
            {"samples": n} | runs(arguments, lambda: time_questions(peer, arguments.question, n, arguments.length))
            for n in arguments.samples]
    return result


def child_process(arguments):
    peer = Peer(arguments.model, arguments.threads, 512, 1)
    started = time.perf_counter()
    peer.prefill(peer.tokenize(SHORT_PROMPT))
    token = peer.sample(peer.samplers(1, True)[0], -1)
    return {"import_s": peer.import_s, "load_s": peer.load_s, "first_token_s": time.perf_counter() - started, "token": token}


def spawn(part):
    """Runs this script again for one part: (its JSON, wall clock in seconds, peak resident memory in MB)."""
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--child", part], stdout=subprocess.PIPE, text=True,
                             env=PINNED | os.environ)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"the {part} run failed")
    return json.loads(output), time.perf_counter() - started, usage.ru_maxrss / 1000


def one_token_processes(repeat):
    measured = []
    for _ in range(repeat + 1):
        inner, wall, memory = spawn("process")
        measured.append({"wall_s": wall, "wall_without_import_s": wall - inner["import_s"], "import_s": inner["import_s"],
                         "load_s": inner["load_s"], "first_token_s": inner["first_token_s"], "peak_memory_mb": memory})
    return {key: round(statistics.median(m[key] for m in measured[1:]), 3) for key in measured[0]}


def cpu_name():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if pathlib.Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--question", action="append", default=[], help="a rendered ChatML prompt; repeat it for more")
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--shared", type=int, default=256)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--samples", type=int, nargs="*", default=[8, 32])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--child", choices=["bench", "process"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child_bench(arguments) if arguments.child == "bench" else child_process(arguments)))
        return
    # Pinning binds a process to its cores for good, so this parent never loads llama.cpp: its children start unbound.
    result = {"engine": "llama.cpp", "model": arguments.model.name, "threads": arguments.threads, "cpu": cpu_name(),
              "environment": {key: os.environ.get(key, value) for key, value in PINNED.items()}}
    if "process" in arguments.only:
        result["process"] = one_token_processes(arguments.repeat)
    if set(arguments.only) - {"process"}:
        inner, _, memory = spawn("bench")
        result |= inner | {"peak_memory_mb": round(memory)}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
