//! Model files as bytes: GGUF and safetensors, their metadata, and the types of stored weights.
//!
//! Every file is treated as hostile: a reader checks counts, lengths and offsets before it uses
//! them. Knows nothing of models: which tensors and keys a model needs is the layer above's.

pub mod dtype;
pub mod gguf;
pub mod gguf_metadata;
mod mmap;
pub mod safetensors;

pub use gguf_metadata::quoted;
