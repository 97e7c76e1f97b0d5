//! Runs of several strategies and shards of a run: found, put together to the byte, and refused by
//! name.

use std::fs;
use std::path::Path;

use candor::internals::eval::{
    self, Questions, Run, RunRef, Shard, Subset, rescore, runs, single_run,
};
use candor::internals::pipeline::{Answered, DriveOptions, Sink};
use candor::internals::strategy::Question;

use crate::eval::{digits, go, loaded, pipeline, settings, timeless};

fn go_shard(
    questions: &Questions,
    pipeline: &mut candor::Pipeline,
    folder: &Path,
    shard: &str,
) -> candor::Result<eval::Progress> {
    let run = Run { shard: Some(shard.parse().unwrap()), ..Run::new(questions, folder) };
    eval::run(pipeline, &run, &mut |_| {})
}

#[test]
fn shards_come_together_to_the_undivided_run() {
    let folder = tempfile::tempdir().unwrap();
    let questions = digits(23);
    let loaded = loaded(folder.path());
    let mut pipeline = pipeline(&loaded, &questions);
    let whole = folder.path().join("whole");
    let subset = Subset { limit: Some(20), seed: 3 };
    eval::run(&mut pipeline, &Run { subset, ..Run::new(&questions, &whole) }, &mut |_| {}).unwrap();
    for of in [1, 2, 3, 7, 30] {
        let split = folder.path().join(format!("split{of}"));
        for index in (1..=of).rev() {
            let run =
                Run { subset, shard: Some(Shard { index, of }), ..Run::new(&questions, &split) };
            let progress = eval::run(&mut pipeline, &run, &mut |_| {}).unwrap();
            assert_eq!(progress.total, if index <= 20 % of { 20 / of + 1 } else { 20 / of });
            // Again: nothing is left to do.
            assert_eq!(eval::run(&mut pipeline, &run, &mut |_| {}).unwrap().found, progress.total);
        }
        let run = single_run(&split).unwrap();
        assert_eq!((run.folders.len(), &run.name), (of, &split.display().to_string()));
        let (manifest, scored) = rescore(&split).unwrap();
        let (undivided, expected) = rescore(&whole).unwrap();
        assert_eq!(manifest, undivided);
        let items = |scored: &[eval::Scored]| {
            scored.iter().map(|scored| scored.item.clone()).collect::<Vec<_>>()
        };
        assert_eq!(items(&scored), items(&expected));
        let merged = folder.path().join(format!("merged{of}"));
        assert_eq!(run.merge(&merged).unwrap(), 20);
        assert_eq!(timeless(&merged), timeless(&whole));
        assert_eq!(
            fs::read(merged.join("manifest.json")).unwrap(),
            fs::read(whole.join("manifest.json")).unwrap()
        );
        // A merged run is a run: the same command finds everything done.
        assert_eq!(
            eval::run(&mut pipeline, &Run { subset, ..Run::new(&questions, &merged) }, &mut |_| {})
                .unwrap()
                .found,
            20
        );
        let again = run.merge(&merged).unwrap_err();
        assert!(again.is_usage() && again.to_string().contains("holds records already"), "{again}");
    }
}

