//! `OpenBookQA`, the test set: 500 questions of elementary science with four options.

use serde::Deserialize;

use super::{LETTER, lines};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static OPENBOOKQA: Task = Task {
    name: "openbookqa",
    summary: "questions of elementary science with four options; 500",
    source: "Mihaylov et al., arXiv 1809.02789",
    licence: "Apache-2.0",
    file: Some("openbookqa/openbook_qa.jsonl"),
    frame: LETTER,
    scorer: Scorer::Choice,
    extractor: Extractor::Choice,
    load: |source| lines(source, doc),
};

#[derive(Deserialize)]
struct Row {
    query: String,
    choices: Vec<String>,
    gold: usize,
}

fn doc(row: Row, index: usize) -> Result<Doc, String> {
    let question = row.query.trim_start_matches("Question: ").to_owned();
    Doc::choice(format!("openbookqa:{index}"), question, row.choices, row.gold)
}
