//! candor

pub mod cli;
pub mod consensus;
pub mod decision;
pub mod engine;
pub mod error;
pub mod generation;
pub mod hub;
pub mod logits;
pub mod machine;
pub mod manifest;
pub mod model;
pub mod pipeline;
pub mod prompt;
pub mod strategy;
pub mod tokenizer;
pub mod uncertainty;
