//! The view model: all numbers of a report.
//!
//! Contract: pure except for reading records. Intervals are at 95 %: those of [`Estimate`] for
//! metrics, the normal interval of a mean for costs. The number of resamples depends on the number
//! of questions and is part of the report. It knows neither HTML nor SVG.

use std::path::{Component, Path};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Serialize;

use super::compare;
use super::graded::{GradedRecord, OutcomeClass, fits};
use super::read::{self, ReadQuestion};
use super::text;
use crate::calibration::{Drift, PolicyFile, Rule};
use crate::error::{Error, Result};
use crate::eval::{Difference, EqualCost, LeftOut, Manifest, PricedRun, RunRef, RunScorer};
use crate::metrics::binomial::NORMAL_97_5;
use crate::metrics::bootstrap::Bootstrap;
use crate::metrics::{Estimate, GradedQuestion, METRICS, Metric, estimates, metric};
use crate::uncertainty::{Direction, ESTIMATORS};

/// Number of questions of all runs that the page may list.
const MAX_LISTED: usize = 1200;
/// The metrics that compare estimators.
const RANKING: [&str; 5] = ["auroc", "saturation", "tied_pairs", "aurc", "prr"];

/// A report over runs.
#[derive(Debug, Serialize)]
pub struct Report {
    /// candor's version.
    pub version: &'static str,
    /// The runs, in the order given.
    pub runs: Vec<RunView>,
    /// Every later run against the first.
    pub comparisons: Vec<Difference>,
    /// Accuracy at equal cost; `None` without a plain vote among several runs.
    pub equal_cost: Option<EqualCost>,
    /// Warnings for the reader.
    pub warnings: Vec<String>,
}

/// One run.
#[derive(Debug, Serialize)]
pub struct RunView {
    /// Its path.
    pub run: String,
    /// Its name in the report: the path without the prefix that all runs share.
    pub label: String,
    /// The run's manifest.
    pub manifest: Manifest,
    /// Questions with a record, without those that the report's policy file was fitted on.
    pub questions: usize,
    /// Questions with a record.
    pub recorded: usize,
    /// The ids of questions without a gold answer, which are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_gold: Vec<String>,
    /// Scores that are not those of the policy's calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// Records whose verdict changes when scored again.
    pub differing: usize,
    /// Their outcomes.
    pub counts: Counts,
    /// The guarantee of the decisions; `None` without a policy file.
    pub guarantee: Option<Guarantee>,
    /// Every metric that is defined.
    pub metrics: Vec<Estimate>,
    /// Every estimator that has scores.
    pub estimators: Vec<EstimatorView>,
    /// Rows computed after the prompt, per question.
    pub forward_tokens: Option<Mean>,
    /// Seconds from the prompt to the last token in the batch, per question.
    pub seconds: Option<Mean>,
    /// Resamples behind every interval by resampling.
    pub resamples: u32,
    /// The graded questions, in the order of records.
    #[serde(skip)]
    pub items: Vec<GradedQuestion>,
    /// Of each question, the forward tokens of its first k samples, k = 1, 2, ...
    #[serde(skip)]
    pub sample_costs: Vec<Vec<f64>>,
    /// SHA-256 of each question.
    #[serde(skip)]
    pub hashes: Vec<String>,
    /// The questions that the page may list, with their position among all.
    #[serde(skip)]
    pub(super) listed: Vec<(usize, ReadQuestion)>,
    /// The policy file of the decisions, the run's or another.
    #[serde(skip)]
    pub(super) policy: Option<PolicyFile>,
}

/// The outcomes of a run's questions; every question is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Correct answers given.
    pub correct: usize,
    /// Incorrect answers given.
    pub incorrect: usize,
    /// Correct answers held back.
    pub abstained_correct: usize,
    /// Incorrect answers held back.
    pub abstained_incorrect: usize,
    /// Questions without an answer.
    pub no_answer: usize,
}

impl Counts {
    /// Answers held back.
    pub fn abstained(&self) -> usize {
        self.abstained_correct + self.abstained_incorrect
    }

    fn add(&mut self, item: &GradedQuestion) {
        match OutcomeClass::of(item) {
            OutcomeClass::Correct => self.correct += 1,
            OutcomeClass::Incorrect => self.incorrect += 1,
            OutcomeClass::Abstained if item.is_correct() => self.abstained_correct += 1,
            OutcomeClass::Abstained => self.abstained_incorrect += 1,
            OutcomeClass::NoAnswer => self.no_answer += 1,
        }
    }
}

