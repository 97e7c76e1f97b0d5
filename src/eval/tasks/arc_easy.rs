//! ARC, the easy set's test part: 2,376 questions of school science with four options.

use super::{LETTER, options};
use crate::consensus::Extractor;
use crate::eval::{Scorer, Task};

/// See the module.
pub(super) static ARC_EASY: Task = Task {
    name: "arc_easy",
    summary: "questions of school science with four options; 2,376",
    source: "Clark et al., arXiv 1803.05457",
    license: "CC BY-SA 4.0",
    files: &["arc_easy/arc_easy.jsonl"],
    question_template: LETTER,
    scorer: Scorer::Choice,
    extractor: Extractor::Choice,
    load: |source| options(source, "arc_easy"),
};
