//! Strategies and the loop under ask and eval, over a scripted engine: what they ask for, when they
//! stop, and what becomes of errors.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

use candor::internals::consensus::Reader;
use candor::internals::engine::mock::{MockEngine, MockLog};
use candor::internals::engine::{StepControl, TokenEvent};
use candor::internals::generation::{FinishReason, SamplingParams};
use candor::internals::pipeline::{Answered, DriveOptions, LoadedModel, Outcome, Sink};
use candor::internals::prompt::{PromptFormat, PromptOptions};
use candor::internals::strategy::{
    Executor, Question, STRATEGIES, Session, SessionContext, Strategy,
};
use candor::{Error, Extractor, Message, Pipeline, Settings};

use crate::eval::loaded;

/// A pipeline over a mock with this script, and the mock's log.
fn pipeline(
    loaded: &LoadedModel,
    strategy: &str,
    n: usize,
    mock: MockEngine,
) -> (Pipeline, Rc<RefCell<MockLog>>) {
    let settings = Settings {
        strategy: strategy.parse().unwrap(),
        params: SamplingParams { n, ..SamplingParams::default() },
        reader: Reader { extractor: Extractor::Number, ..Reader::default() },
        ..Settings::for_model(loaded)
    };
    let log = Rc::clone(&mock.log);
    (Pipeline::with_engine(loaded, settings, Box::new(mock)).unwrap(), log)
}

fn says(loaded: &LoadedModel, script: impl Fn(usize) -> i64 + 'static) -> MockEngine {
    MockEngine::new(loaded.tokenizer.clone(), move |_, sample| {
        Ok(format!("#### {}", script(sample)))
    })
}

fn ask(pipeline: &mut Pipeline, question: &str) -> candor::Result<Outcome> {
    pipeline.answer(&[Message::user(question)])
}

#[test]
fn adaptive_stops_when_the_leader_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let check = |strategy: &str, n: usize, script: fn(usize) -> i64, drawn: usize| {
        let (mut pipeline, log) = pipeline(&loaded, strategy, n, says(&loaded, script));
        let outcome = ask(&mut pipeline, "How many?").unwrap();
        let indices: Vec<usize> = outcome.samples.iter().map(|sample| sample.index).collect();
        assert_eq!(indices, (0..drawn).collect::<Vec<_>>(), "{strategy}");
        assert_eq!(outcome.vote.samples(), drawn, "{strategy}");
        let waves = log.borrow().prompts.len();
        assert_eq!(outcome.cost.tokens.prompt_tokens * waves, log.borrow().prompt_tokens);
    };
    // P(Bin(5, 1/2) <= 4) = 31/32.
    check("adaptive", 16, |_| 7, 4);
    // Three to one, then seven to one: P(Bin(5, 1/2) <= 3) = 26/32, P(Bin(9, 1/2) <= 7) = 502/512.
    check("adaptive", 16, |i| i64::from(i != 0), 8);
    check("adaptive", 16, |i| (i % 2) as i64, 16);
    check("adaptive:threshold=0.8", 16, |i| i64::from(i != 0), 4);
    check("adaptive:wave=3", 16, |_| 7, 6);
    check("adaptive", 3, |_| 7, 3);
    check("self-consistency", 5, |_| 7, 5);
    check("greedy", 5, |_| 7, 1);
}

#[test]
fn verify_answer_asks_about_the_leader_in_both_orders() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let run = |logprob: fn(&str, &str) -> f64| {
        let mut mock = says(&loaded, |i| if i == 0 { 3 } else { 4 });
        mock.score_script = Box::new(logprob);
        let (mut pipeline, log) = pipeline(&loaded, "verify-answer", 4, mock);
        let outcome = ask(&mut pipeline, "How many?").unwrap();
        let prompts = log.borrow().prompts.clone();
        (outcome, prompts)
    };
    // "Yes" 0.3 and "yes" 0.1 against "No" 0.2; where "No or Yes" is asked, "Yes" 0.6 and "No" 0.2.
    let (outcome, prompts) = run(|prefix, continuation| {
        let first = prefix.contains("Yes or No");
        let p: f64 = match continuation {
            "Yes" => {
                if first {
                    0.3
                } else {
                    0.6
                }
            }
            "yes" if first => 0.1,
            "No" => 0.2,
            _ => 1e-12,
        };
        p.ln()
    });
    let probe = &outcome.probes[0];
    assert_eq!((probe.name.as_str(), probe.answer.as_str()), ("p_true", "4"));
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(probe.parts[0], 0.4 / 0.6) && close(probe.parts[1], 0.75), "{probe:?}");
    assert!(close(probe.value, f64::midpoint(0.4 / 0.6, 0.75)));
    assert!(close(outcome.scores["p_true"], probe.value));
    // The vote is that of the samples.
    assert_eq!(outcome.answer.as_deref(), Some("4"));
    assert!(prompts.iter().skip(1).all(|p| p.contains("Proposed answer: 4")), "{prompts:?}");
    assert!(prompts.len() > 2);
    // A label that cannot come next is not an answer.
    let mut mock = says(&loaded, |_| 4);
    mock.score_script = Box::new(|_, _| f64::NEG_INFINITY);
    let (mut pipeline, _) = pipeline(&loaded, "verify-answer", 2, mock);
    let error = ask(&mut pipeline, "How many?").unwrap_err().to_string();
    assert!(error.contains("no label has a probability above 0"), "{error}");
}

