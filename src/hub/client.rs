//! The Hub's protocol over HTTP: one file's metadata, a repository's listing, a file's bytes from
//! an offset.
//!
//! A small client of our own on `ureq`, because the `hf-hub` crate does not meet the contract of
//! [`crate::hub`]: 0.5 uses the server's etag in a path unchecked, compares no digest, resumes
//! without checking the response's range and gives up on a lock after five seconds; 1.0 needs an
//! asynchronous runtime with about 176 crates, and does not resume.
//!
//! Contract: every wait is bounded; at most five redirects are followed, never from TLS to plain
//! HTTP; the token is sent only to the endpoint and appears in no message; a message never quotes
//! the server's text. Proxies are those of the environment (`HTTPS_PROXY`, `ALL_PROXY`,
//! `NO_PROXY`), except for this machine's own addresses. It does not know caches or the meaning of
//! digests.

use std::io::Read;
use std::thread::sleep;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, Uri};

use crate::error::{Error, Result};
use crate::manifest::{is_lower_hex, is_relative_path};

use super::digest::Digest;
use super::options::{HfToken, HubOptions};

const MAX_REDIRECTS: usize = 5;
const MAX_LISTING: u64 = 16 << 20;
const TRIES: u32 = 3;

/// One file of one commit, as the Hub describes it.
#[derive(Clone, Debug)]
pub(super) struct RemoteFile {
    /// `user/repo`.
    pub repo: String,
    /// Path inside the repository.
    pub file: String,
    /// The commit's 40 hexadecimal digits.
    pub commit: String,
    /// The expected digest.
    pub digest: Digest,
    /// Length in bytes; always known for files with a SHA-256.
    pub size: Option<u64>,
}

/// A repository at one commit.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// The commit's 40 hexadecimal digits.
    pub commit: String,
    /// Paths of all files, without those that could leave a folder.
    pub files: Vec<String>,
}

/// A response, after redirects.
pub(super) struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers of the last response.
    pub headers: HeaderMap,
    /// The body.
    pub body: ureq::Body,
}

impl Response {
    /// The header's value, if it is present and is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// A connection to one Hub.
pub(super) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    token: Option<HfToken>,
    connect_timeout: Duration,
    stall_timeout: Duration,
    pub(super) retry_delay: Duration,
}

