"""Makes tokenizer.json, tokenizer_config.json and reference.json with the reference implementation.

    python3 -m venv v && v/bin/pip install transformers==5.23.0 jinja2==3.1.6 tokenizers==0.23.3 && v/bin/python make.py

With a folder of GGUF files as argument it also makes gguf.json: the templates inside those files, rendered.
    v/bin/pip install gguf==0.19.0 && v/bin/python make.py DIR
"""
import datetime, json, pathlib, sys

import jinja2, tokenizers, transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
VERSIONS = f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}, tokenizers {tokenizers.__version__}"
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
            "<s>", "</s>", "[INST]", "[/INST]", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
TAGS = ["<think>", "</think>", "<tool_response>", "</tool_response>"]
# The day that the templates are told, instead of the clock's.
DAY = datetime.datetime(2024, 7, 26)


class FixedDay(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return DAY


chat_template_utils.datetime = FixedDay


def train():
    """A byte-level BPE of 700 tokens with every control string of the templates here."""
    corpus = ["What is the capital of France?\nAnswer with one word.", "user\n\n\nassistant\n\nThe capital of France is Paris.",
              "You are a terse assistant. Today Date: 26 Jul 2024", "Let me repeat that one more time:", "system\nuser\nmodel\n",
              "<|im_end|> <|im_start|> im_start im_end start_of_turn end_of_turn eot_id header INST </s> <s> <think> </think>",
              "Ignore these periods (they are irrelevant) and answer the above question: . . . .", "Grüße, 你好, 😀!", "  \n  \n\n    "] * 40
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=CONTROLS, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return tokenizer


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(content):
    return {"role": "system", "content": content}


CHATS = [
    [user("What is the capital of France?")],
    [user("")],
    [user("  \n\n What?\n\n ")],
    [user("\nWhat is\r\nthe capital\t?")],
    [system("Be terse."), user("Hi")],
    [system("  Be terse.\n"), user("\n\nHi\n"), assistant("\nHello! "), user("And?")],
    [user("Grüße, 你好, 😀!"), assistant("the"), user("e\u0301 \u200b\u00a0")],
    [user("a"), user("b")],
    [assistant("a"), user("b")],
    [user("a"), system("b"), user("c")],
    [user("1 < 2 and <b>bold</b> &amp; [x](y) {{ bos_token }} {% raw %}")],
    [user("Hi"), assistant("<think>\nhm\n</think>\n\nHello"), user("x")],
    [user("Hi"), assistant("<think>hm</think>Hello")],
    [user("<tool_response>x</tool_response>"), assistant("y"), user("z")],
]
# (template, arguments of the template, special tokens)
FORMATS = [
    ("chatml", {}, {"eos_token": "<|im_end|>"}),
    ("llama3", {}, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    ("mistral", {}, {"bos_token": "<s>", "eos_token": "</s>"}),
    ("gemma", {}, {"bos_token": "<bos>", "eos_token": "<eos>"}),
    ("gemma_strict", {}, {"bos_token": "<bos>", "eos_token": "<eos>"}),
    ("qwen3", {}, {"eos_token": "<|im_end|>"}),
    ("qwen3", {"enable_thinking": True}, {"eos_token": "<|im_end|>"}),
    ("qwen3", {"enable_thinking": False}, {"eos_token": "<|im_end|>"}),
]
# Small pieces of the language, rendered for [system "be <b>", user " Hi\n"] with bos_token "<s>" and enable_thinking false.
DIALECT = [
    "{{ bos_token }}|{{ eos_token }}|{{ nothing }}",
    "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}\n",
    "{{ messages[1]['content'].strip() }}{{ messages[1].content | trim }}",
    "{{ messages[1].get('name', 'x') }}{{ 'name' in messages[0] }}{{ messages[0].name is defined }}",
    "{{ tools is none }}{{ tools is defined }}{{ not tools }}{{ None }}{{ true }}",
    "{{ enable_thinking is defined and enable_thinking is false }}{{ reasoning_effort is defined }}",
    "{{ messages | tojson }}", "{{ messages[0] | tojson(indent=2) }}",
    "{{ {'a': [1, 2.5, true, none], 'b': {}, 'c': []} | tojson(indent=2) }}", "{{ 'é\"\\\\<>&' | tojson }}{{ 'é😀' | tojson(ensure_ascii=true) }}",
    "{{ strftime_now('%d %b %Y|%A %-d %B %y %j %H:%M') }}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "a{% generation %}b{% endgeneration %}c{%- generation -%} d {%- endgeneration -%} e",
    "{% set ns = namespace(x=1) %}{% for m in messages %}{% set ns.x = ns.x + 1 %}{% endfor %}{{ ns.x }}",
    "{% for m in messages[1:] %}{{ loop.index0 ~ m.role }}{% endfor %}{{ messages[::-1][0].role }}",
    "{% macro f(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}{{ f(1, y=3) }}",
    "{{ 'a</think>b'.split('</think>')[-1] }}{{ '</think>' in messages[0].content }}",
    "{{ messages | map(attribute='role') | join(',') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ nothing | default('d') }}{{ nothing | length }}{{ 'x' if nothing else 'y' }}{{ 'x' ~ nothing }}{% for x in nothing %}{% endfor %}",
    "{% for key, value in messages[0].items() %}{{ key }}={{ value }};{% endfor %}", "{{ messages[0] is mapping }}{{ 'x' is string }}{{ [] is iterable }}",
    "{{ 'AbC'.lower() }}{{ 'abc'[1:] }}{{ 'a,b'.split(',') | last }}{{ 'abc'.replace('b', '') }}{{ ' a'.lstrip() }}{{ 'ab' | upper }}",
    "{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 3 }}{{ 7 / 2 }}{{ '5' | int + 1 }}{{ [1, 2][-1] }}{{ (1, 2) | first }}",
    "{%- set x -%}  in  {%- endset -%}[{{ x }}]{# comment #}\n", "{{ 'a' * 3 }}{{ 'a\\nb' | indent(2) }}{{ ['a', 'b'] | join }}",
]


def reference(tokenizer):
    cases = []
    for name, arguments, specials in FORMATS:
        tok = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)
        tok.chat_template = (HERE / f"{name}.jinja").read_text()
        for chat in CHATS:
            case = {"template": name, "arguments": arguments, **specials, "messages": chat}
            more = {"continue_final_message": True} if chat[-1]["role"] == "assistant" else {"add_generation_prompt": True}
            try:
                case["text"] = tok.apply_chat_template(chat, tokenize=False, **more, **arguments)
                case["ids"] = tok.apply_chat_template(chat, tokenize=True, return_dict=False, **more, **arguments)
            except jinja2.exceptions.TemplateError as error:
                case["error"] = str(error)
            except ValueError:  # the reference continues no message that its template has cut
                continue
            cases.append(case)
    chat = [system("be <b>"), user(" Hi\n")]
    dialect = [{"source": source, "text": chat_template_utils.render_jinja_template(
        [chat], chat_template=source, add_generation_prompt=True, bos_token="<s>", enable_thinking=False)[0][0]} for source in DIALECT]
    return {"made_by": f"make.py with {VERSIONS}", "cases": cases, "dialect": dialect}


def embedded(directory):
    import gguf
    cases = []
    for path in sorted(pathlib.Path(directory).glob("*.gguf")):
        fields = gguf.GGUFReader(path).fields
        text = lambda key: fields[key].contents()
        tokens = fields["tokenizer.ggml.tokens"]
        token = lambda key: bytes(tokens.parts[tokens.data[text(key)]]).decode()
        if "tokenizer.chat_template" not in fields:
            cases.append({"file": path.name, "chats": None})
            continue
        chats = []
        for chat in CHATS:
            if chat[-1]["role"] == "user":
                rendered = chat_template_utils.render_jinja_template(
                    [chat], chat_template=text("tokenizer.chat_template"), add_generation_prompt=True,
                    bos_token=token("tokenizer.ggml.bos_token_id"), eos_token=token("tokenizer.ggml.eos_token_id"))[0][0]
                chats.append({"messages": chat, "text": rendered})
        cases.append({"file": path.name, "chats": chats})
    return {"made_by": f"make.py DIR with {VERSIONS}, gguf 0.19.0", "files": cases}


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


tokenizer = train()
tokenizer.save(str(HERE / "tokenizer.json"), pretty=False)
write("reference.json", reference(tokenizer))
if len(sys.argv) > 1:
    write("gguf.json", embedded(sys.argv[1]))
