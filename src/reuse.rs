//! Memory that is used again: what a loop holds in lists allocates nothing once it has been round.

use std::sync::{Mutex, PoisonError};

/// An empty list in the memory of `old`, for elements that borrow something else.
pub(crate) fn emptied<T, U>(mut old: Vec<T>) -> Vec<U> {
    old.clear();
    // Nothing is left to be made anything else; a list that is collected from a list of elements of
    // the same size takes over its memory.
    old.into_iter().filter_map(|_| None).collect()
}

/// Values that keep their memory while nobody uses them.
#[derive(Debug, Default)]
pub(crate) struct Idle<T>(Mutex<Vec<T>>);

impl<T: Default> Idle<T> {
    /// Lends one, as its last user left it; a new one where all are lent.
    pub(crate) fn lend<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let idle = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = idle().pop();
        let mut value = lent.unwrap_or_default();
        let result = work(&mut value);
        idle().push(value);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_list_keeps_its_memory() {
        let words = ["a".to_owned(), "b".to_owned()];
        let list: Vec<&str> = words.iter().map(String::as_str).collect();
        let (at, capacity) = (list.as_ptr().addr(), list.capacity());
        let list: Vec<&'static str> = emptied(list);
        assert_eq!((list.len(), list.as_ptr().addr(), list.capacity()), (0, at, capacity));
    }

    #[test]
    fn what_is_lent_comes_back() {
        let idle = Idle::<Vec<u8>>::default();
        idle.lend(|outer| {
            outer.push(1);
            idle.lend(|inner| assert!(inner.is_empty()));
        });
        idle.lend(|last| assert_eq!(*last, [1]));
    }
}
