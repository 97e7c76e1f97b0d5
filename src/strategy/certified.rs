//! Certified consistency: samples in waves, until it is certain at a stated level that the greedy
//! answer is the most probable one.
//!
//! The greedy answer is the target, fixed before a sample is drawn. Let s be the samples that give
//! it and f those of its strongest rival. Against "the rival is at least as probable", with a
//! uniform prior above one half, the e-value is E(s, f) = 2^(n + 1) B(s + 1, f + 1) P(Bin(n + 1,
//! 1/2) <= s), n = s + f. It stops when E >= 1 / alpha. E bounds the error at every wave together,
//! however often one looks (Ville's inequality), and E falls with f, so that the strongest rival
//! stands for all of them. The last factor is the posterior of adaptive consistency, which alone
//! bounds nothing. Samples without an answer count for neither.
//!
//! What is certified is the mode of the model's distribution, not that it is right. The probe
//! `mode` has 1 - min(1, 1/E).

use serde::{Deserialize, Serialize};

use super::waves::check_size;
use super::{Question, Session};
use crate::consensus::Vote;
use crate::error::{Error, Result};
use crate::generation::{Completion, Generation, Probe, SamplingParams};
use crate::metrics::binomial::lower_tail;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Certified {
    /// Samples drawn at a time, at least 1.
    pub wave: usize,
    /// The probability that an answer is certified that is not the most probable one, above 0 to
    /// below 1.
    pub alpha: f64,
    /// Forward tokens after which no wave begins; 0 is no limit.
    pub budget: usize,
}

impl Certified {
    /// Seven samples that agree reach this level.
    pub const DEFAULT: Self = Self { wave: 4, alpha: 0.05, budget: 0 };

    pub(super) fn validate(self) -> Result<()> {
        check_size("wave", self.wave)?;
        if self.alpha > 0.0 && self.alpha < 1.0 {
            return Ok(());
        }
        Err(Error::usage(format!("alpha is {}; it must be above 0 and below 1", self.alpha)))
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let (prefix, n) = (session.render(&question.messages)?, session.params().n);
        let greedy = SamplingParams { temperature: 0.0, ..session.params().clone() };
        let mut drawn = session.sample_with(&prefix, 0..1, greedy, None).await?;
        let mut target = drawn.completions.pop();
        loop {
            let first = drawn.completions.len();
            let wave = first..n.min(first + self.wave);
            drawn.add_samples(session.sample(&prefix, wave.clone()).await?);
            let (answer, s, f) = count(session, question, &mut drawn, &mut target).await?;
            let e = e_value(s, f);
            let is_certified = e >= 1.0 / self.alpha;
            let spent = drawn.cost.tokens.forward_tokens;
            let is_last = wave.end == n || (self.budget > 0 && spent >= self.budget);
            if !is_certified && !is_last {
                continue;
            }
            if let Some(answer) = answer {
                let level = self.alpha;
                session.add_note(if is_certified {
                    format!(
                        "certified at level {level}: `{answer}` is the model's most probable \
                         answer; whether it is right is another question"
                    )
                } else {
                    format!(
                        "{} samples do not certify at level {level} that `{answer}` is the model's \
                         most probable answer",
                        drawn.completions.len()
                    )
                });
                let value = 1.0 - (1.0 / e).min(1.0);
                let name = "mode".to_owned();
                drawn.probes.push(Probe { name, answer, value, parts: vec![e], required: None });
            }
            return Ok(drawn);
        }
    }
}

impl Default for Certified {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The target's answer as the samples word it, the samples that give it, and those that give its
/// strongest rival. The target is grouped with the samples but does not stay among them.
async fn count(
    session: &Session,
    question: &Question,
    drawn: &mut Generation,
    target: &mut Option<Completion>,
) -> Result<(Option<String>, u64, u64)> {
    let place = drawn.completions.len();
    drawn.completions.extend(target.take());
    let vote = session.vote(question, drawn).await?;
    *target = drawn.completions.drain(place..).next();
    let given = |cluster: &crate::consensus::Cluster| {
        cluster.samples.iter().filter(|sample| **sample < place).count() as u64
    };
    let own = vote.clusters.iter().find(|cluster| cluster.samples.contains(&place));
    let rivals = vote.clusters.iter().filter(|cluster| !cluster.samples.contains(&place));
    let strongest = rivals.map(given).max().unwrap_or(0);
    let without_target = |vote: &Vote| {
        let answer = vote.leader().map(|leader| leader.answer.clone());
        own.map(|own| own.answer.clone()).or(answer)
    };
    Ok((without_target(&vote).filter(|_| own.is_some()), own.map_or(0, given), strongest))
}

/// The e-value of `s` samples for the target against `f` for its rival.
fn e_value(s: u64, f: u64) -> f64 {
    let n = s + f;
    // 2^(n + 1) B(s + 1, f + 1) = 2^(n + 1) / ((n + 1) C(n, s)), without overflow.
    let mut product = 2.0 / (n as f64 + 1.0);
    for i in 1..=n {
        product *= 2.0;
        if i <= s {
            product *= i as f64 / (f + i) as f64;
        }
    }
    product * lower_tail(s, n + 1, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_values_are_those_of_the_closed_form() {
        let check = |s, f, expected: f64| {
            assert!(
                (e_value(s, f) - expected).abs() < 1e-12 * expected,
                "{s} {f}: {}",
                e_value(s, f)
            );
        };
        check(0, 0, 1.0);
        check(7, 0, 255.0 / 8.0);
        check(5, 0, 63.0 / 6.0);
        // 2^4 B(3, 2) P(Bin(4, 1/2) <= 2) = 16 / 12 * 11 / 16.
        check(2, 1, 11.0 / 12.0);
    }

    /// E is a fair bet: its mean over fair coins is 1 at every length.
    #[test]
    fn the_e_value_has_mean_one_under_a_tie() {
        for n in 0..40_u64 {
            let mut choose = 1.0;
            let mut mean = 0.0;
            for s in 0..=n {
                mean += choose * 0.5_f64.powi(n as i32) * e_value(s, n - s);
                choose *= (n - s) as f64 / (s + 1) as f64;
            }
            assert!((mean - 1.0).abs() < 1e-9, "{n}: {mean}");
        }
    }
}
