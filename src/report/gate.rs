//! Gates: bounds on metrics that a run must meet for CI to pass, and their results as `JUnit` XML.
//!
//! Contract: the metric says which side is worse; a metric that only describes cannot be a gate. An
//! undefined metric fails.

use std::fmt::{self, Write};
use std::str::FromStr;

use super::text::html;
use super::view::Report;
use crate::error::{Error, Result};
use crate::metrics::{METRICS, Metric, metric};

/// A bound on a metric.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    metric: &'static Metric,
    value: f64,
}

/// The result of a gate in a run.
#[derive(Clone, Debug)]
pub struct GateResult {
    /// The run's label.
    pub run: String,
    /// The gate.
    pub gate: Gate,
    /// The metric's value; `None` if undefined.
    pub found: Option<f64>,
    /// Questions behind it.
    pub n: usize,
}

impl GateResult {
    /// Whether the value is defined and not worse than the bound.
    pub fn passes(&self) -> bool {
        self.found.is_some_and(|found| match self.gate.metric.higher_is_better {
            Some(true) => found >= self.gate.value,
            Some(false) => found <= self.gate.value,
            None => false,
        })
    }
}

impl FromStr for Gate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Error::usage(format!(
                "gate {text:?} has no value; it must be METRIC=VALUE, as in accuracy=0.5"
            )));
        };
        let gate_metrics = || {
            METRICS
                .iter()
                .filter(|m| m.higher_is_better.is_some())
                .map(|m| m.name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Some(metric) = metric(name.trim()) else {
            return Err(Error::usage(format!(
                "metric `{}` is unknown; use one of {}",
                name.trim(),
                gate_metrics()
            )));
        };
        if metric.higher_is_better.is_none() {
            return Err(Error::usage(format!(
                "metric {} has no better direction, so it cannot be a gate; use one of {}",
                metric.name,
                gate_metrics()
            )));
        }
        match value.trim().parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Self { metric, value }),
            _ => Err(Error::usage(format!(
                "gate {text:?}: {:?} is not a finite number",
                value.trim()
            ))),
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.metric.higher_is_better == Some(false) { "at most" } else { "at least" };
        write!(f, "{} {side} {}", self.metric.name, self.value)
    }
}

impl fmt::Display for GateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passes() { "passed" } else { "failed" };
        write!(f, "{verdict}: {}: {}: ", self.run, self.gate)?;
        match self.found {
            Some(found) => write!(f, "it is {found:.4} over {} questions", self.n),
            None => write!(f, "it is undefined for this run"),
        }
    }
}

impl Report {
    /// Every gate in every run.
    pub fn check_gates(&self, gates: &[Gate]) -> Vec<GateResult> {
        let one = |gate: &Gate, run: &super::RunView| {
            let view = run.metric(gate.metric.name);
            let found = view.and_then(|view| view.metric.value);
            GateResult {
                run: run.label.clone(),
                gate: *gate,
                found,
                n: view.map_or(0, |view| view.metric.n),
            }
        };
        self.runs.iter().flat_map(|run| gates.iter().map(move |gate| one(gate, run))).collect()
    }
}

/// `JUnit` XML: a suite for each run, a case for each gate.
pub fn junit(gated: &[GateResult]) -> String {
    let failures = |part: &[GateResult]| part.iter().filter(|gated| !gated.passes()).count();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuites name=\"candor report\" tests=\"{}\" failures=\"{}\">",
        gated.len(),
        failures(gated)
    );
    for suite in gated.chunk_by(|a, b| a.run == b.run) {
        let name = html(suite.first().map_or("", |gated| &gated.run));
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\">",
            suite.len(),
            failures(suite)
        );
        for gated in suite {
            let case = html(&gated.gate.to_string());
            if gated.passes() {
                let _ = writeln!(xml, "    <testcase classname=\"{name}\" name=\"{case}\"/>");
            } else {
                let message = html(&gated.to_string());
                let _ = writeln!(
                    xml,
                    "    <testcase classname=\"{name}\" name=\"{case}\">\n      <failure \
                     message=\"{message}\"/>\n    </testcase>"
                );
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}
