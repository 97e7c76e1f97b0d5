//! `BoolQ`, the validation set: 3,270 questions about a passage that are answered by yes or no.
//!
//! Columns: `question` in lower case without a question mark, `answer` true or false, and
//! `passage`. Two rows may ask the same question of different passages.

use serde::Deserialize;

use super::records;
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static BOOLQ: Task = Task {
    name: "boolq",
    summary: "yes or no, by a passage; 3,270, the validation set",
    source: "Clark et al., arXiv 1905.10044",
    license: "CC BY-SA 3.0",
    files: &["datasets/google/boolq/data/validation-00000-of-00001.parquet"],
    question_template: "{question}\nAnswer with yes or no and nothing else.",
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load: |source| records(source, |row, index| Ok(doc(&row, index))),
};

#[derive(Deserialize)]
struct Row {
    question: String,
    answer: bool,
    passage: String,
}

fn doc(row: &Row, index: usize) -> Doc {
    let question = format!("{}\nQuestion: {}?", row.passage, row.question.trim_end_matches('?'));
    let answer = if row.answer { "yes" } else { "no" };
    Doc::new(format!("boolq:{index}"), question, vec![answer.to_owned()])
}
