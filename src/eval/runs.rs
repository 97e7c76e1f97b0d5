//! From paths to runs: a path is a run folder, or a folder with a run folder for each strategy or
//! shard.
//!
//! Contract: what is found does not depend on the order in which the system lists a folder. The
//! shards of a run are one run, whichever of the paths they lie under, and come in the order of the
//! undivided run; a shard that is missing, there twice, or of another run is an error that names
//! it. It reads manifests; records are read where they are asked for.

use std::fs;
use std::path::{Path, PathBuf};

use super::folder::{IfExists, MANIFEST, Manifest, RECORDS, Records, RunFolder};
use super::score::{self, LeftOut, RunScorer, Scored, ScoredRun};
use super::{Grader, RecordedOutcome, Shard};
use crate::calibration::PolicyFile;
use crate::consensus::{self, Reader};
use crate::error::{Error, Result};

/// Bytes of records that are written at once when shards are merged.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// A run that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRef {
    /// The path that was given; for a strategy's run below it, with the strategy's folder.
    pub name: String,
    /// What was run; of shards, what the undivided run would say.
    pub manifest: Manifest,
    /// Its folder; several, in their order, where it was split into shards.
    pub folders: Vec<PathBuf>,
}

impl RunRef {
    /// One run folder as it is, even if it is one shard of several.
    ///
    /// # Errors
    /// No manifest there, or one that cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        Ok(Self { name: folder.display().to_string(), manifest, folders: vec![folder.to_owned()] })
    }

    /// Its records in the order of questions.
    ///
    /// # Errors
    /// No records there.
    pub fn records(&self) -> Result<Records> {
        Records::of(&self.folders)
    }

    /// Its questions, with verdicts from the stored samples: as the run was decided, or by another
    /// policy, without the questions that it was calibrated on.
    ///
    /// # Errors
    /// A manifest of another version, or a policy of another configuration, by field; a line that
    /// is not a record.
    pub fn rescore(&self, policy: Option<&PolicyFile>) -> Result<ScoredRun> {
        let scorer = RunScorer::new(self, policy)?;
        let mut run = ScoredRun::default();
        for record in self.records()? {
            let record = record?;
            match scorer.score(&record) {
                Ok(scored) => run.questions.push(scored),
                Err(LeftOut::WithoutGold) => run.without_gold.push(record.doc.id),
                Err(LeftOut::CalibratedOn) => {}
            }
        }
        run.drift = scorer.drift(run.questions.iter().map(|scored| &scored.item));
        Ok(run)
    }

    /// Its questions, with answers read, grouped and weighed in another way.
    ///
    /// # Errors
    /// A record without something that this way of reading needs; as for [`Self::rescore`].
    pub fn reread(&self, reader: Reader) -> Result<ScoredRun> {
        // A policy file was fitted to answers as the run read them.
        let mut selector = score::selector_with_policy(&self.manifest, None)?;
        selector.reader = reader;
        let mut run = ScoredRun::default();
        for record in self.records()? {
            let record = record?;
            let asked = score::asked(&self.manifest, &record.doc);
            let generation = record.outcome.as_ref().map(RecordedOutcome::generation);
            let missing = generation.and_then(|g| consensus::missing(&asked, &g, &selector.reader));
            if let Some(flag) = missing {
                return Err(Error::usage(format!(
                    "{}: question {} holds nothing of what {flag} asks the model; run again with \
                     {flag}",
                    self.name, record.doc.id
                )));
            }
            if Grader::new(self.manifest.task.scorer, &record.doc).has_gold() {
                let scored = score::item(&record, &self.manifest, &selector);
                run.questions.push(Scored { differs: None, ..scored });
            } else {
                run.without_gold.push(record.doc.id);
            }
        }
        Ok(run)
    }

    /// Writes the run into one folder, records as they are, to the byte. Returns how many.
    ///
    /// # Errors
    /// A shard that is not finished, a folder that holds records already, or no space.
    pub fn merge(&self, out: &Path) -> Result<usize> {
        for folder in &self.folders {
            let (due, done) =
                (Manifest::read(folder)?.task.due(), Records::open(folder)?.count_lines()?);
            if done != due {
                let reason = format!(
                    "{} has {done} of {due} records; finish it with the same `candor eval` first",
                    folder.display()
                );
                return Err(Error::usage(reason));
            }
        }
        let mut merged = RunFolder::open(out, &self.manifest, IfExists::Refuse)?;
        if !merged.is_empty()? {
            return Err(Error::usage(format!(
                "{} holds records already; merge into another folder",
                out.display()
            )));
        }
        let (mut written, mut lines) = (0, Vec::new());
        let mut records = self.records()?;
        while let Some(line) = records.next_line() {
            lines.extend(line?);
            written += 1;
            if lines.len() >= WRITTEN_AT_ONCE {
                merged.append(&lines)?;
                lines.clear();
            }
        }
        merged.append(&lines)?;
        Ok(written)
    }
}

