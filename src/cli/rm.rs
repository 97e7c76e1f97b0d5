//! `candor rm`: delete a cached model.

use clap::Args;

use super::args::SourceArgs;
use super::output::Output;
use crate::error::Result;
use crate::hub::{self, format_bytes};

/// Delete a cached model.
#[derive(Debug, Args)]
pub struct Rm {
    /// A name that `candor ls` lists
    model: String,
    #[command(flatten)]
    source: SourceArgs,
}

impl Rm {
    pub fn run(&self, output: &Output) -> Result<()> {
        let options = self.source.hub();
        let freed = hub::remove(&hub::find(&self.model, &options)?, &options)?;
        output.note(&format!("removed {}: {} freed", self.model, format_bytes(freed)));
        Ok(())
    }
}
