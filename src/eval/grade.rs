//! Whether an answer is right: equal to a gold answer, as a text, a number or a letter.
//!
//! Contract: pure and total. Equality is that of [`canonical`], the rules' only notion of "same
//! answer", so an answer is graded as it was counted in the vote. On a question that has
//! no answer every answer is wrong.

use serde::{Deserialize, Serialize};

use super::Doc;
use crate::consensus::{Extractor, Vote, canonical, choice_label};
use crate::metrics::{Grade, GradedSample};

/// The template of a question whose answer the model continues as plain text.
pub const PLAIN: &str = "Question: {question}\nAnswer:";

/// How an answer is compared with the gold answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    /// Equal to one of the gold answers after normalizing.
    #[default]
    Exact,
    /// The same number; a unit or words around it do not matter.
    Number,
    /// The letter of the right choice, or its text.
    Choice,
    /// Nothing is drawn: the choices' texts are scored by their likelihood after the question, and
    /// the most likely one is the answer.
    Loglikelihood,
    /// Nothing is drawn: the choices' letters are scored after the question with its choices.
    LoglikelihoodLetter,
}

impl Scorer {
    /// Every scorer.
    pub const ALL: [Self; 5] =
        [Self::Exact, Self::Number, Self::Choice, Self::Loglikelihood, Self::LoglikelihoodLetter];

    /// The name in flags and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Number => "number",
            Self::Choice => "choice",
            Self::Loglikelihood => "loglikelihood",
            Self::LoglikelihoodLetter => "loglikelihood_letter",
        }
    }

    /// Whether options are scored by their likelihood, instead of samples drawn.
    pub fn is_likelihood(self) -> bool {
        matches!(self, Self::Loglikelihood | Self::LoglikelihoodLetter)
    }

    /// The question as it is asked: with its options, unless their texts are what is scored.
    pub fn question(self, doc: &Doc) -> String {
        if self == Self::Loglikelihood { doc.question.clone() } else { doc.text() }
    }

    /// What a question is put into where its options are scored; `None` where samples are drawn.
    pub fn question_template(self) -> Option<&'static str> {
        match self {
            Self::Loglikelihood => Some(PLAIN),
            Self::LoglikelihoodLetter => Some("{question}\nAnswer:"),
            Self::Exact | Self::Number | Self::Choice => None,
        }
    }

    /// The texts that are scored; none where samples are drawn.
    pub fn choices(self, doc: &Doc) -> Vec<String> {
        match self {
            Self::Loglikelihood => doc.choices.clone(),
            Self::LoglikelihoodLetter => doc.letters().map(String::from).collect(),
            Self::Exact | Self::Number | Self::Choice => Vec::new(),
        }
    }

    /// Whether the gold answers can be compared at all; in words for a row.
    pub(super) fn check(self, doc: &Doc) -> Result<(), String> {
        if self.is_likelihood() {
            return match doc.choices.iter().position(|choice| choice.trim().is_empty()) {
                _ if doc.right_choices().is_empty() => {
                    Err("it has no options with a right one among them, so none can be scored"
                        .to_owned())
                }
                Some(index) => Err(format!("option {} is empty; give it a text", index + 1)),
                None if self == Self::LoglikelihoodLetter && !doc.right.is_empty() => {
                    Err("several options may be right, and a letter is the answer where one is; \
                         take loglikelihood"
                        .to_owned())
                }
                None => Ok(()),
            };
        }
        match doc.answers.iter().find(|answer| self.canonical(answer).is_none()) {
            Some(answer) if self == Self::Number => {
                Err(format!("the gold answer {answer:?} is not a number"))
            }
            Some(answer) => Err(format!("the gold answer {answer:?} holds nothing")),
            None => Ok(()),
        }
    }

    fn canonical(self, answer: &str) -> Option<String> {
        match self {
            Self::Exact | Self::Choice | Self::Loglikelihood | Self::LoglikelihoodLetter => {
                canonical(answer)
            }
            Self::Number => Extractor::Number.read(answer).answer().map(|answer| answer.canonical),
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
        let gold = if doc.answerable == Some(false) {
            Vec::new()
        } else if scorer.is_likelihood() {
            // Of a scored option its letter is known; another one's text may spell that letter.
            doc.right_choices().into_iter().map(choice_label).collect()
        } else {
            doc.answers.iter().filter_map(|answer| scorer.canonical(answer)).collect()
        };
        Self { scorer, gold }
    }

    /// Whether an answer is right, by its canonical form and as it was written.
    pub fn is_correct(&self, canonical: &str, display: &str) -> bool {
        let same = |text: &str| self.gold.iter().any(|gold| gold == text);
        same(canonical)
            || (self.scorer == Scorer::Number
                && self.scorer.canonical(display).is_some_and(|number| same(&number)))
    }

    /// The grade of a vote's leading answer. "I don't know" is never right, and it is never
    /// given either.
    pub fn grade(&self, vote: &Vote) -> Grade {
        match vote.leader() {
            None => Grade::NoAnswer,
            Some(leader)
                if !leader.is_abstention()
                    && self.is_correct(&leader.canonical, &leader.answer) =>
            {
                Grade::Correct
            }
            Some(_) => Grade::Incorrect,
        }
    }

    /// Every sample of a vote with its grade; samples of one cluster gave one answer.
    pub fn samples(&self, vote: &Vote) -> Vec<GradedSample> {
        let mut samples =
            vec![GradedSample { answer: None, correct: false, confidence: None }; vote.samples()];
        for (number, cluster) in (0..).zip(&vote.clusters) {
            let correct =
                !cluster.is_abstention() && self.is_correct(&cluster.canonical, &cluster.answer);
            for sample in &cluster.samples {
                if let Some(place) = samples.get_mut(*sample) {
                    *place = GradedSample { answer: Some(number), correct, confidence: None };
                }
            }
        }
        samples
    }
}
