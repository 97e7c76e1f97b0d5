//! Counter-based random numbers: those of sample i at step t depend on (seed, prompt, i, t) and on
//! nothing else.
//!
//! Contract: `ChaCha8`, with a key per (kind, seed, prompt), stream = sample, block = step. Seeds
//! have different keys, so request (seed 7, sample 1) shares nothing with request (seed 8, sample
//! 0), as it would if a sample's seed were seed + index. Prompts have different keys too: with the
//! same random numbers for every question, all answers would err together, and a calibration fitted
//! on one seed would not hold for another.
//!
//! It does not know logits or models.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::sampler::{Candidates, SampledToken};
use crate::generation::DrawMode;
use crate::metrics::bootstrap::mix;

/// 2^-53, the spacing of the uniform numbers.
const RESOLUTION: f64 = 1.0 / (1_u64 << 53) as f64;
/// If a carried number is known no finer than this, it gets new digits. Far above [`RESOLUTION`],
/// far below any mass that matters.
const COARSE: f64 = 1.0 / (1_u64 << 44) as f64;
/// The largest number below 1.
pub(super) const BELOW_ONE: f64 = 1.0 - RESOLUTION;

/// 32-bit words in a `ChaCha` block, the generator's unit of position.
const WORDS_PER_BLOCK: u128 = 16;

/// What the numbers are used for. Every kind has its own key.
#[derive(Clone, Copy)]
enum StreamKind {
    Independent,
    Shift,
    Digits,
    Exclusion,
}

impl StreamKind {
    fn label(self) -> &'static [u8; 24] {
        match self {
            Self::Independent => b"candor draw: independent",
            Self::Shift => b"candor draw: lattice    ",
            Self::Digits => b"candor draw: digits     ",
            Self::Exclusion => b"candor draw: exclusion  ",
        }
    }
}

/// The key of a prompt's streams. Injective in the seed for every prompt.
pub(super) fn key(seed: u64, prompt: &[u32]) -> u64 {
    prompt.iter().fold(mix(seed), |key, &token| mix(key ^ u64::from(token)))
}

/// Blocks of random bits, addressed by (kind, key, sample, step).
#[derive(Clone)]
struct CounterRng(ChaCha8Rng);

impl CounterRng {
    fn new(kind: StreamKind, key: u64, sample: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..24].copy_from_slice(kind.label());
        bytes[24..].copy_from_slice(&key.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(bytes);
        generator.set_stream(sample);
        Self(generator)
    }

    /// The first 64 bits of block `step`, in constant time.
    fn bits(&mut self, step: usize) -> u64 {
        self.0.set_word_pos(WORDS_PER_BLOCK * step as u128);
        self.0.next_u64()
    }

    /// A uniform multiple of 2^-53 in [0, 1).
    fn uniform(&mut self, step: usize) -> f64 {
        unit(self.bits(step))
    }
}

/// The leading 53 bits as a number in [0, 1).
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * RESOLUTION
}

/// One sample's random number generator.
///
/// Independent: u is a fresh uniform number per (key, sample, step).
///
/// Stratified (arithmetic sampling; Vilnis et al., arXiv 2210.15458): sample i has a single number
/// u = frac(v(i) + shift), with v the radical inverse in base 2 (van der Corput) and a shift from
/// the key. u selects the token whose cumulative interval contains it, and is then rescaled from
/// that interval to [0, 1) for the next step, as in the decoder of an arithmetic code. The first
/// 2^k samples form a shifted regular lattice, and none changes when more are drawn, so sample i
/// does not depend on n. Each u alone is uniform, so each sample alone has the same distribution as
/// with independent sampling. Together they cover the tree of texts evenly, which lowers the
/// variance of a vote. Every step consumes -log2(width) bits of u. Before they run out, new low
/// digits come from the counter-based generator, so that long texts neither stall nor repeat.
///
/// Steps of a stratified stream must come in order, since u is carried from one to the next.
/// Whether a step excludes the top choices (XTC) is decided by a stream of its own, so that it
/// neither moves nor uses up the numbers that select tokens.
#[derive(Clone)]
pub struct SampleRng(RngState, CounterRng);

/// The state of a stream.
#[derive(Clone)]
enum RngState {
    Independent(CounterRng),
    Stratified { u: f64, cell: f64, digits: CounterRng },
    MostProbable,
}

impl SampleRng {
    /// The generator of sample `sample` under the key of a prompt and a seed.
    pub fn new(draw: DrawMode, key: u64, sample: usize) -> Self {
        let sample = sample as u64;
        let state = match draw {
            DrawMode::Independent => {
                RngState::Independent(CounterRng::new(StreamKind::Independent, key, sample))
            }
            DrawMode::Stratified => {
                let shift = CounterRng::new(StreamKind::Shift, key, 0).bits(0);
                let u = unit(sample.reverse_bits().wrapping_add(shift));
                RngState::Stratified {
                    u,
                    cell: RESOLUTION,
                    digits: CounterRng::new(StreamKind::Digits, key, sample),
                }
            }
            DrawMode::MostProbable => RngState::MostProbable,
        };
        Self(state, CounterRng::new(StreamKind::Exclusion, key, sample))
    }

