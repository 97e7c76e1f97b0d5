//! Quantities: a number with a unit or a currency, in one form each.
//!
//! Contract: total. A known unit is reduced exactly to the base unit of its dimension: `1.5 km` is
//! `1500 m`. Case counts in symbols (`mW` is not `MW`), not in names. A unit that means several
//! things (`pounds`, `tons`, `gallons`) and any other word stay words, singular: `8 legs` is
//! `8 leg`. The input is folded plain text that holds nothing else.

use super::number::{self, Number, Ratio};
use super::words::List;

/// A canonical form, and the form of its number alone.
pub(super) struct Quantity {
    pub canonical: String,
    pub bare: Option<String>,
}

/// Currencies by code: signs and names, lower case.
const CURRENCIES: &[(&str, &str)] = &[
    ("usd", "us$ $ usd dollar dollars dólares dollari"),
    ("eur", "€ eur euro euros"),
    ("gbp", "£ gbp"),
    ("inr", "₹ inr rupee rupees"),
    ("krw", "₩ krw"),
    ("rub", "₽ rub ruble rubles rouble roubles рублей руб"),
    ("jpy", "円 jpy yen"),
    ("cny", "元 cny rmb yuan"),
    ("chf", "chf"),
    ("aud", "a$ aud"),
    ("cad", "c$ cad"),
    ("cent", "¢ cent cents"),
    // Yen or yuan.
    ("¥", "¥"),
];

/// Units by name, in lower case: the base unit, and its size as a fraction.
const NAMES: &[(&str, &str, i128, i128)] = &[
    ("meter meters metre metres", "m", 1, 1),
    ("kilometer kilometers kilometre kilometres kms", "m", 1000, 1),
    ("centimeter centimeters centimetre centimetres", "m", 1, 100),
    ("millimeter millimeters millimetre millimetres", "m", 1, 1000),
    ("inch inches in", "m", 127, 5000),
    ("foot feet ft", "m", 381, 1250),
    ("yard yards yd", "m", 1143, 1250),
    ("mile miles mi", "m", 201168, 125),
    ("gram grams", "g", 1, 1),
    ("kilogram kilograms kgs", "g", 1000, 1),
    ("milligram milligrams", "g", 1, 1000),
    ("tonne tonnes", "g", 1_000_000, 1),
    ("lb lbs", "g", 45_359_237, 100_000),
    ("oz ounce ounces", "g", 45_359_237, 1_600_000),
    ("sec secs second seconds", "s", 1, 1),
    ("millisecond milliseconds", "s", 1, 1000),
    ("min mins minute minutes", "s", 60, 1),
    ("h hr hrs hour hours", "s", 3600, 1),
    ("day days", "s", 86_400, 1),
    ("week weeks", "s", 604_800, 1),
    ("liter liters litre litres", "m^3", 1, 1000),
    ("milliliter milliliters millilitre millilitres", "m^3", 1, 1_000_000),
    ("hectare hectares ha", "m^2", 10_000, 1),
    ("mph", "m/s", 1397, 3125),
    ("kmh kph", "m/s", 5, 18),
    ("joule joules", "J", 1, 1),
    ("kilojoule kilojoules", "J", 1000, 1),
    ("watt watts", "W", 1, 1),
    ("kilowatt kilowatts", "W", 1000, 1),
    ("megawatt megawatts", "W", 1_000_000, 1),
    ("milliwatt milliwatts", "W", 1, 1000),
    ("volt volts", "V", 1, 1),
    ("ampere amperes amp amps", "A", 1, 1),
    ("newton newtons", "N", 1, 1),
    ("pascal pascals", "Pa", 1, 1),
    ("hertz", "Hz", 1, 1),
    ("ohm ohms", "Ω", 1, 1),
    ("byte bytes", "B", 1, 1),
    ("bit bits", "bit", 1, 1),
    ("kilobyte kilobytes", "kB", 1, 1),
    ("megabyte megabytes", "MB", 1, 1),
    ("gigabyte gigabytes", "GB", 1, 1),
    ("terabyte terabytes", "TB", 1, 1),
    ("celsius °c", "°C", 1, 1),
    ("fahrenheit °f", "°F", 1, 1),
    ("kelvin kelvins", "K", 1, 1),
    ("degree degrees deg °", "°", 1, 1),
];

