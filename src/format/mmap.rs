//! A model file's bytes, mapped read-only into memory.
//!
//! The only `unsafe` code of the file readers. Knows nothing of what the bytes mean.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// A whole file as bytes: mapped from disk, or owned.
#[derive(Debug)]
pub(super) enum MappedFile {
    /// Pages come from the file as they are read.
    Mapped(Mmap),
    /// Bytes that were never a file, or an empty file, which cannot be mapped.
    Owned(Vec<u8>),
}

impl MappedFile {
    /// Maps the regular file at `path`. A folder, pipe or device is refused before it is opened:
    /// opening a pipe could block forever.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let kind = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
        if !kind.is_file() {
            let what = if kind.is_dir() { "a folder" } else { "not a regular file" };
            return Err(Error::invalid_file(path, format!("this is {what}, want a model file")));
        }
        if kind.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        let file = File::open(path).map_err(|source| Error::io(path, source))?;
        // SAFETY: the map is read-only and private to this process, and every read goes through a
        // bounds-checked slice of the length it had when mapped. The remaining risk, as with every
        // memory map, is another process that truncates or rewrites the file: truncation ends this
        // process with SIGBUS, rewriting changes weights. candor's own cache does neither (files
        // are replaced by a rename), and memory safety never depends on an earlier check of these
        // bytes: lengths and text are checked again on each access.
        let map = unsafe { Mmap::map(&file) };
        map.map(Self::Mapped).map_err(|source| Error::io(path, source))
    }
}

/// Linux maps the 64 kB around a page that is read, so this much on either side is resident too.
#[cfg(unix)]
const AROUND: usize = 64 << 10;

impl MappedFile {
    /// Releases the pages of `bytes` and those mapped around them; they are read from the file
    /// again on the next use. Does nothing if `bytes` are not part of a mapped file.
    #[cfg(unix)]
    pub(super) fn release(&self, bytes: &[u8]) {
        let Self::Mapped(map) = self else { return };
        let (start, end) = (bytes.as_ptr().addr(), bytes.as_ptr().addr() + bytes.len());
        let first = map.as_ptr().addr();
        if start < first || end > first + map.len() {
            return;
        }
        // Pages around the range belong to neighboring tensors, which may have to read them again.
        let (start, end) =
            ((start - first).saturating_sub(AROUND), (end - first + AROUND).min(map.len()));
        // SAFETY: the map is read-only and of a file, so dropped pages come back with the file's
        // bytes; the range is inside the map.
        let advised = unsafe {
            map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
        };
        // A failure only costs memory.
        let _ = advised;
    }

    /// This system cannot release pages.
    #[cfg(not(unix))]
    pub(super) fn release(&self, _bytes: &[u8]) {}
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
