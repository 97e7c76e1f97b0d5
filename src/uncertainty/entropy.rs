//! Entropies of the distribution of answers, by counting samples or by their likelihoods.
//!
//! A sample without an answer is an answer of its own, so that n such samples give the maximum.
//! Likelihoods are those of a sample's tokens after its reasoning; a score from them is `None` if a
//! sample has none.

use super::samples::{Compared, log_sum_exp};
use super::vote::{counts, entropy, without_answer};
use super::{Direction, Estimator, Formula, Needs, ordered_mean};

/// The entropy of the answers.
pub(super) const DISCRETE_SEMANTIC_ENTROPY: Estimator = Estimator {
    name: "discrete_semantic_entropy",
    unit: "nats",
    direction: Direction::HigherIsLessConfident,
    needs: Needs::Vote,
    source: "Farquhar et al., Nature 630 (2024), discrete variant; answers grouped by candor's \
             vote instead of entailment",
    summary: "entropy of the answers over all samples, 0 to ln n; each sample without an answer \
              counts as an answer of its own",
    formula: Formula::Evidence(|evidence| {
        let vote = evidence.vote;
        let weights = vote.clusters.iter().map(|cluster| cluster.weight);
        let ones = std::iter::repeat_n(1.0, without_answer(vote));
        let mut weights: Vec<f64> = weights.filter(|weight| *weight > 0.0).chain(ones).collect();
        weights.sort_by(f64::total_cmp);
        entropy(&weights)
    }),
};

/// Every entropy.
pub(super) const ESTIMATORS: &[Estimator] = &[
    DISCRETE_SEMANTIC_ENTROPY,
    Estimator {
        name: "semantic_entropy_miller_madow",
        unit: "nats",
        direction: Direction::HigherIsLessConfident,
        needs: Needs::Samples,
        source: "H + (K - 1) / 2n; Miller 1955, bias of information estimates",
        summary: "entropy of the answers with Miller and Madow's correction for few samples, 0 or \
                  more",
        formula: Formula::Evidence(|evidence| {
            let counts = evidence.is_sampled().then(|| counts(evidence.vote))?;
            let n: f64 = counts.iter().sum();
            Some(entropy(&counts)? + (counts.len() as f64 - 1.0) / (2.0 * n))
        }),
    },
    Estimator {
        name: "semantic_entropy_chao_shen",
        unit: "nats",
        direction: Direction::HigherIsLessConfident,
        needs: Needs::Samples,
        source: "Chao and Shen 2003, Environmental and Ecological Statistics 10, coverage by Good \
                 and Turing",
        summary: "entropy of the answers corrected for the answers that few samples have missed, 0 \
                  or more",
        formula: Formula::Evidence(|evidence| {
            chao_shen(&evidence.is_sampled().then(|| counts(evidence.vote))?)
        }),
    },
    Estimator {
        name: "semantic_entropy_rao",
        unit: "nats",
        direction: Direction::HigherIsLessConfident,
        needs: Needs::SampleStats,
        source: "Farquhar et al., Nature 630 (2024): -sum p ln p with length-normalized likelihoods",
        summary: "entropy of the answers, each weighted by its samples' probability per token, 0 \
                  to ln n",
        formula: Formula::Evidence(|evidence| {
            let logprobs = answer_logprobs(evidence)?;
            Some(logprobs.iter().map(|logprob| -logprob.exp() * logprob).sum::<f64>().max(0.0))
        }),
    },
    Estimator {
        name: "semantic_entropy_kuhn",
        unit: "nats",
        direction: Direction::HigherIsLessConfident,
        needs: Needs::SampleStats,
        source: "Kuhn et al., arXiv 2302.09664: -mean ln p over the answers; p normalized over the \
                 samples",
        summary: "mean surprisal of the answers, each weighted by its samples' probability per \
                  token, 0 or more",
        formula: Formula::Evidence(|evidence| Some(-ordered_mean(answer_logprobs(evidence)?)?)),
    },
    Estimator {
        name: "sequence_entropy",
        unit: "nats",
        direction: Direction::HigherIsLessConfident,
        needs: Needs::SampleStats,
        source: "predictive entropy, -mean ln p over samples; Malinin and Gales, arXiv 2002.07650",
        summary: "Monte Carlo entropy of the samples, 0 or more",
        formula: Formula::Evidence(|evidence| {
            let samples = evidence.likely_samples()?;
            Some(-ordered_mean(samples.iter().map(|sample| sample.logprob).collect())?)
        }),
    },
    Estimator {
        name: "sequence_entropy_per_token",
        unit: "nats",
        direction: Direction::HigherIsLessConfident,
        needs: Needs::SampleStats,
        source: "length-normalized predictive entropy; Malinin and Gales, arXiv 2002.07650",
        summary: "Monte Carlo entropy of the samples per token, 0 or more",
        formula: Formula::Evidence(|evidence| {
            let samples = evidence.likely_samples()?;
            Some(-ordered_mean(samples.iter().map(|sample| sample.mean_logprob).collect())?)
        }),
    },
];

/// The entropy with every share scaled by the estimated coverage C = 1 - singletons / n, and every
/// term divided by the probability that n samples hold the answer (Horvitz and Thompson).
fn chao_shen(counts: &[f64]) -> Option<f64> {
    let n: f64 = counts.iter().sum();
    let singletons = counts.iter().filter(|count| **count < 1.5).count() as f64;
    // A coverage of 0 has no finite estimate; the usual remedy is one singleton fewer.
    let coverage = 1.0 - singletons.min(n - 1.0) / n;
    let terms = counts.iter().map(|count| {
        let p = coverage * count / n;
        -p * p.ln() / (1.0 - (1.0 - p).powf(n))
    });
    (n > 0.0).then(|| terms.sum::<f64>().max(0.0))
}

/// ln p of every answer, ascending: its samples' length-normalized likelihoods over those of all.
fn answer_logprobs(evidence: &Compared<'_>) -> Option<Vec<f64>> {
    let samples = evidence.likely_samples()?;
    let total = log_sum_exp(samples.iter().map(|sample| sample.mean_logprob))?;
    let of_group = |group: usize| {
        let members = samples.iter().filter(move |sample| sample.group == Some(group));
        log_sum_exp(members.map(|sample| sample.mean_logprob))
    };
    let answered = (0..evidence.vote.clusters.len()).filter_map(of_group);
    let silent = samples.iter().filter(|sample| sample.group.is_none());
    let all = answered.chain(silent.map(|sample| sample.mean_logprob));
    let mut logprobs: Vec<f64> = all.map(|logprob| logprob - total).collect();
    logprobs.sort_by(f64::total_cmp);
    Some(logprobs)
}
