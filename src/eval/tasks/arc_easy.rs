//! ARC, the easy set's test part: 2,376 questions of school science with four options.

use serde::Deserialize;

use super::{LETTER, lines};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static ARC_EASY: Task = Task {
    name: "arc_easy",
    summary: "questions of school science with four options; 2,376",
    source: "Clark et al., arXiv 1803.05457",
    licence: "CC BY-SA 4.0",
    file: Some("arc_easy/arc_easy.jsonl"),
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
    Doc::choice(format!("arc_easy:{index}"), question, row.choices, row.gold)
}
