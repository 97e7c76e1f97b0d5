//! Scores that weigh how alike the samples are by how probable they are.
//!
//! Likelihoods are those of a sample's tokens after its reasoning. `None` with fewer than two
//! samples, more than can be compared, or one whose likelihood is not known. The response that
//! semantic density and `CoCoA` are about is the leading answer: the mean over its samples.

use std::collections::BTreeMap;

use super::samples::Similarity::{self, RougeL, Semantic};
use super::samples::{Compared, Sample, log_sum_exp};
use super::{Direction, Estimator, Formula, Needs, ordered_mean};

const SAR: &str = "sentSAR in Duan et al., arXiv 2307.01379, t = 0.001";
const COCOA: &str = "u * mean(1 - similarity); CoCoA in Vashurin et al., arXiv 2502.04964";

/// Every score of this kind. Token-level SAR needs a model that says how relevant a token is, and
/// is left out.
pub(super) const ESTIMATORS: &[Estimator] = &[
    Estimator {
        name: "semantic_density",
        unit: "share",
        direction: Direction::HigherIsMoreConfident,
        needs: Needs::SampleStats,
        source: "Qiu and Miikkulainen, arXiv 2405.13845, over distinct texts",
        summary: "share of the samples' probability per token that lies at the leading answer's \
                  meaning, 0 to 1",
        formula: Formula::Evidence(semantic_density),
    },
    weighed(
        ("semantic_sar", "nats", SAR),
        "surprisal of a sample, each supported by samples of like meaning, mean over all",
        |evidence| sentence_sar(evidence, Semantic),
    ),
    weighed(
        ("lexical_sar", "nats", SAR),
        "surprisal of a sample, each supported by samples of like wording (ROUGE-L), mean over all",
        |evidence| sentence_sar(evidence, RougeL),
    ),
    weighed(
        ("semantic_cocoa_msp", "nats", COCOA),
        "-ln p of the leading answer's samples times their dissimilarity in meaning, 0 or more",
        |evidence| cocoa(evidence, Semantic, |sample| -sample.logprob),
    ),
    weighed(
        ("semantic_cocoa_perplexity", "nats", COCOA),
        "-ln p per token of the leading answer's samples times their dissimilarity in meaning, 0 \
         or more",
        |evidence| cocoa(evidence, Semantic, |sample| -sample.mean_logprob),
    ),
    weighed(
        ("semantic_cocoa_entropy", "nats", COCOA),
        "mean token entropy of the leading answer's samples times their dissimilarity in meaning, \
         0 or more",
        |evidence| cocoa(evidence, Semantic, |sample| sample.mean_entropy),
    ),
    weighed(
        ("lexical_cocoa_msp", "nats", COCOA),
        "-ln p of the leading answer's samples times their dissimilarity in wording (ROUGE-L), 0 \
         or more",
        |evidence| cocoa(evidence, RougeL, |sample| -sample.logprob),
    ),
    weighed(
        ("lexical_cocoa_perplexity", "nats", COCOA),
        "-ln p per token of the leading answer's samples times their dissimilarity in wording \
         (ROUGE-L), 0 or more",
        |evidence| cocoa(evidence, RougeL, |sample| -sample.mean_logprob),
    ),
    weighed(
        ("lexical_cocoa_entropy", "nats", COCOA),
        "mean token entropy of the leading answer's samples times their dissimilarity in wording \
         (ROUGE-L), 0 or more",
        |evidence| cocoa(evidence, RougeL, |sample| sample.mean_entropy),
    ),
];

/// An estimator over the likelihoods of several samples, higher = less confident.
const fn weighed(
    (name, unit, source): (&'static str, &'static str, &'static str),
    summary: &'static str,
    score: fn(&Compared<'_>) -> Option<f64>,
) -> Estimator {
    let direction = Direction::HigherIsLessConfident;
    let formula = Formula::Evidence(score);
    Estimator { name, unit, direction, needs: Needs::SampleStats, source, summary, formula }
}

/// Whether a sample gives the leading answer.
fn leads(sample: &Sample<'_>) -> bool {
    sample.group == Some(0)
}

/// Σ p K / Σ p over distinct texts with p = e^(mean ln p) and K the similarity to the response,
/// mean over the leading answer's distinct texts.
fn semantic_density(evidence: &Compared<'_>) -> Option<f64> {
    let samples = evidence.likely_samples()?;
    let similarities = evidence.similarities(Semantic)?;
    // Samples of one text are in ascending order of their likelihood: the last one counts.
    let distinct: BTreeMap<&str, usize> =
        samples.iter().enumerate().map(|(at, sample)| (sample.text, at)).collect();
    let max = distinct.values().map(|at| samples[*at].mean_logprob).reduce(f64::max)?;
    let p = |at: usize| (samples[at].mean_logprob - max).exp();
    let total: f64 = distinct.values().map(|at| p(*at)).sum();
    let responses = distinct.values().filter(|at| leads(&samples[**at]));
    let density = |response: &usize| {
        let row = &similarities.values[response * samples.len()..];
        distinct.values().map(|at| p(*at) * row[*at]).sum::<f64>() / total
    };
    ordered_mean(responses.map(density).collect())
}

/// The mean over samples of -ln(p + Σ p' s / t) over all other samples.
fn sentence_sar(evidence: &Compared<'_>, similarity: Similarity) -> Option<f64> {
    const T: f64 = 0.001;
    let samples = evidence.likely_samples()?;
    let similarities = evidence.similarities(similarity)?;
    let surprisals = similarities.rows().enumerate().map(|(own, row)| {
        let supports = samples.iter().zip(row).enumerate().map(|(at, (sample, similarity))| {
            let relevance = if at == own { 1.0 } else { similarity / T };
            sample.logprob + relevance.ln()
        });
        log_sum_exp(supports).map(|support| -support)
    });
    ordered_mean(surprisals.collect::<Option<_>>()?)
}

/// A sample's own uncertainty times its mean dissimilarity to all other samples, mean over the
/// leading answer's samples.
fn cocoa(
    evidence: &Compared<'_>,
    similarity: Similarity,
    uncertainty: fn(&Sample<'_>) -> f64,
) -> Option<f64> {
    let samples = evidence.likely_samples()?;
    let similarities = evidence.similarities(similarity)?;
    let others = samples.len() as f64 - 1.0;
    let scores = samples.iter().zip(similarities.rows()).filter(|(sample, _)| leads(sample));
    let scores = scores.map(|(sample, row)| {
        // A sample's dissimilarity to itself is 0.
        uncertainty(sample) * row.iter().map(|similarity| 1.0 - similarity).sum::<f64>() / others
    });
    ordered_mean(scores.collect())
}
