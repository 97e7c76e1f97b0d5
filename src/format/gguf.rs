//! A memory-mapped reader of GGUF versions 2 and 3, little endian, that treats the file as hostile.
//!
//! Contract: a file that opens has every count, length, dimension, type and offset checked, so
//! every tensor's bytes lie inside the file, aligned, without overlap or hole. A bad file is one
//! [`Error::InvalidFile`] that names the field, its value and the limit, before anything is
//! allocated for it. Besides the map it keeps an index that is smaller than the header. Version 1
//! and big-endian files are refused. Layout:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Does not know what a key or tensor
//! means, except `general.alignment` and `split.count`.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::dtype::{Dtype, RawTensor, unsupported_name};
pub use super::gguf_metadata::{Array, MAX_ARRAY_LEN, Metadata, Value, ValueType};
use super::gguf_metadata::{Cursor, MAX_ENTRIES, MIN_ENTRY_BYTES, header_offset, quoted, text};
use super::mmap::MappedFile;
use crate::error::{Error, Result};

/// Bytes of magic, version and the two counts.
const HEADER_BYTES: usize = 24;
/// Most tensors a file may have; the largest real files have a few thousand.
const MAX_TENSORS: u64 = 65_536;
/// Longest tensor name in bytes, from the GGUF specification.
const MAX_NAME_BYTES: u64 = 64;
/// Fewest bytes of a tensor's entry: name length, one byte of name, one dimension, type, offset.
const MIN_TENSOR_BYTES: u64 = 33;
/// Most dimensions of a tensor, from ggml.
const MAX_DIMS: u32 = 4;
/// Default alignment of tensor data.
const DEFAULT_ALIGNMENT: u32 = 32;

/// The place of one tensor. It takes 16 bytes; the smallest entry of a file takes 33.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name_at: u32,
    name_len: u8,
    /// Start of the data: relative to the data section until `place` makes it absolute.
    start: usize,
}

impl Entry {
    fn name(self) -> Range<usize> {
        self.name_at as usize..self.name_at as usize + usize::from(self.name_len)
    }
}

/// A tensor's checked entry, without its name.
struct Info {
    dtype: Dtype,
    /// Innermost first, padded with ones.
    dims: [usize; MAX_DIMS as usize],
    n_dims: usize,
    /// Where the data starts in the data section.
    offset: usize,
    /// Bytes of data.
    len: usize,
}

/// An open GGUF file.
#[derive(Clone, Debug)]
pub struct Gguf {
    map: Arc<MappedFile>,
    version: u32,
    metadata: Metadata,
    alignment: usize,
    tensors: Vec<Entry>,
    /// Indices into `tensors`, ordered by name.
    by_name: Vec<u32>,
}

impl Gguf {
    /// Releases the memory pages under `bytes`, a part of a tensor of this file: a hint, after
    /// their last use.
    pub fn release(&self, bytes: &[u8]) {
        self.map.release(bytes);
    }

    /// Releases all memory pages.
    pub fn release_all(&self) {
        self.map.release(&self.map);
    }

