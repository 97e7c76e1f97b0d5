//! A local server that speaks the Hub's protocol and injects faults.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha2::Digest as _;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const NEXT_COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";
pub const GGUF: &str = "tiny-Q4_1.gguf";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub fn sha256(content: &[u8]) -> String {
    hex(&sha2::Sha256::digest(content))
}

fn git_digest(content: &[u8]) -> String {
    hex(&sha1::Sha1::digest([format!("blob {}\0", content.len()).as_bytes(), content].concat()))
}

/// Bytes that do not compress and differ by `seed`.
pub fn noise(length: usize, seed: u32) -> Vec<u8> {
    let step = |state: &mut u32| {
        *state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        Some((*state >> 24) as u8)
    };
    std::iter::repeat(()).scan(seed, |state, ()| step(state)).take(length).collect()
}

/// The fault of one response with a large file's bytes.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The full length is announced, this many bytes come, then the connection closes.
    CutAfter(usize),
    /// No length is announced, this many bytes come, then the connection closes.
    CutUnannounced(usize),
    /// The byte at this offset of the response is flipped.
    Flip(usize),
    /// This length is announced and sent, whatever the file's length.
    Length(usize),
    /// This many extra bytes, without an announced length.
    Longer(usize),
    /// This status, without bytes.
    Status(u16),
    /// The whole file in response to a range.
    IgnoreRange,
    /// A 206 whose `Content-Range` begins elsewhere.
    WrongRange,
    /// One byte, then nothing, the connection open.
    Stall,
    /// The bytes come slowly.
    Slow,
}

/// The server's files and behavior.
#[derive(Default)]
pub struct Site {
    /// Per commit: path, content. `.gguf`, `.safetensors` and `.parquet` files are large files,
    /// served through the second address.
    pub commits: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The commit of `main`.
    pub head: String,
    /// Applied to responses with a large file's bytes, in order.
    pub faults: VecDeque<Fault>,
    /// Replaces headers of metadata responses; an empty value drops the header.
    pub headers: BTreeMap<&'static str, String>,
    /// Answers every first-address request with this status and `X-Error-Code`.
    pub refuse: Option<(u16, &'static str)>,
    /// Where a large file's request is redirected to, instead of the second address.
    pub location: Option<String>,
    /// Replaces the listing.
    pub listing: Option<String>,
    /// Every request so far.
    pub log: Vec<Request>,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub cdn: bool,
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

pub struct Server {
    pub site: Arc<Mutex<Site>>,
    pub endpoint: String,
}

impl Server {
    /// Serves `files` as commit `COMMIT` of `user/repo`, on two addresses: the Hub's and the large
    /// files'.
    pub fn start(files: &[(&str, Vec<u8>)]) -> Self {
        let files =
            files.iter().map(|(path, content)| ((*path).to_owned(), content.clone())).collect();
        let site = Site {
            commits: BTreeMap::from([(COMMIT.to_owned(), files)]),
            head: COMMIT.to_owned(),
            ..Site::default()
        };
        let site = Arc::new(Mutex::new(site));
        let (hub, cdn) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let endpoint = format!("http://{}", hub.local_addr().unwrap());
        let cdn_address = format!("http://{}", cdn.local_addr().unwrap());
        for (listener, is_cdn) in [(hub, false), (cdn, true)] {
            let (site, cdn_address) = (Arc::clone(&site), cdn_address.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (site, cdn_address) = (Arc::clone(&site), cdn_address.clone());
                    thread::spawn(move || serve(stream, &site, &cdn_address, is_cdn));
                }
            });
        }
        Self { site, endpoint }
    }

    pub fn change(&self, change: impl FnOnce(&mut Site)) {
        change(&mut self.site.lock().unwrap());
    }

    pub fn faults(&self, faults: &[Fault]) {
        self.change(|site| site.faults = faults.iter().copied().collect());
    }

    pub fn log(&self) -> Vec<Request> {
        self.site.lock().unwrap().log.clone()
    }

    /// Requests for a large file's bytes.
    pub fn transfers(&self) -> Vec<Request> {
        self.log().into_iter().filter(|request| request.cdn).collect()
    }
}

