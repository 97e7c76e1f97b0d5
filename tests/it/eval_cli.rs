//! The verbs `eval`, `score`, `calibrate` and `ask --policy` as a user has them, with a tiny random
//! model.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use candor::internals::calibration::{Example, Method, PolicyFile, Split, Target, calibrate};
use candor::internals::eval::{Labels, rescore};
use candor::internals::format::dtype::Dtype;
use candor::internals::metrics::Grade;
use candor::internals::metrics::bootstrap::mix;
use serde_json::Value;

use crate::support::tiny::Recipe;

/// Digits that end soon; what every run below shares.
const SAMPLING: &str = "--samples 4 --max-tokens 6 --extractor number --logit-bias 258=21";

fn candor(folder: &Path, command: &str) -> Output {
    run(&mut Command::new(env!("CARGO_BIN_EXE_candor")), folder, command)
}

/// Runs a command with these words, and with what all runs share.
fn run(run: &mut Command, folder: &Path, command: &str) -> Output {
    let bias = (48..58).map(|digit| format!("--logit-bias={digit}=20"));
    let samples = command.starts_with("eval ") || command.starts_with("ask ");
    run.current_dir(folder)
        .env_remove("CANDOR_DATA")
        .env("HOME", folder)
        .env("CANDOR_HOME", folder.join("home"))
        .env("NO_COLOR", "1");
    run.args(command.split(' ').map(|word| word.replace('_', " ")));
    if samples && !command.contains("--list") {
        run.args(["--model", "./tiny.gguf", "--threads", "1", "--offline"])
            .args(SAMPLING.split(' '))
            .args(bias);
    }
    run.output().unwrap()
}

