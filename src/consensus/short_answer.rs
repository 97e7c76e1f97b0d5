//! Extraction of answers of a few words from sentences.
//!
//! Contract: total and linear. The rules cover English sentences that state a name. They do not
//! know the question, so a rule that could merge different answers yields only an alternative,
//! which counts if another sample gives the same answer by itself.
//!
//! The input is the text after the last answer phrase (`answer is`, `Answer:`), else the first
//! sentence that is not a courtesy ("Sure!"). A sentence that denies or hedges ("not", "never",
//! "but", "or") or has a parenthesis is its own answer. Otherwise:
//!
//! | sentence | answer | alternative |
//! |---|---|---|
//! | "The capital of France is Paris.", "It is Paris, which ..." | Paris | |
//! | "The color of the sky is blue." | the sentence | blue |
//! | "Paris is the capital of France." | the sentence | Paris |
//! | "Paris, the capital of France" | the phrase | Paris |
//! | "8 legs", "5 miles" | the phrase | the number |
//!
//! A name is up to seven words, each capitalized or a number, joined by words such as "of"; a
//! description begins with "the", "this", "its" and the like and has a word in lower case, or is a
//! pronoun.

use super::extract::{Answer, Extraction, after_answer_phrase};
use super::{normalize, number};

/// The extraction of a completion.
pub(super) fn extract(text: &str) -> Option<Extraction> {
    after_answer_phrase(text)
        .and_then(extract_phrase)
        .or_else(|| first_statement(text).and_then(extract_phrase))
}

/// A sentence of this many words is not a short answer.
const MAX_WORDS: usize = 80;

/// The extraction of one phrase or sentence at the start of `text`.
pub(super) fn extract_phrase(text: &str) -> Option<Extraction> {
    let sentence = trim(first_sentence(text));
    let whole = answer(sentence)?;
    let words: Vec<&str> = sentence.split_whitespace().take(MAX_WORDS).collect();
    if words.len() == MAX_WORDS || sentence.contains('(') || words.iter().any(|word| is_hedge(word))
    {
        return Some(whole.into());
    }
    let main = main_clause(&words);
    if let Some((name, is_primary)) = predicate(main)
        && let Some(found) = answer(&name)
    {
        return Some(if is_primary {
            found.into()
        } else {
            Extraction { answer: whole, alternatives: vec![found] }
        });
    }
    let named = subject(main).or_else(|| name_before_apposition(&words, main));
    let alternatives = named
        .and_then(|name| answer(&name))
        .or_else(|| number_with_unit(sentence))
        .into_iter()
        .collect();
    Some(Extraction { answer: whole, alternatives })
}

fn answer(text: &str) -> Option<Answer> {
    let display = trim(text);
    Some(Answer { canonical: normalize::canonical(display)?, display: display.to_owned() })
}

fn trim(text: &str) -> &str {
    let quotes = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '*' | '_' | '`' | '"' | '“' | '”' | ':' | '=')
    };
    text.trim_matches(quotes)
        .trim_start_matches(['#', '>', '•', ',', ';'])
        .trim_end_matches(['.', '!', ',', ';', '。', '।', '*', '"', '”'])
        .trim()
}

/// Openings without content, canonical.
const COURTESIES: &[&str] = &[
    "sure",
    "certainly",
    "of course",
    "okay",
    "ok",
    "great question",
    "good question",
    "hello",
    "hi",
    "thank you",
    "absolutely",
    "sure thing",
];

/// The first sentence that is not a courtesy, else the first.
fn first_statement(text: &str) -> Option<&str> {
    let mut first = None;
    let mut rest = text;
    for _ in 0..4 {
        let start = rest.find(char::is_alphanumeric).map_or(rest.len(), |at| line_start(rest, at));
        rest = rest.get(start..)?;
        let sentence = first_sentence(rest);
        if normalize::canonical(sentence).is_some_and(|form| !COURTESIES.contains(&form.as_str())) {
            return Some(sentence);
        }
        first = first.or(Some(sentence));
        rest = rest.get(sentence.len()..)?.trim_start_matches(['.', '!', '。', '！', '।']);
    }
    first
}

