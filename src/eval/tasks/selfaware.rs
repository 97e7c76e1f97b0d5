//! `SelfAware`: 2,337 questions with an answer and 1,032 that nobody can answer.

use serde::Deserialize;

use super::{SHORT, rows, whole};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static SELFAWARE: Task = Task {
    name: "selfaware",
    summary: "questions with an answer and questions that have none; 2,337 and 1,032",
    source: "Yin et al., arXiv 2305.18153",
    license: "CC BY-SA 4.0",
    files: &["selfaware/data/SelfAware.json"],
    question_template: SHORT,
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load: |source| rows(source, whole::<File>(source)?.example, |row, _| Ok(doc(row))),
};

#[derive(Deserialize)]
struct File {
    example: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    question_id: u64,
    question: String,
    answer: Option<Vec<String>>,
    answerable: bool,
}

fn doc(row: Row) -> Doc {
    let answers = row.answer.filter(|_| row.answerable).unwrap_or_default();
    Doc {
        answerable: Some(row.answerable),
        ..Doc::new(format!("selfaware:{}", row.question_id), row.question, answers)
    }
}
