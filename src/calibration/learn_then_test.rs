//! Learn then test, fixed sequence: a threshold with P(wrong | answered) <= alpha, with probability
//! 1 - delta over the labels.
//!
//! Thresholds are fixed before a label of this part is seen, strictest first. At each one, n
//! questions are answered and k of them incorrectly; p = P(Bin(n, alpha) <= k) is the exact p-value
//! of "its risk exceeds alpha". Continue while p <= delta, stop at the first failure, and keep the
//! last that passed. Selective risk need not be monotone, so neither a binary search nor "the
//! largest that passes" is valid: both test many thresholds and correct for one.
//!
//! The labeled and the new questions must be drawn independently from one source. There is no
//! guarantee for a single question, for questions from elsewhere, or after the same labels were
//! used repeatedly with another alpha, grid or estimator until something passed.

use super::threshold::{apply_threshold, by_uncertainty, threshold_after};
use super::{CalibrationError, Certificate, LabelsNeeded, ScoredQuestion, Threshold, check_open};
use crate::metrics::binomial::lower_tail;
use crate::metrics::ties::Group;

/// Thresholds tried.
const STEPS: usize = 20;
/// The strictest threshold answers about this share of the questions, or more.
const STRICTEST: f64 = 0.25;
/// The largest number of labels that a search tries.
const MAX_LABELS: usize = 1 << 24;

/// The fewest answers, all correct, that certify a risk of at most `alpha` with probability 1 -
/// `delta`: the smallest n with (1 - alpha)^n <= delta. Below it no threshold can be certified.
///
/// # Errors
/// Unless both are above 0 and below 1.
pub fn min_answers(alpha: f64, delta: f64) -> Result<usize, CalibrationError> {
    check_open("alpha", alpha)?;
    check_open("delta", delta)?;
    let about = (delta.ln() / (-alpha).ln_1p()).ceil() as usize;
    // The quotient of logarithms may miss an integer by its last bit; the test itself decides.
    let near = [about.saturating_sub(1).max(1), about, about.saturating_add(1)];
    Ok(near.into_iter().find(|n| lower_tail(0, *n as u64, alpha) <= delta).unwrap_or(about))
}

/// A grid of thresholds from the scores of questions whose labels are not used afterwards: 20
/// coverages in equal steps, from a quarter of the questions, or from what answers enough of
/// `questions` to be certified at all, up to all of them. `scores` has one entry per question,
/// `None` included: it is covered by no threshold.
///
/// # Errors
/// Unless `alpha` and `delta` are above 0 and below 1.
pub fn grid(
    scores: &[Option<f64>],
    questions: usize,
    alpha: f64,
    delta: f64,
) -> Result<Vec<f64>, CalibrationError> {
    let fewest = min_answers(alpha, delta)? as f64;
    // Two standard deviations more than the fewest, for the chance that fewer are answered here
    // than there.
    let start = ((fewest + 2.0 * fewest.sqrt()) / questions.max(1) as f64).clamp(STRICTEST, 1.0);
    let scored: Vec<ScoredQuestion> = scores
        .iter()
        .map(|uncertainty| ScoredQuestion { uncertainty: *uncertainty, correct: true })
        .collect();
    let groups = by_uncertainty(&scored);
    let coverages = (0..STEPS).map(|step| start + (1.0 - start) * step as f64 / (STEPS - 1) as f64);
    let mut grid: Vec<f64> = coverages
        .filter_map(|coverage| {
            threshold_after(&groups, groups_covering(&groups, coverage * scores.len() as f64))
        })
        .collect();
    grid.dedup();
    Ok(grid)
}

/// The number of groups that together hold `questions` questions; all if they hold fewer.
fn groups_covering(groups: &[Group], questions: f64) -> usize {
    let mut held = 0.0;
    let short = groups.iter().take_while(|group| {
        held += group.count();
        held < questions - 1e-9
    });
    (short.count() + 1).min(groups.len())
}

/// The least strict threshold of `grid` that a fixed sequence of tests certifies. `grid` must be
/// ascending, and chosen without the labels of `scored`.
///
/// # Errors
/// If the grid does not ascend, or `alpha` or `delta` is not above 0 and below 1.
pub fn learn_then_test(
    scored: &[ScoredQuestion],
    grid: &[f64],
    alpha: f64,
    delta: f64,
) -> Result<Certificate, CalibrationError> {
    let fewest = min_answers(alpha, delta)?;
    let ascends = grid.windows(2).all(|pair| pair[0] < pair[1])
        && grid.iter().all(|threshold| threshold.is_finite());
    if !ascends {
        return Err(CalibrationError::Parameter {
            name: "length of the grid",
            value: grid.len() as f64,
            range: "of finite thresholds in ascending order",
        });
    }
    let passes = |threshold: &Threshold| p_value(threshold, alpha) <= delta;
    let tested = grid.iter().map(|threshold| apply_threshold(*threshold, scored));
    Ok(match tested.take_while(passes).last() {
        Some(threshold) => Certificate::Certified(threshold),
        None => Certificate::CannotCertify(needed(scored, alpha, delta, fewest)),
    })
}

/// P(Bin(answered, alpha) <= incorrect): the probability of so few errors at risk `alpha`; 1 if
/// nothing is answered.
pub(super) fn p_value(threshold: &Threshold, alpha: f64) -> f64 {
    lower_tail(threshold.incorrect as u64, threshold.answered as u64, alpha)
}

/// The labels that a certificate needs, judged by the most confident quarter of these questions,
/// whatever the grid was: with more labels it may start there.
fn needed(scored: &[ScoredQuestion], alpha: f64, delta: f64, fewest: usize) -> LabelsNeeded {
    let questions = scored.len();
    let groups = by_uncertainty(scored);
    let quarter = threshold_after(&groups, groups_covering(&groups, STRICTEST * questions as f64))
        .map(|threshold| apply_threshold(threshold, scored));
    let (most_confident, incorrect) =
        quarter.map_or((0, 0), |quarter| (quarter.answered, quarter.incorrect));
    let answers =
        answers_needed(incorrect as f64 / most_confident.max(1) as f64, alpha, delta, fewest);
    // Without any score, assume that a quarter has one.
    let coverage =
        if most_confident > 0 { most_confident as f64 / questions as f64 } else { STRICTEST };
    let needed = answers.map(|answers| {
        ((answers as f64 / coverage).ceil() as usize).max(questions.saturating_add(1))
    });
    LabelsNeeded { questions, most_confident, incorrect, questions_needed: needed }
}

/// The number of answers that certify a risk below `alpha` if a share `rate` of them is incorrect.
fn answers_needed(rate: f64, alpha: f64, delta: f64, fewest: usize) -> Option<usize> {
    let certifies =
        |n: usize| lower_tail((rate * n as f64).ceil() as u64, n as u64, alpha) <= delta;
    let mut high = fewest.max(1);
    while !certifies(high) {
        high = high.checked_mul(2).filter(|high| *high <= MAX_LABELS && rate < alpha)?;
    }
    let mut low = high / 2;
    while low + 1 < high {
        let middle = low.midpoint(high);
        if certifies(middle) { high = middle } else { low = middle }
    }
    Some(high)
}
