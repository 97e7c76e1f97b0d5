//! Numbers in text: their exact values, and the scanner that finds them.
//!
//! Contract: total and linear; equal values have equal [`Number::canonical`] forms (`1/2`, `0.5`,
//! `50%`), and a value that cannot be represented exactly keeps its cleaned text, so that equality
//! stays exact and transitive. The input is folded text (`normalize::fold`): ASCII digits, `-` for
//! every dash and minus. Units and currencies are ignored: `$5`, `5 €` and `5 miles` are all 5.
//!
//! | written | read as |
//! |---|---|
//! | `1,234.5` `1.234,5` `1 234,5` `1'234.5` `1_234.5` `12,34,567` | separators where every group
//! fits (thousands, or Indian lakh groups) |
//! | `2,125` | 2125: a single comma before exactly three digits groups thousands, unless the
//! integer part is 0 |
//! | `2.125` `3,5` `0,125` | decimals: a single point always, a single comma otherwise |
//! | `1,2,3` | a list: its last number |
//! | `1/2` `1 1/2` `½` `1 / 2` | fractions; `1/0` keeps its text |
//! | `50%` `50 percent` | a hundredth |
//! | `1e3` `1.5 × 10^3` `10^3` `2**10` `3 million` `5k` | multiplied out |
//! | `-5` `-$5` `$-5` `minus 5` `negative 5` | a sign, unless something is subtracted: `16-3`,
//! `)-3` |
//! | `10:30` `3-5` `1.2.3` `1/2/2020` `2020-05-01` | one opaque value each: never the last part |

use std::fmt::Write as _;

use super::normalize::THOUSANDS_SEP;

/// An exact fraction in lowest terms, denominator above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ratio {
    numerator: i128,
    denominator: i128,
}

impl Ratio {
    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let divisor =
            i128::try_from(gcd(numerator.unsigned_abs(), denominator.unsigned_abs())).ok()?;
        let sign = denominator.signum();
        Some(Self {
            numerator: (numerator / divisor).checked_mul(sign)?,
            denominator: (denominator / divisor).checked_mul(sign)?,
        })
    }

    fn times(self, other: Self) -> Option<Self> {
        // Reduce crosswise first, so that a product that fits does not overflow.
        let left = Self::new(self.numerator, other.denominator)?;
        let right = Self::new(other.numerator, self.denominator)?;
        Self::new(
            left.numerator.checked_mul(right.numerator)?,
            left.denominator.checked_mul(right.denominator)?,
        )
    }

    fn over(self, other: Self) -> Option<Self> {
        self.times(Self::new(other.denominator, other.numerator)?)
    }

    fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    fn power(self, exponent: u32) -> Option<Self> {
        Self::new(self.numerator.checked_pow(exponent)?, self.denominator.checked_pow(exponent)?)
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// A decimal in normal form: no leading or trailing zeros; zero has no digits. Value = ± digits ·
/// 10^exponent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn new(whole: &str, fraction: &str) -> Self {
        let mut digits = format!("{whole}{fraction}");
        let significant = digits.trim_end_matches('0').len();
        let exponent = if significant == 0 {
            0
        } else {
            (digits.len() - significant) as i64 - fraction.len() as i64
        };
        digits.truncate(significant);
        digits.drain(..digits.len() - digits.trim_start_matches('0').len());
        Self { negative: false, digits, exponent }
    }

    fn shifted(mut self, by: i64) -> Self {
        if !self.digits.is_empty() {
            self.exponent = self.exponent.saturating_add(by);
        }
        self
    }

    fn ratio(&self) -> Option<Ratio> {
        if self.digits.is_empty() {
            return Ratio::new(0, 1);
        }
        if self.digits.len() > 39 {
            return None;
        }
        let magnitude: i128 = self.digits.parse().ok()?;
        let signed = if self.negative { -magnitude } else { magnitude };
        let scale = 10_i128.checked_pow(u32::try_from(self.exponent.unsigned_abs()).ok()?)?;
        if self.exponent >= 0 {
            Ratio::new(signed.checked_mul(scale)?, 1)
        } else {
            Ratio::new(signed, scale)
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Fraction(Ratio),
    /// A decimal, exact however long.
    Decimal(Decimal),
    /// Digits that are not a single number: a date, a time, a range, a division by zero.
    Opaque(String),
}

/// One number, with its exact value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    value: Value,
    /// As written, sign and percent sign included, unit and currency not.
    pub(super) display: String,
}