impl Client {
    /// A client for the endpoint of `options`.
    ///
    /// # Errors
    /// A usage error if the endpoint is not an `http` or `https` address.
    pub(super) fn new(options: &HubOptions) -> Result<Self> {
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        let bad = || {
            Error::usage(format!(
                "HF_ENDPOINT is {endpoint:?}; it must be an address such as https://huggingface.co"
            ))
        };
        let origin = Origin::of(&endpoint).ok_or_else(bad)?;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.stall_timeout))
            .timeout_per_read(Some(options.stall_timeout))
            .timeout_per_write(Some(options.stall_timeout))
            .accept_encoding("identity")
            .user_agent(concat!("candor/", env!("CARGO_PKG_VERSION")));
        if origin.is_loopback() {
            config = config.proxy(None);
        }
        let token = options.token.clone().filter(|_| origin.tls || origin.is_loopback());
        let (connect_timeout, stall_timeout) = (options.connect_timeout, options.stall_timeout);
        let agent = config.build().new_agent();
        Ok(Self {
            agent,
            endpoint,
            token,
            connect_timeout,
            stall_timeout,
            retry_delay: options.retry_delay,
        })
    }

    /// Metadata of `file` in `repo` at `revision`.
    ///
    /// # Errors
    /// A network error if the Hub cannot be reached, does not have the file, or sends invalid
    /// metadata.
    pub(super) fn metadata(&self, repo: &str, revision: &str, file: &str) -> Result<RemoteFile> {
        let what = format!("{file} of {repo}");
        let mut redirect_headers = RedirectHeaders::default();
        let response = self.follow(
            "HEAD",
            &self.resolve_url(repo, revision, file),
            &[],
            &what,
            &mut redirect_headers,
        )?;
        if !redirect_headers.is_complete() {
            self.expect_success(&response, repo, &format!("{file} at revision {revision}"))?;
        }
        let hostile = |name: &str, value: &str| {
            Error::Network(format!(
                "the Hub at {} describes {what} with {name} {:?}, which is not a digest; check \
                 HF_ENDPOINT",
                self.endpoint,
                shorten(value)
            ))
        };
        let commit = redirect_headers.commit.unwrap_or_default();
        if !is_lower_hex(&commit, 40) {
            return Err(hostile("x-repo-commit", &commit));
        }
        let etag = redirect_headers
            .linked_etag
            .or_else(|| response.header("etag").map(str::to_owned))
            .unwrap_or_default();
        let digest = Digest::from_etag(&etag).ok_or_else(|| hostile("etag", &etag))?;
        let size = redirect_headers
            .linked_size
            .or_else(|| response.header("content-length").map(str::to_owned))
            .and_then(|size| size.trim().parse().ok());
        if size.is_none() && matches!(digest, Digest::Sha256(_)) {
            return Err(Error::Network(format!(
                "the Hub at {} gives no size for {what}; check HF_ENDPOINT",
                self.endpoint
            )));
        }
        Ok(RemoteFile { repo: repo.to_owned(), file: file.to_owned(), commit, digest, size })
    }

    /// The files of `repo` at `revision`.
    ///
    /// # Errors
    /// A network error if the Hub cannot be reached, does not have the revision, or sends something
    /// other than a listing.
    pub(super) fn listing(&self, repo: &str, revision: &str) -> Result<Listing> {
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        #[derive(Deserialize)]
        struct Model {
            sha: String,
            siblings: Vec<Sibling>,
        }
        let what = format!("the file list of {repo}");
        let url = format!("{}/api/models/{repo}/revision/{}", self.endpoint, encode(revision));
        let mut response = self.follow("GET", &url, &[], &what, &mut RedirectHeaders::default())?;
        self.expect_success(&response, repo, &format!("revision {revision}"))?;
        let strange = |why: &str| {
            Error::Network(format!(
                "the Hub at {} sent an invalid file list of {repo}: {why}; check HF_ENDPOINT",
                self.endpoint
            ))
        };
        let mut text = Vec::new();
        let mut reader = response.body.as_reader().take(MAX_LISTING + 1);
        reader.read_to_end(&mut text).map_err(|error| {
            Error::Network(format!("{what} was cut off ({}); try again", self.interruption(&error)))
        })?;
        if text.len() as u64 > MAX_LISTING {
            return Err(strange(&format!("it is longer than {MAX_LISTING} bytes")));
        }
        let model: Model = serde_json::from_slice(&text)
            .map_err(|_| strange("it is not a JSON object with sha and siblings"))?;
        if !is_lower_hex(&model.sha, 40) {
            return Err(strange(&format!("its commit is {:?}", shorten(&model.sha))));
        }
        let files = model
            .siblings
            .into_iter()
            .map(|sibling| sibling.rfilename)
            .filter(|file| is_relative_path(file))
            .collect();
        Ok(Listing { commit: model.sha, files })
    }

    /// The bytes of `remote` from `offset` on, if its etag still is `validator`.
    ///
    /// # Errors
    /// The reason if no response came; a response of any status is not an error.
    pub(super) fn open(
        &self,
        remote: &RemoteFile,
        offset: u64,
        validator: Option<&str>,
    ) -> Result<Response> {
        let mut headers = Vec::new();
        if offset > 0 {
            headers.push(("range", format!("bytes={offset}-")));
            headers.extend(validator.map(|validator| ("if-range", validator.to_owned())));
        }
        let url = self.resolve_url(&remote.repo, &remote.commit, &remote.file);
        self.follow(
            "GET",
            &url,
            &headers,
            &format!("{} of {}", remote.file, remote.repo),
            &mut RedirectHeaders::default(),
        )
    }

    /// An error that explains the Hub's refusal of `what` in `repo`; `Ok` for success.
    pub(super) fn expect_success(&self, response: &Response, repo: &str, what: &str) -> Result<()> {
        let hub = &self.endpoint;
        let message = match (response.status, response.header("x-error-code")) {
            (200..=299, _) => return Ok(()),
            (401 | 403, Some("GatedRepo")) => {
                format!("{repo} is gated; accept its terms at {hub}/{repo} and set HF_TOKEN")
            }
            (status @ (401 | 403), _) if self.token.is_none() => {
                format!(
                    "the Hub at {hub} answers {status} for {repo}: there is no such repository, \
                     or it is private; check the name or set HF_TOKEN"
                )
            }
            (status @ (401 | 403), _) => {
                format!(
                    "the Hub at {hub} answers {status} for {repo}: there is no such repository, \
                     or HF_TOKEN has no access; check both"
                )
            }
            (404, Some("RepoNotFound")) => {
                format!("there is no repository {repo} at {hub}; check the name")
            }
            (404, _) => format!("{repo} at {hub} has no {what}; check the name and the revision"),
            (429, _) => format!(
                "the Hub at {hub} answers 429 for {repo}: too many requests; wait a while or set \
                 HF_TOKEN"
            ),
            (status @ 500.., _) => {
                format!("the Hub at {hub} answers {status} for {repo}; try again later")
            }
            (status, _) => {
                format!("the Hub at {hub} answers {status} for {what} of {repo}; check HF_ENDPOINT")
            }
        };
        Err(Error::Network(self.redact(&message)))
    }

    /// A text that says why reading a body stopped.
    pub(super) fn interruption(&self, error: &std::io::Error) -> String {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
        let stalled = matches!(inner, Some(ureq::Error::Timeout(_)))
            || error.kind() == std::io::ErrorKind::TimedOut;
        if stalled {
            return format!("no byte came for {} s", self.stall_timeout.as_secs_f32());
        }
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return "the connection was closed early".to_owned();
        }
        self.redact(&one_line(&error.to_string()))
    }

    fn resolve_url(&self, repo: &str, revision: &str, file: &str) -> String {
        let path: Vec<_> = file.split('/').map(encode).collect();
        format!("{}/{repo}/resolve/{}/{}", self.endpoint, encode(revision), path.join("/"))
    }

    /// Follows redirects step by step, so that the token goes only to the endpoint and the headers
    /// of every step are read.
    fn follow(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, String)],
        what: &str,
        redirect_headers: &mut RedirectHeaders,
    ) -> Result<Response> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.request(method, &url, headers, what)?;
            redirect_headers.note(&response.headers);
            let redirected = matches!(response.status, 301 | 302 | 303 | 307 | 308);
            if !redirected || (method == "HEAD" && redirect_headers.is_complete()) {
                return Ok(response);
            }
            url = next_hop(&url, response.header("location").unwrap_or_default()).ok_or_else(
                || {
                    Error::Network(format!(
                        "the Hub at {} redirects {what} to an address that cannot be used; check \
                     HF_ENDPOINT",
                        self.endpoint
                    ))
                },
            )?;
        }
        Err(Error::Network(format!(
            "the Hub at {} redirects {what} more than {MAX_REDIRECTS} times; check HF_ENDPOINT",
            self.endpoint
        )))
    }

    /// One request; it is repeated if the server is busy or fails, but not if it is silent.
    fn request(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, String)],
        what: &str,
    ) -> Result<Response> {
        let (mut wait, mut tries) = (self.retry_delay, 1);
        loop {
            let mut request = ureq::http::Request::builder().method(method).uri(url);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some(token) = self.token.as_ref().filter(|_| {
                Origin::of(url).is_some() && Origin::of(url) == Origin::of(&self.endpoint)
            }) {
                request = request.header("authorization", token.header());
            }
            let request = request.body(()).map_err(|_| {
                Error::Network(format!(
                    "{what} has an address that cannot be used; check HF_ENDPOINT"
                ))
            })?;
            let response =
                self.agent.run(request).map_err(|error| self.unreachable(url, what, &error))?;
            let (parts, body) = response.into_parts();
            let status = parts.status.as_u16();
            if tries >= TRIES || !matches!(status, 429 | 500 | 502 | 503 | 504) {
                return Ok(Response { status, headers: parts.headers, body });
            }
            sleep(wait);
            (wait, tries) = (wait * 2, tries + 1);
        }
    }

    fn unreachable(&self, url: &str, what: &str, error: &ureq::Error) -> Error {
        let host = Origin::of(url).map_or_else(String::new, |origin| origin.to_string());
        let connect = self.connect_timeout.as_secs_f32();
        let why = match error {
            ureq::Error::HostNotFound => "the name does not resolve".to_owned(),
            ureq::Error::ConnectionFailed => "no connection".to_owned(),
            ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
                format!("no connection within {connect} s")
            }
            ureq::Error::Timeout(_) => {
                format!("no answer within {} s", self.stall_timeout.as_secs_f32())
            }
            ureq::Error::Io(error) => self.redact(&one_line(&error.to_string())),
            other => self.redact(&one_line(&other.to_string())),
        };
        Error::Network(format!(
            "{host} cannot be reached for {what} ({why}); check the network, a proxy or HF_ENDPOINT"
        ))
    }

    fn redact(&self, text: &str) -> String {
        self.token.as_ref().map_or_else(|| text.to_owned(), |token| token.redact(text))
    }
}

