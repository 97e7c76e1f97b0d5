//! `McNemar`'s test of two runs on the same questions: gains, losses, whether chance explains them,
//! and how many questions would show the difference.
//!
//! Contract: pure and total. Questions are paired by id.

use serde::{Deserialize, Serialize};

use super::GradedQuestion;
use super::binomial::{NORMAL_80, NORMAL_97_5, lower_tail};
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

/// Questions that a two-sided test at the 5 % level needs to find this difference with a
/// probability of 80 %, if the shares of gains and losses are those of these `questions`: N = (z
/// sqrt(d) + y sqrt(d - e^2))^2 / e^2, with d the share of discordant pairs, e the difference, z
/// and y the normal quantiles of 97.5 % and 80 % (Connor 1987, Biometrics 43, 207-211). An
/// approximation for large samples. `None` if gains equal losses, or for impossible counts.
pub fn questions_needed(pairs: Discordant, questions: usize) -> Option<u64> {
    let Discordant { gains, losses } = pairs;
    if gains == losses || gains.checked_add(losses)? > questions as u64 {
        return None;
    }
    let share = (gains + losses) as f64 / questions as f64;
    let difference = gains.abs_diff(losses) as f64 / questions as f64;
    let spread = (share - difference * difference).max(0.0).sqrt();
    let root = (NORMAL_97_5 * share.sqrt() + NORMAL_80 * spread) / difference;
    Some((root * root).ceil() as u64)
}