impl Number {
    /// `n` or `n/d` in lowest terms; `<digits>e<exponent>` where that overflows 128 bits; the
    /// cleaned text of an opaque value.
    pub(super) fn canonical(&self) -> String {
        match &self.value {
            Value::Opaque(text) => text.clone(),
            Value::Fraction(ratio) => ratio_form(*ratio),
            Value::Decimal(decimal) => decimal.ratio().map_or_else(
                || {
                    format!(
                        "{}{}e{}",
                        if decimal.negative { "-" } else { "" },
                        decimal.digits,
                        decimal.exponent
                    )
                },
                ratio_form,
            ),
        }
    }

    /// Whether it has a value, and is not opaque.
    pub(super) fn is_exact(&self) -> bool {
        !matches!(self.value, Value::Opaque(_))
    }
}

fn ratio_form(ratio: Ratio) -> String {
    let mut form = ratio.numerator.to_string();
    if ratio.denominator != 1 {
        let _ = write!(form, "/{}", ratio.denominator);
    }
    form
}

/// A currency symbol.
pub(super) fn is_currency(c: char) -> bool {
    matches!(c, '$' | '£' | '¥' | '¢' | '฿' | '\u{20a0}'..='\u{20c0}')
}

/// A text that begins with a number, currency symbols in front allowed.
pub(super) struct LeadingNumber {
    pub(super) number: Number,
    /// What follows the number.
    pub(super) rest: String,
}

/// Reads a number at the start of a folded text.
pub(super) fn leading_number(text: &str) -> Option<LeadingNumber> {
    // Rejects prose cheaply: a number starts within a sign word and a currency code.
    if !text.chars().take(16).any(|c| c.is_ascii_digit()) {
        return None;
    }
    let chars: Vec<char> = text.chars().collect();
    let found = Numbers::new(&chars).next()?;
    let before = chars.get(..found.start)?;
    if !before.iter().all(|c| is_currency(*c) || c.is_whitespace() || *c == '(') {
        return None;
    }
    let rest = chars.get(found.end..)?.iter().collect();
    Some(LeadingNumber { number: found.number, rest })
}

/// A number and where it is, in characters.
pub(super) struct Found {
    pub(super) number: Number,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether it is attached to a Latin letter, as in `m2`, `B12` or `x^2`; such a number is
    /// rarely the answer.
    pub(super) attached: bool,
}

/// All numbers of a folded text, left to right.
pub(super) struct Numbers<'a> {
    chars: &'a [char],
    at: usize,
}

impl<'a> Numbers<'a> {
    pub(super) fn new(chars: &'a [char]) -> Self {
        Self { chars, at: 0 }
    }
}

impl Iterator for Numbers<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let chars = self.chars;
        let start = (self.at..chars.len()).find(|i| begins(chars, *i))?;
        let (negative, sign_start) = sign(chars, start, self.at);
        let mut reader = Reader { chars, at: start };
        let value = signed(reader.value(), negative);
        self.at = reader.at;
        let display = display(chars, start, reader.at, negative);
        let before = start.checked_sub(1).and_then(|i| chars.get(i)).copied().unwrap_or(' ');
        let attached = is_latin(before) || matches!(before, '_' | '^' | '\\');
        let value = value.unwrap_or_else(|| {
            Value::Opaque(display.chars().filter(|c| !c.is_whitespace()).collect())
        });
        Some(Found {
            number: Number { value, display },
            start: sign_start,
            end: reader.at,
            attached,
        })
    }
}

fn begins(chars: &[char], at: usize) -> bool {
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let before = at.checked_sub(1).and_then(|i| chars.get(i)).copied().unwrap_or(' ');
    digit(at)
        || (chars.get(at) == Some(&'.')
            && digit(at + 1)
            && !before.is_alphanumeric()
            && before != '.')
}

fn is_latin(c: char) -> bool {
    c.is_ascii_alphabetic() || ('\u{c0}'..='\u{24f}').contains(&c)
}

fn display(chars: &[char], start: usize, end: usize, negative: bool) -> String {
    let body = chars
        .get(start..end)
        .unwrap_or_default()
        .iter()
        .map(|c| if *c == THOUSANDS_SEP { ' ' } else { *c });
    negative.then_some('-').into_iter().chain(body).collect()
}

