//! The number that a text states as its result.
//!
//! Contract: total and linear. Of an announced or boxed answer it is the result of the sentence:
//! what follows the last equals sign, arrow, "so" or "which is"; notes and brackets do not count.
//! A formula without a value (roots, variables, functions) has none, nor has a range. Of a text
//! that announces nothing it is the last number.

use super::announced::Announcement;
use super::answer::{Answer, AnswerKind};
use super::fold::fold;
use super::number::{self, Number, Numbers};
use super::words::List;
use super::{canonical, latex, statement, words};

/// Announcements that are looked at, from the last one back.
const LOOK_BACK: usize = 4;

/// The number of a completion: boxed, announced, or the last one.
pub(super) fn final_number(
    text: &str,
    boxed: Option<&str>,
    announced: &[Announcement<'_>],
) -> Option<Answer> {
    if let Some(content) = boxed
        && content.contains(|c: char| c.is_numeric() || c.is_alphabetic())
    {
        let factorial = content.trim_end_matches([' ', '$']).ends_with('!');
        return stated(content, text).filter(|_| !factorial);
    }
    for announcement in announced.iter().rev().take(LOOK_BACK) {
        let span = announcement.span.as_ref();
        let holds_digits = span.contains(char::is_numeric);
        match stated(span, text) {
            Some(answer) => return Some(answer),
            None if holds_digits => return None,
            None => {}
        }
    }
    last_number(text)
}

fn answer_of(number: &Number) -> Answer {
    Answer {
        canonical: number.canonical(),
        display: number.display.clone(),
        kind: AnswerKind::Number,
        bare: number::bare_percent(&number.display),
    }
}

/// Whether the language of a text writes `1.000` for a thousand.
fn is_european(text: &str) -> bool {
    const WORDS: List = List(
        "antwort|respuesta|resposta|risposta|ergebnis|ist|und|der|das|eine|los|el|es|del|las|una\
         |por|são|della|sono|il|het|een|resultado",
    );
    let words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).take(400);
    words.filter(|word| WORDS.has(word.to_lowercase().as_str())).take(1).count() > 0
}

/// The number that a span states.
fn stated(span: &str, text: &str) -> Option<Answer> {
    let plain = latex::plain(&fold(statement::first_sentence(span)));
    let plain = canonical::strip(&plain);
    let european = is_european(text);
    if let Some(value) = words::number_in_any_language(plain) {
        return Some(word_answer(value, plain));
    }
    let noted = without_notes(plain).replace(" and a half", " 1/2");
    let result = without_condition(result_part(without_reason(&noted)));
    if is_formula(result) || is_range(result) || is_list(result) {
        return None;
    }
    let chars: Vec<char> = result.chars().collect();
    // A number within a name is not a result, one behind a currency's code is: `x_1`, `Rs5`.
    let is_code = |start: usize| {
        let letters = chars.get(..start).unwrap_or_default().iter().rev();
        letters.take_while(|c| c.is_alphabetic()).take(2).count() == 2
    };
    let mut numbers = Numbers::european(&chars, european);
    let first = numbers.find(|number| !number.attached || is_code(number.start));
    match first {
        Some(number) => Some(answer_of(&number.number)),
        None => english_words(result),
    }
}

fn word_answer(value: i128, written: &str) -> Answer {
    Answer {
        canonical: value.to_string(),
        display: written.to_owned(),
        kind: AnswerKind::Number,
        bare: None,
    }
}

/// The part of a sentence that is the result of what stands before it.
fn result_part(sentence: &str) -> &str {
    const MARKS: List = List("=|→|⇒|->|=>|≈");
    const WORDS: List = List(
        " so | which is | which equals | which makes | equals | gives | makes | total of | i.e. \
         | that is | totaling ",
    );
    let has_number = |part: &str| part.contains(|c: char| c.is_ascii_digit());
    let after = |part: &'_ str, marks: List| {
        marks.iter().filter_map(|mark| part.rfind(mark).map(|at| (at, at + mark.len()))).max()
    };
    let mut part = sentence;
    if let Some((left, right)) = after(part, MARKS)
        && let (Some(left), Some(right)) = (part.get(..left), part.get(right..))
        && has_number(right)
    {
        // "12 = 3 × 4"
        part = if is_range(right) && !is_range(left) && has_number(left) { left } else { right };
    }
    if let Some((left, right)) = after(part, WORDS)
        && let (Some(left), Some(right)) = (part.get(..left), part.get(right..))
        && has_number(right)
        // "10, which is 20% of 50"
        && !(part.contains(" which is ") && has_number(left) && !is_range(left))
    {
        part = right;
    }
    // "for 4 friends: 12", but not "12: three times four".
    if let Some((_, value)) = part.rsplit_once(": ")
        && value
            .trim_start()
            .starts_with(|c: char| c.is_ascii_digit() || number::is_currency(c) || c == '-')
    {
        part = value;
    }
    part.trim()
}

