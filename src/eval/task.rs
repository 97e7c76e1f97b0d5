//! What a task is: questions with gold answers, how they are asked, and how an answer is graded.
//!
//! Contract: the same files and seed give the same questions in the same order, whatever subset is
//! taken. A question's id names it among all tasks, since it is what keeps calibration and
//! evaluation apart. A bad row is an error that names its place. It knows no model.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;

use super::tasks::TASKS;
use super::{Scorer, table};
use crate::consensus::{Extractor, choice_label};
use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::metrics::bootstrap::mix;
use crate::pipeline::Example;

/// Tells the draw of examples from that of a subset.
const SHOTS: u64 = 0x7368_6f74;
/// What a reference to a file of the Hub's data sets begins with.
const DATASETS: &str = "datasets/";
/// What options are called.
const LETTERS: std::ops::RangeInclusive<char> = 'A'..='J';
/// Options of a question where none has a letter.
const MOST_OPTIONS: usize = 100;

/// One question with its gold answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doc {
    /// Names the question among all tasks, as in `svamp:chal-1`.
    pub id: String,
    /// The question, without frame and choices.
    pub question: String,
    /// The options, in the order of their letters; none where the question is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Gold answers, any of which is right; none for a question that has no answer.
    pub answers: Vec<String>,
    /// The indices of the right options, ascending, where several may be right; otherwise the
    /// answers name the one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub right: Vec<usize>,
    /// Whether the question has an answer, where the task says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answerable: Option<bool>,
}

impl Doc {
    /// A question that has an answer.
    pub fn new(id: impl Into<String>, question: impl Into<String>, answers: Vec<String>) -> Self {
        Self { id: id.into(), question: question.into(), answers, ..Self::default() }
    }

    /// A question with options; `gold` is the index of the right one.
    ///
    /// # Errors
    /// Fewer than two options, more than there are letters, or a gold that is none of them; in
    /// words for a row.
    pub fn choice(
        id: String,
        question: String,
        choices: Vec<String>,
        gold: usize,
    ) -> Result<Self, String> {
        if !(2..=LETTERS.clone().count()).contains(&choices.len()) {
            return Err(format!(
                "{} choices; give 2 to {}",
                choices.len(),
                LETTERS.clone().count()
            ));
        }
        let (Some(letter), Some(text)) = (LETTERS.clone().nth(gold), choices.get(gold)) else {
            return Err(format!("gold is {gold}, counted from 0, of {} choices", choices.len()));
        };
        let answers = vec![letter.to_string(), text.clone()];
        Ok(Self { choices, ..Self::new(id, question, answers) })
    }

    /// A question with options of which several may be right; `right` are their indices, ascending.
    /// It can be scored by likelihood alone.
    ///
    /// # Errors
    /// Fewer than two options or more than 100, no right or no wrong one among them, or a right one
    /// that is none of them; in words for a row.
    pub fn several(
        id: String,
        question: String,
        choices: Vec<String>,
        right: Vec<usize>,
    ) -> Result<Self, String> {
        if !(2..=MOST_OPTIONS).contains(&choices.len()) {
            return Err(format!("{} choices; give 2 to {MOST_OPTIONS}", choices.len()));
        }
        let answers: Option<Vec<String>> =
            right.iter().map(|index| choices.get(*index).cloned()).collect();
        match answers {
            Some(answers) if !answers.is_empty() && answers.len() < choices.len() => {
                Ok(Self { choices, right, ..Self::new(id, question, answers) })
            }
            _ => Err(format!(
                "{} of {} choices are right; at least one must be, and at least one must not",
                right.len(),
                choices.len()
            )),
        }
    }

    /// The question as it goes into the question template: with its options, a line each.
    pub fn text(&self) -> String {
        let options = self
            .choices
            .iter()
            .enumerate()
            .map(|(i, choice)| format!("\n{}. {choice}", choice_label(i).to_uppercase()));
        std::iter::once(self.question.clone()).chain(options).collect()
    }

    /// The options' letters.
    pub fn letters(&self) -> impl Iterator<Item = char> {
        LETTERS.take(self.choices.len())
    }

    /// The indices of the right options; none without options.
    pub fn right_choices(&self) -> Vec<usize> {
        if !self.right.is_empty() {
            return self.right.clone();
        }
        let is_letter = |(_, letter): &(usize, char)| {
            self.answers
                .first()
                .is_some_and(|answer| answer.len() == 1 && answer.starts_with(*letter))
        };
        (0..).zip(self.letters()).filter(is_letter).map(|(index, _)| index).collect()
    }

    /// The gold answer as one text: the first alias, or nothing.
    pub fn target(&self) -> &str {
        self.answers.first().map_or("", String::as_str)
    }

