//! The engine's promise, bit for bit: sample i depends only on (model, prompt, parameters, seed,
//! i).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candor::Result;
use candor::internals::engine::{
    self, Alternatives, CacheHold, Engine, EngineOptions, LocalEngine, Reply, Request, RequestId,
    StepControl,
};
use candor::internals::format::dtype::Dtype;
use candor::internals::format::gguf::Gguf;
use candor::internals::generation::FinishReason::{self, Cancelled, Length, Stop};
use candor::internals::generation::{Completion, DrawMode, SamplingParams, Token};
use candor::internals::model::{LoadOptions, Model, Row, WeightSource};
use candor::internals::prompt::Prompt;
use candor::internals::tokenizer::Tokenizer;

use crate::support::models;
use crate::support::tiny::Recipe;

/// A model that tests run on, and prompts for it.
struct Subject {
    name: String,
    source: WeightSource,
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    prompts: Vec<Vec<u32>>,
}

impl Subject {
    fn tiny(family: &str, dtype: Dtype) -> Self {
        let source =
            WeightSource::Gguf(Gguf::from_bytes("tiny", Recipe::load(family).gguf(dtype)).unwrap());
        let prompts = ["The quick brown fox", "The quick red fox jumps over", "x"]
            .map(|text| text.bytes().map(u32::from).collect());
        Self::new(format!("{family} {}", dtype.name()), source, prompts.to_vec())
    }

    fn new(name: String, source: WeightSource, prompts: Vec<Vec<u32>>) -> Self {
        let WeightSource::Gguf(gguf) = &source else { panic!("tests use GGUF") };
        let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.metadata()).unwrap());
        let model = Arc::new(Model::load(&source, LoadOptions::default()).unwrap());
        Self { name, source, model, tokenizer, prompts }
    }

    /// The same on a number of threads of its own.
    fn on_threads(&self, threads: usize) -> LocalEngine {
        let options = LoadOptions { threads: Some(threads), ..LoadOptions::default() };
        let model = Arc::new(Model::load(&self.source, options).unwrap());
        LocalEngine::new(model, self.tokenizer.clone(), EngineOptions::default()).unwrap()
    }

    /// The three real models, where they are at hand: between them every block type that candle
    /// multiplies in a way of its own.
    fn real() -> impl Iterator<Item = Self> {
        let files = [
            "smollm2-135m-instruct.Q4_1.gguf",
            "qwen2.5-coder-0.5b-instruct.Q4_K_M.gguf",
            "gemma-3-270m.Q4_K_M.gguf",
        ];
        models()
            .into_iter()
            .flat_map(move |folder| files.map(|file| Self::open(file, &folder.join(file))))
    }

    fn open(name: &str, path: &Path) -> Self {
        let source = WeightSource::open(path).unwrap();
        let WeightSource::Gguf(gguf) = &source else { panic!("a GGUF file") };
        let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
        let chat = |text: &str| match tokenizer.chat_template() {
            Some(_) => tokenizer
                .encode_with_specials(&format!(
                    "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
                ))
                .unwrap(),
            None => tokenizer.encode(&format!("A question and its answer.\n{text}\n")).unwrap(),
        };
        let prompts =
            ["What is the capital of France?", "What is the capital of Peru? One word.", "Hi"]
                .map(chat);
        Self::new(name.into(), source, prompts.to_vec())
    }

    /// All families small, in float and in two quantizations, and the real models where they are at
    /// hand.
    fn all() -> impl Iterator<Item = Self> {
        let tiny = Recipe::ALL
            .into_iter()
            .flat_map(|family| [Dtype::F32, Dtype::Q8_0, Dtype::Q4_0].map(|dtype| (family, dtype)));
        tiny.map(|(family, dtype)| Self::tiny(family, dtype)).chain(Self::real())
    }

    fn engine(&self, options: EngineOptions) -> LocalEngine {
        LocalEngine::new(self.model.clone(), self.tokenizer.clone(), options).unwrap()
    }
}

fn params(n: usize) -> SamplingParams {
    SamplingParams {
        n,
        temperature: 0.7,
        top_p: 0.9,
        seed: 7,
        max_tokens: 12,
        ..SamplingParams::default()
    }
}

fn generate(engine: &mut LocalEngine, prompt: &[u32], params: SamplingParams) -> Vec<Completion> {
    engine.generate(Prompt::from_tokens(prompt.to_vec()), params).unwrap().completions
}

