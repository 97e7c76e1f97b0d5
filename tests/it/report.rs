//! Reports: numbers by hand, hostile texts that stay texts, pages that are whole, small and the
//! same each time, gates with exit codes.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use candor::internals::calibration::{
    Example, Fingerprint, Method, PolicyFile, Split, Target, calibrate,
};
use candor::internals::consensus::{AskedQuestion, Extractor};
use candor::internals::digest::sha256_hex;
use candor::internals::eval::{
    Doc, Grader, Manifest, Record, RecordedOutcome, RecordedScore, Scorer, Subset, TaskConfig, runs,
};
use candor::internals::generation::{
    Completion, Cost, Generation, LOGPROB_FLOOR, SamplingParams, Timing, Token, TokenCounts,
    TokenStats,
};
use candor::internals::metrics::bootstrap::{Bootstrap, mix};
use candor::internals::metrics::{Grade, METRICS, estimates};
use candor::internals::model::Compute;
use candor::internals::pipeline::{
    Identity, QuestionTemplate, ResolvedConfig, Sample, SampleToken, Selector,
};
use candor::internals::prompt::{Date, KvKeep, Repetition, TemplateArguments};
use candor::internals::report::{Gate, OtherPolicy, Report, csv, html, junit, markdown, svg, text};
use candor::internals::strategy::Strategy;
use candor::internals::uncertainty::{self, Confidence};
use candor::{Decision, Policy};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn fingerprint() -> Fingerprint {
    let name = |text: &str| text.to_owned();
    Fingerprint {
        weights_sha256: name("w"),
        quantization: name("q"),
        compute: name("cpu"),
        template_sha256: name("t"),
        question_template: name("{question}"),
        repetition: name("off"),
        sampler: name("s"),
        strategy: name("self-consistency, n = 4"),
        extractor: name("number"),
        estimator: name("discrete_semantic_entropy"),
        context: name("4096"),
        version: name("0.1.0"),
    }
}

fn manifest(questions: usize, model: &str, policy: Option<PolicyFile>) -> Manifest {
    Manifest {
        format: 1,
        task: TaskConfig {
            name: "made".into(),
            file_sha256: None,
            docs_sha256: String::new(),
            questions,
            subset: Subset::default(),
            scorer: Scorer::Number,
            shard: None,
        },
        config: ResolvedConfig {
            identity: Identity {
                model: model.to_owned(),
                revision: None,
                model_sha256: None,
                quantization: "q".into(),
                family: "llama".into(),
            },
            compute: Compute { device: "cpu".into(), dtype: "f32".into(), kv_dtype: "f16".into() },
            template_sha256: None,
            template_arguments: TemplateArguments::default(),
            date: Date::default(),
            strategy: Strategy::SelfConsistency,
            params: SamplingParams { n: 4, ..SamplingParams::default() },
            question_template: QuestionTemplate::default(),
            repeat: Repetition::default(),
            kv_keep: KvKeep::default(),
            reader: Extractor::Number.into(),
            policy: Policy::default(),
            context: 4096,
            version: "0.1.0".into(),
        },
        estimator: "discrete_semantic_entropy".into(),
        fingerprint: Some(fingerprint()),
        policy,
        machine: json!({}),
    }
}

/// A word for each token; its length makes its entropy.
fn completion(index: usize, words: &str) -> Completion {
    let token = |(at, word): (usize, &str)| Token {
        id: (mix(word.bytes().fold(at as u64, |a, b| a.wrapping_mul(31) + u64::from(b))) >> 40)
            as u32,
        stats: TokenStats {
            logprob: -0.1 * word.len() as f64,
            entropy: 0.2 * word.len() as f64,
            varentropy: 0.1,
            margin: 0.5,
            max_prob: 0.6,
            self_certainty: 2.0,
            top_confidence: 3.0,
            sampling_logprob: LOGPROB_FLOOR,
        },
        top_logprobs: Vec::new(),
    };
    let tokens = words.split_inclusive(' ').enumerate().map(token).collect();
    Completion { index, tokens, text: words.to_owned(), ..Completion::default() }
}