/// Some tests close the connection early, so errors here are ignored.
fn serve(mut stream: TcpStream, site: &Mutex<Site>, cdn_address: &str, cdn: bool) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(std::io::Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: BTreeMap<_, _> = lines
        .by_ref()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        })
        .collect();
    let request = Request { cdn, method, path, headers };
    let mut site = site.lock().ok()?;
    site.log.push(request.clone());
    if let Some((status, code)) = site.refuse.filter(|_| !cdn) {
        return send(
            &mut stream,
            status,
            &[("X-Error-Code", code.to_owned())],
            b"",
            &request.method,
        );
    }
    if cdn {
        let digest = request.path.strip_prefix("/blob/")?.split('?').next()?;
        let content = site
            .commits
            .values()
            .flat_map(BTreeMap::values)
            .find(|content| sha256(content) == digest)
            .cloned()?;
        let fault = site.faults.pop_front();
        drop(site);
        return send_bytes(&mut stream, &content, fault, &request);
    }
    if let Some(revision) = request.path.strip_prefix("/api/models/user/repo/revision/") {
        let revision = revision.replace("%2F", "/");
        let commit = if revision == "main" || revision == "refs/pr/1" {
            site.head.clone()
        } else {
            revision
        };
        let Some(files) = site.commits.get(&commit) else {
            return send(&mut stream, 404, &[], b"", &request.method);
        };
        let siblings: Vec<_> =
            files.keys().map(|file| format!("{{\"rfilename\": {file:?}}}")).collect();
        let listing = format!(
            "{{\"id\": \"user/repo\", \"sha\": \"{commit}\", \"siblings\": [{}]}}",
            siblings.join(", ")
        );
        return send(
            &mut stream,
            200,
            &[],
            site.listing.as_ref().unwrap_or(&listing).as_bytes(),
            &request.method,
        );
    }
    // A data set of the same name has the same files.
    let place = request.path.strip_prefix("/datasets").unwrap_or(&request.path);
    let (revision, file) = place.strip_prefix("/user/repo/resolve/")?.split_once('/')?;
    let commit = if revision == "main" { site.head.clone() } else { revision.to_owned() };
    let Some(content) = site.commits.get(&commit).and_then(|files| files.get(file)) else {
        return send(
            &mut stream,
            404,
            &[("X-Error-Code", "EntryNotFound".to_owned())],
            b"",
            &request.method,
        );
    };
    let large =
        [".gguf", ".safetensors", ".parquet"].iter().any(|extension| file.ends_with(extension));
    let mut headers = BTreeMap::from([("X-Repo-Commit", commit.clone())]);
    if large {
        headers.insert("X-Linked-ETag", format!("\"{}\"", sha256(content)));
        headers.insert("X-Linked-Size", content.len().to_string());
        headers.insert(
            "Location",
            site.location.clone().unwrap_or_else(|| {
                format!("{cdn_address}/blob/{}?signature=secret", sha256(content))
            }),
        );
    } else {
        headers.insert("ETag", format!("\"{}\"", git_digest(content)));
    }
    headers.extend(site.headers.clone());
    headers.retain(|_, value| !value.is_empty());
    let headers: Vec<_> = headers.into_iter().collect();
    let (status, mut body) = if large { (302, Vec::new()) } else { (200, content.clone()) };
    if request.method == "GET" && !large && matches!(site.faults.front(), Some(Fault::Flip(_))) {
        site.faults.pop_front();
        body[0] ^= 1;
    }
    send(&mut stream, status, &headers, &body, &request.method)
}

fn send(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&str, String)],
    body: &[u8],
    method: &str,
) -> Option<()> {
    let mut head =
        format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").ok()?;
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(if method == "HEAD" { b"" } else { body }).ok()
}

/// A large file's bytes in the requested range.
fn send_bytes(
    stream: &mut TcpStream,
    content: &[u8],
    fault: Option<Fault>,
    request: &Request,
) -> Option<()> {
    let etag = format!("\"cdn-{}\"", content.len());
    let unchanged = request.headers.get("if-range").is_none_or(|validator| *validator == etag);
    let offset = request
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let offset = offset.filter(|_| unchanged && !matches!(fault, Some(Fault::IgnoreRange)));
    if let Some(Fault::Status(status)) = fault {
        return send(stream, status, &[], b"", "GET");
    }
    if offset.is_some_and(|offset| offset >= content.len()) {
        return send(stream, 416, &[], b"", "GET");
    }
    let start = offset.unwrap_or(0);
    let mut body = content[start..].to_vec();
    let mut announced = Some(body.len());
    match fault {
        Some(Fault::CutAfter(count)) => body.truncate(count),
        Some(Fault::CutUnannounced(count)) => {
            (announced, body) = (None, body[..count.min(body.len())].to_vec());
        }
        Some(Fault::Flip(place)) => body[place] ^= 1,
        Some(Fault::Length(length)) => {
            body.resize(length, 0);
            announced = Some(length);
        }
        Some(Fault::Longer(count)) => (announced, body) = (None, [body, vec![0; count]].concat()),
        _ => {}
    }
    let mut head = format!(
        "HTTP/1.1 {} x\r\nConnection: close\r\nETag: {etag}\r\n",
        if offset.is_some() { 206 } else { 200 }
    );
    if let Some(start) = offset {
        let start = if matches!(fault, Some(Fault::WrongRange)) { start - 1 } else { start };
        write!(head, "Content-Range: bytes {start}-{}/{}\r\n", content.len() - 1, content.len())
            .ok()?;
    }
    if let Some(length) = announced {
        write!(head, "Content-Length: {length}\r\n").ok()?;
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    match fault {
        Some(Fault::Stall) => {
            stream.write_all(&body[..1]).ok()?;
            thread::sleep(Duration::from_secs(5));
        }
        Some(Fault::Slow) => {
            for chunk in body.chunks(body.len() / 8 + 1) {
                stream.write_all(chunk).ok()?;
                thread::sleep(Duration::from_millis(60));
            }
        }
        _ => stream.write_all(&body).ok()?,
    }
    Some(())
}