/// The Hub's headers, each from the first response of the redirect chain that has it.
#[derive(Default)]
struct RedirectHeaders {
    commit: Option<String>,
    linked_etag: Option<String>,
    linked_size: Option<String>,
}

impl RedirectHeaders {
    fn note(&mut self, headers: &HeaderMap) {
        let slots = [
            (&mut self.commit, "x-repo-commit"),
            (&mut self.linked_etag, "x-linked-etag"),
            (&mut self.linked_size, "x-linked-size"),
        ];
        for (slot, name) in slots {
            *slot = slot.take().or_else(|| header(headers, name).map(str::to_owned));
        }
    }

    fn is_complete(&self) -> bool {
        self.commit.is_some() && self.linked_etag.is_some() && self.linked_size.is_some()
    }
}

/// Scheme, host and port, which decide whether the token is sent.
#[derive(PartialEq, Eq)]
struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    fn of(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host().to_ascii_lowercase();
        // Credentials inside an address would be sent and shown, so such an address is refused.
        let plain = !host.is_empty() && !authority.as_str().contains('@');
        plain.then(|| Self {
            tls,
            host,
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }

    fn is_loopback(&self) -> bool {
        let address = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost"
            || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let default = if self.tls { 443 } else { 80 };
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// The target of the redirect `location` from `url`; `None` if it is not a web address or leaves
/// TLS.
fn next_hop(url: &str, location: &str) -> Option<String> {
    let from: Uri = url.parse().ok()?;
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let target = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        return None;
    };
    let to = Origin::of(&target)?;
    (to.tls || scheme == "http").then_some(target)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Percent-encodes everything except RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend(
                [byte >> 4, byte & 15]
                    .map(|nibble| char::from(b"0123456789ABCDEF"[usize::from(nibble)])),
            );
        }
    }
    encoded
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encoded() {
        assert_eq!(encode("refs/pr/1 é~"), "refs%2Fpr%2F1%20%C3%A9~");
        let client = Client::new(&HubOptions {
            endpoint: "https://hub.example".into(),
            ..HubOptions::default()
        })
        .unwrap();
        assert_eq!(
            client.resolve_url("a/b", "refs/pr/1", "x/y z?.gguf"),
            "https://hub.example/a/b/resolve/refs%2Fpr%2F1/x/y%20z%3F.gguf"
        );
    }

    fn check_hop(url: &str, location: &str, expected: Option<&str>) {
        assert_eq!(next_hop(url, location).as_deref(), expected, "{url} {location}");
    }

    #[test]
    fn redirects_stay_on_the_web_and_on_tls() {
        check_hop("https://a.example/x", "/y?z", Some("https://a.example/y?z"));
        check_hop("http://a.example:8/x", "//b.example/y", Some("http://b.example/y"));
        check_hop("https://a.example/x", "https://cdn.example/y", Some("https://cdn.example/y"));
        check_hop("https://a.example/x", "http://cdn.example/y", None);
        check_hop("https://a.example/x", "file:///etc/passwd", None);
        check_hop("https://a.example/x", "https://user:word@b.example/", None);
        check_hop("https://a.example/x", "", None);
    }

    #[test]
    fn the_token_goes_over_tls_or_stays_on_this_machine() {
        for (endpoint, sent) in [
            ("https://h.example", true),
            ("http://h.example", false),
            ("http://127.0.0.1:9", true),
            ("http://[::1]:9", true),
        ] {
            let options = HubOptions {
                endpoint: endpoint.into(),
                token: HfToken::new("t"),
                ..HubOptions::default()
            };
            assert_eq!(Client::new(&options).unwrap().token.is_some(), sent, "{endpoint}");
        }
        for endpoint in ["", "huggingface.co", "ftp://x", "https://", "https://user:word@h.example"]
        {
            let options = HubOptions { endpoint: endpoint.into(), ..HubOptions::default() };
            assert!(Client::new(&options).is_err_and(|error| error.is_usage()), "{endpoint}");
        }
    }
}
