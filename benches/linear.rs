//! Speed of the packed linear layers in the shapes of three real models.
//!
//! ```text
//! CANDOR_ONLY=Q4_1 cargo bench --bench linear
//! ```
//!
//! One case per matrix and number of activation rows. Items are operations (a multiply-add is two);
//! bytes are those of the weights. Copies of a matrix that exceed the processor's caches are used
//! in turn, so that weights come from memory as in a step (a matrix larger than the cache has one
//! copy). The time includes quantizing the activations. The environment selects threads and
//! instruction set: see `common`.

use std::fmt;
use std::hint::black_box;

use candor::internals::format::dtype::{Dtype, RawTensor};
use candor::internals::model::cpu::Pool;
use candor::internals::model::cpu::linear::{Activations, PackedMatrix, linear};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

mod common;

/// (model, type, outputs, inputs).
const SHAPES: &[(&str, Dtype, usize, usize)] = &[
    ("smollm2 q", Dtype::Q4_1, 576, 576),
    ("smollm2 k", Dtype::Q4_1, 192, 576),
    ("smollm2 up", Dtype::Q4_1, 1536, 576),
    ("smollm2 down", Dtype::Q4_1, 576, 1536),
    ("smollm2 head", Dtype::Q8_0, 49152, 576),
    ("qwen2 q", Dtype::Q5_0, 896, 896),
    ("qwen2 up", Dtype::Q5_0, 4864, 896),
    ("qwen2 down", Dtype::Q4K, 896, 4864),
    ("qwen2 down", Dtype::Q6K, 896, 4864),
    ("qwen2 head", Dtype::Q8_0, 151936, 896),
    ("gemma3 q", Dtype::Q5_0, 1024, 640),
    ("gemma3 up", Dtype::Q5_0, 2048, 640),
    ("gemma3 down", Dtype::Q4K, 640, 2048),
    ("gemma3 head", Dtype::Q8_0, 262144, 640),
    ("other", Dtype::Q4_0, 2048, 2048),
    ("other", Dtype::Q5_1, 2048, 2048),
    ("other", Dtype::Q5K, 2048, 2048),
    ("other", Dtype::Q2K, 2048, 2048),
    ("other", Dtype::Q3K, 2048, 2048),
    ("other", Dtype::F32, 2048, 2048),
    ("other", Dtype::F16, 2048, 2048),
    ("other", Dtype::BF16, 2048, 2048),
];

const ROWS: [usize; 5] = [1, 4, 8, 32, 128];
/// Total bytes of a matrix's copies, more than any cache.
const BEYOND_CACHES: usize = 64 << 20;

struct Case {
    name: &'static str,
    dtype: Dtype,
    out: usize,
    width: usize,
    rows: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} {}x{}, {} rows",
            self.name,
            self.dtype.name(),
            self.out,
            self.width,
            self.rows
        )
    }
}

fn cases() -> Vec<Case> {
    let each = SHAPES.iter().flat_map(|&(name, dtype, out, width)| {
        ROWS.map(|rows| Case { name, dtype, out, width, rows })
    });
    common::selected(each)
}

fn pack(pool: &Pool, dtype: Dtype, out: usize, width: usize) -> PackedMatrix {
    let bytes = dtype.bytes_for(width).expect("whole blocks") * out;
    // Any bytes will do if no scale is infinite or NaN and no dense value is subnormal, which would
    // be slow: the bit that is always set makes each at least 2^-63.
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as u8 & 0x3b | 0x20
    };
    let raw = RawTensor {
        dtype,
        shape: vec![out, width],
        bytes: (0..bytes).map(|_| byte()).collect::<Vec<_>>().into(),
    };
    PackedMatrix::pack(&raw, pool).expect("packs")
}

#[divan::bench(args = cases(), max_time = 0.5)]
fn product(bencher: Bencher, &Case { dtype, out, width, rows, .. }: &Case) {
    let pool = common::pool();
    let first = pack(pool, dtype, out, width);
    let bytes = first.bytes();
    let copies = (BEYOND_CACHES / bytes).max(1);
    let matrices: Vec<_> =
        std::iter::once(first).chain((1..copies).map(|_| pack(pool, dtype, out, width))).collect();
    let x: Vec<f32> = (0..rows * width).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
    let mut y = vec![0.0; rows * out];
    let mut activations = Activations::new(common::isa()).expect("the processor has it");
    let mut turn = 0;
    bencher
        .counter(ItemsCount::new(2 * rows * out * width))
        .counter(BytesCount::new(bytes))
        .bench_local(|| {
            turn += 1;
            let matrix = &matrices[turn % matrices.len()];
            activations.set(pool, black_box(&x), rows, &[matrix]);
            linear(pool, matrix, &activations, None, black_box(&mut y));
        });
}

/// Cost of a fork-join with empty tasks.
#[divan::bench(args = [2, 16, 64])]
fn fork_join(bencher: Bencher, tasks: usize) {
    let pool = common::pool();
    bencher.bench_local(|| pool.for_each(tasks, |task| _ = black_box(task)));
}

fn main() {
    divan::main();
}
