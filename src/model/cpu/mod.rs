//! The CPU backend, without a tensor library.
//!
//! - `linear/`: matrix products of packed weights and quantized activations.
//! - `attention/`: attention over the KV cache, f16 near the query and int8 for distant spans.
//! - `elementwise.rs`: everything else, written once over sixteen lanes (`simd/`).
//! - `pool.rs`: a fork-join pool of spinning threads.
//! - `backend.rs`: the decoder's operations made of these; nothing else here knows models or
//!   tokens.
//!
//! Contract: a row's result is bit-identical for any batch, any number of threads and any
//! instruction set.

// A kernel that is not inlined into a function with `target_feature` is compiled without it.
#![allow(clippy::inline_always)]

mod aligned;
pub mod attention;
pub(super) mod backend;
mod elementwise;
mod isa;
pub mod linear;
mod memory;
mod pool;
mod simd;

pub use isa::Isa;
pub use pool::{Pool, physical_cores};
