//! Verify-answer: all samples are drawn and vote; then the model is asked about the leading answer,
//! and its reply is read from the logits.
//!
//! - `p_true`: the probability of "Yes" when asked whether it is right (Kadavath et al., arXiv
//!   2207.05221), averaged over both orders in which the prompt names the labels, since a model
//!   prefers a place as well as a label.
//! - `verbalized`: the expected digit from 0 to 9, as a share, when asked how sure it is (Tian et
//!   al., arXiv 2305.14975, without parsing a text).
//! - `clustered`: the probability of its letter among all distinct answers and "none of these"
//!   (clustered self-assessment, arXiv 2606.03846), averaged over two orders.
//!
//! It is a probe, not a vote: the decision goes by it only where the estimator of its name is
//! chosen.

use serde::{Deserialize, Serialize};

use super::{Prefix, Question, Session};
use crate::consensus::Vote;
use crate::error::Result;
use crate::generation::{Cost, Generation, Message, Probe, Role};

/// The spellings of both labels.
pub(super) const YES: &[&str] = &["Yes", " Yes", "yes", " yes", "YES"];
pub(super) const NO: &[&str] = &["No", " No", "no", " no", "NO"];
/// The spellings of the digits.
const DIGITS: [&[&str]; 10] = [
    &["0", " 0"],
    &["1", " 1"],
    &["2", " 2"],
    &["3", " 3"],
    &["4", " 4"],
    &["5", " 5"],
    &["6", " 6"],
    &["7", " 7"],
    &["8", " 8"],
    &["9", " 9"],
];
/// The spellings of the letters of answers.
const LETTERS: [&[&str]; 9] = [
    &["A", " A"],
    &["B", " B"],
    &["C", " C"],
    &["D", " D"],
    &["E", " E"],
    &["F", " F"],
    &["G", " G"],
    &["H", " H"],
    &["I", " I"],
];

/// What is asked about the leading answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyAnswer {
    /// The question.
    pub ask: AnswerCheck,
}

/// A question about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerCheck {
    /// Whether it is right.
    PTrue,
    /// How sure the model is of it, as a digit.
    Verbalized,
    /// Which of all answers is right.
    Clustered,
}

impl VerifyAnswer {
    /// P(True).
    pub const DEFAULT: Self = Self { ask: AnswerCheck::PTrue };

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let mut drawn = super::self_consistency::run(session, question).await?;
        let vote = session.vote(question, &mut drawn).await?;
        let Some(leader) = vote.leader().filter(|leader| !leader.is_abstention()) else {
            return Ok(drawn);
        };
        let answer = leader.answer.clone();
        let (name, (parts, cost)) = match self.ask {
            AnswerCheck::PTrue => ("p_true", p_true(session, question, &answer).await?),
            AnswerCheck::Verbalized => {
                ("verbalized", verbalized(session, question, &answer).await?)
            }
            AnswerCheck::Clustered => {
                ("clustered_self_assessment", clustered(session, question, &vote).await?)
            }
        };
        drawn.cost.add(&cost);
        let value = parts.iter().sum::<f64>() / parts.len() as f64;
        let name = name.to_owned();
        drawn.probes.push(Probe { name, answer, value, parts, required: None });
        Ok(drawn)
    }
}

impl Default for VerifyAnswer {
    fn default() -> Self {
        Self::DEFAULT
    }
}

async fn p_true(session: &Session, question: &Question, answer: &str) -> Result<(Vec<f64>, Cost)> {
    let mut prefixes = Vec::new();
    for order in ["Yes or No", "No or Yes"] {
        let ending = format!(
            "Proposed answer: {answer}\n\nIs the proposed answer correct? Reply with {order}."
        );
        prefixes.push(asks(session, question, &ending)?);
    }
    let (labels, cost) = session.choose(&prefixes, &[YES, NO]).await?;
    Ok((labels.iter().map(|labels| labels.probabilities[0]).collect(), cost))
}

async fn verbalized(
    session: &Session,
    question: &Question,
    answer: &str,
) -> Result<(Vec<f64>, Cost)> {
    let ending = format!(
        "Proposed answer: {answer}\n\nHow likely is it that the proposed answer is correct? Reply \
         with one digit from 0 (it is wrong) to 9 (it is certainly correct)."
    );
    expected_digits(session, &[asks(session, question, &ending)?]).await
}

/// The expected digit after each prefix, as a share of 9, 0 to 1.
pub(super) async fn expected_digits(
    session: &Session,
    prefixes: &[Prefix],
) -> Result<(Vec<f64>, Cost)> {
    let (labels, cost) = session.choose(prefixes, &DIGITS).await?;
    let expected = labels.iter().map(|labels| {
        let digits = labels.probabilities.iter().zip(0..);
        digits.map(|(p, digit)| p * f64::from(digit) / 9.0).sum()
    });
    Ok((expected.collect(), cost))
}

async fn clustered(
    session: &Session,
    question: &Question,
    vote: &Vote,
) -> Result<(Vec<f64>, Cost)> {
    let answers = vote.clusters.iter().filter(|cluster| !cluster.is_abstention());
    let answers: Vec<&str> =
        answers.map(|cluster| cluster.answer.as_str()).take(LETTERS.len() - 1).collect();
    let n = answers.len();
    let mut prefixes = Vec::new();
    for forward in [true, false] {
        let mut lines = String::from("Possible answers:\n");
        for (place, letter) in LETTERS.iter().take(n).enumerate() {
            let answer = answers[if forward { place } else { n - 1 - place }];
            lines.push_str(&[letter[0], ". ", answer, "\n"].concat());
        }
        lines.push_str(&[LETTERS[n][0], ". None of these\n"].concat());
        prefixes.push(asks(session, question, &(lines + "\nReply with the letter alone."))?);
    }
    let (labels, cost) = session.choose(&prefixes, &LETTERS[..=n]).await?;
    Ok((vec![labels[0].probabilities[0], labels[1].probabilities[n - 1]], cost))
}

/// The prompt of the chat with its last question replaced by one about answers to it.
fn asks(session: &Session, question: &Question, ending: &str) -> Result<Prefix> {
    let mut messages: Vec<Message> = question.messages.clone();
    if let Some(last) = messages.iter_mut().rev().find(|message| message.role == Role::User) {
        last.content = format!("Question: {}\n\n{ending}", last.content);
    }
    Ok(session.closed(&session.render(&messages)?))
}
