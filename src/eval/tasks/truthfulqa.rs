//! `TruthfulQA`, multiple choice with one right option (MC1): 817 questions that invite a common
//! misconception.
//!
//! Columns: `question`, and `mc1_targets`, a group with the lists `choices` and `labels`, 1 for the
//! right one and 0 for the others. The file has the right option first everywhere; here it takes
//! another place, by a draw that is the same for everybody. An option has no letter beyond J, so a
//! question with more than ten options keeps the right one and the first nine others.

use serde::Deserialize;

use super::draw::Stream;
use super::{LETTER, records};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static TRUTHFULQA: Task = Task {
    name: "truthfulqa",
    summary: "questions that invite a common misconception, two to ten options; 817",
    source: "Lin et al., arXiv 2109.07958, MC1, options in random order",
    license: "Apache-2.0",
    files: &["datasets/truthfulqa/truthful_qa/multiple_choice/validation-00000-of-00001.parquet"],
    question_template: LETTER,
    scorer: Scorer::Choice,
    extractor: Extractor::Choice,
    load: |source| records(source, doc),
};

/// As many as there are letters.
const MOST_OPTIONS: usize = 10;
/// Names the streams.
const TAG: u64 = 0x7472_7574_6866_756c;

#[derive(Deserialize)]
struct Row {
    question: String,
    mc1_targets: Targets,
}

#[derive(Deserialize)]
struct Targets {
    choices: Vec<String>,
    labels: Vec<i64>,
}

fn doc(row: Row, index: usize) -> Result<Doc, String> {
    let Targets { choices, labels } = row.mc1_targets;
    if choices.len() != labels.len() || labels.iter().filter(|label| **label == 1).count() != 1 {
        return Err(format!(
            "{} choices and {} labels, of which exactly one must be 1",
            choices.len(),
            labels.len()
        ));
    }
    let (right, wrong): (Vec<usize>, Vec<usize>) =
        (0..choices.len()).partition(|i| labels.get(*i) == Some(&1));
    let kept: Vec<usize> = right.into_iter().chain(wrong).take(MOST_OPTIONS).collect();
    let order = Stream::new(TAG, index as u64).some(&kept, kept.len());
    let gold = order.iter().position(|i| labels.get(*i) == Some(&1)).unwrap_or_default();
    let options = order.iter().filter_map(|i| choices.get(*i).cloned()).collect();
    Doc::choice(format!("truthfulqa:{index}"), row.question, options, gold)
}
