//! The canonical form of an answer: equal forms are the only notion of "same answer" that the rules
//! have.
//!
//! Contract: [`canonical`] is total, linear and idempotent, so its equality is exact, symmetric and
//! transitive. When in doubt it keeps two answers apart: a split vote costs an abstention, a wrong
//! merge costs a wrong answer. It ignores the question, synonyms and spelling errors.
//!
//! 1. [`fold`](super::fold) maps Unicode to one code point per meaning, [`latex`]
//!    LaTeX to plain text. Marks around the whole answer vanish: quotes, emphasis, a bullet or the
//!    number of a list, a final full stop; so does a variable before a value (`x = 5`).
//! 2. A number is an exact rational (`0.5` = `1/2` = `50%`), an amount of money or a quantity a
//!    rational with a unit, a date or a time of day one of the forms of [`date`].
//! 3. In anything else each mark is prose or meaning by what stands around it. In prose position it
//!    vanishes: a hyphen between two words, a comma before a space, a full stop at the end of a
//!    word, quotes and brackets around words. Elsewhere it stays, spaces around it do not: `a + b`
//!    is `a+b`, and neither is `a-b`. Words lose their case, formulas and code keep it. `the` and
//!    `an` vanish, `a` only in front of a word. This follows `SQuAD` (Rajpurkar et al., arXiv
//!    1606.05250) unless that would merge different answers.

use super::answer::AnswerKind;
use super::fold::{THOUSANDS_SEP, fold};
use super::words::List;
use super::{date, latex, number, quantity, statement, words};

/// A canonical form, what it is, and the form of the number within a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub canonical: String,
    pub kind: AnswerKind,
    pub bare: Option<String>,
}

/// The canonical form of an answer; `None` for a text without content.
pub fn canonical(text: &str) -> Option<String> {
    form(text).map(|form| form.canonical)
}

/// A form is read again until it stays: each rule may uncover what another one reads.
const ROUNDS: usize = 6;

pub(super) fn form(text: &str) -> Option<Form> {
    let mut form = once(text)?;
    for _ in 0..ROUNDS {
        let Some(again) = once(&form.canonical) else { break };
        if again.canonical == form.canonical {
            break;
        }
        form = Form { bare: form.bare, ..again };
    }
    Some(form)
}

fn once(text: &str) -> Option<Form> {
    let plain = plain_indices(&latex::plain(&fold(text))).replace(">=", "≥").replace("<=", "≤");
    let bare = strip(&plain);
    let answer = |canonical: String, kind| Some(Form { canonical, kind, bare: None });
    if !bare.contains(char::is_alphanumeric) {
        let symbols = symbols(&plain).or_else(|| symbols(&fold(text)));
        return symbols.and_then(|symbols| answer(symbols, AnswerKind::Formula));
    }
    if let Some(letter) = letter(bare) {
        return answer(letter.to_ascii_lowercase().to_string(), AnswerKind::Choice);
    }
    if let Some(date) = date::date_or_time(bare) {
        return answer(date, AnswerKind::Date);
    }
    let value = value_of_variable(bare).unwrap_or(bare);
    if let Some(number) = number_form(value) {
        return Some(Form {
            bare: number::bare_percent(value),
            ..answer(number, AnswerKind::Number)?
        });
    }
    if let Some(found) = quantity::quantity(value) {
        return Some(Form { bare: found.bare, ..answer(found.canonical, AnswerKind::Number)? });
    }
    if let Some(polarity) = words::polarity(bare) {
        return answer(polarity.to_owned(), AnswerKind::Polarity);
    }
    if let Some(items) = list(bare) {
        return answer(items, AnswerKind::Text);
    }
    let (canonical, kind) = text_form(bare)?;
    answer(canonical, kind)
}

/// Drops the mark of an index behind the symbol of an element: `H_2O` is `H2O`, `x_1` stays.
fn plain_indices(plain: &str) -> String {
    if !plain.contains('_') {
        return plain.to_owned();
    }
    let chars: Vec<char> = plain.chars().collect();
    let back = |at: usize, by: usize| {
        at.checked_sub(by).and_then(|i| chars.get(i)).copied().unwrap_or(' ')
    };
    let symbol = |at: usize| {
        let capital = |c: char| c.is_ascii_uppercase();
        let end = usize::from(back(at, 1) == ')');
        capital(back(at, end + 1))
            || (back(at, end + 1).is_ascii_lowercase() && capital(back(at, end + 2)))
    };
    let kept = chars.iter().enumerate().filter(|(at, c)| {
        **c != '_' || !symbol(*at) || !chars.get(at + 1).is_some_and(char::is_ascii_digit)
    });
    kept.map(|(_, c)| *c).collect()
}

