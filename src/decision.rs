//! Decisions: a policy over the vote and the scores, with a reason for abstaining.
//!
//! Contract: pure and total; abstaining is a value, never an error. A policy that needs a score
//! abstains without one. [`Policy::MinVoteShare`] is uncalibrated: it requires a share of samples
//! to agree and guarantees nothing about correctness. The other policies come from a policy file,
//! see `calibration`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::consensus::Vote;
use crate::error::{Error, Result};
use crate::generation::Probe;
use crate::uncertainty::{Confidence, Uncertainty};

/// The decision on one prompt.
///
/// In JSON: `{"decision": "answer", "reason": null}` or
/// `{"decision": "abstain", "reason": {"code": "no_consensus", "samples": 8, ..., "detail": "only 3
/// of 8 ..."}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "DecisionJson", try_from = "DecisionJson")]
pub enum Decision {
    /// Give the leading answer.
    Answer,
    /// Give no answer, for this reason.
    Abstain(AbstainReason),
}

impl Decision {
    /// Whether an answer is given.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Answer)
    }

    /// The reason for abstaining; `None` for an answer.
    pub fn reason(&self) -> Option<&AbstainReason> {
        match self {
            Self::Answer => None,
            Self::Abstain(reason) => Some(reason),
        }
    }
}

/// Why no answer is given. Its `Display` is one sentence for people, [`AbstainReason::code`] one
/// word for programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum AbstainReason {
    /// No sample finished: each had a numerical error or was cancelled.
    NumericalError {
        /// Samples drawn.
        samples: usize,
    },
    /// Every sample was cut by the length limit or ended in a loop.
    Truncated {
        /// Samples drawn.
        samples: usize,
    },
    /// No sample has an answer.
    Unparsable {
        /// Samples drawn.
        samples: usize,
        /// Samples that ended without an answer.
        unparsed: usize,
        /// Samples cut by the length limit or ended in a loop.
        truncated: usize,
        /// Samples with a numerical error, or cancelled.
        failed: usize,
    },
    /// Several answers tie for the first place.
    Tie {
        /// Samples drawn.
        samples: usize,
        /// Number of tied answers.
        answers: usize,
        /// Weight of each.
        weight: f64,
    },
    /// The leading samples say that the model does not know.
    ModelAbstained {
        /// Samples drawn.
        samples: usize,
        /// Weight of these samples.
        weight: f64,
    },
    /// Too few samples agree.
    NoConsensus {
        /// Samples drawn.
        samples: usize,
        /// Weight of the leading answer.
        weight: f64,
        /// The leading answer's share of all samples drawn, 0 to 1.
        vote_share: f64,
        /// The share that the policy requires.
        min_vote_share: f64,
    },
    /// The policy needs a score, but there is none.
    NoScore,
    /// The score is above the calibrated threshold.
    HighUncertainty {
        /// The score.
        uncertainty: f64,
        /// The threshold.
        max_uncertainty: f64,
    },
    /// The policy's target could not be certified, so it answers nothing.
    Uncertified,
    /// A critic rejects the answer.
    Vetoed {
        /// The probability that it accepts it, 0 to 1.
        value: f64,
        /// What the strategy requires.
        required: f64,
    },
    /// The model takes the answer back when it is contradicted.
    Flipped {
        /// The share of replies that keep it, 0 to 1.
        value: f64,
        /// What the strategy requires.
        required: f64,
    },
    /// What the model or a reference says beside speaks against the answer.
    Contradicted {
        /// The support that was found, 0 to 1.
        value: f64,
        /// What the strategy requires.
        required: f64,
    },
    /// The answer depends on the wording or the language of the question.
    Disagreement {
        /// The share of variants that lead to it, 0 to 1.
        value: f64,
        /// What the strategy requires.
        required: f64,
    },
    /// The model would rather say something else than name an option.
    LowMass {
        /// The probability that it names one, 0 to 1.
        value: f64,
        /// What the strategy requires.
        required: f64,
    },
    /// The calibrated probability of being correct is too small.
    LowConfidence {
        /// The probability.
        confidence: f64,
        /// What the policy requires.
        min_confidence: f64,
    },
}

impl AbstainReason {
    /// The reason as one `snake_case` word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NumericalError { .. } => "numerical_error",
            Self::Truncated { .. } => "truncated",
            Self::Unparsable { .. } => "unparsable",
            Self::Tie { .. } => "tie",
            Self::ModelAbstained { .. } => "model_abstained",
            Self::NoConsensus { .. } => "no_consensus",
            Self::NoScore => "no_score",
            Self::HighUncertainty { .. } => "high_uncertainty",
            Self::Uncertified => "uncertified",
            Self::LowConfidence { .. } => "low_confidence",
            Self::Vetoed { .. } => "vetoed",
            Self::Flipped { .. } => "flipped",
            Self::Contradicted { .. } => "contradicted",
            Self::Disagreement { .. } => "disagreement",
            Self::LowMass { .. } => "low_mass",
        }
    }
}

