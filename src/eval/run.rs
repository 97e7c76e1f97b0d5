//! The run: many questions in flight in one batch, records in the order of questions.
//!
//! Contract: a record is written, and on the disk, as soon as all records before it are; so
//! whatever ends the run, what is done stays done and the same call goes on after it. The records
//! of a run that was interrupted are those of one that was not, to the byte, but for
//! [`Record::timing`]: a sample depends neither on the batch nor on what came before. A question
//! that cannot be asked is a record that says why; an error of the machine ends the run.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::{Doc, Existing, Manifest, Questions, Record, RunFolder, Shard, Subset};
use crate::digest::sha256_hex;
use crate::engine::JobId;
use crate::error::{Error, Result};
use crate::pipeline::{AHEAD, Pipeline};

/// Questions in one batch, unless the caller says otherwise.
pub const IN_FLIGHT: usize = 16;

/// What is asked, and where the records go.
pub struct Run<'a> {
    /// The questions of the task.
    pub questions: &'a Questions,
    /// Which of them.
    pub subset: Subset,
    /// Which part of them, into a folder of its own below the run's; all where `None`.
    pub shard: Option<Shard>,
    /// The run folder.
    pub folder: &'a Path,
    /// Questions in one batch, at least 1. No record depends on it.
    pub in_flight: usize,
    /// Stop at the first question that cannot be asked, instead of recording why and going on.
    pub fail_on_error: bool,
    /// What to do where another run's records are.
    pub existing: Existing,
}

impl<'a> Run<'a> {
    /// All questions, undivided, 16 at a time.
    pub fn new(questions: &'a Questions, folder: &'a Path) -> Self {
        Self {
            questions,
            subset: Subset::default(),
            shard: None,
            folder,
            in_flight: IN_FLIGHT,
            fail_on_error: false,
            existing: Existing::Keep,
        }
    }

    /// Where its records go.
    pub fn place(&self) -> PathBuf {
        self.shard.map_or_else(|| self.folder.to_owned(), |shard| shard.folder(self.folder))
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Questions whose record is written.
    pub done: usize,
    /// How many of them an earlier run wrote.
    pub found: usize,
    /// All questions.
    pub total: usize,
    /// Bytes of a torn record that were cut away.
    pub torn_bytes: u64,
}

/// Runs, or goes on with what was begun. `heard` hears of the start and of every record.
///
/// # Errors
/// A folder that cannot be taken, see [`RunFolder::open`]; the questions' overlap with the policy
/// file's; the engine's; no space; with
/// [`Run::fail_on_error`] the first question that cannot be asked, after all those before it are
/// recorded.
pub fn run(
    pipeline: &mut Pipeline,
    run: &Run<'_>,
    heard: &mut dyn FnMut(Progress),
) -> Result<Progress> {
    let asked = run.questions.subset(run.subset)?;
    check_overlap(pipeline, run.questions, &asked)?;
    let mut manifest = Manifest::new(pipeline, run.questions, run.subset, &asked)?;
    manifest.task.shard = run.shard;
    let asked: Vec<usize> = match run.shard {
        Some(shard) => shard.take(asked.into_iter()).collect(),
        None => asked,
    };
    let mut folder = RunFolder::open(&run.place(), &manifest, run.existing)?;
    let docs = asked.iter().filter_map(|i| Some((*i, run.questions.docs.get(*i)?)));
    let expected: Vec<(usize, String)> = docs.map(|(i, doc)| (i, doc.hash())).collect();
    let (found, torn_bytes) = folder.resume(&expected)?;
    let mut progress = Progress { done: found, found, total: asked.len(), torn_bytes };
    heard(progress);
    let mut flight = Flight { pipeline, questions: run.questions, jobs: HashMap::new(), ended: 0 };
    let mut ready = InOrder { next: found, waiting: BTreeMap::new() };
    let (mut next, mut failed) = (found, None);
    while ready.next < asked.len() {
        let limit = asked.len().min(ready.next + AHEAD * run.in_flight.max(1));
        while next < limit
            && failed.is_none()
            && flight.jobs.len() < flight.width(run.in_flight.max(1))
        {
            match flight.submit(next, asked[next])? {
                Some(record) if run.fail_on_error => failed = Some(stopped(&record)),
                Some(record) => drop(ready.waiting.insert(next, record.to_line()?)),
                None => {}
            }
            next += 1;
        }
        for (place, record) in flight.step()? {
            ready.waiting.insert(place, record.to_line()?);
        }
        let lines = ready.take();
        if !lines.is_empty() {
            folder.append(&lines)?;
            progress.done = ready.next;
            heard(progress);
        }
        // What was asked before it is recorded; then it ends here.
        if let Some(error) = failed.take_if(|_| flight.jobs.is_empty()) {
            return Err(error);
        }
    }
    Ok(progress)
}

fn stopped(record: &Record) -> Error {
    let reason = record.error.as_deref().unwrap_or_default();
    Error::Stopped(format!(
        "question {} could not be asked: {reason}; what was recorded before it stays",
        record.doc.id
    ))
}

/// Refuses questions that the policy file was made on: figures over them would flatter.
fn check_overlap(pipeline: &Pipeline, questions: &Questions, asked: &[usize]) -> Result<()> {
    let ids = asked.iter().filter_map(|i| questions.docs.get(*i)).map(|doc: &Doc| doc.id.as_str());
    match pipeline.judge().policy_file().and_then(|file| file.overlap(ids)) {
        Some(id) => Err(Error::usage(format!(
            "the policy was made on question {id}, which is asked again here; ask others"
        ))),
        None => Ok(()),
    }
}

/// Questions that the engine works on.
struct Flight<'a> {
    pipeline: &'a mut Pipeline,
    questions: &'a Questions,
    /// Place among the questions asked, index in the task, hash of the prompt.
    jobs: HashMap<JobId, (usize, usize, String)>,
    /// Questions that came back.
    ended: usize,
}

