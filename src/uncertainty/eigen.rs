//! Eigenvalues and eigenvectors of small symmetric matrices, by Jacobi rotations.

use super::samples::Matrix;

/// Every sweep about squares what is left off the diagonal: ten are plenty.
const MAX_SWEEPS: usize = 50;
/// The sum of the squares off the diagonal, relative to all, that counts as none: far below what
/// rounding adds.
const NEGLIGIBLE: f64 = 1e-34;

/// Eigenvalues in no order, and the eigenvector of each as a row of unit length (Golub and Van
/// Loan, Matrix Computations, section 8.5). O(n^3).
pub(super) fn eigen(matrix: Matrix) -> (Vec<f64>, Matrix) {
    let Matrix { n, values: mut a } = matrix;
    let mut vectors = Matrix::symmetric(n, |i, j| f64::from(u8::from(i == j)));
    let v = &mut vectors.values;
    let all: f64 = a.iter().map(|value| value * value).sum();
    let negligible = NEGLIGIBLE * all / (n * n) as f64;
    for _ in 0..MAX_SWEEPS {
        let mut is_done = true;
        for p in 0..n {
            for q in p + 1..n {
                let off = a[p * n + q];
                if off * off <= negligible {
                    continue;
                }
                is_done = false;
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cos = t.hypot(1.0).recip();
                let rotate = |values: &mut [f64], i: usize, j: usize| {
                    let (x, y) = (values[i], values[j]);
                    (values[i], values[j]) = (cos * (x - t * y), cos * (y + t * x));
                };
                for k in 0..n {
                    rotate(&mut a, k * n + p, k * n + q);
                }
                for k in 0..n {
                    rotate(&mut a, p * n + k, q * n + k);
                    rotate(v, p * n + k, q * n + k);
                }
            }
        }
        if is_done {
            break;
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}
