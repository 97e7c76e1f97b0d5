//! `candor reproduce`: asks questions of a run again and compares the records.

use std::path::PathBuf;

use clap::Args;

use super::ExitStatus;
use super::args::{ComputeArgs, EngineArgs, ModelArgs, SourceArgs, bound};
use super::output::Output;
use super::progress::Steps;
use crate::error::{Error, Result};
use crate::eval::{Reproduction, reproduce, single_run};
use crate::uncertainty;

/// Differing records that are printed.
const PRINTED: usize = 10;

/// Ask questions of a run again, with its model and configuration, and compare the records; exit
/// with 1 if one differs in anything but time.
#[derive(Debug, Args)]
pub struct Reproduce {
    /// The run folder
    run: PathBuf,
    /// The model, if it is no longer where the run found it; its SHA-256 must be the run's
    #[arg(short, long)]
    model: Option<String>,
    /// Ask the first N questions
    #[arg(long, default_value_t = 8, value_name = "N")]
    limit: usize,
    /// Ask all questions
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

impl Reproduce {
    pub fn run(self, output: &Output) -> Result<ExitStatus> {
        let run = single_run(&self.run)?;
        let config = &run.manifest.config;
        let model = self.model.unwrap_or_else(|| config.identity.model.clone());
        let model = ModelArgs { model, source: self.source, compute: self.compute };
        let loaded = model.load(output)?;
        let (was, is) = (&config.identity.model_sha256, &loaded.identity.model_sha256);
        if was != is {
            let text = |digest: &Option<String>| digest.clone().unwrap_or_else(|| "none".into());
            return Err(Error::usage(format!(
                "{} is another model than the run's: its SHA-256 is {} and was {}; name the run's \
                 with --model",
                model.model,
                text(is),
                text(was)
            )));
        }
        // A policy file names its estimators itself.
        let estimator = match &run.manifest.policy {
            Some(_) => None,
            None => Some(uncertainty::estimator(&run.manifest.estimator)?),
        };
        let policy = run.manifest.policy.clone().map(|file| (self.run.as_path(), file));
        let options = self.engine.options(Some(config.context))?;
        let settings = config.settings(estimator);
        let mut pipeline = bound(settings, options, policy, &loaded, &model.source.hub())?;
        let limit = if self.all { usize::MAX } else { self.limit };
        let mut steps: Option<Steps<'_>> = None;
        let Reproduction { changes, records } =
            reproduce(&mut pipeline, &run, limit, &mut |done, total| {
                let steps =
                    steps.get_or_insert_with(|| Steps::new(output, "reproduce", 0, total as u64));
                steps.update(done as u64);
            })?;
        if let Some(steps) = &mut steps {
            steps.finish();
        }
        for change in &changes {
            output.warning(&format!("not as in the run: {change}"));
        }
        let differing =
            records.iter().filter_map(|(id, difference)| Some((id, difference.as_ref()?)));
        let equal = records.len() - differing.clone().count();
        output.answer(&format!(
            "{equal} of {} records are equal, except for their timing",
            records.len()
        ))?;
        for (id, difference) in differing.take(PRINTED) {
            output.answer(&format!("{id}: {difference}"))?;
        }
        Ok(if equal == records.len() { ExitStatus::Success } else { ExitStatus::Differs })
    }
}
