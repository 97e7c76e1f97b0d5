//! The built-in tasks, one file each. A new one is a file and a line here.

mod arc_challenge;
mod arc_easy;
mod arithmetic;
mod boolq;
mod draw;
mod gsm8k;
mod invented;
mod mawps;
mod mgsm;
mod middle_match;
mod missing_quantity;
mod mmlu;
mod name_index;
mod names;
mod nq_open;
mod openbookqa;
mod relations;
mod selfaware;
mod simpleqa;
mod svamp;
mod triviaqa;
mod truthfulqa;
mod truthfulqa_mc2;
mod umwp;
mod webquestions;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::table::Row;
use super::task::Source;
use super::{Doc, Task};
use crate::error::{Error, Result};

/// Every task: numbers, short answers, choices, questions without an answer, lists of names.
pub static TASKS: &[&Task] = &[
    &arithmetic::ARITHMETIC,
    &svamp::SVAMP,
    &mawps::MAWPS,
    &gsm8k::GSM8K,
    &mgsm::BN,
    &mgsm::DE,
    &mgsm::EN,
    &mgsm::ES,
    &mgsm::FR,
    &mgsm::JA,
    &mgsm::RU,
    &mgsm::SW,
    &mgsm::TE,
    &mgsm::TH,
    &mgsm::ZH,
    &webquestions::WEBQUESTIONS,
    &relations::RELATIONS,
    &simpleqa::SIMPLEQA,
    &triviaqa::TRIVIAQA,
    &nq_open::NQ_OPEN,
    &boolq::BOOLQ,
    &arc_easy::ARC_EASY,
    &arc_challenge::ARC_CHALLENGE,
    &openbookqa::OPENBOOKQA,
    &mmlu::MMLU,
    &truthfulqa::TRUTHFULQA,
    &truthfulqa_mc2::TRUTHFULQA_MC2,
    &selfaware::SELFAWARE,
    &invented::INVENTED,
    &umwp::UMWP,
    &missing_quantity::MISSING_QUANTITY,
    &name_index::NAME_INDEX,
    &middle_match::MIDDLE_MATCH,
];

/// What number word problems are put into.
const WORD_PROBLEM: &str =
    "{question}\nThink step by step, then end with a line \"#### \" and the number.";
/// What questions with options are put into.
const LETTER: &str = "{question}\nAnswer with the letter of the right option and nothing else.";
/// What questions of fact are put into.
const SHORT: &str = "{question}\nAnswer with a name or a few words and nothing else.";

/// A document for each line of a JSONL file; `make` takes a row and its index from 0.
fn lines<T: DeserializeOwned>(
    source: &Source<'_>,
    make: impl Fn(T, usize) -> Result<Doc, String>,
) -> Result<Vec<Doc>> {
    let full = source.text()?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let doc = |(i, line): (usize, &str)| {
        let row = serde_json::from_str(line).map_err(|e| e.to_string());
        row.and_then(|row| make(row, i))
            .map_err(|reason| Error::invalid_file(source.path, format!("line {}: {reason}", i + 1)))
    };
    full.map(doc).collect()
}

/// A document for each row of a parquet or JSONL file, as the Hub publishes data sets; `make` takes
/// a row and its index from 0.
fn records<T: DeserializeOwned>(
    source: &Source<'_>,
    make: impl Fn(T, usize) -> Result<Doc, String>,
) -> Result<Vec<Doc>> {
    let doc = |(i, row): (usize, Row)| {
        let place = row.place();
        let typed = serde_json::from_value(Value::Object(row.fields))
            .map_err(|e| format!("not what the task reads: {e}"));
        typed
            .and_then(|row| make(row, i))
            .map_err(|reason| Error::invalid_file(source.path, format!("{place}: {reason}")))
    };
    source.rows()?.into_iter().enumerate().map(doc).collect()
}

/// A question with options, by the index of the right one.
#[derive(Deserialize)]
struct WithOptions {
    query: String,
    choices: Vec<String>,
    gold: usize,
}

/// A document for each line of a JSONL file of questions with options.
fn options(source: &Source<'_>, task: &str) -> Result<Vec<Doc>> {
    lines(source, |row: WithOptions, index| {
        let question = row.query.trim_start_matches("Question: ").to_owned();
        Doc::choice(format!("{task}:{index}"), question, row.choices, row.gold)
    })
}

/// A document for each row of one JSON list.
fn rows<T>(
    source: &Source<'_>,
    rows: Vec<T>,
    make: impl Fn(T, usize) -> Result<Doc, String>,
) -> Result<Vec<Doc>> {
    let doc = |(i, row)| {
        make(row, i)
            .map_err(|reason| Error::invalid_file(source.path, format!("row {}: {reason}", i + 1)))
    };
    rows.into_iter().enumerate().map(doc).collect()
}

/// The file as one JSON value.
fn whole<T: DeserializeOwned>(source: &Source<'_>) -> Result<T> {
    serde_json::from_str(source.text()?)
        .map_err(|e| Error::invalid_file(source.path, format!("not what the task reads: {e}")))
}