/// Every run that paths lead to, in the order of the paths, and below each by name.
///
/// # Errors
/// A path without a run; a manifest that cannot be read; shards that are missing, there twice, or
/// of different runs.
pub fn runs(paths: &[impl AsRef<Path>]) -> Result<Vec<RunRef>> {
    let mut groups: Vec<ShardGroup> = Vec::new();
    for path in paths {
        for run_dir in run_dirs(path.as_ref())? {
            match groups.iter_mut().find(|group| {
                run_dir.shard().is_some()
                    && group.root == run_dir.root
                    && group.relative == run_dir.relative
            }) {
                Some(group) => group.run_dirs.push(run_dir),
                None => groups.push(ShardGroup {
                    root: run_dir.root.clone(),
                    relative: run_dir.relative.clone(),
                    run_dirs: vec![run_dir],
                }),
            }
        }
    }
    gather(groups).into_iter().map(ShardGroup::assemble).collect()
}

/// The one run that a path leads to.
///
/// # Errors
/// As for [`runs`]; several runs, with their names.
pub fn single_run(path: &Path) -> Result<RunRef> {
    let mut found = runs(&[path])?;
    match (found.pop(), found.is_empty()) {
        (Some(run), true) => Ok(run),
        (last, _) => {
            let names: Vec<String> = found.into_iter().chain(last).map(|run| run.name).collect();
            Err(Error::usage(format!(
                "{} holds several runs; give one of {}",
                path.display(),
                names.join(", ")
            )))
        }
    }
}

/// A folder with a manifest of its own.
struct RunDir {
    /// What a shard lies under, as it was given.
    root: PathBuf,
    /// The strategy's folder below it, or empty.
    relative: String,
    folder: PathBuf,
    manifest: Manifest,
}

impl RunDir {
    fn shard(&self) -> Option<Shard> {
        self.manifest.task.shard
    }
}

/// The folders with a manifest at a path, right below it, or, for shards of strategies, one
/// further.
fn run_dirs(path: &Path) -> Result<Vec<RunDir>> {
    if is_run(path) {
        let manifest = Manifest::read(path)?;
        let above = path
            .parent()
            .filter(|above| manifest.task.shard.is_some() && !above.as_os_str().is_empty());
        let root = above.unwrap_or(path).to_owned();
        return Ok(vec![RunDir {
            root,
            relative: String::new(),
            folder: path.to_owned(),
            manifest,
        }]);
    }
    let mut found = Vec::new();
    for child in folders(path)? {
        let name = child.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_run(&child) {
            let manifest = Manifest::read(&child)?;
            let relative = if manifest.task.shard.is_some() { String::new() } else { name };
            found.push(RunDir { root: path.to_owned(), relative, folder: child, manifest });
            continue;
        }
        for shard in folders(&child)?.into_iter().filter(|folder| is_run(folder)) {
            let manifest = Manifest::read(&shard)?;
            found.push(RunDir {
                root: path.to_owned(),
                relative: name.clone(),
                folder: shard,
                manifest,
            });
        }
    }
    if found.is_empty() {
        Err(Error::usage(format!(
            "{}: no run in it; give a folder that `candor eval` wrote",
            path.display()
        )))
    } else {
        Ok(found)
    }
}

