//! `SimpleQA`: 4,326 short questions of fact that models tend to get wrong. A small model should
//! abstain almost always.

use super::SHORT;
use crate::consensus::Extractor;
use crate::error::Result;
use crate::eval::table::Row;
use crate::eval::task::Source;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static SIMPLEQA: Task = Task {
    name: "simpleqa",
    summary: "hard questions of fact with one short answer; 4,326",
    source: "Wei et al., arXiv 2411.04368; graded by equal text, which is stricter than the \
             paper's judge",
    license: "MIT",
    files: &["simpleqa/datasets/simple_qa_test_set.csv"],
    question_template: SHORT,
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load,
};

fn load(source: &Source<'_>) -> Result<Vec<Doc>> {
    let doc = |(index, row): (usize, Row)| {
        let (question, answer) =
            (row.text("problem", source.path)?, row.text("answer", source.path)?);
        Ok(Doc::new(format!("simpleqa:{index}"), question, vec![answer]))
    };
    source.rows()?.into_iter().enumerate().map(doc).collect()
}
