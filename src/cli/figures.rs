//! Figures of a run as a table for a person and as JSON for a program.

use std::fmt::Write;

use serde::Serialize;

use super::terminal::sanitize;
use crate::eval::{FoundRun, Manifest, Scored};
use crate::metrics::{Better, Figure, METRICS, figures};

/// The figures of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The run folder.
    run: String,
    /// What was run.
    manifest: Manifest,
    /// Questions with a record.
    questions: usize,
    /// Records that come out otherwise when judged again.
    differing: usize,
    /// Every figure that can be said.
    figures: Vec<Figure>,
}

impl Report {
    pub fn new(run: &FoundRun, scored: &[Scored]) -> Self {
        let items: Vec<_> = scored.iter().map(|scored| &scored.item).collect();
        let differing = scored.iter().filter(|scored| scored.differs.is_some()).count();
        let figures = figures(&items).into_iter().filter(|figure| figure.value.is_some()).collect();
        Self { run: run.name.clone(), questions: scored.len(), differing, figures, manifest: run.manifest.clone() }
    }

    /// What the reader must know besides the figures; nothing in the usual case.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let total = self.manifest.task.due();
        if self.questions < total {
            warnings.push(format!("{}: {} of {total} questions are recorded; the same `candor eval` goes on", self.run, self.questions));
        }
        if self.differing > 0 {
            let version = self.manifest.config.get("version").and_then(|v| v.as_str()).unwrap_or("unknown");
            warnings.push(format!(
                "{}: {} records come out otherwise than candor {version} recorded them; the figures are this version's",
                self.run, self.differing
            ));
        }
        warnings
    }

    /// A line per figure: name, value, questions behind it, direction, meaning.
    pub fn table(&self) -> String {
        let model = self.manifest.config.get("model").and_then(|v| v.as_str()).unwrap_or("");
        let mut text = format!("{}, {} questions, {}\n", sanitize(&self.manifest.task.name), self.questions, sanitize(model));
        for figure in &self.figures {
            let Some(metric) = METRICS.iter().find(|metric| metric.name == figure.name) else { continue };
            let arrow = match metric.better {
                Better::Higher => "higher is better",
                Better::Lower => "lower is better",
                Better::Neither => "",
            };
            let value = figure.value.unwrap_or_default();
            let _ = writeln!(text, "{:<24}{value:>9.4}  n {:<6}{arrow:<18}{}", figure.name, figure.n, metric.summary);
        }
        text.trim_end().to_owned()
    }
}

/// The reports as one JSON value: an object for one run, a list for several.
pub fn json(reports: &[Report]) -> serde_json::Result<String> {
    match reports {
        [one] => serde_json::to_string_pretty(one),
        many => serde_json::to_string_pretty(many),
    }
}
