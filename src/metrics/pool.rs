//! Pool adjacent violators: the best monotone fit of a share to groups of points, ties pooled.
//!
//! Contract: total, linear. Weighted least squares and the maximum of the likelihood have the same
//! solution (Robertson, Wright and Dykstra 1988; Ayer et al. 1955).

use super::ties::Group;

/// Neighbouring groups that share one fitted value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// The lowest value in it.
    pub low: f64,
    /// The highest value in it.
    pub high: f64,
    /// How many points are correct.
    pub correct: f64,
    /// How many points there are.
    pub count: f64,
}

impl Block {
    /// The fitted share, 0 to 1.
    pub fn share(&self) -> f64 {
        self.correct / self.count
    }
}

/// The non-decreasing fit of the share of correct points. `groups` must be in ascending order of
/// value; so are the blocks.
pub fn non_decreasing(groups: &[Group]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for group in groups {
        let mut block = Block {
            low: group.value,
            high: group.value,
            correct: group.correct,
            count: group.count(),
        };
        while let Some(before) =
            blocks.last().copied().filter(|before| before.share() >= block.share())
        {
            blocks.pop();
            block = Block {
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
