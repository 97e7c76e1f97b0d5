//! Speed of attention over a shared cache, in the shapes of three real models.
//!
//!     cargo bench --bench attention [-- --threads N] [--only TEXT] [--isa NAME]
//!
//! One line per model, context and number of rows on it: microseconds a layer (median of many), Gop/s (a multiply-add is two operations),
//! and the cache's bytes over that time. Layers take turns over copies beyond the caches, as in a step. `prefill` is the last 256 tokens
//! of one row's context.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candor::model::cpu::attention::{HostKv, Part, Query, Shape, attend};
use candor::model::cpu::{Isa, Pool, physical_cores};

/// (model, query heads, key-value heads, dimensions of a head).
const SHAPES: [(&str, usize, usize, usize); 3] = [("smollm2", 9, 3, 64), ("qwen2", 14, 2, 64), ("gemma3", 4, 1, 256)];
const CONTEXTS: [usize; 3] = [256, 1024, 4096];
const ROWS: [usize; 4] = [1, 8, 32, 64];
const PREFILL: usize = 256;
/// Bytes of cache that the copies take together.
const BEYOND_CACHES: usize = 64 << 20;
const TIME: Duration = Duration::from_millis(250);

fn cache(isa: Isa, shape: Shape, tokens: usize) -> HostKv {
    let width = shape.kv_heads * shape.head_dim;
    let numbers: Vec<f32> = (0..tokens * width).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let mut kv = HostKv::default();
    kv.append(isa, shape, &numbers, &numbers);
    kv
}

fn measure(pool: &Pool, isa: Isa, shape: Shape, caches: &[HostKv], what: &str, ends: &[usize]) {
    let width = shape.heads * shape.head_dim;
    let q: Vec<f32> = (0..ends.len() * width).map(|i| ((i * 31) % 100) as f32 / 50.0 - 1.0).collect();
    let mut out = vec![0.0; q.len()];
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < TIME || times.len() < 5 {
        let kv = &caches[times.len() % caches.len()];
        let parts = [Part { kv, start: 0, end: kv.len() }];
        let queries: Vec<Query<'_>> = ends.iter().map(|&end| Query { parts: &parts, start: 0, end }).collect();
        let from = Instant::now();
        attend(pool, isa, shape, &queries, black_box(&q), &mut out);
        times.push(from.elapsed().as_secs_f64());
        black_box(&out);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let operations: usize = ends.iter().map(|end| 4 * width * end).sum();
    let bytes = 4 * shape.kv_heads * shape.head_dim * ends.iter().max().unwrap_or(&0);
    println!(
        "{what:<34} {:>9.1} us {:>7.1} Gop/s {:>6.1} GB/s",
        median * 1e6,
        1e-9 * operations as f64 / median,
        1e-9 * bytes as f64 / median
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let given = |flag: &str| arguments.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].as_str());
    let pool = Pool::new(given("--threads").and_then(|threads| threads.parse().ok()).unwrap_or_else(physical_cores));
    let only = given("--only").unwrap_or_default();
    pool.pin_caller();
    let named = |name: &str| Isa::ALL.iter().copied().find(|isa| isa.is_available() && format!("{isa:?}").eq_ignore_ascii_case(name));
    let isa = given("--isa").and_then(named).unwrap_or_else(Isa::best);
    println!("{} threads, {isa:?}", pool.threads());
    for (name, heads, kv_heads, head_dim) in SHAPES {
        let shape = Shape { heads, kv_heads, head_dim, scale: (head_dim as f32).sqrt().recip(), soft_cap: None };
        for context in CONTEXTS {
            let copies = BEYOND_CACHES / (4 * kv_heads * head_dim * context);
            let caches: Vec<HostKv> = (0..copies).map(|_| cache(isa, shape, context)).collect();
            for rows in ROWS {
                let what = format!("{name} {context} tokens, {rows} rows");
                if what.contains(only) {
                    measure(&pool, isa, shape, &caches, &what, &vec![context; rows]);
                }
            }
            let prefill: Vec<usize> = (context - PREFILL + 1..=context).collect();
            let what = format!("{name} {context} tokens, prefill");
            if what.contains(only) {
                measure(&pool, isa, shape, &caches, &what, &prefill);
            }
        }
    }
}
