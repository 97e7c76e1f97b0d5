//! Added tokens, which are matched before the text is split: user-defined ones anywhere, control
//! tokens in trusted text only.
//!
//! Contract: matches are leftmost, then longest, and do not overlap; a control token is matched
//! only where it lies wholly inside a trusted range. The cost per byte of text is at most the
//! longest token's length. Knows nothing of merges.

use std::fmt;
use std::ops::Range;

/// Longest text of a token that is matched before the merges, in bytes; real ones stay under 100.
pub(super) const MAX_ADDED_BYTES: usize = 1024;

/// A token to match, with the flags of `tokenizer.json`; all false for tokens from GGUF.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the flags are the file format's")]
pub(super) struct AddedToken {
    /// The id to emit.
    pub id: u32,
    /// Matched in trusted text only.
    pub control: bool,
    /// Includes the white space before it.
    pub strip_left: bool,
    /// Includes the white space after it.
    pub strip_right: bool,
    /// Matched only if no letter or digit is next to it.
    pub single_word: bool,
}

/// A found token: the bytes it covers, and its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// The token.
    pub id: u32,
}

/// A node of the trie, with its children as a linked list.
#[derive(Clone, Copy, Debug)]
struct Node {
    byte: u8,
    /// Index of the first child, 0 if none.
    child: u32,
    /// Index of the next child of the same parent, 0 if none.
    sibling: u32,
    /// Index + 1 of the token that ends here, 0 if none.
    token: u32,
}

/// The set of tokens to match, as a trie over bytes.
#[derive(Clone)]
pub(super) struct AddedTokens {
    nodes: Vec<Node>,
    /// First-level child by byte, 0 if none.
    roots: Box<[u32; 256]>,
    tokens: Vec<AddedToken>,
}

impl fmt::Debug for AddedTokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AddedTokens").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

impl Default for AddedTokens {
    fn default() -> Self {
        let origin = Node { byte: 0, child: 0, sibling: 0, token: 0 };
        Self { nodes: vec![origin], roots: Box::new([0; 256]), tokens: Vec::new() }
    }
}

impl AddedTokens {
    /// Adds a token. Of tokens with equal text the last one counts; empty text is never matched.
    pub(super) fn insert(&mut self, text: &str, token: AddedToken) {
        let Some((&first, rest)) = text.as_bytes().split_first() else { return };
        if self.roots[usize::from(first)] == 0 {
            self.roots[usize::from(first)] = self.node(first, 0);
        }
        let mut at = self.roots[usize::from(first)];
        for &byte in rest {
            at = self.child(at, byte).unwrap_or_else(|| {
                let child = self.node(byte, self.nodes[at as usize].child);
                self.nodes[at as usize].child = child;
                child
            });
        }
        self.tokens.push(token);
        self.nodes[at as usize].token = self.tokens.len() as u32;
    }

    fn node(&mut self, byte: u8, sibling: u32) -> u32 {
        self.nodes.push(Node { byte, child: 0, sibling, token: 0 });
        (self.nodes.len() - 1) as u32
    }

    fn child(&self, parent: u32, byte: u8) -> Option<u32> {
        let mut at = self.nodes[parent as usize].child;
        while at != 0 && self.nodes[at as usize].byte != byte {
            at = self.nodes[at as usize].sibling;
        }
        (at != 0).then_some(at)
    }

    /// All matches in `text`, left to right. `trusted` are the ascending, disjoint byte ranges in
    /// which control tokens are matched.
    pub(super) fn find(&self, text: &str, trusted: &[Range<usize>]) -> Vec<Match> {
        let mut found = Vec::new();
        let (mut at, mut free) = (0, 0);
        let mut trusted = trusted.iter().peekable();
        while let Some(&byte) = text.as_bytes().get(at) {
            while trusted.next_if(|range| range.end <= at).is_some() {}
            let trust =
                trusted.peek().filter(|range| range.start <= at).map_or(at, |range| range.end);
            let hit = (self.roots[usize::from(byte)] != 0)
                .then(|| self.longest(text, at, trust))
                .flatten();
            let Some((token, end)) = hit else {
                at += 1;
                continue;
            };
            let range = with_stripped_space(text, token, at..end, free);
            (at, free) = (range.end, range.end);
            found.push(Match { range, id: token.id });
        }
        found
    }

