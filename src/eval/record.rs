//! One evaluated question: a line of `records.jsonl`.
//!
//! Contract: a superset of lm-evaluation-harness' sample keys, and everything that votes, scores
//! and grades are made from, so that they can be made again without the model; what is the same for
//! all questions is in the manifest instead. What differs from run to run is in the last key,
//! [`Record::timing`], and nowhere else. Numbers are written so that they are read back to the bit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Doc, Grader, Questions, ScoredChoice, scored_choices};
use crate::consensus::{Level, Vote};
use crate::decision::Decision;
use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::generation::{Comparison, Cost, Generation, Probe, Timing, TokenCounts};
use crate::metrics::Grade;
use crate::pipeline::{Outcome, Sample};
use crate::uncertainty::Confidence;

/// A line of `records.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The question's index in the task, from 0.
    pub doc_id: usize,
    /// The question.
    pub doc: Doc,
    /// The gold answer; the first alias.
    pub target: String,
    /// The texts of all samples, for the question's one request; where options were scored, for
    /// each its log-likelihood and whether greedy decoding would say it.
    pub resps: Vec<Vec<String>>,
    /// The leading answer, whether or not it was given; none where no sample holds one.
    pub filtered_resps: Vec<String>,
    /// SHA-256 of the question with everything that belongs to it.
    pub doc_hash: String,
    /// SHA-256 of the rendered prompt; `None` if it could not be rendered.
    pub prompt_hash: Option<String>,
    /// SHA-256 of the gold answer.
    pub target_hash: String,
    /// Whether the leading answer is right.
    pub grade: Grade,
    /// What makes it right; `None` if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_by: Option<Level>,
    /// Why the question could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The outcome; `None` if the question could not be asked.
    pub outcome: Option<RecordedOutcome>,
    /// What depends on time and cache, and so differs from run to run.
    pub timing: Timing,
}

/// An outcome without what the manifest holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedOutcome {
    /// Answer, or abstain with a reason.
    #[serde(flatten)]
    pub decision: Decision,
    /// The leading answer; `None` when abstaining.
    pub answer: Option<String>,
    /// The text of the first sample that words the answer so; `None` when abstaining.
    pub text: Option<String>,
    /// Calibrated probability of being right; `None` without a calibrator.
    pub confidence: Option<f64>,
    /// What the confidence is based on.
    pub calibration: Value,
    /// The chosen estimator's score.
    pub uncertainty: Option<RecordedScore>,
    /// Every estimator's natural score.
    pub scores: BTreeMap<String, f64>,
    /// The vote.
    pub vote: Vote,
    /// Every sample with its tokens; where options were scored, every option.
    pub samples: Vec<Sample>,
    /// Extra passes about the answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// Judged pairs of distinct answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// The likelihood of every choice, where they were scored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<ScoredChoice>,
    /// What it cost, without what depends on time and cache.
    pub cost: TokenCounts,
    /// Deviations from what was asked, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A score by the estimator that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedScore {
    /// The estimator's name.
    pub estimator: String,
    /// Its natural score.
    pub value: f64,
    /// The score's unit.
    pub unit: String,
}

impl Record {
    /// A question that came to an outcome.
    pub fn new(
        questions: &Questions,
        doc_id: usize,
        prompt_hash: String,
        outcome: Outcome,
    ) -> Self {
        let doc = questions.docs.get(doc_id).cloned().unwrap_or_default();
        let timing = outcome.cost.timing;
        let recorded = RecordedOutcome::from(outcome);
        let resps = if recorded.choices.is_empty() {
            vec![recorded.samples.iter().map(|sample| sample.text.clone()).collect()]
        } else {
            let response = |choice: &ScoredChoice| {
                let logprob = choice.logprob.map_or("NaN".to_owned(), |l| l.to_string());
                vec![logprob, choice.greedy.to_string()]
            };
            recorded.choices.iter().map(response).collect()
        };
        let (grader, vote) = (Grader::new(questions.scorer, &doc), &recorded.vote);
        Self {
            grade: grader.grade(vote),
            matched_by: vote.leader().and_then(|leader| grader.matches(vote, leader)),
            resps,
            filtered_resps: recorded
                .vote
                .leader()
                .map(|leader| leader.answer.clone())
                .into_iter()
                .collect(),
            outcome: Some(recorded),
            timing,
            prompt_hash: Some(prompt_hash),
            ..Self::empty(doc, doc_id)
        }
    }

    /// A question that could not be asked.
    pub fn failed(
        questions: &Questions,
        doc_id: usize,
        prompt_hash: Option<String>,
        error: &Error,
    ) -> Self {
        let doc = questions.docs.get(doc_id).cloned().unwrap_or_default();
        Self { error: Some(error.to_string()), prompt_hash, ..Self::empty(doc, doc_id) }
    }

    fn empty(doc: Doc, doc_id: usize) -> Self {
        Self {
            doc_id,
            target: doc.target().to_owned(),
            resps: vec![Vec::new()],
            filtered_resps: Vec::new(),
            doc_hash: doc.hash(),
            prompt_hash: None,
            target_hash: sha256_hex(doc.target().as_bytes()),
            grade: Grade::NoAnswer,
            matched_by: None,
            error: None,
            outcome: None,
            timing: Timing::default(),
            doc,
        }
    }

    /// The line, its newline included.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn to_line(&self) -> Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)
            .map_err(|e| Error::Backend(format!("record {} is not JSON: {e}", self.doc_id)))?;
        line.push(b'\n');
        Ok(line)
    }
}

impl RecordedOutcome {
    /// The samples as they came from the engine.
    pub fn generation(&self) -> Generation {
        Generation {
            completions: self.samples.iter().map(Sample::completion).collect(),
            cost: Cost::default(),
            probes: self.probes.clone(),
            comparisons: self.comparisons.clone(),
        }
    }
}

impl From<Outcome> for RecordedOutcome {
    fn from(outcome: Outcome) -> Self {
        Self {
            decision: outcome.decision,
            answer: outcome.answer,
            text: outcome.text,
            confidence: outcome.confidence.map(Confidence::value),
            // It serializes to a text or a flat object; neither can fail.
            calibration: serde_json::to_value(&outcome.calibration).unwrap_or_default(),
            uncertainty: outcome.uncertainty.map(|score| RecordedScore {
                estimator: score.estimator.to_owned(),
                value: score.value,
                unit: score.unit.to_owned(),
            }),
            scores: outcome
                .scores
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            vote: outcome.vote,
            choices: scored_choices(outcome.samples.iter().map(Sample::completion)),
            samples: outcome.samples,
            probes: outcome.probes,
            comparisons: outcome.comparisons,
            cost: outcome.cost.tokens,
            notes: outcome.notes,
        }
    }
}
