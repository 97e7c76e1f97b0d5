//! Natural Questions, open: 3,610 questions that people asked a search engine, with short answers
//! from an encyclopedia.
//!
//! Columns: `question`, and `answer`, a list of equally right ones.

use serde::Deserialize;

use super::{SHORT, records};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static NQ_OPEN: Task = Task {
    name: "nq_open",
    summary: "questions asked of a search engine, answered from an encyclopedia; 3,610, the \
              validation set",
    source: "Kwiatkowski et al., TACL 2019; Lee et al., arXiv 1906.00300",
    license: "CC BY-SA 3.0",
    files: &["datasets/google-research-datasets/nq_open/nq_open/validation-00000-of-00001.parquet"],
    question_template: SHORT,
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load: |source| records(source, |row, index| Ok(doc(row, index))),
};

#[derive(Deserialize)]
struct Row {
    question: String,
    answer: Vec<String>,
}

fn doc(row: Row, index: usize) -> Doc {
    Doc::new(format!("nq_open:{index}"), row.question, row.answer)
}
