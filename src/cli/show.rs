//! `candor show`: a model's metadata.

use clap::Args;

use super::args::ModelArgs;
use super::output::Output;
use crate::error::Result;
use crate::generation::SamplingParams;
use crate::hub::format_bytes;
use crate::model::WeightSource;
use crate::pipeline::{Recommended, load_tokenizer, quantization};
use crate::prompt::ChatTemplate;

/// Show a model's metadata.
#[derive(Debug, Args)]
pub struct Show {
    /// A known name, a path, or user/repo[:QUANT or file][@revision]
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    reference: Option<String>,
    /// Print the chat template too
    #[arg(long)]
    template: bool,
    #[command(flatten)]
    model: ModelArgs,
}

impl Show {
    pub fn run(mut self, output: &Output) -> Result<()> {
        if let Some(reference) = self.reference.take() {
            self.model.model = reference;
        }
        let resolved = self.model.resolve(output)?;
        let source = WeightSource::open(&resolved.path)?;
        let spec = source.config()?;
        let tokenizer = load_tokenizer(&source)?;
        let line = |name: &str, value: String| output.answer(&format!("{name:<16}{value}"));
        line("name", resolved.name.clone())?;
        if let Some(manifest) = &resolved.manifest {
            line("about", manifest.summary.clone())?;
            line("license", manifest.license.clone())?;
        }
        line("path", resolved.path.display().to_string())?;
        if let Some(revision) = &resolved.revision {
            line("revision", revision.clone())?;
        }
        if let Some(sha256) = &resolved.sha256 {
            line("sha256", sha256.clone())?;
        }
        line("architecture", spec.architecture.name.to_owned())?;
        line("quantization", quantization(&source)?)?;
        let types: Vec<String> = source
            .dtypes()?
            .into_iter()
            .map(|(dtype, bytes)| format!("{} {}", dtype.name(), format_bytes(bytes as u64)))
            .collect();
        line("weights", types.join(", "))?;
        let kv = spec.num_key_value_heads;
        line(
            "layers",
            format!(
                "{} of width {}, mlp {}",
                spec.layers.len(),
                spec.hidden_size,
                spec.intermediate_size
            ),
        )?;
        line(
            "heads",
            format!("{} of {}, {kv} for keys and values", spec.num_attention_heads, spec.head_dim),
        )?;
        if let Some(window) = spec.layers.iter().find_map(|layer| layer.window) {
            let sliding = spec.layers.iter().filter(|layer| layer.window.is_some()).count();
            line(
                "window",
                format!("{window} tokens in {sliding} of {} layers", spec.layers.len()),
            )?;
        }
        line("context", format!("{} tokens", spec.max_position_embeddings))?;
        line("vocabulary", format!("{} tokens, {} rows", tokenizer.vocab_size(), spec.vocab_size))?;
        let ends: Vec<_> = tokenizer
            .end_tokens()
            .iter()
            .map(|&id| format!("{id} {}", tokenizer.token(id).unwrap_or("?")))
            .collect();
        line("end tokens", ends.join(", "))?;
        let recommended = Recommended::new(resolved.manifest.as_deref(), &source)?;
        let params = recommended.sampling.apply(SamplingParams::default());
        line("sampling", format!("{} ({})", params.summary(), recommended.source))?;
        tokenizer.notes().iter().try_for_each(|note| line("note", note.clone()))?;
        match tokenizer.chat_template().zip(tokenizer.chat_template_file()) {
            None => line("chat template", "none: a base model; ask it with --raw".to_owned()),
            Some((source, file)) => {
                line(
                    "chat template",
                    format!("sha256 {}", ChatTemplate::from_file(source, file)?.sha256()),
                )?;
                if self.template { output.answer(source) } else { Ok(()) }
            }
        }
    }
}
