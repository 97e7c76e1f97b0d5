//! Intervals of figures: proportions keep a width where nothing varies, and what has none says so.

use candor::internals::eval::{Difference, EqualCost, PricedRun};
use candor::internals::metrics::bootstrap::{Bootstrap, interval, mix};
use candor::internals::metrics::{
    Estimate, Grade, GradedQuestion, GradedSample, METRICS, estimates, metric,
};
use candor::internals::strategy::Strategy;

fn item(id: usize, grade: Grade, answered: bool) -> GradedQuestion {
    GradedQuestion {
        id: format!("q{id:03}"),
        grade,
        answered,
        uncertainty: Some(id as f64),
        confidence: None,
        answerable: Some(true),
        correct_per_byte: Some(grade == Grade::Correct),
        correct_mass: None,
        samples: vec![GradedSample {
            answer: Some(0),
            correct: grade == Grade::Correct,
            confidence: None,
        }],
    }
}

fn found(items: &[GradedQuestion]) -> impl Fn(&str) -> Estimate + use<> {
    let items: Vec<&GradedQuestion> = items.iter().collect();
    let all = estimates(METRICS, &items, &Bootstrap::of(items.len()));
    move |name| *all.iter().find(|found| found.metric.name == name).unwrap()
}

fn check(found: &Estimate, value: f64, low: f64, high: f64) {
    let interval = found.interval.unwrap();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(
        near(found.metric.value.unwrap(), value)
            && near(interval.0, low)
            && near(interval.1, high)
            && !found.constant,
        "{found:?}"
    );
}

#[test]
fn proportions_that_do_not_vary_have_a_width() {
    // scipy.stats.binomtest(k, n).proportion_ci(method="wilson"), scipy 1.17.1: 40 of 40, and 0 of
    // 40.
    let (low, high) = (0.9123783988027133, 0.08762160119728662);
    let all_right = found(&(0..40).map(|i| item(i, Grade::Correct, true)).collect::<Vec<_>>());
    for name in ["accuracy", "acc", "acc_norm", "coverage", "score_t_0", "maj_at_1"] {
        check(&all_right(name), 1.0, low, 1.0);
    }
    for name in [
        "failure_rate",
        "unscored_rate",
        "abstention_rate",
        "selective_risk",
        "unanswerable_precision",
        "unanswerable_recall",
    ] {
        match name {
            // Of nothing: no question was held back, and none is unanswerable.
            "unanswerable_precision" | "unanswerable_recall" => {
                assert_eq!(all_right(name).interval, None, "{name}");
            }
            _ => check(&all_right(name), 0.0, 0.0, high),
        }
    }
    let all_wrong = found(&(0..40).map(|i| item(i, Grade::Incorrect, true)).collect::<Vec<_>>());
    check(&all_wrong("accuracy"), 0.0, 0.0, high);
    check(&all_wrong("selective_risk"), 1.0, low, 1.0);
    let abstained = found(
        &(0..40)
            .map(|i| GradedQuestion { answerable: Some(false), ..item(i, Grade::Incorrect, false) })
            .collect::<Vec<_>>(),
    );
    check(&abstained("unanswerable_precision"), 1.0, low, 1.0);
    check(&abstained("unanswerable_recall"), 1.0, low, 1.0);
    // Every question scores 1, or -3: drawing them again says nothing, and neither does the row.
    let (right, wrong) = (&all_right, &all_wrong);
    for (found, name, value) in [
        (right("truthfulness"), "truthfulness", 1.0),
        (right("score_t_75"), "score_t_75", 1.0),
        (right("aurc"), "aurc", 0.0),
        (wrong("score_t_75"), "score_t_75", -3.0),
        (wrong("aurc"), "aurc", 1.0),
    ] {
        assert_eq!(
            (found.metric.value, found.interval, found.constant),
            (Some(value), None, true),
            "{name}"
        );
        assert_eq!(serde_json::to_value(found).unwrap()["constant"], true);
    }
    assert!(serde_json::to_value(all_right("accuracy")).unwrap().get("constant").is_none());
}

#[test]
fn every_interval_is_of_its_kind_and_holds_its_figure() {
    let grade = |i: usize| {
        [Grade::Correct, Grade::Incorrect, Grade::Correct, Grade::NoAnswer]
            [mix(i as u64) as usize % 4]
    };
    let items: Vec<GradedQuestion> = (0..200)
        .map(|i| GradedQuestion {
            confidence: Some((i % 9) as f64 / 8.0),
            ..item(i, grade(i), i % 3 > 0)
        })
        .collect();
    let of = found(&items);
    let items: Vec<&GradedQuestion> = items.iter().collect();
    let mut with = 0;
    for metric in METRICS {
        let found = of(metric.name);
        match metric.proportion(&items) {
            Some((part, whole)) => {
                assert!(part <= whole && !metric.is_bootstrapped(), "{}", metric.name);
                assert_eq!(
                    found.metric.value,
                    (whole > 0).then(|| part as f64 / whole as f64),
                    "{}",
                    metric.name
                );
                assert_eq!(found.interval.is_some(), whole > 0, "{}", metric.name);
            }
            None => {
                assert!(found.interval.is_none() || metric.is_bootstrapped(), "{}", metric.name);
            }
        }
        if let Some((low, high)) = found.interval {
            let value = found.metric.value.unwrap();
            assert!(low <= value && value <= high && low < high, "{found:?}");
            with += 1;
        }
    }
    assert!(with > 15, "{with} metrics have an interval");
}