/// The reason if a probe about the leading answer is below what its strategy requires.
pub fn failed_probe(vote: &Vote, probes: &[Probe]) -> Option<AbstainReason> {
    let leader = vote.leader()?;
    let about = probes.iter().filter(|probe| probe.answer == leader.answer);
    let failed = about.filter_map(|probe| Some((probe, probe.required?)));
    let (probe, required) = failed
        .into_iter()
        .find(|(probe, required)| probe.value.is_nan() || probe.value < *required)?;
    let value = probe.value;
    Some(match probe.name.as_str() {
        "p_accept" => AbstainReason::Vetoed { value, required },
        "kept" | "premise_kept" => AbstainReason::Flipped { value, required },
        "agreement" => AbstainReason::Disagreement { value, required },
        "mass_on_labels" => AbstainReason::LowMass { value, required },
        _ => AbstainReason::Contradicted { value, required },
    })
}

impl fmt::Display for AbstainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NumericalError { samples } => {
                write!(f, "{} ended with a numerical error or was cancelled", each_of(*samples))
            }
            Self::Truncated { samples } => {
                write!(f, "{} was cut by the length limit or repeated itself", each_of(*samples))
            }
            Self::Unparsable { samples: 0, .. } => f.write_str("no sample was drawn"),
            Self::Unparsable { samples, truncated: 0, failed: 0, .. } => {
                write!(f, "{} ended without a readable answer", each_of(*samples))
            }
            Self::Unparsable { samples, unparsed, truncated, failed } => write!(
                f,
                "none of {samples} samples gave an answer: {unparsed} could not be read, \
                 {truncated} were cut by the length limit or repeated themselves, \
                 {failed} failed or were cancelled"
            ),
            Self::Tie { samples, answers, weight } => {
                write!(
                    f,
                    "{answers} different answers share the first place, with {weight} of \
                     {samples} samples each"
                )
            }
            Self::ModelAbstained { samples, weight } => {
                write!(f, "{weight} of {samples} samples say that they do not know")
            }
            Self::NoConsensus { weight, vote_share, min_vote_share, .. }
                if weight.fract() > 0.0 =>
            {
                write!(
                    f,
                    "the leading answer has a share of {vote_share:.2}; {min_vote_share:.2} is \
                     required"
                )
            }
            Self::NoConsensus { samples, weight, vote_share, min_vote_share } => {
                write!(
                    f,
                    "only {weight} of {samples} samples agree on the leading answer \
                     ({vote_share:.2}); {min_vote_share:.2} is required"
                )
            }
            Self::NoScore => f.write_str("there is no uncertainty score"),
            Self::HighUncertainty { uncertainty, max_uncertainty } => {
                write!(
                    f,
                    "the uncertainty is {uncertainty:.4}; at most {max_uncertainty:.4} is allowed"
                )
            }
            Self::Uncertified => {
                f.write_str("the policy could not be certified, so it answers nothing")
            }
            Self::Vetoed { value, required } => write!(
                f,
                "a critic accepts the leading answer with probability {value:.2}; {required:.2} is \
                 required"
            ),
            Self::Flipped { value, required } => write!(
                f,
                "{value:.2} of the replies keep the leading answer when it is doubted; \
                 {required:.2} is required"
            ),
            Self::Contradicted { value, required } => write!(
                f,
                "the support for the leading answer is {value:.2}; {required:.2} is required"
            ),
            Self::Disagreement { value, required } => write!(
                f,
                "{value:.2} of the wordings and languages of the question lead to this answer; \
                 {required:.2} is required"
            ),
            Self::LowMass { value, required } => write!(
                f,
                "the model would name an option with probability {value:.2}; {required:.2} is \
                 required"
            ),
            Self::LowConfidence { confidence, min_confidence } => {
                write!(
                    f,
                    "the answer is correct with probability {confidence:.2}; more than \
                     {min_confidence:.2} is required"
                )
            }
        }
    }
}

fn each_of(samples: usize) -> String {
    if samples == 1 {
        "the only sample".to_owned()
    } else {
        format!("each of the {samples} samples")
    }
}

/// When to answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case")]
pub enum Policy {
    /// Uncalibrated: answer if at least this share of all samples drawn agrees and no other answer
    /// ties.
    MinVoteShare {
        /// The share, 0 to 1.
        min_vote_share: f64,
    },
    /// Calibrated: answer if the uncertainty is at most a threshold.
    MaxUncertainty {
        /// The threshold, in the units of the score.
        max_uncertainty: f64,
    },
    /// Calibrated: answer if the confidence exceeds a probability.
    MinConfidence {
        /// The probability, 0 to below 1.
        min_confidence: f64,
    },
    /// No threshold could be certified, so nothing is answered.
    Uncertified,
}

impl Default for Policy {
    /// Half of the samples.
    fn default() -> Self {
        Self::MinVoteShare { min_vote_share: 0.5 }
    }
}

