//! The result of choosing a threshold: the threshold with its counts, or the number of labels that
//! are needed.
//!
//! A question is answered if its uncertainty is at most the threshold. Thresholds lie between
//! observed scores, so that a rounded digit in a file or the last bit of a sum changes no decision.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::ties::{Group, groups};

/// A question with its uncertainty and label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredQuestion {
    /// The uncertainty; `None` without an answer. Without a finite one it is never answered.
    pub uncertainty: Option<f64>,
    /// Whether the answer is correct.
    pub correct: bool,
}

/// A threshold with its counts on the questions that it was chosen on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Answer if the uncertainty is at most this.
    pub max_uncertainty: f64,
    /// Questions that it was chosen on, including those without a score.
    pub questions: usize,
    /// Questions answered.
    pub answered: usize,
    /// Incorrect answers among these.
    pub incorrect: usize,
}

impl Threshold {
    /// Whether a question is answered. Without a score it is not.
    pub fn answers(&self, uncertainty: Option<f64>) -> bool {
        is_answered(uncertainty, self.max_uncertainty)
    }

    /// Share of questions answered, 0 to 1; 0 without questions.
    pub fn coverage(&self) -> f64 {
        self.answered as f64 / self.questions.max(1) as f64
    }

    /// Whether the numbers are consistent; a file may hold anything.
    pub(super) fn is_valid(&self) -> bool {
        self.max_uncertainty.is_finite()
            && self.incorrect <= self.answered
            && self.answered <= self.questions
    }
}

/// The result of choosing a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "certificate", rename_all = "snake_case")]
pub enum Certificate {
    /// The guarantee holds for this threshold.
    Certified(Threshold),
    /// These labels do not support the guarantee: always abstain, or do without it.
    CannotCertify(LabelsNeeded),
}

impl Certificate {
    /// The threshold, if there is one.
    pub fn threshold(&self) -> Option<&Threshold> {
        match self {
            Self::Certified(threshold) => Some(threshold),
            Self::CannotCertify(_) => None,
        }
    }
}

/// The labels that a certificate needs. The counts of the most confident questions explain the
/// number and guarantee nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelsNeeded {
    /// Labeled questions available.
    pub questions: usize,
    /// The most confident of them with a score: as many as the start that needs the fewest labels
    /// answers.
    pub most_confident: usize,
    /// Incorrect ones among these.
    pub incorrect: usize,
    /// About how many labeled questions are needed if more of them look like these; `None` if too
    /// many of the most confident are incorrect for any number to suffice.
    pub questions_needed: Option<usize>,
}

impl fmt::Display for LabelsNeeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { questions, most_confident, incorrect, questions_needed } = self;
        write!(
            f,
            "cannot certify: of {questions} labeled questions, the {most_confident} most \
             confident have {incorrect} incorrect answers; "
        )?;
        match questions_needed {
            Some(needed) => write!(
                f,
                "about {needed} labeled questions are needed if more of them look like these"
            ),
            None => f.write_str(
                "more labels are not expected to help, since too many of the most confident \
                 answers are incorrect",
            ),
        }
    }
}

/// Scored questions by uncertainty, most confident first; the others are left out.
pub(super) fn by_uncertainty(scored: &[ScoredQuestion]) -> Vec<Group> {
    groups(scored.iter().filter_map(|scored| Some((scored.uncertainty?, scored.correct))))
}

/// A threshold that answers exactly the first `count` groups: halfway to the next one, or slightly
/// above the last. `None` for no group.
pub(super) fn threshold_after(groups: &[Group], count: usize) -> Option<f64> {
    let last = groups.get(count.checked_sub(1)?)?.value;
    let Some(next) = groups.get(count) else {
        return Some((last + 1e-9 * last.abs().max(1.0)).min(f64::MAX));
    };
    let middle = last.midpoint(next.value);
    // Adjacent floats have no midpoint.
    Some(if middle < next.value { middle } else { last })
}

/// A threshold with its counts on some questions.
pub(super) fn apply_threshold(max_uncertainty: f64, scored: &[ScoredQuestion]) -> Threshold {
    let answered =
        || scored.iter().filter(|scored| is_answered(scored.uncertainty, max_uncertainty));
    let incorrect = answered().filter(|scored| !scored.correct).count();
    Threshold { max_uncertainty, questions: scored.len(), answered: answered().count(), incorrect }
}

/// Whether a question is answered. Minus infinity does not count as a score.
fn is_answered(uncertainty: Option<f64>, max_uncertainty: f64) -> bool {
    uncertainty.is_some_and(|uncertainty| uncertainty.is_finite() && uncertainty <= max_uncertainty)
}
