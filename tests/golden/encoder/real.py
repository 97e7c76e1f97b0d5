"""What Hugging Face transformers computes with two real encoders, in float32.

    pip install torch transformers
    python tests/golden/encoder/real.py DIR

DIR has the folders all-MiniLM-L6-v2 (sentence embeddings) and nli-deberta-v3-xsmall (entailment, labels entailment and not_entailment).
Writes real.json: embeddings (mean over tokens, length 1) of the answers, and P(entailment) of every ordered pair of "question answer".
"""
import hashlib
import json
import pathlib
import sys

import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
QUESTION = "Who painted the Mona Lisa?"
ANSWERS = ["Leonardo da Vinci", "It was painted by Leonardo.", "Michelangelo", "I don't know.", "Ein Künstler aus Florenz, um 1503", "É 達芬奇 😀 x² ½"]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main():
    folder = pathlib.Path(sys.argv[1])
    mini, nli = folder / "all-MiniLM-L6-v2", folder / "nli-deberta-v3-xsmall"
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(mini), transformers.AutoModel.from_pretrained(mini).float().eval()
    embeddings = []
    for text in ANSWERS:
        with torch.no_grad():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        embeddings.append([round(x, 6) for x in (mean / mean.norm()).tolist()])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(nli / "tokenizer.json"), cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", pad_token="[PAD]"
    )
    model = transformers.DebertaV2ForSequenceClassification.from_pretrained(nli).float().eval()
    entailment = []
    for a in ANSWERS:
        entailment.append([])
        for b in ANSWERS:
            pair = tokenizer(f"{QUESTION} {a}", f"{QUESTION} {b}", return_tensors="pt", return_token_type_ids=False)
            with torch.no_grad():
                entailment[-1].append(round(model(**pair).logits[0].softmax(0)[0].item(), 7))
    reference = {
        "command": "python tests/golden/encoder/real.py DIR",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "sha256": {p.name: sha256(p / "model.safetensors") for p in (mini, nli)},
        "question": QUESTION,
        "answers": ANSWERS,
        "entailment": entailment,
    }
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in embeddings)
    text = json.dumps(reference, indent=1, ensure_ascii=False)[:-2] + f',\n "embeddings": [\n{rows}\n]}}\n'
    (HERE / "real.json").write_text(text, encoding="utf-8")


main()