/// The exact form of a text that is one number and nothing else.
pub(super) fn number_form(text: &str) -> Option<String> {
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let text = inner.filter(|inner| !inner.contains([',', '('])).unwrap_or(text).trim();
    if let Some(number) = words::number(text) {
        return Some(number.to_string());
    }
    // A score or a share, rather than one: 50/50.
    if text.split_once('/').is_some_and(|(top, bottom)| top.trim() == bottom.trim()) {
        return None;
    }
    let (number, rest) = number::leading_number(text)?;
    let form = number.canonical();
    // A list, written as one with spaces is.
    let form = if number.is_exact() { form } else { form.replace(',', ", ") };
    rest.trim().is_empty().then_some(form)
}

/// An answer of symbols only: the text without the marks around it. Dots in a row, dashes of a
/// rule and repeated question marks are no content.
fn symbols(plain: &str) -> Option<String> {
    let joined: String = plain.split_whitespace().collect();
    let inner = joined.trim_matches(['"', '`']);
    let inner = inner.strip_prefix("**").and_then(|i| i.strip_suffix("**")).unwrap_or(inner);
    let kept = if inner.is_empty() { joined.as_str() } else { inner };
    let all = |marks: &[char]| kept.chars().all(|c| marks.contains(&c));
    let filler = match kept.chars().count() {
        0 | 1 => all(&['…', '"', '`']),
        2 => all(&['.', '…', '"', '`', '-', '—', '?', '_']),
        _ => all(&['.', '…', '"', '`', '-', '—', '?', '_', '*', '!']),
    };
    (!filler && !kept.is_empty()).then(|| kept.to_owned())
}

/// A choice letter alone, bracketed or not.
fn letter(text: &str) -> Option<char> {
    let inner = [('(', ')'), ('[', ']')].into_iter().find_map(|(open, close)| {
        text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close))
    });
    let bare = inner.unwrap_or_else(|| text.strip_suffix(')').unwrap_or(text));
    let mut chars = bare.chars();
    let letter = chars.next().filter(|c| matches!(c, 'A'..='J' | 'a'..='j'))?;
    chars.as_str().is_empty().then_some(letter)
}

/// The right side of `x = 5`: a value after one variable.
fn value_of_variable(text: &str) -> Option<&str> {
    let (left, right) = text.split_once('=')?;
    let mut name = left.trim().chars();
    let variable = name.next().is_some_and(char::is_alphabetic)
        && match name.next() {
            None => true,
            Some('_') => name.next().is_some() && name.next().is_none(),
            Some(c) => matches!(c, '\'' | '0'..='9') && name.next().is_none(),
        };
    let right = right.trim();
    let value = number_form(right).is_some() || quantity::quantity(right).is_some();
    (variable && value).then_some(right)
}

