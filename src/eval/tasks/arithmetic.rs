//! Sums, differences and products by number of digits, made on the spot: a clean range from easy to
//! hard for a small model.
//!
//! Ten kinds, `a + b`, `a - b` and `a * b` with one to four digits each (products up to two), a
//! hundred questions a kind as far as there are so many. The same for everybody: made from fixed
//! seeds, without a file.

use std::collections::BTreeSet;

use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};
use crate::metrics::bootstrap::mix;

/// See the module.
pub(super) static ARITHMETIC: Task = Task {
    name: "arithmetic",
    summary: "sums, differences and products of one to four digits, made on the spot; about 1,000",
    source: "candor",
    license: "CC0-1.0",
    files: &[],
    question_template: "What is {question}? Answer with the number and nothing else.",
    scorer: Scorer::Number,
    extractor: Extractor::Number,
    load: |_| Ok(KINDS.iter().flat_map(|(operation, digits)| kind(*operation, *digits)).collect()),
};

/// Questions of one kind, at most.
const EACH: usize = 100;
/// Draws before a kind counts as exhausted.
const DRAWS: u64 = 10_000;

const KINDS: &[(char, u32)] = &[
    ('+', 1),
    ('+', 2),
    ('+', 3),
    ('+', 4),
    ('-', 1),
    ('-', 2),
    ('-', 3),
    ('-', 4),
    ('*', 1),
    ('*', 2),
];

/// Distinct questions in the order drawn.
fn kind(operation: char, digits: u32) -> Vec<Doc> {
    let low = if digits == 1 { 0 } else { 10_i64.pow(digits - 1) };
    let span = 10_i64.pow(digits) - low;
    let stream = mix(u64::from(operation) ^ mix(u64::from(digits)));
    let number = |counter: u64| low + (mix(stream ^ mix(counter)) % span as u64) as i64;
    let mut seen = BTreeSet::new();
    let fresh = (0..DRAWS)
        .map(|draw| (number(2 * draw), number(2 * draw + 1)))
        .filter(|pair| seen.insert(*pair));
    fresh.take(EACH).map(|(a, b)| doc(operation, a, b)).collect()
}

fn doc(operation: char, a: i64, b: i64) -> Doc {
    let result = match operation {
        '+' => a + b,
        '-' => a - b,
        _ => a * b,
    };
    Doc::new(
        format!("arithmetic:{a}{operation}{b}"),
        format!("{a} {operation} {b}"),
        vec![result.to_string()],
    )
}
