//! Evaluation: tasks and files to questions, grades, run folders that survive anything, and the
//! same figures again from records.

use std::fs;
use std::path::{Path, PathBuf};

use candor::internals::calibration::{Method, PolicyFile, Split, Target, calibrate};
use candor::internals::consensus::{self, AskedQuestion, Extractor};
use candor::internals::decision::{AbstainReason, Policy};
use candor::internals::digest::sha256_hex;
use candor::internals::eval::{
    self, Doc, FileTask, Grader, IfExists, Labels, Manifest, Map, Progress, Questions, Run, Scorer,
    Shard, Subset, TASKS, rescore,
};
use candor::internals::format::dtype::Dtype;
use candor::internals::generation::{Completion, Cost, FinishReason, Generation, SamplingParams};
use candor::internals::metrics::Grade;
use candor::internals::pipeline::{LoadedModel, QuestionTemplate, Selector, decision_scores};
use candor::{LoadOptions, Pipeline, Settings};
use candor::{Location, ResolvedModel};

use crate::support::folder;
use crate::support::tiny::Recipe;

/// Questions whose answers are digits, which a random model hits now and then.
pub fn digits(count: usize) -> Questions {
    let doc = |i: usize| {
        Doc::new(
            format!("digits:{i}"),
            format!("Question {}?", "x".repeat(i % 7)),
            vec![(i % 4).to_string()],
        )
    };
    Questions {
        name: "digits".into(),
        file_sha256: None,
        question_template: "{question} A digit.".into(),
        scorer: Scorer::Number,
        extractor: Extractor::Number,
        docs: (0..count).map(doc).collect(),
        notes: Vec::new(),
    }
}

/// A random model that says digits and ends soon.
pub fn loaded(folder: &Path) -> LoadedModel {
    load(folder, LoadOptions::default())
}

fn load(folder: &Path, options: LoadOptions) -> LoadedModel {
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
    LoadedModel::load(&resolved, Some(sha256_hex(&bytes)), options).unwrap()
}

pub fn settings(loaded: &LoadedModel, questions: &Questions, seed: u64) -> Settings {
    let biased = (48..52).map(|digit| (digit, 20.0)).chain([(258, 21.5)]);
    Settings {
        params: SamplingParams {
            n: 4,
            seed,
            max_tokens: 6,
            logit_bias: biased.collect(),
            ..SamplingParams::default()
        },
        question_template: QuestionTemplate {
            user: questions.question_template.clone(),
            ..QuestionTemplate::default()
        },
        reader: questions.extractor.into(),
        ..Settings::for_model(loaded)
    }
}

fn ask(pipeline: &mut Pipeline, question: &str) -> candor::Result<candor::Outcome> {
    let messages = pipeline.template().messages(question);
    pipeline.answer(&messages)
}

pub fn pipeline(loaded: &LoadedModel, questions: &Questions) -> Pipeline {
    Pipeline::new(loaded, settings(loaded, questions, 0), candor::EngineOptions::default()).unwrap()
}

pub fn go(
    pipeline: &mut Pipeline,
    questions: &Questions,
    folder: &Path,
) -> candor::Result<Progress> {
    let run = Run { in_flight: 5, ..Run::new(questions, folder) };
    eval::run(pipeline, &run, &mut |_| {})
}

/// The records without what differs from run to run.
pub fn timeless(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("records.jsonl")).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| line.rsplit_once(",\"timing\":").unwrap().0.to_owned()).collect()
}

/// Runs, and again from what is left after a cut anywhere: here 150 of them, by a fixed stream, and
/// the ends of the file and of its first line.
fn survives_cuts(questions: &Questions, shard: Option<Shard>, due: usize) {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path());
    let mut pipeline = pipeline(&loaded, questions);
    let mut go = |folder: &Path| {
        let run = Run { shard, in_flight: 5, ..Run::new(questions, folder) };
        (eval::run(&mut pipeline, &run, &mut |_| {}), run.records_folder())
    };
    let (progress, whole) = go(&folder.path().join("whole"));
    let progress = progress.unwrap();
    assert_eq!(
        (progress.done, progress.found, progress.total, progress.torn_bytes),
        (due, 0, due, 0)
    );
    let (expected, bytes) = (timeless(&whole), fs::read(whole.join("records.jsonl")).unwrap());
    let manifest = fs::read(whole.join("manifest.json")).unwrap();
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let random = (0..150)
        .map(|i| (candor::internals::metrics::bootstrap::mix(i) % bytes.len() as u64) as usize);
    for (i, cut) in random.chain([0, first, first + 1, bytes.len() - 1, bytes.len()]).enumerate() {
        let run = folder.path().join(format!("cut{i}"));
        let part = shard.map_or_else(|| run.clone(), |shard| shard.folder(&run));
        fs::create_dir_all(&part).unwrap();
        fs::write(part.join("manifest.json"), &manifest).unwrap();
        fs::write(part.join("records.jsonl"), &bytes[..cut]).unwrap();
        let progress = go(&run).0.unwrap();
        let lines = bytes[..cut].split(|byte| *byte == b'\n').count() - 1;
        assert_eq!((progress.done, progress.found), (due, lines), "cut at {cut}");
        let found = fs::read(part.join("records.jsonl")).unwrap();
        let kept = cut - progress.torn_bytes as usize;
        assert_eq!(found[..kept], bytes[..kept], "cut at {cut}: what was whole is untouched");
        assert_eq!(timeless(&part), expected, "cut at {cut}");
        fs::remove_dir_all(run).unwrap();
    }
    // What a power failure may leave: a tail of zeros, with or without an end.
    for tail in [&b"\0\0\0\0"[..], b"\0\0\n", b"{\"doc_id\":5,\n"] {
        fs::write(whole.join("records.jsonl"), [&bytes[..=first], tail].concat()).unwrap();
        assert_eq!(go(&folder.path().join("whole")).0.unwrap().torn_bytes, tail.len() as u64);
        assert_eq!(timeless(&whole), expected);
    }
}

#[test]
fn interrupted_runs_end_as_uninterrupted_ones() {
    survives_cuts(&digits(13), None, 13);
}

#[test]
fn interrupted_shards_end_as_uninterrupted_ones() {
    survives_cuts(&digits(38), Some(Shard { index: 2, of: 3 }), 13);
}