fn said(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// The list has every estimator once, under its price, within 80 columns.
#[test]
fn estimators_are_listed_by_price() {
    let folder = tempfile::tempdir().unwrap();
    let (table, _) = said(&candor(folder.path(), "estimators"), 0);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let heading = |text: &str| table.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    let (one_pass, samples, further) =
        (heading("\none pass"), heading("\nseveral samples"), heading("\na further pass"));
    let at = |name: &str| heading(&format!("{name} "));
    assert!(one_pass < at("- perplexity") && at("- perplexity") < samples);
    assert!(samples < at("- discrete_semantic_entropy") && at("+ vote_share") < further);
    assert!(further < at("+ p_true"));
    let (json, _) = said(&candor(folder.path(), "estimators --json"), 0);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    for estimator in candor::internals::uncertainty::ESTIMATORS {
        assert_eq!(
            table.matches(&format!("\n+ {} ", estimator.name)).count()
                + table.matches(&format!("\n- {} ", estimator.name)).count(),
            1,
            "{}",
            estimator.name
        );
        assert_eq!(rows.iter().filter(|row| row["name"] == estimator.name).count(), 1);
    }
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
fn write_policy(folder: &Path, goal: Target) -> PolicyFile {
    let example = |i: u64| Example {
        id: format!("made:{i}"),
        text: None,
        scores: vec![Some((i % 100) as f64 / 50.0)],
        grade: if mix(i) % 100 >= i % 100 { Grade::Correct } else { Grade::Incorrect },
    };
    let split = Split::random_split((0..1000).map(example).collect(), 0.4, 0.4, 0).unwrap();
    let fingerprint = Labels::read(&folder.join("run"), &[]).unwrap().fingerprint;
    let policy = calibrate(&split, Method::Sigmoid, goal, fingerprint).unwrap();
    fs::write(folder.join("policy.json"), policy.to_json().unwrap()).unwrap();
    policy
}

#[test]
fn a_run_is_scored_calibrated_and_decides() {
    let folder = folder();
    let at = folder.path();
    let eval = "eval q.csv --out run --map question=q,answer=a --scorer number --json --question-template {question}_A_digit.";
    let (figures, notes) = said(&candor(at, eval), 0);
    assert!(notes.contains("q.csv: 100 % (30 of 30; ") && notes.contains(" a second"), "{notes}");
    let report: Value = serde_json::from_str(&figures).unwrap();
    assert_eq!((report["questions"].as_u64(), report["differing"].as_u64()), (Some(30), Some(0)));
    assert!(
        report["metrics"].as_array().unwrap().iter().any(|figure| figure["name"] == "accuracy")
    );
    assert!(report["manifest"]["config"]["model_sha256"].as_str().unwrap().len() == 64);

    // The same command has nothing left to do; the figures come without the model too.
    let (again, notes) = said(&candor(at, eval), 0);
    assert!(
        again == figures && notes.contains("30 of 30 questions are already recorded"),
        "{notes}"
    );
    assert_eq!(said(&candor(at, "score run --json"), 0).0, figures);
    let table = said(&candor(at, "score run"), 0).0;
    assert!(
        table.starts_with(
            "q.csv, 30 questions, ./tiny.gguf, run; metrics with 95 % intervals\naccuracy"
        ),
        "{table}"
    );
    let (_, refused) = said(&candor(at, &format!("{eval} --seed 1")), 2);
    assert!(refused.contains("config.seed is 1 and was 0"), "{refused}");

    // Too few labels to fit a map: said with the number that it takes, where one is needed.
    let (_, refused) = said(&candor(at, "calibrate run -o policy.json --target confidence=0.5"), 2);
    assert!(
        refused.contains("run has 30 labeled questions") && refused.contains("are needed"),
        "{refused}"
    );
    assert!(!at.join("policy.json").exists());
    let (no_guarantee, warned) = said(&candor(at, "calibrate run -o policy.json"), 0);
    assert!(no_guarantee.starts_with("no guarantee: "), "{no_guarantee}");
    assert!(warned.contains("the policy gives no confidence: only "), "{warned}");
    let (_, view) = said(
        &candor(at, "ask Question_x? --policy policy.json --question-template {question}_A_digit."),
        0,
    );
    assert!(view.contains("no confidence, because"), "{view}");

    let policy = write_policy(at, Target::SelectiveRisk { alpha: 0.3, delta: 0.1 });
    assert!(policy.is_certified());
    let (outcome, _) = said(
        &candor(
            at,
            "ask Question_x? --json --policy policy.json --question-template {question}_A_digit.",
        ),
        0,
    );
    let outcome: Value = serde_json::from_str(&outcome).unwrap();
    assert_eq!(outcome["calibration"]["guarantee"], policy.guarantee());
    let (_, view) = said(
        &candor(at, "ask Question_x? --policy policy.json --question-template {question}_A_digit."),
        0,
    );
    let words = view.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&policy.guarantee()) && !words.contains("uncalibrated"), "{view}");
    let (_, mismatch) =
        said(&candor(at, "ask Question_x? --policy policy.json --temperature 0.5"), 4);
    assert!(
        mismatch.contains("policy.json: the calibration was made for another configuration"),
        "{mismatch}"
    );
    assert!(
        mismatch
            .contains("question_template is `{question}` here and was `{question} A digit.` there"),
        "{mismatch}"
    );
    assert!(
        mismatch.contains("temperature=0.5") && mismatch.contains("temperature=0.7"),
        "{mismatch}"
    );
    // Another estimator than the policy's is refused by name.
    let ask = "ask Question_x? --policy policy.json --question-template {question}_A_digit.";
    let (_, mismatch) = said(&candor(at, &format!("{ask} --estimator perplexity")), 4);
    assert!(
        mismatch
            .contains("estimator is `perplexity` here and was `discrete_semantic_entropy` there"),
        "{mismatch}"
    );
    let (_, mismatch) = said(&candor(at, &format!("{ask} --context 128")), 4);
    assert!(mismatch.contains("context is `128` here and was `256` there"), "{mismatch}");
    // A file that was edited is refused.
    let edited = fs::read_to_string(at.join("policy.json")).unwrap();
    let edited = edited.replace("\"delta\": 0.1", "\"delta\": 0.01");
    fs::write(at.join("policy.json"), edited).unwrap();
    let (_, changed) = said(&candor(at, ask), 4);
    assert!(
        changed.contains("policy.json: the policy file was changed after it was made"),
        "{changed}"
    );
    fs::write(at.join("policy.json"), "{}").unwrap();
    let (_, broken) = said(&candor(at, "ask Question_x? --policy policy.json"), 4);
    assert!(broken.contains("policy.json: not a policy file"), "{broken}");
}

