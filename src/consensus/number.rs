//! Numbers in text: their exact values, and the scanner that finds them.
//!
//! Contract: total and linear; equal values have equal [`Number::canonical`] forms (`1/2`, `0.5`,
//! `50%`), and a value that cannot be represented exactly keeps its cleaned text, so that equality
//! stays exact and transitive. The input is folded text (`fold::fold`): ASCII digits, `-` for
//! every dash and minus. Units and currencies are ignored: `$5`, `5 €` and `5 miles` are all 5.
//!
//! | written | read as |
//! |---|---|
//! | `1,234.5` `1.234,5` `1 234,5` `1'234.5` `1_234.5` `12,34,567` | separators where every group
//! fits (thousands, or Indian lakh groups) |
//! | `2,125` | 2125: a single comma before exactly three digits groups thousands, unless the
//! integer part is 0 |
//! | `2.125` `3,5` `0,125` | decimals: a single point always, a single comma otherwise |
//! | `$1, 000` | 1000: a group of zeros, or one after a currency |
//! | `1.000 Euro` | 1000: amounts of money have no three decimals |
//! | `1/2` `1 1/2` `½` `1 / 2` | fractions; `1/0` keeps its text |
//! | `50%` `50 percent` | a hundredth |
//! | `1e3` `1.5 × 10^3` `10^3` `2**10` `3 million` `5k` `3万` `2 dozen` | multiplied out |
//! | `-5` `- 5` `-$5` `$-5` `minus 5` | a sign, unless something is subtracted: `16-3`, `)-3` |
//! | `10:30` `3-5` `1.2.3` `1,2,3` `2020-05-01` | one opaque value each: never the last part |

use std::fmt::Write as _;

use super::fold::THOUSANDS_SEP;
use super::words::List;

/// An exact fraction in lowest terms, denominator above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    numerator: i128,
    denominator: i128,
}

