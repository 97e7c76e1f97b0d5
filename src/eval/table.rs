//! Rows of a JSONL, CSV, TSV or parquet file, each with its line or row number.
//!
//! Contract: a byte order mark and carriage returns are not part of a value; anything unreadable is
//! an error that names file and line. Numbers keep their value: one that 64 bits would change is a
//! text. Sizes are bounded before anything is kept. A field is
//! named by its column, or within nested values by a path with dots: `choices.text`.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map as Object, Value};

#[cfg(feature = "parquet")]
use super::parquet;
use crate::consensus::canonical;
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
    /// Apache Parquet: columns, compressed, possibly nested.
    Parquet,
}

impl Format {
    /// By the file's extension.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            Some("csv") => Ok(Self::Csv),
            Some("tsv") => Ok(Self::Tsv),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(Error::usage(format!(
                "{}: the name must end with .jsonl, .csv, .tsv or .parquet; convert or rename it",
                path.display()
            ))),
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Its first line, from 1; in a parquet file its number.
    pub line: usize,
    /// What `line` counts, in a word.
    unit: &'static str,
    /// Its values by column.
    pub fields: Object<String, Value>,
}

impl Row {
    /// A row that begins on a line.
    fn on_line(line: usize, fields: Object<String, Value>) -> Self {
        Self { line, unit: "line", fields }
    }

    /// A row of a file without lines, by its number from 1.
    pub fn numbered(number: usize, fields: Object<String, Value>) -> Self {
        Self { line: number, unit: "row", fields }
    }

    /// Its place, as in "line 3".
    pub fn place(&self) -> String {
        format!("{} {}", self.unit, self.line)
    }

    /// The value of a column, or at a path with dots.
    pub fn get(&self, column: &str, path: &Path) -> Result<Cow<'_, Value>> {
        let found = match self.fields.get(column) {
            Some(value) => Some(Cow::Borrowed(value)),
            None => {
                column.split_once('.').and_then(|(head, rest)| within(self.fields.get(head)?, rest))
            }
        };
        found.ok_or_else(|| {
            let columns: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            self.bad(
                path,
                format!(
                    "no field `{column}`; it has {}; name the field with --map",
                    columns.join(", ")
                ),
            )
        })
    }

    /// The value of a column that must be a text or a number.
    pub fn text(&self, column: &str, path: &Path) -> Result<String> {
        let value = self.get(column, path)?;
        scalar(&value).ok_or_else(|| {
            self.bad(path, format!("field `{column}` is {}; it must be a text", kind(&value)))
        })
    }

    /// An error about this row.
    pub fn bad(&self, path: &Path, reason: impl std::fmt::Display) -> Error {
        Error::invalid_file(path, format!("{}: {reason}", self.place()))
    }
}

/// The value at a path with dots within a value; in a list, that of each element.
fn within<'v>(value: &'v Value, path: &str) -> Option<Cow<'v, Value>> {
    match value {
        Value::Array(elements) => {
            let each = elements.iter().map(|element| within(element, path).map(Cow::into_owned));
            each.collect::<Option<Vec<_>>>().map(|each| Cow::Owned(Value::Array(each)))
        }
        Value::Object(fields) => match (fields.get(path), path.split_once('.')) {
            (Some(value), _) => Some(Cow::Borrowed(value)),
            (None, Some((head, rest))) => within(fields.get(head)?, rest),
            (None, None) => None,
        },
        _ => None,
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

/// A file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::Resources(format!(
            "{}: more than {} MB; split it",
            path.display(),
            MAX_BYTES >> 20
        )));
    }
    Ok(bytes)
}

