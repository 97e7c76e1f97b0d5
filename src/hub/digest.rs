//! Expected digests of files: SHA-256 for weights, git's blob SHA-1 for a repository's small files.
//!
//! A digest is also a file name in the Hub's cache, so only hexadecimal text of the right length is
//! accepted. It does not know where files come from.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::Digest as _;

use crate::digest::hex;
use crate::error::{Error, Result};
use crate::manifest::is_lower_hex;

use super::Progress;

/// Largest file that may have only a git digest: the Hub stores anything larger under SHA-256.
pub(super) const MAX_GIT_BLOB: u64 = 64 << 20;

/// An expected digest, as lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    /// SHA-256 of the bytes, 64 digits.
    Sha256(String),
    /// SHA-1 of `blob <length>\0` and the bytes, 40 digits.
    GitBlob(String),
}

impl Digest {
    /// The digest in an `ETag`: quotes and the weak prefix are removed, and anything but 40 or 64
    /// hexadecimal digits is refused.
    pub(super) fn from_etag(etag: &str) -> Option<Self> {
        let text = etag.trim().trim_start_matches("W/").trim_matches('"');
        if is_lower_hex(text, 64) {
            Some(Self::Sha256(text.to_owned()))
        } else if is_lower_hex(text, 40) {
            Some(Self::GitBlob(text.to_owned()))
        } else {
            None
        }
    }

    /// The digits, which are the file's name in the Hub's cache.
    pub(super) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }

    /// The digest of the same kind of the file at `path`.
    pub(super) fn of_file(&self, path: &Path, progress: &mut dyn Progress) -> Result<String> {
        let mut hasher = Hasher::new(self);
        feed(&mut hasher, path, progress)?;
        Ok(hasher.finish())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hex) => write!(f, "sha256 {hex}"),
            Self::GitBlob(hex) => write!(f, "git digest {hex}"),
        }
    }
}

/// An incremental digest.
pub(super) enum Hasher {
    /// Running SHA-256.
    Sha256(Box<sha2::Sha256>),
    /// Git hashes the length first, so the bytes (at most [`MAX_GIT_BLOB`]) are collected.
    GitBlob(Vec<u8>),
}

impl Hasher {
    /// An empty hasher of the kind of `wanted`.
    pub(super) fn new(wanted: &Digest) -> Self {
        match wanted {
            Digest::Sha256(_) => Self::sha256(),
            Digest::GitBlob(_) => Self::GitBlob(Vec::new()),
        }
    }

    /// An empty SHA-256.
    pub(super) fn sha256() -> Self {
        Self::Sha256(Box::default())
    }

    /// Adds the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::GitBlob(content) => content.extend_from_slice(bytes),
        }
    }

    /// The digest's lower-case hexadecimal digits.
    pub(super) fn finish(self) -> String {
        match self {
            Self::Sha256(state) => hex(&state.finalize()),
            Self::GitBlob(content) => {
                let mut state = sha1::Sha1::new();
                state.update(format!("blob {}\0", content.len()));
                state.update(&content);
                hex(&state.finalize())
            }
        }
    }
}

/// The SHA-256 of the file at `path`, 64 lower-case hexadecimal digits.
pub(super) fn sha256_of(path: &Path, progress: &mut dyn Progress) -> Result<String> {
    let mut hasher = Hasher::sha256();
    feed(&mut hasher, path, progress)?;
    Ok(hasher.finish())
}

fn feed(hasher: &mut Hasher, path: &Path, progress: &mut dyn Progress) -> Result<()> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let length = file.metadata().map_err(|error| Error::io(path, error))?.len();
    if matches!(hasher, Hasher::GitBlob(_)) && length > MAX_GIT_BLOB {
        return Err(Error::invalid_file(
            path,
            format!(
                "{length} bytes are too many for a file under a git digest; the limit is \
                 {MAX_GIT_BLOB}"
            ),
        ));
    }
    let name =
        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    progress.start(&format!("checking {name}"), Some(length));
    let mut buffer = vec![0; 1 << 18];
    let mut done = 0;
    loop {
        let count = file.read(&mut buffer).map_err(|error| Error::io(path, error))?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        done += count as u64;
        progress.update(done);
    }
    progress.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &Digest, content: &[u8]) {
        let mut hasher = Hasher::new(wanted);
        for chunk in content.chunks(3) {
            hasher.update(chunk);
        }
        assert_eq!(hasher.finish(), wanted.hex());
    }

    #[test]
    fn digests_equal_the_reference_tools() {
        // printf 'hello\n' | sha256sum ; printf 'hello\n' | git hash-object --stdin
        check(
            &Digest::Sha256(
                "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".into(),
            ),
            b"hello\n",
        );
        check(&Digest::GitBlob("ce013625030ba8dba906f756967f9e9ca394464a".into()), b"hello\n");
    }

    #[test]
    fn only_plain_digests_come_out_of_an_etag() {
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(Digest::from_etag(&format!("W/\"{sha}\"")), Some(Digest::Sha256(sha.into())));
        assert_eq!(
            Digest::from_etag(&format!("\"{}\"", &sha[..40])),
            Some(Digest::GitBlob(sha[..40].into()))
        );
        for bad in [
            "",
            "\"\"",
            "../../x",
            &sha[1..],
            &format!("{sha}0"),
            &sha.to_uppercase(),
            &format!("{}/..", &sha[..37]),
            "g".repeat(64).as_str(),
        ] {
            assert_eq!(Digest::from_etag(bad), None, "{bad}");
        }
    }
}
