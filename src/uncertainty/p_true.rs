//! P(True): the model's own judgment of the leading answer; `None` unless a strategy asked for it.

use super::{Direction, Estimator, Needs};

/// See the module.
pub(super) static P_TRUE: Estimator = Estimator {
    name: "p_true",
    unit: "probability",
    direction: Direction::HigherIsMoreConfident,
    needs: Needs::Probe,
    source: "Kadavath et al., arXiv 2207.05221",
    summary: "probability of yes when the model is asked whether the leading answer is correct, 0 \
              to 1",
    score: |evidence| {
        let leader = evidence.vote.leader()?;
        let probes = evidence.generation.probes.iter();
        let mut about = probes.filter(|p| p.name == "p_true" && p.answer == leader.answer);
        about.next().map(|probe| probe.value)
    },
};
