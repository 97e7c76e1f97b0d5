//! The records of a run, read and scored on all cores.
//!
//! Contract: questions are in the order of the records, whatever the threads do. Samples are kept
//! only for the questions that the page lists, which bounds the memory. An invalid line is an error
//! that names file and line.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::graded::GradedRecord;
use crate::error::{Error, Result};
use crate::eval::{LeftOut, Record, RunRef, RunScorer};

/// Queue length of each thread, in lines.
const QUEUED_LINES: usize = 64;

/// A question with its scores.
#[derive(Debug)]
pub struct ReadQuestion {
    /// The record, its vote counted again; without samples unless the page lists the question.
    pub record: Record,
    /// Its grade, decision and scores.
    pub graded: GradedRecord,
    /// Whether something differs from what was recorded.
    pub differs: bool,
}

/// A question with its scores, or its id and why it is left out.
pub type Read = std::result::Result<ReadQuestion, (LeftOut, String)>;

/// A line with its position.
struct Line {
    index: usize,
    path: PathBuf,
    number: usize,
    bytes: Vec<u8>,
}

/// The questions that a thread has parsed, or its first invalid line, by position.
type Parsed = std::result::Result<Vec<(usize, Read)>, (usize, Error)>;

/// Reads a run. `listed` says by position which questions are kept with their samples.
///
/// # Errors
/// Missing records, or an invalid line.
pub fn read(
    run: &RunRef,
    scorer: &RunScorer<'_>,
    listed: &(dyn Fn(usize) -> bool + Sync),
) -> Result<Vec<Read>> {
    let mut records = run.records()?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut questions = thread::scope(|scope| {
        let (senders, workers): (Vec<_>, Vec<_>) = (0..threads)
            .map(|_| {
                let (sender, receiver) = sync_channel(QUEUED_LINES);
                (sender, scope.spawn(move || parse_all(&receiver, scorer, listed)))
            })
            .unzip();
        let mut index = 0;
        let mut turn = senders.iter().cycle();
        while let (Some(line), Some(sender)) = (records.next_line(), turn.next()) {
            let bytes = line?;
            let (path, number) = records.read_from();
            let line = Line { index, path: path.to_owned(), number, bytes };
            // A worker that is gone has an error, which is reported below.
            if sender.send(line).is_err() {
                break;
            }
            index += 1;
        }
        drop(senders);
        let (mut questions, mut errors) = (Vec::with_capacity(index), Vec::new());
        for worker in workers {
            match worker
                .join()
                .map_err(|_| Error::Backend("a thread that read records ended early".to_owned()))?
            {
                Ok(read) => questions.extend(read),
                Err(bad) => errors.push(bad),
            }
        }
        // Lines are handed out in order, so this is the first invalid one, whichever thread is
        // faster.
        errors
            .into_iter()
            .min_by_key(|(index, _)| *index)
            .map_or(Ok(questions), |(_, error)| Err(error))
    })?;
    questions.sort_unstable_by_key(|(index, _)| *index);
    Ok(questions.into_iter().map(|(_, question)| question).collect())
}

fn parse_all(
    lines: &Receiver<Line>,
    scorer: &RunScorer<'_>,
    listed: &(dyn Fn(usize) -> bool + Sync),
) -> Parsed {
    let parse = |line: Line| {
        let read = parse(&line, scorer, listed(line.index)).map_err(|error| (line.index, error))?;
        Ok((line.index, read))
    };
    lines.iter().map(parse).collect()
}

fn parse(line: &Line, scorer: &RunScorer<'_>, with_samples: bool) -> Result<Read> {
    let mut record: Record = serde_json::from_slice(&line.bytes).map_err(|e| {
        Error::invalid_file(&line.path, format!("line {}: not a record: {e}", line.number))
    })?;
    let scored = match scorer.score(&record) {
        Ok(scored) => scored,
        Err(reason) => return Ok(Err((reason, record.doc.id))),
    };
    let graded = GradedRecord::new(&scored, record.error.as_ref());
    if let (Some(outcome), Some(verdict)) = (&mut record.outcome, scored.verdict) {
        outcome.vote = verdict.vote;
        if !with_samples {
            outcome.samples = Vec::new();
        }
    }
    record.resps = Vec::new();
    Ok(Ok(ReadQuestion { record, graded, differs: scored.differs.is_some() }))
}
