//! Text on its way to a terminal: made harmless, colored by uncertainty, wrapped to a width.
//!
//! Text from a model may carry escape sequences that move the cursor, rewrite the screen, fill the
//! clipboard (OSC 52) or turn the reading direction; none of them may reach the terminal. All
//! functions are pure: nothing is printed, no environment is read.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::error::{Error, Result};

/// An escape sequence longer than this is taken for text, so that a lost end hides no more than the
/// two characters that open it.
const MAX_SEQUENCE: usize = 4096;
/// Upper bounds in nats of all levels of uncertainty but the last: a coin's toss has ln 2 = 0.69,
/// one of four ln 4 = 1.39, one of ten ln 10 = 2.3.
const LEVELS: [f64; 5] = [0.1, 0.35, 0.7, 1.4, 2.3];
/// One color of the 256 per level, from blue (sure) through gray to orange (unsure). Blue and
/// orange differ in all common forms of color blindness, and all six are of middle lightness,
/// legible on black and on white.
const RAMP: [u8; 6] = [33, 69, 104, 139, 173, 208];
/// The first level that is marked with brackets when there are no colors.
const MARKED: usize = 3;
const TAB: &str = "    ";
const RESET: &str = "\x1b[0m";

/// Makes untrusted text harmless for a terminal. Complete escape sequences (CSI, OSC, DCS, SOS, PM,
/// APC, and shorter ones; with ESC or as C1 characters) are taken out. Every other control
/// character but newline and tab, and the characters that override the reading direction, are shown
/// as `\x07` or `\u{202e}`. A carriage return before a newline is dropped.
///
/// The result is harmless whatever stands before and after it, so a stream may be sanitized in
/// pieces.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        rest = after;
        if !is_dangerous(c) {
            clean.push(c);
        } else if let Some(length) = sequence(c, after) {
            rest = after.get(length..).unwrap_or_default();
        } else if c != '\r' || !after.starts_with('\n') {
            clean.push_str(&escaped(c));
        }
    }
    Cow::Owned(clean)
}

fn is_dangerous(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(c: char) -> String {
    match c {
        '\r' => "\\r".to_owned(),
        c if u32::from(c) < 0x100 => format!("\\x{:02x}", u32::from(c)),
        c => format!("\\u{{{:x}}}", u32::from(c)),
    }
}

/// The length in bytes of what follows `introducer` in a complete escape sequence (ECMA-48); `None`
/// if there is none.
fn sequence(introducer: char, after: &str) -> Option<usize> {
    let (kind, skipped) = match introducer {
        '\u{1b}' => (after.chars().next()?, 1),
        c @ '\u{80}'..='\u{9f}' => (char::from_u32(u32::from(c) - 0x40)?, 0),
        _ => return None,
    };
    let body = after.get(skipped..)?;
    match kind {
        '[' => control_sequence(body),
        ']' | 'P' | 'X' | '^' | '_' => control_string(body),
        // Intermediate bytes and a final one, such as a choice of character set.
        ' '..='/' if skipped == 1 => {
            let end = after.find(|c| !matches!(c, ' '..='/'))?;
            after.get(end..)?.starts_with(|c| matches!(c, '0'..='~')).then_some(end + 1)
        }
        '0'..='~' if skipped == 1 => Some(1),
        _ => None,
    }
    .map(|length| {
        if matches!(kind, '[' | ']' | 'P' | 'X' | '^' | '_') { length + skipped } else { length }
    })
}

/// Parameters, intermediates and the final byte.
fn control_sequence(body: &str) -> Option<usize> {
    let end = body.bytes().take(MAX_SEQUENCE).position(|byte| !matches!(byte, b' '..=b'?'))?;
    body.as_bytes().get(end).is_some_and(|byte| matches!(byte, b'@'..=b'~')).then_some(end + 1)
}

/// Up to and with BEL, ST or the C1 form of ST, on the same line.
fn control_string(body: &str) -> Option<usize> {
    let near = body.char_indices().take_while(|&(at, c)| at < MAX_SEQUENCE && c != '\n');
    for (at, c) in near {
        match c {
            '\u{7}' | '\u{9c}' => return Some(at + c.len_utf8()),
            '\u{1b}' if body.get(at + 1..)?.starts_with('\\') => return Some(at + 2),
            '\u{1b}' => return None,
            _ => {}
        }
    }
    None
}

/// The `--color` flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorChoice {
    /// If the output is a color terminal and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Colors even without a terminal.
    Always,
    /// No colors.
    Never,
}

