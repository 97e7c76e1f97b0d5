//! From a file to a model that is ready: weights and tokenizer side by side, and the identity that
//! every output carries.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::format::dtype::Dtype;
use crate::format::gguf_metadata::Metadata;
use crate::generation::SamplingParams;
use crate::machine;
use crate::manifest::{self, ModelManifest, ResolvedModel, SamplingDefaults};
use crate::model::{Device, LoadOptions, Model, WeightSource};
use crate::tokenizer::Tokenizer;

/// A model's identity: the part of it that results depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A known name, a reference or a path.
    pub model: String,
    /// The Hub's commit, if the model came from the Hub.
    pub revision: Option<String>,
    /// SHA-256 of the weight file, lower-case hexadecimal; `None` for a folder of several files.
    pub model_sha256: Option<String>,
    /// The quantization, as in `Q4_K_M`.
    pub quantization: String,
    /// The family in [`crate::model::spec::ARCHITECTURES`].
    pub family: String,
}

/// A model in memory.
pub struct LoadedModel {
    /// The weights.
    pub model: Arc<Model>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its identity.
    pub identity: Identity,
    /// Its manifest, if it is a known model.
    pub manifest: Option<Arc<ModelManifest>>,
    /// Ids of the manifest's stop tokens.
    pub stop_tokens: Vec<u32>,
    /// How its makers recommend to sample it, and who says so.
    pub recommended: Recommended,
}

/// Recommended sampling, and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommended {
    /// The values; absent ones keep their defaults.
    pub sampling: SamplingDefaults,
    /// Where they are from, as in "from `generation_config.json`".
    pub source: &'static str,
}

impl Recommended {
    /// Of a known model its manifest's, else its own files', else temperature 0.7 and top-p 0.95:
    /// at temperature 1 small models scatter too much for a vote.
    ///
    /// # Errors
    /// A file of the model that cannot be read, or a value of another type.
    pub fn new(manifest: Option<&ModelManifest>, source: &WeightSource) -> Result<Self> {
        if let Some(manifest) = manifest {
            let sampling = manifest.sampling.clone();
            return Ok(Self { sampling, source: "candor's manifest" });
        }
        let (sampling, source) = match source {
            WeightSource::Gguf(gguf) => (gguf_sampling(gguf.metadata())?, "the model's file"),
            WeightSource::Safetensors { folder, .. } => {
                (generation_config(&folder.join(GENERATION_CONFIG))?, GENERATION_CONFIG)
            }
        };
        if sampling != SamplingDefaults::default() {
            return Ok(Self { sampling, source });
        }
        let (temperature, top_p) = (Some(0.7), Some(0.95));
        let sampling = SamplingDefaults { temperature, top_p, ..SamplingDefaults::default() };
        Ok(Self { sampling, source: "candor's default, the model's files name none" })
    }
}

const GENERATION_CONFIG: &str = "generation_config.json";

/// The keys that llama.cpp's converter writes from `generation_config.json`.
fn gguf_sampling(metadata: &Metadata) -> Result<SamplingDefaults> {
    Ok(SamplingDefaults {
        temperature: metadata.f32("general.sampling.temp")?,
        top_k: metadata.u32("general.sampling.top_k")?.map(|k| k as usize),
        top_p: metadata.f32("general.sampling.top_p")?,
        min_p: metadata.f32("general.sampling.min_p")?,
        repetition_penalty: metadata.f32("general.sampling.penalty_repeat")?,
    })
}

fn generation_config(path: &Path) -> Result<SamplingDefaults> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(SamplingDefaults::default());
        }
        other => other.map_err(|error| Error::io(path, error))?,
    };
    let bad = |error| Error::invalid_file(path, format!("is invalid: {error}"));
    // Only these keys; the file holds others.
    let mut fields: serde_json::Map<String, Value> = serde_json::from_str(&text).map_err(bad)?;
    let known = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"];
    fields.retain(|key, value| known.contains(&key.as_str()) && !value.is_null());
    serde_json::from_value(Value::Object(fields)).map_err(bad)
}

impl LoadedModel {
    /// The recommended sampling over the defaults.
    pub fn sampling(&self) -> SamplingParams {
        self.recommended.sampling.apply(SamplingParams::default())
    }

