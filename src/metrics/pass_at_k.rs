//! Probability that at least one of k samples is correct, estimated without bias from all n samples
//! of the run: 1 - C(n - c, k) / C(n, k) with c correct ones. A sample without an answer is not
//! correct.

use super::maj_at_k::mean_over_samples;
use super::{Formula, GradedQuestion, GradedSample, Metric, Population};

const fn row(name: &'static str, k: usize, formula: Formula) -> Metric {
    Metric {
        name,
        unit: "probability",
        higher_is_better: Some(true),
        population: Population::Samples(k),
        source: "Chen et al., arXiv 2107.03374, eq. 1",
        summary: "probability that one of k samples is correct, in the mean over questions, 0 to 1",
        formula,
    }
}

/// One sample.
pub(super) static PASS_AT_1: Metric =
    row("pass_at_1", 1, Formula::Number(|questions| pass_at_k(questions, 1)));
/// One of 4 samples.
pub(super) static PASS_AT_4: Metric =
    row("pass_at_4", 4, Formula::Number(|questions| pass_at_k(questions, 4)));
/// One of 8 samples.
pub(super) static PASS_AT_8: Metric =
    row("pass_at_8", 8, Formula::Number(|questions| pass_at_k(questions, 8)));
/// One of 16 samples.
pub(super) static PASS_AT_16: Metric =
    row("pass_at_16", 16, Formula::Number(|questions| pass_at_k(questions, 16)));
/// One of 32 samples.
pub(super) static PASS_AT_32: Metric =
    row("pass_at_32", 32, Formula::Number(|questions| pass_at_k(questions, 32)));

/// Mean probability that one of `k` samples is correct, 0 to 1, higher is better; over questions
/// with at least `k` samples. `None` without such questions, or for `k` = 0.
pub fn pass_at_k(questions: &[&GradedQuestion], k: usize) -> Option<f64> {
    mean_over_samples(questions, k, |samples| {
        let n = samples.len();
        let incorrect =
            n - samples.iter().filter(|sample| GradedSample::is_correct(sample)).count();
        // C(w, k) / C(n, k) = product of (1 - k / i) over i = w + 1 ..= n; a factor of zero or less
        // means that k exceeds the incorrect ones.
        if incorrect < k {
            1.0
        } else {
            1.0 - ((incorrect + 1)..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
        }
    })
}