#[test]
fn a_sample_is_the_same_in_any_company() {
    for subject in Subject::all() {
        for draw in [DrawMode::Independent, DrawMode::Stratified] {
            let params = |n| SamplingParams { draw, ..params(n) };
            let prompt = &subject.prompts[0];
            let reference =
                generate(&mut subject.engine(EngineOptions::default()), prompt, params(16));
            let check = |what: &str, got: &[Completion]| {
                assert_eq!(got, &reference[..got.len()], "{} {draw:?}: {what}", subject.name);
            };
            for n in [1, 4] {
                check(
                    &format!("n = {n}"),
                    &generate(&mut subject.engine(EngineOptions::default()), prompt, params(n)),
                );
            }
            let eager = EngineOptions { eager_forking: true, ..EngineOptions::default() };
            check(
                "every sample on its own row",
                &generate(&mut subject.engine(eager), prompt, params(16)),
            );
            for chunk in [1, 3] {
                let chunked = EngineOptions { max_batch_tokens: chunk, ..EngineOptions::default() };
                check(
                    &format!("prefill in chunks of {chunk}"),
                    &generate(&mut subject.engine(chunked), prompt, params(4)),
                );
            }
            let mut warm = subject.engine(EngineOptions::default());
            generate(&mut warm, &subject.prompts[1], params(2));
            let hit = warm.generate(Prompt::from_tokens(prompt.clone()), params(4)).unwrap();
            assert!(
                hit.cost.timing.cached_tokens > 0,
                "{}: the prompts share a prefix",
                subject.name
            );
            check("with a prefix from the cache", &hit.completions);
            let again = warm.generate(Prompt::from_tokens(prompt.clone()), params(4)).unwrap();
            assert_eq!(again.cost.timing.cached_tokens, prompt.len() - 1);
            check("with the whole prompt from the cache", &again.completions);
            check("beside other jobs", &beside_others(&subject, &params(4)));
        }
    }
}

#[test]
fn threads_do_not_show() {
    for subject in Subject::all() {
        let reference =
            generate(&mut subject.engine(EngineOptions::default()), &subject.prompts[0], params(8));
        for threads in [1, 2, 3] {
            let got = generate(&mut subject.on_threads(threads), &subject.prompts[0], params(8));
            assert_eq!(got, reference, "{} on {threads} threads", subject.name);
        }
    }
}

fn sample_request(prompt: &[u32], params: &SamplingParams, samples: Range<usize>) -> Request {
    let prompt = Prompt::from_tokens(prompt.to_vec());
    Request::Sample { prompt, params: params.clone(), samples, hold: None }
}

fn score(engine: &mut LocalEngine, prefix: &[u32], continuation: &[u32]) -> Result<Vec<Token>> {
    let (prefix, continuation) = (prefix.to_vec(), continuation.to_vec());
    let request = Request::Score {
        prefix,
        continuation,
        alternatives: Alternatives::MostProbable(0),
        hold: None,
    };
    match engine::run(engine, request, &mut |_| StepControl::Continue)? {
        Reply::Score(scored) => Ok(scored.tokens),
        Reply::Samples(_) => panic!("a score"),
    }
}

/// Steps until `expected` requests have come back; their replies by id.
fn run_all(engine: &mut LocalEngine, expected: usize) -> BTreeMap<RequestId, Result<Reply>> {
    let mut replies = BTreeMap::new();
    while replies.len() < expected {
        replies.extend(engine.step(&mut |_| StepControl::Continue).unwrap());
    }
    replies
}

fn completions(reply: Result<Reply>) -> Vec<Completion> {
    match reply.unwrap() {
        Reply::Samples(generation) => generation.completions,
        Reply::Score(_) => panic!("samples"),
    }
}

/// The first prompt's samples, drawn while other prompts are prefilled and sampled in the same
/// steps.
fn beside_others(subject: &Subject, params: &SamplingParams) -> Vec<Completion> {
    let options =
        EngineOptions { max_batch_tokens: 5, prefix_cache_bytes: 0, ..EngineOptions::default() };
    let mut engine = subject.engine(options);
    let mut submit = |i: usize, n: usize, seed: u64| {
        let params = SamplingParams { seed, ..params.clone() };
        engine.submit(sample_request(&subject.prompts[i], &params, 0..n)).unwrap()
    };
    submit(1, 3, 1);
    let mine = submit(0, params.n, params.seed);
    submit(2, 5, 2);
    completions(run_all(&mut engine, 3).remove(&mine).unwrap())
}