/// A record as a run would have written it, from the texts of its samples.
fn record(
    at: usize,
    question: &str,
    gold: &str,
    samples: &[&str],
    policy: Option<&PolicyFile>,
) -> Record {
    let doc = Doc::new(format!("made:{at}"), question, vec![gold.to_owned()]);
    let completions: Vec<Completion> =
        samples.iter().enumerate().map(|(index, words)| completion(index, words)).collect();
    let generation = Generation { completions, cost: Cost::default(), ..Generation::default() };
    let mut selector =
        Selector::new(Extractor::Number.into(), uncertainty::DEFAULT_ESTIMATOR, Policy::default());
    if let Some(policy) = policy {
        selector.bind_policy(policy.clone(), fingerprint(), None).unwrap();
    }
    let verdict = selector.verdict(&AskedQuestion::default(), &generation);
    let sample = |c: &Completion| Sample {
        index: c.index,
        text: c.text.clone(),
        answer: verdict.vote.answers[c.index].clone(),
        finish_reason: c.finish_reason,
        spans: c.spans.clone(),
        prompt: c.prompt,
        weight: c.weight,
        tokens: c
            .tokens
            .iter()
            .zip(c.text.split_inclusive(' '))
            .map(|(token, word)| shown(token, word))
            .collect(),
        answer_span: None,
        asked: None,
        answer_scores: Vec::new(),
    };
    let outcome = RecordedOutcome {
        decision: verdict.decision.clone(),
        answer: None,
        text: None,
        confidence: verdict.confidence.map(Confidence::value),
        calibration: Value::Null,
        uncertainty: Some(RecordedScore {
            estimator: "discrete_semantic_entropy".into(),
            value: 0.0,
            unit: "nats".into(),
        }),
        scores: verdict.scores.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        samples: generation.completions.iter().map(sample).collect(),
        choices: Vec::new(),
        probes: Vec::new(),
        comparisons: Vec::new(),
        cost: TokenCounts { prompt_tokens: 9, completion_tokens: 8, forward_tokens: 4 + at % 3 },
        notes: Vec::new(),
        vote: verdict.vote,
    };
    Record {
        doc_id: at,
        target: gold.to_owned(),
        resps: vec![samples.iter().map(|text| (*text).to_owned()).collect()],
        filtered_resps: Vec::new(),
        doc_hash: doc.hash(),
        prompt_hash: None,
        target_hash: sha256_hex(gold.as_bytes()),
        grade: Grader::new(Scorer::Number, &doc).grade(&outcome.vote),
        matched_by: None,
        error: None,
        outcome: Some(outcome),
        timing: Timing {
            cached_tokens: 0,
            prefill_ms: Some(10.0),
            decode_ms: Some(30.0 + at as f64),
        },
        doc,
    }
}

fn shown(token: &Token, word: &str) -> SampleToken {
    SampleToken {
        id: token.id,
        text: word.to_owned(),
        bytes: None,
        stats: token.stats,
        top_logprobs: Vec::new(),
    }
}

fn write(folder: &Path, manifest: &Manifest, records: &[Record]) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("manifest.json"), serde_json::to_string(manifest).unwrap()).unwrap();
    let lines: Vec<u8> = records.iter().flat_map(|record| record.to_line().unwrap()).collect();
    fs::write(folder.join("records.jsonl"), lines).unwrap();
}

/// Questions of every class: the more samples agree, the likelier the answer is right.
fn plain(count: usize, policy: Option<&PolicyFile>) -> Vec<Record> {
    let one = |at: usize| {
        let gold = (at % 7).to_string();
        let other = (at % 7 + 10).to_string();
        let agreeing = at % 5;
        let leading = if mix(at as u64) % 5 < agreeing as u64 { &gold } else { &other };
        let samples: Vec<String> = (0..4_usize)
            .map(|s| match (agreeing, s < agreeing) {
                (0, _) => "nothing to say".to_owned(),
                (_, true) => format!("it is {leading}"),
                _ => format!("it is {}", 20 + s),
            })
            .collect();
        record(
            at,
            &format!("Question {at}?"),
            &gold,
            &samples.iter().map(String::as_str).collect::<Vec<_>>(),
            policy,
        )
    };
    (0..count).map(one).collect()
}

/// A policy over labels that were made up: surer is righter.
fn policy() -> PolicyFile {
    let example = |i: u64| Example {
        id: format!("label:{i}"),
        text: None,
        scores: vec![Some((i % 100) as f64 / 50.0)],
        grade: if mix(i) % 100 >= i % 100 { Grade::Correct } else { Grade::Incorrect },
    };
    let split = Split::random_split((0..1000).map(example).collect(), 0.4, 0.4, 0).unwrap();
    calibrate(
        &split,
        Method::Sigmoid,
        Target::SelectiveRisk { alpha: 0.2, delta: 0.1 },
        fingerprint(),
    )
    .unwrap()
}

