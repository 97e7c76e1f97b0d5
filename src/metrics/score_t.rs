//! The score with a penalty for incorrect answers: correct +1, abstained 0, incorrect -t/(1-t),
//! mean over all questions. An answer that is correct with probability p is worth giving exactly if
//! p > t. t = 0 is the accuracy of the answers given, t = 0.75 costs 3 for an incorrect answer.
//!
//! A question without an answer scores 0. The decisions are those that were made.

use super::{Formula, GradedQuestion, Metric, Population, count};

/// The cost of an incorrect answer: t / (1 - t), 0 or more. `None` unless 0 <= t < 1.
pub fn penalty(t: f64) -> Option<f64> {
    (0.0..1.0).contains(&t).then(|| t / (1.0 - t))
}

/// The mean score at `t` of the decisions as they were made, -t/(1-t) to 1, higher is better (Kalai
/// et al., arXiv 2509.04664). `None` without questions, or unless 0 <= t < 1.
pub fn score_t(questions: &[&GradedQuestion], t: f64) -> Option<f64> {
    mean_score(questions, t, GradedQuestion::is_answered)
}

fn mean_score(
    questions: &[&GradedQuestion],
    t: f64,
    is_answered: impl Fn(&GradedQuestion) -> bool,
) -> Option<f64> {
    let correct =
        count(questions, |question| is_answered(question) && question.is_correct()) as f64;
    let incorrect =
        count(questions, |question| is_answered(question) && !question.is_correct()) as f64;
    (!questions.is_empty()).then_some((correct - penalty(t)? * incorrect) / questions.len() as f64)
}

const SOURCE: &str =
    "Kalai et al., arXiv 2509.04664: explicit confidence targets, penalty t / (1 - t)";

const SCORE_T: Metric = Metric {
    name: "score_t_0",
    unit: "score",
    higher_is_better: Some(true),
    population: Population::All,
    source: SOURCE,
    summary: "correct +1, abstained 0, incorrect 0, per question, 0 to 1",
    // The penalty is 0, so it is the share of correct answers given.
    formula: Formula::Proportion(|questions| {
        (
            count(questions, |question| question.is_answered() && question.is_correct()),
            questions.len(),
        )
    }),
};

/// t = 0: share of all questions answered correctly.
pub(super) static SCORE_T_0: Metric = SCORE_T;

/// t = 0.5.
pub(super) static SCORE_T_50: Metric = Metric {
    name: "score_t_50",
    summary: "correct +1, abstained 0, incorrect -1, per question, -1 to 1",
    formula: Formula::Bootstrapped(|questions| score_t(questions, 0.5)),
    ..SCORE_T
};

/// t = 0.75.
pub(super) static SCORE_T_75: Metric = Metric {
    name: "score_t_75",
    summary: "correct +1, abstained 0, incorrect -3, per question, -3 to 1",
    formula: Formula::Bootstrapped(|questions| score_t(questions, 0.75)),
    ..SCORE_T
};

/// t = 0.9.
pub(super) static SCORE_T_90: Metric = Metric {
    name: "score_t_90",
    summary: "correct +1, abstained 0, incorrect -9, per question, -9 to 1",
    formula: Formula::Bootstrapped(|questions| score_t(questions, 0.9)),
    ..SCORE_T
};
