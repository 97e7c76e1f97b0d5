//! Scores of token statistics: a statistic, aggregated over a span of a sample's tokens, as the
//! mean over the samples that give the leading answer.
//!
//! Three spans: the whole sample after its reasoning, its short answer, its reasoning. A score is
//! `None` without a leading answer, or if one of its samples lacks the span or holds a statistic
//! that is not finite.
//!
//! A window is an eighth of the tokens, but at least 16; a shorter span is one window. A short
//! answer is shorter than a window, so no statistic over its windows or its tail is listed.

use super::{Direction, Estimator, Evidence, Formula, Needs, ordered_mean};
use crate::generation::{Completion, FinishReason, Token, TokenStats};

/// The tokens that a score is about.
#[derive(Clone, Copy, Debug)]
enum Span {
    /// Everything after the reasoning, with the end token.
    Whole,
    /// The short answer, stated or asked for.
    Answer,
    /// The reasoning, without its markers.
    Reasoning,
}

/// A score of a token statistic over a span.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenScore {
    span: Span,
    statistic: fn(&TokenStats) -> f64,
    aggregate: fn(&[f64]) -> f64,
}

impl TokenScore {
    /// The mean over the samples that give the leading answer.
    pub(super) fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        let scores: Option<Vec<f64>> =
            evidence.leading_samples().map(|sample| self.of(sample)).collect();
        ordered_mean(scores?)
    }

    /// The score of one sample.
    fn of(&self, sample: &Completion) -> Option<f64> {
        let tokens = match self.span {
            Span::Whole => sample.tokens_after_reasoning(),
            Span::Answer => sample.answer_tokens()?,
            Span::Reasoning => sample.reasoning_tokens(),
        };
        let values: Vec<f64> = tokens.iter().map(|token| (self.statistic)(&token.stats)).collect();
        let is_sound = !values.is_empty() && values.iter().all(|value| value.is_finite());
        is_sound.then(|| (self.aggregate)(&values))
    }
}

/// A kind of score, to be listed for several spans.
struct Kind {
    unit: &'static str,
    direction: Direction,
    source: &'static str,
    statistic: fn(&TokenStats) -> f64,
    aggregate: fn(&[f64]) -> f64,
}

impl Kind {
    const fn over(&self, span: Span, name: &'static str, summary: &'static str) -> Estimator {
        let Self { unit, direction, source, statistic, aggregate } = *self;
        let needs = match span {
            Span::Whole => Needs::TokenStats,
            Span::Answer => Needs::AnswerTokens,
            Span::Reasoning => Needs::ReasoningTokens,
        };
        let formula = Formula::Tokens(TokenScore { span, statistic, aggregate });
        Estimator { name, unit, direction, needs, source, summary, formula }
    }
}

const LOGPROB: Kind = Kind {
    unit: "nats",
    direction: Direction::HigherIsMoreConfident,
    source: "sequence log-probability; Malinin and Gales, arXiv 2002.07650",
    statistic: |stats| stats.logprob,
    aggregate: sum,
};
const PERPLEXITY: Kind = Kind {
    unit: "choices",
    direction: Direction::HigherIsLessConfident,
    source: "exp(-mean ln p); Fadeeva et al., arXiv 2311.07383",
    statistic: |stats| stats.logprob,
    aggregate: |logprobs| (-mean(logprobs)).exp(),
};
const MIN_PROB: Kind = Kind {
    unit: "probability",
    direction: Direction::HigherIsMoreConfident,
    source: "Manakul et al., arXiv 2303.08896, Max(-log p), as a probability",
    statistic: |stats| stats.logprob,
    aggregate: |logprobs| min(logprobs).exp(),
};
const MEAN_ENTROPY: Kind = Kind {
    unit: "nats",
    direction: Direction::HigherIsLessConfident,
    source: "softmax entropy; Fomicheva et al., arXiv 2005.10608",
    statistic: |stats| stats.entropy,
    aggregate: mean,
};
const MAX_ENTROPY: Kind =
    Kind { source: "Manakul et al., arXiv 2303.08896, Max(H)", aggregate: max, ..MEAN_ENTROPY };
