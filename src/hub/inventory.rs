//! Cached models: find, list, verify, delete. Nothing here uses the network.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::manifest::{ModelManifest, Source};

use super::cache::CachedRepository;
use super::digest::Digest;
use super::reference::{HubReference, Reference};
use super::repository::{Choice, cached, choose};
use super::store::{drop_digest, hash_now, model_path, partial_folder, remove_file, remove_folder};
use super::{HubOptions, Location, Progress, not_cached};

/// A model in a cache.
#[derive(Clone, Debug)]
pub struct CachedModel {
    /// A reference that resolves to this model.
    pub name: String,
    /// The weight file, or the folder with several files.
    pub path: PathBuf,
    /// Bytes of all its files.
    pub size: u64,
    /// The commit, for files of the Hub.
    pub revision: Option<String>,
    /// The cache that has it.
    pub location: Location,
    /// The manifest, if the model is known by name.
    pub manifest: Option<Arc<ModelManifest>>,
    /// Its files, with the expected digest of each, if one is recorded.
    files: Vec<(PathBuf, Option<Digest>)>,
    /// Repository and files inside it, for files of the Hub.
    origin: Option<(String, Vec<String>)>,
}

/// One file after [`verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedFile {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest, as computed now: SHA-256 of weights (64 digits), git's blob SHA-1 of small files
    /// (40 digits).
    pub digest: String,
    /// Whether the digest was compared with a recorded one; a local file has none.
    pub compared: bool,
}

/// The files of a repository that make a model, all of them cached.
#[derive(Clone, Debug)]
pub(super) struct CachedFiles {
    pub commit: String,
    pub choice: Choice,
    /// Every file, shards included.
    pub files: Vec<String>,
}

impl CachedFiles {
    /// A reference that resolves to these files.
    pub(super) fn name(&self, repository: &CachedRepository) -> String {
        match &self.choice {
            Choice::File(file) => format!("{}:{file}", repository.name),
            Choice::Snapshot(_) => repository.name.clone(),
        }
    }

    pub(super) fn path(&self, repository: &CachedRepository) -> PathBuf {
        let folder = repository.snapshot(&self.commit);
        match &self.choice {
            Choice::File(file) => folder.join(file),
            Choice::Snapshot(_) => folder,
        }
    }

    fn model(&self, repository: &CachedRepository) -> CachedModel {
        let folder = repository.snapshot(&self.commit);
        let files: Vec<_> = self
            .files
            .iter()
            .map(|file| (folder.join(file), repository.recorded_digest(&self.commit, file)))
            .collect();
        CachedModel {
            name: self.name(repository),
            path: self.path(repository),
            size: files.iter().map(|(path, _)| length(path)).sum(),
            revision: Some(self.commit.clone()),
            location: Location::HubCache,
            manifest: None,
            files,
            origin: Some((repository.name.clone(), self.files.clone())),
        }
    }
}

/// Every model in candor's folder and in the Hub's cache: known models first, then by name.
pub fn list(options: &HubOptions) -> Vec<CachedModel> {
    let mut models: Vec<_> =
        options.manifests.iter().flat_map(|manifest| find_known(manifest, options)).collect();
    let known: Vec<_> = models.iter().map(|model| model.path.clone()).collect();
    let repositories = options.hub_cache.as_deref().map(CachedRepository::all).unwrap_or_default();
    let found = repositories.iter().flat_map(|repository| {
        let commits = repository.commits();
        commits
            .into_iter()
            .flat_map(|commit| in_snapshot(repository, &commit))
            .map(|found| found.model(repository))
            .collect::<Vec<_>>()
    });
    models.extend(found.filter(|model| !known.contains(&model.path)));
    models
}

/// The cached model that `reference` names; a local path is its own reference. Known models keep
/// their name.
///
/// # Errors
/// Usage: the reference. Network: it is not cached.
pub fn find(reference: &str, options: &HubOptions) -> Result<CachedModel> {
    let parsed = Reference::parse(reference, &options.manifests)?;
    let found = match &parsed {
        Reference::Path(path) => Some(local(reference, path.clone())),
        Reference::Known(manifest) => find_known(manifest, options).into_iter().next(),
        Reference::Hub(hub) => {
            let repository = CachedRepository::new(options.hub_cache()?, &hub.repo);
            find_hub(&repository, hub).map(|found| found.model(&repository))
        }
    };
    found.ok_or_else(|| match &parsed {
        Reference::Known(manifest) => not_cached(&manifest.name, options),
        _ => not_cached(reference, options),
    })
}

/// The cached copies of a known model's file, candor's folder first. Only their presence is
/// checked.
pub(super) fn find_known(manifest: &Arc<ModelManifest>, options: &HubOptions) -> Vec<CachedModel> {
    let digest = || Some(Digest::Sha256(manifest.sha256.clone()));
    let model = |path: PathBuf, revision, location, origin| CachedModel {
        name: manifest.name.clone(),
        size: length(&path),
        files: vec![(path.clone(), digest())],
        manifest: Some(Arc::clone(manifest)),
        path,
        revision,
        location,
        origin,
    };
    let store = model_path(manifest, options)
        .ok()
        .filter(|path| path.is_file())
        .map(|path| model(path, None, Location::Store, None));
    let hub =
        manifest.sources.iter().flat_map(|source| match (source, options.hub_cache.as_deref()) {
            (Source::Hub { repo, revision, file }, Some(cache)) => {
                let found = same_in_any_commit(
                    &CachedRepository::new(cache, repo),
                    revision,
                    file,
                    &manifest.sha256,
                );
                let origin = || Some((repo.clone(), vec![file.clone()]));
                found
                    .into_iter()
                    .map(|(path, commit)| model(path, Some(commit), Location::HubCache, origin()))
                    .collect()
            }
            _ => Vec::new(),
        });
    store.into_iter().chain(hub).collect()
}

