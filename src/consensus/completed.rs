//! Whether a text that is still being written has announced its answer.
//!
//! Contract: pure and total. It waits for the end of the line, or of a sentence whose full stop
//! cannot belong to an abbreviation, and never stops within a list.

use super::announced::announcements;
use super::extract::boxed;
use super::{choice, statement};

/// The longest announced answer in words: more is an explanation.
const MAX_WORDS: usize = 8;
/// The shortest word whose full stop ends a sentence: "Dr.", "St." and "approx." have fewer letters.
const MIN_LETTERS: usize = 7;

/// Whether a line or sentence that ended at or after byte `from` completes an announced answer: one
/// in a box, or a short one after a phrase such as "the answer is".
pub fn announces_answer(text: &str, from: usize) -> bool {
    let Some(end) = last_end(text, from) else { return false };
    let text = text.get(..end).unwrap_or(text);
    if is_list_item(text.trim_end().lines().next_back().unwrap_or_default()) {
        return false;
    }
    let announced = announcements(text);
    let stated = announced
        .last()
        .and_then(|last| choice::parse_choice(&last.span).or_else(|| statement::announced(last)));
    let is_short = |answer: &str| answer.split_whitespace().count() <= MAX_WORDS;
    boxed(text).is_some() || stated.is_some_and(|answer| is_short(&answer.display))
}

/// The byte after the last line or sentence that ended at or after byte `from`.
fn last_end(text: &str, from: usize) -> Option<usize> {
    let spaces = text.char_indices().rev().take_while(|(at, _)| *at >= from);
    let mut ends = spaces.filter(|(at, space)| match space {
        '\n' => true,
        ' ' => text.get(..*at).is_some_and(ends_sentence),
        _ => false,
    });
    ends.next().map(|(at, _)| at + 1)
}

/// Whether a text ends in a full stop that is not part of an abbreviation.
fn ends_sentence(text: &str) -> bool {
    let Some(head) = text.strip_suffix(['.', '!', '?']) else { return false };
    let letters = head.chars().rev().take_while(|c| c.is_alphabetic()).take(MIN_LETTERS).count();
    letters == MIN_LETTERS || head.ends_with(|c: char| !c.is_alphabetic() && !c.is_whitespace())
}

fn is_list_item(line: &str) -> bool {
    let line = line.trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.starts_with(['-', '•', '+'])
        || line.starts_with("* ")
        || (number.len() < line.len() && number.starts_with(['.', ')']))
}
