//! The strategies of the field: weights, early stops, cascades and probes over a scripted engine;
//! enumeration and beams over a tiny model.

use std::collections::{BTreeMap, HashMap};

use candor::internals::consensus::Reader;
use candor::internals::engine::mock::MockEngine;
use candor::internals::eval::Variant;
use candor::internals::generation::{SamplingParams, TokenStats};
use candor::internals::pipeline::{Answered, DriveOptions, LoadedModel, Sink};
use candor::internals::strategy::Question;
use candor::{EngineOptions, Extractor, Message, Outcome, Pipeline, Settings};

use crate::eval::loaded;

/// Asks "How many?" of a mock engine, with numbers as answers.
fn ask(loaded: &LoadedModel, strategy: &str, n: usize, mock: MockEngine) -> Outcome {
    ask_for(loaded, strategy, n, mock, "How many?")
}

fn ask_for(
    loaded: &LoadedModel,
    strategy: &str,
    n: usize,
    mock: MockEngine,
    question: &str,
) -> Outcome {
    let settings = Settings {
        strategy: strategy.parse().unwrap(),
        params: SamplingParams { n, ..SamplingParams::default() },
        reader: Reader { extractor: Extractor::Number, ..Reader::default() },
        ..Settings::for_model(loaded)
    };
    let mut pipeline = Pipeline::with_engine(loaded, settings, Box::new(mock)).unwrap();
    pipeline.answer(&[Message::user(question)]).unwrap()
}

/// A mock whose sample i says the number `script(i)`, whatever it is asked.
fn says(loaded: &LoadedModel, script: impl Fn(usize) -> i64 + 'static) -> MockEngine {
    MockEngine::new(loaded.tokenizer.clone(), move |_, sample| {
        Ok(format!("#### {}", script(sample)))
    })
}

fn reason(outcome: &Outcome) -> Option<&'static str> {
    outcome.decision.reason().map(candor::AbstainReason::code)
}

#[test]
fn early_stopping_and_certificates_stop_where_their_rule_says() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let check = |strategy: &str, n: usize, script: fn(usize) -> i64, drawn: usize| {
        let outcome = ask(&loaded, strategy, n, says(&loaded, script));
        assert_eq!(outcome.samples.len(), drawn, "{strategy}");
    };
    check("early-stopping", 20, |_| 7, 5);
    // The first window is split by its first sample, the second is not.
    check("early-stopping", 20, |i| i64::from(i > 0), 10);
    check("early-stopping:window=2", 20, |i| i64::from(i == 0 || i == 3), 6);
    check("early-stopping:window=3", 8, |i| (i % 2) as i64, 8);
    // E(7, 0) = 31.875 reaches 1 / 0.05; E(6, 0) = 127 / 7 does not.
    check("certified:wave=1", 20, |_| 7, 7);
    check("certified:wave=4", 20, |_| 7, 8);
    check("certified:wave=1:alpha=0.1", 20, |_| 7, 5);
    check("certified:wave=1", 12, |i| (i % 2) as i64, 12);
    // A budget of forward tokens ends any of them after the wave that spends it.
    check("adaptive:wave=2:budget=1", 20, |i| (i % 2) as i64, 2);
    check("early-stopping:window=3:budget=1", 20, |i| (i % 2) as i64, 3);
}

#[test]
fn a_certificate_is_about_the_greedy_answer_and_says_what_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let outcome = ask(&loaded, "certified:wave=1", 20, says(&loaded, |_| 7));
    let probe = &outcome.probes[0];
    assert_eq!((probe.name.as_str(), probe.answer.as_str()), ("mode", "7"));
    assert!((probe.value - (1.0 - 8.0 / 255.0)).abs() < 1e-12, "{probe:?}");
    assert!(outcome.notes[0].contains("whether it is right is another question"));
    assert_eq!(outcome.vote.samples(), 7, "the greedy completion does not vote");
    let outcome = ask(&loaded, "certified:wave=2", 4, says(&loaded, |i| (i % 2) as i64));
    assert!(outcome.notes[0].contains("4 samples do not certify"), "{:?}", outcome.notes);
}

