//! Learn then test, fixed sequences: a threshold with P(wrong | answered) <= alpha. The
//! probability, over the draw of the labels, that a threshold is certified and its risk exceeds
//! alpha is at most delta.
//!
//! Thresholds are fixed before a label of this part is seen. A sequence of tests goes through them
//! from the strictest on. At each one, n questions are answered and k of them incorrectly;
//! p = P(Bin(n, alpha) <= k) is the exact p-value of "its risk exceeds alpha". Continue while p is
//! at most the sequence's share of delta, stop at the first failure, and keep the last that passed.
//! Selective risk need not be monotone, so neither a binary search nor "the largest that passes" is
//! valid: both test many thresholds and correct for one.
//!
//! One sequence that starts at a quarter of the questions fails at once where fewer can be answered
//! well, so there are four starts. Each sequence has an equal share of delta, and the largest
//! threshold that any of them certifies is kept: it is wrong only if one of the sequences errs, and
//! the probabilities of that sum to delta at most.
//!
//! A start is skipped if it would answer too few questions to be certified even if all are correct,
//! or if it has the first threshold of another one because scores tie. Delta is divided among the
//! starts that are used. This choice, like the thresholds, follows from the number of questions and
//! from the scores of the fitting part alone, so it is fixed before a label is seen and costs
//! nothing. The p-values would not hold if it were made after a look at the labels, or at how many
//! questions of this part each threshold answers.
//!
//! The labeled and the new questions must be drawn independently from one source. There is no
//! guarantee for a single question, for questions from elsewhere, or after the same labels were
//! used repeatedly with another alpha, grid or estimator until something passed.

use super::threshold::{apply_threshold, by_uncertainty, threshold_after};
use super::{CalibrationError, Certificate, LabelsNeeded, ScoredQuestion, Threshold, check_open};
use crate::metrics::binomial::lower_tail;
use crate::metrics::ties::Group;

/// Thresholds of a sequence.
const STEPS: usize = 20;
/// The shares of the questions that the first thresholds of the sequences answer, or more.
const STARTS: [f64; 4] = [0.25, 0.1, 0.04, 0.016];
/// The number of sequences at most.
pub(super) const MAX_STARTS: usize = STARTS.len();
/// The fewest answers whose share of errors says how many labels a start needs; the first start is
/// judged by any number.
const FEWEST_TO_JUDGE: usize = 10;
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

/// Sequences of thresholds from the scores of questions whose labels are not used afterwards, each
/// with 20 coverages in equal steps from its start up to all questions. `scores` has one entry per
/// question, `None` included: it is covered by no threshold. `questions` is the number of questions
/// that the thresholds will be tested on.
///
/// A start is used if what it answers suffices at a quarter of `delta`. If none is, there is one
/// sequence, from what suffices at `delta` itself.
///
/// # Errors
/// Unless `alpha` and `delta` are above 0 and below 1.
pub fn sequences(
    scores: &[Option<f64>],
    questions: usize,
    alpha: f64,
    delta: f64,
) -> Result<Vec<Vec<f64>>, CalibrationError> {
    let fewest = min_answers(alpha, delta)? as f64;
    let enough = min_answers(alpha, delta / MAX_STARTS as f64)? as f64;
    let scored: Vec<ScoredQuestion> = scores
        .iter()
        .map(|uncertainty| ScoredQuestion { uncertainty: *uncertainty, correct: true })
        .collect();
    let groups = by_uncertainty(&scored);
    let size = scores.len() as f64;
    let mut starts: Vec<(f64, usize)> = STARTS
        .into_iter()
        .map(|start| (start, groups_covering(&groups, start * size)))
        .filter(|(_, first)| held_by(&groups, *first) / size * questions as f64 >= enough)
        .collect();
    starts.dedup_by_key(|(_, first)| *first);
    if starts.is_empty() {
        // Two standard deviations more than the fewest, for the chance that fewer are answered
        // here than there.
        let start = (fewest + 2.0 * fewest.sqrt()) / questions.max(1) as f64;
        starts.push((start.clamp(STARTS[0], 1.0), 0));
    }
    let sequences = starts.into_iter().map(|(start, _)| sequence(&groups, size, start));
    Ok(sequences.filter(|sequence| !sequence.is_empty()).collect())
}

