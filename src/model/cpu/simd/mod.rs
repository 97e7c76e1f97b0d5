//! Sixteen f32 lanes, an abstraction over the instruction sets, for all kernels except the matrix
//! products.
//!
//! Every operation works lane by lane with one rounding, so a kernel over [`F32x16`] gives the same
//! bits on AVX-512, on AVX2 (two registers) and in plain Rust, which serves as the reference in
//! tests. A kernel implements [`Kernel`]; [`run`] compiles it once per instruction set and selects
//! one at run time.

use half::f16;

use super::Isa;

mod u16x32;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use u16x32::{U16_LANES, U16x32};

/// Number of lanes.
pub(super) const LANES: usize = 16;

/// Sixteen f32 values.
///
/// All functions are `unsafe` because their instructions must be available. [`run`] ensures that.
pub(super) trait F32x16: Copy {
    /// Query vectors whose scores with a tile of keys are accumulated in registers at once.
    const SCORE_VECTORS: usize;
    /// Registers of a row of values that are accumulated at once.
    const VALUE_REGISTERS: usize;
    /// Sixteen lanes of four bytes.
    type Bytes: Copy;
    /// Four bytes, broadcast to all lanes, in the form that the instructions need.
    type Quad: Copy;
    /// Bytes of memory for 64 int8 values in the form that [`quad`](Self::quad) loads.
    const QUAD_BYTES: usize;
    /// Sixteen 32-bit integers.
    type Ints: Copy;
    /// Thirty-two 16-bit integers.
    type U16x32: U16x32;

    /// # Safety
    /// The instruction set must be available, as for every function below.
    unsafe fn splat(x: f32) -> Self;
    /// # Safety
    /// 16 values must be readable at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// 16 f16 values must be readable at `from`.
    unsafe fn load_half(from: *const f16) -> Self;
    /// # Safety
    /// 16 values must be writable at `to`.
    unsafe fn store(self, to: *mut f32);
    /// Rounds to f16, ties to even.
    ///
    /// # Safety
    /// 16 f16 values must be writable at `to`.
    unsafe fn store_half(self, to: *mut f16);
    /// # Safety
    /// See the trait.
    unsafe fn add(self, other: Self) -> Self;
    /// # Safety
    /// See the trait.
    unsafe fn sub(self, other: Self) -> Self;
    /// # Safety
    /// See the trait.
    unsafe fn mul(self, other: Self) -> Self;
    /// # Safety
    /// See the trait.
    unsafe fn div(self, other: Self) -> Self;
    /// self * a + b, rounded once.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// `self` if it is larger than `other`, else `other`. If either is NaN: `other`, as on x86.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn max(self, other: Self) -> Self;
    /// `self` if it is smaller than `other`, else `other`. If either is NaN: `other`.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn min(self, other: Self) -> Self;
    /// 2^n, where the lowest bits of the float's representation hold the integer n, -126 to 127.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn exp2_of_low_bits(self) -> Self;