#[test]
fn a_later_wave_continues_the_same_samples() {
    for subject in Subject::all() {
        for draw in [DrawMode::Independent, DrawMode::Stratified] {
            let params = SamplingParams { draw, ..params(8) };
            let prompt = &subject.prompts[0];
            let mut engine = subject.engine(EngineOptions::default());
            let all = generate(&mut engine, prompt, params.clone());
            let mut wave = |samples| {
                let request = sample_request(prompt, &params, samples);
                completions(engine::run(&mut engine, request, &mut |_| StepControl::Continue))
            };
            assert_eq!([wave(0..4), wave(4..8)].concat(), all, "{} {draw:?}", subject.name);
        }
    }
}

/// Runs five requests of four samples under a budget that holds only one in the worst case, so that
/// most lose their cache on the way; and each of them alone.
fn check_losing_the_cache(subject: &Subject, params: &SamplingParams) {
    let longest = subject.prompts.iter().map(Vec::len).max().unwrap();
    let worst = longest + 4 * params.max_tokens;
    let options = EngineOptions {
        kv_budget_bytes: worst * subject.model.kv_bytes_per_token(),
        prefix_cache_bytes: 0,
        ..EngineOptions::default()
    };
    let mut engine = subject.engine(options);
    let requests: Vec<(usize, u64)> = vec![(0, 7), (1, 1), (2, 2), (0, 3), (1, 4)];
    let seeded = |seed| SamplingParams { seed, ..params.clone() };
    let ids: Vec<RequestId> = requests
        .iter()
        .map(|&(i, seed)| {
            engine.submit(sample_request(&subject.prompts[i], &seeded(seed), 0..4)).unwrap()
        })
        .collect();
    // Every token is reported once, in order, also where it was computed twice.
    let mut events: BTreeMap<(RequestId, usize), usize> = BTreeMap::new();
    let (mut replies, mut steps) = (BTreeMap::new(), 0);
    while replies.len() < ids.len() {
        steps += 1;
        let finished = engine.step(&mut |event| {
            let next = events.entry((event.request, event.sample)).or_default();
            assert_eq!(event.step, *next, "{}", subject.name);
            *next += 1;
            StepControl::Continue
        });
        replies.extend(finished.unwrap());
    }
    for (id, (i, seed)) in ids.iter().zip(&requests) {
        let mut alone = subject.engine(EngineOptions::default());
        let expected = alone
            .generate(Prompt::from_tokens(subject.prompts[*i].clone()), seeded(*seed))
            .unwrap();
        let Reply::Samples(found) = replies.remove(id).unwrap().unwrap() else { panic!() };
        assert_eq!(found.completions, expected.completions, "{} prompt {i}", subject.name);
        assert_eq!(found.cost.tokens, expected.cost.tokens, "{} prompt {i}", subject.name);
    }
    assert!(steps > params.max_tokens, "{}: all fitted at once", subject.name);
}

#[test]
fn a_request_that_loses_its_cache_draws_the_same_samples() {
    for subject in Subject::all() {
        let params =
            SamplingParams { repetition_penalty: 1.2, draw: DrawMode::Stratified, ..params(4) };
        check_losing_the_cache(&subject, &params);
    }
}

