//! Reasoning apart from the answer, thinking budgets, samples that end with their answer or in a
//! loop: over scripted texts, and over tiny models that write a fixed text.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candor::internals::consensus::announces_answer;
use candor::internals::engine::mock::MockEngine;
use candor::internals::engine::{
    self, Engine, EngineOptions, LocalEngine, LoopDetector, Reply, Request, StepControl,
};
use candor::internals::format::dtype::Dtype;
use candor::internals::format::gguf::Gguf;
use candor::internals::generation::{
    Completion, DrawMode, FinishReason, Generation, SamplingParams, Token, TokenStats,
};
use candor::internals::model::{LoadOptions, Model, WeightSource};
use candor::internals::pipeline::Sample;
use candor::internals::prompt::{
    Markers, Prompt, PromptFormat, PromptOptions, Reasoning, TemplateArguments, ThinkingMode,
};
use candor::internals::tokenizer::Tokenizer;
use candor::internals::uncertainty::{Evidence, estimator};
use candor::{Message, Pipeline, Settings, Vote};
use serde_json::{Value, json};

use crate::eval::loaded;
use crate::support::tiny::Recipe;

/// The test vocabulary with these tokens more (their texts, and whether they are control tokens),
/// and without its own `<think>`.
fn tokenizer(more: &[&str], special: bool, template: Option<&str>) -> Arc<Tokenizer> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/prompt/tokenizer.json");
    let mut file: Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    let added = file["added_tokens"].as_array_mut().unwrap();
    added.retain(|token| token["id"].as_u64().unwrap() < 458);
    for (id, text) in (458..).zip(more) {
        added.push(json!({"id": id, "content": text, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": special}));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, file.to_string()).unwrap();
    let mut config = json!({"eos_token": "<|im_end|>"});
    if let Some(template) = template {
        config["chat_template"] = template.into();
    }
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Arc::new(Tokenizer::from_file(&path).unwrap())
}

/// A completion of this text after a prompt.
fn completion(tokenizer: &Arc<Tokenizer>, reasoning: Option<Reasoning>, text: &str) -> Completion {
    let text = text.to_owned();
    let mut engine = MockEngine::new(tokenizer.clone(), move |_, _| Ok(text.clone()));
    let prompt = Prompt { reasoning, ..Prompt::from_tokens(vec![1]) };
    let (params, samples) = (SamplingParams::default(), 0..1);
    let request = Request::Sample { prompt, params, samples, hold: None };
    match engine::run(&mut engine, request, &mut |_| StepControl::Continue).unwrap() {
        Reply::Samples(generation) => generation.completions.into_iter().next().unwrap(),
        Reply::Score(_) => panic!("samples"),
    }
}

/// What tokens stand for, control tokens written out.
fn spelled(tokenizer: &Tokenizer, tokens: &[Token]) -> String {
    let bytes = |token: &Token| {
        let name = tokenizer.token(token.id).unwrap().as_bytes();
        let special = tokenizer.is_special(token.id);
        if special { name.to_vec() } else { tokenizer.token_bytes(token.id).into_owned() }
    };
    String::from_utf8(tokens.iter().flat_map(bytes).collect()).unwrap()
}

const PAIRS: [(&str, &str); 8] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
];

/// (text with `(` and `)` for the markers, prefilled, reasoning, answer); no reasoning is `None`.
const TEXTS: [(&str, bool, Option<&str>, &str); 13] = [
    ("(Maybe Lyon.)Paris", false, Some("Maybe Lyon."), "Paris"),
    ("(\nMaybe Lyon.\n)\n\nParis", false, Some("\nMaybe Lyon.\n"), "\n\nParis"),
    ("Maybe Lyon.)Paris", true, Some("Maybe Lyon."), "Paris"),
    // Never closed.
    ("(Maybe Lyon", false, Some("Maybe Lyon"), ""),
    ("Maybe Lyon", true, Some("Maybe Lyon"), ""),
    ("(", false, Some(""), ""),
    // No reasoning.
    ("Paris", false, None, "Paris"),
    ("", false, None, ""),
    // Something before it.
    ("Okay.\n(Maybe Lyon)Paris", false, Some("Maybe Lyon"), "Paris"),
    // A closing marker alone closes what came before it, once.
    ("Maybe Lyon.)Paris", false, Some("Maybe Lyon."), "Paris"),
    ("()Paris", false, Some(""), "Paris"),
    // The last one counts.
    ("(Lyon?)No. (Nice?)Paris", false, Some("Lyon?)No. (Nice?"), "Paris"),
    ("(é)日本", false, Some("é"), "日本"),
];

#[test]
fn reasoning_and_answer_come_apart_at_every_published_marker() {
    for (open, close) in PAIRS {
        let channels = ["<|channel|>", "<|message|>", "<|start|>", "<|end|>"];
        let vocabularies: [(&str, &[&str], bool); 4] = [
            ("control tokens", &[open, close], true),
            ("plain tokens", &[open, close], false),
            ("several tokens", &[], false),
            ("several tokens, some of them control tokens", &channels, true),
        ];
        for (what, more, special) in vocabularies {
            let tokenizer = tokenizer(more, special, None);
            let markers = Arc::new(Markers::new(&tokenizer, open, close).unwrap());
            for (text, prefilled, reasoning, answer) in TEXTS {
                let text = text.replace('(', "\u{1}").replace(')', "\u{2}");
                let text = text.replace('\u{1}', open).replace('\u{2}', close);
                let reasoning = reasoning.map(|text| text.replace(')', close).replace('(', open));
                let what = format!("{open} as {what}: {text:?}, prefilled {prefilled}");
                let state = Reasoning { markers: markers.clone(), open: prefilled };
                let found = completion(&tokenizer, Some(state), &text);
                let tokens = found.spans.as_ref().map(|spans| {
                    assert_eq!(spans.is_open(), answer.is_empty(), "{what} {spans:?}");
                    spelled(&tokenizer, &found.tokens[spans.answer.clone()])
                });
                assert_eq!(found.answer_text(), answer, "{what} {:?}", found.spans);
                assert!(tokens.is_none_or(|tokens| tokens == answer), "{what}");
                let own =
                    found.spans.as_ref().map(|_| spelled(&tokenizer, found.reasoning_tokens()));
                assert_eq!(own, reasoning, "{what}");
            }
        }
    }
}

#[test]
fn a_marker_may_begin_and_end_within_a_token() {
    // Two tokens hold the closing marker together with the end of one text and the start of
    // another.
    let tokenizer = tokenizer(&["n.</thi", "nk>Par"], false, None);
    let markers = Arc::new(Markers::new(&tokenizer, "<think>", "</think>").unwrap());
    assert_eq!(markers.close.token, None);
    let reasoning = Reasoning { markers, open: true };
    let found = completion(&tokenizer, Some(reasoning), "Maybe Lyon.</think>Paris");
    assert_eq!(found.answer_text(), "Paris");
    let spans = found.spans.unwrap();
    assert_eq!(spelled(&tokenizer, &found.tokens[spans.answer]), "is");
    assert_eq!(spelled(&tokenizer, &found.tokens[spans.reasoning]), "Maybe Lyo");
}

#[test]
fn text_that_spells_a_token_is_no_marker() {
    let tokenizer = tokenizer(&["<think>", "</think>"], true, None);
    let ids = tokenizer.encode("<think>a</think>b").unwrap();
    assert!(ids.iter().all(|id| !tokenizer.is_special(*id)));
    let close = tokenizer.id("</think>").unwrap();
    // The model that always writes the same token: the text as scripted, in tokens of its own.
    let markers = Markers::find(&tokenizer, None).unwrap();
    assert_eq!((markers.close.token, markers.close_tokens), (Some(close), vec![close]));
}

#[test]
fn the_markers_are_those_of_vocabulary_and_template() {
    let check = |more: &[&str], template: Option<&str>, expected: Option<&str>| {
        let tokenizer = tokenizer(more, true, None);
        let found = Markers::find(&tokenizer, template);
        assert_eq!(found.as_ref().map(|m| m.open.text.as_str()), expected, "{more:?} {template:?}");
    };
    check(&[], None, None);
    check(&[], Some("{{ messages[0].content }}"), None);
    check(&["<think>", "</think>"], None, Some("<think>"));
    check(&["[THINK]", "[/THINK]"], Some("a template that splits at </think>"), Some("[THINK]"));
    check(&["<think>"], None, None);
    check(&[], Some("{{ content.split('</think>')[-1] }}"), Some("<think>"));
    check(&[], Some("{{ '<|start|>assistant<|channel|>analysis<|message|>' }}"), Some(PAIRS[5].0));
    check(&[], Some("{{ '<thinking>' }}"), Some("<thinking>"));
}

/// (template's end, `enable_thinking`, whether the prompt leaves the reasoning open, whether the
/// model thinks, notes). One for each way in which published templates end a prompt.
#[test]
fn a_prompt_knows_whether_it_opens_the_reasoning() {
    let check = |end: &str, on: Option<bool>, open: bool, thinks: bool, notes: usize| {
        let template = format!(
            "{{% for message in messages %}}{{{{ message['content'] }}}}<|im_end|>{{% endfor %}}\
             <|im_start|>assistant\n{end}"
        );
        let tokenizer = tokenizer(&["<think>", "</think>"], false, Some(&template));
        let arguments = TemplateArguments { enable_thinking: on, reasoning_effort: None };
        let options = PromptOptions { arguments, ..PromptOptions::default() };
        let format = PromptFormat::new(tokenizer, options).unwrap();
        // What a user writes opens nothing.
        let prompt = format.render(&[Message::user("x <think>")]).unwrap();
        let what = format!("{end:?} {on:?} {:?}", prompt.notes);
        assert_eq!(prompt.reasoning.as_ref().map(|r| r.open), Some(open), "{what}");
        assert_eq!(format.thinks(), thinks, "{what}");
        assert_eq!(prompt.notes.len(), notes, "{what}");
    };
    // Qwen3: thinks unless told otherwise, then with an empty block.
    let qwen3 = "{% if enable_thinking is defined and enable_thinking is false %}\
                 {{ '<think>\n\n</think>\n\n' }}{% endif %}";
    check(qwen3, None, false, true, 0);
    check(qwen3, Some(true), false, true, 0);
    check(qwen3, Some(false), false, false, 0);
    // DeepSeek-R1, QwQ, Qwen3-Thinking: always open it.
    check("<think>\n", None, true, true, 0);
    check("<think>\n", Some(true), true, true, 0);
    check("<think>\n", Some(false), true, true, 1);
    // DeepSeek-V3.1: opens it or closes it at once, by another name of the switch.
    let deepseek = "{% if thinking %}{{ '<think>' }}{% else %}{{ '</think>' }}{% endif %}";
    check(deepseek, None, false, false, 0);
    check(deepseek, Some(true), true, true, 0);
    check(deepseek, Some(false), false, false, 0);
    // Magistral, gpt-oss: the model opens it itself, without a switch.
    check("", None, false, false, 0);
    check("", Some(true), false, true, 1);
    check("", Some(false), false, false, 1);
}

#[test]
fn a_begun_answer_goes_on_where_it_is() {
    let template = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n\
                    {{ message['content'] }}<|im_end|>{% endfor %}";
    let tokenizer = tokenizer(&["<think>", "</think>"], false, Some(template));
    let format = PromptFormat::new(tokenizer, PromptOptions::default()).unwrap();
    let check = |begun: &str, open: bool| {
        let begun = Message::new(candor::internals::generation::Role::Assistant, begun);
        let prompt = format.render(&[Message::user("Hi"), begun]).unwrap();
        assert_eq!(prompt.reasoning.unwrap().open, open, "{}", prompt.text);
    };
    check("<think>Maybe", true);
    check("<think>Maybe</think>Par", false);
    check("Par", false);
}

/// A model that writes a fixed text: token c of a chain is followed by the next one. `sharpness` 1
/// leaves no doubt, 0.25 some.
fn chain(text: &str, sharpness: f32) -> (WeightSource, Arc<Tokenizer>) {
    let recipe = Recipe::load("llama");
    let mut writer = recipe.writer(Dtype::F32);
    let hidden = 64;
    let embedding: Vec<f32> = recipe
        .weights()
        .into_iter()
        .find(|weight| weight.gguf_name == "token_embd.weight")
        .unwrap()
        .values;
    let mut head = vec![0.0_f32; embedding.len()];
    for pair in text.as_bytes().windows(2) {
        let (from, to) = (usize::from(pair[0]), usize::from(pair[1]));
        for i in 0..hidden {
            head[to * hidden + i] += sharpness * embedding[from * hidden + i];
        }
    }
    for tensor in &mut writer.tensors {
        let name = String::from_utf8(tensor.name.clone()).unwrap();
        if name.ends_with("attn_output.weight") || name.ends_with("ffn_down.weight") {
            tensor.bytes.fill(0);
        }
        if name == "output.weight" {
            tensor.bytes = head.iter().flat_map(|value| value.to_le_bytes()).collect();
        }
    }
    let source = WeightSource::Gguf(Gguf::from_bytes("chain", writer.bytes()).unwrap());
    let WeightSource::Gguf(gguf) = &source else { panic!("a GGUF file") };
    let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.metadata()).unwrap());
    (source, tokenizer)
}

