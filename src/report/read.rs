//! Reads records for a report: only the fields that it shows, on all cores.
//!
//! Contract: questions are in the order of the records, whatever the threads do. Verdicts and
//! scores are those of the record. Token statistics are parsed only for the questions that the page
//! lists, which makes it fast. An invalid line is an error that names file and line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use serde::Deserialize;

use crate::consensus::Vote;
use crate::error::{Error, Result};
use crate::eval::{Doc, RunRef, ScoredChoice};
use crate::generation::FinishReason;
use crate::generation::{Timing, TokenCounts};
use crate::metrics::Grade;
use crate::uncertainty::Estimator;

/// Queue length of each thread, in lines.
const QUEUED_LINES: usize = 64;

/// A record without samples.
#[derive(Debug, Deserialize)]
pub struct Head {
    /// The question.
    pub doc: Doc,
    /// SHA-256 of the question with everything that belongs to it.
    pub doc_hash: String,
    /// Whether the leading answer is right.
    pub grade: Grade,
    /// The error of a question that could not be asked.
    #[serde(default)]
    pub error: Option<String>,
    /// The outcome; `None` if the question could not be asked.
    pub outcome: Option<RecordedOutcome>,
    /// Times.
    pub timing: Timing,
}

/// The decision with its inputs.
#[derive(Debug, Deserialize)]
pub struct RecordedOutcome {
    /// Answer or abstain. Not flattened, unlike in the record, because that would keep all unknown
    /// fields, including the samples.
    pub decision: RecordedDecision,
    /// The reason for abstaining.
    pub reason: Option<Reason>,
    /// Calibrated probability of being correct.
    pub confidence: Option<f64>,
    /// Every estimator's natural score.
    pub scores: BTreeMap<String, f64>,
    /// The vote.
    pub vote: Vote,
    /// The likelihood of every choice, if choices were scored.
    #[serde(default)]
    pub choices: Vec<ScoredChoice>,
    /// The cost.
    pub cost: TokenCounts,
    /// Deviations from the request.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl RecordedOutcome {
    /// An estimator's natural score.
    pub fn score(&self, estimator: &Estimator) -> Option<f64> {
        self.scores.get(estimator.name).copied()
    }
}

/// The kind of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedDecision {
    /// The leading answer was given.
    Answer,
    /// No answer was given.
    Abstain,
}

/// The reason for abstaining.
#[derive(Clone, Debug, Deserialize)]
pub struct Reason {
    /// One word.
    pub code: String,
    /// One sentence.
    #[serde(default)]
    pub detail: String,
}

/// A sample as the page shows it.
#[derive(Debug, Deserialize)]
pub struct ShownSample {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Its tokens.
    pub tokens: Vec<ShownToken>,
}

/// A token as the page shows it.
#[derive(Debug, Deserialize)]
pub struct ShownToken {
    /// Token id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Entropy of the step in nats.
    pub entropy: f64,
}

#[derive(Deserialize)]
struct SamplesOfRecord {
    outcome: Option<Samples>,
}

#[derive(Deserialize)]
struct Samples {
    samples: Vec<ShownSample>,
}

/// A parsed question.
#[derive(Debug)]
pub struct ReadQuestion {
    /// The record without samples.
    pub head: Head,
    /// Its samples, if the page lists the question.
    pub samples: Option<Vec<ShownSample>>,
}

/// A line with its position.
struct Line {
    index: usize,
    path: PathBuf,
    number: usize,
    bytes: Vec<u8>,
}

/// The questions that a thread has parsed, or its first invalid line, by position.
type Parsed = std::result::Result<Vec<(usize, ReadQuestion)>, (usize, Error)>;

/// Reads a run. `listed` says by position which questions are read with their samples.
///
/// # Errors
/// Missing records, or an invalid line.
pub fn read(run: &RunRef, listed: &(dyn Fn(usize) -> bool + Sync)) -> Result<Vec<ReadQuestion>> {
    let mut records = run.records()?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut questions = thread::scope(|scope| {
        let (senders, workers): (Vec<_>, Vec<_>) = (0..threads)
            .map(|_| {
                let (sender, receiver) = sync_channel(QUEUED_LINES);
                (sender, scope.spawn(move || parse_all(&receiver, listed)))
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

fn parse_all(lines: &Receiver<Line>, listed: &(dyn Fn(usize) -> bool + Sync)) -> Parsed {
    lines
        .iter()
        .map(|line| {
            Ok((line.index, parse(&line, listed(line.index)).map_err(|error| (line.index, error))?))
        })
        .collect()
}

fn parse(line: &Line, with_samples: bool) -> Result<ReadQuestion> {
    let bad =
        |e| Error::invalid_file(&line.path, format!("line {}: not a record: {e}", line.number));
    let head: Head = serde_json::from_slice(&line.bytes).map_err(bad)?;
    let samples = if with_samples {
        serde_json::from_slice::<SamplesOfRecord>(&line.bytes)
            .map_err(bad)?
            .outcome
            .map(|o| o.samples)
    } else {
        None
    };
    Ok(ReadQuestion { head, samples })
}
