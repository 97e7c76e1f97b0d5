//! The decoder's operations on the CPU kernels.
//!
//! Activations are f32 rows in reused buffers. They are quantized on the way into a product, once
//! for all matrices that share the input. A layer needs five to eight fork-joins; work too small to
//! distribute stays on the calling thread. A row's result does not depend on the batch: every
//! operation works on single rows, except attention, which has its own contract.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attention::{self, KvRange, Query, Shape};
use super::elementwise::{ApplyRope, GatedActivation, ResidualAdd, RmsNorm, SoftCap};
use super::linear::{Activations, PackedMatrix, Product, gate_up, linear, linear_n};
use super::pool::SharedSliceMut;
use super::simd::run;
use super::{Isa, Pool};
use crate::error::Result;
use crate::format::dtype::RawTensor;
use crate::model::buffer::{Buffer, BufferPool};
use crate::model::decoder::Row;
use crate::model::ops::{GatedMlp, Ops, visible};
use crate::model::spec::{ModelConfig, Rope};

/// The CPU backend.
#[derive(Debug)]
pub struct Cpu {
    pool: Arc<Pool>,
    isa: Isa,
    buffers: Arc<BufferPool>,
    /// The quantized input of a product, kept to reuse its memory.
    input: Mutex<Activations>,
    /// The same for the MLP's second product, which is made while the first input is in use.
    mlp_hidden: Mutex<Activations>,
}

/// A packed matrix with its bias.
#[derive(Debug)]
pub struct Linear {
    matrix: PackedMatrix,
    bias: Option<Vec<f32>>,
}

/// A norm's weight.
#[derive(Debug)]
pub struct Norm {
    weight: Vec<f32>,
    eps: f32,
}

/// Cosines and sines, `[T, head_dim / 2]` each.
#[derive(Debug)]
pub struct CosSin {
    pairs: usize,
    cos: Buffer,
    sin: Buffer,
}

/// `[rows, width]`.
#[derive(Debug)]
pub struct Hidden {
    values: Buffer,
    rows: usize,
}

impl Hidden {
    fn width(&self) -> usize {
        self.values.len().checked_div(self.rows).unwrap_or(0)
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width()..][..self.width()]
    }
}

impl Cpu {
    /// `isa` defaults to the fastest instruction set, `threads` to the process-wide pool with one
    /// thread per physical core. Never more threads than processors, since spinning threads would
    /// block each other.
    pub fn new(threads: Option<usize>, isa: Option<Isa>) -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = threads
            .map_or_else(Pool::global, |threads| Arc::new(Pool::new(threads.min(processors))));
        let isa = isa.unwrap_or_else(Isa::best);
        let activations = || Activations::new(isa).map(Mutex::new);
        Ok(Self {
            pool,
            isa,
            buffers: Arc::default(),
            input: activations()?,
            mlp_hidden: activations()?,
        })
    }

    /// The thread pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    fn hidden(&self, rows: usize, width: usize) -> Hidden {
        Hidden { values: self.buffers.take(rows * width), rows }
    }

    /// The normalized rows of `x` as an input of `matrices`.
    fn normed_input(
        &self,
        norm: &Norm,
        x: &Hidden,
        matrices: &[&PackedMatrix],
    ) -> MutexGuard<'_, Activations> {
        let mut input = lock(&self.input);
        input.fill(&self.pool, x.rows, matrices, |row, out| {
            run(self.isa, RmsNorm { x: x.row(row), weight: &norm.weight, eps: norm.eps, out });
        });
        input
    }

    /// Calls `f(row, values)` for every row of `x`.
    fn for_each_row(&self, x: &mut Hidden, f: impl Fn(usize, &mut [f32]) + Sync) {
        let (rows, width) = (x.rows, x.width());
        let values = SharedSliceMut::new(&mut x.values);
        // SAFETY: each row is taken by one task, and rows do not overlap.
        self.pool
            .for_each_row(rows, width, |row| f(row, unsafe { values.slice(row * width, width) }));
    }
}

/// Ignores poisoning: activations are refilled before they are read.
fn lock(activations: &Mutex<Activations>) -> MutexGuard<'_, Activations> {
    activations.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Norm {
    fn weight_and_eps(&self) -> (&[f32], f32) {
        (&self.weight, self.eps)
    }
}