impl Ratio {
    pub(super) fn new(numerator: i128, denominator: i128) -> Option<Self> {
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

    pub(super) fn times(self, other: Self) -> Option<Self> {
        // Reduce crosswise first, so that a product that fits does not overflow.
        let left = Self::new(self.numerator, other.denominator)?;
        let right = Self::new(other.numerator, self.denominator)?;
        Self::new(
            left.numerator.checked_mul(right.numerator)?,
            left.denominator.checked_mul(right.denominator)?,
        )
    }

    pub(super) fn over(self, other: Self) -> Option<Self> {
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

impl Value {
    fn ratio(&self) -> Option<Ratio> {
        match self {
            Self::Fraction(ratio) => Some(*ratio),
            Self::Decimal(decimal) => decimal.ratio(),
            Self::Opaque(_) => None,
        }
    }
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

    /// Whether it has a value, and that is an integer.
    pub(super) fn is_integer(&self) -> bool {
        match &self.value {
            Value::Fraction(ratio) => ratio.denominator == 1,
            Value::Decimal(decimal) => decimal.exponent >= 0,
            Value::Opaque(_) => false,
        }
    }

    /// Its value, if 128 bits hold it.
    pub(super) fn ratio(&self) -> Option<Ratio> {
        self.value.ratio()
    }
}

pub(super) fn ratio_form(ratio: Ratio) -> String {
    let mut form = ratio.numerator.to_string();
    if ratio.denominator != 1 {
        let _ = write!(form, "/{}", ratio.denominator);
    }
    form
}

/// A currency symbol.
pub(super) fn is_currency(c: char) -> bool {
    matches!(c, '$' | '£' | '¥' | '฿' | '\u{20a0}'..='\u{20c0}')
}

/// Reads a number at the start of a folded text: the number, and what follows it.
pub(super) fn leading_number(text: &str) -> Option<(Number, String)> {
    // Rejects prose cheaply: a number starts within a sign word.
    if !text.chars().take(16).any(|c| c.is_ascii_digit()) {
        return None;
    }
    let chars: Vec<char> = text.chars().collect();
    let found = Numbers::new(&chars).next()?;
    let written = chars.get(..found.end)?;
    if found.start > 0
        || written.iter().take_while(|c| !c.is_ascii_digit()).any(|c| is_currency(*c))
    {
        return None;
    }
    let rest = chars.get(found.end..)?.iter().collect();
    Some((found.number, rest))
}

/// The form of a percentage's number alone: 50 for `50%`.
pub(super) fn bare_percent(text: &str) -> Option<String> {
    let head = text.trim().trim_end_matches(|c: char| c.is_alphabetic() || c == ' ');
    let head =
        head.strip_suffix('%').or_else(|| text.to_lowercase().contains("cent").then_some(head))?;
    let (number, rest) = leading_number(head.trim())?;
    (rest.is_empty() && number.is_exact()).then(|| number.canonical())
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
    /// The text writes `1.000` for a thousand.
    european: bool,
}

impl<'a> Numbers<'a> {
    pub(super) fn new(chars: &'a [char]) -> Self {
        Self { chars, at: 0, european: false }
    }

    pub(super) fn european(chars: &'a [char], european: bool) -> Self {
        Self { chars, at: 0, european }
    }
}

impl Iterator for Numbers<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let chars = self.chars;
        let start = (self.at..chars.len()).find(|i| begins(chars, *i))?;
        let (negative, sign_start) = sign(chars, start, self.at);
        let mut reader = Reader { chars, at: start, european: self.european };
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
    let gap = usize::from(before(at) == Some(' '));
    if at > gap && before(at - gap).is_some_and(is_currency) {
        at -= 1 + gap;
    }
    if before(at) == Some('-') {
        let left = (at - 1).checked_sub(1).and_then(|i| chars.get(i)).copied().unwrap_or(' ');
        let subtracts = left.is_alphanumeric() || matches!(left, ')' | ']' | '}' | '%' | '-' | '.');
        let spaced = left == ' ' && subtracts_across_space(chars, at - 1);
        return if subtracts || spaced { (false, start) } else { (true, at - 1) };
    }
    if before(at) == Some(' ') && before(at - 1) == Some('-') {
        return if opens_value(chars, at - 2) { (true, at - 2) } else { (false, start) };
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

/// Whether what stands before the minus at `at`, across one space, is a number or a variable:
/// `x -2`.
fn subtracts_across_space(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|i| chars.get(i)).copied();
    match before(2) {
        Some(c) if c.is_ascii_digit() => true,
        Some(')' | ']' | '}') => true,
        Some(c) if c.is_alphabetic() => !before(3).is_some_and(char::is_alphanumeric),
        _ => false,
    }
}

/// Whether a minus with a space behind it, at `at`, is the sign of a value: at the start of a text
/// or line, after an operator or bracket, or after a verb such as "is".
fn opens_value(chars: &[char], at: usize) -> bool {
    const VERBS: List = List("is|are|was|be|equals|ist|es|est|è|é|of|to|by");
    let head = chars.get(..at).unwrap_or_default();
    let Some(last) = head.iter().rev().take(3).find(|c| **c != ' ') else {
        return head.len() < 3;
    };
    if last.is_alphabetic() {
        let word: String = head
            .iter()
            .rev()
            .skip_while(|c| **c == ' ')
            .take_while(|c| c.is_alphabetic())
            .take(8)
            .collect();
        let word: String = word.chars().rev().collect();
        return VERBS.has(&word);
    }
    matches!(
        last,
        '=' | '('
            | '['
            | '{'
            | ','
            | ':'
            | '<'
            | '>'
            | '+'
            | '*'
            | '/'
            | '→'
            | '≈'
            | '\n'
            | '≤'
            | '≥'
    )
}

/// Reads one number from `at` on, and leaves `at` behind it.
struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    european: bool,
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
        let start = self.at;
        let mut groups: Vec<String> = Vec::new();
        let mut separators: Vec<char> = Vec::new();
        if self.peek(0) == Some('.') {
            groups.push(String::new());
        } else {
            groups.push(self.digits());
        }
        let money = start.checked_sub(1).and_then(|i| self.chars.get(i));
        let euro = money == Some(&'€');
        let money = money.is_some_and(|c| is_currency(*c));
        loop {
            let first = groups.first().map_or(0, String::len);
            if self.spaced_group(money) && (1..=3).contains(&first) {
                self.at += 1;
                separators.push(',');
            } else if let Some(separator) = self.separator(first, &separators) {
                separators.push(separator);
            } else {
                break;
            }
            self.at += 1;
            groups.push(self.digits());
        }
        let thousands = separators == ['.'] && is_grouped(&groups, '.');
        if thousands && (self.european || euro || self.euros()) {
            return Some(Decimal::new(&groups.concat(), ""));
        }
        number_of(&groups, &separators).map(|decimal| self.exponent(decimal))
    }

    /// Whether a group of thousands follows a comma and a space: `1, 000`, `$1, 250`.
    fn spaced_group(&self, money: bool) -> bool {
        let zeros = (2..=4).all(|i| self.peek(i) == Some('0'));
        self.peek(0) == Some(',')
            && self.peek(1) == Some(' ')
            && (2..=4).all(|i| self.digit(i))
            && !self.digit(5)
            && (money || zeros)
    }

    /// Whether the number is an amount of euros.
    fn euros(&self) -> bool {
        let gap = usize::from(matches!(self.peek(0), Some(' ' | THOUSANDS_SEP)));
        self.peek(gap) == Some('€')
            || ["euro", "euros", "eur"].iter().any(|word| self.word(gap, word))
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
            '\'' if (1..=3).all(|i| self.digit(i)) => Some('\''),
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

    /// Magnitude words and a percent sign.
    fn scale(&mut self, value: Option<Value>) -> Option<Value> {
        let mut value = self.magnified(value);
        // `3万5千`
        for _ in 0..4 {
            let after_magnitude = self.at.checked_sub(1).and_then(|i| self.chars.get(i));
            if !after_magnitude
                .is_some_and(|c| matches!(c, '百' | '千' | '万' | '萬' | '億' | '亿'))
                || !self.digit(0)
            {
                break;
            }
            let part = self.literal().map(Value::Decimal);
            let part = self.magnified(part).as_ref().and_then(Value::ratio);
            value = value.and_then(|value| value.ratio()?.plus(part?)).map(Value::Fraction);
        }
        match self.percent() {
            Some(length) => {
                self.at += length;
                value.and_then(|value| shift(value, -2))
            }
            None => value,
        }
    }

    /// `2 hundred thousand`: up to three magnitudes in a row.
    fn magnified(&mut self, mut value: Option<Value>) -> Option<Value> {
        for _ in 0..3 {
            let Some((factor, power, length)) = self.magnitude() else { break };
            self.at += length;
            value = value.and_then(|value| shift(value, power));
            if factor != 1 {
                value = value
                    .and_then(|value| value.ratio()?.times(Ratio::new(factor, 1)?))
                    .map(Value::Fraction);
            }
        }
        value
    }

    /// The factor and the power of ten of the magnitude here, and its length.
    fn magnitude(&self) -> Option<(i128, i64, usize)> {
        let gap = usize::from(matches!(self.peek(0), Some(' ' | '-' | THOUSANDS_SEP)));
        let found = |list: &[(&str, i64)], whole: bool| {
            list.iter().find_map(|(words, power)| {
                let word = words.split(' ').find(|word| {
                    if whole { self.word(gap, word) } else { self.begins_with(gap, word) }
                })?;
                Some((1, *power, gap + word.chars().count()))
            })
        };
        if self.word(gap, "dozen") {
            return Some((12, 0, gap + 5));
        }
        let thousands = self.word(gap, "mil")
            && (self.european
                || ["millones", "milhões", "euros", "pesos"].iter().any(|w| self.word(gap + 4, w)));
        if thousands {
            return Some((1, 3, gap + 3));
        }
        let next = self.peek(gap + 1);
        let metric = self.peek(gap) == Some('千')
            && next.is_some_and(|c| matches!(c, '克' | '米' | '瓦' | '卡' | '公'));
        if metric {
            return None;
        }
        let capital = matches!(self.peek(0), Some('M' | 'B'))
            && !self.peek(1).is_some_and(char::is_alphanumeric);
        found(MAGNITUDE_WORDS, true)
            .or_else(|| found(MAGNITUDE_SIGNS, false))
            .or_else(|| self.word(0, "k").then_some((1, 3, 1)))
            .or_else(|| capital.then(|| (1, if self.peek(0) == Some('M') { 6 } else { 9 }, 1)))
    }

    fn percent(&self) -> Option<usize> {
        let gap = usize::from(self.peek(0) == Some(' '));
        if self.peek(gap) == Some('%') {
            return Some(gap + 1);
        }
        ["percent", "per cent", "pct", "prozent"]
            .iter()
            .find(|word| self.word(gap, word))
            .map(|word| gap + word.len())
    }

    /// Whether the word is at `ahead`, ignoring case, and ends there.
    fn word(&self, ahead: usize, word: &str) -> bool {
        self.begins_with(ahead, word)
            && !self.peek(ahead + word.chars().count()).is_some_and(char::is_alphanumeric)
    }

    fn begins_with(&self, ahead: usize, word: &str) -> bool {
        let same = |p: char, c: char| p == c || p.to_lowercase().eq([c]);
        word.chars().enumerate().all(|(i, c)| self.peek(ahead + i).is_some_and(|p| same(p, c)))
    }
}

/// Magnitude words by their power of ten.
const MAGNITUDE_WORDS: &[(&str, i64)] = &[
    ("hundred hundreds hundert", 2),
    ("thousand thousands tausend mille mila тысяча тысячи тысяч тыс हजार हज़ार", 3),
    ("lakh lakhs lac lacs लाख", 5),
    ("million millions millionen mio mln mn millón millon millones milione milioni", 6),
    ("milhão milhões miljoen miljoner milion milionów миллион миллиона миллионов млн", 6),
    ("crore crores करोड़", 7),
    ("billion billions bn milliarde milliarden mrd milliard milliards miliardo miliardi", 9),
    ("bilhão bilhões miljard миллиард миллиарда миллиардов млрд", 9),
    ("trillion trillions tn billionen billones", 12),
];

/// Magnitudes of scripts without spaces.
const MAGNITUDE_SIGNS: &[(&str, i64)] = &[
    ("万亿 兆", 12),
    ("亿 億 억", 8),
    ("ล้าน", 6),
    ("แสน", 5),
    ("万 萬 만 หมื่น", 4),
    ("千 천 พัน", 3),
    ("百 백 ร้อย", 2),
];

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