#[test]
fn another_run_is_replaced_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let questions = digits(5);
    let loaded = loaded(folder.path());
    let with_seed = |seed| {
        Pipeline::new(
            &loaded,
            settings(&loaded, &questions, seed),
            candor::EngineOptions::default(),
        )
        .unwrap()
    };
    let out = folder.path().join("run");
    let force = Run { if_exists: IfExists::Overwrite, ..Run::new(&questions, &out) };
    go(&mut with_seed(0), &questions, &out).unwrap();
    let first = timeless(&out);
    // The same run goes on, forced or not.
    assert_eq!(eval::run(&mut with_seed(0), &force, &mut |_| {}).unwrap().found, 5);
    let refused = go(&mut with_seed(1), &questions, &out).unwrap_err().to_string();
    assert!(
        refused.contains("config.seed is 1 and was 0") && refused.contains("--force"),
        "{refused}"
    );
    assert_eq!(timeless(&out), first);
    fs::write(out.join("mine.txt"), "kept").unwrap();
    assert_eq!(eval::run(&mut with_seed(1), &force, &mut |_| {}).unwrap().found, 0);
    assert_eq!(fs::read_to_string(out.join("mine.txt")).unwrap(), "kept");
    let fresh = folder.path().join("fresh");
    go(&mut with_seed(1), &questions, &fresh).unwrap();
    assert!(timeless(&out) == timeless(&fresh) && timeless(&out) != first);
    assert_eq!(
        fs::read(out.join("manifest.json")).unwrap(),
        fs::read(fresh.join("manifest.json")).unwrap()
    );
    // What no run wrote stays, whatever is asked.
    for (manifest, expected) in [
        (None, "records without a manifest"),
        (Some("{\"name\":\"a web page\"}"), "no manifest of a run"),
    ] {
        let foreign = folder.path().join(expected);
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("records.jsonl"), "mine\n").unwrap();
        manifest.inspect(|text| fs::write(foreign.join("manifest.json"), text).unwrap());
        let error = eval::run(&mut with_seed(1), &Run { folder: &foreign, ..force }, &mut |_| {})
            .unwrap_err();
        assert!(error.is_invalid_file() && error.to_string().contains(expected), "{error}");
        assert_eq!(fs::read_to_string(foreign.join("records.jsonl")).unwrap(), "mine\n");
    }
}

#[test]
fn a_run_may_stop_at_what_cannot_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut questions = digits(12);
    questions.docs[6].question = "x".repeat(100_000);
    let loaded = loaded(folder.path());
    let out = folder.path().join("run");
    let run = Run { fail_on_error: true, in_flight: 3, ..Run::new(&questions, &out) };
    let error = eval::run(&mut pipeline(&loaded, &questions), &run, &mut |_| {}).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(
        error.to_string().starts_with("question digits:6 could not be asked: ")
            && error.to_string().contains("context"),
        "{error}"
    );
    assert_eq!(timeless(&out).len(), 6);
    // Again: the same question stops it, and nothing is lost. Without the flag it is recorded and
    // the run ends.
    assert!(eval::run(&mut pipeline(&loaded, &questions), &run, &mut |_| {}).is_err());
    assert_eq!(timeless(&out).len(), 6);
    assert_eq!(go(&mut pipeline(&loaded, &questions), &questions, &out).unwrap().found, 6);
    assert_eq!(timeless(&out).len(), 12);
}

/// Samples with these texts, each ended by the model.
fn said(texts: &[&str]) -> Generation {
    let completion = |(index, text): (usize, &&str)| Completion {
        index,
        tokens: vec![candor::Token {
            id: 0,
            stats: candor::TokenStats::default(),
            top_logprobs: Vec::new(),
        }],
        text: (*text).to_owned(),
        finish_reason: FinishReason::Stop,
        ..Completion::default()
    };
    Generation {
        completions: texts.iter().enumerate().map(completion).collect(),
        cost: Cost::default(),
        ..Generation::default()
    }
}

#[test]
fn a_model_that_does_not_know_abstains() {
    let estimator = candor::internals::uncertainty::DEFAULT_ESTIMATOR;
    let policy = Policy::MinVoteShare { min_vote_share: 0.2 };
    let selector = Selector::new(Extractor::Number.into(), estimator, policy);
    let doc = Doc::new("d", "How many?", vec!["7".into()]);
    let grader = Grader::new(Scorer::Number, &doc);
    let check = |texts: &[&str], code: Option<&str>, scored: bool, grade: Grade| {
        let generation = said(texts);
        let verdict = selector.verdict(&AskedQuestion::default(), &generation);
        assert_eq!(verdict.decision.reason().map(AbstainReason::code), code, "{texts:?}");
        assert_eq!(
            (verdict.uncertainty.is_some(), grader.grade(&verdict.vote)),
            (scored, grade),
            "{texts:?}"
        );
        let score = |estimator: &candor::internals::uncertainty::Estimator| {
            verdict.scores.get(estimator.name).copied()
        };
        let found = decision_scores(&[estimator], &verdict.vote, &[], &score);
        assert_eq!(found[0].is_some(), scored, "{texts:?}");
    };
    check(
        &["I don't know", "7", "I don't know."],
        Some("model_abstained"),
        false,
        Grade::Incorrect,
    );
    check(&["7", "7", "I don't know."], None, true, Grade::Correct);
    check(
        &["I don't know", "idk", "#### I do not know"],
        Some("model_abstained"),
        false,
        Grade::Incorrect,
    );
    check(&["I don't know, but 7", "7", "I'm not sure, perhaps 7"], None, true, Grade::Correct);
    // Not to know is no answer to a question whose gold answer reads so either.
    let odd = Grader::new(Scorer::Exact, &Doc::new("d", "Say it", vec!["I don't know".into()]));
    assert_eq!(
        odd.grade(&selector.verdict(&AskedQuestion::default(), &said(&["I don't know"])).vote),
        Grade::Incorrect
    );
    let reason = selector
        .verdict(&AskedQuestion::default(), &said(&["I don't know", "7", "I don't know."]))
        .decision;
    let text = serde_json::to_string(&reason).unwrap();
    assert!(
        text.contains("\"code\":\"model_abstained\"")
            && text.contains("2 of 3 samples say that they do not know"),
        "{text}"
    );
    assert_eq!(
        serde_json::from_str::<candor::internals::decision::Decision>(&text).unwrap(),
        reason
    );
}

