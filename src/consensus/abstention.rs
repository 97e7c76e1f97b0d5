//! Detection of completions that say that the model does not know.
//!
//! Contract: total and linear. It matches English phrases that are the answer, not hedges around
//! one: "I don't know, but it may be Paris" is an answer. A text with a number, a letter or a box
//! is an answer too if the extractor looks for one. Such a statement is a vote, not a measure of
//! what the model knows.

use super::Extractor;
use super::extract::{after_answer_phrase, after_thinking};
use super::normalize::canonical;

/// The canonical form of an abstention.
pub const ABSTENTION: &str = "i dont know";

/// Longer texts, in bytes, are not abstentions.
const MAX_BYTES: usize = 400;

/// Phrases of an abstention, in canonical form.
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

/// Phrases that may precede it, in canonical form.
const OPENINGS: &[&str] =
    &["i apologize", "i am sorry", "im sorry", "sorry", "unfortunately", "well", "but"];

/// Words that introduce an answer after all.
const HEDGES: &[&str] = &[
    "but", "however", "though", "although", "think", "guess", "believe", "assume", "suppose",
    "probably", "perhaps", "maybe", "likely", "might", "could", "best",
];

/// Whether the text says that the model does not know.
pub(super) fn is_abstention(text: &str, extractor: Extractor) -> bool {
    let Some(text) = after_thinking(text) else { return false };
    if let Some(stated) = after_answer_phrase(text) {
        return is_abstention_phrase(stated);
    }
    let has_marked_answers =
        matches!(extractor, Extractor::Number | Extractor::Choice | Extractor::Boxed);
    is_abstention_phrase(text)
        && !(has_marked_answers && extractor.extract_with_alternatives(text).is_some())
}

fn is_abstention_phrase(text: &str) -> bool {
    if text.len() > MAX_BYTES {
        return false;
    }
    let Some(form) = canonical(text) else { return false };
    let mut rest = form.as_str();
    while let Some(after) = OPENINGS.iter().find_map(|opening| after_words(rest, opening)) {
        rest = after;
    }
    let after = PHRASES.iter().find_map(|phrase| after_words(rest, phrase));
    after.is_some_and(|after| !after.split(' ').any(|word| HEDGES.contains(&word)))
}

/// The rest of a canonical form that starts with `words`.
fn after_words<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(words)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(' ') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_abstain_and_hedges_answer() {
        let check = |text: &str, extractor: Extractor, expected: bool| {
            assert_eq!(is_abstention(text, extractor), expected, "{text:?}");
        };
        assert_eq!(canonical("I don't know.").as_deref(), Some(ABSTENTION));
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
