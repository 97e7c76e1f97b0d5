//! Extraction of a multiple-choice letter, A to J.
//!
//! Contract: total and linear. A letter counts only if the text selects it: after an announcement,
//! in a sentence such as "B is correct" or "I would go with B", alone on a line, or as the only one
//! marked as an option (`(B)`, `B)`, `**B**`, `option B`). The article "A" and the pronoun "I" of
//! prose never count, nor do letters of symbols (`C++`). A hedge between two letters is not one.
//! It does not know the question's number of options.

use super::announced::Announcement;
use super::answer::{Answer, AnswerKind};
use super::fold::fold;
use super::words::List;
use super::{latex, statement};

/// The choice of a completion.
pub(super) fn extract(
    text: &str,
    boxed: Option<&str>,
    announced: &[Announcement<'_>],
) -> Option<Answer> {
    for announcement in announced.iter().rev().take(4) {
        match after_announcement(&plain(&announcement.span)) {
            Selected::Letter(letter) => return Some(answer(letter)),
            Selected::Hedge => return None,
            Selected::Nothing => {}
        }
    }
    if let Some(content) = boxed {
        return parse_letter(&plain(content)).map(answer);
    }
    let text = plain(text);
    last_letter_line(&text)
        .or_else(|| first_option_line(&text))
        .map_or_else(|| selected_by_sentence(&text), Selected::Letter)
        .or_else(|| only_marked_letter(&text))
        .map(answer)
}

fn plain(text: &str) -> String {
    latex::plain(&fold(text))
}

/// The choice of a text that is nothing but a choice: `B`, `(B)`, `B.`, `b) Paris`.
pub(super) fn parse_choice(text: &str) -> Option<Answer> {
    parse_letter(&plain(text)).map(answer)
}

fn answer(letter: char) -> Answer {
    Answer {
        canonical: letter.to_ascii_lowercase().to_string(),
        display: letter.to_ascii_uppercase().to_string(),
        kind: AnswerKind::Choice,
        bare: None,
    }
}

/// What a text selects.
#[derive(Clone, Copy, PartialEq)]
enum Selected {
    Letter(char),
    /// More than one letter.
    Hedge,
    Nothing,
}

impl Selected {
    fn or_else(self, other: impl FnOnce() -> Option<char>) -> Option<char> {
        match self {
            Self::Letter(letter) => Some(letter),
            Self::Hedge => None,
            Self::Nothing => other(),
        }
    }
}

fn as_letter(c: char) -> Option<char> {
    matches!(c, 'A'..='J' | 'a'..='j').then(|| c.to_ascii_uppercase())
}

/// Words between an announcement and the letter.
const FILLERS: List = List(
    "option|choice|letter|answer|is|the|therefore|clearly|definitely|i think|i believe|it is\
     |it's|that|most likely|probably|would be|be|simply",
);

/// Words after a bare `A` or `I` that mark it as a choice, not the start of a sentence.
const REASONS: List = List("because|since|as|for|which|with|and|due|is|or|not|but|rather");

fn after_announcement(rest: &str) -> Selected {
    let mut rest = rest.trim_start_matches(is_mark);
    while let Some(filler) = FILLERS.iter().find(|filler| begins_with_word(rest, filler)) {
        rest = rest.get(filler.len()..).unwrap_or_default().trim_start_matches(is_mark);
    }
    let mut chars = rest.chars();
    let Some((first, letter)) = chars.next().and_then(|c| Some((c, as_letter(c)?))) else {
        return Selected::Nothing;
    };
    let after = chars.as_str();
    match after.chars().next() {
        Some(c) if is_caseless(c) => Selected::Letter(letter),
        Some(c) if c.is_alphanumeric() || matches!(c, '\'' | '+' | '#' | '=' | '^') => {
            Selected::Nothing
        }
        Some('-') if !after.starts_with("- ") => Selected::Nothing,
        Some('/' | '&' | '?') => Selected::Hedge,
        _ if joins_another(letter, after) || is_corrected(letter, after) => Selected::Hedge,
        Some(c) if c.is_whitespace() && !is_bare_choice(first, after) => Selected::Nothing,
        // "A. Smith" is a name, but after an announcement an option is far more likely.
        _ => Selected::Letter(letter),
    }
}

/// Whether what follows a letter offers another one: `or C`, `and C`, `, C`.
fn joins_another(letter: char, after: &str) -> bool {
    const JOINTS: List = List("or|and|und|oder|o|ou|y|e|et|и|или|或|和|also|und/oder|/|&|,");
    const ENDS: List = List("because|since|as|not|rather|while|whereas|but|than|instead");
    if after.starts_with('.') {
        return false;
    }
    let sentence = statement::first_sentence(after);
    let spaced: String = sentence
        .chars()
        .take(200)
        .flat_map(|c| match c {
            ',' | '/' | '&' => [' ', c, ' '],
            c => [c, '\0', '\0'],
        })
        .filter(|c| *c != '\0')
        .collect();
    let mut joint = false;
    let mut words = spaced.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let lower = word.trim_matches(['(', ')', '*', ';', ':', '.']).to_lowercase();
        if ENDS.has(&lower) {
            return false;
        }
        let mut letters = bare.chars();
        let other = letters.next().and_then(as_letter).filter(|_| letters.as_str().is_empty());
        // "B, I think" and "B or a cat" go on with a pronoun and an article.
        let prose = matches!(bare, "A" | "I")
            && words.peek().is_some_and(|next| next.starts_with(char::is_lowercase));
        let upper = (bare.starts_with(char::is_uppercase) && !prose) || word.starts_with('(');
        if joint
            && upper
            && other.is_some_and(|other| other != letter)
            && !word.contains(['+', '#', '\''])
        {
            return true;
        }
        joint = JOINTS.has(&lower)
            || (joint && matches!(lower.as_str(), "option" | "possibly" | "maybe" | ""));
    }
    false
}

