//! Files of a Hub repository: which ones make a model, and how they get into the cache.
//!
//! A model is one GGUF file, or `config.json`, `tokenizer.json` and safetensors together. The
//! choice depends only on the list of file names, so it is the same online and from the cache.
//! Every file is checked against the Hub's digest. It does not know manifests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

use super::cache::{CachedRepository, mark_as_cache};
use super::client::{Client, RemoteFile};
use super::digest::Digest;
use super::reference::has_weight_extension;
use super::store::{
    Lock, cache_digest, drop_digest, make_folder, publish, remove_file, require_space,
    sha256_cached,
};
use super::{HubOptions, Progress, download};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const INDEX: &str = "model.safetensors.index.json";
/// Fetched too if the repository has them.
const COMPANIONS: [&str; 5] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
];
/// Order of preference among several GGUF files if none is named, starting with the common
/// trade-off of size and quality.
const PREFERRED: [&str; 9] =
    ["Q4_K_M", "Q5_K_M", "Q4_1", "Q4_0", "Q8_0", "Q6_K", "F16", "BF16", "F32"];
const MAX_INDEX: u64 = 64 << 20;

/// The files of a repository that make a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// One GGUF file.
    File(String),
    /// A folder's files: configuration, tokenizer and safetensors, without the shards that an index
    /// names.
    Snapshot(Vec<String>),
}

impl Choice {
    /// Whether this choice, made from the cached files alone, is final, so that the Hub's full list
    /// is not needed.
    pub(super) fn is_final(&self, select: Option<&str>) -> bool {
        match self {
            Self::Snapshot(_) => true,
            Self::File(file) => select.is_some() || has_quantization(file, PREFERRED[0]),
        }
    }
}

/// Chooses the file of `repo` that `select` names: a path or a quantization, in any case.
///
/// # Errors
/// A usage error that lists the available files.
pub(super) fn choose(repo: &str, files: &[String], select: Option<&str>) -> Result<Choice> {
    let gguf: Vec<&String> = files.iter().filter(|file| is_model_gguf(file)).collect();
    let there = || listed(&gguf);
    let refused = |why: String| Error::usage(format!("{repo} {why}"));
    let chosen = match select {
        Some(name) if has_weight_extension(name) => {
            let exact = files.iter().find(|file| *file == name);
            let found = exact.or_else(|| files.iter().find(|file| file.eq_ignore_ascii_case(name)));
            found.ok_or_else(|| refused(format!("has no file {name}; it has {}", there())))?
        }
        Some(name) => match gguf
            .iter()
            .filter(|file| has_quantization(file, name))
            .collect::<Vec<_>>()
            .as_slice()
        {
            [only] => only,
            [] => {
                return Err(refused(format!(
                    "has no GGUF file with quantization {name}; it has {}",
                    there()
                )));
            }
            [first, rest @ ..] if [*first].iter().chain(rest).all(|file| is_split(file)) => first,
            several => {
                let several: Vec<&String> = several.iter().map(|file| **file).collect();
                return Err(refused(format!(
                    "has several files with quantization {name}: {}; name the file",
                    listed(&several)
                )));
            }
        },
        None if gguf.is_empty() => return choose_snapshot(repo, files).map(Choice::Snapshot),
        None => {
            match (
                gguf.as_slice(),
                PREFERRED.iter().find_map(|quantization| {
                    gguf.iter().find(|file| has_quantization(file, quantization))
                }),
            ) {
                ([only], _) => only,
                (_, Some(preferred)) => preferred,
                _ => {
                    return Err(refused(format!(
                        "has several GGUF files: {}; name one as {repo}:FILE",
                        there()
                    )));
                }
            }
        }
    };
    if is_split(chosen) {
        return Err(refused(format!(
            "has {chosen} only as one part of several; candor reads a GGUF file in one piece: \
             choose another file of {}",
            there()
        )));
    }
    if !is_gguf(chosen) {
        return Err(refused(format!(
            "has {chosen}, but a single file must be GGUF; for safetensors name the repository \
             without a file"
        )));
    }
    Ok(Choice::File(chosen.clone()))
}

fn choose_snapshot(repo: &str, files: &[String]) -> Result<Vec<String>> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let root: Vec<&String> = files
        .iter()
        .filter(|file| !file.contains('/') && extension_is(file, "safetensors"))
        .collect();
    let weights = match root.as_slice() {
        _ if has(INDEX) => INDEX.to_owned(),
        _ if has("model.safetensors") => "model.safetensors".to_owned(),
        [only] => (*only).clone(),
        [] if files.iter().any(|file| has_weight_extension(file)) => {
            return Err(Error::usage(format!(
                "{repo} has weights only in a format that can carry code (.bin, .pt); candor \
                 loads GGUF and safetensors: choose another repository"
            )));
        }
        _ => {
            return Err(Error::usage(format!(
                "{repo} has no GGUF file and no safetensors weights; choose another repository"
            )));
        }
    };
    for needed in [CONFIG, TOKENIZER] {
        if !has(needed) {
            return Err(Error::usage(format!(
                "{repo} has safetensors but no {needed}, which candor needs; choose another \
                 repository"
            )));
        }
    }
    let companions = COMPANIONS.into_iter().filter(|name| has(name)).map(str::to_owned);
    Ok(companions.chain([TOKENIZER.to_owned(), CONFIG.to_owned(), weights]).collect())
}