    /// Digest of what is asked, by which the same question is found under another id: the question
    /// and its options in any order, in Unicode's composed form, lower case, with single spaces.
    pub fn text_digest(&self) -> String {
        let normal = |text: &String| {
            let lower = text.nfc().collect::<String>().to_lowercase();
            lower.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let mut choices: Vec<String> = self.choices.iter().map(normal).collect();
        choices.sort_unstable();
        let parts: Vec<String> = std::iter::once(normal(&self.question)).chain(choices).collect();
        // 128 bits: no two texts share them by chance.
        sha256_hex(parts.join("\n").as_bytes()).chars().take(32).collect()
    }

    /// Lower-case hexadecimal SHA-256 of the question with everything that belongs to it.
    pub fn hash(&self) -> String {
        sha256_hex(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

/// A built-in task.
#[derive(Debug)]
pub struct Task {
    /// The name on the command line and in ids.
    pub name: &'static str,
    /// One line: what is asked.
    pub summary: &'static str,
    /// The paper or site.
    pub source: &'static str,
    /// The license of the data.
    pub license: &'static str,
    /// The files below the data folder, read in this order; none where the questions are made on
    /// the spot. One that begins with `datasets/` is also a reference to the file on the Hub, for
    /// when it is not there.
    pub files: &'static [&'static str],
    /// The text around a question.
    pub question_template: &'static str,
    /// How an answer is graded.
    pub scorer: Scorer,
    /// How an answer is read.
    pub extractor: Extractor,
    /// The questions of one of the files, or those made on the spot.
    pub load: fn(&Source<'_>) -> Result<Vec<Doc>>,
}

/// What a task's questions are made from.
pub struct Source<'a> {
    /// The task's name.
    pub task: &'static str,
    /// The file, for messages; empty if there is no file.
    pub path: &'a Path,
    /// The file's bytes; empty if there is no file.
    pub bytes: &'a [u8],
}

impl<'a> Source<'a> {
    /// The file's text.
    ///
    /// # Errors
    /// Bytes that are not UTF-8, with their line.
    pub fn text(&self) -> Result<&'a str> {
        table::text(self.path, self.bytes)
    }

    /// The file's rows, by the format that its name ends with.
    ///
    /// # Errors
    /// What is wrong with the file, and where.
    pub(super) fn rows(&self) -> Result<Vec<table::Row>> {
        table::rows(self.path, self.bytes, table::Format::of(self.path)?)
    }
}

/// The built-in task of that name.
pub fn task(name: &str) -> Option<&'static Task> {
    TASKS.iter().copied().find(|task| task.name == name)
}

/// Questions ready to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    /// The task's or the file's name.
    pub name: String,
    /// SHA-256 of the file, of several over their digests; `None` where the questions are made on
    /// the spot.
    pub file_sha256: Option<String>,
    /// The text around a question, if the user gives none.
    pub question_template: String,
    /// How an answer is graded.
    pub scorer: Scorer,
    /// How an answer is read, if the user does not say.
    pub extractor: Extractor,
    /// All of them, in order.
    pub docs: Vec<Doc>,
    /// What the user should know about the file, a sentence each.
    pub notes: Vec<String>,
}

impl Task {
    #[cfg(feature = "internals")]
    /// Reads the task's questions; `data` is the folder with all tasks' files.
    ///
    /// # Errors
    /// No folder where one is needed, a file that cannot be read, or a bad row.
    pub fn open(&self, data: Option<&Path>) -> Result<Questions> {
        self.open_with(data, &mut |file| {
            Err(Error::usage(format!(
                "task {} reads {file}; say with --data in which folder that is, or fetch it",
                self.name
            )))
        })
    }

    /// As [`Self::open`], but a file of the Hub that is not in the folder is what `fetch` makes of
    /// the reference to it.
    ///
    /// # Errors
    /// As there, and those of `fetch`.
    pub fn open_with(
        &self,
        data: Option<&Path>,
        fetch: &mut dyn FnMut(&str) -> Result<PathBuf>,
    ) -> Result<Questions> {
        let mut questions = Questions {
            name: self.name.to_owned(),
            file_sha256: None,
            question_template: self.question_template.to_owned(),
            scorer: self.scorer,
            extractor: self.extractor,
            docs: Vec::new(),
            notes: Vec::new(),
        };
        if self.files.is_empty() {
            questions.docs =
                (self.load)(&Source { task: self.name, path: Path::new(""), bytes: b"" })?;
            questions.check(Path::new(self.name))?;
            return Ok(questions);
        }
        let (mut digests, mut first) = (Vec::new(), PathBuf::new());
        for &file in self.files {
            let on_hub = file.starts_with(DATASETS);
            let path = match data.map(|folder| folder.join(file)) {
                Some(path) if path.is_file() || !on_hub => path,
                None if !on_hub => {
                    return Err(Error::usage(format!(
                        "task {} reads {file}; say with --data in which folder that is",
                        self.name
                    )));
                }
                _ => fetch(file)?,
            };
            let bytes = table::read(&path)?;
            digests.push(sha256_hex(&bytes));
            questions.docs.extend((self.load)(&Source {
                task: self.name,
                path: &path,
                bytes: &bytes,
            })?);
            if first.as_os_str().is_empty() {
                first = path;
            }
        }
        questions.file_sha256 = match digests.as_slice() {
            [only] => Some(only.clone()),
            several => Some(sha256_hex(several.concat().as_bytes())),
        };
        questions.check(&first)?;
        Ok(questions)
    }
}