    /// Loads the weights and, beside them, the tokenizer. `sha256` is the weight file's digest,
    /// if the caller knows it.
    ///
    /// # Errors
    /// An invalid file; too little memory, with the numbers; a device that cannot be
    /// used.
    pub fn load(
        resolved: &ResolvedModel,
        sha256: Option<String>,
        options: LoadOptions,
    ) -> Result<Self> {
        // The digest identifies a file, whatever its path.
        let known = || {
            manifest::known_models().iter().find(|m| Some(&m.sha256) == sha256.as_ref()).cloned()
        };
        let manifest = resolved.manifest.clone().or_else(known);
        let source = WeightSource::open(&resolved.path)?;
        check_memory(&source, options.device, machine::available_memory())?;
        let (model, tokenizer) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| load_tokenizer(&source));
            let model = Model::load(&source, options);
            (
                model,
                tokenizer.join().unwrap_or_else(|_| {
                    Err(Error::Backend("the tokenizer's thread panicked".into()))
                }),
            )
        });
        let (model, tokenizer) = (model?, tokenizer?);
        let (tokens, rows) = (tokenizer.vocab_size(), model.config().vocab_size);
        if tokens > rows {
            return Err(Error::invalid_file(
                source.path(),
                format!("the tokenizer has {tokens} tokens and the embedding {rows} rows"),
            ));
        }
        let stop_tokens = match &manifest {
            Some(manifest) => stop_tokens(manifest, &tokenizer)?,
            None => Vec::new(),
        };
        let identity = Identity {
            model: resolved.name.clone(),
            revision: resolved.revision.clone(),
            model_sha256: sha256,
            quantization: quantization(&source)?,
            family: model.config().architecture.name.to_owned(),
        };
        let recommended = Recommended::new(manifest.as_deref(), &source)?;
        recommended.sampling.apply(SamplingParams::default()).validate().map_err(|error| {
            Error::invalid_file(source.path(), format!("recommended sampling: {error}"))
        })?;
        Ok(Self {
            recommended,
            model: Arc::new(model),
            tokenizer: Arc::new(tokenizer),
            identity,
            manifest,
            stop_tokens,
        })
    }
}

/// The tokenizer that comes with the weights.
///
/// # Errors
/// An invalid file.
pub fn load_tokenizer(source: &WeightSource) -> Result<Tokenizer> {
    match source {
        WeightSource::Gguf(gguf) => Tokenizer::from_gguf(gguf.metadata()),
        WeightSource::Safetensors { folder, .. } => {
            Tokenizer::from_file(&folder.join("tokenizer.json"))
        }
    }
}

fn stop_tokens(manifest: &ModelManifest, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let id = |text: &String| {
        tokenizer.id(text).ok_or_else(|| {
            Error::usage(format!(
                "the manifest of {} names the stop token `{text}`, which the file lacks",
                manifest.name
            ))
        })
    };
    manifest.stop.iter().map(id).collect()
}

/// The file's own name for its mix of types, else the type that most of its bytes have.
///
/// # Errors
/// A tensor that cannot be read.
pub fn quantization(source: &WeightSource) -> Result<String> {
    let declared = match source {
        WeightSource::Gguf(gguf) => {
            gguf.metadata().u32("general.file_type").ok().flatten().and_then(file_type_name)
        }
        WeightSource::Safetensors { .. } => None,
    };
    Ok(match declared {
        Some(name) => name.to_owned(),
        None => {
            source.dtypes()?.first().map_or("unknown", |(dtype, _)| Dtype::name(*dtype)).to_owned()
        }
    })
}

/// llama.cpp's names of `general.file_type`.
fn file_type_name(number: u32) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        32 => "BF16",
        _ => return None,
    })
}

/// Refuses a model whose weights alone would not fit, before anything is loaded.
fn check_memory(source: &WeightSource, device: Device, available: Option<u64>) -> Result<()> {
    let dense = |dtype: Dtype, bytes: usize| match (device, dtype) {
        // The CPU's own kernels keep half precision as it is; the tensor backend widens it to f32
        // there.
        (Device::Portable, Dtype::F16 | Dtype::BF16) => 2 * bytes as u64,
        _ => bytes as u64,
    };
    let needed: u64 = source.dtypes()?.into_iter().map(|(dtype, bytes)| dense(dtype, bytes)).sum();
    match available {
        Some(available) if needed > available => Err(Error::Resources(format!(
            "{} needs about {} MB for its weights and {} MB are available; close other programs \
             or take a smaller quantization",
            source.path().display(),
            needed >> 20,
            available >> 20
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_refused_with_the_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let header = br#"{"w":{"dtype":"F32","shape":[1048576],"data_offsets":[0,4194304]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header);
        bytes.resize(bytes.len() + 4_194_304, 0);
        std::fs::write(&path, bytes).unwrap();
        let source = WeightSource::open(&path).unwrap();
        let error = check_memory(&source, Device::Cpu(None), Some(1 << 20)).unwrap_err();
        assert!(
            error.is_resources()
                && error.to_string().contains("about 4 MB for its weights and 1 MB are available"),
            "{error}"
        );
        assert!(
            check_memory(&source, Device::Cpu(None), Some(8 << 20)).is_ok()
                && check_memory(&source, Device::Cpu(None), None).is_ok()
        );
    }
}