    /// # Safety
    /// 64 bytes must be readable at `from`.
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// Stores 64 int8 values in the form that [`quad`](Self::quad) loads.
    ///
    /// # Safety
    /// 64 bytes must be readable at `from` and [`QUAD_BYTES`](Self::QUAD_BYTES) writable at `to`.
    unsafe fn store_quads(from: *const u8, to: *mut u8);
    /// Stores the high bytes in the form that [`quad`](Self::quad) loads, as unsigned values,
    /// `even` and `odd` interleaved.
    ///
    /// # Safety
    /// [`QUAD_BYTES`](Self::QUAD_BYTES) bytes must be writable at `to`.
    unsafe fn store_high_bytes_as_quads(even: Self::U16x32, odd: Self::U16x32, to: *mut u8);
    /// Loads quad `index` of 64 int8 values.
    ///
    /// # Safety
    /// [`QUAD_BYTES`](Self::QUAD_BYTES) bytes must be readable at `from`, and `index` below 16.
    unsafe fn quad(from: *const u8, index: usize) -> Self::Quad;
    /// Adds 64 unsigned bytes, stored as quads, to the lanes: four to each lane, in any order.
    /// Exact.
    ///
    /// # Safety
    /// [`QUAD_BYTES`](Self::QUAD_BYTES) bytes must be readable at `from`.
    unsafe fn add_bytes(sums: Self::Ints, from: *const u8) -> Self::Ints;
    /// Which quads of 64 values are not all zero: bit k for quad k.
    ///
    /// # Safety
    /// [`QUAD_BYTES`](Self::QUAD_BYTES) bytes must be readable at `from`.
    unsafe fn nonzero_quads(from: *const u8) -> u16;
    /// # Safety
    /// See the trait.
    unsafe fn splat_int(x: i32) -> Self::Ints;
    /// Adds to each lane the four products of its bytes: `unsigned` is 0 to 255, `signed` -128 to
    /// 127. Exact.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn dot(sums: Self::Ints, unsigned: Self::Bytes, signed: Self::Quad) -> Self::Ints;
    /// The same with a broadcast quad of unsigned bytes.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn dot_quad(sums: Self::Ints, unsigned: Self::Quad, signed: Self::Bytes) -> Self::Ints;
    /// Rounds to the nearest f32, ties to even.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn from_ints(x: Self::Ints) -> Self;
    /// The low halves of the floats' representations, `even` and `odd` interleaved.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn low_u16(even: Self, odd: Self) -> Self::U16x32;
    /// Stores the lowest byte of each float's representation.
    ///
    /// # Safety
    /// 16 bytes must be writable at `to`.
    unsafe fn store_low_bytes(self, to: *mut u8);
    /// Stores, for each lane, the lowest byte of each of the four floats' representations.
    ///
    /// # Safety
    /// 64 bytes must be writable at `to`.
    unsafe fn store_four_low_bytes(four: [Self; 4], to: *mut u8);

    /// Loads the first `count` values, at most 16; the others are 0.
    ///
    /// # Safety
    /// `count` values must be readable at `from`.
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        if count >= LANES {
            // SAFETY: guaranteed by the caller.
            return unsafe { Self::load(from) };
        }
        let mut lanes = [0.0; LANES];
        // SAFETY: `count` is below 16, and the array does not overlap the source.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            Self::load(lanes.as_ptr())
        }
    }

    /// Stores the first `count` values, at most 16.
    ///
    /// # Safety
    /// `count` values must be writable at `to`.
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, count: usize) {
        if count >= LANES {
            // SAFETY: guaranteed by the caller.
            return unsafe { self.store(to) };
        }
        // SAFETY: `count` is below 16, and the array does not overlap the destination.
        unsafe { std::ptr::copy_nonoverlapping(self.lanes().as_ptr(), to, count) };
    }

    /// The lanes as an array.
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn lanes(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array has 16 elements; the caller guarantees the instructions.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }

    /// The sum of the lanes, by adding pairs 8, 4, 2 and 1 apart.
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: guaranteed by the caller.
        reduce(unsafe { self.lanes() }, |a, b| a + b)
    }

    /// The largest lane. A NaN may be lost.
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn max_lane(self) -> f32 {
        // SAFETY: guaranteed by the caller.
        reduce(unsafe { self.lanes() }, |a, b| if a > b { a } else { b })
    }
}

