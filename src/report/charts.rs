//! The plots of a report: SVG with a heading and a caption that explains how to read it.
//!
//! Contract: pure. A plot without data is a sentence that says why. A run keeps its color and mark
//! in all plots.

use std::fmt::Write;

use super::svg::{Axis, Plot, Point};
use super::text::fixed;
use super::view::{Mean, RunView};
use crate::decision::Policy;
use crate::metrics::binomial::wilson;
use crate::metrics::{GradedQuestion, risk_coverage, score_t};

/// Maximum number of points of a curve.
const MAX_POINTS: usize = 300;
/// Maximum number of panels of a chart with one panel per run.
const MAX_PANELS: usize = 12;
/// Bins of the reliability diagram, as those of the metric `ece`.
const CONFIDENCE_BINS: usize = 10;
/// Bins of the histograms.
const BINS: usize = 24;
/// The lower end of the score plot.
const MIN_SCORE: f64 = -1.0;

/// A chart of the page. All texts are plain.
#[derive(Debug, Default)]
pub struct Chart {
    /// The heading.
    pub heading: String,
    /// The plots; empty without data.
    pub plots: Vec<String>,
    /// The runs in the legend.
    pub legend: Vec<usize>,
    /// Whether each plot shows one run, in the order of the legend.
    pub panel_per_run: bool,
    /// How to read it, or why it is empty.
    pub caption: String,
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{} %", fixed(100.0 * share, 1))
}

fn items(run: &RunView) -> Vec<&GradedQuestion> {
    run.items.iter().collect()
}

fn all_runs(runs: &[RunView]) -> Vec<usize> {
    (0..runs.len()).collect()
}

/// Every chart, in order.
pub fn all(runs: &[RunView]) -> Vec<Chart> {
    let mut charts =
        vec![risk_and_coverage(runs), scores(runs), accuracy_and_cost(runs), reliability(runs)];
    charts.extend(histograms(runs));
    charts
}

/// Selective risk over coverage, with targets and operating points.
fn risk_and_coverage(runs: &[RunView]) -> Chart {
    let curves: Vec<Vec<(f64, f64)>> = runs.iter().map(risk_curve).collect();
    let operating: Vec<Option<(f64, f64)>> = runs.iter().map(operating_point).collect();
    let most = curves
        .iter()
        .flatten()
        .chain(operating.iter().flatten())
        .map(|(_, risk)| *risk)
        .fold(0.0, f64::max);
    let mut targets: Vec<(f64, bool)> = runs.iter().filter_map(RunView::target).collect();
    targets.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    targets.dedup();
    let most = targets.iter().map(|(alpha, _)| alpha * 1.15).fold(most, f64::max).min(1.0);
    let x = Axis::share("coverage: share of all questions answered");
    let mut plot =
        Plot::new("risk", x, Axis::up_to("selective risk: share of answers incorrect", most));
    for (alpha, joint) in &targets {
        // P(answered and wrong) is coverage times selective risk.
        let risk = |x: f64| if *joint { (alpha / x.max(1e-6)).min(2.0) } else { *alpha };
        let line: Vec<(f64, f64)> =
            (0..=100).map(|i| f64::from(i) / 100.0).map(|x| (x, risk(x))).collect();
        plot.guide(&line);
        plot.note(
            (0.0, risk(0.0).min(most)),
            (4.0, -5.0),
            "start",
            &format!("target alpha = {alpha}"),
        );
    }
    for (series, curve) in curves.iter().enumerate() {
        plot.line(series, curve);
    }
    let mut texts = Vec::new();
    for (series, (run, point)) in runs.iter().zip(&operating).enumerate() {
        let words = operating_text(run, *point);
        if let Some(point) = point {
            plot.mark(series, *point, &words);
        }
        texts.push(words);
    }
    let mut caption =
        "The share of incorrect answers when the most confident questions are answered, over the \
         share answered. Lower is better; equal scores are averaged. Marks show the run's \
         decisions."
            .to_owned();
    for run in runs.iter().filter(|run| run.policy.is_some()) {
        let _ = write!(caption, " {}: {}.", run.label, rule(run));
    }
    Chart {
        heading: "Risk and coverage".into(),
        plots: vec![plot.finish("Selective risk over coverage", &texts.join("; "))],
        legend: all_runs(runs),
        panel_per_run: false,
        caption,
    }
}

/// Coverage and risk of the k most confident questions, thinned.
pub fn risk_curve(run: &RunView) -> Vec<(f64, f64)> {
    let curve = risk_coverage(&items(run));
    let (scored, all) = (curve.scored(), curve.questions as f64);
    let every = scored.div_ceil(MAX_POINTS).max(1);
    let points = curve.risks().enumerate().filter(|(at, _)| at % every == 0 || at + 1 == scored);
    points.map(|(at, risk)| ((at + 1) as f64 / all, risk)).collect()
}

