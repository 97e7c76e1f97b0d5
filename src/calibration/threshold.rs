//! What a choice of threshold ends with: a threshold and the counts behind it, or the labels that
//! it would take.
//!
//! One rule everywhere: a question is answered if its uncertainty is at most the threshold.
//! Thresholds lie between observed scores, so that neither a last digit lost in a file nor a last
//! bit of a sum can turn an answer into silence or back.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::ties::{Group, groups};

/// A question as a threshold sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The uncertainty; without a finite one, or without an answer, a question is never answered.
    pub uncertainty: Option<f64>,
    /// Whether the answer is right.
    pub right: bool,
}

/// A threshold, and what it did on the questions that it was chosen on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Answer where the uncertainty is at most this.
    pub max_uncertainty: f64,
    /// Questions that it was chosen on, those without a score too.
    pub questions: usize,
    /// How many of them it answers.
    pub answered: usize,
    /// How many of these answers are wrong.
    pub wrong: usize,
}

impl Threshold {
    /// Whether a question is answered. Without a score it is not.
    pub fn answers(&self, uncertainty: Option<f64>) -> bool {
        is_answered(uncertainty, self.max_uncertainty)
    }

    /// Share of questions answered, 0 to 1; 0 of none.
    pub fn coverage(&self) -> f64 {
        self.answered as f64 / self.questions.max(1) as f64
    }

    /// Whether the numbers can be true of any set of questions, whoever wrote them.
    pub(super) fn is_sound(&self) -> bool {
        self.max_uncertainty.is_finite()
            && self.wrong <= self.answered
            && self.answered <= self.questions
    }
}

/// The outcome of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "certificate", rename_all = "snake_case")]
pub enum Certificate {
    /// The promise holds for this threshold.
    Certified(Threshold),
    /// It cannot be made from these labels: always abstain, or go without a promise.
    CannotCertify(Shortfall),
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

/// How far the labels are from a promise. What is said of the surest questions explains, and
/// promises nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// Labelled questions at hand.
    pub questions: usize,
    /// The surest of them that have a score: about a quarter of all, or as few as a threshold can
    /// answer.
    pub surest: usize,
    /// How many of these are wrong.
    pub wrong: usize,
    /// About how many labelled questions it would take if more of them look like these; `None` if
    /// too many of the surest are wrong for any number to be expected to do.
    pub questions_needed: Option<usize>,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { questions, surest, wrong, questions_needed } = self;
        write!(
            f,
            "cannot certify: of {questions} labelled questions the surest {surest} have {wrong} \
             wrong answers; "
        )?;
        match questions_needed {
            Some(needed) => write!(
                f,
                "about {needed} labelled questions are needed if more of \
                                       them look like these"
            ),
            None => f.write_str(
                "more labels are not expected to help, since too many of the \
                                 surest answers are wrong",
            ),
        }
    }
}

/// Scored questions by uncertainty, surest first; the others are left out.
pub(super) fn by_uncertainty(scored: &[Scored]) -> Vec<Group> {
    groups(scored.iter().filter_map(|scored| Some((scored.uncertainty?, scored.right))))
}

/// A threshold that answers the first `count` groups and no more: halfway to the next, or a hair
/// above the last. `None` for no group.
pub(super) fn after(groups: &[Group], count: usize) -> Option<f64> {
    let last = groups.get(count.checked_sub(1)?)?.value;
    let Some(next) = groups.get(count) else {
        return Some((last + 1e-9 * last.abs().max(1.0)).min(f64::MAX));
    };
    let middle = last.midpoint(next.value);
    // Between neighbouring numbers there is no third.
    Some(if middle < next.value { middle } else { last })
}

/// What a threshold does on some questions.
pub(super) fn applied(max_uncertainty: f64, scored: &[Scored]) -> Threshold {
    let answered =
        || scored.iter().filter(|scored| is_answered(scored.uncertainty, max_uncertainty));
    let wrong = answered().filter(|scored| !scored.right).count();
    Threshold { max_uncertainty, questions: scored.len(), answered: answered().count(), wrong }
}

/// The one rule. Minus infinity is no score, and not the surest of all.
fn is_answered(uncertainty: Option<f64>, max_uncertainty: f64) -> bool {
    uncertainty.is_some_and(|uncertainty| uncertainty.is_finite() && uncertainty <= max_uncertainty)
}
