//! Element types of stored weights, and a stored tensor as bytes with a shape.
//!
//! Numbers, names and block layouts are ggml's (`ggml-common.h`). Knows nothing of files, devices
//! or arithmetic: the compute backends dequantize.

use std::borrow::Cow;
use std::fmt;

use half::{bf16, f16};

/// How the elements of a stored tensor are encoded, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
pub enum Dtype {
    /// 32-bit IEEE float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit brain float: the upper half of an `f32`.
    BF16,
    /// 4 bits and one f16 scale per 32 elements.
    Q4_0,
    /// 4 bits, an f16 scale and an f16 minimum per 32 elements.
    Q4_1,
    /// 5 bits and one f16 scale per 32 elements.
    Q5_0,
    /// 5 bits, an f16 scale and an f16 minimum per 32 elements.
    Q5_1,
    /// 8 bits and one f16 scale per 32 elements.
    Q8_0,
    /// 2 bits with two levels of scales per 256 elements.
    Q2K,
    /// 3 bits with two levels of scales per 256 elements.
    Q3K,
    /// 4 bits with two levels of scales per 256 elements.
    Q4K,
    /// 5 bits with two levels of scales per 256 elements.
    Q5K,
    /// 6 bits with two levels of scales per 256 elements.
    Q6K,
}

/// One row of ggml's type table.
struct Layout {
    id: u32,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
    /// Byte offsets of the f16 scales and minima inside a block.
    scales: &'static [usize],
}

impl Dtype {
    /// Every type that candor reads, by ggml number.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::BF16,
    ];

    const fn layout(self) -> Layout {
        const fn row(
            id: u32,
            name: &'static str,
            block_len: usize,
            block_bytes: usize,
            scales: &'static [usize],
        ) -> Layout {
            Layout { id, name, block_len, block_bytes, scales }
        }
        match self {
            Self::F32 => row(0, "F32", 1, 4, &[]),
            Self::F16 => row(1, "F16", 1, 2, &[]),
            Self::Q4_0 => row(2, "Q4_0", 32, 18, &[0]),
            Self::Q4_1 => row(3, "Q4_1", 32, 20, &[0, 2]),
            Self::Q5_0 => row(6, "Q5_0", 32, 22, &[0]),
            Self::Q5_1 => row(7, "Q5_1", 32, 24, &[0, 2]),
            Self::Q8_0 => row(8, "Q8_0", 32, 34, &[0]),
            Self::Q2K => row(10, "Q2_K", 256, 84, &[80, 82]),
            Self::Q3K => row(11, "Q3_K", 256, 110, &[108]),
            Self::Q4K => row(12, "Q4_K", 256, 144, &[0, 2]),
            Self::Q5K => row(13, "Q5_K", 256, 176, &[0, 2]),
            Self::Q6K => row(14, "Q6_K", 256, 210, &[208]),
            Self::BF16 => row(30, "BF16", 1, 2, &[]),
        }
    }

    /// The type with ggml number `id`, or `None` if candor does not read it.
    pub fn from_ggml(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.ggml() == id)
    }

    /// ggml's number for this type.
    pub fn ggml(self) -> u32 {
        self.layout().id
    }

    /// ggml's name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.layout().name
    }

    /// Elements in one block: 1, 32 or 256.
    pub fn block_len(self) -> usize {
        self.layout().block_len
    }

    /// Bytes in one block.
    pub fn block_bytes(self) -> usize {
        self.layout().block_bytes
    }

    /// Whether elements share block scales.
    pub fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes that `elements` elements take; `None` if they do not fill whole blocks or the product
    /// overflows.
    pub fn bytes_for(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }

    /// One line that lists every readable type as `name (number)`, for error messages.
    pub fn supported() -> String {
        Self::ALL.map(|dtype| format!("{} ({})", dtype.name(), dtype.ggml())).join(", ")
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// ggml's name for a type number that candor does not read, or `None` if ggml has none either.
pub(super) fn unsupported_name(id: u32) -> Option<&'static str> {
    Some(match id {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return None,
    })
}

/// A stored tensor: its type, its shape, and its bytes, borrowed from the file's map where
/// possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTensor<'a> {
    /// Encoding of `bytes`.
    pub dtype: Dtype,
    /// Row-major, outermost dimension first, as Hugging Face writes it: a linear layer is
    /// `[out_features, in_features]`.
    pub shape: Vec<usize>,
    /// Exactly `dtype.bytes_for(elements)` bytes, without a guarantee about alignment in memory.
    pub bytes: Cow<'a, [u8]>,
}

