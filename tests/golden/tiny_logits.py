"""Golden logits of the tiny random models, from mlx-lm, checked by a forward pass of our own in float64.

    pip install 'mlx[cpu]' mlx-lm numpy
    python tests/golden/tiny_logits.py                 # writes tests/golden/logits/tiny-<family>.json for every models/tiny-<family>.toml
    python tests/golden/tiny_logits.py --sensitivity   # writes nothing; what single faults would do to the logits
    python tests/golden/tiny_logits.py --safetensors DIR   # the models as Hugging Face folders, for any other implementation

A recipe is a seed and a Hugging Face configuration; the weights are a function of (seed, tensor name, flat index), see `Rule`. The
goldens are mlx-lm's float32 logits. `Reference` is written from the models' definitions as Hugging Face transformers has them, in
numpy float64, and shares no code with mlx-lm; a golden is written only if the two agree within 1e-4.
"""
import argparse
import hashlib
import importlib
import json
import math
import pathlib
import platform
import sys
import tomllib
from importlib.metadata import version

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "logits"
COMMAND = "python tests/golden/tiny_logits.py"
TOKENS = 24
AGREE = 1e-4


def fnv1a64(data):
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return state


def splitmix(name, seed, count):
    """z_i for i in 0..count: splitmix64 from the state fnv1a64(name) ^ seed, one step per index, in wrapping 64-bit arithmetic."""
    with np.errstate(over="ignore"):
        index = np.arange(1, count + 1, dtype=np.uint64)
        z = np.uint64(fnv1a64(name.encode()) ^ seed) + index * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


class Rule:
    """Centre and amplitude of a tensor's values: f32(centre + amplitude * (2u - 1)), u = (z >> 40) / 2^24, in f64."""

    def __init__(self, config, seed):
        self.gemma, self.seed = config["model_type"].startswith("gemma"), seed

    def spread(self, name, shape):
        if name == "model.embed_tokens.weight":
            return 0.0, 0.2 if self.gemma else 1.0
        if name.endswith("norm.weight"):
            return (0.0 if self.gemma else 1.0), 0.1
        if name.endswith(".bias"):
            return 0.0, 0.1
        return 0.0, math.sqrt(3.0 / shape[1])

    def tensor(self, name, shape):
        centre, amplitude = self.spread(name, shape)
        u = (splitmix(name, self.seed, math.prod(shape)) >> np.uint64(40)).astype(np.float64) / 2.0**24
        return (centre + amplitude * (2.0 * u - 1.0)).astype(np.float32).reshape(shape)


