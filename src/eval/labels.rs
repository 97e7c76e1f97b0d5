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
    /// The ids of questions whose gold answer is unknown, which are no examples.
    pub without_gold: Vec<String>,
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
        let extractor = selector.reader.to_string();
        let (mut examples, mut without_gold) = (Vec::new(), Vec::new());
        for record in run.records()? {
            let record = record?;
            match example(&record, manifest, &selector, &estimators) {
                Some(example) => examples.push(example),
                None => without_gold.push(record.doc.id),
            }
        }
        Ok(Self {
            examples,
            without_gold,
            fingerprint: Fingerprint {
                estimator: estimator_names(&estimators),
                extractor,
                ..fingerprint
            },
            manifest: run.manifest,
        })
    }
}

/// A question with the scores that a calibrated decision goes by; `None` if its gold answer is
/// unknown.
fn example(
    record: &Record,
    manifest: &Manifest,
    selector: &Selector,
    estimators: &[&'static Estimator],
) -> Option<Example> {
    let grader = Grader::new(manifest.task.scorer, &record.doc);
    if !grader.has_gold() {
        return None;
    }
    let (id, text) = (record.doc.id.clone(), Some(record.doc.text_digest()));
    let Some(recorded) = &record.outcome else {
        let scores = vec![None; estimators.len()];
        return Some(Example { id, text, scores, grade: Grade::NoAnswer });
    };
    let generation = recorded.generation();
    let asked = score::asked(manifest, &record.doc);
    let Verdict { vote, scores, .. } = selector.verdict(&asked, &generation);
    let score = |estimator: &Estimator| scores.get(estimator.name).copied();
    let scores = decision_scores(estimators, &vote, &generation.probes, &score);
    Some(Example { id, text, scores, grade: grader.grade(&vote) })
}
