//! A source of weights: GGUF and safetensors files give the same tensors under the same names in
//! the same layout.
//!
//! Names are Hugging Face's. Differences between the formats are removed here: GGUF's permuted
//! query and key rows, and the unit offset of norms in safetensors files.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::config::RawConfig;
use super::spec::{Architecture, ModelConfig};
use crate::error::{Error, Result};
use crate::format::dtype::{Dtype, RawTensor};
use crate::format::gguf::Gguf;
use crate::format::safetensors::SafeTensorFiles;

/// An open model file or folder.
pub enum WeightSource {
    /// One GGUF file.
    Gguf(Gguf),
    /// A folder with `config.json` and one or more safetensors files.
    Safetensors {
        /// The tensors.
        files: SafeTensorFiles,
        /// The folder.
        folder: PathBuf,
    },
}

impl WeightSource {
    /// Opens a `.gguf` file, a `.safetensors` file beside its `config.json`, or a folder with both.
    ///
    /// # Errors
    /// The path, and what is missing or unsupported.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() && has_gguf_magic(path)? {
            return Ok(Self::Gguf(Gguf::open(path)?));
        }
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        let known =
            path.is_dir() || path.extension().is_some_and(|e| e == "safetensors" || e == "json");
        if !path.exists() {
            return Err(Error::usage(format!(
                "{}: no such file; give a path to a GGUF file or to a folder with safetensors \
                 files",
                path.display()
            )));
        }
        if !known && path.extension().is_some_and(|e| e == "gguf") {
            // Its own error names what is wrong with the header.
            return Ok(Self::Gguf(Gguf::open(path)?));
        }
        Ok(Self::Safetensors { files: SafeTensorFiles::open(path)?, folder: folder.to_path_buf() })
    }

    /// The file or folder, for messages.
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(gguf) => gguf.path(),
            Self::Safetensors { folder, .. } => folder,
        }
    }

    /// The hyper-parameters.
    ///
    /// # Errors
    /// An invalid file.
    pub fn raw_config(&self) -> Result<RawConfig> {
        match self {
            Self::Gguf(gguf) => RawConfig::from_gguf(gguf),
            Self::Safetensors { folder, .. } => RawConfig::from_file(&folder.join("config.json")),
        }
    }

    /// The resolved hyper-parameters, checked against the tensors of the file.
    ///
    /// # Errors
    /// An invalid file, with a list of the mismatches.
    pub fn config(&self) -> Result<ModelConfig> {
        let raw = self.raw_config()?;
        let mut config = ModelConfig::resolve(&raw)
            .map_err(|reason| Error::invalid_file(self.path(), reason))?;
        config.check(self.path(), |name| {
            self.stored(config.architecture, name).ok().map(|raw| raw.shape)
        })?;
        self.check_nothing_is_left(&config)?;
        if let Self::Gguf(gguf) = self
            && gguf.contains("rope_freqs.weight")
        {
            let raw = gguf.tensor("rope_freqs.weight")?;
            let factors = dense_f32(&raw).map_err(|reason| {
                Error::invalid_file(self.path(), format!("rope_freqs.weight: {reason}"))
            })?;
            config.ropes[0]
                .divide(&factors)
                .map_err(|reason| Error::invalid_file(self.path(), reason))?;
        }
        Ok(config)
    }

    /// Refuses a file with weights that the model would not use, because a bias that is left out
    /// changes every answer silently.
    fn check_nothing_is_left(&self, config: &ModelConfig) -> Result<()> {
        let tensors = config.tensors();
        let (stored, used): (Vec<&str>, HashSet<String>) = match self {
            Self::Gguf(gguf) => (
                gguf.tensor_names().filter(|name| *name != "rope_freqs.weight").collect(),
                tensors
                    .iter()
                    .filter_map(|tensor| config.architecture.gguf_name(&tensor.name))
                    .collect(),
            ),
            Self::Safetensors { files, .. } => (
                files
                    .tensor_names()
                    .filter(|name| !is_unused(name, config.tie_word_embeddings))
                    .collect(),
                tensors.into_iter().map(|tensor| tensor.name).collect(),
            ),
        };
        let left: Vec<&str> = stored.into_iter().filter(|name| !used.contains(*name)).collect();
        if left.is_empty() {
            return Ok(());
        }
        let shown = left.iter().take(4).copied().collect::<Vec<_>>().join(", ");
        let more =
            if left.len() > 4 { format!(" and {} more", left.len() - 4) } else { String::new() };
        let (architecture, layers) = (config.architecture.name, config.layers.len());
        Err(Error::invalid_file(
            self.path(),
            format!(
                "a {architecture} model of {layers} layers does not use {shown}{more}; the file is of \
                 another architecture, or damaged"
            ),
        ))
    }

    /// The tensor `name` in Hugging Face's layout.
    ///
    /// # Errors
    /// A tensor that is missing or of a type that cannot be rearranged.
    pub fn get(&self, config: &ModelConfig, name: &str) -> Result<RawTensor<'_>> {
        let raw = self.stored(config.architecture, name)?;
        let fault =
            |reason: String| Error::invalid_file(self.path(), format!("tensor {name}: {reason}"));
        let arranged = match self {
            Self::Gguf(_)
                if config.architecture.gguf_permuted_qk && name.contains("self_attn.q_proj") =>
            {
                deinterleave(&raw, config.num_attention_heads, config.head_dim)
            }
            Self::Gguf(_)
                if config.architecture.gguf_permuted_qk && name.contains("self_attn.k_proj") =>
            {
                deinterleave(&raw, config.num_key_value_heads, config.head_dim)
            }
            Self::Safetensors { .. }
                if config.architecture.norm_unit_offset && name.contains("norm.weight") =>
            {
                plus_one(&raw)
            }
            _ => return Ok(raw),
        };
        // From here on only the copy is read.
        self.release(&raw.bytes);
        arranged.map_err(fault)
    }

    /// Releases the file's memory pages under `bytes`, a part of a tensor of this source: a hint,
    /// after their last use.
    pub fn release(&self, bytes: &[u8]) {
        match self {
            Self::Gguf(gguf) => gguf.release(bytes),
            Self::Safetensors { files, .. } => files.release(bytes),
        }
    }

    /// Releases all memory pages.
    pub fn release_all(&self) {
        match self {
            Self::Gguf(gguf) => gguf.release_all(),
            Self::Safetensors { files, .. } => files.release_all(),
        }
    }

    fn stored(&self, architecture: &Architecture, name: &str) -> Result<RawTensor<'_>> {
        match self {
            Self::Gguf(gguf) => {
                let stored = architecture.gguf_name(name).ok_or_else(|| {
                    Error::invalid_file(self.path(), format!("no GGUF name for {name}"))
                })?;
                gguf.tensor(&stored)
            }
            Self::Safetensors { files, .. } => files.tensor(name),
        }
    }

    /// The number of stored tensors, and one line for each with an implausible weight (NaN,
    /// infinite or huge). Reads every byte.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn defects(&self) -> Result<(usize, Vec<String>)> {
        let (mut tensors, mut defects) = (0, Vec::new());
        self.each(&mut |name, raw| {
            tensors += 1;
            defects.extend(raw.defect().map(|defect| format!("tensor {name}: {defect}")));
        })?;
        Ok((tensors, defects))
    }

    fn each(&self, visit: &mut dyn FnMut(&str, RawTensor<'_>)) -> Result<()> {
        match self {
            Self::Gguf(gguf) => gguf
                .tensor_names()
                .try_for_each(|name| gguf.tensor(name).map(|raw| visit(name, raw))),
            Self::Safetensors { files, .. } => files
                .tensor_names()
                .try_for_each(|name| files.tensor(name).map(|raw| visit(name, raw))),
        }
    }

    /// The types of the stored tensors and the bytes of each, largest first.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn dtypes(&self) -> Result<Vec<(Dtype, usize)>> {
        let mut bytes: Vec<(Dtype, usize)> = Vec::new();
        self.each(&mut |_, raw| match bytes.iter_mut().find(|(dtype, _)| *dtype == raw.dtype) {
            Some((_, total)) => *total += raw.bytes.len(),
            None => bytes.push((raw.dtype, raw.bytes.len())),
        })?;
        bytes.sort_by_key(|&(_, total)| std::cmp::Reverse(total));
        Ok(bytes)
    }
}