    /// Maps and checks the file at `path`. Tensor data is not read. Errors: [`Error::Io`],
    /// [`Error::InvalidFile`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::parse(path, MappedFile::open(path)?)
    }

    /// As [`Self::open`], from bytes in memory; messages show `name` as the path.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self> {
        Self::parse(Path::new(name), MappedFile::Owned(bytes))
    }

    fn parse(path: &Path, map: MappedFile) -> Result<Self> {
        let map = Arc::new(map);
        Self::walk(path, &map)
            .map_err(|reason| Error::invalid_file(path, format!("invalid GGUF: {reason}")))
    }

    fn walk(path: &Path, map: &Arc<MappedFile>) -> Result<Self, String> {
        let mut cursor = Cursor { bytes: map, at: 0 };
        let (version, n_tensors, n_kv) = header(&mut cursor)?;
        let metadata = Metadata::walk(path, map, &mut cursor, n_kv)?;
        cursor.check_room(n_tensors, MIN_TENSOR_BYTES, "tensor count")?;
        let alignment = alignment(&metadata)?;
        refuse_split(&metadata)?;
        let tensors = Vec::with_capacity(usize::try_from(n_tensors).unwrap_or_default());
        let mut gguf = Self {
            map: Arc::clone(map),
            version,
            metadata,
            alignment,
            tensors,
            by_name: Vec::new(),
        };
        for index in 0..n_tensors {
            let named = |reason| format!("tensor {index} of {n_tensors}: {reason}");
            let name = cursor.name("name", MAX_NAME_BYTES).map_err(named)?;
            let name_at = header_offset(name.start).map_err(named)?;
            let info = Info::read(&mut cursor, alignment);
            let start = info
                .map_err(|reason| format!("tensor {}: {reason}", quoted(text(map, name.clone()))))?
                .offset;
            gguf.tensors.push(Entry { name_at, name_len: name.len() as u8, start });
        }
        gguf.index()?;
        gguf.place(cursor.at)?;
        Ok(gguf)
    }

    /// Orders the names; refuses a name that occurs twice.
    fn index(&mut self) -> Result<(), String> {
        let mut by_name: Vec<u32> = (0..self.tensors.len() as u32).collect();
        by_name.sort_unstable_by_key(|&index| self.name(index));
        if let Some(twice) = by_name.array_windows().find(|[a, b]| self.name(*a) == self.name(*b)) {
            return Err(format!("tensor {} occurs twice", quoted(self.name(twice[0]))));
        }
        self.by_name = by_name;
        Ok(())
    }

    /// Makes the starts of the data absolute. `end` is the end of the tensor list: data starts at
    /// the next aligned byte, and each tensor at the next aligned byte after the one before it.
    fn place(&mut self, end: usize) -> Result<(), String> {
        let section = end
            .checked_next_multiple_of(self.alignment)
            .ok_or("the data section starts beyond any file")?;
        let mut order: Vec<u32> = (0..self.tensors.len() as u32).collect();
        order.sort_unstable_by_key(|&index| self.tensors[index as usize].start);
        let (mut expected, mut before) = (0, None);
        for index in order {
            let entry = self.tensors[index as usize];
            let Info { offset, len, .. } = self.info(entry)?;
            let named = || format!("tensor {}", quoted(self.name(index)));
            if offset != expected {
                let what = if offset < expected { "overlap" } else { "a hole" };
                let after = before.map_or_else(
                    || "the start of the data".into(),
                    |before| quoted(self.name(before)),
                );
                return Err(format!(
                    "{}: offset is {offset}, want {expected} ({what} after {after})",
                    named()
                ));
            }
            let past = || {
                format!(
                    "{}: its {len} bytes at data offset {offset} end past the file's {}",
                    named(),
                    self.map.len()
                )
            };
            let start = section
                .checked_add(offset)
                .filter(|start| start.checked_add(len).is_some_and(|end| end <= self.map.len()));
            let start = start.ok_or_else(past)?;
            expected = (offset + len).checked_next_multiple_of(self.alignment).ok_or_else(past)?;
            before = Some(index);
            self.tensors[index as usize].start = start;
        }
        Ok(())
    }

    /// A tensor's entry, read again from the map.
    fn info(&self, entry: Entry) -> Result<Info, String> {
        Info::read(&mut Cursor { bytes: &self.map, at: entry.name().end }, self.alignment)
    }

    fn name(&self, index: u32) -> &str {
        self.tensors.get(index as usize).map_or("", |entry| text(&self.map, entry.name()))
    }

    /// The file, or the name given to [`Self::from_bytes`].
    pub fn path(&self) -> &Path {
        self.metadata.path()
    }

    /// The format version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Length of the whole file in bytes.
    pub fn file_len(&self) -> usize {
        self.map.len()
    }

    /// The key-value section.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Names of all tensors, in file order.
    pub fn tensor_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.iter().map(|entry| text(&self.map, entry.name()))
    }

    /// Whether a tensor `name` is in the file.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<Entry> {
        let found = self.by_name.binary_search_by_key(&name, |&index| self.name(index)).ok()?;
        self.by_name.get(found).and_then(|&index| self.tensors.get(index as usize)).copied()
    }

    /// The tensor `name`, borrowed from the map; its bytes are read on first use.
    /// [`Error::InvalidFile`] if there is none, or if the file has been changed since it was
    /// opened.
    pub fn tensor(&self, name: &str) -> Result<RawTensor<'_>> {
        let missing = || {
            format!(
                "tensor {} is missing; the file has {} others",
                quoted(name),
                self.tensors.len()
            )
        };
        let entry = self.find(name).ok_or_else(|| Error::invalid_file(self.path(), missing()))?;
        let changed = || {
            Error::invalid_file(
                self.path(),
                format!("tensor {} changed while the file was open", quoted(name)),
            )
        };
        let Info { dtype, dims, n_dims, len, .. } = self.info(entry).map_err(|_| changed())?;
        let end = entry.start.checked_add(len).ok_or_else(changed)?;
        let bytes = self.map.get(entry.start..end).ok_or_else(changed)?;
        let shape = dims.iter().take(n_dims).rev().copied().collect();
        Ok(RawTensor { dtype, shape, bytes: Cow::Borrowed(bytes) })
    }
}

