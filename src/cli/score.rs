//! `candor score`: recomputes votes, scores and metrics from stored samples, without the model, and
//! compares runs on the same questions.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::{ReaderArgs, read_policy};
use super::metrics::{self, Report};
use super::output::Output;
use crate::error::{Error, Result};
use crate::eval::{Difference, EqualCost, PricedRun, RunRef, ScoredRun, Variant, runs};
use crate::metrics::GradedQuestion;

/// Recompute votes, scores and metrics of runs from their stored samples.
#[derive(Debug, Args)]
pub struct Score {
    /// Run folders, folders with runs of several strategies, or shards of a run
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Compare the other runs on the same questions with this one, by its folder or its name in
    /// --compare; may be given several times; default: the first run
    #[arg(long, value_name = "NAME")]
    baseline: Vec<String>,
    /// Decide by this policy file, on the questions that it was not fitted on
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    reader: ReaderArgs,
    /// Write the shards of one run into one folder, as if it had not been divided
    #[arg(long, value_name = "OUT", conflicts_with_all = ["baseline", "policy"])]
    merge: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Score {
    pub fn run(&self, output: &Output) -> Result<()> {
        let found = runs(&self.runs)?;
        if let Some(out) = &self.merge {
            let [run] = found.as_slice() else {
                let names: Vec<&str> = found.iter().map(|run| run.name.as_str()).collect();
                return Err(Error::usage(format!(
                    "--merge takes the shards of one run; these are {}",
                    names.join(", ")
                )));
            };
            let written = run.merge(out)?;
            output.note(&format!(
                "{}: {written} records of {} folders",
                out.display(),
                run.folders.len()
            ));
            return show(&[RunRef::open(out)?], self.json, output);
        }
        let policy = self.policy.as_deref().map(read_policy).transpose()?;
        if policy.is_some() && self.reader.is_given() {
            return Err(Error::usage(
                "--policy was fitted to answers as its run read them; give it without --extractor, \
                 --answers, --equivalence and --vote",
            ));
        }
        let score = |run: &RunRef| {
            let recorded = &run.manifest.config.reader;
            let reader = self.reader.over(recorded.clone());
            if reader == *recorded { run.rescore(policy.as_ref()) } else { run.reread(reader) }
        };
        let scored = found.iter().map(|run| Ok((run, score(run)?))).collect::<Result<Vec<_>>>()?;
        print(&scored, &self.baseline, self.json, output)
    }
}

/// Prints the metrics of runs.
pub fn show(found: &[RunRef], json: bool, output: &Output) -> Result<()> {
    let scored =
        found.iter().map(|run| Ok((run, run.rescore(None)?))).collect::<Result<Vec<_>>>()?;
    print(&scored, &[], json, output)
}

fn print(
    scored: &[(&RunRef, ScoredRun)],
    baselines: &[String],
    json: bool,
    output: &Output,
) -> Result<()> {
    let reports =
        scored.iter().map(|(run, scored)| Report::new(run, scored)).collect::<Result<Vec<_>>>()?;
    reports.iter().flat_map(Report::warnings).for_each(|warning| output.warning(&warning));
    let differences = differences(scored, baselines)?;
    if json {
        let text = metrics::json(&reports, &differences, at_equal_cost(scored).as_ref())
            .map_err(|e| Error::Backend(format!("cannot write the metrics as JSON: {e}")))?;
        return output.raw(format!("{text}\n").as_bytes());
    }
    let comparison = (!differences.is_empty()).then(|| metrics::comparison(&reports, &differences));
    let equal_cost = at_equal_cost(scored).map(|found| metrics::equal_cost(&found));
    let tables: Vec<String> =
        reports.iter().map(Report::table).chain(comparison).chain(equal_cost).collect();
    output.answer(&tables.join("\n\n"))
}

/// The runs at equal cost.
fn at_equal_cost<'a>(scored: &'a [(&'a RunRef, ScoredRun)]) -> Option<EqualCost> {
    let priced = |(run, scored): &'a (&'a RunRef, ScoredRun)| PricedRun {
        name: &run.name,
        strategy: run.manifest.config.strategy,
        questions: scored
            .questions
            .iter()
            .map(|scored| (&scored.item, scored.forward_tokens.as_slice()))
            .collect(),
    };
    EqualCost::new(&scored.iter().map(priced).collect::<Vec<_>>())
}

/// Every run against every baseline on the same questions.
fn differences(scored: &[(&RunRef, ScoredRun)], baselines: &[String]) -> Result<Vec<Difference>> {
    let variants: Vec<(&str, Vec<&GradedQuestion>)> = scored
        .iter()
        .map(|(run, scored)| {
            (run.name.as_str(), scored.questions.iter().map(|scored| &scored.item).collect())
        })
        .collect();
    // By its path, its folder's name, or its name in --compare.
    let is_named = |name: &str, wanted: &str| {
        let last = Path::new(name).file_name().unwrap_or_default();
        name == wanted
            || last == wanted
            || wanted.parse::<Variant>().is_ok_and(|variant| last == variant.folder().as_str())
    };
    let mut chosen = Vec::new();
    for wanted in baselines {
        let Some(at) = variants.iter().position(|(name, _)| is_named(name, wanted)) else {
            let names: Vec<&str> = variants.iter().map(|(name, _)| *name).collect();
            return Err(Error::usage(format!(
                "baseline `{wanted}` is not one of the runs {}",
                names.join(", ")
            )));
        };
        chosen.push(at);
    }
    if baselines.is_empty() && variants.len() > 1 {
        chosen.push(0);
    }
    let pairs = chosen.iter().flat_map(|&baseline| {
        (0..variants.len()).filter(move |&run| run != baseline).map(move |run| (run, baseline))
    });
    let compared = pairs.filter_map(|(run, baseline)| {
        let ((run, items), (baseline, before)) = (variants.get(run)?, variants.get(baseline)?);
        // Runs on other questions cannot be paired.
        Difference::new((run, items), (baseline, before)).ok()
    });
    let mut differences: Vec<Difference> = compared.collect();
    Difference::correct(&mut differences);
    Ok(differences)
}
