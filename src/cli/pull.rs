//! `candor pull`: fetch a model and check it.

use clap::Args;

use super::args::SourceArgs;
use super::output::Output;
use super::progress::Bars;
use crate::error::Result;
use crate::hub;
use crate::manifest::DEFAULT_MODEL;

/// Fetch a model and check it.
#[derive(Debug, Args)]
pub struct Pull {
    /// A known name, or user/repo[:QUANT or file][@revision]
    #[arg(default_value = DEFAULT_MODEL)]
    model: String,
    #[command(flatten)]
    source: SourceArgs,
}

impl Pull {
    pub fn run(&self, output: &Output) -> Result<()> {
        let options = hub::HubOptions { refresh: true, ..self.source.hub() };
        let resolved = hub::resolve(&self.model, &options, &mut Bars::new(output))?;
        if let Some(manifest) = &resolved.manifest {
            output
                .detail(&format!("{}: {}, {}", manifest.name, manifest.summary, manifest.license));
        }
        output.answer(&resolved.path.display().to_string())
    }
}
