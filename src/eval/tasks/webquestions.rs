//! `WebQuestions`, the test set: 2,032 questions that people asked a search engine, with all
//! answers of a knowledge base.

use serde::Deserialize;

use super::{SHORT, rows, whole};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static WEBQUESTIONS: Task = Task {
    name: "webquestions",
    summary: "questions asked of a search engine, several answers right; 2,032, the test set",
    source: "Berant et al., EMNLP 2013, aclanthology D13-1160",
    license: "CC BY 4.0",
    files: &["webquestions/main/test.json"],
    question_template: SHORT,
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load: |source| {
        rows(source, whole(source)?, |row: Row, _| {
            Ok(Doc::new(format!("webquestions:{}", row.id), row.text, row.answers))
        })
    },
};

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "qId")]
    id: String,
    #[serde(rename = "qText")]
    text: String,
    answers: Vec<String>,
}