/// Items of a list, one a line.
fn list(text: &str) -> Option<String> {
    if !text.contains('\n') {
        return None;
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() < 2 || !lines.iter().all(|line| list_item(line).is_some()) {
        return None;
    }
    let items: Vec<String> =
        lines.iter().filter_map(|line| once(list_item(line)?)).map(|form| form.canonical).collect();
    (!items.is_empty()).then(|| items.join(" | "))
}

/// Words that German puts behind an ordinal, which it writes with a full stop.
const ORDINALS: List = List(
    "Weltkrieg|Liga|Bundesliga|FC|Platz|Klasse|Jahrhundert|Stock|Etage|Geburtstag|Mal|Mose|König\
     |Advent|Semester|Runde|Reihe|Kapitel|Akt|Satz|Sinfonie|Generation|Division|Staffel|Band|Teil\
     |Tag|Woche|Monat|Jahr|Hälfte|Korinther|Petrus|Johannes|Buch|Bezirk|Gebot",
);

/// The content of a line that is an item of a list: without its bullet or number. `- 5` is a
/// number, `12. Mai` a date.
pub(super) fn list_item(line: &str) -> Option<&str> {
    let line = line.trim();
    for bullet in ["• ", "‣ ", "◦ ", "* ", "- ", "+ ", "— "] {
        if let Some(rest) = line.strip_prefix(bullet) {
            let rest = rest.trim_start();
            let word = rest.trim_start_matches(['*', '"', '(', '`']);
            return (long_word(word) || bullet == "• ").then_some(rest);
        }
    }
    let (marker, rest) = line.split_once(['.', ')'])?;
    let counted = (1..=3).contains(&marker.len()) && marker.chars().all(|c| c.is_ascii_digit());
    let roman =
        matches!(marker, "i" | "ii" | "iii" | "iv" | "v" | "vi" | "vii" | "viii" | "ix" | "x");
    if !(counted || roman) || !rest.starts_with([' ', '\t']) {
        return None;
    }
    let rest = rest.trim();
    let first = rest.split_whitespace().next()?;
    let ordinal = date::month(first).is_some() || ORDINALS.has(first);
    (!ordinal && rest.contains(char::is_alphanumeric)).then_some(rest)
}

/// Whether a text begins with a word of two or more letters, or of a script without case.
fn long_word(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next().is_some_and(char::is_alphabetic);
    first
        && (caseless(text.chars().next().unwrap_or(' '))
            || chars.next().is_some_and(char::is_alphabetic))
}

fn caseless(c: char) -> bool {
    c.is_alphabetic() && !c.is_lowercase() && !c.is_uppercase()
}

/// Removes the marks around a whole answer.
pub(super) fn strip(text: &str) -> &str {
    let mut text = text.trim();
    for _ in 0..16 {
        let before = text;
        for (open, close) in [
            ("**", "**"),
            ("__", "__"),
            ("*", "*"),
            ("`", "`"),
            ("\"", "\""),
            ("'", "'"),
            ("```", "```"),
            ("<b>", "</b>"),
            ("<strong>", "</strong>"),
            ("<i>", "</i>"),
            ("<em>", "</em>"),
        ] {
            let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
            if let Some(inner) = inner.filter(|inner| !inner.contains(open) && !inner.is_empty()) {
                text = inner.trim();
            }
        }
        text = text.trim_start_matches('"').trim_end();
        if text.matches("**").count() == 1 {
            text =
                text.strip_prefix("**").or_else(|| text.strip_suffix("**")).unwrap_or(text).trim();
        }
        let unmarked = text.trim_start_matches('#');
        if unmarked.len() < text.len() && unmarked.starts_with([' ', '\t']) {
            text = unmarked.trim();
        }
        if let Some(rest) = text.strip_prefix("> ")
            && long_word(rest)
        {
            text = rest.trim();
        }
        if !text.contains('\n')
            && let Some(item) = list_item(text).filter(|item| statement::is_item(item))
        {
            text = item;
        }
        text = strip_end(text);
        if text == before {
            break;
        }
    }
    text
}

fn strip_end(text: &str) -> &str {
    let text = text.trim_end();
    let Some(last) = text.chars().next_back() else { return text };
    let Some(head) = text.get(..text.len() - last.len_utf8()) else { return text };
    let mut back = head.chars().rev();
    let (before, earlier) = (back.next().unwrap_or(' '), back.next().unwrap_or(' '));
    let word = before.is_alphabetic() && (earlier.is_alphabetic() || caseless(before));
    let drop = match last {
        '.' | ',' | ';' | ':' | '。' | '।' | '、' | '…' => true,
        '!' | '?' => {
            word || matches!(before, ')' | '*' | '"' | '\'' | '!' | '?' | '%')
                && head.contains(char::is_alphabetic)
        }
        '"' => !before.is_ascii_digit() || text.matches('"').count() == 2,
        _ => false,
    };
    if drop { head.trim_end() } else { text }
}

/// The form of words and formulas.
fn text_form(text: &str) -> Option<(String, AnswerKind)> {
    let marks = Marks::new(text);
    let spaced = marks.separate();
    let spaced = if marks.is_formula() { without_products(&spaced) } else { spaced };
    let mut tokens: Vec<(String, bool)> = spaced.split_whitespace().map(token_form).collect();
    if let [first, second] = tokens.as_mut_slice() {
        // A symbol of a unit keeps its case: 5 G is not 5 g.
        let unit = spaced.split_whitespace().nth(1).unwrap_or_default();
        let symbol = unit.len() <= 3 && unit.contains(|c: char| c.is_ascii_uppercase());
        if symbol && first.0.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '/')) {
            *second = (unit.to_owned(), true);
        }
    }
    if let [first, _, ..] = tokens.as_mut_slice()
        && let Some(number) = words::number(&first.0).filter(|number| *number != 1)
    {
        first.0 = number.to_string();
    }
    let is_article = |word: &str| matches!(word, "the" | "an");
    let words = || tokens.iter().map(|(word, _)| word.as_str());
    let names_letter = |next: &str| matches!(next, "and" | "or") || next.chars().nth(1).is_none();
    let front = words()
        .zip(words().skip(1).chain(["x"]))
        .take_while(|(word, next)| is_article(word) || (*word == "a" && !names_letter(next)))
        .count();
    let kept: Vec<&str> = tokens
        .iter()
        .skip(front)
        .map(|(word, _)| word.as_str())
        .filter(|word| !is_article(word))
        .collect();
    let all: Vec<&str> = tokens.iter().map(|(word, _)| word.as_str()).collect();
    let joined = if kept.is_empty() { all.join(" ") } else { kept.join(" ") };
    let kind =
        if tokens.iter().any(|(_, code)| *code) { AnswerKind::Formula } else { AnswerKind::Text };
    (!joined.is_empty()).then_some((joined, kind))
}

