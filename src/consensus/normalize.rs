//! Equality of answers: Unicode folding and the canonical form of an answer.
//!
//! Contract: [`canonical`] is total, linear in its input and idempotent; equality of its results is
//! the only notion of "same answer" in candor, so it is exact, symmetric and transitive. When in
//! doubt it keeps two answers apart: a split vote costs an abstention, a wrong merge costs a wrong
//! answer. It ignores the question, synonyms and spelling errors.
//!
//! The rules, in order:
//! 1. NFKC, other scripts' digits to ASCII, dashes to `-`, zero-width and direction marks removed,
//!    control characters to spaces.
//! 2. A text that is nothing but a number (with currency or percent sign, or an English number word
//!    up to twenty) becomes an exact rational: `0.5` = `1/2` = `50 %`, `1,000` = `1000` = `1e3`,
//!    `-0` = `0`. A percentage is always a hundredth: `50%` is never `50`.
//! 3. Otherwise: lower case; quotes and full stops vanish (`U.S.` = `US`, `O'Brien` = `OBrien`);
//!    `&` is `and`; hyphens, slashes and all other punctuation separate words, except between
//!    digits (`1.5.2`, `10:30`, `1914-1918` stay); symbols that carry meaning stay (`C++`, `C#`, `x
//!    = 1`); each word that is a number takes its exact form; `the` and `an` vanish, `a` only in
//!    front (`Vitamin A` is not `Vitamin`), unless nothing would be left.
//!
//! Rule 3 follows `SQuAD`'s answer normalization (Rajpurkar et al., arXiv 1606.05250) unless that
//! would merge different answers.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use super::number;

/// Replaces a thin, narrow or no-break space between two digits: a thousands separator, not a word
/// boundary.
pub(super) const THOUSANDS_SEP: char = '\u{1f}';

/// The code points of digit zero of the decimal digit blocks outside ASCII and NFKC's reach; each
/// block holds ten in order.
const ZEROS: &[u32] = &[
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66,
    0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90,
    0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0,
    0x104A0, 0x11066, 0x110F0, 0x11136, 0x1E950,
];

const NUMBER_WORDS: &[&str] = &[
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// The canonical form of an answer; `None` if the text is only punctuation and space.
pub fn canonical(text: &str) -> Option<String> {
    let folded = fold(text);
    number_form(&folded).or_else(|| text_form(&folded))
}

/// The canonical form of a mathematical answer, as found in `\boxed{...}`: LaTeX spacing, sizes,
/// text wrappers and degree signs go; a number takes its exact form; a formula keeps every symbol
/// and its case and loses its spaces; anything else is [`canonical`] text.
pub fn canonical_math(text: &str) -> Option<String> {
    let plain = plain_latex(&fold(text));
    let trimmed = plain.trim().trim_matches('$').trim().trim_end_matches('.').trim();
    if let Some(number) = number_form(trimmed) {
        return Some(number);
    }
    if is_formula(trimmed) {
        Some(trimmed.chars().filter(|c| !c.is_whitespace() && *c != THOUSANDS_SEP).collect())
    } else {
        text_form(trimmed)
    }
}

fn is_formula(text: &str) -> bool {
    let symbol = text.contains(['\\', '^', '_', '{', '}', '=', '+', '*', '/', '<', '>', '|']);
    // A minus rather than a hyphen between words: "x - 1", "2n-3".
    let minus = text.contains('-')
        && !text.split(|c: char| !c.is_alphabetic()).any(|word| word.chars().nth(1).is_some());
    symbol
        || minus
        || (text.contains(|c: char| c.is_ascii_digit()) && text.contains(['(', ')', '[', ']', ',']))
}

/// The exact form of a text that is one number and nothing else.
fn number_form(folded: &str) -> Option<String> {
    let bare = folded.trim_matches(|c: char| {
        c.is_whitespace() || matches!(c, '*' | '`' | '"' | '\'' | '“' | '”' | '!' | '?' | ';')
    });
    if let Some(position) =
        NUMBER_WORDS.iter().position(|word| bare.trim_end_matches('.').eq_ignore_ascii_case(word))
    {
        return Some(position.to_string());
    }
    let whole = number::leading_number(bare)?;
    let rest = whole.rest.trim_matches(|c: char| {
        c.is_whitespace() || number::is_currency(c) || matches!(c, '.' | ',' | ':' | ')' | '*')
    });
    rest.is_empty().then(|| whole.number.canonical())
}

fn text_form(folded: &str) -> Option<String> {
    // A letter and its accent may compose once a mark between them is removed.
    let spaced: String = separate(folded).nfkc().collect();
    let words: Vec<Cow<'_, str>> = spaced.split_whitespace().map(word_form).collect();
    let front = words.iter().take_while(|word| *word == "a" || is_article(word)).count();
    let kept: Vec<&str> =
        words.iter().skip(front).map(AsRef::as_ref).filter(|word| !is_article(word)).collect();
    let joined = if kept.is_empty() { words.join(" ") } else { kept.join(" ") };
    // What is left may be a number or a number word: "the 5", "a dozen" no, "**5**" yes.
    if joined.is_empty() { None } else { Some(number_form(&joined).unwrap_or(joined)) }
}

fn is_article(word: &str) -> bool {
    matches!(word, "the" | "an")
}

fn word_form(word: &str) -> Cow<'_, str> {
    if !word.contains(|c: char| c.is_ascii_digit()) {
        return Cow::Borrowed(word);
    }
    match number::leading_number(word) {
        Some(whole) if whole.rest.is_empty() && whole.number.is_exact() => {
            Cow::Owned(whole.number.canonical())
        }
        _ => Cow::Borrowed(word),
    }
}

