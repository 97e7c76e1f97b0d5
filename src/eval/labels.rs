//! What a calibration takes from a run: every question's deciding scores with its grade, and what
//! they are bound to.

use std::path::Path;

use super::{Grader, Manifest, Record, runs, score};
use crate::calibration::{Example, Fingerprint};
use crate::error::{Error, Result};
use crate::metrics::Grade;
use crate::pipeline::{Selector, Verdict, decision_scores, estimator_names};
use crate::uncertainty::{self, Estimator};

/// The labeled questions of a run.
pub struct Labels {
    /// What was run.
    pub manifest: Manifest,
    /// A question each, in order.
    pub examples: Vec<Example>,
    /// What the calibration is bound to, with the estimators.
    pub fingerprint: Fingerprint,
}

impl Labels {
    /// Reads the one run that a path leads to; `estimators` are names, the run's own if
    /// empty.
    ///
    /// # Errors
    /// An unknown estimator, a model without one digest, a path that leads to no run or several, or
    /// a line that is not a record.
    pub fn read(path: &Path, estimators: &[String]) -> Result<Self> {
        let run = runs::single_run(path)?;
        let manifest = &run.manifest;
        let own = [manifest.estimator.clone()];
        let chosen = if estimators.is_empty() { &own[..] } else { estimators };
        let estimators =
            chosen.iter().map(|name| uncertainty::estimator(name)).collect::<Result<Vec<_>>>()?;
        let Some(fingerprint) = manifest.fingerprint.clone() else {
            return Err(Error::usage(format!(
                "the model of {} is a folder of several files without one digest to bind a \
                 calibration to; run with a single file",
                run.name
            )));
        };
        let selector = score::selector(&run)?;
        let extractor = manifest.config.reader_text(&selector.reader);
        let examples = run
            .records()?
            .map(|record| Ok(example(&record?, manifest, &selector, &estimators)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            examples,
            fingerprint: Fingerprint {
                estimator: estimator_names(&estimators),
                extractor,
                ..fingerprint
            },
            manifest: run.manifest,
        })
    }
}

/// A question with the scores that a calibrated decision goes by.
fn example(
    record: &Record,
    manifest: &Manifest,
    selector: &Selector,
    estimators: &[&'static Estimator],
) -> Example {
    let id = record.doc.id.clone();
    let Some(recorded) = &record.outcome else {
        return Example { id, scores: vec![None; estimators.len()], grade: Grade::NoAnswer };
    };
    let generation = recorded.generation();
    let asked = score::asked(manifest, &record.doc);
    let Verdict { vote, scores, .. } = selector.verdict(&asked, &generation);
    let scores =
        decision_scores(estimators, &vote, &|estimator| scores.get(estimator.name).copied());
    Example { id, scores, grade: Grader::new(manifest.task.scorer, &record.doc).grade(&vote) }
}
