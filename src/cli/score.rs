//! `candor score`: votes, scores and figures again from stored samples, without the model.

use std::path::PathBuf;

use clap::Args;

use super::figures::{self, Report};
use super::output::Output;
use crate::error::{Error, Result};
use crate::eval::{FoundRun, runs};

/// Make votes, scores and figures of runs again from their stored samples.
#[derive(Debug, Args)]
pub struct Score {
    /// Run folders, folders with runs of several strategies, or shards of a run
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Score {
    pub fn run(&self, output: &Output) -> Result<()> {
        show(&runs(&self.runs)?, self.json, output)
    }
}

/// Prints the figures of runs.
pub fn show(runs: &[FoundRun], json: bool, output: &Output) -> Result<()> {
    let mut reports = Vec::new();
    for run in runs {
        let report = Report::new(run, &run.rescore()?);
        report.warnings().iter().for_each(|warning| output.warning(warning));
        reports.push(report);
    }
    if json {
        let text = figures::json(&reports).map_err(|e| Error::Backend(format!("the figures are no JSON: {e}")))?;
        return output.raw(format!("{text}\n").as_bytes());
    }
    let tables: Vec<String> = reports.iter().map(Report::table).collect();
    output.answer(&tables.join("\n\n"))
}