#[test]
fn records_do_not_depend_on_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let questions = digits(9);
    let loaded = loaded(folder.path());
    let runs: Vec<Vec<String>> = [1, 3, 64]
        .map(|in_flight| {
            let out = folder.path().join(in_flight.to_string());
            let run = Run { in_flight, ..Run::new(&questions, &out) };
            let mut heard = Vec::new();
            eval::run(&mut pipeline(&loaded, &questions), &run, &mut |progress| {
                heard.push(progress.done);
            })
            .unwrap();
            assert!(
                heard.first() == Some(&0) && heard.last() == Some(&9) && heard.is_sorted(),
                "{heard:?}"
            );
            timeless(&out)
        })
        .into();
    assert!(runs.iter().all(|run| *run == runs[0]));
}

#[test]
fn scores_from_records_are_those_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut questions = digits(60);
    // One that cannot be asked, and one that nobody can answer.
    questions.docs[7].question = "x".repeat(100_000);
    questions.docs[8] =
        Doc { answerable: Some(false), ..Doc::new("digits:8", "Which?", Vec::new()) };
    let loaded = loaded(folder.path());
    let out = folder.path().join("run");
    go(&mut pipeline(&loaded, &questions), &questions, &out).unwrap();
    let (manifest, scored) = rescore(&out).unwrap();
    assert_eq!((manifest.task.questions, scored.len()), (60, 60));
    assert!(scored.iter().all(|scored| scored.differs.is_none()));
    let records: Vec<eval::Record> =
        eval::Records::open(&out).unwrap().map(Result::unwrap).collect();
    for (i, (record, scored)) in records.iter().zip(&scored).enumerate() {
        assert_eq!(
            (record.doc_id, record.grade, &record.doc.id),
            (i, scored.item.grade, &scored.item.id)
        );
        assert_eq!(record.doc_hash, questions.docs[i].hash());
        assert_eq!(record.outcome.is_none(), i == 7);
    }
    assert!(
        records[7].error.as_ref().unwrap().contains("the context holds"),
        "{:?}",
        records[7].error
    );
    assert!(records[8].grade != Grade::Correct && records[8].doc.answerable == Some(false));
    let grades = |grade: Grade| records.iter().filter(|record| record.grade == grade).count();
    assert!(
        grades(Grade::Correct) > 0 && grades(Grade::Incorrect) > 20 && grades(Grade::NoAnswer) > 0,
        "a test of all three grades"
    );
    // A record that says something else is noticed.
    let text = fs::read_to_string(out.join("records.jsonl")).unwrap();
    fs::write(
        out.join("records.jsonl"),
        text.replacen("\"grade\":\"incorrect\"", "\"grade\":\"correct\"", 1),
    )
    .unwrap();
    let differing: Vec<_> =
        rescore(&out).unwrap().1.into_iter().filter_map(|scored| scored.differs).collect();
    assert_eq!(differing, ["grade"]);
}

#[test]
fn other_settings_do_not_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let questions = digits(5);
    let loaded = loaded(folder.path());
    let out = folder.path().join("run");
    go(&mut pipeline(&loaded, &questions), &questions, &out).unwrap();
    let before = fs::read(out.join("records.jsonl")).unwrap();
    let check = |change: &dyn Fn(&mut Settings, &mut Questions), expected: &str| {
        let mut questions = questions.clone();
        let mut settings = settings(&loaded, &questions, 0);
        change(&mut settings, &mut questions);
        let mut pipeline =
            Pipeline::new(&loaded, settings, candor::EngineOptions::default()).unwrap();
        let error = go(&mut pipeline, &questions, &out).unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains(expected),
            "{error}, expected {expected}"
        );
        assert_eq!(fs::read(out.join("records.jsonl")).unwrap(), before);
    };
    check(
        &|settings, _| settings.params.seed = 7,
        "holds another run: config.seed is 7 and was 0;",
    );
    check(&|settings, _| settings.params.n = 5, "config.n is 5 and was 4");
    check(
        &|settings, _| settings.params.temperature = 0.5,
        "config.temperature is 0.5 and was 1.0",
    );
    check(
        &|settings, _| settings.reader.extractor = Extractor::Auto,
        "config.extractor is \"auto\" and was \"number\"",
    );
    check(
        &|settings, _| settings.question_template.user = "{question}".into(),
        "config.question_template.user is \"{question}\" and was",
    );
    check(
        &|settings, _| settings.question_template.confidence_target = Some(0.9),
        "config.question_template.confidence_target is 0.9 and was absent",
    );
    check(
        &|settings, _| settings.prompt.date = "2026-01-01".parse().unwrap(),
        "config.date is \"2026-01-01\" and was \"2024-07-26\"",
    );
    check(
        &|settings, _| settings.estimator = Some(candor::internals::uncertainty::ESTIMATORS[0]),
        "estimator is \"vote_share\" and was",
    );
    check(
        &|_, questions| questions.scorer = Scorer::Exact,
        "task.scorer is \"exact\" and was \"number\"",
    );
    check(&|_, questions| questions.docs[3].answers = vec!["9".into()], "task.docs_sha256 is");
    check(&|_, questions| drop(questions.docs.pop()), "task.questions is 4 and was 5");

    // What computes belongs to the samples; which processor it is does not.
    let portable = LoadOptions {
        device: candor::internals::model::Device::Portable,
        ..LoadOptions::default()
    };
    let elsewhere = load(folder.path(), portable);
    let error =
        go(&mut pipeline(&elsewhere, &questions), &questions, &out).unwrap_err().to_string();
    assert!(error.contains("config.compute.device is \"portable\" and was \"cpu\""), "{error}");
    let manifest = fs::read_to_string(out.join("manifest.json")).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    other["machine"]["cpu"] = "another".into();
    other["machine"]["cpu_features"] = serde_json::json!(["none"]);
    fs::write(out.join("manifest.json"), other.to_string()).unwrap();
    assert_eq!(go(&mut pipeline(&loaded, &questions), &questions, &out).unwrap().found, 5);

    let spoil = |text: &[u8], expected: &str| {
        fs::write(out.join("records.jsonl"), text).unwrap();
        let error = go(&mut pipeline(&loaded, &questions), &questions, &out).unwrap_err();
        assert!(
            error.is_invalid_file() && error.to_string().contains(expected),
            "{error}, expected {expected}"
        );
    };
    let lines: Vec<&[u8]> = before.split_inclusive(|byte| *byte == b'\n').collect();
    spoil(&[lines[1], lines[0]].concat(), "line 1: a record of question 1, where 0 is due");
    spoil(&[lines[0], b"nonsense\n", lines[1]].concat(), "line 2: no record");
    spoil(&[&before[..], lines[0]].concat(), "line 6: a record more than there are questions");
    fs::remove_file(out.join("manifest.json")).unwrap();
    spoil(&before, "records without a manifest");
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let questions = digits(5);
    let loaded = loaded(folder.path());
    let out = folder.path().join("run");
    let (mut first, mut second) = (pipeline(&loaded, &questions), pipeline(&loaded, &questions));
    let mut refused = 0;
    let run = Run { in_flight: 2, ..Run::new(&questions, &out) };
    eval::run(&mut first, &run, &mut |_| {
        let error = go(&mut second, &questions, &out).unwrap_err();
        assert!(
            error.is_usage() && error.to_string().starts_with("another run writes to"),
            "{error}"
        );
        refused += 1;
    })
    .unwrap();
    assert!(refused >= 2);
    // Once it is done, the folder is free.
    assert_eq!(go(&mut second, &questions, &out).unwrap().found, 5);
}

