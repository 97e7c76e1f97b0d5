//! Expected calibration error: |accuracy - mean confidence| per bin, weighted by the bin's share of
//! the questions.
//!
//! The value depends on the bins: ten bins of equal width are (0, 0.1], (0.1, 0.2], ... (0.9, 1], 0
//! belonging to the first (Guo et al. 2017, section 2). Ten bins of equal mass hold N / 10
//! questions each, the first N mod 10 bins one more. A group of equal confidences that spans a
//! border gives both sides its share of correct answers, so the order does not matter. A confidence
//! outside 0 to 1 counts as none.
//!
//! There is no interval. The error of a finite sample is above 0 even where confidence is perfectly
//! calibrated, and that of its resamples is larger still, so a bootstrap interval lies above the
//! true error: at 0 it never covers.

use super::brier::by_confidence;
use super::ties::Group;
use super::{Formula, GradedQuestion, Metric, Population};

/// Number of bins of both metrics.
const BINS: u32 = 10;

/// See the module.
pub(super) static ECE: Metric = Metric {
    name: "ece",
    unit: "probability",
    higher_is_better: Some(false),
    population: Population::Confident,
    source: "Guo et al., arXiv 1706.04599, eq. 3",
    summary: "mean |accuracy - confidence| over 10 bins of equal width, closed above, 0 to 1",
    formula: Formula::Number(|questions| equal_width(questions, BINS)),
};

/// See the module.
pub(super) static ECE_EQUAL_MASS: Metric = Metric {
    name: "ece_equal_mass",
    unit: "probability",
    higher_is_better: Some(false),
    population: Population::Confident,
    source: "Nixon et al., arXiv 1904.01685: adaptive calibration error of one class; ties \
             averaged",
    summary: "mean |accuracy - confidence| over 10 bins of equally many questions, 0 to 1; ties \
              averaged",
    formula: Formula::Number(|questions| equal_mass(questions, BINS)),
};

/// The bin of a confidence on a border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The lower one: bins are (low, high].
    Above,
    /// The upper one: bins are [low, high), as other tools have it.
    #[cfg(feature = "internals")]
    Below,
}

/// ECE over `bins` bins of equal width, closed above, 0 to 1, lower is better. `None` without
/// confidences, or unless there are 1 to 10,000 bins.
pub fn equal_width(questions: &[&GradedQuestion], bins: u32) -> Option<f64> {
    if !(1..=10_000).contains(&bins) {
        return None;
    }
    let borders: Vec<f64> = (1..bins).map(|bin| f64::from(bin) / f64::from(bins)).collect();
    between(questions, &borders, Closed::Above)
}

/// ECE over the bins between ascending borders, with everything below the first in one bin and
/// everything above the last in another; for the conventions of other tools. `None` without
/// confidences.
pub fn between(questions: &[&GradedQuestion], borders: &[f64], closed: Closed) -> Option<f64> {
    let mut bins = vec![Bin::default(); borders.len() + 1];
    for group in by_confidence(questions) {
        let index = borders.partition_point(|border| match closed {
            Closed::Above => *border < group.value,
            #[cfg(feature = "internals")]
            Closed::Below => *border <= group.value,
        });
        if let Some(bin) = bins.get_mut(index) {
            bin.add(&group, group.count());
        }
    }
    error(&bins)
}

/// ECE over `bins` bins of equally many questions, 0 to 1, lower is better. `None` without
/// confidences or bins.
pub fn equal_mass(questions: &[&GradedQuestion], bins: u32) -> Option<f64> {
    let groups = by_confidence(questions);
    let n = groups.iter().map(Group::count).sum::<f64>();
    let mut sizes = (0..bins).map(|bin| {
        (n / f64::from(bins)).floor() + f64::from(u8::from(f64::from(bin) < n % f64::from(bins)))
    });
    let mut filled: Vec<Bin> = Vec::new();
    let (mut bin, mut room) = (Bin::default(), sizes.next()?);
    for group in &groups {
        let mut left = group.count();
        while left > 0.0 {
            while room == 0.0 {
                filled.push(std::mem::take(&mut bin));
                room = sizes.next()?;
            }
            let part = left.min(room);
            bin.add(group, part);
            left -= part;
            room -= part;
        }
    }
    filled.push(bin);
    error(&filled)
}

/// Sums over the questions of one bin.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    count: f64,
    correct: f64,
    confidence: f64,
}

impl Bin {
    fn add(&mut self, group: &Group, count: f64) {
        self.count += count;
        self.correct += count * group.share_correct();
        self.confidence += count * group.value;
    }
}

/// sum |correct - confidence| / n, which is the weighted mean of |accuracy - confidence|.
fn error(bins: &[Bin]) -> Option<f64> {
    let n: f64 = bins.iter().map(|bin| bin.count).sum();
    (n > 0.0).then(|| bins.iter().map(|bin| (bin.correct - bin.confidence).abs()).sum::<f64>() / n)
}
