//! Groups of equal values: the only place where questions are sorted.
//!
//! Contract: total; the groups depend on the set of points, not on their order.

/// All points of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// The value.
    pub value: f64,
    /// Number of correct points.
    pub correct: f64,
    /// Number of incorrect points.
    pub incorrect: f64,
}

impl Group {
    /// Number of points, at least 1.
    pub fn count(&self) -> f64 {
        self.correct + self.incorrect
    }

    /// Share of correct points, 0 to 1.
    pub fn share_correct(&self) -> f64 {
        self.correct / self.count()
    }
}

/// Groups of equal values, lowest first. Non-finite points are left out; minus zero
/// is zero. O(n log n).
pub fn groups(points: impl IntoIterator<Item = (f64, bool)>) -> Vec<Group> {
    let mut points: Vec<(f64, bool)> = points
        .into_iter()
        .filter(|(value, _)| value.is_finite())
        .map(|(v, correct)| (v + 0.0, correct))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut groups: Vec<Group> = Vec::new();
    for (value, correct) in points {
        let (correct, incorrect) = if correct { (1.0, 0.0) } else { (0.0, 1.0) };
        match groups.last_mut() {
            Some(group) if group.value == value => {
                group.correct += correct;
                group.incorrect += incorrect;
            }
            _ => groups.push(Group { value, correct, incorrect }),
        }
    }
    groups
}

/// Pairs of a correct and an incorrect point, and the number of pairs in which the correct one has
/// the lower value; equal values count half.
///
/// (wins, pairs), both 0 or more; the ratio is an AUROC (Mann and Whitney 1947).
pub fn correct_is_lower(groups: &[Group]) -> (f64, f64) {
    let incorrect: f64 = groups.iter().map(|group| group.incorrect).sum();
    let correct: f64 = groups.iter().map(|group| group.correct).sum();
    let (mut wins, mut wrong_above) = (0.0, incorrect);
    for group in groups {
        wrong_above -= group.incorrect;
        wins += group.correct * (wrong_above + 0.5 * group.incorrect);
    }
    (wins, correct * incorrect)
}