/// A file's bytes as a text, without byte order mark.
pub(super) fn text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let valid = e.valid_up_to();
        let line = bytes.iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        Error::invalid_file(
            path,
            format!("line {line}: not UTF-8 at byte {valid}; save it as UTF-8"),
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// All rows of a file's bytes.
pub(super) fn rows(path: &Path, bytes: &[u8], format: Format) -> Result<Vec<Row>> {
    let lines = || short_lines(path, bytes);
    match format {
        #[cfg(feature = "parquet")]
        Format::Parquet => parquet::rows(path, bytes),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => Err(Error::usage(format!(
            "{}: this build reads no parquet; build with --features parquet, or convert the file",
            path.display()
        ))),
        Format::Jsonl => {
            let full = lines()?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            full.map(|(i, line)| json(path, i + 1, line)).collect()
        }
        Format::Csv => {
            let text = lines()?;
            check_quotes(text).map_err(|reason| Error::invalid_file(path, reason))?;
            separated(path, csv::ReaderBuilder::new().from_reader(text.as_bytes()))
        }
        Format::Tsv => separated(
            path,
            csv::ReaderBuilder::new()
                .delimiter(b'\t')
                .quoting(false)
                .from_reader(lines()?.as_bytes()),
        ),
    }
}

/// A file's bytes as a text without lines that are too long.
fn short_lines<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let text = text(path, bytes)?;
    match text.lines().position(|line| line.len() > MAX_LINE_BYTES) {
        Some(line) => Err(Error::Resources(format!(
            "{}: line {}: more than {} MB",
            path.display(),
            line + 1,
            MAX_LINE_BYTES >> 20
        ))),
        None => Ok(text),
    }
}

fn json(path: &Path, line: usize, text: &str) -> Result<Row> {
    match serde_json::from_str(&exact_numbers(text)) {
        Ok(Value::Object(fields)) => Ok(Row::on_line(line, fields)),
        Ok(other) => Err(Error::invalid_file(
            path,
            format!("line {line}: {}; it must be an object", kind(&other)),
        )),
        Err(error) => Err(Error::invalid_file(path, format!("line {line}: not JSON: {error}"))),
    }
}

/// A line of JSON with those numbers as texts that 64 bits would change.
fn exact_numbers(text: &str) -> Cow<'_, str> {
    let is_number = |c: char| matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E');
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(rest) = text.get(at..) {
        let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) else {
            break;
        };
        let rest = rest.get(start..).unwrap_or_default();
        at += start;
        if let Some(body) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = body.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            at += end.map_or(rest.len(), |end| end + 2);
            continue;
        }
        let length = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let token = rest.get(..length).unwrap_or_default();
        let read = serde_json::from_str::<serde_json::Number>(token);
        if read.is_ok_and(|read| canonical(&read.to_string()) != canonical(token)) {
            out.push_str(text.get(copied..at).unwrap_or_default());
            out.extend(["\"", token, "\""]);
            copied = at + length;
        }
        at += length.max(1);
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// Whether every quoted field of a CSV text is closed, and at its end; if not, what is wrong.
fn check_quotes(text: &str) -> Result<(), String> {
    let mut line = 1;
    let mut opened = None;
    let mut field_start = true;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match (opened, c) {
            (None, '"') if field_start => opened = Some(line),
            (None, c) => field_start = matches!(c, ',' | '\n' | '\r'),
            (Some(_), '"') if chars.next_if_eq(&'"').is_some() => {}
            (Some(at), '"') => {
                if chars.peek().is_some_and(|next| !matches!(next, ',' | '\n' | '\r')) {
                    return Err(format!(
                        "line {at}: a quoted field is closed on line {line} before its end; close \
                         it before the comma, and double the quotes within it"
                    ));
                }
                opened = None;
                field_start = false;
            }
            (Some(_), _) => {}
        }
    }
    opened.map_or(Ok(()), |at| {
        Err(format!("line {at}: a quoted field is never closed; add the closing quote"))
    })
}

fn separated(path: &Path, mut reader: csv::Reader<&[u8]>) -> Result<Vec<Row>> {
    let bad = |error: &csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} fields; the header has {expected_len}")
            }
            _ => error.to_string(),
        };
        Error::invalid_file(path, format!("line {line}: {reason}"))
    };
    let header = reader.headers().map_err(|e| bad(&e))?.clone();
    if let Some(twice) = header
        .iter()
        .enumerate()
        .find_map(|(i, name)| header.iter().take(i).any(|other| other == name).then_some(name))
    {
        return Err(Error::invalid_file(
            path,
            format!("line 1: two columns are named `{twice}`; rename one"),
        ));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| bad(&e))?;
        let fields = header
            .iter()
            .zip(&record)
            .map(|(name, value)| (name.to_owned(), Value::from(value.replace("\r\n", "\n"))))
            .collect();
        rows.push(Row::on_line(record.position().map_or(0, csv::Position::line) as usize, fields));
    }
    Ok(rows)
}
