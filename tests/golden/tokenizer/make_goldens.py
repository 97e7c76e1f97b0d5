#!/usr/bin/env python3
"""Makes the goldens of the tokenizer tests from the real models: make_goldens.py MODELS_DIR CORPUS.json OUT.json

Needs `pip install transformers gguf sentencepiece protobuf llama-cpp-python`; no torch, no network. For each model the reference is the
family's own tokenizer, built over the vocabulary, merges and scores of the GGUF file:

  smollm2  tokenizers: individual digits, then byte-level BPE with GPT-2's expression, as the model's tokenizer.json has it
  qwen2    transformers' Qwen2Tokenizer: NFC, its expression, byte-level BPE
  gemma3   sentencepiece: BPE by score, byte fallback, no dummy prefix, white space kept

Control tokens are never matched (content mode); user-defined tokens are. Of each line's ids the first 8 hex digits of the SHA-256 over
little-endian u32s are kept. A second column tells the lines for which llama.cpp, tokenizing the same file with special=False, gives
other ids: it does not compose text for Qwen (NFC), it takes `</s>` for a control token in every vocabulary, and it does not match
user-defined runs of spaces where the text spells them `▁`, which SentencePiece does not tell from spaces.
"""
import hashlib
import json
import pathlib
import struct
import sys
import unicodedata

import gguf
import llama_cpp
import sentencepiece
import tokenizers
import transformers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

FILES = {"smollm2": "smollm2-135m-instruct.Q4_1.gguf", "qwen2": "qwen2.5-coder-0.5b-instruct.Q4_K_M.gguf", "gemma3": "gemma-3-270m.Q4_K_M.gguf"}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def fields(path):
    reader = gguf.GGUFReader(path)
    get = lambda key: reader.fields[f"tokenizer.ggml.{key}"].contents() if f"tokenizer.ggml.{key}" in reader.fields else None
    return {key: get(key) for key in ("tokens", "token_type", "merges", "scores")}


def add_tokens(tokenizer, data):
    """Adds the control and user-defined tokens as added tokens; with `encode_special_tokens` the control ones are then text."""
    kinds = list(zip(data["tokens"], data["token_type"]))
    tokenizer.add_tokens([AddedToken(text, special=kind == CONTROL, normalized=False) for text, kind in kinds if kind in (CONTROL, USER_DEFINED)])
    tokenizer.encode_special_tokens = True
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def vocab_and_merges(data):
    return {text: id for id, text in enumerate(data["tokens"])}, [tuple(merge.split(" ")) for merge in data["merges"]]


def smollm2(data):
    vocab, merges = vocab_and_merges(data)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return add_tokens(tokenizer, data)


def qwen2(data):
    vocab, merges = vocab_and_merges(data)
    return add_tokens(transformers.Qwen2Tokenizer(vocab=vocab, merges=merges)._tokenizer, data)


def gemma3(data):
    """SentencePiece numbers kinds as GGUF does; a GGUF spells user-defined runs of spaces with spaces, SentencePiece with `▁`."""
    model = sentencepiece_model_pb2.ModelProto()
    for text, score, kind in zip(data["tokens"], data["scores"], data["token_type"]):
        kind = UNKNOWN if text == "<unk>" else kind
        model.pieces.add(piece=text.replace(" ", "▁") if kind == USER_DEFINED else text, score=score, type=kind)
    spec = model.trainer_spec
    spec.model_type, spec.byte_fallback, spec.vocab_size = spec.BPE, True, len(data["tokens"])
    spec.unk_piece, spec.bos_piece, spec.eos_piece, spec.pad_piece = "<unk>", "<bos>", "<eos>", "<pad>"
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = 3, 2, 1, 0
    normalizer = model.normalizer_spec
    normalizer.name, normalizer.add_dummy_prefix, normalizer.remove_extra_whitespaces, normalizer.escape_whitespaces = "identity", False, False, True
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    return lambda text: processor.encode(text)


def llama(path):
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return lambda text: model.tokenize(text.encode(), add_bos=False, special=False) if text else []


def digest(ids):
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()[:8]


def main(folder, corpus_path, out_path):
    raw = pathlib.Path(corpus_path).read_bytes()
    corpus = json.loads(raw)
    versions = {m.__name__: m.__version__ for m in (tokenizers, transformers, sentencepiece, llama_cpp)}
    out = {
        "command": "make_corpus.py corpus.json && make_goldens.py MODELS_DIR corpus.json real.json",
        "versions": versions | {"unicodedata": unicodedata.unidata_version},
        "corpus_sha256": hashlib.sha256(raw).hexdigest(),
        "lines": len(corpus),
        "models": {},
    }
    for name, file in FILES.items():
        path = pathlib.Path(folder) / file
        encode, other = globals()[name](fields(path)), llama(path)
        ids = [encode(text) for text in corpus]
        differs = [line for line, text in enumerate(corpus) if other(text) != ids[line]]
        composed = [line for line in differs if name == "qwen2" and unicodedata.normalize("NFC", corpus[line]) != corpus[line]]
        tag = [line for line in differs if "</s>" in corpus[line]]
        rest = sorted(set(differs) - set(composed) - set(tag))
        print(f"{name}: {len(corpus)} lines, llama.cpp differs on {len(differs)}: {len(composed)} not NFC, {len(tag)} with </s>, others {rest}")
        out["models"][name] = {"file": file, "tokens": sum(map(len, ids)), "llama_cpp_differs": differs, "sha256_8": "".join(map(digest, ids))}
        if len(sys.argv) > 4:
            pathlib.Path(sys.argv[4], f"ref.{name}.json").write_text(json.dumps(ids))
    pathlib.Path(out_path).write_text(json.dumps(out, indent=1).replace(",\n    ", ", ").replace("[\n    ", "[") + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:4])
