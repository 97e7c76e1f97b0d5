//! Scores of the graph whose nodes are samples and whose weights are their similarities.
//!
//! W is the matrix of similarities with ones on its diagonal, D its row sums. `None` with fewer
//! than two samples, or more than can be compared.

use super::eigen::eigen;
use super::samples::Similarity::{Jaccard, RougeL, Semantic};
use super::samples::{Compared, Matrix};
use super::{Direction, Estimator, Formula, Needs, ordered_mean};

const EIGV: &str = "sum of max(0, 1 - lambda) over the normalized Laplacian, EigV in Lin et al., \
                    arXiv 2305.19187";
const DEGREE: &str = "trace(n - D) / n^2, Deg in Lin et al., arXiv 2305.19187";
const ECCENTRICITY: &str = "Ecc in Lin et al., arXiv 2305.19187, over eigenvalues below 0.9";
const KERNEL: &str = "Nikitin et al., arXiv 2405.20003: von Neumann entropy of the heat kernel, t \
                      = 0.3";

/// Every score of a graph, and the mean similarity.
pub(super) const ESTIMATORS: &[Estimator] = &[
    graph(
        ("semantic_eigv", "sets", EIGV),
        "number of meanings, counted by eigenvalues, 1 to n",
        |evidence| evidence.similarities(Semantic).map(eigv),
    ),
    graph(
        ("lexical_eigv", "sets", EIGV),
        "number of wordings, counted by eigenvalues of the Jaccard similarities, 1 to n",
        |evidence| evidence.similarities(Jaccard).map(eigv),
    ),
    graph(
        ("semantic_degree", "share", DEGREE),
        "mean dissimilarity in meaning of two samples, each with itself included, 0 to 1",
        |evidence| evidence.similarities(Semantic).map(degree),
    ),
    graph(
        ("lexical_degree", "share", DEGREE),
        "mean Jaccard dissimilarity of two samples, each with itself included, 0 to 1",
        |evidence| evidence.similarities(Jaccard).map(degree),
    ),
    graph(
        ("semantic_eccentricity", "distance", ECCENTRICITY),
        "spread of the samples in the space of meanings, 0 or more",
        |evidence| evidence.similarities(Semantic).map(eccentricity),
    ),
    graph(
        ("lexical_eccentricity", "distance", ECCENTRICITY),
        "spread of the samples in the space of wordings, by Jaccard similarity, 0 or more",
        |evidence| evidence.similarities(Jaccard).map(eccentricity),
    ),
    graph(
        ("kernel_language_entropy", "share", KERNEL),
        "entropy of the graph of meanings as a share of ln n, 0 to 1",
        |evidence| evidence.similarities(Semantic).map(kernel_entropy),
    ),
    graph(
        ("lexical_kernel_entropy", "share", KERNEL),
        "entropy of the graph of Jaccard similarities as a share of ln n, 0 to 1",
        |evidence| evidence.similarities(Jaccard).map(kernel_entropy),
    ),
    Estimator {
        name: "lexical_similarity",
        unit: "share",
        direction: Direction::HigherIsMoreConfident,
        needs: Needs::Samples,
        source: "Fomicheva et al., arXiv 2005.10608, with ROUGE-L as in Kuhn et al., arXiv \
                 2302.09664; words not stemmed",
        summary: "mean ROUGE-L of two samples' texts, 0 to 1",
        formula: Formula::Evidence(|evidence| {
            let w = evidence.similarities(RougeL)?;
            let below = w.rows().enumerate().flat_map(|(at, row)| row.iter().take(at));
            ordered_mean(below.copied().collect())
        }),
    },
];

/// An estimator over several samples, higher = less confident.
const fn graph(
    (name, unit, source): (&'static str, &'static str, &'static str),
    summary: &'static str,
    score: fn(&Compared<'_>) -> Option<f64>,
) -> Estimator {
    let direction = Direction::HigherIsLessConfident;
    let formula = Formula::Evidence(score);
    Estimator { name, unit, direction, needs: Needs::Samples, source, summary, formula }
}

/// I - D^-1/2 W D^-1/2.
fn normalized_laplacian(w: &Matrix) -> Matrix {
    let roots: Vec<f64> = w.rows().map(|row| row.iter().sum::<f64>().sqrt()).collect();
    Matrix::symmetric(w.n, |i, j| {
        f64::from(u8::from(i == j)) - w.values[i * w.n + j] / (roots[i] * roots[j])
    })
}

fn eigv(w: &Matrix) -> f64 {
    let (values, _) = eigen(normalized_laplacian(w));
    values.iter().map(|value| (1.0 - value).max(0.0)).sum()
}

fn degree(w: &Matrix) -> f64 {
    1.0 - w.values.iter().sum::<f64>() / w.values.len() as f64
}

/// The distance of the samples from their center, in the eigenvectors of small eigenvalues: of k
/// vectors, the square is k less the squared share of the constant vector that they span.
fn eccentricity(w: &Matrix) -> f64 {
    let (values, vectors) = eigen(normalized_laplacian(w));
    let kept = values.iter().zip(vectors.rows()).filter(|(value, _)| **value < 0.9);
    let spread = kept.map(|(_, vector)| {
        let sum: f64 = vector.iter().sum();
        1.0 - sum * sum / w.n as f64
    });
    spread.sum::<f64>().max(0.0).sqrt()
}

/// The entropy of the eigenvalues of exp(-tL), L = D - 2W, scaled to a diagonal of 1 / n. Both
/// directions of a pair count, hence 2W.
fn kernel_entropy(w: &Matrix) -> f64 {
    const T: f64 = 0.3;
    let n = w.n;
    let degrees: Vec<f64> = w.rows().map(|row| row.iter().sum()).collect();
    let (values, vectors) = eigen(Matrix::symmetric(n, |i, j| {
        2.0 * (if i == j { degrees[i] } else { 0.0 } - w.values[i * n + j])
    }));
    let heats: Vec<f64> = values.iter().map(|value| (-T * value).exp()).collect();
    let heat = Matrix::symmetric(n, |i, j| {
        let terms = heats.iter().zip(vectors.rows());
        terms.map(|(heat, vector)| heat * vector[i] * vector[j]).sum()
    });
    let diagonal: Vec<f64> = (0..n).map(|i| heat.values[i * n + i].sqrt()).collect();
    let (weights, _) = eigen(Matrix::symmetric(n, |i, j| {
        heat.values[i * n + j] / (diagonal[i] * diagonal[j] * n as f64)
    }));
    let entropy: f64 = weights.iter().filter(|w| **w > 0.0).map(|w| -w * w.ln()).sum();
    (entropy / (n as f64).ln()).clamp(0.0, 1.0)
}
