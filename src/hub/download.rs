//! Downloads one file from the Hub into a partial file on disk, complete and verified, or fails.
//!
//! An interrupted connection is resumed where it stopped as long as bytes keep coming; a resumed
//! response must have exactly the requested range. Within one run `If-Range` carries the server's
//! own validator; a partial file of an earlier run is named after its digest, and the digest
//! decides. A file with the wrong digest is deleted and fetched once more. It does not know the
//! cache's layout.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;

use crate::error::{Error, Result};

use super::Progress;
use super::client::{Client, RemoteFile, Response};
use super::digest::{Digest, Hasher, MAX_GIT_BLOB};
use super::store::{io_error, remove_file};

/// Requests in a row without a single byte after which the download fails.
const MAX_EMPTY_PASSES: u32 = 3;

/// Fetches `remote` into `partial` and checks its digest; the file is synced to disk and closed
/// when this returns.
///
/// # Errors
/// Network errors keep the partial file for the next run; an invalid-file error after two wrong
/// digests deletes it.
pub(super) fn fetch(
    client: &Client,
    remote: &RemoteFile,
    partial: &Path,
    progress: &mut dyn Progress,
) -> Result<()> {
    let first = transfer(client, remote, partial, progress)?;
    if first == remote.digest.hex() {
        return Ok(());
    }
    remove_file(partial)?;
    progress.notice(&format!(
        "{} arrived damaged (expected {}, got {first}); fetching it once more",
        remote.file, remote.digest
    ));
    let second = transfer(client, remote, partial, progress)?;
    if second == remote.digest.hex() {
        return Ok(());
    }
    remove_file(partial)?;
    let reason = format!(
        "arrived damaged twice from {}: expected {}, got {second}; nothing was kept, try again later",
        remote.repo, remote.digest
    );
    Err(Error::invalid_file(&remote.file, reason))
}

/// How a request ended.
enum PassEnd {
    /// All bytes arrived.
    Complete,
    /// The bytes on disk cannot be continued.
    Restart,
    /// The connection failed; the bytes on disk can be continued.
    Interrupted(String),
}

/// Downloads all bytes into `partial`; returns their digest.
fn transfer(
    client: &Client,
    remote: &RemoteFile,
    partial: &Path,
    progress: &mut dyn Progress,
) -> Result<String> {
    let mut part = Partial::open(partial, remote)?;
    let mut validator = None;
    let mut empty_passes = 0;
    progress.start(&remote.file, remote.size);
    while remote.size != Some(part.written) || part.fresh {
        let before = part.written;
        let stop = pass(client, remote, &mut part, &mut validator, progress)?;
        empty_passes = if part.written > before { 0 } else { empty_passes + 1 };
        match stop {
            PassEnd::Complete => break,
            PassEnd::Restart if empty_passes < MAX_EMPTY_PASSES => part.restart()?,
            PassEnd::Interrupted(_) if empty_passes < MAX_EMPTY_PASSES => {
                sleep(client.retry_delay * (1 << empty_passes.min(4)));
            }
            PassEnd::Restart => {
                return Err(interrupted(remote, part.written, "the server refuses every range"));
            }
            PassEnd::Interrupted(why) => return Err(interrupted(remote, part.written, &why)),
        }
    }
    progress.finish();
    part.finish()
}

/// One request and its response's bytes.
fn pass(
    client: &Client,
    remote: &RemoteFile,
    part: &mut Partial,
    validator: &mut Option<String>,
    progress: &mut dyn Progress,
) -> Result<PassEnd> {
    let response = match client.open(remote, part.written, validator.as_deref()) {
        Ok(response) => response,
        Err(error) => return Ok(PassEnd::Interrupted(error.to_string())),
    };
    if response.status == 416 && part.written > 0 {
        return Ok(PassEnd::Restart);
    }
    client.expect_success(
        &response,
        &remote.repo,
        &format!("{} at commit {}", remote.file, remote.commit),
    )?;
    if response.status == 206 && !continues(&response, part.written, remote.size) {
        return Ok(PassEnd::Restart);
    }
    if response.status != 206 {
        check_length(&response, remote)?;
        part.restart()?;
    }
    *validator = response.header("etag").filter(|etag| etag.starts_with('"')).map(str::to_owned);
    copy(client, response, remote, part, progress)
}