const TAIL_ENTROPY: Kind = Kind {
    source: "tail window of Fu et al., arXiv 2508.15260, over the entropy",
    aggregate: tail_mean,
    ..MEAN_ENTROPY
};
const WINDOW_ENTROPY: Kind = Kind {
    source: "lowest group window of Fu et al., arXiv 2508.15260, over the entropy",
    aggregate: |entropies| max(&window_means(entropies)),
    ..MEAN_ENTROPY
};
const VARENTROPY: Kind = Kind {
    unit: "nats squared",
    direction: Direction::HigherIsLessConfident,
    source: "variance of the surprisal; Kontoyiannis and Verdu, arXiv 1212.2668",
    statistic: |stats| stats.varentropy,
    aggregate: mean,
};
const MEAN_MARGIN: Kind = Kind {
    unit: "probability",
    direction: Direction::HigherIsMoreConfident,
    source: "p1 - p2 in CoT-decoding; Wang and Zhou, arXiv 2402.10200",
    statistic: |stats| stats.margin,
    aggregate: mean,
};
const MIN_MARGIN: Kind = Kind { aggregate: min, ..MEAN_MARGIN };
const SELF_CERTAINTY: Kind = Kind {
    unit: "nats",
    direction: Direction::HigherIsMoreConfident,
    source: "Kang et al., arXiv 2502.18581",
    statistic: |stats| stats.self_certainty,
    aggregate: mean,
};
const TOKEN_CONFIDENCE: Kind = Kind {
    unit: "nats",
    direction: Direction::HigherIsMoreConfident,
    source: "average trace confidence in Fu et al., arXiv 2508.15260",
    statistic: |stats| stats.top_confidence,
    aggregate: mean,
};
const TAIL_CONFIDENCE: Kind = Kind {
    source: "tail confidence in Fu et al., arXiv 2508.15260, with a window that fits short answers",
    aggregate: tail_mean,
    ..TOKEN_CONFIDENCE
};
const LOWEST_CONFIDENCE: Kind = Kind {
    source: "lowest group confidence in Fu et al., arXiv 2508.15260, with windows that fit short \
             answers",
    aggregate: |confidences| min(&window_means(confidences)),
    ..TOKEN_CONFIDENCE
};
const BOTTOM_CONFIDENCE: Kind = Kind {
    source: "bottom 10 % group confidence in Fu et al., arXiv 2508.15260, with windows that fit \
             short answers",
    aggregate: bottom_tenth,
    ..TOKEN_CONFIDENCE
};

use Span::{Answer, Reasoning, Whole};