fn report(folder: &Path, names: &[&str]) -> Report {
    let paths: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
    Report::new(&runs(&paths).unwrap(), None).unwrap()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

#[test]
fn the_page_allows_its_own_script_and_style_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    write(
        &folder.path().join("one"),
        &manifest(60, "m.gguf", Some(policy())),
        &plain(60, Some(&policy())),
    );
    write(&folder.path().join("two"), &manifest(60, "n.gguf", None), &plain(60, None));
    let page = html(&report(folder.path(), &["one", "two"]));
    let digest = |text: &str| format!("sha256-{}", STANDARD.encode(Sha256::digest(text)));
    let rules = between(&page, "http-equiv=\"Content-Security-Policy\" content=\"", "\"");
    let style = digest(between(&page, "<style>", "</style>"));
    let script = digest(between(&page, "<script>", "</script>"));
    let expected = format!(
        "default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"
    );
    assert_eq!(rules, expected);
    // One style, one script, one block of data; nothing that the policy would block, and nothing
    // that points outside.
    assert_eq!((page.matches("<style").count(), page.matches("<script").count()), (1, 2));
    for outside in [
        "http:",
        "https:",
        "//",
        " style=",
        " onload=",
        " onclick=",
        "src=",
        "@import",
        "javascript:",
        "<iframe",
        "<link",
    ] {
        assert!(!page.replace(rules, "").contains(outside), "{outside}");
    }
    let links: Vec<&str> =
        page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(
        links.len() > 5
            && links
                .iter()
                .all(|link| link.starts_with('#')
                    && page.contains(&format!("id=\"{}\"", &link[1..]))),
        "{links:?}"
    );
    // Certified answers carry the policy's sentence, others say that they are uncalibrated.
    assert!(page.contains(&text::html(&policy().guarantee())));
    assert!(page.contains("two is uncalibrated"));
    // Every question is in one class, and the data has them all.
    let data: Value = serde_json::from_str(between(&page, "id=\"data\">", "</script>")).unwrap();
    let listed = data["runs"][1]["questions"].as_array().unwrap();
    let classes = |class: u64| listed.iter().filter(|q| q["c"] == class).count();
    assert_eq!([0, 1, 2, 3].map(classes).iter().sum::<usize>(), 60);
    assert!(
        [0, 1, 2, 3].map(classes).iter().all(|count| *count > 0),
        "{:?}",
        [0, 1, 2, 3].map(classes)
    );
}

#[test]
fn hostile_texts_stay_texts() {
    let attacks = [
        "</script><img src=x onerror=alert(1)>",
        "]]><!--<script>alert(1)</script>",
        "\" onmouseover=\"alert(1)",
        "\u{202e}thgir si siht\u{2066} \u{200b}\u{7}\u{1b}[31m",
        "</title></style></textarea><svg onload=alert(1)>",
        "=HYPERLINK(\"x\")|`a`",
    ];
    let folder = tempfile::tempdir().unwrap();
    for attack in attacks {
        let mut records = plain(20, None);
        let words = format!("{attack} is 7");
        records.push(record(20, attack, "7", &[&words, &words, "7", attack], None));
        let mut broken = record(21, "unasked", "7", &["7"], None);
        (broken.outcome, broken.error, broken.grade) =
            (None, Some(attack.to_owned()), Grade::NoAnswer);
        records.push(broken);
        let mut manifest = manifest(22, attack, None);
        manifest.task.name = attack.to_owned();
        let name = format!("run{}", attack.replace(['/', '\0'], "_"));
        write(&folder.path().join(&name), &manifest, &records);
        let report = report(folder.path(), &[&name]);
        let page = html(&report);
        // Elements are ours alone: in the text an opening bracket is always the page's own.
        assert_eq!(
            (page.matches("<script").count(), page.matches("</script").count()),
            (2, 2),
            "{attack}"
        );
        assert!(
            !page.contains("<img")
                && !page.contains("<svg onload")
                && !page.contains("<!--")
                && !page.contains("]]>"),
            "{attack}"
        );
        // In the data a quotation mark is escaped as JSON has it, and ends no attribute.
        let data = between(&page, "id=\"data\">", "</script>");
        assert!(!page.replace(data, "").contains("\" onmouseover"), "{attack}");
        let unseen = |c: char| {
            (c.is_control() && c != '\n')
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c)
                || c == '\u{200b}'
        };
        assert!(!page.contains(unseen), "{attack}");
        let data: Value = serde_json::from_str(data).unwrap();
        let questions: Vec<&str> =
            data["docs"].as_array().unwrap().iter().map(|doc| doc[1].as_str().unwrap()).collect();
        assert!(questions.contains(&text::reveal(attack).as_ref()), "{questions:?}");
        // Markdown has as many cells as its head, CSV no formula, and XML no open end.
        let table = markdown(&report);
        let cells = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        let mut rows = table
            .lines()
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'));
        let head = cells(rows.next().unwrap());
        assert!(rows.all(|row| cells(row) == head && !row.contains('<')), "{table}");
        let lines = csv(&report).unwrap();
        assert!(
            lines.lines().all(|line| !line.starts_with(['=', '+', '-', '@']))
                && !lines.contains(",=")
                && !lines.contains(",\"="),
            "{lines}"
        );
        let xml = junit(&report.check_gates(&["accuracy=0.9".parse().unwrap()]));
        assert_eq!(xml.matches('<').count(), xml.matches('>').count(), "{xml}");
    }
}