/// Whether a 206 response is the rest of the file from `offset` on.
fn continues(response: &Response, offset: u64, size: Option<u64>) -> bool {
    let parse = || {
        let (range, total) =
            response.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let end: u64 = end.trim().parse().ok()?;
        let total =
            if total.trim() == "*" { end.checked_add(1)? } else { total.trim().parse().ok()? };
        Some((start.trim().parse::<u64>().ok()?, end.checked_add(1)?, total))
    };
    parse().is_some_and(|(start, end, total)| {
        start == offset && end <= total && size.is_none_or(|size| size == total)
    })
}

/// A complete response must announce the length that the Hub gave for the file.
fn check_length(response: &Response, remote: &RemoteFile) -> Result<()> {
    let announced =
        response.header("content-length").and_then(|length| length.trim().parse::<u64>().ok());
    match (announced, remote.size) {
        (Some(announced), Some(size)) if announced != size => Err(Error::Network(format!(
            "the server offers {announced} bytes for {} of {}, which has {size}; try again later \
             or check HF_ENDPOINT",
            remote.file, remote.repo
        ))),
        _ => Ok(()),
    }
}

fn copy(
    client: &Client,
    mut response: Response,
    remote: &RemoteFile,
    part: &mut Partial,
    progress: &mut dyn Progress,
) -> Result<PassEnd> {
    let mut reader = response.body.as_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) => return Ok(PassEnd::Interrupted(client.interruption(&error))),
        };
        if count == 0 {
            let whole = remote.size.is_none_or(|size| part.written == size);
            return Ok(if whole {
                PassEnd::Complete
            } else {
                PassEnd::Interrupted("the connection was closed early".to_owned())
            });
        }
        if part.written + count as u64 > part.limit {
            remove_file(&part.path)?;
            return Err(Error::Network(format!(
                "the server sends more than the {} bytes that {} of {} may have; check HF_ENDPOINT",
                part.limit, remote.file, remote.repo
            )));
        }
        part.write(buffer.get(..count).unwrap_or_default())?;
        progress.update(part.written);
    }
}

fn interrupted(remote: &RemoteFile, written: u64, why: &str) -> Error {
    let size =
        remote.size.map_or_else(|| "an unknown number of".to_owned(), |size| size.to_string());
    Error::Network(format!(
        "{} of {} stopped at {written} of {size} bytes ({why}); the same command resumes it",
        remote.file, remote.repo
    ))
}

/// The bytes on disk so far, with their incremental digest.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    digest: Digest,
    written: u64,
    /// Most bytes that the file may have.
    limit: u64,
    /// Nothing was requested yet: an empty file is complete only after a response.
    fresh: bool,
}

impl Partial {
    /// Opens or makes the file at `path` and hashes its present bytes.
    fn open(path: &Path, remote: &RemoteFile) -> Result<Self> {
        let limit = match &remote.digest {
            Digest::Sha256(_) => remote.size.unwrap_or(u64::MAX),
            Digest::GitBlob(_) => remote.size.unwrap_or(MAX_GIT_BLOB).min(MAX_GIT_BLOB),
        };
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = options.map_err(|error| io_error(path, &error, limit))?;
        let (hasher, digest) = (Hasher::new(&remote.digest), remote.digest.clone());
        let mut part =
            Self { path: path.to_path_buf(), file, hasher, digest, written: 0, limit, fresh: true };
        if part.file.metadata().map_err(|error| Error::io(path, error))?.len() > limit {
            part.restart()?;
        }
        part.hash_existing()?;
        Ok(part)
    }

    fn hash_existing(&mut self) -> Result<()> {
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count =
                self.file.read(&mut buffer).map_err(|error| Error::io(&self.path, error))?;
            if count == 0 {
                return Ok(());
            }
            self.hasher.update(buffer.get(..count).unwrap_or_default());
            self.written += count as u64;
            self.fresh = false;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| io_error(&self.path, &error, self.limit - self.written))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.fresh = false;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)).map(|_| ()))
            .map_err(|error| Error::io(&self.path, error))?;
        (self.hasher, self.written) = (Hasher::new(&self.digest), 0);
        Ok(())
    }

    fn finish(self) -> Result<String> {
        self.file.sync_all().map_err(|error| Error::io(&self.path, error))?;
        Ok(self.hasher.finish())
    }
}
