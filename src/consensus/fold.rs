//! Unicode folding: one code point per meaning, before anything is read or compared.
//!
//! Contract: total and linear. NFKC, other scripts' digits to ASCII, dashes and minus signs to `-`,
//! quotation marks to `'` and `"`, superscripts to `^`, zero-width and direction marks removed,
//! control characters to spaces. Line feeds stay.

use unicode_normalization::UnicodeNormalization;

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

/// One code point per meaning.
pub(super) fn fold(text: &str) -> String {
    let mut mapped = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let digits_around = is_digit(before) && chars.peek().is_some_and(|next| is_digit(*next));
        match c {
            '\n' => mapped.push('\n'),
            ' ' if before == ' ' => {}
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
            c if is_superscript(c) => {
                if !is_superscript(before) {
                    mapped.push('^');
                }
                mapped.push(c);
            }
            c if is_subscript(c) => {
                if !is_subscript(before) {
                    mapped.push('_');
                }
                mapped.push(c);
            }
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
        '\u{2044}' | '\u{2215}' => '/',
        '\u{2010}'..='\u{2013}' | '\u{2212}' => '-',
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{2032}' | '\u{2bc}' => '\'',
        '\u{201c}'..='\u{201e}' | '\u{ab}' | '\u{bb}' | '\u{2039}' | '\u{203a}' => '"',
        '\u{22c5}' | '\u{2219}' => '·',
        '\u{2a7d}' => '≤',
        '\u{2a7e}' => '≥',
        c => ascii_digit(c),
    }
}

fn is_superscript(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '\u{2070}' | '\u{2071}' | '\u{2074}'..='\u{207f}')
}

fn is_subscript(c: char) -> bool {
    matches!(c, '\u{2080}'..='\u{208e}' | '\u{2090}'..='\u{209c}')
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
