//! Extraction, normalization and the vote: tables of cases, properties, and agreement with public
//! labels.
//!
//! The tests on public data read the folder that the environment variable `CANDOR_DATA` names and
//! say so when it is not set.

use std::path::PathBuf;
use std::time::Duration;

use candor::internals::consensus::{Extractor, canonical};
use proptest::prelude::*;

fn check_extract(extractor: Extractor, cases: &[(&str, Option<&str>)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(text, expected)| {
            let found = extractor.read(text).answer().map(|answer| answer.canonical);
            (found.as_deref() != *expected)
                .then(|| format!("{extractor} of {text:?}: found {found:?}, expected {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn numbers() {
    check_extract(
        Extractor::Number,
        &[
            // Plain, signs, decimals.
            ("42", Some("42")),
            ("She has 3 apples and 4 pears, 7 in all.", Some("7")),
            ("-5", Some("-5")),
            ("The result is \u{2212}5.", Some("-5")),
            ("minus 5", Some("-5")),
            ("It is negative 3.", Some("-3")),
            ("7 minus 5", Some("5")),
            ("16-3 = 13", Some("13")),
            ("-0", Some("0")),
            ("-0.0", Some("0")),
            (".5", Some("1/2")),
            ("0.50", Some("1/2")),
            ("3.", Some("3")),
            ("007", Some("7")),
            // Thousands.
            ("1,000", Some("1000")),
            ("1 000", Some("1000")),
            ("1\u{202f}234\u{202f}567", Some("1234567")),
            ("1\u{2009}000", Some("1000")),
            ("12_000", Some("12000")),
            ("1'234.50", Some("2469/2")),
            ("1.234.567", Some("1234567")),
            ("1.234,5", Some("2469/2")),
            ("1,234.5", Some("2469/2")),
            ("12,34,567", Some("1234567")),
            ("3,5", Some("7/2")),
            ("0,125", Some("1/8")),
            ("2.125", Some("17/8")),
            ("1,2,3", None),
            ("1, 2, 3", None),
            ("In 2020 100 people came", Some("100")),
            // Fractions and percent.
            ("1/2", Some("1/2")),
            ("2/4", Some("1/2")),
            ("7 / 14", Some("1/2")),
            ("1 1/2", Some("3/2")),
            ("\u{bd}", Some("1/2")),
            ("2\u{bd} cups", Some("5/2")),
            ("\u{2154}", Some("2/3")),
            ("50%", Some("1/2")),
            ("50 %", Some("1/2")),
            ("50 percent", Some("1/2")),
            ("12.5\\%", Some("1/8")),
            ("\\frac{3}{4}", Some("3/4")),
            ("$\\dfrac12$", Some("1/2")),
            ("3\\frac{1}{2}", Some("7/2")),
            // Scientific notation and magnitudes.
            ("1e3", Some("1000")),
            ("2.5E-1", Some("1/4")),
            ("1.5 × 10^3", Some("1500")),
            ("1.5 \\times 10^{3}", Some("1500")),
            ("10^3", Some("1000")),
            ("10\u{b3}", Some("1000")),
            ("2^10", Some("1024")),
            ("2**10", Some("1024")),
            ("3 million", Some("3000000")),
            ("-1.8 billion", Some("-1800000000")),
            ("$5k", Some("5000")),
            // Currency, units, punctuation.
            ("$18", Some("18")),
            ("-$5", Some("-5")),
            ("$-5", Some("-5")),
            ("5€.", Some("5")),
            ("Total: 5 kg!", Some("5")),
            ("an area of 12 m\u{b2}", Some("12")),
            ("an area of 12 m^2", Some("12")),
            ("C is 7, not H2O", Some("7")),
            ("B12", Some("12")),
            ("**18**", Some("18")),
            ("the 21st", Some("21")),
        ],
    );
}

#[test]
fn numbers_in_context() {
    check_extract(
        Extractor::Number,
        &[
            // Announced answers.
            ("... so 3 + 4 = 7.\n#### 18", Some("18")),
            ("#### 1,234\nTom 5", Some("1234")),
            ("The answer is 18 dollars for 3 days.", Some("18")),
            ("The answer is 6 * 3 = 18.", Some("18")),
            ("Answer: $12\nLet me check: 3 * 4 = 12, 5 * 5 = 25", Some("12")),
            ("x\nA: 18", Some("18")),
            ("A:18", Some("18")),
            ("A: 18\nB: 20\nC: 25", Some("25")),
            ("The answer is 3. No wait, the answer is 4.", Some("4")),
            ("**Answer:**\n\n42", Some("42")),
            ("\\boxed{12} and 13", Some("12")),
            ("<think>maybe 3</think>4", Some("4")),
            ("<think>maybe 3", None),
            // Other scripts and languages.
            ("\u{9e7}\u{9ee}", Some("18")),
            ("\u{661}\u{662}\u{66b}\u{665}", Some("25/2")),
            ("\u{ff11}\u{ff18}", Some("18")),
            ("\u{e51}\u{e58}", Some("18")),
            ("答案是18美元，共3天", Some("18")),
            ("Die Antwort ist 18 Euro für 3 Tage", Some("18")),
            ("答えは 18個です", Some("18")),
            // Opaque: never the last part.
            ("10:30", Some("10:30")),
            ("3-5", Some("3-5")),
            ("1/2/2020", Some("1/2/2020")),
            ("2020-05-01", Some("2020-05-01")),
            ("version 1.2.3", Some("1.2.3")),
            ("1/0", Some("1/0")),
            ("1e999999", Some("1e999999")),
            ("10e999998", Some("1e999999")),
            (
                "170141183460469231731687303715884105728",
                Some("170141183460469231731687303715884105728e0"),
            ),
            (
                "170,141,183,460,469,231,731,687,303,715,884,105,728.0",
                Some("170141183460469231731687303715884105728e0"),
            ),
            ("0.1000000000000000000000000000000000000000000", Some("1/10")),
            // Nothing.
            ("", None),
            ("   \n", None),
            ("inf", None),
            ("NaN", None),
            ("no number", None),
        ],
    );
}

#[test]
fn choices() {
    check_extract(
        Extractor::Choice,
        &[
            ("B", Some("b")),
            ("b", Some("b")),
            ("(B)", Some("b")),
            ("B.", Some("b")),
            ("**B**", Some("b")),
            ("\u{ff22}", Some("b")),
            ("B) Paris", Some("b")),
            ("B. Paris", Some("b")),
            ("B: Paris", Some("b")),
            ("The answer is B", Some("b")),
            ("The answer is **B**.", Some("b")),
            ("The answer is: (C) because it is red", Some("c")),
            ("Answer: b", Some("b")),
            ("Answer: option D", Some("d")),
            ("The correct answer is A because of A and B.", Some("a")),
            ("I think the answer is clearly (A).", Some("a")),
            ("The answer is $\\boxed{C}$", Some("c")),
            ("\\boxed{\\text{(D)}}", Some("d")),
            ("Both seem right.\nB", Some("b")),
            ("Option C is the right one.", Some("c")),
            ("It must be (J), I guess.", Some("j")),
            ("A) carrot is a fruit.", Some("a")),
            ("Let us see: (A) is wrong, so answer: B) 4", Some("b")),
            // Prose.
            ("A cat sat on the mat.", None),
            ("The answer is a cat.", None),
            ("Answer: A dog is an animal.", None),
            ("Answer: I do not know.", Some("i dont know")),
            ("I am not sure.", Some("i dont know")),
            ("Paris", None),
            ("Because.", None),
            ("The answer is Bob", None),
            ("(A) or (B)", None),
            ("A) red\nB) blue", None),
            ("K", None),
            ("", None),
        ],
    );
}

#[test]
fn boxes() {
    check_extract(
        Extractor::Boxed,
        &[
            ("\\boxed{42}", Some("42")),
            ("so $\\boxed{\\frac{1}{2}}$.", Some("1/2")),
            ("\\boxed{1} then \\boxed{2}", Some("2")),
            ("\\boxed{a_{1}+{b}}", Some("a_1+b")),
            ("\\boxed{x + 1}", Some("x+1")),
            ("\\boxed{x - 1}", Some("x-1")),
            ("\\boxed{X=1}", Some("1")),
            ("\\boxed{Jean-Luc}", Some("jean luc")),
            ("\\boxed{\\text{Paris}}", Some("paris")),
            ("\\boxed{(1, 2)}", Some("(1,2)")),
            ("\\boxed{90^\\circ}", Some("90 °")),
            ("\\boxed{1{,}000}", Some("1000")),
            ("\\boxed{\\$5.00}", Some("5 usd")),
            ("\\boxed {7}", Some("7")),
            ("\\boxed{3", None),
            ("\\boxed{1} \\boxed{2", Some("1")),
            ("\\boxed{}", None),
            ("42", None),
        ],
    );
}

#[test]
fn short_answers() {
    check_extract(
        Extractor::ShortAnswer,
        &[
            ("Paris", Some("paris")),
            (" Paris.\n", Some("paris")),
            ("The capital of France is Paris.", Some("paris")),
            ("The capital of France is **Paris**.", Some("paris")),
            ("The capital of France is Paris, which is also its largest city.", Some("paris")),
            ("The capital of France is Paris. It lies on the Seine.", Some("paris")),
            ("Sure! The capital of France is Paris.", Some("paris")),
            ("It is Paris.", Some("paris")),
            ("It's Paris!", Some("paris")),
            ("Answer: Paris", Some("paris")),
            ("The answer is Paris.", Some("paris")),
            ("The answer is \"Paris\".", Some("paris")),
            (
                "The first president of the United States was John F. Kennedy.",
                Some("john f kennedy"),
            ),
            ("The capital of the USA is Washington, D.C.", Some("washington dc")),
            ("The chemical symbol for gold is Au. It is a metal.", Some("au")),
            (
                "The longest river in the world is the Amazon River, which spans across South America.",
                Some("amazon river"),
            ),
            ("The number of legs is 8.", Some("8")),
            ("Eight", Some("8")),
            ("U.S.A.", Some("usa")),
            ("The Beatles", Some("beatles")),
            ("Mount Everest is tall.", Some("mount everest is tall")),
            // A denial, a hedge or a correction is another answer.
            ("The capital of France is not Paris.", Some("capital of france is not paris")),
            (
                "The largest planet is Neptune, but it is actually Uranus.",
                Some("largest planet is neptune but it is actually uranus"),
            ),
            ("The capital of France might be Paris.", Some("capital of france might be paris")),
            ("The capital of France is Paris or Lyon.", Some("capital of france is paris or lyon")),
            // A name in front is no answer by itself: "Who is ...?" would merge every lie about
            // him.
            (
                "Emmanuel Macron is the president of France.",
                Some("emmanuel macron is president of france"),
            ),
            ("The Netherlands is larger.", Some("netherlands is larger")),
            ("", None),
            ("...", None),
            ("<think></think>", None),
        ],
    );
}

#[test]
fn last_lines() {
    check_extract(
        Extractor::LastLine,
        &[
            ("a\nB C\n\n", Some("b c")),
            ("x\n50 %", Some("1/2")),
            ("one\r\ntwo\r\n", Some("2")),
            ("\n\n", None),
            ("--\n", None),
        ],
    );
}

#[test]
fn auto_takes_the_first_row_that_applies() {
    check_extract(
        Extractor::Auto,
        &[
            ("The answer is 3. \\boxed{4}", Some("4")),
            ("It costs 3 + 4 = 7.\n#### 7 dollars", Some("7 usd")),
            ("The answer is (B).", Some("b")),
            ("The answer is Paris.", Some("paris")),
            ("(C)", Some("c")),
            ("C) Berlin", Some("c")),
            ("C. S. Lewis", Some("c s lewis")),
            ("A cat", Some("cat")),
            ("$1,000.00", Some("1000 usd")),
            ("50%", Some("1/2")),
            (
                "Tom has 3 + 4 = 7 apples. In total, Tom has 7 apples.",
                Some("tom has 3+4=7 apples in total tom has 7 apples"),
            ),
            ("The capital of France is Paris.", Some("paris")),
            ("12 angry men", Some("12 angry men")),
            ("21 Jump Street", Some("21 jump street")),
            ("", None),
        ],
    );
}

#[test]
fn same_answers_have_one_canonical_form() {
    let same: &[&[&str]] = &[
        &["0.5", "1/2", "50 %", "50%", "2/4", ".5", "½", "0,5", "5e-1", "0.50", "٠٫٥"],
        &["1,000", "1000", "1e3", "1 000", "1\u{a0}000", "1000.00", "10^3", "1k", "1_000"],
        &["-0", "0", "0.0", "0/5", "0%", "zero"],
        &[
            "Paris",
            "paris",
            " PARIS. ",
            "**Paris**",
            "\"Paris\"",
            "the Paris",
            "Paris!",
            "Ｐａｒｉｓ",
        ],
        &["U.S.", "US", "u.s", "the U.S."],
        &["Jean-Luc Picard", "Jean\u{2010}Luc Picard", "jean luc  picard"],
        &["O'Brien", "O’Brien", "obrien"],
        &["Straße", "STRASSE", "strasse"],
        &["Annie & Clarabel", "Annie and Clarabel", "Annie, and Clarabel"],
        &["1,000 people", "1000 people."],
        &["caf\u{e9}", "cafe\u{301}", "CAFÉ"],
        &["4", "four", "Four."],
    ];
    for group in same {
        for text in *group {
            assert_eq!(canonical(text), canonical(group[0]), "{text:?} and {:?}", group[0]);
        }
    }
}

#[test]
fn different_answers_stay_apart() {
    let different: &[&[&str]] = &[
        &["50%", "50", "0.05", "5"],
        &["1.5.2", "152", "1.52", "15.2"],
        &["10:30", "1030", "10.30", "9:30"],
        &["-5", "5"],
        &["Vitamin A", "Vitamin", "Vitamin B"],
        &["C", "C++", "C#"],
        &["x + 1", "x - 1", "x1"],
        &["12 cups", "1/2 cups", "1 2 cups"],
        &["1914-1918", "1914", "1918", "19141918"],
        &["Jupiter", "Saturn", "not Jupiter"],
        &["1", "10", "1/10", "1e-1000", "1e1000", "0"],
        &["170141183460469231731687303715884105727", "170141183460469231731687303715884105728"],
    ];
    for group in different {
        let mut forms: Vec<_> = group.iter().map(|text| canonical(text)).collect();
        forms.sort();
        forms.dedup();
        // 0.05 and 5 are different from 50 % and 50 and from each other; 1/10 is 1e-1.
        assert_eq!(forms.len(), group.len(), "{group:?} gave {forms:?}");
    }
}

#[test]
fn extractors_have_names() {
    for extractor in Extractor::ALL {
        assert_eq!(extractor.name().parse::<Extractor>().unwrap(), extractor);
        assert_eq!(serde_json::to_value(extractor).unwrap(), extractor.name());
    }
    assert_eq!("short-answer".parse::<Extractor>().unwrap(), Extractor::ShortAnswer);
    let error = "sloth".parse::<Extractor>().unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("`sloth`"));
}

/// Texts made to hit the scanners' corners.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("The answer is ".to_owned()),
        Just("#### ".to_owned()),
        Just("\\boxed{".to_owned()),
        Just("\\frac{".to_owned()),
        Just("}".to_owned()),
        Just("A: ".to_owned()),
        Just("\n".to_owned()),
        Just("</think>".to_owned()),
        Just("\u{202e}\u{0}½²₃٫\u{301}".to_owned()),
        "[-+,./:%$^*eE0-9 '_()A-Jx]{0,12}",
        "\\PC{0,6}",
        "[a-zA-Z ,.]{0,16}",
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn extractors_are_total(text in fragments(), any in any::<String>()) {
        for extractor in Extractor::ALL {
            for text in [&text, &any] {
                if let Some(answer) = extractor.read(text).answer() {
                    prop_assert!(!answer.canonical.is_empty());
                }
            }
        }
    }

    #[test]
    fn canonical_is_idempotent(text in fragments(), any in any::<String>()) {
        for text in [text, any] {
            if let Some(once) = canonical(&text) {
                prop_assert_eq!(canonical(&once), Some(once.clone()), "{:?}", text);
            }
        }
    }

    #[test]
    fn all_spellings_of_a_fraction_are_one(numerator in -99_999_i64..99_999, denominator in 1_i64..999, factor in 1_i64..50) {
        let form = |text: String| Extractor::Number.read(&text).answer().unwrap().canonical;
        let plain = form(format!("{numerator}/{denominator}"));
        prop_assert_eq!(&plain, &form(format!("{}/{}", numerator * factor, denominator * factor)));
        prop_assert_eq!(&plain, &form(format!("The answer is ${numerator}/{denominator}.")));
        let percent = form(format!("{numerator}%"));
        prop_assert_eq!(&percent, &form(format!("{numerator}/100")));
        prop_assert_eq!(&percent, &form(format!("{numerator}e-2")));
        let sign = if numerator < 0 { "-" } else { "" };
        prop_assert_eq!(percent, form(format!("{sign}{}.{:02}", numerator.abs() / 100, numerator.abs() % 100)));
    }
}

#[test]
fn time_is_linear_in_the_text() {
    let units = [
        "1",
        "1 ",
        "1,",
        "1.",
        "1/",
        "-1",
        "1 1/",
        "1:",
        "^1",
        "10^",
        "\\boxed{",
        "\\frac{1}{",
        "answer is ",
        "#### ",
        "A:\n",
        "(A)",
        "A) ",
        "}",
        "{",
        "a ",
        ". ",
        "is ",
        "the ",
        "Paris ",
        "=1",
        "%",
        "½",
        "²",
        "\u{fdfa}",
        "\u{202e}",
        "</think>",
        "\n",
        "$",
        "minus ",
        "\u{301}",
        "\\text{",
        "1e",
        "Sure! ",
    ];
    for unit in units {
        let text = unit.repeat(200_000 / unit.len());
        for extractor in Extractor::ALL {
            let start = processor_time();
            let _ = extractor.read(&text).answer();
            let took = processor_time().saturating_sub(start);
            // Measured below 1 s each; a quadratic step would take an hour.
            assert!(
                took < Duration::from_secs(20),
                "{extractor} took {took:?} on 200 kB of {unit:?}"
            );
        }
    }
}

/// Of this thread: a busy or stopped machine adds nothing to it.
#[cfg(unix)]
fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)
        .try_into()
        .expect("no negative time")
}

