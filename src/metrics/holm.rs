//! Holm's correction of p-values for several tests at once.
//!
//! Contract: pure and total. The chance of one or more false rejections among all tests is at most
//! the level, however the tests depend on each other.

/// Adjusted p-values, 0 to 1, in the order given: a test is significant at a level if its adjusted
/// p-value is at most the level. With p-values in ascending order, the i-th of m (from 0) is the
/// maximum over j <= i of (m - j) times the j-th, at most 1 (Holm 1979, Scandinavian Journal of
/// Statistics 6).
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (left, (at, p)) in (1..=order.len()).rev().zip(order) {
        largest = largest.max(left as f64 * p).min(1.0);
        if let Some(place) = adjusted.get_mut(at) {
            *place = largest;
        }
    }
    adjusted
}
