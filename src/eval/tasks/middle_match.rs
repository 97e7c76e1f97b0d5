//! `MiddleMatch`: the name between two others in a list with repetitions, made on the spot.
//!
//! The prompt is the paper's, word for word: forty names drawn from ten. The two neighbors are
//! different from each other and from the name between them, and no other place of the list has the
//! same two around it, in either order: so there is one answer.

use super::draw::Stream;
use super::names::NAMES;
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};
use crate::pipeline::QUESTION;

/// See the module.
pub(super) static MIDDLE_MATCH: Task = Task {
    name: "middle_match",
    summary: "the name between two others of forty, made on the spot; 300",
    source: "Leviathan et al., arXiv 2512.14982; names of candor's own",
    license: "CC0-1.0",
    files: &[],
    question_template: QUESTION,
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load: |_| Ok((0..).filter_map(doc).take(QUESTIONS).enumerate().map(named).collect()),
};

/// As many as of the other list task.
const QUESTIONS: usize = 300;
/// Names in a list.
const NAMES_LISTED: usize = 40;
/// Different names that a list is drawn from.
const NAMES_DRAWN: usize = 10;
/// Names the stream.
const TAG: u64 = 0x6d69_6464_6c65_5f6d;

/// A question from a stream; `None` if no pair of neighbors occurs exactly once.
fn doc(stream: u64) -> Option<Doc> {
    let mut stream = Stream::new(TAG, stream);
    let drawn = stream.some(&NAMES, NAMES_DRAWN);
    let names: Vec<&str> =
        (0..NAMES_LISTED).filter_map(|_| drawn.get(stream.below(drawn.len())).copied()).collect();
    let around = |triple: &[&str], a: &str, b: &str| matches!(triple, [x, _, y] if (*x == a && *y == b) || (*x == b && *y == a));
    let unique: Vec<[&str; 3]> = names
        .windows(3)
        .filter_map(|triple| <[&str; 3]>::try_from(triple).ok())
        .filter(|[a, middle, b]| a != b && a != middle && middle != b)
        .filter(|[a, _, b]| names.windows(3).filter(|triple| around(triple, a, b)).count() == 1)
        .collect();
    let [a, middle, b] = unique.get(stream.below(unique.len()))?;
    let question = format!(
        "Here's a list (potentially with repetitions) of names:\n{}\n\nWhat is the single name \
         that appears right between {a} and {b}?",
        names.join(", ")
    );
    Some(Doc::new("", question, vec![(*middle).to_owned()]))
}

fn named((index, doc): (usize, Doc)) -> Doc {
    Doc { id: format!("middle_match:{index}"), ..doc }
}
