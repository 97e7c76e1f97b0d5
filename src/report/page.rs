//! The HTML page: one self-contained file, readable without a script except for the sample browser.
//!
//! Contract: pure; the same report gives the same bytes. Every text is escaped when it is inserted.
//! Style and script are the two files beside this one; the content security policy names them by
//! digest and allows nothing else. The page stays below [`MAX_BYTES`] as long as metrics and plots
//! leave room: the list of questions gets the rest.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::browse::browse;
use super::charts::{self, Chart, percent, short};
use super::graded::OutcomeClass;
use super::svg::{stack, swatch};
use super::tables::{arrow, at_equal_cost, correction, p_value};
use super::text::{fixed, html as escaped};
use super::view::{Report, RunView};
use crate::digest::sha256;
use crate::metrics::{Estimate, METRICS, Metric, metric};

/// The target size of a page, in bytes.
pub const MAX_BYTES: usize = 490_000;
/// The minimum size of the list of questions, in bytes.
const MIN_LISTED_BYTES: usize = 40_000;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The metrics that are shown first; all others are one click away.
const FIRST: [&str; 17] = [
    "accuracy",
    "acc_norm",
    "coverage",
    "selective_risk",
    "abstention_rate",
    "failure_rate",
    "score_t_0",
    "score_t_50",
    "score_t_75",
    "score_t_90",
    "auroc",
    "saturation",
    "tied_pairs",
    "aurc",
    "prr",
    "brier",
    "ece",
];

/// The page of a report.
pub fn html(report: &Report) -> String {
    let mut main = String::new();
    overview(&mut main, report);
    plots(&mut main, report);
    metrics(&mut main, report);
    comparisons(&mut main, report);
    estimators(&mut main, report);
    let ending = settings(report);
    let fixed_bytes = main.len() + ending.len() + STYLE.len() + SCRIPT.len() + 6000;
    let browse = browse(&report.runs, MAX_BYTES.saturating_sub(fixed_bytes).max(MIN_LISTED_BYTES));
    browser(&mut main, &browse.left_out);
    main.push_str(&ending);
    let tasks = names(report.runs.iter().map(|run| run.manifest.task.name.as_str()));
    let title = format!("candor report: {}", escaped(&tasks));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'; \
         script-src '{}'; base-uri 'none'; form-action 'none'\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" \
         content=\"no-referrer\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{HATCH}<div \
         class=\"wrap\">\n{}<main>\n{main}</main>\n</div>\n<script type=\"application/json\" \
         id=\"data\">{}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        digest(STYLE),
        digest(SCRIPT),
        header(report, &tasks),
        browse.json
    )
}

/// The digest of an inline text in a content security policy.
fn digest(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(sha256(text.as_bytes())))
}

/// The hatch pattern for incorrect answers.
const HATCH: &str = "<svg class=\"defs\" aria-hidden=\"true\"><defs><pattern id=\"hatch\" \
                     width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
                     <rect width=\"6\" height=\"6\"/><path d=\"M0 6L6 0M-1 1L1 -1M5 7L7 \
                                   5\"/></pattern></defs></svg>\n";

/// Different names in order, joined.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let mut found: Vec<&str> = Vec::new();
    all.for_each(|name| {
        if !found.contains(&name) {
            found.push(name);
        }
    });
    found.join(", ")
}

fn header(report: &Report, tasks: &str) -> String {
    let count = report.runs.len();
    let mut links = vec![("overview", "Runs"), ("plots", "Plots"), ("metrics", "Metrics")];
    if !report.comparisons.is_empty() {
        links.push(("comparisons", "Comparisons"));
    }
    links.extend([("estimators", "Estimators"), ("samples", "Samples"), ("settings", "Settings")]);
    let links: Vec<String> =
        links.iter().map(|(id, name)| format!("<li><a href=\"#{id}\">{name}</a></li>")).collect();
    let links = links.concat();
    format!(
        "<header><div><h1>{}</h1><p class=\"small\">{count} {} · candor \
         {}</p></div><button type=\"button\" id=\"theme\" hidden>Theme</button></header>\n\
         <nav aria-label=\"Sections\"><ul>{links}</ul></nav>\n",
        escaped(tasks),
        if count == 1 { "run" } else { "runs" },
        report.version
    )
}