/// Paths of `file` in the snapshot of `revision`, and in those of other commits that record
/// `sha256` for it; with their commits.
fn same_in_any_commit(
    repository: &CachedRepository,
    revision: &str,
    file: &str,
    sha256: &str,
) -> Vec<(PathBuf, String)> {
    let pinned = repository.commit_of(revision);
    let mut commits = repository.commits();
    commits.retain(|commit| {
        Some(commit) == pinned.as_ref()
            || repository.recorded_digest(commit, file).is_some_and(|digest| digest.hex() == sha256)
    });
    commits.sort_by_key(|commit| Some(commit) != pinned.as_ref());
    let paths = commits.into_iter().map(|commit| (repository.snapshot(&commit).join(file), commit));
    paths.filter(|(path, _)| path.is_file()).collect()
}

/// The cached files of `repository` that match `reference`.
pub(super) fn find_hub(
    repository: &CachedRepository,
    reference: &HubReference,
) -> Option<CachedFiles> {
    let commit = repository.commit_of(&reference.revision)?;
    let choice =
        choose(&repository.name, &repository.files(&commit), reference.select.as_deref()).ok()?;
    let files = cached(repository, &commit, &choice)?;
    Some(CachedFiles { commit, choice, files })
}

/// Every model in one snapshot: each GGUF file, and the safetensors model.
fn in_snapshot(repository: &CachedRepository, commit: &str) -> Vec<CachedFiles> {
    let names = repository.files(commit);
    let gguf = names
        .iter()
        .filter(|file| choose(&repository.name, &[(*file).clone()], None).is_ok())
        .cloned()
        .map(Choice::File);
    let without_gguf: Vec<_> = names
        .iter()
        .filter(|file| !file.to_ascii_lowercase().ends_with(".gguf"))
        .cloned()
        .collect();
    let set = choose(&repository.name, &without_gguf, None).ok();
    let found = gguf.chain(set).filter_map(|choice| {
        let files = cached(repository, commit, &choice)?;
        Some(CachedFiles { commit: commit.to_owned(), choice, files })
    });
    found.collect()
}

/// Hashes every file of `model` again and compares it with the recorded digest.
///
/// # Errors
/// Invalid file: the first file with another digest, with both digests. Io: a file that cannot be
/// read.
pub fn verify(
    model: &CachedModel,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<Vec<VerifiedFile>> {
    let mut verified = Vec::new();
    for (path, recorded) in &model.files {
        let digest = match recorded {
            Some(git @ Digest::GitBlob(_)) => git.of_file(path, progress)?,
            _ => hash_now(path, options, progress)?,
        };
        if let Some(wanted) = recorded.as_ref().filter(|wanted| wanted.hex() != digest) {
            let reason = format!(
                "damaged: its digest is {digest}, it should have {wanted}; run `candor pull {}`",
                model.name
            );
            return Err(Error::invalid_file(path, reason));
        }
        verified.push(VerifiedFile {
            path: path.clone(),
            size: length(path),
            digest,
            compared: recorded.is_some(),
        });
    }
    Ok(verified)
}

/// Deletes `model` from its cache; returns the bytes freed. Content that another snapshot links to
/// is kept.
///
/// # Errors
/// Usage: a local file, which is the user's own. Io: a file that cannot be deleted.
pub fn remove(model: &CachedModel, options: &HubOptions) -> Result<u64> {
    for (path, _) in &model.files {
        drop_digest(path, options);
    }
    match (model.location, &model.origin, &model.revision) {
        (Location::Store, ..) => {
            remove_file(&model.path)?;
            remove_folder(&partial_folder(&model.path))?;
            Ok(model.size)
        }
        (Location::HubCache, Some((repo, files)), Some(commit)) => {
            let repository = CachedRepository::new(options.hub_cache()?, repo);
            files.iter().map(|file| repository.remove(commit, file)).sum()
        }
        _ => Err(Error::usage(format!(
            "{} is not in a cache; delete the file yourself",
            model.path.display()
        ))),
    }
}

fn local(name: &str, path: PathBuf) -> CachedModel {
    let weights =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
    let files: Vec<PathBuf> = if path.is_dir() {
        let mut files: Vec<_> = fs::read_dir(&path)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(weights)
            .collect();
        files.sort();
        files
    } else {
        vec![path.clone()]
    };
    CachedModel {
        name: name.to_owned(),
        size: files.iter().map(|path| length(path)).sum(),
        files: files.into_iter().map(|path| (path, None)).collect(),
        path,
        revision: None,
        location: Location::Local,
        manifest: None,
        origin: None,
    }
}

fn length(path: &std::path::Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}
