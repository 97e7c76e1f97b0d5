//! The tasks that are made on the spot: right by a check of their own, and the same for everybody.
//!
//! The hashes were made apart, by the same rules in Python.

use std::collections::{BTreeMap, BTreeSet};

use candor::internals::consensus;
use candor::internals::digest::sha256_hex;
use candor::internals::eval::{self, Doc, Grader, Questions};
use candor::internals::generation::{Completion, Cost, FinishReason, Generation};
use candor::internals::metrics::Grade;

fn open(name: &str) -> Questions {
    eval::task(name).unwrap().open(None).unwrap()
}

/// The questions are `count`, hash to `expected`, and come out the same again.
fn check_made(questions: &Questions, count: usize, expected: &str) {
    assert_eq!((questions.docs.len(), &questions.file_sha256), (count, &None));
    let hashes: String = questions.docs.iter().map(Doc::hash).collect();
    assert_eq!(sha256_hex(hashes.as_bytes()), expected, "{}", questions.name);
    assert_eq!(*questions, open(&questions.name));
}

/// The grade of one sample with this text.
fn grade(questions: &Questions, doc: &Doc, text: &str) -> Grade {
    let sample = Completion {
        index: 0,
        tokens: Vec::new(),
        text: text.to_owned(),
        finish_reason: FinishReason::Stop,
        ..Completion::default()
    };
    let generation =
        Generation { completions: vec![sample], cost: Cost::default(), ..Generation::default() };
    let asked =
        consensus::AskedQuestion { text: doc.question.clone(), options: doc.choices.clone() };
    let vote = consensus::vote(&asked, &generation, &questions.extractor.into());
    Grader::new(questions.scorer, doc).grade(&vote)
}

/// The names of the list in a prompt, which stands on its second line.
fn listed(doc: &Doc) -> Vec<&str> {
    doc.question.lines().nth(1).unwrap().split(", ").collect()
}

#[test]
fn name_index_asks_for_the_twenty_fifth_of_fifty() {
    let questions = open("name_index");
    check_made(&questions, 300, "53d6844dd2f96d011415f217c9f1074600fb06730233aeb5d2f850f1b75ce4bb");
    assert_eq!(questions.question_template, "{question}");
    let mut gold = BTreeSet::new();
    for doc in &questions.docs {
        let names = listed(doc);
        assert_eq!((names.len(), names.iter().collect::<BTreeSet<_>>().len()), (50, 50));
        assert_eq!(
            doc.question,
            format!("Here's a list of names:\n{}\n\nWhat's the 25th name?", names.join(", "))
        );
        assert_eq!(doc.answers, [names[24]]);
        gold.insert(names[24]);
        let said = [
            format!("The 25th name is {}.", names[24]),
            format!("**{}**", names[24].to_uppercase()),
            names[23].to_owned(),
        ];
        assert_eq!(
            said.map(|text| grade(&questions, doc, &text)),
            [Grade::Correct, Grade::Correct, Grade::Incorrect]
        );
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
        let head = format!(
            "Here's a list (potentially with repetitions) of names:\n{}\n\n",
            names.join(", ")
        );
        assert_eq!(
            doc.question,
            format!("{head}What is the single name that appears right between {a} and {b}?")
        );
        let ends = |i: &usize| {
            [names[i - 1], names[i + 1]] == [a, b] || [names[i - 1], names[i + 1]] == [b, a]
        };
        let found: Vec<usize> = (1..39).filter(ends).collect();
        assert_eq!(found.len(), 1, "{}", doc.question);
        assert_eq!(doc.answers, [names[found[0]]]);
        assert_ne!(a, b);
        assert_eq!(
            grade(
                &questions,
                doc,
                &format!("The single name right between them is {}.", names[found[0]])
            ),
            Grade::Correct
        );
        assert_eq!(
            [a, b].map(|name| grade(&questions, doc, name)),
            [Grade::Incorrect, Grade::Incorrect]
        );
        *places.entry(found[0]).or_insert(0) += 1;
    }
    assert!(places.len() > 30, "the places are {places:?}");
}

#[test]
fn invented_entities_have_real_twins() {
    let questions = open("invented");
    check_made(&questions, 300, "108cfcb365904f387764a582012d661efc1b11fa3bd342b705baead06e2b899b");
    let real: BTreeSet<String> = questions
        .docs
        .iter()
        .filter(|doc| doc.answerable == Some(true))
        .map(|doc| entity(doc).to_lowercase())
        .collect();
    for pair in questions.docs.chunks(2) {
        let [known, invented] = pair else { panic!("a question without a twin") };
        assert_eq!((known.answerable, invented.answerable), (Some(true), Some(false)));
        assert_eq!(
            known.question.replace(entity(known), "{}"),
            invented.question.replace(entity(invented), "{}")
        );
        let made = entity(invented).to_lowercase();
        assert!(
            made.is_ascii()
                && !real.iter().any(|name| name.contains(&made) || made.contains(name.as_str())),
            "{made}"
        );
        let answer = &known.answers[0];
        assert_eq!(
            grade(&questions, known, &format!("{answer}.")),
            Grade::Correct,
            "{}",
            known.question
        );
        // Nothing that is said of what does not exist is right.
        assert_eq!(grade(&questions, invented, answer), Grade::Incorrect);
    }
    let capital = questions.docs.iter().find(|doc| doc.question.contains("of Brazil?")).unwrap();
    let said = ["Brasilia", "The capital of Brazil is Brasília.", "Rio de Janeiro"];
    assert_eq!(
        said.map(|text| grade(&questions, capital, text)),
        [Grade::Correct, Grade::Correct, Grade::Incorrect]
    );
}

/// What a question of `invented` is about: the last part of its id.
fn entity(doc: &Doc) -> &str {
    doc.id.rsplit(':').next().unwrap()
}

#[test]
fn problems_without_a_quantity_have_intact_twins() {
    let questions = open("missing_quantity");
    check_made(&questions, 400, "f446a9b6bb471d700be30af3e8596bd82a7a849c779f702f928f982af620356c");
    for pair in questions.docs.chunks(2) {
        let [whole, without] = pair else { panic!("a problem without a twin") };
        assert_eq!((whole.answerable, without.answerable), (Some(true), Some(false)));
        assert_eq!(format!("{}:without", whole.id), without.id);
        // One number became "some", and nothing else differs.
        let words = |doc: &Doc| doc.question.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (a, b) = (words(whole), words(without));
        let differing: Vec<(&String, &String)> = a.iter().zip(&b).filter(|(a, b)| a != b).collect();
        assert_eq!((a.len(), differing.len()), (b.len(), 1), "{}", without.question);
        assert!(differing[0].0.parse::<u32>().is_ok() && differing[0].1 == "some", "{differing:?}");
        assert!(
            !whole.question.contains(['{', '}']) && !whole.question.contains("some"),
            "{}",
            whole.question
        );
        let gold: u32 = whole.answers[0].parse().unwrap();
        assert!(gold > 0 && without.answers.is_empty());
        assert_eq!(grade(&questions, whole, &format!("#### {gold}")), Grade::Correct);
        assert_eq!(grade(&questions, without, &format!("#### {gold}")), Grade::Incorrect);
    }
}