impl RawTensor<'_> {
    /// Number of elements: the product of the shape.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements as f32, exactly; `None` if they are quantized.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let halves = |widen: fn(u16) -> f32| {
            let pairs = self.bytes.chunks_exact(2);
            pairs.map(|b| widen(u16::from_le_bytes([b[0], b[1]]))).collect()
        };
        match self.dtype {
            Dtype::F32 => {
                let fours = self.bytes.chunks_exact(4);
                Some(fours.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
            Dtype::F16 => Some(halves(|bits| f16::from_bits(bits).to_f32())),
            Dtype::BF16 => Some(halves(|bits| bf16::from_bits(bits).to_f32())),
            _ => None,
        }
    }

    /// The first element or block scale that is implausible for a trained weight: NaN, infinite, or
    /// of magnitude over [`MAX_MAGNITUDE`]. Reads every byte once (float types) or every block
    /// scale once (quantized types).
    pub fn defect(&self) -> Option<Defect> {
        let layout = self.dtype.layout();
        let absurd = |value: f32| !value.is_finite() || value.abs() > MAX_MAGNITUDE;
        let blocks = self.bytes.chunks_exact(layout.block_bytes).enumerate();
        let mut found = blocks.filter_map(|(index, block)| match self.dtype {
            Dtype::F32 => block.first_chunk().map(|b| (index, f32::from_le_bytes(*b))),
            Dtype::BF16 => half_at(block, 0).map(|bits| (index, bf16::from_bits(bits).to_f32())),
            Dtype::F16 => half_at(block, 0).map(|bits| (index, f16::from_bits(bits).to_f32())),
            _ => {
                let mut scales = layout
                    .scales
                    .iter()
                    .filter_map(|&at| half_at(block, at))
                    .map(|bits| f16::from_bits(bits).to_f32());
                scales.find(|&scale| absurd(scale)).map(|scale| (index * layout.block_len, scale))
            }
        });
        found.find(|&(_, value)| absurd(value)).map(|(element, value)| Defect {
            element,
            value,
            scale: self.dtype.is_quantized(),
        })
    }
}

/// The largest magnitude of a weight or block scale that passes [`RawTensor::defect`]. Trained
/// weights stay below about 100; a flipped exponent bit lands far above.
pub const MAX_MAGNITUDE: f32 = 16_384.0;

fn half_at(block: &[u8], at: usize) -> Option<u16> {
    block.get(at..at.checked_add(2)?)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

/// An implausible value, found by [`RawTensor::defect`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defect {
    /// Flat row-major index of the element, or of the first element of the block.
    pub element: usize,
    /// The value itself: NaN, infinite, or of magnitude over [`MAX_MAGNITUDE`].
    pub value: f32,
    /// Whether `value` is a block scale or minimum and not the element itself.
    pub scale: bool,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.scale { "the block scale at element" } else { "element" };
        write!(
            f,
            "{what} {} is {}, want a finite number of magnitude {MAX_MAGNITUDE} at most",
            self.element, self.value
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_consistent() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::from_ggml(dtype.ggml()), Some(dtype));
            assert_eq!(unsupported_name(dtype.ggml()), None, "{dtype} is listed as unsupported");
            assert_eq!(dtype.bytes_for(dtype.block_len() * 3), Some(dtype.block_bytes() * 3));
            assert!(
                dtype.layout().scales.iter().all(|at| at + 2 <= dtype.block_bytes()),
                "{dtype}"
            );
        }
        assert!(Dtype::ALL.is_sorted_by_key(|dtype| dtype.ggml()));
        assert_eq!(Dtype::from_ggml(99), None);
    }

    #[test]
    fn sizes_that_do_not_fit_are_none() {
        assert_eq!(Dtype::Q8_0.bytes_for(33), None);
        assert_eq!(Dtype::F32.bytes_for(usize::MAX / 2), None);
        assert_eq!(Dtype::Q4K.bytes_for(0), Some(0));
    }

    fn check_defect(dtype: Dtype, bytes: Vec<u8>, want: Option<&str>) {
        let elements = bytes.len() / dtype.block_bytes() * dtype.block_len();
        let tensor = RawTensor { dtype, shape: vec![elements], bytes: bytes.into() };
        let got = tensor.defect().map(|defect| defect.to_string());
        match (&got, want) {
            (None, None) => {}
            (Some(got), Some(want)) => assert!(got.starts_with(want), "{dtype}: {got}"),
            _ => panic!("{dtype}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn defects_are_found_where_they_are() {
        let floats =
            |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        check_defect(Dtype::F32, floats(&[0.5, -100.0, 0.0]), None);
        check_defect(Dtype::F32, floats(&[0.5, f32::NAN]), Some("element 1 is NaN"));
        check_defect(Dtype::F32, floats(&[0.5, 1.0, -1e30]), Some("element 2 is -1"));
        check_defect(Dtype::F16, vec![0, 0x3c, 0, 0x7c], Some("element 1 is inf"));
        check_defect(Dtype::BF16, vec![0x80, 0xff, 0, 0], Some("element 0 is -inf"));
        for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
            for &at in dtype.layout().scales {
                let mut bytes = vec![0x11; dtype.block_bytes() * 3];
                check_defect(dtype, bytes.clone(), None);
                bytes[dtype.block_bytes() * 2 + at + 1] = 0x7e; // 0x7e11 is a NaN
                check_defect(
                    dtype,
                    bytes,
                    Some(&format!("the block scale at element {} is NaN", dtype.block_len() * 2)),
                );
            }
        }
    }
}