fn signed(value: Option<Value>, negative: bool) -> Option<Value> {
    if !negative {
        return value;
    }
    match value? {
        Value::Fraction(ratio) => {
            Ratio::new(ratio.numerator.checked_neg()?, ratio.denominator).map(Value::Fraction)
        }
        Value::Decimal(decimal) => {
            Some(Value::Decimal(Decimal { negative: !decimal.digits.is_empty(), ..decimal }))
        }
        Value::Opaque(text) => Some(Value::Opaque(format!("-{text}"))),
    }
}

/// Whether a minus belongs to the number at `start`, and where the number with its sign begins.
/// Looks back no further than `floor`.
fn sign(chars: &[char], start: usize, floor: usize) -> (bool, usize) {
    let before =
        |i: usize| i.checked_sub(1).filter(|i| *i >= floor).and_then(|i| chars.get(i)).copied();
    let mut at = start;
    if before(at).is_some_and(is_currency) {
        at -= 1;
    }
    if before(at) == Some('-') {
        let left = (at - 1).checked_sub(1).and_then(|i| chars.get(i)).copied().unwrap_or(' ');
        let subtracts = left.is_alphanumeric() || matches!(left, ')' | ']' | '}' | '%' | '-' | '.');
        return if subtracts { (false, start) } else { (true, at - 1) };
    }
    for word in ["negative ", "minus "] {
        let begin = at.saturating_sub(word.len());
        let matches = begin >= floor
            && at - begin == word.len()
            && word
                .chars()
                .zip(chars.get(begin..at).unwrap_or_default())
                .all(|(a, b)| a == b.to_ascii_lowercase());
        let left = chars.get(..begin).unwrap_or_default().iter().rev().take(2).find(|c| **c != ' ');
        if matches && !left.is_some_and(|c| c.is_ascii_digit() || *c == ')') {
            return (true, begin);
        }
    }
    (false, start)
}

