//! Metrics: against scikit-learn, MAPIE, relplot and scipy (`tests/golden/metrics`), by hand, and
//! against plain twins.
//!
//! A tolerance of 1e-12 is rounding in f64 sums of numbers near 1; wider ones say why.

use std::time::Instant;

use candor::internals::metrics::bootstrap::{
    Bootstrap, PairingError, interval, intervals, paired_difference,
};
use candor::internals::metrics::holm::holm;
use candor::internals::metrics::mcnemar::{Discordant, discordant, p_value, questions_needed};
use candor::internals::metrics::{
    Grade, GradedQuestion, GradedSample, METRICS, Population, binomial, coverage_at_risk, ece,
    maj_at_k, metric, pass_at_k, pool, risk_at_coverage, risk_coverage, score_t, smooth_ece, ties,
};
use proptest::prelude::*;
use serde_json::Value;

const ROUNDING: f64 = 1e-12;

fn golden(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn reference() -> Value {
    golden(include_str!("../golden/metrics/reference.json"))
}

fn uq_nlg() -> Value {
    golden(include_str!("../golden/metrics/uq_nlg.json"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

/// An answered question with a confidence, and its negation as the uncertainty.
fn item(id: usize, confidence: f64, right: bool) -> GradedQuestion {
    GradedQuestion {
        id: format!("q{id:05}"),
        grade: if right { Grade::Correct } else { Grade::Incorrect },
        answered: true,
        uncertainty: Some(-confidence),
        confidence: Some(confidence),
        answerable: None,
        correct_per_byte: None,
        correct_mass: None,
        samples: Vec::new(),
    }
}

fn items(confidence: &[f64], right: &[bool]) -> Vec<GradedQuestion> {
    confidence
        .iter()
        .zip(right)
        .enumerate()
        .map(|(i, (confidence, right))| item(i, *confidence, *right))
        .collect()
}

fn failed(id: usize) -> GradedQuestion {
    GradedQuestion { grade: Grade::NoAnswer, ..item(id, 1.0, false) }
}

fn value(name: &str, items: &[GradedQuestion]) -> Option<f64> {
    let items: Vec<&GradedQuestion> = items.iter().collect();
    metric(name).unwrap().value(&items)
}

/// Checks one metric.
fn check(name: &str, items: &[GradedQuestion], expected: Option<f64>, tolerance: f64) {
    match (value(name, items), expected) {
        (Some(found), Some(expected)) => {
            assert!((found - expected).abs() <= tolerance, "{name}: {found}, expected {expected}");
        }
        (found, expected) => assert_eq!(found, expected, "{name}"),
    }
}

/// ECE as relplot's `binnedECE` has it: the bin is floor(c / (1/10)), so that 0.3, 0.6 and 0.7 fall
/// below their border by rounding, and 1 has a bin of its own.
fn ece_relplot(items: &[&GradedQuestion]) -> Option<f64> {
    let borders: Vec<f64> = (1..=10).map(|bin| f64::from(bin) * 0.1).collect();
    ece::between(items, &borders, ece::Closed::Below)
}

/// ECE as MAPIE has it: ten borders from 0 to 1, so nine bins closed above, and one for 0.
fn ece_mapie(items: &[&GradedQuestion]) -> Option<f64> {
    let borders: Vec<f64> = (0..10).map(|border| f64::from(border) * (1.0 / 9.0)).collect();
    ece::between(items, &borders, ece::Closed::Above)
}

fn check_all(items: &[GradedQuestion], expected: &Value) {
    let borrowed: Vec<&GradedQuestion> = items.iter().collect();
    for (name, expected) in expected.as_object().unwrap() {
        let expected = number(expected);
        // Sums over a grid of up to 10,001 points; relplot adds them in another order.
        let tolerance = if name == "smooth_ece" { 1e-9 } else { ROUNDING };
        match name.as_str() {
            "ece_relplot" => {
                assert!((ece_relplot(&borrowed).unwrap() - expected).abs() < ROUNDING, "{name}");
            }
            "ece_mapie" => {
                assert!((ece_mapie(&borrowed).unwrap() - expected).abs() < ROUNDING, "{name}");
            }
            _ => check(name, items, Some(expected), tolerance),
        }
    }
}

#[test]
fn figures_equal_the_reference() {
    for case in reference()["cases"].as_array().unwrap() {
        let right: Vec<bool> = numbers(&case["right"]).iter().map(|y| *y > 0.5).collect();
        let mut items = items(&numbers(&case["confidence"]), &right);
        check_all(&items, &case["expected"]);
        // Nor in another order.
        items.reverse();
        check_all(&items, &case["expected"]);
        if case["name"].as_str().unwrap().starts_with("all") {
            for name in ["auroc", "prr", "prr_50"] {
                check(name, &items, None, 0.0);
            }
        }
    }
}

/// `made` of `make.py`: confidence and being right as arithmetic on the index.
fn made(n: usize) -> Vec<GradedQuestion> {
    let ratio =
        |i: usize, step: usize, modulus: usize| (i * step % modulus) as f64 / modulus as f64;
    let one = |i: usize| (ratio(i, 7919, 10007), ratio(i, 104_729, 9973));
    (0..n)
        .map(|i| (i, one(i)))
        .map(|(i, (confidence, draw))| item(i, confidence, draw < confidence * confidence))
        .collect()
}

#[test]
fn ten_thousand_questions_equal_the_reference_in_far_less_than_a_second() {
    let items = made(10_000);
    check_all(&items, &reference()["made_10000"]);
    let borrowed: Vec<&GradedQuestion> = items.iter().collect();
    let start = Instant::now();
    assert!(METRICS.iter().all(|metric| metric.evaluate(&borrowed).left_out <= items.len()));
    let elapsed = start.elapsed();
    println!("{} metrics over 10,000 questions: {elapsed:?}", METRICS.len());
    // The limit is for an optimized build on a machine that does something else besides.
    assert!(cfg!(debug_assertions) || elapsed.as_secs_f64() < 1.0, "{elapsed:?}");
}

/// 500 questions with 20 real samples each: the published reference values, to the digits that are
/// published.
#[test]
fn vote_shares_of_real_samples_equal_the_reference() {
    let golden = uq_nlg();
    let mut all = Vec::new();
    for row in golden["votes_right_wrong"].as_array().unwrap() {
        let [votes, right, wrong] = numbers(row)[..] else { panic!("{row}") };
        let share = votes / 20.0;
        all.extend((0..right as usize).map(|_| item(0, share, true)));
        all.extend((0..wrong as usize).map(|_| item(0, share, false)));
    }
    assert_eq!(all.len(), 500);
    check_all(&all, &golden["expected"]);
    for (name, expected) in [
        ("accuracy", 0.648),
        ("auroc", 0.858674),
        ("brier", 0.166035),
        ("aurc", 0.140914),
        ("smooth_ece", 0.139943),
        ("ece", 0.1473),
    ] {
        check(name, &all, Some(expected), 5e-7);
    }
    let borrowed: Vec<&GradedQuestion> = all.iter().collect();
    assert!((ece_relplot(&borrowed).unwrap() - 0.1423).abs() < ROUNDING);
    assert!((ece_mapie(&borrowed).unwrap() - 0.1435).abs() < ROUNDING);
}

/// All orders of a short list.
fn orders(items: &[GradedQuestion]) -> Vec<Vec<GradedQuestion>> {
    if items.len() < 2 {
        return vec![items.to_vec()];
    }
    let first = |i: usize| {
        let mut rest = items.to_vec();
        let head = rest.remove(i);
        orders(&rest).into_iter().map(move |tail| [vec![head.clone()], tail].concat())
    };
    (0..items.len()).flat_map(first).collect()
}

/// The curve without ties: a stable sort by uncertainty, ties in the order given.
fn plain_errors(items: &[GradedQuestion]) -> Vec<f64> {
    let mut sorted: Vec<&GradedQuestion> = items.iter().collect();
    sorted.sort_by(|a, b| a.uncertainty.partial_cmp(&b.uncertainty).unwrap());
    sorted
        .iter()
        .scan(0.0, |errors, item| {
            Some({
                *errors += f64::from(u8::from(!item.is_correct()));
                *errors
            })
        })
        .collect()
}

fn plain_auroc(items: &[GradedQuestion]) -> f64 {
    let pairs = items
        .iter()
        .filter(|a| a.is_correct())
        .flat_map(|a| items.iter().filter(|b| !b.is_correct()).map(move |b| (a, b)));
    let wins: Vec<f64> = pairs
        .map(|(a, b)| {
            if a.uncertainty == b.uncertainty {
                0.5
            } else {
                f64::from(u8::from(a.uncertainty < b.uncertainty))
            }
        })
        .collect();
    wins.iter().sum::<f64>() / wins.len() as f64
}

/// What an AUROC hides: of seven questions three share the highest confidence, and of 3 x 4 pairs
/// of a right and a wrong answer 2 + 2 have the same one.
#[test]
fn saturation_and_ties_are_shares() {
    let confidence = [0.2, 0.8, 0.8, 0.8, 0.2, 0.5, 0.2];
    let right = [true, false, true, true, false, false, false];
    let all = items(&confidence, &right);
    check("saturation", &all, Some(3.0 / 7.0), ROUNDING);
    check("tied_pairs", &all, Some(4.0 / 12.0), ROUNDING);
    let distinct = items(&[0.1, 0.2, 0.3], &[true, false, true]);
    check("saturation", &distinct, Some(1.0 / 3.0), ROUNDING);
    check("tied_pairs", &distinct, Some(0.0), 0.0);
    let unscored = [failed(0), failed(1)];
    check("saturation", &unscored, None, 0.0);
    check("tied_pairs", &unscored, None, 0.0);
    check("tied_pairs", &items(&[0.5, 0.5], &[true, true]), None, 0.0);
}

/// Ties averaged are the mean over all orders of the figure that takes ties as they come.
#[test]
fn tie_averages_are_means_over_all_orders() {
    let confidence = [0.2, 0.8, 0.8, 0.8, 0.2, 0.5, 0.2];
    let right = [true, false, true, true, false, false, false];
    let all = items(&confidence, &right);
    let orders = orders(&all);
    assert_eq!(orders.len(), 5040);
    let n = all.len() as f64;
    let mean = |figure: &dyn Fn(&[f64]) -> f64| {
        orders.iter().map(|order| figure(&plain_errors(order))).sum::<f64>() / orders.len() as f64
    };
    let risk = |errors: &[f64], k: usize| errors[k - 1] / k as f64;
    let aurc = mean(&|errors| (1..=7).map(|k| risk(errors, k)).sum::<f64>() / n);
    check("aurc", &all, Some(aurc), ROUNDING);
    let trapezoids = |errors: &[f64]| {
        errors
            .iter()
            .zip(std::iter::once(&0.0).chain(errors))
            .map(|(a, b)| 0.5 * (a + b))
            .sum::<f64>()
    };
    check("augrc", &all, Some(mean(&|errors| trapezoids(errors) / n / n)), ROUNDING);
    let borrowed: Vec<&GradedQuestion> = all.iter().collect();
    for k in 1..=7 {
        let found = risk_at_coverage(&borrowed, k as f64 / n).unwrap();
        let expected = mean(&|errors| risk(errors, k));
        assert!((found - expected).abs() < ROUNDING, "k = {k}: {found}, expected {expected}");
    }
    check("auroc", &all, Some(plain_auroc(&all)), ROUNDING);
}

/// Ten equal scores: right first 0.177, wrong first 0.823 where order decides; here the error rate,
/// in any order.
#[test]
fn equal_scores_are_worth_nothing_in_any_order() {
    for right_first in [true, false] {
        let right: Vec<bool> = (0..10).map(|i| (i < 5) == right_first).collect();
        let all = items(&[0.5; 10], &right);
        check("aurc", &all, Some(0.5), ROUNDING);
        check("auroc", &all, Some(0.5), ROUNDING);
        check("prr", &all, Some(0.0), ROUNDING);
    }
}

#[test]
fn areas_follow_their_closed_forms() {
    for n in [2, 7, 50, 1000] {
        let all = made(n);
        let found = |name| value(name, &all).unwrap();
        let accuracy = found("accuracy");
        let closed =
            accuracy * (1.0 - accuracy) * (1.0 - found("auroc")) + 0.5 * (1.0 - accuracy).powi(2);
        assert!((found("augrc") - closed).abs() < ROUNDING, "{n}");
        let sum =
            found("brier_reliability") - found("brier_resolution") + found("brier_uncertainty");
        assert!((found("brier") - sum).abs() < ROUNDING, "{n}");
        // A perfect ranking: PRR 1, AUROC 1, E-AURC within r / n above 0.
        let mut perfect = all.clone();
        for (i, item) in perfect.iter_mut().enumerate() {
            item.uncertainty = Some(if item.is_correct() { 0.0 } else { 1.0 + i as f64 });
        }
        let found = |name| value(name, &perfect).unwrap();
        assert!((found("prr") - 1.0).abs() < ROUNDING && found("auroc") == 1.0);
        assert!(
            (-ROUNDING..(1.0 - accuracy) / n as f64).contains(&found("e_aurc")),
            "{}",
            found("e_aurc")
        );
    }
}

/// What has no score is neither the surest nor the least sure, and is counted.
#[test]
fn failures_are_their_own_class() {
    let all = items(&[0.9, 0.8, 0.4, 0.1], &[true, false, true, false]);
    let broken: Vec<GradedQuestion> =
        [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)]
            .into_iter()
            .enumerate()
            .map(|(i, uncertainty)| GradedQuestion {
                uncertainty,
                confidence: uncertainty,
                answered: false,
                ..item(10 + i, 0.5, true)
            })
            .chain([failed(20), failed(21)])
            .collect();
    let with = [all.clone(), broken].concat();
    for name in [
        "auroc",
        "aurc",
        "e_aurc",
        "augrc",
        "prr",
        "brier",
        "log_loss",
        "ece",
        "ece_equal_mass",
        "smooth_ece",
        "selective_risk",
    ] {
        check(name, &with, value(name, &all), ROUNDING);
        let borrowed: Vec<&GradedQuestion> = with.iter().collect();
        let figure = metric(name).unwrap().evaluate(&borrowed);
        assert_eq!((figure.n, figure.left_out), (4, 6), "{name}");
    }
    for (name, expected) in [
        ("accuracy", Some(0.6)),
        ("failure_rate", Some(0.2)),
        ("unscored_rate", Some(0.4)),
        ("coverage", Some(0.4)),
        ("abstention_rate", Some(0.4)),
        ("truthfulness", Some(0.0)),
        ("score_t_75", Some(-0.4)),
        // Half of ten are five, and only four have a score.
        ("risk_at_coverage_50", None),
        ("coverage_at_risk_20", Some(0.1)),
    ] {
        check(name, &with, expected, ROUNDING);
    }
    // Nothing but failures: nothing can be said, and nothing looks perfect.
    let only = [failed(0), failed(1)];
    for (name, expected) in [
        ("accuracy", Some(0.0)),
        ("coverage", Some(0.0)),
        ("failure_rate", Some(1.0)),
        ("score_t_90", Some(0.0)),
    ] {
        check(name, &only, expected, 0.0);
    }
    for name in [
        "selective_risk",
        "auroc",
        "aurc",
        "ece",
        "brier",
        "log_loss",
        "coverage_at_risk_20",
        "risk_at_coverage_50",
        "unanswerable_f1",
    ] {
        check(name, &only, None, 0.0);
    }
}

/// A confidence that is no probability is in no bin, and no figure calls it perfect.
#[test]
fn nonsense_confidence_is_not_perfectly_calibrated() {
    let nonsense = items(&[-3.0, 1.7, 42.0], &[true, false, true]);
    for name in ["ece", "ece_equal_mass", "smooth_ece", "brier", "log_loss"] {
        check(name, &nonsense, None, 0.0);
    }
}

#[test]
fn bins_close_above() {
    // 0.5 is in (0.4, 0.5], alone with 0.45; 0 is in the first bin.
    let all = items(&[0.5, 0.45, 0.55, 0.0], &[true, false, true, false]);
    let borrowed: Vec<&GradedQuestion> = all.iter().collect();
    let found = [1, 2, 10].map(|bins| ece::equal_width(&borrowed, bins).unwrap());
    for (found, expected) in found.into_iter().zip([0.5, 0.5, 0.5].map(|e: f64| e / 4.0)) {
        assert!((found - expected).abs() < ROUNDING, "{found}, expected {expected}");
    }
    assert_eq!([0, 10_001, u32::MAX].map(|bins| ece::equal_width(&borrowed, bins)), [None; 3]);
    assert_eq!(ece::equal_mass(&borrowed, 0), None);
    assert!(
        (ece::equal_mass(&borrowed, u32::MAX).unwrap() - (0.5 + 0.45 + 0.45) / 4.0).abs()
            < ROUNDING
    );
}

#[test]
fn scores_pay_for_silence() {
    assert_eq!([0.0, 0.5, 0.75].map(score_t::penalty), [Some(0.0), Some(1.0), Some(3.0)]);
    assert!((score_t::penalty(0.9).unwrap() - 9.0).abs() < 1e-14);
    assert_eq!([1.0, -0.1, f64::NAN].map(score_t::penalty), [None; 3]);
    let mut all = items(&[0.95, 0.8, 0.6, 0.3], &[true, true, false, false]);
    for (name, expected) in [
        ("score_t_0", 0.5),
        ("score_t_50", 0.0),
        ("truthfulness", 0.0),
        ("score_t_75", -1.0),
        ("score_t_90", -4.0),
    ] {
        check(name, &all, Some(expected), 1e-14);
    }
    all.iter_mut().skip(2).for_each(|item| item.answered = false);
    for (name, expected) in [
        ("score_t_90", 0.5),
        ("coverage", 0.5),
        ("abstention_rate", 0.5),
        ("selective_risk", 0.0),
        ("accuracy", 0.5),
    ] {
        check(name, &all, Some(expected), 0.0);
    }
}

#[test]
fn coverage_at_risk_is_the_largest() {
    // Risks of 1, 1/2, 1/3, 1/4, 2/5: the curve is not monotone.
    let all = items(&[0.9, 0.8, 0.7, 0.6, 0.5], &[false, true, true, true, false]);
    let borrowed: Vec<&GradedQuestion> = all.iter().collect();
    for (risk, expected) in [(0.0, 0.0), (0.25, 0.8), (0.3, 0.8), (0.4, 1.0), (1.0, 1.0)] {
        assert_eq!(coverage_at_risk(&borrowed, risk), Some(expected), "{risk}");
    }
    assert_eq!([f64::NAN, -0.1, 1.1].map(|risk| coverage_at_risk(&borrowed, risk)), [None; 3]);
    for (coverage, expected) in [(0.2, 1.0), (0.21, 0.5), (0.6, 1.0 / 3.0), (0.8, 0.25), (1.0, 0.4)]
    {
        assert_eq!(risk_at_coverage(&borrowed, coverage), Some(expected), "{coverage}");
    }
    assert_eq!(
        [0.0, 1.5, f64::NAN].map(|coverage| risk_at_coverage(&borrowed, coverage)),
        [None; 3]
    );
}

/// A question whose samples are written as `R`ight answers (all one), wrong ones by letter, `-` for
/// no answer.
fn sampled(samples: &str) -> GradedQuestion {
    let sample = |c: char| GradedSample {
        answer: (c != '-').then_some(c as u32),
        correct: c == 'R',
        confidence: None,
    };
    GradedQuestion { samples: samples.chars().map(sample).collect(), ..item(0, 0.5, true) }
}

#[test]
fn votes_of_the_first_samples() {
    let check = |samples: &str, k: usize, maj: Option<f64>, pass: Option<f64>| {
        let question = sampled(samples);
        assert_eq!(maj_at_k(&[&question], k), maj, "maj@{k} of {samples}");
        let found = pass_at_k(&[&question], k);
        assert!(
            found == pass || (found.unwrap() - pass.unwrap()).abs() < ROUNDING,
            "pass@{k} of {samples}: {found:?}, expected {pass:?}"
        );
    };
    check("RabR", 1, Some(1.0), Some(0.5));
    check("RabR", 2, Some(0.5), Some(1.0 - 1.0 / 6.0));
    check("RabR", 3, Some(1.0 / 3.0), Some(1.0));
    check("RabR", 4, Some(1.0), Some(1.0));
    check("RabR", 5, None, None);
    check("RabR", 0, None, None);
    check("aaRR", 4, Some(0.5), Some(1.0));
    // What cannot be read never votes, and never wins.
    check("---R", 4, Some(1.0), Some(1.0));
    check("---R", 3, Some(0.0), Some(0.75));
    check("----", 4, Some(0.0), Some(0.0));
    check("--a-", 4, Some(0.0), Some(0.0));
    check("", 1, None, None);
    // Questions with too few samples are left out, and counted.
    let (long, short) = (sampled("RRRR"), sampled("a"));
    let figure = metric("maj_at_4").unwrap().evaluate(&[&long, &short]);
    assert_eq!((figure.value, figure.n, figure.left_out), (Some(1.0), 1, 1));
    // Unbiased: the mean over all pairs of 6 samples, 2 of them right, has 9 of 15 with a right
    // one.
    check("RaRbcd", 2, Some(0.5), Some(9.0 / 15.0));
}

#[test]
fn discrimination_within_questions() {
    let sample = |right, confidence: f64| GradedSample {
        answer: Some(u32::from(right)),
        correct: right,
        confidence: Some(confidence),
    };
    let question = |samples: &[GradedSample]| GradedQuestion {
        samples: samples.to_vec(),
        ..item(0, 0.5, true)
    };
    let nothing = GradedSample { answer: None, correct: false, confidence: Some(9.0) };
    let a = question(&[sample(true, 0.9), sample(false, 0.5), sample(false, 0.9), nothing]);
    let b = question(&[sample(true, 0.1), sample(false, 0.2)]);
    let one_sided = question(&[sample(true, 0.3), sample(true, 0.4)]);
    let silent = question(&[sample(true, f64::NAN), sample(false, 0.2)]);
    check("wqd", &[a.clone(), b, one_sided.clone(), silent.clone()], Some(1.5 / 3.0), ROUNDING);
    check("wqd", &[one_sided, silent], None, 0.0);
    check("wqd", &[a], Some(0.75), ROUNDING);
}

#[test]
fn abstaining_on_the_unanswerable_equals_the_reference() {
    let golden = &reference()["detection"];
    let flags =
        |key: &str| numbers(&golden[key]).into_iter().map(|flag| flag > 0.5).collect::<Vec<bool>>();
    let question = |(i, (unanswerable, abstained)): (usize, (bool, bool))| GradedQuestion {
        answerable: Some(!unanswerable),
        answered: !abstained,
        ..item(i, 0.5, !unanswerable)
    };
    let mut all: Vec<GradedQuestion> = flags("unanswerable")
        .into_iter()
        .zip(flags("abstained"))
        .enumerate()
        .map(question)
        .collect();
    // Neither failures nor unlabeled questions change a thing.
    all.push(GradedQuestion { answerable: Some(false), answered: false, ..failed(98) });
    all.push(GradedQuestion { answered: false, ..item(99, 0.5, true) });
    for name in ["unanswerable_precision", "unanswerable_recall", "unanswerable_f1"] {
        check(name, &all, golden[name].as_f64(), ROUNDING);
    }
    let answers_all = [GradedQuestion { answerable: Some(false), ..item(0, 0.5, false) }];
    for (name, expected) in [
        ("unanswerable_precision", None),
        ("unanswerable_recall", Some(0.0)),
        ("unanswerable_f1", Some(0.0)),
    ] {
        check(name, &answers_all, expected, 0.0);
    }
}

#[test]
fn binomial_figures_equal_scipy() {
    let golden = reference();
    for row in golden["lower_tail"].as_array().unwrap() {
        let [k, n, p, expected] = numbers(row)[..] else { panic!("{row}") };
        let found = binomial::lower_tail(k as u64, n as u64, p);
        assert!((found - expected).abs() <= 1e-12, "{row}: {found}");
    }
    for row in golden["clopper_pearson"].as_array().unwrap() {
        let [k, n, level, low, high] = numbers(row)[..] else { panic!("{row}") };
        let found = binomial::clopper_pearson(k as u64, n as u64, level).unwrap();
        // scipy solves with a tolerance of its own.
        assert!(
            (found.low - low).abs() < 1e-10 && (found.high - high).abs() < 1e-10,
            "{row}: {found:?}"
        );
    }
    for row in golden["mcnemar"].as_array().unwrap() {
        let [gains, losses, expected] = numbers(row)[..] else { panic!("{row}") };
        let found = p_value(Discordant { gains: gains as u64, losses: losses as u64 });
        assert!((found - expected).abs() <= 1e-12, "{row}: {found}");
    }
    for (k, n, level) in [(0, 0, 0.95), (3, 2, 0.95), (1, 2, 0.0), (1, 2, 1.0), (1, 2, f64::NAN)] {
        assert_eq!(binomial::clopper_pearson(k, n, level), None);
    }
    assert!(
        binomial::lower_tail(1, 2, f64::NAN).is_nan() && binomial::lower_tail(1, 2, -0.1).is_nan()
    );
    assert_eq!([binomial::lower_tail(0, 0, 0.5), binomial::lower_tail(5, 3, 0.5)], [1.0, 1.0]);
    assert_eq!([binomial::lower_tail(1, 3, 0.0), binomial::lower_tail(1, 3, 1.0)], [1.0, 0.0]);
}

#[test]
fn runs_are_paired_by_id() {
    let before = items(&[0.9, 0.8, 0.7], &[true, false, false]);
    let mut after = items(&[0.9, 0.8, 0.7], &[true, true, true]);
    after.reverse();
    let (a, mut b): (Vec<&GradedQuestion>, Vec<&GradedQuestion>) =
        (before.iter().collect(), after.iter().collect());
    assert_eq!(discordant(&a, &b), Ok(Discordant { gains: 2, losses: 0 }));
    assert_eq!(discordant(&b, &a), Ok(Discordant { gains: 0, losses: 2 }));
    b.pop();
    assert_eq!(discordant(&a, &b), Err(PairingError::Unpaired("q00000".into())));
    assert_eq!(discordant(&b, &a), Err(PairingError::Unpaired("q00000".into())));
    b.push(b[0]);
    assert_eq!(discordant(&a, &b), Err(PairingError::Duplicate("q00002".into())));
    assert_eq!(discordant(&b, &a), Err(PairingError::Duplicate("q00002".into())));
    assert_eq!(discordant(&[], &[]), Ok(Discordant { gains: 0, losses: 0 }));
}

#[test]
fn bootstrap_is_deterministic_paired_and_honest() {
    let (before, mut after) = (made(400), made(400));
    after.iter_mut().step_by(7).for_each(|item| item.grade = Grade::Correct);
    let (a, b): (Vec<&GradedQuestion>, Vec<&GradedQuestion>) =
        (before.iter().collect(), after.iter().collect());
    let accuracy = metric("accuracy").unwrap();
    let bootstrap = Bootstrap::default();
    let found = interval(accuracy, &a, &bootstrap).unwrap();
    let (p, n) = (found.estimate, 400.0_f64);
    assert_eq!(Some(p), accuracy.value(&a));
    // The normal interval of a share, whose ends a percentile of 1,000 resamples meets within 0.01.
    let half = 1.96 * (p * (1.0 - p) / n).sqrt();
    assert!(
        (found.low - (p - half)).abs() < 0.01 && (found.high - (p + half)).abs() < 0.01,
        "{found:?}"
    );
    assert_eq!((found.resamples, found.undefined), (1000, 0));
    let mut shuffled = a.clone();
    shuffled.reverse();
    assert_eq!(interval(accuracy, &shuffled, &bootstrap), Some(found));
    assert_ne!(interval(accuracy, &a, &Bootstrap { seed: 1, ..bootstrap }), Some(found));
    // Paired: only the questions that changed matter, so the interval of the difference excludes 0
    // where separate ones overlap.
    let difference = paired_difference(accuracy, &a, &b, &bootstrap).unwrap().unwrap();
    let apart = interval(accuracy, &b, &bootstrap).unwrap();
    assert!(
        difference.low > 0.0 && difference.high - difference.low < apart.high - apart.low,
        "{difference:?}"
    );
    let same = paired_difference(accuracy, &a, &a, &bootstrap).unwrap().unwrap();
    assert_eq!((same.estimate, same.low, same.high), (0.0, 0.0, 0.0));
    assert_eq!(
        paired_difference(accuracy, &a, &b[1..], &bootstrap),
        Err(PairingError::Unpaired("q00000".into()))
    );
    // One wrong answer of 30: a third of the resamples have none, and AUROC cannot be said there.
    let nearly: Vec<bool> = (0..30).map(|i| i > 0).collect();
    let nearly = items(&[0.5; 30], &nearly);
    let nearly: Vec<&GradedQuestion> = nearly.iter().collect();
    assert_eq!(interval(metric("auroc").unwrap(), &nearly, &bootstrap), None);
    for broken in [
        Bootstrap { resamples: 0, ..bootstrap },
        Bootstrap { level: 1.0, ..bootstrap },
        Bootstrap { level: f64::NAN, ..bootstrap },
    ] {
        assert_eq!(interval(accuracy, &a, &broken), None);
    }
    assert_eq!(interval(accuracy, &[], &bootstrap), None);
}

#[test]
fn every_metric_says_what_it_is() {
    let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    for metric in METRICS {
        let is_snake =
            metric.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(
            is_snake
                && !metric.unit.is_empty()
                && !metric.source.is_empty()
                && !metric.summary.is_empty(),
            "{metric:?}"
        );
        assert!(!metric.summary.ends_with('.'), "{}", metric.name);
        assert_eq!(metric.value(&[]), None, "{} of nothing", metric.name);
        assert_eq!(
            metric.higher_is_better.is_none(),
            matches!(
                metric.name,
                "coverage" | "abstention_rate" | "brier_uncertainty" | "saturation" | "tied_pairs"
            ),
            "{}",
            metric.name
        );
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METRICS.len());
    assert!(metric("no_such_metric").is_none());
    let written = serde_json::to_value(metric("aurc").unwrap().evaluate(&[])).unwrap();
    assert_eq!(written, serde_json::json!({"name": "aurc", "value": null, "n": 0, "left_out": 0}));
}

#[test]
fn items_read_with_what_is_missing() {
    let read: GradedQuestion =
        serde_json::from_str(r#"{"id": "a", "grade": "no_answer", "answered": true}"#).unwrap();
    assert!(
        read.has_no_answer()
            && !read.is_answered()
            && read.score().is_none()
            && read.probability().is_none()
    );
    assert_eq!(
        serde_json::from_str::<GradedQuestion>(&serde_json::to_string(&read).unwrap()).unwrap(),
        read
    );
    let sample: GradedSample = serde_json::from_str(r#"{"correct": true}"#).unwrap();
    assert!(!sample.is_correct());
}

#[test]
fn curves_and_pools_of_little() {
    assert_eq!(risk_coverage(&[]).errors, Vec::<f64>::new());
    assert_eq!(smooth_ece(&[]), None);
    assert!(pool::non_decreasing(&[]).is_empty());
    // Minus zero is zero.
    assert_eq!(ties::groups([(0.0, true), (-0.0, false)]).len(), 1);
    let certain = items(&[1.0, 1.0], &[true, true]);
    for (name, expected) in [("ece", 0.0), ("brier", 0.0), ("smooth_ece", 0.0)] {
        check(name, &certain, Some(expected), ROUNDING);
    }
    check("log_loss", &items(&[1.0], &[false]), Some(-f64::EPSILON.ln()), 1e-9);
}

fn any_number() -> impl Strategy<Value = Option<f64>> {
    let odd = prop::sample::select(vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        1.0,
        0.5,
        1e308,
        -1e308,
        5e-324,
        1.5,
    ]);
    prop_oneof![Just(None), odd.prop_map(Some), (0.0..1.0_f64).prop_map(Some)]
}

prop_compose! {
    fn any_item()(
        grade in prop::sample::select(vec![Grade::Correct, Grade::Incorrect, Grade::NoAnswer]),
        answered in any::<bool>(),
        uncertainty in any_number(),
        confidence in any_number(),
        answerable in any::<Option<bool>>(),
        samples in prop::collection::vec((prop::option::of(0..3_u32), any::<bool>(), any_number()), 0..9),
    ) -> GradedQuestion {
        let samples = samples.into_iter().map(|(answer, right, confidence)| GradedSample { answer, correct: right, confidence }).collect();
        GradedQuestion { id: String::new(), grade, answered, uncertainty, confidence, answerable, correct_per_byte: None, correct_mass: None, samples }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever comes in: no panic, finite or nothing, in its range, the same in any order, and
    /// every question is counted once.
    #[test]
    fn every_metric_survives_everything(items in prop::collection::vec(any_item(), 0..40)) {
        let mut borrowed: Vec<&GradedQuestion> = items.iter().collect();
        let all = |questions: &[&GradedQuestion]| -> Vec<_> { METRICS.iter().map(|metric| metric.evaluate(questions)).collect() };
        let found = all(&borrowed);
        borrowed.reverse();
        for (figure, reversed) in found.iter().zip(all(&borrowed)) {
            prop_assert_eq!(figure.n + figure.left_out, items.len());
            prop_assert_eq!(figure.value.is_some(), reversed.value.is_some());
            let Some(value) = figure.value else { continue };
            prop_assert!((value - reversed.value.unwrap()).abs() < 1e-9, "{}: {} and {:?}", figure.name, value, reversed.value);
            let low = match figure.name {
                "score_t_50" | "truthfulness" => -1.0,
                "score_t_75" => -3.0,
                "score_t_90" => -9.1,
                "prr" | "prr_50" => f64::MIN,
                _ => 0.0,
            };
            let high = if figure.name == "log_loss" { 36.1 } else { 1.0 };
            prop_assert!(value >= low - 1e-9 && value <= high + 1e-9, "{}: {}", figure.name, value);
            prop_assert!(value.is_finite() && figure.n > 0 || metric(figure.name).unwrap().population == Population::All);
        }
    }

    /// The pooled fit is monotone, keeps the total, and no other monotone fit of two levels has a
    /// smaller squared error.
    #[test]
    fn pooling_is_the_best_monotone_fit(
        points in prop::collection::vec((0..12_u8, any::<bool>()), 1..40),
        cut in 0..12_u8,
        a in 0.0..1.0_f64,
        b in 0.0..1.0_f64,
    ) {
        let groups = ties::groups(points.iter().map(|(x, right)| (f64::from(*x), *right)));
        let blocks = pool::non_decreasing(&groups);
        prop_assert!(blocks.windows(2).all(|pair| pair[0].share() < pair[1].share() && pair[0].high < pair[1].low));
        let squared = |g: &ties::Group, p: f64| g.correct * (1.0 - p).powi(2) + g.incorrect * p.powi(2);
        let loss = |fit: &dyn Fn(f64) -> f64| groups.iter().map(|group| squared(group, fit(group.value))).sum::<f64>();
        let pooled = loss(&|x| blocks.iter().find(|block| x <= block.high).unwrap().share());
        let other = loss(&|x| if x < f64::from(cut) { a.min(b) } else { a.max(b) });
        prop_assert!(pooled <= other + 1e-9);
    }
}

#[test]
fn wilson_intervals_are_scipys() {
    // python3 -c "from scipy.stats import binomtest as b; print(b(k,
    // n).proportion_ci(method='wilson'))", scipy 1.17.
    let check = |k: u64, n: u64, low: f64, high: f64| {
        let found = binomial::wilson(k, n).unwrap();
        assert!(
            (found.low - low).abs() < ROUNDING && (found.high - high).abs() < ROUNDING,
            "{k} of {n}: {found:?}"
        );
    };
    check(1, 2, 0.09453120573423074, 0.9054687942657693);
    check(0, 10, 0.0, 0.27753279986288926);
    check(7, 10, 0.39677814746114526, 0.892208732593699);
    check(121, 150, 0.7361371418228314, 0.8618811082980816);
    check(10, 10, 0.7224672001371109, 1.0);
    check(3, 1000, 0.0010207838811386186, 0.008783014053503173);
    assert!(binomial::wilson(0, 0).is_none() && binomial::wilson(3, 2).is_none());
}

#[test]
fn intervals_over_shared_resamples_are_those_of_each_metric() {
    let mut all: Vec<GradedQuestion> =
        (0..150).map(|i| item(i, (i * 37 % 23) as f64 / 23.0, i * i % 7 > 2)).collect();
    all.extend([failed(900), GradedQuestion { uncertainty: None, ..item(901, 0.5, true) }]);
    all.reverse();
    let items: Vec<&GradedQuestion> = all.iter().collect();
    let metrics: Vec<_> = ["accuracy", "auroc", "aurc", "prr", "brier", "ece"]
        .iter()
        .map(|name| metric(name).unwrap())
        .collect();
    let bootstrap = Bootstrap { resamples: 60, ..Bootstrap::default() };
    for (metric, found) in metrics.iter().zip(intervals(&metrics, &items, &bootstrap)) {
        let (found, expected) = (found.unwrap(), interval(metric, &items, &bootstrap).unwrap());
        let close = |a: f64, b: f64| (a - b).abs() < ROUNDING;
        assert!(
            close(found.low, expected.low) && close(found.high, expected.high),
            "{}: {found:?}, expected {expected:?}",
            metric.name
        );
        assert_eq!(
            (found.estimate, found.resamples, found.undefined),
            (expected.estimate, expected.resamples, expected.undefined)
        );
    }
    // Where a metric cannot be said, the others still are.
    let right: Vec<&GradedQuestion> =
        items.iter().copied().filter(|item| item.is_correct()).collect();
    let found = intervals(&metrics, &right, &bootstrap);
    assert!(found[0].is_some() && found[1].is_none());
}

/// statsmodels 0.15.0: `multipletests(p, method="holm")[1]`; the sums differ in the last bit.
#[test]
fn corrected_p_values_equal_statsmodels() {
    let check = |p: &[f64], expected: &[f64]| {
        let found = holm(p);
        assert_eq!(found.len(), expected.len(), "{p:?}: {found:?}");
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-15);
        assert!(close, "{p:?}: {found:?}, expected {expected:?}");
    };
    // By hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not be below the one before.
    check(&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]);
    check(&[], &[]);
    check(&[0.03], &[0.03]);
    check(&[0.5, 0.5, 0.5], &[1.0, 1.0, 1.0]);
    check(&[0.2, 0.6, 0.9, 0.04, 0.04, 0.001, 0.7], &[0.8, 1.0, 1.0, 0.24, 0.24, 0.007, 1.0]);
    check(
        &[1e-9, 0.011, 0.0125, 0.024, 0.049, 1.0],
        &[
            6.000000000000001e-9,
            0.05499999999999999,
            0.05499999999999999,
            0.07200000000000001,
            0.098,
            1.0,
        ],
    );
}

#[test]
fn the_number_of_questions_is_that_of_connor() {
    let check = |gains, losses, questions, expected| {
        let found = questions_needed(Discordant { gains, losses }, questions);
        assert_eq!(found, expected, "{gains} gained, {losses} lost of {questions}");
    };
    // za, zb = norm.ppf(.975), norm.ppf(.8); d = (gains + losses) / n; e = (gains - losses) / n;
    // ceil(((za * sqrt(d) + zb * sqrt(d - e * e)) / e) ** 2)
    check(59, 41, 1000, Some(2421));
    check(20, 10, 200, Some(469));
    check(5, 0, 40, Some(61));
    check(130, 100, 1000, Some(2004));
    check(0, 12, 100, Some(63));
    // One gain of one question: d = e = 1, so z^2 = 3.84 alone.
    check(1, 0, 1, Some(4));
    for (gains, losses, questions) in
        [(0, 0, 10), (7, 7, 20), (3, 1, 0), (3, 1, 3), (u64::MAX, 1, 9)]
    {
        check(gains, losses, questions, None);
    }
}
