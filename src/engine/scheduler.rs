//! Which requests compute in the next step.
//!
//! Requests start in the order of submission. A request waits while a running one is prefilling a
//! prefix that it shares, because the prefix cache will then hold it. Memory is not reserved
//! for the worst case: if the running requests outgrow the budget, the youngest loses its cache and
//! is recomputed later, which does not change its samples.

use std::collections::VecDeque;

use super::RequestId;
use super::prefix_cache::{PrefixCache, common_prefix};
use super::request::RequestState;
use crate::model::Row;
use crate::model::kv::KvSeq;

/// Waiting for a running prefill is worth a step from this many shared tokens on: a tile of keys.
const MIN_SHARED_PREFIX: usize = 16;

/// Queues and token budgets.
pub(super) struct Scheduler {
    waiting: VecDeque<RequestState>,
    running: Vec<RequestState>,
    layers: usize,
    /// Tokens of keys and values that may be in memory.
    kv_budget: usize,
    max_batch_tokens: usize,
}

impl Scheduler {
    pub fn new(layers: usize, kv_budget: usize, max_batch_tokens: usize) -> Self {
        let (waiting, running) = (VecDeque::new(), Vec::new());
        Self { waiting, running, layers, kv_budget, max_batch_tokens }
    }

    pub fn submit(&mut self, request: RequestState) {
        self.waiting.push_back(request);
    }

    pub fn cancel(&mut self, id: RequestId) {
        self.waiting.retain(|request| request.id != id);
        self.running.retain(|request| request.id != id);
    }

    pub fn clear_running(&mut self) {
        self.running.clear();
    }

    pub fn running(&self) -> &[RequestState] {
        &self.running
    }

    pub fn running_mut(&mut self) -> &mut [RequestState] {
        &mut self.running
    }

    /// The running requests that are finished or failed, in order of submission.
    pub fn take_finished(&mut self) -> Vec<RequestState> {
        let mut finished: Vec<_> =
            self.running.extract_if(.., |request| request.is_finished()).collect();
        finished.sort_by_key(|request| request.id);
        finished
    }

    /// The rows of the next forward pass; each request's are consecutive, in the order of
    /// [`Self::running`].
    pub fn schedule(&mut self, prefix_cache: &mut PrefixCache) -> Vec<Row<'_>> {
        self.admit(prefix_cache);
        self.preempt();
        let decoding: usize = self.running.iter().map(RequestState::decode_rows).sum();
        let mut left =
            self.max_batch_tokens.saturating_sub(decoding).max(self.max_batch_tokens / 4).max(1);
        let mut rows = Vec::with_capacity(decoding + self.running.len());
        for request in &mut self.running {
            left -= request.push_rows(left, &mut rows);
        }
        rows
    }

    fn kv_tokens(&self) -> usize {
        self.running.iter().map(RequestState::kv_tokens).sum()
    }

    /// Starts waiting requests while the budget covers their initial need.
    fn admit(&mut self, prefix_cache: &mut PrefixCache) {
        let mut at = 0;
        while let Some(request) = self.waiting.get(at) {
            let fits = self.kv_tokens() + request.admission_tokens() <= self.kv_budget;
            if !fits && !self.running.is_empty() {
                return;
            }
            let wanted = request.cacheable();
            let (cached, views) = prefix_cache.lookup(wanted);
            let prefilling = self.running.iter().filter_map(|running| {
                let tokens = running.prefilling()?;
                (running.is_held() || prefix_cache.can_hold(tokens.len())).then_some(tokens)
            });
            let shared = prefilling.map(|tokens| common_prefix(tokens, wanted)).max().unwrap_or(0);
            if shared >= cached + MIN_SHARED_PREFIX {
                at += 1;
                continue;
            }
            let Some(mut request) = self.waiting.remove(at) else { return };
            request.start(KvSeq::from_views(self.layers, views));
            self.running.push(request);
        }
    }

    /// Takes the cache of the youngest requests until the next step fits the budget. The oldest
    /// one always continues: submission checked that it fits alone.
    fn preempt(&mut self) {
        while self.running.len() > 1
            && self.kv_tokens() + self.running.iter().map(RequestState::decode_rows).sum::<usize>()
                > self.kv_budget
        {
            let youngest = (0..self.running.len()).max_by_key(|&i| self.running[i].id);
            let Some(youngest) = youngest else { return };
            let mut request = self.running.remove(youngest);
            request.restart(self.layers);
            let at = self.waiting.partition_point(|other| other.id < request.id);
            self.waiting.insert(at, request);
        }
    }
}