/// Three samples say 1 and two say 2; the two are surer of themselves.
fn minority_is_surer(loaded: &LoadedModel) -> MockEngine {
    let mut mock = says(loaded, |i| if i < 3 { 1 } else { 2 });
    mock.stats_script = Box::new(|i| {
        let sure = i >= 3;
        TokenStats {
            logprob: if sure { -0.1 } else { -2.0 },
            top_confidence: if sure { 12.0 } else { 4.0 },
            self_certainty: if sure { 9.0 } else { 3.0 },
            ..TokenStats::default()
        }
    });
    mock.score_script = Box::new(|prefix, label| {
        let about_two = prefix.contains("#### 2");
        let likely = match label.trim() {
            "Yes" | "9" => about_two,
            "No" | "0" => !about_two,
            // The fourth of five responses, in either order.
            "D" => prefix.contains("Response A: #### 1\n\nResponse B: #### 1\n\nResponse C"),
            _ => false,
        };
        if likely { -0.1 } else { -8.0 }
    });
    mock
}

#[test]
fn surer_samples_weigh_more_and_neutral_settings_do_not_weigh() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let check = |strategy: &str, answer: &str| {
        let outcome = ask(&loaded, strategy, 5, minority_is_surer(&loaded));
        let leader = outcome.vote.leader().unwrap();
        assert_eq!(leader.answer, answer, "{strategy}: {:?}", outcome.vote);
        let total: f64 = outcome.vote.clusters.iter().map(|cluster| cluster.weight).sum();
        assert!((total - 5.0).abs() < 1e-9, "{strategy}: weights sum to {total}");
    };
    for strategy in ["self-consistency", "cisc:temperature=1e300", "best-of-n:power=0"] {
        check(strategy, "1");
    }
    check("deepconf:keep=1:power=0", "1");
    for confidence in ["p_true", "probability", "verbal"] {
        check(&format!("cisc:confidence={confidence}"), "2");
    }
    // 12 each against 4 each, then two of five kept.
    for group in ["tail", "whole", "lowest"] {
        check(&format!("deepconf:keep=1:group={group}"), "2");
    }
    check("deepconf:keep=0.4:power=0", "2");
    // Ranks 5 and 4 against 3, 2 and 1 to the power of 2.
    check("best-of-n:power=2", "2");
    check("universal:rotations=1", "2");
}

#[test]
fn a_sample_that_grows_unsure_is_stopped_and_does_not_vote() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let strategy = "deepconf:window=2:stop_below=5:power=0";
    let outcome = ask(&loaded, strategy, 5, minority_is_surer(&loaded));
    assert_eq!((outcome.vote.stopped, outcome.vote.samples()), (3, 2), "{:?}", outcome.vote);
    assert_eq!(outcome.answer.as_deref(), Some("2"));
    assert!(outcome.samples[0].tokens.len() == 2, "stopped after a full window");
}

#[test]
fn a_cascade_samples_only_where_greedy_is_not_sure() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let check = |strategy: &str, drawn: usize| {
        let outcome = ask(&loaded, strategy, 4, says(&loaded, |_| 7));
        assert_eq!(outcome.samples.len(), drawn, "{strategy}");
        assert!(outcome.cost.tokens.completion_tokens > 0);
    };
    // The mock's tokens have probability 0.9.
    check("cascade:min_probability=0.89", 1);
    check("cascade:min_probability=0.91", 4);
}

