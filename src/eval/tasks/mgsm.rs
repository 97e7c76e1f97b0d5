//! MGSM: the first 250 word problems of GSM8K's test set, translated by people into ten languages,
//! and in English.
//!
//! A task for each language. Question n is the same one in all of them, so runs can be compared
//! question by question. The question is in its language; the instruction around it is in English
//! and the same for all.

use super::WORD_PROBLEM;
use crate::consensus::Extractor;
use crate::error::{Error, Result};
use crate::eval::task::Source;
use crate::eval::{Doc, Scorer, Task};

/// See the module.
pub(super) static BN: Task = language(
    "mgsm_bn",
    "word problems of several steps in Bengali; 250",
    &["mgsm/mgsm/mgsm_bn.tsv"],
);
/// See the module.
pub(super) static DE: Task = language(
    "mgsm_de",
    "word problems of several steps in German; 250",
    &["mgsm/mgsm/mgsm_de.tsv"],
);
/// See the module.
pub(super) static EN: Task = language(
    "mgsm_en",
    "word problems of several steps in English, the same as in the other languages; 250",
    &["mgsm/mgsm/mgsm_en.tsv"],
);
/// See the module.
pub(super) static ES: Task = language(
    "mgsm_es",
    "word problems of several steps in Spanish; 250",
    &["mgsm/mgsm/mgsm_es.tsv"],
);
/// See the module.
pub(super) static FR: Task = language(
    "mgsm_fr",
    "word problems of several steps in French; 250",
    &["mgsm/mgsm/mgsm_fr.tsv"],
);
/// See the module.
pub(super) static JA: Task = language(
    "mgsm_ja",
    "word problems of several steps in Japanese; 250",
    &["mgsm/mgsm/mgsm_ja.tsv"],
);
/// See the module.
pub(super) static RU: Task = language(
    "mgsm_ru",
    "word problems of several steps in Russian; 250",
    &["mgsm/mgsm/mgsm_ru.tsv"],
);
/// See the module.
pub(super) static SW: Task = language(
    "mgsm_sw",
    "word problems of several steps in Swahili; 250",
    &["mgsm/mgsm/mgsm_sw.tsv"],
);
/// See the module.
pub(super) static TE: Task = language(
    "mgsm_te",
    "word problems of several steps in Telugu; 250",
    &["mgsm/mgsm/mgsm_te.tsv"],
);
/// See the module.
pub(super) static TH: Task =
    language("mgsm_th", "word problems of several steps in Thai; 250", &["mgsm/mgsm/mgsm_th.tsv"]);
/// See the module.
pub(super) static ZH: Task = language(
    "mgsm_zh",
    "word problems of several steps in Chinese; 250",
    &["mgsm/mgsm/mgsm_zh.tsv"],
);

const fn language(
    name: &'static str,
    summary: &'static str,
    files: &'static [&'static str],
) -> Task {
    Task {
        name,
        summary,
        source: "Shi et al., arXiv 2210.03057",
        license: "CC BY 4.0",
        files,
        question_template: WORD_PROBLEM,
        scorer: Scorer::Number,
        extractor: Extractor::Number,
        load,
    }
}

/// A question and a number a line, a tab between them, without a header.
fn load(source: &Source<'_>) -> Result<Vec<Doc>> {
    let doc = |(index, line): (usize, &str)| {
        let (question, answer) = line.rsplit_once('\t').ok_or_else(|| {
            Error::invalid_file(
                source.path,
                format!("line {}: no tab; it must be a question, a tab and a number", index + 1),
            )
        })?;
        Ok(Doc::new(
            format!("{}:{index}", source.task),
            question.trim(),
            vec![answer.trim().to_owned()],
        ))
    };
    source.text()?.lines().enumerate().map(doc).collect()
}
