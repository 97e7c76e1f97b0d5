//! Packed linear layers: unpacking against ggml's definition, products against f64, every kernel
//! against the scalar one, and the bit-exact invariance of a row's result.

use candor::internals::format::dtype::{Dtype, RawTensor};
use candor::internals::model::cpu::linear::{Activations, PackedMatrix, Product, linear, linear_n};
use candor::internals::model::cpu::{Isa, Pool};
use half::{bf16, f16};

/// xorshift64*, good enough to fill blocks.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In [-1, 1).
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn units(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }
}

/// Byte offsets of the f16 values of a block.
fn scales(dtype: Dtype) -> &'static [usize] {
    match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => &[],
        Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 => &[0],
        Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4K | Dtype::Q5K => &[0, 2],
        Dtype::Q2K => &[80, 82],
        Dtype::Q3K => &[108],
        Dtype::Q6K => &[208],
    }
}

/// How the bytes of a matrix are made.
#[derive(Clone, Copy, Debug)]
enum Fill {
    /// Random quants, scales in (-2, 2).
    Random,
    /// All quants and integer scales at their maximum, scales positive.
    Ones,
    /// All quants and integer scales at their minimum.
    Zeros,
    /// All bytes 0x80: -128 and similar values.
    Signs,
    /// Random quants, and extreme f16 scales: largest, smallest, zero, negative.
    Extreme,
}

const FILLS: [Fill; 5] = [Fill::Random, Fill::Ones, Fill::Zeros, Fill::Signs, Fill::Extreme];