impl Ops for Cpu {
    type Linear = Linear;
    type Norm = Norm;
    type CosSin = CosSin;
    type Hidden = Hidden;

    fn kv_element_bytes(&self) -> usize {
        // f16, plus int8 for distant spans. The scales of int8 spans are negligible.
        size_of::<half::f16>() + size_of::<u8>()
    }

    fn load_linear(
        &self,
        weight: &RawTensor<'_>,
        bias: Option<&RawTensor<'_>>,
        read: &dyn Fn(&[u8]),
    ) -> Result<Linear> {
        let matrix = PackedMatrix::pack_and_release(weight, &self.pool, read)?;
        Ok(Linear { matrix, bias: bias.map(|bias| self.vector(bias)).transpose()? })
    }

    fn load_norm(&self, weight: &RawTensor<'_>, eps: f64) -> Result<Norm> {
        Ok(Norm { weight: self.vector(weight)?, eps: eps as f32 })
    }

    fn embed(&self, table: &Linear, tokens: &[u32], scale: f64) -> Result<Hidden> {
        let mut x = self.hidden(tokens.len(), table.matrix.width());
        let scale = scale as f32;
        self.for_each_row(&mut x, |row, out| {
            table.matrix.row(tokens[row] as usize, out);
            for x in out {
                *x *= scale;
            }
        });
        Ok(x)
    }

    fn cos_sin(&self, rope: &Rope, positions: &[usize]) -> Result<CosSin> {
        let pairs = rope.inv_freq.len();
        let (mut cos, mut sin) = (
            self.buffers.take(positions.len() * pairs),
            self.buffers.take(positions.len() * pairs),
        );
        for (t, &position) in positions.iter().enumerate() {
            let at = t * pairs;
            // Samples advance together, so their positions are mostly equal.
            if t > 0 && positions[t - 1] == position {
                cos.copy_within(at - pairs..at, at);
                sin.copy_within(at - pairs..at, at);
                continue;
            }
            for (i, frequency) in rope.inv_freq.iter().enumerate() {
                let (s, c) = (position as f64 * frequency).sin_cos();
                (cos[at + i], sin[at + i]) = (c as f32, s as f32);
            }
        }
        Ok(CosSin { pairs, cos, sin })
    }

    fn norm_linear<const N: usize>(
        &self,
        norm: &Norm,
        x: &Hidden,
        linears: [&Linear; N],
    ) -> Result<[Hidden; N]> {
        let mut outputs = linears.map(|linear| (linear, self.hidden(x.rows, linear.matrix.rows())));
        let input = self.normed_input(norm, x, &linears.map(|linear| &linear.matrix));
        let products = outputs.each_mut().map(|(linear, y)| Product {
            matrix: &linear.matrix,
            bias: linear.bias.as_deref(),
            y: &mut y.values,
        });
        linear_n(&self.pool, &input, products);
        Ok(outputs.map(|(_, y)| y))
    }

    fn rope(
        &self,
        cos_sin: &CosSin,
        mut x: Hidden,
        norm: Option<&Norm>,
        head_dim: usize,
    ) -> Result<Hidden> {
        let (pairs, norm) = (cos_sin.pairs, norm.map(Norm::weight_and_eps));
        self.for_each_row(&mut x, |row, x| {
            let (cos, sin) =
                (&cos_sin.cos[row * pairs..][..pairs], &cos_sin.sin[row * pairs..][..pairs]);
            run(self.isa, ApplyRope { x, head_dim, norm, cos, sin });
        });
        Ok(x)
    }