/// Each step that follows the text or the entropy, strong enough to show within a few tokens.
fn adaptive_steps() -> [(&'static str, SamplingParams); 4] {
    let base = SamplingParams { ignore_eos: true, ..params(16) };
    [
        ("dynatemp", SamplingParams { dynatemp_range: 0.5, ..base.clone() }),
        ("XTC", SamplingParams { xtc_probability: 0.5, xtc_threshold: 0.02, ..base.clone() }),
        ("DRY", SamplingParams { dry_multiplier: 4.0, dry_allowed_length: 0, ..base.clone() }),
        ("Mirostat", SamplingParams { mirostat: 2, mirostat_tau: 2.0, top_p: 1.0, ..base }),
    ]
}

#[test]
fn adaptive_steps_keep_every_sample_in_any_company() {
    for subject in [Subject::tiny("llama", Dtype::F32), Subject::tiny("llama", Dtype::Q4_0)] {
        let prompt = &subject.prompts[0];
        for (name, params) in adaptive_steps() {
            for draw in [DrawMode::Independent, DrawMode::Stratified] {
                let run = |options, n| {
                    let params = SamplingParams { n, draw, ..params.clone() };
                    generate(&mut subject.engine(options), prompt, params)
                };
                let reference = run(EngineOptions::default(), 16);
                let check = |what: &str, got: &[Completion]| {
                    let expected = &reference[..got.len()];
                    assert_eq!(got, expected, "{} {name} {draw:?}: {what}", subject.name);
                };
                let plain = SamplingParams {
                    n: 16,
                    draw,
                    top_p: params.top_p,
                    ignore_eos: true,
                    ..self::params(16)
                };
                let plain = generate(&mut subject.engine(EngineOptions::default()), prompt, plain);
                assert!(plain != reference, "{} {name} {draw:?} does nothing", subject.name);
                check("n = 1", &run(EngineOptions::default(), 1));
                check("n = 5", &run(EngineOptions::default(), 5));
                let eager = EngineOptions { eager_forking: true, ..EngineOptions::default() };
                check("every sample on its own row", &run(eager, 16));
                let four = SamplingParams { n: 4, draw, ..params.clone() };
                check("beside other jobs", &beside_others(&subject, &four));
                let threads = &mut subject.on_threads(3);
                check("on 3 threads", &generate(threads, prompt, four.clone()));
                check_losing_the_cache(&subject, &four);
            }
        }
    }
}

/// The mean surprisal differs from the target by the way that the bound has gone, over the rate and
/// the steps: here at most 10 / (0.5 * 150) bits, since the bound stays between 0 and 10.
#[test]
fn mirostat_reaches_its_target() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let params = SamplingParams {
        mirostat: 2,
        mirostat_eta: 0.5,
        ignore_eos: true,
        max_tokens: 150,
        ..SamplingParams::default()
    };
    for tau in [2.0, 4.0] {
        let params = SamplingParams { mirostat_tau: tau, ..params.clone() };
        let mut engine = subject.engine(EngineOptions::default());
        let drawn = generate(&mut engine, &subject.prompts[0], params).remove(0).tokens;
        let nats: f64 = drawn.iter().map(|token| -token.stats.sampling_logprob).sum();
        let mean = nats / std::f64::consts::LN_2 / drawn.len() as f64;
        assert!(drawn.len() == 150 && (mean - f64::from(tau)).abs() < 0.14, "{tau}: {mean}");
    }
}

/// The tiny tokenizer's tokens are bytes: a newline before the last repeated byte frees it.
#[test]
fn dry_does_not_reach_over_a_line() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let top = |text: &str, dry_multiplier: f32| {
        let params = SamplingParams {
            dry_multiplier,
            max_tokens: 1,
            top_logprobs: 20,
            top_sampled: true,
            ..SamplingParams::default()
        };
        let prompt: Vec<u32> = text.bytes().map(u32::from).collect();
        let mut engine = subject.engine(EngineOptions::default());
        generate(&mut engine, &prompt, params).remove(0).tokens.remove(0).top_logprobs
    };
    let changes = |text: &str| top(text, 50.0) != top(text, 0.0);
    assert!(changes("abcd abc"));
    assert!(!changes("abcd\nc") && !changes("abcd ab\nc") && !changes("ab\nab"));
}

#[test]
fn a_request_waits_for_a_running_prefill_of_its_prefix() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let shared: Vec<u32> = (0..100).map(|i| 97 + i % 26).collect();
    let mut engine = subject.engine(EngineOptions::default());
    for last in 1..=4_u32 {
        let prompt = [&shared[..], &[last]].concat();
        engine.submit(sample_request(&prompt, &params(1), 0..1)).unwrap();
    }
    let cached: Vec<usize> = run_all(&mut engine, 4)
        .into_values()
        .map(|reply| match reply.unwrap() {
            Reply::Samples(generation) => generation.cost.timing.cached_tokens,
            Reply::Score(_) => panic!("samples"),
        })
        .collect();
    assert_eq!(cached, [0, 100, 100, 100]);
}

