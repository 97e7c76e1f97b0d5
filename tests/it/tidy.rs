//! The architecture as tests: who may name whom, where outside crates appear, how long files get.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the ground up: each may use its own level and those below.
const LAYERS: &[&[&str]] = &[
    &["error", "digest", "files"],
    &["generation", "machine"],
    &["logits", "consensus"],
    &["uncertainty"],
    &["decision"],
    &["metrics"],
    &["calibration"],
    &["manifest"],
    &["hub"],
    &["format"],
    &["model", "tokenizer"],
    &["encoder"],
    &["prompt"],
    &["engine"],
    &["strategy"],
    &["pipeline"],
    &["eval"],
    &["report"],
    &["cli"],
];

/// Modules that do no input or output and know no tensors.
const PURE: &[&str] =
    &["generation", "logits", "consensus", "uncertainty", "decision", "metrics", "calibration"];

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// (path below src, module, text up to the tests) of every source file.
fn sources() -> Vec<(String, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&src).unwrap().display().to_string();
        let module = name.split(['/', '.']).next().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        (name, module, code)
    };
    source_files(&src).into_iter().map(read).collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|level| level.contains(&module))
}

/// The top modules that a text names through `crate::`.
fn used(code: &str) -> Vec<String> {
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let names = code.split("crate::").skip(1).flat_map(|rest| {
        let rest = rest
            .strip_prefix('{')
            .map_or(vec![rest], |list| list.split('}').next().unwrap().split(',').collect());
        rest.into_iter()
            .map(|r| {
                r.trim()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect::<String>()
            })
            .collect::<Vec<_>>()
    });
    names.filter(|name| layer(name).is_some()).collect()
}

#[test]
fn arrows_point_down() {
    for (name, module, code) in sources() {
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let own = layer(&module).unwrap_or_else(|| panic!("{name}: module {module} has no layer"));
        for other in used(&code) {
            let below = layer(&other).unwrap();
            assert!(below < own || other == module, "{name} uses {other}, which is not below it");
        }
    }
}

#[test]
fn outside_crates_stay_where_they_belong() {
    let check = |needle: &str, allowed: &dyn Fn(&str) -> bool| {
        for (name, _, code) in sources() {
            let found = code
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(needle));
            assert!(!found || allowed(&name), "{name} names {needle}");
        }
    };
    check("candle_", &|name| name.starts_with("model/") || name.starts_with("encoder/"));
    check("clap", &|name| name.starts_with("cli/"));
    check("indicatif", &|name| name.starts_with("cli/"));
    check("println!", &|name| name.starts_with("cli/"));
    check("print!(", &|name| name.starts_with("cli/"));
    check("io::stdout", &|name| name.starts_with("cli/"));
    check("io::stderr", &|name| name.starts_with("cli/"));
    check("ureq", &|name| name.starts_with("hub/"));
    check("tokenizers::", &|name| name.starts_with("tokenizer/"));
    check("minijinja", &|name| name.starts_with("prompt/"));
    check("csv::", &|name| name.starts_with("eval/") || name.starts_with("report/"));
    check("use parquet::", &|name| name.starts_with("eval/parquet/"));
    // Nothing but a fitted calibrator makes a confidence.
    check("Confidence::calibrated", &|name| name.starts_with("calibration/"));
    let pure = |name: &str| {
        PURE.iter()
            .any(|module| name == format!("{module}.rs") || name.starts_with(&format!("{module}/")))
    };
    for needle in ["std::fs", "std::net", "std::process", "std::env::", "std::thread"] {
        check(needle, &|name| !pure(name));
    }
    let unsafe_allowed = ["format/mmap.rs", "model/mod.rs"];
    check("unsafe {", &|name| unsafe_allowed.contains(&name) || name.starts_with("model/cpu/"));
}

#[test]
fn nothing_unwraps_and_every_file_says_what_it_is() {
    for (name, _, code) in sources() {
        assert!(code.starts_with("//!"), "{name} does not open with //!");
        let unwraps = code
            .lines()
            .any(|line| !line.trim_start().starts_with("//") && line.contains(".unwrap()"));
        assert!(!unwraps, "{name} unwraps outside its tests");
    }
}

/// Lines that are neither a comment nor within a test module.
fn code_lines(code: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(code.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn the_decoder_is_generic_over_what_computes() {
    for (name, _, code) in sources() {
        // The cache stores the CPU's layout beside tensors: it names both.
        let generic = name.starts_with("model/") && name.matches('/').count() == 1;
        if generic && !["model/mod.rs", "model/kv.rs"].contains(&name.as_str()) {
            let found = code_lines(&code).find(|(_, line)| line.contains("super::cpu"));
            assert_eq!(found, None, "{name}");
        }
    }
}

#[test]
fn strategies_are_named_in_their_place_alone() {
    for (name, module, code) in sources() {
        // The command line has the flag.
        if ["strategy", "cli"].contains(&module.as_str()) {
            continue;
        }
        for (strategy, _) in candor::internals::strategy::STRATEGIES {
            let variant = format!("{strategy:?}");
            let variant = format!("Strategy::{}", variant.split('(').next().unwrap());
            // Policies are certified too.
            let name_of = strategy.name().replace("certified", "strategy certified");
            let text = format!("\"{name_of}\"");
            let found =
                code_lines(&code).find(|(_, line)| line.contains(&variant) || line.contains(&text));
            assert_eq!(found, None, "{name} names {strategy}");
        }
    }
}

/// Coined names, and turns of phrase that read like a translation.
const WORDS_THAT_STAY_AWAY: &[&str] = &[
    "Surroundings",
    "Ballot",
    "Judgement",
    "JobId",
    "Tempered",
    "Peaks",
    "emptied",
    "Arm ",
    "colour",
    "licence",
    "quantis",
    "honour",
    "serialis",
    "normalis",
    " labelled",
    "behaviour",
    "cannot be said",
    "is told",
    "comes to",
    "where there is",
    "where there are",
    "is no number",
    "is no probability",
    "surest",
    "likeliest",
];

#[test]
fn words_that_were_replaced_do_not_come_back() {
    for (name, _, code) in sources() {
        for word in WORDS_THAT_STAY_AWAY {
            let found = (1..).zip(code.lines()).find(|(_, line)| line.contains(word));
            assert_eq!(found, None, "{name} has {word:?}");
        }
    }
}

#[test]
fn lines_have_at_most_100_columns() {
    for (name, _, code) in sources() {
        // rustfmt breaks code; it leaves string literals and comments alone.
        let breakable = |line: &str| !line.contains('"') && !line.contains("matches!");
        let found =
            (1..).zip(code.lines()).find(|(_, line)| line.chars().count() > 100 && breakable(line));
        assert_eq!(found, None, "{name}");
    }
}
