//! Conformal risk control: a threshold with P(answered and wrong) <= alpha, on average over the
//! labels and the next question.
//!
//! Of all questions asked, at most a share alpha gets an incorrect answer; abstaining costs
//! nothing. This guarantee differs from P(wrong | answered) <= alpha and is weaker: it holds on
//! average over calibration sets, not for most of them.

use super::threshold::{apply_threshold, by_uncertainty, threshold_after};
use super::{CalibrationError, Certificate, LabelsNeeded, ScoredQuestion, check_open};

/// The largest threshold with (incorrect answers + 1) / (n + 1) <= `alpha` (Angelopoulos et al.,
/// arXiv 2208.02814, with loss bound B = 1). It changes only at observed scores, and answers
/// nothing less confident than the least confident of them.
///
/// # Errors
/// Unless `alpha` is above 0 and below 1.
pub fn risk_control(
    scored: &[ScoredQuestion],
    alpha: f64,
) -> Result<Certificate, CalibrationError> {
    check_open("alpha", alpha)?;
    let n = scored.len();
    let groups = by_uncertainty(scored);
    let mut incorrect = 0.0;
    let safe = groups.iter().take_while(|group| {
        incorrect += group.incorrect;
        // Products such as 0.1 * 100 may miss an integer by rounding, either way; never exceed
        // alpha.
        incorrect + 1.0 <= alpha * (n as f64 + 1.0)
    });
    let count = safe.count();
    Ok(match threshold_after(&groups, count) {
        Some(threshold) => Certificate::Certified(apply_threshold(threshold, scored)),
        None => Certificate::CannotCertify(needed(scored, alpha)),
    })
}

/// Nothing may be answered: n is below 1 / alpha - 1, or the most confident answers are incorrect.
fn needed(scored: &[ScoredQuestion], alpha: f64) -> LabelsNeeded {
    let groups = by_uncertainty(scored);
    let (most_confident, incorrect) =
        groups.first().map_or((0, 0), |group| (group.count() as usize, group.incorrect as usize));
    let rate = incorrect as f64 / scored.len().max(1) as f64;
    // (rate n + 1) / (n + 1) <= alpha from n = (1 - alpha) / (alpha - rate) on.
    let needed = (rate < alpha)
        .then(|| (((1.0 - alpha) / (alpha - rate)).ceil() as usize).max(scored.len() + 1));
    LabelsNeeded { questions: scored.len(), most_confident, incorrect, questions_needed: needed }
}
