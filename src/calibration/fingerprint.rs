//! The configuration that a calibration is bound to: everything that changes a score. If one field
//! differs, the calibration does not apply.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The configuration that produced the scores. Fields are compared as texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// SHA-256 of the weights, in hexadecimal.
    pub weights_sha256: String,
    /// The quantization, as the file names it.
    pub quantization: String,
    /// What computes, with the types of activations and of cached keys and values.
    pub compute: String,
    /// SHA-256 of the chat template, in hexadecimal.
    pub template_sha256: String,
    /// The text around a question: the system message and the template with `{question}` in it.
    pub question_template: String,
    /// How the prompt is repeated.
    pub repetition: String,
    /// The sampler chain with its parameters.
    pub sampler: String,
    /// The strategy with its parameters: how many samples, when to stop.
    pub strategy: String,
    /// How answers are read.
    pub extractor: String,
    /// The estimators, in the order of their scores.
    pub estimator: String,
    /// The largest number of tokens of prompt and output together: what exceeds it is cut.
    #[serde(default)]
    pub context: String,
    /// candor's version.
    #[serde(default)]
    pub version: String,
}

impl Fingerprint {
    /// The fields by name.
    pub fn fields(&self) -> [(&'static str, &str); 12] {
        [
            ("weights_sha256", &self.weights_sha256),
            ("quantization", &self.quantization),
            ("compute", &self.compute),
            ("template_sha256", &self.template_sha256),
            ("question_template", &self.question_template),
            ("repetition", &self.repetition),
            ("sampler", &self.sampler),
            ("strategy", &self.strategy),
            ("extractor", &self.extractor),
            ("estimator", &self.estimator),
            ("context", &self.context),
            ("version", &self.version),
        ]
    }

    /// Compares the calibrated configuration with the running one.
    ///
    /// # Errors
    /// Every field that differs, with both values.
    pub fn check(&self, running: &Self) -> Result<(), Mismatch> {
        let pairs = self.fields().into_iter().zip(running.fields());
        let differs = pairs.filter(|((_, calibrated), (_, running))| calibrated != running);
        let differences: Vec<FieldDifference> = differs
            .map(|((field, calibrated), (_, running))| FieldDifference {
                field,
                calibrated: calibrated.to_owned(),
                running: running.to_owned(),
            })
            .collect();
        if differences.is_empty() { Ok(()) } else { Err(Mismatch { differences }) }
    }
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// The field.
    pub field: &'static str,
    /// Its value in the calibration.
    pub calibrated: String,
    /// Its value in this run.
    pub running: String,
}

/// Why a calibration does not apply: the fields that differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The fields, in the order of [`Fingerprint`].
    pub differences: Vec<FieldDifference>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the calibration was made for another configuration: ")?;
        for (i, FieldDifference { field, calibrated, running }) in
            self.differences.iter().enumerate()
        {
            let comma = if i > 0 { ", " } else { "" };
            write!(
                f,
                "{comma}{field} is `{}` here and was `{}` there",
                running.escape_debug(),
                calibrated.escape_debug()
            )?;
        }
        f.write_str("; calibrate again for this one")
    }
}

impl std::error::Error for Mismatch {}