#[test]
fn an_answer_that_flips_when_challenged_is_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let steadfast = |loaded: &LoadedModel| says(loaded, |_| 7);
    let flips = |loaded: &LoadedModel| {
        MockEngine::new(loaded.tokenizer.clone(), |prompt, _| {
            let doubted = prompt.contains("Are you sure?") || prompt.contains("not right");
            Ok(format!("#### {}", if doubted || prompt.contains("don't think") { 8 } else { 7 }))
        })
    };
    let outcome = ask(&loaded, "challenge", 4, steadfast(&loaded));
    assert_eq!(outcome.answer.as_deref(), Some("7"));
    assert_eq!((outcome.probes[0].name.as_str(), outcome.probes[0].value), ("kept", 1.0));
    let outcome = ask(&loaded, "challenge", 4, flips(&loaded));
    assert_eq!(reason(&outcome), Some("flipped"));
    assert_eq!(outcome.probes[0].parts, [0.0, 0.0]);
    let outcome = ask(&loaded, "challenge:min_kept=0", 4, flips(&loaded));
    assert_eq!(outcome.answer.as_deref(), Some("7"));
    // What the user believes is removed and reversed.
    let question = "I think it is 7. How many?";
    let outcome = ask_for(&loaded, "challenge", 4, flips(&loaded), question);
    let premise = outcome.probes.iter().find(|probe| probe.name == "premise_kept").unwrap();
    assert_eq!(premise.parts, [1.0, 0.0]);
}

#[test]
fn a_critic_vetoes_and_the_next_answer_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let run = |strategy: &str, accepted: &'static str| {
        let mut mock = says(&loaded, |i| if i < 3 { 1 } else { 2 });
        mock.score_script = Box::new(move |prefix, label| {
            let accepts = prefix.contains(&format!("Answer: {accepted}\n"));
            let yes = label.trim().eq_ignore_ascii_case("yes");
            if yes == accepts { -0.1 } else { -5.0 }
        });
        ask(&loaded, strategy, 5, mock)
    };
    let outcome = run("rivals", "1");
    assert_eq!(outcome.answer.as_deref(), Some("1"));
    let outcome = run("rivals", "2");
    assert_eq!(outcome.vote.leader().unwrap().answer, "2");
    assert_eq!(outcome.vote.share(), 0.4, "vetoed samples count as drawn");
    let outcome = run("rivals:retries=0", "2");
    assert_eq!(reason(&outcome), Some("vetoed"));
    let outcome = run("rivals:min_accept=0", "none");
    assert_eq!(outcome.answer.as_deref(), Some("1"));
}

#[test]
fn an_answer_that_depends_on_the_language_is_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let run = |strategy: &str, elsewhere: i64| {
        let mock = MockEngine::new(loaded.tokenizer.clone(), move |prompt, _| {
            Ok(if prompt.contains("Translate into") || prompt.contains("Say the same") {
                "Cuantos?".to_owned()
            } else if prompt.contains("Cuantos?") {
                format!("#### {elsewhere}")
            } else {
                "#### 7".to_owned()
            })
        });
        ask(&loaded, strategy, 8, mock)
    };
    let outcome = run("languages", 7);
    assert_eq!((outcome.samples.len(), outcome.probes[0].value), (8, 1.0));
    let outcome = run("languages:languages=1:wordings=0", 8);
    assert_eq!(reason(&outcome), Some("tie"));
    let outcome = run("languages:languages=2:wordings=1:min_agreement=0.9", 8);
    assert_eq!(reason(&outcome), Some("disagreement"));
    assert_eq!(outcome.probes[0].parts, [0.0, 1.0, 1.0, 1.0]);
    let outcome = run("languages:languages=0:wordings=0", 8);
    assert_eq!(outcome.answer.as_deref(), Some("7"));
}

/// A pipeline of a tiny model over digits, so that short texts are numbers.
fn tiny(loaded: &LoadedModel, strategy: &str, params: &SamplingParams) -> Pipeline {
    let settings = Settings {
        strategy: strategy.parse().unwrap(),
        params: params.clone(),
        ..Settings::for_model(loaded)
    };
    Pipeline::new(loaded, settings, EngineOptions::default()).unwrap()
}

