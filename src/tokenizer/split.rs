//! Pre-tokenizers of byte-level BPE, which split a text into words before the merges.
//!
//! Each is published as one or more regular expressions. They are written by hand here, because a
//! backtracking engine fails or slows down on megabytes of white space; tests prove them equal to
//! the expressions. Every pre-tokenizer covers its text without gap or overlap, in linear time.
//! Knows nothing of bytes or tokens.

use super::classes::{is_letter, is_number, is_punctuation, is_space};

/// The pre-tokenizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PreTokenizer {
    /// GPT-2: contractions, words with the space before them, numbers, the rest.
    Gpt2,
    /// Every number character alone, then GPT-2 (`SmolLM`).
    Smollm,
    /// Llama 3: contractions in any case, numbers in threes, newlines kept with punctuation.
    Llama3,
    /// As Llama 3, but every number character alone (Qwen 2 and 3).
    Qwen2,
    /// llama.cpp's default for files without a pre-tokenizer: runs of punctuation, then GPT-2, then
    /// ASCII digits in threes.
    Default,
}

impl PreTokenizer {
    /// Calls `emit` with each word of `text`, in order.
    pub(super) fn for_each_word<'a>(self, text: &'a str, emit: &mut impl FnMut(&'a str)) {
        match self {
            Self::Gpt2 => repeat(text, gpt2, emit),
            Self::Smollm => runs(text, is_number, &mut |run, number| {
                if number { repeat(run, first_char, emit) } else { repeat(run, gpt2, emit) }
            }),
            Self::Llama3 => repeat(text, |rest| llama3(rest, 3), emit),
            Self::Qwen2 => repeat(text, |rest| llama3(rest, 1), emit),
            Self::Default => runs(text, is_default_punctuation, &mut |run, punctuation| {
                if punctuation {
                    emit(run);
                } else {
                    repeat(run, gpt2, &mut |word| {
                        runs(word, is_number, &mut |run, _| digits_in_threes(run, emit));
                    });
                }
            }),
        }
    }
}

/// `[\p{P}\$\+<=>\^~\|]`
fn is_default_punctuation(c: char) -> bool {
    matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|') || is_punctuation(c)
}

/// Splits `text` with `first`, which returns the length of the first word of a text that is not
/// empty.
fn repeat<'a>(text: &'a str, first: impl Fn(&str) -> usize, emit: &mut impl FnMut(&'a str)) {
    let mut rest = text;
    while !rest.is_empty() {
        let (word, tail) = rest.split_at(first(rest));
        emit(word);
        rest = tail;
    }
}

/// Splits `text` into the longest runs of characters that are all in a class or all outside it.
fn runs<'a>(text: &'a str, class: impl Fn(char) -> bool, emit: &mut impl FnMut(&'a str, bool)) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let member = class(first);
        let (run, tail) = rest.split_at(span(rest, |c| class(c) == member));
        emit(run, member);
        rest = tail;
    }
}

/// `[0-9][0-9][0-9]`, and what is between the matches.
fn digits_in_threes<'a>(text: &'a str, emit: &mut impl FnMut(&'a str)) {
    let mut rest = text;
    while let Some(at) =
        rest.as_bytes().windows(3).position(|three| three.iter().all(u8::is_ascii_digit))
    {
        for part in [&rest[..at], &rest[at..at + 3]] {
            if !part.is_empty() {
                emit(part);
            }
        }
        rest = &rest[at + 3..];
    }
    if !rest.is_empty() {
        emit(rest);
    }
}

/// Length in bytes of the longest prefix whose characters all satisfy `class`.
fn span(text: &str, class: impl Fn(char) -> bool) -> usize {
    text.find(|c| !class(c)).unwrap_or(text.len())
}

fn first_char(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// Neither white space nor letter nor number: `[^\s\p{L}\p{N}]`.
fn is_other(c: char) -> bool {
    !(is_space(c) || is_letter(c) || is_number(c))
}

/// The first word by GPT-2's expression (Radford et al. 2019):
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn gpt2(text: &str) -> usize {
    let contraction = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]
        .iter()
        .find(|suffix| text.starts_with(**suffix));
    if let Some(suffix) = contraction {
        return suffix.len();
    }
    let space = usize::from(text.starts_with(' '));
    let word = &text[space..];
    match word.chars().next() {
        Some(c) if is_letter(c) => space + span(word, is_letter),
        Some(c) if is_number(c) => space + span(word, is_number),
        Some(c) if is_other(c) => space + span(word, is_other),
        _ => spaces(text),
    }
}

/// `\s+(?!\S)|\s+`: white space, but for the last character of it if text follows, unless it is the
/// only one.
fn spaces(text: &str) -> usize {
    let run = span(text, is_space);
    let last = text[..run].chars().next_back().map_or(0, char::len_utf8);
    if run < text.len() && run > last { run - last } else { run }
}

