//! Rows of a parquet file, as JSON values: nested groups become objects, lists and repeated fields
//! become lists.
//!
//! Contract: a hostile file is an error that says why. Before anything is decoded, the footer and
//! all pages are walked, and what they announce is bounded (see [`pages`]); before any row is made,
//! its texts are counted as often as rows have them; decoding runs in a thread of its own with a
//! deep stack, so that a decoder that gives up takes nothing along. Compression is Snappy or none,
//! which is what the Hub's files have. Numbers that JSON cannot hold become null. It does not know
//! what the columns mean.

mod pages;

use std::path::Path;
use std::thread;

use bytes::Bytes;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row as Record};
use serde_json::{Map as Object, Value};

use super::table::Row;
use crate::error::{Error, Result};

/// The name of the thread that decodes: what it dies of becomes an error, and is nothing to tell a
/// user about.
pub const DECODER_THREAD: &str = "parquet";
/// Most rows.
const MAX_ROWS: usize = 10_000_000;
/// Longest texts of all rows together.
const MAX_TEXT_BYTES: usize = 1 << 30;
/// Records of a column that are counted at once.
const BATCH: usize = 1024;
/// Characters of a column's name in a message.
const NAME_CHARS: usize = 80;
/// Room for schemas that are nested as deeply as a footer can hold.
const STACK_BYTES: usize = 512 << 20;

/// All rows of a file's bytes.
///
/// # Errors
/// Invalid file: no parquet, a damaged one, or a compression that is not known. Resources: more
/// than the limits.
pub(super) fn rows(path: &Path, bytes: &[u8]) -> Result<Vec<Row>> {
    let bytes = Bytes::copy_from_slice(bytes);
    pages::check_footer(&bytes).map_err(|reason| Error::invalid_file(path, reason))?;
    let decode = || match decode(&bytes) {
        Ok(rows) => Ok(rows),
        Err(Refusal::Invalid(reason)) => Err(Error::invalid_file(path, reason)),
        Err(Refusal::TooMuch(reason)) => {
            Err(Error::Resources(format!("{}: {reason}", path.display())))
        }
    };
    let gave_up = || Error::invalid_file(path, "a damaged parquet file: its decoder gave up");
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(DECODER_THREAD.into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, decode);
        thread.map_err(|e| Error::io(path, e))?.join().unwrap_or_else(|_| Err(gave_up()))
    })
}

/// Why a file is not read.
#[derive(Debug)]
enum Refusal {
    /// It is wrong.
    Invalid(String),
    /// It is too large.
    TooMuch(String),
}

impl From<ParquetError> for Refusal {
    fn from(error: ParquetError) -> Self {
        let words = error.to_string();
        if let Some((_, codec)) = words.split_once("Disabled feature at compile time: ") {
            let codec = if codec == "flate2" { "gzip" } else { codec };
            return Self::Invalid(format!(
                "its columns are compressed with {codec}; candor reads Snappy and none: write it \
                 again with one of them"
            ));
        }
        // The reader's words are about the file; one line is enough.
        let reason: String = words.lines().next().unwrap_or_default().chars().take(200).collect();
        Self::Invalid(format!("no usable parquet file: {reason}"))
    }
}

fn decode(bytes: &Bytes) -> Result<Vec<Row>, Refusal> {
    let reader = SerializedFileReader::new(bytes.clone())?;
    let mut values = 0;
    for group in reader.metadata().row_groups() {
        for column in group.columns() {
            // Both are read as unsigned there, but may be anything in a file.
            let (start, length) = (
                column.dictionary_page_offset().unwrap_or(column.data_page_offset()),
                column.compressed_size(),
            );
            let range = usize::try_from(start)
                .ok()
                .zip(usize::try_from(length).ok())
                .and_then(|(s, l)| bytes.get(s..s.checked_add(l)?));
            let chunk =
                range.ok_or_else(|| Refusal::Invalid("a column lies outside the file".into()))?;
            pages::check(chunk, &mut values)?;
        }
    }
    check_texts(&reader)?;
    let (mut rows, mut left) = (Vec::new(), MAX_TEXT_BYTES);
    for record in reader.get_row_iter(None)? {
        if rows.len() == MAX_ROWS {
            return Err(Refusal::TooMuch(format!("more than {MAX_ROWS} rows; split it")));
        }
        let fields = object(record?, &mut left).ok_or_else(|| {
            Refusal::TooMuch(format!("more than {} MB of text; split it", MAX_TEXT_BYTES >> 20))
        })?;
        rows.push(Row::numbered(rows.len() + 1, fields));
    }
    Ok(rows)
}

/// Refuses more text than is read. A dictionary holds a text once for however many rows have it,
/// but every row gets a copy: so references are counted, which share its bytes.
fn check_texts(reader: &SerializedFileReader<Bytes>) -> Result<(), Refusal> {
    let mut total = 0_usize;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        for column in 0..group.num_columns() {
            let ColumnReader::ByteArrayColumnReader(mut texts) = group.get_column_reader(column)?
            else {
                continue;
            };
            let (mut defined, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
            while texts.read_records(BATCH, Some(&mut defined), Some(&mut repeated), &mut values)?.0
                > 0
            {
                total = values.iter().map(ByteArray::len).fold(total, usize::saturating_add);
                if total > MAX_TEXT_BYTES {
                    let name: String = group
                        .metadata()
                        .column(column)
                        .column_path()
                        .string()
                        .chars()
                        .take(NAME_CHARS)
                        .collect();
                    let most = MAX_TEXT_BYTES >> 20;
                    return Err(Refusal::TooMuch(format!(
                        "more than {most} MB of text in all rows, up to column `{name}`; split it"
                    )));
                }
                defined.clear();
                repeated.clear();
                values.clear();
            }
        }
    }
    Ok(())
}

/// A record as an object; `None` where its texts are longer than what is left.
fn object(record: Record, left: &mut usize) -> Option<Object<String, Value>> {
    record
        .into_columns()
        .into_iter()
        .map(|(name, field)| Some((name, value(field, left)?)))
        .collect()
}

fn value(field: Field, left: &mut usize) -> Option<Value> {
    Some(match field {
        Field::Bool(flag) => Value::from(flag),
        Field::Byte(n) => Value::from(n),
        Field::Short(n) => Value::from(n),
        Field::Int(n) | Field::Date(n) | Field::TimeMillis(n) => Value::from(n),
        Field::Long(n)
        | Field::TimeMicros(n)
        | Field::TimestampMillis(n)
        | Field::TimestampMicros(n) => Value::from(n),
        Field::UByte(n) => Value::from(n),
        Field::UShort(n) => Value::from(n),
        Field::UInt(n) => Value::from(n),
        Field::ULong(n) => Value::from(n),
        Field::Float16(x) => Value::from(f64::from(x)),
        Field::Float(x) => Value::from(f64::from(x)),
        Field::Double(x) => Value::from(x),
        Field::Str(text) => {
            *left = left.checked_sub(text.len())?;
            Value::from(text)
        }
        // Some writers leave out that a text is one.
        Field::Bytes(bytes) => {
            *left = left.checked_sub(bytes.len())?;
            std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from)
        }
        Field::Group(record) => Value::Object(object(record, left)?),
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(|element| value(element.clone(), left))
            .collect::<Option<_>>()?,
        Field::MapInternal(map) => {
            let pair = |(key, item): &(Field, Field)| {
                Some(Value::Array(vec![value(key.clone(), left)?, value(item.clone(), left)?]))
            };
            map.entries().iter().map(pair).collect::<Option<_>>()?
        }
        Field::Null | Field::Decimal(_) => Value::Null,
    })
}