fn is_run(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

/// The run folders right below one, by name.
pub(super) fn run_dirs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(folders(folder)?
        .into_iter()
        .filter(|child| is_run(child) && child.join(RECORDS).is_file())
        .collect())
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let io = |e| Error::io(path, e);
    let entries = fs::read_dir(path).map_err(io)?;
    let mut folders =
        entries.map(|entry| Ok(entry.map_err(io)?.path())).collect::<Result<Vec<_>>>()?;
    folders.retain(|path| path.is_dir());
    folders.sort_unstable();
    Ok(folders)
}

/// Folders that are one run.
struct ShardGroup {
    root: PathBuf,
    relative: String,
    run_dirs: Vec<RunDir>,
}

/// Joins shards that lie under different paths, as they do when several machines ran them.
fn gather(groups: Vec<ShardGroup>) -> Vec<ShardGroup> {
    let mut gathered: Vec<ShardGroup> = Vec::new();
    for group in groups {
        let alone = group
            .run_dirs
            .first()
            .and_then(RunDir::shard)
            .is_none_or(|shard| shard.of <= group.run_dirs.len());
        let other = gathered.iter_mut().find(|other| {
            let missing = other
                .run_dirs
                .first()
                .and_then(RunDir::shard)
                .is_some_and(|shard| other.run_dirs.len() < shard.of);
            !alone && missing && other.relative == group.relative
        });
        match other {
            Some(other) => other.run_dirs.extend(group.run_dirs),
            None => gathered.push(group),
        }
    }
    gathered
}

impl ShardGroup {
    fn assemble(mut self) -> Result<RunRef> {
        let name = if self.relative.is_empty() {
            self.root.clone()
        } else {
            self.root.join(&self.relative)
        }
        .display()
        .to_string();
        self.run_dirs.sort_by_key(RunDir::shard);
        let Some(first) = self.run_dirs.first() else {
            return Err(Error::usage(format!("{name}: no run in it")));
        };
        let manifest = first.manifest.without_shard();
        if first.shard().is_none() {
            return Ok(RunRef {
                name: first.folder.display().to_string(),
                manifest,
                folders: vec![first.folder.clone()],
            });
        }
        for pair in self.run_dirs.windows(2) {
            let [a, b] = pair else { continue };
            let differences = a.manifest.without_shard().differences(&b.manifest.without_shard());
            if !differences.is_empty() || a.shard().map(|s| s.of) != b.shard().map(|s| s.of) {
                return Err(different(a, b, &differences));
            }
            if let (true, Some(shard)) = (a.shard() == b.shard(), a.shard()) {
                let (a, b) = (a.folder.display(), b.folder.display());
                return Err(Error::usage(format!(
                    "shard {shard} of {name} is there twice, in {a} and in {b}; give it once"
                )));
            }
        }
        let of = first.shard().map_or(1, |shard| shard.of);
        let there = |index: &usize| {
            self.run_dirs
                .iter()
                .any(|run_dir| run_dir.shard().is_some_and(|shard| shard.index == *index))
        };
        let missing: Vec<String> = (1..=of)
            .filter(|index| !there(index))
            .map(|index| Shard { index, of }.to_string())
            .take(5)
            .collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(Error::usage(format!(
                "{name} lacks shard {missing}; run it with --shard, or give its folder too"
            )));
        }
        Ok(RunRef {
            name,
            manifest,
            folders: self.run_dirs.into_iter().map(|run_dir| run_dir.folder).collect(),
        })
    }
}

fn different(a: &RunDir, b: &RunDir, differences: &[String]) -> Error {
    let shard = |run_dir: &RunDir| {
        run_dir.shard().map_or_else(|| "no shard".to_owned(), |shard| format!("shard {shard}"))
    };
    let split = [format!("{} and {}", shard(b), shard(a))];
    let differences = if differences.is_empty() { &split[..] } else { differences }.join("; ");
    let (a, b) = (a.folder.display(), b.folder.display());
    Error::usage(format!(
        "{b} is not a shard of the run that {a} is of: {differences}; give the shards of one run"
    ))
}