/// The guarantee of a policy file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guarantee {
    /// The exact sentence.
    pub sentence: String,
    /// Whether it is certified.
    pub certified: bool,
    /// Whether the decisions are those of the report's policy file instead of the run's.
    pub from_report: bool,
}

/// How well an estimator's score separates correct from incorrect answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EstimatorView {
    /// The estimator's name.
    pub name: &'static str,
    /// Whether the run's decisions use it.
    pub decides: bool,
    /// AUROC, AURC and PRR.
    pub metrics: Vec<Estimate>,
}

/// A mean over questions with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Questions.
    pub n: usize,
}

impl Mean {
    /// `None` without values; an interval without width for one value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
            / n.saturating_sub(1).max(1) as f64;
        let half = NORMAL_97_5 * (variance / n.max(1) as f64).sqrt();
        (n > 0 && mean.is_finite()).then(|| Self {
            mean,
            low: (mean - half).max(0.0),
            high: mean + half,
            n,
        })
    }
}

/// The report's own policy file, with its path for messages.
#[derive(Clone, Copy, Debug)]
pub struct OtherPolicy<'a> {
    /// Its path.
    pub path: &'a Path,
    /// The file.
    pub file: &'a PolicyFile,
}

impl Report {
    /// Reads runs and computes all numbers. Runs that `other` fits are decided by it.
    ///
    /// # Errors
    /// An invalid record; a policy file that fits no run, or that was fitted on all questions of a
    /// run.
    pub fn new(runs: &[RunRef], other: Option<OtherPolicy<'_>>) -> Result<Self> {
        let labels = labels(runs);
        let mut warnings = Vec::new();
        let fitting = fitting(runs, other, &mut warnings)?;
        let cap = (MAX_LISTED / runs.len().max(1)).max(50);
        let mut views = Vec::with_capacity(runs.len());
        for ((run, label), fits) in runs.iter().zip(labels).zip(fitting) {
            let view =
                RunView::read(run, label, other.filter(|_| fits).map(|other| other.file), cap)?;
            warnings.extend(view.warnings());
            views.push(view);
        }
        let comparisons = compare::with_first(&views);
        let equal_cost = EqualCost::new(&views.iter().map(RunView::priced).collect::<Vec<_>>());
        let version = env!("CARGO_PKG_VERSION");
        Ok(Self { version, runs: views, comparisons, equal_cost, warnings })
    }
}

/// Which runs the policy fits.
fn fitting(
    runs: &[RunRef],
    other: Option<OtherPolicy<'_>>,
    warnings: &mut Vec<String>,
) -> Result<Vec<bool>> {
    let Some(OtherPolicy { path, file }) = other else { return Ok(vec![false; runs.len()]) };
    let mut found = Vec::with_capacity(runs.len());
    let mut reasons = Vec::new();
    for run in runs {
        let reason = match fits(file, &run.manifest) {
            Ok(true) => None,
            Ok(false) => Some("its model has no single digest".to_owned()),
            Err(mismatch) => Some(mismatch.to_string()),
        };
        found.push(reason.is_none());
        reasons.extend(reason.map(|reason| {
            format!(
                "{} does not fit {}, which is shown as recorded: {reason}",
                path.display(),
                run.name
            )
        }));
    }
    if !found.contains(&true) {
        return Err(Error::invalid_file(path, reasons.join("; ")));
    }
    warnings.extend(reasons);
    Ok(found)
}

impl RunView {
    fn read(run: &RunRef, label: String, other: Option<&PolicyFile>, cap: usize) -> Result<Self> {
        let due = run.manifest.task.due().max(1);
        // Spread evenly over the run, because the first ones may be of one kind.
        let listed =
            move |at: usize| at < due && at * cap.min(due) / due != (at + 1) * cap.min(due) / due;
        let scorer = RunScorer::new(run, other)?;
        let (mut questions, mut without_gold) = (Vec::new(), Vec::new());
        let all = read::read(run, &scorer, &listed)?;
        let recorded = all.len();
        for (place, read) in all.into_iter().enumerate() {
            match read {
                Ok(question) => questions.push((place, question)),
                Err((LeftOut::WithoutGold, id)) => without_gold.push(id),
                Err((LeftOut::CalibratedOn, _)) => {}
            }
        }
        if questions.is_empty() && recorded > without_gold.len() {
            return Err(Error::usage(format!(
                "the policy was fitted on all questions of {}; report on others",
                run.name
            )));
        }
        let policy = scorer.policy().cloned();
        let mut view = Self {
            run: run.name.clone(),
            label,
            manifest: run.manifest.clone(),
            questions: questions.len(),
            recorded,
            without_gold,
            drift: scorer.drift(questions.iter().map(|(_, q)| &q.graded.question)),
            differing: questions.iter().filter(|(_, question)| question.differs).count(),
            counts: Counts::default(),
            guarantee: policy.as_ref().map(|policy| Guarantee {
                sentence: policy.guarantee(),
                certified: policy.is_certified(),
                from_report: other.is_some(),
            }),
            metrics: Vec::new(),
            estimators: Vec::new(),
            forward_tokens: None,
            seconds: None,
            resamples: Bootstrap::of(questions.len()).resamples,
            items: questions.iter().map(|(_, q)| q.graded.question.clone()).collect(),
            sample_costs: questions.iter().map(|(_, q)| q.graded.forward_tokens.clone()).collect(),
            hashes: questions.iter().map(|(_, q)| q.record.doc_hash.clone()).collect(),
            listed: Vec::new(),
            policy,
        };
        view.items.iter().for_each(|item| view.counts.add(item));
        view.add_costs(&questions);
        view.add_metrics(&questions);
        questions.retain(|(place, _)| listed(*place));
        view.listed = questions;
        Ok(view)
    }

