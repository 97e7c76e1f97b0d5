//! The one public error type.
//!
//! Variants say who must act; the text says what was wrong, with its value, and what to do. Text is
//! lower case and has no final full stop. Abstaining is never an error: it is a
//! [`crate::Decision`].

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with candor's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by who must act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something that cannot be: a flag, a parameter, a reference. Act: the
    /// caller.
    #[error("{0}")]
    Usage(String),
    /// A model or data file is not what it claims to be. Act: whoever made or fetched the file.
    #[error("{}: {reason}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// The field, its value and the limit it broke.
        reason: String,
    },
    /// Something needed is not here and could not be fetched. Act: the network, or `pull`.
    #[error("{0}")]
    Network(String),
    /// The request is valid but does not fit: memory, context, disk. Act: ask for less.
    #[error("{0}")]
    Resources(String),
    /// The operating system refused. Act: see the path.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The model computed something that is no number. Act: `verify` the file.
    #[error("{0}")]
    Numerical(String),
    /// A question could not be asked, and the run was to stop there. Act: see the text.
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

    /// The caller asked for something that cannot be.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }

    /// A model or data file is invalid.
    pub fn is_invalid_file(&self) -> bool {
        matches!(self, Self::InvalidFile { .. })
    }

    /// The network, or its absence, is the cause.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Network(_))
    }

    /// The request does not fit into memory, context or disk.
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
