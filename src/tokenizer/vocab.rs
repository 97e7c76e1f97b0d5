//! The vocabulary: the text and type of every token id, and the id of every text.
//!
//! One string holds all texts, and an open-addressing table holds only ids, so that a quarter of a
//! million tokens load in about ten milliseconds. The hash has a random key, so a file cannot
//! choose texts that collide. Knows nothing of how text is split.

use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, Result};

/// The type of a token, as GGUF's `token_type` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenType {
    /// A text that the merges produce.
    Normal,
    /// The token for text that has no other.
    Unknown,
    /// End of turn and the like; never produced from content.
    Control,
    /// Text that is matched before the merges: runs of newlines, tags.
    UserDefined,
    /// An unused row of the embedding.
    Unused,
    /// One byte, spelled `<0xNN>`.
    Byte,
}

impl TokenType {
    /// The type by its number in a GGUF file.
    pub(super) fn from_ggml(number: i32) -> Option<Self> {
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte]
            .get(usize::try_from(number).ok()?.checked_sub(1)?)
            .copied()
    }

    /// Whether the token stands for no text.
    pub(super) fn is_special(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::Unused)
    }
}

/// The byte that a byte token's text names: `<0x` and exactly two hexadecimal digits and `>`.
pub(super) fn byte_value(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)
}

/// Texts and types by id, ids by text.
#[derive(Clone, Debug)]
pub(super) struct Vocabulary {
    text: String,
    /// The end of each token's text in `text`.
    ends: Vec<u32>,
    kinds: Vec<TokenType>,
    /// Id + 1 by hash of the text, with linear probing; 0 is free. The length is a power of two and
    /// at least twice the number of tokens.
    slots: Vec<u32>,
    hasher: RandomState,
}

impl Vocabulary {
    /// A vocabulary from every id's text and type, in order of id. Of several ids with the same
    /// text, the last is found by text.
    pub(super) fn new<'a>(
        tokens: impl ExactSizeIterator<Item = (&'a str, TokenType)>,
    ) -> Result<Self> {
        let len = tokens.len();
        let mut vocabulary = Self {
            text: String::with_capacity(len * 8),
            ends: Vec::with_capacity(len),
            kinds: Vec::with_capacity(len),
            slots: vec![0; (len * 2 + 1).next_power_of_two()],
            hasher: RandomState::new(),
        };
        for (text, kind) in tokens {
            vocabulary.push(text, kind)?;
        }
        Ok(vocabulary)
    }

    fn push(&mut self, text: &str, kind: TokenType) -> Result<()> {
        let id = self.ends.len() as u32;
        let end = u32::try_from(self.text.len() + text.len());
        self.ends.push(end.map_err(|_| {
            Error::Resources(format!("the vocabulary's text exceeds 4 GiB at token {id}"))
        })?);
        self.text.push_str(text);
        self.kinds.push(kind);
        let slot = self.slot(text);
        self.slots[slot] = id + 1;
        Ok(())
    }

    /// The slot that holds `text`, or the free slot for it.
    fn slot(&self, text: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = self.hasher.hash_one(text.as_bytes()) as usize & mask;
        while self.slots[at] != 0 && self.text_of(self.slots[at] - 1) != text {
            at = (at + 1) & mask;
        }
        at
    }

    fn text_of(&self, id: u32) -> &str {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.text[start as usize..self.ends[id] as usize]
    }

    /// Number of ids.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The id with this text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.slots[self.slot(text)].checked_sub(1)
    }

    /// The text of an id.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        ((id as usize) < self.len()).then(|| self.text_of(id))
    }

    /// The type of an id; an id outside the vocabulary is unused.
    pub(super) fn kind(&self, id: u32) -> TokenType {
        self.kinds.get(id as usize).copied().unwrap_or(TokenType::Unused)
    }

    /// Every id with its text and type, in order.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &str, TokenType)> {
        (0..self.len()).map(|id| (id as u32, self.text_of(id as u32), self.kinds[id]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_ids_find_each_other() {
        let texts = ["a", "", "bc", "ö", "bc", "▁x"];
        let vocabulary =
            Vocabulary::new(texts.iter().map(|&text| (text, TokenType::Normal))).unwrap();
        let check = |text: &str, id: Option<u32>| assert_eq!(vocabulary.id(text), id, "{text:?}");
        check("a", Some(0));
        check("", Some(1));
        check("bc", Some(4));
        check("ö", Some(3));
        check("▁x", Some(5));
        check("b", None);
        for (id, text) in texts.iter().enumerate() {
            assert_eq!(vocabulary.text(id as u32), Some(*text));
        }
        assert_eq!(vocabulary.text(6), None);
        assert_eq!(vocabulary.kind(6), TokenType::Unused);
        assert_eq!(Vocabulary::new(std::iter::empty()).unwrap().id("a"), None);
    }

    #[test]
    fn byte_tokens_are_range_checked() {
        let check =
            |text: &str, expected: Option<u8>| assert_eq!(byte_value(text), expected, "{text:?}");
        check("<0x00>", Some(0));
        check("<0xFf>", Some(255));
        for hostile in [
            "<0x-1>", "<0x+1>", "<0x1>", "<0x100>", "<0xGG>", "0x41", "<0x41", "<0x4１>", "<0x>",
            "",
        ] {
            check(hostile, None);
        }
    }
}