/// A policy over labeled questions that were made up: surer is righter.
fn policy(labels: &Labels, goal: Target) -> PolicyFile {
    let example = |i: u64| candor::internals::calibration::Example {
        id: format!("made:{i}"),
        text: None,
        scores: vec![Some(f64::from(i as u32 % 100) / 50.0)],
        grade: if candor::internals::metrics::bootstrap::mix(i) % 100 >= i % 100 {
            Grade::Correct
        } else {
            Grade::Incorrect
        },
    };
    let split = Split::random_split((0..1000).map(example).collect(), 0.4, 0.4, 0).unwrap();
    calibrate(&split, Method::Sigmoid, goal, labels.fingerprint.clone()).unwrap()
}

#[test]
fn policies_decide_and_are_bound_to_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let questions = digits(40);
    let loaded = loaded(folder.path());
    let out = folder.path().join("run");
    go(&mut pipeline(&loaded, &questions), &questions, &out).unwrap();
    let labels = Labels::read(&out, &[]).unwrap();
    assert_eq!(
        (labels.examples.len(), labels.fingerprint.estimator.as_str()),
        (40, "discrete_semantic_entropy")
    );
    let path = PathBuf::from("policy.json");

    // Another configuration: refused, by field, and the pipeline is as it was.
    let file = policy(&labels, Target::JointRisk { alpha: 0.1 });
    let mut other = pipeline(
        &loaded,
        &Questions { question_template: "{question}".into(), ..questions.clone() },
    );
    let error = other.bind_policy(file.clone(), &path).unwrap_err();
    assert!(error.is_invalid_file() && error.exit_code() == 4, "{error}");
    assert!(
        error
            .to_string()
            .contains("question_template is `{question}` here and was `{question} A digit.` there"),
        "{error}"
    );
    assert!(other.selector().policy_file().is_none());

    // The same: the outcome has a confidence, and the threshold decides, in ask and in a run.
    let mut same = pipeline(&loaded, &questions);
    same.bind_policy(file.clone(), &path).unwrap();
    let threshold = file.threshold().unwrap().max_uncertainty;
    let decided = folder.path().join("decided");
    go(&mut same, &questions, &decided).unwrap();
    let (_, scored) = rescore(&decided).unwrap();
    assert!(scored.iter().all(|scored| scored.differs.is_none()));
    let mut seen = [0, 0, 0];
    for scored in &scored {
        let verdict = scored.verdict.as_ref().unwrap();
        match (verdict.uncertainty, verdict.vote.tied || verdict.vote.leader().is_none()) {
            (Some(uncertainty), false) => {
                assert_eq!(verdict.decision.is_answer(), uncertainty.value() <= threshold);
                assert!((0.0..=1.0).contains(&verdict.confidence.unwrap().value()));
                seen[usize::from(verdict.decision.is_answer())] += 1;
            }
            (score, silent) => {
                assert!(
                    silent
                        && score.is_none()
                        && verdict.confidence.is_none()
                        && !verdict.decision.is_answer()
                );
                seen[2] += 1;
            }
        }
    }
    assert!(seen[2] > 0 && seen[0] + seen[1] > 0, "{seen:?}");
    let outcome = ask(&mut same, "Question x?").unwrap();
    let json = serde_json::to_value(&outcome).unwrap();
    assert_eq!(json["calibration"]["guarantee"], file.guarantee());
    assert_eq!(json["calibration"]["n"], 800);
    assert_eq!(json["calibration"]["certified"], true);
    assert_eq!(json["calibration"]["id"].as_str().unwrap().len(), 16);
    assert_eq!(json["policy"], serde_json::Value::Null);
    assert_eq!(json["config"]["policy"], "max_uncertainty");

    // Nothing certified: nothing is answered, and the outcome says so.
    let vain = policy(&labels, Target::SelectiveRisk { alpha: 1e-6, delta: 1e-6 });
    assert!(!vain.is_certified());
    let mut silent = pipeline(&loaded, &questions);
    silent.bind_policy(vain, &path).unwrap();
    let outcomes: Vec<_> =
        questions.docs.iter().map(|doc| ask(&mut silent, &doc.text()).unwrap()).collect();
    assert!(outcomes.iter().all(|outcome| !outcome.decision.is_answer()));
    assert!(
        outcomes.iter().any(|outcome| outcome.decision.reason().unwrap().code() == "uncertified")
    );

    // A run on questions that the policy was made on would flatter.
    let mut own = questions.clone();
    own.docs[0].id.clone_from(&file.calibration_ids[0]);
    let error = go(&mut same, &own, &folder.path().join("own")).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("the policy was made on question"),
        "{error}"
    );
}

