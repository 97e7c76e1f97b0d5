//! candor's own folder: free space, locks, complete files moved into place, and cached digests.
//!
//! A file of a known model lives at `<home>/models/<name>/<file>`. Incomplete files stay in
//! `.partial` beside it, under a lock that other processes wait for. Hashing a large file takes
//! seconds, so its SHA-256 is cached in `<home>/digests/` with the file's length and modification
//! time; a file that differs in either is hashed again, and `verify` always hashes. It does not
//! know where bytes come from.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::files::{self, folder_of};
use crate::manifest::{ModelManifest, is_lower_hex};

use super::digest::sha256_of;
use super::{HubOptions, Progress};

/// Free space that a download leaves untouched.
const SPARE_BYTES: u64 = 32 << 20;
const LOCK_POLL: Duration = Duration::from_millis(100);

/// The path of a known model's file.
pub(super) fn model_path(manifest: &ModelManifest, options: &HubOptions) -> Result<PathBuf> {
    Ok(options.home()?.join("models").join(&manifest.name).join(&manifest.file))
}

/// The folder beside `target` for incomplete files.
pub(super) fn partial_folder(target: &Path) -> PathBuf {
    folder_of(target).join(".partial")
}

/// Makes the folder at `path` and its parents; `need` is the number of bytes to be written there,
/// for the message.
pub(super) fn make_folder(path: &Path, need: u64) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| io_error(path, &error, need))
}

/// Moves the complete and verified `from` to `to` in one step.
pub(super) fn publish(from: &Path, to: &Path) -> Result<()> {
    files::rename_durably(from, to).map_err(|error| Error::io(to, error))
}

/// Writes a small file in one step, and makes its folder.
pub(super) fn write_small(path: &Path, content: &str) -> Result<()> {
    let need = content.len() as u64;
    make_folder(folder_of(path), need)?;
    files::write_atomic(path, content.as_bytes()).map_err(|error| io_error(path, &error, need))
}

/// Deletes a file, if it exists.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// Deletes a folder and its contents, if it exists.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// Refuses if the file system of `folder` (which exists) has no room for `need` more bytes.
///
/// # Errors
/// A resource error with the path, the need and the free space.
pub(super) fn require_space(folder: &Path, need: u64) -> Result<()> {
    match free_bytes(folder) {
        Some(free) if free < need.saturating_add(SPARE_BYTES) => Err(Error::Resources(format!(
            "{}: {} are needed and {} are free; free some space, or set CANDOR_HOME and \
             HF_HUB_CACHE to a folder with room",
            folder.display(),
            format_bytes(need),
            format_bytes(free)
        ))),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// On other systems a full disk is noticed when a write fails.
#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

/// A readable number of bytes: `98.4 MB`.
pub fn format_bytes(bytes: u64) -> String {
    let units =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// An error of writing `need` bytes at `path`, with the remedy.
pub(super) fn io_error(path: &Path, error: &io::Error, need: u64) -> Error {
    let kind = error.kind();
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Resources(format!(
            "{}: no space is left and {} are needed; free some space, or set CANDOR_HOME and \
             HF_HUB_CACHE to a folder with room",
            path.display(),
            format_bytes(need)
        )),
        _ => {
            let amount = if need == 0 { String::new() } else { format!("{} ", format_bytes(need)) };
            let text = format!(
                "cannot write {amount}here ({error}); set CANDOR_HOME and HF_HUB_CACHE to a \
                 folder that can be written"
            );
            Error::io(path, io::Error::new(kind, text))
        }
    }
}

/// An exclusive lock between processes, held until dropped. A file system without locks grants
/// every one.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path` and waits while another process holds it. Meanwhile `progress`
    /// shows the length of `growing`, the file that the other process writes.
    pub(super) fn acquire(
        path: &Path,
        what: &str,
        growing: (&Path, Option<u64>),
        progress: &mut dyn Progress,
    ) -> Result<Self> {
        make_folder(folder_of(path), 0)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|error| io_error(path, &error, 0))?;
        let mut waiting = false;
        loop {
            if files::try_lock(&file).map_err(|error| Error::io(path, error))? {
                break;
            }
            if !waiting {
                waiting = true;
                progress.notice(&format!("another process is fetching {what}; waiting for it"));
                progress.start(&format!("waiting for {what}"), growing.1);
            }
            progress.update(fs::metadata(growing.0).map_or(0, |meta| meta.len()));
            sleep(LOCK_POLL);
        }
        if waiting {
            progress.finish();
        }
        Ok(Self { _file: file })
    }
}