/// Labels that were used before are counted, over and beside; rows without gold and copies are left
/// out by name.
#[test]
fn labels_are_counted_once() {
    let folder = folder();
    let at = folder.path();
    said(&candor(at, &format!("{EVAL} --out run")), 0);
    let records = fs::read_to_string(at.join("run/records.jsonl")).unwrap();
    let mut rows: Vec<Value> = records.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let id = |row: &Value| row["doc"]["id"].as_str().unwrap().to_owned();
    // The gold answer of one is taken away, and another one is asked under two ids.
    rows[3]["doc"]["answers"] = serde_json::json!([]);
    rows[9]["doc"]["question"] = "QUESTION  8?".into();
    let (nameless, copy) = (id(&rows[3]), [id(&rows[8]), id(&rows[9])].into_iter().max().unwrap());
    let lines: Vec<String> = rows.iter().map(|row| row.to_string() + "\n").collect();
    fs::write(at.join("run/records.jsonl"), lines.concat()).unwrap();
    let calibrate = |flags: &str| {
        said(&candor(at, &format!("calibrate run --alpha 0.9 --delta 0.9 {flags}")), 0)
    };
    let tries = |name: &str| -> Value {
        let text = fs::read_to_string(at.join(name)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["tries"].clone()
    };
    let (_, said_of_rows) = calibrate("-o a.json");
    let gold = format!("1 questions without a gold answer are left out: {nameless}");
    let copies = format!("1 questions have the text of another one and are left out: {copy}");
    assert!(said_of_rows.contains(&gold) && said_of_rows.contains(&copies), "{said_of_rows}");
    let file: Value =
        serde_json::from_str(&fs::read_to_string(at.join("a.json")).unwrap()).unwrap();
    assert_eq!((&file["copies"], &file["tries"]), (&1.into(), &1.into()));
    assert_eq!(file["calibration_ids"].as_array().unwrap().len(), 22);
    // The same again is the same; other settings, there or beside it, are another try.
    calibrate("-o a.json");
    assert_eq!(tries("a.json"), 1);
    let (_, warned) = calibrate("-o b.json --split-seed 1");
    assert!(
        warned.contains("these labels were used before by a policy here or beside it"),
        "{warned}"
    );
    assert_eq!(tries("b.json"), 2);
    // What seeks no guarantee is no try, and hides none.
    calibrate("-o b.json --split-seed 2 --target coverage=0.5");
    assert_eq!(tries("b.json"), 2);
    calibrate("-o a.json --split-seed 2");
    assert_eq!(tries("a.json"), 3);

    // `score` and `report` leave the row out too, and say so.
    let (scored, warned) = said(&candor(at, "score run --json"), 0);
    let scored: Value = serde_json::from_str(&scored).unwrap();
    let gold = format!("run: 1 without a gold answer, which are left out: {nameless}");
    assert!(warned.contains(&gold), "{warned}");
    assert_eq!(
        (&scored["questions"], &scored["without_gold"][0]),
        (&29.into(), &nameless.clone().into())
    );
    let (reported, warned) = said(&candor(at, "report run --json"), 0);
    let reported: Value = serde_json::from_str(&reported).unwrap();
    assert!(warned.contains(&gold), "{warned}");
    let value = |report: &Value, name: &str| {
        let metrics = report["metrics"].as_array().unwrap();
        metrics.iter().find(|metric| metric["name"] == name).unwrap()["value"].clone()
    };
    for name in ["accuracy", "coverage", "failure_rate"] {
        assert_eq!(value(&reported["runs"][0], name), value(&scored, name), "{name}");
    }
}

#[test]
fn usage_is_explained() {
    let folder = folder();
    let check = |command: &str, expected: &str| {
        let (_, error) = said(&candor(folder.path(), command), 2);
        assert!(error.contains(expected), "{error}, expected {expected}");
    };
    let (list, _) = said(&candor(folder.path(), "eval --list"), 0);
    assert!(
        list.lines().count() == candor::internals::eval::TASKS.len()
            && list.contains("svamp")
            && list.contains("MIT"),
        "{list}"
    );
    assert!(
        candor::internals::eval::TASKS
            .iter()
            .all(|task| list.lines().any(|line| line.starts_with(&format!("{} ", task.name)))),
        "{list}"
    );
    check(
        "eval nothing --out run",
        "`nothing` is neither a file nor a task; tasks are arithmetic, svamp",
    );
    check(
        "eval svamp --out run",
        "task svamp reads svamp/SVAMP.json; say with --data in which folder that is",
    );
    check("eval svamp --out run --map id=x", "--map is for files");
    check(
        "eval arithmetic --out run --scorer loglikelihood",
        "arithmetic cannot be scored by loglikelihood: arithmetic:",
    );
    check(
        "eval arithmetic --out run --scorer magic",
        "`magic` is unknown; use one of exact, number, choice, loglikelihood, loglikelihood-letter",
    );
    check(
        "eval q.csv --out run --map question=q,answer=a --shots 30",
        "shots is 30 and 0 questions are left that are not asked",
    );
    check("eval datasets/user --out run", "data reference \"datasets/user\" names no repository");
    check("eval arithmetic", "--out");
    check("eval arithmetic --out run --question-template x", "it must contain {question}");
    check("calibrate run -o x --method magic", "`magic` is unknown; use one of sigmoid");
    check(
        "calibrate run -o x --target lower",
        "use selective-risk, joint-risk, coverage=SHARE or confidence=P",
    );
    check("ask x --policy p.json --min-vote-share 0.5", "cannot be used with");
}

/// The records of a run without what differs from run to run.
fn timeless(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("records.jsonl")).unwrap();
    text.lines().map(|line| line.rsplit_once(",\"timing\":").unwrap().0.to_owned()).collect()
}

