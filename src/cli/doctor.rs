//! `candor doctor`: what this machine can run.

use clap::Args;

use super::args::SourceArgs;
use super::output::Output;
use crate::error::Result;
use crate::hub::{self, format_bytes};
use crate::machine;
use crate::manifest;

/// Show what this machine can run.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    source: SourceArgs,
}

impl Doctor {
    pub fn run(&self, output: &Output) -> Result<()> {
        let line = |name: &str, value: &str| output.answer(&format!("{name:<30}{value}"));
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), format_bytes);
        line("candor", env!("CARGO_PKG_VERSION"))?;
        line("cpu", &machine::cpu_name())?;
        line("features", &machine::cpu_features().join(" "))?;
        line("threads", &crate::model::cpu::physical_cores().to_string())?;
        line("memory", &format!("{} available", size(machine::available_memory())))?;
        for (name, built) in [("cuda", cfg!(feature = "cuda")), ("metal", cfg!(feature = "metal"))]
        {
            line(name, if built { "built in" } else { "not in this build" })?;
        }
        let options = self.source.hub();
        let folder = |path: &Option<std::path::PathBuf>| {
            path.as_ref().map_or("none: set HOME".to_owned(), |p| p.display().to_string())
        };
        line("models", &folder(&options.home))?;
        line("hub cache", &folder(&options.hub_cache))?;
        line("hub", if options.offline { "offline" } else { &options.endpoint })?;
        let cached = hub::list(&options);
        for known in manifest::known_models() {
            let here =
                cached.iter().any(|m| m.manifest.as_ref().is_some_and(|m| m.name == known.name));
            let fits =
                machine::available_memory().is_none_or(|available| known.size * 2 < available);
            let state = match (here, fits) {
                (true, true) => "cached",
                (false, true) => "can be pulled",
                (_, false) => "too large for the memory available",
            };
            line(&known.name, &format!("{}, {state}", format_bytes(known.size)))?;
        }
        Ok(())
    }
}
