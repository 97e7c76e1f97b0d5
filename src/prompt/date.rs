//! The date that a chat template gets.
//!
//! A calendar day as an argument, and Python's `strftime` of it in English. This file never reads
//! the clock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A day of the Gregorian calendar, for a template's `strftime_now`.
///
/// It is an argument rather than the clock, because the date becomes part of the prompt: otherwise
/// the same seed would give another answer tomorrow, and a calibration made today would not apply.
/// The default is the default date of Meta's Llama 3 templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date {
    year: i32,
    month: u32,
    day: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Default for Date {
    fn default() -> Self {
        Self { year: 2024, month: 7, day: 26 }
    }
}

impl Date {
    /// The day `year`-`month`-`day`, years 1 to 9999; `None` if it does not exist.
    pub fn new(year: i32, month: u32, day: u32) -> Option<Self> {
        let valid = (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && day >= 1
            && day <= days_in_month(year, month);
        valid.then_some(Self { year, month, day })
    }

    /// The day of the year, 1 to 366.
    fn day_of_year(self) -> u32 {
        (1..self.month).map(|month| days_in_month(self.year, month)).sum::<u32>() + self.day
    }

    /// Monday is 0 (Sakamoto's method counts from Sunday).
    fn weekday(self) -> usize {
        const OFFSETS: [i32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 { self.year - 1 } else { self.year };
        let offset = OFFSETS.get(self.month as usize - 1).copied().unwrap_or(0);
        ((year + year / 4 - year / 100 + year / 400 + offset + self.day as i32 + 6) % 7) as usize
    }

    fn month_name(self) -> &'static str {
        MONTHS.get(self.month as usize - 1).copied().unwrap_or("")
    }

    /// Python's `strftime` at midnight, for the codes that apply to a day; `None` for another
    /// code.
    pub(super) fn strftime(self, format: &str) -> Option<String> {
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let code = chars.next()?;
            let (plain, code) = if code == '-' { (true, chars.next()?) } else { (false, code) };
            text.push_str(&self.code(code, plain)?);
        }
        Some(text)
    }

    fn code(self, code: char, plain: bool) -> Option<String> {
        let number = |value: u32, width: usize| {
            if plain { value.to_string() } else { format!("{value:0width$}") }
        };
        let weekday = WEEKDAYS.get(self.weekday()).copied().unwrap_or("");
        Some(match code {
            'Y' => format!("{:04}", self.year),
            'y' => number(self.year as u32 % 100, 2),
            'm' => number(self.month, 2),
            'd' => number(self.day, 2),
            'e' => format!("{:2}", self.day),
            'j' => number(self.day_of_year(), 3),
            'B' => self.month_name().to_owned(),
            'b' | 'h' => self.month_name().chars().take(3).collect(),
            'A' => weekday.to_owned(),
            'a' => weekday.chars().take(3).collect(),
            'F' => self.to_string(),
            'H' | 'M' | 'S' => number(0, 2),
            'I' => number(12, 2),
            'p' => "AM".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Date {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fields: Option<Vec<u32>> = text.split('-').map(|field| field.parse().ok()).collect();
        match fields.as_deref() {
            Some([year, month, day]) => Self::new(i32::try_from(*year).unwrap_or(0), *month, *day),
            _ => None,
        }
        .ok_or_else(|| Error::usage(format!("{text:?} is no date; write one as 2024-07-26")))
    }
}

impl TryFrom<String> for Date {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |text: &str, expected: Option<&str>| {
            let date: Option<Date> = text.parse().ok();
            assert_eq!(
                date.and_then(|date| date.strftime("%a %F %j")).as_deref(),
                expected,
                "{text}"
            );
        };
        // date -d DAY '+%a %F %j'
        check("2024-02-29", Some("Thu 2024-02-29 060"));
        check("2000-01-01", Some("Sat 2000-01-01 001"));
        check("2026-12-31", Some("Thu 2026-12-31 365"));
        check("1999-3-7", Some("Sun 1999-03-07 066"));
        for text in [
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-04-31",
            "today",
            "",
            "2024-1",
            "99999-01-01",
        ] {
            check(text, None);
        }
    }
}
