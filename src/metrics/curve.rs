//! The risk-coverage curve: questions from the surest on, and how many of them are wrong.
//!
//! Contract: total, O(n log n). Within a group of equal uncertainties the curve is the expected
//! value over a random order: after e errors, the j-th of a group with share m of errors adds m, so
//! that k questions hold e + m j errors. Failed and unscored questions are never on the curve, but
//! they are in the denominator of every coverage: a threshold can never answer them.

use super::Item;
use super::ties::{Group, groups};

/// Questions from the surest on.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskCoverage {
    /// Expected number of wrong answers among the k surest, for k from 1; 0 or more,
    /// non-decreasing.
    pub errors: Vec<f64>,
    /// All questions, failed and unscored ones too: the denominator of coverage.
    pub questions: usize,
}

impl RiskCoverage {
    /// Expected selective risk of the k surest, 0 to 1, for k from 1.
    pub fn risks(&self) -> impl Iterator<Item = f64> + '_ {
        self.errors.iter().zip(1_u32..).map(|(errors, k)| errors / f64::from(k))
    }

    /// How many questions are on the curve.
    pub fn scored(&self) -> usize {
        self.errors.len()
    }

    /// Wrong answers on the whole curve.
    pub fn wrong(&self) -> f64 {
        self.errors.last().copied().unwrap_or(0.0)
    }

    /// Share of wrong answers on the whole curve, 0 to 1; `None` if it is empty.
    pub fn error_rate(&self) -> Option<f64> {
        (self.scored() > 0).then(|| self.wrong() / self.scored() as f64)
    }
}

/// The curve of some questions.
pub fn risk_coverage(items: &[&Item]) -> RiskCoverage {
    let mut errors = Vec::with_capacity(items.len());
    let mut before = 0.0;
    for group in by_uncertainty(items) {
        let (count, share) = (group.count(), 1.0 - group.share_right());
        let exact = before + group.wrong;
        errors.extend(
            (1_u32..)
                .map(f64::from)
                .take_while(|j| *j <= count)
                .map(|j| if j == count { exact } else { before + share * j }),
        );
        before = exact;
    }
    RiskCoverage { errors, questions: items.len() }
}

/// The scored questions, surest first, equal ones together.
pub(super) fn by_uncertainty(items: &[&Item]) -> Vec<Group> {
    groups(items.iter().filter_map(|item| Some((item.score()?, item.is_right()))))
}