/// A token in its form, and whether its marks carry meaning, so that it keeps its case.
fn token_form(token: &str) -> (String, bool) {
    let greek = |c: char| ('\u{370}'..='\u{3ff}').contains(&c);
    if is_code(token) || (token.chars().count() == 1 && token.contains(greek)) {
        return (token.to_owned(), true);
    }
    let plain = grouped_integer(token).unwrap_or_else(|| token.to_owned());
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            'ß' | 'ẞ' => out.push_str("ss"),
            'ς' => out.push('σ'),
            c => out.extend(c.to_lowercase()),
        }
    }
    (out, false)
}

/// `1,000` without its commas.
fn grouped_integer(token: &str) -> Option<String> {
    let (first, rest) = token.split_once(',')?;
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    let grouped = (1..=3).contains(&first.len())
        && digits(first)
        && !first.starts_with('0')
        && rest.split(',').all(|group| group.len() == 3 && digits(group));
    grouped.then(|| token.replace(',', ""))
}

fn is_code(token: &str) -> bool {
    if token.contains([
        '=', '<', '>', '^', '\\', '|', '_', '[', ']', '{', '}', '(', ')', '√', '~', '≤', '≥', '≠',
        '→',
    ]) {
        return true;
    }
    let chars: Vec<char> = token.chars().collect();
    let letters = |range: &mut dyn Iterator<Item = &char>| {
        range.take_while(|c| c.is_alphabetic()).take(2).count()
    };
    let last = chars.len().saturating_sub(1);
    (0..chars.len()).any(|at| {
        let (Some(c), Some(before), Some(after)) =
            (chars.get(at), chars.get(..at), chars.get(at + 1..))
        else {
            return false;
        };
        if !matches!(c, '+' | '*' | '/' | '-' | '·' | '×' | '÷' | '.' | ',' | ':' | '±')
            || at == last
        {
            return false;
        }
        let (left, right) = (letters(&mut before.iter().rev()), letters(&mut after.iter()));
        match c {
            '.' | ',' | ':' => left + right > 0 && !(left == 0 || right == 0),
            '-' if at == 0 => right == 1,
            // A word with a hyphen: T-shirt.
            '-' => left + right > 0 && left < 2 && right < 2,
            '/' => left + right > 0 && !(left == 2 && right == 2),
            _ => left + right > 0 && after.first().is_some_and(|c| c.is_alphanumeric()),
        }
    })
}

/// A text whose marks are sorted into prose and meaning.
struct Marks {
    chars: Vec<char>,
    /// Letters in a row that end before, and begin after, a place; across spaces too.
    left: Vec<usize>,
    right: Vec<usize>,
    /// The nearest characters that are not spaces.
    before: Vec<char>,
    after: Vec<char>,
    /// Marks that come in pairs around words: emphasis, and brackets.
    paired: Vec<bool>,
    /// The text has an operator, so a minus between words is one too.
    mathematics: bool,
}

impl Marks {
    fn new(text: &str) -> Self {
        let chars: Vec<char> = text
            .chars()
            .map(|c| if c.is_control() && c != THOUSANDS_SEP { ' ' } else { c })
            .filter(|c| !matches!(c, '`' | '´'))
            .collect();
        let (left, before) = runs(chars.iter());
        let (mut right, mut after) = runs(chars.iter().rev());
        right.reverse();
        after.reverse();
        let mathematics = chars
            .iter()
            .any(|c| matches!(c, '=' | '^' | '<' | '>' | '|' | '√' | '×' | '÷' | '≤' | '≥'));
        let paired = paired(&chars, &left, &right);
        Self { chars, left, right, before, after, paired, mathematics }
    }

