//! Isotonic regression: the best decreasing map from uncertainty to confidence.
//!
//! Ties are pooled, then pool-adjacent-violators runs. The map is linear between knots and constant
//! outside them, as in scikit-learn with `out_of_bounds="clip"`. It can return exactly 0 or 1, and
//! needs more labels than a sigmoid.

use serde::{Deserialize, Serialize};

use crate::metrics::pool::non_decreasing;
use crate::metrics::ties::groups;

/// A decreasing, piecewise linear map (Zadrozny and Elkan 2002).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// (uncertainty, confidence), ascending in the first, not ascending in the second.
    pub knots: Vec<(f64, f64)>,
}

impl Isotonic {
    /// The map that is best for (uncertainty, correct) points, by squared error and by
    /// likelihood alike.
    pub fn fit(points: &[(f64, bool)]) -> Self {
        // On -u, so that the fit is increasing.
        let blocks = non_decreasing(&groups(points.iter().map(|(u, correct)| (-u, *correct))));
        let knots = blocks.iter().rev().flat_map(|block| {
            let (first, last) =
                ((0.0 - block.high, block.share()), (0.0 - block.low, block.share()));
            std::iter::once(first).chain((first != last).then_some(last))
        });
        Self { knots: knots.collect() }
    }

    /// The probability of being correct, 0 to 1; `None` without knots, or if the score is not
    /// finite.
    pub fn confidence(&self, uncertainty: f64) -> Option<f64> {
        if !uncertainty.is_finite() {
            return None;
        }
        let above = self.knots.partition_point(|(u, _)| *u < uncertainty);
        let right = self.knots.get(above);
        let left = above.checked_sub(1).and_then(|i| self.knots.get(i));
        match (left, right) {
            (Some((u0, p0)), Some((u1, p1))) => {
                Some(p0 + (p1 - p0) * ((uncertainty - u0) / (u1 - u0)))
            }
            (Some((_, p)), None) | (None, Some((_, p))) => Some(*p),
            (None, None) => None,
        }
    }

    /// Whether the knots are finite, in order, and fall.
    pub(super) fn is_valid(&self) -> bool {
        let in_range = |(u, p): &(f64, f64)| u.is_finite() && (0.0..=1.0).contains(p);
        !self.knots.is_empty()
            && self.knots.iter().all(in_range)
            && self.knots.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 >= pair[1].1)
    }
}
