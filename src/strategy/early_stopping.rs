//! Early-stopping self-consistency: windows of samples, until all of one window agree (Li et al.,
//! arXiv 2401.10480).
//!
//! All samples drawn vote, not only those of the last window as in the paper's code: the share then
//! counts what disagreed before. A window as large as n is plain self-consistency.

use serde::{Deserialize, Serialize};

use super::waves::{check_size, sample_in_waves};
use super::{Question, Session};
use crate::error::Result;
use crate::generation::Generation;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStopping {
    /// Samples of a window, at least 1.
    pub window: usize,
    /// Forward tokens after which no window begins; 0 is no limit.
    pub budget: usize,
}

impl EarlyStopping {
    /// The paper's window.
    pub const DEFAULT: Self = Self { window: 5, budget: 0 };

    pub(super) fn validate(self) -> Result<()> {
        check_size("window", self.window)
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        sample_in_waves(session, question, self.window, self.budget, |vote, window| {
            let mut answers = vote.clusters.iter().map(|cluster| &cluster.samples);
            answers.any(|samples| window.clone().all(|sample| samples.contains(&sample)))
        })
        .await
    }
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self::DEFAULT
    }
}
