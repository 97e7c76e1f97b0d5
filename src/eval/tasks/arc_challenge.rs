//! ARC, the challenge set's test part: 1,172 questions of school science that retrieval and word
//! statistics got wrong, most with four options.
//!
//! Columns: `id`, `question`, `choices`, a group with the lists `text` and `label`, and
//! `answerKey`, the right one's label. Labels are letters in most rows and numbers in some; here
//! every option has a letter.

use serde::Deserialize;

use super::{LETTER, records};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static ARC_CHALLENGE: Task = Task {
    name: "arc_challenge",
    summary: "harder questions of school science, most with four options; 1,172",
    source: "Clark et al., arXiv 1803.05457",
    license: "CC BY-SA 4.0",
    files: &["datasets/allenai/ai2_arc/ARC-Challenge/test-00000-of-00001.parquet"],
    question_template: LETTER,
    scorer: Scorer::Choice,
    extractor: Extractor::Choice,
    load: |source| records(source, |row, _| doc(row)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    question: String,
    choices: Choices,
    answer_key: String,
}

#[derive(Deserialize)]
struct Choices {
    text: Vec<String>,
    label: Vec<String>,
}

fn doc(row: Row) -> Result<Doc, String> {
    let Choices { text, label } = row.choices;
    let right: Vec<usize> = (0..)
        .zip(&label)
        .filter_map(|(index, label)| (*label == row.answer_key).then_some(index))
        .collect();
    match right.as_slice() {
        [gold] if text.len() == label.len() => {
            Doc::choice(format!("arc_challenge:{}", row.id), row.question, text, *gold)
        }
        _ => Err(format!(
            "answerKey is {:?}; {} texts have the labels {}, of which it must be one",
            row.answer_key,
            text.len(),
            label.join(", ")
        )),
    }
}