/// Whether a safetensors file may have this tensor although the model does not use it: buffers that
/// older versions of transformers stored, and the head of a model that ties it to the embedding.
fn is_unused(name: &str, tied: bool) -> bool {
    const BUFFERS: [&str; 5] = [
        "rotary_emb.inv_freq",
        "rotary_emb.cos_cached",
        "rotary_emb.sin_cached",
        "attn.masked_bias",
        "attn.bias",
    ];
    (tied && name == "lm_head.weight") || BUFFERS.iter().any(|buffer| name.ends_with(buffer))
}

fn has_gguf_magic(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut magic = [0; 4];
    Ok(file.read_exact(&mut magic).is_ok() && &magic == b"GGUF")
}

/// The values of a dense tensor.
fn dense_f32(raw: &RawTensor<'_>) -> std::result::Result<Vec<f32>, String> {
    raw.to_f32()
        .ok_or_else(|| format!("type {} where F32, F16 or BF16 is needed", raw.dtype.name()))
}

fn plus_one(raw: &RawTensor<'_>) -> std::result::Result<RawTensor<'static>, String> {
    let bytes: Vec<u8> =
        dense_f32(raw)?.into_iter().flat_map(|w| (w + 1.0).to_le_bytes()).collect();
    Ok(RawTensor { dtype: Dtype::F32, shape: raw.shape.clone(), bytes: Cow::Owned(bytes) })
}

/// Undoes the row order of llama.cpp's converter, which pairs rotary dimension i with i + 1 where
/// Hugging Face pairs it with i + d / 2 (d is the head's size): row 2i + j of a head moves to row j
/// * d / 2 + i. A row is a whole number of blocks, so its bytes can be moved.
fn deinterleave(
    raw: &RawTensor<'_>,
    heads: usize,
    head_dim: usize,
) -> std::result::Result<RawTensor<'static>, String> {
    let rows = heads * head_dim;
    if raw.shape.first() != Some(&rows) || !raw.bytes.len().is_multiple_of(rows) {
        return Err(format!(
            "shape {:?} does not split into {heads} heads of {head_dim}",
            raw.shape
        ));
    }
    let row_bytes = raw.bytes.len() / rows;
    let mut bytes = Vec::with_capacity(raw.bytes.len());
    for row in 0..rows {
        let (head, within) = (row / head_dim, row % head_dim);
        let (j, i) = (within / (head_dim / 2), within % (head_dim / 2));
        let from = (head * head_dim + 2 * i + j) * row_bytes;
        bytes.extend_from_slice(&raw.bytes[from..from + row_bytes]);
    }
    Ok(RawTensor { dtype: raw.dtype, shape: raw.shape.clone(), bytes: Cow::Owned(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deinterleaving_undoes_the_converter() {
        // Two heads of four rows of one byte; the converter stores rows 0, 2, 1, 3 of each head.
        let stored = RawTensor {
            dtype: Dtype::F32,
            shape: vec![8],
            bytes: Cow::Owned(vec![0, 2, 1, 3, 4, 6, 5, 7]),
        };
        assert_eq!(deinterleave(&stored, 2, 4).unwrap().bytes.as_ref(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(
            deinterleave(&stored, 3, 4).unwrap_err().contains("does not split into 3 heads of 4")
        );
    }
}