impl ColorChoice {
    /// Whether to color. `no_color` is the variable `NO_COLOR` (any non-empty
    /// text disables color, see no-color.org), `term` the variable `TERM`; the flag overrides both.
    pub fn enabled(self, no_color: Option<&str>, term: Option<&str>, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && no_color.is_none_or(str::is_empty) && term != Some("dumb"),
        }
    }
}

impl fmt::Display for ColorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

impl FromStr for ColorChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(Error::usage(format!("color is {text:?}; it must be auto, always or never"))),
        }
    }
}

/// The level of uncertainty of an entropy in nats: 0 (sure) to 5. NaN counts as unsure.
pub fn uncertainty_level(entropy_nats: f64) -> usize {
    LEVELS.iter().position(|bound| entropy_nats < *bound).unwrap_or(LEVELS.len())
}

/// A token's text, sanitized, in the color of its entropy; see [`shade_tokens`], which also wraps.
pub fn shade(text: &str, entropy_nats: f64, color: bool) -> String {
    shade_tokens([(text, entropy_nats)], color, usize::MAX)
}

/// The texts of tokens, sanitized and wrapped to `width`, each in the color of its entropy in
/// nats; without color, those from 0.7 nats on stand in brackets. White space at the ends of a
/// token is left as it is.
pub fn shade_tokens<'a>(
    tokens: impl IntoIterator<Item = (&'a str, f64)>,
    color: bool,
    width: usize,
) -> String {
    let mut cells: Vec<(char, Option<u8>)> = Vec::new();
    for (text, entropy_nats) in tokens {
        token_cells(
            &sanitize(text).replace('\t', TAB),
            uncertainty_level(entropy_nats),
            color,
            &mut cells,
        );
    }
    let plain: String = cells.iter().map(|(c, _)| c).collect();
    let mut cells = cells.into_iter().peekable();
    let mut shown = String::with_capacity(plain.len() * 2);
    let mut current = None;
    for c in wrap(&plain, width).chars() {
        // At a line break made by wrapping, the spaces before it were dropped.
        let broken = c == '\n' && cells.peek().is_some_and(|&(next, _)| next != '\n');
        while broken && cells.next_if(|&(next, _)| next == ' ').is_some() {}
        let code = if broken { None } else { cells.next().and_then(|(_, code)| code) };
        if code != current {
            shown.push_str(if current.is_some() { RESET } else { "" });
            shown.push_str(&code.map_or(String::new(), foreground));
            current = code;
        }
        shown.push(c);
    }
    shown.push_str(if current.is_some() { RESET } else { "" });
    shown
}

fn token_cells(text: &str, level: usize, color: bool, cells: &mut Vec<(char, Option<u8>)>) {
    let core = text.trim();
    let start = text.len() - text.trim_start().len();
    let end = start + core.len();
    let code = RAMP.get(level).copied().filter(|_| color && !core.is_empty());
    let marked = !color && level >= MARKED && !core.is_empty();
    cells.extend(text.get(..start).unwrap_or_default().chars().map(|c| (c, None)));
    cells.extend(marked.then_some(('[', None)));
    cells.extend(core.chars().map(|c| (c, code)));
    cells.extend(marked.then_some((']', None)));
    cells.extend(text.get(end..).unwrap_or_default().chars().map(|c| (c, None)));
}

fn foreground(code: u8) -> String {
    format!("\x1b[38;5;{code}m")
}

/// One line that explains [`shade_tokens`].
pub fn shade_legend(color: bool) -> String {
    let last = LEVELS.len() - 1;
    if !color {
        return format!(
            "[in brackets] = drawn at an entropy of at least {} nats",
            LEVELS[MARKED - 1]
        );
    }
    let bounds = LEVELS
        .iter()
        .map(|bound| format!("< {bound}"))
        .chain([format!("at least {}", LEVELS[last])]);
    let parts: Vec<String> = bounds
        .zip(RAMP)
        .map(|(bound, code)| format!("{}{bound}{RESET}", foreground(code)))
        .collect();
    format!("entropy in nats: {}", parts.join("  "))
}

/// Wraps sanitized text to `width` columns (at least 1): lines break at spaces, and words longer
/// than a line anywhere. Line breaks in the text and the spaces at the start of a line stay; tabs
/// become four spaces; wide characters count two columns.
pub fn wrap(text: &str, width: usize) -> String {
    let lines: Vec<String> =
        text.split('\n').map(|line| wrap_line(&line.replace('\t', TAB), width.max(1))).collect();
    lines.join("\n")
}