#[test]
fn tied_questions_have_no_score_to_certify_by() {
    let folder = tempfile::tempdir().unwrap();
    let questions = digits(60);
    let loaded = loaded(folder.path());
    let out = folder.path().join("run");
    go(&mut pipeline(&loaded, &questions), &questions, &out).unwrap();
    let labels = Labels::read(&out, &["vote_share".into(), "perplexity".into()]).unwrap();
    assert_eq!(labels.fingerprint.estimator, "vote_share+perplexity");
    let (_, scored) = rescore(&out).unwrap();
    let mut tied = 0;
    for (example, scored) in labels.examples.iter().zip(&scored) {
        let vote = &scored.verdict.as_ref().unwrap().vote;
        let silent = vote.tied || vote.leader().is_none();
        assert_eq!((example.scores.len(), example.grade), (2, scored.item.grade));
        assert!(example.scores.iter().all(|score| score.is_none() == silent));
        tied += usize::from(vote.tied);
    }
    assert!(tied > 0);
    assert!(
        Labels::read(&out, &["magic".into()])
            .err()
            .unwrap()
            .to_string()
            .contains("estimator `magic` is unknown")
    );
}

fn voted(texts: &[&str], extractor: Extractor) -> consensus::Vote {
    let completion = |(index, text): (usize, &&str)| Completion {
        index,
        tokens: Vec::new(),
        text: (*text).to_owned(),
        finish_reason: FinishReason::Stop,
        ..Completion::default()
    };
    let generation = Generation {
        completions: texts.iter().enumerate().map(completion).collect(),
        cost: Cost::default(),
        ..Generation::default()
    };
    consensus::vote(&AskedQuestion::default(), &generation, &extractor.into())
}

#[test]
fn answers_are_graded_as_they_were_counted() {
    use Extractor::{Auto, Choice, Number, ShortAnswer};
    use Grade::{Correct, Incorrect, NoAnswer};
    let check =
        |scorer: Scorer, extractor: Extractor, gold: &[&str], text: &str, expected: Grade| {
            let doc = Doc::new("x", "x", gold.iter().map(|g| (*g).to_owned()).collect());
            let vote = voted(&[text], extractor);
            let grader = Grader::new(scorer, &doc);
            assert_eq!(grader.grade(&vote), expected, "{scorer:?}, {gold:?}, {text:?}");
            assert_eq!(grader.samples(&vote)[0].correct, expected == Grade::Correct);
        };
    check(Scorer::Number, Number, &["18"], "16 - 3 - 4 = 9, and 9 * 2 = 18.\n#### 18", Correct);
    check(Scorer::Number, Number, &["18"], "#### 18.0", Correct);
    check(Scorer::Number, Number, &["1450"], "That is $1,450 in all.", Correct);
    check(Scorer::Number, Number, &["-734"], "25 - 759 = -734", Correct);
    check(Scorer::Number, Number, &["734"], "25 - 759 = -734", Incorrect);
    check(Scorer::Number, Number, &["0.5"], "#### 1/2", Correct);
    check(Scorer::Number, Auto, &["5"], "The answer is 5 miles.", Correct);
    check(Scorer::Number, Number, &["5"], "Quite a few.", NoAnswer);
    check(Scorer::Number, Number, &["5"], "I cannot say.", Incorrect);
    // A fraction is no end of a sentence: one peer takes the text after the last full stop for the
    // answer.
    check(Scorer::Number, Number, &["3.14"], "Pi is about 3.14.", Correct);
    check(Scorer::Number, Number, &["14"], "Pi is about 3.14.", Incorrect);
    check(Scorer::Number, Auto, &["3.14"], "The answer is 3.14.", Correct);
    check(Scorer::Exact, ShortAnswer, &["Jamaican English", "Patois"], "patois", Correct);
    check(Scorer::Exact, ShortAnswer, &["The U.S."], "US", Correct);
    check(Scorer::Exact, ShortAnswer, &["Paris"], "Lyon", Incorrect);
    check(Scorer::Exact, Auto, &["42"], "The answer is 42.", Correct);
    check(Scorer::Choice, Choice, &["B", "a tundra"], "(B)", Correct);
    check(Scorer::Choice, Choice, &["B", "a tundra"], "b) a tundra", Correct);
    check(Scorer::Choice, Choice, &["B", "a tundra"], "The answer is C.", Incorrect);
    check(Scorer::Choice, Auto, &["B", "a tundra"], "a tundra", Correct);

    // What holds no answer has no vote, however often it is said: one peer counts its placeholder
    // for it.
    let doc = Doc::new("x", "x", vec!["7".into()]);
    let vote = voted(&["Quite a few.", "Quite a few.", "Very many!", "#### 7"], Number);
    assert_eq!(
        (Grader::new(Scorer::Number, &doc).grade(&vote), vote.unparsed, vote.clusters.len()),
        (Correct, 3, 1)
    );
    assert!((vote.share() - 0.25).abs() < 1e-12, "silence counts as disagreement");
    assert_eq!(
        Grader::new(Scorer::Exact, &Doc::new("x", "x", vec!["[invalid]".into()]))
            .grade(&voted(&["", " \n"], ShortAnswer)),
        NoAnswer
    );

    // On a question without an answer every answer is wrong, whatever stands in the data.
    let doc = Doc { answerable: Some(false), ..Doc::new("x", "x", vec!["7".into()]) };
    let grader = Grader::new(Scorer::Number, &doc);
    assert_eq!(
        ["7", "8", "none"].map(|text| grader.grade(&voted(&[text], Number))),
        [Incorrect, Incorrect, NoAnswer]
    );

    // Samples carry the number of their answer; one that is none never votes.
    let doc = Doc::new("x", "x", vec!["7".into()]);
    let samples =
        Grader::new(Scorer::Number, &doc).samples(&voted(&["7", "8", "8", "no", "7.0"], Number));
    let found: Vec<_> = samples.iter().map(|sample| (sample.answer, sample.correct)).collect();
    assert_eq!(found.len(), 5);
    assert!(
        found[0] == found[4]
            && found[1] == found[2]
            && found[3] == (None, false)
            && found[0].1
            && !found[1].1
    );
}

