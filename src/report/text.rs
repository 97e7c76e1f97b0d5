//! Escaping of untrusted text for a page, a table or a file: invisible characters are made visible
//! first, then the text is escaped for its destination.
//!
//! Contract: total. The result cannot end its element, cell or value, hide, or change the reading
//! direction.

use std::borrow::Cow;
use std::fmt::Write;

/// Writes invisible and directional characters as `\u{202e}`: control characters except newline and
/// tab, direction marks, zero-width characters, tags. Joiners stay, because scripts and emoji need
/// them.
pub fn reveal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_hidden(c) {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The first `most` characters, with an ellipsis if there are more.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// The first names of a list, and how many more there are.
pub fn listed(names: &[String]) -> String {
    const FIRST: usize = 5;
    let shown: Vec<&str> = names.iter().take(FIRST).map(String::as_str).collect();
    match names.len().saturating_sub(FIRST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Escapes for element text, or an attribute in double quotes, of HTML or XML.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in reveal(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in XML.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Escapes JSON for a script block: no `<` could end it, and no `>` or `&` is left for another
/// parser.
pub fn json_in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Escapes for a cell of a Markdown table: one line without markup.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in reveal(text).chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '|' | '*' | '_' | '[' | ']' | '#' | '~' | '!' | '$' | '@' => {
                out.push('\\');
                out.push(c);
            }
            // Otherwise many renderers make links.
            ':' => out.push_str("&#58;"),
            c => out.push(c),
        }
    }
    out
}

/// Free text for a cell of a CSV file; text that a spreadsheet would run as a formula gets an
/// apostrophe in front (OWASP, CSV injection).
pub fn csv(text: &str) -> Cow<'_, str> {
    let risky = text.starts_with([
        '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
    ]);
    if risky { Cow::Owned(format!("'{}", reveal(text))) } else { reveal(text) }
}

/// A number with this many decimals, and zero without a sign.
pub fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.starts_with('-') && text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.')) {
        text.replacen('-', "", 1)
    } else {
        text
    }
}
