//! Questions of a user's own file, with a map from what a question has to the file's columns.
//!
//! Contract: every row is a question or an error that names file and line. A question's id is the
//! column that the map names, else the hash of the question, so that the same question in two files
//! is known to be the same. A nested value is named by a path with dots:
//! `choices=choices.text,labels=choices.label,answer=answerKey`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;

use super::table::{self, Format, Row};
use super::{Doc, Questions, Scorer};
use crate::consensus::Extractor;
use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::pipeline::QUESTION;

/// Which column holds what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The question: a text.
    pub question: String,
    /// Gold answers: a text, a number, or a list of equally right ones. With choices the right
    /// one's text, letter, or index from 0; a JSON number is an index.
    pub answer: String,
    /// The choices: a list, or a text with `|` between them.
    pub choices: Option<String>,
    /// The label of each choice, in order; the answer is then one of these labels, and not a
    /// choice's text, letter or index.
    pub labels: Option<String>,
    /// The question's name.
    pub id: Option<String>,
    /// Whether the question has an answer: true or false.
    pub answerable: Option<String>,
}

impl Default for Map {
    fn default() -> Self {
        Self {
            question: "question".into(),
            answer: "answer".into(),
            choices: None,
            labels: None,
            id: None,
            answerable: None,
        }
    }
}

impl FromStr for Map {
    type Err = Error;

    /// `question=COLUMN,answer=COLUMN,choices=COLUMN,labels=COLUMN,id=COLUMN,answerable=COLUMN`,
    /// each where it differs from the default.
    fn from_str(text: &str) -> Result<Self> {
        let mut map = Self::default();
        let mut seen = Vec::new();
        for part in text.split(',') {
            let Some((key, column)) = part.split_once('=').filter(|(_, column)| !column.is_empty())
            else {
                return Err(Error::usage(format!(
                    "map has {part:?}; it must be KEY=COLUMN, as in \
                     question=problem,answer=solution"
                )));
            };
            if seen.contains(&key) {
                return Err(Error::usage(format!("map names {key} twice; once is enough")));
            }
            seen.push(key);
            let column = column.to_owned();
            match key {
                "question" => map.question = column,
                "answer" => map.answer = column,
                "choices" => map.choices = Some(column),
                "labels" => map.labels = Some(column),
                "id" => map.id = Some(column),
                "answerable" => map.answerable = Some(column),
                _ => {
                    return Err(Error::usage(format!(
                        "map has `{key}`; it must be question, answer, choices, labels, id or \
                         answerable"
                    )));
                }
            }
        }
        Ok(map)
    }
}

/// A file of questions.
#[derive(Clone, Debug)]
pub struct FileTask {
    /// The file: JSONL, CSV, TSV or parquet by its extension.
    pub path: PathBuf,
    /// Which column holds what.
    pub map: Map,
    /// How answers are graded; default: by letter if the file has choices, else by equal text.
    pub scorer: Option<Scorer>,
}

impl FileTask {
    /// Reads the questions.
    ///
    /// # Errors
    /// A file that cannot be read, or a bad row with its line.
    pub fn open(&self) -> Result<Questions> {
        let format = Format::of(&self.path)?;
        let bytes = table::read(&self.path)?;
        let scorer = self.scorer.unwrap_or(if self.map.choices.is_some() {
            Scorer::Choice
        } else {
            Scorer::Exact
        });
        let rows = table::rows(&self.path, &bytes, format)?;
        let docs = rows.iter().map(|row| self.doc(row)).collect::<Result<Vec<_>>>()?;
        let notes = self.unused_choices(&rows).into_iter().collect();
        let questions = Questions {
            name: self
                .path
                .file_name()
                .map_or_else(|| "file".to_owned(), |name| name.to_string_lossy().into_owned()),
            file_sha256: Some(sha256_hex(&bytes)),
            question_template: scorer.question_template().unwrap_or(QUESTION).to_owned(),
            scorer,
            extractor: match scorer {
                Scorer::Exact => Extractor::Auto,
                Scorer::Number => Extractor::Number,
                Scorer::Choice | Scorer::Loglikelihood | Scorer::LoglikelihoodLetter => {
                    Extractor::Choice
                }
            },
            docs,
            notes,
        };
        // A row's fault is found above, where its line is known; what is left concerns the whole.
        check_rows(&questions, &rows, &self.path)?;
        questions.check(&self.path)?;
        Ok(questions)
    }

    /// A note if the file has a column that looks like choices and the map names none.
    fn unused_choices(&self, rows: &[Row]) -> Option<String> {
        let names = ["choices", "options"];
        let column = names
            .into_iter()
            .find(|name| rows.first().is_some_and(|row| row.fields.contains_key(*name)))?;
        let unused =
            self.map.choices.is_none() && self.map.question != column && self.map.answer != column;
        unused.then(|| {
            format!(
                "{}: the column `{column}` is not used, so the questions are asked without choices; \
                 add --map choices={column} to ask with them",
                self.path.display()
            )
        })
    }