#[cfg(not(unix))]
fn processor_time() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// The folder of public data sets, if there is one.
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("CANDOR_DATA").map(PathBuf::from);
    if folder.is_none() {
        println!("CANDOR_DATA is not set: nothing was compared with public data");
    }
    folder
}

/// `A: 18` of every model's solution against the label: the four models of GSM8K's
/// `example_model_solutions.jsonl` on 1,319 questions.
#[test]
fn numbers_agree_with_every_gsm8k_label() {
    let Some(data) = data() else { return };
    let text = std::fs::read_to_string(
        data.join("gsm8k/grade_school_math/data/example_model_solutions.jsonl"),
    )
    .unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let gold = Extractor::Number
            .read(row["ground_truth"].as_str().unwrap())
            .answer()
            .unwrap()
            .canonical;
        for model in ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"] {
            let solution = row[model]["solution"].as_str().unwrap();
            let found = Extractor::Number.read(solution).answer().map(|answer| answer.canonical);
            count += 1;
            if (found.as_deref() == Some(&gold)) != row[model]["is_correct"].as_bool().unwrap() {
                wrong.push(format!(
                    "{model}: found {found:?}, gold {gold}, label {}: {solution:?}",
                    row[model]["is_correct"]
                ));
            }
        }
    }
    println!("agreement with GSM8K labels: {} of {count}", count - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, 5276);
}

