//! Smooth expected calibration error: a kernel with a data-driven width instead of bins.
//!
//! The residual c - y is smoothed over the confidence axis with a Gaussian reflected at 0 and 1;
//! the value is the integral of its magnitude at the width sigma where it equals sigma. As in the
//! authors' package relplot: residuals are split between the two nearest of max(1001, 10 / sigma)
//! grid points, the kernel reaches half the axis, the integral runs over max(200, 10 / sigma)
//! points, sigma is found by ten halvings and not below 0.001. The value equals relplot's; terms
//! beyond nine sigma, under 1e-17 of the peak, are left out.

use super::brier::by_confidence;
use super::ties::Group;
use super::{Formula, GradedQuestion, Metric, Population};

/// See the module.
pub(super) static SMOOTH_ECE: Metric = Metric {
    name: "smooth_ece",
    unit: "probability",
    higher_is_better: Some(false),
    population: Population::Confident,
    source: "Blasiok and Nakkiran, arXiv 2309.12236, definition 4; relplot smECE",
    summary: "kernel-smoothed |accuracy - confidence| at its own bandwidth, 0 to 1",
    formula: Formula::Number(|questions| smooth_ece(questions).map(|(error, _)| error)),
};

/// The smallest bandwidth.
const MIN_BANDWIDTH: f64 = 0.001;
/// Bisection steps of the bandwidth.
const BISECTIONS: usize = 10;
/// relplot's floor of the density.
const DENSITY_FLOOR: f64 = 1e-4;

/// The smooth ECE and its bandwidth sigma, both 0 to 1, lower is better. `None` without
/// confidences.
pub fn smooth_ece(questions: &[&GradedQuestion]) -> Option<(f64, f64)> {
    let groups = by_confidence(questions);
    if groups.is_empty() {
        return None;
    }
    // Bisection: the bandwidth exceeds the error while it is too wide.
    let is_narrow = |sigma: f64| sigma < MIN_BANDWIDTH || sigma < at_bandwidth(&groups, sigma);
    let (mut wide, mut narrow) = (1.0, 0.0);
    if !is_narrow(wide) {
        for _ in 0..BISECTIONS {
            let middle = 0.5 * (wide + narrow);
            if is_narrow(middle) { narrow = middle } else { wide = middle }
        }
    }
    Some((at_bandwidth(&groups, wide), wide))
}

/// The smooth ECE at one bandwidth.
fn at_bandwidth(groups: &[Group], sigma: f64) -> f64 {
    let kernel = Kernel::new(sigma);
    let residuals = kernel.smooth(
        groups.iter().map(|group| (group.value, group.count() * group.value - group.correct)),
    );
    let density = kernel.smooth(groups.iter().map(|group| (group.value, group.count())));
    let points = ((10.0 / sigma).round() as usize).max(200);
    let positions = || (0..points).map(|i| i as f64 / (points - 1) as f64);
    let error: f64 = positions().map(|t| interpolate(t, &residuals).abs()).sum();
    error / positions().map(|t| interpolate(t, &density) + DENSITY_FLOOR).sum::<f64>()
}

/// A Gaussian on a grid over 0 to 1.
struct Kernel {
    /// Its height at distances 0, 1, ... grid steps, up to half the axis.
    heights: Vec<f64>,
    points: usize,
}

impl Kernel {
    fn new(sigma: f64) -> Self {
        let points = ((20.0 / sigma).round() as usize).max(2000) / 2 + 1;
        let step = 1.0 / (points - 1) as f64;
        let reach = ((9.0 * sigma / step).ceil() as usize).min((points - 1) / 2);
        let height = |i: usize| {
            (-(i as f64 * step).powi(2) / (2.0 * sigma * sigma)).exp()
                / ((2.0 * std::f64::consts::PI).sqrt() * sigma)
        };
        Self { heights: (0..=reach).map(height).collect(), points }
    }

    /// Puts weights on the grid and smooths them, reflected at both ends.
    fn smooth(&self, weights: impl Iterator<Item = (f64, f64)>) -> Vec<f64> {
        let last = self.points - 1;
        let mut grid = vec![0.0; self.points];
        for (position, weight) in weights {
            let at = position * last as f64;
            let cell = (at as usize).min(last - 1);
            let fraction = at - cell as f64;
            if let Some([left, right]) = grid.get_mut(cell..cell + 2) {
                *left += (1.0 - fraction) * weight;
                *right += fraction * weight;
            }
        }
        let mut smoothed = vec![0.0; self.points];
        for (cell, weight) in grid.into_iter().enumerate().filter(|(_, weight)| *weight != 0.0) {
            let (cell, last) = (cell as i64, last as i64);
            // The mirror images beyond both ends; a point on an end is its own image.
            let images =
                [Some(cell), (cell > 0).then_some(-cell), (cell < last).then_some(2 * last - cell)];
            images.into_iter().flatten().for_each(|center| self.add(center, weight, &mut smoothed));
        }
        smoothed
    }

    /// Adds the kernel around a center, which may lie outside the grid.
    fn add(&self, center: i64, weight: f64, smoothed: &mut [f64]) {
        let split = center.clamp(0, smoothed.len() as i64);
        let (left, right) = smoothed.split_at_mut(split as usize);
        // Distances of the nearest point on either side.
        let (to_left, to_right) =
            ((center - split + 1).max(0) as usize, (split - center).max(0) as usize);
        for (value, height) in right.iter_mut().zip(self.heights.iter().skip(to_right)) {
            *value += weight * height;
        }
        for (value, height) in left.iter_mut().rev().zip(self.heights.iter().skip(to_left)) {
            *value += weight * height;
        }
    }
}

/// Linear interpolation of values at 0, 1/(m-1), ..., 1.
fn interpolate(t: f64, values: &[f64]) -> f64 {
    let last = values.len() - 1;
    let at = t * last as f64;
    let cell = (at as usize).min(last - 1);
    let fraction = at - cell as f64;
    values.get(cell..cell + 2).map_or(0.0, |pair| pair[0] * (1.0 - fraction) + pair[1] * fraction)
}