#[test]
fn texts_are_escaped_for_where_they_go() {
    let check =
        |f: &dyn Fn(&str) -> String, input: &str, expected: &str| assert_eq!(f(input), expected);
    check(
        &|t| text::reveal(t).into_owned(),
        "a\u{202e}b\u{0}\tc\nd\u{200d}",
        "a\\u{202e}b\\u{0}\tc\nd\u{200d}",
    );
    check(&text::html, "<a b='c' d=\"e\">&", "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;");
    check(&text::json_in_script, r#"{"a":"</script>&"}"#, r#"{"a":"\u003c/script\u003e\u0026"}"#);
    check(&text::markdown, "a|b`c`<d>\n*e*", "a\\|b\\`c\\`&lt;d&gt; \\*e\\*");
    for risky in ["=1+1", "+1", "-1", "@x", "\t=1", "＝1"] {
        assert_eq!(text::csv(risky), format!("'{risky}"));
    }
    check(&|t| text::csv(t).into_owned(), "a=1", "a=1");
    check(&|t| text::shortened(t, 3).into_owned(), "äöüß", "äöü…");
    check(&|t| text::fixed(t.parse().unwrap(), 2), "-0.001", "0.00");
}

#[test]
fn plots_put_numbers_where_they_belong() {
    // 440 x 300 with 54, 14, 14 and 46 around the axes: 372 wide, 240 high.
    let mut plot = svg::Plot::new("p", svg::Axis::share("x"), svg::Axis::up_to("y", 0.37));
    plot.line(1, &[(0.0, 0.0), (0.5, 0.2), (1.0, 0.4), (f64::NAN, 1.0)]);
    plot.mark(0, (0.25, 0.1), "a < b");
    plot.bar("correct", (0.5, 0.75), (0.0, 0.3), "bar");
    let drawn = plot.finish("T", "D");
    for part in [
        "d=\"M54 254L240 134L426 14\"",
        "stroke-dasharray=\"7 3\"",
        "<title>a &lt; b</title><circle cx=\"147\" cy=\"194\" r=\"4.5\"/>",
        "<rect class=\"correct\" x=\"240.5\" y=\"74\" width=\"92\" height=\"180\">",
        "<title id=\"p-t\">T</title>",
        "<desc id=\"p-d\">D</desc>",
        ">0.4</text>",
    ] {
        assert!(drawn.contains(part), "{part} in {drawn}");
    }
    let ticks = |axis: svg::Axis| {
        let drawn = svg::Plot::new("p", axis, svg::Axis::share("y")).finish("", "");
        let middle = drawn
            .split("text-anchor=\"middle\">")
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap().to_owned());
        middle.take_while(|text| text != "x").collect::<Vec<_>>().join(" ")
    };
    assert!(
        ticks(svg::Axis::share("x")).starts_with("0.0 0.2 0.4 0.6 0.8 1.0"),
        "{}",
        ticks(svg::Axis::share("x"))
    );
    assert!(
        ticks(svg::Axis::factors("x", [3.0, 400.0].into_iter()))
            .starts_with("5 10 20 50 100 200 500")
    );
}

/// The names beside points of a plot of 372 by 240 units from (54, 14): text, anchor and place.
fn named(points: &[(f64, f64, &str)]) -> Vec<(String, String, f64, f64)> {
    let mut plot = svg::Plot::new("p", svg::Axis::share("x"), svg::Axis::share("y"));
    let point = |&(x, y, name): &(f64, f64, &'static str)| svg::Point {
        at: (x, y),
        along_x: (x - 0.05, x + 0.05),
        along_y: (y - 0.1, y + 0.1),
        name,
    };
    plot.names(
        &points
            .iter()
            .map(|&(x, y, name)| (x, y, &*name.to_owned().leak()))
            .map(|p| point(&p))
            .collect::<Vec<_>>(),
    );
    let drawn = plot.finish("T", "D");
    let notes = drawn.split("<text class=\"note name ").skip(1);
    let value = |note: &str, key: &str| {
        note.split_once(&format!("{key}=\"")).unwrap().1.split('"').next().unwrap().to_owned()
    };
    notes
        .map(|note| {
            let place = |key: &str| value(note, key).parse::<f64>().unwrap();
            (between(note, ">", "<").to_owned(), value(note, "text-anchor"), place("x"), place("y"))
        })
        .collect()
}

