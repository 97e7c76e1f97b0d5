//! `TriviaQA`, the validation set without documents: 17,944 quiz questions, each with all names of
//! its answer.
//!
//! Columns: `question`, `question_id`, and `answer`, a group with `value` and the list `aliases`.

use serde::Deserialize;

use super::{SHORT, records};
use crate::consensus::Extractor;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static TRIVIAQA: Task = Task {
    name: "triviaqa",
    summary: "quiz questions, every alias of the answer right; 17,944, the validation set",
    source: "Joshi et al., arXiv 1705.03551",
    license: "Apache-2.0 for the code; the questions' own terms are not stated",
    files: &["datasets/mandarjoshi/trivia_qa/rc.nocontext/validation-00000-of-00001.parquet"],
    question_template: SHORT,
    scorer: Scorer::Exact,
    extractor: Extractor::ShortAnswer,
    load: |source| records(source, |row, _| Ok(doc(row))),
};

#[derive(Deserialize)]
struct Row {
    question: String,
    question_id: String,
    answer: Answer,
}

#[derive(Deserialize)]
struct Answer {
    value: String,
    aliases: Vec<String>,
}

fn doc(row: Row) -> Doc {
    let Answer { value, mut aliases } = row.answer;
    // The answer as it was given first; some aliases are nothing but signs, which no answer equals.
    aliases.retain(|alias| *alias != value && alias.contains(char::is_alphanumeric));
    aliases.insert(0, value);
    Doc::new(format!("triviaqa:{}", row.question_id), row.question, aliases)
}
