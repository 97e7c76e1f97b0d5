//! The human view of an outcome: the vote as bars, and on request the samples colored by entropy,
//! where they diverged, and the cost.
//!
//! Pure functions from an outcome to text; everything that came from a model or a user is sanitized
//! here.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use super::chart::{self, Bar, ChartStyle};
use super::output::Output;
use super::terminal::{self, sanitize};
use crate::engine::{LoopDetector, Repeat};
use crate::generation::FinishReason;
use crate::pipeline::{Calibration, Outcome, Sample, SampleToken};

/// Answers that get a bar of their own; the rest are counted together.
const BARS: usize = 8;

/// The question that the following lines are about.
pub fn question(text: &str) -> String {
    format!("\n> {}", one_line(text))
}

/// The text shown instead of an answer.
pub fn abstention(outcome: &Outcome) -> String {
    let reason = outcome.decision.reason().map(ToString::to_string).unwrap_or_default();
    format!("abstained: {}", sanitize(&reason))
}

/// How sure, and why, in one sentence; the vote; what was drawn.
pub fn verdict(outcome: &Outcome, output: &Output) -> String {
    let mut lines = vec![support(outcome)];
    let vote = &outcome.vote;
    let rest = vote.clusters.iter().skip(BARS);
    let others = format!("({} other answers)", rest.len());
    let style = output.chart_style();
    let answers = vote.clusters.iter().take(BARS);
    let labels: Vec<String> = answers.clone().map(|group| one_line(&group.answer)).collect();
    let labels = distinguished(&labels, style.width / 2);
    let weights = answers.map(|group| group.weight);
    let mut rows: Vec<(&str, f64)> = labels.iter().map(String::as_str).zip(weights).collect();
    rows.extend([
        (others.as_str(), rest.map(|group| group.weight).sum()),
        ("(no answer found)", vote.unparsed as f64),
        ("(cut by --max-tokens)", vote.truncated as f64),
        ("(stopped in a loop)", vote.loops as f64),
        ("(failed)", vote.failed as f64),
    ]);
    rows.retain(|(_, weight)| *weight > 0.0);
    let samples = vote.samples() as f64;
    let value = |weight: f64| {
        if weight.fract() > 0.0 { format!("{weight:.2}") } else { weight.to_string() }
    };
    let bars: Vec<Bar<'_>> = rows
        .iter()
        .map(|&(label, weight)| Bar { label, share: weight / samples, value: value(weight) })
        .collect();
    let width = style.width.saturating_sub(2);
    let chart = chart::bars(&bars, ChartStyle { width, ..style });
    lines.extend(chart.iter().map(|line| format!("  {line}")));
    lines.extend(guarantee(outcome));
    lines.push(drawn(outcome));
    for probe in &outcome.probes {
        let (name, answer) = (&probe.name, sanitize(&probe.answer));
        lines.push(format!("{name} {:.2} for {answer}", probe.value));
    }
    lines.extend(outcome.notes.iter().map(|note| format!("note: {}", sanitize(note))));
    let wrapped = lines.iter().map(|line| terminal::wrap(line, style.width));
    wrapped.collect::<Vec<_>>().join("\n")
}

/// How sure the answer is, and by what.
fn support(outcome: &Outcome) -> String {
    let vote = &outcome.vote;
    let agree = vote.leader().map_or(0.0, |leader| leader.weight);
    let agree = match (agree.fract() > 0.0, vote.samples()) {
        (_, 1) => "one sample, so nothing to agree with".to_owned(),
        (false, samples) => format!("{agree} of {samples} samples agree"),
        (true, samples) => format!("{agree:.2} of {samples} votes agree"),
    };
    match (&outcome.calibration, outcome.confidence) {
        (Calibration::Uncalibrated, _) => {
            format!("{agree}; uncalibrated: agreement is not a probability of being right")
        }
        (Calibration::Calibrated { n, no_confidence: Some(reason), .. }, None) => format!(
            "{agree}; no confidence, because the {n} labeled questions of the policy allow none: {}",
            sanitize(reason)
        ),
        (Calibration::Calibrated { n, .. }, None) => format!(
            "{agree}; no confidence, because no answer leads; the policy was fitted on {n} labeled \
             questions"
        ),
        (Calibration::Calibrated { n, .. }, Some(confidence)) => format!(
            "right with probability {:.2}, calibrated on {n} labeled questions; {agree}",
            confidence.value()
        ),
    }
}

