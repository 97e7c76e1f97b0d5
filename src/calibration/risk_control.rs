//! Conformal risk control: a threshold with P(answered and wrong) <= alpha, on average over the
//! labels and the next question.
//!
//! Of all questions asked, at most a share alpha gets a wrong answer; silence counts as harmless.
//! That is another promise than P(wrong | answered) <= alpha, and a weaker one: it holds on average
//! over calibration sets, not for most of them.

use super::threshold::{after, applied, by_uncertainty};
use super::{Certificate, Refusal, Scored, Shortfall, check_open};

/// The largest threshold with (wrong answers + 1) / (n + 1) <= `alpha` (Angelopoulos et al., arXiv
/// 2208.02814, with loss bound B = 1). It only moves at scores that were seen, and answers nothing
/// less sure than the least sure of them.
///
/// # Errors
/// Unless `alpha` is above 0 and below 1.
pub fn risk_control(scored: &[Scored], alpha: f64) -> Result<Certificate, Refusal> {
    check_open("alpha", alpha)?;
    let n = scored.len();
    let groups = by_uncertainty(scored);
    let mut wrong = 0.0;
    let safe = groups.iter().take_while(|group| {
        wrong += group.incorrect;
        // Products such as 0.1 * 100 may miss an integer by rounding, either way: not a hair more
        // than alpha is allowed.
        wrong + 1.0 <= alpha * (n as f64 + 1.0)
    });
    let count = safe.count();
    Ok(match after(&groups, count) {
        Some(threshold) => Certificate::Certified(applied(threshold, scored)),
        None => Certificate::CannotCertify(shortfall(scored, alpha)),
    })
}

/// Nothing may be answered: n is below 1 / alpha - 1, or the surest answers are wrong.
fn shortfall(scored: &[Scored], alpha: f64) -> Shortfall {
    let groups = by_uncertainty(scored);
    let (surest, wrong) =
        groups.first().map_or((0, 0), |group| (group.count() as usize, group.incorrect as usize));
    let rate = wrong as f64 / scored.len().max(1) as f64;
    // (rate n + 1) / (n + 1) <= alpha from n = (1 - alpha) / (alpha - rate) on.
    let needed = (rate < alpha)
        .then(|| (((1.0 - alpha) / (alpha - rate)).ceil() as usize).max(scored.len() + 1));
    Shortfall { questions: scored.len(), surest, wrong, questions_needed: needed }
}
