//! Finds samples that repeat themselves.
//!
//! A sample is in a loop when its last tokens are one sequence of at most [`MAX_PERIOD`] tokens
//! over and over: at least [`MIN_REPEATS`] times, and at least [`MIN_TOKENS`] tokens together.

/// The longest sequence that is recognized, in tokens.
const MAX_PERIOD: usize = 32;
/// How often it must occur.
const MIN_REPEATS: usize = 4;
/// How many tokens the occurrences must have together: twenty elements of an array of zeros pass.
const MIN_TOKENS: usize = 64;

/// Counts, for every period, how many tokens in a row equal the one a period before.
#[derive(Clone, Default)]
pub struct LoopDetector {
    runs: [u32; MAX_PERIOD],
}

/// The repetition at the end of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Tokens of the repeated sequence.
    pub period: usize,
    /// Tokens of all its occurrences, the last one possibly incomplete.
    pub tokens: usize,
}

impl LoopDetector {
    /// Takes the last of `len` tokens into account; `id` gives the token at an index. Returns the
    /// loop with the shortest period, if the sample is in one.
    pub fn push(&mut self, len: usize, id: impl Fn(usize) -> u32) -> Option<Repeat> {
        let at = len.checked_sub(1)?;
        let last = id(at);
        let mut found = None;
        for (run, period) in self.runs.iter_mut().zip(1..) {
            let repeats = at >= period && id(at - period) == last;
            *run = if repeats { *run + 1 } else { 0 };
            let tokens = *run as usize + period;
            if tokens >= MIN_TOKENS.max(MIN_REPEATS * period) {
                found = found.or(Some(Repeat { period, tokens }));
            }
        }
        found
    }

    /// The loop at the end of a sample.
    pub fn find(ids: &[u32]) -> Option<Repeat> {
        let mut detector = Self::default();
        let id = |at: usize| ids.get(at).copied().unwrap_or_default();
        (1..=ids.len()).fold(None, |_, len| detector.push(len, id))
    }
}
