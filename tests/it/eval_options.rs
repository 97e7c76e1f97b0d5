//! Options scored by their likelihood, and examples before a question.

use std::fs;
use std::path::Path;

use candor::internals::consensus::likelihood_vote;
use candor::internals::digest::sha256_hex;
use candor::internals::engine::{
    self, Alternatives, EngineOptions, LocalEngine, Reply, Request, StepControl,
};
use candor::internals::eval::{
    self, Doc, Grader, PLAIN, Questions, Record, Records, Run, ScoredChoice, Scorer, Subset,
    correct_mass, is_correct_per_byte, rescore,
};
use candor::internals::format::dtype::Dtype;
use candor::internals::generation::{
    Completion, Cost, FinishReason, Generation, Role, Token, TokenStats,
};
use candor::internals::metrics::bootstrap::Bootstrap;
use candor::internals::metrics::{Grade, estimates, metric};
use candor::internals::pipeline::{Example, FewShot, LoadedModel, QuestionTemplate};
use candor::internals::prompt::{Mode, PromptOptions};
use candor::internals::strategy::Strategy;
use candor::internals::uncertainty::{ESTIMATORS, Needs};
use candor::{LoadOptions, Pipeline, Settings};
use candor::{Location, ResolvedModel};

use crate::support::tiny::Recipe;

fn loaded(folder: &Path) -> LoadedModel {
    let path = folder.join("tiny.gguf");
    let bytes = Recipe::load("llama").gguf(Dtype::F32);
    fs::write(&path, &bytes).unwrap();
    let resolved = ResolvedModel {
        path,
        manifest: None,
        name: "tiny".into(),
        revision: None,
        location: Location::Local,
        sha256: None,
    };
    LoadedModel::load(&resolved, Some(sha256_hex(&bytes)), LoadOptions::default()).unwrap()
}

fn pipeline(loaded: &LoadedModel, mode: Mode, question_template: QuestionTemplate) -> Pipeline {
    let settings = Settings {
        strategy: Strategy::Likelihood,
        question_template,
        prompt: PromptOptions { mode, ..PromptOptions::default() },
        ..Settings::for_model(loaded)
    };
    Pipeline::new(loaded, settings, EngineOptions::default()).unwrap()
}

fn score(loaded: &LoadedModel, prefix: &[u32], continuation: &[u32]) -> Vec<Token> {
    let (model, tokenizer) = (loaded.model.clone(), loaded.tokenizer.clone());
    let mut engine = LocalEngine::new(model, tokenizer, EngineOptions::default()).unwrap();
    let (prefix, continuation) = (prefix.to_vec(), continuation.to_vec());
    let request = Request::Score {
        prefix,
        continuation,
        alternatives: Alternatives::MostProbable(0),
        hold: None,
    };
    match engine::run(&mut engine, request, &mut |_| StepControl::Continue).unwrap() {
        Reply::Score(scored) => scored.tokens,
        Reply::Samples(_) => panic!("a score"),
    }
}

/// Questions with options of different lengths, some of them with a token that crosses the seam to
/// the prompt.
fn questions(count: usize) -> Questions {
    let choices = ["the sea", "hehe", "a", "12"].map(str::to_owned);
    let doc = |i: usize| {
        Doc::choice(
            format!("made:{i}"),
            format!("What{}", "?".repeat(i + 1)),
            choices[..2 + i % 3].to_vec(),
            i % 2,
        )
        .unwrap()
    };
    Questions {
        name: "made".into(),
        file_sha256: None,
        question_template: PLAIN.into(),
        scorer: Scorer::Loglikelihood,
        extractor: candor::internals::consensus::Extractor::Choice,
        docs: (0..count).map(doc).collect(),
        notes: Vec::new(),
    }
}

fn framed(user: &str) -> QuestionTemplate {
    QuestionTemplate { user: user.into(), ..QuestionTemplate::default() }
}

/// A run's records, and their lines without what differs from run to run.
fn records(
    pipeline: &mut Pipeline,
    questions: &Questions,
    folder: &Path,
    in_flight: usize,
) -> (Vec<Record>, Vec<String>) {
    eval::run(pipeline, &Run { in_flight, ..Run::new(questions, folder) }, &mut |_| {}).unwrap();
    let text = fs::read_to_string(folder.join("records.jsonl")).unwrap();
    let timeless =
        text.lines().map(|line| line.rsplit_once(",\"timing\":").unwrap().0.to_owned()).collect();
    (Records::open(folder).unwrap().map(Result::unwrap).collect(), timeless)
}