#[test]
fn a_difference_that_does_not_vary_says_so() {
    let run = |right: &dyn Fn(usize) -> bool| -> Vec<GradedQuestion> {
        (0..30)
            .map(|i| item(i, if right(i) { Grade::Correct } else { Grade::Incorrect }, i % 2 == 0))
            .collect()
    };
    let (same, other) = (run(&|i| i % 3 == 0), run(&|i| i % 4 == 0));
    let difference = |a: &[GradedQuestion], b: &[GradedQuestion]| {
        let (a, b): (Vec<&GradedQuestion>, Vec<&GradedQuestion>) =
            (a.iter().collect(), b.iter().collect());
        Difference::new(("a", &a), ("b", &b)).unwrap()
    };
    let none = difference(&same, &same);
    assert!(
        none.metrics.len() >= 4
            && none.metrics.iter().all(|figure| figure.constant && figure.interval.estimate == 0.0),
        "{none:?}"
    );
    let some = difference(&same, &other);
    let constant: Vec<&str> =
        some.metrics.iter().filter(|figure| figure.constant).map(|figure| figure.name).collect();
    assert_eq!(
        constant,
        ["coverage"],
        "what is answered is the same, what is right is not: {some:?}"
    );
}

/// A calibration error has no interval: where confidence is calibrated, percentiles of resamples
/// lie above the true value, 0.
#[test]
fn calibration_errors_have_no_interval() {
    let calibrated: Vec<GradedQuestion> = (0..1000)
        .map(|i| {
            let confidence = (mix(i) >> 11) as f64 / (1_u64 << 53) as f64;
            let draw = (mix(i ^ 0xece) >> 11) as f64 / (1_u64 << 53) as f64;
            let grade = if draw < confidence { Grade::Correct } else { Grade::Incorrect };
            GradedQuestion { confidence: Some(confidence), ..item(i as usize, grade, true) }
        })
        .collect();
    let calibrated: Vec<&GradedQuestion> = calibrated.iter().collect();
    let ece = metric("ece").unwrap();
    let percentiles = interval(ece, &calibrated, &Bootstrap::default()).unwrap();
    assert!(percentiles.low > 0.0, "{percentiles:?}");
    for estimate in estimates(METRICS, &calibrated, &Bootstrap::default()) {
        if ["ece", "ece_equal_mass", "smooth_ece"].contains(&estimate.metric.name) {
            assert!(estimate.metric.value.is_some(), "{estimate:?}");
            assert!(estimate.interval.is_none() && !estimate.constant, "{estimate:?}");
        }
    }
}

#[test]
fn accuracy_at_equal_cost_is_read_from_the_curve() {
    type Priced = (GradedQuestion, Vec<f64>);
    let priced = |i: usize, correct: &[bool], forward_tokens: &[f64]| -> Priced {
        let grade = if correct.first() == Some(&true) { Grade::Correct } else { Grade::Incorrect };
        let sample = |&correct: &bool| GradedSample {
            answer: Some(u32::from(correct)),
            correct,
            confidence: None,
        };
        let samples = correct.iter().map(sample).collect();
        (GradedQuestion { samples, ..item(i, grade, true) }, forward_tokens.to_vec())
    };
    let compare = |plain: &[Priced], other: &[Priced]| {
        let run = |name, strategy, questions| PricedRun { name, strategy, questions };
        let pairs = |questions: &'static [Priced]| {
            questions.iter().map(|(item, costs)| (item, costs.as_slice())).collect()
        };
        let (plain, other) = (plain.to_vec().leak(), other.to_vec().leak());
        EqualCost::new(&[
            run("greedy", Strategy::Greedy, pairs(other)),
            run("vote", Strategy::SelfConsistency, pairs(plain)),
        ])
    };
    // Majorities of the first 1, 2, 3: 0, 1/2 (a tie), 1; and 1, 1, 1. Means: 1/2, 3/4, 1.
    let plain = [
        priced(0, &[false, true, true], &[10.0, 20.0, 20.0]),
        priced(1, &[true, true, true], &[6.0, 6.0, 12.0]),
    ];
    let check = |tokens: f64, expected: Option<f64>| {
        let other = [priced(0, &[true], &[tokens]), priced(1, &[false], &[tokens])];
        let found = compare(&plain, &other).unwrap();
        assert_eq!((found.baseline.as_str(), found.samples), ("vote", 3));
        assert_eq!((found.low, found.high), (8.0, 16.0));
        let run = &found.runs[0];
        assert_eq!((run.run.as_str(), run.accuracy, run.forward_tokens), ("greedy", 0.5, tokens));
        assert_eq!(run.baseline, expected, "{tokens} forward tokens");
    };
    check(8.0, Some(0.5));
    check(10.0, Some(0.6));
    check(13.0, Some(0.75));
    check(16.0, Some(1.0));
    check(7.75, None);
    check(16.25, None);
    let one = |i| [priced(i, &[true], &[4.0])];
    // A sample more at no cost: the vote of all counts.
    let flat = [priced(0, &[false, true, true], &[4.0, 4.0, 4.0])];
    assert_eq!(compare(&flat, &one(0)).unwrap().runs[0].baseline, Some(1.0));
    assert_eq!(compare(&flat, &one(7)), None, "other questions");
    assert_eq!(compare(&[priced(0, &[], &[])], &one(0)), None, "no samples");
}
