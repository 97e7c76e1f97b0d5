//! The decoder's operations through candle's tensors, on any device.
//!
//! On the CPU, candle picks some kernels by the number of rows, and they sum in different orders.
//! Those products are computed row by row, so that a row's result does not depend on the batch.

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, IndexOp, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};

use super::buffer::Buffer;
use super::decoder::Row;
use super::kv::{KvSeq, TensorKv};
use super::ops::{GatedMlp, Ops, visible};
use super::spec::{Activation, LayerSpec, ModelConfig, Rope};
use crate::error::{Error, Result};
use crate::format::dtype::{Dtype, RawTensor};

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Backend(error.to_string())
    }
}

/// A matrix in whatever form the device multiplies best.
#[derive(Debug)]
enum Matrix {
    /// candle's block-quantized product; on the CPU also for f32.
    Quantized(QTensor),
    /// `[out, in]` in the dense type.
    Dense(Tensor),
}

/// y = x Wᵀ + b.
#[derive(Debug)]
pub struct Linear {
    matrix: Matrix,
    bias: Option<Tensor>,
    /// Compute the product row by row, so that it is the same in any batch.
    row_by_row: bool,
}

/// An RMS norm's weight, `[features]`.
#[derive(Debug)]
pub struct Norm {
    weight: Tensor,
    eps: f32,
}

/// Cosines and sines of a step's positions, each `[T, head_dim / 2]`.
#[derive(Debug)]
pub struct CosSin {
    cos: Tensor,
    sin: Tensor,
}

/// candle's operations on one device, in one type.
#[derive(Clone, Debug)]
pub struct Candle {
    device: Device,
    /// Type of activations, dense weights and the cache.
    dtype: DType,
}

