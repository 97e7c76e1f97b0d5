//! The run folder: `manifest.json` says what is run, `records.jsonl` has a line for each question
//! that is done.
//!
//! Contract: one process writes at a time, which a lock on the records holds. The manifest is whole
//! or absent, and a run goes on only under the same one. Records are in the order of questions and
//! only ever appended; a torn last line, and nothing else, is cut away. What cannot be trusted is
//! an error that names file and line. It does not know what makes a record.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::{Questions, Record, Scorer, Shard, Subset, runs};
use crate::calibration::{Fingerprint, PolicyFile};
use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::files;
use crate::machine;
use crate::pipeline::{Pipeline, ResolvedConfig};

/// The only layout.
const FORMAT: u32 = 1;
/// What is run.
pub(super) const MANIFEST: &str = "manifest.json";
/// A line for each question that is done.
pub(super) const RECORDS: &str = "records.jsonl";
/// Longest line of a record.
const MAX_LINE_BYTES: usize = 1 << 30;

/// What is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout, 1.
    pub format: u32,
    /// The questions.
    pub task: TaskConfig,
    /// The resolved configuration of the pipeline.
    pub config: ResolvedConfig,
    /// The estimator whose score is the uncertainty.
    pub estimator: String,
    /// What a calibration of this run is bound to; `None` for a model without one digest.
    pub fingerprint: Option<Fingerprint>,
    /// The policy file that decided, if there was one; `None` for one of an older layout, whose
    /// threshold is in the configuration too.
    #[serde(default, deserialize_with = "readable_policy")]
    pub policy: Option<PolicyFile>,
    /// The machine. `cpu` may change while a run is continued, and so may `cpu_features` where
    /// candor's own kernels compute, which give the same bits with all of them.
    pub machine: Value,
}

/// A policy file of this version's layout.
fn readable_policy<'de, D: Deserializer<'de>>(input: D) -> Result<Option<PolicyFile>, D::Error> {
    let policy = Option::<Value>::deserialize(input)?;
    let current = policy.filter(|policy| policy["version"] == PolicyFile::VERSION);
    current.map(|policy| serde_json::from_value(policy).map_err(D::Error::custom)).transpose()
}

/// The questions of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskConfig {
    /// The task's or the file's name.
    pub name: String,
    /// SHA-256 of the file; `None` where the questions are made on the spot.
    pub file_sha256: Option<String>,
    /// SHA-256 over the hashes of the questions asked, by all shards together.
    pub docs_sha256: String,
    /// How many questions are asked, by all shards together.
    pub questions: usize,
    /// Which of all.
    #[serde(flatten)]
    pub subset: Subset,
    /// How an answer is graded.
    pub scorer: Scorer,
    /// Which part of the questions asked this folder holds; all where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

impl TaskConfig {
    /// How many records the folder has when it is done.
    pub fn due(&self) -> usize {
        self.shard.map_or(self.questions, |shard| shard.take(0..self.questions).count())
    }
}

impl Manifest {
    /// The manifest of asking some questions, by index, of a pipeline; without a shard.
    pub fn new(
        pipeline: &Pipeline,
        questions: &Questions,
        subset: Subset,
        asked: &[usize],
    ) -> Self {
        let hashes: Vec<String> =
            asked.iter().filter_map(|i| questions.docs.get(*i)).map(super::Doc::hash).collect();
        Self {
            format: FORMAT,
            task: TaskConfig {
                name: questions.name.clone(),
                file_sha256: questions.file_sha256.clone(),
                docs_sha256: sha256_hex(hashes.concat().as_bytes()),
                questions: asked.len(),
                subset,
                scorer: questions.scorer,
                shard: None,
            },
            config: pipeline.config().clone(),
            estimator: pipeline.selector().estimator.name.to_owned(),
            fingerprint: pipeline.fingerprint().ok(),
            policy: pipeline.selector().policy_file().cloned(),
            machine: json!({
                "cpu": machine::cpu_name(),
                "cpu_features": machine::cpu_features(),
            }),
        }
    }

