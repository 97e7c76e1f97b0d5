//! Extraction of a multiple-choice letter, A to J.
//!
//! Contract: total and linear. A letter counts only if it is written as a choice: after an answer
//! phrase, alone on a line, or marked as an option (`(B)`, `B)`, `B.`, `**B**`, `option B`). The
//! article "A" and the pronoun "I" of prose never count. If different letters are marked and no
//! phrase selects one, there is no answer. It does not know the question's number of options.

use super::extract::{Answer, after_answer_phrase};
use super::normalize;

/// The choice of a completion.
pub(super) fn extract(text: &str) -> Option<Answer> {
    let text = normalize::plain_latex(&normalize::fold(text)).replace("\\boxed", "answer:");
    let spans = super::extract::answer_phrase_spans(&text);
    let after_phrase = spans.iter().rev().find_map(|rest| letter_after_phrase(rest));
    after_phrase
        .or_else(|| last_letter_line(&text))
        .or_else(|| first_option_line(&text))
        .or_else(|| only_marked_letter(&text))
        .map(answer)
}

/// The choice of a text that is nothing but a choice: `B`, `(B)`, `B.`,
/// `b) Paris`.
pub(super) fn parse_choice(text: &str) -> Option<Answer> {
    parse_letter(&normalize::fold(text)).map(answer)
}

/// As [`parse_choice`], for a text without an answer phrase.
pub(super) fn choice_only(text: &str) -> Option<Answer> {
    if after_answer_phrase(text).is_some() { None } else { parse_choice(text) }
}

fn answer(letter: char) -> Answer {
    Answer {
        canonical: letter.to_ascii_lowercase().to_string(),
        display: letter.to_ascii_uppercase().to_string(),
    }
}

fn as_letter(c: char) -> Option<char> {
    matches!(c, 'A'..='J' | 'a'..='j').then(|| c.to_ascii_uppercase())
}

/// Words between an answer phrase and the letter.
const FILLERS: &[&str] =
    &["option", "choice", "letter", "answer", "is", "the", "therefore", "clearly", "definitely"];

/// Words after a bare `A` or `I` that mark it as a choice, not the start of a sentence.
const REASONS: &[&str] = &["because", "since", "as", "for", "which", "with", "and", "due", "is"];

fn letter_after_phrase(rest: &str) -> Option<char> {
    let mut rest = rest.trim_start_matches(is_mark);
    while let Some(filler) = FILLERS.iter().find(|filler| begins_with_word(rest, filler)) {
        rest = rest.get(filler.len()..)?.trim_start_matches(is_mark);
    }
    let mut chars = rest.chars();
    let first = chars.next()?;
    let letter = as_letter(first)?;
    let after = chars.as_str();
    match after.chars().next() {
        Some(c) if c.is_alphanumeric() || matches!(c, '\'' | '’' | '-') => None,
        Some(c) if c.is_whitespace() => is_bare_choice(first, after).then_some(letter),
        // "A. Smith" is a name, but after an answer phrase an option is far more likely.
        None | Some(_) => Some(letter),
    }
}

/// Whether a bare letter before `after` is a choice: an upper-case letter that is not an article or
/// pronoun, or a letter followed by a reason.
fn is_bare_choice(letter: char, after: &str) -> bool {
    let Some(word) = after.split_whitespace().next() else { return true };
    let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
    let reason = word.is_empty() || REASONS.contains(&word.as_str());
    if letter.is_ascii_lowercase() || matches!(letter, 'A' | 'I') { reason } else { true }
}

fn is_mark(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '*' | '_'
                | '"'
                | '\''
                | '`'
                | '('
                | '['
                | '{'
                | ':'
                | '-'
                | '“'
                | '‘'
                | '$'
                | '='
                | '#'
        )
}

fn begins_with_word(text: &str, word: &str) -> bool {
    let head = text.get(..word.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(word))
        && text
            .get(word.len()..)
            .and_then(|rest| rest.chars().next())
            .is_some_and(|c| !c.is_alphanumeric())
}

/// The letter of a text that is nothing but a choice.
fn parse_letter(folded: &str) -> Option<char> {
    let text = folded.trim();
    let bare = text.trim_matches(|c: char| {
        is_mark(c) || matches!(c, ')' | ']' | '}' | '.' | ',' | '!' | '”' | '’')
    });
    let mut chars = bare.chars();
    let letter = as_letter(chars.next()?)?;
    let rest = chars.as_str();
    let option = rest.starts_with([')', ']']) && !rest.contains('\n');
    (rest.is_empty() || option).then_some(letter)
}

/// The last line that is only a letter.
fn last_letter_line(text: &str) -> Option<char> {
    text.lines()
        .rev()
        .filter(|line| line.trim().len() <= 12)
        .find_map(|line| parse_letter(line).filter(|_| line_is_bare(line)))
}

fn line_is_bare(line: &str) -> bool {
    line.chars().filter(|c| c.is_alphanumeric()).count() == 1
}

/// The letter of the only line that begins like an option: `B) Paris`, `(B) Paris`, `B. Paris`, `B:
/// Paris`; it must be the first line and mark no other letter.
fn first_option_line(text: &str) -> Option<char> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next()?;
    let letter = option_line(first)?;
    if marked_letters(first).any(|other| other != letter) {
        return None;
    }
    lines.all(|line| option_line(line).is_none_or(|other| other == letter)).then_some(letter)
}

fn option_line(line: &str) -> Option<char> {
    let line = line.trim_start_matches(is_mark);
    let mut chars = line.chars();
    let first = chars.next()?;
    let letter = as_letter(first)?;
    let after = chars.as_str().trim_start_matches('*');
    let bracket = after.starts_with([')', ']', ':']);
    let dot = first.is_ascii_uppercase()
        && after.starts_with('.')
        && !after.get(1..).is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    (bracket || dot || after.is_empty()).then_some(letter)
}

/// The only letter that is marked as an option: `(B)`, `[B]`, `**B**`, `option B`.
fn only_marked_letter(text: &str) -> Option<char> {
    let mut letters = marked_letters(text);
    let letter = letters.next()?;
    letters.all(|other| other == letter).then_some(letter)
}

fn marked_letters(text: &str) -> impl Iterator<Item = char> {
    let chars: Vec<char> = text.chars().collect();
    (0..chars.len()).filter_map(move |at| marked_letter(&chars, at))
}

fn marked_letter(chars: &[char], at: usize) -> Option<char> {
    let letter = as_letter(*chars.get(at)?)?;
    let before = chars.get(..at)?;
    let after = chars.get(at + 1).copied().unwrap_or(' ');
    let pair = matches!(
        (before.last(), after),
        (Some('('), ')') | (Some('['), ']') | (Some('*'), '*' | '.' | ')')
    );
    let upper = chars.get(at).is_some_and(char::is_ascii_uppercase);
    let named = upper
        && !after.is_alphanumeric()
        && ["option ", "choice ", "letter "].iter().any(|word| ends_with(before, word));
    (pair || named).then_some(letter)
}

fn ends_with(chars: &[char], word: &str) -> bool {
    let tail = chars.len().checked_sub(word.len()).and_then(|from| chars.get(from..));
    tail.is_some_and(|tail| tail.iter().zip(word.chars()).all(|(a, b)| a.to_ascii_lowercase() == b))
}
