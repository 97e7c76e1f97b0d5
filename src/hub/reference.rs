//! Parses model references.
//!
//! A reference is a known model's name, `user/repo[:QUANT or file][@revision]`, or a local path.
//! Text that could leave a cache folder is refused before it becomes a path or a URL. It does not
//! know what is cached.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::manifest::{ModelManifest, is_relative_path, is_repository, is_revision};

/// A parsed model reference.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// An existing file or folder.
    Path(PathBuf),
    /// A model known by name.
    Known(Arc<ModelManifest>),
    /// A repository on the Hub.
    Hub(HubReference),
}

/// A repository on the Hub, and the selected file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubReference {
    /// `user/repo`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// A quantization (`Q4_K_M`, in any case) or a file's path; `None` for candor's default choice.
    pub select: Option<String>,
}

impl fmt::Display for HubReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(select) = &self.select {
            write!(f, ":{select}")?;
        }
        if self.revision == "main" { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

impl Reference {
    /// Parses `text`. A known name takes precedence over a file of that name (write `./name` for
    /// the file); an existing model file or folder with a `config.json` takes precedence over a
    /// repository.
    ///
    /// # Errors
    /// A usage error that shows the text and the accepted forms.
    pub fn parse(text: &str, manifests: &[Arc<ModelManifest>]) -> Result<Self> {
        if let Some(manifest) = manifests.iter().find(|manifest| manifest.has_name(text)) {
            return Ok(Self::Known(Arc::clone(manifest)));
        }
        let path = Path::new(text);
        if is_model_path(path) {
            return Ok(Self::Path(path.to_path_buf()));
        }
        if text.contains("://") {
            return Err(refused(
                text,
                "is an address",
                "give user/repo[:QUANT or file][@revision] or a local path",
            ));
        }
        if looks_local(text) {
            return Err(missing(path, text));
        }
        if let Some((name, _)) = text.split_once(['@', ':'])
            && manifests.iter().any(|manifest| manifest.has_name(name))
        {
            return Err(refused(
                text,
                "pins a known model",
                &format!("its manifest fixes file and revision: write {name}"),
            ));
        }
        if text.contains('/') { hub(text).map(Self::Hub) } else { Err(unknown(text, manifests)) }
    }
}

/// Whether `path` exists and can be a model: a weight file, or a folder with a configuration.
fn is_model_path(path: &Path) -> bool {
    if path.is_dir() { path.join("config.json").is_file() } else { path.is_file() }
}

/// Whether `text` can only be a local path.
fn looks_local(text: &str) -> bool {
    let path = Path::new(text);
    let drive = text.as_bytes().get(1) == Some(&b':')
        && text.starts_with(|c: char| c.is_ascii_alphabetic());
    let weights = !text.contains([':', '@']) && has_weight_extension(text);
    path.is_absolute()
        || text.starts_with(['.', '~', '\\', '/'])
        || drive
        || weights
        || (path.is_dir() && !is_repository(text))
}

pub(super) fn has_weight_extension(text: &str) -> bool {
    let extension =
        Path::new(text).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["gguf", "safetensors", "bin", "pt", "pth", "ckpt"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

fn hub(text: &str) -> Result<HubReference> {
    let forms = "write user/repo[:QUANT or file][@revision]";
    let end = text.find([':', '@']).unwrap_or(text.len());
    let (repo, mut rest) = text.split_at(end);
    if !is_repository(repo) {
        return Err(refused(text, "names no repository", forms));
    }
    let mut reference =
        HubReference { repo: repo.to_owned(), revision: "main".to_owned(), select: None };
    let (mut revised, mut selected) = (false, false);
    while let Some(mark) = rest.chars().next() {
        let body = rest.get(1..).unwrap_or_default();
        let end = body.find([':', '@']).unwrap_or(body.len());
        let (part, after) = body.split_at(end);
        rest = after;
        match mark {
            '@' if !revised && is_revision(part) => {
                (revised, reference.revision) = (true, part.to_owned());
            }
            ':' if !selected && is_relative_path(part) => {
                (selected, reference.select) = (true, Some(part.to_owned()));
            }
            '@' => return Err(refused(text, &format!("has a bad revision {part:?}"), forms)),
            _ => {
                return Err(refused(
                    text,
                    &format!("has a bad quantization or file {part:?}"),
                    forms,
                ));
            }
        }
    }
    Ok(reference)
}

fn refused(text: &str, why: &str, remedy: &str) -> Error {
    Error::usage(format!("model reference {text:?} {why}; {remedy}"))
}

fn missing(path: &Path, text: &str) -> Error {
    if path.is_dir() {
        let inside = path.join("config.json");
        return refused(
            text,
            &format!("is a folder without {}", inside.display()),
            "name a .gguf file or a folder with config.json and safetensors",
        );
    }
    refused(text, "is a path without a file", "check the path, or name a model from `candor ls`")
}

fn unknown(text: &str, manifests: &[Arc<ModelManifest>]) -> Error {
    let names: Vec<_> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    refused(
        text,
        "is neither a known model nor a file",
        &format!(
            "known: {}; or write user/repo[:QUANT or file], or a local path",
            names.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::known_models;

    fn check_hub(text: &str, repo: &str, revision: &str, select: Option<&str>) {
        let expected = HubReference {
            repo: repo.into(),
            revision: revision.into(),
            select: select.map(Into::into),
        };
        assert_eq!(
            Reference::parse(text, known_models()).unwrap(),
            Reference::Hub(expected),
            "{text}"
        );
    }

    fn check_refused(text: &str, expected: &str) {
        let error = Reference::parse(text, known_models()).unwrap_err();
        let message = error.to_string();
        assert!(
            error.is_usage() && message.contains(expected) && !message.contains('\n'),
            "{text}: {message}"
        );
    }

    #[test]
    fn repositories_are_taken_apart() {
        check_hub("a/b", "a/b", "main", None);
        check_hub("a/b:Q4_K_M", "a/b", "main", Some("Q4_K_M"));
        check_hub("a/b:q4_k_m@v1.0", "a/b", "v1.0", Some("q4_k_m"));
        check_hub("a/b@refs/pr/1:sub/x.gguf", "a/b", "refs/pr/1", Some("sub/x.gguf"));
        check_hub("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B", "main", None);
    }

    #[test]
    fn known_names_win_and_cannot_be_pinned() {
        for name in ["smollm2-135m-instruct", "SmolLM2-135M", "smollm2"] {
            assert!(
                matches!(Reference::parse(name, known_models()).unwrap(), Reference::Known(m) if m.name == "smollm2-135m-instruct")
            );
        }
        check_refused("smollm2@abc", "write smollm2");
        check_refused("smollm3", "known: qwen2.5-coder-0.5b-instruct, smollm2-135m-instruct, ");
    }

    #[test]
    fn what_exists_is_a_path_and_what_looks_like_one_is_not_sought_on_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.gguf");
        std::fs::write(&file, b"x").unwrap();
        let text = file.to_str().unwrap();
        assert_eq!(Reference::parse(text, known_models()).unwrap(), Reference::Path(file.clone()));
        check_refused(folder.path().to_str().unwrap(), "is a folder without");
        for text in [
            "/nowhere/x.gguf",
            "./x.gguf",
            "../x/y",
            "~/x",
            "x.gguf",
            "C:\\x\\y.gguf",
            "c:/x",
            "models/c.gguf",
            "a/b/c.gguf",
        ] {
            check_refused(text, "is a path without a file");
        }
    }

    #[test]
    fn hostile_references_are_refused() {
        check_refused("a/..", "names no repository");
        check_refused("a/b/c", "names no repository");
        check_refused("a/b\0", "names no repository");
        check_refused("a/b:../../x", "bad quantization or file");
        check_refused("a/b:/etc/passwd", "bad quantization or file");
        check_refused("a/b:x\0y", "bad quantization or file");
        check_refused("a/b:C:/x", "bad quantization or file");
        check_refused("a/b:x\\y", "bad quantization or file");
        check_refused("a/b:", "bad quantization or file");
        check_refused("a/b@../x", "bad revision");
        check_refused("a/b@", "bad revision");
        check_refused("a/b@x@y", "bad revision");
        check_refused("https://example.org/a/b", "is an address");
        check_refused("", "is neither a known model");
    }
}