#[test]
fn what_is_held_costs_only_its_new_tokens() {
    for subject in [Subject::tiny("llama", Dtype::Q8_0), Subject::tiny("gemma3", Dtype::F32)] {
        // Without a prefix cache of its own: what is held stays all the same.
        let options = EngineOptions { prefix_cache_bytes: 0, ..EngineOptions::default() };
        let mut engine = subject.engine(options);
        let (prompt, hold) = (subject.prompts[1].clone(), CacheHold::default());
        let params = SamplingParams { ignore_eos: true, ..params(2) };
        let run = |engine: &mut LocalEngine, prompt: Vec<u32>| {
            let request = Request::Sample {
                prompt: Prompt::from_tokens(prompt),
                params: params.clone(),
                samples: 0..2,
                hold: Some(hold.clone()),
            };
            match engine::run(engine, request, &mut |_| StepControl::Continue).unwrap() {
                Reply::Samples(generation) => generation,
                Reply::Score(_) => panic!("samples"),
            }
        };
        let first = run(&mut engine, prompt.clone());
        for completion in &first.completions {
            // A fork after each answer: all of its tokens but the last, which was drawn and never
            // computed, are in the cache.
            let drawn = completion.tokens.iter().map(|token| token.id);
            let longer: Vec<u32> = prompt.iter().copied().chain(drawn).chain([65, 66]).collect();
            let next = run(&mut engine, longer.clone());
            assert_eq!(next.cost.timing.cached_tokens, longer.len() - 3, "{}", subject.name);
            let alone =
                generate(&mut subject.engine(EngineOptions::default()), &longer, params.clone());
            assert_eq!(next.completions, alone, "{}", subject.name);
        }
        assert!(engine.prefix_cache_bytes() > 0);
        drop(hold);
        engine.step(&mut |_| StepControl::Continue).unwrap();
        assert_eq!(engine.prefix_cache_bytes(), 0);
    }
}

/// A request that cannot be computed fails alone; the others draw what they draw alone.
#[test]
fn a_request_fails_alone() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let expected =
        generate(&mut subject.engine(EngineOptions::default()), &subject.prompts[0], params(3));
    let mut engine = subject.engine(EngineOptions::default());
    let good = engine.submit(sample_request(&subject.prompts[0], &params(3), 0..3)).unwrap();
    // Logits over such a penalty are infinite.
    let bad = SamplingParams { repetition_penalty: 1e-44, ..params(2) };
    let bad = engine.submit(sample_request(&subject.prompts[1], &bad, 0..2)).unwrap();
    let later = engine.submit(sample_request(&subject.prompts[0], &params(3), 0..3)).unwrap();
    let mut replies = run_all(&mut engine, 3);
    let error = replies.remove(&bad).unwrap().unwrap_err().to_string();
    assert!(error.contains("repetition_penalty"), "{error}");
    for id in [good, later] {
        assert_eq!(completions(replies.remove(&id).unwrap()), expected);
    }
    // What can be seen beforehand is refused when it is submitted.
    let twice = SamplingParams { logit_bias: vec![(5, 1.0), (5, 2.0)], ..params(1) };
    let error = engine.submit(sample_request(&[1], &twice, 0..1)).unwrap_err().to_string();
    assert!(error.contains("logit_bias names token 5 twice"), "{error}");
}

/// Everything about a scored token that sampling does not decide.
fn raw(token: &Token) -> (u32, [f64; 7]) {
    let s = token.stats;
    (
        token.id,
        [
            s.logprob,
            s.entropy,
            s.varentropy,
            s.margin,
            s.max_prob,
            s.self_certainty,
            s.top_confidence,
        ],
    )
}

#[test]
fn scores_are_the_statistics_that_generation_recorded() {
    for subject in Subject::all() {
        let prompt = &subject.prompts[0];
        for completion in generate(&mut subject.engine(EngineOptions::default()), prompt, params(3))
        {
            let ids: Vec<u32> = completion.tokens.iter().map(|t| t.id).collect();
            let recorded: Vec<_> = completion.tokens.iter().map(raw).collect();
            let mut engine = subject.engine(EngineOptions::default());
            for pass in ["fresh", "with a cached prefix"] {
                let scored: Vec<_> =
                    score(&mut engine, prompt, &ids).unwrap().iter().map(raw).collect();
                assert_eq!(scored, recorded, "{}: {pass}", subject.name);
            }
        }
    }
}

