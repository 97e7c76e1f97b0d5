#!/usr/bin/env python3
"""Makes small vocabularies and their goldens: make_small.py CORPUS.json OUT.json

Needs `pip install tokenizers sentencepiece protobuf`. Vocabularies are trained on the corpus itself; each is written as a GGUF file's metadata
would have it, or as the text of a `tokenizer.json`, and its reference is the library that trained it, run over the whole corpus. Kept are the
first 12 hex digits of a SHA-256 over the ids of every 32 lines (little-endian u32s, each line followed by 0xFFFFFFFF), for content (control tokens
off) and, where the reference can, for trusted text (control tokens on).
"""
import hashlib
import io
import json
import struct
import sys

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<tool_call>", "\n\n", "\n\n\n", "</table>"]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
OTHER = r"\d+|\s+|[^\d\s]+"
byte_level = lambda regex: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
split = lambda regex: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), byte_level(False)])
PRE = {
    "smollm": (None, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)])),
    "gpt-2": (None, byte_level(True)),
    "qwen2": (normalizers.NFC(), split(QWEN2)),
    "llama-bpe": (None, split(LLAMA3)),
}


def digests(corpus, encode):
    out = ""
    for start in range(0, len(corpus), 32):
        lines = [encode(text) + [0xFFFFFFFF] for text in corpus[start : start + 32]]
        out += hashlib.sha256(b"".join(struct.pack(f"<{len(ids)}I", *ids) for ids in lines)).hexdigest()[:12]
    return out


def both(corpus, tokenizer):
    def encode(special):
        tokenizer.encode_special_tokens = not special
        return digests(corpus, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)

    return {"content": encode(False), "trusted": encode(True)}


def added(special, texts):
    return [AddedToken(text, special=special, normalized=False) for text in texts]


def words(corpus):
    """The lines worth training on: those of words rather than runs of one character."""
    return [text for text in corpus if len(set(text)) > 7 and "\0" not in text]


def train_bpe(corpus, size, pre_tokenizer, alphabet, normalizer=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    special = added(True, CONTROL) + ([AddedToken("<unk>", special=True, normalized=False)] + byte_tokens() if model else [])
    tokenizer.train_from_iterator(words(corpus), trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, limit_alphabet=280, show_progress=False))
    return tokenizer


def byte_tokens():
    return [AddedToken(f"<0x{byte:02X}>", special=False, normalized=False) for byte in range(256)]


def byte_level_sets(corpus):
    """One vocabulary under four pre-tokenizers."""
    base = train_bpe(corpus, 560, byte_level(True), sorted(pre_tokenizers.ByteLevel.alphabet()))
    base.add_tokens(added(False, USER_DEFINED))
    state = json.loads(base.to_str())
    tokens = [base.id_to_token(id) for id in range(base.get_vocab_size())]
    kinds = [3 if text in CONTROL else 4 if text in USER_DEFINED else 1 for text in tokens]
    merges = [" ".join(merge) for merge in state["model"]["merges"]]
    goldens = {}
    for name, (normalizer, pre_tokenizer) in PRE.items():
        state["normalizer"], state["model"]["ignore_merges"] = None, name == "llama-bpe"
        tokenizer = Tokenizer.from_str(json.dumps(state))
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizer
        goldens[name] = both(corpus, tokenizer)
    return {"tokens": tokens, "token_type": kinds, "merges": merges, "goldens": goldens}


def spm_set(corpus, prefix, byte_fallback, user_defined):
    """A SentencePiece BPE model as `llama` metadata has it."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in words(corpus) if all(ord(c) < 0x500 or c == "▁" for c in text)]), model_writer=out, model_type="bpe", vocab_size=680 if byte_fallback else 420, byte_fallback=byte_fallback,
        add_dummy_prefix=prefix, remove_extra_whitespaces=False, normalization_rule_name="identity", user_defined_symbols=user_defined, character_coverage=0.98,
        hard_vocab_limit=False, minloglevel=2, num_threads=1,
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(out.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    spelled = [piece.piece.replace("▁", " ") if piece.type == 4 else piece.piece for piece in proto.pieces]
    return {
        "tokens": spelled, "token_type": [piece.type for piece in proto.pieces], "scores": [round(piece.score, 3) for piece in proto.pieces],
        "add_space_prefix": prefix, "content": digests(corpus, processor.encode),
    }


def json_set(corpus, tokenizer):
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    return {"tokenizer": text, **both(corpus, tokenizer)}


def metaspace_json(corpus):
    """As Llama 2's file: a space before each text, spaces as `▁`, byte fallback."""
    base = train_bpe(corpus, 660, pre_tokenizers.Metaspace(prepend_scheme="first"), [], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    base.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    base.post_processor = processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", base.token_to_id("<|im_start|>"))])
    state = json.loads(base.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))


def gemma_json(corpus):
    """As Gemma's file: spaces as `▁` by normalizer, an added token in normalized text and one that swallows white space."""
    base = train_bpe(corpus, 660, pre_tokenizers.Split("▁", "merged_with_next"), [], normalizers.Replace(" ", "▁"), unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    base.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    state = json.loads(base.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_tokens([AddedToken("a  b", special=False, normalized=True), AddedToken("[INST]", special=True, normalized=False, lstrip=True, rstrip=True), AddedToken("cat", special=False, normalized=False, single_word=True)])
    return tokenizer


def other_json(corpus):
    """Byte-level with an expression that is nobody's, so that all of it runs in the tokenizers crate."""
    tokenizer = train_bpe(corpus, 480, split(OTHER), sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def qwen_json(corpus):
    """As Qwen's file, which the hand-written pre-tokenizer takes over."""
    tokenizer = train_bpe(corpus, 480, split(QWEN2), sorted(pre_tokenizers.ByteLevel.alphabet()), normalizers.NFC())
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(added(False, USER_DEFINED))
    return tokenizer


def main(corpus_path, out_path):
    raw = open(corpus_path, "rb").read()
    corpus = json.loads(raw)
    out = {
        "command": "make_corpus.py corpus.json && make_small.py corpus.json small.json",
        "versions": {m.__name__: m.__version__ for m in (tokenizers, sentencepiece)},
        "corpus_sha256": hashlib.sha256(raw).hexdigest(),
        "byte_level": byte_level_sets(corpus),
        "spm": {
            "gemma": spm_set(corpus, False, True, ["\n", "\n\n", "▁▁", "▁▁▁", "\t\t", "</table>"]),
            "llama": spm_set(corpus, True, True, []),
            "unknown": spm_set(corpus, False, False, ["\n"]),
        },
        "json": {name: json_set(corpus, make(corpus)) for name, make in (("metaspace", metaspace_json), ("gemma", gemma_json), ("other", other_json), ("qwen", qwen_json))},
    }
    with open(out_path, "w", encoding="utf-8", newline="\n") as file:
        json.dump(out, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