/// Opens a table that scrolls horizontally.
fn table(out: &mut String, label: &str, heads: &[(String, bool)]) {
    let _ = write!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><thead><tr>",
        escaped(label)
    );
    for (head, numeric) in heads {
        let _ = write!(
            out,
            "<th scope=\"col\"{}>{head}</th>",
            if *numeric { " class=\"n\"" } else { "" }
        );
    }
    out.push_str("</tr></thead><tbody>\n");
}

const TABLE_END: &str = "</tbody></table></div>\n";

fn text_head(text: &str) -> (String, bool) {
    (escaped(text), false)
}

fn number_head(text: &str) -> (String, bool) {
    (escaped(text), true)
}

fn run_name(series: usize, run: &RunView) -> String {
    format!("<span class=\"run\">{}<span>{}</span></span>", swatch(series), run_label(run))
}

/// A run's name that may break after its parts.
fn run_label(run: &RunView) -> String {
    let separators = ['/', '_', ':', ','];
    separators.iter().fold(escaped(&run.label), |name, separator| {
        name.replace(*separator, &format!("{separator}<wbr>"))
    })
}

fn overview(out: &mut String, report: &Report) {
    out.push_str("<section aria-labelledby=\"overview\"><h2 id=\"overview\">Runs</h2>\n");
    for warning in &report.warnings {
        let _ = writeln!(out, "<p class=\"warn\">{}</p>", escaped(warning));
    }
    let heads = ["run", "task, model, strategy"].map(text_head).into_iter();
    let numbers = ["questions", "correct", "incorrect", "abstained", "no answer"].map(number_head);
    table(
        out,
        "Runs",
        &heads.chain(numbers).chain([text_head("of all questions")]).collect::<Vec<_>>(),
    );
    for (series, run) in report.runs.iter().enumerate() {
        let c = run.counts;
        let all = run.questions.max(1) as f64;
        let parts = [
            ("correct", c.correct),
            ("hatched", c.incorrect),
            ("abstained", c.abstained()),
            ("no_answer", c.no_answer),
        ];
        let shares = parts.map(|(class, count)| (class, count as f64 / all));
        let words = format!(
            "{} correct, {} incorrect, {} abstained, {} without an answer",
            c.correct,
            c.incorrect,
            c.abstained(),
            c.no_answer
        );
        let model = run.manifest.config.identity.model.rsplit('/').next().unwrap_or_default();
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"name\">{}, {}<br><span \
             class=\"muted\">{}</span></td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}<span class=\"ci\">{} would be \
             correct</span></td><td class=\"n\">{}</td><td>{}</td></tr>",
            run_name(series, run),
            escaped(&run.manifest.task.name),
            escaped(model),
            escaped(&run.strategy()),
            run.questions,
            c.correct,
            c.incorrect,
            c.abstained(),
            c.abstained_correct,
            c.no_answer,
            stack(&shares, &words)
        );
    }
    out.push_str(TABLE_END);
    out.push_str(
        "<p class=\"small\">Every question is counted once. Correct and incorrect are answers \
         given; abstained are answers held back; no answer means that no answer could be read. \
         The bar shows, from the left: correct, incorrect (hatched), abstained (gray), no \
         answer.</p>\n",
    );
    for run in &report.runs {
        guarantee(out, run);
    }
    out.push_str("</section>\n");
}

/// The guarantee of a run's answers, in the policy's exact words.
fn guarantee(out: &mut String, run: &RunView) {
    let label = escaped(&run.label);
    match &run.guarantee {
        Some(guarantee) => {
            let later = if guarantee.from_report {
                " The decisions are those of the policy file given for this report."
            } else {
                ""
            };
            let (class, kind) = if guarantee.certified {
                ("guarantee-box", "certified")
            } else {
                ("guarantee-box none", "no guarantee")
            };
            let _ = writeln!(
                out,
                "<div class=\"{class}\"><p><strong>{label}</strong><span \
                 class=\"tag\">{kind}</span></p><p class=\"guarantee\">{}</p><p \
                 class=\"small\">{}.{later}</p></div>",
                escaped(&guarantee.sentence),
                given(run)
            );
        }
        None => {
            let _ = writeln!(
                out,
                "<div class=\"guarantee-box none\"><p><strong>{label}</strong><span \
                 class=\"tag\">uncalibrated</span></p><p class=\"small\">{}. Agreement is not a \
                 probability of being correct, and there is no guarantee.</p></div>",
                given(run)
            );
        }
    }
}