fn operating_point(run: &RunView) -> Option<(f64, f64)> {
    Some((run.metric("coverage")?.metric.value?, run.metric("selective_risk")?.metric.value?))
}

fn operating_text(run: &RunView, point: Option<(f64, f64)>) -> String {
    let counts = run.counts;
    let given = counts.correct + counts.incorrect;
    let rule = rule(run);
    match point.and_then(|_| wilson(counts.incorrect as u64, given as u64)) {
        Some(interval) => format!(
            "{} answers {given} of {}, {} of them incorrect (95 % interval {} to {}; {rule})",
            run.label,
            run.questions,
            percent(counts.incorrect as f64 / given as f64),
            fixed(100.0 * interval.low, 1),
            percent(interval.high)
        ),
        None => format!("{} answers none of {} ({rule})", run.label, run.questions),
    }
}

/// The rule by which the run answers.
fn rule(run: &RunView) -> String {
    match run.policy.as_ref().map(crate::calibration::PolicyFile::policy) {
        None => "uncalibrated".to_owned(),
        Some(Policy::MaxUncertainty { max_uncertainty }) => {
            format!("threshold: uncertainty at most {}", fixed(max_uncertainty, 4))
        }
        Some(Policy::MinConfidence { min_confidence }) => {
            format!("threshold: confidence above {min_confidence}")
        }
        Some(Policy::Uncertified) => "nothing could be certified".to_owned(),
        Some(Policy::MinVoteShare { min_vote_share }) => {
            format!("threshold: vote share at least {min_vote_share}")
        }
    }
}

/// Accuracy over both kinds of cost, one point per run.
fn accuracy_and_cost(runs: &[RunView]) -> Chart {
    let plot = |id: &str, label: &str, cost: &dyn Fn(&RunView) -> Option<Mean>| {
        let costs: Vec<Option<Mean>> = runs.iter().map(cost).collect();
        let ends = costs
            .iter()
            .flatten()
            .flat_map(|mean| [mean.mean, mean.low.max(mean.mean * 0.2), mean.high]);
        let mut plot = Plot::new(
            id,
            Axis::factors(label, ends),
            Axis::share("accuracy: leading answers correct"),
        );
        let (mut texts, mut points) = (Vec::new(), Vec::new());
        for (series, (run, mean)) in runs.iter().zip(&costs).enumerate() {
            let (Some(mean), Some(view)) = (mean, run.metric("accuracy")) else { continue };
            let (Some(accuracy), Some(interval)) = (view.metric.value, view.interval) else {
                continue;
            };
            let point = Point {
                at: (mean.mean, accuracy),
                along_x: (mean.low.max(mean.mean * 0.01), mean.high),
                along_y: interval,
                name: &run.label,
            };
            plot.whisker_y(series, mean.mean, point.along_y);
            plot.whisker_x(series, point.along_x, accuracy);
            points.push(point);
            let words = format!(
                "{}: accuracy {} at {} {label}",
                run.label,
                percent(accuracy),
                short(mean.mean)
            );
            plot.mark(series, (mean.mean, accuracy), &words);
            texts.push(words);
        }
        // A single point is named by the legend.
        if points.len() > 1 {
            plot.names(&points);
        }
        (!texts.is_empty())
            .then(|| plot.finish(&format!("Accuracy over {label}"), &texts.join("; ")))
    };
    let tokens = plot("tokens", "forward tokens per question", &|run| {
        run.forward_tokens.filter(|mean| mean.mean > 0.0)
    });
    let seconds =
        plot("seconds", "seconds per question", &|run| run.seconds.filter(|mean| mean.mean > 0.0));
    let plots: Vec<String> = tokens.into_iter().chain(seconds).collect();
    let caption = if plots.is_empty() {
        "No record has a cost.".to_owned()
    } else {
        "Accuracy over cost, one point per run with 95 % intervals; the horizontal scale is \
         logarithmic. Forward tokens are the rows computed after the prompt; samples that agree \
         share them. Seconds are from a question's start to its last token among the other \
         questions of its batch, so they depend on the machine and on the batch."
            .to_owned()
    };
    Chart {
        heading: "Accuracy and cost".into(),
        plots,
        legend: all_runs(runs),
        panel_per_run: false,
        caption,
    }
}

/// About three significant digits.
pub fn short(value: f64) -> String {
    let magnitude = value.abs();
    fixed(
        value,
        if magnitude >= 100.0 {
            0
        } else if magnitude >= 10.0 {
            1
        } else if magnitude >= 1.0 {
            2
        } else {
            3
        },
    )
}