fn is_quote(c: char) -> bool {
    matches!(
        c,
        '\'' | '"'
            | '`'
            | '´'
            | '~'
            | '‘'
            | '’'
            | '“'
            | '”'
            | '„'
            | '‹'
            | '›'
            | '«'
            | '»'
            | '′'
            | '″'
    )
}

/// Lower case, with punctuation turned into spaces, dropped, or kept between digits.
fn separate(folded: &str) -> String {
    let mut out = String::with_capacity(folded.len());
    let mut before = ' ';
    let mut chars = folded.chars().filter(|c| !is_quote(*c)).peekable();
    while let Some(c) = chars.next() {
        let after = chars.peek().copied().unwrap_or(' ');
        let between_digits = before.is_ascii_digit() && after.is_ascii_digit();
        match c {
            '.' if before == '.' || after == '.' => out.push(' '),
            // Dropped, so the next mark sees the character before it.
            '.' if !after.is_ascii_digit() => continue,
            '.' | ',' | ':' | '/' | '*' | THOUSANDS_SEP if between_digits => {
                out.push(if c == THOUSANDS_SEP { ',' } else { c });
            }
            '.' if !before.is_alphanumeric() => out.push('.'),
            '-' if after.is_ascii_digit() && !before.is_alphabetic() => out.push('-'),
            '_' if before.is_alphanumeric() && after.is_alphanumeric() => out.push('_'),
            '#' if before.is_alphanumeric() => out.push('#'),
            '&' => out.push_str(" and "),
            c if is_separator(c) => out.push(' '),
            'ß' | 'ẞ' => out.push_str("ss"),
            'ς' => out.push('σ'),
            c => out.extend(c.to_lowercase()),
        }
        before = c;
    }
    out
}

const ASCII_SEPARATORS: &[char] =
    &['!', '#', '(', ')', '*', ',', '-', '.', '/', ':', ';', '?', '[', ']', '_', '{', '}'];

/// Latin, Armenian, Hebrew, Arabic, Devanagari, Myanmar, Thai and Japanese marks outside the ranges
/// below.
const SEPARATORS: &[char] = &[
    '¡', '§', '¶', '·', '¿', '\u{58a}', '\u{5be}', '\u{60c}', '\u{61b}', '\u{61f}', '\u{6d4}',
    '\u{964}', '\u{965}', '\u{104a}', '\u{104b}', '\u{e2f}', '\u{e5a}', '\u{e5b}', '\u{30fb}',
];

/// Punctuation that separates words. Symbols (`+ = < > % $ ^ @ |`) are none.
fn is_separator(c: char) -> bool {
    c.is_control()
        || ASCII_SEPARATORS.contains(&c)
        || SEPARATORS.contains(&c)
        || matches!(c, '\u{1361}'..='\u{1368}' | '\u{17d4}'..='\u{17da}' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}')
        || matches!(c, '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}')
}

/// Rule 1: one code point per meaning. Line feeds stay, other control characters become spaces.
pub(super) fn fold(text: &str) -> String {
    let mut mapped = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let digits_around = is_digit(before) && chars.peek().is_some_and(|next| is_digit(*next));
        match c {
            '\n' => mapped.push('\n'),
            '\u{a0}' | '\u{2007}'..='\u{2009}' | '\u{202f}' => {
                mapped.push(if digits_around { THOUSANDS_SEP } else { ' ' });
            }
            // "2½" must not become "21/2".
            '¼'..='¾' | '\u{2150}'..='\u{215e}' | '\u{2189}' => {
                if is_digit(before) {
                    mapped.push(' ');
                }
                mapped.push(c);
            }
            '²' | '³' | '¹' | '\u{2070}' | '\u{2074}'..='\u{2079}' => {
                if !is_superscript(before) {
                    mapped.push('^');
                }
                mapped.push(c);
            }
            '\u{2080}'..='\u{2089}' => mapped.extend(['_', c]),
            '\u{66a}' => mapped.push('%'),
            '\u{66b}' => mapped.push('.'),
            '\u{66c}' => mapped.push(','),
            '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}' => {}
            c if c.is_control() => mapped.push(' '),
            c => mapped.push(ascii_digit(c)),
        }
        before = c;
    }
    mapped.nfkc().map(plain_mark).collect()
}

/// After NFKC, which turns other characters into these.
fn plain_mark(c: char) -> char {
    match c {
        '\u{2044}' => '/',
        '\u{2010}'..='\u{2013}' | '\u{2212}' => '-',
        c => ascii_digit(c),
    }
}