const EVAL: &str =
    "eval q.csv --map question=q,answer=a --scorer number --question-template {question}_A_digit.";
const ARMS: [&str; 3] = ["greedy", "self-consistency_samples=3", "self-consistency_repeat=x2"];
const COMPARE: &str =
    "--limit 12 --compare greedy,self-consistency:samples=3,self-consistency:repeat=x2";

#[test]
fn strategies_are_compared_on_the_same_questions() {
    let folder = folder();
    let at = folder.path();
    let (shown, notes) = said(&candor(at, &format!("{EVAL} {COMPARE} --out run")), 0);
    assert!(notes.contains("q.csv self-consistency:samples=3: 100 % (12 of 12;"), "{notes}");
    let scored = said(&candor(at, "score run"), 0).0;
    // Names sort by folder: both are the runs of one comparison, the first of which is the
    // baseline.
    for text in [&shown, &scored] {
        assert!(
            text.contains("gained, ")
                && text.contains("McNemar p = ")
                && text.contains(", Holm p = ")
                && text.contains(
                    "\nHolm p is corrected for all 2 comparisons\n\naccuracy at equal cost: "
                )
                && text.contains("\n  accuracy "),
            "{text}"
        );
        assert_eq!(text.matches("against run/greedy: ").count(), 2, "{text}");
    }
    let report: Value = serde_json::from_str(
        &said(&candor(at, "score run --json --baseline self-consistency:repeat=x2"), 0).0,
    )
    .unwrap();
    assert_eq!(report["runs"].as_array().unwrap().len(), 3);
    let samples: Vec<u64> = report["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["manifest"]["config"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(samples, [1, 4, 3]);
    // Against self-consistency with the most samples.
    assert!(shown.contains("\n\naccuracy at equal cost: against the majority of the first 1 to 4 samples of run/self-consistency_repeat=x2, "), "{shown}");
    let tables = said(&candor(at, "report run --markdown"), 0).0;
    for text in [
        " | p (McNemar) | p (Holm) | ",
        "\np (Holm) is corrected for the number of comparisons: 2.\n",
        "\n## Accuracy at equal cost\n\nagainst the majority of the first 1 to 4 samples of ",
        "\n| run | accuracy | forward tokens | baseline there | difference |\n|---|--:|--:|--:|--:|\n| greedy | ",
    ] {
        assert!(tables.contains(text), "{text} is not in\n{tables}");
    }
    let rows = report["equal_cost"]["runs"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["run"].as_str().unwrap()).collect();
    assert_eq!(names, ["run/greedy", "run/self-consistency_samples=3"]);
    for scored in rescore(&at.join("run/self-consistency_repeat=x2")).unwrap().1 {
        let (tokens, cost) = (&scored.forward_tokens, scored.cost.unwrap());
        assert!(tokens.len() == 4 && tokens.is_sorted() && tokens[0] >= 1.0, "{tokens:?}");
        assert_eq!(tokens[3], cost.forward_tokens as f64, "the last has the recorded cost");
    }
    for difference in report["differences"].as_array().unwrap() {
        assert_eq!(difference["baseline"], "run/self-consistency_repeat=x2");
        // By hand, from the records.
        let right = |run: &str| {
            let grades = timeless(&at.join(run))
                .iter()
                .map(|line| line.contains("\"grade\":\"correct\""))
                .collect::<Vec<_>>();
            assert_eq!(grades.len(), 12);
            grades
        };
        let pairs: Vec<_> = right(difference["baseline"].as_str().unwrap())
            .into_iter()
            .zip(right(difference["run"].as_str().unwrap()))
            .collect();
        let count = |wanted| pairs.iter().filter(|pair| **pair == wanted).count() as u64;
        assert_eq!(difference["gains"].as_u64().unwrap(), count((false, true)));
        assert_eq!(difference["losses"].as_u64().unwrap(), count((true, false)));
    }
    let check = |command: &str, expected: &str| {
        let (_, error) = said(&candor(at, command), 2);
        assert!(error.contains(expected), "{error}, expected {expected}");
    };
    check("score run --baseline nobody", "baseline `nobody` is not one of the runs run/greedy");
    check("calibrate run -o p.json", "run holds several runs; give one of run/greedy");
    check("score run --merge out", "--merge takes the shards of one run");
    check(&format!("{EVAL} --out run"), "run is a folder around the runs run/greedy");
    check(&format!("{EVAL} --out new --compare greedy,greedy"), "--compare names greedy twice");
    check(
        &format!("{EVAL} --out new --compare greedy:samples=0,magic"),
        "strategy `magic` is unknown",
    );
    check(
        &format!("{EVAL} --out new --compare self-consistency:samples=0"),
        "self-consistency:samples=0: n is 0; it must be 1 to 4096",
    );
    check(&format!("{EVAL} --out new --compare greedy --strategy greedy"), "cannot be used with");
    check(&format!("{EVAL} --out new --shard 3/2"), "shard is \"3/2\"; it must be I/N");
    assert!(!at.join("new").exists());
    // A strategy's run is what the strategy's own flags make.
    said(&candor(at, &format!("{EVAL} --limit 12 --strategy greedy --out alone")), 0);
    assert_eq!(timeless(&at.join("alone")), timeless(&at.join("run/greedy")));
}

/// Killed after any byte of a comparison: a strategy that is whole, one that is torn, one that was
/// not begun.
#[test]
fn interrupted_comparisons_end_as_uninterrupted_ones() {
    let folder = folder();
    let at = folder.path();
    let command = format!("{EVAL} {COMPARE} --quiet --out");
    said(&candor(at, &format!("{command} whole")), 0);
    let read =
        |run: &str, arm: &str, file: &str| fs::read(at.join(run).join(arm).join(file)).unwrap();
    let records: Vec<Vec<u8>> =
        ARMS.iter().map(|arm| read("whole", arm, "records.jsonl")).collect();
    let bytes: usize = records.iter().map(Vec::len).sum();
    for i in 0..100 {
        let mut left = (mix(i) % bytes as u64) as usize;
        let run = format!("cut{i}");
        for (arm, records) in ARMS.iter().zip(&records) {
            let place = at.join(&run).join(arm);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("manifest.json"), read("whole", arm, "manifest.json")).unwrap();
            fs::write(place.join("records.jsonl"), &records[..left.min(records.len())]).unwrap();
            left = match left.checked_sub(records.len()) {
                Some(left) => left,
                None => break,
            };
        }
        said(&candor(at, &format!("{command} {run}")), 0);
        for arm in ARMS {
            assert_eq!(
                timeless(&at.join(&run).join(arm)),
                timeless(&at.join("whole").join(arm)),
                "{run}, {arm}"
            );
        }
        fs::remove_dir_all(at.join(run)).unwrap();
    }
}

