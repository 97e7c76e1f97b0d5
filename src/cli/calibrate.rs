//! `candor calibrate`: a confidence and a threshold with a guarantee, from a run into a policy
//! file.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::output::Output;
use crate::calibration::{
    CalibrationError, Method, PolicyFile, RandomSplits, Split, Target, Validation, calibrate,
    validate,
};
use crate::error::{Error, Result};
use crate::eval::Labels;
use crate::files;

/// Fit a confidence and a threshold with a guarantee from a run.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// The run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The policy file to write
    #[arg(short, long, value_name = "FILE", required_unless_present = "validate")]
    out: Option<PathBuf>,
    /// Write nothing; calibrate on this many random splits of the questions instead, and count how
    /// often the guarantee of selective-risk is violated on held-out questions
    #[arg(long, value_name = "SPLITS", conflicts_with = "out", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    validate: Option<u64>,
    /// What the threshold is chosen for: selective-risk, P(wrong | answered) <= alpha with
    /// probability 1 - delta; joint-risk, P(answered and wrong) <= alpha on average; coverage=SHARE
    /// or confidence=P, without a guarantee
    #[arg(long, default_value = "selective-risk", value_name = "TARGET", value_parser = target)]
    target: TargetArg,
    /// The largest risk, above 0 to below 1
    #[arg(long, default_value_t = 0.1)]
    alpha: f64,
    /// The probability that the guarantee fails, above 0 to below 1
    #[arg(long, default_value_t = 0.1)]
    delta: f64,
    /// The estimator to calibrate, several to fuse; without it, the run's own
    #[arg(long = "estimator", value_name = "NAME", value_delimiter = ',')]
    estimators: Vec<String>,
    /// The map from uncertainty to confidence: sigmoid, isotonic, temperature, beta or venn-abers
    #[arg(long, default_value = "sigmoid", value_parser = method)]
    method: Method,
    /// Share of the questions that the map is fitted on
    #[arg(long, default_value_t = 0.4, value_name = "SHARE")]
    fit: f64,
    /// Share of the questions that the threshold is chosen on; the rest reports
    #[arg(long, default_value_t = 0.4, value_name = "SHARE")]
    threshold: f64,
    /// Seed of the split of questions into the three parts
    #[arg(long, default_value_t = 0)]
    split_seed: u64,
    /// Print the policy file too
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
enum TargetArg {
    SelectiveRisk,
    JointRisk,
    Coverage(f64),
    Confidence(f64),
}

impl Calibrate {
    pub fn run(&self, output: &Output) -> Result<()> {
        let labels = Labels::read(&self.run, &self.estimators)?;
        let recorded = labels.examples.len();
        if recorded < labels.manifest.task.due() {
            output.warning(&format!(
                "{}: {recorded} of {} questions are recorded; the calibration is made on these",
                self.run.display(),
                labels.manifest.task.due()
            ));
        }
        let bad_labels = |error: CalibrationError| {
            Error::usage(format!(
                "{} has {recorded} questions, {:.2} of them to fit: {error}",
                self.run.display(),
                self.fit
            ))
        };
        let Some(out) = self.out.as_deref() else { return self.validate(&labels, output) };
        let split = Split::random_split(labels.examples, self.fit, self.threshold, self.split_seed)
            .map_err(bad_labels)?;
        let policy = calibrate(&split, self.method, self.target(), labels.fingerprint)
            .map_err(bad_labels)?;
        let text = policy.to_json().map_err(bad_labels)?;
        files::write_atomic(out, format!("{text}\n").as_bytes()).map_err(|e| Error::io(out, e))?;
        output.note(&summary_text(&policy, &split, &out.display().to_string()));
        if self.json {
            output.raw(format!("{text}\n").as_bytes())
        } else {
            output.answer(&policy.guarantee())
        }
    }

    /// Validates the guarantee.
    fn validate(&self, labels: &Labels, output: &Output) -> Result<()> {
        if !matches!(self.target, TargetArg::SelectiveRisk) {
            return Err(Error::usage(
                "--validate is for --target selective-risk; the others have no guarantee that one \
                 split can violate",
            ));
        }
        let splits = RandomSplits {
            splits: self.validate.unwrap_or_default(),
            fit: self.fit,
            threshold: self.threshold,
        };
        let validation = validate(
            &labels.examples,
            (self.alpha, self.delta),
            self.method,
            &labels.fingerprint,
            splits,
        )
        .map_err(|error| Error::usage(format!("{}: {error}", self.run.display())))?;
        if self.json {
            let text = serde_json::to_string_pretty(&validation)
                .map_err(|e| Error::Backend(format!("cannot write the counts as JSON: {e}")))?;
            return output.raw(format!("{text}\n").as_bytes());
        }
        output.answer(&validation_text(&validation, labels.examples.len()))
    }

