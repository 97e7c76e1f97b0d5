//! SentencePiece BPE from pieces and scores: of all neighboring pairs that form a piece, the one
//! with the best score merges first (Kudo and Richardson 2018). Characters without a piece become
//! bytes.
//!
//! Contract: a space is written as `▁` before merging; equal scores merge leftmost first; only
//! normal and user-defined pieces are produced; `O(n log n)` for any text. Knows nothing of files.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};
use std::ops::Range;

use super::vocab::{TokenType, Vocabulary, byte_value};
use crate::error::{Error, Result};

/// SentencePiece's character for a space.
pub(super) const SPACE: char = '▁';

/// The scores and byte pieces that turn a [`Vocabulary`] into a SentencePiece model.
#[derive(Clone, Debug)]
pub(super) struct Spm {
    scores: Vec<f32>,
    /// The token of each byte, if the vocabulary has all 256.
    bytes: Option<Box<[u32; 256]>>,
    unknown: Option<u32>,
    /// Longest piece in bytes; longer pairs are not looked up.
    longest: usize,
    /// Characters that precede a `▁` inside some piece. After any other character a `▁` starts a
    /// new word, which no merge can cross.
    before_space: BTreeSet<char>,
    /// Whether a space is added before the text.
    add_space_prefix: bool,
}

/// A part of the text that is one piece so far, in a linked list; its length is 0 once it is merged
/// into the one before.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: u32,
    len: u32,
    before: u32,
    after: u32,
}

/// No neighbor.
const NONE: u32 = u32::MAX;

/// Two neighbors that together are a piece.
#[derive(Clone, Copy, Debug)]
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    len: u32,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// Lists that are reused for every word.
#[derive(Debug, Default)]
struct Scratch {
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
}