#[test]
fn shards_are_scored_and_merged() {
    let folder = folder();
    let at = folder.path();
    said(&candor(at, &format!("{EVAL} --out whole")), 0);
    for shard in ["2/2", "1/2"] {
        let (_, notes) = said(&candor(at, &format!("{EVAL} --out split --shard {shard}")), 0);
        assert!(notes.contains("100 % (15 of 15;"), "{notes}");
    }
    let figures = |command: &str| {
        let report: Value = serde_json::from_str(&said(&candor(at, command), 0).0).unwrap();
        (report["metrics"].clone(), report["manifest"].clone())
    };
    let whole = figures("score whole --json");
    assert_eq!(figures("score split --json"), whole);
    assert_eq!(figures("score split/shard-1-of-2 split/shard-2-of-2 --json"), whole);
    assert_eq!(figures("score split --merge merged --json"), whole);
    assert_eq!(timeless(&at.join("merged")), timeless(&at.join("whole")));
    let (_, error) = said(&candor(at, "score split/shard-2-of-2"), 2);
    assert!(error.contains("split lacks shard 1/2; run it with --shard"), "{error}");
}

/// A disk that fills up: the system refuses to write on, as it does where a limit on the size of
/// files is reached.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    let folder = folder();
    let at = folder.path();
    said(&candor(at, &format!("{EVAL} --out whole")), 0);
    let whole = fs::read(at.join("whole/records.jsonl")).unwrap();
    // In blocks of 512 bytes; no signal, so that the write itself is refused.
    // A run's times have more or fewer digits: the last one is short by a block at least.
    for blocks in [1, whole.len() / 3 / 512, whole.len() / 512 - 1] {
        let out = format!("run{blocks}");
        let mut limited = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        limited.args(["-c", &script, env!("CARGO_BIN_EXE_candor")]);
        let (_, error) = said(&run(&mut limited, at, &format!("{EVAL} --out {out}")), 1);
        assert!(error.contains("File too large") && error.contains(&out), "{error}");
        assert!(error.contains("the records are kept; run the same command again"), "{error}");
        let kept = fs::read(at.join(&out).join("records.jsonl")).unwrap_or_default();
        assert!(
            kept.len() <= blocks * 512 && (blocks == 1 || kept.len() > blocks * 256),
            "{} of {blocks} blocks",
            kept.len()
        );
        // With space again the same command goes on, and ends as if nothing had been.
        said(&candor(at, &format!("{EVAL} --out {out}")), 0);
        assert_eq!(timeless(&at.join(&out)), timeless(&at.join("whole")));
        let end = kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert_eq!(
            fs::read(at.join(&out).join("records.jsonl")).unwrap()[..end],
            kept[..end],
            "what was whole is untouched"
        );
    }
}