#[test]
fn choices_are_needed_where_they_are_scored() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let (mut pipeline, _) = pipeline(&loaded, "likelihood", 1, says(&loaded, |_| 1));
    let error = ask(&mut pipeline, "Which?").unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("the question has none"), "{error}");
}

#[derive(Default)]
struct Outcomes {
    done: Vec<(usize, Result<Option<String>, String>)>,
    tokens: Vec<usize>,
    stop_after: Option<usize>,
}

impl Sink for Outcomes {
    fn on_token(&mut self, question: usize, _: &TokenEvent<'_>) {
        self.tokens.push(question);
    }

    fn on_outcome(&mut self, question: usize, answered: Answered) -> candor::Result<()> {
        let outcome = answered.outcome.map(|outcome| outcome.answer).map_err(|e| e.to_string());
        self.done.push((question, outcome));
        match self.stop_after {
            Some(most) if self.done.len() == most => Err(Error::usage("stopped")),
            _ => Ok(()),
        }
    }
}

fn questions(texts: &[&str]) -> Vec<Question> {
    let question =
        |text: &&str| Question { messages: vec![Message::user(*text)], ..Question::default() };
    texts.iter().map(question).collect()
}

#[test]
fn a_question_fails_alone_and_order_is_kept_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    // The first question takes longest, the second cannot be asked.
    let mock = || {
        MockEngine::new(loaded.tokenizer.clone(), |prompt, _| match prompt {
            p if p.contains("slow") => Ok(format!("{}#### 1", "x ".repeat(40))),
            p if p.contains("bad") => Err(Error::usage("this cannot be asked")),
            _ => Ok("#### 2".into()),
        })
    };
    let run = |ordered: bool, in_flight: usize| {
        let (mut pipeline, _) = pipeline(&loaded, "self-consistency", 2, mock());
        let mut outcomes = Outcomes::default();
        let options = DriveOptions { in_flight, ordered };
        let mut asked = questions(&["slow", "bad", "quick"]).into_iter();
        pipeline.drive(&mut asked, options, &mut outcomes).unwrap();
        outcomes
    };
    let answer = |text: &str| Ok(Some(text.to_owned()));
    let refused = Err("this cannot be asked".to_owned());
    let in_order = [(0, answer("1")), (1, refused.clone()), (2, answer("2"))];
    assert_eq!(run(true, 3).done, in_order);
    assert_eq!(run(true, 1).done, in_order);
    let as_ready = run(false, 3);
    assert_eq!(as_ready.done, [(1, refused), (2, answer("2")), (0, answer("1"))]);
    // Tokens of both questions that run are streamed as they come.
    assert_eq!(as_ready.tokens[..4], [0, 0, 2, 2]);
}

#[test]
fn an_error_of_the_sink_cancels_what_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let mock = MockEngine::new(loaded.tokenizer.clone(), |prompt, _| {
        Ok(if prompt.contains("slow") { "x ".repeat(40) } else { "#### 2".into() })
    });
    let (mut pipeline, log) = pipeline(&loaded, "self-consistency", 1, mock);
    let mut outcomes = Outcomes { stop_after: Some(1), ..Outcomes::default() };
    let mut asked = questions(&["quick", "slow", "slow too"]).into_iter();
    let error = pipeline.drive(&mut asked, DriveOptions::default(), &mut outcomes).unwrap_err();
    assert!(error.to_string() == "stopped" && log.borrow().cancelled == 2, "{error}");
    // The engine is free for what comes next.
    assert_eq!(ask(&mut pipeline, "quick").unwrap().answer.as_deref(), Some("2"));
}

/// Counts how many questions were taken ahead of the one that is done.
struct Watch<'a>(&'a RefCell<usize>, &'a RefCell<usize>);
impl Sink for Watch<'_> {
    fn on_outcome(&mut self, question: usize, _: Answered) -> candor::Result<()> {
        let ahead = *self.0.borrow() - question;
        let most = (*self.1.borrow()).max(ahead);
        *self.1.borrow_mut() = most;
        Ok(())
    }
}