/// What the policy promises, if there is one.
fn guarantee(outcome: &Outcome) -> Option<String> {
    match &outcome.calibration {
        Calibration::Uncalibrated => None,
        Calibration::Calibrated { guarantee, .. } => Some(sanitize(guarantee).into_owned()),
    }
}

/// How the samples were drawn, and the uncertainty that the estimator found.
fn drawn(outcome: &Outcome) -> String {
    let asked = outcome.samples.iter().filter(|sample| sample.asked.is_some()).count();
    let samples = outcome.samples.len();
    let mut text = format!("{samples} samples at {}", outcome.config.params.summary());
    if asked > 0 {
        let _ = write!(text, "; {asked} asked for their short answer");
    }
    if let Some(u) = &outcome.uncertainty {
        let _ = write!(text, "; {} {:.3} {}", u.estimator.replace('_', " "), u.value, u.unit);
    }
    text
}

/// Labels that fit: of those that are longer than `width` and share a beginning of some words with
/// another label, the beginning is left out, so that what differs can be seen.
fn distinguished(labels: &[String], width: usize) -> Vec<String> {
    let shared = |a: &str, b: &str| {
        let words = a.split_inclusive(' ').zip(b.split_inclusive(' '));
        words.take_while(|(a, b)| a == b).map(|(a, _)| a.len()).sum::<usize>()
    };
    let shorten = |(at, label): (usize, &String)| {
        let others = labels.iter().enumerate().filter(|(other, _)| *other != at);
        let cut = others.map(|(_, other)| shared(label, other)).max().unwrap_or(0);
        match label.get(cut..) {
            Some(rest) if label.width() > width && cut > 12 && !rest.is_empty() => {
                format!("… {rest}")
            }
            _ => label.clone(),
        }
    };
    labels.iter().enumerate().map(shorten).collect()
}

/// Every distinct sample, colored by entropy, with where it diverged from the leading answer's
/// first sample; scores; cost.
pub fn samples(outcome: &Outcome, output: &Output) -> String {
    let mut text = String::from("\nsamples, each token colored by the entropy it was drawn at:\n");
    let reference = outcome
        .vote
        .leader()
        .and_then(|leader| leader.samples.first())
        .and_then(|&i| outcome.samples.get(i));
    for (sample, count) in distinct(&outcome.samples) {
        let times =
            if count > 1 { format!(" (and {} more like it)", count - 1) } else { String::new() };
        let answer = sample.answer.as_deref().map_or("no answer".to_owned(), one_line);
        let ended = match sample.finish_reason {
            FinishReason::Stop => "ended",
            FinishReason::Length => "cut",
            FinishReason::Loop => "stopped in a loop",
            FinishReason::Cancelled => "stopped",
            FinishReason::NumericalError => "numerical error",
            FinishReason::Scored => "scored",
        };
        let _ = writeln!(text, "\n[{}]{times} {answer}, {ended}", sample.index);
        let (shown, times) = without_repeats(sample);
        let tokens: String = shown
            .iter()
            .map(|t| terminal::shade(&t.text, t.stats.entropy, output.colored()))
            .collect();
        let _ = writeln!(text, "{}{times}", tokens.trim_end());
        if let Some(spans) = spans(sample) {
            let _ = writeln!(text, "{spans}");
        }
        if let Some(at) = reference.and_then(|reference| divergence(reference, sample)) {
            let _ = writeln!(text, "{}", describe_divergence(reference, sample, at));
        }
    }
    text.push_str(&terminal::shade_legend(output.colored()));
    text.push_str("\n\nscores:\n");
    for (name, value) in &outcome.scores {
        let _ = writeln!(text, "  {name:<30}{value:>10.4}");
    }
    text.push_str(&cost(outcome));
    text
}

