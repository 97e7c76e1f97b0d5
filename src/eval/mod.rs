//! Evaluation: many questions to records in a run folder, and from records to figures.
//!
//! - `task` and `tasks`: where questions come from, one file per built-in task; `file`, `table` and
//!   `parquet`: questions of a user's own file.
//! - `grade`: whether an answer is right. `options`: options scored by their likelihood. `record`:
//!   one line per question, with everything that it takes to judge again.
//! - `folder`: the run folder, its lock, and what is done already. `run`: many questions in flight,
//!   records in order. `shard`: a part of a run. `runs`: from paths to runs, where a folder holds
//!   one for each strategy, or shards of one.
//! - `compare`: two runs on the same questions.
//! - `score`: the same verdicts and figures again from records, without the model. `labels`: what a
//!   calibration takes from a run.
//!
//! It prints nothing and reads no flags or environment.

mod compare;
mod file;
mod folder;
mod grade;
mod labels;
mod options;
mod parquet;
mod record;
mod run;
mod runs;
mod score;
mod shard;
mod table;
mod task;
mod tasks;

pub use self::parquet::DECODER_THREAD;
pub use compare::{Difference, MetricDifference};
pub use file::{FileTask, Map};
pub use folder::{Existing, Manifest, Records, RunFolder, TaskConfig};
pub use grade::{Grader, PLAIN, Scorer};
pub use labels::Labels;
pub use options::{OptionScore, correct_mass, is_correct_per_byte, option_scores};
pub use record::{Record, Recorded, RecordedCost, RecordedScore, Timing};
pub use run::{IN_FLIGHT, Progress, Run, run};
pub use runs::{FoundRun, only_run, runs};
pub use score::{Scored, item, judge, rescore};
pub use shard::Shard;
pub use task::{Doc, Questions, Source, Subset, Task, task};
pub use tasks::TASKS;
