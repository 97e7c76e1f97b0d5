//! `candor report`: runs as a page, as tables, or as gates for CI.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use super::ExitStatus;
use super::args::read_policy;
use super::output::Output;
use crate::error::{Error, Result};
use crate::eval::runs;
use crate::files;
use crate::report::{
    Gate, GateResult, OtherPolicy, Report as RunsReport, csv, html, junit, markdown,
};

/// Compare runs on one self-contained page.
#[derive(Debug, Args)]
pub struct Report {
    /// Run folders, folders with runs of several strategies, or shards of a run; others are
    /// compared with the first
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file to write; without it, stdout
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the metrics as Markdown tables
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    markdown: bool,
    /// Write the metrics as JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Write the metrics as CSV, one per line
    #[arg(long)]
    csv: bool,
    /// Decide by this policy file in the runs that it was fitted for, on the questions that it was
    /// not fitted on
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Exit with 100 if a metric is worse than a value in any run, in the metric's own
    /// direction; may be given several times
    #[arg(long, value_name = "METRIC=VALUE", value_parser = gate)]
    fail_under: Vec<Gate>,
    /// Write the results of --fail-under as `JUnit` XML
    #[arg(long, value_name = "FILE", requires = "fail_under")]
    junit: Option<PathBuf>,
}

impl Report {
    pub fn run(&self, output: &Output) -> Result<ExitStatus> {
        let is_page = !(self.markdown || self.json || self.csv);
        let only_gates = is_page && self.out.is_none() && !self.fail_under.is_empty();
        if is_page && self.out.is_none() && !only_gates && std::io::stdout().is_terminal() {
            return Err(Error::usage(
                "refusing to print HTML to a terminal; use -o report.html or --markdown",
            ));
        }
        let policy = self.policy.as_deref().map(read_policy).transpose()?;
        let other = self
            .policy
            .as_deref()
            .zip(policy.as_ref())
            .map(|(path, file)| OtherPolicy { path, file });
        let report = RunsReport::new(&runs(&self.runs)?, other)?;
        report.warnings.iter().for_each(|warning| output.warning(warning));
        if !only_gates {
            self.write(&self.text(&report)?, output)?;
        }
        let gated = report.check_gates(&self.fail_under);
        for result in &gated {
            if result.passes() {
                output.note(&super::terminal::sanitize(&result.to_string()));
            } else {
                output.warning(&result.to_string());
            }
        }
        if let Some(path) = &self.junit {
            files::write_atomic(path, junit(&gated).as_bytes()).map_err(|e| Error::io(path, e))?;
        }
        Ok(if gated.iter().all(GateResult::passes) {
            ExitStatus::Success
        } else {
            ExitStatus::GateFailed
        })
    }

    fn text(&self, report: &RunsReport) -> Result<String> {
        if self.markdown {
            Ok(markdown(report))
        } else if self.csv {
            csv(report)
        } else if self.json {
            let text = serde_json::to_string_pretty(report)
                .map_err(|e| Error::Backend(format!("cannot write the metrics as JSON: {e}")))?;
            Ok(format!("{text}\n"))
        } else {
            Ok(html(report))
        }
    }

    fn write(&self, text: &str, output: &Output) -> Result<()> {
        match &self.out {
            None => output.raw(text.as_bytes()),
            Some(path) => {
                files::write_atomic(path, text.as_bytes()).map_err(|e| Error::io(path, e))?;
                output.note(&format!("{}: {} kB", path.display(), text.len().div_ceil(1000)));
                Ok(())
            }
        }
    }
}

fn gate(text: &str) -> std::result::Result<Gate, String> {
    text.parse().map_err(|error: Error| error.to_string())
}
