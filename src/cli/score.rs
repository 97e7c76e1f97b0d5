//! `candor score`: votes, scores and figures again from stored samples, without the model.

use std::path::PathBuf;

use clap::Args;

use super::figures::{self, Report};
use super::output::Output;
use crate::error::{Error, Result};
use crate::eval::rescore;

/// Make votes, scores and figures of runs again from their stored samples.
#[derive(Debug, Args)]
pub struct Score {
    /// Run folders
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Score {
    pub fn run(&self, output: &Output) -> Result<()> {
        show(&self.runs, self.json, output)
    }
}

/// Prints the figures of runs.
pub fn show(runs: &[PathBuf], json: bool, output: &Output) -> Result<()> {
    let mut reports = Vec::new();
    for run in runs {
        let (manifest, scored) = rescore(run)?;
        let report = Report::new(run, manifest, &scored);
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