def head_dim(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def shapes(config):
    """Hugging Face tensor names and shapes ([out, in] for linears)."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], head_dim(config)
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    family = config["model_type"]
    out = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = (config["vocab_size"], hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in {"q": (q, hidden), "k": (kv, hidden), "v": (kv, hidden), "o": (hidden, q)}.items():
            out[f"{layer}self_attn.{name}_proj.weight"] = shape
            if family == "qwen2" and name != "o":
                out[f"{layer}self_attn.{name}_proj.bias"] = shape[:1]
        if family in ("qwen3", "gemma3_text"):
            out[f"{layer}self_attn.q_norm.weight"] = out[f"{layer}self_attn.k_norm.weight"] = (head,)
        out[f"{layer}mlp.gate_proj.weight"] = out[f"{layer}mlp.up_proj.weight"] = (inner, hidden)
        out[f"{layer}mlp.down_proj.weight"] = (hidden, inner)
        norms = ["input_layernorm", "post_attention_layernorm"]
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"] if family == "gemma3_text" else []
        out |= {f"{layer}{norm}.weight": (hidden,) for norm in norms}
    return out


def digest(weights):
    """sha256 over the tensors in ascending byte order of their names: the name in UTF-8, then the values as little-endian f32."""
    state = hashlib.sha256()
    for name in sorted(weights):
        state.update(name.encode())
        state.update(weights[name].astype("<f4").tobytes())
    return state.hexdigest()


class Reference:
    """The decoder, one sequence from position 0, no cache, in `precision`. `fault` names one deliberate mistake (see FAULTS)."""

    def __init__(self, config, weights, fault=None, precision=np.float64):
        self.c, self.fault, self.precision = config, fault, precision
        self.w = {name: value.astype(precision) for name, value in weights.items()}
        self.gemma = config["model_type"] == "gemma3_text"

    def norm(self, x, name):
        weight = self.w[name + ".weight"] + (1.0 if self.gemma and self.fault != "norm without + 1" else 0.0)
        epsilon = self.c["rms_norm_eps"] * (10.0 if self.fault == "norm epsilon times 10" else 1.0)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight

    def linear(self, x, name):
        bias = self.w.get(name + ".bias", 0.0) if self.fault != "no qkv bias" else 0.0
        return x @ self.w[name + ".weight"].T + bias

    def sliding(self, layer):
        """Gemma 3: every `sliding_window_pattern`-th layer (counted from 1) is global, all others slide."""
        pattern = self.c.get("sliding_window_pattern", 6)
        shift = 0 if self.fault == "global layer one early" else 1
        return self.gemma and (layer + 1 if shift else layer + 2) % pattern != 0

    def inverse_frequencies(self, layer):
        base, head = self.c["rope_theta"], head_dim(self.c)
        if self.sliding(layer) and self.fault != "one rope base":
            base = self.c["rope_local_base_freq"]
        frequencies = 1.0 / base ** (np.arange(0, head, 2) / head)
        scaling = self.c.get("rope_scaling")
        if not scaling or self.fault == "no rope scaling":
            return frequencies
        # Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between interpolated in old / wavelength.
        names = "original_max_position_embeddings", "factor", "low_freq_factor", "high_freq_factor"
        old, factor, low, high = (scaling[name] for name in names)
        wavelength = 2 * np.pi / frequencies
        smooth = np.clip((old / wavelength - low) / (high - low), 0.0, 1.0)
        if self.fault == "rope scaling without the ramp":
            smooth = (wavelength <= old / low).astype(np.float64)
        return (1 - smooth) * frequencies / factor + smooth * frequencies

    def rope(self, x, layer):
        """Rotates the halves (i, i + head_dim / 2), as Hugging Face does; x is [heads, T, head_dim]."""
        angle = np.arange(x.shape[1])[:, None] * self.inverse_frequencies(layer)
        cos, sin = np.cos(angle).astype(self.precision), np.sin(angle).astype(self.precision)
        if self.fault == "rope on neighbours":
            pair = x.reshape(*x.shape[:-1], -1, 2)
            a, b = pair[..., 0], pair[..., 1]
            return np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)
        a, b = np.split(x, 2, -1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def visible(self, count, layer):
        """[query, key]: causal; in a sliding layer key > query - sliding_window, so `sliding_window` keys with the query's own."""
        query, key = np.arange(count)[:, None], np.arange(count)[None]
        window = self.c.get("sliding_window", 0) + {"window one wider": 1, "window one narrower": -1}.get(self.fault, 0)
        slides = self.sliding(layer) and self.fault != "no window"
        return (key <= query) & ((key > query - window) if slides else True)

    def attention(self, x, layer):
        name, head, count = f"model.layers.{layer}.self_attn.", head_dim(self.c), len(x)
        q, k, v = (self.linear(x, f"{name}{p}_proj").reshape(count, -1, head) for p in "qkv")
        if name + "q_norm.weight" in self.w and self.fault != "no q and k norm":
            q, k = self.norm(q, name + "q_norm"), self.norm(k, name + "k_norm")
        q, k, v = self.rope(q.transpose(1, 0, 2), layer), self.rope(k.transpose(1, 0, 2), layer), v.transpose(1, 0, 2)
        groups = len(q) // len(k)
        if self.fault == "kv heads interleaved":
            k, v = np.tile(k, (groups, 1, 1)), np.tile(v, (groups, 1, 1))
        else:
            k, v = np.repeat(k, groups, 0), np.repeat(v, groups, 0)
        width = head if self.fault == "scale by head_dim" else self.c.get("query_pre_attn_scalar", head)
        scores = np.where(self.visible(count, layer), q @ k.transpose(0, 2, 1) * width**-0.5, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        return self.linear(mixed.transpose(1, 0, 2).reshape(count, -1), name + "o_proj")

    def mlp(self, x, layer):
        name = f"model.layers.{layer}.mlp."
        gate = self.linear(x, name + "gate_proj")
        if not self.gemma:
            gate = gate / (1.0 + np.exp(-gate))
        elif self.fault == "exact gelu":
            gate = gate * 0.5 * (1.0 + np.vectorize(math.erf)(gate / math.sqrt(2.0)))
        else:
            gate = 0.5 * gate * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (gate + 0.044715 * gate**3)))
        return self.linear(gate * self.linear(x, name + "up_proj"), name + "down_proj")

    def block(self, x, layer):
        name = f"model.layers.{layer}."
        mixed = self.attention(self.norm(x, name + "input_layernorm"), layer)
        if not self.gemma:
            x = x + mixed
            return x + self.mlp(self.norm(x, name + "post_attention_layernorm"), layer)
        x = x + self.norm(mixed, name + "post_attention_layernorm")
        inner = self.mlp(self.norm(x, name + "pre_feedforward_layernorm"), layer)
        return x + self.norm(inner, name + "post_feedforward_layernorm")

    def logits(self, tokens):
        x = self.w["model.embed_tokens.weight"][tokens]
        if self.gemma and self.fault != "embedding not scaled":
            x = x * math.sqrt(self.c["hidden_size"])
        for layer in range(self.c["num_hidden_layers"]):
            x = self.block(x, layer)
        head = "model.embed_tokens.weight" if self.c["tie_word_embeddings"] or self.fault == "tied head" else "lm_head.weight"
        return self.norm(x, "model.norm") @ self.w[head].T