    /// Reads a run's manifest.
    ///
    /// # Errors
    /// The file is missing or not a manifest.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        let mut manifest: Self = serde_json::from_str(&text)
            .map_err(|e| Error::invalid_file(&path, format!("no manifest of a run: {e}")))?;
        // Older manifests have fewer fields in their fingerprint.
        if let Some(old) = manifest.fingerprint.take_if(|old| old.version.is_empty()) {
            manifest.fingerprint = Some(manifest.config.fingerprint(&old.estimator)?);
        }
        if manifest.format != FORMAT {
            let reason = format!(
                "format is {}; this program reads {FORMAT}; run again into another folder",
                manifest.format
            );
            return Err(Error::invalid_file(&path, reason));
        }
        if let Some(shard) = manifest.task.shard.filter(|shard| !shard.is_valid()) {
            return Err(Error::invalid_file(
                &path,
                format!("shard {shard} cannot be; it must be 1 or more of as many as there are"),
            ));
        }
        Ok(manifest)
    }

    /// The manifest of the run that this is a shard of, or itself.
    #[must_use]
    pub fn without_shard(&self) -> Self {
        Self { task: TaskConfig { shard: None, ..self.task.clone() }, ..self.clone() }
    }

    /// The fields that must be the same for a run to go on, by path.
    fn fields(&self) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        // Through text, since a value would widen f32: 0.7 has to stay 0.7.
        let text = serde_json::to_string(self).unwrap_or_default();
        flatten("", &serde_json::from_str(&text).unwrap_or_default(), &mut fields);
        fields.remove("machine.cpu");
        if self.config.compute.device == "cpu" {
            fields.remove("machine.cpu_features");
        }
        fields
    }

    /// What differs between what was begun and what is asked for, a phrase each.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let (was, is) = (self.fields(), other.fields());
        let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let value = |fields: &BTreeMap<String, String>, name: &str| {
            fields.get(name).map_or("absent".to_owned(), |v| shortened(v))
        };
        names
            .into_iter()
            .filter(|name| was.get(*name) != is.get(*name))
            .map(|name| format!("{name} is {} and was {}", value(&is, name), value(&was, name)))
            .collect()
    }
}

fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                flatten(
                    &if path.is_empty() { key.clone() } else { format!("{path}.{key}") },
                    value,
                    fields,
                );
            }
        }
        other => {
            fields.insert(path.to_owned(), other.to_string());
        }
    }
}

pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain("...".chars()).collect()
    }
}

/// What to do with a folder where another run was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// Refuse it.
    #[default]
    Refuse,
    /// Drop the other run's records and start over. The same run is still continued.
    Overwrite,
}

/// A run folder that this process writes to.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked as long as it is open.
    records: File,
}