#[test]
fn neutral_settings_are_self_consistency_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let digits = (48..52).map(|digit| (digit, 20.0)).chain([(258, 21.5)]).collect();
    let params =
        SamplingParams { n: 6, max_tokens: 6, logit_bias: digits, ..SamplingParams::default() };
    let run = |strategy: &str, params: &SamplingParams| {
        let outcome = tiny(&loaded, strategy, params).answer(&[Message::user("1 2 3")]).unwrap();
        let ids: Vec<Vec<u32>> =
            outcome.samples.iter().map(|s| s.tokens.iter().map(|t| t.id).collect()).collect();
        (outcome.vote, ids, outcome.decision)
    };
    let stratified = SamplingParams {
        draw: candor::internals::generation::DrawMode::Stratified,
        ..params.clone()
    };
    for params in [params, stratified] {
        let plain = run("self-consistency", &params);
        for strategy in [
            "adaptive:wave=6",
            "early-stopping:window=6",
            "certified:wave=6",
            "cisc:temperature=1e300",
            "deepconf:keep=1:power=0",
            "best-of-n:power=0",
            "cascade:min_probability=1",
            "challenge:min_kept=0",
            "rivals:min_accept=0",
            "languages:languages=0:wordings=0:min_agreement=0",
            "verify-answer",
        ] {
            assert_eq!(run(strategy, &params), plain, "{strategy}");
        }
    }
}

/// Every completion of two tokens of four candidates, with its probability, against shares of 4,000
/// samples: with these 16 comparisons, each at 5 standard deviations, a right program fails once in
/// 100,000 seeds; the seed is fixed.
#[test]
fn enumeration_has_the_probabilities_that_samples_are_drawn_by() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    for temperature in [1.0, 0.6] {
        let params = SamplingParams {
            n: 4000,
            max_tokens: 2,
            top_k: 4,
            temperature,
            ..SamplingParams::default()
        };
        let question = [Message::user("Which?")];
        let ids = |outcome: &Outcome, at: usize| -> Vec<u32> {
            outcome.samples[at].tokens.iter().map(|token| token.id).collect()
        };
        let sampled = tiny(&loaded, "self-consistency", &params).answer(&question).unwrap();
        let mut shares: HashMap<Vec<u32>, f64> = HashMap::new();
        for at in 0..sampled.samples.len() {
            *shares.entry(ids(&sampled, at)).or_default() += 1.0 / 4000.0;
        }
        let strategy = "enumerate:coverage=1:paths=64:wave=3";
        let found = tiny(&loaded, strategy, &params).answer(&question).unwrap();
        let n = found.samples.len() as f64;
        let mut total = 0.0;
        for (at, sample) in found.samples.iter().enumerate() {
            let p = sample.weight.unwrap() / n;
            let share = shares.remove(&ids(&found, at)).unwrap_or(0.0);
            let deviation = (p * (1.0 - p) / 4000.0).sqrt();
            assert!((share - p).abs() < 5.0 * deviation, "{at}: {p} against {share}");
            total += p;
            let sum: f64 = sample.tokens.iter().map(|token| token.stats.sampling_logprob).sum();
            assert!((sum.exp() - p).abs() < 1e-9);
        }
        assert!((total - 1.0).abs() < 1e-6, "{total}");
        assert!(shares.is_empty(), "every sample is a completion that was found: {shares:?}");
    }
}

#[test]
fn enumerated_tokens_have_the_statistics_of_drawn_ones() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let params = SamplingParams {
        n: 64,
        max_tokens: 2,
        top_k: 3,
        temperature: 0.7,
        repetition_penalty: 1.2,
        ..SamplingParams::default()
    };
    let question = [Message::user("Which?")];
    let sampled = tiny(&loaded, "self-consistency", &params).answer(&question).unwrap();
    let found = tiny(&loaded, "enumerate:coverage=1", &params).answer(&question).unwrap();
    let mut compared = 0;
    for sample in &found.samples {
        let ids: Vec<u32> = sample.tokens.iter().map(|token| token.id).collect();
        let same = |other: &&candor::internals::pipeline::Sample| {
            other.tokens.iter().map(|token| token.id).eq(ids.iter().copied())
        };
        let Some(drawn) = sampled.samples.iter().find(same) else { continue };
        for (a, b) in sample.tokens.iter().zip(&drawn.tokens) {
            assert_eq!(a.stats.logprob.to_bits(), b.stats.logprob.to_bits());
            assert_eq!(a.stats.entropy.to_bits(), b.stats.entropy.to_bits());
            assert!((a.stats.sampling_logprob - b.stats.sampling_logprob).abs() < 1e-6);
            compared += 1;
        }
    }
    assert!(compared >= 6, "{compared}");
}

