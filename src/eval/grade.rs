//! Whether an answer is right: the same as a gold answer, as a text, a number or a letter.
//!
//! Contract: pure and total. "Same" is what the vote calls the same, see [`Comparer`], so an answer
//! is graded as it was grouped: a text that holds a gold answer and otherwise only words of the
//! question is right. On a question that has no answer every answer is wrong.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Doc;
use crate::consensus::{
    Answer, AskedQuestion, Cluster, Comparer, Extractor, Level, Reading, Vote, choice_label,
};
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
        match doc.answers.iter().find(|answer| self.parse(answer).is_none()) {
            Some(answer) if self == Self::Number => {
                Err(format!("the gold answer {answer:?} is not a number"))
            }
            Some(answer) => Err(format!("the gold answer {answer:?} holds nothing to compare")),
            None => Ok(()),
        }
    }

    /// An answer as this scorer compares it; `None` if it holds nothing to compare.
    fn parse(self, answer: &str) -> Option<Answer> {
        match self {
            Self::Number => Extractor::Number.read(answer).answer(),
            _ => Answer::of(answer),
        }
    }

    /// A gold answer as a given answer, and as it is read where a completion says the same.
    fn parse_gold(self, gold: &str) -> Vec<Answer> {
        let read = match Extractor::Auto.read(gold) {
            Reading::Stated(answer) if self != Self::Number => Some(answer),
            _ => None,
        };
        self.parse(gold).into_iter().chain(read).collect()
    }
}

/// Grades the answers to one question.
pub struct Grader {
    scorer: Scorer,
    comparer: Comparer,
    gold: Vec<Answer>,
    /// The labels of the right choices, where choices are scored: another choice's text may spell
    /// such a letter.
    labels: Vec<String>,
    /// The question has no answer, and that is its gold answer.
    unanswerable: bool,
}

impl Grader {
    /// A grader for a question.
    pub fn new(scorer: Scorer, doc: &Doc) -> Self {
        let mut grader = Self {
            scorer,
            comparer: Comparer::new(&AskedQuestion {
                text: doc.question.clone(),
                options: doc.choices.clone(),
            }),
            gold: Vec::new(),
            labels: Vec::new(),
            unanswerable: doc.answerable == Some(false),
        };
        if grader.unanswerable {
            return grader;
        }
        if scorer.is_likelihood() {
            grader.labels = doc.right_choices().into_iter().map(choice_label).collect();
        } else {
            grader.gold = doc.answers.iter().flat_map(|answer| scorer.parse_gold(answer)).collect();
        }
        grader
    }

    /// Whether the gold answer is known: without one nothing can be called right or wrong.
    pub fn has_gold(&self) -> bool {
        self.unanswerable || !self.gold.is_empty() || !self.labels.is_empty()
    }

    /// What makes a group's answer right: the first level at which one of its wordings is the same
    /// as a gold answer; `None` if none is.
    pub fn matches(&self, vote: &Vote, group: &Cluster) -> Option<Level> {
        if group.is_abstention() {
            return None;
        }
        if self.scorer.is_likelihood() {
            return self.labels.contains(&group.canonical).then_some(Level::Form);
        }
        let wordings: BTreeSet<&str> = group
            .samples
            .iter()
            .filter_map(|sample| vote.answers.get(*sample)?.as_deref())
            .collect();
        wordings.into_iter().filter_map(|wording| self.match_level(wording)).min()
    }

    /// Whether a text is the same as a gold answer.
    pub fn is_right(&self, text: &str) -> bool {
        self.match_level(text).is_some()
    }

    fn match_level(&self, text: &str) -> Option<Level> {
        let answer = self.scorer.parse(text)?;
        let levels = self.gold.iter().filter_map(|gold| self.comparer.compare(&answer, gold));
        levels.filter(|(_, same)| *same).map(|(level, _)| level).min()
    }

    /// The grade of a vote's leading answer. "I don't know" is never right, and it is never
    /// given either.
    pub fn grade(&self, vote: &Vote) -> Grade {
        match vote.leader() {
            None => Grade::NoAnswer,
            Some(leader) if self.matches(vote, leader).is_some() => Grade::Correct,
            Some(_) => Grade::Incorrect,
        }
    }

    /// Every sample of a vote with its grade; the samples of a group gave one answer.
    pub fn samples(&self, vote: &Vote) -> Vec<GradedSample> {
        let mut samples =
            vec![GradedSample { answer: None, correct: false, confidence: None }; vote.samples()];
        for (number, group) in (0..).zip(&vote.clusters) {
            let correct = self.matches(vote, group).is_some();
            for sample in &group.samples {
                if let Some(place) = samples.get_mut(*sample) {
                    *place = GradedSample { answer: Some(number), correct, confidence: None };
                }
            }
        }
        samples
    }
}