fn is_superscript(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '\u{2070}' | '\u{2074}'..='\u{2079}')
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || ascii_digit(c) != c || ('０'..='９').contains(&c)
}

fn ascii_digit(c: char) -> char {
    let code = u32::from(c);
    let block = ZEROS.partition_point(|zero| *zero <= code);
    let zero = block.checked_sub(1).and_then(|i| ZEROS.get(i)).copied();
    zero.filter(|zero| code - zero < 10)
        .and_then(|zero| char::from_digit(code - zero, 10))
        .unwrap_or(c)
}

/// Simple LaTeX as plain text: `\frac{1}{2}` is
/// `1/2`, `\text{m}` is `m`, `\%` is `%`, `\times` is `×`; spacing, sizes and degree signs vanish.
/// Unknown commands stay.
pub(super) fn plain_latex(folded: &str) -> String {
    if !folded.contains('\\') && !folded.contains("{,}") {
        return folded.to_owned();
    }
    let chars: Vec<char> = folded.chars().collect();
    let mut out = String::with_capacity(folded.len());
    let mut wrappers: Vec<bool> = Vec::new();
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        i = match c {
            '\\' => command(&chars, i, &mut out, &mut wrappers),
            '{' if chars.get(i + 1..i + 3) == Some(&[',', '}']) => {
                out.push(',');
                i + 3
            }
            '^' if starts_with(&chars, i + 1, "\\circ") => i + 6,
            '^' if starts_with(&chars, i + 1, "{\\circ}") => i + 8,
            '{' => {
                wrappers.push(false);
                out.push('{');
                i + 1
            }
            '}' => {
                if wrappers.pop() != Some(true) {
                    out.push('}');
                }
                i + 1
            }
            c => {
                out.push(c);
                i + 1
            }
        };
    }
    out
}

/// Writes the command at `chars[at] == '\\'` and returns the index after it.
fn command(chars: &[char], at: usize, out: &mut String, wrappers: &mut Vec<bool>) -> usize {
    let end =
        (at + 1..chars.len()).find(|i| !chars[*i].is_ascii_alphabetic()).unwrap_or(chars.len());
    if end == at + 1 {
        return escape(chars, at, out);
    }
    let name: String = chars.get(at + 1..end.min(at + 16)).unwrap_or_default().iter().collect();
    match name.as_str() {
        "frac" | "dfrac" | "tfrac" => {
            if let Some((fraction, end)) = plain_fraction(chars, end) {
                if out.ends_with(|c: char| c.is_ascii_digit()) {
                    out.push(' ');
                }
                out.push_str(&fraction);
                return end;
            }
            out.push_str("\\frac");
        }
        "times" => out.push('×'),
        "cdot" => out.push('·'),
        "div" => out.push('÷'),
        "left" | "right" | "displaystyle" | "circ" | "quad" => {}
        "text" | "textbf" | "textit" | "mathrm" | "mathbf" | "mathit" | "mbox" | "operatorname"
            if chars.get(end) == Some(&'{') =>
        {
            wrappers.push(true);
            return end + 1;
        }
        _ => out.extend(chars.get(at..end).unwrap_or_default()),
    }
    end
}

fn escape(chars: &[char], at: usize, out: &mut String) -> usize {
    let next_is_digit = chars.get(at + 2).is_some_and(char::is_ascii_digit);
    match chars.get(at + 1) {
        Some(',') => out.push(if out.ends_with(|c: char| c.is_ascii_digit()) && next_is_digit {
            THOUSANDS_SEP
        } else {
            ' '
        }),
        Some('!') => {}
        Some(';' | ':' | ' ' | '(' | ')' | '[' | ']' | '\\') => out.push(' '),
        Some(c) if c.is_ascii_punctuation() => out.push(*c),
        Some(_) | None => {
            out.push('\\');
            return at + 1;
        }
    }
    at + 2
}

/// `{12}{34}` or `12` as a plain fraction, from `chars[at]`.
fn plain_fraction(chars: &[char], at: usize) -> Option<(String, usize)> {
    let (top, middle) = argument(chars, at)?;
    let (bottom, end) = argument(chars, middle)?;
    Some((format!("{top}/{bottom}"), end))
}

fn argument(chars: &[char], at: usize) -> Option<(String, usize)> {
    let first = *chars.get(at)?;
    if first.is_ascii_digit() {
        return Some((first.to_string(), at + 1));
    }
    if first != '{' {
        return None;
    }
    let body: String = chars
        .get(at + 1..)?
        .iter()
        .take(40)
        .take_while(|c| c.is_ascii_digit() || **c == '-')
        .collect();
    let close = at + 1 + body.len();
    let sane = body.trim_start_matches('-').len() + 1 >= body.len()
        && body.ends_with(|c: char| c.is_ascii_digit());
    (sane && chars.get(close) == Some(&'}')).then_some((body, close + 1))
}

fn starts_with(chars: &[char], at: usize, pattern: &str) -> bool {
    pattern.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c))
}