/// Magic, version and the two counts, each within its limit: (version, tensors, metadata entries).
fn header(cursor: &mut Cursor<'_>) -> Result<(u32, u64, u64), String> {
    let start = cursor.bytes.get(..HEADER_BYTES.min(cursor.left())).unwrap_or_default();
    if !start.iter().zip(b"GGUF").all(|(a, b)| a == b) {
        let magic = String::from_utf8_lossy(start.get(..4).unwrap_or(start));
        return Err(format!("magic is {}, want \"GGUF\"", quoted(&magic)));
    }
    if start.len() < HEADER_BYTES {
        return Err(format!(
            "the file is {} bytes long, its header alone needs {HEADER_BYTES}",
            start.len()
        ));
    }
    cursor.u32("magic")?;
    let version = cursor.u32("version")?;
    match version {
        2 | 3 => {}
        1 => return Err("version is 1, candor reads 2 and 3: convert the model again".into()),
        _ if matches!(version.swap_bytes(), 1..=3) => {
            return Err(format!(
                "big-endian file of version {}, candor reads little-endian: convert the model \
                 again",
                version.swap_bytes()
            ));
        }
        _ => return Err(format!("version is {version}, candor reads 2 and 3")),
    }
    let n_tensors = count(cursor, "tensor count", MAX_TENSORS, MIN_TENSOR_BYTES)?;
    let n_kv = count(cursor, "metadata count", MAX_ENTRIES, MIN_ENTRY_BYTES)?;
    Ok((version, n_tensors, n_kv))
}

/// A count of entries of at least `each` bytes: at most `max`, and no more than the file can hold.
fn count(cursor: &mut Cursor<'_>, what: &str, max: u64, each: u64) -> Result<u64, String> {
    let count = cursor.u64(what)?;
    if count > max {
        return Err(format!("{what} is {count}, the limit is {max}"));
    }
    cursor.check_room(count, each, what)?;
    Ok(count)
}

/// `general.alignment`: a u32, a power of two, 8 at least.
fn alignment(metadata: &Metadata) -> Result<usize, String> {
    let found = match metadata.value("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some((ValueType::U32, Value::Integer(alignment))) => alignment as u32,
        Some((ty, _)) => {
            return Err(format!("general.alignment is of type {}, want u32", ty.name()));
        }
    };
    if !found.is_power_of_two() || found < 8 {
        return Err(format!("general.alignment is {found}, want a power of two from 8"));
    }
    usize::try_from(found)
        .map_err(|_| format!("general.alignment {found} does not fit this machine"))
}

/// Refuses one file of a split model, whose other tensors are in other files.
fn refuse_split(metadata: &Metadata) -> Result<(), String> {
    match metadata.value("split.count") {
        Some((_, Value::Integer(parts))) if parts > 1 => Err(format!(
            "split.count is {parts}: this is one part of a split model, merge the parts with \
             `llama-gguf-split --merge`"
        )),
        _ => Ok(()),
    }
}

impl Info {
    /// Reads what follows a tensor's name: dimensions, type, offset.
    fn read(cursor: &mut Cursor<'_>, alignment: usize) -> Result<Self, String> {
        let (dims, n_dims) = dimensions(cursor)?;
        let shape = || format!("dimensions are {:?}", dims.get(..n_dims).unwrap_or_default());
        let id = cursor.u32("type")?;
        let dtype = Dtype::from_ggml(id).ok_or_else(|| unsupported(id))?;
        if !dims[0].is_multiple_of(dtype.block_len()) {
            return Err(format!(
                "{}: the first is not a multiple of {}, the block length of {dtype}",
                shape(),
                dtype.block_len()
            ));
        }
        let elements = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        let len = elements
            .and_then(|elements| dtype.bytes_for(elements))
            .filter(|&len| isize::try_from(len).is_ok());
        let len = len.ok_or_else(|| format!("{}: their size as {dtype} overflows", shape()))?;
        let wide = cursor.u64("offset")?;
        let offset = usize::try_from(wide)
            .map_err(|_| format!("offset {wide} does not fit this machine"))?;
        if !offset.is_multiple_of(alignment) {
            return Err(format!("offset is {offset}, not a multiple of the alignment {alignment}"));
        }
        offset
            .checked_add(len)
            .ok_or_else(|| format!("offset {offset} plus {len} bytes overflows"))?;
        Ok(Self { dtype, dims, n_dims, offset, len })
    }
}

/// The dimensions of a tensor, innermost first and padded with ones, and how many are stored.
fn dimensions(cursor: &mut Cursor<'_>) -> Result<([usize; MAX_DIMS as usize], usize), String> {
    let n_dims = cursor.u32("number of dimensions")?;
    if n_dims == 0 || n_dims > MAX_DIMS {
        return Err(format!("number of dimensions is {n_dims}, want 1 to {MAX_DIMS}"));
    }
    let mut dims = [1; MAX_DIMS as usize];
    for dim in dims.iter_mut().take(n_dims as usize) {
        let wide = cursor.u64("dimension")?;
        *dim = usize::try_from(wide)
            .ok()
            .filter(|&dim| dim > 0)
            .ok_or_else(|| format!("a dimension is {wide}, want 1 or more"))?;
    }
    Ok((dims, n_dims as usize))
}

fn unsupported(id: u32) -> String {
    let name = unsupported_name(id).unwrap_or("unknown");
    format!(
        "type is {id} ({name}); candor reads {}: take a Q4_K_M, Q8_0 or F16 file of the model",
        Dtype::supported()
    )
}
