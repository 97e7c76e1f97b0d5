//! `OpenBookQA`, the test set: 500 questions of elementary science with four options.

use super::{LETTER, options};
use crate::consensus::Extractor;
use crate::eval::{Scorer, Task};

/// See the module.
pub(super) static OPENBOOKQA: Task = Task {
    name: "openbookqa",
    summary: "questions of elementary science with four options; 500",
    source: "Mihaylov et al., arXiv 1809.02789",
    license: "Apache-2.0",
    files: &["openbookqa/openbook_qa.jsonl"],
    question_template: LETTER,
    scorer: Scorer::Choice,
    extractor: Extractor::Choice,
    load: |source| options(source, "openbookqa"),
};