/// A letter of a script without case: particles of Japanese and Korean follow without a space.
fn is_caseless(c: char) -> bool {
    c.is_alphabetic() && !c.is_lowercase() && !c.is_uppercase()
}

/// Whether the text takes a letter back for another one: "B. Actually, C."
fn is_corrected(letter: char, after: &str) -> bool {
    const TURNS: List = List("no|actually|wait|sorry|correction|mean|or");
    let window: String = after.chars().take(120).collect();
    let mut since_turn = usize::MAX;
    for word in window.split(|c: char| !(c.is_alphanumeric() || c == '\'')) {
        let mut letters = word.chars();
        let other = letters.next().filter(char::is_ascii_uppercase).and_then(as_letter);
        let other = other.filter(|other| letters.as_str().is_empty() && *other != letter);
        if other.is_some_and(|other| other != 'I') && since_turn < 5 {
            return true;
        }
        if TURNS.has(word.to_lowercase().as_str()) {
            since_turn = 0;
        } else if !word.is_empty() {
            since_turn = since_turn.saturating_add(1);
        }
    }
    false
}

/// Whether a bare letter before `after` is a choice: an upper-case letter that is not an article or
/// pronoun, or a letter followed by a reason.
fn is_bare_choice(letter: char, after: &str) -> bool {
    let Some(word) = after.split_whitespace().next() else { return true };
    let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
    let reason = word.is_empty() || REASONS.has(&word);
    if letter.is_ascii_lowercase() || matches!(letter, 'A' | 'I') { reason } else { true }
}

fn is_mark(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '*' | '_' | '"' | '\'' | '`' | '(' | '[' | '{' | ':' | '-' | '$' | '=' | '#' | ','
        )
}

fn begins_with_word(text: &str, word: &str) -> bool {
    let head = text.get(..word.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(word))
        && text
            .get(word.len()..)
            .and_then(|rest| rest.chars().next())
            .is_some_and(|c| !c.is_alphanumeric() && c != '\'')
}

/// The letter of a text that is nothing but a choice. A trailing `-` or `+` makes it a grade, a
/// leading minus a formula.
fn parse_letter(folded: &str) -> Option<char> {
    let text = folded.trim();
    let text = text.strip_prefix("- ").unwrap_or(text);
    if text.starts_with('-') {
        return None;
    }
    let bare = text.trim_start_matches(is_mark).trim_end_matches(|c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '*' | '_' | '"' | '\'' | '`' | ')' | ']' | '}' | '.' | ',' | '!' | ':' | '$'
            )
    });
    let mut chars = bare.chars();
    let letter = as_letter(chars.next()?)?;
    let rest = chars.as_str();
    let primed = rest.is_empty() && text.ends_with('\'') && !text.starts_with('\'');
    let option = rest.starts_with([')', ']'])
        && !rest.contains('\n')
        && !rest.contains(['=', '^'])
        && rest.trim_start_matches([')', ']', '*']).starts_with([' ', '.']);
    ((rest.is_empty() && !primed) || option).then_some(letter)
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

/// A text with more letters than this discusses them.
const MAX_CANDIDATES: usize = 1000;

