//! Votes, scores, decisions and grades again from stored samples, without the model.
//!
//! Contract: what comes out is what the run recorded, to the bit, as long as candor is the same;
//! where it is not, [`Scored::differs`] says so.

use std::path::Path;

use super::{
    Grader, Manifest, Record, RecordedCost, Scorer, Timing, correct_mass, is_correct_per_byte,
    option_scores, runs,
};
use crate::calibration::PolicyFile;
use crate::decision::Policy;
use crate::error::{Error, Result};
use crate::metrics::{Grade, GradedQuestion};
use crate::pipeline::{Judge, Judgement};
use crate::uncertainty;

/// A question judged again.
#[derive(Clone, Debug)]
pub struct Scored {
    /// What figures are made from.
    pub item: GradedQuestion,
    /// The verdict; `None` if the question could not be asked.
    pub judgement: Option<Judgement>,
    /// What it cost; `None` if the question could not be asked.
    pub cost: Option<RecordedCost>,
    /// How long it took.
    pub timing: Timing,
    /// The first thing that differs from the record, in a word.
    pub differs: Option<&'static str>,
}

/// The judge of a run.
///
/// # Errors
/// A manifest without extractor, policy or estimator that this program knows.
pub fn judge(manifest: &Manifest) -> Result<Judge> {
    judge_by(manifest, manifest.policy.clone())
}

/// The judge of a run under a policy file, whichever the run had.
pub(super) fn judge_by(manifest: &Manifest, policy_file: Option<PolicyFile>) -> Result<Judge> {
    let bad = |reason: String| {
        Error::usage(format!("the run's manifest: {reason}; run again with this version"))
    };
    let extractor = manifest
        .config
        .get("extractor")
        .and_then(|name| name.as_str())
        .unwrap_or_default()
        .parse()?;
    let policy: Policy =
        serde_json::from_value(manifest.config.clone()).map_err(|e| bad(e.to_string()))?;
    let strategy =
        manifest.config.get("strategy").and_then(|name| name.as_str()).unwrap_or_default();
    let mut judge = Judge::new(extractor, uncertainty::estimator(&manifest.estimator)?, policy)
        .by_strategy(strategy);
    if let Some(file) = policy_file {
        let running = manifest
            .fingerprint
            .clone()
            .ok_or_else(|| bad("a policy without a fingerprint".into()))?;
        judge.adopt(file, running).map_err(|mismatch| bad(mismatch.to_string()))?;
    }
    Ok(judge)
}

/// All questions of the one run that a path leads to, judged again.
///
/// # Errors
/// A folder that holds no run, or several, or a line that is no record.
pub fn rescore(path: &Path) -> Result<(Manifest, Vec<Scored>)> {
    let run = runs::only_run(path)?;
    let scored = run.rescore()?;
    Ok((run.manifest, scored))
}

/// One question, judged again.
pub fn item(record: &Record, scorer: Scorer, judge: &Judge) -> Scored {
    let id = record.doc.id.clone();
    let answerable = record.doc.answerable;
    let Some(recorded) = &record.outcome else {
        let item = GradedQuestion {
            id,
            grade: Grade::NoAnswer,
            answered: false,
            uncertainty: None,
            confidence: None,
            answerable,
            correct_per_byte: None,
            correct_mass: None,
            samples: Vec::new(),
        };
        return Scored { item, judgement: None, cost: None, timing: record.timing, differs: None };
    };
    let generation = recorded.generation();
    let judgement = judge.judge(&generation);
    let options = if scorer.is_likelihood() { option_scores(&generation) } else { Vec::new() };
    let grader = Grader::new(scorer, &record.doc);
    let item = GradedQuestion {
        id,
        grade: grader.grade(&judgement.vote),
        answered: judgement.decision.is_answer(),
        uncertainty: judgement.uncertainty.map(uncertainty::Uncertainty::value),
        confidence: judgement.confidence.map(uncertainty::Confidence::value),
        answerable,
        correct_per_byte: is_correct_per_byte(&options, &record.doc),
        correct_mass: correct_mass(&options, &record.doc),
        // Options are no draws: how many of them are right says nothing.
        samples: if scorer.is_likelihood() { Vec::new() } else { grader.samples(&judgement.vote) },
    };
    let same_scores = judgement
        .scores
        .iter()
        .map(|(name, value)| (*name, *value))
        .eq(recorded.scores.iter().map(|(n, v)| (n.as_str(), *v)));
    let checks = [
        ("vote", judgement.vote == recorded.vote),
        ("scores", same_scores),
        ("options", options == recorded.options),
        ("confidence", item.confidence == recorded.confidence),
        ("decision", judgement.decision == recorded.decision),
        ("grade", item.grade == record.grade),
    ];
    let differs = checks.into_iter().find_map(|(what, same)| (!same).then_some(what));
    Scored {
        item,
        judgement: Some(judgement),
        cost: Some(recorded.cost),
        timing: record.timing,
        differs,
    }
}
