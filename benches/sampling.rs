//! Speed of statistics and sampler chain over one row of logits, on one thread.
//!
//! ```text
//! cargo bench --bench sampling
//! ```
//!
//! The time is that of one row; items are logits, for the vocabularies of three real models.

use std::hint::black_box;

use candor::internals::engine::sampler::{Candidates, History, Scratch};
use candor::internals::generation::SamplingParams;
use candor::internals::logits;
use divan::Bencher;
use divan::counter::ItemsCount;

const VOCABULARIES: [usize; 3] = [49_152, 151_936, 262_144];

/// Realistic logits: most of them far below a few.
fn row(len: usize) -> Vec<f32> {
    let mut state = 88172645463325252u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..len)
        .map(|_| {
            4.0 * (uniform() + uniform() + uniform() + uniform() - 2.0) - 2.0
                + 12.0 * uniform().powi(64)
        })
        .collect()
}

#[divan::bench(args = VOCABULARIES)]
fn statistics(bencher: Bencher, len: usize) {
    let z = row(len);
    bencher.counter(ItemsCount::new(len)).bench_local(|| logits::distribution(black_box(&z)));
}

/// The chain over a row at temperature 0.7, and one sampled token.
fn chain(bencher: Bencher, len: usize, params: &SamplingParams) {
    let (z, mut scratch) = (row(len), Scratch::default());
    bencher.counter(ItemsCount::new(len)).bench_local(|| {
        let candidates = Candidates::new(params, black_box(&z), History::default(), &mut scratch)
            .expect("finite logits");
        black_box(candidates.sample(0.4, &z));
        scratch.recycle(candidates);
    });
}

fn warm() -> SamplingParams {
    SamplingParams { temperature: 0.7, ..SamplingParams::default() }
}

#[divan::bench(args = VOCABULARIES)]
fn unfiltered(bencher: Bencher, len: usize) {
    chain(bencher, len, &warm());
}

#[divan::bench(args = VOCABULARIES)]
fn top_p(bencher: Bencher, len: usize) {
    chain(bencher, len, &SamplingParams { top_p: 0.9, ..warm() });
}

#[divan::bench(args = VOCABULARIES)]
fn top_k(bencher: Bencher, len: usize) {
    chain(bencher, len, &SamplingParams { top_k: 40, ..warm() });
}

#[divan::bench(args = VOCABULARIES)]
fn min_p(bencher: Bencher, len: usize) {
    chain(bencher, len, &SamplingParams { min_p: 0.05, ..warm() });
}

#[divan::bench(args = VOCABULARIES)]
fn top_k_and_top_p(bencher: Bencher, len: usize) {
    chain(bencher, len, &SamplingParams { top_k: 40, top_p: 0.95, ..warm() });
}

fn main() {
    divan::main();
}