#[test]
fn fork_equals_replay_and_truncate_equals_recompute() {
    for subject in Subject::all() {
        let model = &subject.model;
        let forward = |tokens: &[u32], kv: &mut _| {
            let logits = model.forward(&mut [Row { tokens, kv, logits: 1 }]).unwrap();
            logits.rows().next().unwrap().to_vec()
        };
        let prompt = &subject.prompts[0];
        let mut trunk = model.new_kv();
        forward(prompt, &mut trunk);
        let mut branches: Vec<_> = (0..3).map(|_| trunk.fork()).collect();
        for (i, branch) in branches.iter_mut().enumerate() {
            let own = [60 + i as u32, 70, 80 + i as u32];
            let got: Vec<_> = own.iter().map(|&t| forward(&[t], branch)).collect();
            let replayed = forward(&[&prompt[..], &own].concat(), &mut model.new_kv());
            assert_eq!(got[2], replayed, "{}: branch {i}", subject.name);
            branch.truncate(prompt.len() + 1).unwrap();
            assert_eq!(
                forward(&own[1..], branch),
                replayed,
                "{}: branch {i} truncated",
                subject.name
            );
        }
    }
}

#[test]
fn dropped_rows_are_gone_and_positions_stay() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let prompt = subject.prompts[0].clone();
    let kept = subject
        .engine(EngineOptions::default())
        .generate(Prompt::from_tokens(prompt.clone()), params(2))
        .unwrap();
    let dropped = |range| {
        let prompt =
            Prompt { drop_after_prefill: Some(range), ..Prompt::from_tokens(prompt.clone()) };
        subject.engine(EngineOptions::default()).generate(prompt, params(2)).unwrap()
    };
    assert_eq!(dropped(4..4).completions, kept.completions);
    let shorter = dropped(4..12);
    // The first token comes from the whole prompt's logits; later ones see fewer keys.
    assert_eq!(shorter.completions[0].tokens[0], kept.completions[0].tokens[0]);
    assert_ne!(shorter.completions[0].tokens[1].stats, kept.completions[0].tokens[1].stats);
}

#[test]
fn samples_that_agree_share_their_rows() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let run = |temperature, eager_forking| {
        let options = EngineOptions { eager_forking, ..EngineOptions::default() };
        let params = SamplingParams { temperature, ignore_eos: true, ..params(8) };
        subject
            .engine(options)
            .generate(Prompt::from_tokens(subject.prompts[0].clone()), params)
            .unwrap()
            .cost
            .tokens
    };
    // The last token of a sample is drawn and not computed.
    assert_eq!((run(0.0, false).completion_tokens, run(0.0, false).forward_tokens), (8 * 12, 11));
    assert_eq!(run(0.0, true).forward_tokens, 8 * 11);
    assert!(run(1.0, false).forward_tokens > 11 && run(1.0, false).forward_tokens <= 8 * 11);
}

#[test]
fn callbacks_stop_samples() {
    let subject = Subject::tiny("qwen2", Dtype::F32);
    let run = |control: &dyn Fn(usize, usize) -> StepControl| {
        let params = SamplingParams { ignore_eos: true, ..params(4) };
        let request = sample_request(&subject.prompts[0], &params, 0..4);
        let mut engine = subject.engine(EngineOptions::default());
        let completions =
            completions(engine::run(&mut engine, request, &mut |e| control(e.sample, e.step)));
        completions.iter().map(|c| (c.tokens.len(), c.finish_reason)).collect::<Vec<_>>()
    };
    let one = run(&|sample, step| {
        if (sample, step) == (1, 3) { StepControl::StopSample } else { StepControl::Continue }
    });
    assert_eq!(one, [(12, Length), (4, Cancelled), (12, Length), (12, Length)]);
    let end = run(&|sample, step| {
        if (sample, step) == (2, 0) { StepControl::EndSample } else { StepControl::Continue }
    });
    assert_eq!(end, [(12, Length), (12, Length), (1, Stop), (12, Length)]);
    let all = run(&|sample, step| {
        if (sample, step) == (0, 5) { StepControl::StopAll } else { StepControl::Continue }
    });
    assert!(
        all.iter().all(|(tokens, reason)| (5..=6).contains(tokens) && *reason == Cancelled),
        "{all:?}"
    );
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let prompt = &subject.prompts[0];
    let params = SamplingParams { ignore_eos: true, ..params(1) };
    let free =
        generate(&mut subject.engine(EngineOptions::default()), prompt, params.clone()).remove(0);
    let (at, _) = free
        .text
        .char_indices()
        .filter(|(_, c)| c.is_ascii_graphic())
        .nth(2)
        .expect("printable output");
    let stop = free.text[at..].chars().next().unwrap().to_string();
    let first = free.text.find(&stop).unwrap();
    let stopped = generate(
        &mut subject.engine(EngineOptions::default()),
        prompt,
        SamplingParams { stop: vec![stop], ..params },
    )
    .remove(0);
    assert_eq!(
        (stopped.text.as_str(), stopped.finish_reason),
        (&free.text[..first], FinishReason::Stop)
    );
}