/// The SHA-256 of the file at `path`, 64 lower-case hexadecimal digits: the cached digest if the
/// file's length and modification time are unchanged, else computed and cached.
///
/// # Errors
/// An input error if the file cannot be read. A cache that cannot be written is ignored.
pub fn sha256_cached(
    path: &Path,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<String> {
    match cached_digest(path, options) {
        Some(digest) => Ok(digest),
        None => hash_now(path, options, progress),
    }
}

/// The SHA-256 of the file at `path`, computed now and cached.
pub(super) fn hash_now(
    path: &Path,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<String> {
    let digest = sha256_of(path, progress)?;
    cache_digest(path, &digest, options);
    Ok(digest)
}

/// Caches `digest` for the file at `path` in its present state. A folder that cannot be written is
/// ignored: the file is hashed again later.
pub(super) fn cache_digest(path: &Path, digest: &str, options: &HubOptions) {
    if let (Some(marker), Some(state)) = (marker(path, options), state(path)) {
        let _ = write_small(&marker, &format!("{digest} {state}\n"));
    }
}

/// Drops the cached digest of the file at `path`.
pub(super) fn drop_digest(path: &Path, options: &HubOptions) {
    if let Some(marker) = marker(path, options) {
        let _ = remove_file(&marker);
    }
}

fn cached_digest(path: &Path, options: &HubOptions) -> Option<String> {
    let text = fs::read_to_string(marker(path, options)?).ok()?;
    let (digest, then) = text.trim_end().split_once(' ')?;
    (is_lower_hex(digest, 64) && then == state(path)?).then(|| digest.to_owned())
}

/// The file that caches the digest. Its name is a hash of the file's real path, so that a link and
/// its target share it.
fn marker(path: &Path, options: &HubOptions) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    let name = sha256_hex(real.as_os_str().as_encoded_bytes());
    Some(options.home.as_ref()?.join("digests").join(name))
}

/// Length and modification time: they change with the content and cost no read.
fn state(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{} {}", meta.len(), changed.as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_people_read_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (98_362_432, "98.4 MB"),
            (4_000_000_000, "4.0 GB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_full_disk_is_refused_with_numbers() {
        let folder = tempfile::tempdir().unwrap();
        require_space(folder.path(), 1).unwrap();
        let error = require_space(folder.path(), u64::MAX / 2).unwrap_err();
        let text = error.to_string();
        assert!(
            error.is_resources() && text.contains("TB are needed") && text.contains("CANDOR_HOME"),
            "{text}"
        );
        let full =
            io_error(Path::new("/x"), &io::Error::from(io::ErrorKind::StorageFull), 98_362_432);
        assert!(full.is_resources() && full.to_string().contains("98.4 MB"), "{full}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_the_need() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = make_folder(&file.path().join("models"), 98_362_432).unwrap_err().to_string();
        assert!(
            error.contains("models")
                && error.contains("cannot write 98.4 MB")
                && error.contains("CANDOR_HOME"),
            "{error}"
        );
    }

    #[test]
    fn a_digest_is_remembered_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let options =
            HubOptions { home: Some(folder.path().join("home")), ..HubOptions::default() };
        let path = folder.path().join("x");
        fs::write(&path, "hello\n").unwrap();
        assert_eq!(cached_digest(&path, &options), None);
        // printf 'hello\n' | sha256sum
        let digest = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(sha256_cached(&path, &options, &mut ()).unwrap(), digest);
        assert_eq!(cached_digest(&path, &options).as_deref(), Some(digest));
        fs::write(&path, "hello, world\n").unwrap();
        assert_eq!(cached_digest(&path, &options), None);
        drop_digest(&path, &options);
        let nowhere = HubOptions { home: Some(path.join("no folder")), ..HubOptions::default() };
        assert_ne!(sha256_cached(&path, &nowhere, &mut ()).unwrap(), digest);
    }
}