/// Every score of token statistics, and the greedy sequence's.
pub(super) const ESTIMATORS: &[Estimator] = &[
    MEAN_ENTROPY.over(
        Whole,
        "mean_token_entropy",
        "mean entropy per token of the leading answer's samples, 0 to ln V",
    ),
    MAX_ENTROPY.over(
        Whole,
        "max_token_entropy",
        "largest entropy of a token, mean over the leading answer's samples, 0 to ln V",
    ),
    TAIL_ENTROPY.over(
        Whole,
        "tail_token_entropy",
        "mean entropy per token of the last tenth, at least 16 tokens, 0 to ln V",
    ),
    WINDOW_ENTROPY.over(
        Whole,
        "window_token_entropy",
        "mean entropy per token of the least confident window, 0 to ln V",
    ),
    VARENTROPY.over(
        Whole,
        "mean_token_varentropy",
        "mean variance of ln p per token of the leading answer's samples, 0 or more",
    ),
    PERPLEXITY.over(
        Whole,
        "perplexity",
        "exp of the mean negative log-probability per token, mean over the leading answer's \
         samples, 1 or more",
    ),
    LOGPROB.over(
        Whole,
        "sequence_logprob",
        "ln p of a sample's tokens, mean over the leading answer's samples, <= 0",
    ),
    MIN_PROB.over(
        Whole,
        "min_token_prob",
        "probability of the least probable token, mean over the leading answer's samples, 0 to 1",
    ),
    MEAN_MARGIN.over(
        Whole,
        "mean_token_margin",
        "mean lead of the most probable token, mean over the leading answer's samples, 0 to 1",
    ),
    MIN_MARGIN.over(
        Whole,
        "min_token_margin",
        "smallest lead of the most probable token, mean over the leading answer's samples, 0 to 1",
    ),
    SELF_CERTAINTY.over(
        Whole,
        "self_certainty",
        "mean KL(uniform || p) per token, mean over the leading answer's samples, 0 or more",
    ),
    TOKEN_CONFIDENCE.over(
        Whole,
        "mean_token_confidence",
        "mean -ln p over the 20 most probable tokens of every step, 0 or more",
    ),
    TAIL_CONFIDENCE.over(
        Whole,
        "tail_confidence",
        "mean -ln p over the 20 most probable tokens at the end of the leading answer's samples, 0 \
         or more",
    ),
    LOWEST_CONFIDENCE.over(
        Whole,
        "lowest_group_confidence",
        "mean token confidence of the least confident window, 0 or more",
    ),
    BOTTOM_CONFIDENCE.over(
        Whole,
        "bottom_group_confidence",
        "mean token confidence of the least confident tenth of all windows, 0 or more",
    ),
    LOGPROB.over(
        Answer,
        "answer_logprob",
        "ln p of the short answer's tokens, without the text around it, <= 0",
    ),
    MEAN_ENTROPY.over(
        Answer,
        "answer_entropy",
        "mean entropy of the steps that drew the short answer, without the text around it, 0 to ln \
         V",
    ),
    MAX_ENTROPY.over(
        Answer,
        "answer_max_entropy",
        "largest entropy of a step that drew the short answer, 0 to ln V",
    ),
    VARENTROPY.over(
        Answer,
        "answer_varentropy",
        "mean variance of ln p of the steps that drew the short answer, 0 or more",
    ),
    PERPLEXITY.over(
        Answer,
        "answer_perplexity",
        "exp of the mean negative log-probability per token of the short answer, 1 or more",
    ),
    MIN_PROB.over(
        Answer,
        "answer_min_prob",
        "probability of the short answer's least probable token, 0 to 1",
    ),
    MEAN_MARGIN.over(
        Answer,
        "answer_margin",
        "mean lead of the most probable token while the short answer was drawn, 0 to 1",
    ),
    MIN_MARGIN.over(
        Answer,
        "answer_min_margin",
        "smallest lead of the most probable token while the short answer was drawn, 0 to 1",
    ),
    SELF_CERTAINTY.over(
        Answer,
        "answer_self_certainty",
        "mean KL(uniform || p) of the steps that drew the short answer, 0 or more",
    ),
    TOKEN_CONFIDENCE.over(
        Answer,
        "answer_token_confidence",
        "mean -ln p over the 20 most probable tokens while the short answer was drawn, 0 or more",
    ),
    LOGPROB.over(Reasoning, "reasoning_logprob", "ln p of the reasoning's tokens, <= 0"),
    MEAN_ENTROPY.over(
        Reasoning,
        "reasoning_entropy",
        "mean entropy per token of the reasoning, 0 to ln V",
    ),
    MAX_ENTROPY.over(
        Reasoning,
        "reasoning_max_entropy",
        "largest entropy of a token of the reasoning, 0 to ln V",
    ),
    TAIL_ENTROPY.over(
        Reasoning,
        "reasoning_tail_entropy",
        "mean entropy per token of the reasoning's last tenth, at least 16 tokens, 0 to ln V",
    ),
    WINDOW_ENTROPY.over(
        Reasoning,
        "reasoning_window_entropy",
        "mean entropy per token of the reasoning's least confident window, 0 to ln V",
    ),
    VARENTROPY.over(
        Reasoning,
        "reasoning_varentropy",
        "mean variance of ln p per token of the reasoning, 0 or more",
    ),
    PERPLEXITY.over(
        Reasoning,
        "reasoning_perplexity",
        "exp of the mean negative log-probability per token of the reasoning, 1 or more",
    ),
    MIN_PROB.over(
        Reasoning,
        "reasoning_min_prob",
        "probability of the reasoning's least probable token, 0 to 1",
    ),
    MEAN_MARGIN.over(
        Reasoning,
        "reasoning_margin",
        "mean lead of the most probable token during the reasoning, 0 to 1",
    ),
    MIN_MARGIN.over(
        Reasoning,
        "reasoning_min_margin",
        "smallest lead of the most probable token during the reasoning, 0 to 1",
    ),
    SELF_CERTAINTY.over(
        Reasoning,
        "reasoning_self_certainty",
        "mean KL(uniform || p) per token of the reasoning, 0 or more",
    ),
    TOKEN_CONFIDENCE.over(
        Reasoning,
        "reasoning_token_confidence",
        "mean -ln p over the 20 most probable tokens during the reasoning, 0 or more",
    ),
    TAIL_CONFIDENCE.over(
        Reasoning,
        "reasoning_tail_confidence",
        "mean token confidence of the reasoning's last tenth, at least 16 tokens, 0 or more",
    ),
    LOWEST_CONFIDENCE.over(
        Reasoning,
        "reasoning_lowest_confidence",
        "mean token confidence of the reasoning's least confident window, 0 or more",
    ),
    BOTTOM_CONFIDENCE.over(
        Reasoning,
        "reasoning_bottom_confidence",
        "mean token confidence of the least confident tenth of the reasoning's windows, 0 or more",
    ),
    Estimator {
        name: "greedy_nll",
        unit: "nats",
        direction: Direction::HigherIsLessConfident,
        needs: Needs::Greedy,
        source: "G-NLL; Aichberger et al., arXiv 2412.15176",
        summary: "-ln p of the greedy sequence, if one of the samples is it, 0 or more",
        formula: Formula::Evidence(|evidence| {
            let samples = evidence.generation.completions.iter();
            samples.filter_map(greedy_nll).min_by(f64::total_cmp)
        }),
    },
];