/// The start of the line with the character at `at`; a leading sign, bracket or currency is
/// included.
fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind(['\n', '\r'])).map_or(0, |feed| feed + 1)
}

/// Words before a full stop that does not end a sentence, lower case.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "st", "prof", "jr", "sr", "vs", "no", "mt", "ft", "gen", "col", "lt",
    "sgt", "capt", "rev", "gov", "sen", "e.g", "i.e", "approx", "ca",
];

/// The text up to the end of its first sentence or line, without its full stop. A question mark
/// does not end a sentence: the answer of "Lyon? Paris?" is not Lyon.
pub(super) fn first_sentence(text: &str) -> &str {
    let mut word = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map_or(' ', |(_, next)| *next);
        let ends = match c {
            '\n' | '\r' | '。' | '！' | '।' => !text.get(..at).unwrap_or("").trim().is_empty(),
            '!' => next.is_whitespace(),
            '.' => next.is_whitespace() && !is_abbreviation(text.get(word..at).unwrap_or("")),
            _ => false,
        };
        if ends && at > 0 {
            return text.get(..at).unwrap_or(text);
        }
        if c.is_whitespace() {
            word = at + c.len_utf8();
        }
    }
    text
}

/// An initial (`F.`), initials (`U.S.`), a title, or the number of a list (`1.`).
fn is_abbreviation(word: &str) -> bool {
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let initials = !word.is_empty()
        && word.len() <= 8
        && word
            .split('.')
            .all(|part| part.len() == 1 && part.starts_with(|c: char| c.is_ascii_uppercase()));
    initials || ABBREVIATIONS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether a word turns a sentence into something other than a plain statement.
fn is_hedge(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "not",
        "never",
        "no",
        "nor",
        "neither",
        "none",
        "without",
        "except",
        "but",
        "however",
        "although",
        "though",
        "or",
        "either",
        "false",
        "incorrect",
        "wrong",
        "unknown",
        "unlike",
        "rather",
        "maybe",
        "perhaps",
        "possibly",
        "probably",
        "actually",
        "cannot",
        "if",
    ];
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    WORDS.contains(&bare.as_str()) || bare.ends_with("n't") || bare.ends_with("n’t")
}

/// The words before a comma that opens a relative clause or an apposition.
fn main_clause<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    const OPENERS: &[&str] = &[
        "which", "who", "where", "whose", "a", "an", "the", "located", "situated", "also", "known",
        "with", "reaching", "home", "making",
    ];
    // "William Pitt, the Elder" is another person, so a lower-case word must follow an article.
    let apposition = |opener: &str, at: usize| {
        !matches!(opener, "a" | "an" | "the")
            || words.get(at).is_some_and(|next| next.starts_with(char::is_lowercase))
    };
    let opens = |pair: &[&str], at: usize| match pair {
        [left, opener] => {
            left.ends_with(',') && OPENERS.contains(opener) && apposition(opener, at + 2)
        }
        _ => false,
    };
    let cut = words.windows(2).enumerate().position(|(at, pair)| opens(pair, at));
    cut.and_then(|at| words.get(..=at)).unwrap_or(words)
}

fn is_copula(word: &str) -> bool {
    matches!(word, "is" | "are" | "was" | "were")
}

/// The right side of `<description> is <X>`, and whether it is a name and so the answer itself.
fn predicate(words: &[&str]) -> Option<(String, bool)> {
    if let [first, rest @ ..] = words
        && matches!(first.to_lowercase().replace('’', "'").as_str(), "it's" | "that's")
        && is_name(rest)
    {
        return Some((rest.join(" "), true));
    }
    let copula = words.iter().rposition(|word| is_copula(word))?;
    let (left, right) = (words.get(..copula)?, words.get(copula + 1..)?);
    if !is_description(left) {
        return None;
    }
    if is_name(right) {
        return Some((right.join(" "), true));
    }
    let plain = (1..=4).contains(&right.len()) && !right.iter().any(|word| word.contains(','));
    plain.then(|| (right.join(" "), false))
}