fn engine(
    source: &WeightSource,
    tokenizer: &Arc<Tokenizer>,
    eager: bool,
    threads: usize,
) -> LocalEngine {
    let options = LoadOptions { threads: Some(threads), ..LoadOptions::default() };
    let model = Arc::new(Model::load(source, options).unwrap());
    let options = EngineOptions { eager_forking: eager, ..EngineOptions::default() };
    LocalEngine::new(model, tokenizer.clone(), options).unwrap()
}

fn generate(engine: &mut LocalEngine, prompt: &Prompt, params: &SamplingParams) -> Vec<Completion> {
    engine.generate(prompt.clone(), params.clone()).unwrap().completions
}

fn ids(completion: &Completion) -> Vec<u32> {
    completion.tokens.iter().map(|token| token.id).collect()
}

#[test]
fn a_budget_ends_the_reasoning_and_changes_nothing_before_it() {
    // One token, and eight.
    for (open, close) in [("<unused0>", "<unused1>"), ("<think>", "</think>")] {
        let (source, tokenizer) = chain("abcdefghij", 0.15);
        let markers = Arc::new(Markers::new(&tokenizer, open, close).unwrap());
        let forced = markers.close_tokens.clone();
        for (budget, draw) in
            [(0, DrawMode::Independent), (5, DrawMode::Independent), (5, DrawMode::Stratified)]
        {
            let params = |n| SamplingParams {
                n,
                draw,
                seed: 3,
                max_tokens: 24,
                thinking_budget: Some(budget),
                ..SamplingParams::default()
            };
            let reasoning = Some(Reasoning { markers: markers.clone(), open: true });
            let prompt = Prompt { reasoning, ..Prompt::from_tokens(vec![120, 97]) };
            let all = generate(&mut engine(&source, &tokenizer, false, 1), &prompt, &params(8));
            let free = SamplingParams { thinking_budget: None, ..params(8) };
            let free = generate(&mut engine(&source, &tokenizer, false, 1), &prompt, &free);
            for (own, free) in all.iter().zip(&free) {
                let what = format!("{close} after {budget}, sample {}", own.index);
                // A sample may close its reasoning itself, or end within it.
                if own.tokens.len() <= budget + forced.len() {
                    continue;
                }
                assert_eq!(own.tokens[..budget], free.tokens[..budget], "{what}");
                let end = budget + forced.len();
                assert_eq!(ids(own)[budget..end], forced, "{what}");
                let spans = own.spans.as_ref().unwrap();
                assert_eq!(
                    (spans.reasoning.clone(), spans.answer.start),
                    (0..budget, end),
                    "{what}"
                );
                // Forced, but with the statistics of the model's own distribution.
                for token in &own.tokens[budget..end] {
                    assert!(token.stats.sampling_logprob == 0.0, "{what}");
                    assert!(token.stats.logprob < -0.1 && token.stats.entropy > 0.0, "{what}");
                }
            }
            let cut = all.iter().filter(|own| own.tokens.len() > budget + forced.len()).count();
            assert!(cut >= 6, "{cut} of 8 samples use up the budget");
            for (n, eager, threads) in [(1, false, 1), (8, true, 1), (8, false, 3)] {
                let got =
                    generate(&mut engine(&source, &tokenizer, eager, threads), &prompt, &params(n));
                assert_eq!(got, all[..n], "{close}: n = {n}, eager {eager}, {threads} threads");
            }
        }
    }
}

