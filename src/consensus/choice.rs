//! The letter of a multiple-choice answer, A to J.
//!
//! Contract: total and linear. A letter counts only where it is written as a choice: after an
//! answer phrase, alone on a line, with the marks of an option (`(B)`, `B)`, `B.`, `**B**`, `option
//! B`). The article "A" and the pronoun "I" of prose never count, and where different letters are
//! marked and nothing says which, there is no answer. It does not know how many options the
//! question had.

use super::extract::{Answer, stated};
use super::normalize;

/// The choice of a completion.
pub(super) fn extract(text: &str) -> Option<Answer> {
    let text = normalize::plain_latex(&normalize::fold(text)).replace("\\boxed", "answer:");
    let stated = super::extract::announced(&text);
    let said = stated.iter().rev().find_map(|rest| after_phrase(rest));
    said.or_else(|| letter_line(&text))
        .or_else(|| leading(&text))
        .or_else(|| only_marked(&text))
        .map(answer)
}

/// The choice of what follows an answer phrase, if it is nothing but a choice: `B`, `(B)`, `B.`,
/// `b) Paris`.
pub(super) fn alone(stated: &str) -> Option<Answer> {
    whole_form(&normalize::fold(stated)).map(answer)
}

/// The choice of a text that is nothing but `B`, `(B)`, `B.`, or an option with a parenthesis: `B)
/// Paris`.
pub(super) fn whole(text: &str) -> Option<Answer> {
    if stated(text).is_some() { None } else { alone(text) }
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

/// Words that may stand between an answer phrase and the letter.
const FILLERS: &[&str] =
    &["option", "choice", "letter", "answer", "is", "the", "therefore", "clearly", "definitely"];

/// Words after which a bare `A` or `I` was a choice, not the start of a sentence.
const REASONS: &[&str] = &["because", "since", "as", "for", "which", "with", "and", "due", "is"];

fn after_phrase(rest: &str) -> Option<char> {
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
        Some(c) if c.is_whitespace() => unmarked(first, after).then_some(letter),
        // "A. Smith" is a name, but after an answer phrase an option is far likelier.
        None | Some(_) => Some(letter),
    }
}

/// Whether a bare letter before `after` is a choice: an upper-case letter that is no article or
/// pronoun, or one that a reason follows.
fn unmarked(letter: char, after: &str) -> bool {
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

/// The whole text as a choice.
fn whole_form(folded: &str) -> Option<char> {
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
fn letter_line(text: &str) -> Option<char> {
    text.lines()
        .rev()
        .filter(|line| line.trim().len() <= 12)
        .find_map(|line| whole_form(line).filter(|_| line_is_bare(line)))
}

fn line_is_bare(line: &str) -> bool {
    line.chars().filter(|c| c.is_alphanumeric()).count() == 1
}

/// The letter of the only line that begins as an option: `B) Paris`, `(B) Paris`, `B. Paris`, `B:
/// Paris`; it must be the first line and mark no other letter.
fn leading(text: &str) -> Option<char> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next()?;
    let letter = option_line(first)?;
    if marks(first).any(|other| other != letter) {
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

/// The only letter that is marked as an option anywhere: `(B)`, `[B]`, `**B**`, `option B`.
fn only_marked(text: &str) -> Option<char> {
    let mut letters = marks(text);
    let letter = letters.next()?;
    letters.all(|other| other == letter).then_some(letter)
}

fn marks(text: &str) -> impl Iterator<Item = char> {
    let chars: Vec<char> = text.chars().collect();
    (0..chars.len()).filter_map(move |at| marked(&chars, at))
}

fn marked(chars: &[char], at: usize) -> Option<char> {
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
