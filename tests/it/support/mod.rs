//! What the integration tests share: files made on the spot, tiny models, allocation counts.

pub mod alloc;
pub mod gguf_writer;
pub mod parquet_writer;
pub mod tiny;

use std::path::PathBuf;

/// The folder with the real model files, where the environment names one. Tests that need it say so
/// and pass without.
pub fn models() -> Option<PathBuf> {
    folder("CANDOR_MODELS", "the real model files")
}

/// The folder that the environment variable `name` names.
pub fn folder(name: &str, what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(name).map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: set {name} to a folder with {what}");
    }
    folder
}
