//! Random numbers of tasks that are made on the spot: the same for everybody, from a named stream.
//!
//! Contract: a stream is a function of its name alone (splitmix64 over a counter), so that anybody
//! can make the same questions in any language. It does not know what is drawn.

use crate::metrics::bootstrap::mix;

/// A stream of numbers.
pub(super) struct Stream {
    key: u64,
    counter: u64,
}

impl Stream {
    /// The stream of a task (`tag`) and one of its questions.
    pub fn new(tag: u64, question: u64) -> Self {
        Self { key: mix(tag ^ mix(question)), counter: 0 }
    }

    /// The next number from 0 to `end - 1`. The bias of the remainder is below `end` / 2^64.
    pub fn below(&mut self, end: usize) -> usize {
        let number = mix(self.key ^ mix(self.counter));
        self.counter += 1;
        (number % end.max(1) as u64) as usize
    }

    /// `count` different ones of `all`, in random order; all of them if there are fewer.
    pub fn some<T: Copy>(&mut self, all: &[T], count: usize) -> Vec<T> {
        let mut rest = all.to_vec();
        let count = count.min(rest.len());
        for i in 0..count {
            let other = i + self.below(rest.len() - i);
            rest.swap(i, other);
        }
        rest.truncate(count);
        rest
    }
}
