//! One evaluated question: a line of `records.jsonl`.
//!
//! Contract: a superset of lm-evaluation-harness' sample keys, and everything that votes, scores
//! and grades are made from, so that they can be made again without the model; what is the same for
//! all questions is in the manifest instead. What differs from run to run is in the last key,
//! [`Record::timing`], and nowhere else. Numbers are written so that they are read back to the bit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Doc, Grader, OptionScore, Questions, option_scores};
use crate::consensus::Vote;
use crate::decision::Decision;
use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::generation::Generation;
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
    /// Why the question could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The outcome; `None` if the question could not be asked.
    pub outcome: Option<Recorded>,
    /// What differs from run to run.
    pub timing: Timing,
}

/// An outcome without what the manifest holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Answer, or abstain with a reason.
    #[serde(flatten)]
    pub decision: Decision,
    /// The leading answer; `None` when abstaining.
    pub answer: Option<String>,
    /// The text of the first sample that words the answer so; `None` when abstaining.
    pub text: Option<String>,
    /// Calibrated probability of being right; `None` without a calibrator.
    pub confidence: Option<f64>,
    /// What the confidence rests on.
    pub calibration: Value,
    /// The chosen estimator's score.
    pub uncertainty: Option<RecordedScore>,
    /// Every estimator's natural score.
    pub scores: BTreeMap<String, f64>,
    /// The vote.
    pub vote: Vote,
    /// Every sample with its tokens; where options were scored, every option.
    pub samples: Vec<Sample>,
    /// The likelihood of every option, where they were scored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionScore>,
    /// What it cost.
    pub cost: RecordedCost,
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

/// What does not depend on time and cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCost {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: usize,
    /// Tokens drawn over all samples.
    pub completion_tokens: usize,
    /// Rows really computed after the prompt.
    pub forward_tokens: usize,
}

/// What differs from run to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Prompt tokens that came from the prefix cache.
    pub cached_tokens: usize,
    /// Time to the first token in milliseconds, beside other questions.
    pub prefill_ms: Option<f64>,
    /// Time from the first token to the last in milliseconds, beside other questions.
    pub decode_ms: Option<f64>,
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
        let cost = outcome.cost;
        let timing = Timing {
            cached_tokens: cost.cached_tokens,
            prefill_ms: cost.prefill_ms,
            decode_ms: cost.decode_ms,
        };
        let mut recorded = Recorded::from(outcome);
        let mut resps = vec![recorded.samples.iter().map(|sample| sample.text.clone()).collect()];
        if questions.scorer.is_likelihood() {
            recorded.options = option_scores(&recorded.generation());
            let response = |option: &OptionScore| {
                vec![
                    option.logprob.map_or("NaN".to_owned(), |l| l.to_string()),
                    option.greedy.to_string(),
                ]
            };
            resps = recorded.options.iter().map(response).collect();
        }
        Self {
            grade: Grader::new(questions.scorer, &doc).grade(&recorded.vote),
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
    pub fn unasked(
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
            .map_err(|e| Error::Backend(format!("record {} is no JSON: {e}", self.doc_id)))?;
        line.push(b'\n');
        Ok(line)
    }
}

impl Recorded {
    /// The samples as they came from the engine.
    pub fn generation(&self) -> Generation {
        Generation {
            completions: self.samples.iter().map(Sample::completion).collect(),
            cost: crate::generation::Cost::default(),
        }
    }
}

impl From<Outcome> for Recorded {
    fn from(outcome: Outcome) -> Self {
        Self {
            decision: outcome.decision,
            answer: outcome.answer,
            text: outcome.text,
            confidence: outcome.confidence.map(Confidence::value),
            // It serialises to a text or a flat object; neither can fail.
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
            samples: outcome.samples,
            options: Vec::new(),
            cost: RecordedCost {
                prompt_tokens: outcome.cost.prompt_tokens,
                completion_tokens: outcome.cost.completion_tokens,
                forward_tokens: outcome.cost.forward_tokens,
            },
            notes: outcome.notes,
        }
    }
}
