//! Rows of a JSONL, CSV or TSV file, each with the line that it stands on.
//!
//! Contract: a byte order mark and carriage returns are no part of a value; anything that cannot be read is an error that names file and
//! line. Sizes are bounded before anything is kept. It does not know what the fields mean.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map as Object, Value};

use crate::error::{Error, Result};

/// Longest file.
const MAX_BYTES: u64 = 1 << 30;
/// Longest line.
const MAX_LINE_BYTES: usize = 16 << 20;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Commas, quotes, a header.
    Csv,
    /// Tabs, a header, no quoting.
    Tsv,
}

impl Format {
    /// By the file's extension.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            Some("csv") => Ok(Self::Csv),
            Some("tsv") => Ok(Self::Tsv),
            _ => Err(Error::usage(format!("{}: the name must end with .jsonl, .csv or .tsv; convert or rename it", path.display()))),
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Its first line, from 1.
    pub line: usize,
    /// Its values by column.
    pub fields: Object<String, Value>,
}

impl Row {
    /// The value of a column.
    pub fn get(&self, column: &str, path: &Path) -> Result<&Value> {
        self.fields.get(column).ok_or_else(|| {
            let columns: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            self.bad(path, format!("no field `{column}`; it has {}; name the field with --map", columns.join(", ")))
        })
    }

    /// The value of a column that must be a text or a number.
    pub fn text(&self, column: &str, path: &Path) -> Result<String> {
        let value = self.get(column, path)?;
        scalar(value).ok_or_else(|| self.bad(path, format!("field `{column}` is {}; it must be a text", kind(value))))
    }

    /// An error about this row.
    pub fn bad(&self, path: &Path, reason: impl std::fmt::Display) -> Error {
        Error::invalid_file(path, format!("line {}: {reason}", self.line))
    }
}

/// A text, or a number as text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What a value is, in a word.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A file's text, without byte order mark.
pub(super) fn read(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::Resources(format!("{}: more than {} MB; split it", path.display(), MAX_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = e.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        Error::invalid_file(path, format!("line {line}: not UTF-8 at byte {valid}; save it as UTF-8"))
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// All rows of a text.
pub(super) fn rows(path: &Path, text: &str, format: Format) -> Result<Vec<Row>> {
    if let Some(line) = text.lines().position(|line| line.len() > MAX_LINE_BYTES) {
        return Err(Error::Resources(format!("{}: line {}: more than {} MB", path.display(), line + 1, MAX_LINE_BYTES >> 20)));
    }
    match format {
        Format::Jsonl => {
            text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(|(i, line)| json(path, i + 1, line)).collect()
        }
        Format::Csv => separated(path, csv::ReaderBuilder::new().from_reader(text.as_bytes())),
        Format::Tsv => separated(path, csv::ReaderBuilder::new().delimiter(b'\t').quoting(false).from_reader(text.as_bytes())),
    }
}

fn json(path: &Path, line: usize, text: &str) -> Result<Row> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(Row { line, fields }),
        Ok(other) => Err(Error::invalid_file(path, format!("line {line}: {}; it must be an object", kind(&other)))),
        Err(error) => Err(Error::invalid_file(path, format!("line {line}: not JSON: {error}"))),
    }
}

fn separated(path: &Path, mut reader: csv::Reader<&[u8]>) -> Result<Vec<Row>> {
    let bad = |error: &csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("{len} fields; the header has {expected_len}"),
            _ => error.to_string(),
        };
        Error::invalid_file(path, format!("line {line}: {reason}"))
    };
    let header = reader.headers().map_err(|e| bad(&e))?.clone();
    if let Some(twice) = header.iter().enumerate().find_map(|(i, name)| header.iter().take(i).any(|other| other == name).then_some(name)) {
        return Err(Error::invalid_file(path, format!("line 1: two columns are named `{twice}`; rename one")));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| bad(&e))?;
        let fields = header.iter().zip(&record).map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        rows.push(Row { line: record.position().map_or(0, csv::Position::line) as usize, fields });
    }
    Ok(rows)
}