#[test]
fn options_are_scored_as_continuations_of_one_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    // A prompt that ends in a space gives it up to the option's first token; in raw mode a space is
    // put where there is none.
    for (mode, frame, delimiter) in
        [(Mode::Raw, PLAIN, " "), (Mode::Raw, "{question} so ", ""), (Mode::Chat, PLAIN, "")]
    {
        let mut pipeline = pipeline(&loaded, mode, framed(frame));
        let questions = questions(9);
        let out = folder.path().join(format!("{mode:?}{}", frame.len()));
        let (records, _) = records(&mut pipeline, &questions, &out, 4);
        for (record, doc) in records.iter().zip(&questions.docs) {
            let prompt = pipeline.render(&pipeline.template().messages(&doc.question)).unwrap();
            assert_eq!(
                record.prompt_hash.as_deref(),
                Some(sha256_hex(prompt.text.as_bytes()).as_str())
            );
            let outcome = record.outcome.as_ref().unwrap();
            assert_eq!(
                (outcome.samples.len(), outcome.choices.len(), record.resps.len()),
                (doc.choices.len(), doc.choices.len(), doc.choices.len())
            );
            for (sample, choice) in outcome.samples.iter().zip(&doc.choices) {
                // As the reference does: what both texts together have beyond the prompt's own
                // tokens.
                let whole = match mode {
                    Mode::Raw => loaded
                        .tokenizer
                        .encode(&format!("{}{delimiter}{choice}", prompt.text))
                        .unwrap(),
                    Mode::Chat => {
                        [prompt.tokens.clone(), loaded.tokenizer.encode(choice).unwrap()].concat()
                    }
                };
                let common = whole.iter().zip(&prompt.tokens).take_while(|(a, b)| a == b).count();
                let expected = score(&loaded, &whole[..common], &whole[common..]);
                let found: Vec<(u32, f64)> =
                    sample.tokens.iter().map(|token| (token.id, token.stats.logprob)).collect();
                assert_eq!(
                    found,
                    expected
                        .iter()
                        .map(|token| (token.id, token.stats.logprob))
                        .collect::<Vec<_>>(),
                    "{choice}"
                );
                assert_eq!(sample.text, *choice);
                let sum: f64 = found.iter().map(|(_, logprob)| logprob).sum();
                let score = outcome.choices[sample.index];
                assert_eq!((score.logprob, score.bytes), (Some(sum), choice.len()));
                assert_eq!(record.resps[sample.index], [sum.to_string(), score.greedy.to_string()]);
            }
            assert_eq!(
                outcome.scores.len(),
                ESTIMATORS
                    .iter()
                    .filter(|e| matches!(e.needs, Needs::Vote | Needs::TokenStats))
                    .count(),
                "every estimator of scored choices has a score: {:?}",
                outcome.scores
            );
            assert!(
                (outcome.vote.clusters.iter().map(|cluster| cluster.weight).sum::<f64>()
                    - doc.choices.len() as f64)
                    .abs()
                    < 1e-9
            );
            // All choices but the first find the prompt, except its last token, whose logits are
            // needed, and what is too short to wait for.
            let shared = (doc.choices.len() - 1) * prompt.tokens.len().saturating_sub(2 + 15);
            assert!(
                record.timing.cached_tokens >= shared,
                "{} of {shared}",
                record.timing.cached_tokens
            );
        }
    }
}

