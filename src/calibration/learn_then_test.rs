//! Learn then test, fixed sequence: a threshold with P(wrong | answered) <= alpha, with probability
//! 1 - delta over the labels.
//!
//! Thresholds are fixed before a label of this part is seen, strictest first. At each one, n
//! questions are answered and k of them wrongly; p = P(Bin(n, alpha) <= k) is the exact p-value of
//! "its risk exceeds alpha". Walk on while p <= delta, stop at the first failure, and keep the last
//! that passed. Selective risk need not be monotone, so no search by halves and no "largest that
//! passes" is valid: those look at many thresholds and pay for one.
//!
//! Both the labelled and the new questions must be drawn independently from one source. Not
//! promised: anything about a single question, about questions from elsewhere, or after the same
//! labels were used again with another alpha, grid or estimator until something passed.

use super::threshold::{after, applied, by_uncertainty};
use super::{Certificate, Refusal, Scored, Shortfall, Threshold, check_open};
use crate::metrics::binomial::lower_tail;
use crate::metrics::ties::Group;

/// Thresholds tried.
const STEPS: usize = 20;
/// The strictest threshold answers about this share of the questions, or more.
const STRICTEST: f64 = 0.25;
/// Searches for a number of labels give up here.
const MOST_LABELS: usize = 1 << 24;

/// The fewest answers, all right, that certify a risk of at most `alpha` with probability 1 -
/// `delta`: the smallest n with (1 - alpha)^n <= delta. Below it no threshold can be certified.
///
/// # Errors
/// Unless both are above 0 and below 1.
pub fn fewest_answers(alpha: f64, delta: f64) -> Result<usize, Refusal> {
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
) -> Result<Vec<f64>, Refusal> {
    let fewest = fewest_answers(alpha, delta)? as f64;
    // Two standard deviations more than the fewest, for the chance that fewer are answered here
    // than there.
    let start = ((fewest + 2.0 * fewest.sqrt()) / questions.max(1) as f64).clamp(STRICTEST, 1.0);
    let scored: Vec<Scored> = scores
        .iter()
        .map(|uncertainty| Scored { uncertainty: *uncertainty, right: true })
        .collect();
    let groups = by_uncertainty(&scored);
    let coverages = (0..STEPS).map(|step| start + (1.0 - start) * step as f64 / (STEPS - 1) as f64);
    let mut grid: Vec<f64> = coverages
        .filter_map(|coverage| {
            after(&groups, groups_covering(&groups, coverage * scores.len() as f64))
        })
        .collect();
    grid.dedup();
    Ok(grid)
}

/// How many groups it takes to hold so many questions; all if they hold fewer.
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
    scored: &[Scored],
    grid: &[f64],
    alpha: f64,
    delta: f64,
) -> Result<Certificate, Refusal> {
    let fewest = fewest_answers(alpha, delta)?;
    let ascends = grid.windows(2).all(|pair| pair[0] < pair[1])
        && grid.iter().all(|threshold| threshold.is_finite());
    if !ascends {
        return Err(Refusal::Parameter {
            name: "length of the grid",
            value: grid.len() as f64,
            range: "of finite thresholds in ascending order",
        });
    }
    let passes = |threshold: &Threshold| p_value(threshold, alpha) <= delta;
    let tested = grid.iter().map(|threshold| applied(*threshold, scored));
    Ok(match tested.take_while(passes).last() {
        Some(threshold) => Certificate::Certified(threshold),
        None => Certificate::CannotCertify(shortfall(scored, alpha, delta, fewest)),
    })
}

/// P(Bin(answered, alpha) <= wrong): how probable so few errors are if the risk is `alpha`; 1 if
/// nothing is answered.
pub(super) fn p_value(threshold: &Threshold, alpha: f64) -> f64 {
    lower_tail(threshold.wrong as u64, threshold.answered as u64, alpha)
}

/// What it would take, judged by the surest quarter of these questions, whatever the grid was: with
/// more labels it may start there.
fn shortfall(scored: &[Scored], alpha: f64, delta: f64, fewest: usize) -> Shortfall {
    let questions = scored.len();
    let groups = by_uncertainty(scored);
    let quarter = after(&groups, groups_covering(&groups, STRICTEST * questions as f64))
        .map(|threshold| applied(threshold, scored));
    let (surest, wrong) = quarter.map_or((0, 0), |quarter| (quarter.answered, quarter.wrong));
    let answers = answers_needed(wrong as f64 / surest.max(1) as f64, alpha, delta, fewest);
    // Where nothing has a score, as if a quarter had.
    let coverage = if surest > 0 { surest as f64 / questions as f64 } else { STRICTEST };
    let needed = answers.map(|answers| {
        ((answers as f64 / coverage).ceil() as usize).max(questions.saturating_add(1))
    });
    Shortfall { questions, surest, wrong, questions_needed: needed }
}

/// How many answers certify a risk below `alpha` if a share `rate` of them is wrong.
fn answers_needed(rate: f64, alpha: f64, delta: f64, fewest: usize) -> Option<usize> {
    let certifies =
        |n: usize| lower_tail((rate * n as f64).ceil() as u64, n as u64, alpha) <= delta;
    let mut high = fewest.max(1);
    while !certifies(high) {
        high = high.checked_mul(2).filter(|high| *high <= MOST_LABELS && rate < alpha)?;
    }
    let mut low = high / 2;
    while low + 1 < high {
        let middle = low.midpoint(high);
        if certifies(middle) { high = middle } else { low = middle }
    }
    Some(high)
}
