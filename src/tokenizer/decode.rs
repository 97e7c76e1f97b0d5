//! Incremental decoding: token ids in, whole characters out.
//!
//! Contract: the texts of all calls, joined, equal [`Tokenizer::decode`] of all ids; no call
//! returns half a character. U+FFFD appears only for bytes that no later token can complete.

use super::Tokenizer;

/// Turns a stream of ids into text; made by [`Tokenizer::decoder`].
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    /// The bytes of an incomplete character: at most three.
    pending: Vec<u8>,
    /// No text yet, so a leading space that the encoder added still has to be removed.
    at_start: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, pending: Vec::new(), at_start: true }
    }

    /// The text that this token completes; empty for control tokens and in the middle of a
    /// character.
    pub fn push(&mut self, id: u32) -> String {
        let bytes = self.tokenizer.token_bytes(id);
        let drop = usize::from(
            self.at_start && self.tokenizer.drops_leading_space() && bytes.first() == Some(&b' '),
        );
        self.at_start &= self.tokenizer.is_special(id);
        self.pending.extend_from_slice(&bytes[drop..]);
        complete(&mut self.pending)
    }

    /// The rest at the end: U+FFFD for an incomplete character, else nothing.
    pub fn finish(&mut self) -> String {
        self.at_start = true;
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Removes from the front of `bytes`, as text, everything that no later byte can change; the start
/// of one character may remain.
fn complete(bytes: &mut Vec<u8>) -> String {
    let keep = match bytes.utf8_chunks().last() {
        Some(chunk) if starts_a_character(chunk.invalid()) => chunk.invalid().len(),
        _ => 0,
    };
    let rest = bytes.split_off(bytes.len() - keep);
    String::from_utf8_lossy(&std::mem::replace(bytes, rest)).into_owned()
}

/// Whether `bytes` are an incomplete character and not invalid UTF-8.
fn starts_a_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_settled_leaves() {
        let check = |bytes: &[u8], text: &str, left: &[u8]| {
            let mut pending = bytes.to_vec();
            assert_eq!(complete(&mut pending), text, "{bytes:?}");
            assert_eq!(pending, left, "{bytes:?}");
        };
        check(b"", "", b"");
        check(b"ab", "ab", b"");
        check(b"a\xf0\x9f\x91", "a", b"\xf0\x9f\x91");
        check(b"\xf0\x9f\x91\x8d", "👍", b"");
        check(b"\xc3", "", b"\xc3");
        check(b"\xc3(", "\u{fffd}(", b"");
        check(b"\x80\xc3", "\u{fffd}", b"\xc3");
        check(b"\xed\xa0", "\u{fffd}\u{fffd}", b"");
        check(b"\xff\xff", "\u{fffd}\u{fffd}", b"");
    }
}