#[test]
fn scored_records_do_not_depend_on_the_batch_and_are_judged_again() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let mut questions = questions(30);
    questions.docs[4].question = "x".repeat(100_000);
    let runs = [1, 4, 64].map(|in_flight| {
        let mut pipeline = pipeline(&loaded, Mode::Chat, framed(PLAIN));
        records(&mut pipeline, &questions, &folder.path().join(in_flight.to_string()), in_flight).1
    });
    assert!(runs.iter().all(|run| *run == runs[0]));
    let (manifest, scored) = rescore(&folder.path().join("4")).unwrap();
    assert!(scored.iter().all(|scored| scored.differs.is_none()));
    assert_eq!(
        (manifest.task.scorer, manifest.config.strategy),
        (Scorer::Loglikelihood, Strategy::Likelihood)
    );
    assert!(manifest.fingerprint.unwrap().strategy.contains("likelihood"));
    let items: Vec<_> = scored.iter().map(|scored| &scored.item).collect();
    assert!(items[4].grade == Grade::NoAnswer && items[4].correct_per_byte.is_none());
    let figure = |name: &str| metric(name).unwrap().evaluate(&items);
    let share = |right: usize| Some(right as f64 / 29.0);
    assert_eq!(
        (figure("acc").value, figure("acc").n),
        (share(items.iter().filter(|item| item.is_correct()).count()), 29)
    );
    assert_eq!(
        figure("acc_norm").value,
        share(items.iter().filter(|item| item.correct_per_byte == Some(true)).count())
    );
    assert_ne!(figure("acc").value, figure("acc_norm").value, "a test of both");
    assert_eq!(figure("maj_at_4").value, None, "options are no draws");
    // A record that says something else is noticed.
    let path = folder.path().join("4/records.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"greedy\":false", "\"greedy\":true", 1)).unwrap();
    let differing: Vec<_> = rescore(&folder.path().join("4"))
        .unwrap()
        .1
        .into_iter()
        .filter_map(|scored| scored.differs)
        .collect();
    assert_eq!(differing, ["choices"]);
}

/// Options with these log-likelihoods, of one token each.
fn options(logprobs: &[f64]) -> Generation {
    let completion = |(index, logprob): (usize, &f64)| Completion {
        index,
        tokens: vec![Token {
            id: 7,
            stats: TokenStats { logprob: *logprob, ..TokenStats::default() },
            top_logprobs: vec![(7, *logprob)],
        }],
        text: format!("option {index}"),
        finish_reason: FinishReason::Scored,
        ..Completion::default()
    };
    Generation {
        completions: logprobs.iter().enumerate().map(completion).collect(),
        cost: Cost::default(),
        ..Generation::default()
    }
}

#[test]
fn the_vote_is_the_softmax_of_the_likelihoods() {
    let check = |logprobs: &[f64], leader: &str, share: f64, margin: f64, tied: bool| {
        let vote = likelihood_vote(&options(logprobs));
        let found = (vote.leader().map_or("", |leader| leader.canonical.as_str()), vote.tied);
        assert_eq!(found, (leader, tied), "{logprobs:?}");
        assert!(
            (vote.share() - share).abs() < 1e-12 && (vote.margin() - margin).abs() < 1e-12,
            "{logprobs:?}: {vote:?}"
        );
    };
    let (quarter, half) = (0.25f64.ln(), 0.5f64.ln());
    check(&[quarter, half, quarter], "b", 0.5, 0.25, false);
    // Only differences count, however small the numbers are.
    check(&[quarter - 5000.0, half - 5000.0, quarter - 5000.0], "b", 0.5, 0.25, false);
    check(&[-1.0, -1.0], "a", 0.5, 0.0, true);
    check(&[-1.0, -2000.0], "a", 1.0, 1.0, false);
    // What is no number does not vote: of three options it is silent, and its share is nobody's.
    check(&[f64::NAN, quarter, quarter], "b", 0.5, 0.0, true);
    check(&[f64::NAN], "", 0.0, 0.0, false);
    check(&[], "", 0.0, 0.0, false);
    let vote = likelihood_vote(&options(&[f64::NAN, -1.0]));
    assert_eq!((vote.failed, vote.answers), (1, vec![None, Some("option 1".to_owned())]));
}

#[test]
fn per_byte_is_another_choice() {
    let doc = Doc::choice("x".into(), "x".into(), vec!["aa".into(), "bbbbbbbb".into()], 1).unwrap();
    let score =
        |logprob: f64, bytes: usize| ScoredChoice { logprob: Some(logprob), bytes, greedy: false };
    // By their sums the first is likelier, by bytes the second: -2 > -4 and -1 < -0.5.
    let both = [score(-2.0, 2), score(-4.0, 8)];
    assert_eq!(is_correct_per_byte(&both, &doc), Some(true));
    let generation = options(&[-2.0, -4.0]);
    assert_eq!(
        Grader::new(Scorer::Loglikelihood, &doc).grade(&likelihood_vote(&generation)),
        Grade::Incorrect
    );
    // Of equals the first counts, and nothing scored is no answer.
    assert_eq!(is_correct_per_byte(&[score(-1.0, 2), score(-4.0, 8)], &doc), Some(false));
    assert_eq!(
        is_correct_per_byte(&[ScoredChoice { logprob: None, ..both[0] }, both[1]], &doc),
        Some(true)
    );
    assert_eq!(is_correct_per_byte(&[ScoredChoice { logprob: None, ..both[0] }], &doc), None);
    // An option's text that spells another one's letter is not taken for it.
    let doc = Doc::choice("x".into(), "x".into(), vec!["B".into(), "A".into()], 0).unwrap();
    assert_eq!(
        Grader::new(Scorer::Loglikelihood, &doc).grade(&likelihood_vote(&options(&[-2.0, -1.0]))),
        Grade::Incorrect
    );
    assert_eq!(
        Grader::new(Scorer::Loglikelihood, &doc).grade(&likelihood_vote(&options(&[-1.0, -2.0]))),
        Grade::Correct
    );
}