impl RunFolder {
    /// Takes a folder for a run: a new one, or one where the same run was begun.
    ///
    /// # Errors
    /// Usage: another process writes there, or the folder holds another run and `if_exists` is
    /// `Refuse`; the error names every field that differs. Io: the folder cannot be created. Files
    /// that no run wrote are never replaced.
    pub fn open(folder: &Path, manifest: &Manifest, if_exists: IfExists) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        check_place(folder)?;
        let path = folder.join(RECORDS);
        let records = locked(&path, folder)?;
        let io = |e| Error::io(&path, e);
        if folder.join(MANIFEST).exists() {
            let differences = Manifest::read(folder)?.differences(manifest);
            match if_exists {
                _ if differences.is_empty() => return Ok(Self { path, records }),
                IfExists::Refuse => {
                    let (folder, differences) = (folder.display(), differences.join("; "));
                    let remedy = "take another folder, the same settings, or --force to start anew";
                    return Err(Error::usage(format!(
                        "{folder} holds another run: {differences}; {remedy}"
                    )));
                }
                // Records first: those of one run never stand under the manifest of another.
                IfExists::Overwrite => {
                    records.set_len(0).and_then(|()| records.sync_all()).map_err(io)?;
                }
            }
        } else if records.metadata().map_err(io)?.len() > 0 {
            return Err(Error::invalid_file(
                &path,
                "records without a manifest; take another folder",
            ));
        }
        let text = serde_json::to_string_pretty(manifest)
            .map_err(|e| Error::Backend(format!("cannot write the manifest as JSON: {e}")))?;
        let path_of_manifest = folder.join(MANIFEST);
        files::write_atomic(&path_of_manifest, format!("{text}\n").as_bytes())
            .map_err(|e| Error::io(&path_of_manifest, e))?;
        Ok(Self { path, records })
    }

    /// How many questions are done already, of those whose (index, hash) are given in order. A torn
    /// last line is cut away; its length in bytes is the second number.
    ///
    /// # Errors
    /// A line that is not a record of the expected question.
    pub fn resume(&mut self, expected: &[(usize, String)]) -> Result<(usize, u64)> {
        let io = |e| Error::io(&self.path, e);
        self.records.rewind().map_err(io)?;
        let total = self.records.metadata().map_err(io)?.len();
        let mut reader = BufReader::new(&self.records);
        let (mut done, mut whole, mut line) = (0, 0, Vec::new());
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(io)? as u64;
            if length == 0 {
                break;
            }
            let at_end = whole + length == total;
            match check_line(&line, expected.get(done)) {
                Ok(()) => {}
                // What a crash left of the last write, with or without its newline.
                Err(_)
                    if at_end
                        && (line.last() != Some(&b'\n')
                            || serde_json::from_slice::<Value>(&line).is_err()) =>
                {
                    break;
                }
                Err(reason) => {
                    return Err(Error::invalid_file(
                        &self.path,
                        format!("line {}: {reason}", done + 1),
                    ));
                }
            }
            (done, whole) = (done + 1, whole + length);
        }
        if whole < total {
            self.records.set_len(whole).map_err(io)?;
        }
        Ok((done, total - whole))
    }

    /// Whether no record is there.
    pub(super) fn is_empty(&self) -> Result<bool> {
        Ok(self.records.metadata().map_err(|e| Error::io(&self.path, e))?.len() == 0)
    }

    /// Appends whole lines; when it returns they are on the disk.
    ///
    /// # Errors
    /// No space, or any other refusal of the system.
    pub fn append(&mut self, lines: &[u8]) -> Result<()> {
        let written = self.records.write_all(lines).and_then(|()| self.records.sync_data());
        written.map_err(|e| Error::io(&self.path, e))
    }
}

impl Drop for RunFolder {
    /// Gives the lock back by name: a child process that was just started may still hold the file
    /// open.
    fn drop(&mut self) {
        // The system drops it with the last holder of the file at the latest.
        let _ = self.records.unlock();
    }
}

/// The records, open and locked by this process.
fn locked(path: &Path, folder: &Path) -> Result<File> {
    let io = |e| Error::io(path, e);
    let records = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
    if !records.metadata().map_err(io)?.is_file() {
        return Err(Error::invalid_file(path, "not a regular file; take another folder"));
    }
    if files::try_lock(&records).map_err(io)? {
        return Ok(records);
    }
    Err(Error::usage(format!(
        "another run writes to {}; wait for it or take another folder",
        folder.display()
    )))
}