#[inline(always)]
fn reduce(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Code that is written once over [`F32x16`].
pub(super) trait Kernel {
    /// The result.
    type Out;
    /// Runs the kernel.
    ///
    /// # Safety
    /// V's instructions must be available.
    unsafe fn run<V: F32x16>(self) -> Self::Out;
}

/// Runs a kernel with `isa`, which must be available: it must come from [`Isa::best`] or have been
/// checked.
#[inline]
pub(super) fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    match isa {
        // SAFETY: plain Rust runs everywhere.
        Isa::Scalar => unsafe { kernel.run::<[f32; LANES]>() },
        // SAFETY: available by this function's contract.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { run_avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe { run_avx512(kernel) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Out {
    // SAFETY: this function enables the instructions.
    unsafe { kernel.run::<x86::Pair>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Out {
    // SAFETY: this function enables the instructions.
    unsafe { kernel.run::<std::arch::x86_64::__m512>() }
}

impl F32x16 for [f32; LANES] {
    const SCORE_VECTORS: usize = 4;
    const VALUE_REGISTERS: usize = 2;
    type Bytes = [u8; 64];
    type Quad = [u8; 4];
    const QUAD_BYTES: usize = 64;
    type Ints = [i32; LANES];
    type U16x32 = [u16; U16_LANES];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: guaranteed by the caller; an array of f32 has the alignment of f32.
        unsafe { from.cast::<Self>().read() }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self {
        // SAFETY: guaranteed by the caller.
        unsafe { from.cast::<[f16; LANES]>().read() }.map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: guaranteed by the caller.
        unsafe { to.cast::<Self>().write(self) };
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut f16) {
        // SAFETY: guaranteed by the caller.
        unsafe { to.cast::<[f16; LANES]>().write(self.map(f16::from_f32)) };
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] / other[i])
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|i| self[i].mul_add(a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] > other[i] { self[i] } else { other[i] })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] < other[i] { self[i] } else { other[i] })
    }
    #[inline(always)]
    unsafe fn exp2_of_low_bits(self) -> Self {
        self.map(|x| f32::from_bits(x.to_bits().wrapping_add(127) << 23))
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> [u8; 64] {
        // SAFETY: guaranteed by the caller.
        unsafe { from.cast::<[u8; 64]>().read() }
    }
    #[inline(always)]
    unsafe fn store_quads(from: *const u8, to: *mut u8) {
        // SAFETY: guaranteed by the caller.
        unsafe { to.cast::<[u8; 64]>().write(from.cast::<[u8; 64]>().read()) };
    }
    #[inline(always)]
    unsafe fn store_high_bytes_as_quads(
        even: [u16; U16_LANES],
        odd: [u16; U16_LANES],
        to: *mut u8,
    ) {
        let byte =
            |i: usize| (if i.is_multiple_of(2) { even[i / 2] } else { odd[i / 2] } >> 8) as u8;
        // SAFETY: guaranteed by the caller.
        unsafe { to.cast::<[u8; 64]>().write(std::array::from_fn(byte)) };
    }
    #[inline(always)]
    unsafe fn quad(from: *const u8, index: usize) -> [u8; 4] {
        // SAFETY: guaranteed by the caller.
        unsafe { from.add(4 * index).cast::<[u8; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn add_bytes(sums: [i32; LANES], from: *const u8) -> [i32; LANES] {
        // SAFETY: guaranteed by the caller.
        let codes = unsafe { from.cast::<[u8; 64]>().read() };
        std::array::from_fn(|lane| {
            sums[lane]
                + codes[4 * lane..4 * lane + 4].iter().map(|&code| i32::from(code)).sum::<i32>()
        })
    }
    #[inline(always)]
    unsafe fn nonzero_quads(from: *const u8) -> u16 {
        // SAFETY: guaranteed by the caller.
        let fours = unsafe { from.cast::<[[u8; 4]; LANES]>().read() };
        fours.iter().rev().fold(0, |bits, four| bits << 1 | u16::from(*four != [0; 4]))
    }
    #[inline(always)]
    unsafe fn splat_int(x: i32) -> [i32; LANES] {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn dot(sums: [i32; LANES], unsigned: [u8; 64], signed: [u8; 4]) -> [i32; LANES] {
        let product = |i: usize| i32::from(unsigned[i]) * i32::from(signed[i % 4].cast_signed());
        std::array::from_fn(|lane| sums[lane] + (4 * lane..4 * lane + 4).map(product).sum::<i32>())
    }
    #[inline(always)]
    unsafe fn dot_quad(sums: [i32; LANES], unsigned: [u8; 4], signed: [u8; 64]) -> [i32; LANES] {
        let product = |i: usize| i32::from(unsigned[i % 4]) * i32::from(signed[i].cast_signed());
        std::array::from_fn(|lane| sums[lane] + (4 * lane..4 * lane + 4).map(product).sum::<i32>())
    }
    #[inline(always)]
    unsafe fn from_ints(x: [i32; LANES]) -> Self {
        x.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn low_u16(even: Self, odd: Self) -> [u16; U16_LANES] {
        std::array::from_fn(|i| {
            if i.is_multiple_of(2) { even[i / 2] } else { odd[i / 2] }.to_bits() as u16
        })
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, to: *mut u8) {
        // SAFETY: guaranteed by the caller.
        unsafe { to.cast::<[u8; LANES]>().write(self.map(|x| x.to_bits() as u8)) };
    }
    #[inline(always)]
    unsafe fn store_four_low_bytes(four: [Self; 4], to: *mut u8) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            to.cast::<[u8; 64]>()
                .write(std::array::from_fn(|i| four[i % 4][i / 4].to_bits() as u8));
        };
    }
}

/// e^x within 2 ulp for x in [-87, 88], clamped beyond. NaN stays NaN. Cephes' polynomial after
/// reduction by ln 2.
///
/// # Safety
/// V's instructions must be available.
#[inline(always)]
pub(super) unsafe fn exp<V: F32x16>(x: V) -> V {
    /// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // SAFETY: guaranteed by the caller.
    unsafe {
        // `x` is the second operand, since `max` and `min` return the second one for NaN.
        let x = V::splat(88.0).min(V::splat(-87.0).max(x));
        let shifted = x.fma(V::splat(std::f32::consts::LOG2_E), V::splat(ROUND));
        let n = shifted.sub(V::splat(ROUND));
        let r = n.fma(V::splat(-0.693_359_4), x);
        let r = n.fma(V::splat(2.121_944_4e-4), r);
        let mut p = V::splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_1e-1] {
            p = p.fma(r, V::splat(c));
        }
        let y = p.mul(r).fma(r, r).add(V::splat(1.0));
        y.mul(shifted.exp2_of_low_bits())
    }
}

/// tanh x = 1 - 2 / (e^2x + 1), within 3e-7 absolute.
///
/// # Safety
/// V's instructions must be available.
#[inline(always)]
pub(super) unsafe fn tanh<V: F32x16>(x: V) -> V {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let one = V::splat(1.0);
        // Where the exponential's argument is clamped, tanh is 1 to the last bit.
        one.sub(V::splat(2.0).div(exp(x.add(x)).add(one)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp([f32; LANES]);

    impl Kernel for Exp {
        type Out = [f32; LANES];
        unsafe fn run<V: F32x16>(self) -> [f32; LANES] {
            // SAFETY: the array has 16 values; the caller guarantees the instructions.
            unsafe { exp(V::load(self.0.as_ptr())).lanes() }
        }
    }

    #[test]
    fn exp_is_near_the_library_and_agrees_on_every_isa() {
        let mut worst = 0.0f64;
        for step in -87_000..88_000i32 {
            let x: [f32; LANES] =
                std::array::from_fn(|lane| step as f32 * 1e-3 + lane as f32 * 6e-5);
            let want = run(Isa::Scalar, Exp(x));
            for (x, y) in x.iter().zip(want).filter(|(x, _)| (-87.0..=88.0).contains(*x)) {
                worst = worst.max((f64::from(y) / f64::from(*x).exp() - 1.0).abs());
            }
            for isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
                assert_eq!(
                    run(*isa, Exp(x)).map(f32::to_bits),
                    want.map(f32::to_bits),
                    "{isa:?} at {}",
                    x[0]
                );
            }
        }
        // 2 ulp of a value in [1, 2).
        assert!(worst < 2.4e-7, "{worst:e}");
    }

    #[test]
    fn exp_at_its_ends() {
        for isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
            let of = |x: f32| run(*isa, Exp([x; LANES]))[0];
            assert!(
                of(f32::NAN).is_nan()
                    && of(f32::NEG_INFINITY) < 2e-38
                    && of(f32::INFINITY).is_finite()
            );
            assert_eq!(of(0.0), 1.0);
        }
    }

    /// Sums of products of every quad with all bytes, in both roles; the sum of all bytes; and
    /// which quads are not all zero.
    struct QuadSums<'a>(&'a [u8; 64], &'a [[u16; U16_LANES]; 2]);

    impl Kernel for QuadSums<'_> {
        type Out = Vec<f32>;

        unsafe fn run<V: F32x16>(self) -> Vec<f32> {
            let (mut signed, mut unsigned) = (vec![0; V::QUAD_BYTES], vec![0; V::QUAD_BYTES]);
            // SAFETY: there is room for what is loaded and stored; the caller guarantees the
            // instructions.
            unsafe {
                let [even, odd] = self.1.each_ref().map(|words| V::U16x32::load(words.as_ptr()));
                V::store_quads(self.0.as_ptr(), signed.as_mut_ptr());
                V::store_high_bytes_as_quads(even, odd, unsigned.as_mut_ptr());
                let codes = V::bytes(self.0.as_ptr());
                let each = |run: usize| {
                    let sums =
                        V::dot(V::splat_int(run as i32), codes, V::quad(signed.as_ptr(), run));
                    V::from_ints(V::dot_quad(sums, V::quad(unsigned.as_ptr(), run), codes)).lanes()
                };
                let total = V::from_ints(V::add_bytes(V::splat_int(1), unsigned.as_ptr())).sum();
                (0..16)
                    .flat_map(each)
                    .chain([total, f32::from(V::nonzero_quads(unsigned.as_ptr()))])
                    .collect()
            }
        }
    }

    #[test]
    fn integer_products_are_exact_on_every_isa() {
        let check = |bytes: [u8; 64], words: [[u16; U16_LANES]; 2]| {
            let unsigned = |i: usize| i64::from(words[i % 2][i / 2] >> 8);
            let signed = |i: usize| i64::from(bytes[i].cast_signed());
            let product = |run: usize, at: usize| {
                let four = 4 * run + at % 4;
                i64::from(bytes[at]) * signed(four) + unsigned(four) * signed(at)
            };
            let lane = |run: usize, lane: usize| {
                run as i64 + (4 * lane..4 * lane + 4).map(|at| product(run, at)).sum::<i64>()
            };
            let total = 16 + (0..64).map(unsigned).sum::<i64>();
            let fours: i64 = (0..16)
                .map(|run| i64::from((4 * run..4 * run + 4).any(|at| unsigned(at) > 0)) << run)
                .sum();
            let want: Vec<f32> = (0..256)
                .map(|i| lane(i / 16, i % 16))
                .chain([total, fours])
                .map(|sum| sum as f32)
                .collect();
            for isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
                assert_eq!(run(*isa, QuadSums(&bytes, &words)), want, "{isa}");
            }
        };
        check([0; 64], [[0; U16_LANES]; 2]);
        // The largest possible sums, which would overflow 16 bits.
        check([255; 64], [[u16::MAX; U16_LANES]; 2]);
        check([127; 64], [[u16::MAX; U16_LANES]; 2]);
        check([128; 64], [[u16::MAX; U16_LANES]; 2]);
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u16
        };
        for _ in 0..100 {
            check(
                std::array::from_fn(|_| draw() as u8),
                std::array::from_fn(|_| std::array::from_fn(|_| draw())),
            );
            // Most high bytes are zero.
            check(
                [1; 64],
                std::array::from_fn(|_| std::array::from_fn(|_| draw() >> (draw() % 12))),
            );
        }
    }
}