fn matrix(
    dtype: Dtype,
    out: usize,
    width: usize,
    fill: Fill,
    random: &mut Random,
) -> RawTensor<'static> {
    let shape = vec![out, width];
    if !dtype.is_quantized() {
        let number = |random: &mut Random| match fill {
            Fill::Random => random.unit(),
            Fill::Ones => 1.0,
            Fill::Zeros => 0.0,
            Fill::Signs => -1.0,
            Fill::Extreme => [65504.0, -65504.0, 6e-8, 0.0][random.next() as usize % 4],
        };
        let bytes = (0..out * width).flat_map(|_| match (dtype, number(random)) {
            (Dtype::F16, x) => f16::from_f32(x).to_le_bytes().to_vec(),
            (Dtype::BF16, x) => bf16::from_f32(x).to_le_bytes().to_vec(),
            (_, x) => x.to_le_bytes().to_vec(),
        });
        return RawTensor { dtype, shape, bytes: bytes.collect::<Vec<_>>().into() };
    }
    let mut bytes: Vec<u8> = match fill {
        Fill::Random | Fill::Extreme => {
            (0..dtype.bytes_for(out * width).unwrap()).map(|_| random.next() as u8).collect()
        }
        Fill::Ones => vec![0xff; dtype.bytes_for(out * width).unwrap()],
        Fill::Zeros => vec![0; dtype.bytes_for(out * width).unwrap()],
        Fill::Signs => vec![0x80; dtype.bytes_for(out * width).unwrap()],
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for &at in scales(dtype) {
            let number = match fill {
                Fill::Random => f16::from_f32(random.unit() * 2.0),
                Fill::Extreme => {
                    [f16::MAX, f16::MIN, f16::from_bits(1), f16::ZERO][random.next() as usize % 4]
                }
                _ => f16::ONE,
            };
            block[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
    }
    RawTensor { dtype, shape, bytes: bytes.into() }
}

/// One block by the format's definition (`ggml-common.h`, `dequantize_row_*` of `ggml-quants.c`):
/// each value, and the magnitude of its terms, which bounds the rounding error.
fn dequantize(dtype: Dtype, b: &[u8]) -> Vec<(f32, f32)> {
    let half = |at: usize| f16::from_le_bytes([b[at], b[at + 1]]).to_f32();
    let nibble = |at: usize, i: usize, span: usize| b[at + i % span] >> (i / span * 4) & 15;
    let scaled = |d: f32, code: i32| (d * code as f32, (d * code as f32).abs());
    let moved =
        |d: f32, code: i32, m: f32| (d * code as f32 + m, (d * code as f32).abs() + m.abs());
    // The 6-bit scale and minimum of block j of Q4_K and Q5_K.
    let pair = |j: usize| {
        let s = &b[4..16];
        if j < 4 {
            (s[j] & 63, s[j + 4] & 63)
        } else {
            (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
        }
    };
    let k45 = |i: usize, code: u8| {
        let (scale, min) = pair(i / 32);
        moved(half(0) * f32::from(scale), i32::from(code), -(half(2) * f32::from(min)))
    };
    let number = |i: usize| match dtype {
        Dtype::F32 => (
            f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            f32::from_le_bytes([b[0], b[1], b[2], b[3]]).abs(),
        ),
        Dtype::F16 => (half(0), half(0).abs()),
        Dtype::BF16 => (
            bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            bf16::from_le_bytes([b[0], b[1]]).to_f32().abs(),
        ),
        Dtype::Q4_0 => scaled(half(0), i32::from(nibble(2, i, 16)) - 8),
        Dtype::Q4_1 => moved(half(0), i32::from(nibble(4, i, 16)), half(2)),
        Dtype::Q5_0 => {
            scaled(half(0), i32::from(nibble(6, i, 16) | (b[2 + i / 8] >> (i % 8) & 1) << 4) - 16)
        }
        Dtype::Q5_1 => moved(
            half(0),
            i32::from(nibble(8, i, 16) | (b[4 + i / 8] >> (i % 8) & 1) << 4),
            half(2),
        ),
        Dtype::Q8_0 => scaled(half(0), i32::from(b[2 + i] as i8)),
        Dtype::Q2K => {
            let code = b[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            let scale = b[i / 16];
            moved(
                half(80) * f32::from(scale & 15),
                i32::from(code),
                -(half(82) * f32::from(scale >> 4)),
            )
        }
        Dtype::Q3K => {
            let code = b[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            let high = b[i % 32] >> (i / 32) & 1;
            let (s, j) = (&b[96..108], i / 16);
            let scale = s[j % 8] >> (j / 8 * 4) & 15 | (s[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
            scaled(
                half(108) * (f32::from(scale) - 32.0),
                i32::from(code) - if high == 1 { 0 } else { 4 },
            )
        }
        Dtype::Q4K => k45(i, nibble(16 + i / 64 * 32, i % 64, 32)),
        Dtype::Q5K => {
            k45(i, nibble(48 + i / 64 * 32, i % 64, 32) | (b[16 + i % 32] >> (i / 32) & 1) << 4)
        }
        Dtype::Q6K => {
            let low = b[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15;
            let high = b[128 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            scaled(half(208) * f32::from(b[192 + i / 16] as i8), i32::from(low | high << 4) - 32)
        }
    };
    (0..dtype.block_len()).map(number).collect()
}

fn dequantize_all(raw: &RawTensor<'_>) -> Vec<(f32, f32)> {
    raw.bytes
        .chunks_exact(raw.dtype.block_bytes())
        .flat_map(|block| dequantize(raw.dtype, block))
        .collect()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

fn pool() -> &'static Pool {
    static POOL: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();
    POOL.get_or_init(|| Pool::new(2))
}

fn instructions() -> impl Iterator<Item = Isa> {
    Isa::ALL.iter().copied().filter(|isa| isa.is_available())
}

fn product(pool: &Pool, isa: Isa, matrix: &PackedMatrix, x: &[f32]) -> Vec<f32> {
    let rows = x.len() / matrix.width();
    let mut activations = Activations::new(isa).unwrap();
    activations.set(pool, x, rows, &[matrix]);
    let mut y = vec![f32::NAN; rows * matrix.rows()];
    linear(pool, matrix, &activations, None, &mut y);
    y
}

fn width(dtype: Dtype, blocks: usize) -> usize {
    match dtype.block_len() {
        1 => blocks * 19,
        len => blocks * len,
    }
}

#[test]
fn the_reference_agrees_with_ggml() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../golden/cpu/blocks.json")).unwrap();
    let bytes = |hex: &serde_json::Value| -> Vec<u8> {
        hex.as_str()
            .unwrap()
            .as_bytes()
            .chunks(2)
            .map(|b| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 16).unwrap())
            .collect()
    };
    for dtype in Dtype::ALL {
        let row = &golden["rows"][dtype.name()];
        let want: Vec<u32> = bytes(&row["f32"])
            .chunks(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let raw = RawTensor { dtype, shape: vec![1, 256], bytes: bytes(&row["bytes"]).into() };
        let reference: Vec<f32> = dequantize_all(&raw).iter().map(|x| x.0).collect();
        let mut packed = vec![0.0; 256];
        PackedMatrix::pack(&raw, pool()).unwrap().row(0, &mut packed);
        for (got, what) in
            [(bits(&reference), "the test's reference"), (bits(&packed), "the packed row")]
        {
            // Zero has two signs, and d * (u - 8) keeps one that other orders of operations lose.
            let differ = got
                .iter()
                .zip(&want)
                .filter(|(a, b)| a != b && (**a | **b) & 0x7fff_ffff != 0)
                .count();
            assert_eq!(differ, 0, "{dtype}: {what}");
        }
    }
}

#[test]
fn rows_survive_packing() {
    let mut random = Random(1);
    for dtype in Dtype::ALL {
        for (out, blocks, fill) in [
            (1, 1, Fill::Random),
            (16, 3, Fill::Random),
            (37, 5, Fill::Random),
            (17, 2, Fill::Extreme),
            (5, 9, Fill::Signs),
        ] {
            let width = width(dtype, blocks);
            let raw = matrix(dtype, out, width, fill, &mut random);
            let packed = PackedMatrix::pack(&raw, pool()).unwrap();
            let mut row = vec![f32::NAN; width];
            for (i, want) in dequantize_all(&raw).chunks_exact(width).enumerate() {
                packed.row(i, &mut row);
                assert!(
                    row.iter().zip(want).all(|(got, want)| got == &want.0),
                    "{packed:?}, {fill:?}, row {i}"
                );
            }
            assert!(
                packed.bytes() >= raw.bytes.len() || matches!(dtype, Dtype::Q4K | Dtype::Q5K),
                "{packed:?}"
            );
        }
    }
}

#[test]
fn packing_costs_little_memory() {
    // (type, bytes relative to the file). 2-bit and 3-bit types are rare and stored as 4 bits.
    let rows = [
        (Dtype::Q4_0, 1.0),
        (Dtype::Q4_1, 1.0),
        (Dtype::Q5_0, 1.0),
        (Dtype::Q5_1, 1.0),
        (Dtype::Q8_0, 1.0),
        (Dtype::Q4K, 1.028),
        (Dtype::Q5K, 1.023),
        (Dtype::Q6K, 1.0),
        (Dtype::Q2K, 1.96),
        (Dtype::Q3K, 1.33),
        (Dtype::F32, 1.0),
        (Dtype::F16, 1.0),
        (Dtype::BF16, 1.0),
    ];
    for (dtype, limit) in rows {
        let raw = matrix(dtype, 64, 2048, Fill::Zeros, &mut Random(1));
        let ratio =
            PackedMatrix::pack(&raw, pool()).unwrap().bytes() as f64 / raw.bytes.len() as f64;
        assert!(ratio <= limit, "{dtype}: {ratio}");
    }
}

/// Inputs that are hard for the quantization or the integer sums.
fn inputs(width: usize, random: &mut Random) -> Vec<Vec<f32>> {
    let mut peaks = random.units(width);
    peaks.iter_mut().step_by(32).for_each(|x| *x *= 1000.0);
    let mut sparse = vec![0.0; width];
    sparse[width / 2] = -3.0;
    vec![
        random.units(width),
        peaks,
        sparse,
        vec![0.0; width],
        vec![1.0; width],
        vec![-1.0; width],
        (0..width).map(|i| if i % 2 == 0 { 1e25 } else { -1e25 }).collect(),
        random.units(width).iter().map(|x| x * 1e-36).collect(),
        random.units(width).iter().map(|x| x * 1e-30).collect(),
    ]
}

/// The product is within the error of quantized activations and f32 sums: half a quant step per
/// block, and, for every block, two roundings of the sum of magnitudes so far (for dense types one
/// per input), plus some for the products themselves.
fn check_against_f64(raw: &RawTensor<'_>, packed: &PackedMatrix, x: &[f32], what: &str) {
    let (out, width) = (packed.rows(), packed.width());
    let weights = dequantize_all(raw);
    let y = product(pool(), Isa::best(), packed, x);
    let quantized = raw.dtype.is_quantized();
    let roundings = if quantized { 2 * width / 32 + 4 } else { width + 2 };
    for row in 0..out {
        let w = &weights[row * width..][..width];
        let (mut want, mut magnitude, mut steps) = (0.0, 0.0, 0.0);
        for (w, x) in w.chunks(32).zip(x.chunks(32)) {
            let peak = f64::from(x.iter().fold(0.0f32, |max, x| max.max(x.abs())));
            // A rounded product may be just beyond half a step; a block that counts as zero loses
            // everything.
            let step = if !quantized {
                0.0
            } else if peak < 1e-35 {
                peak
            } else {
                peak / 254.0 * 1.0001
            };
            for (w, x) in w.iter().zip(x) {
                want += f64::from(w.0) * f64::from(*x);
                magnitude += f64::from(w.1)
                    * f64::from(x.abs()).max(if quantized { peak / 127.0 } else { 0.0 });
                steps += f64::from(w.0.abs()) * step;
            }
        }
        let got = f64::from(y[row]);
        let allowed = steps + magnitude * roundings as f64 * f64::from(f32::EPSILON) + 1e-38;
        assert!(
            (got - want).abs() <= allowed,
            "{what}: row {row}: {got}, want {want} within {allowed}"
        );
    }
}

#[test]
fn products_are_near_the_f64_product() {
    let mut random = Random(2);
    for dtype in Dtype::ALL {
        for fill in FILLS {
            let width = width(dtype, 3);
            let raw = matrix(dtype, 19, width, fill, &mut random);
            let packed = PackedMatrix::pack(&raw, pool()).unwrap();
            for (index, x) in inputs(width, &mut random).into_iter().enumerate() {
                check_against_f64(&raw, &packed, &x, &format!("{dtype} {fill:?} input {index}"));
            }
        }
    }
}

#[test]
fn every_kernel_equals_the_scalar_kernel() {
    let mut random = Random(3);
    for dtype in Dtype::ALL {
        for fill in FILLS {
            for (out, blocks) in [(1, 1), (16, 2), (33, 5)] {
                let width = width(dtype, blocks);
                let packed =
                    PackedMatrix::pack(&matrix(dtype, out, width, fill, &mut random), pool())
                        .unwrap();
                // Few columns, and many with a remainder: kernels treat them differently.
                let few = inputs(width, &mut random).concat();
                let many = [few.clone(), inputs(width, &mut random).concat(), random.units(width)]
                    .concat();
                for x in [&few[..2 * width], &few, &many] {
                    let want = product(pool(), Isa::Scalar, &packed, x);
                    for isa in instructions() {
                        let rows = x.len() / width;
                        assert_eq!(
                            bits(&product(pool(), isa, &packed, x)),
                            bits(&want),
                            "{packed:?} {fill:?} {isa:?} {rows} rows"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_is_the_same_in_any_batch_place_and_thread_count() {
    let mut random = Random(4);
    let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
    for dtype in Dtype::ALL {
        let (out, width) = (83, width(dtype, 4));
        let packed =
            PackedMatrix::pack(&matrix(dtype, out, width, Fill::Random, &mut random), pool())
                .unwrap();
        let row = random.units(width);
        for isa in instructions().filter(|&isa| isa != Isa::Scalar || dtype == Dtype::Q4K) {
            let alone = product(&pools[0], isa, &packed, &row);
            for (rows, place) in [
                (2, 1),
                (3, 0),
                (4, 3),
                (5, 4),
                (8, 5),
                (9, 8),
                (64, 63),
                (65, 64),
                (130, 70),
                (513, 512),
            ] {
                let mut x = random.units(rows * width);
                x[place * width..][..width].copy_from_slice(&row);
                for pool in &pools {
                    let y = product(pool, isa, &packed, &x);
                    assert_eq!(
                        bits(&y[place * out..][..out]),
                        bits(&alone),
                        "{dtype} {isa:?}: row {place} of {rows}, {pool:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_with_nan_affects_only_itself() {
    let mut random = Random(5);
    for dtype in Dtype::ALL {
        let (out, width) = (17, width(dtype, 2));
        let packed =
            PackedMatrix::pack(&matrix(dtype, out, width, Fill::Random, &mut random), pool())
                .unwrap();
        for isa in instructions() {
            let x = random.units(3 * width);
            let clean = product(pool(), isa, &packed, &x);
            for (bad, at) in
                [(f32::NAN, 0), (f32::INFINITY, width - 1), (f32::NEG_INFINITY, width / 2)]
            {
                let mut x = x.clone();
                x[width + at] = bad;
                let y = product(pool(), isa, &packed, &x);
                assert!(y[out..2 * out].iter().all(|y| !y.is_finite()), "{dtype} {isa:?} {bad}");
                assert_eq!(bits(&y[..out]), bits(&clean[..out]), "{dtype} {isa:?} {bad}");
                assert_eq!(bits(&y[2 * out..]), bits(&clean[2 * out..]), "{dtype} {isa:?} {bad}");
            }
        }
    }
}

#[test]
fn several_products_fill_and_bias_give_the_same_bits() {
    let mut random = Random(6);
    let (width, rows) = (256, 37);
    // Both forms at once: quantized activations and f32.
    let kinds = [(Dtype::Q4_1, 48), (Dtype::F16, 5), (Dtype::Q6K, 130), (Dtype::Q8_0, 1)];
    let packed = kinds.map(|(dtype, out)| {
        PackedMatrix::pack(&matrix(dtype, out, width, Fill::Random, &mut random), pool()).unwrap()
    });
    let x = random.units(rows * width);
    let bias = random.units(130);
    let want: Vec<Vec<f32>> =
        packed.iter().map(|matrix| product(pool(), Isa::best(), matrix, &x)).collect();
    let mut activations = Activations::default();
    for filled in [false, true] {
        let all: Vec<&PackedMatrix> = packed.iter().collect();
        if filled {
            activations.fill(pool(), rows, &all, |row, out| {
                out.copy_from_slice(&x[row * width..][..width]);
            });
        } else {
            activations.set(pool(), &x, rows, &all);
        }
        let mut outputs: Vec<Vec<f32>> =
            packed.iter().map(|matrix| vec![f32::NAN; rows * matrix.rows()]).collect();
        let [a, b, c, d] = outputs.get_disjoint_mut([0, 1, 2, 3]).unwrap();
        let product = |index: usize, y| Product {
            matrix: &packed[index],
            bias: (packed[index].rows() == 130).then_some(&bias),
            y,
        };
        linear_n(
            pool(),
            &activations,
            [product(0, a), product(1, b), product(2, c), product(3, d)],
        );
        for ((matrix, y), want) in packed.iter().zip(&outputs).zip(&want) {
            let add =
                |(i, y): (usize, &f32)| if matrix.rows() == 130 { y + bias[i % 130] } else { *y };
            assert_eq!(
                bits(y),
                bits(&want.iter().enumerate().map(add).collect::<Vec<_>>()),
                "{matrix:?}, filled: {filled}"
            );
        }
    }
}

#[test]
fn shapes_that_do_not_make_a_matrix_are_errors() {
    let check = |dtype: Dtype, shape: &[usize], bytes: usize, want: &str| {
        let raw = RawTensor { dtype, shape: shape.to_vec(), bytes: vec![0; bytes].into() };
        let error = PackedMatrix::pack(&raw, pool()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    check(Dtype::F32, &[4], 16, "shape [4]");
    check(Dtype::Q8_0, &[2, 16], 34, "rows must be whole blocks");
    check(Dtype::Q4K, &[2, 256], 144, "144 bytes");
    check(Dtype::Q4K, &[usize::MAX, 256], 0, "rows must be whole blocks");
}

#[test]
fn empty_products_are_fine() {
    let empty = RawTensor { dtype: Dtype::Q4_0, shape: vec![0, 32], bytes: Vec::new().into() };
    let packed = PackedMatrix::pack(&empty, pool()).unwrap();
    assert!(product(pool(), Isa::best(), &packed, &[0.0; 64]).is_empty());
    let packed =
        PackedMatrix::pack(&matrix(Dtype::Q4_0, 3, 32, Fill::Random, &mut Random(7)), pool())
            .unwrap();
    assert!(product(pool(), Isa::best(), &packed, &[]).is_empty());
}
