//! The decoder's operations on the CPU: slices, packed weights and one spin pool.
//!
//! Activations are f32 rows in buffers that are used again; they are quantised on the way into a
//! product, once for all matrices that share it. Five to eight fork-joins a layer; what is too
//! small to share stays on the calling thread. Everything works on one row, or as `attention.rs`
//! says, so a row's result does not depend on the batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attention::{self, Part, Query, Shape};
use super::buffer::{Arena, Buffer};
use super::elementwise::{Add, Gate, RmsNorm, Rotate, SoftCap};
use super::linear::{Activations, PackedMatrix, Product, gated, linear, linear_n};
use super::pool::Disjoint;
use super::simd::run;
use super::{Isa, Pool};
use crate::error::Result;
use crate::model::decoder::Row;
use crate::model::dtype::{Dtype, RawTensor};
use crate::model::ops::{GatedMlp, Ops, visible};
use crate::model::spec::{Rope, Spec};

/// The CPU's own kernels.
#[derive(Debug)]
pub struct Cpu {
    pool: Arc<Pool>,
    isa: Isa,
    arena: Arc<Arena>,
    /// The quantized input of a product, kept for its memory.
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
pub struct Angles {
    pairs: usize,
    cos: Buffer,
    sin: Buffer,
}

/// `[rows, width]`.
#[derive(Debug)]
pub struct Value {
    numbers: Buffer,
    rows: usize,
}

impl Value {
    fn width(&self) -> usize {
        self.numbers.len().checked_div(self.rows).unwrap_or(0)
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.width()..][..self.width()]
    }
}

impl Cpu {
    /// With `isa`, or the fastest instructions there are, on `threads` threads, or the process's
    /// pool of one per physical core. Spinning threads beyond the processors would only keep each
    /// other from running, so there are no more than those.
    pub fn new(threads: Option<usize>, isa: Option<Isa>) -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = threads
            .map_or_else(Pool::global, |threads| Arc::new(Pool::new(threads.min(processors))));
        let isa = isa.unwrap_or_else(Isa::best);
        let activations = || Activations::new(isa).map(Mutex::new);
        Ok(Self {
            pool,
            isa,
            arena: Arc::default(),
            input: activations()?,
            mlp_hidden: activations()?,
        })
    }

    /// The threads.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    fn value(&self, rows: usize, width: usize) -> Value {
        Value { numbers: self.arena.take(rows * width), rows }
    }

    /// The normed rows of `x` as an input of `matrices`.
    fn normed(
        &self,
        norm: &Norm,
        x: &Value,
        matrices: &[&PackedMatrix],
    ) -> MutexGuard<'_, Activations> {
        let mut input = lock(&self.input);
        input.fill(&self.pool, x.rows, matrices, |row, out| {
            run(self.isa, RmsNorm { x: x.row(row), weight: &norm.weight, eps: norm.eps, out });
        });
        input
    }

    /// Runs `f(row, numbers)` for every row of `x`.
    fn each_row(&self, x: &mut Value, f: impl Fn(usize, &mut [f32]) + Sync) {
        let (rows, width) = (x.rows, x.width());
        let numbers = Disjoint::new(&mut x.numbers);
        // SAFETY: each row is taken by one task, and rows do not overlap.
        self.pool
            .over_rows(rows, width, |row| f(row, unsafe { numbers.slice(row * width, width) }));
    }
}

/// Nothing that a panic interrupts leaves activations unusable: they are filled before they are read.
fn lock(activations: &Mutex<Activations>) -> MutexGuard<'_, Activations> {
    activations.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Norm {
    fn parts(&self) -> (&[f32], f32) {
        (&self.weight, self.eps)
    }
}

impl Ops for Cpu {
    type Linear = Linear;
    type Norm = Norm;
    type Angles = Angles;
    type Value = Value;

    fn cache_number_bytes(&self) -> usize {
        // In half precision, and in codes once a query is far behind it; their scales are a number
        // for every head.
        size_of::<half::f16>() + size_of::<u8>()
    }

