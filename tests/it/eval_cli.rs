//! The verbs `eval`, `score`, `calibrate` and `ask --policy` as a user has them, with a tiny random model.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use candor::calibration::{Example, Goal, Method, PolicyFile, Split, calibrate};
use candor::eval::Labels;
use candor::metrics::Grade;
use candor::metrics::bootstrap::mix;
use candor::model::dtype::Dtype;
use serde_json::Value;

use crate::support::tiny::Recipe;

/// Digits that end soon; what every run below shares.
const SAMPLING: &str = "--samples 4 --max-tokens 6 --extractor number --logit-bias 258=21";

fn candor(folder: &Path, command: &str) -> Output {
    let bias = (48..58).map(|digit| format!("--logit-bias={digit}=20"));
    let samples = command.starts_with("eval ") || command.starts_with("ask ");
    let mut run = Command::new(env!("CARGO_BIN_EXE_candor"));
    run.current_dir(folder).env_remove("CANDOR_DATA").env("HOME", folder).env("CANDOR_HOME", folder.join("home")).env("NO_COLOR", "1");
    run.args(command.split(' ').map(|word| word.replace('_', " ")));
    if samples && !command.contains("--list") {
        run.args(["--model", "./tiny.gguf", "--threads", "1", "--offline"]).args(SAMPLING.split(' ')).args(bias);
    }
    run.output().unwrap()
}

fn said(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// A folder with a model and a file of questions.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tiny.gguf"), Recipe::load("llama").gguf(Dtype::F32)).unwrap();
    let rows = (0..30).map(|i| format!("Question {i}?,{}\n", i % 10));
    fs::write(folder.path().join("q.csv"), format!("q,a\n{}", rows.collect::<String>())).unwrap();
    folder
}

/// A policy for the run's configuration over labels that were made up: surer is righter.
fn write_policy(folder: &Path, goal: Goal) -> PolicyFile {
    let example = |i: u64| Example {
        id: format!("made:{i}"),
        scores: vec![Some((i % 100) as f64 / 50.0)],
        grade: if mix(i) % 100 >= i % 100 { Grade::Right } else { Grade::Wrong },
    };
    let split = Split::deal((0..1000).map(example).collect(), 0.4, 0.4, 0).unwrap();
    let fingerprint = Labels::read(&folder.join("run"), &[]).unwrap().fingerprint;
    let policy = calibrate(&split, Method::Sigmoid, goal, fingerprint).unwrap();
    fs::write(folder.join("policy.json"), policy.to_json().unwrap()).unwrap();
    policy
}

#[test]
fn a_run_is_scored_calibrated_and_decides() {
    let folder = folder();
    let at = folder.path();
    let eval = "eval q.csv --out run --map question=q,answer=a --scorer number --json --frame {question}_A_digit.";
    let (figures, notes) = said(&candor(at, eval), 0);
    assert!(notes.contains("q.csv: 100 % (30 of 30)"), "{notes}");
    let report: Value = serde_json::from_str(&figures).unwrap();
    assert_eq!((report["questions"].as_u64(), report["differing"].as_u64()), (Some(30), Some(0)));
    assert!(report["figures"].as_array().unwrap().iter().any(|figure| figure["name"] == "accuracy"));
    assert!(report["manifest"]["config"]["model_sha256"].as_str().unwrap().len() == 64);

    // The same command has nothing left to do; the figures come without the model too.
    let (again, notes) = said(&candor(at, eval), 0);
    assert!(again == figures && notes.contains("30 of 30 questions are recorded already"), "{notes}");
    assert_eq!(said(&candor(at, "score run --json"), 0).0, figures);
    let table = said(&candor(at, "score run"), 0).0;
    assert!(table.starts_with("q.csv, 30 questions, ./tiny.gguf\naccuracy"), "{table}");
    let (_, refused) = said(&candor(at, &format!("{eval} --seed 1")), 2);
    assert!(refused.contains("config.seed is 1 and was 0"), "{refused}");

    // Too few labels to fit anything: said with the number that it takes.
    let (_, refused) = said(&candor(at, "calibrate run -o policy.json"), 2);
    assert!(refused.contains("run has 30 questions") && refused.contains("are needed"), "{refused}");
    assert!(!at.join("policy.json").exists());

    let policy = write_policy(at, Goal::SelectiveRisk { alpha: 0.3, delta: 0.1 });
    assert!(policy.is_certified());
    let (outcome, _) = said(&candor(at, "ask Question_x? --json --policy policy.json --frame {question}_A_digit."), 0);
    let outcome: Value = serde_json::from_str(&outcome).unwrap();
    assert_eq!(outcome["calibration"]["guarantee"], policy.guarantee());
    let (_, view) = said(&candor(at, "ask Question_x? --policy policy.json --frame {question}_A_digit."), 0);
    assert!(view.contains(&policy.guarantee()) && !view.contains("uncalibrated"), "{view}");
    let (_, mismatch) = said(&candor(at, "ask Question_x? --policy policy.json --temperature 0.5"), 4);
    assert!(mismatch.contains("policy.json: the calibration was made for another configuration"), "{mismatch}");
    assert!(mismatch.contains("frame is `{question}` here and was `{question} A digit.` there"), "{mismatch}");
    assert!(mismatch.contains("temperature=0.5") && mismatch.contains("temperature=1.0"), "{mismatch}");
    fs::write(at.join("policy.json"), "{}").unwrap();
    let (_, broken) = said(&candor(at, "ask Question_x? --policy policy.json"), 4);
    assert!(broken.contains("policy.json: no policy file"), "{broken}");
}

#[test]
fn usage_is_explained() {
    let folder = folder();
    let check = |command: &str, expected: &str| {
        let (_, error) = said(&candor(folder.path(), command), 2);
        assert!(error.contains(expected), "{error}, expected {expected}");
    };
    let (list, _) = said(&candor(folder.path(), "eval --list"), 0);
    assert!(list.lines().count() == candor::eval::TASKS.len() && list.contains("svamp") && list.contains("MIT"), "{list}");
    assert!(candor::eval::TASKS.iter().all(|task| list.lines().any(|line| line.starts_with(&format!("{} ", task.name)))), "{list}");
    check("eval nothing --out run", "`nothing` is neither a file nor a task; tasks are arithmetic, svamp");
    check("eval svamp --out run", "task svamp reads svamp/SVAMP.json; say with --data in which folder that is");
    check("eval svamp --out run --map id=x", "--map is for files");
    check("eval arithmetic --out run --scorer loglikelihood", "arithmetic cannot be scored by loglikelihood: arithmetic:");
    check(
        "eval arithmetic --out run --scorer magic",
        "`magic` is unknown; use one of exact, number, choice, loglikelihood, loglikelihood-letter",
    );
    check("eval q.csv --out run --map question=q,answer=a --shots 30", "shots is 30 and 0 questions are left that are not asked");
    check("eval datasets/user --out run", "data reference \"datasets/user\" names no repository");
    check("eval arithmetic", "--out");
    check("eval arithmetic --out run --frame x", "it must hold {question}");
    check("calibrate run -o x --method magic", "`magic` is unknown; use one of sigmoid");
    check("calibrate run -o x --target lower", "use selective-risk, joint-risk, coverage=SHARE or confidence=P");
    check("ask x --policy p.json --min-vote-share 0.5", "cannot be used with");
}
