//! A part of a run that another process, or another machine, asks.
//!
//! Questions are dealt in turn, so that every shard has its share of easy and hard ones, and the
//! shards' records, taken in turn, are those of the undivided run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Shard `index` of `of`: the questions asked whose place, from 0, leaves `index - 1` when divided
/// by `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard {
    /// Which one, from 1 to `of`.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Shard {
    /// The folder of this shard below that of the run.
    pub fn folder(self, run: &Path) -> PathBuf {
        run.join(format!("shard-{}-of-{}", self.index, self.of))
    }

    /// What this shard has of things in the order of the run.
    pub fn take<T>(self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        all.skip(self.index.saturating_sub(1)).step_by(self.of.max(1))
    }

    /// Whether there can be such a shard; a manifest may say anything.
    pub(super) fn is_valid(self) -> bool {
        (1..=self.of).contains(&self.index)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(index, of)| {
            Some(Self { index: index.parse().ok()?, of: of.parse().ok()? })
        });
        let shard = numbers.filter(|shard| shard.is_valid());
        shard.ok_or_else(|| {
            Error::usage(format!("shard is {text:?}; it must be I/N with I from 1 to N, as in 1/4"))
        })
    }
}
