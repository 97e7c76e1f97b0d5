//! Reports over runs: an HTML page, Markdown and CSV tables, JSON, and gates for CI.
//!
//! - `read`: records, scored again as `candor score` does. `graded`: what became of each question.
//! - `view`: the view model, all numbers of a report. `compare`: runs on the same questions.
//!   `gate`: bounds on metrics.
//! - `svg` and `charts`: plots. `browse`: the questions that the page lists, within its size.
//!   `page`: the page. `tables`: Markdown and CSV.
//! - `text`: escaping of untrusted text.
//!
//! Contract: the same runs give the same bytes. A report shows what `candor score` shows of the
//! same runs under the same policy file, and says how many records differ from that. It prints
//! nothing and reads no flags or environment.

mod browse;
mod charts;
mod compare;
mod gate;
mod graded;
mod page;
mod read;
pub mod svg;
mod tables;
pub mod text;
mod view;

pub use gate::{Gate, GateResult, junit};
pub use graded::OutcomeClass;
pub use page::html;
pub use tables::{csv, markdown};
pub use view::{Counts, EstimatorView, Guarantee, Mean, OtherPolicy, Report, RunView};
