//! From paths to runs: a path is a run folder, or a folder with a run folder for each strategy or
//! shard.
//!
//! Contract: what is found does not depend on the order in which the system lists a folder. The
//! shards of a run are one run, whichever of the paths they lie under, and come in the order of the
//! undivided run; a shard that is missing, there twice, or of another run is an error that names
//! it. It reads manifests; records are read where they are asked for.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::folder::{Existing, MANIFEST, Manifest, RECORDS, Records, RunFolder};
use super::{Scored, Shard, judge, score};
use crate::calibration::PolicyFile;
use crate::error::{Error, Result};

/// Bytes of records that are written at once when shards are merged.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// A run that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRun {
    /// The path that was given; for a strategy's run below it, with the strategy's folder.
    pub name: String,
    /// What was run; of shards, what the undivided run would say.
    pub manifest: Manifest,
    /// Its folder; several, in their order, where it was split into shards.
    pub folders: Vec<PathBuf>,
}

impl FoundRun {
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

    /// All its questions, judged again.
    ///
    /// # Errors
    /// A manifest that this program cannot judge by, or a line that is no record.
    pub fn rescore(&self) -> Result<Vec<Scored>> {
        let judge = judge(&self.manifest)?;
        self.records()?
            .map(|record| Ok(score::item(&record?, self.manifest.task.scorer, &judge)))
            .collect()
    }

    /// All its questions that the policy was not made on, decided by it; its figures are then those
    /// of questions that it never saw.
    ///
    /// # Errors
    /// A policy of another configuration, by field; as for [`Self::rescore`].
    pub fn decide(&self, policy: &PolicyFile) -> Result<Vec<Scored>> {
        let judge = score::judge_by(&self.manifest, Some(policy.clone()))?;
        let made_on: HashSet<&str> = policy.calibration_ids.iter().map(String::as_str).collect();
        let scorer = self.manifest.task.scorer;
        let held_out = self.records()?.filter(|record| {
            record.as_ref().map_or(true, |record| !made_on.contains(record.doc.id.as_str()))
        });
        held_out
            .map(|record| Ok(Scored { differs: None, ..score::item(&record?, scorer, &judge) }))
            .collect()
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
        let mut merged = RunFolder::open(out, &self.manifest, Existing::Keep)?;
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
pub fn runs(paths: &[impl AsRef<Path>]) -> Result<Vec<FoundRun>> {
    let mut groups: Vec<Group> = Vec::new();
    for path in paths {
        for leaf in leaves(path.as_ref())? {
            match groups.iter_mut().find(|group| {
                leaf.shard().is_some() && group.root == leaf.root && group.relative == leaf.relative
            }) {
                Some(group) => group.leaves.push(leaf),
                None => groups.push(Group {
                    root: leaf.root.clone(),
                    relative: leaf.relative.clone(),
                    leaves: vec![leaf],
                }),
            }
        }
    }
    gather(groups).into_iter().map(Group::assemble).collect()
}

/// The one run that a path leads to.
///
/// # Errors
/// As for [`runs`]; several runs, with their names.
pub fn only_run(path: &Path) -> Result<FoundRun> {
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
struct Leaf {
    /// What a shard lies under, as it was given.
    root: PathBuf,
    /// The strategy's folder below it; empty where there is none.
    relative: String,
    folder: PathBuf,
    manifest: Manifest,
}

impl Leaf {
    fn shard(&self) -> Option<Shard> {
        self.manifest.task.shard
    }
}

/// The folders with a manifest at a path, right below it, or, for shards of strategies, one
/// further.
fn leaves(path: &Path) -> Result<Vec<Leaf>> {
    if is_run(path) {
        let manifest = Manifest::read(path)?;
        let above = path
            .parent()
            .filter(|above| manifest.task.shard.is_some() && !above.as_os_str().is_empty());
        let root = above.unwrap_or(path).to_owned();
        return Ok(vec![Leaf { root, relative: String::new(), folder: path.to_owned(), manifest }]);
    }
    let mut found = Vec::new();
    for child in folders(path)? {
        let name = child.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_run(&child) {
            let manifest = Manifest::read(&child)?;
            let relative = if manifest.task.shard.is_some() { String::new() } else { name };
            found.push(Leaf { root: path.to_owned(), relative, folder: child, manifest });
            continue;
        }
        for shard in folders(&child)?.into_iter().filter(|folder| is_run(folder)) {
            let manifest = Manifest::read(&shard)?;
            found.push(Leaf {
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
pub(super) fn below(folder: &Path) -> Result<Vec<PathBuf>> {
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
struct Group {
    root: PathBuf,
    relative: String,
    leaves: Vec<Leaf>,
}

/// Joins shards that lie under different paths, as they do when several machines ran them.
fn gather(groups: Vec<Group>) -> Vec<Group> {
    let mut gathered: Vec<Group> = Vec::new();
    for group in groups {
        let alone = group
            .leaves
            .first()
            .and_then(Leaf::shard)
            .is_none_or(|shard| shard.of <= group.leaves.len());
        let other = gathered.iter_mut().find(|other| {
            let missing = other
                .leaves
                .first()
                .and_then(Leaf::shard)
                .is_some_and(|shard| other.leaves.len() < shard.of);
            !alone && missing && other.relative == group.relative
        });
        match other {
            Some(other) => other.leaves.extend(group.leaves),
            None => gathered.push(group),
        }
    }
    gathered
}

impl Group {
    fn assemble(mut self) -> Result<FoundRun> {
        let name = if self.relative.is_empty() {
            self.root.clone()
        } else {
            self.root.join(&self.relative)
        }
        .display()
        .to_string();
        self.leaves.sort_by_key(Leaf::shard);
        let Some(first) = self.leaves.first() else {
            return Err(Error::usage(format!("{name}: no run in it")));
        };
        let manifest = first.manifest.undivided();
        if first.shard().is_none() {
            return Ok(FoundRun {
                name: first.folder.display().to_string(),
                manifest,
                folders: vec![first.folder.clone()],
            });
        }
        for pair in self.leaves.windows(2) {
            let [a, b] = pair else { continue };
            let differences = a.manifest.undivided().differences(&b.manifest.undivided());
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
            self.leaves.iter().any(|leaf| leaf.shard().is_some_and(|shard| shard.index == *index))
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
        Ok(FoundRun {
            name,
            manifest,
            folders: self.leaves.into_iter().map(|leaf| leaf.folder).collect(),
        })
    }
}

fn different(a: &Leaf, b: &Leaf, differences: &[String]) -> Error {
    let shard = |leaf: &Leaf| {
        leaf.shard().map_or_else(|| "no shard".to_owned(), |shard| format!("shard {shard}"))
    };
    let split = [format!("{} and {}", shard(b), shard(a))];
    let differences = if differences.is_empty() { &split[..] } else { differences }.join("; ");
    let (a, b) = (a.folder.display(), b.folder.display());
    Error::usage(format!(
        "{b} is no shard of the run that {a} is of: {differences}; give the shards of one run"
    ))
}
