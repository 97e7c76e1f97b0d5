//! A run again: the recorded questions are asked with the run's configuration, and each new record
//! is compared with the recorded line.
//!
//! Contract: records are compared to the byte, except for [`Record::timing`]. It writes nothing.

use serde_json::Value;

use super::folder::shortened;
use super::run::{question, recorded};
use super::{Manifest, Questions, Record, RunRef, Subset};
use crate::consensus::Extractor;
use crate::error::{Error, Result};
use crate::pipeline::{Answered, DriveOptions, Pipeline, Sink};

/// What came of asking again.
pub struct Reproduction {
    /// What of the configuration is not as in the run, a phrase each.
    pub changes: Vec<String>,
    /// The id of each question, with the first difference of its record: where it is, and both
    /// values. `None` if the records are equal.
    pub records: Vec<(String, Option<String>)>,
}

/// Asks the first `limit` recorded questions of a run again. `on_record` is called at the start and
/// after every record with their number so far and in all.
///
/// # Errors
/// A run without records, a line that is not a record, or a failed forward pass.
pub fn reproduce(
    pipeline: &mut Pipeline,
    run: &RunRef,
    limit: usize,
    on_record: &mut dyn FnMut(usize, usize),
) -> Result<Reproduction> {
    let (lines, docs) = read(run, limit)?;
    let task = &run.manifest.task;
    let questions = Questions {
        name: task.name.clone(),
        file_sha256: task.file_sha256.clone(),
        question_template: pipeline.template().user.clone(),
        scorer: task.scorer,
        // Answers are read as the pipeline says.
        extractor: Extractor::default(),
        docs,
        notes: Vec::new(),
    };
    let now = Manifest::new(pipeline, &questions, Subset::default(), &[]);
    let changes = run.manifest.differences(&Manifest { task: task.clone(), ..now });
    let template = pipeline.template().clone();
    let mut asked = questions.docs.iter().map(|doc| question(doc, task.scorer, &template));
    on_record(0, lines.len());
    let mut comparer =
        Comparer { questions: &questions, lines: &lines, records: Vec::new(), on_record };
    pipeline.drive(&mut asked, DriveOptions::default(), &mut comparer)?;
    Ok(Reproduction { changes, records: comparer.records })
}

/// The first lines of a run, each with its question's index in the task, and their questions.
#[expect(clippy::type_complexity, reason = "used once")]
fn read(run: &RunRef, limit: usize) -> Result<(Vec<(usize, Vec<u8>)>, Vec<super::Doc>)> {
    let (mut lines, mut docs) = (Vec::new(), Vec::new());
    let mut records = run.records()?;
    while lines.len() < limit {
        let Some(line) = records.next_line().transpose()? else { break };
        let record: Record = serde_json::from_slice(&line).map_err(|e| {
            let (path, number) = records.read_from();
            Error::invalid_file(path, format!("line {number}: not a record: {e}"))
        })?;
        docs.push(record.doc);
        lines.push((record.doc_id, line));
    }
    if lines.is_empty() {
        return Err(Error::usage(format!(
            "no record of {} is asked again; take a run with records, and a limit above 0",
            run.name
        )));
    }
    Ok((lines, docs))
}

/// Compares every outcome's record with the recorded line.
struct Comparer<'a> {
    questions: &'a Questions,
    lines: &'a [(usize, Vec<u8>)],
    records: Vec<(String, Option<String>)>,
    on_record: &'a mut dyn FnMut(usize, usize),
}

impl Sink for Comparer<'_> {
    fn on_outcome(&mut self, question: usize, answered: Answered) -> Result<()> {
        let mut record = recorded(self.questions, question, answered)?;
        let Some((doc_id, line)) = self.lines.get(question) else { return Ok(()) };
        record.doc_id = *doc_id;
        let difference = difference(line, &record.to_line()?);
        self.records.push((record.doc.id, difference));
        (self.on_record)(self.records.len(), self.lines.len());
        Ok(())
    }
}

/// The first difference between two lines, except for the timing, which ends a line.
fn difference(recorded: &[u8], now: &[u8]) -> Option<String> {
    const TIMING: &[u8] = b",\"timing\":";
    let without_time = |line: &[u8]| {
        let end = line.windows(TIMING.len()).rposition(|part| part == TIMING);
        line.get(..end.unwrap_or(line.len())).unwrap_or_default().to_vec()
    };
    if without_time(recorded) == without_time(now) {
        return None;
    }
    let value = |line: &[u8]| {
        let mut value: Value = serde_json::from_slice(line).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("timing");
        }
        value
    };
    let (recorded, now) = (value(recorded), value(now));
    // What a later version adds comes last: then all that was recorded is equal.
    let found = [false, true]
        .into_iter()
        .find_map(|with_new| first_difference("", Some(&recorded), Some(&now), with_new));
    Some(found.unwrap_or_else(|| "the values are equal, their text is not".to_owned()))
}

/// The path of the first value that differs, with both values; fields that were not recorded only
/// `with_new`.
fn first_difference(
    path: &str,
    recorded: Option<&Value>,
    now: Option<&Value>,
    with_new: bool,
) -> Option<String> {
    match (recorded, now) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let new = b.keys().filter(|name| with_new && !a.contains_key(*name));
            a.keys().chain(new).find_map(|name| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                first_difference(&path, a.get(name), b.get(name), with_new)
            })
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            (0..a.len().max(b.len())).find_map(|at| {
                first_difference(&format!("{path}[{at}]"), a.get(at), b.get(at), with_new)
            })
        }
        _ if recorded == now => None,
        _ => {
            let text = |value: Option<&Value>| {
                value.map_or("absent".to_owned(), |value| shortened(&value.to_string()))
            };
            Some(format!("{path} is {} and was {}", text(now), text(recorded)))
        }
    }
}
