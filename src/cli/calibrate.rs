//! `candor calibrate`: a confidence and a threshold with a guarantee, from a run into a policy
//! file.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::output::Output;
use crate::calibration::{
    Deals, Goal, Method, PolicyFile, Refusal, Split, Validation, calibrate, validate,
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
    /// Write nothing; calibrate on so many random deals of the questions instead, and count how
    /// often the promise of selective-risk was broken on those that it did not choose on
    #[arg(long, value_name = "DEALS", conflicts_with = "out", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    validate: Option<u64>,
    /// What the threshold shall achieve: selective-risk, P(wrong | answered) <= alpha with
    /// probability 1 - delta; joint-risk, P(answered and wrong) <= alpha on average; coverage=SHARE
    /// or confidence=P, which promise nothing
    #[arg(long, default_value = "selective-risk", value_name = "GOAL", value_parser = target)]
    target: Target,
    /// The largest risk, above 0 to below 1
    #[arg(long, default_value_t = 0.1)]
    alpha: f64,
    /// How probable it may be that the labels mislead, above 0 to below 1
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
    /// Names the deal of questions into the three parts
    #[arg(long, default_value_t = 0)]
    split_seed: u64,
    /// Print the policy file too
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
enum Target {
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
        let refused = |refusal: Refusal| {
            Error::usage(format!(
                "{} has {recorded} questions, {:.2} of them to fit: {refusal}",
                self.run.display(),
                self.fit
            ))
        };
        let Some(out) = self.out.as_deref() else { return self.validate(&labels, output) };
        let split = Split::deal(labels.examples, self.fit, self.threshold, self.split_seed)
            .map_err(refused)?;
        let policy =
            calibrate(&split, self.method, self.goal(), labels.fingerprint).map_err(refused)?;
        let text = policy.to_json().map_err(refused)?;
        files::write_atomic(out, format!("{text}\n").as_bytes()).map_err(|e| Error::io(out, e))?;
        output.note(&said(&policy, &split, &out.display().to_string()));
        if self.json {
            output.raw(format!("{text}\n").as_bytes())
        } else {
            output.answer(&policy.guarantee())
        }
    }

    /// Puts the promise to the test.
    fn validate(&self, labels: &Labels, output: &Output) -> Result<()> {
        if !matches!(self.target, Target::SelectiveRisk) {
            return Err(Error::usage(
                "--validate is for the target selective-risk: the others promise nothing that one \
                 deal can break",
            ));
        }
        let deals = Deals {
            splits: self.validate.unwrap_or_default(),
            fit: self.fit,
            threshold: self.threshold,
        };
        let validation = validate(
            &labels.examples,
            (self.alpha, self.delta),
            self.method,
            &labels.fingerprint,
            deals,
        )
        .map_err(|refusal| Error::usage(format!("{}: {refusal}", self.run.display())))?;
        if self.json {
            let text = serde_json::to_string_pretty(&validation)
                .map_err(|e| Error::Backend(format!("the counts are no JSON: {e}")))?;
            return output.raw(format!("{text}\n").as_bytes());
        }
        output.answer(&tested(&validation, labels.examples.len()))
    }

    fn goal(&self) -> Goal {
        match self.target {
            Target::SelectiveRisk => Goal::SelectiveRisk { alpha: self.alpha, delta: self.delta },
            Target::JointRisk => Goal::JointRisk { alpha: self.alpha },
            Target::Coverage(coverage) => Goal::TargetCoverage { coverage },
            Target::Confidence(t) => Goal::TargetConfidence { t },
        }
    }
}

/// How the promise fared.
fn tested(v: &Validation, questions: usize) -> String {
    let mut text = format!(
        "{} deals of {questions} questions, alpha {}, delta {}",
        v.splits, v.alpha, v.delta
    );
    let _ = write!(
        text,
        "\n{:>6} violations: error rates above alpha among the answers, where {:.1} are allowed \
         on average and {} by chance (95 %): {}",
        v.violations,
        v.delta * v.splits as f64,
        v.explained,
        if v.holds() { "the promise holds" } else { "the promise is broken" }
    );
    let _ = write!(
        text,
        "\n{:>6} error rates above alpha on the untouched part alone, an estimate from few answers",
        v.test_violations
    );
    let _ = write!(text, "\n{:>6} certified", v.certified);
    if v.refused > 0 {
        let _ = write!(
            text,
            "\n{:>6} not fitted: too few labels, or no score that tells right from wrong",
            v.refused
        );
    }
    let _ = write!(text, "\n{:>6.3} mean coverage of the untouched part", v.coverage);
    if let Some(risk) = v.risk {
        let _ = write!(text, "\n{risk:>6.3} of all its answers are wrong");
    }
    text
}

/// What was done, and how it went on questions that nothing was chosen on.
fn said(policy: &PolicyFile, split: &Split, path: &str) -> String {
    let parts = (split.fit().len(), split.threshold().len(), split.report().len());
    let mut text = format!(
        "{path}: fitted on {}, threshold chosen on {}, reported on {} questions",
        parts.0, parts.1, parts.2
    );
    if let Some(t) = policy.threshold() {
        let _ = write!(
            text,
            "\nthreshold: uncertainty <= {:.4}, answers {} of {} with {} wrong",
            t.max_uncertainty, t.answered, t.questions, t.wrong
        );
    }
    let report = &policy.report;
    let _ = write!(
        text,
        "\nreport: answers {} of {} with {} wrong",
        report.answered, report.questions, report.wrong
    );
    if let Some(risk) = report.selective_risk {
        let _ = write!(
            text,
            "; true share of wrong answers {:.3} to {:.3} with 95 % confidence",
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

fn target(text: &str) -> std::result::Result<Target, String> {
    let number = |value: &str| value.parse::<f64>().map_err(|_| format!("`{value}` is no number"));
    match text.split_once('=') {
        None if text == "selective-risk" => Ok(Target::SelectiveRisk),
        None if text == "joint-risk" => Ok(Target::JointRisk),
        Some(("coverage", value)) => number(value).map(Target::Coverage),
        Some(("confidence", value)) => number(value).map(Target::Confidence),
        _ => Err(format!(
            "`{text}` is unknown; use selective-risk, joint-risk, coverage=SHARE or confidence=P"
        )),
    }
}