    fn load_linear(
        &self,
        weight: &RawTensor<'_>,
        bias: Option<&RawTensor<'_>>,
        read: &dyn Fn(&[u8]),
    ) -> Result<Linear> {
        let matrix = PackedMatrix::pack_reading(weight, &self.pool, read)?;
        Ok(Linear { matrix, bias: bias.map(|bias| self.vector(bias)).transpose()? })
    }

    fn load_norm(&self, weight: &RawTensor<'_>, eps: f64) -> Result<Norm> {
        Ok(Norm { weight: self.vector(weight)?, eps: eps as f32 })
    }

    fn embed(&self, table: &Linear, tokens: &[u32], scale: f64) -> Result<Value> {
        let mut x = self.value(tokens.len(), table.matrix.width());
        let scale = scale as f32;
        self.each_row(&mut x, |row, out| {
            table.matrix.row(tokens[row] as usize, out);
            for x in out {
                *x *= scale;
            }
        });
        Ok(x)
    }

    fn angles(&self, rope: &Rope, positions: &[usize]) -> Result<Angles> {
        let pairs = rope.inv_freq.len();
        let (mut cos, mut sin) =
            (self.arena.take(positions.len() * pairs), self.arena.take(positions.len() * pairs));
        for (t, &position) in positions.iter().enumerate() {
            let at = t * pairs;
            // Samples move in step: their positions are mostly the same.
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
        Ok(Angles { pairs, cos, sin })
    }

    fn project<const N: usize>(
        &self,
        norm: &Norm,
        x: &Value,
        linears: [&Linear; N],
    ) -> Result<[Value; N]> {
        let mut outputs = linears.map(|linear| (linear, self.value(x.rows, linear.matrix.rows())));
        let input = self.normed(norm, x, &linears.map(|linear| &linear.matrix));
        let products = outputs.each_mut().map(|(linear, y)| Product {
            matrix: &linear.matrix,
            bias: linear.bias.as_deref(),
            y: &mut y.numbers,
        });
        linear_n(&self.pool, &input, products);
        Ok(outputs.map(|(_, y)| y))
    }

    fn rotate(
        &self,
        angles: &Angles,
        mut x: Value,
        norm: Option<&Norm>,
        head_dim: usize,
    ) -> Result<Value> {
        let (pairs, norm) = (angles.pairs, norm.map(Norm::parts));
        self.each_row(&mut x, |row, x| {
            let (cos, sin) =
                (&angles.cos[row * pairs..][..pairs], &angles.sin[row * pairs..][..pairs]);
            run(self.isa, Rotate { x, head_dim, norm, cos, sin });
        });
        Ok(x)
    }

    fn attend(
        &self,
        spec: &Spec,
        layer: usize,
        [q, k, v]: [Value; 3],
        rows: &mut [Row<'_>],
    ) -> Result<Value> {
        let shape = Shape {
            heads: spec.num_attention_heads,
            kv_heads: spec.num_key_value_heads,
            head_dim: spec.head_dim,
            scale: spec.attention_scale as f32,
            soft_cap: spec.attn_logit_softcapping.map(|cap| cap as f32),
        };
        let width = spec.key_value_size();
        let mut first = 0;
        for row in rows.iter_mut() {
            let span = first * width..(first + row.tokens.len()) * width;
            row.kv.append_host(layer, self.isa, shape, &k.numbers[span.clone()], &v.numbers[span]);
            first += row.tokens.len();
        }
        let mut out = self.value(q.rows, q.width());
        // All rows' parts one after another, and where each row's parts end.
        let (mut parts, mut ends) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows.iter() {
            row.kv.each_part(layer, |kv, visible| {
                parts.push(Part { kv, start: visible.start, end: visible.end });
            });
            ends.push(parts.len());
        }
        let mut queries = Vec::with_capacity(q.rows);
        let mut start = 0;
        for (row, end) in rows.iter().zip(ends) {
            let parts = &parts[start..end];
            start = end;
            queries.extend((0..row.tokens.len()).map(|t| {
                let visible = visible(spec.layers[layer], row.kv, t);
                Query { parts, start: visible.start, end: visible.end }
            }));
        }
        attention::attend(&self.pool, self.isa, shape, &queries, &q.numbers, &mut out.numbers);
        Ok(out)
    }

    fn linear(&self, linear_layer: &Linear, x: &Value) -> Result<Value> {
        let Linear { matrix, bias } = linear_layer;
        let mut y = self.value(x.rows, matrix.rows());
        let mut input = lock(&self.input);
        input.set(&self.pool, &x.numbers, x.rows, &[matrix]);
        linear(&self.pool, matrix, &input, bias.as_deref(), &mut y.numbers);
        Ok(y)
    }

    fn feed_forward(&self, norm: &Norm, x: &Value, mlp: &GatedMlp<Linear>) -> Result<Value> {
        if [&mlp.gate, &mlp.up, &mlp.down].iter().any(|linear| linear.bias.is_some()) {
            // The fused kernel adds no biases.
            let activation = mlp.activation;
            let [mut hidden, up] = self.project(norm, x, [&mlp.gate, &mlp.up])?;
            self.each_row(&mut hidden, |row, x| {
                run(self.isa, Gate { activation, x, up: up.row(row) });
            });
            return self.linear(&mlp.down, &hidden);
        }
        let [gate, up, down] = [&mlp.gate.matrix, &mlp.up.matrix, &mlp.down.matrix];
        let mut y = self.value(x.rows, down.rows());
        let input = self.normed(norm, x, &[gate, up]);
        let mut hidden = lock(&self.mlp_hidden);
        gated(&self.pool, &input, mlp.activation, [gate, up, down], &mut hidden);
        linear(&self.pool, down, &hidden, None, &mut y.numbers);
        Ok(y)
    }

    fn add(&self, mut x: Value, y: &Value, norm: Option<&Norm>) -> Result<Value> {
        let norm = norm.map(Norm::parts);
        self.each_row(&mut x, |row, x| run(self.isa, Add { x, y: y.row(row), norm }));
        Ok(x)
    }

    fn select_rows(&self, x: Value, indices: &[u32]) -> Result<Value> {
        if indices.len() == x.rows {
            return Ok(x);
        }
        let mut selected = self.value(indices.len(), x.width());
        let width = x.width();
        for (to, &row) in selected.numbers.chunks_exact_mut(width).zip(indices) {
            to.copy_from_slice(x.row(row as usize));
        }
        Ok(selected)
    }

    fn logits(
        &self,
        norm: &Norm,
        x: &Value,
        head: &Linear,
        soft_cap: Option<f64>,
    ) -> Result<Buffer> {
        let mut z = self.value(x.rows, head.matrix.rows());
        let input = self.normed(norm, x, &[&head.matrix]);
        linear(&self.pool, &head.matrix, &input, head.bias.as_deref(), &mut z.numbers);
        if let Some(cap) = soft_cap {
            self.each_row(&mut z, |_, x| run(self.isa, SoftCap { x, cap: cap as f32 }));
        }
        Ok(z.numbers)
    }
}

impl Cpu {
    /// A tensor of one dimension as f32.
    fn vector(&self, raw: &RawTensor<'_>) -> Result<Vec<f32>> {
        let row = RawTensor {
            dtype: raw.dtype,
            shape: vec![1, raw.elements()],
            bytes: raw.bytes.as_ref().into(),
        };
        let mut numbers = vec![0.0; raw.elements()];
        if raw.dtype == Dtype::F32 {
            let values =
                raw.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            numbers.iter_mut().zip(values).for_each(|(number, value)| *number = value);
        } else {
            PackedMatrix::pack(&row, &self.pool)?.row(0, &mut numbers);
        }
        Ok(numbers)
    }
}
