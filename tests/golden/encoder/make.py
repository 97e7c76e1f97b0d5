"""Tiny random encoders and what Hugging Face transformers computes with them, in float32.

    pip install torch transformers tokenizers numpy
    python tests/golden/encoder/make.py

Writes a folder for each of bert, deberta-v2 and modernbert (config.json, tokenizer.json, model.safetensors) and reference.json: embeddings
are the mean of the last layer over all tokens, of length 1; entailment is the softmax of the logits at the label `entailment`. Texts
are encoded by the folder's own tokenizer.json with its template, except `long`: there the ids are cut by the rule in candor's
documentation. Weights are normal with deviation 0.3, so that every part moves the result.
"""
import json
import pathlib
import platform

import tokenizers
import torch
import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

HERE = pathlib.Path(__file__).resolve().parent
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
DIGITS = [str(d) for d in range(10)]
WORDS = ["the", "capital", "of", "france", "paris", "is", "lyon", "what", "in"]
LIMIT = 48
LABELS = {0: "contradiction", 1: "ENTAILMENT", 2: "neutral"}
QUESTION = "What is the capital of France?"
ANSWERS = ["Paris", "It is paris.", "Lyon", "a city in the south, 42 km of it", "[SEP] naïve"]
TEXTS = ["x", QUESTION, "Paris is the capital", "unknown § sign and  two spaces"]
COMMON = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": LIMIT,
    "pad_token_id": 0,
}


def with_template(tokenizer):
    cls, sep = (tokenizer.token_to_id(t) for t in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def word_piece():
    tokens = SPECIAL + LETTERS + [f"##{t}" for t in LETTERS] + DIGITS + [f"##{t}" for t in DIGITS] + list("?.,[]") + WORDS
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return with_template(tokenizer)


def unigram():
    pieces = [(t, 0.0) for t in SPECIAL] + [("▁", -3.0)] + [(t, -5.0 - i / 8) for i, t in enumerate(LETTERS + DIGITS + list("WFPLI?.,"))]
    pieces += [(f"▁{t}", -4.0) for t in WORDS] + [("aris", -6.0), ("it", -4.5), ("ou", -7.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    return with_template(tokenizer)


def byte_level():
    tokens = SPECIAL + ["Ġ", "Ã", "¯", "Â", "§"] + LETTERS + DIGITS + list("WFPLI?.,[]SE")
    merges = []
    for word in WORDS:
        left = "Ġ"
        for letter in word:
            if (left, letter) not in merges:
                merges.append((left, letter))
                tokens.append(left + letter)
            left += letter
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return with_template(tokenizer)


def make(folder, model, tokenizer):
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            generator = torch.Generator().manual_seed(len(name) + sum(name.encode()))
            norm = "norm" in name.lower() and name.endswith("weight")
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3 + norm)
    model.eval()
    path = HERE / folder
    model.save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    for other in path.iterdir():
        if other.name not in ("config.json", "tokenizer.json", "model.safetensors"):
            other.unlink()
    return model


def ids(tokenizer, *texts):
    """By the file's template, but a special token that a text spells is text (WordPiece, BPE) or [UNK] (Unigram)."""
    tokenizer.encode_special_tokens = True
    special = {tokenizer.token_to_id(t) for t in SPECIAL}
    parts = []
    for text in texts:
        found = tokenizer.encode(text, add_special_tokens=False).ids
        parts.append([tokenizer.token_to_id("[UNK]") if t in special else t for t in found])
    return parts


def joined(tokenizer, parts):
    """[CLS] a [SEP] (b [SEP]); the longer part loses its start where both are too long together."""
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    room = LIMIT - 1 - len(parts)
    if len(parts) == 1:
        parts = [parts[0][-room:]]
    elif sum(map(len, parts)) > room:
        a, b = map(len, parts)
        if a <= room // 2:
            b = room - a
        elif b <= room // 2:
            a = room - b
        else:
            a, b = room - room // 2, room // 2
        parts = [parts[0][-a:], parts[1][-b:]]
    return [cls] + [t for part in parts for t in part + [sep]]


def checked(tokenizer, *texts):
    """The ids of short texts without spelled special tokens must be the template's."""
    own = joined(tokenizer, ids(tokenizer, *texts))
    if len(own) < LIMIT and not any("[" in text for text in texts):
        assert own == tokenizer.encode(*texts).ids, texts
    return torch.tensor([own])


def main():
    torch.set_num_threads(1)
    long = " ".join(f"paris {n} is in" for n in range(40))
    answers = ANSWERS + [long]
    reference = {
        "command": "python tests/golden/encoder/make.py",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "question": QUESTION,
        "answers": answers,
        "texts": TEXTS + [long],
    }

    tokenizer = word_piece()
    config = transformers.BertConfig(**COMMON, vocab_size=tokenizer.get_vocab_size(), num_hidden_layers=2)
    bert = make("bert", transformers.BertModel(config), tokenizer)
    embeddings = []
    for text in TEXTS + [long]:
        with torch.no_grad():
            mean = bert(checked(tokenizer, text)).last_hidden_state[0].mean(0)
        embeddings.append((mean / mean.norm()).tolist())
    reference["embeddings"] = embeddings

    def entailment(model, tokenizer):
        rows = []
        for a in answers:
            rows.append([])
            for b in answers:
                pair = checked(tokenizer, f"{QUESTION} {a}", f"{QUESTION} {b}")
                with torch.no_grad():
                    rows[-1].append(model(pair).logits[0].softmax(0)[1].item())
        return rows

    tokenizer = unigram()
    config = transformers.DebertaV2Config(
        **COMMON, vocab_size=tokenizer.get_vocab_size(), num_hidden_layers=2, relative_attention=True, position_buckets=8,
        norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
        id2label=LABELS,
    )
    deberta = make("deberta-v2", transformers.DebertaV2ForSequenceClassification(config), tokenizer)
    reference["deberta-v2"] = entailment(deberta, tokenizer)

    tokenizer = byte_level()
    config = transformers.ModernBertConfig(
        **COMMON, vocab_size=tokenizer.get_vocab_size(), num_hidden_layers=3, local_attention=8, classifier_pooling="mean", id2label=LABELS,
    )
    modern = make("modernbert", transformers.ModernBertForSequenceClassification(config), tokenizer)
    reference["modernbert"] = entailment(modern, tokenizer)
    modern.config.classifier_pooling = "cls"
    reference["modernbert-cls"] = entailment(modern, tokenizer)
    text = json.dumps(reference, indent=1, ensure_ascii=False)
    (HERE / "reference.json").write_text(text + "\n", encoding="utf-8")


main()
