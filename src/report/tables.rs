//! The metrics of a report as Markdown and as CSV.
//!
//! Contract: pure. Names of runs and models are untrusted and cannot become markup or a formula.

use std::fmt::Write;

use super::text::{self, fixed, markdown as md};
use super::view::Report;
use crate::error::{Error, Result};
use crate::eval::{Difference, RunAtCost};
use crate::metrics::{Estimate, METRICS, metric};

/// An arrow for the better direction of a metric.
pub fn arrow(higher_is_better: Option<bool>) -> &'static str {
    match higher_is_better {
        Some(true) => "↑",
        Some(false) => "↓",
        None => "",
    }
}

/// A value with its interval, or a dash.
pub fn with_interval(view: Option<&Estimate>) -> String {
    let Some((view, value)) = view.and_then(|view| Some((view, view.metric.value?))) else {
        return "–".to_owned();
    };
    match view.interval {
        Some((low, high)) => format!("{} [{}, {}]", fixed(value, 3), fixed(low, 3), fixed(high, 3)),
        None if view.constant => format!("{} (does not vary)", fixed(value, 3)),
        None => fixed(value, 3),
    }
}

/// Markdown: runs, metrics, estimators, comparisons.
pub fn markdown(report: &Report) -> String {
    let mut out = String::from(
        "# candor report\n\n| run | task | model | strategy | questions | correct | incorrect | \
         abstained | no answer |\n",
    );
    out.push_str("|---|---|---|---|--:|--:|--:|--:|--:|\n");
    for run in &report.runs {
        let c = run.counts;
        let names = [
            &run.label,
            &run.manifest.task.name,
            &run.manifest.config.identity.model,
            &run.strategy(),
        ]
        .map(|name| md(name))
        .join(" | ");
        let _ = writeln!(
            out,
            "| {names} | {} | {} | {} | {} | {} |",
            run.questions,
            c.correct,
            c.incorrect,
            c.abstained(),
            c.no_answer
        );
    }
    for (run, guarantee) in
        report.runs.iter().filter_map(|run| Some((run, run.guarantee.as_ref()?)))
    {
        let _ = writeln!(out, "\n{}: {}", md(&run.label), md(&guarantee.sentence));
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "\n{}", md(warning));
    }
    let heads: Vec<String> = report.runs.iter().map(|run| md(&run.label)).collect();
    let _ = writeln!(
        out,
        "\n## Metrics\n\nWith 95 % intervals. ↑ higher is better, ↓ lower is better.\n\n| metric \
         | | {} |",
        heads.join(" | ")
    );
    let _ = writeln!(out, "|---|---|{}", "--:|".repeat(heads.len()));
    for metric in METRICS
        .iter()
        .filter(|metric| report.runs.iter().any(|run| run.metric(metric.name).is_some()))
    {
        let cells: Vec<String> =
            report.runs.iter().map(|run| with_interval(run.metric(metric.name))).collect();
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            md(metric.name),
            arrow(metric.higher_is_better),
            cells.join(" | ")
        );
    }
    for run in &report.runs {
        let _ = writeln!(
            out,
            "\n## Estimators: {}\n\n| estimator | auroc ↑ | saturation | tied pairs | aurc ↓ | prr ↑ |\n\
             |---|--:|--:|--:|--:|--:|",
            md(&run.label)
        );
        for estimator in &run.estimators {
            let cells: Vec<String> =
                estimator.metrics.iter().map(|view| with_interval(Some(view))).collect();
            let name = format!(
                "{}{}",
                md(estimator.name),
                if estimator.decides { " (decides)" } else { "" }
            );
            let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
        }
    }
    comparisons(&mut out, report);
    out
}

