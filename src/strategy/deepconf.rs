//! `DeepConf`: the least confident samples are left out, the others vote with their confidence as
//! weight; a sample whose confidence falls too low is stopped while it is drawn (Fu et al., arXiv
//! 2508.15260).
//!
//! A token's confidence is the mean of -ln p over its 20 most probable alternatives, in nats: 3 (ln
//! 20) where these are equally probable, higher where one stands out. A sample's is that of a group
//! of tokens. The paper finds the threshold for stopping by 16 whole samples for every question;
//! here it is a parameter, such as a low quantile of the estimator `lowest_group_confidence` in an
//! earlier run. With keep = 1, power = 0 and no threshold this is the plain vote.

use std::cell::RefCell;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::session::Watch;
use super::waves::check_size;
use super::weights::weigh;
use super::{Question, Session};
use crate::engine::StepControl;
use crate::error::{Error, Result};
use crate::generation::{Generation, Token};

/// How samples are filtered and weighed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeepConf {
    /// The share of the voting samples that keep their vote, above 0 to 1.
    pub keep: f64,
    /// Which tokens a sample's confidence is of.
    pub group: Group,
    /// Tokens of a group, at least 1.
    pub window: usize,
    /// The weight is the confidence to this power, 0 or more.
    pub power: f64,
    /// A sample is stopped when the mean confidence of its last `window` tokens is below this, in
    /// nats; 0 is never.
    pub stop_below: f64,
}

/// A group of a sample's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// All.
    Whole,
    /// The last ones.
    Tail,
    /// Those with the lowest mean.
    Lowest,
}

impl DeepConf {
    /// The paper's safe setting: nine of ten samples stay; a window that fits short answers.
    pub const DEFAULT: Self =
        Self { keep: 0.9, group: Group::Tail, window: 16, power: 1.0, stop_below: 0.0 };

    pub(super) fn validate(self) -> Result<()> {
        check_size("window", self.window)?;
        let check = |name: &str, value: f64, holds: bool, range: &str| {
            let refusal = || Error::usage(format!("{name} is {value}; it must be {range}"));
            if holds { Ok(()) } else { Err(refusal()) }
        };
        check("keep", self.keep, self.keep > 0.0 && self.keep <= 1.0, "above 0, at most 1")?;
        check("power", self.power, self.power >= 0.0, "0 or more")?;
        check("stop_below", self.stop_below, self.stop_below >= 0.0, "0 or more")
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let prefix = session.render(&question.messages)?;
        let (params, watch) = (session.params().clone(), self.watch());
        let mut drawn = session.sample_with(&prefix, 0..params.n, params, watch).await?;
        let vote = session.vote(question, &mut drawn).await?;
        let voting: Vec<usize> =
            (0..drawn.completions.len()).filter(|at| vote.answers[*at].is_some()).collect();
        let mut ranked: Vec<(f64, usize)> = voting
            .into_iter()
            .map(|at| (self.confidence(&drawn.completions[at].tokens), at))
            .collect();
        ranked.sort_by(|(a, a_at), (b, b_at)| b.total_cmp(a).then(a_at.cmp(b_at)));
        ranked.truncate((self.keep * ranked.len() as f64).ceil() as usize);
        let mut raw = vec![0.0; drawn.completions.len()];
        for (confidence, at) in ranked {
            raw[at] = confidence.powf(self.power);
        }
        weigh(&mut drawn, &vote, &raw);
        Ok(drawn)
    }

    /// The mean confidence of a sample's group of tokens, in nats; higher is more confident.
    fn confidence(self, tokens: &[Token]) -> f64 {
        let mean = |tokens: &[Token]| {
            tokens.iter().map(|token| token.stats.top_confidence).sum::<f64>()
                / tokens.len().max(1) as f64
        };
        let window = self.window.min(tokens.len());
        match self.group {
            Group::Whole => mean(tokens),
            Group::Tail => mean(&tokens[tokens.len() - window..]),
            Group::Lowest => {
                tokens.windows(window.max(1)).map(mean).min_by(f64::total_cmp).unwrap_or(0.0)
            }
        }
    }

    /// Stops a sample whose last window is below the threshold. Nothing is stopped before a full
    /// window.
    fn watch(self) -> Option<Watch> {
        if self.stop_below <= 0.0 {
            return None;
        }
        let recent: RefCell<HashMap<usize, Vec<f64>>> = RefCell::default();
        Some(Box::new(move |event| {
            let mut recent = recent.borrow_mut();
            let own = recent.entry(event.sample).or_default();
            own.push(event.token.stats.top_confidence);
            let last = own.len().checked_sub(self.window).map(|start| &own[start..]);
            let low = last.is_some_and(|last| {
                last.iter().sum::<f64>() / (self.window as f64) < self.stop_below
            });
            if low && event.finished.is_none() {
                StepControl::StopSample
            } else {
                StepControl::Continue
            }
        }))
    }
}

impl Default for DeepConf {
    fn default() -> Self {
        Self::DEFAULT
    }
}