/// Units by symbol that take the prefixes of the metric system.
const METRIC: List = List("m|g|s|J|W|V|A|N|Pa|Hz|eV|mol|Ω|cal");
const PREFIXES: &[(char, u32, bool)] = &[
    ('n', 9, false),
    ('μ', 6, false),
    ('m', 3, false),
    ('c', 2, false),
    ('d', 1, false),
    ('k', 3, true),
    ('M', 6, true),
    ('G', 9, true),
    ('T', 12, true),
];

/// Symbols that stay as they are: what a kilobyte counts is not agreed on.
const PLAIN: &[(&str, &str)] = &[
    ("B", "B"),
    ("kB", "kB"),
    ("KB", "kB"),
    ("MB", "MB"),
    ("GB", "GB"),
    ("TB", "TB"),
    ("kb", "kb"),
    ("Mb", "Mb"),
    ("Gb", "Gb"),
    ("K", "K"),
    ("bit", "bit"),
    ("‰", "‰"),
];

/// The quantity that a text is.
pub(super) fn quantity(text: &str) -> Option<Quantity> {
    if text.len() > 120 || !text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    money(text).or_else(|| measured(text))
}

fn currency(word: &str) -> Option<&'static str> {
    let word = word.trim().to_lowercase();
    let found = CURRENCIES.iter().find(|(_, names)| names.split(' ').any(|name| name == word));
    found.map(|(code, _)| *code)
}

