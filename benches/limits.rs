//! Limits of this machine, to compare the kernels' figures with.
//!
//! ```text
//! cargo bench --bench limits [-- --threads N]
//! ```
//!
//! Memory bandwidth (sums over 512 MB), and multiply-adds of 8-bit integers and of f32 in registers
//! (one is two operations). Medians of nine runs.

use std::hint::black_box;
use std::time::Instant;

use candor::internals::model::cpu::{Isa, Pool, physical_cores};

const BYTES: usize = 512 << 20;
const RUNS: usize = 9;

fn median_seconds(mut f: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            f();
            started.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

fn read(pool: &Pool, data: &[u64]) -> f64 {
    let shares = pool.threads() * 64;
    let share = data.len() / shares;
    let seconds = median_seconds(|| {
        pool.for_each(shares, |at| {
            black_box(
                data[at * share..(at + 1) * share].iter().fold(0u64, |sum, x| sum.wrapping_add(*x)),
            );
        });
    });
    1e-9 * BYTES as f64 / seconds
}

#[cfg(target_arch = "x86_64")]
mod arithmetic {
    #![allow(clippy::wildcard_imports)] // Intrinsics have a prefix.

    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Instructions per accumulator.
    pub const STEPS: usize = 4_000_000;

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn dpbusd() {
        let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
        let mut sums = [_mm512_setzero_si512(); 12];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f")]
    pub fn fma512() {
        let (a, b) = (black_box(_mm512_set1_ps(1.0)), black_box(_mm512_set1_ps(0.5)));
        let mut sums = [_mm512_setzero_ps(); 12];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }

    /// `maddubs`, `maddwd` by ones and `paddd`: an 8-bit product of AVX2.
    #[target_feature(enable = "avx2")]
    pub fn maddubs() {
        let (a, b, ones) = (
            black_box(_mm256_set1_epi8(3)),
            black_box(_mm256_set1_epi8(5)),
            black_box(_mm256_set1_epi16(1)),
        );
        let mut sums = [_mm256_setzero_si256(); 12];
        for _ in 0..STEPS {
            for sum in &mut sums {
                // Depends on the sum, so that the product cannot be hoisted out of the loop.
                *sum = _mm256_add_epi32(
                    *sum,
                    _mm256_madd_epi16(_mm256_maddubs_epi16(a, _mm256_xor_si256(b, *sum)), ones),
                );
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn fma256() {
        let (a, b) = (black_box(_mm256_set1_ps(1.0)), black_box(_mm256_set1_ps(0.5)));
        let mut sums = [_mm256_setzero_ps(); 12];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "x86_64")]
fn arithmetic(pool: &Pool) {
    let rate = |name: &str, multiply_adds: usize, f: &(dyn Fn() + Sync)| {
        let seconds = median_seconds(|| pool.run(|_, _| f()));
        let operations = 2 * multiply_adds * 12 * arithmetic::STEPS * pool.threads();
        println!("{name:<40} {:>8.0} Gop/s", 1e-9 * operations as f64 / seconds);
    };
    if Isa::Avx512Vnni.is_available() {
        // SAFETY: the instructions were just found.
        rate("u8 x i8, AVX-512 VNNI", 64, &|| unsafe { arithmetic::dpbusd() });
        // SAFETY: as above.
        rate("f32, AVX-512", 16, &|| unsafe { arithmetic::fma512() });
    }
    if Isa::Avx2.is_available() {
        // SAFETY: the instructions were just found.
        rate("u8 x i8, AVX2 (with one xor a product)", 32, &|| unsafe { arithmetic::maddubs() });
        // SAFETY: as above.
        rate("f32, AVX2", 8, &|| unsafe { arithmetic::fma256() });
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn arithmetic(_pool: &Pool) {}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments
        .windows(2)
        .find(|pair| pair[0] == "--threads")
        .and_then(|pair| pair[1].parse().ok());
    let pool = Pool::new(given.unwrap_or_else(physical_cores));
    pool.pin_caller();
    println!("{} threads, {:?}", pool.threads(), Isa::best());
    let data: Vec<u64> = (0..BYTES as u64 / 8).collect();
    println!("{:<40} {:>8.1} GB/s", "reading memory", read(&pool, &data));
    arithmetic(&pool);
}
