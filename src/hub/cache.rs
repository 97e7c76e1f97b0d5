//! The Hub's cache on disk in the layout of `huggingface_hub`, so that it is shared with other
//! tools.
//!
//! `models--user--repo/blobs/<digest>` holds content, `snapshots/<commit>/<file>` links to it,
//! `refs/<revision>` names a commit, and `.locks/models--user--repo/<digest>.lock` guards an
//! incomplete blob. A link appears only after its blob is complete and verified. It does not know
//! the network.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{rename_durably, temporary_path};
use crate::manifest::{is_lower_hex, is_relative_path, is_repository};

use super::digest::Digest;
use super::store::{io_error, make_folder, remove_file, remove_folder, write_small};

/// One repository's folder in the Hub's cache.
pub(super) struct CachedRepository {
    cache: PathBuf,
    folder: String,
    /// `user/repo`, or `datasets/user/repo`.
    pub name: String,
}

impl CachedRepository {
    /// The folder of `name`, which is a valid `user/repo`, with an optional `datasets/` prefix, in
    /// `cache`.
    pub(super) fn new(cache: &Path, name: &str) -> Self {
        let (kind, place) =
            name.strip_prefix("datasets/").map_or(("models", name), |place| ("datasets", place));
        Self {
            cache: cache.to_path_buf(),
            folder: format!("{kind}--{}", place.replace('/', "--")),
            name: name.to_owned(),
        }
    }

    /// Every repository in `cache`, by name.
    pub(super) fn all(cache: &Path) -> Vec<Self> {
        let mut names: Vec<_> = entries(cache)
            .into_iter()
            .filter_map(|path| {
                Some(path.file_name()?.to_str()?.strip_prefix("models--")?.replacen("--", "/", 1))
            })
            .filter(|name| is_repository(name))
            .collect();
        names.sort();
        names.iter().map(|name| Self::new(cache, name)).collect()
    }

    /// The repository's own folder.
    pub(super) fn root(&self) -> PathBuf {
        self.cache.join(&self.folder)
    }

    /// The path of the content with `digest`.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs").join(digest.hex())
    }

    /// The path of the incomplete content with `digest`.
    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs").join(format!("{}.incomplete", digest.hex()))
    }

    /// The lock on content of `digest`.
    pub(super) fn lock(&self, digest: &Digest) -> PathBuf {
        self.cache.join(".locks").join(&self.folder).join(format!("{}.lock", digest.hex()))
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root().join("snapshots").join(commit)
    }

    /// Commits with a snapshot, sorted.
    pub(super) fn commits(&self) -> Vec<String> {
        let folders = entries(&self.root().join("snapshots"));
        let mut commits: Vec<_> = folders
            .iter()
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect();
        commits.retain(|commit| is_lower_hex(commit, 40));
        commits.sort();
        commits
    }

    /// The commit that `revision` pointed to when last seen; a commit is its own revision.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_lower_hex(revision, 40) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.root().join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_lower_hex(commit, 40))
    }

    /// Records that `revision` points to `commit`.
    pub(super) fn set_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        write_small(&self.root().join("refs").join(revision), commit)
    }

    /// Links `file` of `commit` to the blob of `digest` and returns its path. Without symbolic
    /// links the blob is moved there.
    pub(super) fn link(&self, commit: &str, file: &str, digest: &Digest) -> Result<PathBuf> {
        let (blob, link) = (self.blob(digest), self.snapshot(commit).join(file));
        if !is_relative_path(file) || !is_lower_hex(commit, 40) {
            return Err(Error::Network(format!(
                "{} has a file {file:?}, whose name could leave the cache; it was not kept",
                self.name
            )));
        }
        if link.is_file() && fs::canonicalize(&link).ok() == fs::canonicalize(&blob).ok() {
            return Ok(link);
        }
        make_folder(link.parent().unwrap_or(&link), 0)?;
        let up = "../".repeat(file.split('/').count() + 1);
        let temporary = temporary_path(&link);
        if symlink(&format!("{up}blobs/{}", digest.hex()), &temporary).is_err() {
            fs::rename(&blob, &temporary).map_err(|error| io_error(&temporary, &error, 0))?;
        }
        rename_durably(&temporary, &link).map_err(|error| io_error(&link, &error, 0))?;
        Ok(link)
    }

    /// Every file of `commit` with its content: paths inside the repository, sorted.
    pub(super) fn files(&self, commit: &str) -> Vec<String> {
        let root = self.snapshot(commit);
        let (mut folders, mut files) = (vec![root.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for path in entries(&folder) {
                if path.is_file() {
                    files.extend(
                        path.strip_prefix(&root)
                            .ok()
                            .and_then(Path::to_str)
                            .map(|file| file.replace('\\', "/")),
                    );
                } else if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
            }
        }
        files.sort();
        files
    }

    /// Deletes `file` of `commit`, and its content if no other snapshot links to it; returns the
    /// bytes freed.
    pub(super) fn remove(&self, commit: &str, file: &str) -> Result<u64> {
        let link = self.snapshot(commit).join(file);
        let blob = fs::canonicalize(&link).map_err(|error| Error::io(&link, error))?;
        let bytes = fs::metadata(&blob).map_or(0, |meta| meta.len());
        remove_file(&link)?;
        let shown = |commit: &String| {
            self.files(commit).iter().any(|file| {
                fs::canonicalize(self.snapshot(commit).join(file)).ok().as_ref() == Some(&blob)
            })
        };
        // Only files inside this repository's folder are deleted, wherever a link points.
        let ours = fs::canonicalize(self.root()).is_ok_and(|root| blob.starts_with(root));
        let freed = ours && !self.commits().iter().any(shown);
        if freed {
            remove_file(&blob)?;
        }
        if self.commits().iter().all(|commit| self.files(commit).is_empty()) {
            remove_folder(&self.root())?;
        }
        Ok(if freed { bytes } else { 0 })
    }

    /// The digest that the cache records for `file` of `commit`: the name of the blob that it links
    /// to.
    pub(super) fn recorded_digest(&self, commit: &str, file: &str) -> Option<Digest> {
        let blob = fs::canonicalize(self.snapshot(commit).join(file)).ok()?;
        Digest::from_etag(blob.file_name()?.to_str()?)
    }
}

/// The standard tag that tells backup programs to skip a cache.
pub(super) fn mark_as_cache(cache: &Path) {
    if let Ok(mut file) =
        fs::OpenOptions::new().write(true).create_new(true).open(cache.join("CACHEDIR.TAG"))
    {
        let _ = file.write_all(
            b"Signature: 8a477f597d28d172789f06886806bc55\n# A cache of model \
                                 files; it can be fetched again.\n",
        );
    }
}

/// The paths in `folder`; none if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect()
}

#[cfg(unix)]
fn symlink(target: &str, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Symbolic links need a privilege on other systems; the content is moved into the snapshot
/// instead.
#[cfg(not(unix))]
fn symlink(_target: &str, _link: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