/// Thresholds that cover equal steps of questions, from a share of all of them up to all.
fn sequence(groups: &[Group], size: f64, start: f64) -> Vec<f64> {
    let coverages = (0..STEPS).map(|step| start + (1.0 - start) * step as f64 / (STEPS - 1) as f64);
    let mut thresholds: Vec<f64> = coverages
        .filter_map(|coverage| threshold_after(groups, groups_covering(groups, coverage * size)))
        .collect();
    thresholds.dedup();
    thresholds
}

/// The number of questions that the first `count` groups hold.
fn held_by(groups: &[Group], count: usize) -> f64 {
    groups.iter().take(count).map(Group::count).sum()
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

/// The least strict threshold that a sequence of tests certifies, each at an equal share of
/// `delta`. Every sequence must be ascending, and chosen without the labels of `scored`.
///
/// # Errors
/// If a sequence does not ascend, or `alpha` or `delta` is not above 0 and below 1.
pub fn learn_then_test(
    scored: &[ScoredQuestion],
    sequences: &[Vec<f64>],
    alpha: f64,
    delta: f64,
) -> Result<Certificate, CalibrationError> {
    check_open("alpha", alpha)?;
    check_open("delta", delta)?;
    let ascends = |sequence: &Vec<f64>| {
        sequence.windows(2).all(|pair| pair[0] < pair[1])
            && sequence.iter().all(|threshold| threshold.is_finite())
    };
    if let Some(broken) = sequences.iter().find(|sequence| !ascends(sequence)) {
        return Err(CalibrationError::Parameter {
            name: "length of the sequence",
            value: broken.len() as f64,
            range: "of finite thresholds in ascending order",
        });
    }
    let passes =
        |threshold: &Threshold| p_value(threshold, alpha) <= share_of(delta, sequences.len());
    let certified = sequences.iter().filter_map(|sequence| {
        let tested = sequence.iter().map(|threshold| apply_threshold(*threshold, scored));
        tested.take_while(passes).last()
    });
    let largest = certified.max_by(|a, b| a.max_uncertainty.total_cmp(&b.max_uncertainty));
    Ok(match largest {
        Some(threshold) => Certificate::Certified(threshold),
        None => Certificate::CannotCertify(needed(scored, alpha, delta)?),
    })
}

/// The share of `delta` that each of some sequences has.
pub(super) fn share_of(delta: f64, sequences: usize) -> f64 {
    delta / sequences.max(1) as f64
}

/// P(Bin(answered, alpha) <= incorrect): the probability of so few errors at risk `alpha`; 1 if
/// nothing is answered.
pub(super) fn p_value(threshold: &Threshold, alpha: f64) -> f64 {
    lower_tail(threshold.incorrect as u64, threshold.answered as u64, alpha)
}

/// The labels that a certificate needs: those of the start that needs the fewest, judged by as many
/// of the most confident of these questions as it answers, at a quarter of `delta`, the smallest
/// share that a sequence has.
fn needed(
    scored: &[ScoredQuestion],
    alpha: f64,
    delta: f64,
) -> Result<LabelsNeeded, CalibrationError> {
    let share = share_of(delta, MAX_STARTS);
    let fewest = min_answers(alpha, share)?;
    let questions = scored.len();
    let groups = by_uncertainty(scored);
    let needed = |start: f64| {
        let most_confident =
            threshold_after(&groups, groups_covering(&groups, start * questions as f64))
                .map(|threshold| apply_threshold(threshold, scored));
        let (most_confident, incorrect) =
            most_confident.map_or((0, 0), |found| (found.answered, found.incorrect));
        let answers =
            answers_needed(incorrect as f64 / most_confident.max(1) as f64, alpha, share, fewest);
        // Without any score, assume that the start's share has one.
        let coverage =
            if most_confident > 0 { most_confident as f64 / questions as f64 } else { start };
        let questions_needed = answers.map(|answers| {
            ((answers as f64 / coverage).ceil() as usize).max(questions.saturating_add(1))
        });
        LabelsNeeded { questions, most_confident, incorrect, questions_needed }
    };
    let [first, others @ ..] = STARTS.map(needed);
    let judged = others.into_iter().filter(|other| other.most_confident >= FEWEST_TO_JUDGE);
    // Of equal ones the first, which is judged by the most answers.
    let fewer = |best: LabelsNeeded, other: LabelsNeeded| {
        let count = |needed: &LabelsNeeded| needed.questions_needed.unwrap_or(usize::MAX);
        if count(&other) < count(&best) { other } else { best }
    };
    Ok(judged.fold(first, fewer))
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