    fn priced(&self) -> PricedRun<'_> {
        let costs = self.sample_costs.iter().map(Vec::as_slice);
        PricedRun {
            name: &self.label,
            strategy: self.manifest.config.strategy,
            questions: self.items.iter().zip(costs).collect(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let due = self.manifest.task.due();
        let unfinished = (self.recorded < due).then(|| {
            format!(
                "{}: {} of {due} questions are recorded; run the same `candor eval` to continue",
                self.run, self.recorded
            )
        });
        let fitted_on = self.recorded - self.questions - self.without_gold.len();
        let held_out = (fitted_on > 0).then(|| {
            format!(
                "{}: {fitted_on} questions that the policy was fitted on are left out",
                self.run
            )
        });
        let without_gold = (!self.without_gold.is_empty()).then(|| {
            format!(
                "{}: {} without a gold answer, which are left out: {}",
                self.run,
                self.without_gold.len(),
                text::listed(&self.without_gold)
            )
        });
        let differing = (self.differing > 0).then(|| {
            format!(
                "{}: {} records differ from what candor {} recorded; the metrics are this version's",
                self.run, self.differing, self.manifest.config.version
            )
        });
        let drift = self.drift.map(|drift| format!("{}: {drift}", self.run));
        let warnings = unfinished.into_iter().chain(held_out).chain(without_gold);
        warnings.chain(differing).chain(drift).collect()
    }

    fn add_costs(&mut self, questions: &[(usize, ReadQuestion)]) {
        let asked = || {
            let records = questions.iter().map(|(_, question)| &question.record);
            records.filter_map(|record| Some((record, record.outcome.as_ref()?)))
        };
        let rows: Vec<f64> =
            asked().map(|(_, outcome)| outcome.cost.forward_tokens as f64).collect();
        let times = asked().filter_map(|(record, _)| {
            Some((record.timing.prefill_ms? + record.timing.decode_ms?) / 1000.0)
        });
        let times: Vec<f64> = times.filter(|seconds| seconds.is_finite()).collect();
        (self.forward_tokens, self.seconds) = (Mean::of(&rows), Mean::of(&times));
    }

    fn add_metrics(&mut self, questions: &[(usize, ReadQuestion)]) {
        let bootstrap = Bootstrap { resamples: self.resamples, ..Bootstrap::default() };
        // Sorted by name, as resampling does; without samples, because resampling visits them
        // repeatedly.
        let mut order: Vec<&GradedRecord> = questions.iter().map(|(_, q)| &q.graded).collect();
        order.sort_by(|a, b| a.question.id.cmp(&b.question.id));
        let without_samples = |graded: &GradedRecord, uncertainty: Option<f64>| GradedQuestion {
            id: String::new(),
            samples: Vec::new(),
            uncertainty,
            grade: graded.question.grade,
            answered: graded.question.answered,
            confidence: graded.question.confidence,
            answerable: graded.question.answerable,
            correct_per_byte: graded.question.correct_per_byte,
            correct_mass: graded.question.correct_mass,
        };
        let (all, ranking) = (self.items.iter().collect::<Vec<_>>(), named(&RANKING));
        // The estimators, then the run's own metrics.
        let jobs: Vec<Option<usize>> = (0..ESTIMATORS.len()).map(Some).chain([None]).collect();
        let mut results = parallel(&jobs, |job| {
            let Some(at) = *job else { return estimates(METRICS, &all, &bootstrap) };
            let items: Vec<GradedQuestion> = order
                .iter()
                .map(|graded| without_samples(graded, graded.scores.get(at).copied().flatten()))
                .collect();
            estimates(&ranking, &items.iter().collect::<Vec<_>>(), &bootstrap)
        });
        let own = results.pop().unwrap_or_default();
        self.metrics = own.into_iter().filter(|view| view.metric.value.is_some()).collect();
        let deciding = self.deciding();
        let views = ESTIMATORS.iter().zip(results);
        let views = views.map(|(e, metrics)| EstimatorView {
            name: e.name,
            decides: deciding.contains(&e.name),
            metrics,
        });
        self.estimators =
            views.filter(|view| view.metrics.iter().any(|view| view.metric.n > 0)).collect();
    }

    /// The estimators that the decisions use.
    fn deciding(&self) -> Vec<&str> {
        match &self.policy {
            Some(policy) => policy.fingerprint.estimator.split('+').collect(),
            None => vec![self.manifest.estimator.as_str()],
        }
    }

    /// The name of the uncertainty, with the unit if it is one estimator's.
    pub fn uncertainty_name(&self) -> String {
        match self.deciding().as_slice() {
            [one] => {
                let known = ESTIMATORS.iter().find(|estimator| estimator.name == *one);
                let negated = known.is_some_and(|estimator| {
                    estimator.direction == Direction::HigherIsMoreConfident
                });
                let unit = known.map_or("", |estimator| estimator.unit);
                format!(
                    "{}{}{}",
                    if negated { "minus " } else { "" },
                    one.replace('_', " "),
                    if unit.is_empty() { String::new() } else { format!(", {unit}") }
                )
            }
            many => format!("fusion of {} scores", many.len()),
        }
    }

    /// A metric by its name; `None` if undefined.
    pub fn metric(&self, name: &str) -> Option<&Estimate> {
        self.metrics.iter().find(|view| view.metric.name == name)
    }

    /// The strategy with its number of samples.
    pub fn strategy(&self) -> String {
        let (strategy, n) = (self.manifest.config.strategy, self.manifest.config.params.n);
        format!("{strategy}, {n} {}", if n == 1 { "sample" } else { "samples" })
    }

    /// The largest risk that the policy file allows, and whether it is over all questions rather
    /// than over the answers.
    pub(super) fn target(&self) -> Option<(f64, bool)> {
        match self.policy.as_ref()?.rule {
            Rule::SelectiveRisk { alpha, .. } => Some((alpha, false)),
            Rule::JointRisk { alpha, .. } => Some((alpha, true)),
            Rule::TargetCoverage { .. } | Rule::TargetConfidence { .. } => None,
        }
    }
}

/// The metrics of these names.
fn named(names: &[&str]) -> Vec<&'static Metric> {
    names.iter().filter_map(|name| metric(name)).collect()
}