    /// Whether the text has an operator and no words.
    fn is_formula(&self) -> bool {
        self.mathematics && self.left.iter().all(|run| *run < 2)
    }

    /// The text with prose marks dropped or turned into spaces, and no spaces around the others.
    fn separate(&self) -> String {
        let mut out = String::with_capacity(self.chars.len());
        let (mut quoted, mut depth) = (false, 0_usize);
        for (at, c) in self.chars.iter().enumerate() {
            match *c {
                '"' => {
                    let previous = at.checked_sub(1).and_then(|i| self.chars.get(i));
                    if !quoted && previous.is_some_and(|c| c.is_ascii_digit() || *c == '\'') {
                        out.push_str("''");
                    } else {
                        quoted = !quoted;
                    }
                }
                c => match self.mark(at, c, depth > 0) {
                    Mark::Dropped => {}
                    Mark::Space => out.push(' '),
                    Mark::Kept => out.push(c),
                    Mark::Joining => {
                        out.truncate(out.trim_end_matches(' ').len());
                        out.push(c);
                        out.push('\u{1e}');
                    }
                    Mark::JoiningLeft => {
                        out.truncate(out.trim_end_matches([' ', '\u{1e}']).len());
                        out.push(c);
                    }
                    Mark::Listing => {
                        out.truncate(out.trim_end_matches(' ').len());
                        out.push_str(", ");
                    }
                    Mark::JoiningRight => {
                        out.push(c);
                        out.push('\u{1e}');
                    }
                    Mark::And => out.push_str(" and "),
                },
            }
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        joined(&out)
    }

    fn mark(&self, at: usize, c: char, within: bool) -> Mark {
        let get = |list: &[usize]| list.get(at).copied().unwrap_or(0);
        let (left, right) = (get(&self.left), get(&self.right));
        let near = |list: &[char]| list.get(at).copied().unwrap_or(' ');
        let (before, after) = (near(&self.before), near(&self.after));
        let previous = at.checked_sub(1).and_then(|i| self.chars.get(i)).copied().unwrap_or(' ');
        let next = self.chars.get(at + 1).copied().unwrap_or(' ');
        let gaps = (previous == ' ', next == ' ');
        let paired = self.paired.get(at).copied().unwrap_or(false);
        match c {
            ' ' => Mark::Space,
            THOUSANDS_SEP => Mark::Dropped,
            '*' | '_' if paired => Mark::Dropped,
            '(' | ')' if paired => Mark::Space,
            '.' => self.full_stop(at, previous, next),
            ',' if gaps.1 || gaps.0 => match (before.is_ascii_digit(), within) {
                _ if left >= 2 || right >= 2 || after == ' ' => Mark::Space,
                (true, false) => Mark::Listing,
                _ => Mark::Joining,
            },
            ',' if left >= 2 && right >= 2 => Mark::Space,
            '-' => self.hyphen(left, right, (before, after), gaps),
            '\'' if gaps == (false, false) && left + right >= 3 && left > 0 && right > 0 => {
                Mark::Dropped
            }
            '\'' if gaps.0 && next.is_alphanumeric() => Mark::Dropped,
            '\'' if left >= 2 => Mark::Dropped,
            '!' | '?'
                if (left >= 2 || matches!(previous, '!' | '?'))
                    && !matches!(next, '=')
                    && !next.is_alphanumeric() =>
            {
                Mark::Space
            }
            ';' | ':' if gaps.1 && left >= 2 => Mark::Space,
            '&' if gaps == (true, true) && before != '&' && after != '&' => Mark::And,
            '#' if !previous.is_alphanumeric() && !next.is_alphanumeric() => Mark::Space,
            '=' | '<' | '>' | '^' | '|' | '≤' | '≥' | '≠' | '≈' | '→' | '⇒' | '∈' | '∪' | '∩'
            | '∧' | '∨' | '⊂' | ';' | ':' | ',' => Mark::Joining,
            '×' | '÷' | '·' if before != ' ' && after != ' ' => Mark::Joining,
            '+' | '*' | '/' | '±' if gaps == (true, true) => Mark::Joining,
            '·' | '•' if gaps.0 || gaps.1 => Mark::Space,
            '+' if gaps == (true, false) && binary(before, left) => Mark::Joining,
            '(' | '[' | '{' => Mark::JoiningRight,
            ')' | ']' | '}' => Mark::JoiningLeft,
            '…' | '—' | '―' | '¿' | '¡' => Mark::Space,
            c if is_separator(c) => Mark::Space,
            _ => Mark::Kept,
        }
    }

    fn full_stop(&self, at: usize, previous: char, next: char) -> Mark {
        if previous == '.' || next == '.' {
            return Mark::Space;
        }
        if !next.is_alphanumeric() {
            return if previous == ' ' { Mark::Space } else { Mark::Dropped };
        }
        if previous.is_alphabetic() && next.is_alphabetic() && self.is_initial(at) {
            return Mark::Dropped;
        }
        Mark::Kept
    }

    /// Whether the full stop belongs to initials: `U.S.`, `Ph.D.`, `p.m.`
    fn is_initial(&self, at: usize) -> bool {
        let letters = |from: &mut dyn Iterator<Item = &char>| -> Vec<char> {
            from.take_while(|c| c.is_alphabetic()).take(4).copied().collect()
        };
        let (Some(head), Some(tail)) = (self.chars.get(..at), self.chars.get(at + 1..)) else {
            return false;
        };
        let left: Vec<char> = letters(&mut head.iter().rev()).into_iter().rev().collect();
        let right = letters(&mut tail.iter());
        let pair: String = left.iter().chain(&right).flat_map(|c| c.to_lowercase()).collect();
        let dotted =
            head.iter().rev().nth(left.len()) == Some(&'.') || tail.get(right.len()) == Some(&'.');
        let single = left.len() == 1
            && right.len() == 1
            && (dotted || matches!(pair.as_str(), "us" | "uk" | "am" | "pm" | "eg" | "ie" | "dc"));
        let capital =
            |part: &[char]| part.len() <= 2 && part.first().is_some_and(|c| c.is_uppercase());
        single || (capital(&left) && capital(&right))
    }

    fn hyphen(&self, left: usize, right: usize, near: (char, char), gaps: (bool, bool)) -> Mark {
        let (before, after) = near;
        match gaps {
            (false, false) => {
                if self.mathematics {
                    return Mark::Kept;
                }
                let numbered = left >= 3 && after.is_ascii_digit();
                if (left >= 2 && right >= 2) || numbered { Mark::Space } else { Mark::Kept }
            }
            (true, true) if before == ' ' => Mark::JoiningRight,
            (true, true) if left >= 2 && right >= 2 && !self.mathematics => Mark::Space,
            (true, true) => Mark::Joining,
            (true, false) if before != ' ' && binary(before, left) => Mark::Joining,
            _ => Mark::Kept,
        }
    }
}

/// Whether an operator after this character, which ends a run of letters, is a binary one.
fn binary(before: char, letters: usize) -> bool {
    before.is_ascii_digit() || matches!(before, ')' | ']' | '}') || letters == 1
}

/// What becomes of a mark.
enum Mark {
    Dropped,
    Space,
    Kept,
    /// Kept, without spaces before and behind it.
    Joining,
    JoiningLeft,
    JoiningRight,
    /// A comma with a space behind it, between numbers: without the space it is a decimal one.
    Listing,
    And,
}

/// A formula without the spaces between factors: `π r^2` is `πr^2`, `1 2` stays.
fn without_products(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        out.push_str(word);
        let digits = word.ends_with(|c: char| c.is_ascii_digit() || c == ',')
            && words.peek().is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit()));
        if digits || word.ends_with(',') {
            out.push(' ');
        }
    }
    out
}