/// A sentence without the reason behind its number.
fn without_reason(sentence: &str) -> &str {
    let reasons = [
        " because ",
        " since ",
        " weil ",
        ", as ",
        ", not ",
        " instead of ",
        " porque ",
        " parce que ",
    ];
    let cut = reasons.iter().filter_map(|reason| sentence.find(reason)).min();
    let head = cut.and_then(|at| sentence.get(..at)).unwrap_or(sentence);
    if head.contains(char::is_numeric) { head } else { sentence }
}

/// "in 2020, 5 million" without its condition.
fn without_condition(part: &str) -> &str {
    let opens = [
        "in ", "In ", "for ", "For ", "by ", "By ", "after ", "After ", "with ", "With ", "if ",
        "If ",
    ];
    let conditioned = opens.iter().any(|word| part.starts_with(word));
    match part.split_once(", ") {
        Some((_, rest)) if conditioned && rest.contains(char::is_numeric) => rest,
        _ => part,
    }
}

/// The text without brackets after a space, and without what follows a note's label.
fn without_notes(text: &str) -> String {
    let end = ["note:", "note that", "(note", "p.s.", "anmerkung:", "hinweis:", "nota:"]
        .iter()
        .filter_map(|label| find_ignoring_case(text, label))
        .filter(|at| *at > 0)
        .min()
        .unwrap_or(text.len());
    let text = text.get(..end).unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let (mut depth, mut note, mut numeric) = (0_usize, String::new(), false);
    for c in text.chars() {
        match c {
            // A number before the bracket calls nothing: "18 (3 days)".
            '(' | '[' => {
                depth += 1;
                note.push(c);
            }
            ')' | ']' if depth > 0 => {
                depth -= 1;
                note.push(c);
                if depth == 0 {
                    let words = note
                        .split(|c: char| !c.is_alphabetic())
                        .any(|w| w.chars().nth(1).is_some())
                        || note.contains(|c: char| c.is_alphabetic() && !c.is_ascii());
                    if !(words && numeric) {
                        numeric |= note.contains(char::is_numeric);
                        out.push_str(&note);
                    }
                    note.clear();
                }
            }
            c if depth > 0 => note.push(c),
            c => {
                numeric |= c.is_numeric();
                out.push(c);
            }
        }
    }
    if depth > 0 && !numeric {
        out.push_str(&note);
    }
    out
}

fn find_ignoring_case(text: &str, ascii: &str) -> Option<usize> {
    text.as_bytes()
        .windows(ascii.len())
        .position(|window| window.eq_ignore_ascii_case(ascii.as_bytes()))
}

/// Whether a text has no value: a root, a constant, a function, or a variable next to an operator
/// or a digit.
fn is_formula(text: &str) -> bool {
    if text.contains(['√', 'π', '∞', '\\', '∫', '∑', '|']) {
        return true;
    }
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or(' ');
    let back = |i: usize, by: usize| i.checked_sub(by).map_or(' ', at);
    let operator = |c: char| {
        matches!(
            c,
            '+' | '-' | '*' | '/' | '^' | '×' | '·' | '÷' | '<' | '>' | '≤' | '≥' | '!' | '('
        )
    };
    for i in 0..chars.len() {
        let c = at(i);
        if !c.is_alphabetic() || back(i, 1).is_alphabetic() {
            continue;
        }
        if at(i + 1).is_alphabetic() {
            let name: String =
                chars.iter().skip(i).take_while(|c| c.is_alphabetic()).take(6).collect();
            let arguments = matches!(at(i + name.chars().count()), ' ' | '(' | '_');
            let function = matches!(
                name.as_str(),
                "log" | "ln" | "sin" | "cos" | "tan" | "exp" | "sqrt" | "lim"
            );
            if function && arguments {
                return true;
            }
            continue;
        }
        // A letter alone: the article and multiplication are none, nor is a unit.
        let digit = back(i, 1).is_ascii_digit();
        let spaced = back(i, 1) == ' ';
        let (before, after) = (
            if spaced { back(i, 2) } else { back(i, 1) },
            if at(i + 1) == ' ' { at(i + 2) } else { at(i + 1) },
        );
        let product = matches!(c, 'x' | 'X') && before.is_ascii_digit() && after.is_ascii_digit();
        let unit = matches!(
            c,
            'm' | 'g'
                | 's'
                | 'h'
                | 'l'
                | 'L'
                | 'k'
                | 'K'
                | 'M'
                | 'B'
                | 'V'
                | 'W'
                | 'A'
                | 'N'
                | 'J'
                | 'C'
                | 'F'
                | 't'
        );
        let per_unit = before == '/' && unit;
        let exponent =
            matches!(c, 'e' | 'E') && digit && matches!(at(i + 1), '+' | '-' | '0'..='9');
        if exponent || product || per_unit || c.len_utf8() > 2 {
            continue;
        }
        if (digit && !unit && c.is_ascii_lowercase())
            || (operator(after) && after != '!' && !(unit && before.is_ascii_digit()))
            || (operator(before) && before != '(' && before != '-')
            || (before == '-' && !after.is_ascii_digit())
        {
            return true;
        }
    }
    false
}