#[test]
fn look_ahead_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let mock = MockEngine::new(loaded.tokenizer.clone(), |prompt, _| {
        Ok(if prompt.contains("slow") { "x ".repeat(400) } else { "#### 2".into() })
    });
    let (mut pipeline, _) = pipeline(&loaded, "self-consistency", 1, mock);
    let taken = RefCell::new(0);
    let most = RefCell::new(0);
    let texts = std::iter::once("slow").chain(std::iter::repeat_n("quick", 200));
    let mut asked = texts.map(|text| {
        *taken.borrow_mut() += 1;
        questions(&[text]).remove(0)
    });
    let options = DriveOptions { in_flight: 3, ordered: true };
    pipeline.drive(&mut asked, options, &mut Watch(&taken, &most)).unwrap();
    assert_eq!((*taken.borrow(), *most.borrow()), (201, 12));
}

#[test]
fn a_failed_forward_pass_fails_what_is_in_flight_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let mut mock = says(&loaded, |_| 2);
    mock.fails = true;
    let (mut pipeline, _) = pipeline(&loaded, "self-consistency", 1, mock);
    let mut outcomes = Outcomes::default();
    let options = DriveOptions { in_flight: 2, ordered: true };
    let mut asked = questions(&["a", "b", "c"]).into_iter();
    pipeline.drive(&mut asked, options, &mut outcomes).unwrap();
    let failed: Vec<bool> = outcomes.done.iter().map(|(_, outcome)| outcome.is_err()).collect();
    assert_eq!(failed, [true, true, false]);
    assert!(outcomes.done[0].1.as_ref().unwrap_err().contains("the forward pass failed"));
}

#[test]
fn a_session_watches_stops_and_extends() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let mut mock = says(&loaded, |i| i as i64);
    let log = Rc::clone(&mock.log);
    let shared = Rc::new(SessionContext {
        format: PromptFormat::new(loaded.tokenizer.clone(), PromptOptions::default()).unwrap(),
        tokenizer: loaded.tokenizer.clone(),
        end_tokens: loaded.tokenizer.end_tokens().to_vec(),
        context: 4096,
        params: SamplingParams::default(),
        reader: Extractor::Number.into(),
        encoder: None,
    });
    let session = Session::new(&shared);
    let task = async {
        let prefix = session.render(&[Message::user("How many?")])?;
        let watch = |event: &TokenEvent<'_>| match (event.sample, event.step) {
            (1, 2) => StepControl::StopSample,
            _ => StepControl::Continue,
        };
        let params = session.params().clone();
        let mut drawn = session.sample_with(&prefix, 0..3, params, Some(Box::new(watch))).await?;
        let vote = session.vote(&Question::default(), &mut drawn).await?;
        // A sample that was stopped is not a failed one, and counts in no share.
        assert_eq!((vote.stopped, vote.failed, vote.samples()), (1, 0, 2));
        assert_eq!(drawn.completions[1].finish_reason, FinishReason::Cancelled);
        let after = session.after(&prefix, &drawn.completions[0]);
        let longer = session.extend(&after, " So?")?;
        session.sample(&longer, 7..8).await
    };
    let mut executor = Executor::new(&mut mock);
    executor.spawn(0, session.clone(), task);
    let mut results = Vec::new();
    while executor.in_flight() > 0 {
        results.extend(executor.turn(&mut |_, _| {}));
    }
    drop(executor);
    let generation = results.remove(0).1.unwrap();
    assert_eq!((generation.completions.len(), generation.completions[0].index), (1, 7));
    // The answer is in the prompt as it was drawn, without its end token.
    assert!(log.borrow().prompts[1].ends_with("#### 0 So?"), "{:?}", log.borrow().prompts);
}

/// Every strategy works in one run folder after another, and again from its records.
#[test]
fn every_strategy_is_scored_again_from_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let questions = crate::eval::digits(6);
    for (strategy, _) in STRATEGIES.iter().filter(|(s, _)| *s != Strategy::Likelihood) {
        let mock = says(&loaded, |i| (i % 3) as i64);
        let (mut pipeline, _) = pipeline(&loaded, &strategy.name(), 9, mock);
        let out = folder.path().join(strategy.name());
        crate::eval::go(&mut pipeline, &questions, &out).unwrap();
        let (manifest, scored) = candor::internals::eval::rescore(&out).unwrap();
        assert_eq!(manifest.config.strategy, *strategy);
        assert!(scored.iter().all(|scored| scored.differs.is_none()), "{strategy}");
        assert!(fs::read_to_string(out.join("manifest.json")).unwrap().contains(&strategy.name()));
    }
}