/// Which questions of a task are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subset {
    /// At most so many; all where `None`.
    pub limit: Option<usize>,
    /// Names the subset.
    pub seed: u64,
}

impl Questions {
    /// The same questions with their options scored by likelihood, instead of answers drawn.
    ///
    /// # Errors
    /// A scorer that is none of those, or a question without options.
    pub fn by_likelihood(self, scorer: Scorer) -> Result<Self> {
        let without = self.docs.iter().find_map(|doc| Some((doc, scorer.check(doc).err()?)));
        match without {
            // The task's own frame is part of it.
            None if scorer == self.scorer => Ok(self),
            _ if !scorer.is_likelihood() => Err(Error::usage(format!(
                "scorer {} is not of the task {}; give loglikelihood or loglikelihood_letter",
                scorer.name(),
                self.name
            ))),
            Some((doc, reason)) => Err(Error::usage(format!(
                "{} cannot be scored by {}: {}: {reason}",
                self.name,
                scorer.name(),
                doc.id
            ))),
            None => Ok(Self {
                scorer,
                question_template: scorer
                    .question_template()
                    .unwrap_or(&self.question_template)
                    .to_owned(),
                ..self
            }),
        }
    }

    /// Examples for a prompt: `count` questions that are not asked, nor worded as one that is,
    /// drawn by a seed, with their answers. Questions without an answer are none.
    ///
    /// # Errors
    /// Fewer questions than that are left.
    pub fn shots(&self, count: usize, asked: &[usize], seed: u64) -> Result<Vec<Example>> {
        let asked_texts: HashSet<&str> = asked
            .iter()
            .filter_map(|i| self.docs.get(*i))
            .map(|doc| doc.question.as_str())
            .collect();
        let free = |doc: &&(usize, &Doc)| {
            doc.1.answerable != Some(false) && !asked_texts.contains(doc.1.question.as_str())
        };
        let docs: Vec<(usize, &Doc)> = self.docs.iter().enumerate().collect();
        let mut left: Vec<&(usize, &Doc)> = docs.iter().filter(free).collect();
        if left.len() < count {
            return Err(Error::usage(format!(
                "shots is {count} and {} questions are left that are not asked; lower --shots or \
                 --limit",
                left.len()
            )));
        }
        // Another order than that of the subset, whose questions would otherwise be the first of
        // it.
        left.sort_by_key(|(i, _)| (mix(*i as u64 ^ mix(seed ^ SHOTS)), *i));
        Ok(left
            .into_iter()
            .take(count)
            .map(|(_, doc)| Example {
                question: self.scorer.question(doc),
                answer: self.shown_answer(doc),
            })
            .collect())
    }

    /// A gold answer as an example says it.
    fn shown_answer(&self, doc: &Doc) -> String {
        match self.scorer {
            Scorer::Loglikelihood => doc
                .right_choices()
                .first()
                .and_then(|right| doc.choices.get(*right))
                .cloned()
                .unwrap_or_default(),
            Scorer::Number if self.question_template.contains("####") => {
                format!("#### {}", doc.target())
            }
            _ => doc.target().to_owned(),
        }
    }

    /// Refuses what cannot be asked or graded, and ids that occur twice.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (i, doc) in self.docs.iter().enumerate() {
            let bad = |reason: String| {
                Err(Error::invalid_file(path, format!("question {} ({}): {reason}", i + 1, doc.id)))
            };
            if doc.question.trim().is_empty() {
                return bad("it is empty; give it a text or take the row out".into());
            }
            if doc.answers.is_empty() && doc.answerable != Some(false) {
                return bad("it has no gold answer; give one, or say answerable=false".into());
            }
            if let Err(reason) = self.scorer.check(doc) {
                return bad(reason);
            }
            if let Some(first) = seen.insert(&doc.id, i) {
                return bad(format!(
                    "the same id as question {}; each must have its own",
                    first + 1
                ));
            }
        }
        if self.docs.is_empty() {
            Err(Error::invalid_file(path, "no question in it; give at least one row"))
        } else {
            Ok(())
        }
    }

    /// The indices of a subset, ascending. A smaller limit takes a part of what a larger one takes,
    /// under the same seed.
    ///
    /// # Errors
    /// A limit of 0.
    pub fn subset(&self, subset: Subset) -> Result<Vec<usize>> {
        let limit = subset.limit.unwrap_or(self.docs.len());
        if limit == 0 {
            return Err(Error::usage("limit is 0; it must be at least 1"));
        }
        let mut order: Vec<usize> = (0..self.docs.len()).collect();
        if limit < order.len() {
            order.sort_by_key(|i| (mix(*i as u64 ^ mix(subset.seed)), *i));
            order.truncate(limit);
            order.sort_unstable();
        }
        Ok(order)
    }
}
