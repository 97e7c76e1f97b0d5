//! Metrics of one run and of several runs side by side, as tables and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::json;

use super::terminal::sanitize;
use crate::calibration::Drift;
use crate::decision::AbstainReason;
use crate::error::Result;
use crate::eval::{
    Difference, EqualCost, JudgeQuality, Manifest, RunAtCost, RunRef, Scored, ScoredRun,
};
use crate::metrics::bootstrap::Bootstrap;
use crate::metrics::{Estimate, METRICS, estimates};
use crate::report::text::{fixed, listed};

/// The metrics of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The run folder.
    run: String,
    /// What was run.
    manifest: Manifest,
    /// Questions with a record.
    questions: usize,
    /// The ids of questions without a gold answer, which are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without_gold: Vec<String>,
    /// Scores that are not those of the policy's calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<Drift>,
    /// Records whose verdict changes when scored again.
    differing: usize,
    /// Every defined metric, with its 95 % interval.
    metrics: Vec<Estimate>,
    /// The quality of the judge that compared answers, if there was one and labels tell.
    judge: Option<JudgeQuality>,
    /// How many questions were not answered, by reason.
    abstained: BTreeMap<&'static str, usize>,
    /// What a question cost.
    cost: Cost,
}

/// What a question cost: means of tokens, medians of times; 0 if every question failed.
#[derive(Debug, Default, Serialize)]
struct Cost {
    /// Tokens of the rendered prompt.
    prompt_tokens: f64,
    /// Tokens drawn over all samples.
    completion_tokens: f64,
    /// Rows computed after the prompt.
    forward_tokens: f64,
    /// To the first token, beside the other questions of the batch.
    prefill_ms: f64,
    /// From the first token to the last, beside the other questions of the batch.
    decode_ms: f64,
}

impl Cost {
    fn new(scored: &[Scored]) -> Self {
        let mean = |tokens: fn(&crate::generation::TokenCounts) -> usize| {
            let all: Vec<f64> = scored
                .iter()
                .filter_map(|scored| scored.cost.as_ref().map(|cost| tokens(cost) as f64))
                .collect();
            if all.is_empty() { 0.0 } else { all.iter().sum::<f64>() / all.len() as f64 }
        };
        let median = |time: fn(&Scored) -> Option<f64>| {
            let mut all: Vec<f64> = scored.iter().filter_map(time).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        Self {
            prompt_tokens: mean(|cost| cost.prompt_tokens),
            completion_tokens: mean(|cost| cost.completion_tokens),
            forward_tokens: mean(|cost| cost.forward_tokens),
            prefill_ms: median(|scored| scored.timing.prefill_ms),
            decode_ms: median(|scored| scored.timing.decode_ms),
        }
    }
}

impl Report {
    /// # Errors
    /// A line that is not a record.
    pub fn new(run: &RunRef, scored: &ScoredRun) -> Result<Self> {
        let ScoredRun { questions: scored, without_gold, drift } = scored;
        let items: Vec<_> = scored.iter().map(|scored| &scored.item).collect();
        let mut abstained = BTreeMap::new();
        for reason in scored.iter().filter_map(|scored| scored.verdict.as_ref()?.decision.reason())
        {
            *abstained.entry(AbstainReason::code(reason)).or_default() += 1;
        }
        Ok(Self {
            run: run.name.clone(),
            questions: scored.len(),
            without_gold: without_gold.clone(),
            drift: *drift,
            differing: scored.iter().filter(|scored| scored.differs.is_some()).count(),
            metrics: estimates(METRICS, &items, &Bootstrap::of(items.len()))
                .into_iter()
                .filter(|found| found.metric.value.is_some())
                .collect(),
            abstained,
            cost: Cost::new(scored),
            judge: JudgeQuality::of(run)?,
            manifest: run.manifest.clone(),
        })
    }

    /// Warnings about the metrics; usually none.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let total = self.manifest.task.due();
        if self.questions < total {
            warnings.push(format!(
                "{}: the metrics cover {} of {total} questions",
                self.run, self.questions
            ));
        }
        if !self.without_gold.is_empty() {
            warnings.push(format!(
                "{}: {} without a gold answer, which are left out: {}",
                self.run,
                self.without_gold.len(),
                listed(&self.without_gold)
            ));
        }
        warnings.extend(self.drift.map(|drift| format!("{}: {drift}", self.run)));
        if self.differing > 0 {
            let version = &self.manifest.config.version;
            warnings.push(format!(
                "{}: {} records differ from what candor {version} recorded; the \
                 metrics are this version's",
                self.run, self.differing
            ));
        }
        if let Some(judge) = self.judge.filter(|judge| !judge.is_useful()) {
            warnings.push(format!(
                "{}: the judge of equivalence is no better than chance (AUROC {:.2} on {} same and \
                 {} different pairs), so it is switched off and rules alone group answers",
                self.run, judge.auroc, judge.same, judge.different
            ));
        }
        warnings
    }

