//! The semantic operations of the decoder, and the only place that knows about devices.
//!
//! Activations are `[T, features]`, T being all tokens of a step over all rows. Every operation treats each token on its own or, in
//! `attend`, each row on its own, so that what a row computes depends neither on its neighbours nor on how its tokens were chunked.
//! On the CPU candle picks some kernels by the number of rows, and sums in another order then: those products are taken row by row.

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, IndexOp, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};

use super::dtype::{Dtype, RawTensor};
use super::kv::{KvSeq, LayerKv};
use super::spec::{Activation, LayerSpec, Rope, Spec};
use crate::error::{Error, Result};

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Backend(error.to_string())
    }
}

/// A matrix in whatever form the device multiplies best.
#[derive(Debug)]
enum Matrix {
    /// candle's block-quantised product; on the CPU also for f32.
    Quantized(QTensor),
    /// `[out, in]` in the dense type.
    Dense(Tensor),
}

/// y = x Wᵀ + b.
#[derive(Debug)]
pub struct Linear {
    matrix: Matrix,
    bias: Option<Tensor>,
    /// The product has to be taken row by row to be the same in any batch.
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
pub struct Angles {
    cos: Tensor,
    sin: Tensor,
}

/// Where and in which type to compute.
#[derive(Clone, Debug)]
pub struct Ops {
    device: Device,
    /// Type of activations, dense weights and the cache.
    dtype: DType,
}

impl Ops {
    /// Operations on `device`. Activations of quantised models stay f32: candle's quantised products take nothing else everywhere.
    pub fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype }
    }

    /// Bytes of one cached number.
    pub fn cache_number_bytes(&self) -> usize {
        self.dtype.size_in_bytes()
    }

    /// Builds a linear layer from `[out, in]` and an optional `[out]`.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn load_linear(&self, weight: RawTensor<'_>, bias: Option<RawTensor<'_>>) -> Result<Linear> {
        let quantized = !matches!(weight.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let shape = weight.shape.clone();
        let matrix = if quantized || (self.device.is_cpu() && self.dtype == DType::F32) {
            let (dtype, bytes) =
                if quantized { (ggml_dtype(weight.dtype), weight.bytes) } else { (GgmlDType::F32, f32_bytes(&weight).into()) };
            Matrix::Quantized(QTensor::new(QStorage::from_data(bytes, &self.device, dtype)?, shape.clone())?)
        } else {
            Matrix::Dense(self.load_dense(weight)?)
        };
        let row_by_row = self.device.is_cpu()
            && match &matrix {
                Matrix::Quantized(q) => kernel_depends_on_rows(q.dtype()),
                Matrix::Dense(_) => true,
            };
        Ok(Linear { matrix, bias: bias.map(|b| self.load_dense(b)).transpose()?, row_by_row })
    }

    /// Builds a norm from `[features]`.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn load_norm(&self, weight: RawTensor<'_>, eps: f64) -> Result<Norm> {
        Ok(Norm { weight: self.load_dense(weight)?, eps: eps as f32 })
    }

    fn load_dense(&self, raw: RawTensor<'_>) -> Result<Tensor> {
        let shape = raw.shape.clone();
        let f32s = match raw.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Tensor::from_raw_buffer(&f32_bytes(&raw), DType::F32, &shape, &Device::Cpu)?,
            other => QTensor::new(QStorage::from_data(raw.bytes, &Device::Cpu, ggml_dtype(other))?, shape)?.dequantize(&Device::Cpu)?,
        };
        Ok(f32s.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// Token embeddings, `[T, hidden]`, from the matrix of `table`.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn embed(&self, table: &Linear, tokens: &[u32], scale: f64) -> Result<Tensor> {
        let ids = Tensor::new(tokens, &self.device)?;
        let x = match &table.matrix {
            Matrix::Quantized(q) => q.embedding(&ids)?.to_dtype(self.dtype)?,
            Matrix::Dense(w) => w.index_select(&ids, 0)?,
        };
        // Scaling by one would cost a pass; no family scales by anything near it.
        if (scale - 1.0).abs() < f64::EPSILON { Ok(x) } else { Ok((x * scale)?) }
    }

    /// RMS norm over the last dimension.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn norm(&self, norm: &Norm, x: &Tensor) -> Result<Tensor> {
        Ok(rms_norm(x, &norm.weight, norm.eps)?)
    }

    /// RMS norm of each head of `[T, heads * head_dim]`.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn norm_heads(&self, norm: &Norm, x: &Tensor, head_dim: usize) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        Ok(self.norm(norm, &x.reshape((tokens * (width / head_dim), head_dim))?)?.reshape((tokens, width))?)
    }

    /// `[T, in]` to `[T, out]`.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn linear(&self, linear: &Linear, x: &Tensor) -> Result<Tensor> {
        let rows = x.dim(0)?;
        let y = if linear.row_by_row && rows > 1 {
            let each: Vec<Tensor> = (0..rows).map(|row| linear.product(&x.narrow(0, row, 1)?)).collect::<Result<_>>()?;
            Tensor::cat(&each, 0)?
        } else {
            linear.product(x)?
        };
        match &linear.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    /// Several linear layers of one input.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn linear_n<const N: usize>(&self, linears: [&Linear; N], x: &Tensor) -> Result<[Tensor; N]> {
        let all: Vec<Tensor> = linears.into_iter().map(|linear| self.linear(linear, x)).collect::<Result<_>>()?;
        all.try_into().map_err(|_| Error::Backend("linear_n lost an output".into()))
    }

    /// The angles of `positions`, computed in f64.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn angles(&self, rope: &Rope, positions: &[usize]) -> Result<Angles> {
        let shape = (positions.len(), rope.inv_freq.len());
        let angles = || positions.iter().flat_map(|&p| rope.inv_freq.iter().map(move |f| p as f64 * f));
        let table = |values: Vec<f32>| -> Result<Tensor> { Ok(Tensor::from_vec(values, shape, &self.device)?.to_dtype(self.dtype)?) };
        Ok(Angles { cos: table(angles().map(|a| a.cos() as f32).collect())?, sin: table(angles().map(|a| a.sin() as f32).collect())? })
    }

    /// Rotates the halves of each head of `[T, heads * head_dim]` by the tokens' angles.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn rope(&self, angles: &Angles, x: &Tensor, head_dim: usize) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let heads = x.reshape((1, tokens, width / head_dim, head_dim))?.transpose(1, 2)?.contiguous()?; // [1, heads, T, head_dim]
        let rotated = candle_nn::rotary_emb::rope(&heads, &angles.cos, &angles.sin)?;
        Ok(rotated.transpose(1, 2)?.contiguous()?.reshape((tokens, width))?)
    }

    /// Causal attention of one row's new tokens over its whole cache, which holds their keys and values already.
    /// `q` is `[new, heads * head_dim]`; so is the result.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn attend(&self, spec: &Spec, layer: usize, q: &Tensor, kv: &KvSeq) -> Result<Tensor> {
        let cache = kv.gather(layer)?;
        if !self.device.is_cpu() {
            return attend_masked(spec, spec.layers[layer], q, &cache, kv);
        }
        let new = q.dim(0)?;
        let mut outputs = Vec::with_capacity(new);
        for t in 0..new {
            let visible = visible(spec.layers[layer], kv, t);
            let keys = LayerKv { k: cache.k.narrow(0, visible.start, visible.len())?, v: cache.v.narrow(0, visible.start, visible.len())? };
            outputs.push(attend_heads(spec, &q.narrow(0, t, 1)?, &keys, None)?);
        }
        Ok(if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, 0)? })
    }

    /// The gated non-linearity: activation(gate) * up.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn glu(&self, activation: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let gate = match activation {
            Activation::Silu => gate.silu()?,
            Activation::GeluTanh => gate.gelu()?,
        };
        Ok((gate * up)?)
    }

    /// x + y.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn add(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok((x + y)?)
    }

    /// The tokens at `indices`.
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn select_rows(&self, x: &Tensor, indices: &[u32]) -> Result<Tensor> {
        Ok(x.index_select(&Tensor::new(indices, &self.device)?, 0)?)
    }

    /// Brings `[rows, features]` to the host as f32, after an optional soft cap c * tanh(x / c).
    ///
    /// # Errors
    /// The tensor backend's.
    pub fn to_host(&self, x: &Tensor, soft_cap: Option<f64>) -> Result<Vec<f32>> {
        let x = x.to_dtype(DType::F32)?;
        let x = match soft_cap {
            Some(cap) => ((x / cap)?.tanh()? * cap)?,
            None => x,
        };
        Ok(x.flatten_all()?.to_vec1()?)
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

/// candle repacks these types and picks the kernel by the number of rows: `Q6_K` on x86, more of them on ARM.
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

/// The bytes of a dense tensor widened to f32.
fn f32_bytes(raw: &RawTensor<'_>) -> Vec<u8> {
    let wide =
        |widen: fn(u16) -> f32| raw.bytes.chunks_exact(2).flat_map(|b| widen(u16::from_le_bytes([b[0], b[1]])).to_le_bytes()).collect();
    match raw.dtype {
        Dtype::F16 => wide(|bits| half::f16::from_bits(bits).to_f32()),
        Dtype::BF16 => wide(|bits| half::bf16::from_bits(bits).to_f32()),
        _ => raw.bytes.to_vec(),
    }
}

/// The cache indices that the `t`-th new token sees.
fn visible(layer: LayerSpec, kv: &KvSeq, t: usize) -> std::ops::Range<usize> {
    let end = kv.len() + t + 1;
    let position = kv.next_position() + t;
    let start = layer.window.map_or(0, |window| kv.first_index_at((position + 1).saturating_sub(window)));
    start..end
}

/// Attention of all new tokens at once under a mask: the form for devices where a launch costs more than the arithmetic.
fn attend_masked(spec: &Spec, layer: LayerSpec, q: &Tensor, cache: &LayerKv, kv: &KvSeq) -> Result<Tensor> {
    let (new, keys) = (q.dim(0)?, cache.k.dim(0)?);
    let mut mask = vec![f32::NEG_INFINITY; new * keys];
    for t in 0..new {
        mask[t * keys..][visible(layer, kv, t)].fill(0.0);
    }
    let mask = Tensor::from_vec(mask, (new, keys), q.device())?.to_dtype(q.dtype())?;
    attend_heads(spec, q, cache, Some(&mask))
}

/// softmax(scale * q kᵀ + mask) v for `[new, heads * head_dim]` over `[keys, key-value heads * head_dim]`.
fn attend_heads(spec: &Spec, q: &Tensor, cache: &LayerKv, mask: Option<&Tensor>) -> Result<Tensor> {
    let (new, keys) = (q.dim(0)?, cache.k.dim(0)?);
    let (kv_heads, head_dim) = (spec.num_key_value_heads, spec.head_dim);
    let group = spec.num_attention_heads / kv_heads;
    // [kv_heads, new * group, head_dim]: the heads of a group share their keys.
    let q = q.reshape((new, kv_heads, group, head_dim))?.transpose(0, 1)?.contiguous()?.reshape((kv_heads, new * group, head_dim))?;
    let k = cache.k.reshape((keys, kv_heads, head_dim))?.permute((1, 2, 0))?; // [kv_heads, head_dim, keys]
    let v = cache.v.reshape((keys, kv_heads, head_dim))?.transpose(0, 1)?; // [kv_heads, keys, head_dim]
    let (k, v) = if multiplies_strided(q.device()) { (k, v) } else { (k.contiguous()?, v.contiguous()?) };
    let mut scores = (batched_matmul(&q, &k)? * spec.attention_scale)?; // [kv_heads, new * group, keys]
    if let Some(cap) = spec.attn_logit_softcapping {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    if let Some(mask) = mask {
        let shaped = scores.reshape((kv_heads, new, group, keys))?.broadcast_add(&mask.reshape((1, new, 1, keys))?)?;
        scores = shaped.reshape((kv_heads, new * group, keys))?;
    }
    let out = batched_matmul(&softmax_last_dim(&scores)?, &v)?; // [kv_heads, new * group, head_dim]
    Ok(out.reshape((kv_heads, new, group, head_dim))?.transpose(0, 1)?.contiguous()?.reshape((new, kv_heads * group * head_dim))?)
}

/// Whether candle multiplies strided views there: its own CPU product does, BLAS and GPUs want whole matrices.
fn multiplies_strided(device: &Device) -> bool {
    device.is_cpu() && !cfg!(any(feature = "mkl", feature = "accelerate"))
}

/// A matrix product per key-value head. On the CPU each head is multiplied on its own, over strided views of the cache: candle's
/// batched form would copy the cache first.
fn batched_matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !a.device().is_cpu() {
        return Ok(a.matmul(b)?);
    }
    let each: Vec<Tensor> = (0..a.dim(0)?).map(|head| a.i(head)?.matmul(&b.i(head)?)).collect::<candle_core::Result<_>>()?;
    Ok(Tensor::stack(&each, 0)?.contiguous()?)
}
