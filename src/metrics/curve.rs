//! The risk-coverage curve: expected number of incorrect answers among the k most confident.
//!
//! Contract: total, O(n log n). Within a group of equal uncertainties the curve is the expected
//! value over a random order: after e errors, the j-th question of a group with error share m adds
//! m, so k questions have e + m j errors. Questions without an answer or a score are not on the
//! curve, but in the denominator of every coverage, because no threshold can answer them.

use super::GradedQuestion;
use super::ties::{Group, groups};

/// The curve, most confident questions first.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskCoverage {
    /// Expected number of incorrect answers among the k most confident, for k from 1; 0 or more,
    /// non-decreasing.
    pub errors: Vec<f64>,
    /// All questions, the denominator of coverage.
    pub questions: usize,
}

impl RiskCoverage {
    /// Expected selective risk of the k most confident, 0 to 1, for k from 1.
    pub fn risks(&self) -> impl Iterator<Item = f64> + '_ {
        self.errors.iter().zip(1_u32..).map(|(errors, k)| errors / f64::from(k))
    }

    /// The number of questions on the curve.
    pub fn scored(&self) -> usize {
        self.errors.len()
    }

    /// Incorrect answers on the whole curve.
    pub fn incorrect(&self) -> f64 {
        self.errors.last().copied().unwrap_or(0.0)
    }

    /// Share of incorrect answers on the whole curve, 0 to 1; `None` if it is empty.
    pub fn error_rate(&self) -> Option<f64> {
        (self.scored() > 0).then(|| self.incorrect() / self.scored() as f64)
    }
}

/// The curve of some questions.
pub fn risk_coverage(questions: &[&GradedQuestion]) -> RiskCoverage {
    let mut errors = Vec::with_capacity(questions.len());
    let mut before = 0.0;
    for group in by_uncertainty(questions) {
        let (count, share) = (group.count(), 1.0 - group.share_correct());
        let exact = before + group.incorrect;
        errors.extend(
            (1_u32..)
                .map(f64::from)
                .take_while(|j| *j <= count)
                .map(|j| if j == count { exact } else { before + share * j }),
        );
        before = exact;
    }
    RiskCoverage { errors, questions: questions.len() }
}

/// The scored questions, most confident first, equal ones together.
pub(super) fn by_uncertainty(questions: &[&GradedQuestion]) -> Vec<Group> {
    groups(questions.iter().filter_map(|question| Some((question.score()?, question.is_correct()))))
}
