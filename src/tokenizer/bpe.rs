//! Byte-level BPE of GPT-2: bytes are written as printable characters, and words are merged pair by
//! pair in the order of a list.
//!
//! [`PreTokenizer`] splits a text into words, and [`Merges`] merges each. Contract: returns only
//! normal and user-defined tokens, whatever the file's merges say. A byte without a token is
//! skipped, as in the reference (`SmolLM` has none for U+0004). Knows nothing of files.

use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

use super::merges::{Merges, NONE, Word};
use super::split::PreTokenizer;
use super::vocab::{TokenType, Vocabulary};
use crate::error::{Error, Result};

/// The character that spells each byte: printable Latin-1 spells itself, the other 68 bytes follow
/// from U+0100 (Radford et al. 2019).
const CHARS: [char; 256] = {
    let (mut chars, mut byte, mut extra) = (['\0'; 256], 0, 0);
    while byte < 256 {
        let own = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if own { byte as u32 } else { 0x100 + extra };
        extra += !own as u32;
        if let Some(c) = char::from_u32(code) {
            chars[byte] = c;
        }
        byte += 1;
    }
    chars
};

/// The byte that each character below U+0144 spells, or 256.
const BYTES: [u16; 0x144] = {
    let (mut bytes, mut byte) = ([256; 0x144], 0);
    while byte < 256 {
        bytes[CHARS[byte] as usize] = byte as u16;
        byte += 1;
    }
    bytes
};

/// The byte that a character spells.
fn byte_of(c: char) -> Option<u8> {
    BYTES.get(c as usize).and_then(|&byte| u8::try_from(byte).ok())
}

/// Appends the bytes that a token of a byte-level vocabulary stands for. A character that spells no
/// byte stands for itself.
pub(super) fn append_bytes(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// What a byte-level model does besides its merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BpeOptions {
    /// Where words are split.
    pub split: PreTokenizer,
    /// Whether text is normalized to NFC first.
    pub nfc: bool,
    /// Whether a word that is a token is used without merging, as `ignore_merges` in
    /// `tokenizer.json`.
    pub ignore_merges: bool,
}

/// A byte-level BPE model with its pre-tokenizer.
#[derive(Clone, Debug)]
pub(super) struct ByteLevelBpe {
    merges: Merges,
    /// The token of each byte, [`NONE`] for a byte without.
    bytes: Box<[u32; 256]>,
    options: BpeOptions,
}

/// The two tokens of a merge that is written as one text with a space between them.
pub(super) fn pair(merge: &str) -> Option<(&str, &str)> {
    merge
        .split_once(' ')
        .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
}

/// Looks up merge `rank`: its `[left, right, merged]` ids, or `None` for one that would make a
/// control token from text. `Err` is the reason why it is invalid. `merged` is a reusable buffer.
pub(super) fn ids(
    vocabulary: &Vocabulary,
    rank: usize,
    merge: Result<(&str, &str), String>,
    merged: &mut String,
) -> Result<Option<[u32; 3]>, String> {
    let (left, right) = merge.map_err(|text| {
        format!("merge {rank} is {text:?}, want two tokens with one space between")
    })?;
    merged.clear();
    merged.extend([left, right]);
    let mut found = [0; 3];
    for (text, found) in [left, right, merged].into_iter().zip(&mut found) {
        *found = vocabulary.id(text).ok_or_else(|| {
            format!("merge {rank} is {left:?} and {right:?}, but {text:?} is not a token")
        })?;
    }
    Ok(Some(found).filter(|ids| ids.iter().all(|&id| mergeable(vocabulary.kind(id)))))
}

fn mergeable(kind: TokenType) -> bool {
    matches!(kind, TokenType::Normal | TokenType::UserDefined)
}