#[test]
fn runs_stop_and_start_anew_when_asked() {
    let folder = folder();
    let at = folder.path();
    let long = "x".repeat(100_000);
    fs::write(at.join("q.csv"), format!("q,a\nOne?,1\n{long},2\nThree?,3\n")).unwrap();
    let (_, error) = said(&candor(at, &format!("{EVAL} --out run --fail-on-error")), 1);
    assert!(
        error.contains("could not be asked: ")
            && error.contains("what was recorded before it stays"),
        "{error}"
    );
    assert_eq!(timeless(&at.join("run")).len(), 1);
    said(&candor(at, &format!("{EVAL} --out run")), 0);
    assert_eq!(timeless(&at.join("run")).len(), 3);
    let (_, refused) = said(&candor(at, &format!("{EVAL} --out run --seed 4")), 2);
    assert!(
        refused.contains("config.seed is 4 and was 0") && refused.contains("--force"),
        "{refused}"
    );
    said(&candor(at, &format!("{EVAL} --out run --seed 4 --force")), 0);
    assert!(fs::read_to_string(at.join("run/manifest.json")).unwrap().contains("\"seed\": 4"));
}

#[test]
fn a_policy_decides_recorded_questions_and_its_promise_is_tested() {
    let folder = folder();
    let at = folder.path();
    said(&candor(at, &format!("{EVAL} --out run --confidence-target 0.75")), 0);
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(at.join("run/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["config"]["question_template"]["confidence_target"], 0.75);
    assert!(
        manifest["fingerprint"]["question_template"]
            .as_str()
            .unwrap()
            .contains("Answer only if you are > 75% confident"),
        "{manifest}"
    );
    let policy = write_policy(at, Target::SelectiveRisk { alpha: 0.4, delta: 0.1 });
    let threshold = policy.threshold().unwrap().max_uncertainty;
    let scored = said(&candor(at, "score run --policy policy.json --json"), 0).0;
    let report: Value = serde_json::from_str(&scored).unwrap();
    // By hand: questions whose leading answer has a score, at most the threshold.
    let labels = Labels::read(&at.join("run"), &[]).unwrap();
    let answered = labels
        .examples
        .iter()
        .filter(|example| example.scores[0].is_some_and(|score| score <= threshold))
        .count();
    let coverage = report["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|figure| figure["name"] == "coverage")
        .unwrap();
    assert_eq!(
        (report["questions"].as_u64(), coverage["value"].as_f64()),
        (Some(30), Some(answered as f64 / 30.0))
    );
    let interval: Vec<f64> =
        coverage["interval"].as_array().unwrap().iter().map(|end| end.as_f64().unwrap()).collect();
    assert!(
        interval[0] < answered as f64 / 30.0 && interval[1] > answered as f64 / 30.0,
        "{coverage}"
    );
    let (table, warned) = said(&candor(at, "score run --policy policy.json"), 0);
    assert!(!warned.contains("uncertainties"), "{warned}");
    // Scores far from the calibrated ones are told.
    let mut far = policy.clone();
    far.scores.iter_mut().for_each(|score| *score += 100.0);
    fs::write(at.join("far.json"), far.sealed().to_json().unwrap()).unwrap();
    let (_, warned) = said(&candor(at, "score run --policy far.json"), 0);
    assert!(
        warned.contains("run: the uncertainties of the first ")
            && warned.contains("(Kolmogorov-Smirnov distance 1.00, p = 0.001)"),
        "{warned}"
    );
    let row = format!(
        "coverage {:>24.4}  {:.4} to {:.4}    n 30",
        answered as f64 / 30.0,
        interval[0],
        interval[1]
    );
    assert!(table.contains(&row), "{table}, expected {row}");
    // More context than the model has is not silently less.
    let (_, note) = said(&candor(at, "ask x --context 9999"), 0);
    assert!(
        note.contains("context is 9999, but the model supports 256 tokens; using 256"),
        "{note}"
    );
    // A question that the policy was made on is left out, by its id or by its text.
    let text = candor::internals::eval::Doc::new("x", "question   7?", vec![]).text_digest();
    let mut seen = policy.clone();
    seen.calibration_ids[0].clone_from(&labels.examples[4].id);
    seen.calibration_texts.push(text);
    fs::write(at.join("policy.json"), seen.sealed().to_json().unwrap()).unwrap();
    let (report, _) = said(&candor(at, "score run --policy policy.json --json"), 0);
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["questions"], 28);

    let (tested, _) = said(&candor(at, "calibrate run --validate 20 --alpha 0.3"), 0);
    assert_eq!(
        tested,
        "20 splits of 30 questions, alpha 0.3, delta 0.1\n     0 certified\nnothing was certified, so \
         there is nothing to validate\n"
    );
    let (json, _) = said(&candor(at, "calibrate run --validate 20 --json"), 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (json["splits"].as_u64(), json["certified"].as_u64(), &json["untouched"]),
        (Some(20), Some(0), &Value::Null)
    );
    for (command, expected) in [
        (
            "calibrate run --validate 9 --target coverage=0.5",
            "--validate is for --target selective-risk",
        ),
        ("calibrate run --validate 9 --alpha 2", "alpha is 2; it must be above 0 and below 1"),
        ("calibrate run", "--out"),
        ("calibrate run --validate 9 -o x", "cannot be used with"),
        ("ask x --confidence-target 1", "confidence_target is 1; it must be 0 to below 1"),
    ] {
        let (_, error) = said(&candor(at, command), 2);
        assert!(error.contains(expected), "{error}, expected {expected}");
    }
}

/// Asking again gives the same bytes; a record that was changed is named with the field.
#[test]
fn a_run_is_reproduced_to_the_byte() {
    let folder = folder();
    let at = folder.path();
    let again = |arguments: &str, code| {
        said(&candor(at, &format!("reproduce {arguments} --threads 1 --offline")), code)
    };
    for (name, flags) in [
        ("run", ""),
        ("greedy", "--strategy greedy --shots 2"),
        ("adaptive", "--strategy adaptive --repeat x2 --top-logprobs 2 --seed 7"),
        ("raw", "--raw --temperature 0.9 --top-p 0.77"),
    ] {
        said(&candor(at, format!("{EVAL} --limit 12 --out {name} {flags}").trim_end()), 0);
        let (text, notes) = again(name, 0);
        assert_eq!(text, "8 of 8 records are equal, except for their timing\n", "{name}");
        assert!(!notes.contains("not as in the run"), "{notes}");
        let (text, _) = again(&format!("{name} --all"), 0);
        assert_eq!(text, "12 of 12 records are equal, except for their timing\n", "{name}");
    }
    let path = at.join("run/records.jsonl");
    let records = fs::read_to_string(&path).unwrap();
    let first: Value = serde_json::from_str(records.lines().next().unwrap()).unwrap();
    let (id, tokens) = (&first["doc"]["id"], &first["outcome"]["cost"]["prompt_tokens"]);
    let id = id.as_str().unwrap();
    fs::write(&path, records.replacen("\"prompt_tokens\":", "\"prompt_tokens\":1", 1)).unwrap();
    assert_eq!(
        again("run --limit 3", 1).0,
        format!(
            "2 of 3 records are equal, except for their timing\n{id}: outcome.cost.prompt_tokens is \
             {tokens} and was 1{tokens}\n"
        )
    );
    // A field that an older version did not record is named only if all that was recorded is equal.
    fs::write(&path, records.replacen("\"uncertainty\":", "\"older\":", 1)).unwrap();
    let text = again("run --limit 1", 1).0;
    assert!(text.contains(": outcome.older is absent and was {"), "{text}");
    fs::write(at.join("other.gguf"), Recipe::load("llama").gguf(Dtype::F16)).unwrap();
    let (_, error) = again("run --model ./other.gguf", 2);
    assert!(
        error.contains("./other.gguf is another model than the run's: its SHA-256 is"),
        "{error}"
    );
    let (_, error) = again("run --limit 0", 2);
    assert!(error.contains("no record of run is asked again"), "{error}");
}

#[test]
fn a_policy_file_is_shown_and_checked() {
    let folder = folder();
    let at = folder.path();
    said(&candor(at, &format!("{EVAL} --limit 12 --out run")), 0);
    said(&candor(at, &format!("{EVAL} --limit 12 --out greedy --strategy greedy")), 0);
    let policy = write_policy(at, Target::SelectiveRisk { alpha: 0.4, delta: 0.1 });
    let narrow = |text: &str| assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    let (shown, _) = said(&candor(at, "policy show policy.json"), 0);
    narrow(&shown);
    // Wrapped lines as they were.
    let text = shown.replace("\n    ", " ");
    for line in [
        format!("guarantee: {}", policy.guarantee()),
        "target: selective-risk, alpha 0.4, delta 0.1".to_owned(),
        "confidence: calibrated".to_owned(),
        "tasks: made".to_owned(),
        format!("fitted on: {} questions", policy.calibration_ids.len()),
        "split: seed 0; 40 % for the map, 40 % for the threshold, 20 % held out".to_owned(),
        "tries: 1 with a guarantee, fitted to these labels".to_owned(),
        format!("weights_sha256: {}", policy.fingerprint.weights_sha256),
        format!("strategy: {}", policy.fingerprint.strategy),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let report = &policy.report;
    let held_out = format!(
        "\nheld out: answers {} of {} with {} incorrect; true share",
        report.answered, report.questions, report.incorrect
    );
    assert!(text.contains(&held_out), "{text}");
    let (fits, _) = said(&candor(at, "policy check policy.json run"), 0);
    assert_eq!(fits, "policy.json fits run: every field is equal\n");
    let (differs, _) = said(&candor(at, "policy check policy.json greedy"), 1);
    narrow(&differs);
    let fields: Vec<&str> = differs
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split_once(": the policy has").unwrap().0)
        .collect();
    assert_eq!(fields, ["sampler", "strategy"], "{differs}");
    let (_, error) = said(&candor(at, "policy show q.csv"), 4);
    assert!(error.contains("not a policy file"), "{error}");
}
