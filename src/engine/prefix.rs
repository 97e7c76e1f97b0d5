//! The prefix cache: a radix map from token sequences to the segments that hold their keys and
//! values.
//!
//! It keeps references to segments, least recently used out first, under a byte budget. A hit
//! changes cost and nothing else: the segments are the very bytes that a miss would compute. It
//! knows tokens and views, and neither prompts nor samples.

use std::collections::BTreeMap;

use crate::model::kv::{View, slice_chain};

/// A radix map under a byte budget.
#[derive(Debug)]
pub struct PrefixCache {
    root: Node,
    bytes_per_token: usize,
    budget_tokens: usize,
    tokens: usize,
    clock: u64,
}

#[derive(Debug, Default)]
struct Node {
    /// The edge that leads here.
    tokens: Vec<u32>,
    views: Vec<View>,
    children: BTreeMap<u32, Node>,
    last_used: u64,
}

impl PrefixCache {
    /// A cache of at most `budget_bytes`, tokens counted at `bytes_per_token`. Zero switches it
    /// off.
    pub fn new(budget_bytes: usize, bytes_per_token: usize) -> Self {
        let budget_tokens = budget_bytes / bytes_per_token.max(1);
        Self { root: Node::default(), bytes_per_token, budget_tokens, tokens: 0, clock: 0 }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.tokens * self.bytes_per_token
    }

    /// The longest cached prefix of `tokens`: its length and its views.
    pub fn lookup(&mut self, tokens: &[u32]) -> (usize, Vec<View>) {
        self.clock += 1;
        let mut node = &mut self.root;
        let (mut matched, mut views) = (0, Vec::new());
        while let Some(child) = tokens.get(matched).and_then(|first| node.children.get_mut(first)) {
            child.last_used = self.clock;
            let common = common_prefix(&child.tokens, &tokens[matched..]);
            views.extend(slice_chain(&child.views, 0..common));
            matched += common;
            if common < child.tokens.len() {
                break;
            }
            node = child;
        }
        (matched, views)
    }

    /// Remembers `tokens`, whose keys and values `views` hold from the first token on.
    pub fn insert(&mut self, tokens: &[u32], views: &[View]) {
        if tokens.len() > self.budget_tokens {
            return;
        }
        self.clock += 1;
        self.tokens += self.root.insert(tokens, views, self.clock);
        while self.tokens > self.budget_tokens {
            self.tokens -= self.root.evict_oldest_leaf();
        }
    }
}

impl Node {
    /// Returns how many tokens are new.
    fn insert(&mut self, tokens: &[u32], views: &[View], clock: u64) -> usize {
        let Some(first) = tokens.first() else { return 0 };
        let Some(child) = self.children.get_mut(first) else {
            let leaf = Node {
                tokens: tokens.to_vec(),
                views: views.to_vec(),
                children: BTreeMap::new(),
                last_used: clock,
            };
            self.children.insert(*first, leaf);
            return tokens.len();
        };
        child.last_used = clock;
        let common = common_prefix(&child.tokens, tokens);
        if common < child.tokens.len() && common < tokens.len() {
            child.split(common);
        }
        child.insert(&tokens[common..], &slice_chain(views, common..tokens.len()), clock)
    }

    /// Splits the edge after `at` tokens.
    fn split(&mut self, at: usize) {
        let len = self.tokens.len();
        let rest = Node {
            tokens: self.tokens.split_off(at),
            views: slice_chain(&self.views, at..len),
            children: std::mem::take(&mut self.children),
            last_used: self.last_used,
        };
        self.views = slice_chain(&self.views, 0..at);
        self.children.insert(rest.tokens[0], rest);
    }

    fn oldest_leaf(&self) -> u64 {
        self.children.values().map(Node::oldest_leaf).min().unwrap_or(self.last_used)
    }

    /// Removes the least recently used leaf below and returns its number of tokens.
    fn evict_oldest_leaf(&mut self) -> usize {
        let Some((&key, _)) = self.children.iter().min_by_key(|(_, child)| child.oldest_leaf())
        else {
            return 0;
        };
        match self.children.get_mut(&key) {
            Some(child) if !child.children.is_empty() => child.evict_oldest_leaf(),
            _ => self.children.remove(&key).map_or(0, |leaf| leaf.tokens.len()),
        }
    }
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matching is about tokens; views are tested with the engine.
    fn check(inserted: &[&[u32]], budget_tokens: usize, probes: &[(&[u32], usize)]) {
        let mut cache = PrefixCache::new(budget_tokens * 8, 8);
        for tokens in inserted {
            cache.insert(tokens, &[]);
        }
        assert!(cache.bytes() <= budget_tokens * 8);
        for (probe, expected) in probes {
            assert_eq!(cache.lookup(probe).0, *expected, "{probe:?} after {inserted:?}");
        }
    }

    #[test]
    fn finds_the_longest_prefix() {
        check(
            &[&[1, 2, 3, 4], &[1, 2, 5]],
            100,
            &[
                (&[1, 2, 3, 9], 3),
                (&[1, 2, 5, 6], 3),
                (&[2], 0),
                (&[], 0),
                (&[1, 2, 3, 4], 4),
                (&[1], 1),
            ],
        );
        check(&[&[1, 2], &[1, 2, 3]], 100, &[(&[1, 2, 3], 3)]);
        check(&[&[1, 2, 3], &[1, 2]], 100, &[(&[1, 2, 3], 3)]);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        check(
            &[&[1, 1, 1], &[2, 2, 2], &[3, 3, 3]],
            6,
            &[(&[1, 1, 1], 0), (&[2, 2, 2], 3), (&[3, 3, 3], 3)],
        );
        check(&[&[1, 2, 3, 4], &[1, 2, 9, 9]], 5, &[(&[1, 2, 3, 4], 2), (&[1, 2, 9, 9], 4)]);
        check(&[&[1; 7]], 6, &[(&[1; 7], 0)]);
        check(&[&[1; 7]], 0, &[(&[1; 7], 0)]);
    }
}
