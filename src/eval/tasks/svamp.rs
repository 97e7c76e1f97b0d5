//! SVAMP: 1,000 word problems of one step, varied so that patterns of words do not give the answer
//! away.

use serde::Deserialize;

use super::{WORD_PROBLEM, rows, whole};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static SVAMP: Task = Task {
    name: "svamp",
    summary: "word problems of one step, with variations; 1,000",
    source: "Patel et al., arXiv 2103.07191",
    license: "MIT",
    files: &["svamp/SVAMP.json"],
    question_template: WORD_PROBLEM,
    scorer: Scorer::Number,
    extractor: Extractor::Number,
    load: |source| rows(source, whole(source)?, |row: Row, _| Ok(doc(&row))),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    body: String,
    question: String,
    answer: f64,
}

fn doc(row: &Row) -> Doc {
    let body = row.body.trim_end();
    // Most bodies lack the full stop that the question after them needs.
    let stop = if body.ends_with(['.', '?', '!', ',']) { "" } else { "." };
    Doc::new(
        format!("svamp:{}", row.id),
        format!("{body}{stop} {}", row.question.trim()),
        vec![row.answer.to_string()],
    )
}