#[test]
fn a_beam_of_one_is_greedy_and_a_wider_one_is_at_least_as_probable() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let params = SamplingParams { max_tokens: 5, ..SamplingParams::default() };
    let run = |strategy: &str| {
        let outcome = tiny(&loaded, strategy, &params).answer(&[Message::user("Which?")]).unwrap();
        let tokens = outcome.samples[0].tokens.clone();
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        (ids, tokens.iter().map(|token| token.stats.logprob).sum::<f64>())
    };
    let (greedy, greedy_logprob) = run("greedy");
    let (narrow, narrow_logprob) = run("beam:width=1");
    assert_eq!(narrow, greedy);
    assert!((narrow_logprob - greedy_logprob).abs() < 1e-9);
    let (_, wide) = run("beam:width=8:length_penalty=0");
    assert!(wide >= greedy_logprob, "{wide} {greedy_logprob}");
}

#[test]
fn first_tokens_are_distinct_and_continued_greedily() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let params = SamplingParams { n: 5, max_tokens: 4, ..SamplingParams::default() };
    let question = [Message::user("Which?")];
    let paths = tiny(&loaded, "cot-decoding", &params).answer(&question).unwrap();
    let greedy = tiny(&loaded, "greedy", &params).answer(&question).unwrap();
    let first: Vec<u32> = paths.samples.iter().map(|sample| sample.tokens[0].id).collect();
    let distinct: std::collections::HashSet<u32> = first.iter().copied().collect();
    assert_eq!((first.len(), distinct.len()), (5, 5));
    let ids = |outcome: &Outcome| -> Vec<u32> {
        outcome.samples[0].tokens.iter().map(|token| token.id).take(4).collect()
    };
    assert_eq!(ids(&paths), ids(&greedy), "the most probable first token is greedy's");
}

#[test]
fn parameters_out_of_range_are_refused() {
    let check = |text: &str, expected: &str| {
        let error = text.parse::<candor::Strategy>().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("early-stopping:window=0", "window is 0; it must be at least 1");
    check("certified:alpha=1", "alpha is 1; it must be above 0 and below 1");
    check("cisc:temperature=0", "temperature is 0; it must be above 0");
    check("cisc:confidence=mood", "confidence=mood");
    check("deepconf:keep=0", "keep is 0; it must be above 0, at most 1");
    check("deepconf:stop_below=-1", "stop_below is -1; it must be 0 or more");
    check("best-of-n:power=-1", "power is -1; it must be 0 to 1000");
    check("universal:rotations=0", "rotations is 0");
    check("cascade:min_probability=2", "min_probability is 2; it must be above 0, at most 1");
    check("beam:width=21", "width is 21; it must be 1 to 20");
    check("enumerate:coverage=0", "coverage is 0; it must be above 0, at most 1");
    check("enumerate:paths=5000", "paths is 5000; it must be 1 to 4096");
    check("challenge:min_kept=2", "min_kept is 2; it must be 0 to 1");
    check("rivals:min_accept=-1", "min_accept is -1; it must be 0 to 1");
    check("decide:min_mass=2", "min_mass is 2; it must be 0 to 1");
    check("decide:by=mood", "by=mood");
    check("languages:languages=9", "languages is 9; it must be 0 to 6");
}

/// The outcome of a question with these choices.
fn choose(pipeline: &mut Pipeline, questions: &[(&str, &[&str])]) -> Vec<Outcome> {
    struct Outcomes(Vec<Outcome>);
    impl Sink for Outcomes {
        fn on_outcome(&mut self, _: usize, answered: Answered) -> candor::Result<()> {
            self.0.push(answered.outcome?);
            Ok(())
        }
    }
    let mut asked = questions.iter().map(|(text, choices)| Question {
        messages: vec![Message::user(*text)],
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        ..Question::default()
    });
    let mut outcomes = Outcomes(Vec::new());
    pipeline.drive(&mut asked, DriveOptions::default(), &mut outcomes).unwrap();
    outcomes.0
}

/// Each option's weight, by its text.
fn weights(outcome: &Outcome) -> BTreeMap<String, u64> {
    let clusters = outcome.vote.clusters.iter();
    clusters.map(|cluster| (cluster.answer.clone(), cluster.weight.to_bits())).collect()
}

#[test]
fn neither_the_order_of_options_nor_the_batch_changes_a_decision() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let params = SamplingParams::default();
    for strategy in [
        "decide:min_mass=0",
        "decide:by=texts",
        "decide:prior=true:min_mass=0",
        "decide:by=texts:prior=true",
    ] {
        let orders: [&[&str]; 3] =
            [&["red", "green", "blue"], &["blue", "green", "red"], &["green", "red", "blue"]];
        let mut pipeline = tiny(&loaded, strategy, &params);
        let alone = weights(&choose(&mut pipeline, &[("The sky.", orders[0])])[0]);
        assert_eq!(alone.len(), 3);
        let batch: Vec<(&str, &[&str])> = orders
            .iter()
            .flat_map(|order| [("The sky.", *order), ("A leaf, which is not so long.", *order)])
            .collect();
        let outcomes = choose(&mut tiny(&loaded, strategy, &params), &batch);
        for outcome in outcomes.iter().step_by(2) {
            assert_eq!(weights(outcome), alone, "{strategy}");
        }
    }
}

