//! `candor verify`: hash a cached model again, compare, and look at every weight.

use clap::Args;

use super::args::SourceArgs;
use super::output::Output;
use super::progress::Bars;
use crate::error::{Error, Result};
use crate::hub;
use crate::manifest::DEFAULT_MODEL;
use crate::model::WeightSource;

/// Hash a cached model again and compare; look for NaN or infinite weights.
#[derive(Debug, Args)]
pub struct Verify {
    /// A known name, a path, or user/repo[:QUANT or file][@revision]
    #[arg(default_value = DEFAULT_MODEL)]
    model: String,
    #[command(flatten)]
    source: SourceArgs,
}

impl Verify {
    pub fn run(&self, output: &Output) -> Result<()> {
        let options = self.source.hub();
        let model = hub::find(&self.model, &options)?;
        for file in hub::verify(&model, &options, &mut Bars::new(output))? {
            let verdict =
                if file.compared { "as recorded" } else { "nothing recorded to compare with" };
            output.answer(&format!("{}  {}  {verdict}", file.digest, file.path.display()))?;
        }
        let source = WeightSource::open(&model.path)?;
        source.config()?;
        let (tensors, defects) = source.defects()?;
        if !defects.is_empty() {
            return Err(Error::invalid_file(model.path, defects.join("; ")));
        }
        output.answer(&format!("{tensors} tensors, every weight a finite number"))
    }
}