/// Paths without the folders that all of them share; a single path becomes its last part.
fn labels(runs: &[RunRef]) -> Vec<String> {
    let parts: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let normal = Path::new(&run.name)
                .components()
                .filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
            normal.map(|c| c.as_os_str().to_string_lossy().into_owned()).collect()
        })
        .collect();
    let shortest = parts.iter().map(Vec::len).min().unwrap_or(0).saturating_sub(1);
    let shared = (0..shortest)
        .take_while(|at| parts.iter().all(|p| p.get(*at) == parts.first().and_then(|f| f.get(*at))))
        .count();
    let label = |(part, run): (&Vec<String>, &RunRef)| {
        let label = part.get(shared..).unwrap_or_default().join("/");
        if label.is_empty() { run.name.clone() } else { label }
    };
    parts.iter().zip(runs).map(label).collect()
}

/// Maps each input on all cores; results are in the order of the inputs.
pub(super) fn parallel<T: Sync, R: Send>(inputs: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(inputs.len().max(1));
    // Many small inputs are taken in chunks.
    let chunk = (inputs.len() / (8 * threads)).max(1);
    let work = || {
        let mut done = Vec::new();
        loop {
            let from = next.fetch_add(chunk, Ordering::Relaxed);
            let Some(part) =
                inputs.get(from..(from + chunk).min(inputs.len())).filter(|part| !part.is_empty())
            else {
                return done;
            };
            done.extend(part.iter().zip(from..).map(|(input, at)| (at, f(input))));
        }
    };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        // A panic in a worker continues here, as it would without threads.
        let joined = workers.into_iter().flat_map(|worker| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        own.into_iter().chain(joined).collect()
    });
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}
