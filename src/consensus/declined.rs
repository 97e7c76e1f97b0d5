//! Whether a completion says that its model does not know.
//!
//! Contract: total and linear. It is about English phrases that are the answer, not about hedges
//! around one: "I don't know, but it may be Paris" answers. Where a number, a letter or a box is
//! asked for, a text that has one answers too, whatever else it says. What a model says about its
//! own knowledge is its vote, and no measure of what it knows.

use super::Extractor;
use super::extract::{after_thinking, stated};
use super::normalize::canonical;

/// The canonical form of the answer that there is none.
pub const DECLINED: &str = "i dont know";

/// A text of more bytes explains something.
const LONGEST: usize = 400;

/// What declines, in canonical form.
const PHRASES: &[&str] = &[
    "i dont know",
    "i do not know",
    "dont know",
    "do not know",
    "idk",
    "i am not sure",
    "im not sure",
    "not sure",
    "i am unsure",
    "im unsure",
    "unsure",
    "i am not confident",
    "im not confident",
    "i have no idea",
    "no idea",
    "i cannot answer",
    "i cant answer",
    "i can not answer",
    "i am unable to answer",
    "im unable to answer",
    "i dont have enough information",
    "i do not have enough information",
    "i dont have sufficient information",
    "i do not have sufficient information",
];

/// What may come before, in canonical form.
const OPENINGS: &[&str] =
    &["i apologize", "i am sorry", "im sorry", "sorry", "unfortunately", "well", "but"];

/// Words after which an answer comes all the same.
const TURNS: &[&str] = &[
    "but", "however", "though", "although", "think", "guess", "believe", "assume", "suppose",
    "probably", "perhaps", "maybe", "likely", "might", "could", "best",
];

/// Whether the text declines to answer.
pub(super) fn declines(text: &str, extractor: Extractor) -> bool {
    let Some(text) = after_thinking(text) else { return false };
    if let Some(stated) = stated(text) {
        return is_phrase(stated);
    }
    let needs_a_mark =
        matches!(extractor, Extractor::Number | Extractor::Choice | Extractor::Boxed);
    is_phrase(text) && !(needs_a_mark && extractor.read(text).is_some())
}

fn is_phrase(text: &str) -> bool {
    if text.len() > LONGEST {
        return false;
    }
    let Some(form) = canonical(text) else { return false };
    let mut rest = form.as_str();
    while let Some(after) = OPENINGS.iter().find_map(|opening| after_words(rest, opening)) {
        rest = after;
    }
    let after = PHRASES.iter().find_map(|phrase| after_words(rest, phrase));
    after.is_some_and(|after| !after.split(' ').any(|word| TURNS.contains(&word)))
}

/// What follows some words at the start of a canonical form.
fn after_words<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(words)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(' ') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_decline_and_hedges_answer() {
        let check = |text: &str, extractor: Extractor, expected: bool| {
            assert_eq!(declines(text, extractor), expected, "{text:?}");
        };
        assert_eq!(canonical("I don't know.").as_deref(), Some(DECLINED));
        for text in [
            "I don't know",
            "I don’t know.",
            "\"I don't know\"",
            "**I do not know.**",
            "I'm sorry, but I don't know the answer to that question.",
            "IDK",
            "The answer is \"I don't know\".",
            "#### I don't know",
            "<think>Paris?</think>I don't know",
            "I am not sure.",
            "I don't have enough information to answer this.",
        ] {
            for extractor in Extractor::ALL {
                check(text, extractor, true);
            }
        }
        for text in [
            "",
            "Paris",
            "I don't know, but it may be Paris.",
            "I'm not sure, I think it is Paris.",
            "I don't know. The answer is Paris.",
            "Idkfa",
            "The song is called I Don't Know",
            "<think>I don't know",
        ] {
            for extractor in Extractor::ALL {
                check(text, extractor, false);
            }
        }
        check("I don't know how many. 12", Extractor::Number, false);
        check("I don't know. (B)", Extractor::Choice, false);
        check("I don't know: \\boxed{7}", Extractor::Boxed, false);
        check(&format!("I don't know {}", "x ".repeat(300)), Extractor::Auto, false);
    }
}