    fn target(&self) -> Target {
        match self.target {
            TargetArg::SelectiveRisk => {
                Target::SelectiveRisk { alpha: self.alpha, delta: self.delta }
            }
            TargetArg::JointRisk => Target::JointRisk { alpha: self.alpha },
            TargetArg::Coverage(coverage) => Target::TargetCoverage { coverage },
            TargetArg::Confidence(t) => Target::TargetConfidence { t },
        }
    }
}

/// The text of a validation.
fn validation_text(v: &Validation, questions: usize) -> String {
    let mut text = format!(
        "{} splits of {questions} questions, alpha {}, delta {}",
        v.splits, v.alpha, v.delta
    );
    let _ = write!(
        text,
        "\n{:>6} violations: error rates above alpha among the answers, where {:.1} are allowed \
         on average and {} by chance (95 %): {}",
        v.violations,
        v.delta * v.splits as f64,
        v.max_by_chance,
        if v.holds() { "the guarantee holds" } else { "the guarantee is violated" }
    );
    let _ = write!(
        text,
        "\n{:>6} error rates above alpha on the held-out part alone, an estimate from few answers",
        v.test_violations
    );
    let _ = write!(text, "\n{:>6} certified", v.certified);
    if v.not_fitted > 0 {
        let _ = write!(
            text,
            "\n{:>6} not fitted: too few labels, or no score that separates correct from incorrect \
             answers",
            v.not_fitted
        );
    }
    let _ = write!(text, "\n{:>6.3} mean coverage of the held-out part", v.coverage);
    if let Some(risk) = v.risk {
        let _ = write!(text, "\n{risk:>6.3} of all its answers are incorrect");
    }
    text
}

/// The parts, the threshold and the results on the held-out part.
fn summary_text(policy: &PolicyFile, split: &Split, path: &str) -> String {
    let parts = (split.fit().len(), split.threshold().len(), split.report().len());
    let mut text = format!(
        "{path}: fitted on {}, threshold chosen on {}, reported on {} questions",
        parts.0, parts.1, parts.2
    );
    if let Some(t) = policy.threshold() {
        let _ = write!(
            text,
            "\nthreshold: uncertainty <= {:.4}, answers {} of {} with {} incorrect",
            t.max_uncertainty, t.answered, t.questions, t.incorrect
        );
    }
    let report = &policy.report;
    let _ = write!(
        text,
        "\nreport: answers {} of {} with {} incorrect",
        report.answered, report.questions, report.incorrect
    );
    if let Some(risk) = report.selective_risk {
        let _ = write!(
            text,
            "; true share of incorrect answers {:.3} to {:.3} with 95 % confidence",
            risk.low, risk.high
        );
    }
    if let (Some(brier), Some(ece)) = (report.brier, report.smooth_ece) {
        let _ = write!(text, "; Brier {brier:.4}, smooth ECE {ece:.4}");
    }
    text
}

fn method(text: &str) -> std::result::Result<Method, String> {
    let wanted = text.replace('-', "_");
    Method::ALL.into_iter().find(|method| method.name() == wanted).ok_or_else(|| {
        let names = Method::ALL.map(Method::name);
        format!("`{text}` is unknown; use one of {}", names.join(", "))
    })
}

fn target(text: &str) -> std::result::Result<TargetArg, String> {
    let number =
        |value: &str| value.parse::<f64>().map_err(|_| format!("`{value}` is not a number"));
    match text.split_once('=') {
        None if text == "selective-risk" => Ok(TargetArg::SelectiveRisk),
        None if text == "joint-risk" => Ok(TargetArg::JointRisk),
        Some(("coverage", value)) => number(value).map(TargetArg::Coverage),
        Some(("confidence", value)) => number(value).map(TargetArg::Confidence),
        _ => Err(format!(
            "`{text}` is unknown; use selective-risk, joint-risk, coverage=SHARE or confidence=P"
        )),
    }
}