    fn attend(
        &self,
        config: &ModelConfig,
        layer: usize,
        [q, k, v]: [Hidden; 3],
        rows: &mut [Row<'_>],
    ) -> Result<Hidden> {
        let shape = Shape {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            scale: config.attention_scale as f32,
            soft_cap: config.attn_logit_softcapping.map(|cap| cap as f32),
        };
        let width = config.key_value_size();
        let mut first = 0;
        for row in rows.iter_mut() {
            let span = first * width..(first + row.tokens.len()) * width;
            row.kv.append_host(layer, self.isa, shape, &k.values[span.clone()], &v.values[span]);
            first += row.tokens.len();
        }
        let mut out = self.hidden(q.rows, q.width());
        // All rows' cache ranges in sequence, and where each row's ranges end.
        let (mut ranges, mut ends) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows.iter() {
            row.kv.for_each_host_range(layer, |kv, visible| {
                ranges.push(KvRange { kv, start: visible.start, end: visible.end });
            });
            ends.push(ranges.len());
        }
        let mut queries = Vec::with_capacity(q.rows);
        let mut start = 0;
        for (row, end) in rows.iter().zip(ends) {
            let ranges = &ranges[start..end];
            start = end;
            queries.extend((0..row.tokens.len()).map(|t| {
                let visible = visible(config.layers[layer], row.kv, t);
                Query { ranges, start: visible.start, end: visible.end }
            }));
        }
        attention::attend(&self.pool, self.isa, shape, &queries, &q.values, &mut out.values);
        Ok(out)
    }

    fn linear(&self, linear_layer: &Linear, x: &Hidden) -> Result<Hidden> {
        let Linear { matrix, bias } = linear_layer;
        let mut y = self.hidden(x.rows, matrix.rows());
        let mut input = lock(&self.input);
        input.set(&self.pool, &x.values, x.rows, &[matrix]);
        linear(&self.pool, matrix, &input, bias.as_deref(), &mut y.values);
        Ok(y)
    }

    fn mlp(&self, norm: &Norm, x: &Hidden, mlp: &GatedMlp<Linear>) -> Result<Hidden> {
        if [&mlp.gate, &mlp.up, &mlp.down].iter().any(|linear| linear.bias.is_some()) {
            // The fused kernel does not add biases.
            let activation = mlp.activation;
            let [mut hidden, up] = self.norm_linear(norm, x, [&mlp.gate, &mlp.up])?;
            self.for_each_row(&mut hidden, |row, x| {
                run(self.isa, GatedActivation { activation, x, up: up.row(row) });
            });
            return self.linear(&mlp.down, &hidden);
        }
        let [gate, up, down] = [&mlp.gate.matrix, &mlp.up.matrix, &mlp.down.matrix];
        let mut y = self.hidden(x.rows, down.rows());
        let input = self.normed_input(norm, x, &[gate, up]);
        let mut hidden = lock(&self.mlp_hidden);
        gate_up(&self.pool, &input, mlp.activation, [gate, up, down], &mut hidden);
        linear(&self.pool, down, &hidden, None, &mut y.values);
        Ok(y)
    }

    fn add(&self, mut x: Hidden, y: &Hidden, norm: Option<&Norm>) -> Result<Hidden> {
        let norm = norm.map(Norm::weight_and_eps);
        self.for_each_row(&mut x, |row, x| run(self.isa, ResidualAdd { x, y: y.row(row), norm }));
        Ok(x)
    }

    fn select_rows(&self, x: Hidden, indices: &[u32]) -> Result<Hidden> {
        if indices.len() == x.rows {
            return Ok(x);
        }
        let mut selected = self.hidden(indices.len(), x.width());
        let width = x.width();
        for (to, &row) in selected.values.chunks_exact_mut(width).zip(indices) {
            to.copy_from_slice(x.row(row as usize));
        }
        Ok(selected)
    }

    fn logits(
        &self,
        norm: &Norm,
        x: &Hidden,
        lm_head: &Linear,
        soft_cap: Option<f64>,
    ) -> Result<Buffer> {
        let mut z = self.hidden(x.rows, lm_head.matrix.rows());
        let input = self.normed_input(norm, x, &[&lm_head.matrix]);
        linear(&self.pool, &lm_head.matrix, &input, lm_head.bias.as_deref(), &mut z.values);
        if let Some(cap) = soft_cap {
            self.for_each_row(&mut z, |_, x| run(self.isa, SoftCap { x, cap: cap as f32 }));
        }
        Ok(z.values)
    }
}

impl Cpu {
    /// A one-dimensional tensor as f32.
    fn vector(&self, raw: &RawTensor<'_>) -> Result<Vec<f32>> {
        if let Some(values) = raw.to_f32() {
            return Ok(values);
        }
        let row = RawTensor {
            dtype: raw.dtype,
            shape: vec![1, raw.elements()],
            bytes: raw.bytes.as_ref().into(),
        };
        let mut values = vec![0.0; raw.elements()];
        PackedMatrix::pack(&row, &self.pool)?.row(0, &mut values);
        Ok(values)
    }
}