/// The score that penalizes incorrect answers, over the penalty.
fn scores(runs: &[RunView]) -> Chart {
    let grid: Vec<f64> = (0..=45).map(|i| f64::from(i) / 50.0).collect();
    let axis = Axis { high: 0.9, ..Axis::share("t: an incorrect answer costs t / (1 - t)") };
    let mut plot =
        Plot::new("score", axis, Axis::between("mean score per question", MIN_SCORE, 1.0));
    plot.guide(&[(0.0, 0.0), (0.9, 0.0)]);
    plot.note((0.9, 0.0), (-2.0, -5.0), "end", "always abstain");
    let mut texts = Vec::new();
    for (series, run) in runs.iter().enumerate() {
        let items = items(run);
        let points: Vec<(f64, f64)> =
            grid.iter().filter_map(|t| Some((*t, score_t::score_t(&items, *t)?))).collect();
        plot.line(series, &points);
        let breaks_even = points.iter().take_while(|(_, score)| *score > 0.0).last();
        texts.push(match breaks_even {
            Some((t, _)) => format!("{} beats abstaining up to t = {}", run.label, fixed(*t, 2)),
            None => format!("{} never beats abstaining", run.label),
        });
    }
    let caption = format!(
        "Correct +1, abstained 0, incorrect -t / (1 - t), mean over all questions, for the \
         recorded decisions. At t an answer is worth giving if it is correct with a probability \
         above t; a run that answers too much falls below the line of abstaining. Scores below \
         {MIN_SCORE} are cut off. {}.",
        texts.join("; ")
    );
    Chart {
        heading: "Score with a penalty for errors".into(),
        plots: vec![plot.finish("Mean score over t", &texts.join("; "))],
        legend: all_runs(runs),
        panel_per_run: false,
        caption,
    }
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Questions.
    pub n: usize,
    /// Correct answers among them.
    pub correct: usize,
    /// Sum of confidences.
    pub confidence: f64,
}

/// Bins of equal width, closed above, as those of the metric `ece`.
pub fn bins(items: &[&GradedQuestion]) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); CONFIDENCE_BINS];
    for (item, confidence) in items.iter().filter_map(|item| Some((item, item.probability()?))) {
        let borders = (1..CONFIDENCE_BINS).map(|border| border as f64 / CONFIDENCE_BINS as f64);
        let at = borders.take_while(|border| *border < confidence).count();
        if let Some(bin) = bins.get_mut(at) {
            bin.n += 1;
            bin.correct += usize::from(item.is_correct());
            bin.confidence += confidence;
        }
    }
    bins
}

fn reliability(runs: &[RunView]) -> Chart {
    let calibrated: Vec<usize> = (0..runs.len())
        .filter(|at| {
            runs.get(*at)
                .is_some_and(|run| run.items.iter().any(|item| item.probability().is_some()))
        })
        .collect();
    let without: Vec<&str> = runs
        .iter()
        .enumerate()
        .filter(|(at, _)| !calibrated.contains(at))
        .map(|(_, run)| run.label.as_str())
        .collect();
    let mut caption = String::new();
    if !calibrated.is_empty() {
        caption.push_str(
            "Calibrated confidence against the share correct, in ten bins: a calibrated run lies \
             on the diagonal. Bars are Wilson's 95 % intervals; the numbers above are questions in \
             the bin. ",
        );
    }
    match without.as_slice() {
        [] => {}
        [one] => {
            let _ = write!(
                caption,
                "{one} is uncalibrated: it has no confidence, and agreement is not a probability \
                 of being correct."
            );
        }
        many => {
            let names = many.join(", ");
            let _ = write!(
                caption,
                "{names} are uncalibrated: they have no confidence, and agreement is not a \
                 probability of being correct."
            );
        }
    }
    let plots = calibrated
        .iter()
        .take(MAX_PANELS)
        .filter_map(|at| Some(reliability_of(*at, runs.get(*at)?)))
        .collect();
    Chart { heading: "Reliability".into(), plots, legend: calibrated, panel_per_run: true, caption }
}

