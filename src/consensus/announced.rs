//! Where a text announces its answer: `The answer is 12`, `**Antwort:** 12`, `#### 12`,
//! `<answer>12</answer>`, `{"answer": 12}`.
//!
//! Contract: total and linear. An announcement is a noun for an answer, in many languages, followed
//! by a colon or a verb such as "is", or alone on its line. What follows it, up to the next
//! announcement, is its span; whether that holds an answer is for others to read.

use std::borrow::Cow;

use serde_json::Value;

use super::canonical;
use super::words::List;

/// An announcement: where it begins, and what follows it.
pub(super) struct Announcement<'a> {
    /// The byte at which the words that announce begin.
    pub at: usize,
    /// What follows: a line, or the items of a list.
    pub span: Cow<'a, str>,
    /// A verb announces, so a number with a full stop ends a sentence and opens no list.
    pub verb: bool,
}

/// Nouns for an answer, lower case.
const NOUNS: List = List(
    "answer|antwort|respuesta|réponse|reponse|resposta|risposta|ответ|відповідь|отговор\
     |odpowiedź|odpověď|odpoveď|antwoord|svar|svaret|vastaus|cevap|yanıt|válasz|răspuns\
     |răspunsul|απάντηση|jawaban|jibu|final_answer|answer_choice|answer_letter|correct_answer\
     |ans|finalanswer|lời_giải",
);

/// Nouns that announce only as a label, or where "final" or "correct" stands before them.
const WEAK_NOUNS: List = List(
    "correct|result|option|choice|alternative|ergebnis|endergebnis|opción|resultado|résultat\
     |resultat|risultato|opzione|opção|wahl|auswahl|результат|resultaat",
);
const ADJECTIVES: List = List(
    "final|correct|right|best|appropriate|richtige|korrekte|beste|correcta|correcto|correcte\
     |corretta|correta|juste|bonne|finale|endgültige|правильный",
);

/// Nouns that announce a short value only: more often a derivation follows.
const DERIVED: List = List("solution|lösung|solución|soluzione|solução|решение|oplossing");

/// Words before a noun that make it another answer.
const OTHERS: List = List("wrong|incorrect|no|any|every|each|another|previous|falsche|false|an");
/// Words behind a noun that make it something else.
const COMPOUNDS: List = List("choices|options|key|sheet|format|explanation|with|in");

const ENGLISH_VERBS: List = List("is|was|are|equals|be");
const VERBS: List = List(
    "is|was|are|equals|be|ist|lautet|war|wäre|es|sería|est|serait|è|é|sarà|será|är|er|on|jest|to\
     |ni|adalah|είναι|это|je",
);

/// Phrases of scripts without spaces, and labels of several words.
const PHRASES: List = List(
    "答案是|答案为|答案為|答案应该是|答案:|答案：|答:|答：|答えは|答え:|答え：|解答:|解答：|回答:|回答：|回答は|正解は|正解:|正解：|结果是|结果:|结果：|정답은\
     |정답:|정답：|답은|답:|답：|답변:|คำตอบคือ|คำตอบ:|คำตอบ：|సమాధానం|উত্তর হল|উত্তর হলো|উত্তর:|उत्तर:\
     |उत्तर है|الجواب هو|الجواب:|الإجابة هي|الإجابة:|תשובה:|பதில்:|đáp án:|đáp án là|trả lời:\
     |Đáp án:|Đáp án là|Trả lời:",
);

/// All announcements of a text that something follows, in order.
pub(super) fn announcements(text: &str) -> Vec<Announcement<'_>> {
    let mut found: Vec<(usize, Follows)> = Vec::new();
    found.extend(nouns(text));
    found.extend(marks(text));
    found.extend(labels(text));
    for phrase in PHRASES.iter() {
        found.extend(
            text.match_indices(phrase).map(|(at, phrase)| (at, Follows::From(at + phrase.len()))),
        );
    }
    found.sort_unstable_by_key(|(at, follows)| (*at, follows.start()));
    let ends: Vec<usize> = found.iter().skip(1).map(|(at, _)| *at).chain([text.len()]).collect();
    let spans = found.iter().zip(ends).filter_map(|((at, follows), next)| {
        let span = follows.span(text, next)?;
        let verb = matches!(follows, Follows::Verb(_)) && !span.contains('\n');
        has_content(&span).then_some(Announcement { at: *at, span, verb })
    });
    spans.collect()
}

