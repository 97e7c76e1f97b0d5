"""GGUF files dequantised, through the `gguf` package, for `real_logits.py dequantised` and `exact`.

`rewrite` makes the same file with every tensor in f32. `load` gives Hugging Face configuration keys and tensors under Hugging Face names:
llama, qwen2, qwen3 and gemma3, without rope scaling. It undoes what the conversion to GGUF does to the values: the q and k rows of llama
go back from rotary neighbours to rotary halves, and Gemma's norms back to "stored minus one".
"""
import gguf
import numpy as np

LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_norm": "post_attention_layernorm",
}
GEMMA_LAYER = LAYER | {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def name_of(name, family):
    stem, _, kind = name.rpartition(".")
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    _, layer, stem = stem.split(".", 2)
    return f"model.layers.{layer}.{(GEMMA_LAYER if family == 'gemma3' else LAYER)[stem]}.{kind}"


def config_of(fields, names):
    family = fields["general.architecture"].contents()

    def get(key, default=None):
        field = fields.get(f"{family}.{key}")
        return default if field is None else field.contents()

    heads, hidden = get("attention.head_count"), get("embedding_length")
    head = get("attention.key_length", hidden // heads)
    config = {
        "model_type": {"gemma3": "gemma3_text"}.get(family, family), "hidden_size": hidden, "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads, "num_key_value_heads": get("attention.head_count_kv", heads), "head_dim": head,
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"), "rope_theta": get("rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in names,
    }
    if family == "gemma3":
        # The file says nothing of the pattern, the local base and the score scale: llama.cpp fixes them as the models' cards do.
        config |= {"sliding_window": get("attention.sliding_window"), "sliding_window_pattern": 6, "rope_local_base_freq": 10000.0,
                   "query_pre_attn_scalar": head}
    return family, config


def halves(rows, heads):
    """Rotary neighbours (2i, 2i + 1) back to halves (i, i + head_dim / 2)."""
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def dequantise(tensor):
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape([int(n) for n in tensor.shape[::-1]])


def rewrite(source, target):
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kinds = field.types
        writer.add_key_value(key, field.contents(), kinds[0], kinds[1] if kinds[0] == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantise(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load(path):
    reader = gguf.GGUFReader(path)
    family, config = config_of(reader.fields, {t.name for t in reader.tensors})
    weights = {}
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            raise SystemExit(f"{path}: rope scaling is not read here")
        value = dequantise(tensor)
        if family == "llama" and tensor.name.split(".")[-2] in ("attn_q", "attn_k"):
            value = halves(value, config["num_attention_heads" if "attn_q" in tensor.name else "num_key_value_heads"])
        if family == "gemma3" and tensor.name.endswith("norm.weight"):
            value = value - np.float32(1.0)
        weights[name_of(tensor.name, family)] = value
    return config, weights