/// The shards that the index file at `path` names, sorted.
pub(super) fn shards(path: &Path) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let length = fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    if length > MAX_INDEX {
        return Err(Error::invalid_file(
            path,
            format!("{length} bytes are too many for an index; the limit is {MAX_INDEX}"),
        ));
    }
    let bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| {
        Error::invalid_file(path, format!("not an index of safetensors: {error}"))
    })?;
    let mut shards: Vec<_> = index.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    match shards.iter().find(|shard| {
        !crate::manifest::is_relative_path(shard)
            || shard.contains('/')
            || !extension_is(shard, "safetensors")
    }) {
        Some(bad) => Err(Error::invalid_file(
            path,
            format!("the index names {bad:?}, which is not a safetensors file beside it"),
        )),
        None => Ok(shards),
    }
}

/// All files of `choice`, shards included, if they are cached under `commit`; `None` if one is
/// missing.
pub(super) fn cached(
    repository: &CachedRepository,
    commit: &str,
    choice: &Choice,
) -> Option<Vec<String>> {
    let folder = repository.snapshot(commit);
    let mut files = match choice {
        Choice::File(file) => vec![file.clone()],
        Choice::Snapshot(files) => files.clone(),
    };
    if files.iter().any(|file| file == INDEX) {
        files.extend(shards(&folder.join(INDEX)).ok()?);
    }
    files.iter().all(|file| folder.join(file).is_file()).then_some(files)
}

