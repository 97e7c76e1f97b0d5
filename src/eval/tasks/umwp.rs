//! UMWP: 2,600 word problems, and each again with something spoiled, so that it has no answer.

use serde::Deserialize;

use super::{WORD_PROBLEM, lines};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static UMWP: Task = Task {
    name: "umwp",
    summary: "word problems, and the same with something missing so that they have no answer; \
              2,600 each",
    source: "Sun et al., arXiv 2403.03558",
    license: "CC BY-SA 4.0",
    files: &["umwp/data/StandardDataset.jsonl"],
    question_template: WORD_PROBLEM,
    scorer: Scorer::Number,
    extractor: Extractor::Number,
    load: |source| lines(source, |row, _| Ok(doc(row))),
};

#[derive(Deserialize)]
struct Row {
    id: u64,
    question: String,
    answer: Option<Answer>,
    answerable: bool,
}

/// Two rows have a bare number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    One(f64),
    Many(Vec<f64>),
}

fn doc(row: Row) -> Doc {
    let answers = match row.answer.filter(|_| row.answerable) {
        None => Vec::new(),
        Some(Answer::One(number)) => vec![number.to_string()],
        Some(Answer::Many(numbers)) => numbers.iter().map(f64::to_string).collect(),
    };
    Doc {
        answerable: Some(row.answerable),
        ..Doc::new(format!("umwp:{}", row.id), row.question, answers)
    }
}