#[test]
fn points_are_named_where_there_is_room() {
    // On the right, above the point's own bar; on the left where the right side ends; below where
    // something is above.
    let found = named(&[(0.2, 0.5, "first"), (0.98, 0.5, "second"), (0.5, 0.99, "third")]);
    let expected = [("first", "start"), ("second", "end"), ("third", "start")];
    assert!(found.iter().map(|n| (n.0.as_str(), n.1.as_str())).eq(expected), "{found:?}");
    assert_eq!((found[0].2, found[0].3), (54.0 + 0.2 * 372.0 + 8.0, 134.0 - 4.0 - 3.0));
    assert!(found[2].3 > 14.0 + 0.01 * 240.0, "below its point: {found:?}");
    // Of points in one place four have a corner, two more an end of the bar, and no two names the
    // same.
    let crowd = named(&["a", "b", "c", "d", "e", "f", "g"].map(|name| (0.5, 0.5, name)));
    let anchors: Vec<(&str, &str)> = crowd.iter().map(|n| (n.0.as_str(), n.1.as_str())).collect();
    assert_eq!(
        anchors,
        [
            ("a", "start"),
            ("b", "start"),
            ("c", "end"),
            ("d", "end"),
            ("e", "middle"),
            ("f", "middle")
        ]
    );
    // The bar goes from 0.4 to 0.6: 158 to 110 pixels from the top.
    assert_eq!((crowd[4].3, crowd[5].3), (110.0 - 2.0 - 3.0, 158.0 + 2.0 + 12.0 - 3.0));
    let mut places: Vec<String> = crowd.iter().map(|n| format!("{:?}", (&n.1, n.2, n.3))).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 6);
    // A mark is never written over, and what is wider than the plot is left to the legend.
    let beside = named(&[(0.5, 0.5, "on the left side"), (0.55, 0.52, "b")]);
    assert_eq!((beside[0].1.as_str(), beside.len()), ("end", 2), "{beside:?}");
    let wide = named(&[(0.5, 0.5, &"東".repeat(40)), (0.1, 0.1, "<b>")]);
    assert_eq!(wide.iter().map(|n| n.0.as_str()).collect::<Vec<_>>(), ["&lt;b&gt;"]);
}

#[test]
fn figures_are_those_of_the_records() {
    // Four questions by hand: surest right, next wrong, a tie held back, one without an answer.
    let folder = tempfile::tempdir().unwrap();
    let records = [
        record(0, "a", "1", &["1", "1", "1", "1"], None),
        record(1, "b", "1", &["2", "2", "2", "3"], None),
        record(2, "c", "1", &["1", "1", "2", "2"], None),
        record(3, "d", "1", &["x", "y", "z", "w"], None),
    ];
    assert!(matches!(records[2].outcome.as_ref().unwrap().decision, Decision::Abstain(_)));
    write(&folder.path().join("run"), &manifest(4, "m", None), &records);
    let report = report(folder.path(), &["run"]);
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(
        value["runs"][0]["counts"],
        json!({"correct": 1, "incorrect": 1, "abstained_correct": 1, "abstained_incorrect": 0, "no_answer": 1})
    );
    let figure = |name: &str| report.runs[0].metric(name).unwrap();
    assert_eq!(figure("coverage").metric.value, Some(0.5));
    assert_eq!(figure("selective_risk").metric.value, Some(0.5));
    // Wilson for 1 of 2: scipy.stats.binomtest(1, 2).proportion_ci(method='wilson').
    let (low, high) = figure("selective_risk").interval.unwrap();
    assert!(
        (low - 0.09453120573423074).abs() < 1e-12 && (high - 0.9054687942657693).abs() < 1e-12,
        "{low} {high}"
    );
    // The three scored ones, surest first: right, wrong, right.
    assert!((figure("aurc").metric.value.unwrap() - (0.0 + 0.5 + 1.0 / 3.0) / 3.0).abs() < 1e-12);
    // Forward tokens 4, 5, 6, 4; milliseconds 40, 41, 42, 43.
    assert!((number(&value, "/runs/0/forward_tokens/mean") - 4.75).abs() < 1e-12);
    assert!((number(&value, "/runs/0/seconds/mean") - 0.0415).abs() < 1e-12);
    let page = html(&report);
    // The curve: coverage 1/4, 2/4, 3/4 of 372 units from 54, risk 0, 1/2, 1/3 of an axis up to
    // 0.5.
    assert!(
        page.contains("d=\"M147 254L240 14L333 94\""),
        "{}",
        between(&page, "id=\"plots\"", "</svg>")
    );
}

