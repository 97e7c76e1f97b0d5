#!/usr/bin/env python3
"""Makes the corpus of the tokenizer tests: make_corpus.py [FILE.json]

Prints, or writes to FILE.json, a JSON array of texts; each text is one "line" of the corpus, though many hold newlines. Deterministic:
the same bytes on every machine and every version of Python 3 (its own generator, no `random`). All words are made up or everyday.
"""
import json
import sys


class Rng:
    """A 64-bit linear congruential generator (Knuth's MMIX constants); the high bits are used."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 33) * n >> 31

    def pick(self, items):
        return items[self.below(len(items))]


SENTENCES = [
    # Latin scripts
    "The quick tailor mends nine woollen coats before breakfast.", "She'd rather they hadn't said we're late; it's only ten.",
    "Which river runs through the old town, and why does it smell of apples?", "Der Bäcker grüßt die Straße mit süßem Gebäck und Öl.",
    "Où est passée la façade bleue près du château de l'évêque ?", "El pingüino soñó con mañanas de niebla en la montaña.",
    "O pão e a maçã estão na mesa do avô.", "Perché la città è così buia di giovedì?", "Żółta gęś śpi pod świerkiem, a ćma lata źle.",
    "Příliš tichý kůň přešel řeku u mlýna.", "Fázó sündisznó őrködik a tűz mellett.", "Şu küçük ağaç gölgede ıslanmış, çok üşüyor.",
    "Kültür väljakul õitseb sõstrapõõsas.", "Hvað er klukkan, spurði gömul þerna í Æðey.", "Blåbærgrød på en kølig ø i fjorden.",
    "Ngôi nhà nhỏ ở cuối đường có cây xoài rất ngọt.", "Wo ìwé ńlá tó wà lórí àga.", "Kie estas la ŝlosilo de la ĝardena pordo?",
    # other alphabets
    "Старая мельница стоит у реки, где растёт ива.", "Їжак їв яблуко під ґанком.", "Бързата лисица пие мляко от паница.",
    "Η γάτα κοιμάται πάνω στη ζεστή πέτρα.", "Ἐν ἀρχῇ τῆς ὁδοῦ ἦν λίθος.", "Գետի ափին մի հին կամուրջ կա։", "მდინარის პირას ძველი წისქვილია.",
    "السماء صافية والقمر فوق البحر.", "كِتَابٌ عَلَى ٱلطَّاوِلَةِ", "پرندهٔ کوچک روی شاخه می‌خواند.", "یہ گلی بہت پرانی ہے۔",
    "החתול ישן על הגג בלילה.", "הַיֶּלֶד אָכַל תַּפּוּחַ", "नदी के किनारे एक पुराना पेड़ है।", "বৃষ্টির পরে আকাশ নীল হয়।", "ਪਿੰਡ ਵਿੱਚ ਇੱਕ ਖੂਹ ਹੈ।",
    "ગામમાં મોટું તળાવ છે.", "மழை பெய்தால் குடை வேண்டும்.", "నది ఒడ్డున పడవ ఉంది.", "ಹಳೆಯ ಮನೆ ಮಲೆಯ ಮೇಲಿದೆ.", "മഴയത്ത് പുഴ നിറഞ്ഞു.",
    "ගඟ අසල ගසක් ඇත.", "แม่น้ำไหลผ่านหมู่บ้านเก่า", "ເຮືອນນ້ອຍຢູ່ແຄມນ້ຳ", "မြစ်ကမ်းမှာ သစ်ပင်ရှိတယ်။", "ទន្លេហូរកាត់ភូមិ។", "ཆུ་བོ་རིང་པོ་བཞུར།",
    "ወንዙ በመንደሩ መካከል ይፈሳል።", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "ᐃᓄᒃᑎᑐᑦ", "ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ", "ⵜⴰⵎⴰⵣⵉⵖⵜ",
    # East Asia
    "小さな川のそばに古い家があります。", "カタカナとひらがなと漢字、ｶﾀｶﾅも。", "老房子旁边有一条小河。", "這棵樹比屋頂還要高，真奇怪！", "강가에 오래된 집이 한 채 있어요.", "ㄱㄴㄷ ㅏㅑㅓ 가각",
    "ㄅㄆㄇㄈ", "𠮷野家で𩸽を食べる", "㍿ ㌔ ㈱ ①②③ ⅷ ½ ¼",
]

CODE = [
    "def area(w, h):\n    return w * h  # plain\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n", "fn main() { println!(\"{:>8.3}\", x); }",
    "if (a && !b || c != d) { return ~x ^ y; }", "SELECT id, name FROM t WHERE age >= 18 AND city LIKE '%ton%';", "<div class=\"box\"><a href='#'>x</a></div>",
    "<table>\n<tr><td>1</td><td>2</td></tr>\n</table>", "{\"key\": [1, 2.5, null, true], \"s\": \"a\\nb\"}", "x = lambda *a, **k: (a, k)", "grep -rn 'foo' . | sort -u > out.txt 2>&1",
    "#include <stdio.h>\n#define MAX(a,b) ((a)>(b)?(a):(b))", "let v: Vec<Option<&'static str>> = vec![None; 3];", "a->b::c.d[e](f){g};", "/* block */ // line", "$PATH=${HOME}/bin:$PATH",
    "\\frac{a}{b} + \\sqrt{x^2} \\leq \\infty", "https://example.org/a/b?c=d&e=f#g", "me.and.you+tag@mail.example", "C:\\Users\\me\\notes.txt", "@decorator\nclass A(B):\n\n\n    pass\n",
    "| a | b |\n|---|:-:|\n| 1 | 2 |", "- [ ] one\n- [x] two\n  1. three", "```python\nprint('hi')\n```", "int x=0x1F, y=0b1010, z=1_000_000;", "----====____****~~~~", "!!!???...,,,;;;:::",
    "camelCaseName snake_case_name SCREAMING_CASE kebab-case-name", "<|user|> is not a tag here", "a\tb\t\tc\t\t\td", "    indented\n        twice\n\tand tab",
]

LOOKALIKES = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>system\nYou obey.<|im_end|>", "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>user<|end_header_id|>",
    "<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<mask>", "<start_of_turn>user\n", "<end_of_turn>", "<unused0>", "<unused99>", "[INST]", "[/INST]", "<<SYS>>",
    "<0x0A>", "<0x41>", "<0x-1>", "<0xFF>", "<repo_name>", "<file_sep>", "<jupyter_code>", "<empty_output>", "<|fim_prefix|>", "<|file_sep|>", "<|vision_start|>", "<tool_call>", "</tool_call>",
    "[multimodal]", "<start_of_image>", "[PAD151665]", "<|im_end", "|im_end|>", "< |im_end|>", "<|im_end|", "<|IM_END|>", "<|im_start|><|im_end|>", "▁", "▁▁", "▁the", "Ġthe", "ĠĠ", "Ċ", "##ing",
]

EMOJI = [
    "😀", "👍🏽", "👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇯🇵🇧🇷", "❤️", "☺︎", "✊🏿", "🧑🏻‍🚀", "🫠", "🐻‍❄️", "1️⃣2️⃣#️⃣", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "👁️‍🗨️", "🤷🏾‍♀️", "™️©️®️", "🙂\u200d", "\u200d🙂", "🧿🪬",
]

# Controls, spaces of every width, marks, direction, zero width, edges of the planes and of the surrogate range, private use.
ODD = [chr(c) for c in [*range(0x20), *range(0x7F, 0xA1), 0xAD]] + [
    "\u0300", "\u0301", "\u0323", "\u034f", "\u0483", "\u0591", "\u0610", "\u093c", "\u0e47", "\u1680", "\u180e", "\u2000", "\u2002", "\u2003", "\u2007", "\u2009", "\u200a", "\u200b", "\u200c",
    "\u200d", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e", "\u202f", "\u205f", "\u2060", "\u2066", "\u2069", "\u3000", "\ufe0e", "\ufe0f", "\ufeff", "\ufffc", "\ufffd",
    "\ud7ff", "\ue000", "\uf8ff", "\ufdd0", "\uffff", "\U00010000", "\U0001f1e6", "\U0001ffff", "\U00020000", "\U000e0001", "\U000e0100", "\U000f0000", "\U0010fffd", "\U0010ffff",
]

NUMBERS = [
    "0", "7", "42", "1999", "12345", "1234567890", "3.14159", "-0.5e-10", "1,234,567.89", "50%", "$9.99", "€1.000,00", "1/2", "10^6", "2024-02-29", "12:34:56", "+49 30 1234567", "٣٤٥", "१२३", "๔๕", "１２３", "ⅻ",
    "²³", "0x7fff", "1st 2nd 3rd", "v1.2.3-rc4", "0007", "1 000 000", "9" * 40,
]

CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'VE", "'M", "'LL", "'D", "'Re", "'vE", "'lL", "’s", "’ll", "'x", "''s", "' s", "'ſ", "'s's", "'sa", "'rea"]

WORDS = "the of and a to in is you that it river stone apple window seven garden Monday PARIS iPhone naïve co-op e-mail Łódź straße über ñandú кот дом 水 山 집 كتاب ספר नमस्ते ไทย".split()

PUNCTUATION = [".", ",", ";", ":", "!", "?", "…", "—", "–", "-", "(", ")", "[", "]", "{", "}", "«", "»", "„", "“", "”", "‘", "’", "'", '"', "¿", "¡", "、", "。", "「", "」", "،", "؟", "।", "/", "\\", "|", "&", "*", "%", "#", "@", "^", "~", "`", "+", "=", "<", ">", "$", "€", "°", "§", "→", "∑", "≠", "█", "♪"]

SPACES = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\r", " \n", "\n ", "\t ", "\u00a0", "\u3000", "\u2003", "\u0085", "\u000b", "\u000c", "\u2028", "", "", "", " ", " ", " "]

BASES = "aeiounAEckgqsZяи"
MARKS = ["\u0300", "\u0301", "\u0302", "\u0303", "\u0308", "\u030a", "\u030c", "\u0327", "\u0328", "\u0331", "\u0323\u0302", "\u0301\u0301\u0301"]


def fixed():
    yield ""
    yield from SENTENCES
    yield from CODE
    yield from LOOKALIKES
    yield from EMOJI
    yield from NUMBERS
    yield from ODD
    for text in ODD:
        yield f"a{text}b"
        yield f" {text}{text} x{text}"
    for text in LOOKALIKES:
        yield f"before{text}after"
        yield f" {text} {text}\n{text}"
    for text in CONTRACTIONS:
        yield f"we{text} you {text} I{text}am"
    for text in EMOJI:
        yield f"nice {text}! {text}{text} ok"
    for text in NUMBERS:
        yield f"a{text}b {text} c  {text}"
    for n in [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 64, 80]:
        for c in [" ", "\n", "\t", "\r", "\r\n", "\u00a0", "a", "=", "-", "0", "中", "é", "\u0301", "▁", "👍", "\u3000", "ab", " a", "\n ", " \n", "_"]:
            yield c * n
            if n < 34:
                yield f"x{c * n}y{c * n}"
    for sentence in SENTENCES:
        yield sentence.upper()
        yield f"  {sentence}  "
        yield sentence.replace(" ", "")
        yield sentence[::-1]


def mixed(rng):
    pools = [WORDS, WORDS, WORDS, WORDS, PUNCTUATION, NUMBERS, EMOJI, CONTRACTIONS, CODE, ODD, LOOKALIKES, SENTENCES]
    text = ""
    for _ in range(2 + rng.below(14)):
        text += rng.pick(rng.pick(pools)) + rng.pick(SPACES)
    return text


def punctuated(rng):
    text = ""
    for _ in range(3 + rng.below(12)):
        text += rng.pick(WORDS) if rng.below(3) else rng.pick(WORDS).upper() + rng.pick(CONTRACTIONS)
        text += "".join(rng.pick(PUNCTUATION) for _ in range(rng.below(4))) + rng.pick(SPACES)
    return text


def combined(rng):
    return "".join(rng.pick(BASES) + (rng.pick(MARKS) if rng.below(2) else "") + (" " if rng.below(4) == 0 else "") for _ in range(3 + rng.below(20)))


def scattered(rng):
    """Any code point but surrogates: half of them below U+0800, the rest from the planes that have characters."""
    text = ""
    for _ in range(1 + rng.below(16)):
        block = rng.below(8)
        code = rng.below(0x800) if block < 4 else 0x800 + rng.below(0xC800) if block < 6 else 0x1F000 + rng.below(0xB00) if block < 7 else 0x20000 + rng.below(0x4000)
        text += chr(code)
    return text


def corpus():
    rng = Rng(20240229)
    texts = list(fixed())
    texts += [mixed(rng) for _ in range(500)]
    texts += [punctuated(rng) for _ in range(400)]
    texts += [combined(rng) for _ in range(120)]
    texts += [scattered(rng) for _ in range(300)]
    return list(dict.fromkeys(texts))


def as_json(texts):
    """A JSON array, a text per line; what is invisible, combines or changes direction is escaped."""

    def shown(c):
        code = ord(c)
        return 0x20 <= code < 0x7F or (0xA1 <= code < 0xD800 and code != 0xAD and not 0x300 <= code < 0x370 and not 0x2000 <= code < 0x2070 and code not in (0x1680, 0x180E, 0x3000)) or 0x1F000 <= code < 0x30000

    quoted = lambda text: "".join(c if shown(c) else json.dumps(c)[1:-1] for c in json.dumps(text, ensure_ascii=False))
    return "[\n" + ",\n".join(map(quoted, texts)) + "\n]\n"


if __name__ == "__main__":
    out = as_json(corpus())
    assert json.loads(out) == corpus()
    if len(sys.argv) > 1:
        open(sys.argv[1], "w", encoding="utf-8", newline="\n").write(out)
    else:
        print(out, end="")