impl Candle {
    /// Operations on `device`. Activations of quantized models stay f32, the only type that
    /// candle's quantized products take on every device.
    pub fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype }
    }

    /// The names of the device and of the type.
    pub(super) fn device(&self) -> (&'static str, &'static str) {
        let device = match self.device {
            Device::Cpu => "portable",
            Device::Cuda(_) => "cuda",
            Device::Metal(_) => "metal",
        };
        (device, self.dtype.as_str())
    }

    fn load_dense(&self, raw: &RawTensor<'_>) -> Result<Tensor> {
        let shape = raw.shape.clone();
        let f32s = if let Some(values) = raw.to_f32() {
            Tensor::from_vec(values, shape, &Device::Cpu)?
        } else {
            let dtype = ggml_dtype(raw.dtype);
            let data = QStorage::from_data(raw.bytes.as_ref().into(), &Device::Cpu, dtype)?;
            QTensor::new(data, shape)?.dequantize(&Device::Cpu)?
        };
        Ok(f32s.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    fn norm(norm: &Norm, x: &Tensor) -> Result<Tensor> {
        Ok(rms_norm(x, &norm.weight, norm.eps)?)
    }

    fn attend_row(
        &self,
        config: &ModelConfig,
        layer: usize,
        q: &Tensor,
        kv: &KvSeq,
    ) -> Result<Tensor> {
        let cache = kv.gather(layer)?;
        if !self.device.is_cpu() {
            return attend_masked(config, config.layers[layer], q, &cache, kv);
        }
        let mut outputs = Vec::with_capacity(q.dim(0)?);
        for t in 0..q.dim(0)? {
            let visible = visible(config.layers[layer], kv, t);
            let (start, len) = (visible.start, visible.len());
            let keys =
                TensorKv { k: cache.k.narrow(0, start, len)?, v: cache.v.narrow(0, start, len)? };
            outputs.push(attend_heads(config, &q.narrow(0, t, 1)?, &keys, None)?);
        }
        Ok(Tensor::cat(&outputs, 0)?)
    }
}

impl Ops for Candle {
    type Linear = Linear;
    type Norm = Norm;
    type CosSin = CosSin;
    type Hidden = Tensor;

    fn kv_element_bytes(&self) -> usize {
        self.dtype.size_in_bytes()
    }

    fn load_linear(
        &self,
        weight: &RawTensor<'_>,
        bias: Option<&RawTensor<'_>>,
        read: &dyn Fn(&[u8]),
    ) -> Result<Linear> {
        let quantized = weight.dtype.is_quantized();
        let matrix = if quantized || (self.device.is_cpu() && self.dtype == DType::F32) {
            let (dtype, bytes) = match weight.to_f32() {
                None => (ggml_dtype(weight.dtype), weight.bytes.as_ref().into()),
                Some(values) => {
                    let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
                    (GgmlDType::F32, bytes.into())
                }
            };
            Matrix::Quantized(QTensor::new(
                QStorage::from_data(bytes, &self.device, dtype)?,
                weight.shape.clone(),
            )?)
        } else {
            Matrix::Dense(self.load_dense(weight)?)
        };
        let row_by_row = self.device.is_cpu()
            && match &matrix {
                Matrix::Quantized(q) => kernel_depends_on_rows(q.dtype()),
                Matrix::Dense(_) => true,
            };
        read(&weight.bytes);
        Ok(Linear { matrix, bias: bias.map(|b| self.load_dense(b)).transpose()?, row_by_row })
    }

    fn load_norm(&self, weight: &RawTensor<'_>, eps: f64) -> Result<Norm> {
        Ok(Norm { weight: self.load_dense(weight)?, eps: eps as f32 })
    }

    fn embed(&self, table: &Linear, tokens: &[u32], scale: f64) -> Result<Tensor> {
        let ids = Tensor::new(tokens, &self.device)?;
        let x = match &table.matrix {
            Matrix::Quantized(q) => q.embedding(&ids)?.to_dtype(self.dtype)?,
            Matrix::Dense(w) => w.index_select(&ids, 0)?,
        };
        // Skip the pass where the scale is one; no architecture has a scale near one.
        if (scale - 1.0).abs() < f64::EPSILON { Ok(x) } else { Ok((x * scale)?) }
    }

    fn cos_sin(&self, rope: &Rope, positions: &[usize]) -> Result<CosSin> {
        let shape = (positions.len(), rope.inv_freq.len());
        let cos_sin =
            || positions.iter().flat_map(|&p| rope.inv_freq.iter().map(move |f| p as f64 * f));
        let table = |values: Vec<f32>| -> Result<Tensor> {
            Ok(Tensor::from_vec(values, shape, &self.device)?.to_dtype(self.dtype)?)
        };
        Ok(CosSin {
            cos: table(cos_sin().map(|a| a.cos() as f32).collect())?,
            sin: table(cos_sin().map(|a| a.sin() as f32).collect())?,
        })
    }

    fn norm_linear<const N: usize>(
        &self,
        norm: &Norm,
        x: &Tensor,
        linears: [&Linear; N],
    ) -> Result<[Tensor; N]> {
        let normed = Self::norm(norm, x)?;
        let all: Vec<Tensor> = linears
            .into_iter()
            .map(|linear| self.linear(linear, &normed))
            .collect::<Result<_>>()?;
        all.try_into().map_err(|_| Error::Backend("a projection lost an output".into()))
    }

    fn rope(
        &self,
        cos_sin: &CosSin,
        x: Tensor,
        norm: Option<&Norm>,
        head_dim: usize,
    ) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let heads = x.reshape((tokens, width / head_dim, head_dim))?;
        let heads =
            norm.map_or(Ok(heads.clone()), |norm| Self::norm(norm, &heads.contiguous()?))?;
        let heads = heads.unsqueeze(0)?.transpose(1, 2)?.contiguous()?; // [1, heads, T, head_dim]
        let rotated = candle_nn::rotary_emb::rope(&heads, &cos_sin.cos, &cos_sin.sin)?;
        Ok(rotated.transpose(1, 2)?.contiguous()?.reshape((tokens, width))?)
    }

    fn attend(
        &self,
        config: &ModelConfig,
        layer: usize,
        [q, k, v]: [Tensor; 3],
        rows: &mut [Row<'_>],
    ) -> Result<Tensor> {
        let mut outputs = Vec::with_capacity(rows.len());
        let mut first = 0;
        for row in rows.iter_mut() {
            let new = row.tokens.len();
            row.kv.append(
                layer,
                TensorKv { k: k.narrow(0, first, new)?, v: v.narrow(0, first, new)? },
            )?;
            outputs.push(self.attend_row(config, layer, &q.narrow(0, first, new)?, row.kv)?);
            first += new;
        }
        Ok(Tensor::cat(&outputs, 0)?)
    }

    fn linear(&self, linear: &Linear, x: &Tensor) -> Result<Tensor> {
        let rows = x.dim(0)?;
        let y = if linear.row_by_row && rows > 1 {
            let each: Vec<Tensor> = (0..rows)
                .map(|row| linear.product(&x.narrow(0, row, 1)?))
                .collect::<Result<_>>()?;
            Tensor::cat(&each, 0)?
        } else {
            linear.product(x)?
        };
        match &linear.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    fn mlp(&self, norm: &Norm, x: &Tensor, mlp: &GatedMlp<Linear>) -> Result<Tensor> {
        let [gate, up] = self.norm_linear(norm, x, [&mlp.gate, &mlp.up])?; // [T, intermediate]
        let gate = match mlp.activation {
            Activation::Silu => gate.silu()?,
            Activation::GeluTanh => gate.gelu()?,
        };
        self.linear(&mlp.down, &(gate * up)?)
    }

    fn add(&self, x: Tensor, y: &Tensor, norm: Option<&Norm>) -> Result<Tensor> {
        match norm {
            Some(norm) => Ok((x + Self::norm(norm, y)?)?),
            None => Ok((x + y)?),
        }
    }

    fn select_rows(&self, x: Tensor, indices: &[u32]) -> Result<Tensor> {
        Ok(x.index_select(&Tensor::new(indices, &self.device)?, 0)?)
    }

    fn logits(
        &self,
        norm: &Norm,
        x: &Tensor,
        lm_head: &Linear,
        soft_cap: Option<f64>,
    ) -> Result<Buffer> {
        let z = self.linear(lm_head, &Self::norm(norm, x)?)?.to_dtype(DType::F32)?;
        let z = match soft_cap {
            Some(cap) => ((z / cap)?.tanh()? * cap)?,
            None => z,
        };
        Ok(Buffer::from(z.flatten_all()?.to_vec1::<f32>()?))
    }
}

impl Linear {
    fn product(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match &self.matrix {
            Matrix::Quantized(q) => {
                let dtype = x.dtype();
                x.to_dtype(DType::F32)?.contiguous()?.apply_op1_no_bwd(q)?.to_dtype(dtype)?
            }
            Matrix::Dense(w) => x.matmul(&w.t()?)?,
        })
    }
}

/// Whether candle picks this type's kernel by the number of rows: `Q6_K` on x86, more types on ARM.
fn kernel_depends_on_rows(dtype: GgmlDType) -> bool {
    match dtype {
        GgmlDType::Q4K | GgmlDType::Q5K | GgmlDType::Q6K => true,
        GgmlDType::Q4_0 | GgmlDType::Q8_0 => cfg!(not(target_arch = "x86_64")),
        _ => false,
    }
}

fn ggml_dtype(dtype: Dtype) -> GgmlDType {
    match dtype {
        Dtype::F32 => GgmlDType::F32,
        Dtype::F16 => GgmlDType::F16,
        Dtype::BF16 => GgmlDType::BF16,
        Dtype::Q4_0 => GgmlDType::Q4_0,
        Dtype::Q4_1 => GgmlDType::Q4_1,
        Dtype::Q5_0 => GgmlDType::Q5_0,
        Dtype::Q5_1 => GgmlDType::Q5_1,
        Dtype::Q8_0 => GgmlDType::Q8_0,
        Dtype::Q2K => GgmlDType::Q2K,
        Dtype::Q3K => GgmlDType::Q3K,
        Dtype::Q4K => GgmlDType::Q4K,
        Dtype::Q5K => GgmlDType::Q5K,
        Dtype::Q6K => GgmlDType::Q6K,
    }
}

/// Attention of all new tokens at once under a mask, for devices where a kernel launch costs more
/// than the arithmetic.
fn attend_masked(
    config: &ModelConfig,
    layer: LayerSpec,
    q: &Tensor,
    cache: &TensorKv,
    kv: &KvSeq,
) -> Result<Tensor> {
    let (new, keys) = (q.dim(0)?, cache.k.dim(0)?);
    let mut mask = vec![f32::NEG_INFINITY; new * keys];
    for t in 0..new {
        mask[t * keys..][visible(layer, kv, t)].fill(0.0);
    }
    let mask = Tensor::from_vec(mask, (new, keys), q.device())?.to_dtype(q.dtype())?;
    attend_heads(config, q, cache, Some(&mask))
}

/// softmax(scale * q kᵀ + mask) v for `[new, heads * head_dim]` over `[keys, key-value heads *
/// head_dim]`.
fn attend_heads(
    config: &ModelConfig,
    q: &Tensor,
    cache: &TensorKv,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (new, keys) = (q.dim(0)?, cache.k.dim(0)?);
    let (kv_heads, head_dim) = (config.num_key_value_heads, config.head_dim);
    let group = config.num_attention_heads / kv_heads;
    // [kv_heads, new * group, head_dim]: the heads of a group share their keys.
    let q = q
        .reshape((new, kv_heads, group, head_dim))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((kv_heads, new * group, head_dim))?;
    // [kv_heads, head_dim, keys]
    let k = cache.k.reshape((keys, kv_heads, head_dim))?.permute((1, 2, 0))?;
    // [kv_heads, keys, head_dim]
    let v = cache.v.reshape((keys, kv_heads, head_dim))?.transpose(0, 1)?;
    let (k, v) =
        if multiplies_strided(q.device()) { (k, v) } else { (k.contiguous()?, v.contiguous()?) };
    // [kv_heads, new * group, keys]
    let mut scores = (batched_matmul(&q, &k)? * config.attention_scale)?;
    if let Some(cap) = config.attn_logit_softcapping {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    if let Some(mask) = mask {
        let shaped = scores
            .reshape((kv_heads, new, group, keys))?
            .broadcast_add(&mask.reshape((1, new, 1, keys))?)?;
        scores = shaped.reshape((kv_heads, new * group, keys))?;
    }
    let out = batched_matmul(&softmax_last_dim(&scores)?, &v)?; // [kv_heads, new * group, head_dim]
    Ok(out
        .reshape((kv_heads, new, group, head_dim))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((new, kv_heads * group * head_dim))?)
}

/// Whether candle multiplies strided views on this device: its own CPU product does; BLAS and GPUs
/// need contiguous matrices.
fn multiplies_strided(device: &Device) -> bool {
    device.is_cpu() && !cfg!(any(feature = "mkl", feature = "accelerate"))
}

/// A matrix product per key-value head. On the CPU each head is multiplied separately over strided
/// views of the cache, because candle's batched product copies the cache first.
fn batched_matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !a.device().is_cpu() {
        return Ok(a.matmul(b)?);
    }
    let each: Vec<Tensor> = (0..a.dim(0)?)
        .map(|head| a.i(head)?.matmul(&b.i(head)?))
        .collect::<candle_core::Result<_>>()?;
    Ok(Tensor::stack(&each, 0)?.contiguous()?)
}
