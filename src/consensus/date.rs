//! Dates and times of day in one form each.
//!
//! Contract: total. `January 5, 1990`, `5 Jan. 1990` and `1990-01-05` are `1990-01-05`; a day
//! without a year is `july 4`, a month `july 1990`, a time `5:30 pm`. `1/2/2020` means two days and
//! stays. The input is folded text that holds nothing else.

/// Names of the months: English, then other languages' and abbreviations.
const MONTHS: [&str; 12] = [
    "january jan januar janvier enero gennaio janeiro",
    "february feb februar février febrero febbraio fevereiro",
    "march mar märz mars marzo março",
    "april apr avril abril aprile",
    "may mai mayo maggio maio",
    "june jun juni juin junio giugno junho",
    "july jul juli juillet julio luglio julho",
    "august aug août agosto",
    "september sep sept septembre septiembre settembre setembro",
    "october oct oktober octobre octubre ottobre outubro",
    "november nov novembre noviembre novembro",
    "december dec dezember décembre diciembre dicembre dezembro",
];

/// The month of a name, from 0.
pub(super) fn month(word: &str) -> Option<usize> {
    let word = word.trim_end_matches('.').to_lowercase();
    MONTHS.iter().position(|names| names.split(' ').any(|name| name == word))
}

fn month_name(month: usize) -> &'static str {
    MONTHS.get(month).and_then(|names| names.split(' ').next()).unwrap_or_default()
}

/// The canonical form of a text that is a date or a time of day.
pub(super) fn date_or_time(text: &str) -> Option<String> {
    if text.len() > 40 || !text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    time(text).or_else(|| iso(text)).or_else(|| date(text))
}

fn date(text: &str) -> Option<String> {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| {
            !word.is_empty() && !matches!(*word, "the" | "of" | "de" | "The" | "le" | "el" | "den")
        })
        .collect();
    let (month, day, year) = match words.as_slice() {
        [a, b] => match (month(a), month(b)) {
            (Some(month), None) => match day(b) {
                Some(day) => (month, Some(day), None),
                None => (month, None, Some(year(b)?)),
            },
            (None, Some(month)) => (month, Some(day(a)?), None),
            _ => return None,
        },
        [a, b, c] => match month(a) {
            Some(month) => (month, Some(day(b)?), Some(year(c)?)),
            None => (month(b)?, Some(day(a)?), Some(year(c)?)),
        },
        _ => return None,
    };
    form(year, month, day)
}

fn form(year: Option<u32>, month: usize, day: Option<u32>) -> Option<String> {
    Some(match (year, day) {
        (Some(year), Some(day)) => format!("{year:04}-{:02}-{day:02}", month + 1),
        (None, Some(day)) => format!("{} {day}", month_name(month)),
        (Some(year), None) => format!("{} {year}", month_name(month)),
        (None, None) => return None,
    })
}

fn day(word: &str) -> Option<u32> {
    let digits = ["st", "nd", "rd", "th", "."].iter().find_map(|end| word.strip_suffix(end));
    let day = digits.unwrap_or(word).parse().ok()?;
    (1..=31).contains(&day).then_some(day)
}

fn year(word: &str) -> Option<u32> {
    let year = word.parse().ok()?;
    (1000..3000).contains(&year).then_some(year)
}

fn iso(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.splitn(4, '-').collect();
    let [year_part, month_part, day_part] = parts.as_slice() else { return None };
    if (year_part.len(), month_part.len(), day_part.len()) != (4, 2, 2) {
        return None;
    }
    let month = month_part.parse::<usize>().ok()?.checked_sub(1).filter(|month| *month < 12)?;
    form(Some(year(year_part)?), month, Some(day(day_part)?))
}

fn time(text: &str) -> Option<String> {
    let joined: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '.')
        .flat_map(char::to_lowercase)
        .collect();
    let half = ["am", "pm"].into_iter().find(|half| joined.ends_with(half))?;
    let clock = joined.strip_suffix(half)?;
    let (hour, minutes) = clock.split_once(':').unwrap_or((clock, "00"));
    let in_range = |part: &str, limit: u32| {
        part.chars().all(|c| c.is_ascii_digit()) && part.parse::<u32>().is_ok_and(|n| n <= limit)
    };
    if !in_range(hour, 12) || hour.len() > 2 || !in_range(minutes, 59) || minutes.len() != 2 {
        return None;
    }
    let short = hour.trim_start_matches('0');
    let hour = if short.is_empty() { "0" } else { short };
    let minutes = if minutes == "00" { String::new() } else { format!(":{minutes}") };
    Some(format!("{hour}{minutes} {half}"))
}
