//! `candor ls`: list cached models, and those that could be pulled.

use clap::Args;
use serde_json::json;

use super::args::SourceArgs;
use super::output::Output;
use crate::error::Result;
use crate::hub::{self, format_bytes};
use crate::manifest;

/// List cached models.
#[derive(Debug, Args)]
pub struct Ls {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

impl Ls {
    pub fn run(&self, output: &Output) -> Result<()> {
        let models = hub::list(&self.source.hub());
        if self.json {
            let rows: Vec<_> = models
                .iter()
                .map(|m| json!({"name": m.name, "size_bytes": m.size, "location": m.location.to_string(), "revision": m.revision, "path": m.path}))
                .collect();
            return output.raw(format!("{:#}\n", json!(rows)).as_bytes());
        }
        let width = models.iter().map(|m| m.name.chars().count()).max().unwrap_or(0);
        for model in &models {
            output.answer(&format!(
                "{:<width$}  {:>9}  {}",
                model.name,
                format_bytes(model.size),
                model.location
            ))?;
        }
        let missing: Vec<_> = manifest::known_models()
            .iter()
            .filter(|known| models.iter().all(|m| m.name != known.name))
            .collect();
        for known in missing {
            output.note(&format!(
                "not cached: {} ({}, {}); candor pull {0}",
                known.name,
                known.summary,
                format_bytes(known.size)
            ));
        }
        Ok(())
    }
}
