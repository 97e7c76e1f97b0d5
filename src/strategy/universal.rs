//! Universal self-consistency: the model reads all samples and says which is most consistent with
//! the others (Chen et al., arXiv 2311.17311).
//!
//! The choice is read from the logits of the letters, never from a text, and averaged over
//! rotations of the samples, since a model prefers a place. A sample's weight is the probability
//! that it is chosen.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::waves::check_size;
use super::weights::weigh;
use super::{Prefix, Question, Session};
use crate::error::{Error, Result};
use crate::generation::{Generation, Message};

/// Letters that name samples.
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Bytes of a sample that the model reads.
const LONGEST: usize = 600;

/// How the model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Universal {
    /// Orders in which the samples are shown, at least 1.
    pub rotations: usize,
}

impl Universal {
    /// Every sample stands in both halves of the list.
    pub const DEFAULT: Self = Self { rotations: 2 };

    pub(super) fn validate(self) -> Result<()> {
        check_size("rotations", self.rotations)
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let mut drawn = super::self_consistency::run(session, question).await?;
        let vote = session.vote(question, &mut drawn).await?;
        let shown: Vec<usize> =
            (0..drawn.completions.len()).filter(|at| vote.answers[*at].is_some()).collect();
        if vote.clusters.len() < 2 {
            return Ok(drawn);
        }
        if shown.len() > LETTERS.len() {
            return Err(Error::usage(format!(
                "the strategy universal shows {} samples to the model, and letters name at most \
                 {}; draw fewer",
                shown.len(),
                LETTERS.len()
            )));
        }
        let rotations = self.rotations.min(shown.len());
        let mut prefixes: Vec<Prefix> = Vec::new();
        for rotation in 0..rotations {
            let start = rotation * shown.len() / rotations;
            let order = shown[start..].iter().chain(&shown[..start]);
            let texts = order.map(|at| drawn.completions[*at].answer_text());
            let prompt = selection_prompt(&question.asked().text, texts);
            prefixes.push(session.closed(&session.render(&[Message::user(prompt)])?));
        }
        let spellings: Vec<[String; 2]> = LETTERS
            .chars()
            .take(shown.len())
            .map(|letter| [letter.to_string(), format!(" {letter}")])
            .collect();
        let labels: Vec<Vec<&str>> =
            spellings.iter().map(|both| both.iter().map(String::as_str).collect()).collect();
        let labels: Vec<&[&str]> = labels.iter().map(Vec::as_slice).collect();
        let (chosen, cost) = session.choose(&prefixes, &labels).await?;
        drawn.cost.add(&cost);
        let mut raw = vec![0.0; drawn.completions.len()];
        for (rotation, chosen) in chosen.iter().enumerate() {
            let start = rotation * shown.len() / rotations;
            for (place, probability) in chosen.probabilities.iter().enumerate() {
                raw[shown[(start + place) % shown.len()]] += probability;
            }
        }
        weigh(&mut drawn, &vote, &raw);
        Ok(drawn)
    }
}

impl Default for Universal {
    fn default() -> Self {
        Self::DEFAULT
    }
}

fn selection_prompt<'a>(question: &str, texts: impl Iterator<Item = &'a str>) -> String {
    let mut prompt = format!("These are responses to the question: {question}\n");
    for (letter, text) in LETTERS.chars().zip(texts) {
        let text = text.trim();
        let end = text.floor_char_boundary(LONGEST);
        let _ = write!(prompt, "\nResponse {letter}: {}\n", &text[..end]);
    }
    prompt
        + "\nWhich response agrees most with the majority of the responses? Reply with its \
              letter alone."
}
