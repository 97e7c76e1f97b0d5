//! One file of a data set on the Hub: from `datasets/user/repo/path/file[@revision]` to a verified
//! local file.
//!
//! It has the same cache, resuming and digests as models: `datasets--user--repo` beside
//! `models--user--repo`, as other tools expect. A cached file is used without the network. It does
//! not know what is in the file.

use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::manifest::{is_relative_path, is_repository, is_revision};

use super::cache::CachedRepository;
use super::client::Client;
use super::{HubOptions, Progress, repository};

/// The prefix of every data set reference.
const DATASETS: &str = "datasets/";

/// A parsed reference to a file of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetFile {
    /// `datasets/user/repo`.
    pub repo: String,
    /// Path inside the repository.
    pub file: String,
    /// Branch, tag or commit.
    pub revision: String,
}

impl DatasetFile {
    /// Whether a text has the form of a data set reference, valid or not.
    pub fn is_meant(text: &str) -> bool {
        plain(text).starts_with(DATASETS)
    }
}

/// The reference without the scheme that other tools write.
fn plain(text: &str) -> &str {
    text.strip_prefix("hf://").or_else(|| text.strip_prefix("hub://")).unwrap_or(text)
}

impl FromStr for DatasetFile {
    type Err = Error;

    /// `datasets/user/repo/path/file[@revision]`, perhaps after `hf://`.
    fn from_str(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            Error::usage(format!(
                "data reference {text:?} {why}; write datasets/user/repo/path/file[@revision]"
            ))
        };
        let (place, revision) = plain(text).split_once('@').unwrap_or((plain(text), "main"));
        if !is_revision(revision) {
            return Err(refused("has a bad revision"));
        }
        let rest = place.strip_prefix(DATASETS).ok_or_else(|| refused("names no data set"))?;
        let mut parts = rest.splitn(3, '/');
        let (user, repo, file) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        if !is_repository(&format!("{user}/{repo}")) {
            return Err(refused("names no repository"));
        }
        if !is_relative_path(file) {
            return Err(refused("names no file"));
        }
        Ok(Self {
            repo: format!("{DATASETS}{user}/{repo}"),
            file: file.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

/// The local copy of a data set's file, fetched if it is not cached.
///
/// # Errors
/// As [`super::resolve`].
pub fn resolve_dataset(
    reference: &DatasetFile,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let repository = CachedRepository::new(options.hub_cache()?, &reference.repo);
    let DatasetFile { repo, file, revision } = reference;
    let pinned = repository.commit_of(revision);
    if let Some(commit) = pinned.as_ref().filter(|commit| !options.refresh || *commit == revision)
        && let Some(digest) = repository.recorded_digest(commit, file)
    {
        let path = repository.snapshot(commit).join(file);
        if repository::is_intact(&path, &digest, options, progress)? {
            return Ok(path);
        }
        if options.offline {
            return Err(Error::invalid_file(
                path,
                format!("damaged: it does not have {digest}; run the same command when online"),
            ));
        }
    }
    if options.offline {
        return Err(Error::Network(format!(
            "{repo}/{file} is not cached and offline mode forbids fetching it; run the same \
             command when online, or name a local file"
        )));
    }
    let client = Client::new(options)?;
    let revision_asked = pinned.filter(|_| !options.refresh).unwrap_or_else(|| revision.clone());
    let remote = client.metadata(repo, &revision_asked, file)?;
    let path = repository::fetch_file(&client, &repository, &remote, options, progress)?;
    repository.set_ref(revision, &remote.commit)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        let check = |text: &str, repo: &str, file: &str, revision: &str| {
            let expected =
                DatasetFile { repo: repo.into(), file: file.into(), revision: revision.into() };
            assert_eq!(text.parse::<DatasetFile>().unwrap(), expected, "{text}");
        };
        check("datasets/a/b/c.parquet", "datasets/a/b", "c.parquet", "main");
        check("hf://datasets/a/b/c/d.jsonl@v1", "datasets/a/b", "c/d.jsonl", "v1");
        check("hub://datasets/a/b/c.csv@refs/pr/1", "datasets/a/b", "c.csv", "refs/pr/1");
    }

    #[test]
    fn hostile_references_are_refused() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<DatasetFile>().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(expected), "{text}: {error}");
        };
        check("datasets/a/b", "names no file");
        check("datasets/a/b/../../x", "names no file");
        check("datasets/../b/x", "names no repository");
        check("datasets/a/b/x@../y", "bad revision");
        check("models/a/b/x", "names no data set");
        check("datasets/a/b/x\0y", "names no file");
    }
}
