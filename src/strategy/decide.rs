//! Decide: one of the question's options, from probabilities that do not depend on their order.
//!
//! By letters, the prompt lists the options and the probability of each letter is read from the
//! logits. Every option stands at every place once: the options are sorted, the prompt is rendered
//! for each rotation, and an option's score is the mean of its log-probabilities. A preference for
//! a letter or a place that adds to the logits cancels in that mean; in a mean of probabilities it
//! would stay. By texts, every option is scored as the reply after one prompt, each from a private
//! fork, by its mean log-probability per token. Neither the order in which options are given nor
//! what else is in the batch changes a bit.
//!
//! With `prior`, each option's probability is divided by the one that it has when the text is "N/A"
//! (contextual calibration, Zhao et al., arXiv 2102.09690). The probe `mass_on_labels` is the
//! probability that any letter comes next, before that division; if it is low, the model wants to
//! say something else and nothing is decided. An option `unsure` that leads is an abstention.

use serde::{Deserialize, Serialize};

use super::{Prefix, Question, Session};
use crate::error::{Error, Result};
use crate::generation::{
    Completion, Cost, FinishReason, Generation, Message, Probe, Role, Token, TokenStats,
};

/// Letters that name options.
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// What stands for a text without content.
const NO_CONTENT: &str = "N/A";

/// How options are scored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decide {
    /// What is scored.
    pub by: OptionForm,
    /// Divide by the probabilities without a text.
    pub prior: bool,
    /// The least probability of all letters together, 0 to 1; 0 decides always.
    pub min_mass: f64,
}

/// What stands for an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionForm {
    /// Its letter.
    Letters,
    /// Its text.
    Texts,
}

/// ln of a score for every option, sorted, the mass on the letters, and what that cost.
struct Scores {
    logs: Vec<f64>,
    mass: f64,
    cost: Cost,
}

impl Decide {
    /// Letters, half of the mass.
    pub const DEFAULT: Self = Self { by: OptionForm::Letters, prior: false, min_mass: 0.5 };

    pub(super) fn validate(self) -> Result<()> {
        super::check_share("min_mass", self.min_mass)
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let options = &question.choices;
        let mut sorted: Vec<&str> = options.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != options.len() || options.len() < 2 || options.len() > LETTERS.len() {
            return Err(Error::usage(format!(
                "decide needs 2 to {} different options, and the question has {}, of which {} are \
                 different",
                LETTERS.len(),
                options.len(),
                sorted.len()
            )));
        }
        let mut scores = self.score(session, &question.messages, &sorted).await?;
        if self.prior {
            let mut messages = question.messages.clone();
            if let Some(last) = messages.iter_mut().rev().find(|m| m.role == Role::User) {
                NO_CONTENT.clone_into(&mut last.content);
            }
            let prior = self.score(session, &messages, &sorted).await?;
            scores.logs.iter_mut().zip(prior.logs).for_each(|(log, prior)| *log -= prior);
            scores.cost.add(&prior.cost);
        }
        let most = scores.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.logs.iter().map(|log| (log - most).exp()).sum();
        let mut drawn = Generation { cost: scores.cost, ..Generation::default() };
        for (index, option) in options.iter().enumerate() {
            let place = sorted.iter().position(|other| other == option).unwrap_or_default();
            let logprob = scores.logs[place] - most - total.ln();
            let stats = TokenStats { logprob, sampling_logprob: logprob, ..TokenStats::default() };
            let id = session.encode(option)?.first().copied().unwrap_or_default();
            drawn.completions.push(Completion {
                index,
                tokens: vec![Token { id, stats, top_logprobs: Vec::new() }],
                text: option.clone(),
                finish_reason: FinishReason::Scored,
                ..Completion::default()
            });
        }
        if self.by == OptionForm::Letters {
            let vote = session.vote(question, &mut drawn).await?;
            let answer = vote.leader().map(|leader| leader.answer.clone()).unwrap_or_default();
            let required = (self.min_mass > 0.0).then_some(self.min_mass);
            let name = "mass_on_labels".to_owned();
            drawn.probes.push(Probe { name, answer, value: scores.mass, parts: vec![], required });
        }
        Ok(drawn)
    }

    async fn score(
        self,
        session: &Session,
        messages: &[Message],
        sorted: &[&str],
    ) -> Result<Scores> {
        match self.by {
            OptionForm::Letters => by_letters(session, messages, sorted).await,
            OptionForm::Texts => by_texts(session, messages, sorted).await,
        }
    }
}

impl Default for Decide {
    fn default() -> Self {
        Self::DEFAULT
    }
}

async fn by_letters(session: &Session, messages: &[Message], sorted: &[&str]) -> Result<Scores> {
    let n = sorted.len();
    let mut prefixes = Vec::with_capacity(n);
    for rotation in 0..n {
        let order = (0..n).map(|place| sorted[(rotation + place) % n]);
        let lines: Vec<String> = LETTERS
            .chars()
            .zip(order)
            .map(|(letter, option)| format!("{letter}. {option}"))
            .collect();
        let ending = format!(
            "Options:\n{}\n\nReply with the letter of the right option alone.",
            lines.join("\n")
        );
        prefixes.push(prompt(session, messages, &ending)?);
    }
    let spellings: Vec<[String; 2]> =
        LETTERS.chars().take(n).map(|letter| [letter.to_string(), format!(" {letter}")]).collect();
    let labels: Vec<[&str; 2]> = spellings.iter().map(|both| [&*both[0], &*both[1]]).collect();
    let labels: Vec<&[&str]> = labels.iter().map(<[&str; 2]>::as_slice).collect();
    let (chosen, cost) = session.choose(&prefixes, &labels).await?;
    let mut logs = vec![0.0; n];
    for (rotation, chosen) in chosen.iter().enumerate() {
        for (place, p) in chosen.probabilities.iter().enumerate() {
            logs[(rotation + place) % n] += p.max(f64::MIN_POSITIVE).ln() / n as f64;
        }
    }
    let mass = chosen.iter().map(|chosen| chosen.mass).sum::<f64>() / n as f64;
    Ok(Scores { logs, mass, cost })
}

async fn by_texts(session: &Session, messages: &[Message], sorted: &[&str]) -> Result<Scores> {
    let lines: Vec<String> = sorted.iter().map(|option| format!("- {option}")).collect();
    let ending =
        format!("Options:\n{}\n\nReply with the right option, word for word.", lines.join("\n"));
    let prefix = prompt(session, messages, &ending)?;
    let continuations: Vec<Vec<u32>> =
        sorted.iter().map(|option| session.encode(option)).collect::<Result<_>>()?;
    let (scored, cost) = session.score(&prefix, &continuations, 0).await?;
    let mean = |tokens: &Vec<Token>| {
        tokens.iter().map(|token| token.stats.logprob).sum::<f64>() / tokens.len().max(1) as f64
    };
    Ok(Scores { logs: scored.iter().map(mean).collect(), mass: 1.0, cost })
}

/// The prompt of the chat whose last question ends in a list of options.
fn prompt(session: &Session, messages: &[Message], ending: &str) -> Result<Prefix> {
    let mut messages = messages.to_vec();
    if let Some(last) = messages.iter_mut().rev().find(|m| m.role == Role::User) {
        last.content = format!("{}\n\n{ending}", last.content);
    }
    Ok(session.closed(&session.render(&messages)?))
}