/// Under a budget of memory that holds one request in the worst case, the others lose their cache
/// and force the same tokens again.
#[test]
fn a_budget_survives_preemption() {
    let (source, tokenizer) = chain("abcdefghij", 0.15);
    let model = Arc::new(Model::load(&source, LoadOptions::default()).unwrap());
    let markers = Arc::new(Markers::new(&tokenizer, "<think>", "</think>").unwrap());
    let params = SamplingParams {
        n: 4,
        max_tokens: 20,
        thinking_budget: Some(4),
        ignore_eos: true,
        ..SamplingParams::default()
    };
    let worst = (3 + 4 * 20) * model.kv_bytes_per_token();
    let new = |kv_budget_bytes, prefix_cache_bytes| {
        let options =
            EngineOptions { kv_budget_bytes, prefix_cache_bytes, ..EngineOptions::default() };
        LocalEngine::new(model.clone(), tokenizer.clone(), options).unwrap()
    };
    let prompt = |first: u32| {
        let reasoning = Some(Reasoning { markers: markers.clone(), open: true });
        Prompt { reasoning, ..Prompt::from_tokens(vec![first, 98, 97]) }
    };
    let mut poor = new(worst + 1, 0);
    for first in 0..4 {
        let request = Request::Sample {
            prompt: prompt(first),
            params: params.clone(),
            samples: 0..4,
            hold: None,
        };
        poor.submit(request).unwrap();
    }
    let (mut replies, mut steps) = (Vec::new(), 0);
    while replies.len() < 4 {
        replies.extend(poor.step(&mut |_| StepControl::Continue).unwrap());
        steps += 1;
    }
    assert!(steps > 20, "all fitted at once");
    replies.sort_by_key(|(id, _)| *id);
    for (first, (_, reply)) in (0..).zip(replies) {
        let Reply::Samples(found) = reply.unwrap() else { panic!("samples") };
        let alone = generate(&mut new(1 << 30, 0), &prompt(first), &params);
        assert_eq!(found.completions, alone, "request {first}");
    }
}

