//! Logistic regression by Newton's method: the optimizer of sigmoid, temperature, beta and fusion.
//!
//! Contract: total and deterministic; maximizes the likelihood, less an optional penalty, to the
//! accuracy of `f64`. Without a finite maximum (a plane separates correct from incorrect) each step
//! adds about one to the log-odds and never gets shorter, so separation is detected without a
//! threshold on coefficients.

use super::CalibrationError;

/// Newton steps before a fit counts as separated. A fit that exists takes five to ten: the last
/// ones double the digits.
const MAX_STEPS: usize = 60;
/// A fit is found when no log-odds moves by more than this.
const TOLERANCE: f64 = 1e-9;

/// What to fit.
pub(super) struct Problem<'a> {
    /// One row of finite features per question, all of the same length.
    pub features: &'a [Vec<f64>],
    /// Whether each answer is correct.
    pub correct: &'a [bool],
    /// Whether there is a constant term, the last coefficient.
    pub intercept: bool,
    /// Weight of half the squared coefficients, 0 for none; the constant term is never penalized.
    pub l2: f64,
}

impl Problem<'_> {
    /// The coefficients, the constant term last.
    pub(super) fn solve(&self) -> Result<Vec<f64>, CalibrationError> {
        let width = self.features.first().map_or(0, Vec::len) + usize::from(self.intercept);
        let scales = self.scales(width);
        let rows: Vec<Vec<f64>> =
            self.features.iter().map(|row| self.scaled(row, &scales)).collect();
        let mut at = vec![0.0; width];
        let mut value = self.objective(&rows, &at, &scales);
        for _ in 0..MAX_STEPS {
            let step = self.newton_step(&rows, &at, &scales).ok_or(CalibrationError::Separated)?;
            let moved = rows.iter().map(|row| dot(row, &step).abs()).fold(0.0, f64::max);
            // Halved until the objective does not get worse; it is concave, so some fraction of the
            // step always does.
            let next = (0..40).map(|halvings| 0.5_f64.powi(halvings)).find_map(|size| {
                let next: Vec<f64> = at.iter().zip(&step).map(|(a, s)| a + size * s).collect();
                let found = self.objective(&rows, &next, &scales);
                (found >= value - 1e-12 * value.abs()).then_some((next, found))
            });
            let Some((next, found)) = next else { return Err(CalibrationError::Separated) };
            (at, value) = (next, found);
            if moved <= TOLERANCE {
                return Ok(at.iter().zip(&scales).map(|(a, scale)| a / scale).collect());
            }
        }
        Err(CalibrationError::Separated)
    }

    /// The largest magnitude of each column, 1 for a column of zeros and for the constant term: it
    /// keeps the system well conditioned.
    fn scales(&self, width: usize) -> Vec<f64> {
        let largest = |column: usize| {
            self.features
                .iter()
                .filter_map(|row| row.get(column))
                .fold(0.0_f64, |most, x| most.max(x.abs()))
        };
        (0..width).map(largest).map(|scale| if scale > 0.0 { scale } else { 1.0 }).collect()
    }

    fn scaled(&self, row: &[f64], scales: &[f64]) -> Vec<f64> {
        row.iter()
            .zip(scales)
            .map(|(x, scale)| x / scale)
            .chain(self.intercept.then_some(1.0))
            .collect()
    }

    /// The penalty's second derivative for each scaled coefficient.
    fn penalties(&self, scales: &[f64]) -> Vec<f64> {
        let penalized = scales.len() - usize::from(self.intercept);
        scales
            .iter()
            .enumerate()
            .map(|(i, scale)| if i < penalized { self.l2 / (scale * scale) } else { 0.0 })
            .collect()
    }

    fn objective(&self, rows: &[Vec<f64>], at: &[f64], scales: &[f64]) -> f64 {
        let likelihood: f64 = rows
            .iter()
            .zip(self.correct)
            .map(|(row, correct)| log_sigmoid(if *correct { dot(row, at) } else { -dot(row, at) }))
            .sum();
        likelihood
            - 0.5
                * at.iter()
                    .zip(self.penalties(scales))
                    .map(|(a, penalty)| penalty * a * a)
                    .sum::<f64>()
    }

    /// The solution of (X'WX + penalty) step = gradient; `None` if the matrix is singular.
    fn newton_step(&self, rows: &[Vec<f64>], at: &[f64], scales: &[f64]) -> Option<Vec<f64>> {
        let width = at.len();
        let penalties = self.penalties(scales);
        let mut gradient: Vec<f64> =
            at.iter().zip(&penalties).map(|(a, penalty)| -penalty * a).collect();
        let mut hessian = vec![vec![0.0; width]; width];
        hessian
            .iter_mut()
            .enumerate()
            .zip(&penalties)
            .for_each(|((i, row), penalty)| row[i] = *penalty);
        for (row, correct) in rows.iter().zip(self.correct) {
            let p = sigmoid(dot(row, at));
            let residual = if *correct { sigmoid(-dot(row, at)) } else { -p };
            let weight = p * sigmoid(-dot(row, at));
            for ((x, slope), curve) in row.iter().zip(&mut gradient).zip(&mut hessian) {
                *slope += residual * x;
                curve.iter_mut().zip(row).for_each(|(h, other)| *h += weight * x * other);
            }
        }
        cholesky_solve(hessian, gradient)
    }
}

/// Solves a symmetric positive definite system; `None` if it is not (numerically) definite.
fn cholesky_solve(mut matrix: Vec<Vec<f64>>, mut vector: Vec<f64>) -> Option<Vec<f64>> {
    let n = vector.len();
    // Gaussian elimination without pivoting, which is stable for such matrices; a pivot that lost
    // all its digits is a singular matrix.
    for i in 0..n {
        let (above, below) = matrix.split_at_mut(i + 1);
        let pivot_row = above.last()?;
        let pivot = *pivot_row.get(i)?;
        let is_definite = pivot > 0.0 && pivot.is_finite();
        if !is_definite {
            return None;
        }
        for (offset, row) in below.iter_mut().enumerate() {
            let (factor, before) = (row.get(i)? / pivot, *row.get(i + offset + 1)?);
            row.iter_mut().zip(pivot_row).for_each(|(x, p)| *x -= factor * p);
            let after = row.get(i + offset + 1)?;
            if *after <= 1e-14 * before {
                return None;
            }
            let pivot_value = *vector.get(i)?;
            *vector.get_mut(i + offset + 1)? -= factor * pivot_value;
        }
    }
    for i in (0..n).rev() {
        let row = matrix.get(i)?;
        let known: f64 = row.iter().zip(&vector).skip(i + 1).map(|(a, x)| a * x).sum();
        *vector.get_mut(i)? = (vector.get(i)? - known) / row.get(i)?;
    }
    vector.iter().all(|x| x.is_finite()).then_some(vector)
}

/// Sum of products.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// 1 / (1 + e^-x), 0 to 1, without overflow.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// ln of [`sigmoid`], at most 0, without overflow.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}
