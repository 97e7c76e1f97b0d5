//! The score that makes honesty pay: right +1, silence 0, wrong -t/(1-t), in the mean over all
//! questions. An answer that is right with probability p is worth giving exactly if p > t. t = 0 is
//! plain accuracy of what was given, t = 0.75 fines a wrong answer 3.
//!
//! A failed question scores 0, as silence. The rows judge the decisions as they were made;
//! [`sweep`] makes them anew for each t.

use serde::Serialize;

use super::{Basis, Better, Formula, Item, Metric, count, share};

/// The grid of the rows.
pub const GRID: [f64; 4] = [0.0, 0.5, 0.75, 0.9];

/// What a wrong answer costs: t / (1 - t), 0 or more. `None` unless 0 <= t < 1.
pub fn penalty(t: f64) -> Option<f64> {
    (0.0..1.0).contains(&t).then(|| t / (1.0 - t))
}

/// The mean score at `t` of the decisions as they were made, -t/(1-t) to 1, higher is better (Kalai
/// et al., arXiv 2509.04664). `None` without questions, or unless 0 <= t < 1.
pub fn score_t(items: &[&Item], t: f64) -> Option<f64> {
    mean_score(items, t, Item::is_given)
}

fn mean_score(items: &[&Item], t: f64, is_given: impl Fn(&Item) -> bool) -> Option<f64> {
    let right = count(items, |item| is_given(item) && item.is_right()) as f64;
    let wrong = count(items, |item| is_given(item) && !item.is_right()) as f64;
    (!items.is_empty()).then_some((right - penalty(t)? * wrong) / items.len() as f64)
}

/// One point of [`sweep`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Swept {
    /// The target confidence, 0 to below 1.
    pub t: f64,
    /// The mean score, see [`score_t`].
    pub score_t: f64,
    /// Answers given of all questions, 0 to 1.
    pub coverage: f64,
    /// Wrong answers of those given; `None` where none was given. Calibrated confidence keeps it at
    /// or below 1 - t.
    pub selective_risk: Option<f64>,
}

/// Behavioural calibration: what would have happened at each t had every question been answered
/// exactly where its confidence exceeds t. One run is enough, and whatever has no confidence is
/// silent. Values of t outside 0 to below 1 are left out.
pub fn sweep(items: &[&Item], grid: &[f64]) -> Vec<Swept> {
    let at = |t: f64| {
        let is_given = |item: &Item| item.probability().is_some_and(|confidence| confidence > t);
        let given = count(items, is_given);
        let wrong = count(items, |item| is_given(item) && !item.is_right());
        Some(Swept {
            t,
            score_t: mean_score(items, t, is_given)?,
            coverage: share(given, items.len())?,
            selective_risk: share(wrong, given),
        })
    };
    grid.iter().filter_map(|t| at(*t)).collect()
}

const SOURCE: &str =
    "Kalai et al., arXiv 2509.04664: explicit confidence targets, penalty t / (1 - t)";

const SCORE_T: Metric = Metric {
    name: "score_t_0",
    unit: "score",
    better: Better::Higher,
    basis: Basis::All,
    source: SOURCE,
    summary: "right +1, silent 0, wrong 0, per question, 0 to 1",
    // The fine is 0, so it is the share of right answers given.
    formula: Formula::Proportion(|items| {
        (count(items, |item| item.is_given() && item.is_right()), items.len())
    }),
};

/// t = 0: share of all questions answered rightly.
pub(super) static SCORE_T_0: Metric = SCORE_T;

/// t = 0.5.
pub(super) static SCORE_T_50: Metric = Metric {
    name: "score_t_50",
    summary: "right +1, silent 0, wrong -1, per question, -1 to 1",
    formula: Formula::Number(|items| score_t(items, GRID[1])),
    ..SCORE_T
};

/// t = 0.75.
pub(super) static SCORE_T_75: Metric = Metric {
    name: "score_t_75",
    summary: "right +1, silent 0, wrong -3, per question, -3 to 1",
    formula: Formula::Number(|items| score_t(items, GRID[2])),
    ..SCORE_T
};

/// t = 0.9.
pub(super) static SCORE_T_90: Metric = Metric {
    name: "score_t_90",
    summary: "right +1, silent 0, wrong -9, per question, -9 to 1",
    formula: Formula::Number(|items| score_t(items, GRID[3])),
    ..SCORE_T
};
