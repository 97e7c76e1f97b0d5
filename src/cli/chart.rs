//! Shares as horizontal bars, for a terminal of any width, with or without Unicode.
//!
//! One line per row: label, bar, value. Pure functions from numbers to text.

use unicode_width::UnicodeWidthStr;

use super::terminal::{fit, sanitize};

/// Parts of a character cell, from an eighth to seven eighths.
const EIGHTHS: [&str; 7] = ["▏", "▎", "▍", "▌", "▋", "▊", "▉"];
/// The narrowest bar that is drawn, and the widest one, in columns.
const BAR_COLUMNS: std::ops::RangeInclusive<usize> = 4..=40;

/// One row of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar<'a> {
    /// Untrusted text; it is sanitized, put on one line and cut to fit.
    pub label: &'a str,
    /// Length of the bar as a share of the whole, clamped to 0 to 1.
    pub share: f64,
    /// Text after the bar, such as `7 of 8`.
    pub value: String,
}

/// How a chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChartStyle {
    /// Columns of the terminal. Lines are no longer than this wherever labels and bars can be cut.
    pub width: usize,
    /// Draw with block characters in eighths of a column; otherwise with `#`.
    pub unicode: bool,
}

impl Default for ChartStyle {
    fn default() -> Self {
        Self { width: 80, unicode: true }
    }
}

/// The lines of the chart, without line breaks. Labels and values stand in columns; a bar has the
/// whole length at share 1; any share above 0 shows something.
pub fn bars(rows: &[Bar<'_>], style: ChartStyle) -> Vec<String> {
    let labels: Vec<String> = rows.iter().map(|row| one_line(row.label)).collect();
    let values = rows.iter().map(|row| row.value.width()).max().unwrap_or(0);
    let longest = labels.iter().map(|label| label.width()).max().unwrap_or(0);
    // Two spaces on each side of the bar; labels get what the shortest bar leaves, and at most half
    // of it all.
    let free = style.width.saturating_sub(values + 4);
    let label_columns =
        longest.min(free.saturating_sub(*BAR_COLUMNS.start()).min(style.width / 2)).max(1);
    let bar_columns =
        free.saturating_sub(label_columns).clamp(*BAR_COLUMNS.start(), *BAR_COLUMNS.end());
    let ellipsis = if style.unicode { "…" } else { "..." };
    let line = |(row, label): (&Bar<'_>, &String)| {
        let label = fit(label, label_columns, ellipsis);
        let bar = bar(row.share, bar_columns, style.unicode);
        format!("{}  {}  {}", padded(&label, label_columns), padded(&bar, bar_columns), row.value)
            .trim_end()
            .to_owned()
    };
    rows.iter().zip(&labels).map(line).collect()
}

fn one_line(label: &str) -> String {
    sanitize(label).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text.width())))
}

fn bar(share: f64, columns: usize, unicode: bool) -> String {
    let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
    let steps = if unicode { 8 } else { 1 };
    let exact = share * (columns * steps) as f64;
    let units = if exact > 0.0 { (exact.round() as usize).max(1) } else { 0 };
    if !unicode {
        return "#".repeat(units);
    }
    let part =
        (units % 8).checked_sub(1).and_then(|index| EIGHTHS.get(index)).copied().unwrap_or("");
    format!("{}{part}", "█".repeat(units / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[(&str, f64, &str)], style: ChartStyle, expected: &[&str]) {
        let rows: Vec<Bar<'_>> = rows
            .iter()
            .map(|&(label, share, value)| Bar { label, share, value: value.to_owned() })
            .collect();
        let lines = bars(&rows, style);
        assert_eq!(lines, expected);
        assert!(lines.iter().all(|line| line.width() <= style.width), "{lines:?}");
    }

    #[test]
    fn shares_become_lengths() {
        let rows =
            [("Paris", 0.75, "6 of 8"), ("Lyon", 0.125, "1 of 8"), ("(unparsed)", 0.0, "0 of 8")];
        let unicode = [
            "Paris       ███████▌    6 of 8",
            "Lyon        █▎          1 of 8",
            "(unparsed)              0 of 8",
        ];
        check(&rows, ChartStyle { width: 30, unicode: true }, &unicode);
        let ascii = [
            "Paris       ########    6 of 8",
            "Lyon        #           1 of 8",
            "(unparsed)              0 of 8",
        ];
        check(&rows, ChartStyle { width: 30, unicode: false }, &ascii);
        check(&[], ChartStyle::default(), &[]);
        check(&[("a", 1.0, "")], ChartStyle::default(), &[&format!("a  {}", "█".repeat(40))]);
    }

    #[test]
    fn wide_and_long_labels_keep_the_columns() {
        let style = ChartStyle { width: 24, unicode: true };
        check(
            &[("東京", 0.5, "1"), ("Llanfairpwllgwyngyll", 0.5, "1"), ("e\u{301}", 1.0, "1")],
            style,
            &[
                "東京          ███▌     1",
                "Llanfairpwl…  ███▌     1",
                "e\u{301}             ███████  1",
            ],
        );
        let style = ChartStyle { width: 24, unicode: false };
        check(&[("Llanfairpwllgwyngyll", 0.5, "1")], style, &["Llanfairp...  ####     1"]);
    }

    #[test]
    fn hostile_labels_and_odd_numbers_are_harmless() {
        let style = ChartStyle { width: 40, unicode: false };
        let rows = [
            ("a\x1b[2J\nb\tc", f64::NAN, "x"),
            ("d", 7.0, "y"),
            ("e", -1.0, "z"),
            ("f", 1e-9, "t"),
            ("g", f64::INFINITY, "u"),
        ];
        let (full, none) = ("#".repeat(30), " ".repeat(30));
        let expected = [
            format!("a b c  {none}  x"),
            format!("d      {full}  y"),
            format!("e      {none}  z"),
            format!("f      #{}  t", " ".repeat(29)),
            format!("g      {full}  u"),
        ];
        check(&rows, style, &expected.each_ref().map(String::as_str));
    }

    #[test]
    fn a_terminal_without_room_still_gets_lines() {
        for width in 0..14 {
            for unicode in [true, false] {
                let lines = bars(
                    &[Bar { label: "Paris", share: 0.5, value: "1/2".to_owned() }],
                    ChartStyle { width, unicode },
                );
                assert!(
                    lines.iter().all(|line| line.ends_with("1/2") && line.width() <= 14),
                    "{width} {lines:?}"
                );
            }
        }
    }
}