/// A run that was decided by a policy file of an older layout can be read; its threshold is in the
/// configuration too.
#[test]
fn runs_under_older_policies_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let mut now = manifest(60, "m", Some(policy.clone()));
    now.config.policy = policy.policy();
    let run = folder.path().join("run");
    write(&run, &now, &plain(60, Some(&policy)));
    let mut old = serde_json::to_value(&now).unwrap();
    old["policy"]["version"] = json!(1);
    old["policy"].as_object_mut().unwrap().remove("seal");
    fs::write(run.join("manifest.json"), old.to_string()).unwrap();
    let found = runs(&[&run]).unwrap();
    assert_eq!(found[0].manifest.policy, None);
    let scored = found[0].rescore(None).unwrap();
    let differs: std::collections::BTreeSet<_> =
        scored.questions.iter().filter_map(|scored| scored.differs).collect();
    assert_eq!(differs, ["confidence"].into());
    // One that was edited since is refused.
    old["policy"]["version"] = json!(2);
    fs::write(run.join("manifest.json"), old.to_string()).unwrap();
    assert!(runs(&[&run]).unwrap_err().to_string().contains("missing field `seal`"));
}

/// A report judges again, exactly as `score` does, whatever verdict and grade the record has.
#[test]
fn reports_judge_as_score_does() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let mut records = plain(60, None);
    for record in records.iter_mut().step_by(3) {
        record.grade = Grade::Incorrect;
        let outcome = record.outcome.as_mut().unwrap();
        outcome.vote.clusters.clear();
        outcome.decision = Decision::Answer;
        outcome.scores.clear();
    }
    // Its gold answer is unknown.
    records[7].doc.answers.clear();
    write(&folder.path().join("run"), &manifest(60, "m", None), &records);
    let found = runs(&[folder.path().join("run")]).unwrap();
    let path = folder.path().join("policy.json");
    for policy in [None, Some(&policy)] {
        let scored = found[0].rescore(policy).unwrap();
        let other = policy.map(|file| OtherPolicy { path: &path, file });
        let report = Report::new(&found, other).unwrap();
        let view = &report.runs[0];
        let items: Vec<_> = scored.questions.iter().map(|scored| scored.item.clone()).collect();
        assert_eq!((view.items.len(), &view.items), (59, &items));
        assert_eq!(
            (&view.without_gold, &scored.without_gold),
            (&vec!["made:7".to_owned()], &vec!["made:7".to_owned()])
        );
        assert_eq!(view.drift, scored.drift);
        let items: Vec<_> = items.iter().collect();
        let metrics = estimates(METRICS, &items, &Bootstrap::of(items.len()));
        let defined: Vec<_> = metrics.into_iter().filter(|m| m.metric.value.is_some()).collect();
        assert_eq!(view.metrics, defined);
        let differing = scored.questions.iter().filter(|scored| scored.differs.is_some()).count();
        assert_eq!(view.differing, differing);
        assert_eq!(differing, if policy.is_some() { 0 } else { 20 });
    }
}