#[test]
fn shards_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let questions = digits(7);
    let loaded = loaded(folder.path());
    let mut pipeline = pipeline(&loaded, &questions);
    let check = |paths: &[&str], expected: &[&str]| {
        let error = runs(&paths.iter().map(|path| at(path)).collect::<Vec<_>>()).unwrap_err();
        assert!(
            error.is_usage() && expected.iter().all(|text| error.to_string().contains(text)),
            "{error}, expected {expected:?}"
        );
    };
    for (place, shard) in [
        ("a", "1/3"),
        ("a", "3/3"),
        ("b", "2/3"),
        ("twice", "2/3"),
        ("twice", "1/3"),
        ("other", "1/2"),
    ] {
        go_shard(&questions, &mut pipeline, &at(place), shard).unwrap();
    }
    check(&["a"], &["a lacks shard 2/3; run it with --shard"]);
    check(&["a/shard-1-of-3"], &["lacks shard 2/3, 3/3"]);
    check(
        &["a", "twice"],
        &["shard 1/3 of", "is there twice, in", "a/shard-1-of-3 and in", "twice/shard-1-of-3"],
    );
    check(
        &["a", "other"],
        &[
            "a/shard-1-of-3 is not a shard of the run",
            "other/shard-1-of-2",
            "shard 1/3 and shard 1/2",
        ],
    );
    // Shards of two machines come together, in any order and as folders of their own too.
    for paths in [
        vec![at("a"), at("b")],
        vec![at("b"), at("a")],
        vec![at("b/shard-2-of-3"), at("a/shard-3-of-3"), at("a/shard-1-of-3")],
    ] {
        let found = runs(&paths).unwrap();
        assert_eq!(
            (found.len(), found[0].rescore(None).unwrap().questions.len()),
            (1, 7),
            "{paths:?}"
        );
        let ids: Vec<usize> =
            found[0].records().unwrap().map(|record| record.unwrap().doc_id).collect();
        assert_eq!(ids, (0..7).collect::<Vec<_>>());
    }
    // Another seed is another run.
    let mut other = candor::Pipeline::new(
        &loaded,
        settings(&loaded, &questions, 5),
        candor::EngineOptions::default(),
    )
    .unwrap();
    go_shard(&questions, &mut other, &at("c"), "2/3").unwrap();
    check(
        &["a", "c"],
        &[
            "c/shard-2-of-3 is not a shard of the run",
            "config.seed is 5 and was 0",
            "give the shards of one run",
        ],
    );
    // A shard that is not finished scores, with what it has, in order; it is not merged.
    let records = at("b/shard-2-of-3/records.jsonl");
    let text = fs::read_to_string(&records).unwrap();
    fs::write(&records, &text[..text.find('\n').unwrap() + 10]).unwrap();
    let found = runs(&[at("a"), at("b")]).unwrap();
    let ids: Vec<usize> =
        found[0].records().unwrap().map(|record| record.unwrap().doc_id).collect();
    assert_eq!(ids, [0, 1, 2, 3, 5, 6]);
    let error = found[0].merge(&at("merged")).unwrap_err().to_string();
    assert!(error.contains("shard-2-of-3 has 1 of 2 records; finish it"), "{error}");
    assert!(!at("merged").exists());
    // A manifest that says nonsense.
    let manifest = at("other/shard-1-of-2/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"index\": 1", "\"index\": 0")).unwrap();
    let error = runs(&[at("other")]).unwrap_err();
    assert!(
        error.is_invalid_file() && error.to_string().contains("shard 0/2 cannot be"),
        "{error}"
    );
    for text in ["", "1", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3"] {
        let error = text.parse::<Shard>().unwrap_err().to_string();
        assert!(error.contains(&format!("shard is {text:?}; it must be I/N")), "{error}");
    }
}

/// Collects outcomes; refuses more than `most`.
struct Collector {
    outcomes: Vec<(usize, Option<String>)>,
    most: usize,
}

impl Sink for Collector {
    fn on_outcome(&mut self, question: usize, answered: Answered) -> candor::Result<()> {
        if self.outcomes.len() == self.most {
            return Err(candor::Error::usage("gone"));
        }
        self.outcomes.push((question, answered.outcome.ok().map(plain)));
        Ok(())
    }
}

