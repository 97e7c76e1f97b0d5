//! `candor policy`: what a policy file holds, and whether it fits a run.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::ExitStatus;
use super::args::read_policy;
use super::calibrate::held_out;
use super::output::Output;
use super::terminal::{sanitize, wrap};
use crate::calibration::{Fingerprint, PolicyFile, Rule};
use crate::error::{Error, Result};
use crate::eval::single_run;
use crate::report::text::listed;

/// Columns of a line.
const WIDTH: usize = 80;
/// What further lines of a value begin with.
const INDENT: &str = "    ";

/// Show a policy file, or check whether it fits a run.
#[derive(Debug, Args)]
pub struct Policy {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what a policy file holds: guarantee, threshold, configuration, results on the
    /// held-out part
    Show {
        /// The policy file
        file: PathBuf,
    },
    /// Compare a policy file's configuration with a run's; exit with 1 if a field differs
    Check {
        /// The policy file
        file: PathBuf,
        /// The run folder
        run: PathBuf,
    },
}

impl Policy {
    pub fn run(&self, output: &Output) -> Result<ExitStatus> {
        match &self.action {
            Action::Show { file } => {
                output.answer(&shown(file, &read_policy(file)?))?;
                Ok(ExitStatus::Success)
            }
            Action::Check { file, run } => check(file, run, output),
        }
    }
}

/// One line for each thing that the file holds.
fn shown(path: &Path, policy: &PolicyFile) -> String {
    let mut lines = vec![
        ("file".to_owned(), path.display().to_string()),
        ("guarantee".to_owned(), policy.guarantee()),
    ];
    let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
    line("target", target(&policy.rule));
    line(
        "threshold",
        policy.threshold().map_or("none".to_owned(), |threshold| {
            format!(
                "uncertainty <= {:.4}; answers {} of the {} questions that it was chosen on, {} of \
                 them incorrect",
                threshold.max_uncertainty,
                threshold.answered,
                threshold.questions,
                threshold.incorrect
            )
        }),
    );
    let map = policy.no_confidence.as_ref().map(|reason| format!("none: {reason}"));
    line("confidence", map.unwrap_or_else(|| "calibrated".to_owned()));
    line("tasks", listed(&tasks(policy)));
    line("fitted on", format!("{} questions", policy.calibration_ids.len()));
    line("copies left out", policy.copies.to_string());
    let split = policy.split;
    line(
        "split",
        format!(
            "seed {}; {:.0} % for the map, {:.0} % for the threshold, {:.0} % held out",
            split.seed,
            100.0 * split.fit,
            100.0 * split.threshold,
            100.0 * split.report
        ),
    );
    line("tries", format!("{} with a guarantee, fitted to these labels", policy.tries));
    line("held out", held_out(policy));
    for (name, value) in policy.fingerprint.fields() {
        line(name, value.to_owned());
    }
    lines
        .iter()
        .map(|(name, value)| wrapped(&format!("{name}: {value}")))
        .collect::<Vec<_>>()
        .join("\n")
}

fn target(rule: &Rule) -> String {
    match rule {
        Rule::SelectiveRisk { alpha, delta, .. } => {
            format!("selective-risk, alpha {alpha}, delta {delta}")
        }
        Rule::JointRisk { alpha, .. } => format!("joint-risk, alpha {alpha}"),
        Rule::TargetCoverage { coverage, .. } => format!("coverage={coverage}"),
        Rule::TargetConfidence { t } => format!("confidence={t}"),
    }
}

/// The tasks of the questions: what their ids begin with.
fn tasks(policy: &PolicyFile) -> Vec<String> {
    let task = |id: &String| id.split(':').next().unwrap_or_default().to_owned();
    let mut tasks: Vec<String> = policy.calibration_ids.iter().map(task).collect();
    tasks.sort_unstable();
    tasks.dedup();
    tasks
}

/// Says which fields differ.
fn check(file: &Path, run: &Path, output: &Output) -> Result<ExitStatus> {
    let policy = read_policy(file)?;
    let manifest = single_run(run)?.manifest;
    let Some(running) = &manifest.fingerprint else {
        return Err(Error::usage(format!(
            "the model of {} is a folder of several files without one digest, so no policy file \
             fits it; use a single file",
            run.display()
        )));
    };
    // A record has the score of every estimator, so the policy's own decides.
    let estimator = policy.fingerprint.estimator.clone();
    let running = Fingerprint { estimator, ..running.clone() };
    let Err(mismatch) = policy.fingerprint.check(&running) else {
        let (file, run) = (file.display(), run.display());
        output.answer(&wrapped(&format!("{file} fits {run}: every field is equal")))?;
        return Ok(ExitStatus::Success);
    };
    for difference in &mismatch.differences {
        output.answer(&wrapped(&format!(
            "{}: the policy has `{}`, the run has `{}`",
            difference.field, difference.calibrated, difference.running
        )))?;
    }
    Ok(ExitStatus::Differs)
}

/// Text as lines of at most 80 columns; all but the first are indented.
fn wrapped(text: &str) -> String {
    let text = sanitize(text).replace('\n', "\\n");
    wrap(&text, WIDTH - INDENT.len()).replace('\n', &format!("\n{INDENT}"))
}