/// A question with options of which these are right.
fn several(id: &str, labels: &[usize]) -> Doc {
    let choices =
        (0..labels.len()).map(|i| ["no", "hehe", "the sea", "12", "a"][i].to_owned()).collect();
    let right = (0..labels.len()).filter(|i| labels[*i] == 1).collect();
    Doc::several(id.into(), format!("{id}?"), choices, right).unwrap()
}

#[test]
fn the_mass_of_several_right_choices_is_numpys() {
    // ll, y = numpy.array(..., float), numpy.array(..., bool); p = numpy.exp(ll - ll.max());
    // p[y].sum() / p.sum(), numpy 2.4.6. The first row is also what lm-evaluation-harness'
    // process_results_mc2 gives; of the others it cannot take the exponential.
    let cases: [(&[f64], &[usize], f64); 3] = [
        (&[-3.2, -4.1, -2.7, -6.0], &[1, 1, 0, 0], 0.4513876998436656),
        (&[-310.5, -312.25, -309.0], &[0, 1, 1], 0.8231798178925557),
        (&[-1000.0, -1001.5, -999.0, -1004.0, -998.5], &[1, 0, 1, 1, 0], 0.44265051721785503),
    ];
    for (logprobs, labels, expected) in cases {
        let scores: Vec<ScoredChoice> = logprobs
            .iter()
            .map(|logprob| ScoredChoice { logprob: Some(*logprob), bytes: 1, greedy: false })
            .collect();
        let doc = several("x", labels);
        let found = correct_mass(&scores, &doc).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
        // One without a likelihood leaves no whole to be a share of.
        let mut broken = scores.clone();
        broken[1].logprob = None;
        assert_eq!((correct_mass(&broken, &doc), correct_mass(&[], &doc)), (None, None));
        // The likeliest option is the answer: the third, the third and the fifth.
        let grade =
            Grader::new(Scorer::Loglikelihood, &doc).grade(&likelihood_vote(&options(logprobs)));
        assert_eq!(grade == Grade::Correct, labels == [0, 1, 1], "{logprobs:?}");
    }
    let one = Doc::choice("x".into(), "x".into(), vec!["a".into(), "b".into()], 1).unwrap();
    assert_eq!(
        correct_mass(&[ScoredChoice { logprob: Some(-1.0), bytes: 1, greedy: false }; 2], &one),
        None,
        "one is right: acc says it"
    );
    assert!(Doc::several("x".into(), "x".into(), vec!["a".into(), "b".into()], vec![2]).is_err());
    // Beyond the letters options have numbers, and the thirtieth can be right.
    let many = Doc::several(
        "x".into(),
        "x".into(),
        (0..30).map(|i| format!("o{i}")).collect(),
        vec![3, 29],
    )
    .unwrap();
    let likeliest =
        |at: usize| (0..30).map(|i| if i == at { -1.0 } else { -9.0 }).collect::<Vec<f64>>();
    let grade = |at: usize| {
        Grader::new(Scorer::Loglikelihood, &many).grade(&likelihood_vote(&options(&likeliest(at))))
    };
    assert_eq!([3, 28, 29].map(grade), [Grade::Correct, Grade::Incorrect, Grade::Correct]);
    assert!(many.text().contains("\nZ. o25\n27. o26\n"));
}