    fn doc(&self, row: &Row) -> Result<Doc> {
        let path = &self.path;
        let question = row.text(&self.map.question, path)?;
        let id = match &self.map.id {
            Some(column) => row.text(column, path)?,
            None => sha256_hex(question.as_bytes()).chars().take(16).collect(),
        };
        let answerable =
            self.map.answerable.as_ref().map(|column| flag(row, column, path)).transpose()?;
        if answerable == Some(false) {
            return Ok(Doc { answerable, ..Doc::new(id, question, Vec::new()) });
        }
        let answer = row.get(&self.map.answer, path)?;
        let doc = if let Some(column) = &self.map.choices {
            let texts = |column: &str| {
                list(&*row.get(column, path)?).ok_or_else(|| {
                    row.bad(path, format!("field `{column}` is not a list of texts"))
                })
            };
            let choices = texts(column)?;
            let gold = match &self.map.labels {
                Some(labels) => labeled(&answer, &texts(labels)?).ok_or_else(|| {
                    row.bad(path, format!("answer {answer} is not the label of a choice"))
                })?,
                None => gold(&answer, &choices).map_err(|reason| row.bad(path, reason))?,
            };
            Doc::choice(id, question, choices, gold).map_err(|reason| row.bad(path, reason))?
        } else {
            let (column, is) = (&self.map.answer, table::kind(&answer));
            let answers = answers(&answer).ok_or_else(|| {
                row.bad(
                    path,
                    format!(
                        "field `{column}` is {is}; it must be a text, a number or a list of them"
                    ),
                )
            })?;
            Doc::new(id, question, answers)
        };
        Ok(Doc { answerable, ..doc })
    }
}

/// As [`Questions::check`], with the line of the row.
fn check_rows(questions: &Questions, rows: &[Row], path: &Path) -> Result<()> {
    let mut seen = std::collections::HashMap::new();
    for (doc, row) in questions.docs.iter().zip(rows) {
        if doc.question.trim().is_empty() {
            return Err(row.bad(path, "the question is empty; give it a text or take the row out"));
        }
        questions.scorer.check(doc).map_err(|reason| row.bad(path, reason))?;
        if let Some(first) = seen.insert(&doc.id, row) {
            return Err(row.bad(
                path,
                format!("the same question or id as {}; each must occur once", first.place()),
            ));
        }
    }
    Ok(())
}

fn flag(row: &Row, column: &str, path: &Path) -> Result<bool> {
    match &*row.get(column, path)? {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        other => {
            Err(row.bad(path, format!("field `{column}` is {other}; it must be true or false")))
        }
    }
}

fn answers(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) if !values.is_empty() => values.iter().map(table::scalar).collect(),
        other => table::scalar(other).map(|answer| vec![answer]),
    }
}

fn list(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.iter().map(table::scalar).collect(),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(Value::Array(values)) => values.iter().map(table::scalar).collect(),
            _ => Some(text.split('|').map(|choice| choice.trim().to_owned()).collect()),
        },
        _ => None,
    }
}

/// The index of the option with the answer's label, which only one may have.
fn labeled(answer: &Value, labels: &[String]) -> Option<usize> {
    let answer = table::scalar(answer)?;
    let mut same = (0..).zip(labels).filter(|(_, label)| label.trim() == answer.trim());
    let (index, _) = same.next()?;
    same.next().is_none().then_some(index)
}

/// The index of the right option. A JSON number is an index from 0, a text is an option's text, its
/// letter or its index; if it can be read as two different options, it is refused.
fn gold(answer: &Value, choices: &[String]) -> Result<usize, String> {
    let nothing =
        || format!("answer {answer} is not the text, letter, or index from 0 of a choice");
    let in_range = |index: &usize| *index < choices.len();
    if let Value::Number(number) = answer {
        let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
        return index.filter(in_range).ok_or_else(|| {
            format!(
                "answer {answer} is a number, so an index from 0, and the row has {} choices",
                choices.len()
            )
        });
    }
    let text = table::scalar(answer).ok_or_else(nothing)?;
    let text = text.trim();
    let letter = || {
        let mut chars = text.chars();
        let letter =
            chars.next().filter(|c| c.is_ascii_alphabetic() && chars.as_str().is_empty())?;
        Some(letter.to_ascii_uppercase() as usize - 'A' as usize)
    };
    let by_text = choices.iter().position(|choice| choice.trim() == text);
    let by_place = letter().or_else(|| text.parse().ok()).filter(in_range);
    match (by_text, by_place) {
        (Some(text), Some(place)) if text != place => Err(format!(
            "answer {answer} is the text of option {} and the letter or index of option {}; give \
             the index as a JSON number, or name a column of labels with --map labels=COLUMN",
            text + 1,
            place + 1
        )),
        (Some(index), _) | (None, Some(index)) => Ok(index),
        (None, None) => Err(nothing()),
    }
}
