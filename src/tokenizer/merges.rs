//! Byte-pair merges: which two neighboring tokens become one, and in which order (Sennrich et al.,
//! arXiv 1508.07909).
//!
//! Of all neighbors, the pair that is first in the list merges first, and of equal pairs the
//! leftmost. `O(n log n)` for any word. Two flat, sorted lists hold everything; without hashes, a
//! file cannot choose pairs that collide. Knows only ids.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merge {
    left: u32,
    right: u32,
    /// Its index in the file's list: a lower one merges first.
    rank: u32,
    merged: u32,
}

/// A list of merges.
#[derive(Clone, Debug)]
pub(super) struct Merges {
    /// Sorted by left token, then by right token; no pair occurs twice.
    sorted: Vec<Merge>,
    /// The start of each left token's merges in `sorted`, and the end of the last one's.
    starts: Vec<u32>,
}

/// A token of the current word, in a linked list.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// [`NONE`] once it is merged into the one before.
    id: u32,
    before: u32,
    after: u32,
}

/// No token, no neighbor.
pub(super) const NONE: u32 = u32::MAX;

/// The state of one word; its memory is reused for the next one.
#[derive(Debug, Default)]
pub(super) struct Word {
    symbols: Vec<Symbol>,
    /// Rank, left symbol and merged token of pairs that were neighbors when they were queued.
    queue: BinaryHeap<Reverse<(u32, u32, u32)>>,
}

impl Merges {
    /// From `[left, right, merged]` ids below `tokens`, in the order of the list. Of equal pairs
    /// the last one counts.
    pub(super) fn new(
        tokens: usize,
        list: impl ExactSizeIterator<Item = Result<Option<[u32; 3]>, String>>,
    ) -> Result<Self, String> {
        let mut sorted = Vec::with_capacity(list.len());
        for (rank, merge) in list.enumerate() {
            sorted.extend(merge?.map(|[left, right, merged]| Merge {
                left,
                right,
                rank: rank as u32,
                merged,
            }));
        }
        sorted.sort_unstable();
        sorted.dedup_by(|later, kept| {
            let same = (later.left, later.right) == (kept.left, kept.right);
            if same {
                *kept = *later;
            }
            same
        });
        let mut starts = Vec::with_capacity(tokens + 1);
        for (at, merge) in sorted.iter().enumerate() {
            starts.resize(starts.len().max(merge.left as usize + 1), at as u32);
        }
        starts.resize(tokens + 1, sorted.len() as u32);
        Ok(Self { sorted, starts })
    }

    fn get(&self, left: u32, right: u32) -> Option<Merge> {
        let (start, end) =
            (self.starts[left as usize] as usize, self.starts[left as usize + 1] as usize);
        let mine = &self.sorted[start..end];
        mine.binary_search_by_key(&right, |merge| merge.right).ok().map(|at| mine[at])
    }

    /// Merges `ids`, fewer than [`NONE`] tokens, as far as possible and appends the result.
    pub(super) fn apply(
        &self,
        ids: impl Iterator<Item = u32>,
        word: &mut Word,
        out: &mut Vec<u32>,
    ) {
        let Word { symbols, queue } = word;
        symbols.clear();
        symbols.extend(ids.zip(0..).map(|(id, at): (u32, u32)| Symbol {
            id,
            before: at.wrapping_sub(1),
            after: at + 1,
        }));
        if let Some(last) = symbols.last_mut() {
            last.after = NONE;
        }
        let entry = |symbols: &[Symbol], left: u32, right: u32| {
            let (first, second) = (symbols.get(left as usize)?, symbols.get(right as usize)?);
            self.get(first.id, second.id).map(|merge| Reverse((merge.rank, left, merge.merged)))
        };
        queue
            .extend((1..symbols.len() as u32).filter_map(|right| entry(symbols, right - 1, right)));
        while let Some(Reverse((_, at, merged))) = queue.pop() {
            let left = symbols[at as usize];
            // Either symbol may have merged with another one since; if they still make the same
            // token, they do.
            let Some(right) = symbols.get(left.after as usize).copied().filter(|_| left.id != NONE)
            else {
                continue;
            };
            if self.get(left.id, right.id).is_none_or(|merge| merge.merged != merged) {
                continue;
            }
            symbols[left.after as usize].id = NONE;
            symbols[at as usize] = Symbol { id: merged, after: right.after, ..left };
            if let Some(after) = symbols.get_mut(right.after as usize) {
                after.before = at;
            }
            queue.extend(entry(symbols, left.before, at));
            queue.extend(entry(symbols, at, right.after));
        }
        out.extend(symbols.iter().map(|symbol| symbol.id).filter(|&id| id != NONE));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Model as _;
    use tokenizers::models::bpe::BPE;

    use super::*;

    /// The letters of the words.
    const LETTERS: [&str; 3] = ["a", "b", "c"];

    /// Tokens that `chosen` pairs of tokens make, and the merges that make them; a text that is
    /// made twice is one token.
    fn vocabulary(chosen: &[(u32, u32)]) -> (Vec<String>, Vec<[u32; 3]>) {
        let mut texts: Vec<String> = LETTERS.map(str::to_owned).into();
        let mut merges = Vec::new();
        for &(left, right) in chosen {
            let [left, right] = [left, right].map(|id| id as usize % texts.len());
            let text = [texts[left].as_str(), &texts[right]].concat();
            let merged = texts.iter().position(|other| *other == text).unwrap_or_else(|| {
                texts.push(text);
                texts.len() - 1
            });
            merges.push([left as u32, right as u32, merged as u32]);
        }
        (texts, merges)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn equal_to_the_tokenizers_crate(
            chosen in proptest::collection::vec((0_u32..12, 0_u32..12), 0..16),
            letters in proptest::collection::vec(0_u32..3, 0..24),
        ) {
            let (texts, list) = vocabulary(&chosen);
            let merges = Merges::new(texts.len(), list.iter().map(|merge| Ok(Some(*merge)))).unwrap();
            let mut ids = Vec::new();
            merges.apply(letters.iter().copied(), &mut Word::default(), &mut ids);

            let pairs = list.iter().map(|&[left, right, _]| (texts[left as usize].clone(), texts[right as usize].clone())).collect();
            let vocab = texts.iter().cloned().zip(0..).collect();
            let reference = BPE::builder().vocab_and_merges::<tokenizers::models::bpe::Vocab>(vocab, pairs).build().unwrap();
            let word: String = letters.iter().map(|&letter| LETTERS[letter as usize]).collect();
            let expected: Vec<u32> = reference.tokenize(&word).unwrap().iter().map(|token| token.id).collect();
            prop_assert_eq!(ids, expected, "{:?} by {:?}", word, list);
        }
    }

    #[test]
    fn a_list_that_breaks_off_is_refused_and_gaps_keep_their_rank() {
        let list = [Ok(Some([0, 1, 2])), Ok(None), Ok(Some([1, 0, 3]))];
        let merges = Merges::new(4, list.into_iter()).unwrap();
        let check = |ids: &[u32], expected: &[u32]| {
            let mut out = Vec::new();
            merges.apply(ids.iter().copied(), &mut Word::default(), &mut out);
            assert_eq!(out, expected, "{ids:?}");
        };
        check(&[], &[]);
        check(&[1, 0, 1], &[1, 2]);
        check(&[1, 0, 0], &[3, 0]);
        check(&[3, 3], &[3, 3]);
        let broken = Merges::new(4, [Ok(Some([0, 1, 2])), Err("merge 1".to_owned())].into_iter());
        assert_eq!(broken.unwrap_err(), "merge 1");
    }
}
