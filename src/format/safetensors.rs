//! Weights in safetensors files: one file, shards under an index, or a Hugging Face folder.
//!
//! The format's rules (no hole, no overlap, sizes that match shapes, offsets that end with the
//! file) are checked by the `safetensors` crate on a memory map; its errors are passed on with the
//! file's name. Checked here in addition: tensors listed twice, sums of offsets that overflow, a
//! header that does not start with `{`. An index is untrusted text: the shards it names must be
//! plain file names in its folder. Pickle files are refused, since unpickling runs code. Knows
//! nothing of what a tensor means.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype as Stored, Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};

use super::dtype::{Dtype, RawTensor};
use super::gguf_metadata::quoted;
use super::mmap::MappedFile;
use crate::error::{Error, Result};

/// Hugging Face's name for the file of a small model.
const SINGLE: &str = "model.safetensors";
/// Hugging Face's name for the index of a sharded model.
const INDEX: &str = "model.safetensors.index.json";
/// Longest header in bytes, from the `safetensors` crate.
const MAX_HEADER_BYTES: usize = 100_000_000;
/// Longest index file in bytes; an index of 100,000 tensors takes about 10 MB.
const MAX_INDEX_BYTES: usize = 64 << 20;
/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// One mapped file.
#[derive(Debug)]
struct File {
    path: PathBuf,
    map: MappedFile,
}

/// One tensor: its file, type, shape and byte range.
#[derive(Debug)]
struct Info {
    file: usize,
    dtype: Stored,
    shape: Vec<usize>,
    data: Range<usize>,
}

/// The tensors of a model in one or more open safetensors files.
#[derive(Debug)]
pub struct SafeTensorFiles {
    path: PathBuf,
    files: Vec<File>,
    tensors: BTreeMap<String, Info>,
}

impl SafeTensorFiles {
    /// Opens a `.safetensors` file, a `.safetensors.index.json` with its shards, or a folder with
    /// either. Headers are read and checked, tensor data is not. Errors: [`Error::Io`],
    /// [`Error::InvalidFile`].
    pub fn open(path: &Path) -> Result<Self> {
        let text = path.to_string_lossy();
        if path.is_dir() {
            Self::open_folder(path)
        } else if text.ends_with(".index.json") {
            Self::open_index(path)
        } else {
            refuse_pickle(path)?;
            let mut all = Self::empty(path);
            let tensors = all.add(path)?;
            all.tensors = tensors;
            Ok(all)
        }
    }

    fn empty(path: &Path) -> Self {
        Self { path: path.to_path_buf(), files: Vec::new(), tensors: BTreeMap::new() }
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        for (name, open) in
            [(SINGLE, Self::open as fn(&Path) -> Result<Self>), (INDEX, Self::open_index)]
        {
            let path = folder.join(name);
            if path.exists() {
                return open(&path);
            }
        }
        let entries = std::fs::read_dir(folder).map_err(|source| Error::io(folder, source))?;
        let files: Vec<PathBuf> =
            entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        if let Some(pickle) = files.iter().find(|file| is_pickle(file)) {
            refuse_pickle(pickle)?;
        }
        Err(Error::invalid_file(folder, format!("the folder has neither {SINGLE} nor {INDEX}")))
    }

    /// Opens every shard that the index names and takes from each the tensors that the index
    /// assigns to it.
    fn open_index(path: &Path) -> Result<Self> {
        let mut all = Self::empty(path);
        let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (tensor, shard) in read_index(path)? {
            shards.entry(shard).or_default().push(tensor);
        }
        for (shard, names) in shards {
            check_shard_name(&shard).map_err(|reason| Error::invalid_file(path, reason))?;
            let file = path.with_file_name(&shard);
            if !file.exists() {
                return Err(Error::invalid_file(
                    path,
                    format!("shard {} is missing from the folder", quoted(&shard)),
                ));
            }
            let mut found = all.add(&file)?;
            for name in names {
                let missing = || {
                    format!(
                        "tensor {} is missing from shard {}, where the index places it",
                        quoted(&name),
                        quoted(&shard)
                    )
                };
                let info =
                    found.remove(&name).ok_or_else(|| Error::invalid_file(path, missing()))?;
                all.tensors.insert(name, info);
            }
        }
        Ok(all)
    }

    /// Releases the memory pages under `bytes`, a part of a tensor of these files: a hint, after
    /// their last use.
    pub fn release(&self, bytes: &[u8]) {
        self.files.iter().for_each(|file| file.map.release(bytes));
    }

    /// Releases all memory pages.
    pub fn release_all(&self) {
        self.files.iter().for_each(|file| file.map.release(&file.map));
    }

    /// Maps one more file and returns its tensors.
    fn add(&mut self, path: &Path) -> Result<BTreeMap<String, Info>> {
        let map = MappedFile::open(path)?;
        let tensors = read_header(&map, self.files.len()).map_err(|reason| {
            Error::invalid_file(path, format!("invalid safetensors: {reason}"))
        })?;
        self.files.push(File { path: path.to_path_buf(), map });
        Ok(tensors)
    }

    /// The file or index that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that hold tensors: one, or the shards in order of name.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Length of all files together in bytes.
    pub fn file_len(&self) -> usize {
        self.files.iter().map(|file| file.map.len()).sum()
    }