#[test]
fn a_run_over_several_right_choices_has_their_mass() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let docs: Vec<Doc> = (0..12)
        .map(|i| {
            let labels: Vec<usize> =
                (0..3 + i % 3).map(|option| usize::from(option <= i % 2)).collect();
            several(&"q".repeat(i + 1), &labels)
        })
        .collect();
    let questions = Questions { docs, ..questions(0) };
    let out = folder.path().join("run");
    let (records, _) =
        records(&mut pipeline(&loaded, Mode::Raw, framed(PLAIN)), &questions, &out, 4);
    let (_, scored) = rescore(&out).unwrap();
    assert!(scored.iter().all(|scored| scored.differs.is_none()));
    // From the log-likelihoods as the records have them, plainly.
    let mass = |record: &Record| {
        let weights: Vec<f64> =
            record.resps.iter().map(|response| response[0].parse::<f64>().unwrap().exp()).collect();
        record.doc.right.iter().map(|index| weights[*index]).sum::<f64>()
            / weights.iter().sum::<f64>()
    };
    let masses: Vec<f64> = records.iter().map(mass).collect();
    let items: Vec<_> = scored.iter().map(|scored| &scored.item).collect();
    for (item, mass) in items.iter().zip(&masses) {
        assert!(
            (item.correct_mass.unwrap() - mass).abs() < 1e-12 && (0.0..=1.0).contains(mass),
            "{item:?}, {mass}"
        );
    }
    let found = estimates(&[metric("mc2").unwrap()], &items, &Bootstrap::of(12)).remove(0);
    let value = found.metric.value.unwrap();
    assert!((value - masses.iter().sum::<f64>() / 12.0).abs() < 1e-12 && found.metric.n == 12);
    let (low, high) = found.interval.unwrap();
    assert!(low < value && value < high && high - low < 0.7, "{low} to {high} around {value}");
    // It is in the tables that a person reads, with its interval.
    let page = candor::internals::report::Report::new(&eval::runs(&[out]).unwrap(), None).unwrap();
    assert_eq!(page.runs[0].metric("mc2"), Some(&found));
    assert!(
        candor::internals::report::markdown(&page)
            .contains(&format!("| mc2 | ↑ | {value:.3} [{low:.3}, {high:.3}] |"))
    );
    assert_eq!(metric("mc2").unwrap().value(&[]), None);
}

#[test]
fn only_options_are_scored() {
    let check = |questions: Questions, scorer: Scorer, expected: &str| {
        let error = questions.by_likelihood(scorer).unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains(expected),
            "{error}, expected {expected}"
        );
    };
    let arithmetic = eval::task("arithmetic").unwrap().open(None).unwrap();
    check(
        arithmetic,
        Scorer::Loglikelihood,
        "arithmetic cannot be scored by loglikelihood: arithmetic:",
    );
    check(questions(3), Scorer::Number, "scorer number is not of the task made");
    let mut empty = questions(3);
    empty.docs[1].choices[0] = " ".into();
    check(empty, Scorer::Loglikelihood, "made:1: option 1 is empty");
    let letters = questions(3).by_likelihood(Scorer::LoglikelihoodLetter).unwrap();
    assert_eq!(letters.scorer.choices(&letters.docs[1]), ["A", "B", "C"]);
    assert_eq!(letters.scorer.question(&letters.docs[0]), "What?\nA. the sea\nB. hehe");
    assert_eq!(letters.question_template, "{question}\nAnswer:");
}