impl Policy {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A usage error that names the parameter, its value and its range.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::MinVoteShare { min_vote_share: x } => {
                check("min_vote_share", *x, (0.0..=1.0).contains(x), "0 to 1")
            }
            Self::MaxUncertainty { max_uncertainty: x } => {
                check("max_uncertainty", *x, x.is_finite(), "finite")
            }
            Self::MinConfidence { min_confidence: x } => {
                check("min_confidence", *x, (0.0..1.0).contains(x), "0 to below 1")
            }
            Self::Uncertified => Ok(()),
        }
    }

    /// Decides. Without votes or with a tie no policy answers. The reason is the first that
    /// applies: all samples failed, all cut, none readable, a tie, the model does not know, then
    /// the policy's own.
    pub fn decide(
        &self,
        vote: &Vote,
        uncertainty: Option<Uncertainty>,
        confidence: Option<Confidence>,
    ) -> Decision {
        let reason = no_winner(vote).or_else(|| match self {
            Self::MinVoteShare { min_vote_share } => below_min_share(vote, *min_vote_share),
            Self::MaxUncertainty { max_uncertainty } => {
                above_max_uncertainty(uncertainty, *max_uncertainty)
            }
            Self::MinConfidence { min_confidence } => {
                below_min_confidence(confidence, *min_confidence)
            }
            Self::Uncertified => Some(AbstainReason::Uncertified),
        });
        reason.map_or(Decision::Answer, Decision::Abstain)
    }
}

fn check(name: &str, value: f64, holds: bool, range: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::usage(format!("{name} is {value}; it must be {range}"))) }
}

/// The reason for having no winner.
fn no_winner(vote: &Vote) -> Option<AbstainReason> {
    let samples = vote.samples();
    let Some(leader) = vote.leader() else {
        let truncated = vote.truncated + vote.loops;
        return Some(match (samples > 0, vote.failed == samples, truncated == samples) {
            (true, true, _) => AbstainReason::NumericalError { samples },
            (true, _, true) => AbstainReason::Truncated { samples },
            _ => AbstainReason::Unparsable {
                samples,
                unparsed: vote.unparsed,
                truncated,
                failed: vote.failed,
            },
        });
    };
    let answers = vote
        .clusters
        .iter()
        .filter(|cluster| cluster.weight.total_cmp(&leader.weight).is_eq())
        .count();
    let weight = leader.weight;
    let tie = vote.tied.then_some(AbstainReason::Tie { samples, answers, weight });
    tie.or_else(|| {
        leader.is_abstention().then_some(AbstainReason::ModelAbstained { samples, weight })
    })
}

/// The reason if the share is too small; NaN is too small.
fn below_min_share(vote: &Vote, min_vote_share: f64) -> Option<AbstainReason> {
    let (vote_share, weight) = (vote.share(), vote.leader().map_or(0.0, |leader| leader.weight));
    let enough = vote_share >= min_vote_share;
    (!enough).then(|| AbstainReason::NoConsensus {
        samples: vote.samples(),
        weight,
        vote_share,
        min_vote_share,
    })
}

/// The reason if the score is missing or too high.
fn above_max_uncertainty(
    uncertainty: Option<Uncertainty>,
    max_uncertainty: f64,
) -> Option<AbstainReason> {
    let Some(uncertainty) = uncertainty.map(Uncertainty::value) else {
        return Some(AbstainReason::NoScore);
    };
    let enough = uncertainty <= max_uncertainty;
    (!enough).then_some(AbstainReason::HighUncertainty { uncertainty, max_uncertainty })
}

/// The reason if the confidence is missing or too low.
fn below_min_confidence(
    confidence: Option<Confidence>,
    min_confidence: f64,
) -> Option<AbstainReason> {
    let Some(confidence) = confidence.map(Confidence::value) else {
        return Some(AbstainReason::NoScore);
    };
    let enough = confidence > min_confidence;
    (!enough).then_some(AbstainReason::LowConfidence { confidence, min_confidence })
}

/// The JSON shape of a [`Decision`].
#[derive(Serialize, Deserialize)]
struct DecisionJson {
    decision: DecisionKind,
    #[serde(default)]
    reason: Option<ReasonJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DecisionKind {
    Answer,
    Abstain,
}

#[derive(Serialize, Deserialize)]
struct ReasonJson {
    #[serde(flatten)]
    reason: AbstainReason,
    #[serde(default)]
    detail: String,
}

impl From<Decision> for DecisionJson {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Answer => Self { decision: DecisionKind::Answer, reason: None },
            Decision::Abstain(reason) => Self {
                decision: DecisionKind::Abstain,
                reason: Some(ReasonJson { detail: reason.to_string(), reason }),
            },
        }
    }
}

impl TryFrom<DecisionJson> for Decision {
    type Error = &'static str;

    fn try_from(verdict: DecisionJson) -> Result<Self, Self::Error> {
        match (verdict.decision, verdict.reason) {
            (DecisionKind::Answer, None) => Ok(Self::Answer),
            (DecisionKind::Abstain, Some(reason)) => Ok(Self::Abstain(reason.reason)),
            (DecisionKind::Answer, Some(_)) => {
                Err("decision is `answer` but has a reason; give null")
            }
            (DecisionKind::Abstain, None) => Err("decision is `abstain` but has no reason"),
        }
    }
}
