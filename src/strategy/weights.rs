//! Weights of samples: what every strategy shares that lets some samples count more than others.

use crate::consensus::Vote;
use crate::generation::Generation;

/// Weighs the samples that vote in proportion to `raw`, one number of 0 or more for each sample;
/// together they weigh as much as they are many. Numbers that say nothing, all 0 or not finite,
/// leave the vote as it is.
pub(super) fn weigh(generation: &mut Generation, vote: &Vote, raw: &[f64]) {
    let votes = |sample: usize| vote.answers.get(sample).is_some_and(Option::is_some);
    let voting: Vec<usize> = (0..raw.len()).filter(|sample| votes(*sample)).collect();
    // Summed in ascending order, so that the bits do not depend on the order of samples.
    let mut sorted: Vec<f64> = voting.iter().map(|sample| raw[*sample]).collect();
    sorted.sort_by(f64::total_cmp);
    let total: f64 = sorted.iter().sum();
    let equal = sorted.first() == sorted.last();
    if equal || !total.is_finite() || total <= 0.0 || sorted[0] < 0.0 {
        return;
    }
    for sample in voting {
        generation.completions[sample].weight = Some(raw[sample] * sorted.len() as f64 / total);
    }
}