#[test]
fn maps_are_read() {
    let check =
        |text: &str, expected: Map| assert_eq!(text.parse::<Map>().unwrap(), expected, "{text}");
    check("question=problem", Map { question: "problem".into(), ..Map::default() });
    check(
        "answer=a,question=q",
        Map { question: "q".into(), answer: "a".into(), ..Map::default() },
    );
    let all = Map {
        choices: Some("c.text".into()),
        labels: Some("c.label".into()),
        id: Some("i".into()),
        answerable: Some("known".into()),
        ..Map::default()
    };
    check("choices=c.text,labels=c.label,id=i,answerable=known", all);
    check("question=a=b", Map { question: "a=b".into(), ..Map::default() });
    let refuse = |text: &str, expected: &str| {
        let error = text.parse::<Map>().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(expected), "{text}: {error}");
    };
    refuse("", "map has \"\"; it must be KEY=COLUMN");
    refuse("question", "map has \"question\"");
    refuse("question=", "map has \"question=\"");
    refuse(
        "gold=x",
        "map has `gold`; it must be question, answer, choices, labels, id or answerable",
    );
    refuse("id=x,id=y", "map names id twice");
}

fn open(name: &str, bytes: &[u8], map: &str, scorer: Option<Scorer>) -> candor::Result<Questions> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let map = if map.is_empty() { Map::default() } else { map.parse().unwrap() };
    FileTask { path, map, scorer }.open()
}

#[test]
fn files_become_questions() {
    let check = |name: &str, text: &str, map: &str, expected: &[(&str, &[&str])]| {
        let questions = open(name, text.as_bytes(), map, None).unwrap();
        let found: Vec<(String, Vec<String>)> =
            questions.docs.iter().map(|doc| (doc.text(), doc.answers.clone())).collect();
        let wanted: Vec<(String, Vec<String>)> = expected
            .iter()
            .map(|(q, a)| ((*q).to_owned(), a.iter().map(|a| (*a).to_owned()).collect()))
            .collect();
        assert_eq!(found, wanted, "{text}");
    };
    check(
        "a.jsonl",
        "{\"question\":\"1+1?\",\"answer\":2}\n\n{\"question\":\"x\",\"answer\":[\"a\",\"b\"]}",
        "",
        &[("1+1?", &["2"]), ("x", &["a", "b"])],
    );
    check(
        "a.csv",
        "\u{feff}q,a\r\n\"Who, \"\"exactly\"\"?\",Ada\r\nWhere?,Paris\r\n",
        "question=q,answer=a",
        &[("Who, \"exactly\"?", &["Ada"]), ("Where?", &["Paris"])],
    );
    check("a.TSV", "question\tanswer\nSay \"hi\"\thi\n", "", &[("Say \"hi\"", &["hi"])]);
    let choices = "question=q,answer=a,choices=c";
    check(
        "a.jsonl",
        "{\"q\":\"x\",\"a\":1,\"c\":[\"no\",\"yes\"]}",
        choices,
        &[("x\nA. no\nB. yes", &["B", "yes"])],
    );
    check(
        "a.jsonl",
        "{\"q\":\"x\",\"a\":\"a\",\"c\":[\"no\",\"yes\"]}",
        choices,
        &[("x\nA. no\nB. yes", &["A", "no"])],
    );
    check("a.csv", "q,c,a\nx,no|yes,yes\n", choices, &[("x\nA. no\nB. yes", &["B", "yes"])]);
    let labeled = "question=q,answer=key,choices=o.text,labels=o.label";
    let numbered = r#"{"q":"x","key":"1","o":{"text":["no","yes"],"label":["1","2"]}}"#;
    check("a.jsonl", numbered, labeled, &[("x\nA. no\nB. yes", &["A", "no"])]);
    let each = r#"{"q":"x","key":"b","o":[{"text":"no","label":"a"},{"text":"yes","label":"b"}]}"#;
    check("a.jsonl", each, labeled, &[("x\nA. no\nB. yes", &["B", "yes"])]);
    check(
        "a.jsonl",
        r#"{"a.b":"x","c":{"d":{"e":7}}}"#,
        "question=a.b,answer=c.d.e",
        &[("x", &["7"])],
    );
    // A text that is an option is that option, not an index.
    check("a.csv", "q,c,a\nx,3|1|2,1\n", choices, &[("x\nA. 3\nB. 1\nC. 2", &["B", "1"])]);
    check("a.jsonl", "{\"question\":\"x\",\"known\":false}", "answerable=known", &[("x", &[])]);
    let named = open("a.csv", b"question,answer,n\nx,1,seven\n", "id=n", None).unwrap();
    let unnamed = open("b.jsonl", b"{\"question\":\"x\",\"answer\":\"1\"}", "", None).unwrap();
    assert_eq!((named.docs[0].id.as_str(), unnamed.docs[0].id.len()), ("seven", 16));
    assert_eq!(
        unnamed.docs[0].id,
        open("c.tsv", b"question\tanswer\nx\t2\n", "", None).unwrap().docs[0].id
    );
}