#[test]
fn a_budget_that_leaves_no_answer_is_refused() {
    let params =
        SamplingParams { max_tokens: 64, thinking_budget: Some(64), ..SamplingParams::default() };
    let error = params.validate().unwrap_err().to_string();
    assert!(error.contains("thinking_budget is 64 and max_tokens is 64"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let mut settings = Settings::for_model(&loaded);
    settings.set_thinking(ThinkingMode::Budget(8));
    let engine = MockEngine::new(loaded.tokenizer.clone(), |_, _| Ok(String::new()));
    let error = Pipeline::with_engine(&loaded, settings, Box::new(engine)).err().unwrap();
    assert!(
        error.is_usage() && error.to_string().contains("has markers around reasoning"),
        "{error}"
    );
    for (text, mode) in [
        ("on", Some(ThinkingMode::On)),
        ("off", Some(ThinkingMode::Off)),
        ("512", Some(ThinkingMode::Budget(512))),
        ("-1", None),
        ("fast", None),
    ] {
        assert_eq!(text.parse::<ThinkingMode>().ok(), mode, "{text}");
    }
}

/// A template that opens the reasoning.
const OPENS: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n\
                     {{ message['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>\n";

/// What a pipeline over these samples answers, and the prompts that the model was given.
fn ask(texts: &'static [&'static str], reply: &'static str) -> (candor::Outcome, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let mut loaded = loaded(folder.path());
    loaded.tokenizer = tokenizer(&["<think>", "</think>"], false, Some(OPENS));
    let engine = MockEngine::new(loaded.tokenizer.clone(), move |prompt, sample| {
        let asked = prompt.ends_with("Final answer:");
        Ok(if asked { reply } else { texts[sample % texts.len()] }.to_owned())
    });
    let log = engine.log.clone();
    let mut settings = Settings::for_model(&loaded);
    settings.params.n = texts.len();
    let mut pipeline = Pipeline::with_engine(&loaded, settings, Box::new(engine)).unwrap();
    let outcome = pipeline.answer(&[Message::user("What is the capital of France?")]).unwrap();
    let prompts = log.borrow().prompts.clone();
    (outcome, prompts)
}

#[test]
fn the_reasoning_does_not_vote() {
    let (outcome, _) = ask(
        &[
            "The answer is Lyon. Or not.</think>The answer is Paris.",
            "The answer is Nice. Hm.</think>The answer is Paris.",
        ],
        "Lyon",
    );
    assert_eq!(outcome.answer.as_deref(), Some("Paris"), "{:?}", outcome.vote);
    assert!((outcome.vote.share() - 1.0).abs() < 1e-9);
}

#[test]
fn reasoning_without_end_is_closed_before_the_answer_is_asked_for() {
    let (outcome, prompts) = ask(&["Maybe Lyon", "Maybe Nice"], " Paris");
    assert_eq!(outcome.answer.as_deref(), Some("Paris"), "{prompts:?}");
    let asked: Vec<&String> = prompts.iter().filter(|p| p.ends_with("Final answer:")).collect();
    assert!(!asked.is_empty());
    for prompt in asked {
        assert!(prompt.ends_with("</think>\n\nFinal answer:"), "{prompt:?}");
        assert_eq!(prompt.matches("</think>").count(), 1, "{prompt:?}");
    }
    let sample = &outcome.samples[0];
    assert!(sample.spans.as_ref().unwrap().is_open());
}

#[test]
fn thinking_is_left_out_where_the_answer_is_sure_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut loaded = loaded(folder.path());
    let run = |loaded: &candor::LoadedModel, strategy: &str| {
        let engine = MockEngine::new(loaded.tokenizer.clone(), |prompt, _| {
            let at_once = prompt.ends_with("</think>\n\n");
            Ok(if at_once { "The answer is 5." } else { "Hm.</think>The answer is 7." }.to_owned())
        });
        let mut settings = Settings::for_model(loaded);
        settings.strategy = strategy.parse().unwrap();
        settings.params.n = 3;
        let mut pipeline = Pipeline::with_engine(loaded, settings, Box::new(engine)).unwrap();
        pipeline.answer(&[Message::user("How many?")])
    };
    let error = run(&loaded, "think-if-unsure").unwrap_err().to_string();
    assert!(error.contains("needs a model that thinks"), "{error}");
    loaded.tokenizer = tokenizer(&["<think>", "</think>"], false, Some(OPENS));
    // One token, which the mock draws with probability 0.9.
    let sure = run(&loaded, "think-if-unsure:min_probability=0.5").unwrap();
    assert_eq!((sure.answer.as_deref(), sure.samples.len()), (Some("5"), 1));
    let unsure = run(&loaded, "think-if-unsure:min_probability=1").unwrap();
    assert_eq!((unsure.answer.as_deref(), unsure.samples.len()), (Some("7"), 3));
}

#[test]
fn spans_survive_the_record() {
    let (outcome, _) = ask(&["Maybe Lyon</think>Paris"], "");
    let sample = &outcome.samples[0];
    let text = serde_json::to_string(sample).unwrap();
    let read: Sample = serde_json::from_str(&text).unwrap();
    assert_eq!(&read, sample);
    assert_eq!(read.completion().answer_text(), "Paris");
    assert_eq!(read.completion().spans, sample.spans);
    // Ranges of a file may be anything.
    let mut hostile = read.completion();
    let spans = hostile.spans.as_mut().unwrap();
    (spans.answer, spans.text_start) = (1_000..2_000, 1_000);
    spans.reasoning = Range { start: 7, end: 3 };
    assert!(hostile.answer_text().is_empty() && hostile.tokens_after_reasoning().is_empty());
    assert!(hostile.reasoning_tokens().is_empty());
    let plain = Sample { spans: None, ..sample.clone() };
    assert!(!serde_json::to_string(&plain).unwrap().contains("spans"));
}

#[test]
fn token_statistics_are_those_of_the_answer() {
    let token = |entropy| Token {
        id: 7,
        stats: TokenStats { entropy, ..TokenStats::default() },
        top_logprobs: Vec::new(),
    };
    let (whole, _) = ask(&["Maybe Lyon</think>Paris"], "");
    let spans = whole.samples[0].spans.clone();
    let count = whole.samples[0].tokens.len();
    let answer = spans.as_ref().unwrap().answer.start;
    let tokens = (0..count).map(|at| token(if at < answer { 2.0 } else { 0.5 })).collect();
    let text = "Maybe Lyon</think>Paris".to_owned();
    let completion = Completion { tokens, text, spans, ..Completion::default() };
    let generation = Generation { completions: vec![completion], ..Generation::default() };
    let vote: Vote = whole.vote.clone();
    let score = |name: &str, generation: &Generation| {
        estimator(name).unwrap().score(&Evidence { generation, vote: &vote })
    };
    for name in ["mean_token_entropy", "max_token_entropy"] {
        assert_eq!(score(name, &generation), Some(0.5), "{name}");
    }
    let mut unseparated = generation.clone();
    unseparated.completions[0].spans = None;
    assert_eq!(score("max_token_entropy", &unseparated), Some(2.0));
}

#[test]
fn an_announced_answer_is_complete_at_the_end_of_its_line() {
    // The text up to `|` does not announce; with what follows, it does.
    let check = |text: &str| {
        let (head, rest) = text.split_once('|').unwrap();
        let whole = format!("{head}{rest}");
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            assert!(!announces_answer(&whole[..end], 0), "{:?}", &whole[..end]);
        }
        assert!(announces_answer(&whole, head.len()), "{whole:?}");
    };
    check("2 + 2 is 4.\nThe answer is 4.|\n");
    check("So the answer is 18 dollars, I believe|\n");
    check("#### 18|\n");
    check("Answer:\n\nParis|\n");
    check("The answer is $\\boxed{5}$|\n");
    check("We get \\boxed{\\frac{1}{2}}|\n");
    check("The answer is 12.| ");
    check("The answer is Washington.| ");
    let never = |text: &str| {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(!announces_answer(&text[..end], 0), "{:?}", &text[..end]);
        }
    };
    never("Paris is the capital.\nIt is large.\n");
    never("The answer is Dr. J. K. Rowling of St. ");
    never("The answer is 3.5");
    never("Answer:\n1. Paris\n2. Lyon\n");
    never("The answer is:\n- red\n- green\n");
    never("The final answer:\n\n");
    never("The answer is that all four large moons of Jupiter were seen by Galileo in 1610.\n");
    never("\\boxed{1\n");
}

#[test]
fn a_sample_that_ends_with_its_answer_is_a_prefix_of_the_whole_sample() {
    let (source, tokenizer) = chain("xanswer: 7\nbcdfghijk", 0.2);
    let prompt = Prompt::from_tokens(vec![120]);
    let params = |n, stop_at_answer| SamplingParams {
        n,
        max_tokens: 40,
        stop_at_answer,
        ..SamplingParams::default()
    };
    let whole = generate(&mut engine(&source, &tokenizer, false, 1), &prompt, &params(8, false));
    let stopped = generate(&mut engine(&source, &tokenizer, false, 1), &prompt, &params(8, true));
    let mut shorter = 0;
    for (whole, stopped) in whole.iter().zip(&stopped) {
        let what = format!("{:?} of {:?}", stopped.text, whole.text);
        assert_eq!(stopped.tokens, whole.tokens[..stopped.tokens.len()], "{what}");
        if stopped.tokens.len() < whole.tokens.len() {
            shorter += 1;
            assert_eq!(stopped.finish_reason, FinishReason::Stop, "{what}");
            assert!(stopped.text.ends_with('\n') && stopped.text.contains("swer: "), "{what}");
        }
    }
    assert!(shorter >= 2, "{shorter} of 8 samples announce an answer");
    for (n, eager, threads) in [(1, false, 1), (8, true, 3)] {
        let got =
            generate(&mut engine(&source, &tokenizer, eager, threads), &prompt, &params(n, true));
        assert_eq!(got, stopped[..n]);
    }
}

#[test]
fn an_answer_within_the_reasoning_ends_nothing() {
    let (source, tokenizer) = chain("xanswer: 7\nbcdfghijk", 1.0);
    let markers = Arc::new(Markers::new(&tokenizer, "<unused0>", "<unused1>").unwrap());
    let reasoning = Some(Reasoning { markers, open: true });
    let params = SamplingParams {
        max_tokens: 16,
        stop_at_answer: true,
        temperature: 0.0,
        ..SamplingParams::default()
    };
    let plain = Prompt::from_tokens(vec![120]);
    let open = Prompt { reasoning, ..plain.clone() };
    let mut engine = engine(&source, &tokenizer, false, 1);
    assert_eq!(generate(&mut engine, &plain, &params)[0].text, "answer: 7\n");
    assert_eq!(generate(&mut engine, &open, &params)[0].text, "answer: 7\nbcdfgh");
}

#[test]
fn loops_end_a_sample() {
    let (source, tokenizer) = chain("xabcda", 1.0);
    let prompt = Prompt::from_tokens(vec![120]);
    let params =
        SamplingParams { n: 3, max_tokens: 100, temperature: 0.5, ..SamplingParams::default() };
    let ended = generate(&mut engine(&source, &tokenizer, false, 1), &prompt, &params);
    for completion in &ended {
        assert_eq!(completion.finish_reason, FinishReason::Loop);
        assert_eq!(completion.text, "abcd".repeat(16));
    }
    let eager = generate(&mut engine(&source, &tokenizer, true, 2), &prompt, &params);
    assert_eq!(eager, ended);
    let fixed = SamplingParams { ignore_eos: true, ..params };
    let whole = generate(&mut engine(&source, &tokenizer, false, 1), &prompt, &fixed);
    assert!(whole.iter().all(|c| (c.finish_reason, c.tokens.len()) == (FinishReason::Length, 100)));
    assert_eq!(whole[0].tokens[..64], ended[0].tokens);
    assert_eq!(serde_json::to_string(&FinishReason::Loop).unwrap(), "\"loop\"");
}

#[test]
fn a_loop_is_a_short_sequence_many_times() {
    let check = |unit: &[u32], tokens: usize, expected: Option<(usize, usize)>| {
        let ids: Vec<u32> =
            [900, 901, 902].into_iter().chain(unit.iter().copied().cycle().take(tokens)).collect();
        let found = LoopDetector::find(&ids).map(|repeat| (repeat.period, repeat.tokens));
        assert_eq!(found, expected, "{} tokens, {tokens} in all", unit.len());
    };
    let unit: Vec<u32> = (0..40).collect();
    check(&unit[..1], 63, None);
    check(&unit[..1], 64, Some((1, 64)));
    check(&unit[..5], 66, Some((5, 66)));
    check(&unit[..12], 63, None);
    check(&unit[..12], 64, Some((12, 64)));
    check(&unit[..32], 127, None);
    check(&unit[..32], 128, Some((32, 128)));
    check(&unit[..33], 400, None);
    // The shortest period counts.
    check(&[1, 2, 1, 2], 70, Some((2, 70)));
    // A sequence that once differs is none.
    let mut ids: Vec<u32> = [1, 2, 3].repeat(40);
    ids[60] = 9;
    assert_eq!(LoopDetector::find(&ids), None);
    assert_eq!(LoopDetector::find(&[]), None);
}

#[test]
fn samples_in_a_loop_are_counted_apart_and_asked() {
    let stub = |finish_reason, text: &str| Completion {
        finish_reason,
        text: text.to_owned(),
        ..Completion::default()
    };
    let generation = Generation {
        completions: vec![stub(FinishReason::Loop, "a b a b"), stub(FinishReason::Length, "a")],
        ..Generation::default()
    };
    let reader = candor::internals::consensus::Reader::default();
    let question = candor::internals::consensus::AskedQuestion::default();
    let vote = candor::internals::consensus::vote(&question, &generation, &reader);
    assert_eq!((vote.loops, vote.truncated, vote.unparsed, vote.samples()), (1, 1, 0, 2));
    assert_eq!(candor::internals::consensus::unstated(&question, &generation, &reader), [0, 1]);
    let json = serde_json::to_value(&vote).unwrap();
    assert_eq!(json["loops"], 1);
}
