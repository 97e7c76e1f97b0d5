//! candor: a local inference engine that knows when it does not know.
//!
//! It loads open-weight models, draws many samples from one prompt, measures its own uncertainty
//! token by token, lets the samples vote, and answers only when the policy allows it.
//! Otherwise it abstains and says why.
//!
//! # Codemap
//!
//! From the ground up; a module uses those above it in this list and none below.
//!
//! - [`error`]: the one error type. [`digest`] and [`files`]: SHA-256, files that appear whole,
//!   locks. [`generation`]: the data types that all modules share. [`machine`]:
//!   properties of the machine.
//! - Pure, without input, output or tensors: [`logits`] (statistics of one distribution),
//!   [`consensus`] (texts to answers to a vote),
//!   [`uncertainty`] (raw scores), [`decision`] (answer or abstain), [`metrics`] (metrics over
//!   graded questions), [`calibration`] (confidence and thresholds with a guarantee).
//! - [`manifest`] and [`hub`]: references to verified local files.
//! - [`mod@format`]: model files as bytes, GGUF and safetensors.
//! - [`model`]: weights, one decoder described by data, key-value segments, operations.
//!   [`tokenizer`]: text to ids and back.
//! - [`encoder`]: a second, small model that judges whether two answers mean the same.
//! - [`prompt`]: messages to ids.
//! - [`engine`]: requests, rows, the step loop, sampling, scoring, the prefix cache.
//! - [`strategy`]: what to sample. [`pipeline`]: one question to one [`Outcome`].
//! - [`eval`]: many questions to records in a run folder, and from records to metrics.
//! - [`report`]: runs as a page, as tables, or as gates.
//! - [`cli`]: the command line.
//!
//! # Invariants
//!
//! 1. Sample i depends only on (model, prompt, parameters, seed, i): not on the number of samples,
//!    other requests, threads, cache hits, chunking or forking. Bit for bit.
//! 2. Statistics are those of the raw distribution, before penalties, temperature and filters, over
//!    the real vocabulary.
//! 3. A frozen segment of keys and values is never written again; a forward pass changes nothing
//!    but the caches it is given.
//! 4. Message content never becomes a control token.
//! 5. [`Uncertainty`] is not [`Confidence`]: only a fitted calibrator makes the latter. Abstaining
//!    is a value, never an error.
//! 6. Nothing from a file, a user or a model panics, allocates without bound, or reaches a terminal
//!    as a control sequence.
//! 7. No network outside [`hub`], no printing outside [`cli`], no tensors outside [`model`]
//!    and [`encoder`].
//!
//! # Example
//!
//! ```no_run
//! use candor::hub::{self, HubOptions};
//! use candor::{LoadOptions, LoadedModel, Message, Pipeline, Settings};
//!
//! # fn main() -> candor::Result<()> {
//! let resolved = hub::resolve("smollm2-135m-instruct", &HubOptions::from_env(), &mut ())?;
//! let loaded = LoadedModel::load(&resolved, resolved.sha256.clone(), LoadOptions::default())?;
//! let mut pipeline = Pipeline::new(&loaded, Settings::for_model(&loaded), Default::default())?;
//! let outcome = pipeline.answer(&[Message::user("What is the capital of France?")])?;
//! match outcome.answer {
//!     Some(answer) => println!("{answer}, by {:.2} of the samples", outcome.vote.share()),
//!     None => println!("abstained"),
//! }
//! # Ok(())
//! # }
//! ```

// Without the program, parts that only it uses are dead; with `internals`, nothing is.
// The code map links private modules; `cargo doc --document-private-items` shows them.
#![allow(rustdoc::private_intra_doc_links)]
#![cfg_attr(not(feature = "cli"), allow(dead_code))]
#![cfg_attr(not(feature = "internals"), allow(unused_imports))]

mod calibration;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod consensus;
mod decision;
mod digest;
mod encoder;
mod engine;
mod error;
mod eval;
mod files;
mod format;
mod generation;
#[cfg(feature = "hub")]
pub mod hub;
mod logits;
mod machine;
mod manifest;
mod metrics;
mod model;
mod pipeline;
mod prompt;
mod report;
mod strategy;
mod tokenizer;
mod uncertainty;

pub use calibration::PolicyFile;
pub use consensus::{Extractor, Vote};
pub use decision::{AbstainReason, Decision, Policy};
pub use engine::{Engine, EngineOptions, LocalEngine, Reply, Request, StepControl, TokenEvent};
pub use error::{Error, Result};
pub use generation::{
    Completion, FinishReason, Generation, Message, Role, SamplingParams, Token, TokenStats,
};
pub use manifest::{Location, ResolvedModel};
pub use model::{LoadOptions, Model};
pub use pipeline::{Answered, DriveOptions, LoadedModel, Outcome, Pipeline, Settings, Sink};
pub use prompt::Prompt;
pub use strategy::{Question, Session, Strategy};
pub use tokenizer::Tokenizer;
pub use uncertainty::{Confidence, Uncertainty};

/// Everything behind the names above, for this crate's own tests and benches. Not stable.
#[cfg(feature = "internals")]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod internals {
    pub mod calibration {
        pub use crate::calibration::*;
    }
    pub mod consensus {
        pub use crate::consensus::*;
    }
    pub mod decision {
        pub use crate::decision::*;
    }
    pub mod digest {
        pub use crate::digest::*;
    }
    pub mod encoder {
        pub use crate::encoder::*;
    }
    pub mod engine {
        pub use crate::engine::*;
    }
    pub mod error {
        pub use crate::error::*;
    }
    pub mod eval {
        pub use crate::eval::*;
    }
    pub mod files {
        pub use crate::files::*;
    }
    pub mod format {
        pub use crate::format::*;
    }
    pub mod generation {
        pub use crate::generation::*;
    }
    pub mod logits {
        pub use crate::logits::*;
    }
    pub mod machine {
        pub use crate::machine::*;
    }
    pub mod manifest {
        pub use crate::manifest::*;
    }
    pub mod metrics {
        pub use crate::metrics::*;
    }
    pub mod model {
        pub use crate::model::*;
    }
    pub mod pipeline {
        pub use crate::pipeline::*;
    }
    pub mod prompt {
        pub use crate::prompt::*;
    }
    pub mod report {
        pub use crate::report::*;
    }
    pub mod strategy {
        pub use crate::strategy::*;
    }
    pub mod tokenizer {
        pub use crate::tokenizer::*;
    }
    pub mod uncertainty {
        pub use crate::uncertainty::*;
    }
}
