#!/usr/bin/env python3
"""Throughput of `candor eval` as a share of what `candor bench` promises.

    benches/eval_throughput.py CANDOR MODEL [--task svamp] [--questions 100] [--samples 8] [--batch 4]
        [--rounds 3] [--data DIR]

Both sides use one row per sample and the same batch: `batch` questions times `samples`. `candor
bench` measures tokens per second of a prefill and of that many samples after a prompt of the task's
mean length; the allowed time is what the run's prompt and sampled tokens take at these rates. The
run's time is that of the whole process without the loading time that bench measured. Rounds
alternate, medians count. Run nothing else at the same time.
"""
import argparse, json, os, pathlib, statistics, subprocess, tempfile, time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candor")
    parser.add_argument("model")
    parser.add_argument("--task", default="svamp")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", default=os.environ.get("CANDOR_DATA"))
    a = parser.parse_args()
    evaluate = [a.candor, "eval", a.task, "-m", a.model, "--offline", "--limit", str(a.questions), "-n", str(a.samples), "--batch",
                str(a.batch), "--eager-forking", "--prefix-cache", "0"] + (["--data", a.data] if a.data else [])
    shares = []
    for _ in range(a.rounds):
        with tempfile.TemporaryDirectory() as made:
            started = time.monotonic()
            subprocess.run(evaluate + ["-o", f"{made}/run"], check=True, capture_output=True)
            seconds = time.monotonic() - started
            costs = [json.loads(line)["outcome"]["cost"] for line in (pathlib.Path(made) / "run" / "records.jsonl").open()]
        prompts, drawn = (sum(cost[name] for cost in costs) for name in ("prompt_tokens", "completion_tokens"))
        shape = {"--prefill-tokens": prompts // len(costs), "--shared-tokens": prompts // len(costs), "--samples": a.samples * a.batch,
                 "--sample-tokens": max(drawn // len(costs) // a.samples, 16), "--repeat": 3}
        command = [a.candor, "bench", "-m", a.model, "--offline", "--json"] + [str(word) for pair in shape.items() for word in pair]
        bench = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rates = bench["prefill"]["tokens_per_second"], bench["samples"][0]["tokens_per_second"]
        seconds -= bench["load_ms"] / 1e3
        allowed = prompts / rates[0] + drawn / rates[1]
        shares.append(allowed / seconds)
        print(f"{len(costs)} questions, {prompts} prompt and {drawn} drawn tokens in {seconds:.1f} s; bench's {rates[0]:.0f} and "
              f"{rates[1]:.0f} tokens/s allow {allowed:.1f} s: {100 * shares[-1]:.0f} %", flush=True)
    print(f"median: {100 * statistics.median(shares):.0f} % of bench's throughput")


if __name__ == "__main__":
    main()