/// Refuses a folder around other runs, and one within another run: neither would be found again.
fn check_place(folder: &Path) -> Result<()> {
    let names = |folders: &[PathBuf]| {
        folders.iter().take(5).map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let inner = runs::run_dirs_in(folder)?;
    if !inner.is_empty() {
        let reason = format!(
            "{} is a folder around the runs {}; take another one",
            folder.display(),
            names(&inner)
        );
        return Err(Error::usage(reason));
    }
    let around = |above: &&Path| above.join(MANIFEST).is_file() && above.join(RECORDS).is_file();
    match folder
        .ancestors()
        .skip(1)
        .take(2)
        .filter(|above| !above.as_os_str().is_empty())
        .find(around)
    {
        Some(above) => Err(Error::usage(format!(
            "{} lies within the run {}; take another folder",
            folder.display(),
            above.display()
        ))),
        None => Ok(()),
    }
}

fn check_line(line: &[u8], expected: Option<&(usize, String)>) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Head {
        doc_id: usize,
        doc_hash: String,
    }
    if line.last() != Some(&b'\n') {
        return Err("it has no end".into());
    }
    let head: Head =
        serde_json::from_slice(line).map_err(|e| format!("no record: {e}; take another folder"))?;
    match expected {
        Some((doc_id, hash)) if head.doc_id == *doc_id && head.doc_hash == *hash => Ok(()),
        Some((doc_id, _)) => Err(format!(
            "a record of question {}, where {doc_id} is due; take another folder",
            head.doc_id
        )),
        None => Err("a record more than there are questions; take another folder".into()),
    }
}

/// The records of a run in the order of questions; a torn last line is left out.
pub struct Records {
    /// A reader for each shard; one for an undivided run.
    parts: Vec<Part>,
    /// Whose turn it is.
    turn: usize,
}

struct Part {
    path: PathBuf,
    reader: BufReader<File>,
    line: usize,
    ended: bool,
}

impl Records {
    /// Opens the records of one run folder.
    ///
    /// # Errors
    /// No such file.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::of(&[folder])
    }

    /// Opens the records of the shards of one run, given in their order.
    ///
    /// # Errors
    /// No such file.
    pub fn of(folders: &[impl AsRef<Path>]) -> Result<Self> {
        let open = |folder: &Path| {
            let path = folder.join(RECORDS);
            let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
            Ok(Part { path, reader: BufReader::new(file), line: 0, ended: false })
        };
        Ok(Self {
            parts: folders.iter().map(|folder| open(folder.as_ref())).collect::<Result<_>>()?,
            turn: 0,
        })
    }

    /// The next whole line with its newline, from the shard whose turn it is; one that has no more
    /// is left out from then on.
    pub(crate) fn next_line(&mut self) -> Option<Result<Vec<u8>>> {
        for _ in 0..self.parts.len() {
            let count = self.parts.len();
            let part = self.parts.get_mut(self.turn)?;
            self.turn = (self.turn + 1) % count;
            if let Some(line) = part.next_line() {
                return Some(line);
            }
        }
        None
    }

    /// How many whole lines are left.
    pub(super) fn count_lines(mut self) -> Result<usize> {
        let mut count = 0;
        while let Some(line) = self.next_line() {
            line?;
            count += 1;
        }
        Ok(count)
    }

    /// Where the line that was read last stands.
    pub(crate) fn read_from(&self) -> (&Path, usize) {
        let last = self.turn.checked_sub(1).unwrap_or(self.parts.len().saturating_sub(1));
        self.parts.get(last).map_or((Path::new(""), 0), |part| (&part.path, part.line))
    }
}

impl Part {
    fn next_line(&mut self) -> Option<Result<Vec<u8>>> {
        if self.ended {
            return None;
        }
        let mut line = Vec::new();
        self.line += 1;
        let read =
            self.reader.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line);
        let result = match read {
            Err(error) => Some(Err(Error::io(&self.path, error))),
            Ok(length) if length > MAX_LINE_BYTES => Some(Err(Error::invalid_file(
                &self.path,
                format!("line {}: more than {} MB", self.line, MAX_LINE_BYTES >> 20),
            ))),
            Ok(_) if line.last() != Some(&b'\n') => None,
            Ok(_) => Some(Ok(line)),
        };
        self.ended = !matches!(result, Some(Ok(_)));
        result
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.next_line()? {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        let (path, number) = self.read_from();
        Some(
            serde_json::from_slice(&line)
                .map_err(|e| Error::invalid_file(path, format!("line {number}: no record: {e}"))),
        )
    }
}