    /// The longest token that starts at `at`, with its end; control tokens only up to `trust`.
    fn longest(&self, text: &str, at: usize, trust: usize) -> Option<(AddedToken, usize)> {
        let bytes = text.as_bytes();
        let mut node = self.roots[usize::from(bytes[at])];
        let (mut end, mut best) = (at + 1, None);
        loop {
            let token = self.nodes[node as usize]
                .token
                .checked_sub(1)
                .map(|index| self.tokens[index as usize]);
            best = token
                .filter(|token| {
                    (!token.control || end <= trust) && stands_alone(text, *token, at, end)
                })
                .map(|token| (token, end))
                .or(best);
            let Some(next) = bytes.get(end).and_then(|&byte| self.child(node, byte)) else {
                return best;
            };
            (node, end) = (next, end + 1);
        }
    }
}

/// Whether a single-word token stands alone.
fn stands_alone(text: &str, token: AddedToken, start: usize, end: usize) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    !token.single_word || !(text[..start].ends_with(word) || text[end..].starts_with(word))
}

/// The range of a match with the white space that it includes, but nothing before `free`.
fn with_stripped_space(
    text: &str,
    token: AddedToken,
    range: Range<usize>,
    free: usize,
) -> Range<usize> {
    let start = if token.strip_left {
        free + text[free..range.start].trim_end().len()
    } else {
        range.start
    };
    let end = if token.strip_right {
        text.len() - text[range.end..].trim_start().len()
    } else {
        range.end
    };
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        tokens: &[(&str, AddedToken)],
        text: &str,
        trusted: &[Range<usize>],
        expected: &[(usize, usize, u32)],
    ) {
        let mut added = AddedTokens::default();
        for (text, token) in tokens {
            added.insert(text, *token);
        }
        let found: Vec<_> = added
            .find(text, trusted)
            .into_iter()
            .map(|hit| (hit.range.start, hit.range.end, hit.id))
            .collect();
        assert_eq!(found, expected, "{text:?} {trusted:?}");
    }

    #[test]
    fn leftmost_longest_and_trust() {
        let plain = |id| AddedToken { id, ..AddedToken::default() };
        let control = |id| AddedToken { id, control: true, ..AddedToken::default() };
        let tokens = [
            ("\n", plain(1)),
            ("\n\n", plain(2)),
            ("<a>", control(3)),
            ("<a", plain(4)),
            ("é", plain(5)),
            ("", plain(6)),
        ];
        check(&tokens, "", &[], &[]);
        check(&tokens, "\n\n\n", &[], &[(0, 2, 2), (2, 3, 1)]);
        check(&tokens, "x<a>é", &[], &[(1, 3, 4), (4, 6, 5)]);
        check(&tokens, "x<a>é", &[0..6; 1], &[(1, 4, 3), (4, 6, 5)]);
        // A control token that reaches out of the trusted range is text.
        check(&tokens, "<a><a>", &[0..2, 3..6], &[(0, 2, 4), (3, 6, 3)]);
        check(&tokens, "<a><a>", &[0..3, 4..6], &[(0, 3, 3), (3, 5, 4)]);
    }

    #[test]
    fn flags_of_the_json_format() {
        let strip =
            AddedToken { id: 1, strip_left: true, strip_right: true, ..AddedToken::default() };
        check(&[("|", strip)], "a  | \n|b", &[], &[(1, 6, 1), (6, 7, 1)]);
        let word = AddedToken { id: 2, single_word: true, ..AddedToken::default() };
        check(&[("ab", word)], "ab xab ab_ ab", &[], &[(0, 2, 2), (11, 13, 2)]);
    }
}