impl Spm {
    /// A model over `vocabulary`. `scores` has one finite or infinite score for each id; `Err` is
    /// the reason why a piece is invalid.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        mut scores: Vec<f32>,
        unknown: Option<u32>,
        add_space_prefix: bool,
    ) -> Result<Self, String> {
        if scores.len() != vocabulary.len() {
            return Err(format!("has {} scores for {} tokens", scores.len(), vocabulary.len()));
        }
        // -0 and 0 are one score.
        for score in &mut scores {
            *score += 0.0;
        }
        let mut model = Self {
            scores,
            bytes: byte_pieces(vocabulary)?,
            unknown,
            longest: 0,
            before_space: BTreeSet::new(),
            add_space_prefix,
        };
        for (_, text, _) in vocabulary.iter().filter(|(_, _, kind)| mergeable(*kind)) {
            model.longest = model.longest.max(text.len());
            let inner = text.trim_start_matches(SPACE);
            let preceding =
                inner.match_indices(SPACE).filter_map(|(at, _)| inner[..at].chars().next_back());
            model.before_space.extend(preceding.filter(|&c| c != SPACE));
        }
        Ok(model)
    }

    /// Appends the tokens of `text`, which starts a text or follows a matched token.
    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let mut spelled = String::with_capacity(text.len() + text.len() / 4 + SPACE.len_utf8());
        if self.add_space_prefix {
            spelled.push(SPACE);
        }
        spelled.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        if u32::try_from(spelled.len()).is_err() {
            return Err(Error::Resources(format!(
                "a text of {} bytes is too long to tokenize, the limit is 4 GiB",
                text.len()
            )));
        }
        let mut work = Scratch::default();
        let mut rest = spelled.as_str();
        while !rest.is_empty() {
            let (word, tail) = rest.split_at(self.word(rest));
            self.merge(vocabulary, word, &mut work);
            self.emit(vocabulary, word, &work, out)?;
            rest = tail;
        }
        Ok(())
    }

    /// Length of the first word of `text`: it ends before a `▁` that no piece joins to the
    /// character before it, so no merge crosses it.
    fn word(&self, text: &str) -> usize {
        let apart = |&(at, _): &(usize, &str)| {
            let before = text[..at].chars().next_back();
            before.is_some_and(|c| c != SPACE && !self.before_space.contains(&c))
        };
        text.match_indices(SPACE).find(apart).map_or(text.len(), |(at, _)| at)
    }

    /// Merges `text` from characters to pieces in `work.symbols`.
    fn merge(&self, vocabulary: &Vocabulary, text: &str, work: &mut Scratch) {
        work.symbols.clear();
        for (index, (start, c)) in text.char_indices().enumerate() {
            let index = index as u32;
            work.symbols.push(Symbol {
                start: start as u32,
                len: c.len_utf8() as u32,
                before: index.wrapping_sub(1),
                after: index + 1,
            });
        }
        if let Some(last) = work.symbols.last_mut() {
            last.after = NONE;
        }
        for right in 1..work.symbols.len() as u32 {
            self.queue_pair(vocabulary, text, right - 1, right, work);
        }
        while let Some(pair) = work.pairs.pop() {
            let (left, right) =
                (work.symbols[pair.left as usize], work.symbols[pair.right as usize]);
            if left.len == 0 || right.len == 0 || left.len + right.len != pair.len {
                continue;
            }
            work.symbols[pair.left as usize] = Symbol { len: pair.len, after: right.after, ..left };
            work.symbols[pair.right as usize].len = 0;
            if let Some(after) = work.symbols.get_mut(right.after as usize) {
                after.before = pair.left;
            }
            self.queue_pair(vocabulary, text, left.before, pair.left, work);
            self.queue_pair(vocabulary, text, pair.left, right.after, work);
        }
    }

    /// Queues the pair of the symbols `left` and `right`, if both exist and together are a piece.
    fn queue_pair(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        left: u32,
        right: u32,
        work: &mut Scratch,
    ) {
        let (Some(first), Some(second)) =
            (work.symbols.get(left as usize), work.symbols.get(right as usize))
        else {
            return;
        };
        let (start, len) = (first.start as usize, first.len + second.len);
        if let Some(id) = self.piece(vocabulary, &text[start..start + len as usize]) {
            work.pairs.push(Pair { score: self.scores[id as usize], left, right, len });
        }
    }

    fn piece(&self, vocabulary: &Vocabulary, text: &str) -> Option<u32> {
        let id = if text.len() <= self.longest { vocabulary.id(text) } else { None };
        id.filter(|&id| mergeable(vocabulary.kind(id)))
    }

    /// Appends the tokens of the merged symbols: pieces, else bytes, else one unknown token for a
    /// run of characters.
    fn emit(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        work: &Scratch,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let mut after_unknown = false;
        for symbol in work.symbols.iter().filter(|symbol| symbol.len > 0) {
            let piece = &text[symbol.start as usize..(symbol.start + symbol.len) as usize];
            if let Some(id) = self.piece(vocabulary, piece) {
                out.push(id);
                after_unknown = false;
            } else if let Some(bytes) = &self.bytes {
                out.extend(piece.bytes().map(|byte| bytes[usize::from(byte)]));
            } else {
                let id = self.unknown.ok_or_else(|| {
                    Error::Usage(format!(
                        "the model has no token for {piece:?} and no unknown token"
                    ))
                })?;
                out.extend(Some(id).filter(|_| !after_unknown));
                after_unknown = true;
            }
        }
        Ok(())
    }
}

/// `text` with spaces in place of `▁`, which SentencePiece does not distinguish, and its adjusted
/// ranges `trusted`.
pub(super) fn unescape(text: &str, trusted: &[Range<usize>]) -> (String, Vec<Range<usize>>) {
    let shorter = SPACE.len_utf8() - 1;
    let ends: Vec<usize> = text.match_indices(SPACE).map(|(at, found)| at + found.len()).collect();
    let moved = |at: usize| at - shorter * ends.partition_point(|&end| end <= at);
    let trusted = trusted.iter().map(|range| moved(range.start)..moved(range.end)).collect();
    (text.replace(SPACE, " "), trusted)
}

fn mergeable(kind: TokenType) -> bool {
    matches!(kind, TokenType::Normal | TokenType::UserDefined)
}

/// The token of each byte, `None` if the vocabulary does not have all of them. A byte token whose
/// text is not a byte is an error.
fn byte_pieces(vocabulary: &Vocabulary) -> Result<Option<Box<[u32; 256]>>, String> {
    let mut bytes = [None; 256];
    for (id, text, _) in vocabulary.iter().filter(|(_, _, kind)| *kind == TokenType::Byte) {
        let byte = byte_value(text).ok_or_else(|| {
            format!("token {id} is the byte token {text:?}, want <0x00> to <0xFF>")
        })?;
        bytes[usize::from(byte)].get_or_insert(id);
    }
    let mut complete = Box::new([0; 256]);
    for (slot, id) in complete.iter_mut().zip(bytes) {
        let Some(id) = id else { return Ok(None) };
        *slot = id;
    }
    Ok(Some(complete))
}