fn money(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    let digit = unsigned.find(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'))?;
    let (front, rest) = unsigned.split_at(digit);
    let front = if front.trim().is_empty() { None } else { Some(currency(front)?) };
    let signed = if negative { format!("-{rest}") } else { rest.to_owned() };
    let (number, rest) = number::leading_number(&signed)?;
    let back = if rest.trim().is_empty() { None } else { Some(currency(&rest)?) };
    let code = match (front, back) {
        (Some(code), None) | (None, Some(code)) => code,
        (Some(front), Some(back)) if front == back => front,
        _ => return None,
    };
    let value = number.canonical();
    number.is_exact().then(|| Quantity {
        canonical: format!("{value} {code}"),
        // 50 cents may stand for half a dollar.
        bare: (code != "cent").then_some(value),
    })
}

fn measured(text: &str) -> Option<Quantity> {
    let (number, rest) = number::leading_number(text)?;
    if !number.is_exact() || rest.is_empty() {
        return None;
    }
    if let Some((base, size)) = unit(rest.trim(), true) {
        let value = number.ratio()?.times(size)?;
        return Some(Quantity {
            canonical: format!("{} {base}", number::ratio_form(value)),
            bare: Some(number.canonical()),
        });
    }
    counted(&number, &rest)
}

/// The base unit and the size of a unit; `compound` allows powers and quotients.
fn unit(text: &str, compound: bool) -> Option<(String, Ratio)> {
    if text.is_empty() || text.len() > 40 {
        return None;
    }
    let whole = Ratio::new(1, 1)?;
    let lower = text.to_lowercase();
    if let Some((_, base)) = PLAIN.iter().find(|(symbol, _)| *symbol == text) {
        return Some(((*base).to_owned(), whole));
    }
    let named = NAMES.iter().find(|(names, ..)| names.split(' ').any(|name| name == lower));
    if let Some((_, base, top, bottom)) = named {
        return Some(((*base).to_owned(), Ratio::new(*top, *bottom)?));
    }
    if let Some(found) = metric(text) {
        return Some(found);
    }
    if let Some(scale) = lower.strip_prefix("degrees ").or_else(|| lower.strip_prefix("degree ")) {
        return unit(scale, false).filter(|(base, _)| base.starts_with('°'));
    }
    if !compound {
        return None;
    }
    let power = |rest: &str, power: u32| {
        let (base, size) = unit(rest.trim(), false).filter(|(base, _)| base == "m")?;
        let size = (1..power).try_fold(size, |product, _| product.times(size))?;
        Some((format!("{base}^{power}"), size))
    };
    for (front, back, exponent) in [("square ", "^2", 2), ("sq ", "2", 2), ("cubic ", "^3", 3)] {
        if let Some(rest) = lower.strip_prefix(front).or_else(|| text.strip_suffix(back)) {
            return power(rest, exponent);
        }
    }
    let (length, time) = text.split_once('/').or_else(|| text.split_once(" per "))?;
    let (length, time) = (unit(length.trim(), false)?, unit(time.trim(), false)?);
    if length.0 != "m" || time.0 != "s" {
        return None;
    }
    Some(("m/s".to_owned(), length.1.over(time.1)?))
}

fn metric(text: &str) -> Option<(String, Ratio)> {
    // Sloppy spellings that can mean nothing else.
    let text = match text {
        "Km" | "KM" => "km",
        "Kg" | "KG" => "kg",
        "CM" => "cm",
        "um" => "μm",
        text => text,
    };
    let litre = |symbol: &str| matches!(symbol, "L" | "l");
    let base = |symbol: &str, size: Ratio| {
        if litre(symbol) {
            return Some(("m^3".to_owned(), size.times(Ratio::new(1, 1000)?)?));
        }
        METRIC.has(symbol).then(|| (symbol.to_owned(), size))
    };
    if let Some(found) = base(text, Ratio::new(1, 1)?) {
        return Some(found);
    }
    let mut chars = text.chars();
    let first = chars.next()?;
    let (_, power, up) = PREFIXES.iter().find(|(prefix, ..)| *prefix == first)?;
    let symbol = chars.as_str();
    if *power < 3 && !(litre(symbol) || matches!(symbol, "m" | "g")) {
        return None;
    }
    let scale = 10_i128.pow(*power);
    base(symbol, if *up { Ratio::new(scale, 1)? } else { Ratio::new(1, scale)? })
}

/// A number of things: one to three words in lower case that do not change its value.
fn counted(number: &Number, rest: &str) -> Option<Quantity> {
    const CHANGERS: List = List(
        "a|and|or|to|plus|minus|times|more|less|fewer|over|under|of|in|at|by|from|ago|bc|ad|bce\
         |am|pm|score|half|per|x|y|z|n",
    );
    let words: Vec<&str> = rest.split_whitespace().take(4).collect();
    let plain = |word: &&str| word.chars().all(char::is_lowercase) && !CHANGERS.has(word);
    if !rest.starts_with(' ') || !(1..=3).contains(&words.len()) || !words.iter().all(plain) {
        return None;
    }
    let written = &number.display;
    if written.contains('/') || written.trim_start_matches('-').starts_with('0') {
        return None;
    }
    let (last, head) = words.split_last()?;
    let value = if number.is_integer() && !written.contains('.') {
        number.canonical()
    } else {
        written.clone()
    };
    let mut canonical = value;
    for word in head.iter().copied().chain([singular(last).as_str()]) {
        canonical.push(' ');
        canonical.push_str(word);
    }
    Some(Quantity { canonical, bare: Some(number.canonical()) })
}

/// The singular of a regular English noun.
fn singular(word: &str) -> String {
    let sibilant = ["sses", "xes", "ches", "shes", "zzes"].iter().any(|end| word.ends_with(end));
    if sibilant {
        return word.strip_suffix("es").unwrap_or(word).to_owned();
    }
    if word.len() > 4
        && let Some(stem) = word.strip_suffix("ies")
    {
        return format!("{stem}y");
    }
    let regular = word.len() > 3 && !["ss", "us", "is"].iter().any(|end| word.ends_with(end));
    word.strip_suffix('s').filter(|_| regular).unwrap_or(word).to_owned()
}