#[test]
fn what_does_not_fit_is_refused_with_numbers() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let check =
        |options: EngineOptions, params: SamplingParams, prompt: Vec<u32>, expected: &str| {
            let error = subject
                .engine(options)
                .generate(Prompt::from_tokens(prompt), params)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        };
    let some = subject.prompts[0].clone();
    let small = EngineOptions { context: Some(24), ..EngineOptions::default() };
    check(small, params(1), some.clone(), "the context holds 24");
    let poor = EngineOptions { kv_budget_bytes: 1 << 20, ..EngineOptions::default() };
    check(poor, SamplingParams { n: 4096, ..params(1) }, some.clone(), "the budget is 1 MB");
    check(EngineOptions::default(), params(0), some.clone(), "n is 0");
    check(EngineOptions::default(), params(1), vec![], "the prompt is empty");
    check(
        EngineOptions::default(),
        params(1),
        vec![9999],
        "token id 9999 is outside the model's vocabulary",
    );
}

#[test]
fn jobs_wait_for_the_budget_and_all_come_back() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let prompt = &subject.prompts[0];
    let bytes = (prompt.len() + 2 * 12) * subject.model.kv_bytes_per_token();
    let mut engine = subject.engine(EngineOptions {
        kv_budget_bytes: bytes + 1,
        prefix_cache_bytes: 0,
        ..EngineOptions::default()
    });
    let ids: Vec<_> =
        (0..5).map(|_| engine.submit(sample_request(prompt, &params(2), 0..2)).unwrap()).collect();
    engine.cancel(ids[3]);
    let mut back = Vec::new();
    while back.len() < 4 {
        let finished = engine.step(&mut |_| StepControl::Continue).unwrap();
        back.extend(finished.into_iter().map(|(id, _)| id));
    }
    assert_eq!(back, [ids[0], ids[1], ids[2], ids[4]]);
}

#[test]
fn logits_that_are_no_numbers_end_the_sample() {
    let recipe = Recipe::load("llama");
    let mut writer = recipe.writer(Dtype::F32);
    let norm = writer.tensors.iter_mut().find(|t| t.name == b"output_norm.weight").unwrap();
    norm.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let source = WeightSource::Gguf(Gguf::from_bytes("nan", writer.bytes()).unwrap());
    let subject = Subject::new("nan".into(), source, vec![vec![65, 66]]);
    let completions =
        generate(&mut subject.engine(EngineOptions::default()), &subject.prompts[0], params(2));
    assert!(
        completions
            .iter()
            .all(|c| c.finish_reason == FinishReason::NumericalError && c.tokens.is_empty())
    );
    let mut engine = subject.engine(EngineOptions::default());
    let error = score(&mut engine, &[65], &[66]).unwrap_err();
    assert!(error.to_string().contains("produced NaN logits"), "{error}");
}

#[test]
fn two_prompts_meet_different_points_under_one_seed() {
    let subject = Subject::tiny("llama", Dtype::F32);
    let mut engine = subject.engine(EngineOptions::default());
    // So hot that a token is hardly more than its point: the same points would give both prompts
    // nearly the same tokens.
    let params =
        SamplingParams { n: 8, temperature: 100.0, max_tokens: 1, ..SamplingParams::default() };
    for draw in [DrawMode::Independent, DrawMode::Stratified] {
        let first = |prompt: &[u32], engine: &mut LocalEngine| -> Vec<u32> {
            let params = SamplingParams { draw, ..params.clone() };
            let generation = engine.generate(Prompt::from_tokens(prompt.to_vec()), params).unwrap();
            generation.completions.iter().map(|completion| completion.tokens[0].id).collect()
        };
        let (a, b) =
            (first(&subject.prompts[0], &mut engine), first(&subject.prompts[1], &mut engine));
        let near = a.iter().zip(&b).filter(|(a, b)| a.abs_diff(**b) <= 2).count();
        // Tokens of their own are as near in 5 of 256 cases or fewer; what this seed gives is
        // fixed.
        assert!(near < 4, "{draw:?}: {a:?} and {b:?}");
    }
}