/// -ln p of a sample that took the most probable token at every step, whatever its temperature.
fn greedy_nll(sample: &Completion) -> Option<f64> {
    /// Two roundings of one probability differ by less, two tokens hardly ever.
    const ROUNDING: f64 = 1e-9;
    let is_greedy = |Token { stats, .. }: &Token| {
        stats.max_prob > 0.0 && stats.logprob >= stats.max_prob.ln() - ROUNDING
    };
    let is_drawn = sample.finish_reason == FinishReason::Stop && !sample.tokens.is_empty();
    (is_drawn && sample.tokens.iter().all(is_greedy))
        .then(|| -sample.tokens.iter().map(|token| token.stats.logprob).sum::<f64>())
}

/// The fewest tokens of a tail or a window; a shorter span counts as a whole.
const MIN_WINDOW: usize = 16;

fn sum(values: &[f64]) -> f64 {
    values.iter().sum()
}

fn mean(values: &[f64]) -> f64 {
    sum(values) / values.len() as f64
}

fn min(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// The mean of the last tenth, but at least of 16.
fn tail_mean(values: &[f64]) -> f64 {
    let length = values.len().div_ceil(10).max(MIN_WINDOW);
    mean(values.get(values.len().saturating_sub(length)..).unwrap_or(values))
}

/// The mean of every window of consecutive tokens.
fn window_means(values: &[f64]) -> Vec<f64> {
    let window = (values.len() / 8).max(MIN_WINDOW).min(values.len());
    let mut total = sum(values.get(..window).unwrap_or(values));
    let first = total;
    let slide = values.iter().zip(values.iter().skip(window)).map(|(leaves, enters)| {
        total += enters - leaves;
        total
    });
    std::iter::once(first).chain(slide).map(|total| total / window as f64).collect()
}

/// The mean of the lowest tenth of all windows, but at least of one.
fn bottom_tenth(values: &[f64]) -> f64 {
    let mut means = window_means(values);
    means.sort_by(f64::total_cmp);
    means.truncate((means.len() / 10).max(1));
    mean(&means)
}