#[test]
fn another_policy_decides_as_a_run_under_it_would() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    write(
        &folder.path().join("under"),
        &manifest(200, "m", Some(policy.clone())),
        &plain(200, Some(&policy)),
    );
    write(&folder.path().join("free"), &manifest(200, "m", None), &plain(200, None));
    let under = report(folder.path(), &["under"]);
    let path = folder.path().join("policy.json");
    let other = OtherPolicy { path: &path, file: &policy };
    let later = Report::new(&runs(&[folder.path().join("free")]).unwrap(), Some(other)).unwrap();
    assert_eq!(under.runs[0].items, later.runs[0].items);
    assert_eq!(under.runs[0].metrics, later.runs[0].metrics);
    assert!(
        later.runs[0].guarantee.as_ref().unwrap().from_report
            && under.runs[0].counts.abstained() > 0
    );
    assert_ne!(report(folder.path(), &["free"]).runs[0].counts, under.runs[0].counts);
    // The scores of these questions are not those of the made labels, and the report says so.
    let drifted = |report: &Report| {
        report.warnings.iter().any(|w| w.contains("are not distributed as those that the policy"))
    };
    assert!(drifted(&under) && drifted(&later) && later.runs[0].drift == under.runs[0].drift);
    assert!(!drifted(&report(folder.path(), &["free"])));
    // Not on the questions that it was made on, nor for another configuration.
    let made_on =
        PolicyFile { calibration_ids: vec!["made:3".into(), "made:7".into()], ..policy.clone() }
            .sealed();
    let held_out = Report::new(
        &runs(&[folder.path().join("free")]).unwrap(),
        Some(OtherPolicy { path: &path, file: &made_on }),
    )
    .unwrap();
    assert_eq!(held_out.runs[0].questions, 198);
    assert!(
        held_out
            .warnings
            .iter()
            .any(|warning| warning
                .contains("2 questions that the policy was fitted on are left out"))
    );
    assert!(!html(&held_out).contains("Question 7?") && html(&later).contains("Question 7?"));
    let made_on = PolicyFile {
        calibration_ids: (0..200).map(|i| format!("made:{i}")).collect(),
        ..policy.clone()
    }
    .sealed();
    let check = |file: &PolicyFile, expected: &str| {
        let free = runs(&[folder.path().join("free")]).unwrap();
        let error =
            Report::new(&free, Some(OtherPolicy { path: &path, file })).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&made_on, "fitted on all questions of");
    let mut foreign = policy.clone();
    foreign.fingerprint.question_template = "other".into();
    check(&foreign, "the policy file was changed after it was made");
    check(&foreign.sealed(), "question_template is `{question}` here and was `other` there");
}

#[test]
fn runs_are_compared_on_the_questions_that_they_share() {
    let folder = tempfile::tempdir().unwrap();
    let answers = |right: &[bool]| -> Vec<Record> {
        let one = |(at, right): (usize, &bool)| {
            record(at, &format!("q{at}"), "1", if *right { &["1", "1"] } else { &["2", "2"] }, None)
        };
        right.iter().enumerate().map(one).collect()
    };
    write(
        &folder.path().join("a"),
        &manifest(6, "m", None),
        &answers(&[true, true, false, false, false, true]),
    );
    write(
        &folder.path().join("b"),
        &manifest(5, "m", None),
        &answers(&[true, false, true, true, true]),
    );
    let report = report(folder.path(), &["a", "b"]);
    let comparison = &report.comparisons[0];
    assert_eq!((comparison.questions, comparison.gains, comparison.losses), (5, 3, 1));
    // P(Bin(4, 1/2) <= 1) = 5/16, twice.
    assert!((comparison.p_value - 0.625).abs() < 1e-12);
    // One comparison needs no correction. Connor's formula with d = 4/5 and e = 2/5.
    assert_eq!((comparison.p_holm, comparison.questions_needed), (comparison.p_value, Some(37)));
    let accuracy = comparison
        .metrics
        .iter()
        .find(|difference| difference.name == "accuracy")
        .unwrap()
        .interval;
    assert!((accuracy.estimate - 0.4).abs() < 1e-12 && accuracy.low <= 0.4 && accuracy.high >= 0.4);
}

