//! The prefix cache: a radix map from token sequences to the segments that hold their keys and
//! values.
//!
//! It keeps references to segments under a byte budget and evicts the least recently used first. A
//! [`CacheHold`] keeps what was inserted under it beyond the budget, until the hold is dropped. A
//! hit changes cost and nothing else: the segments hold the same bytes that a miss would
//! compute.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::model::kv::{View, slice_chain};

/// Keeps cached tokens alive while any clone of it lives.
#[derive(Clone, Debug, Default)]
pub struct CacheHold(Arc<()>);

/// A radix map under a byte budget.
#[derive(Debug)]
pub(super) struct PrefixCache {
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
    /// The holds on this node and its ancestors.
    holds: Vec<Weak<()>>,
}

impl PrefixCache {
    /// A cache of at most `budget_bytes`, tokens counted at `bytes_per_token`. Zero keeps only
    /// held entries.
    pub fn new(budget_bytes: usize, bytes_per_token: usize) -> Self {
        let budget_tokens = budget_bytes / bytes_per_token.max(1);
        Self { root: Node::default(), bytes_per_token, budget_tokens, tokens: 0, clock: 0 }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.tokens * self.bytes_per_token
    }

    /// Whether this many tokens would be kept without a hold.
    pub fn can_hold(&self, tokens: usize) -> bool {
        tokens <= self.budget_tokens
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

    /// Inserts `tokens`, whose keys and values `views` hold from the first token on.
    pub fn insert(&mut self, tokens: &[u32], views: &[View], hold: Option<&CacheHold>) {
        if hold.is_none() && !self.can_hold(tokens.len()) {
            return;
        }
        self.clock += 1;
        self.tokens += self.root.insert(tokens, views, self.clock, hold);
        self.evict();
    }

    /// Drops the least recently used leaves that nobody holds until the budget is met.
    pub fn evict(&mut self) {
        while self.tokens > self.budget_tokens {
            match self.root.evict_oldest_leaf() {
                0 => return,
                evicted => self.tokens -= evicted,
            }
        }
    }
}

impl Node {
    /// Returns how many tokens are new.
    fn insert(
        &mut self,
        tokens: &[u32],
        views: &[View],
        clock: u64,
        hold: Option<&CacheHold>,
    ) -> usize {
        let Some(first) = tokens.first() else { return 0 };
        let new = !self.children.contains_key(first);
        let child = self.children.entry(*first).or_insert_with(|| Self {
            tokens: tokens.to_vec(),
            views: views.to_vec(),
            ..Self::default()
        });
        child.last_used = clock;
        let common = common_prefix(&child.tokens, tokens);
        if common < child.tokens.len() && common < tokens.len() {
            child.split(common);
        }
        if common < tokens.len() {
            return child.insert(
                &tokens[common..],
                &slice_chain(views, common..tokens.len()),
                clock,
                hold,
            );
        }
        if let Some(CacheHold(hold)) = hold {
            child.holds.retain(|held| held.strong_count() > 0);
            child.holds.push(Arc::downgrade(hold));
        }
        if new { tokens.len() } else { 0 }
    }

    /// Splits the edge after `at` tokens.
    fn split(&mut self, at: usize) {
        let len = self.tokens.len();
        let rest = Node {
            tokens: self.tokens.split_off(at),
            views: slice_chain(&self.views, at..len),
            children: std::mem::take(&mut self.children),
            last_used: self.last_used,
            holds: std::mem::take(&mut self.holds),
        };
        self.views = slice_chain(&self.views, 0..at);
        self.children.insert(rest.tokens[0], rest);
    }

    /// When the least recently used leaf that may go was used.
    fn oldest_leaf(&self) -> Option<u64> {
        if self.children.is_empty() {
            let held = self.holds.iter().any(|held| held.strong_count() > 0);
            return (!held).then_some(self.last_used);
        }
        self.children.values().filter_map(Node::oldest_leaf).min()
    }

    /// Removes the least recently used leaf below that nobody holds; returns its number of tokens.
    fn evict_oldest_leaf(&mut self) -> usize {
        let ages =
            self.children.iter().filter_map(|(key, child)| Some((child.oldest_leaf()?, *key)));
        let Some((_, key)) = ages.min() else { return 0 };
        match self.children.get_mut(&key) {
            Some(child) if !child.children.is_empty() => child.evict_oldest_leaf(),
            _ => self.children.remove(&key).map_or(0, |leaf| leaf.tokens.len()),
        }
    }
}

/// Length of the common prefix.
pub(super) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matching is about tokens; views are tested with the engine.
    fn check(inserted: &[&[u32]], budget_tokens: usize, probes: &[(&[u32], usize)]) {
        let mut cache = PrefixCache::new(budget_tokens * 8, 8);
        for tokens in inserted {
            cache.insert(tokens, &[], None);
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

    #[test]
    fn what_is_held_stays_until_the_hold_is_dropped() {
        let mut cache = PrefixCache::new(4 * 8, 8);
        let hold = CacheHold::default();
        cache.insert(&[1, 2, 3], &[], Some(&hold));
        // Held beyond the budget; what nobody holds goes instead.
        cache.insert(&[1, 2, 3, 4, 5], &[], Some(&hold));
        cache.insert(&[7, 7], &[], None);
        assert_eq!((cache.lookup(&[1, 2, 3, 4, 5]).0, cache.lookup(&[7, 7]).0), (5, 0));
        // An inner node stays held when its edge is split and its leaf goes.
        cache.insert(&[1, 2, 9], &[], None);
        assert_eq!((cache.lookup(&[1, 2, 9]).0, cache.bytes()), (2, 5 * 8));
        drop(hold);
        cache.evict();
        assert!(cache.bytes() <= 4 * 8);
    }
}
