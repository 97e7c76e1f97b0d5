//! `McNemar`'s test of two runs on the same questions: gains, losses, and whether chance explains
//! them.
//!
//! Contract: pure and total. Questions are paired by id.

use serde::{Deserialize, Serialize};

use super::GradedQuestion;
use super::binomial::lower_tail;
use super::bootstrap::{PairingError, paired};

/// Questions that one run answers correctly and the other does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discordant {
    /// Not correct in the first run, correct in the second.
    pub gains: u64,
    /// Right in the first run, not correct in the second.
    pub losses: u64,
}

/// Gains and losses of `after` over `before`.
///
/// # Errors
/// If the two runs do not have the same questions.
pub fn discordant(
    before: &[&GradedQuestion],
    after: &[&GradedQuestion],
) -> Result<Discordant, PairingError> {
    let pairs = paired(before, after)?;
    let number = |wanted: (bool, bool)| {
        pairs.iter().filter(|(a, b)| (a.is_correct(), b.is_correct()) == wanted).count() as u64
    };
    Ok(Discordant { gains: number((false, true)), losses: number((true, false)) })
}

/// The exact two-sided p-value of `McNemar` (1947), 0 to 1: min(1, 2 P(Bin(b + c, 1/2) <= min(b,
/// c))). 1 without discordant pairs.
pub fn p_value(Discordant { gains, losses }: Discordant) -> f64 {
    (2.0 * lower_tail(gains.min(losses), gains.saturating_add(losses), 0.5)).min(1.0)
}