/// Fetches the files of `choice` at `commit` into the cache; returns their names.
pub(super) fn fetch(
    client: &Client,
    repository: &CachedRepository,
    commit: &str,
    choice: &Choice,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<Vec<String>> {
    let mut files = match choice {
        Choice::File(file) => vec![file.clone()],
        Choice::Snapshot(files) => files.clone(),
    };
    let mut next = 0;
    while let Some(file) = files.get(next).cloned() {
        let remote = client.metadata(&repository.name, commit, &file)?;
        let path = fetch_file(client, repository, &remote, options, progress)?;
        if file == INDEX {
            files.extend(shards(&path)?);
        }
        next += 1;
    }
    Ok(files)
}

/// Fetches one file into the cache, unless an intact copy is there; returns its path in the
/// snapshot.
pub(super) fn fetch_file(
    client: &Client,
    repository: &CachedRepository,
    remote: &RemoteFile,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let link = repository.snapshot(&remote.commit).join(&remote.file);
    if is_intact(&link, &remote.digest, options, progress)? {
        return Ok(link);
    }
    let (blob, partial, need) = (
        repository.blob(&remote.digest),
        repository.partial(&remote.digest),
        remote.size.unwrap_or(0),
    );
    make_folder(&repository.root().join("blobs"), need)?;
    mark_as_cache(options.hub_cache()?);
    let _lock = Lock::acquire(
        &repository.lock(&remote.digest),
        &remote.file,
        (&partial, remote.size),
        progress,
    )?;
    if !is_intact(&blob, &remote.digest, options, progress)? {
        remove_file(&blob)?;
        let there = fs::metadata(&partial).map_or(0, |meta| meta.len());
        require_space(&repository.root(), need.saturating_sub(there))?;
        download::fetch(client, remote, &partial, progress)?;
        publish(&partial, &blob)?;
    }
    let path = repository.link(&remote.commit, &remote.file, &remote.digest)?;
    if let Digest::Sha256(digest) = &remote.digest {
        cache_digest(&path, digest, options);
    }
    Ok(path)
}

/// Whether the file at `path` exists and has `digest`. A SHA-256 may come from the digest cache; a
/// git digest is always computed, because its file is small.
pub(super) fn is_intact(
    path: &Path,
    digest: &Digest,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let found = match digest {
        Digest::Sha256(_) => sha256_cached(path, options, progress)?,
        Digest::GitBlob(_) => digest.of_file(path, &mut ())?,
    };
    if found == digest.hex() {
        return Ok(true);
    }
    drop_digest(path, options);
    progress.notice(&format!(
        "{} in the cache is damaged ({found}, expected {digest})",
        path.display()
    ));
    Ok(false)
}

fn is_gguf(file: &str) -> bool {
    extension_is(file, "gguf")
}

/// Whether `file` is a language model and not a projector or importance matrix, which have the same
/// extension.
fn is_model_gguf(file: &str) -> bool {
    let name = file.to_ascii_lowercase();
    is_gguf(file) && !name.contains("mmproj") && !name.contains("imatrix")
}

fn extension_is(file: &str, wanted: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

/// Whether `file` is one of several parts: `…-00001-of-00003.gguf`.
fn is_split(file: &str) -> bool {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    stem.rsplit_once("-of-").is_some_and(|(head, total)| {
        digits(total) && head.rsplit_once('-').is_some_and(|(_, part)| digits(part))
    })
}

/// Whether `file`'s name contains `quantization` as a separate word, in any case: `Q4_K` is not in
/// `x-Q4_K_M.gguf`.
fn has_quantization(file: &str, quantization: &str) -> bool {
    let (name, wanted) = (file.to_ascii_lowercase(), quantization.to_ascii_lowercase());
    let name = name.strip_suffix(".gguf").unwrap_or(&name);
    name.match_indices(&wanted).any(|(start, _)| {
        let before = name.get(..start).and_then(|head| head.chars().next_back());
        let after = name.get(start + wanted.len()..).and_then(|tail| tail.chars().next());
        !before.is_some_and(char::is_alphanumeric)
            && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Up to twelve names, for a message.
fn listed(files: &[&String]) -> String {
    const SHOWN: usize = 12;
    if files.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> =
        files.iter().take(SHOWN).map(|file| file.escape_debug().to_string()).collect();
    let more = files.len().saturating_sub(SHOWN);
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTS: [&str; 6] = [
        "README.md",
        "m-Q4_K_M.gguf",
        "m-Q4_K_S.gguf",
        "m.IQ4_XS.gguf",
        "m-BF16.gguf",
        "mmproj-Q8_0.gguf",
    ];

    fn check(files: &[&str], select: Option<&str>, expected: Result<&str, &str>) {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        match (choose("u/r", &files, select), expected) {
            (Ok(Choice::File(file)), Ok(wanted)) => assert_eq!(file, wanted),
            (Ok(Choice::Snapshot(files)), Ok(wanted)) => assert_eq!(files.join(" "), wanted),
            (Err(error), Err(wanted)) => {
                let text = error.to_string();
                assert!(
                    error.is_usage() && text.contains(wanted) && !text.contains('\n'),
                    "{text}"
                );
            }
            (found, wanted) => panic!("{files:?} {select:?}: {found:?}, expected {wanted:?}"),
        }
    }

    #[test]
    fn a_gguf_file_is_chosen_by_quantization_or_name() {
        check(&QUANTS, Some("q4_k_m"), Ok("m-Q4_K_M.gguf"));
        check(&QUANTS, Some("iq4_xs"), Ok("m.IQ4_XS.gguf"));
        check(&QUANTS, Some("BF16"), Ok("m-BF16.gguf"));
        check(&QUANTS, Some("M-q4_k_s.GGUF"), Ok("m-Q4_K_S.gguf"));
        check(&QUANTS, None, Ok("m-Q4_K_M.gguf"));
        check(&["only.gguf"], None, Ok("only.gguf"));
        check(
            &QUANTS,
            Some("Q4_K"),
            Err("has no GGUF file with quantization Q4_K; it has m-Q4_K_M.gguf, "),
        );
        check(&QUANTS, Some("f16"), Err("has no GGUF file"));
        check(&QUANTS, Some("q8_0"), Err("has no GGUF file"));
        check(&QUANTS, Some("x.gguf"), Err("has no file x.gguf; it has"));
        check(&["a.gguf", "b.gguf"], None, Err("name one as u/r:FILE"));
        check(
            &["a-Q4_0.gguf", "b-Q4_0.gguf"],
            Some("q4_0"),
            Err("has several files with quantization q4_0: a-Q4_0.gguf, b-Q4_0.gguf"),
        );
        check(
            &["x-Q8_0-00001-of-00002.gguf", "x-Q8_0-00002-of-00002.gguf"],
            Some("Q8_0"),
            Err("one part of several"),
        );
    }

    #[test]
    fn a_set_has_configuration_tokenizer_and_weights() {
        let base = ["config.json", "tokenizer.json", "tokenizer_config.json"];
        let with = |more: &[&'static str]| [&base[..], more].concat();
        let small = "tokenizer_config.json tokenizer.json config.json";
        check(&with(&["model.safetensors"]), None, Ok(&format!("{small} model.safetensors")));
        check(
            &with(&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX]),
            None,
            Ok(&format!("{small} {INDEX}")),
        );
        check(&with(&["weights.safetensors"]), None, Ok(&format!("{small} weights.safetensors")));
        check(&with(&["pytorch_model.bin"]), None, Err("can carry code"));
        check(&base, None, Err("has no GGUF file and no safetensors"));
        check(&["config.json", "model.safetensors"], None, Err("no tokenizer.json"));
        check(&with(&["pytorch_model.bin"]), Some("pytorch_model.bin"), Err("must be GGUF"));
    }

    #[test]
    fn an_index_names_only_files_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX);
        let check = |map: &str, expected: Option<&str>| {
            fs::write(&path, format!("{{\"weight_map\": {map}}}")).unwrap();
            assert_eq!(
                shards(&path).ok().map(|shards| shards.join(" ")).as_deref(),
                expected,
                "{map}"
            );
        };
        check(
            r#"{"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-1.safetensors"}"#,
            Some("m-1.safetensors m-2.safetensors"),
        );
        check(r#"{"a": "../x.safetensors"}"#, None);
        check(r#"{"a": "/etc/passwd"}"#, None);
        check(r#"{"a": "m.bin"}"#, None);
        check("[1]", None);
    }
}