/// Reads one number from `at` on, and leaves `at` behind it.
struct Reader<'a> {
    chars: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn digit(&self, ahead: usize) -> bool {
        self.peek(ahead).is_some_and(|c| c.is_ascii_digit())
    }

    fn text(&self, from: usize, to: usize) -> String {
        self.chars.get(from..to).unwrap_or_default().iter().collect()
    }

    /// The value, or `None` if it is opaque.
    fn value(&mut self) -> Option<Value> {
        let decimal = self.literal();
        let value = match decimal {
            Some(decimal) => self.fraction(decimal),
            None => None,
        };
        if self.chain() {
            return None;
        }
        self.scale(value)
    }

    /// Digits with separators; `None` if they are not a number.
    fn literal(&mut self) -> Option<Decimal> {
        let mut groups: Vec<String> = Vec::new();
        let mut separators: Vec<char> = Vec::new();
        if self.peek(0) == Some('.') {
            groups.push(String::new());
        } else {
            groups.push(self.digits());
        }
        while let Some(separator) =
            self.separator(groups.first().map_or(0, String::len), &separators)
        {
            self.at += 1;
            groups.push(self.digits());
            separators.push(separator);
        }
        number_of(&groups, &separators).map(|decimal| self.exponent(decimal))
    }

    fn digits(&mut self) -> String {
        let start = self.at;
        while self.digit(0) {
            self.at += 1;
        }
        self.text(start, self.at)
    }

    /// A separator here that joins the digits on its two sides.
    fn separator(&self, first: usize, seen: &[char]) -> Option<char> {
        let c = self.peek(0)?;
        match c {
            ',' | '.' | '_' | THOUSANDS_SEP if self.digit(1) => Some(c),
            '\'' | '’' if self.digit(1) => Some('\''),
            ' ' => {
                let group = (1..=3).all(|i| self.digit(i))
                    && !self.digit(4)
                    && !matches!(self.peek(4), Some('/' | ':' | '%'));
                (group && (1..=3).contains(&first) && seen.iter().all(|s| *s == ' ')).then_some(' ')
            }
            _ => None,
        }
    }

    /// `e3`, `^3`, `**3` and `× 10^3` after a literal.
    fn exponent(&mut self, decimal: Decimal) -> Decimal {
        if matches!(self.peek(0), Some('e' | 'E'))
            && let Some((exponent, length)) = self.integer(1)
            && !self.peek(1 + length).is_some_and(char::is_alphanumeric)
        {
            self.at += 1 + length;
            return decimal.shifted(exponent);
        }
        if decimal.digits == "1"
            && decimal.exponent == 1
            && let Some((exponent, length)) = self.caret(0)
        {
            self.at += length;
            return decimal.shifted(exponent - 1);
        }
        let Some((operator, gap)) =
            (0..=1).find_map(|gap| self.peek(gap).map(|c| (c, gap)).filter(|(c, _)| *c != ' '))
        else {
            return decimal;
        };
        let ten = gap + 1 + usize::from(self.peek(gap + 1) == Some(' '));
        if matches!(operator, '×' | 'x' | 'X' | '*' | '·')
            && (self.peek(ten), self.peek(ten + 1)) == (Some('1'), Some('0'))
            && let Some((exponent, length)) = self.caret(ten + 2)
        {
            self.at += ten + 2 + length;
            return decimal.shifted(exponent);
        }
        decimal
    }

    /// `^3`, `^{-3}` or `**3` at `ahead`: the exponent and its length.
    fn caret(&self, ahead: usize) -> Option<(i64, usize)> {
        let marks = match (self.peek(ahead), self.peek(ahead + 1)) {
            (Some('^'), _) => 1,
            (Some('*'), Some('*')) => 2,
            _ => return None,
        };
        let brace = usize::from(self.peek(ahead + marks) == Some('{'));
        let (exponent, length) = self.integer(ahead + marks + brace)?;
        let end = marks + brace + length;
        if brace == 1 && self.peek(ahead + end) != Some('}') {
            return None;
        }
        Some((exponent, end + brace))
    }

    /// A signed integer of up to 18 digits at `ahead`, and its length.
    fn integer(&self, ahead: usize) -> Option<(i64, usize)> {
        let signed = usize::from(matches!(self.peek(ahead), Some('+' | '-')));
        let first = ahead + signed;
        let count = (0..19).take_while(|i| self.digit(first + i)).count();
        if count == 0 || count > 18 {
            return None;
        }
        let value: i64 = self.text(self.at + first, self.at + first + count).parse().ok()?;
        Some((if self.peek(ahead) == Some('-') { -value } else { value }, signed + count))
    }

    /// A fraction, a mixed number or a power, if one follows the literal.
    fn fraction(&mut self, decimal: Decimal) -> Option<Value> {
        if let Some((exponent, length)) = self.caret(0) {
            self.at += length;
            let power = u32::try_from(exponent).ok().filter(|e| *e <= 1000)?;
            return decimal.ratio()?.power(power).map(Value::Fraction);
        }
        if let Some((part, length)) = self.proper(1)
            && matches!(self.peek(0), Some(' ' | THOUSANDS_SEP))
            && decimal.exponent >= 0
        {
            self.at += 1 + length;
            return decimal.ratio()?.plus(part).map(Value::Fraction);
        }
        let gap = usize::from(self.peek(0) == Some(' ') && self.peek(2) == Some(' '));
        if self.peek(gap) == Some('/') && self.digit(2 * gap + 1) {
            self.at += 2 * gap + 1;
            let bottom = self.literal()?;
            return decimal.ratio()?.over(bottom.ratio()?).map(Value::Fraction);
        }
        Some(Value::Decimal(decimal))
    }

    /// A proper fraction `b/c` with b < c at `ahead`, and its length.
    fn proper(&self, ahead: usize) -> Option<(Ratio, usize)> {
        if !self.digit(ahead) {
            return None;
        }
        let (top, over) = self.integer(ahead)?;
        if self.peek(ahead + over) != Some('/') || !self.digit(ahead + over + 1) {
            return None;
        }
        let (bottom, under) = self.integer(ahead + over + 1)?;
        (top < bottom)
            .then(|| Ratio::new(top.into(), bottom.into()))
            .flatten()
            .map(|ratio| (ratio, over + 1 + under))
    }

    /// Whether more digits follow without a space (`10:30`, `3-5`, `1/2/2020`, `1.2.3`); consumes
    /// them all.
    fn chain(&mut self) -> bool {
        let mut chained = false;
        while matches!(self.peek(0), Some(':' | '-' | '/' | '.' | ',')) && self.digit(1) {
            self.at += 1;
            self.digits();
            chained = true;
        }
        chained
    }

    /// A magnitude word and a percent sign.
    fn scale(&mut self, value: Option<Value>) -> Option<Value> {
        let value = match self.magnitude() {
            Some((power, length)) => {
                self.at += length;
                value.and_then(|value| shift(value, power))
            }
            None => value,
        };
        match self.percent() {
            Some(length) => {
                self.at += length;
                value.and_then(|value| shift(value, -2))
            }
            None => value,
        }
    }

    fn magnitude(&self) -> Option<(i64, usize)> {
        const WORDS: [(&str, i64); 5] =
            [("thousand", 3), ("million", 6), ("billion", 9), ("trillion", 12), ("hundred", 2)];
        let gap = usize::from(matches!(self.peek(0), Some(' ' | '-')));
        let word = WORDS
            .iter()
            .find(|(word, _)| self.word(gap, word))
            .map(|(word, power)| (*power, gap + word.len()));
        let letter = [("k", 3), ("bn", 9)]
            .iter()
            .find(|(unit, _)| self.word(0, unit))
            .map(|(unit, power)| (*power, unit.len()));
        let capital = matches!(self.peek(0), Some('M' | 'B'))
            && !self.peek(1).is_some_and(char::is_alphanumeric);
        word.or(letter)
            .or_else(|| capital.then(|| (if self.peek(0) == Some('M') { 6 } else { 9 }, 1)))
    }

    fn percent(&self) -> Option<usize> {
        let gap = usize::from(self.peek(0) == Some(' '));
        if self.peek(gap) == Some('%') {
            return Some(gap + 1);
        }
        ["percent", "per cent", "pct"]
            .iter()
            .find(|word| self.word(gap, word))
            .map(|word| gap + word.len())
    }

    /// Whether the word is at `ahead`, ignoring case, and ends there.
    fn word(&self, ahead: usize, word: &str) -> bool {
        word.chars()
            .enumerate()
            .all(|(i, c)| self.peek(ahead + i).is_some_and(|p| p.to_ascii_lowercase() == c))
            && !self.peek(ahead + word.len()).is_some_and(char::is_alphanumeric)
    }
}

