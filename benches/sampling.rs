//! Speed of what follows the head: statistics and the sampler chain over one row of logits, on one thread.
//!
//!     cargo bench --bench sampling
//!
//! Microseconds a row (median of many) and nanoseconds a logit, for the vocabularies of three real models.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candor::engine::sampler::{Candidates, History, Scratch};
use candor::generation::SamplingParams;
use candor::logits;

const VOCABULARIES: [usize; 3] = [49_152, 151_936, 262_144];
const TIME: Duration = Duration::from_millis(300);

/// Logits as models make them: most of them far below a few.
fn row(len: usize) -> Vec<f32> {
    let mut state = 88172645463325252u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..len).map(|_| 4.0 * (uniform() + uniform() + uniform() + uniform() - 2.0) - 2.0 + 12.0 * uniform().powi(64)).collect()
}

fn measure(name: &str, len: usize, mut f: impl FnMut()) {
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < TIME {
        let from = Instant::now();
        f();
        times.push(from.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!("{name:<34} {len:>7} logits {median:>9.1} us {:>7.2} ns a logit", median * 1e3 / len as f64);
}

fn main() {
    for len in VOCABULARIES {
        let z = row(len);
        measure("statistics", len, || {
            black_box(logits::distribution(black_box(&z)));
        });
        let plain = SamplingParams { temperature: 0.7, ..SamplingParams::default() };
        let chains = [
            ("candidates, unfiltered", plain.clone()),
            ("candidates, top-p 0.9", SamplingParams { top_p: 0.9, ..plain.clone() }),
            ("candidates, top-k 40", SamplingParams { top_k: 40, ..plain.clone() }),
            ("candidates, min-p 0.05", SamplingParams { min_p: 0.05, ..plain.clone() }),
            ("candidates, top-k 40, top-p 0.95", SamplingParams { top_k: 40, top_p: 0.95, ..plain }),
        ];
        let mut scratch = Scratch::default();
        for (name, params) in chains {
            measure(name, len, || {
                let candidates = Candidates::new(&params, black_box(&z), History::default(), &mut scratch).expect("finite logits");
                black_box(candidates.pick(0.4));
                scratch.recycle(candidates);
            });
        }
    }
}