FAULTS = {
    "llama": ["no rope scaling", "rope scaling without the ramp", "rope on neighbours", "kv heads interleaved", "tied head"],
    "qwen2": ["no qkv bias", "rope on neighbours", "kv heads interleaved"],
    "qwen3": ["no q and k norm", "rope on neighbours", "kv heads interleaved"],
    "gemma3": ["window one wider", "window one narrower", "no window", "global layer one early", "one rope base", "scale by head_dim",
               "exact gelu", "embedding not scaled", "norm without + 1", "no q and k norm", "rope on neighbours", "kv heads interleaved"],
}


def mlx_logits(config, weights, tokens):
    import mlx.core as mx
    mx.set_default_device(mx.cpu)
    module = importlib.import_module("mlx_lm.models." + config["model_type"])
    model = module.Model(module.ModelArgs.from_dict(config))
    model.load_weights(list(model.sanitize({name: mx.array(value) for name, value in weights.items()}).items()), strict=True)
    logits = model(mx.array([tokens]))[0]
    assert logits.dtype == mx.float32, logits.dtype
    return np.array(logits)


def recipe(path):
    with open(path, "rb") as file:
        data = tomllib.load(file)
    config, rule = data["config"], Rule(data["config"], data["seed"])
    weights = {name: rule.tensor(name, shape) for name, shape in shapes(config).items()}
    tokens = [int(z >> np.uint64(56)) for z in splitmix("tokens", data["seed"], TOKENS)]
    return config, weights, tokens


def write_golden(family, config, weights, tokens):
    logits, ours = mlx_logits(config, weights, tokens), Reference(config, weights).logits(tokens)
    difference = float(np.abs(logits - ours).max())
    print(f"{family}: logits {logits.shape} in [{logits.min():.3f}, {logits.max():.3f}], mlx against float64: {difference:.2e}")
    if not difference < AGREE:
        sys.exit(f"{family}: mlx-lm and the float64 forward differ by {difference:.2e}, more than {AGREE:.0e}: no golden written")
    versions = {name: version(name) for name in ("mlx", "mlx-lm", "numpy")} | {"python": platform.python_version()}
    head = {
        "about": "float32 logits from mlx-lm, one row per position; tokens: z >> 56 of splitmix64 seeded with fnv1a64('tokens') ^ seed",
        "command": COMMAND, "versions": versions, "recipe": f"models/tiny-{family}.toml", "weights_sha256": digest(weights),
        "max_abs_difference_to_float64": float(f"{difference:.2e}"), "tokens": tokens,
    }
    rows = ",\n".join("[" + ",".join(f"{value:.7g}" for value in row) + "]" for row in logits)
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
    text = f'{{\n{lines},\n "logits": [\n{rows}\n ]\n}}\n'
    json.loads(text)
    (GOLDEN / f"tiny-{family}.json").write_text(text)


def print_sensitivity(family, config, weights, tokens):
    right = Reference(config, weights).logits(tokens)
    for fault in [*FAULTS[family], "norm epsilon times 10"]:
        wrong = np.abs(Reference(config, weights, fault).logits(tokens) - right)
        print(f"{family:7} {fault:30} max {wrong.max():8.4f}  last position {wrong[-1].max():8.4f}")


def write_safetensors(family, config, weights, folder):
    from safetensors.numpy import save_file
    target = folder / f"tiny-{family}"
    target.mkdir(parents=True, exist_ok=True)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    print(target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sensitivity", action="store_true")
    parser.add_argument("--safetensors", type=pathlib.Path, metavar="DIR")
    arguments = parser.parse_args()
    GOLDEN.mkdir(exist_ok=True)
    for path in sorted((ROOT / "models").glob("tiny-*.toml")):
        family = path.stem.removeprefix("tiny-")
        if arguments.safetensors:
            write_safetensors(family, *recipe(path)[:2], arguments.safetensors)
        else:
            (print_sensitivity if arguments.sensitivity else write_golden)(family, *recipe(path))


if __name__ == "__main__":
    main()