#[test]
fn a_thousand_questions_fit_and_come_out_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let words = |seed: u64| {
        (0..24).map(|i| format!("w{} ", mix(seed * 100 + i) % 3000)).collect::<Vec<_>>().concat()
    };
    let one = |at: usize| {
        let samples: Vec<String> =
            (0..6).map(|s| format!("{}{}", words((at * 6 + s) as u64), at % 9)).collect();
        record(
            at,
            &format!("Question {at}: {}", words(at as u64)),
            "3",
            &samples.iter().map(String::as_str).collect::<Vec<_>>(),
            None,
        )
    };
    let records: Vec<Record> = (0..1000).map(one).collect();
    write(&folder.path().join("a"), &manifest(1000, "m", None), &records);
    let page = html(&report(folder.path(), &["a"]));
    assert!(page.len() < 500_000, "{}", page.len());
    assert_eq!(page, html(&report(folder.path(), &["a"])));
    let said = between(&page, "Left out to keep the page small: ", "</p>");
    assert!(said.contains("of 1000 questions are listed, spread evenly over the run"), "{said}");
    let data: Value = serde_json::from_str(between(&page, "id=\"data\">", "</script>")).unwrap();
    let places: Vec<f64> = data["docs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|doc| doc[0].as_str().unwrap()[5..].parse().unwrap())
        .collect();
    let mean = places.iter().sum::<f64>() / places.len() as f64;
    // 500 expected; the standard error of a random half is at most 289 / sqrt(100) = 29: five of
    // them.
    assert!(places.len() > 100 && (mean - 499.5).abs() < 145.0, "{} {mean}", places.len());
    let with_samples = data["runs"][0]["questions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|q| q["s"].is_array())
        .count();
    assert!(with_samples > 10, "{with_samples}");
}

fn candor(folder: &Path, command: &str) -> (Option<i32>, String, String) {
    let mut run = Command::new(env!("CARGO_BIN_EXE_candor"));
    run.current_dir(folder).env("HOME", folder).env("NO_COLOR", "1").args(command.split(' '));
    let output = run.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn gates_fail_on_the_worse_side_with_their_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(&at.join("run"), &manifest(50, "m", None), &plain(50, None));
    let report = report(at, &["run"]);
    let value = |name: &str| report.runs[0].metric(name).unwrap().metric.value.unwrap();
    let check = |gate: String, code: i32, expected: &str| {
        let (found, stdout, stderr) = candor(at, &format!("report run --fail-under {gate}"));
        assert!(
            found == Some(code) && stderr.contains(expected) && stdout.is_empty(),
            "{gate}: {found:?} {stdout} {stderr}"
        );
    };
    check(format!("accuracy={}", value("accuracy")), 0, "passed: run: accuracy at least");
    check(format!("accuracy={}", value("accuracy") + 0.01), 100, "failed: run: accuracy at least");
    check(
        format!("selective_risk={}", value("selective_risk")),
        0,
        "passed: run: selective_risk at most",
    );
    check(
        format!("selective_risk={}", value("selective_risk") - 0.01),
        100,
        "failed: run: selective_risk at most",
    );
    check("brier=0.9".into(), 100, "it is undefined for this run");
    check("magic=1".into(), 2, "metric `magic` is unknown; use one of accuracy, ");
    check("coverage=0.5".into(), 2, "coverage has no better direction");
    check("accuracy".into(), 2, "it must be METRIC=VALUE");
    check("accuracy=NaN".into(), 2, "not a finite number");
    let (code, _, _) = candor(
        at,
        "report run --fail-under accuracy=0 --fail-under auroc=2 --junit junit.xml -o page.html",
    );
    assert_eq!(code, Some(100));
    let xml = fs::read_to_string(at.join("junit.xml")).unwrap();
    assert!(
        xml.contains("<testsuites name=\"candor report\" tests=\"2\" failures=\"1\">"),
        "{xml}"
    );
    assert!(
        xml.contains("<testcase classname=\"run\" name=\"accuracy at least 0\"/>")
            && xml.contains("<failure message=\"failed: run: auroc at least 2")
    );
    assert!(fs::read_to_string(at.join("page.html")).unwrap().starts_with("<!doctype html>"));
    assert!("auroc=0.5".parse::<Gate>().is_ok());
}

#[test]
fn every_form_has_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(&at.join("run"), &manifest(50, "m", None), &plain(50, None));
    let value = report(at, &["run"]).runs[0].metric("accuracy").unwrap().metric.value.unwrap();
    let said = |command: &str| {
        let (code, stdout, stderr) = candor(at, command);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let figures: Value = serde_json::from_str(&said("report run --json")).unwrap();
    assert_eq!(figures["runs"][0]["metrics"][0]["value"].as_f64(), Some(value));
    let line = said("report run --csv")
        .lines()
        .find(|line| line.contains(",accuracy,"))
        .unwrap()
        .to_owned();
    assert!(
        line.starts_with(&format!(
            "run,made,m,\"self-consistency, 4 samples\",,accuracy,true,{value},"
        )),
        "{line}"
    );
    assert!(said("report run --markdown").contains(&format!("| accuracy | ↑ | {value:.3} [")));
    assert!(said("report run").starts_with("<!doctype html>"));
    let (code, _, stderr) = candor(at, "report nothing -o page.html");
    assert!(code == Some(1) && stderr.contains("nothing"), "{code:?} {stderr}");
    // A line that is no record is named.
    fs::write(at.join("run/records.jsonl"), "{\"doc\":1}\n").unwrap();
    let (code, _, stderr) = candor(at, "report run -o page.html");
    assert!(
        code == Some(4)
            && stderr.contains("records.jsonl: line 1: not a record")
            && !at.join("page.html").exists(),
        "{code:?} {stderr}"
    );
}
