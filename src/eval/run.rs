//! The run: many questions in flight, records in the order of questions.
//!
//! A record is written, and on the disk, as soon as all records before it are; so whatever ends the
//! run, what is done stays done and the same call continues it. The records of a run that was
//! interrupted are those of one that was not, to the byte, except for [`Record::timing`]: a sample
//! depends neither on the batch nor on what came before. A failed question is a
//! record that says why; a failed forward pass or a full disk ends the run.

use std::path::{Path, PathBuf};

use super::{Doc, IfExists, Manifest, Questions, Record, RunFolder, Scorer, Shard, Subset};
use crate::error::{Error, Result};
use crate::pipeline::{Answered, DriveOptions, Pipeline, QuestionTemplate, Sink};
use crate::strategy::Question;

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
    /// Stop at the first failed question, instead of recording its error and continuing.
    pub fail_on_error: bool,
    /// What to do where another run's records are.
    pub if_exists: IfExists,
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
            if_exists: IfExists::Refuse,
        }
    }

    /// Where its records go.
    pub fn records_folder(&self) -> PathBuf {
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

/// Runs, or continues what was begun. `on_progress` is called at the start and after every record.
///
/// # Errors
/// A folder that cannot be taken, see [`RunFolder::open`]; questions that the policy file was made
/// on; a failed forward pass; a full disk; with [`Run::fail_on_error`] the first question that
/// cannot be asked, after all those before it are recorded.
pub fn run(
    pipeline: &mut Pipeline,
    run: &Run<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Progress> {
    let asked = run.questions.subset(run.subset)?;
    check_overlap(pipeline, run.questions, &asked)?;
    let mut manifest = Manifest::new(pipeline, run.questions, run.subset, &asked);
    manifest.task.shard = run.shard;
    let asked: Vec<usize> = match run.shard {
        Some(shard) => shard.take(asked.into_iter()).collect(),
        None => asked,
    };
    let mut folder = RunFolder::open(&run.records_folder(), &manifest, run.if_exists)?;
    let docs = asked.iter().filter_map(|i| Some((*i, run.questions.docs.get(*i)?)));
    let expected: Vec<(usize, String)> = docs.map(|(i, doc)| (i, doc.hash())).collect();
    let (found, torn_bytes) = folder.resume(&expected)?;
    let progress = Progress { done: found, found, total: asked.len(), torn_bytes };
    on_progress(progress);
    let left = asked.get(found..).unwrap_or_default();
    let (scorer, template) = (run.questions.scorer, pipeline.template().clone());
    let docs = left.iter().map(|i| run.questions.docs.get(*i).cloned().unwrap_or_default());
    let mut questions = docs.map(|doc| question(&doc, scorer, &template));
    let mut recorder = Recorder { run, asked: left, folder, progress, on_progress };
    let options = DriveOptions { in_flight: run.in_flight, ordered: true };
    pipeline.drive(&mut questions, options, &mut recorder)?;
    Ok(recorder.progress)
}

/// A question of a task as it is asked.
pub(super) fn question(doc: &Doc, scorer: Scorer, template: &QuestionTemplate) -> Question {
    Question {
        messages: template.messages(&scorer.question(doc)),
        choices: scorer.choices(doc),
        options: doc.choices.clone(),
    }
}

/// Writes a record for every outcome.
struct Recorder<'a> {
    run: &'a Run<'a>,
    /// The questions' indices in the task.
    asked: &'a [usize],
    folder: RunFolder,
    progress: Progress,
    on_progress: &'a mut dyn FnMut(Progress),
}

impl Sink for Recorder<'_> {
    fn on_outcome(&mut self, question: usize, answered: Answered) -> Result<()> {
        let record = recorded(self.run.questions, self.asked[question], answered)?;
        if self.run.fail_on_error && record.error.is_some() {
            return Err(stopped(&record));
        }
        self.folder.append(&record.to_line()?)?;
        self.progress.done += 1;
        (self.on_progress)(self.progress);
        Ok(())
    }
}

/// The record of a question by its index, answered or failed.
///
/// # Errors
/// An error that is not the question's fault.
pub(super) fn recorded(questions: &Questions, doc_id: usize, answered: Answered) -> Result<Record> {
    let Answered { prompt_sha256, outcome } = answered;
    match outcome {
        Ok(outcome) => {
            Ok(Record::new(questions, doc_id, prompt_sha256.unwrap_or_default(), outcome))
        }
        Err(error) if error.is_question_fault() => {
            Ok(Record::failed(questions, doc_id, prompt_sha256, &error))
        }
        Err(error) => Err(error),
    }
}

fn stopped(record: &Record) -> Error {
    let reason = record.error.as_deref().unwrap_or_default();
    Error::Stopped(format!(
        "question {} could not be asked: {reason}; what was recorded before it stays",
        record.doc.id
    ))
}

/// Refuses questions that the policy file was made on: metrics on them would be too good.
fn check_overlap(pipeline: &Pipeline, questions: &Questions, asked: &[usize]) -> Result<()> {
    let Some(file) = pipeline.selector().policy_file() else { return Ok(()) };
    let seen = file.calibrated_on();
    let mut docs = asked.iter().filter_map(|i| questions.docs.get(*i));
    match docs.find(|doc: &&Doc| seen.contains(&doc.id, &doc.text_digest())) {
        Some(Doc { id, .. }) => Err(Error::usage(format!(
            "the policy was made on question {id}, which is asked again here; ask others"
        ))),
        None => Ok(()),
    }
}