/// The left side of `<Name> is the ...`.
fn subject(words: &[&str]) -> Option<String> {
    let copula = words.iter().position(|word| is_copula(word))?;
    let (left, right) = (words.get(..copula)?, words.get(copula + 1..)?);
    (is_name(left) && right.len() >= 2 && right.first() == Some(&"the")).then(|| left.join(" "))
}

/// The name before an apposition: "Paris, the capital of France".
fn name_before_apposition(words: &[&str], main: &[&str]) -> Option<String> {
    (main.len() < words.len() && is_name(main)).then(|| main.join(" "))
}

/// The number of "5 miles": a number followed by one to three lower-case words that do not change
/// its value.
fn number_with_unit(sentence: &str) -> Option<Answer> {
    const CHANGERS: &[&str] = &[
        "and", "to", "plus", "minus", "times", "more", "less", "fewer", "over", "under", "of",
        "in", "at", "by", "from", "ago", "bc", "ad", "bce", "dozen", "score", "half", "percent",
        "degrees",
    ];
    if sentence.len() > 80 {
        return None;
    }
    let whole = number::leading_number(&normalize::fold(sentence))?;
    let units: Vec<&str> = whole.rest.split_whitespace().collect();
    let unit = |word: &&str| word.chars().all(char::is_lowercase) && !CHANGERS.contains(word);
    let fits = (1..=3).contains(&units.len())
        && units.iter().all(unit)
        && whole.rest.starts_with(' ')
        && whole.number.is_exact();
    fits.then(|| Answer { canonical: whole.number.canonical(), display: whole.number.display })
}

/// Whether the words describe something that can have a name: "the largest planet", "its capital",
/// "it".
fn is_description(words: &[&str]) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    let first = first.to_lowercase();
    let pronoun =
        rest.is_empty() && matches!(first.as_str(), "it" | "this" | "that" | "he" | "she");
    let opener =
        matches!(first.as_str(), "the" | "this" | "that" | "its" | "their" | "his" | "her");
    pronoun
        || (opener
            && rest.iter().any(|word| word.starts_with(char::is_lowercase) && !is_connective(word)))
}

fn is_connective(word: &str) -> bool {
    matches!(
        word,
        "of" | "the"
            | "and"
            | "de"
            | "la"
            | "le"
            | "von"
            | "van"
            | "da"
            | "del"
            | "der"
            | "di"
            | "du"
            | "el"
            | "al"
            | "bin"
            | "do"
            | "dos"
    )
}

fn is_name(words: &[&str]) -> bool {
    let words = match words {
        [first, rest @ ..] if first.eq_ignore_ascii_case("the") => rest,
        words => words,
    };
    let (Some(first), Some(last)) = (words.first(), words.last()) else { return false };
    words.len() <= 7
        && is_proper(first)
        && is_proper(last)
        && words.iter().all(|word| is_proper(word) || is_connective(word))
}

/// Capitalized, a number, or a word of a script without case.
fn is_proper(word: &str) -> bool {
    let start = word.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '$').chars().next();
    start.is_some_and(|c| c == '$' || (c.is_alphanumeric() && !c.is_lowercase()))
        && !is_pronoun(word)
}

fn is_pronoun(word: &str) -> bool {
    matches!(
        word,
        "It" | "This"
            | "That"
            | "He"
            | "She"
            | "They"
            | "There"
            | "I"
            | "We"
            | "You"
            | "A"
            | "An"
            | "Its"
            | "Their"
            | "His"
            | "Her"
    )
}