/// Whether something other than marks is there.
fn has_content(span: &str) -> bool {
    !span
        .trim_matches(|c: char| {
            c.is_whitespace() || matches!(c, '*' | '_' | '"' | '`' | '.' | ':' | '$' | ',')
        })
        .is_empty()
}

#[derive(Clone, Copy)]
enum Follows {
    /// From this byte to the end of the line, or of the next one with content.
    From(usize),
    /// As `From`, behind a verb.
    Verb(usize),
    /// These bytes.
    Within(usize, usize),
    /// A JSON value from this byte.
    Json(usize),
}

impl Follows {
    fn start(self) -> usize {
        match self {
            Self::From(start) | Self::Verb(start) | Self::Within(start, _) | Self::Json(start) => {
                start
            }
        }
    }

    fn span(self, text: &str, next: usize) -> Option<Cow<'_, str>> {
        match self {
            Self::From(start) | Self::Verb(start) => {
                let value = |span| first_block(span).trim_start_matches([':', '：', ' ']);
                text.get(start..next.max(start)).map(value).map(Cow::Borrowed)
            }
            Self::Within(start, end) => text.get(start..end).map(str::trim).map(Cow::Borrowed),
            Self::Json(start) => Some(json_value(text.get(start..)?)),
        }
    }
}

/// The first line with content among the next three, with the items that follow if it is one of a
/// list.
fn first_block(rest: &str) -> &str {
    let mut start = 0;
    for line in rest.split_inclusive('\n').take(3) {
        if has_content(line) {
            let block = rest.get(start..).unwrap_or_default();
            let items: usize = block
                .split_inclusive('\n')
                .take_while(|line| canonical::list_item(line).is_some())
                .map(str::len)
                .sum();
            return block.get(..items.max(line.len())).unwrap_or(block).trim();
        }
        start += line.len();
    }
    ""
}

/// A longer value is not an answer.
const MAX_JSON: usize = 4096;

fn json_value(rest: &str) -> Cow<'_, str> {
    let length = rest.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_JSON).last();
    let rest = if rest.len() <= MAX_JSON {
        rest
    } else {
        rest.get(..length.unwrap_or(0)).unwrap_or_default()
    };
    let value = serde_json::Deserializer::from_str(rest).into_iter::<Value>().next();
    match value {
        Some(Ok(Value::String(text))) => Cow::Owned(text),
        Some(Ok(Value::Array(values))) => {
            let each = values.iter().map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            Cow::Owned(each.collect::<Vec<_>>().join(", "))
        }
        Some(Ok(Value::Number(_) | Value::Bool(_)) | Err(_)) | None => {
            let end = rest.find([',', '}', '\n']).unwrap_or(rest.len());
            Cow::Borrowed(rest.get(..end).unwrap_or_default().trim().trim_matches(['"', '\'']))
        }
        Some(Ok(Value::Null | Value::Object(_))) => Cow::Borrowed(""),
    }
}

/// Words of a text, each with its place; the word breaks at anything but letters and `_`.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphabetic() || c == '_';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let tail = text.get(rest..)?;
        let start = rest + tail.find(is_word)?;
        let tail = text.get(start..)?;
        let end = start + tail.find(|c| !is_word(c)).unwrap_or(tail.len());
        rest = end;
        text.get(start..end).map(|word| (start, word.trim_matches('_'))).map(|(at, word)| {
            (
                at + (text
                    .get(at..end)
                    .map_or(0, |raw| raw.len() - raw.trim_start_matches('_').len())),
                word,
            )
        })
    })
}

