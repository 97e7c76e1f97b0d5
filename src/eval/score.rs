//! Votes, scores, decisions and grades again from stored samples, without the model.
//!
//! The result is what the run recorded, to the bit, as long as candor is the same; where it is not,
//! [`Scored::differs`] says so.

use std::path::Path;

use super::run::question;
use super::{
    Doc, Grader, JudgeQuality, Manifest, Record, RunRef, correct_mass, is_correct_per_byte, runs,
    scored_choices,
};
use crate::calibration::PolicyFile;
use crate::consensus::{AskedQuestion, Equivalence};
use crate::error::{Error, Result};
use crate::generation::{Timing, TokenCounts};
use crate::metrics::{Grade, GradedQuestion};
use crate::pipeline::{Selector, Verdict};
use crate::uncertainty;

/// A question with the verdict on its stored samples.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The input of the metrics.
    pub item: GradedQuestion,
    /// The verdict; `None` if the question could not be asked.
    pub verdict: Option<Verdict>,
    /// What it cost; `None` if the question could not be asked.
    pub cost: Option<TokenCounts>,
    /// How long it took.
    pub timing: Timing,
    /// The first thing that differs from the record, in a word.
    pub differs: Option<&'static str>,
}

/// The selector of a run; its judge is switched off if it is no better than chance on the run's own
/// labels.
///
/// # Errors
/// An estimator that this version does not have, or a policy file of another run; a line that is
/// not a record.
pub fn selector(run: &RunRef) -> Result<Selector> {
    let mut selector = selector_with_policy(&run.manifest, run.manifest.policy.clone())?;
    if JudgeQuality::of(run)?.is_some_and(|quality| !quality.is_useful()) {
        selector.reader.equivalence = Equivalence::Rules;
    }
    Ok(selector)
}

/// The selector of a run under a policy file, whichever the run had.
pub fn selector_with_policy(
    manifest: &Manifest,
    policy_file: Option<PolicyFile>,
) -> Result<Selector> {
    let bad = |reason: String| {
        Error::usage(format!("the run's manifest: {reason}; run again with this version"))
    };
    let estimator = uncertainty::estimator(&manifest.estimator)?;
    let config = &manifest.config;
    let mut selector = Selector::new(config.reader.clone(), estimator, config.policy);
    if let Some(file) = policy_file {
        let running = manifest
            .fingerprint
            .clone()
            .ok_or_else(|| bad("a policy without a fingerprint".into()))?;
        selector.bind_policy(file, running).map_err(|mismatch| bad(mismatch.to_string()))?;
    }
    Ok(selector)
}

#[cfg(feature = "internals")]
/// All questions of the one run that a path leads to, with verdicts from the stored samples.
///
/// # Errors
/// A folder that holds no run, or several, or a line that is not a record.
pub fn rescore(path: &Path) -> Result<(Manifest, Vec<Scored>)> {
    let run = runs::single_run(path)?;
    let scored = run.rescore()?;
    Ok((run.manifest, scored))
}

/// A question of a run as its answers were compared with it.
pub fn asked(manifest: &Manifest, doc: &Doc) -> AskedQuestion {
    question(doc, manifest.task.scorer, &manifest.config.question_template).asked()
}

/// One question, with verdicts from the stored samples.
pub fn item(record: &Record, manifest: &Manifest, selector: &Selector) -> Scored {
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
        return Scored { item, verdict: None, cost: None, timing: record.timing, differs: None };
    };
    let generation = recorded.generation();
    let verdict = selector.verdict(&asked(manifest, &record.doc), &generation);
    let choices = scored_choices(generation.completions.iter().cloned());
    let grader = Grader::new(manifest.task.scorer, &record.doc);
    let item = GradedQuestion {
        id,
        grade: grader.grade(&verdict.vote),
        answered: verdict.decision.is_answer(),
        uncertainty: verdict.uncertainty.map(uncertainty::Uncertainty::value),
        confidence: verdict.confidence.map(uncertainty::Confidence::value),
        answerable,
        correct_per_byte: is_correct_per_byte(&choices, &record.doc),
        correct_mass: correct_mass(&choices, &record.doc),
        // Scored choices are not draws: how many of them are right says nothing.
        samples: if choices.is_empty() { grader.samples(&verdict.vote) } else { Vec::new() },
    };
    let same_scores = verdict
        .scores
        .iter()
        .map(|(name, value)| (*name, *value))
        .eq(recorded.scores.iter().map(|(n, v)| (n.as_str(), *v)));
    let checks = [
        ("vote", verdict.vote == recorded.vote),
        ("scores", same_scores),
        ("choices", choices == recorded.choices),
        ("confidence", item.confidence == recorded.confidence),
        ("decision", verdict.decision == recorded.decision),
        ("grade", item.grade == record.grade),
    ];
    let differs = checks.into_iter().find_map(|(what, same)| (!same).then_some(what));
    Scored {
        item,
        verdict: Some(verdict),
        cost: Some(recorded.cost),
        timing: record.timing,
        differs,
    }
}
