//! `NameIndex`: the 25th of fifty names, made on the spot. What prompt repetition helps most with.
//!
//! The prompt is the paper's, word for word; the names are candor's own, all different, so that a
//! wrong place is never right by chance.

use super::draw::Stream;
use super::names::NAMES;
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};
use crate::pipeline::QUESTION;

/// See the module.
pub(super) static NAME_INDEX: Task = Task {
    name: "name_index",
    summary: "the 25th of fifty names, made on the spot; 300",
    source: "Leviathan et al., arXiv 2512.14982; names of candor's own",
    license: "CC0-1.0",
    files: &[],
    question_template: QUESTION,
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load: |_| Ok((0..QUESTIONS).map(doc).collect()),
};

/// As many as the paper asks.
const QUESTIONS: u64 = 300;
/// Names in a list.
const NAMES_LISTED: usize = 50;
/// The place asked for, from 1.
const PLACE: usize = 25;
/// Names the stream.
const TAG: u64 = 0x6e61_6d65_5f69_6478;

fn doc(index: u64) -> Doc {
    let names = Stream::new(TAG, index).some(&NAMES, NAMES_LISTED);
    let question =
        format!("Here's a list of names:\n{}\n\nWhat's the {PLACE}th name?", names.join(", "));
    let answers = names.get(PLACE - 1).map(|name| (*name).to_owned()).into_iter().collect();
    Doc::new(format!("name_index:{index}"), question, answers)
}