/// The letter that sentences select: "B is correct", "I would go with B", "So, B.". Different ones
/// are a hedge.
fn selected_by_sentence(text: &str) -> Selected {
    const BEFORE: List = List(
        "think|believe|guess|my is|correct is|right is|best is|go with|going with|choose|chose\
         |pick|picked|select|selected|choosing|say|so|therefore|thus|hence|it is|it's|it must be\
         |must be|should be|would be|answer|vote for|opt for|settle on|went with",
    );
    const AFTER: List = List(
        "is correct|is right|is true|is the correct|is the right|is the best|is the answer\
         |is the most|ist richtig|ist korrekt|es correcta|es la correcta|est correcte\
         |est la bonne|seems right|seems correct|looks right|looks correct|would be correct\
         |must be correct|is my answer|is my choice|is therefore|fits best",
    );
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or(' ');
    let mut found = Selected::Nothing;
    let mut candidates = 0;
    for (i, c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).map_or(' ', at);
        let edge = |c: char| {
            (!c.is_alphanumeric() || is_caseless(c)) && !matches!(c, '\'' | '+' | '#' | '-' | '_')
        };
        let Some(letter) =
            as_letter(*c).filter(|_| c.is_ascii_uppercase() && edge(before) && edge(at(i + 1)))
        else {
            continue;
        };
        candidates += 1;
        if candidates > MAX_CANDIDATES {
            return Selected::Hedge;
        }
        let tail: String = chars.iter().skip(i + 1).take(28).collect();
        let tail = tail
            .trim_start_matches(|c: char| c == ' ' || is_mark(c) || matches!(c, ')' | ']' | '.'));
        let is_after = AFTER.iter().any(|phrase| begins_like(tail, phrase))
            && !matches!((letter, before), ('I', ' '));
        let head: String =
            chars.iter().take(i).rev().take(30).collect::<Vec<_>>().into_iter().rev().collect();
        let lower = head.to_lowercase();
        let mut words: Vec<&str> = lower
            .split(|c: char| !(c.is_alphanumeric() || c == '\''))
            .filter(|word| {
                !word.is_empty() && !matches!(*word, "option" | "answer" | "choice" | "letter")
            })
            .collect();
        let denied = words
            .iter()
            .rev()
            .take(4)
            .any(|word| matches!(*word, "not" | "never") || word.ends_with("n't"));
        words.insert(0, "");
        let phrase = words.join(" ");
        // The article and the pronoun begin a sentence; a choice ends one.
        let ends = !at(i + 1).is_alphanumeric() && (at(i + 1) != ' ' || at(i + 2) == '(');
        let bare =
            ends || chars.len() <= i + 1 || !matches!(letter, 'A' | 'I') && is_short_end(tail);
        let is_before = bare && BEFORE.iter().any(|known| phrase.ends_with(&format!(" {known}")));
        let leads = begins_with_word(tail, "because") || begins_with_word(tail, "since");
        let is_after = is_after || (leads && !chars.iter().take(i).any(|c| c.is_alphanumeric()));
        let chosen = matches!(before, '选' | '择' | '選' | '擇')
            || (before == ' ' && i >= 2 && matches!(at(i - 2), '选' | '择' | '選' | '擇'));
        if (is_after || is_before || chosen) && !denied {
            let rest: String = chars.iter().skip(i + 1).take(200).collect();
            if joins_another(letter, &rest) || is_corrected(letter, &rest) {
                return Selected::Hedge;
            }
            found = match found {
                Selected::Nothing => Selected::Letter(letter),
                Selected::Letter(other) if other == letter => found,
                _ => return Selected::Hedge,
            };
        }
    }
    found
}

fn is_short_end(tail: &str) -> bool {
    tail.is_empty() || REASONS.iter().any(|word| begins_with_word(tail, word))
}

fn begins_like(text: &str, phrase: &str) -> bool {
    text.get(..phrase.len()).is_some_and(|head| head.eq_ignore_ascii_case(phrase))
        && !text.get(phrase.len()..).is_some_and(|rest| rest.starts_with(char::is_alphanumeric))
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
    let called = matches!(before.last(), Some('('))
        && before
            .len()
            .checked_sub(2)
            .and_then(|i| before.get(i))
            .is_some_and(|c| c.is_alphanumeric());
    let upper = chars.get(at).is_some_and(char::is_ascii_uppercase);
    let named = upper
        && !after.is_alphanumeric()
        && ["option ", "choice ", "letter ", "answer "].iter().any(|word| ends_with(before, word));
    ((pair && !called) || named).then_some(letter)
}

fn ends_with(chars: &[char], word: &str) -> bool {
    let tail = chars.len().checked_sub(word.len()).and_then(|from| chars.get(from..));
    tail.is_some_and(|tail| tail.iter().zip(word.chars()).all(|(a, b)| a.to_ascii_lowercase() == b))
}