#[test]
fn outcomes_come_in_order_and_the_reader_may_leave() {
    let folder = tempfile::tempdir().unwrap();
    let questions = digits(9);
    let loaded = loaded(folder.path());
    let mut pipeline = pipeline(&loaded, &questions);
    let template = pipeline.template().clone();
    let mut asked: Vec<_> =
        questions.docs.iter().map(|doc| template.messages(&doc.question)).collect();
    asked[4] = template.messages(&"x".repeat(100_000));
    let alone: Vec<Option<String>> =
        asked.iter().map(|messages| pipeline.answer(messages).ok().map(plain)).collect();
    let mut drive = |count: usize, in_flight, ordered, most| {
        let mut collector = Collector { outcomes: Vec::new(), most };
        let mut asked = asked[..count]
            .iter()
            .map(|messages| Question { messages: messages.clone(), ..Question::default() });
        let options = DriveOptions { in_flight, ordered };
        let result = pipeline.drive(&mut asked, options, &mut collector);
        (result, collector.outcomes)
    };
    let expected: Vec<_> = alone.iter().cloned().enumerate().collect();
    for in_flight in [0, 1, 3, 20] {
        let (result, outcomes) = drive(9, in_flight, true, 9);
        assert!(result.is_ok() && outcomes == expected, "{in_flight} in flight");
        let (_, mut outcomes) = drive(9, in_flight, false, 9);
        outcomes.sort();
        assert!(outcomes == expected, "{in_flight} in flight, as they are ready");
    }
    assert!(alone[4].is_none() && alone.iter().flatten().count() == 8);
    // The reader leaves after the third: the loop ends, and the next questions are answered as if
    // there had been none before.
    let (result, outcomes) = drive(9, 20, true, 3);
    assert!(result.unwrap_err().to_string() == "gone" && outcomes == expected[..3]);
    assert_eq!(drive(2, 2, true, 2).1, expected[..2]);
}

/// An outcome as JSON without what differs from run to run.
fn plain(mut outcome: candor::internals::pipeline::Outcome) -> String {
    outcome.cost.timing.cached_tokens = 0;
    serde_json::to_string(&outcome.without_times()).unwrap()
}

#[test]
fn a_folder_is_one_run_or_holds_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let questions = digits(4);
    let loaded = loaded(folder.path());
    let mut pipeline = pipeline(&loaded, &questions);
    for name in ["compared/greedy", "compared/other", "alone"] {
        go(&mut pipeline, &questions, &at(name)).unwrap();
    }
    for shard in ["1/2", "2/2"] {
        go_shard(&questions, &mut pipeline, &at("compared/split"), shard).unwrap();
    }
    let names = |paths: &[&str]| {
        let found = runs(&paths.iter().map(|path| at(path)).collect::<Vec<_>>()).unwrap();
        found
            .into_iter()
            .map(|run| {
                Path::new(&run.name).strip_prefix(folder.path()).unwrap().display().to_string()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&["compared"]), ["compared/greedy", "compared/other", "compared/split"]);
    assert_eq!(
        names(&["alone", "compared/split", "compared/greedy"]),
        ["alone", "compared/split", "compared/greedy"]
    );
    let several = single_run(&at("compared")).unwrap_err().to_string();
    assert!(
        several.contains("holds several runs; give one of") && several.contains("compared/other"),
        "{several}"
    );
    assert!(
        single_run(&at("compared/greedy")).unwrap().rescore(None).unwrap().questions.len() == 4
    );
    assert_eq!(RunRef::open(&at("compared/split/shard-2-of-2")).unwrap().manifest.task.due(), 2);
    fs::create_dir(at("empty")).unwrap();
    assert!(runs(&[at("empty")]).unwrap_err().to_string().contains("empty: no run in it"));
    assert!(runs(&[at("nowhere")]).unwrap_err().to_string().contains("nowhere"));

    // Neither around nor within other runs.
    let around = go(&mut pipeline, &questions, &at("compared")).unwrap_err();
    assert!(
        around.is_usage() && around.to_string().contains("compared is a folder around the runs"),
        "{around}"
    );
    let within = go(&mut pipeline, &questions, &at("alone/deeper")).unwrap_err();
    assert!(within.is_usage() && within.to_string().contains("lies within the run"), "{within}");
    let shard = go_shard(&questions, &mut pipeline, &at("alone"), "1/2").unwrap_err();
    assert!(shard.to_string().contains("lies within the run"), "{shard}");
}
