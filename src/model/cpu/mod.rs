//! The CPU's own kernels, without a tensor library: packed weights, quantised activations,
//! attention, one spin pool.
//!
//! ```text
//! let pool = Pool::global();                                       // or Pool::new(threads); pin_caller() on the thread of the step loop
//! let q = PackedMatrix::pack(&raw, &pool)?;                        // once, at load; one copy of the weights
//! let mut x = Activations::default();                              // keep it: it reuses its memory
//! x.set(&pool, input, rows, &[&q, &k, &v]);                        // [rows, in] f32, quantised once for all three
//! linear(&pool, &q, &x, bias, output);                             // [rows, out] f32
//! linear_n(&pool, &x, [Product { matrix: &q, bias: None, y: &mut yq }, ...]);       // several in one fork-join
//! table.row(token, output);                                        // the embedding of one token
//! ```
//!
//! Contract: what comes out for a row is the same to the bit for any number of rows beside it, any
//! place among them, any number of threads, and any instruction set: every kernel follows the order
//! that `scalar.rs` states. Block-quantised weights meet activations of 8 bits per 32 inputs
//! (`quantize.rs`), dense ones meet f32. `layout.rs` says how weights lie in memory.
//!
//! `ops.rs` makes the decoder's operations of them; nothing else here knows models or tokens.
//! `attention.rs` is attention, over a cache (`host_kv.rs`) near a query in half precision
//! (`tiles.rs`) and far behind it in 8 bits (`codes.rs`, `powers.rs`, `distant.rs`); what is no
//! matrix product is written once over sixteen lanes (`simd.rs`).

mod aligned;
pub mod attention;
pub(super) mod backend;
mod buffer;
mod elementwise;
mod isa;
pub mod linear;
mod memory;
mod pool;
mod simd;

pub use buffer::{Arena, Buffer};
pub use isa::Isa;
pub use pool::{Pool, physical_cores};
