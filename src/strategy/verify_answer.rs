//! Verify-answer: all samples are drawn and vote; then a second prompt asks whether the leading
//! answer is right, and P(True) is read from the logits (Kadavath et al., arXiv 2207.05221).
//!
//! P(True) is the probability of "yes" among both labels, over their spellings, averaged over both
//! orders in which the prompt names them, since a model prefers a place as well as a label. It is a
//! probe, not a vote: the decision goes by it only where the estimator `p_true` is chosen.

use super::{Question, Session};
use crate::error::Result;
use crate::generation::{Generation, Message, Probe, Role};

pub(super) const YES: &[&str] = &["Yes", " Yes", "yes", " yes", "YES"];
pub(super) const NO: &[&str] = &["No", " No", "no", " no", "NO"];

pub(super) async fn run(session: &Session, question: &Question) -> Result<Generation> {
    let prefix = session.render(&question.messages)?;
    let mut drawn = session.sample(&prefix, 0..session.params().n).await?;
    let vote = session.vote(question, &mut drawn).await?;
    let Some(answer) = vote.leader().filter(|leader| !leader.is_abstention()) else {
        return Ok(drawn);
    };
    let mut prefixes = Vec::new();
    for order in ["Yes or No", "No or Yes"] {
        let prefix = session.render(&asks_about(&question.messages, &answer.answer, order))?;
        prefixes.push(session.closed(&prefix));
    }
    let (labels, cost) = session.choose(&prefixes, &[YES, NO]).await?;
    drawn.cost.add(&cost);
    let parts: Vec<f64> = labels.iter().map(|labels| labels.probabilities[0]).collect();
    let value = parts.iter().sum::<f64>() / parts.len() as f64;
    let answer = answer.answer.clone();
    drawn.probes.push(Probe { name: "p_true".to_owned(), answer, value, parts, required: None });
    Ok(drawn)
}

/// The chat with its last question replaced by one about an answer to it.
fn asks_about(messages: &[Message], answer: &str, order: &str) -> Vec<Message> {
    let mut messages = messages.to_vec();
    if let Some(last) = messages.iter_mut().rev().find(|message| message.role == Role::User) {
        last.content = format!(
            "Question: {}\n\nProposed answer: {answer}\n\nIs the proposed answer correct? Reply \
             with {order}.",
            last.content
        );
    }
    messages
}
