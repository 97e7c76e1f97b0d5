//! Speed of attention over a shared cache, in the shapes of three real models.
//!
//! ```text
//! CANDOR_ONLY="smollm2, 4096" cargo bench --bench attention
//! ```
//!
//! One case per model, context and number of rows, and `prefill`: the last 256 tokens of one row's
//! context. The time is that of one layer; items are operations (a multiply-add is two); bytes are
//! those of the cache, read once. Copies that exceed the processor's caches are used in turn, like
//! the layers of a step. The environment selects threads and instruction set: see `common`.

use std::fmt;
use std::hint::black_box;

use candor::internals::model::cpu::attention::{HostKv, KvRange, Query, Shape, attend};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

mod common;

/// (model, query heads, key-value heads, head dimensions).
const SHAPES: [(&str, usize, usize, usize); 3] =
    [("smollm2", 9, 3, 64), ("qwen2", 14, 2, 64), ("gemma3", 4, 1, 256)];
const CONTEXTS: [usize; 3] = [256, 1024, 4096];
const ROWS: [usize; 4] = [1, 8, 32, 64];
const PREFILL: usize = 256;
/// Total bytes of the copies.
const BEYOND_CACHES: usize = 256 << 20;

struct Case {
    model: &'static str,
    shape: Shape,
    context: usize,
    /// Rows at the end of the context; `None` for a prefill.
    rows: Option<usize>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} tokens, ", self.model, self.context)?;
        match self.rows {
            Some(rows) => write!(f, "{rows} rows"),
            None => write!(f, "prefill"),
        }
    }
}

fn cases() -> Vec<Case> {
    let kinds = ROWS.map(Some).into_iter().chain([None]);
    let each = SHAPES.iter().flat_map(|shape| CONTEXTS.map(|context| (shape, context)));
    common::selected(each.flat_map(|(&(model, heads, kv_heads, head_dim), context)| {
        let shape = Shape {
            heads,
            kv_heads,
            head_dim,
            scale: (head_dim as f32).sqrt().recip(),
            soft_cap: None,
        };
        kinds.clone().map(move |rows| Case { model, shape, context, rows })
    }))
}

#[divan::bench(args = cases(), max_time = 1)]
fn layer(bencher: Bencher, &Case { shape, context, rows, .. }: &Case) {
    let (pool, isa) = (common::pool(), common::isa());
    let kv_width = shape.kv_heads * shape.head_dim;
    let numbers: Vec<f32> =
        (0..context * kv_width).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let cache = |_| {
        let mut kv = HostKv::default();
        kv.append(isa, shape, &numbers, &numbers);
        kv
    };
    let caches: Vec<HostKv> = (0..BEYOND_CACHES / (4 * kv_width * context)).map(cache).collect();
    let ends = rows
        .map_or_else(|| (context - PREFILL + 1..=context).collect(), |rows| vec![context; rows]);
    let width = shape.heads * shape.head_dim;
    let q: Vec<f32> =
        (0..ends.len() * width).map(|i| ((i * 31) % 100) as f32 / 50.0 - 1.0).collect();
    let mut out = vec![0.0; q.len()];
    let mut attend_to = |kv: &HostKv| {
        let ranges = [KvRange { kv, start: 0, end: kv.len() }];
        let queries: Vec<Query<'_>> =
            ends.iter().map(|&end| Query { ranges: &ranges, start: 0, end }).collect();
        attend(pool, isa, shape, &queries, black_box(&q), black_box(&mut out));
    };
    // Distant spans are quantized when first used, and cached.
    caches.iter().for_each(&mut attend_to);
    let mut turn = 0;
    bencher
        .counter(ItemsCount::new(ends.iter().map(|end| 4 * width * end).sum::<usize>()))
        .counter(BytesCount::new(4 * kv_width * context))
        .bench_local(|| {
            turn += 1;
            attend_to(&caches[turn % caches.len()]);
        });
}

fn main() {
    divan::main();
}