/// The first word by Llama 3's expression; `digits` is how many number characters stay together.
/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|
/// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
fn llama3(text: &str, digits: usize) -> usize {
    if let Some(len) = contraction_in_any_case(text) {
        return len;
    }
    let first = first_char(text);
    let (c, rest) = (text.chars().next().unwrap_or_default(), &text[first..]);
    if is_letter(c) {
        return span(text, is_letter);
    }
    if is_number(c) {
        return text
            .char_indices()
            .take(digits)
            .take_while(|(_, c)| is_number(*c))
            .map(|(at, c)| at + c.len_utf8())
            .last()
            .unwrap_or(first);
    }
    if !matches!(c, '\r' | '\n') && rest.starts_with(is_letter) {
        return first + span(rest, is_letter);
    }
    let word = text.strip_prefix(' ').unwrap_or(text);
    if word.starts_with(is_other) {
        let others = text.len() - word.len() + span(word, is_other);
        return others + span(&text[others..], is_newline);
    }
    let run = &text[..span(text, is_space)];
    run.rfind(is_newline).map_or_else(|| spaces(text), |last| last + 1)
}

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`. Unicode folds the long s, U+017F, to s, and so do the engines of
/// the reference.
fn contraction_in_any_case(text: &str) -> Option<usize> {
    let fold = |c: char| if c == 'ſ' { 's' } else { c.to_ascii_lowercase() };
    let mut chars = text.strip_prefix('\'')?.chars();
    let (first, second) = (chars.next()?, chars.next());
    match (fold(first), second.map(fold)) {
        ('s' | 't' | 'm' | 'd', _) => Some(1 + first.len_utf8()),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::utils::SysRegex;

    use super::*;

    const GPT2: &str =
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];

    /// The published form: each expression in turn cuts every piece into its matches and what lies
    /// between.
    fn by_expressions<'a>(expressions: &[SysRegex], text: &'a str) -> Vec<&'a str> {
        let mut pieces = vec![text];
        for expression in expressions {
            pieces = pieces.into_iter().flat_map(|piece| cut(expression, piece)).collect();
        }
        pieces
    }

    fn cut<'a>(expression: &SysRegex, text: &'a str) -> Vec<&'a str> {
        let (mut at, mut pieces) = (0, Vec::new());
        for (start, end) in expression.find_iter(text) {
            pieces.extend([&text[at..start], &text[start..end]]);
            at = end;
        }
        pieces.push(&text[at..]);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    fn words(split: PreTokenizer, text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        split.for_each_word(text, &mut |word| words.push(word));
        words
    }

    fn check(split: PreTokenizer, text: &str, expected: &[&str]) {
        assert_eq!(words(split, text), expected, "{split:?} {text:?}");
    }

    #[test]
    fn words_of_each_pre_tokenizer() {
        check(
            PreTokenizer::Gpt2,
            "I've  12 cats!\n\n a",
            &["I", "'ve", " ", " 12", " cats", "!", "\n\n", " a"],
        );
        check(PreTokenizer::Gpt2, "I'VE", &["I", "'", "VE"]);
        check(PreTokenizer::Smollm, "in 1999  x", &["in", " ", "1", "9", "9", "9", " ", " x"]);
        check(
            PreTokenizer::Llama3,
            "I'VE 12345 (x)\n\n y \n z",
            &["I", "'VE", " ", "123", "45", " (", "x", ")\n\n", " y", " \n", " z"],
        );
        check(PreTokenizer::Qwen2, "a12 $b'ſc", &["a", "1", "2", " $", "b", "'ſ", "c"]);
        check(PreTokenizer::Default, "a+=12345 b", &["a", "+=", "123", "45", " b"]);
        for split in [
            PreTokenizer::Gpt2,
            PreTokenizer::Smollm,
            PreTokenizer::Llama3,
            PreTokenizer::Qwen2,
            PreTokenizer::Default,
        ] {
            check(split, "", &[]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn equal_to_the_published_expressions(text in r"([ \n\r\t'a-eslmtrvdSTLEſé0-9٣²½ⅷ,.!+=$\u{a0}\u{3000}\u{301}日ก\u{200d}👍\u{85}]|\PC|.){0,40}") {
            thread_local!(static TABLE: [(PreTokenizer, Vec<SysRegex>); 5] = {
                let compile = |patterns: &[&str]| patterns.iter().map(|pattern| SysRegex::new(pattern).unwrap()).collect();
                [
                    (PreTokenizer::Gpt2, compile(&[GPT2])),
                    (PreTokenizer::Smollm, compile(&[r"\p{N}", GPT2])),
                    (PreTokenizer::Llama3, compile(&[LLAMA3])),
                    (PreTokenizer::Qwen2, compile(&[QWEN2])),
                    (PreTokenizer::Default, compile(&DEFAULT)),
                ]
            });
            TABLE.with(|table| {
                for (split, expressions) in table {
                    assert_eq!(words(*split, &text), by_expressions(expressions, &text), "{split:?}");
                }
            });
        }
    }
}