fn given(run: &RunView) -> String {
    let (right, wrong) = (run.counts.correct, run.counts.incorrect);
    match run.metric("selective_risk").and_then(|view| Some((view.metric.value?, view.interval?))) {
        Some((risk, (low, high))) => format!(
            "{} of {} answers are incorrect: {} (95 % interval {} to {})",
            wrong,
            right + wrong,
            percent(risk),
            fixed(100.0 * low, 1),
            percent(high)
        ),
        None => "Nothing was answered".to_owned(),
    }
}

fn plots(out: &mut String, report: &Report) {
    out.push_str(
        "<section aria-labelledby=\"plots\"><h2 id=\"plots\">Plots</h2>\n<div class=\"charts\">\n",
    );
    for chart in charts::all(&report.runs) {
        figure(out, report, &chart);
    }
    out.push_str("</div>\n</section>\n");
}

fn figure(out: &mut String, report: &Report, chart: &Chart) {
    let wide = chart.plots.len() > 1
        || chart.plots.is_empty()
        || (chart.panel_per_run && report.runs.len() > 1);
    let _ = writeln!(
        out,
        "<figure{}><h3>{}</h3>",
        if wide { " class=\"wide\"" } else { "" },
        escaped(&chart.heading)
    );
    let entries = chart.legend.iter().filter_map(|at| Some((*at, report.runs.get(*at)?)));
    if chart.panel_per_run && wide {
        out.push_str("<div class=\"panels\">");
        for ((series, run), plot) in entries.zip(&chart.plots) {
            let _ =
                write!(out, "<div class=\"panel\"><h4>{}</h4>{plot}</div>", run_name(series, run));
        }
        out.push_str("</div>");
    } else {
        if !chart.plots.is_empty() {
            out.push_str("<ul class=\"legend\">");
            entries.for_each(|(series, run)| {
                let _ =
                    write!(out, "<li>{}<span>{}</span></li>", swatch(series), escaped(&run.label));
            });
            out.push_str("</ul>");
        }
        let _ = write!(
            out,
            "<div class=\"{}\">{}</div>",
            if wide { "panels" } else { "one" },
            chart.plots.concat()
        );
    }
    let _ = writeln!(out, "<figcaption>{}</figcaption></figure>", escaped(&chart.caption));
}

fn cell(out: &mut String, view: Option<&Estimate>) {
    let Some((view, value)) = view.and_then(|view| Some((view, view.metric.value?))) else {
        out.push_str("<td class=\"n\"><span class=\"muted\">–</span></td>");
        return;
    };
    let number = |value: f64| fixed(value, 3).replace('-', "−");
    let _ = write!(out, "<td class=\"n\">{}", number(value));
    if let Some((low, high)) = view.interval {
        let _ = write!(out, "<span class=\"ci\">{} to {}</span>", number(low), number(high));
    } else if view.constant {
        out.push_str("<span class=\"ci\">does not vary</span>");
    }
    out.push_str("</td>");
}

fn metrics(out: &mut String, report: &Report) {
    out.push_str("<section aria-labelledby=\"metrics\"><h2 id=\"metrics\">Metrics</h2>\n");
    out.push_str(
        "<p class=\"small\">↑ higher is better, ↓ lower is better. Below each value is its 95 % \
         interval: Wilson's for shares of questions, a bootstrap over questions for the others. A \
         value that does not vary is the same in all resamples, so its error is unknown, not \
         zero.</p>\n",
    );
    let first: Vec<&Metric> = FIRST.iter().filter_map(|name| metric(name)).collect();
    metric_rows(out, report, "Metrics", &first);
    let rest: Vec<&Metric> =
        METRICS.iter().copied().filter(|metric| !FIRST.contains(&metric.name)).collect();
    out.push_str("<details class=\"more\"><summary>All other metrics</summary>\n");
    metric_rows(out, report, "All other metrics", &rest);
    out.push_str("</details>\n</section>\n");
}