/// Every gold answer of MGSM, written into an answer sentence of its language and with its digits,
/// comes back; the gold answers of the eleven languages are the same numbers.
#[test]
fn numbers_read_every_mgsm_gold() {
    const SENTENCES: [(&str, &str); 11] = [
        ("bn", "উত্তর হল {}।"),
        ("de", "Die Antwort ist {} Euro."),
        ("en", "The answer is {} dollars."),
        ("es", "La respuesta es {}."),
        ("fr", "La réponse est {} €."),
        ("ja", "答えは{}個です。"),
        ("ru", "Ответ — {}."),
        ("sw", "Jibu ni {}."),
        ("te", "సమాధానం {}."),
        ("th", "คำตอบคือ {}"),
        ("zh", "答案是 {}。"),
    ];
    let Some(data) = data() else { return };
    let mut golds: Vec<Vec<String>> = Vec::new();
    for (language, sentence) in SENTENCES {
        let text =
            std::fs::read_to_string(data.join(format!("mgsm/mgsm/mgsm_{language}.tsv"))).unwrap();
        let rows = text.lines().map(|line| {
            let gold = line.rsplit('\t').next().unwrap();
            let plain = gold.replace(',', "").parse::<i64>().unwrap().to_string();
            for text in [
                sentence.replace("{}", gold),
                sentence.replace("{}", &native_digits(gold, language)),
                format!("16 + 2 = {gold}"),
            ] {
                assert_eq!(
                    Extractor::Number.read(&text).answer().unwrap().canonical,
                    plain,
                    "{text:?}"
                );
            }
            plain
        });
        golds.push(rows.collect());
    }
    assert!(golds.iter().all(|language| language.len() == 250 && *language == golds[0]));
}

fn native_digits(number: &str, language: &str) -> String {
    let zero = match language {
        "bn" => 0x09E6,
        "te" => 0x0C66,
        "th" => 0x0E50,
        "ja" | "zh" => 0xFF10,
        _ => return number.to_owned(),
    };
    number
        .chars()
        .map(|c| c.to_digit(10).and_then(|digit| char::from_u32(zero + digit)).unwrap_or(c))
        .collect()
}

/// SVAMP's golds are floats (`51.0`): a completion with the integer or the float is right.
#[test]
fn numbers_read_every_svamp_gold() {
    let Some(data) = data() else { return };
    let rows: Vec<serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(data.join("svamp/SVAMP.json")).unwrap())
            .unwrap();
    for row in &rows {
        let gold = row["Answer"].as_f64().unwrap();
        let of = |text: String| Extractor::Number.read(&text).answer().unwrap().canonical;
        let equation = row["Equation"].as_str().unwrap();
        assert_eq!(of(format!("{equation} = {gold}")), of(format!("{gold:.1}")), "{row}");
        assert_eq!(
            of(format!("So there are {gold} left.")),
            of(format!("#### {gold:.2}")),
            "{row}"
        );
    }
    assert_eq!(rows.len(), 1000);
}
