//! Parquet files, whole and hostile, and the tasks whose files have the layouts of the Hub's data
//! sets.

use std::fs;
use std::path::Path;

use candor::internals::eval::{self, FileTask, Map, Questions, Scorer};
use candor::internals::metrics::bootstrap::mix;
use parquet::basic::Encoding;

use crate::support::parquet_writer::{Column, write, write_encoded};

/// What the Hub's ARC has: a group of two lists, and the label of the right option.
const CHOICES: &str = "optional binary id (STRING); optional binary question (STRING);
    optional group choices { optional group text (LIST) { repeated group list { optional binary element (STRING); } }
        optional group label (LIST) { repeated group list { optional binary element (STRING); } } }
    optional binary answerKey (STRING);";
const MAP: &str = "id=id,choices=choices.text,labels=choices.label,answer=answerKey";

fn arc() -> Vec<u8> {
    let columns = [
        Column::Texts(vec![Some("m1"), Some("m2"), Some("m3")]),
        Column::Texts(vec![Some("Which floats?"), Some("Welches schwimmt?"), Some("Qué flota?")]),
        Column::TextLists(vec![
            vec!["iron", "wood", "lead"],
            vec!["Eisen", "Holz"],
            vec!["hierro", "madera"],
        ]),
        Column::TextLists(vec![vec!["A", "B", "C"], vec!["1", "2"], vec!["A", "B"]]),
        Column::Texts(vec![Some("B"), Some("2"), Some("A")]),
    ];
    write(CHOICES, &columns)
}

fn open(bytes: &[u8], map: &str) -> candor::Result<Questions> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    fs::write(&path, bytes).unwrap();
    FileTask {
        path,
        map: if map.is_empty() { Map::default() } else { map.parse().unwrap() },
        scorer: None,
    }
    .open()
}

#[test]
fn nested_columns_are_reached_by_dots() {
    let questions = open(&arc(), MAP).unwrap();
    let found: Vec<(&str, String, &[String])> =
        questions.docs.iter().map(|doc| (doc.id.as_str(), doc.text(), &doc.answers[..])).collect();
    let gold = |letter: &str, text: &str| vec![letter.to_owned(), text.to_owned()];
    let expected = [
        ("m1", "Which floats?\nA. iron\nB. wood\nC. lead".to_owned(), gold("B", "wood")),
        ("m2", "Welches schwimmt?\nA. Eisen\nB. Holz".to_owned(), gold("B", "Holz")),
        ("m3", "Qué flota?\nA. hierro\nB. madera".to_owned(), gold("A", "hierro")),
    ];
    assert!(
        found
            .iter()
            .zip(&expected)
            .all(|(found, wanted)| *found == (wanted.0, wanted.1.clone(), &wanted.2[..])),
        "{found:?}"
    );
    assert_eq!((found.len(), questions.scorer), (3, Scorer::Choice));
}

#[test]
fn bad_parquet_rows_are_named() {
    let check = |schema: &str, columns: &[Column], map: &str, expected: &str| {
        let error = open(&write(schema, columns), map).unwrap_err();
        assert!(
            error.exit_code() == 4 && error.to_string().contains(expected),
            "{error}, expected {expected}"
        );
    };
    let plain = "optional binary question (STRING); optional binary answer (STRING);";
    let texts = |a: &'static str, b: Option<&'static str>| {
        [Column::Texts(vec![Some("x"), Some(a)]), Column::Texts(vec![Some("1"), b])]
    };
    check(plain, &texts("y", None), "", "a.parquet: row 2: field `answer` is null");
    check(plain, &texts("x", Some("2")), "", "a.parquet: row 2: the same question or id as row 1");
    check(plain, &texts(" ", Some("2")), "", "a.parquet: row 2: the question is empty");
    check(
        plain,
        &texts("y", Some("2")),
        "question=q",
        "a.parquet: row 1: no field `q`; it has question, answer; name the field with --map",
    );
    check(
        "optional int64 question; optional binary answer (STRING);",
        &[Column::Ints(vec![]), Column::Texts(vec![])],
        "",
        "no question in it",
    );
    let listed = "optional binary question (STRING); optional group answer (LIST) { repeated group list { optional binary element (STRING); } }";
    check(
        listed,
        &[Column::Texts(vec![Some("x")]), Column::TextLists(vec![vec![]])],
        "",
        "row 1: field `answer` is a list",
    );
    let error =
        open(&arc(), "choices=choices.text,labels=choices.text,answer=answerKey").unwrap_err();
    assert!(
        error.to_string().contains("row 1: answer \"B\" is not the label of a choice"),
        "{error}"
    );
}

