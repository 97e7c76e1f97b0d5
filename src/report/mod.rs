//! Reports over runs: a page for a person, tables for a document, JSON and CSV for a program, gates
//! for a build.
//!
//! - `read`: records, without what no report shows. `judged`: verdicts, by the record or by another
//!   policy file.
//! - `view`: the view model, all numbers of a report. `compare`: runs on the same questions.
//!   `gate`: figures that must be reached.
//! - `svg` and `charts`: plots. `browse`: the questions that the page lists, within its size.
//!   `page`: the page. `tables`: Markdown and CSV.
//! - `text`: what untrusted text becomes before it goes anywhere.
//!
//! Contract: the same runs give the same bytes. Nothing is judged again by another version's rules:
//! what is shown is what was recorded, unless another policy file is asked for. It prints nothing
//! and reads no flags or environment.

mod browse;
mod charts;
mod compare;
mod gate;
mod judged;
mod page;
mod read;
pub mod svg;
mod tables;
pub mod text;
mod view;

pub use gate::{Gate, Gated, junit};
pub use judged::OutcomeClass;
pub use page::html;
pub use tables::{csv, markdown};
pub use view::{Counts, EstimatorView, Mean, OtherPolicy, Promise, Report, RunView};
