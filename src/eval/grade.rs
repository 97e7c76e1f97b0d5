//! Whether an answer is right: equal to a gold answer, as a text, a number or a letter.
//!
//! Contract: pure and total. Equality is that of [`normalize::canonical`], the only notion of "same answer" in candor, so an answer is graded
//! as it was counted in the vote. On a question that has no answer every answer is wrong. It does not know who said it.

use serde::{Deserialize, Serialize};

use super::Doc;
use crate::consensus::{Extractor, Vote, normalize};
use crate::metrics::{Grade, Sample};

/// How an answer is compared with the gold answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    /// Equal to one of the gold answers after normalising.
    #[default]
    Exact,
    /// The same number; a unit or words around it do not matter.
    Number,
    /// The letter of the right option, or its text.
    Choice,
}

impl Scorer {
    /// Every scorer.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Number, Self::Choice];

    /// The name in flags and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Number => "number",
            Self::Choice => "choice",
        }
    }

    /// Whether the gold answers can be compared at all; in words for a row.
    pub(super) fn check(self, doc: &Doc) -> Result<(), String> {
        match doc.answers.iter().find(|answer| self.canonical(answer).is_none()) {
            Some(answer) if self == Self::Number => Err(format!("the gold answer {answer:?} is no number")),
            Some(answer) => Err(format!("the gold answer {answer:?} holds neither letter nor digit")),
            None => Ok(()),
        }
    }

    fn canonical(self, answer: &str) -> Option<String> {
        match self {
            Self::Exact | Self::Choice => normalize::canonical(answer),
            Self::Number => Extractor::Number.extract(answer).map(|answer| answer.canonical),
        }
    }
}

/// Grades the answers to one question.
pub struct Grader {
    scorer: Scorer,
    gold: Vec<String>,
}

impl Grader {
    /// A grader for a question.
    pub fn new(scorer: Scorer, doc: &Doc) -> Self {
        let answers = doc.answers.iter().filter(|_| doc.answerable != Some(false));
        Self { scorer, gold: answers.filter_map(|answer| scorer.canonical(answer)).collect() }
    }

    /// Whether an answer is right, by its canonical form and as it was written.
    pub fn is_right(&self, canonical: &str, display: &str) -> bool {
        let same = |text: &str| self.gold.iter().any(|gold| gold == text);
        same(canonical) || (self.scorer == Scorer::Number && self.scorer.canonical(display).is_some_and(|number| same(&number)))
    }

    /// The grade of a vote's leading answer.
    pub fn grade(&self, vote: &Vote) -> Grade {
        match vote.leader() {
            None => Grade::Failed,
            Some(leader) if self.is_right(&leader.canonical, &leader.answer) => Grade::Right,
            Some(_) => Grade::Wrong,
        }
    }

    /// Every sample of a vote with its grade; samples of one cluster gave one answer.
    pub fn samples(&self, vote: &Vote) -> Vec<Sample> {
        let mut samples = vec![Sample { answer: None, right: false, confidence: None }; vote.samples()];
        for (number, cluster) in (0..).zip(&vote.clusters) {
            let right = self.is_right(&cluster.canonical, &cluster.answer);
            for sample in &cluster.samples {
                if let Some(place) = samples.get_mut(*sample) {
                    *place = Sample { answer: Some(number), right, confidence: None };
                }
            }
        }
        samples
    }
}
