//! Speed of the packed linear layers over the shapes of three real models.
//!
//!     cargo bench --bench linear -- [--threads N] [--isa avx2] [--rows 1,8] [--only Q4_1] [--copies 1]
//!
//! One line per matrix and number of activation rows: Gop/s (a multiply-add is two operations) and, as bytes of weights over time,
//! GB/s, of the median of many short runs. The mean shows what other processes take. Copies of a matrix
//! beyond the caches take turns, so that weights come from memory as they do in a step (a matrix larger than the cache has one copy);
//! `--copies 1` shows the kernel alone. Quantising the activations is part of the time.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candor::model::cpu::{Activations, Isa, PackedMatrix, Pool, linear, physical_cores};
use candor::model::dtype::{Dtype, RawTensor};

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

/// Weights that copies of a matrix take together: more than any cache here.
const BEYOND_CACHES: usize = 64 << 20;
const TIME: Duration = Duration::from_millis(250);

struct Options {
    threads: usize,
    isa: Isa,
    rows: Vec<usize>,
    only: String,
    copies: usize,
}

fn options() -> Options {
    let mut options =
        Options { threads: physical_cores(), isa: Isa::best(), rows: vec![1, 4, 8, 32, 128], only: String::new(), copies: 256 };
    let arguments: Vec<String> = std::env::args().collect();
    for pair in arguments.windows(2) {
        let value = pair[1].as_str();
        match pair[0].as_str() {
            "--copies" => options.copies = value.parse().expect("--copies takes a number"),
            "--threads" => options.threads = value.parse().expect("--threads takes a number"),
            "--rows" => options.rows = value.split(',').map(|rows| rows.parse().expect("--rows takes numbers")).collect(),
            "--only" => value.clone_into(&mut options.only),
            "--isa" => {
                let named = |isa: &&Isa| format!("{isa:?}").eq_ignore_ascii_case(value);
                options.isa = *Isa::ALL.iter().find(named).expect("--isa takes scalar, avx2 or avx512vnni");
            }
            _ => {}
        }
    }
    options
}

fn pack(pool: &Pool, dtype: Dtype, out: usize, width: usize) -> PackedMatrix {
    let bytes = dtype.bytes_for(width).expect("whole blocks") * out;
    // Any bytes will do as long as no scale is infinite or NaN.
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as u8 & 0x3b
    };
    let raw = RawTensor { dtype, shape: vec![out, width], bytes: (0..bytes).map(|_| byte()).collect::<Vec<_>>().into() };
    PackedMatrix::pack(&raw, pool).expect("packs")
}

/// Seconds.
fn time(f: impl FnOnce()) -> f64 {
    let started = Instant::now();
    f();
    started.elapsed().as_secs_f64()
}

fn main() {
    let options = options();
    let pool = Pool::new(options.threads);
    pool.pin_caller();
    println!("{} threads, {:?}", pool.threads(), options.isa);
    for tasks in [2, 16, 64] {
        let mut times: Vec<f64> = (0..20_000).map(|_| time(|| pool.for_each(tasks, |task| _ = black_box(task)))).collect();
        times.sort_by(f64::total_cmp);
        println!("a fork-join of {tasks} empty tasks: median {:.2} us, 99 % {:.2} us", times[10_000] * 1e6, times[19_800] * 1e6);
    }
    println!(
        "{:<13} {:<5} {:>15} {:>5} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "matrix", "type", "shape", "rows", "best us", "median", "mean", "Gop/s", "GB/s"
    );
    for &(name, dtype, out, width) in SHAPES.iter().filter(|shape| shape.1.name().contains(&options.only)) {
        let first = pack(&pool, dtype, out, width);
        let copies = (BEYOND_CACHES / first.bytes()).clamp(1, options.copies);
        let matrices: Vec<_> = std::iter::once(first).chain((1..copies).map(|_| pack(&pool, dtype, out, width))).collect();
        for &rows in &options.rows {
            let x: Vec<f32> = (0..rows * width).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
            let mut y = vec![0.0; rows * out];
            let mut activations = Activations::new(options.isa).expect("the processor has it");
            let mut times = Vec::new();
            let started = Instant::now();
            while started.elapsed() < TIME || times.len() < 5 {
                let matrix = &matrices[times.len() % matrices.len()];
                times.push(time(|| {
                    activations.set(&pool, black_box(&x), rows, &[matrix]);
                    linear(&pool, matrix, &activations, None, black_box(&mut y));
                }));
            }
            times.sort_by(f64::total_cmp);
            let (best, median) = (times[0], times[times.len() / 2]);
            let (gop, gb) = (2e-9 * (rows * out * width) as f64 / median, 1e-9 * matrices[0].bytes() as f64 / median);
            let mean = times.iter().sum::<f64>() / times.len() as f64 * 1e6;
            let shape = format!("{out}x{width}");
            let (best, median) = (best * 1e6, median * 1e6);
            println!("{name:<13} {:<5} {shape:>15} {rows:>5} {best:>9.1} {median:>9.1} {mean:>9.1} {gop:>8.1} {gb:>8.1}", dtype.name());
        }
    }
}