#[test]
fn hostile_parquet_files_are_errors() {
    let whole = arc();
    let refused = |bytes: &[u8], expected: &str| {
        let error = open(bytes, MAP).unwrap_err();
        assert!(
            matches!(error.exit_code(), 4 | 6) && error.to_string().contains(expected),
            "{error}, expected {expected}"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    };
    refused(b"", "does not begin with PAR1");
    refused(b"PAR1PAR1", "does not begin with PAR1");
    refused(&whole[..whole.len() - 1], "does not end with PAR1");
    let mut long = whole.clone();
    let at = long.len() - 8;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(&long, "its footer of 4294967295 bytes is longer than the file");
    // The first page's header begins after the magic: type, then the decompressed length as a
    // zigzag number.
    let mut bomb = whole.clone();
    assert_eq!((bomb[5] & 1, bomb[6]), (0, 0x15), "page type, then the second field, an i32");
    let header: Vec<u8> = [&bomb[4..7], &[0xfe, 0xff, 0xff, 0xff, 0x0f]].concat();
    let shift = usize::from(bomb[7] >= 0x80) + 1;
    bomb.splice(4..7 + shift, header);
    refused(&bomb, "a page of 2047 MB; at most 256 MB are read");
    // Every cut, and every byte flipped in turn: an error or other rows, and never a panic that
    // gets out.
    for cut in 0..whole.len() {
        assert!(open(&whole[..cut], MAP).is_err(), "cut at {cut}");
    }
    for place in 0..whole.len() {
        let mut spoiled = whole.clone();
        spoiled[place] ^= 1 << (mix(place as u64) % 8);
        if let Err(error) = open(&spoiled, MAP) {
            assert!(matches!(error.exit_code(), 4 | 6), "byte {place}: {error}");
        }
    }
}

#[test]
fn a_small_file_of_much_text_is_refused_before_its_rows_are_made() {
    // Half a megabyte once in the dictionary, and 2,100 rows or list elements that have it: 1,025
    // MB.
    let long: &'static str = "ab".repeat(1 << 18).leak();
    let refused = |schema: &str, columns: &[Column], column: &str| {
        let file = write(schema, columns);
        assert!(file.len() < 1 << 20, "{} bytes", file.len());
        let error = open(&file, "").unwrap_err();
        let expected = format!(
            "a.parquet: more than 1024 MB of text in all rows, up to column `{column}`; split it"
        );
        assert!(
            error.exit_code() == 6 && error.to_string().ends_with(&expected),
            "{error}, expected {expected}"
        );
    };
    let plain = "optional binary question (STRING); optional binary answer (STRING);";
    refused(
        plain,
        &[Column::Texts(vec![Some("x"); 2100]), Column::Texts(vec![Some(long); 2100])],
        "answer",
    );
    let listed = "optional binary question (STRING); optional group answer (LIST) { repeated group list { optional binary element (STRING); } }";
    refused(
        listed,
        &[Column::Texts(vec![Some("x")]), Column::TextLists(vec![vec![long; 2100]])],
        "answer.list.element",
    );
    // A hundredth of it is read.
    let columns = [Column::Texts(vec![Some("x")]), Column::TextLists(vec![vec![long; 20]])];
    assert_eq!(open(&write(listed, &columns), "").unwrap().docs[0].answers.len(), 20);
    // What builds each text on the one before needs no dictionary to be long.
    let texts = || [Column::Texts(vec![Some("x")]), Column::Texts(vec![Some("1")])];
    let error = open(&write_encoded(plain, &texts(), Encoding::DELTA_BYTE_ARRAY), "").unwrap_err();
    let expected = "a page is encoded as DELTA_BYTE_ARRAY; write the file again with plain or dictionary encoding";
    assert!(error.exit_code() == 4 && error.to_string().ends_with(expected), "{error}");
    for encoding in [Encoding::PLAIN, Encoding::DELTA_LENGTH_BYTE_ARRAY] {
        assert_eq!(
            open(&write_encoded(plain, &texts(), encoding), "").unwrap().docs[0].answers,
            ["1"]
        );
    }
}

/// Opens a built-in task on a folder that has this one file of its.
fn task(name: &str, bytes: &[u8]) -> candor::Result<Questions> {
    let folder = tempfile::tempdir().unwrap();
    let task = eval::task(name).unwrap();
    let path = folder.path().join(task.files[0]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    task.open(Some(folder.path()))
}

const LIST: &str = "(LIST) { repeated group list { optional binary element (STRING); } }";

fn check_task(name: &str, schema: &str, columns: &[Column], expected: &[(&str, &str, &[&str])]) {
    let questions = task(name, &write(schema, columns)).unwrap();
    assert_eq!(questions.docs.len(), expected.len(), "{name}");
    for (doc, (id, text, answers)) in questions.docs.iter().zip(expected) {
        assert_eq!(
            (doc.id.as_str(), doc.text().as_str(), doc.answers.as_slice()),
            (*id, *text, answers.map_owned().as_slice())
        );
    }
}

trait Owned {
    fn map_owned(&self) -> Vec<String>;
}

impl Owned for &[&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[test]
fn the_hubs_layouts_are_read() {
    let trivia = format!(
        "optional binary question (STRING); optional binary question_id (STRING);
        optional group answer {{ optional group aliases {LIST} optional binary value (STRING); }}"
    );
    let columns = [
        Column::Texts(vec![Some("Which tower leans?")]),
        Column::Texts(vec![Some("tc_1")]),
        Column::TextLists(vec![vec!["Leaning Tower", "Tower of Pisa", "...", "Pisa"]]),
        Column::Texts(vec![Some("Tower of Pisa")]),
    ];
    check_task(
        "triviaqa",
        &trivia,
        &columns,
        &[("triviaqa:tc_1", "Which tower leans?", &["Tower of Pisa", "Leaning Tower", "Pisa"])],
    );
    let open = format!("optional binary question (STRING); optional group answer {LIST}");
    let columns = [
        Column::Texts(vec![Some("who sang it"), Some("when")]),
        Column::TextLists(vec![vec!["Ann", "Bo"], vec!["1901"]]),
    ];
    check_task(
        "nq_open",
        &open,
        &columns,
        &[("nq_open:0", "who sang it", &["Ann", "Bo"]), ("nq_open:1", "when", &["1901"])],
    );
    let yes_no = "optional binary question (STRING); optional boolean answer; optional binary passage (STRING);";
    let columns = [
        Column::Texts(vec![Some("is ice cold"), Some("is ice warm?")]),
        Column::Bools(vec![true, false]),
        Column::Texts(vec![Some("Ice is cold."), Some("Ice is cold.")]),
    ];
    let asked = ["Ice is cold.\nQuestion: is ice cold?", "Ice is cold.\nQuestion: is ice warm?"];
    check_task(
        "boolq",
        yes_no,
        &columns,
        &[("boolq:0", asked[0], &["yes"]), ("boolq:1", asked[1], &["no"])],
    );
    let mmlu = format!(
        "optional binary question (STRING); optional binary subject (STRING); optional group choices {LIST} optional int64 answer;"
    );
    let columns = || {
        vec![
            Column::Texts(vec![Some("1+1?")]),
            Column::Texts(vec![Some("algebra")]),
            Column::TextLists(vec![vec!["1", "2", "3", "4"]]),
            Column::Ints(vec![1]),
        ]
    };
    check_task(
        "mmlu",
        &mmlu,
        &columns(),
        &[("mmlu:algebra:0", "1+1?\nA. 1\nB. 2\nC. 3\nD. 4", &["B", "2"])],
    );
    let mut beyond = columns();
    beyond[3] = Column::Ints(vec![4]);
    let error = task("mmlu", &write(&mmlu, &beyond)).unwrap_err();
    assert!(
        error.exit_code() == 4
            && error.to_string().contains("row 1: gold is 4, counted from 0, of 4 choices"),
        "{error}"
    );
    let error = task("mmlu", &arc()).unwrap_err();
    assert!(
        error.exit_code() == 4 && error.to_string().contains("row 1: not what the task reads: "),
        "{error}"
    );
}

#[test]
fn the_right_option_is_not_always_the_first() {
    let schema = "optional binary question (STRING);
        optional group mc1_targets { optional group choices (LIST) { repeated group list { optional binary element (STRING); } }
            optional group labels (LIST) { repeated group list { optional int32 element; } } }";
    let rows = 40;
    let options = vec!["right", "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9", "w10"];
    let build = |labels: Vec<i32>| {
        let texts = (0..rows).map(|i| Some(&*format!("Why {i}?").leak())).collect();
        let choices = (0..rows).map(|i| options[..2 + i % 10].to_vec()).collect();
        let labels = (0..rows).map(|i| labels[..2 + i % 10].to_vec()).collect();
        write(schema, &[Column::Texts(texts), Column::TextLists(choices), Column::IntLists(labels)])
    };
    let questions = task("truthfulqa", &build([vec![1], vec![0; 10]].concat())).unwrap();
    let mut letters = std::collections::BTreeMap::new();
    for (i, doc) in questions.docs.iter().enumerate() {
        assert_eq!((doc.choices.len(), doc.answers[1].as_str()), ((2 + i % 10).min(10), "right"));
        let letter = &doc.answers[0];
        assert_eq!(doc.choices[usize::from(letter.as_bytes()[0] - b'A')], "right");
        *letters.entry(letter.clone()).or_insert(0) += 1;
    }
    assert!(letters.len() >= 5 && letters["A"] < rows / 2, "{letters:?}");
    let error = task("truthfulqa", &build([vec![1, 1], vec![0; 9]].concat())).unwrap_err();
    assert!(
        error.to_string().contains("row 1: 2 choices and 2 labels, of which exactly one must be 1"),
        "{error}"
    );
}

#[test]
fn several_options_may_be_right() {
    let schema = "optional binary question (STRING);
        optional group mc2_targets { optional group choices (LIST) { repeated group list { optional binary element (STRING); } }
            optional group labels (LIST) { repeated group list { optional int32 element; } } }";
    let build = |labels: Vec<i32>| {
        let options = vec!["Nothing.", "They pass through.", "They grow.", "You fall ill."];
        write(
            schema,
            &[
                Column::Texts(vec![Some("What of seeds?")]),
                Column::TextLists(vec![options]),
                Column::IntLists(vec![labels]),
            ],
        )
    };
    let questions = task("truthfulqa_mc2", &build(vec![1, 1, 0, 0])).unwrap();
    let doc = &questions.docs[0];
    assert_eq!((doc.id.as_str(), &doc.right[..]), ("truthfulqa:0", &[0, 1][..]));
    assert_eq!(doc.answers, ["Nothing.", "They pass through."]);
    assert_eq!(
        (questions.scorer, questions.scorer.question(doc), questions.scorer.choices(doc)),
        (Scorer::Loglikelihood, doc.question.clone(), doc.choices.clone())
    );
    // Its own frame stays, whether or not the scorer is named; letters are no way to say that
    // several are right.
    assert!(
        questions.question_template.ends_with("Barcelona, Spain.\n\nQ: {question}\nA:")
            && questions.question_template.matches("Q: ").count() == 7
    );
    assert_eq!(questions.clone().by_likelihood(Scorer::Loglikelihood).unwrap(), questions);
    let error = questions.by_likelihood(Scorer::LoglikelihoodLetter).unwrap_err();
    assert!(
        error.is_usage()
            && error.to_string().contains("truthfulqa:0: several options may be right"),
        "{error}"
    );
    let refused = |labels: Vec<i32>, expected: &str| {
        let error = task("truthfulqa_mc2", &build(labels)).unwrap_err();
        assert!(
            error.exit_code() == 4 && error.to_string().contains(expected),
            "{error}, expected {expected}"
        );
    };
    refused(
        vec![1, 1, 1, 1],
        "row 1: 4 of 4 choices are right; at least one must be, and at least one must not",
    );
    refused(vec![0, 0, 0, 0], "row 1: 0 of 4 choices are right");
    refused(vec![1, 0, 0], "row 1: 4 choices and 3 labels; there must be as many, each 0 or 1");
    refused(vec![1, 0, 0, 2], "row 1: 4 choices and 4 labels");
}

#[test]
fn the_challenge_has_labels_of_both_kinds() {
    let questions = task("arc_challenge", &arc()).unwrap();
    let found: Vec<(&str, &[String])> =
        questions.docs.iter().map(|doc| (doc.id.as_str(), &doc.answers[..])).collect();
    let gold = |letter: &str, text: &str| [letter.to_owned(), text.to_owned()];
    let expected = [gold("B", "wood"), gold("B", "Holz"), gold("A", "hierro")];
    assert_eq!(
        found,
        [
            ("arc_challenge:m1", &expected[0][..]),
            ("arc_challenge:m2", &expected[1]),
            ("arc_challenge:m3", &expected[2])
        ]
    );
    let columns = [
        Column::Texts(vec![Some("m1")]),
        Column::Texts(vec![Some("Which floats?")]),
        Column::TextLists(vec![vec!["iron", "wood"]]),
        Column::TextLists(vec![vec!["1", "2"]]),
        Column::Texts(vec![Some("B")]),
    ];
    let error = task("arc_challenge", &write(CHOICES, &columns)).unwrap_err();
    let expected =
        "row 1: answerKey is \"B\"; 2 texts have the labels 1, 2, of which it must be one";
    assert!(error.exit_code() == 4 && error.to_string().contains(expected), "{error}");
}

#[test]
fn what_is_not_in_the_folder_is_fetched_from_the_hub() {
    let task = eval::task("nq_open").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("somewhere.parquet");
    let schema = format!("optional binary question (STRING); optional group answer {LIST}");
    fs::write(
        &path,
        write(&schema, &[Column::Texts(vec![Some("who")]), Column::TextLists(vec![vec!["Ann"]])]),
    )
    .unwrap();
    let mut asked = Vec::new();
    let questions = task
        .open_with(Some(Path::new("nowhere")), &mut |reference| {
            asked.push(reference.to_owned());
            Ok(path.clone())
        })
        .unwrap();
    assert_eq!(
        asked,
        ["datasets/google-research-datasets/nq_open/nq_open/validation-00000-of-00001.parquet"]
    );
    assert!(questions.docs.len() == 1 && questions.file_sha256.is_some());
}

#[test]
fn an_unknown_compression_is_named() {
    // The codec stands in the metadata of each column; of 2 (gzip) in the place of 1 (Snappy)
    // nothing else changes.
    let file = arc();
    let metadata = file.len()
        - 8
        - u32::from_le_bytes(file[file.len() - 8..file.len() - 4].try_into().unwrap()) as usize;
    let texts: Vec<String> = (metadata..file.len() - 8)
        .filter(|place| file[*place] == 0x02)
        .filter_map(|place| {
            let mut other = file.clone();
            other[place] = 0x04;
            open(&other, MAP).err().map(|error| error.to_string())
        })
        .collect();
    let expected = "its columns are compressed with gzip; candor reads Snappy and none: write it again with one of them";
    assert!(texts.iter().any(|text| text.contains(expected)), "{texts:?}");
}
