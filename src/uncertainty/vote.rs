//! Scores of the vote: how many samples agree. They measure agreement, not correctness.

use super::{Direction, Estimator, Formula, Needs};
use crate::consensus::Vote;

/// Every score of the vote.
pub(super) const ESTIMATORS: &[Estimator] = &[
    Estimator {
        name: "vote_share",
        unit: "share",
        direction: Direction::HigherIsMoreConfident,
        needs: Needs::Vote,
        source: "Wang et al., arXiv 2203.11171; as confidence: Lyu et al., arXiv 2402.13904",
        summary: "share of all samples that gives the leading answer, 0 to 1",
        formula: Formula::Evidence(|evidence| {
            (evidence.vote.samples() > 0).then(|| evidence.vote.share())
        }),
    },
    Estimator {
        name: "vote_margin",
        unit: "share",
        direction: Direction::HigherIsMoreConfident,
        needs: Needs::Vote,
        source: "FSD in Lyu et al., arXiv 2402.13904",
        summary: "lead of the leading answer over the runner-up, as a share of all samples, 0 to 1",
        formula: Formula::Evidence(|evidence| {
            (evidence.vote.samples() > 0).then(|| evidence.vote.margin())
        }),
    },
    Estimator {
        name: "vote_evenness",
        unit: "share",
        direction: Direction::HigherIsLessConfident,
        needs: Needs::Samples,
        source: "1 minus the entropy-based consistency in Lyu et al., arXiv 2402.13904",
        summary: "entropy of the answers as a share of its maximum over as many answers, 0 to 1; 0 \
                  for one answer",
        formula: Formula::Evidence(|evidence| {
            let counts = evidence.is_sampled().then(|| counts(evidence.vote))?;
            let most = (counts.len() as f64).ln();
            if most > 0.0 { Some(entropy(&counts)? / most) } else { entropy(&counts) }
        }),
    },
    Estimator {
        name: "semantic_sets",
        unit: "sets",
        direction: Direction::HigherIsLessConfident,
        needs: Needs::Samples,
        source: "number of semantic sets in Lin et al., arXiv 2305.19187",
        summary: "number of different answers, 1 to n; each sample without an answer counts as one",
        formula: Formula::Evidence(|evidence| {
            let counts = evidence.is_sampled().then(|| counts(evidence.vote))?;
            (!counts.is_empty()).then_some(counts.len() as f64)
        }),
    },
];

/// Samples that drew no answer: each counts as an answer of its own.
pub(super) fn without_answer(vote: &Vote) -> usize {
    vote.unparsed + vote.truncated + vote.loops + vote.failed
}

/// The number of samples of every answer, ascending.
pub(super) fn counts(vote: &Vote) -> Vec<f64> {
    let voted = vote.clusters.iter().map(|cluster| cluster.samples.len() as f64);
    let ones = std::iter::repeat_n(1.0, without_answer(vote));
    let mut counts: Vec<f64> = voted.filter(|count| *count > 0.0).chain(ones).collect();
    counts.sort_by(f64::total_cmp);
    counts
}

/// The Shannon entropy of weights in nats, -Σ p ln p with p = weight / total weight; `None` of
/// nothing.
pub(super) fn entropy(weights: &[f64]) -> Option<f64> {
    let total: f64 = weights.iter().sum();
    let terms = weights.iter().filter(|weight| **weight > 0.0).map(|weight| {
        let p = weight / total;
        -p * p.ln()
    });
    // Minus zero of a unanimous vote becomes zero.
    (total > 0.0).then(|| terms.sum::<f64>().max(0.0))
}