    /// Samples the token of step `step` (0 is the first token after the prompt) from the candidates
    /// of the row `logits`.
    pub fn draw(&mut self, step: usize, candidates: &Candidates, logits: &[f32]) -> SampledToken {
        let Some(exclusion) = candidates.exclusion() else {
            return self.draw_from(step, candidates, logits);
        };
        let excludes = self.1.uniform(step) < exclusion.probability;
        let from = if excludes { &exclusion.rest } else { candidates };
        let picked = self.draw_from(step, from, logits);
        SampledToken { logprob: candidates.mixed_logprob(exclusion, excludes, picked), ..picked }
    }

    fn draw_from(&mut self, step: usize, candidates: &Candidates, logits: &[f32]) -> SampledToken {
        match &mut self.0 {
            RngState::Independent(counter) => candidates.sample(counter.uniform(step), logits),
            RngState::MostProbable => candidates.most_probable(logits),
            RngState::Stratified { u, cell, digits } => {
                let picked = candidates.sample(*u, logits);
                *u = ((*u - picked.low) / picked.width).clamp(0.0, BELOW_ONE);
                *cell /= picked.width;
                if *cell > COARSE {
                    *u = refine(*u, *cell, digits.uniform(step));
                    *cell = RESOLUTION;
                }
                picked
            }
        }
    }
}

/// A uniform number in the cell [u, u + cell): keeps the known digits and appends new ones. A cell
/// as wide as 1 has no known digits.
fn refine(u: f64, cell: f64, uniform: f64) -> f64 {
    if cell >= 1.0 { uniform } else { (u + cell * uniform).min(BELOW_ONE) }
}

#[cfg(test)]
mod tests {
    use super::super::sampler::{History, Scratch};
    use super::*;
    use crate::generation::SamplingParams;

    #[test]
    fn keys_of_prompts_and_seeds_are_distinct() {
        let prompts: [&[u32]; 6] = [&[], &[0], &[0, 0], &[1], &[1, 2], &[2, 1]];
        let mut keys: Vec<u64> =
            prompts.iter().flat_map(|prompt| (0..100).map(|seed| key(seed, prompt))).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 600);
    }

    #[test]
    fn blocks_are_addressed_not_consumed() {
        let mut forward = CounterRng::new(StreamKind::Independent, 7, 3);
        let mut backward = forward.clone();
        let ahead: Vec<u64> = (0..40).map(|step| forward.bits(step)).collect();
        let back: Vec<u64> = (0..40).rev().map(|step| backward.bits(step)).collect();
        assert!(ahead.iter().eq(back.iter().rev()));
    }

    #[test]
    fn streams_share_no_bits() {
        let mut all = Vec::new();
        for kind in
            [StreamKind::Independent, StreamKind::Shift, StreamKind::Digits, StreamKind::Exclusion]
        {
            for seed in [0, 1, 7, 8, 9, u64::MAX] {
                for sample in 0..10 {
                    let mut counter = CounterRng::new(kind, seed, sample);
                    all.extend((0..20).map(|step| counter.bits(step)));
                }
            }
        }
        let drawn = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), drawn);
    }

    #[test]
    fn lattice_points_are_evenly_spaced_and_extend() {
        let u = |sample| match SampleRng::new(DrawMode::Stratified, 5, sample).0 {
            RngState::Stratified { u, .. } => u,
            _ => unreachable!("asked for a stratified stream"),
        };
        for n in [2, 4, 8, 16, 64] {
            let mut points: Vec<f64> = (0..n).map(u).collect();
            points.sort_unstable_by(f64::total_cmp);
            for pair in points.windows(2) {
                assert!((pair[1] - pair[0] - 1.0 / n as f64).abs() < 1e-15, "n = {n}: {pair:?}");
            }
        }
    }

    #[test]
    fn a_carried_number_is_never_coarse() {
        let row = [0.0; 1000];
        let candidates = Candidates::new(
            &SamplingParams::default(),
            &row,
            History::default(),
            &mut Scratch::default(),
        )
        .unwrap();
        let mut stream = SampleRng::new(DrawMode::Stratified, 1, 2);
        let mut refills = 0;
        for step in 0..100 {
            stream.draw(step, &candidates, &row);
            let RngState::Stratified { u, cell, .. } = stream.0 else {
                unreachable!("asked for a stratified stream")
            };
            assert!((0.0..1.0).contains(&u) && cell <= COARSE, "step {step}: {u} {cell:e}");
            refills += usize::from(cell <= RESOLUTION);
        }
        // There are nine spare bits, and every step consumes ten.
        assert_eq!(refills, 100);
    }

    #[test]
    fn a_number_without_digits_is_replaced() {
        let check = |u, cell, uniform, expected: f64| {
            assert_eq!(refine(u, cell, uniform).to_bits(), expected.to_bits());
        };
        check(0.25, 0.5, 0.5, 0.5);
        check(0.75, 0.5, 0.75, BELOW_ONE);
        check(0.75, 1.0, 0.125, 0.125);
        check(0.75, f64::INFINITY, 0.125, 0.125);
    }
}