    /// Names of all tensors, in order of name.
    pub fn tensor_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor `name`, borrowed from the map; its bytes are read on first use.
    /// [`Error::InvalidFile`] if there is none or its type is not F32, F16 or BF16.
    pub fn tensor(&self, name: &str) -> Result<RawTensor<'_>> {
        let missing = || {
            format!("tensor {} is missing; there are {} others", quoted(name), self.tensors.len())
        };
        let info =
            self.tensors.get(name).ok_or_else(|| Error::invalid_file(&self.path, missing()))?;
        let file =
            self.files.get(info.file).ok_or_else(|| Error::invalid_file(&self.path, missing()))?;
        let dtype = match info.dtype {
            Stored::F32 => Dtype::F32,
            Stored::F16 => Dtype::F16,
            Stored::BF16 => Dtype::BF16,
            other => {
                let reason = format!(
                    "tensor {} is of type {other}; candor reads F32, F16 and BF16 from safetensors",
                    quoted(name)
                );
                return Err(Error::invalid_file(&file.path, reason));
            }
        };
        let bytes = file.map.get(info.data.clone()).unwrap_or_default();
        Ok(RawTensor { dtype, shape: info.shape.clone(), bytes: Cow::Borrowed(bytes) })
    }
}

/// A JSON object as its pairs, in order, without the free text under `__metadata__`. A duplicate
/// key is an error; a map would silently keep one of the two.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: DeserializeOwned> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<V>(PhantomData<V>);
        impl<'de, V: DeserializeOwned> Visitor<'de> for Object<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let named = |error| A::Error::custom(format!("{}: {error}", quoted(&key)));
                    if key == "__metadata__" {
                        map.next_value::<BTreeMap<String, String>>().map_err(named)?;
                    } else {
                        let value = map.next_value().map_err(named)?;
                        pairs.push((key, value));
                    }
                }
                let mut keys: Vec<&String> = pairs.iter().map(|(key, _)| key).collect();
                keys.sort();
                match keys.array_windows().find(|[a, b]| a == b) {
                    Some([twice, _]) => {
                        Err(A::Error::custom(format!("{} occurs twice", quoted(twice))))
                    }
                    None => Ok(Pairs(pairs)),
                }
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// The tensors that a file's header lists, with ranges that lie inside the file.
fn read_header(bytes: &[u8], file: usize) -> Result<BTreeMap<String, Info>, String> {
    let length = bytes.first_chunk::<LENGTH_BYTES>().map(|length| u64::from_le_bytes(*length));
    let length = length.ok_or_else(|| {
        format!(
            "the file is {} bytes long, the header's length alone needs {LENGTH_BYTES}",
            bytes.len()
        )
    })?;
    let left = bytes.len() - LENGTH_BYTES;
    let size = usize::try_from(length).ok().filter(|&size| size <= MAX_HEADER_BYTES.min(left));
    let size = size.ok_or_else(|| {
        format!(
            "header length is {length}, the limit is {MAX_HEADER_BYTES} \
                                    and {left} bytes are left in the file"
        )
    })?;
    let start = LENGTH_BYTES + size;
    let header = bytes.get(LENGTH_BYTES..start).unwrap_or_default();
    if header.first() != Some(&b'{') {
        return Err("the header does not start with `{`".into());
    }
    let Pairs(mut listed) = serde_json::from_slice::<Pairs<TensorInfo>>(header)
        .map_err(|error| format!("header: {error}"))?;
    listed.sort_by_key(|(_, info)| info.data_offsets);
    let checked = Metadata::new(None, listed.clone()).map_err(|error| error.to_string())?;
    let (end, data) = (checked.data_len(), bytes.len() - start);
    if end != data {
        return Err(format!("the tensors end at data offset {end}, the file at {data}"));
    }
    let place = |info: TensorInfo| {
        let (first, last) = info.data_offsets;
        Info { file, dtype: info.dtype, shape: info.shape, data: start + first..start + last }
    };
    Ok(listed.into_iter().map(|(name, info)| (name, place(info))).collect())
}

/// The pairs (tensor, shard) of an index file.
fn read_index(path: &Path) -> Result<Vec<(String, String)>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Pairs<String>,
    }
    let map = MappedFile::open(path)?;
    if map.len() > MAX_INDEX_BYTES {
        return Err(Error::invalid_file(
            path,
            format!("the index is {} bytes long, the limit is {MAX_INDEX_BYTES}", map.len()),
        ));
    }
    let index: Index = serde_json::from_slice(&map)
        .map_err(|error| Error::invalid_file(path, format!("invalid index: {error}")))?;
    if index.weight_map.0.is_empty() {
        return Err(Error::invalid_file(path, "invalid index: weight_map is empty"));
    }
    Ok(index.weight_map.0)
}

/// A shard is a plain file name that ends in `.safetensors`: no folder, no drive, no `..`, no
/// control character.
fn check_shard_name(name: &str) -> Result<(), String> {
    let hostile =
        name.contains(['/', '\\', ':']) || name.contains(char::is_control) || name.starts_with('.');
    if hostile || !name.ends_with(".safetensors") {
        return Err(format!(
            "shard name {} is not a plain file name that ends in .safetensors",
            quoted(name)
        ));
    }
    Ok(())
}

/// Whether the file's extension is one of pickled weights.
fn is_pickle(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    ["bin", "pt", "pth", "ckpt", "pkl", "pickle"].contains(&extension.as_str())
}

/// Refuses pickled weights by name.
fn refuse_pickle(path: &Path) -> Result<()> {
    if is_pickle(path) {
        return Err(Error::invalid_file(
            path,
            "this may be a pickle, which runs code when it is read: candor reads only GGUF and \
             safetensors",
        ));
    }
    Ok(())
}