    /// A line per metric: name, value, interval, questions behind it, direction, meaning.
    pub fn table(&self) -> String {
        let model = &self.manifest.config.identity.model;
        let (task, run) = (sanitize(&self.manifest.task.name), sanitize(&self.run));
        let mut text = format!(
            "{task}, {} questions, {}, {run}; metrics with 95 % intervals\n",
            self.questions,
            sanitize(model)
        );
        for Estimate { metric: found, interval, constant } in &self.metrics {
            let Some(metric) = METRICS.iter().find(|metric| metric.name == found.name) else {
                continue;
            };
            let arrow = match metric.higher_is_better {
                Some(true) => "higher is better",
                Some(false) => "lower is better",
                None => "",
            };
            let value = fixed(found.value.unwrap_or_default(), 4);
            let interval = match interval {
                Some((low, high)) => format!("{} to {}", fixed(*low, 4), fixed(*high, 4)),
                None if *constant => "does not vary".to_owned(),
                None => String::new(),
            };
            let _ = writeln!(
                text,
                "{:<24}{value:>9}  {interval:<18}  n {:<6}{arrow:<18}{}",
                found.name, found.n, metric.summary
            );
        }
        if !self.abstained.is_empty() {
            let reasons: Vec<String> =
                self.abstained.iter().map(|(code, count)| format!("{code} {count}")).collect();
            let _ = writeln!(text, "abstained: {}", reasons.join(", "));
        }
        let Cost { prompt_tokens, completion_tokens, forward_tokens, prefill_ms, decode_ms } =
            &self.cost;
        let _ = writeln!(
            text,
            "a question: {prompt_tokens:.1} tokens of prompt, {completion_tokens:.1} drawn on \
             {forward_tokens:.1} rows; median \
             {prefill_ms:.0} ms to the first token, {decode_ms:.0} ms from there"
        );
        text.trim_end().to_owned()
    }

    fn value(&self, name: &str) -> f64 {
        self.metrics
            .iter()
            .find(|found| found.metric.name == name)
            .and_then(|found| found.metric.value)
            .unwrap_or(f64::NAN)
    }
}

/// Runs side by side: metrics and cost of each, then the paired differences.
pub fn comparison(reports: &[Report], differences: &[Difference]) -> String {
    let width = reports.iter().map(|report| report.run.chars().count()).max().unwrap_or(0).max(8);
    let mut text = format!(
        "{:<width$} accuracy coverage     risk  truthful  prompt tokens  drawn  ms to first  ms \
         from there\n",
        "run"
    );
    for report in reports {
        let metrics = ["accuracy", "coverage", "selective_risk", "truthfulness"]
            .map(|name| report.value(name));
        let [accuracy, coverage, risk, truthfulness] = metrics;
        let Cost { prompt_tokens, completion_tokens, prefill_ms, decode_ms, .. } = &report.cost;
        let _ = writeln!(
            text,
            "{:<width$} {accuracy:>8.4} {coverage:>8.4} {risk:>8.4}  {truthfulness:>8.4}  \
             {prompt_tokens:>13.1}  \
             {completion_tokens:>5.1}  {prefill_ms:>11.0}  {decode_ms:>13.0}",
            sanitize(&report.run)
        );
    }
    // Small values are not rounded to 0.
    let p = |p: f64| if p < 0.0001 { "< 0.0001".to_owned() } else { format!("= {p:.4}") };
    for difference in differences {
        let Difference { questions, gains, losses, p_value, p_holm, .. } = difference;
        let (run, baseline) = (sanitize(&difference.run), sanitize(&difference.baseline));
        let _ = write!(
            text,
            "\n{run} against {baseline}: {gains} gained, {losses} lost of {questions}, McNemar p \
             {}, Holm p {}",
            p(*p_value),
            p(*p_holm)
        );
        for metric in &difference.metrics {
            let interval = &metric.interval;
            let _ = write!(text, "\n  {:<16}{:>+8.4}  ", metric.name, interval.estimate);
            let _ = if metric.constant {
                write!(text, "(does not vary)")
            } else {
                write!(text, "({:+.4} to {:+.4})", interval.low, interval.high)
            };
        }
        if let Some(power) = difference.power() {
            let _ = write!(text, "\n  {power}");
        }
    }
    match Difference::tests(differences) {
        0 | 1 => {}
        tests => {
            let _ = write!(text, "\nHolm p is corrected for all {tests} comparisons");
        }
    }
    text.trim_end().to_owned()
}

/// Runs at equal cost, a line each.
pub fn equal_cost(found: &EqualCost) -> String {
    let width = found.runs.iter().map(|row| row.run.chars().count()).max().unwrap_or(0).max(8);
    let mut text = format!(
        "accuracy at equal cost: {}\n{:<width$} accuracy  forward tokens  baseline there  difference",
        sanitize(&found.to_string()),
        "run"
    );
    for RunAtCost { run, accuracy, forward_tokens, baseline } in &found.runs {
        let run = sanitize(run);
        let _ = write!(text, "\n{run:<width$} {accuracy:>8.4}  {forward_tokens:>14.1}  ");
        let _ = match baseline {
            Some(baseline) => write!(text, "{baseline:>14.4}  {:>+10.4}", accuracy - baseline),
            None => write!(text, "{:>14}", "not covered"),
        };
    }
    text
}

/// The reports as one JSON value: an object for one run; for several, their objects, their
/// paired differences, and their accuracy at equal cost.
pub fn json(
    reports: &[Report],
    differences: &[Difference],
    equal_cost: Option<&EqualCost>,
) -> serde_json::Result<String> {
    match reports {
        [one] => serde_json::to_string_pretty(one),
        many => serde_json::to_string_pretty(
            &json!({"runs": many, "differences": differences, "equal_cost": equal_cost}),
        ),
    }
}