/// The tokens of a sample, of a loop only its first turn, and how often that came.
fn without_repeats(sample: &Sample) -> (&[SampleToken], String) {
    let tokens = sample.tokens.as_slice();
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    let is_loop = sample.finish_reason == FinishReason::Loop;
    let Some(Repeat { period, tokens: repeated }) = LoopDetector::find(&ids).filter(|_| is_loop)
    else {
        return (tokens, String::new());
    };
    let first = tokens.get(..tokens.len() - repeated + period).unwrap_or(tokens);
    (first, format!(" … {} times", repeated / period))
}

/// The lengths of a sample's reasoning and answer and how sure the model was in each.
fn spans(sample: &Sample) -> Option<String> {
    let spans = sample.spans.as_ref()?;
    let part = |name: &str, range: &std::ops::Range<usize>| {
        let tokens = sample.tokens.get(range.clone()).unwrap_or_default();
        let sum: f64 = tokens.iter().map(|token| token.stats.entropy).sum();
        let mean = sum / tokens.len().max(1) as f64;
        format!("{name}: {} tokens at a mean entropy of {mean:.2} nats", tokens.len())
    };
    Some(format!("{}; {}", part("reasoning", &spans.reasoning), part("answer", &spans.answer)))
}

fn cost(outcome: &Outcome) -> String {
    let cost = &outcome.cost;
    let (tokens, timing) = (&cost.tokens, &cost.timing);
    let share = tokens.forward_tokens as f64 / (tokens.completion_tokens as f64).max(1.0);
    let ms = |value: Option<f64>| value.unwrap_or(0.0);
    format!(
        "cost:\n  {} prompt tokens ({} from the cache) in {:.0} ms\n  {} tokens drawn with {} \
         rows computed ({share:.2} rows per token) in {:.0} ms",
        tokens.prompt_tokens,
        timing.cached_tokens,
        ms(timing.prefill_ms),
        tokens.completion_tokens,
        tokens.forward_tokens,
        ms(timing.decode_ms)
    )
}

/// Samples with different tokens, each with how often it was drawn, in order of first index.
fn distinct(samples: &[Sample]) -> Vec<(&Sample, usize)> {
    let mut out: Vec<(&Sample, usize)> = Vec::new();
    for sample in samples {
        let same = |other: &Sample| {
            other.tokens.iter().map(|t| t.id).eq(sample.tokens.iter().map(|t| t.id))
        };
        match out.iter_mut().find(|(other, _)| same(other)) {
            Some((_, count)) => *count += 1,
            None => out.push((sample, 1)),
        }
    }
    out
}

/// The index of the first token that differs.
fn divergence(a: &Sample, b: &Sample) -> Option<usize> {
    let differs = a.tokens.iter().zip(&b.tokens).position(|(x, y)| x.id != y.id);
    differs
        .or_else(|| (a.tokens.len() != b.tokens.len()).then(|| a.tokens.len().min(b.tokens.len())))
}

fn describe_divergence(reference: Option<&Sample>, sample: &Sample, at: usize) -> String {
    let word = |s: &Sample| {
        s.tokens.get(at).map_or("the end".to_owned(), |t| format!("{:?}", sanitize(&t.text)))
    };
    match (reference, sample.tokens.get(at)) {
        (Some(reference), Some(token)) => format!(
            "diverged from [{}] at token {at}: {} instead of {}, at an entropy of {:.2} nats",
            reference.index,
            word(sample),
            word(reference),
            token.stats.entropy
        ),
        _ => format!("ended at token {at}, before the others"),
    }
}

fn one_line(text: &str) -> String {
    sanitize(text).split_whitespace().collect::<Vec<_>>().join(" ")
}