#[test]
fn a_number_is_an_index_and_an_ambiguous_text_is_refused() {
    let gold = |answer: &str, choices: &str| {
        let row = format!("{{\"question\":\"Count?\",\"choices\":{choices},\"answer\":{answer}}}");
        open("a.jsonl", row.as_bytes(), "choices=choices", None)
            .map(|questions| questions.docs[0].answers[0].clone())
            .map_err(|error| error.to_string())
    };
    let check = |answer: &str, choices: &str, expected: &str| {
        assert_eq!(gold(answer, choices).as_deref(), Ok(expected), "{answer} of {choices}");
    };
    check("0", r#"["2","1","0","3"]"#, "A");
    check("1", r#"["1","2","3","0"]"#, "B");
    check("2", r#"["1","2","3","4"]"#, "C");
    check("1", "[3,1,2]", "B");
    check(r#""4""#, r#"["3","4","5"]"#, "B");
    check(r#""B""#, r#"["A","B","C"]"#, "B");
    check(r#""b""#, r#"["x","y"]"#, "B");
    let refuse = |answer: &str, choices: &str, expected: &str| {
        let error = gold(answer, choices).unwrap_err();
        assert!(error.contains("line 1") && error.contains(expected), "{answer}: {error}");
    };
    let remedy = "name a column of labels with --map labels=COLUMN";
    refuse(r#""B""#, r#"["C","A","B","D"]"#, remedy);
    refuse(r#""2""#, r#"["1","2","3","4"]"#, remedy);
    refuse("3", r#"["x","y","z"]"#, "an index from 0, and the row has 3 choices");
    refuse("1.5", r#"["x","y","z"]"#, "an index from 0");
    refuse("-1", r#"["x","y","z"]"#, "an index from 0");
    let row = b"{\"question\":\"q\",\"choices\":[\"x\",\"y\"],\"answer\":1}";
    let notes = |map: &str| open("a.jsonl", row, map, None).unwrap().notes.concat();
    assert!(notes("").contains("the column `choices` is not used"), "{}", notes(""));
    assert_eq!(notes("choices=choices"), "");
}

#[test]
fn a_data_file_is_kept_exactly_or_refused() {
    let answer = |name: &str, text: &str| {
        open(name, text.as_bytes(), "", None).map(|q| q.docs[0].answers[0].clone())
    };
    for number in
        ["1267650600228229401496703205376", "18446744073709551617", "0.12345678901234567891"]
    {
        let row = format!("{{\"question\":\"a \\\"1e999\\\"?\",\"answer\":{number}}}");
        assert_eq!(answer("a.jsonl", &row).unwrap(), number);
    }
    for number in ["0.1", "-7", "18446744073709551615", "51.0"] {
        let row = format!("{{\"question\":\"x\",\"answer\":{number}}}");
        assert_eq!(answer("a.jsonl", &row).unwrap(), number);
    }
    let refuse = |text: &str, expected: &str| {
        let error = answer("a.csv", text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    };
    refuse("question,answer\nWhat?,\"4\nWho?,6\n", "line 2: a quoted field is never closed");
    refuse(
        "question,answer\nWhat?,\"4\nWho?,\"Ada\"\n",
        "line 2: a quoted field is closed on line 3 before its end",
    );
    let questions = open("a.csv", b"question,answer\r\n\"a\r\nb\",1\r\n", "", None).unwrap();
    assert_eq!(questions.docs[0].question, "a\nb");
}

#[test]
fn bad_rows_are_named() {
    let check = |name: &str, bytes: &[u8], map: &str, expected: &str| {
        let error = open(name, bytes, map, (!map.contains("choices")).then_some(Scorer::Number))
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}, expected {expected}");
        assert!(error.exit_code() == 4 || expected.contains("must end with"), "{error}");
    };
    let good = "{\"question\":\"x\",\"answer\":1}\n";
    check("a.txt", b"x", "", "the name must end with .jsonl, .csv, .tsv or .parquet");
    check("a.jsonl", b"", "", "no question in it");
    check(
        "a.jsonl",
        format!("{good}\n{{\"question\":").as_bytes(),
        "",
        "a.jsonl: line 3: not JSON",
    );
    check("a.jsonl", format!("{good}[1]").as_bytes(), "", "line 2: a list; it must be an object");
    check(
        "a.jsonl",
        b"{\"query\":\"x\",\"answer\":1}",
        "",
        "line 1: no field `question`; it has query, answer; name the field with --map",
    );
    check(
        "a.jsonl",
        b"{\"question\":[],\"answer\":1}",
        "",
        "line 1: field `question` is a list; it must be a text",
    );
    check("a.jsonl", b"{\"question\":\" \",\"answer\":1}", "", "line 1: the question is empty");
    check("a.jsonl", b"{\"question\":\"x\",\"answer\":null}", "", "line 1: field `answer` is null");
    check("a.jsonl", b"{\"question\":\"x\",\"answer\":[]}", "", "line 1: field `answer` is a list");
    check(
        "a.jsonl",
        format!("{good}{good}").as_bytes(),
        "",
        "line 2: the same question or id as line 1",
    );
    check(
        "a.csv",
        b"question,answer\nx,1\ny,NaN\n",
        "",
        "line 3: the gold answer \"NaN\" is not a number",
    );
    check("a.csv", b"question,answer\nx,\n", "", "line 2: the gold answer \"\" is not a number");
    check("a.csv", b"question,answer\nx,1\ny,2,3\n", "", "line 3: 3 fields; the header has 2");
    check("a.csv", b"question,question\nx,1\n", "", "line 1: two columns are named `question`");
    check("a.csv", b"question,answer\nx,1\n\xff,2\n", "", "line 3: not UTF-8 at byte 20");
    check(
        "a.csv",
        b"question,answer,k\nx,1,maybe\n",
        "answerable=k",
        "line 2: field `k` is \"maybe\"; it must be true or false",
    );
    check(
        "a.csv",
        b"question,answer,c\nx,5,a|b\n",
        "choices=c",
        "line 2: answer \"5\" is not the text, letter, or index from 0 of a choice",
    );
    check("a.csv", b"question,answer,c\nx,a,a\n", "choices=c", "line 2: 1 choices; give 2 to 10");
    let labels = "choices=c,labels=l";
    check(
        "a.csv",
        b"question,answer,c,l\nx,3,a|b,1|2\n",
        labels,
        "line 2: answer \"3\" is not the label of a choice",
    );
    check(
        "a.csv",
        b"question,answer,c,l\nx,1,a|b,1|1\n",
        labels,
        "line 2: answer \"1\" is not the label of a choice",
    );
    check(
        "a.jsonl",
        b"{\"question\":\"x\",\"answer\":{\"a\":1}}",
        "answer=answer.b",
        "line 1: no field `answer.b`",
    );
    let long = [&b"{\"question\":\""[..], &vec![b'x'; 17 << 20], b"\",\"answer\":1}"].concat();
    let error = open("a.jsonl", &[good.as_bytes(), &long].concat(), "", None).unwrap_err();
    assert!(
        error.exit_code() == 6 && error.to_string().contains("a.jsonl: line 2: more than 16 MB"),
        "{error}"
    );
    let error = FileTask { path: "nowhere.csv".into(), map: Map::default(), scorer: None }
        .open()
        .unwrap_err();
    assert!(error.to_string().starts_with("nowhere.csv: "), "{error}");
}

#[test]
fn made_arithmetic_is_right_and_the_same_for_everybody() {
    let questions = eval::task("arithmetic").unwrap().open(None).unwrap();
    assert_eq!(questions.docs.len(), 1000);
    for doc in &questions.docs {
        let [a, operation, b] = doc.question.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let (a, b): (i64, i64) = (a.parse().unwrap(), b.parse().unwrap());
        let result = if operation == "+" {
            a + b
        } else if operation == "-" {
            a - b
        } else {
            a * b
        };
        assert_eq!(doc.answers, [result.to_string()]);
    }
    let hashes: String = questions.docs.iter().map(Doc::hash).collect();
    assert_eq!(sha256_hex(hashes.as_bytes()), ARITHMETIC_SHA256);
}

/// What anybody's `arithmetic` hashes to; made apart, by the same rule in Python.
const ARITHMETIC_SHA256: &str = "6547283dbe9379e2cd9d419d7389b3c1806c3b3e44a52877597a8cf24e4ed38f";

#[test]
fn subsets_grow_and_keep_the_order() {
    let questions = digits(50);
    let take = |limit, seed| questions.subset(Subset { limit: Some(limit), seed }).unwrap();
    assert_eq!(questions.subset(Subset::default()).unwrap(), (0..50).collect::<Vec<_>>());
    assert_eq!(take(99, 3), (0..50).collect::<Vec<_>>());
    let (ten, twenty) = (take(10, 0), take(20, 0));
    assert!(
        ten.len() == 10
            && ten.is_sorted()
            && ten.iter().all(|i| twenty.contains(i))
            && ten != take(10, 1)
    );
    assert!(
        questions
            .subset(Subset { limit: Some(0), seed: 0 })
            .unwrap_err()
            .to_string()
            .contains("limit is 0")
    );
}

#[test]
fn tasks_say_what_they_are_and_read_their_files() {
    let mut names: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TASKS.len());
    for task in TASKS {
        assert!(
            !task.summary.is_empty()
                && !task.source.is_empty()
                && !task.license.is_empty()
                && task.question_template.contains("{question}")
        );
        if let Some(first) = task.files.first() {
            assert!(task.open(None).unwrap_err().to_string().contains("--data"));
            let missing = task.open(Some(Path::new("nowhere"))).unwrap_err().to_string();
            assert!(
                missing.starts_with("nowhere")
                    || (first.starts_with("datasets/") && missing.contains(first)),
                "{missing}"
            );
        }
    }
    let Some(data) = folder("CANDOR_DATA", "the public data sets") else { return };
    let counts = [
        ("svamp", 1000, "#### "),
        ("mawps", 562, "#### "),
        ("gsm8k", 1319, "#### "),
        ("webquestions", 2032, "few words"),
        ("simpleqa", 4326, "few words"),
        ("arc_easy", 2376, "letter"),
        ("openbookqa", 500, "letter"),
        ("selfaware", 3369, "few words"),
        ("umwp", 5200, "#### "),
        ("relations", 9646, "few words"),
        ("mgsm_bn", 250, "#### "),
        ("mgsm_de", 250, "#### "),
        ("mgsm_en", 250, "#### "),
        ("mgsm_es", 250, "#### "),
        ("mgsm_fr", 250, "#### "),
        ("mgsm_ja", 250, "#### "),
        ("mgsm_ru", 250, "#### "),
        ("mgsm_sw", 250, "#### "),
        ("mgsm_te", 250, "#### "),
        ("mgsm_th", 250, "#### "),
        ("mgsm_zh", 250, "#### "),
    ];
    for (name, count, frame) in counts {
        let questions = eval::task(name).unwrap().open(Some(&data)).unwrap();
        assert_eq!(questions.docs.len(), count, "{name}");
        assert!(questions.question_template.contains(frame) && questions.file_sha256.is_some());
        assert!(questions.docs.iter().all(|doc| doc.id.starts_with(&format!("{name}:"))));
    }
    // The same questions in every language, and they are the first of GSM8K.
    let answers = |name: &str| -> Vec<String> {
        let docs = eval::task(name).unwrap().open(Some(&data)).unwrap().docs;
        docs.into_iter()
            .take(250)
            .map(|doc| Extractor::Number.read(&doc.answers[0]).answer().unwrap().canonical)
            .collect()
    };
    let (first, german) = (answers("gsm8k"), answers("mgsm_de"));
    assert!(first == answers("mgsm_en") && first == german);
}

/// A question is found under another id by what is asked, however it is typed.
#[test]
fn the_same_question_has_one_text() {
    let check = |a: &str, b: &str, same: bool| {
        let digest = |text: &str| {
            let mut parts = text.split('|').map(str::to_owned);
            let question = parts.next().unwrap();
            let id = text.len().to_string();
            Doc { choices: parts.collect(), ..Doc::new(id, question, vec![]) }.text_digest()
        };
        assert_eq!(digest(a) == digest(b), same, "{a:?}, {b:?}");
    };
    check("Who is it?", "  who  IS\tit?\n", true);
    // Composed and decomposed.
    check("Caf\u{e9}?", "Cafe\u{301}?", true);
    check("Which?|a|b", "Which?|B|A", true);
    check("Which?|a|b", "Which?|a|c", false);
    check("Which?", "Which?|a", false);
    check("What is 1 + 2?", "What is 2 + 1?", false);
}

/// A manifest from before its fingerprint had a context and a version says both elsewhere.
#[test]
fn older_manifests_have_a_whole_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let questions = digits(3);
    let loaded = loaded(folder.path());
    let out = folder.path().join("run");
    go(&mut pipeline(&loaded, &questions), &questions, &out).unwrap();
    let now = Manifest::read(&out).unwrap();
    let path = out.join("manifest.json");
    let mut old: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let fingerprint = old["fingerprint"].as_object_mut().unwrap();
    assert_eq!(fingerprint.remove("context").unwrap(), "256");
    assert_eq!(fingerprint.remove("version").unwrap(), env!("CARGO_PKG_VERSION"));
    fingerprint["extractor"] = "auto, candor 0.1.0".into();
    fs::write(&path, old.to_string()).unwrap();
    assert_eq!(Manifest::read(&out).unwrap(), now);
    assert_eq!(Labels::read(&out, &[]).unwrap().examples.len(), 3);
}