fn wrap_line(line: &str, width: usize) -> String {
    let mut wrapped = String::with_capacity(line.len() + line.len() / width);
    let mut column = 0;
    let mut gap = "";
    for word in line.split_inclusive(' ') {
        let (word, space) = word.strip_suffix(' ').map_or((word, ""), |word| (word, " "));
        let start = wrapped.len() - gap.len();
        if !word.is_empty()
            && column > 0
            && column + word.width() > width
            && !wrapped.get(..start).unwrap_or_default().trim().is_empty()
        {
            wrapped.truncate(wrapped.trim_end_matches(' ').len());
            wrapped.push('\n');
            column = 0;
        }
        for c in word.chars().chain(space.chars()) {
            let columns = c.width().unwrap_or(0);
            if column + columns > width && c != ' ' && column > 0 {
                wrapped.push('\n');
                column = 0;
            }
            wrapped.push(c);
            column += columns;
        }
        gap = space;
    }
    wrapped
}

/// Cuts `text` to `width` columns, with `ellipsis` at the end if anything was cut.
pub fn fit<'a>(text: &'a str, width: usize, ellipsis: &str) -> Cow<'a, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let room = width.saturating_sub(ellipsis.width());
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if short.width() > room {
            short.pop();
            break;
        }
    }
    if ellipsis.width() <= width {
        short.push_str(ellipsis);
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let check = |text: &str, expected: &str| assert_eq!(sanitize(text), expected, "{text:?}");
        check(
            "plain\n\ttext é 你 😀 \u{200d} \u{200f}שלום",
            "plain\n\ttext é 你 😀 \u{200d} \u{200f}שלום",
        );
        check("\x1b[31mred\x1b[0m", "red");
        check("a\x1b[2J\x1b[1;1Hb\x1b[?25l\x1b[38:5:1m", "ab");
        check("\x1b]52;c;ZXZpbA==\x07x", "x");
        check("\x1b]0;title\x1b\\x\x1b]8;;http://e/\x1b\\link\x1b]8;;\x1b\\", "xlink");
        check("\x1bPq#0\x1b\\a\x1b_k\x1b\\b\x1b^p\x1b\\c\x1bXs\x1b\\d", "abcd");
        check("\u{9b}31mred\u{9d}0;t\u{9c}x\u{90}q\u{9c}y", "redxy");
        check("\x1b(0lqk\x1bc\x1b7\x1b#8", "lqk");
        check(
            "bell\x07 back\x08 del\x7f nul\0 nel\u{85}",
            "bell\\x07 back\\x08 del\\x7f nul\\x00 nel\\x85",
        );
        check("a\r\nb\rc\x0b\x0c", "a\nb\\rc\\x0b\\x0c");
        check("\u{202e}txt.exe\u{2066}", "\\u{202e}txt.exe\\u{2066}");
        // A sequence that never ends hides nothing but its own opening.
        check("\x1b]0;lost answer", "\\x1b]0;lost answer");
        check("\x1b]0;lost\nanswer\x07", "\\x1b]0;lost\nanswer\\x07");
        check("\x1b[12", "\\x1b[12");
        check("\x1b[1\x1b[2Jx", "\\x1b[1x");
        check("\x1b", "\\x1b");
        check("\x1b\x1b[31m", "\\x1b");
        check("\x1bé\x1b[é", "\\x1bé\\x1b[é");
        let long = format!("\x1b]0;{}\x07", "x".repeat(MAX_SEQUENCE));
        assert_eq!(sanitize(&long), format!("\\x1b]0;{}\\x07", "x".repeat(MAX_SEQUENCE)));
    }

    #[test]
    fn sanitizing_twice_changes_nothing() {
        let parts = [
            "\x1b", "[", "]", "31m", "\x07", "\\", "P", "\u{9b}", "\u{9c}", "x", "\r", "\n", "(",
            "é", "\u{202e}",
        ];
        for a in parts {
            for b in parts {
                for c in parts {
                    for d in parts {
                        let text = [a, b, c, d].concat();
                        let once = sanitize(&text).into_owned();
                        assert!(!once.chars().any(is_dangerous), "{text:?}");
                        assert_eq!(sanitize(&once), once);
                    }
                }
            }
        }
    }

    #[test]
    fn color_is_decided_by_flag_then_environment_then_terminal() {
        let check = |choice: &str,
                     no_color: Option<&str>,
                     term: Option<&str>,
                     is_terminal: bool,
                     expected: bool| {
            let choice: ColorChoice = choice.parse().unwrap();
            assert_eq!(
                choice.enabled(no_color, term, is_terminal),
                expected,
                "{choice} {no_color:?} {term:?} {is_terminal}"
            );
        };
        check("auto", None, Some("xterm"), true, true);
        check("auto", None, None, false, false);
        check("auto", Some("1"), None, true, false);
        check("auto", Some(""), None, true, true);
        check("auto", None, Some("dumb"), true, false);
        check("always", Some("1"), Some("dumb"), false, true);
        check("never", None, None, true, false);
        assert!(
            "yes".parse::<ColorChoice>().unwrap_err().to_string().contains("auto, always or never")
        );
    }

    #[test]
    fn shades_rise_with_entropy() {
        let levels: Vec<usize> =
            [0.0, 0.1, 0.5, 0.69, 0.7, 1.5, 2.3, 12.0, f64::NAN].map(uncertainty_level).to_vec();
        assert_eq!(levels, [0, 1, 2, 2, 3, 4, 5, 5, 5]);
        assert!(shade_legend(true).contains("208m") && shade_legend(false).contains("0.7 nats"));
    }

    #[test]
    fn tokens_are_colored_marked_and_wrapped() {
        assert_eq!(shade(" Lyon\n", 3.0, true), " \x1b[38;5;208mLyon\x1b[0m\n");
        assert_eq!(shade("\x1b[2J\x07", 3.0, false), "[\\x07]");
        let check = |tokens: &[(&str, f64)], color: bool, width: usize, expected: &str| {
            assert_eq!(shade_tokens(tokens.iter().copied(), color, width), expected, "{tokens:?}");
        };
        check(&[], true, 10, "");
        check(
            &[("Par", 0.0), ("is", 0.0), (" or", 3.0)],
            true,
            80,
            "\x1b[38;5;33mParis\x1b[0m \x1b[38;5;208mor\x1b[0m",
        );
        check(&[("Par", 0.0), ("is", 0.0), (" or", 3.0), (" \n", 3.0)], false, 80, "Paris [or] \n");
        check(&[("the", 0.0), (" capital", 3.0), (" of", 0.0)], false, 10, "the\n[capital]\nof");
        check(
            &[("a", 0.2), ("  b\n", 0.2), ("c", 0.2)],
            true,
            2,
            "\x1b[38;5;69ma\x1b[0m\n\x1b[38;5;69mb\x1b[0m\n\x1b[38;5;69mc\x1b[0m",
        );
        check(&[("abcdef", 0.0)], true, 4, "\x1b[38;5;33mabcd\x1b[0m\n\x1b[38;5;33mef\x1b[0m");
        // A sequence cut in two by the tokens is as harmless as a whole one.
        check(&[("\x1b", 0.0), ("[2J", 0.0), ("\x1b]0;t\x07", 9.0)], false, 80, "\\x1b[2J");
        check(&[("\tx", 9.0)], false, 80, "    [x]");
    }

    #[test]
    fn wrapping_counts_columns() {
        let check = |text: &str, width: usize, expected: &str| {
            let wrapped = wrap(text, width);
            assert_eq!(wrapped, expected, "{text:?} {width}");
        };
        check("", 10, "");
        check("the capital of France", 11, "the capital\nof France");
        check("the capital of France", 10, "the\ncapital of\nFrance");
        check("a\n\nb\n", 10, "a\n\nb\n");
        check("abcdefgh", 3, "abc\ndef\ngh");
        check("x abcdefgh", 3, "x\nabc\ndef\ngh");
        check("你好世界", 5, "你好\n世界");
        check("  - item one two", 12, "  - item one\ntwo");
        check("\tx", 10, "    x");
        check("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}e\u{301}\ne\u{301}");
        check("你", 1, "你");
        check("ab", 0, "a\nb");
    }

    #[test]
    fn fitting_cuts_at_columns() {
        let check = |text: &str, width: usize, expected: &str| {
            assert_eq!(fit(text, width, "…"), expected, "{text} {width}");
        };
        check("Paris", 5, "Paris");
        check("Paris", 4, "Par…");
        check("你好世界", 5, "你好…");
        check("你好世界", 4, "你…");
        check("Paris", 1, "…");
        check("Paris", 0, "");
        assert_eq!(fit("Paris!", 5, "..."), "Pa...");
    }
}
