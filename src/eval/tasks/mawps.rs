//! MAWPS, problems of one operation: 562 word problems.

use serde::Deserialize;

use super::{WORD_PROBLEM, lines};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static MAWPS: Task = Task {
    name: "mawps",
    summary: "word problems of one operation; 562",
    source: "Koncel-Kedziorski et al., NAACL 2016, aclanthology N16-1136",
    license: "MIT",
    files: &["mawps/singleop.jsonl"],
    question_template: WORD_PROBLEM,
    scorer: Scorer::Number,
    extractor: Extractor::Number,
    load: |source| {
        lines(source, |row: Row, index| {
            Ok(Doc::new(format!("mawps:{index}"), row.input, vec![row.target.to_string()]))
        })
    },
};

#[derive(Deserialize)]
struct Row {
    input: String,
    target: f64,
}
