//! Encoders that judge whether two answers mean the same: sentence embeddings (BERT) and entailment
//! classifiers (DeBERTa-v2 and v3, ModernBERT).
//!
//! The networks are candle-transformers', whose other models take long to compile: hence the
//! feature `encoder`. One text or pair is computed at a time and without padding, so that a
//! probability depends on nothing but its own texts, bit for bit. Files are treated as hostile:
//! shapes are checked against `config.json` before memory is taken.

#[cfg(not(feature = "encoder"))]
mod absent;
#[cfg(feature = "encoder")]
mod config;
#[cfg(feature = "encoder")]
mod network;

#[cfg(not(feature = "encoder"))]
pub use self::absent::Encoder;
#[cfg(feature = "encoder")]
pub use self::network::{Encoder, same_by_cosine};
