//! Writes GGUF files for tests: valid by default, invalid in any field that a test sets.
//!
//! Quantizes to `Q8_0` and `Q4_0` by ggml's rules. Every field of [`Writer`] is public, so a bad
//! file is a good one with one field changed.

use candor::internals::format::dtype::Dtype;
use half::{bf16, f16};

/// A metadata value: its type number and its bytes as stored.
#[derive(Clone, Debug)]
pub struct Value {
    /// Number of the type in the file.
    pub ty: u32,
    /// The value, little endian.
    pub bytes: Vec<u8>,
}

impl Value {
    /// A value of type number `ty` with exactly these bytes.
    pub fn raw(ty: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { ty, bytes: bytes.into() }
    }

    /// An array with any claimed length and any element bytes.
    pub fn raw_array(element: u32, len: u64, elements: impl AsRef<[u8]>) -> Self {
        Self::raw(9, [&element.to_le_bytes()[..], &len.to_le_bytes(), elements.as_ref()].concat())
    }

    /// An array of values of one type.
    pub fn array<T: Into<Self>>(values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<Self> = values.into_iter().map(Into::into).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes.iter().copied()).collect();
        Self::raw_array(values.first().map_or(8, |value| value.ty), values.len() as u64, bytes)
    }
}

macro_rules! value_from {
    ($($native:ty => $ty:literal),*) => {
        $(impl From<$native> for Value {
            fn from(value: $native) -> Self {
                Self::raw($ty, value.to_le_bytes())
            }
        })*
    };
}
value_from!(u8 => 0, i8 => 1, u16 => 2, i16 => 3, u32 => 4, i32 => 5, f32 => 6, u64 => 10, i64 => 11, f64 => 12);

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::raw(7, [u8::from(value)])
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::raw(8, string(value.as_bytes()))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::from(value.as_str())
    }
}

/// A length and that many bytes.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

/// One tensor of a file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Name, any bytes.
    pub name: Vec<u8>,
    /// Dimensions as stored: innermost first.
    pub dims: Vec<u64>,
    /// ggml's type number.
    pub ty: u32,
    /// The data.
    pub bytes: Vec<u8>,
    /// Offset in the data section; `None` for the next aligned one.
    pub offset: Option<u64>,
}

impl Tensor {
    /// `values` of row-major `shape`, encoded as `dtype`.
    pub fn new(name: &str, shape: &[usize], dtype: Dtype, values: &[f32]) -> Self {
        let dims = shape.iter().rev().map(|&dim| dim as u64).collect();
        Self {
            name: name.into(),
            dims,
            ty: dtype.ggml(),
            bytes: encode(dtype, values),
            offset: None,
        }
    }
}

/// A GGUF file in parts.
#[derive(Clone, Debug)]
pub struct Writer {
    /// `GGUF`, or not.
    pub magic: [u8; 4],
    /// Format version.
    pub version: u32,
    /// Claimed number of tensors; `None` for the real one.
    pub n_tensors: Option<u64>,
    /// Claimed number of metadata entries; `None` for the real one.
    pub n_kv: Option<u64>,
    /// What data is padded to; `general.alignment` is an entry of its own.
    pub alignment: usize,
    /// Keys and values in order.
    pub metadata: Vec<(Vec<u8>, Value)>,
    /// Tensors in order.
    pub tensors: Vec<Tensor>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_kv: None,
            alignment: 32,
            metadata: Vec::new(),
            tensors: Vec::new(),
        }
    }
}

impl Writer {
    /// Adds a metadata entry.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.push((key.into(), value.into()));
    }

    /// The same file with one more metadata entry.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    /// The same file with its last tensor changed.
    pub fn last(mut self, change: impl FnOnce(&mut Tensor)) -> Self {
        change(self.tensors.last_mut().expect("a tensor"));
        self
    }

    /// Everything before the padding that precedes the tensor data.
    pub fn header(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_kv.unwrap_or(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            out.extend(string(key));
            out.extend(value.ty.to_le_bytes());
            out.extend(&value.bytes);
        }
        let mut next = 0;
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(tensor.ty.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(next as u64).to_le_bytes());
            next += tensor.bytes.len().next_multiple_of(self.alignment);
        }
        out
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&tensor.bytes);
        }
        out
    }
}

/// `values` as stored in type `dtype`: a float type, `Q8_0` or `Q4_0`.
pub fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        Dtype::BF16 => {
            values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
        }
        Dtype::Q8_0 => values.chunks_exact(32).flat_map(q8_0).collect(),
        Dtype::Q4_0 => values.chunks_exact(32).flat_map(q4_0).collect(),
        other => panic!("{other} is not written by tests"),
    }
}

/// One block of 32: an f16 scale, then 32 signed bytes. The largest magnitude becomes 127.
fn q8_0(block: &[f32]) -> Vec<u8> {
    let scale = block.iter().fold(0.0f32, |max, value| max.max(value.abs())) / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let quants = block.iter().map(|value| (value * inverse).round() as i8 as u8);
    f16::from_f32(scale).to_le_bytes().into_iter().chain(quants).collect()
}

/// One block of 32: an f16 scale, then 16 bytes, low halves first. The value of largest magnitude
/// becomes -8, stored with 8 added.
fn q4_0(block: &[f32]) -> Vec<u8> {
    let extreme = block
        .iter()
        .copied()
        .fold(0.0f32, |max, value| if value.abs() > max.abs() { value } else { max });
    let scale = extreme / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let quant = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    let (low, high) = block.split_at(16);
    let quants = low.iter().zip(high).map(|(&low, &high)| quant(low) | quant(high) << 4);
    f16::from_f32(scale).to_le_bytes().into_iter().chain(quants).collect()
}