/// A point, a pair or a list of numbers.
fn is_list(text: &str) -> bool {
    let marks = |c: char| {
        matches!(c, ',' | ';' | ' ' | '(' | ')' | '[' | ']' | '{' | '}' | '.' | '-' | '/')
    };
    let bare = text.chars().all(|c| c.is_ascii_digit() || marks(c));
    bare && text.contains([',', ';'])
        && canonical::form(text).is_some_and(|form| form.canonical.contains([',', ';']))
}

/// "between 3 and 5", "3 to 5", "3 or 4", and arithmetic in words without a result.
fn is_range(text: &str) -> bool {
    const JOINTS: List =
        List("and|to|or|plus|minus|times|bis|oder|und|+|-|×|*|÷|·|x|divided|a|o|y|ou|et|à");
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().take(40).collect();
    let number = |word: Option<&&str>| {
        word.is_some_and(|word| {
            word.trim_matches(['$', '€', '£', ',']).starts_with(|c: char| c.is_ascii_digit())
        })
    };
    let from = words
        .first()
        .is_some_and(|word| matches!(*word, "between" | "from" | "zwischen" | "entre"));
    let unitless =
        |at: usize| (1..=2).any(|back| at.checked_sub(back).is_some_and(|i| number(words.get(i))));
    words.iter().enumerate().any(|(at, word)| {
        let joint = JOINTS.has(word)
            && (number(words.get(at + 1)) || number(words.get(at + 2)) && *word == "divided")
            && (if from {
                unitless(at)
            } else {
                at.checked_sub(1).is_some_and(|i| number(words.get(i)))
            });
        // "3 and 1/2" and "5 × 10^3" are one number.
        let mixed = words
            .get(at + 1)
            .is_some_and(|next| (*word == "and" && next.contains('/')) || next.starts_with("10^"));
        joint && !mixed
    })
}

/// The last number of a text outside notes and brackets.
fn last_number(text: &str) -> Option<Answer> {
    let plain = latex::plain(&fold(&without_bullets(text)));
    let european = is_european(text);
    let noted = without_notes(&plain);
    let single = !noted.trim().contains('\n');
    if single && (is_equation_free_formula(noted.trim()) || is_list(noted.trim())) {
        return None;
    }
    if let Some(value) = words::number_in_any_language(noted.trim()) {
        return Some(word_answer(value, noted.trim()));
    }
    let chars: Vec<char> = noted.chars().collect();
    let (mut best, mut fallback) = (None, None);
    for found in Numbers::european(&chars, european) {
        if found.attached {
            fallback = Some(found.number);
        } else {
            best = Some(found.number);
        }
    }
    match best.or(fallback) {
        Some(number) => Some(answer_of(&number)),
        None => english_words(&noted),
    }
}

/// A text that is a formula without words and without a result: `2√3`, `x^2 + 1`.
fn is_equation_free_formula(text: &str) -> bool {
    let long_word = text.split(|c: char| !c.is_alphabetic()).any(|word| word.chars().count() > 2);
    !long_word && !text.contains('=') && is_formula(text)
}

/// Lines of a list without their bullets, which are no minus signs.
fn without_bullets(text: &str) -> String {
    let bullet = |line: &str| line.trim_start().starts_with("- ");
    if text.lines().filter(|line| bullet(line)).take(2).count() < 2 {
        return text.to_owned();
    }
    let lines = text
        .lines()
        .map(|line| if bullet(line) { line.trim_start().get(2..).unwrap_or(line) } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// The last number in English words: "She has forty-two apples left."
fn english_words(text: &str) -> Option<Answer> {
    let mut last: Option<(i128, String)> = None;
    let mut run: Vec<&str> = Vec::new();
    let words =
        text.split(|c: char| !(c.is_alphabetic() || c == '-')).filter(|word| !word.is_empty());
    for word in words.chain(["#"]) {
        run.push(word);
        if run.len() <= 12 && words::number(&run.join(" ")).is_some() {
            continue;
        }
        run.pop();
        // "two hundred and" and "minus" go on.
        let sign = run.is_empty() && matches!(word, "minus" | "negative");
        if sign || (word == "and" && !run.is_empty() && run.len() < 12) {
            run.push(word);
            continue;
        }
        let phrase = run.join(" ");
        let phrase = phrase.trim_end_matches(" and");
        if let Some(value) = words::number(phrase) {
            last = Some((value, phrase.to_owned()));
        }
        run.clear();
        if words::number(word).is_some() || matches!(word, "minus" | "negative") {
            run.push(word);
        }
    }
    // "one" is a pronoun more often than a number.
    last.filter(|(value, phrase)| *value != 1 || phrase != "one")
        .map(|(value, phrase)| word_answer(value, &phrase))
}
