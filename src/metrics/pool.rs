//! Pool adjacent violators: the best monotone fit of a share to groups of points, ties pooled.
//!
//! Contract: total, linear. Weighted least squares and the maximum of the likelihood have the same
//! solution (Robertson, Wright and Dykstra 1988; Ayer et al. 1955).

use super::ties::Group;

/// Adjacent groups with one fitted value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FittedBlock {
    /// The lowest value in it.
    pub low: f64,
    /// The highest value in it.
    pub high: f64,
    /// Number of correct points.
    pub correct: f64,
    /// Number of points.
    pub count: f64,
}

impl FittedBlock {
    /// The fitted share, 0 to 1.
    pub fn share(&self) -> f64 {
        self.correct / self.count
    }
}

/// The non-decreasing fit of the share of correct points. `groups` must be in ascending order of
/// value; so are the blocks.
pub fn non_decreasing(groups: &[Group]) -> Vec<FittedBlock> {
    let mut blocks: Vec<FittedBlock> = Vec::new();
    for group in groups {
        let mut block = FittedBlock {
            low: group.value,
            high: group.value,
            correct: group.correct,
            count: group.count(),
        };
        while let Some(before) =
            blocks.last().copied().filter(|before| before.share() >= block.share())
        {
            blocks.pop();
            block = FittedBlock {
                low: before.low,
                high: block.high,
                correct: before.correct + block.correct,
                count: before.count + block.count,
            };
        }
        blocks.push(block);
    }
    blocks
}