/// Announcements by a noun.
fn nouns(text: &str) -> Vec<(usize, Follows)> {
    let mut found = Vec::new();
    let mut before = [String::new(), String::new()];
    for (at, word) in words(text) {
        let short = word.len() <= 24;
        let lower = if short { word.to_lowercase() } else { String::new() };
        let strong = short && NOUNS.has(&lower);
        let weak = short && (WEAK_NOUNS.has(&lower) || DERIVED.has(&lower));
        let [second, first] = &before;
        if (strong || weak) && !OTHERS.has(first) {
            let adjective = ADJECTIVES.has(first) || ADJECTIVES.has(second);
            let start = follows(text, at, at + word.len(), &lower, adjective);
            found.extend(start.map(|start| (at, start)));
        }
        before.rotate_left(1);
        if let Some(slot) = before.last_mut() {
            *slot = lower;
        }
    }
    found
}

/// What follows a noun at `at..end`, if it announces.
fn follows(text: &str, at: usize, end: usize, noun: &str, adjective: bool) -> Option<Follows> {
    let strong = NOUNS.has(noun);
    let head = text.get(..at)?;
    // No label has a longer line before it.
    let near: usize = head.chars().rev().take(41).map(char::len_utf8).sum();
    let near_head = head.get(head.len() - near..)?;
    let line_head = near_head.rsplit('\n').next()?;
    let plain_head = line_head.trim_matches(|c: char| !c.is_alphabetic());
    let label = line_head.chars().count() <= 40
        && plain_head.split_whitespace().count() <= 3
        && !line_head.contains(['.', '?', '!', ',', ';', '"']);
    let rest = text.get(end..)?;
    let after = rest.trim_start_matches(['*', '_', '"', '\'', '`', ' ', '\u{a0}', ')']);
    let place = |rest: &str| text.len() - rest.len();
    let quoted = head.ends_with(['"', '\'']) && rest.starts_with(['"', '\'']);
    if quoted && let Some(value) = after.strip_prefix(':') {
        return Some(Follows::Json(place(value)));
    }
    if head.ends_with('[') && rest.starts_with(']') {
        return Some(Follows::From(end + 1));
    }
    if head.ends_with(['<', '/']) || rest.starts_with('>') {
        return None;
    }
    if !strong && !label && !adjective {
        return None;
    }
    if let Some(value) = after.strip_prefix([':', '：', '=']) {
        if DERIVED.has(noun) && !(1..=4).contains(&words_in_line(value)) {
            return None;
        }
        return Some(Follows::From(place(value)));
    }
    if label {
        for dash in ["- ", "– ", "— ", "-> ", "→"] {
            if rest.starts_with([' ', '*'])
                && let Some(value) = after.strip_prefix(dash)
            {
                return Some(Follows::From(place(value)));
            }
        }
        if after.is_empty() || after.starts_with(['\n', '\r']) {
            return Some(Follows::From(place(after)));
        }
    }
    if !strong
        && !adjective
        && !ADJECTIVES.iter().any(|adjective| begins_with_word(after, adjective))
    {
        return None;
    }
    verb(text, place(after), matches!(noun, "answer" | "result" | "option" | "choice"))
}

/// Words of the line, up to five.
fn words_in_line(text: &str) -> usize {
    let line: usize = text.chars().take(80).take_while(|c| *c != '\n').map(char::len_utf8).sum();
    text.get(..line).unwrap_or_default().split_whitespace().take(5).count()
}

fn begins_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|head| head.to_lowercase() == word)
        && !text.get(word.len()..).is_some_and(|rest| rest.starts_with(char::is_alphabetic))
}

