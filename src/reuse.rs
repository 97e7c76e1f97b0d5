//! Memory that is used again: what a loop holds in lists allocates nothing once it has been round.

/// An empty list in the memory of `old`, for elements that borrow something else.
pub(crate) fn emptied<T, U>(mut old: Vec<T>) -> Vec<U> {
    old.clear();
    // Nothing is left to be made anything else; a list that is collected from a list of elements of
    // the same size takes over its memory.
    old.into_iter().filter_map(|_| None).collect()
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
}
