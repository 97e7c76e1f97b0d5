//! GSM8K's test set: 1,319 word problems of grade school, with a solution that ends `#### number`.

use serde::Deserialize;

use super::{WORD_PROBLEM, lines};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static GSM8K: Task = Task {
    name: "gsm8k",
    summary: "word problems of several steps; 1,319, the test set",
    source: "Cobbe et al., arXiv 2110.14168",
    license: "MIT",
    files: &["gsm8k/grade_school_math/data/test.jsonl"],
    question_template: WORD_PROBLEM,
    scorer: Scorer::Number,
    extractor: Extractor::Number,
    load: |source| lines(source, doc),
};

#[derive(Deserialize)]
struct Row {
    question: String,
    answer: String,
}

fn doc(row: Row, index: usize) -> Result<Doc, String> {
    let (_, gold) = row.answer.rsplit_once("####").ok_or("the answer has no `#### number`")?;
    Ok(Doc::new(format!("gsm8k:{index}"), row.question, vec![gold.trim().to_owned()]))
}
