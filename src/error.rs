//! The public error type.
//!
//! A variant says who must act; the text says what is wrong, with its value, and what to do. Text
//! is lower case and has no final period. Abstaining is never an error: it is a
//! [`crate::Decision`].

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with candor's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error, by who must act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something impossible: a flag, a parameter, a reference. Act: the
    /// caller.
    #[error("{0}")]
    Usage(String),
    /// Whether a model or data file is invalid. Act: whoever made or fetched the file.
    #[error("{}: {reason}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// The field, its value and the limit it broke.
        reason: String,
    },
    /// A file is not cached and could not be fetched. Act: check the network, or run `pull`.
    #[error("{0}")]
    Network(String),
    /// The request is valid but does not fit: memory, context, disk. Act: ask for less.
    #[error("{0}")]
    Resources(String),
    /// The operating system reported an error. Act: see the path.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The model computed NaN or an infinity. Act: `verify` the file.
    #[error("{0}")]
    Numerical(String),
    /// A question failed, and the run was set to stop there. Act: see the text.
    #[error("{0}")]
    Stopped(String),
    /// The tensor backend failed. Act: report it.
    #[error("backend: {0}")]
    Backend(String),
}

impl Error {
    /// A usage error.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }

    /// An invalid file.
    pub fn invalid_file(path: impl AsRef<Path>, reason: impl fmt::Display) -> Self {
        Self::InvalidFile { path: path.as_ref().to_path_buf(), reason: reason.to_string() }
    }

    /// An input or output error at `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// Whether the caller asked for something impossible.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }

    /// Whether a model or data file is invalid.
    pub fn is_invalid_file(&self) -> bool {
        matches!(self, Self::InvalidFile { .. })
    }

    /// Whether the network, or its absence, is the cause.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Network(_))
    }

    /// Whether the request does not fit into memory, context or disk.
    pub fn is_resources(&self) -> bool {
        matches!(self, Self::Resources(_))
    }

    /// The question or its parameters are at fault, so that other questions can go on.
    pub fn is_question_fault(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::Resources(_) | Self::Numerical(_))
    }

    /// The process exit code: 1 error, 2 usage, 4 invalid model or data file, 5 offline or network,
    /// 6 refused for resources.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::InvalidFile { .. } => 4,
            Self::Network(_) => 5,
            Self::Resources(_) => 6,
            Self::Io { .. } | Self::Numerical(_) | Self::Stopped(_) | Self::Backend(_) => 1,
        }
    }
}