impl Flight<'_> {
    /// How many questions may be on their way. Where all share their examples, the first goes ahead
    /// until these are in the prefix cache.
    fn width(&mut self, in_flight: usize) -> usize {
        let waits = self.ended == 0
            && self.pipeline.config().frame.shots.is_some()
            && self.pipeline.engine().prefix_cache_bytes() == 0;
        if waits { 1 } else { in_flight }
    }

    /// Asks a question; gives its record right away if it cannot be asked.
    fn submit(&mut self, place: usize, doc_id: usize) -> Result<Option<Record>> {
        let scorer = self.questions.scorer;
        let doc = self.questions.docs.get(doc_id);
        let messages =
            self.pipeline.frame(&doc.map(|doc| scorer.question(doc)).unwrap_or_default());
        let options = doc.map(|doc| scorer.options(doc)).unwrap_or_default();
        let mut prompt_hash = None;
        let submitted = self.pipeline.render(&messages).and_then(|prompt| {
            prompt_hash = Some(sha256_hex(prompt.text.as_bytes()));
            if scorer.is_likelihood() {
                self.pipeline.submit_options(&messages, &options)
            } else {
                self.pipeline.submit(prompt)
            }
        });
        match submitted {
            Ok(id) => {
                self.jobs.insert(id, (place, doc_id, prompt_hash.unwrap_or_default()));
                Ok(None)
            }
            Err(error) if error.is_usage() || error.is_resources() => {
                Ok(Some(Record::unasked(self.questions, doc_id, prompt_hash, &error)))
            }
            Err(error) => Err(error),
        }
    }

    /// One step of the engine; the records of what is finished, with their places.
    fn step(&mut self) -> Result<Vec<(usize, Record)>> {
        if self.jobs.is_empty() {
            return Ok(Vec::new());
        }
        let finished = self.pipeline.step()?;
        self.ended += finished.len();
        let records = finished.into_iter().filter_map(|(id, outcome)| {
            let (place, doc_id, prompt_hash) = self.jobs.remove(&id)?;
            Some((place, Record::new(self.questions, doc_id, prompt_hash, outcome)))
        });
        Ok(records.collect())
    }
}

/// Lines that wait for those before them.
struct InOrder {
    next: usize,
    waiting: BTreeMap<usize, Vec<u8>>,
}

impl InOrder {
    /// All lines whose turn it is.
    fn take(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        while let Some(line) = self.waiting.remove(&self.next) {
            lines.extend(line);
            self.next += 1;
        }
        lines
    }
}