/// Runs against the first, and at equal cost.
fn comparisons(out: &mut String, report: &Report) {
    if !report.comparisons.is_empty() {
        out.push_str(
            "\n## Comparisons\n\n| run | against | shared questions | gains | losses | p \
             (McNemar) | p (Holm) | differences |\n",
        );
        out.push_str("|---|---|--:|--:|--:|--:|--:|---|\n");
    }
    for c in &report.comparisons {
        let differences: Vec<String> = c
            .metrics
            .iter()
            .map(|d| {
                if d.constant {
                    return format!(
                        "{} {} (does not vary)",
                        md(d.name),
                        fixed(d.interval.estimate, 3)
                    );
                }
                format!(
                    "{} {} [{}, {}]",
                    md(d.name),
                    fixed(d.interval.estimate, 3),
                    fixed(d.interval.low, 3),
                    fixed(d.interval.high, 3)
                )
            })
            .collect();
        let differences = differences.join("; ");
        let (after, before) = (md(&c.run), md(&c.baseline));
        let _ = writeln!(
            out,
            "| {after} | {before} | {} | {} | {} | {} | {} | {differences} |",
            c.questions,
            c.gains,
            c.losses,
            p_value(c.p_value),
            p_value(c.p_holm)
        );
    }
    if !report.comparisons.is_empty() {
        let _ = writeln!(out, "\n{}", correction(&report.comparisons));
    }
    for (c, power) in report.comparisons.iter().filter_map(|c| Some((c, c.power()?))) {
        let _ = writeln!(out, "\n{}: {power}", md(&c.run));
    }
    if let Some(found) = &report.equal_cost {
        let _ = writeln!(
            out,
            "\n## Accuracy at equal cost\n\n{}\n\n| run | accuracy | forward tokens | baseline \
             there | difference |\n|---|--:|--:|--:|--:|",
            md(&found.to_string())
        );
        for row in &found.runs {
            let _ = writeln!(out, "| {} | {} |", md(&row.run), at_equal_cost(row).join(" | "));
        }
    }
}

/// The cells of a run at equal cost: accuracy, forward tokens, the baseline's accuracy, difference.
pub fn at_equal_cost(row: &RunAtCost) -> [String; 4] {
    let (baseline, difference) = match row.baseline {
        Some(baseline) => (fixed(baseline, 3), fixed(row.accuracy - baseline, 3)),
        None => ("not covered".to_owned(), "–".to_owned()),
    };
    [fixed(row.accuracy, 3), fixed(row.forward_tokens, 1), baseline, difference]
}

/// What the corrected p-values mean.
pub fn correction(comparisons: &[Difference]) -> String {
    let tests = Difference::tests(comparisons);
    format!("p (Holm) is corrected for the number of comparisons: {tests}.")
}

/// A p-value; small ones are not rounded to 0.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { fixed(p, 3) }
}

/// CSV: a line for each metric of each run, and of each estimator of each run.
///
/// # Errors
/// A CSV writer error; none is expected in memory.
pub fn csv(report: &Report) -> Result<String> {
    let failed = |e: csv::Error| Error::Backend(format!("cannot write the metrics as CSV: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record([
            "run",
            "task",
            "model",
            "strategy",
            "estimator",
            "metric",
            "higher_is_better",
            "value",
            "low",
            "high",
            "n",
            "left_out",
        ])
        .map_err(failed)?;
    for run in &report.runs {
        let strategy = run.strategy();
        let names =
            [&run.label, &run.manifest.task.name, &run.manifest.config.identity.model, &strategy]
                .map(|name| text::csv(name));
        let own = run.metrics.iter().map(|view| ("", view));
        let ranked = run
            .estimators
            .iter()
            .flat_map(|estimator| estimator.metrics.iter().map(|view| (estimator.name, view)));
        for (estimator, view) in own.chain(ranked) {
            let found = view.metric;
            let higher_is_better = metric(found.name)
                .and_then(|metric| metric.higher_is_better)
                .map_or(String::new(), |higher| higher.to_string());
            let number =
                |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
            let [run, task, model, strategy] = &names;
            let numbers = [
                number(found.value),
                number(view.interval.map(|i| i.0)),
                number(view.interval.map(|i| i.1)),
            ];
            let [value, low, high] = &numbers;
            let (n, left_out) = (found.n.to_string(), found.left_out.to_string());
            writer
                .write_record([
                    run,
                    task,
                    model,
                    strategy,
                    estimator,
                    found.name,
                    &higher_is_better,
                    value,
                    low,
                    high,
                    &n,
                    &left_out,
                ])
                .map_err(failed)?;
        }
    }
    let bytes = writer
        .into_inner()
        .map_err(|e| Error::Backend(format!("cannot write the metrics as CSV: {e}")))?;
    String::from_utf8(bytes)
        .map_err(|e| Error::Backend(format!("cannot write the metrics as text: {e}")))
}