/// What follows the verb that comes soon after `from`: at once, behind one or two words, or behind
/// "to the question" and the like.
fn verb(text: &str, from: usize, english: bool) -> Option<Follows> {
    let verbs = if english { ENGLISH_VERBS } else { VERBS };
    let rest = text.get(from..)?;
    let window: usize = rest
        .char_indices()
        .take(120)
        .take_while(|(_, c)| !matches!(c, '.' | '!' | '?' | '\n' | ';' | ','))
        .map(|(_, c)| c.len_utf8())
        .sum();
    let clause = rest.get(..window)?;
    let long = ["to", "for", "of", "("].iter().any(|word| clause.starts_with(word));
    let limit = if long { 14 } else { 3 };
    for (number, (at, word)) in words(clause).take(limit).enumerate() {
        let lower = word.to_lowercase();
        if number == 0 && COMPOUNDS.has(&lower) {
            return None;
        }
        let end = at + word.len();
        // "The answer cannot be determined."
        let denied = matches!(
            lower.as_str(),
            "cannot" | "can" | "not" | "could" | "may" | "might" | "never" | "depends" | "t"
        );
        if denied && english {
            return None;
        }
        if verbs.has(&lower) {
            let tail = clause.get(end..)?;
            if tail.starts_with(['\'', '’']) {
                return None;
            }
            let labels = tail.trim_start_matches(['*', ' ']).starts_with([':', '：']);
            let start = from + end;
            return Some(if labels { Follows::From(start) } else { Follows::Verb(start) });
        }
        if let Some(value) =
            clause.get(end..)?.trim_start_matches(['*', ')', ' ', '_']).strip_prefix([':', '：'])
        {
            return Some(Follows::From(from + window - value.len()));
        }
    }
    None
}

/// `#### 18` with a short value, and `<answer>18</answer>`.
fn marks(text: &str) -> Vec<(usize, Follows)> {
    let mut found = Vec::new();
    for (at, mark) in text.match_indices("####") {
        let rest = text.get(at + mark.len()..).unwrap_or_default();
        let length: usize =
            rest.chars().take(100).take_while(|c| *c != '\n').map(char::len_utf8).sum();
        let line = rest.get(..length).unwrap_or_default();
        let deeper =
            rest.starts_with('#') || text.get(..at).is_some_and(|head| head.ends_with('#'));
        if !deeper && is_value(line) {
            found.push((at, Follows::Within(at + mark.len(), at + mark.len() + line.len())));
        }
    }
    let lower = text.to_ascii_lowercase();
    for tag in [
        "answer",
        "final_answer",
        "answer_choice",
        "answer_letter",
        "correct_answer",
        "ans",
        "final",
        "result",
    ] {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let mut from = 0;
        while let Some(start) = lower.get(from..).and_then(|rest| rest.find(&open)) {
            let start = from + start + open.len();
            let rest = lower.get(start..).unwrap_or_default();
            let end = start + rest.find(&close).unwrap_or(rest.len());
            found.push((start, Follows::Within(start, end)));
            from = end;
        }
    }
    found
}

/// Whether the rest of a line behind `####` is a value, not a heading: a number with a unit, a
/// letter, or a few words without the look of a step.
fn is_value(line: &str) -> bool {
    let line = line.trim();
    let words = line.split_whitespace().count();
    let first = line.trim_start_matches(['-', '$', '€', '£', '¥', '+', '*', '.', '~', ' ']);
    if first.starts_with(char::is_numeric) {
        return words <= 4 && canonical::list_item(line).is_none() && !line.contains(": ");
    }
    let heading =
        ["step", "final", "answer", "solution", "conclusion", "explanation", "summary", "result"];
    let lower = line.to_lowercase();
    words > 0
        && words <= 4
        && !line.ends_with(':')
        && !heading.iter().any(|word| lower.starts_with(word))
        && !line.contains(": ")
        && (words == 1 || !line.contains(char::is_numeric))
}

/// Lines that begin with `A:`, as GSM8K's model solutions end; with a line `B:` they are options.
fn labels(text: &str) -> Vec<(usize, Follows)> {
    if text.starts_with("B:") || text.contains("\nB:") {
        return Vec::new();
    }
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    let label = |at: &usize| {
        let value = text.get(*at..).and_then(|rest| rest.strip_prefix("A:"));
        value.is_some_and(|value| !value.starts_with(char::is_alphabetic))
    };
    starts.filter(label).map(|at| (at, Follows::From(at + 2))).collect()
}