impl ByteLevelBpe {
    /// Builds the model from the vocabulary and the merges, best first; errors as in [`ids`].
    pub(super) fn new<'a>(
        vocabulary: &Vocabulary,
        merges: impl ExactSizeIterator<Item = Result<(&'a str, &'a str), String>>,
        options: BpeOptions,
    ) -> Result<Self, String> {
        let mut merged = String::new();
        let merges = Merges::new(
            vocabulary.len(),
            merges.enumerate().map(|(rank, merge)| ids(vocabulary, rank, merge, &mut merged)),
        )?;
        let mut bytes = Box::new([NONE; 256]);
        for (id, text, _) in vocabulary.iter().filter(|(_, _, kind)| mergeable(*kind)) {
            let mut chars = text.chars();
            if let (Some(c), None) = (chars.next(), chars.next())
                && let Some(byte) = byte_of(c)
            {
                bytes[usize::from(byte)] = id;
            }
        }
        Ok(Self { merges, bytes, options })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        if self.options.nfc && is_nfc_quick(text.chars()) != IsNormalized::Yes {
            return self.encode_composed(vocabulary, &text.nfc().collect::<String>(), out);
        }
        self.encode_composed(vocabulary, text, out)
    }

    fn encode_composed(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        if u32::try_from(text.len()).is_err() {
            return Err(Error::Resources(format!(
                "a text of {} bytes is too long to tokenize, the limit is 4 GiB",
                text.len()
            )));
        }
        let (mut spelled, mut work) = (String::new(), Word::default());
        self.options.split.for_each_word(text, &mut |word| {
            if self.options.ignore_merges {
                spelled.clear();
                spelled.extend(word.bytes().map(|byte| CHARS[usize::from(byte)]));
                if let Some(id) =
                    vocabulary.id(&spelled).filter(|&id| mergeable(vocabulary.kind(id)))
                {
                    out.push(id);
                    return;
                }
            }
            let ids =
                word.bytes().map(|byte| self.bytes[usize::from(byte)]).filter(|&id| id != NONE);
            self.merges.apply(ids, &mut work, out);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let bytes_of = |text: &str| {
            let mut bytes = Vec::new();
            append_bytes(text, &mut bytes);
            bytes
        };
        for byte in 0..=u8::MAX {
            let c = CHARS[usize::from(byte)];
            assert!(!c.is_whitespace() && !c.is_control(), "{byte}");
            assert_eq!(bytes_of(&c.to_string()), [byte]);
        }
        let check = |text: &str, bytes: &[u8]| assert_eq!(bytes_of(text), bytes, "{text}");
        check("Ġa", b" a");
        check("Ċ", b"\n");
        check("Ń", &[0xad]);
        check("日", "日".as_bytes());
    }

    #[test]
    fn merges_are_checked_and_control_tokens_are_never_made() {
        let tokens = [
            ("a", TokenType::Normal),
            ("b", TokenType::Normal),
            ("ab", TokenType::Control),
            ("c", TokenType::Normal),
            ("bc", TokenType::Normal),
        ];
        let vocabulary = Vocabulary::new(tokens.into_iter()).unwrap();
        let encode = |merges: &[&str], text: &str| {
            let mut ids = Vec::new();
            let merges = merges.iter().map(|merge| pair(merge).ok_or_else(|| (*merge).to_owned()));
            let options =
                BpeOptions { split: PreTokenizer::Gpt2, nfc: false, ignore_merges: false };
            let model = ByteLevelBpe::new(&vocabulary, merges, options)?;
            model.encode(&vocabulary, text, &mut ids).map_err(|error| error.to_string())?;
            Ok::<_, String>(ids)
        };
        assert_eq!(encode(&["a b", "b c"], "abc"), Ok(vec![0, 4]));
        assert_eq!(encode(&["a b"], "ab"), Ok(vec![0, 1]));
        let check =
            |merge: &str, reason: &str| assert_eq!(encode(&[merge], "ab"), Err(reason.into()));
        check("ab", "merge 0 is \"ab\", want two tokens with one space between");
        check("a b c", "merge 0 is \"a b c\", want two tokens with one space between");
        check(" a", "merge 0 is \" a\", want two tokens with one space between");
        check("a c", "merge 0 is \"a\" and \"c\", but \"ac\" is not a token");
        check("x a", "merge 0 is \"x\" and \"a\", but \"x\" is not a token");
    }
}
