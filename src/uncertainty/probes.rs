//! Scores of further passes about the leading answer; `None` unless a strategy recorded one.

use super::{Direction, Estimator, Evidence, Formula, Needs};

/// Every score of a probe.
pub(super) const ESTIMATORS: &[Estimator] = &[
    Estimator {
        name: "p_true",
        unit: "probability",
        direction: Direction::HigherIsMoreConfident,
        needs: Needs::Probe,
        source: "Kadavath et al., arXiv 2207.05221",
        summary: "probability of yes when the model is asked whether the leading answer is \
                  correct, 0 to 1",
        formula: Formula::Evidence(|evidence| probe(evidence, "p_true")),
    },
    Estimator {
        name: "verbalized",
        unit: "probability",
        direction: Direction::HigherIsMoreConfident,
        needs: Needs::Probe,
        source: "Tian et al., arXiv 2305.14975, two stages",
        summary: "probability that the model states when it is asked how likely the leading answer \
                  is correct, 0 to 1",
        formula: Formula::Evidence(|evidence| probe(evidence, "verbalized")),
    },
    Estimator {
        name: "clustered_self_assessment",
        unit: "probability",
        direction: Direction::HigherIsMoreConfident,
        needs: Needs::Probe,
        source: "arXiv 2606.03846",
        summary: "probability of the leading answer when the model chooses among all distinct \
                  answers, 0 to 1",
        formula: Formula::Evidence(|evidence| probe(evidence, "clustered_self_assessment")),
    },
];

/// The first recorded value of a probe about the leading answer.
fn probe(evidence: &Evidence<'_>, name: &str) -> Option<f64> {
    let leader = evidence.vote.leader()?;
    let mut probes = evidence.generation.probes.iter();
    probes.find(|p| p.name == name && p.answer == leader.answer).map(|probe| probe.value)
}