#[test]
fn decisions_average_over_rotations_divide_by_the_prior_and_need_mass() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let run = |strategy: &str, choices: &[&str], script: fn(&str, &str) -> f64| {
        let mut mock = says(&loaded, |_| 0);
        mock.score_script = Box::new(script);
        let settings =
            Settings { strategy: strategy.parse().unwrap(), ..Settings::for_model(&loaded) };
        let mut pipeline = Pipeline::with_engine(&loaded, settings, Box::new(mock)).unwrap();
        choose(&mut pipeline, &[("The sky.", choices)]).remove(0)
    };
    let share = |outcome: &Outcome, answer: &str| {
        let clusters = &outcome.vote.clusters;
        let found = clusters.iter().find(|cluster| cluster.answer == answer).unwrap();
        found.weight / clusters.len() as f64
    };
    // Always the first letter: every option has it once.
    let first = |_: &str, label: &str| if label.trim() == "A" { -0.1 } else { -9.0 };
    let outcome = run("decide", &["x", "y"], first);
    assert!((share(&outcome, "x") - 0.5).abs() < 1e-12);
    assert_eq!(reason(&outcome), Some("tie"));
    // The letter of x: 0.6 against 0.2 where there is a text, 0.5 against 0.25 where there is none.
    let of_x = |prompt: &str, label: &str| {
        let letter = if prompt.contains("A. x") { "A" } else { "B" };
        let (own, other): (f64, f64) =
            if prompt.contains("N/A") { (0.5, 0.25) } else { (0.6, 0.2) };
        match label {
            "A" | "B" if label == letter => own.ln(),
            "A" | "B" => other.ln(),
            _ => -50.0,
        }
    };
    let outcome = run("decide", &["y", "x"], of_x);
    assert_eq!(outcome.answer.as_deref(), Some("x"));
    assert!((share(&outcome, "x") - 0.75).abs() < 1e-9);
    assert!((outcome.probes[0].value - 0.8).abs() < 1e-9, "{:?}", outcome.probes);
    let outcome = run("decide:prior=true", &["y", "x"], of_x);
    // (0.75 / (2 / 3)) / (0.75 / (2 / 3) + 0.25 / (1 / 3)).
    assert!((share(&outcome, "x") - 0.6).abs() < 1e-9);
    let outcome = run("decide:min_mass=0.9", &["y", "x"], of_x);
    assert_eq!(reason(&outcome), Some("low_mass"));
    let unsure = |prompt: &str, label: &str| {
        let letter = if prompt.contains("A. unsure") { "A" } else { "B" };
        if label == letter { -0.1 } else { -5.0 }
    };
    let outcome = run("decide", &["y", "unsure"], unsure);
    assert_eq!(reason(&outcome), Some("model_abstained"));
}