#[test]
fn examples_are_not_asked_and_come_before_every_question() {
    let mut questions = questions(20);
    let asked = questions.subset(Subset { limit: Some(6), seed: 3 }).unwrap();
    // One that is worded as an asked one, and one that nobody can answer.
    let free: Vec<usize> = (0..20).filter(|i| !asked.contains(i)).collect();
    questions.docs[free[0]].question = questions.docs[asked[0]].question.clone();
    questions.docs[free[1]].answerable = Some(false);
    let shots = questions.shots(12, &asked, 3).unwrap();
    for shot in &shots {
        let doc = questions.docs.iter().find(|doc| doc.question == shot.question).unwrap();
        assert_eq!(shot.answer, doc.answers[1]);
        assert!(
            !asked.iter().any(|i| questions.docs[*i].question == shot.question)
                && doc.answerable.is_none()
        );
    }
    assert_eq!(questions.shots(5, &asked, 3).unwrap(), shots[..5]);
    assert_ne!(questions.shots(5, &asked, 4).unwrap(), shots[..5]);
    let error = questions.shots(13, &asked, 3).unwrap_err();
    assert!(
        error.is_usage()
            && error
                .to_string()
                .contains("shots is 13 and 12 questions are left that are not asked"),
        "{error}"
    );
    // The answer is worded as the task wants it.
    let answer = |scorer: Scorer, question_template: &str| {
        let worded =
            Questions { scorer, question_template: question_template.into(), ..questions.clone() };
        worded.shots(1, &asked, 3).unwrap().remove(0).answer
    };
    assert!(["A", "B"].contains(&answer(Scorer::Choice, "{question}").as_str()));
    let sums = eval::task("gsm8k").unwrap();
    let sums = Questions {
        docs: vec![Doc::new("x", "1+1?", vec!["2".into()])],
        question_template: sums.question_template.into(),
        scorer: Scorer::Number,
        ..questions.clone()
    };
    assert_eq!(
        sums.shots(1, &[], 0).unwrap(),
        [Example { question: "1+1?".into(), answer: "#### 2".into() }]
    );

    let examples: Vec<Example> = [("p", "1"), ("{question}", "2")]
        .map(|(q, a)| Example { question: q.into(), answer: a.into() })
        .into();
    let frame = QuestionTemplate {
        system: Some("s".into()),
        user: "Q {question}?".into(),
        few_shot: Some(FewShot { plain: false, examples: examples.clone() }),
        ..QuestionTemplate::default()
    };
    let turns: Vec<(Role, String)> =
        frame.messages("x").into_iter().map(|message| (message.role, message.content)).collect();
    let expected = [
        (Role::System, "s"),
        (Role::User, "Q p?"),
        (Role::Assistant, "1"),
        (Role::User, "Q {question}?"),
        (Role::Assistant, "2"),
        (Role::User, "Q x?"),
    ];
    assert_eq!(turns, expected.map(|(role, text)| (role, text.to_owned())));
    let plain = QuestionTemplate {
        few_shot: Some(FewShot { plain: true, examples }),
        user: PLAIN.into(),
        ..frame.clone()
    };
    let text = "Question: p\nAnswer: 1\n\nQuestion: {question}\nAnswer: 2\n\nQuestion: x\nAnswer:";
    assert_eq!(plain.messages("x")[1].content, text);
    // A calibration is bound to them.
    let none = QuestionTemplate { few_shot: None, ..frame.clone() };
    assert!(none.name() != frame.name() && frame.name() != plain.name());
}

#[test]
fn examples_are_prefilled_once() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let questions = questions(12);
    let run = |count: usize, name: &str, in_flight: usize| {
        let asked: Vec<usize> = (0..6).collect();
        let shots = FewShot { plain: true, examples: questions.shots(count, &asked, 0).unwrap() };
        let few = Questions { docs: questions.docs[..6].to_vec(), ..questions.clone() };
        let frame = QuestionTemplate { few_shot: Some(shots), ..framed(PLAIN) };
        let header = frame.messages("").remove(0).content.len() - "Question: \nAnswer:".len();
        let mut pipeline = pipeline(&loaded, Mode::Raw, frame);
        let out = folder.path().join(name);
        (
            records(&mut pipeline, &few, &out, in_flight).0,
            header,
            eval::Manifest::read(&out).unwrap(),
        )
    };
    let (four, header, manifest) = run(4, "four", 1);
    let (together, ..) = run(4, "together", 6);
    assert_eq!(manifest.config.question_template.few_shot.as_ref().unwrap().examples.len(), 4);
    // One token a byte, but for " the" and "he": the header's tokens are those of a run that has
    // it, less those of one that has none.
    let tokens = loaded.tokenizer.encode(&questions_header(&manifest)).unwrap().len();
    assert!(tokens > 50 && tokens <= header, "{tokens} tokens, {header} bytes");
    for (i, record) in four.iter().enumerate().chain(together.iter().enumerate()) {
        let cost = record.outcome.as_ref().unwrap().cost;
        let options = questions.docs[i].choices.len();
        assert!(cost.prompt_tokens > tokens);
        // From the second question on the first option finds the header too.
        let expected = options * (tokens - 1) - if i == 0 { tokens } else { 0 };
        assert!(
            record.timing.cached_tokens >= expected,
            "question {i}: {} of {expected}",
            record.timing.cached_tokens
        );
    }
    let (three, ..) = run(3, "three", 6);
    assert_ne!(three[0].prompt_hash, four[0].prompt_hash);
}

/// The text of a manifest's examples, as it stands before every question.
fn questions_header(manifest: &eval::Manifest) -> String {
    let examples = &manifest.config.question_template.few_shot.as_ref().unwrap().examples;
    let shown =
        |shot: &Example| format!("Question: {}\nAnswer: {}\n\n", shot.question, shot.answer);
    examples.iter().map(shown).collect()
}
