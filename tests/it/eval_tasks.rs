//! The tasks that are made on the spot: right by a check of their own, and the same for everybody.
//!
//! The hashes were made apart, by the same rules in Python.

use std::collections::{BTreeMap, BTreeSet};

use candor::consensus;
use candor::eval::{self, Doc, Grader, Questions};
use candor::generation::{Completion, Cost, FinishReason, Generation};
use candor::metrics::Grade;
use candor::pipeline::sha256;

fn open(name: &str) -> Questions {
    eval::task(name).unwrap().open(None).unwrap()
}

/// The questions are `count`, hash to `expected`, and come out the same again.
fn check_made(questions: &Questions, count: usize, expected: &str) {
    assert_eq!((questions.docs.len(), &questions.file_sha256), (count, &None));
    let hashes: String = questions.docs.iter().map(Doc::hash).collect();
    assert_eq!(sha256(hashes.as_bytes()), expected, "{}", questions.name);
    assert_eq!(*questions, open(&questions.name));
}

/// The grade of one sample with this text.
fn grade(questions: &Questions, doc: &Doc, text: &str) -> Grade {
    let sample = Completion { index: 0, tokens: Vec::new(), text: text.to_owned(), finish_reason: FinishReason::Stop };
    let generation = Generation { completions: vec![sample], cost: Cost::default() };
    Grader::new(questions.scorer, doc).grade(&consensus::vote(&generation, questions.extractor))
}

/// The names of the list in a prompt, which stands on its second line.
fn listed(doc: &Doc) -> Vec<&str> {
    doc.question.lines().nth(1).unwrap().split(", ").collect()
}

#[test]
fn name_index_asks_for_the_twenty_fifth_of_fifty() {
    let questions = open("name_index");
    check_made(&questions, 300, "53d6844dd2f96d011415f217c9f1074600fb06730233aeb5d2f850f1b75ce4bb");
    assert_eq!(questions.frame, "{question}");
    let mut gold = BTreeSet::new();
    for doc in &questions.docs {
        let names = listed(doc);
        assert_eq!((names.len(), names.iter().collect::<BTreeSet<_>>().len()), (50, 50));
        assert_eq!(doc.question, format!("Here's a list of names:\n{}\n\nWhat's the 25th name?", names.join(", ")));
        assert_eq!(doc.answers, [names[24]]);
        gold.insert(names[24]);
        let said = [format!("The 25th name is {}.", names[24]), format!("**{}**", names[24].to_uppercase()), names[23].to_owned()];
        assert_eq!(said.map(|text| grade(&questions, doc, &text)), [Grade::Right, Grade::Right, Grade::Wrong]);
    }
    assert!(gold.len() > 80, "only {} different answers", gold.len());
}

#[test]
fn middle_match_has_one_answer() {
    let questions = open("middle_match");
    check_made(&questions, 300, "3932e915255d5305be2decdbc7e7ee257833a8965d5f8cf772cd1e8f833c211e");
    let mut places = BTreeMap::new();
    for doc in &questions.docs {
        let names = listed(doc);
        assert_eq!(names.len(), 40);
        assert!(names.iter().collect::<BTreeSet<_>>().len() <= 10);
        let (_, asked) = doc.question.rsplit_once("right between ").unwrap();
        let (a, b) = asked.strip_suffix('?').unwrap().split_once(" and ").unwrap();
        let head = format!("Here's a list (potentially with repetitions) of names:\n{}\n\n", names.join(", "));
        assert_eq!(doc.question, format!("{head}What is the single name that appears right between {a} and {b}?"));
        let ends = |i: &usize| [names[i - 1], names[i + 1]] == [a, b] || [names[i - 1], names[i + 1]] == [b, a];
        let found: Vec<usize> = (1..39).filter(ends).collect();
        assert_eq!(found.len(), 1, "{}", doc.question);
        assert_eq!(doc.answers, [names[found[0]]]);
        assert_ne!(a, b);
        assert_eq!(grade(&questions, doc, &format!("The single name right between them is {}.", names[found[0]])), Grade::Right);
        assert_eq!([a, b].map(|name| grade(&questions, doc, name)), [Grade::Wrong, Grade::Wrong]);
        *places.entry(found[0]).or_insert(0) += 1;
    }
    assert!(places.len() > 30, "the places are {places:?}");
}