fn reliability_of(series: usize, run: &RunView) -> String {
    let y = Axis::share("share of answers correct");
    let mut plot = Plot::new(
        &format!("reliability{series}"),
        Axis::share("confidence: calibrated probability of being correct"),
        y,
    );
    plot.guide(&[(0.0, 0.0), (1.0, 1.0)]);
    let (mut line, mut marks, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for (at, bin) in bins(&items(run)).into_iter().enumerate().filter(|(_, bin)| bin.n > 0) {
        let (confidence, share) =
            (bin.confidence / bin.n as f64, bin.correct as f64 / bin.n as f64);
        if let Some(interval) = wilson(bin.correct as u64, bin.n as u64) {
            plot.whisker_y(series, confidence, (interval.low, interval.high));
        }
        plot.note(
            ((at as f64 + 0.5) / CONFIDENCE_BINS as f64, 1.0),
            (0.0, -3.0),
            "middle",
            &bin.n.to_string(),
        );
        let words =
            format!("confidence {}: {} of {} correct", percent(confidence), bin.correct, bin.n);
        line.push((confidence, share));
        marks.push(((confidence, share), words.clone()));
        texts.push(words);
    }
    plot.line(series, &line);
    for (point, words) in &marks {
        plot.mark(series, *point, words);
    }
    plot.finish(&format!("Reliability of {}", run.label), &texts.join("; "))
}

/// Histograms of the uncertainty, correct answers up and incorrect ones down.
fn histograms(runs: &[RunView]) -> Option<Chart> {
    let found: Vec<(usize, String)> = runs
        .iter()
        .enumerate()
        .take(MAX_PANELS)
        .filter_map(|(series, run)| Some((series, histogram(series, run)?)))
        .collect();
    let (legend, plots): (Vec<usize>, Vec<String>) = found.into_iter().unzip();
    let mut caption =
        "The uncertainty that decides: correct answers above, incorrect ones below (hatched). The \
         further apart the two, the better a threshold can separate them; the dashed line is the \
         policy's threshold. Questions without an answer have no uncertainty and are not shown."
            .to_owned();
    if runs.len() > MAX_PANELS {
        let _ = write!(caption, " Only the first {MAX_PANELS} runs are shown.");
    }
    (!plots.is_empty()).then(|| Chart {
        heading: "Uncertainty of correct and incorrect answers".into(),
        plots,
        legend,
        panel_per_run: true,
        caption,
    })
}

fn histogram(series: usize, run: &RunView) -> Option<String> {
    let scored: Vec<(f64, bool)> =
        run.items.iter().filter_map(|item| Some((item.score()?, item.is_correct()))).collect();
    let (low, high) =
        scored.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), (score, _)| {
            (a.min(*score), b.max(*score))
        });
    if scored.is_empty() {
        return None;
    }
    let threshold = run
        .policy
        .as_ref()
        .and_then(|policy| policy.threshold())
        .map(|threshold| threshold.max_uncertainty);
    let axis = Axis::between(
        &format!("uncertainty: {}", run.uncertainty_name()),
        low,
        high.max(threshold.unwrap_or(high)),
    );
    let width = (axis.high - axis.low) / BINS as f64;
    let mut counts = [(0_usize, 0_usize); BINS];
    for (score, right) in &scored {
        let at = (((score - axis.low) / width) as usize).min(BINS - 1);
        if let Some((up, down)) = counts.get_mut(at) {
            if *right { *up += 1 } else { *down += 1 }
        }
    }
    let most =
        |side: &dyn Fn(&(usize, usize)) -> usize| counts.iter().map(side).max().unwrap_or(0) as f64;
    let y =
        Axis::mirrored("questions: incorrect below, correct above", most(&|c| c.1), most(&|c| c.0));
    let (start, end) = (axis.low, axis.high);
    let mut plot = Plot::new(&format!("spread{series}"), axis, y);
    for (at, (up, down)) in counts.into_iter().enumerate() {
        let (from, to) = (start + at as f64 * width, start + (at + 1) as f64 * width);
        let range = format!("uncertainty {} to {}", short(from), short(to));
        if up > 0 {
            plot.bar("correct", (from, to), (0.0, up as f64), &format!("{range}: {up} correct"));
        }
        if down > 0 {
            plot.bar(
                "hatched",
                (from, to),
                (0.0, -(down as f64)),
                &format!("{range}: {down} incorrect"),
            );
        }
    }
    plot.baseline(0.0);
    if let Some(threshold) = threshold {
        plot.rule_x(threshold);
        let near_end = threshold > f64::midpoint(start, end);
        let (dx, anchor) = if near_end { (-5.0, "end") } else { (5.0, "start") };
        plot.corner_note(threshold, dx, anchor, &format!("answers up to {}", fixed(threshold, 3)));
    }
    let right = scored.iter().filter(|(_, right)| *right).count();
    let description = format!(
        "{right} correct and {} incorrect answers from {} to {}",
        scored.len() - right,
        short(low),
        short(high)
    );
    Some(plot.finish(&format!("Uncertainty of {}", run.label), &description))
}
