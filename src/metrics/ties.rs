//! Equal values as one group: the only place where questions are sorted.
//!
//! Contract: total; the groups depend on the points as a set, not on their order.

/// All points of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// The value.
    pub value: f64,
    /// How many are right.
    pub right: f64,
    /// How many are wrong.
    pub wrong: f64,
}

impl Group {
    /// How many there are, at least 1.
    pub fn count(&self) -> f64 {
        self.right + self.wrong
    }

    /// Share that is right, 0 to 1.
    pub fn share_right(&self) -> f64 {
        self.right / self.count()
    }
}

/// Groups of equal values, lowest first. Points that are no finite number are left out; minus zero
/// is zero. O(n log n).
pub fn groups(points: impl IntoIterator<Item = (f64, bool)>) -> Vec<Group> {
    let mut points: Vec<(f64, bool)> = points
        .into_iter()
        .filter(|(value, _)| value.is_finite())
        .map(|(v, right)| (v + 0.0, right))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut groups: Vec<Group> = Vec::new();
    for (value, right) in points {
        let (right, wrong) = if right { (1.0, 0.0) } else { (0.0, 1.0) };
        match groups.last_mut() {
            Some(group) if group.value == value => {
                group.right += right;
                group.wrong += wrong;
            }
            _ => groups.push(Group { value, right, wrong }),
        }
    }
    groups
}

/// Pairs of a right and a wrong point, and in how many of them the right one has the lower value;
/// equal values count half.
///
/// (wins, pairs), both 0 or more; the ratio is an AUROC (Mann and Whitney 1947).
pub fn right_is_lower(groups: &[Group]) -> (f64, f64) {
    let wrong: f64 = groups.iter().map(|group| group.wrong).sum();
    let right: f64 = groups.iter().map(|group| group.right).sum();
    let (mut wins, mut wrong_above) = (0.0, wrong);
    for group in groups {
        wrong_above -= group.wrong;
        wins += group.right * (wrong_above + 0.5 * group.wrong);
    }
    (wins, right * wrong)
}