/// Drops the spaces that follow a joining mark.
fn joined(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut joins = false;
    for c in text.chars() {
        match c {
            '\u{1e}' => joins = true,
            ' ' if joins => {}
            c => {
                joins = false;
                out.push(c);
            }
        }
    }
    out
}

/// For each place, the letters in a row before it, across spaces, and the last character that is
/// not a space. A letter of a script without case counts as a word.
fn runs<'a>(chars: impl Iterator<Item = &'a char>) -> (Vec<usize>, Vec<char>) {
    let mut lengths = Vec::new();
    let mut nearest = Vec::new();
    let (mut run, mut last, mut spaced) = (0, ' ', false);
    for c in chars {
        lengths.push(run);
        nearest.push(last);
        if *c == ' ' {
            spaced = true;
            continue;
        }
        let letters = if caseless(*c) { 2 } else { 1 };
        run = match (c.is_alphabetic(), spaced) {
            (true, false) => run + letters,
            (true, true) => letters,
            (false, _) => 0,
        };
        spaced = false;
        last = *c;
    }
    (lengths, nearest)
}

/// Which marks are a pair around words: `*word*`, `**word**`, `_word_`, and brackets after a space
/// that hold words only.
fn paired(chars: &[char], left: &[usize], right: &[usize]) -> Vec<bool> {
    let mut paired = vec![false; chars.len()];
    let at = |i: usize| chars.get(i).copied().unwrap_or(' ');
    let before = |i: usize| i.checked_sub(1).map_or(' ', &at);
    let edge = |c: char| {
        c == ' '
            || matches!(c, '(' | ')' | '"' | '\'' | ',' | '.' | ':' | ';' | '!' | '?' | '*' | '_')
    };
    let mut open: [Option<usize>; 2] = [None, None];
    let mut brackets: Vec<usize> = Vec::new();
    // Places before which a symbol, or a word, stands.
    let (mut symbols, mut words) = (vec![0_usize], vec![0_usize]);
    for (i, c) in chars.iter().enumerate() {
        let symbol = matches!(
            c,
            '=' | '+'
                | '*'
                | '/'
                | '^'
                | '<'
                | '>'
                | '|'
                | '\\'
                | '['
                | ']'
                | '{'
                | '}'
                | '√'
                | '~'
        );
        let word = c.is_alphabetic()
            && (caseless(*c)
                || (left.get(i).is_some_and(|run| *run > 0) && before(i).is_alphabetic()));
        symbols.push(symbols.last().unwrap_or(&0) + usize::from(symbol));
        words.push(words.last().unwrap_or(&0) + usize::from(word));
    }
    let within = |counts: &[usize], from: usize, to: usize| {
        counts.get(to).unwrap_or(&0) > counts.get(from).unwrap_or(&0)
    };
    for (i, c) in chars.iter().enumerate() {
        match c {
            '*' | '_' => {
                let slot = usize::from(*c == '_');
                let Some(place) = open.get_mut(slot) else { continue };
                let closes = before(i) != ' ' && edge(at(i + 1));
                let opens = edge(before(i)) && at(i + 1) != ' ';
                match *place {
                    Some(start) if closes && start + 1 < i => {
                        // The marks next to the pair belong to it.
                        for offset in 0..3 {
                            let (from, to) = (start.checked_sub(offset), i + offset);
                            let Some(from) = from.filter(|f| at(*f) == *c && at(to) == *c) else {
                                break;
                            };
                            for place in [from, to] {
                                if let Some(flag) = paired.get_mut(place) {
                                    *flag = true;
                                }
                            }
                        }
                        *place = None;
                    }
                    _ if opens => *place = Some(i),
                    _ => {}
                }
            }
            '(' => brackets.push(i),
            ')' => {
                if let Some(start) = brackets.pop() {
                    let free = before(start) == ' ' || start == 0;
                    let lone = right.get(start).is_some_and(|run| *run >= 2);
                    if free
                        && lone
                        && within(&words, start + 1, i)
                        && !within(&symbols, start + 1, i)
                    {
                        for place in [start, i] {
                            if let Some(flag) = paired.get_mut(place) {
                                *flag = true;
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }
    paired
}

/// Latin, Armenian, Hebrew, Arabic, Devanagari, Myanmar, Thai and Japanese punctuation outside the
/// ranges below.
const SEPARATORS: &[char] = &[
    '§', '¶', '\u{58a}', '\u{5be}', '\u{60c}', '\u{61b}', '\u{61f}', '\u{6d4}', '\u{964}',
    '\u{965}', '\u{104a}', '\u{104b}', '\u{e2f}', '\u{e5a}', '\u{e5b}', '\u{30fb}',
];

/// Punctuation of prose that has no other use.
fn is_separator(c: char) -> bool {
    SEPARATORS.contains(&c)
        || matches!(c, '\u{1361}'..='\u{1368}' | '\u{17d4}'..='\u{17da}' | '\u{2010}'..='\u{2027}' | '\u{203b}'..='\u{2043}' | '\u{2045}'..='\u{205e}')
        || matches!(c, '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}')
}
