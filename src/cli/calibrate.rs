//! `candor calibrate`: a confidence and a threshold with a guarantee, from a run into a policy
//! file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::Output;
use crate::calibration::{
    CalibrationError, Method, PolicyFile, RandomSplits, Split, Target, Untouched, Validation,
    calibrate, validate,
};
use crate::error::{Error, Result};
use crate::eval::Labels;
use crate::files;
use crate::report::text::listed;

/// The largest policy file that is read to count how often these labels were used.
const MAX_POLICY_BYTES: u64 = 64 << 20;

/// Fit a confidence and a threshold with a guarantee from a run.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// The run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The policy file to write. One there or beside it that was fitted to the same labels with
    /// other settings is counted: the guarantee is that of the first only
    #[arg(short, long, value_name = "FILE", required_unless_present = "validate")]
    out: Option<PathBuf>,
    /// Write nothing; calibrate on this many random splits of the questions instead, and count how
    /// often the guarantee of selective-risk is violated on the untouched part
    #[arg(long, value_name = "SPLITS", conflicts_with = "out", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    validate: Option<u64>,
    /// What the threshold is chosen for: selective-risk, P(wrong | answered) <= alpha, see --delta;
    /// joint-risk, P(answered and wrong) <= alpha on average; coverage=SHARE
    /// or confidence=P, without a guarantee
    #[arg(long, default_value = "selective-risk", value_name = "TARGET", value_parser = target)]
    target: TargetArg,
    /// The largest risk, above 0 to below 1
    #[arg(long, default_value_t = 0.1)]
    alpha: f64,
    /// The largest probability, over the draw of the labels, that a threshold is certified and its
    /// risk exceeds alpha, above 0 to below 1
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
        let found = recorded + labels.without_gold.len();
        if found < labels.manifest.task.due() {
            output.warning(&format!(
                "{}: {found} of {} questions are recorded; the calibration is made on these",
                self.run.display(),
                labels.manifest.task.due()
            ));
        }
        if !labels.without_gold.is_empty() {
            output.warning(&format!(
                "{}: {} questions without a gold answer are left out: {}",
                self.run.display(),
                labels.without_gold.len(),
                listed(&labels.without_gold)
            ));
        }
        let bad_labels = |error: CalibrationError| {
            Error::usage(format!(
                "{} has {recorded} labeled questions, {:.2} of them to fit: {error}",
                self.run.display(),
                self.fit
            ))
        };
        let examples = labels.examples.clone();
        let split = Split::random_split(examples, self.fit, self.threshold, self.split_seed)
            .map_err(bad_labels)?;
        warn_copies(&split, output);
        let Some(out) = self.out.as_deref() else { return self.validate(&labels, output) };
        let policy = calibrate(&split, self.method, self.target(), labels.fingerprint)
            .map_err(bad_labels)?;
        let policy = counted(policy, out)?;
        let seeks = matches!(self.target, TargetArg::SelectiveRisk | TargetArg::JointRisk);
        if seeks && policy.tries > 1 {
            output.warning(&format!(
                "{}: these labels were used before by a policy here or beside it; fit once, or \
                 divide delta by the number of policies that you try",
                out.display()
            ));
        }
        if let Some(reason) = &policy.no_confidence {
            output.warning(&format!("the policy gives no confidence: {reason}"));
        }
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

/// Says which questions are left out because another one has their text.
fn warn_copies(split: &Split, output: &Output) {
    let copies: Vec<String> = split.copies().iter().map(|example| example.id.clone()).collect();
    if !copies.is_empty() {
        output.warning(&format!(
            "{} questions have the text of another one and are left out: {}",
            copies.len(),
            listed(&copies)
        ));
    }
}

/// The policy with the number of guarantees that were sought with its labels: its own beside those
/// that the policy files at its place and beside it count. The same policy again is not another
/// one.
///
/// # Errors
/// A folder that cannot be read.
fn counted(policy: PolicyFile, out: &Path) -> Result<PolicyFile> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let io = |e| Error::io(folder, e);
    let mut tries = 0;
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let readable = |file: &std::fs::Metadata| file.is_file() && file.len() <= MAX_POLICY_BYTES;
        let is_json = path.extension().is_some_and(|e| e == "json");
        if !(is_json || path.file_name() == out.file_name())
            || !path.metadata().is_ok_and(|file| readable(&file))
        {
            continue;
        }
        // Whatever is no policy file was not fitted to labels.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let Ok(other) = PolicyFile::parse(&text) else { continue };
        if other == policy.clone().with_tries(other.tries) {
            return Ok(other);
        }
        if other.shares_labels(&policy) {
            tries = tries.max(other.tries);
        }
    }
    let tries = policy.tries.saturating_add(tries);
    Ok(policy.with_tries(tries))
}

/// The text of a validation.
fn validation_text(v: &Validation, questions: usize) -> String {
    let mut text = format!(
        "{} splits of {questions} questions, alpha {}, delta {}",
        v.splits, v.alpha, v.delta
    );
    let _ = write!(text, "\n{:>6} certified", v.certified);
    if v.not_fitted > 0 {
        let _ = write!(
            text,
            "\n{:>6} not fitted: estimators cannot be fused, or the map does not suit them",
            v.not_fitted
        );
    }
    let Some(untouched) = v.untouched else {
        text.push_str("\nnothing was certified, so there is nothing to validate");
        return text;
    };
    let Untouched { violations, allowed, max_by_chance, coverage, risk } = untouched;
    let _ = write!(
        text,
        "\n{violations:>6} violations: significantly more errors on the untouched part than alpha \
         allows, by an exact test at 5 %; {:.1} are allowed on average and about {max_by_chance} \
         by chance (95 %): {}",
        allowed * v.splits as f64,
        if untouched.holds() { "the guarantee holds" } else { "the guarantee is violated" }
    );
    let _ = write!(text, "\n{coverage:>6.3} mean coverage of the untouched part where certified");
    if let Some(risk) = risk {
        let _ = write!(text, "\n{risk:>6.3} of all its answers are incorrect");
    }
    text
}

/// The parts, the threshold and the results on the held-out part.
fn summary_text(policy: &PolicyFile, split: &Split, path: &str) -> String {
    let parts = (split.fit().len(), split.threshold().len(), split.report().len());
    let mut text = format!(
        "{path}: fitted on {}, threshold chosen on {}, reported on {} questions; split seed {}",
        parts.0, parts.1, parts.2, policy.split.seed
    );
    if let Some(t) = policy.threshold() {
        let _ = write!(
            text,
            "\nthreshold: uncertainty <= {:.4}, answers {} of {} with {} incorrect",
            t.max_uncertainty, t.answered, t.questions, t.incorrect
        );
    }
    let _ = write!(text, "\nreport: {}", held_out(policy));
    text
}

/// The results on the held-out part in one sentence.
pub(super) fn held_out(policy: &PolicyFile) -> String {
    let report = &policy.report;
    let mut text = format!(
        "answers {} of {} with {} incorrect",
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
