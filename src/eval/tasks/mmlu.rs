//! MMLU, the test set of all 57 subjects: 14,042 questions of school, university and profession
//! with four options.
//!
//! Columns: `question`, `subject`, the list `choices`, and `answer`, the right one's index from 0.

use serde::Deserialize;

use super::{LETTER, records};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static MMLU: Task = Task {
    name: "mmlu",
    summary: "questions of 57 subjects with four options; 14,042, the test set",
    source: "Hendrycks et al., arXiv 2009.03300",
    license: "MIT",
    files: &["datasets/cais/mmlu/all/test-00000-of-00001.parquet"],
    question_template: LETTER,
    scorer: Scorer::Choice,
    extractor: Extractor::Choice,
    load: |source| records(source, doc),
};

#[derive(Deserialize)]
struct Row {
    question: String,
    subject: String,
    choices: Vec<String>,
    answer: usize,
}

fn doc(row: Row, index: usize) -> Result<Doc, String> {
    Doc::choice(format!("mmlu:{}:{index}", row.subject), row.question, row.choices, row.answer)
}
