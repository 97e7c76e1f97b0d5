//! Evaluation: many questions to records in a run folder, and from records to metrics.
//!
//! - `task` and `tasks`: where questions come from, one file per built-in task; `file`, `table` and
//!   `parquet`: questions of a user's own file.
//! - `grade`: whether an answer is right. `choices`: choices scored by their
//!   likelihood. `record`:
//!   one line per question, with everything that the verdict is made from.
//! - `folder`: the run folder, its lock, and what is done already. `run`: many questions in flight,
//!   records in order. `shard`: a part of a run. `runs`: from paths to runs, where a folder holds
//!   one for each strategy, or shards of one. `reproduce`: a run again, record by record.
//! - `compare`: two runs on the same questions. `equal_cost`: runs against a plain vote with as
//!   many forward tokens.
//! - `score`: recomputes verdicts and metrics from records, without the model. `labels`: what a
//!   calibration takes from a run.
//!
//! It prints nothing and reads no flags or environment.

mod choices;
mod compare;
mod equal_cost;
mod file;
mod folder;
mod grade;
mod judge;
mod labels;

#[cfg(feature = "parquet")]
mod parquet;
mod record;
mod reproduce;
mod run;
mod runs;
mod score;
mod shard;
mod table;
mod task;
mod tasks;
mod variant;

#[cfg(feature = "parquet")]
pub use self::parquet::DECODER_THREAD;
pub use choices::{ScoredChoice, correct_mass, is_correct_per_byte, scored_choices};
pub use compare::{Difference, MetricDifference};
pub use equal_cost::{EqualCost, PricedRun, RunAtCost};
pub use file::{FileTask, Map};
pub use folder::{IfExists, Manifest, Records, RunFolder, TaskConfig};
pub use grade::{Grader, PLAIN, Scorer};
pub use judge::JudgeQuality;
pub use labels::Labels;

pub use record::{Record, RecordedOutcome, RecordedScore};
pub use reproduce::{Reproduction, reproduce};
pub use run::{IN_FLIGHT, Progress, Run, run};
pub use runs::{RunRef, runs, single_run};
#[cfg(feature = "internals")]
pub use score::rescore;
pub use score::{LeftOut, RunScorer, Scored, ScoredRun};
pub use shard::Shard;
pub use task::{Doc, Questions, Source, Subset, Task, task};
pub use tasks::TASKS;
pub use variant::Variant;
