//! Votes, scores, decisions and grades again from stored samples, without the model.
//!
//! The result is what the run recorded, to the bit, as long as candor is the same; where it is not,
//! [`Scored::differs`] says so. [`RunScorer`] is the only way from a run's records to its figures,
//! so `eval`, `score` and `report` show the same. A question whose gold answer is unknown is
//! neither right nor wrong: it is left out and named.

use std::path::Path;

use super::equal_cost;
use super::run::question;
use super::{
    Doc, Grader, JudgeQuality, Manifest, Record, RunRef, correct_mass, is_correct_per_byte, runs,
    scored_choices,
};
use crate::calibration::{CalibratedOn, Drift, PolicyFile};
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
    /// Forward tokens of its first k samples, k = 1, 2, ...; empty if it could not be asked.
    pub forward_tokens: Vec<f64>,
    /// How long it took.
    pub timing: Timing,
    /// The first thing that differs from the record, in a word.
    pub differs: Option<&'static str>,
}

/// The questions of a run, scored again.
#[derive(Clone, Debug, Default)]
pub struct ScoredRun {
    /// In the order of the records, without those that are left out.
    pub questions: Vec<Scored>,
    /// The ids of questions whose gold answer is unknown.
    pub without_gold: Vec<String>,
    /// Scores that are not those of the policy's calibration, under a policy.
    pub drift: Option<Drift>,
}

/// Why a question is left out of all figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Its gold answer is unknown.
    WithoutGold,
    /// The policy was calibrated on it, under this or another id.
    CalibratedOn,
}

/// Scores the records of a run, in any order and from any thread.
pub struct RunScorer<'a> {
    manifest: &'a Manifest,
    selector: Selector,
    /// The questions of another policy than the run's.
    calibrated_on: Option<CalibratedOn<'a>>,
}

impl<'a> RunScorer<'a> {
    /// As the run was decided, or by another policy.
    ///
    /// # Errors
    /// An estimator that this version does not have, or a policy file of another configuration, by
    /// field; a line that is not a record.
    pub fn new(run: &'a RunRef, policy: Option<&'a PolicyFile>) -> Result<Self> {
        let selector = match policy {
            None => selector(run)?,
            Some(policy) => selector_with_policy(&run.manifest, Some(policy.clone()))?,
        };
        let calibrated_on = policy.map(PolicyFile::calibrated_on);
        Ok(Self { manifest: &run.manifest, selector, calibrated_on })
    }

    /// Scores a record, or says why it is left out.
    pub fn score(&self, record: &Record) -> Result<Scored, LeftOut> {
        let doc = &record.doc;
        if !Grader::new(self.manifest.task.scorer, doc).has_gold() {
            return Err(LeftOut::WithoutGold);
        }
        let seen = self.calibrated_on.as_ref();
        if seen.is_some_and(|seen| seen.contains(&doc.id, &doc.text_digest())) {
            return Err(LeftOut::CalibratedOn);
        }
        let scored = item(record, self.manifest, &self.selector);
        // Another policy decides differently, and should.
        Ok(if seen.is_some() { Scored { differs: None, ..scored } } else { scored })
    }

    /// Whether the scores come from elsewhere than those that the policy was calibrated on; `None`
    /// without a policy.
    pub fn drift<'q>(
        &self,
        questions: impl IntoIterator<Item = &'q GradedQuestion>,
    ) -> Option<Drift> {
        let policy = self.selector.policy_file()?;
        policy.drift(questions.into_iter().filter_map(GradedQuestion::score))
    }

    /// The policy file that decides, if there is one.
    pub fn policy(&self) -> Option<&PolicyFile> {
        self.selector.policy_file()
    }
}

/// The selector of a run; its judge is switched off if it is no better than chance on the run's own
/// labels.
///
/// # Errors
/// An estimator that this version does not have, or a policy file of another run; a line that is
/// not a record.
pub(super) fn selector(run: &RunRef) -> Result<Selector> {
    let mut selector = selector_with_policy(&run.manifest, run.manifest.policy.clone())?;
    if JudgeQuality::of(run)?.is_some_and(|quality| !quality.is_useful()) {
        selector.reader.equivalence = Equivalence::Rules;
    }
    Ok(selector)
}

/// The selector of a run under a policy file, whichever the run had.
pub(super) fn selector_with_policy(
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
        selector.bind_policy(file, running, None).map_err(|error| bad(error.to_string()))?;
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
    let scored = run.rescore(None)?;
    Ok((run.manifest, scored.questions))
}

/// A question of a run as its answers were compared with it.
pub(super) fn asked(manifest: &Manifest, doc: &Doc) -> AskedQuestion {
    question(doc, manifest.task.scorer, &manifest.config.question_template).asked()
}

/// One question, with verdicts from the stored samples.
pub(super) fn item(record: &Record, manifest: &Manifest, selector: &Selector) -> Scored {
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
        return Scored {
            item,
            verdict: None,
            cost: None,
            forward_tokens: Vec::new(),
            timing: record.timing,
            differs: None,
        };
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
    // A later version has further estimators.
    let found = |name: &str| verdict.scores.get(name);
    let same_scores = recorded.scores.iter().all(|(name, value)| found(name) == Some(value));
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
        forward_tokens: equal_cost::forward_tokens(recorded),
        timing: record.timing,
        differs,
    }
}