fn shift(value: Value, power: i64) -> Option<Value> {
    match value {
        Value::Decimal(decimal) => Some(Value::Decimal(decimal.shifted(power))),
        Value::Fraction(ratio) => {
            let scale = 10_i128.checked_pow(u32::try_from(power.unsigned_abs()).ok()?)?;
            let factor = if power >= 0 { Ratio::new(scale, 1) } else { Ratio::new(1, scale) };
            ratio.times(factor?).map(Value::Fraction)
        }
        Value::Opaque(_) => None,
    }
}

/// The decimal of digit groups and the separators between them; `None` if they are not a number.
fn number_of(groups: &[String], separators: &[char]) -> Option<Decimal> {
    let (last, head) = groups.split_last()?;
    let Some((last_separator, others)) = separators.split_last() else {
        return Some(Decimal::new(last, ""));
    };
    let uniform = others.iter().all(|s| s == last_separator);
    let grouped = is_grouped(groups, *last_separator);
    match (*last_separator, uniform, others.len()) {
        ('.', true, 0) => Some(Decimal::new(&head.concat(), last)),
        (',', true, 0) if !grouped => Some(Decimal::new(&head.concat(), last)),
        (_, true, _) if grouped => Some(Decimal::new(&groups.concat(), "")),
        (',', true, _) => Some(Decimal::new(last, "")),
        ('.' | ',', false, _) => {
            let first = *others.first()?;
            let clean = first != *last_separator
                && others.iter().all(|s| *s == first)
                && is_grouped(head, first);
            clean.then(|| Decimal::new(&head.concat(), last))
        }
        _ => None,
    }
}

/// Whether every group has its length: 1 to 3 digits, then threes; or, with commas, Indian twos
/// before a last three.
fn is_grouped(groups: &[String], separator: char) -> bool {
    let (Some((first, rest)), Some((last, inner))) = (groups.split_first(), groups.split_last())
    else {
        return false;
    };
    if !(1..=3).contains(&first.len()) || first.starts_with('0') || rest.is_empty() {
        return false;
    }
    let thousands = rest.iter().all(|group| group.len() == 3);
    let lakhs = separator == ','
        && first.len() <= 2
        && rest.len() >= 2
        && last.len() == 3
        && inner.iter().skip(1).all(|g| g.len() == 2);
    thousands || lakhs
}