fn metric_rows(out: &mut String, report: &Report, label: &str, metrics: &[&Metric]) {
    let runs = report
        .runs
        .iter()
        .map(|run| (format!("<span class=\"lab\">{}</span>", run_label(run)), true));
    table(out, label, &[text_head("metric")].into_iter().chain(runs).collect::<Vec<_>>());
    for metric in metrics
        .iter()
        .filter(|metric| report.runs.iter().any(|run| run.metric(metric.name).is_some()))
    {
        let way = match metric.higher_is_better {
            Some(true) => "higher is better",
            Some(false) => "lower is better",
            None => "describes",
        };
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{} <span title=\"{way}\">{}</span><span \
             class=\"what\">{}</span></th>",
            escaped(&metric.name.replace('_', " ")),
            arrow(metric.higher_is_better),
            escaped(metric.summary)
        );
        report.runs.iter().for_each(|run| cell(out, run.metric(metric.name)));
        out.push_str("</tr>\n");
    }
    out.push_str(TABLE_END);
}

fn comparisons(out: &mut String, report: &Report) {
    if report.comparisons.is_empty() {
        return;
    }
    out.push_str(
        "<section aria-labelledby=\"comparisons\"><h2 id=\"comparisons\">Comparisons</h2>\n",
    );
    let first = report.runs.first().map_or("", |run| run.label.as_str());
    let _ = writeln!(
        out,
        "<p class=\"small\">Each run minus the first one, <strong>{}</strong>, on the \
         questions that both have. Gains are questions that become correct, losses are questions \
         that become incorrect; p is from McNemar's exact test on these. Differences have 95 % \
         intervals from resampling pairs of questions; an interval that contains 0 may be \
         chance. {}</p>",
        escaped(first),
        escaped(&correction(&report.comparisons))
    );
    let mut columns: Vec<&str> = Vec::new();
    for difference in report.comparisons.iter().flat_map(|comparison| &comparison.metrics) {
        if !columns.contains(&difference.name) {
            columns.push(difference.name);
        }
    }
    let heads =
        ["shared questions", "gains", "losses", "p", "p (Holm)"].map(number_head).into_iter();
    let heads = [text_head("run")]
        .into_iter()
        .chain(heads)
        .chain(columns.iter().map(|name| number_head(&format!("Δ {}", name.replace('_', " ")))));
    table(out, "Comparisons", &heads.collect::<Vec<_>>());
    for (comparison, (series, run)) in
        report.comparisons.iter().zip(report.runs.iter().enumerate().skip(1))
    {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td>",
            run_name(series, run),
            comparison.questions
        );
        if comparison.questions == 0 {
            let _ = writeln!(
                out,
                "<td colspan=\"{}\" class=\"muted\">no shared questions</td></tr>",
                4 + columns.len()
            );
            continue;
        }
        let _ = write!(
            out,
            "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td>",
            comparison.gains,
            comparison.losses,
            escaped(&p_value(comparison.p_value)),
            escaped(&p_value(comparison.p_holm))
        );
        for column in &columns {
            match comparison.metrics.iter().find(|difference| difference.name == *column) {
                Some(d) => {
                    let sign = |value: f64| {
                        if value > 0.0 {
                            format!("+{}", fixed(value, 3))
                        } else {
                            fixed(value, 3).replace('-', "−")
                        }
                    };
                    let interval = if d.constant {
                        "does not vary".to_owned()
                    } else {
                        format!("{} to {}", sign(d.interval.low), sign(d.interval.high))
                    };
                    let _ = write!(
                        out,
                        "<td class=\"n\">{}<span class=\"ci\">{interval}</span></td>",
                        sign(d.interval.estimate)
                    );
                }
                None => cell(out, None),
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str(TABLE_END);
    for (comparison, power) in report.comparisons.iter().filter_map(|c| Some((c, c.power()?))) {
        let (run, power) = (escaped(&comparison.run), escaped(&power));
        let _ = writeln!(out, "<p class=\"small\">{run}: {power}</p>");
    }
    equal_cost(out, report);
    out.push_str("</section>\n");
}

fn equal_cost(out: &mut String, report: &Report) {
    let Some(found) = &report.equal_cost else { return };
    let _ = writeln!(
        out,
        "<h3>Accuracy at equal cost</h3>\n<p class=\"small\">{}.</p>",
        escaped(&found.to_string())
    );
    let heads = ["accuracy", "forward tokens", "baseline there", "difference"].map(number_head);
    let heads: Vec<_> = [text_head("run")].into_iter().chain(heads).collect();
    table(out, "Accuracy at equal cost", &heads);
    for row in &found.runs {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escaped(&row.run));
        for cell in at_equal_cost(row) {
            let _ = write!(out, "<td class=\"n\">{}</td>", escaped(&cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str(TABLE_END);
}

fn estimators(out: &mut String, report: &Report) {
    out.push_str("<section aria-labelledby=\"estimators\"><h2 id=\"estimators\">Estimators</h2>\n");
    let resamples = report.runs.iter().map(|run| run.resamples).min().unwrap_or(0);
    let _ = writeln!(
        out,
        "<p class=\"small\">How well each estimator's score separates correct from incorrect \
         answers, whether or not the run used it. 95 % intervals from {resamples} or more \
         resamples of the questions.</p>"
    );
    for (series, run) in report.runs.iter().enumerate() {
        let open = if series == 0 { " open" } else { "" };
        let _ = writeln!(
            out,
            "<details class=\"more\"{open}><summary>{}</summary>",
            escaped(&run.label)
        );
        let heads = ["auroc ↑", "saturation", "tied pairs", "aurc ↓", "prr ↑", "questions"];
        let heads = heads.map(number_head);
        table(
            out,
            &format!("Estimators of {}", run.label),
            &[text_head("estimator")].into_iter().chain(heads).collect::<Vec<_>>(),
        );
        for estimator in &run.estimators {
            let tag = if estimator.decides { "<span class=\"tag\">decides</span>" } else { "" };
            let _ = write!(
                out,
                "<tr><th scope=\"row\">{}{tag}</th>",
                escaped(&estimator.name.replace('_', " "))
            );
            estimator.metrics.iter().for_each(|view| cell(out, Some(view)));
            let n = estimator.metrics.first().map_or(0, |view| view.metric.n);
            let _ = writeln!(out, "<td class=\"n\">{n}</td></tr>");
        }
        out.push_str(TABLE_END);
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
}

fn browser(out: &mut String, left_out: &[String]) {
    out.push_str("<section aria-labelledby=\"samples\"><h2 id=\"samples\">Samples</h2>\n");
    out.push_str(
        "<noscript><p class=\"warn\">The list of questions needs JavaScript; the rest of the page \
         does not.</p></noscript>\n",
    );
    out.push_str(
        "<div id=\"browser\" hidden><div class=\"controls\"><label>run <select \
                  id=\"run\"></select></label>",
    );
    for class in OutcomeClass::ALL {
        let (name, label) = (class.name(), class.label());
        let _ = write!(
            out,
            "<label class=\"chip\"><input type=\"checkbox\" id=\"show-{name}\" checked><span \
             class=\"badge {name}\">{label}</span></label>"
        );
    }
    out.push_str(
        "<input type=\"search\" id=\"search\" placeholder=\"search questions and answers\" \
         aria-label=\"search questions and answers\"></div>\n<p class=\"small\" id=\"found\" \
         role=\"status\"></p>\n<ul class=\"q\" id=\"questions\"></ul>\n<button type=\"button\" \
         id=\"more\" hidden>Show more</button></div>\n",
    );
    let left_out: Vec<String> = left_out.iter().map(|sentence| escaped(sentence)).collect();
    let _ = writeln!(
        out,
        "<p class=\"small\">Left out to keep the page small: {}. The run folders have \
         everything.</p>\n</section>",
        left_out.join("; ")
    );
}

fn settings(report: &Report) -> String {
    let mut out =
        String::from("<section aria-labelledby=\"settings\"><h2 id=\"settings\">Settings</h2>\n");
    for run in &report.runs {
        let mut manifest = run.manifest.clone();
        // Its lists of questions are long, and its guarantee is shown above.
        if let Some(policy) = &mut manifest.policy {
            policy.calibration_ids.clear();
            policy.calibration_texts.clear();
            policy.scores.clear();
        }
        let cost = |name: &str, mean: Option<super::Mean>| {
            mean.map_or(String::new(), |m| format!("{} {name} per question. ", short(m.mean)))
        };
        let text = serde_json::to_string_pretty(&manifest).unwrap_or_default();
        let _ = writeln!(
            out,
            "<details class=\"more\"><summary>{}</summary><p class=\"small name\">{}. \
             {}{}</p><pre tabindex=\"0\">{}</pre></details>",
            escaped(&run.label),
            escaped(&run.run),
            cost("forward tokens", run.forward_tokens),
            cost("seconds", run.seconds),
            escaped(&text)
        );
    }
    out.push_str("</section>\n");
    out
}