#[test]
fn answers_are_checked_by_digits_and_among_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let run = |strategy: &str, script: fn(&str, &str) -> f64| {
        let mut mock = says(&loaded, |i| if i < 3 { 1 } else { 2 });
        mock.score_script = Box::new(script);
        ask(&loaded, strategy, 5, mock)
    };
    // 9 with 0.5 and 3 with 0.25: (9 * 2 + 3) / 3 / 9.
    let digits = |_: &str, label: &str| match label {
        "9" => 0.5_f64.ln(),
        "3" => 0.25_f64.ln(),
        _ => -60.0,
    };
    let outcome = run("verify-answer:ask=verbalized", digits);
    assert!((outcome.scores["verbalized"] - 7.0 / 9.0).abs() < 1e-9, "{:?}", outcome.probes);
    // The leading answer's letter has 0.6 in one order and 0.2 in the other.
    let letters = |prompt: &str, label: &str| {
        let own = if prompt.contains("A. 1") { "A" } else { "B" };
        let p: f64 = match (prompt.contains("A. 1"), label) {
            (first, "A" | "B" | "C") if label == own => {
                if first {
                    0.6
                } else {
                    0.2
                }
            }
            (first, "A" | "B" | "C") => {
                if first {
                    0.2
                } else {
                    0.4
                }
            }
            _ => 1e-30,
        };
        p.ln()
    };
    let outcome = run("verify-answer:ask=clustered", letters);
    assert_eq!(outcome.probes[0].parts.len(), 2);
    assert!(
        (outcome.scores["clustered_self_assessment"] - 0.4).abs() < 1e-9,
        "{:?}",
        outcome.probes
    );
}

#[test]
fn variants_set_every_step_of_the_sampler() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let settings = Settings::for_model(&loaded);
    let apply = |text: &str| text.parse::<Variant>().unwrap().apply(&settings);
    let found = apply(
        "self-consistency:dry_multiplier=0.8:dry_base=2:dry_allowed_length=3:dry_penalty_last_n=9:\
         dynatemp_range=0.5:dynatemp_exponent=2:xtc_probability=0.5:xtc_threshold=0.2",
    );
    let expected = SamplingParams {
        dry_multiplier: 0.8,
        dry_base: 2.0,
        dry_allowed_length: 3,
        dry_penalty_last_n: 9,
        dynatemp_range: 0.5,
        dynatemp_exponent: 2.0,
        xtc_probability: 0.5,
        xtc_threshold: 0.2,
        ..settings.params.clone()
    };
    assert_eq!(found.unwrap().params, expected);
    let found = apply("self-consistency:mirostat=2:mirostat_tau=3:mirostat_eta=0.2:top_p=1");
    let expected = SamplingParams {
        mirostat: 2,
        mirostat_tau: 3.0,
        mirostat_eta: 0.2,
        top_p: 1.0,
        ..settings.params.clone()
    };
    assert_eq!(found.unwrap().params, expected);
    // The model's own filter is named, with what to set.
    let error = apply("self-consistency:mirostat=2").map(|_| ()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("set top_p to 1"), "{error}");
}

#[test]
fn enumeration_refuses_what_has_no_one_distribution() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let xtc = SamplingParams { xtc_probability: 0.5, ..SamplingParams::default() };
    let mirostat = SamplingParams { mirostat: 2, ..SamplingParams::default() };
    for params in [xtc, mirostat] {
        let mut pipeline = tiny(&loaded, "enumerate", &params);
        let error = pipeline.answer(&[Message::user("1 2 3")]).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("XTC"), "{error}");
    }
}
