//! CPU attention: against f64, every instruction set against the scalar one, and the bit-exact
//! invariance of a query's result.

use candor::internals::model::cpu::attention::{HostKv, KvRange, Query, Shape, attend};
use candor::internals::model::cpu::{Isa, Pool};
use half::f16;

/// Values in [-1, 1): a hash of (salt, index).
fn numbers(count: usize, salt: u64) -> Vec<f32> {
    let mix = |i: u64| {
        let x = (i.wrapping_add(salt << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x ^ x >> 32) >> 40
    };
    (0..count as u64).map(|i| mix(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// One sequence: keys and values of all its tokens.
struct Sequence {
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Sequence {
    /// `shared` tokens of a common prefix, then `own` ones.
    fn new(shape: Shape, shared: usize, own: usize, salt: u64) -> Self {
        let width = shape.kv_heads * shape.head_dim;
        let join = |a: u64| {
            [numbers(shared * width, a), numbers(own * width, a + 10 * (salt + 1))].concat()
        };
        Self { k: join(1), v: join(2) }
    }

    /// Its cache, segmented at `cuts`; tokens are appended `piece` at a time.
    fn segments(&self, shape: Shape, isa: Isa, cuts: &[usize], piece: usize) -> Vec<HostKv> {
        let width = shape.kv_heads * shape.head_dim;
        let ends = cuts.iter().copied().chain([self.k.len() / width]);
        let mut start = 0;
        let segment = |end: usize| {
            let mut kv = HostKv::default();
            while start < end {
                let next = end.min(start + piece);
                kv.append(
                    isa,
                    shape,
                    &self.k[start * width..next * width],
                    &self.v[start * width..next * width],
                );
                start = next;
            }
            kv
        };
        ends.map(segment).collect()
    }

    /// In f64, on values rounded to f16.
    fn reference(&self, shape: Shape, q: &[f32], start: usize, end: usize) -> Vec<f64> {
        let (d, width, group) =
            (shape.head_dim, shape.kv_heads * shape.head_dim, shape.heads / shape.kv_heads);
        let held = |x: f32| f64::from(f16::from_f32(x).to_f32());
        let mut out = Vec::new();
        for head in 0..shape.heads {
            let at = |numbers: &[f32], token: usize, j: usize| {
                held(numbers[token * width + head / group * d + j])
            };
            let score = |token| {
                let dot: f64 =
                    (0..d).map(|j| f64::from(q[head * d + j]) * at(&self.k, token, j)).sum();
                let scaled = dot * f64::from(shape.scale);
                shape
                    .soft_cap
                    .map_or(scaled, |cap| f64::from(cap) * (scaled / f64::from(cap)).tanh())
            };
            let scores: Vec<f64> = (start..end).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            out.extend((0..d).map(|j| {
                weights
                    .iter()
                    .zip(start..end)
                    .map(|(w, token)| w * at(&self.v, token, j))
                    .sum::<f64>()
                    / sum
            }));
        }
        out
    }
}

fn whole(kv: &HostKv) -> KvRange<'_> {
    KvRange { kv, start: 0, end: kv.len() }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

fn shapes() -> Vec<Shape> {
    let shape = |heads, kv_heads, head_dim, soft_cap| Shape {
        heads,
        kv_heads,
        head_dim,
        scale: 0.7,
        soft_cap,
    };
    vec![
        shape(9, 3, 64, None),
        shape(4, 1, 256, None),
        shape(14, 2, 64, Some(2.0)),
        shape(2, 2, 6, None),
        shape(3, 1, 40, None),
        shape(1, 1, 128, None),
    ]
}

fn instructions() -> impl Iterator<Item = Isa> {
    Isa::ALL.iter().copied().filter(|isa| isa.is_available())
}

#[test]
fn attention_is_near_the_f64_formula_for_any_segments() {
    let pools = [Pool::new(1), Pool::new(3)];
    for shape in shapes() {
        let width = shape.heads * shape.head_dim;
        for (tokens, start) in
            [(1, 0), (15, 3), (16, 0), (17, 16), (300, 0), (300, 41), (500, 255), (512, 0)]
        {
            let sequence = Sequence::new(shape, 0, tokens, 0);
            let q = numbers(width, 5);
            let want = sequence.reference(shape, &q, start, tokens);
            let mut first: Option<Vec<u32>> = None;
            for (cuts, piece) in [
                (vec![], 1000),
                (vec![], 1),
                (vec![tokens / 3], 7),
                (vec![tokens / 5, tokens / 5, tokens / 2], 16),
            ] {
                for isa in instructions() {
                    let kvs = sequence.segments(shape, isa, &cuts, piece);
                    let ranges: Vec<KvRange<'_>> = kvs.iter().map(whole).collect();
                    for pool in &pools {
                        let mut out = vec![f32::NAN; width];
                        attend(
                            pool,
                            isa,
                            shape,
                            &[Query { ranges: &ranges, start, end: tokens }],
                            &q,
                            &mut out,
                        );
                        // Sums of up to 512 products below 1 in f32; weights within 3e-7.
                        for (got, want) in out.iter().zip(&want) {
                            assert!(
                                (f64::from(*got) - want).abs() < 5e-6,
                                "{shape:?}, {tokens} tokens: {got}, want {want}"
                            );
                        }
                        let got = bits(&out);
                        assert_eq!(
                            &got,
                            first.get_or_insert_with(|| got.clone()),
                            "{shape:?} {isa:?} {tokens} from {start}, cut at {cuts:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_query_does_not_depend_on_the_batch() {
    let pool = Pool::new(2);
    for shape in shapes() {
        let width = shape.heads * shape.head_dim;
        // Five rows on a shared prefix, one on a view of it that starts later, one on its own; some
        // prefill several tokens.
        let shared = Sequence::new(shape, 590, 0, 0);
        let past = shared.segments(shape, Isa::best(), &[100], 1000);
        let own: Vec<HostKv> = (0..7)
            .map(|row| {
                let mut kv = HostKv::default();
                let count = (3 + 9 * row) * shape.kv_heads * shape.head_dim;
                kv.append(
                    Isa::best(),
                    shape,
                    &numbers(count, 50 + row as u64),
                    &numbers(count, 70 + row as u64),
                );
                kv
            })
            .collect();
        let ranges = |row: usize| match row {
            5 => {
                vec![
                    KvRange { kv: &past[0], start: 37, end: 100 },
                    whole(&past[1]),
                    whole(&own[row]),
                ]
            }
            6 => vec![whole(&own[row])],
            _ => vec![whole(&past[0]), whole(&past[1]), whole(&own[row])],
        };
        let all: Vec<Vec<KvRange<'_>>> = (0..7).map(ranges).collect();
        let len =
            |ranges: &[KvRange<'_>]| ranges.iter().map(|part| part.end - part.start).sum::<usize>();
        let mut queries = Vec::new();
        for (row, ranges) in all.iter().enumerate() {
            for back in (0..=row % 3).rev() {
                queries.push(Query {
                    ranges,
                    start: if row == 4 { 260 } else { 0 },
                    end: len(ranges) - back,
                });
            }
        }
        let q = numbers(queries.len() * width, 9);
        let mut together = vec![f32::NAN; q.len()];
        attend(&pool, Isa::best(), shape, &queries, &q, &mut together);
        for (i, query) in queries.iter().enumerate() {
            let mut alone = vec![f32::NAN; width];
            attend(
                &pool,
                Isa::best(),
                shape,
                std::slice::from_ref(query),
                &q[i * width..][..width],
                &mut alone,
            );
            assert_eq!(bits(&alone), bits(&together[i * width..][..width]), "{shape:?}, query {i}");
        }
    }
}

#[test]
fn later_tokens_do_not_affect_earlier_ones() {
    let shape = Shape { heads: 2, kv_heads: 1, head_dim: 64, scale: 0.125, soft_cap: None };
    let mut sequence = Sequence::new(shape, 0, 20, 0);
    let q = numbers(20 * 128, 3);
    let attend_all = |sequence: &Sequence| {
        let kvs = sequence.segments(shape, Isa::best(), &[], 1000);
        let ranges = [whole(&kvs[0])];
        let queries: Vec<Query<'_>> =
            (0..20).map(|t| Query { ranges: &ranges, start: 0, end: t + 1 }).collect();
        let mut out = vec![0.0; q.len()];
        attend(&Pool::new(1), Isa::best(), shape, &queries, &q, &mut out);
        out
    };
    let clean = attend_all(&sequence);
    sequence.v[18 * 64..19 * 64].fill(f32::INFINITY);
    sequence.k[18 * 64..19 * 64].fill(f32::NAN);
    let spoilt = attend_all(&sequence);
    assert_eq!(bits(&spoilt[..18 * 128]), bits(&clean[..18 * 128]));
    assert!(spoilt[18 * 128..].iter().all(|x| !x.is_finite()));
}

#[test]
fn values_that_are_not_finite_in_a_distant_span_show() {
    for shape in shapes() {
        let (width, tokens) = (shape.kv_heads * shape.head_dim, 1000);
        let q = numbers(shape.heads * shape.head_dim, 3);
        let check = |spoil: &dyn Fn(&mut Sequence, usize), token: usize| {
            let mut sequence = Sequence::new(shape, 0, tokens, 0);
            // One value of the last head.
            spoil(&mut sequence, (token + 1) * width - 1);
            for isa in instructions() {
                let kvs = sequence.segments(shape, isa, &[], tokens);
                let ranges = [whole(&kvs[0])];
                let mut out = vec![0.0; q.len()];
                attend(
                    &Pool::new(1),
                    isa,
                    shape,
                    &[Query { ranges: &ranges, start: 0, end: tokens }],
                    &q,
                    &mut out,
                );
                let last = &out[(shape.heads - 1) * shape.head_dim..];
                assert!(
                    !last[shape.head_dim - 1].is_finite(),
                    "{shape:?} {isa} token {token}: {last:?}"
                );
            }
        };
        // The first token of a distant span, one inside, and the last.
        for token in [256, 300, 511] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                check(&|sequence, at| sequence.k[at] = bad, token);
                check(&|sequence, at| sequence.v[at] = bad, token);
            }
        }
    }
}

#[test]
fn distant_spans_are_near_the_formula_and_independent_of_segments() {
    let pools = [Pool::new(1), Pool::new(3)];
    for shape in shapes() {
        let width = shape.heads * shape.head_dim;
        for (tokens, start) in [(513, 0), (1300, 0), (1300, 41), (1300, 300)] {
            let sequence = Sequence::new(shape, 0, tokens, 0);
            let q = numbers(width, 5);
            let exact = sequence.reference(shape, &q, start, tokens);
            let mut first: Option<Vec<u32>> = None;
            for (cuts, piece) in [
                (vec![], 5000),
                (vec![], 100),
                (vec![512], 5000),
                (vec![tokens / 5, tokens / 5, tokens / 2], 16),
            ] {
                for isa in instructions() {
                    let kvs = sequence.segments(shape, isa, &cuts, piece);
                    let ranges: Vec<KvRange<'_>> = kvs.iter().map(whole).collect();
                    for pool in &pools {
                        let mut out = vec![f32::NAN; width];
                        attend(
                            pool,
                            isa,
                            shape,
                            &[Query { ranges: &ranges, start, end: tokens }],
                            &q,
                            &mut out,
                        );
                        // int8 values of numbers below 1 are within 1/254 of them. A score, a sum
                        // of head_dim products of numbers below 1 times the scale, changes by about
                        // sqrt(head_dim) / 254, a weight by that share, and the mean of values
                        // spread over all of [-1, 1) by a fraction of it: the bound is only reached
                        // by errors of one sign on all keys.
                        let bound = 2.0 * (shape.head_dim as f64).sqrt() * f64::from(shape.scale)
                            / 254.0
                            + 1.0 / 254.0;
                        for (got, want) in out.iter().zip(&exact) {
                            assert!(
                                (f64::from(*got) - want).abs() < bound,
                                "{shape:?}, {tokens} tokens: {got}, want {want}"
                            );
                        }
                        let got = bits(&out);
                        assert_eq!(
                            &got,
                            first.get_or_insert_with(|| got.clone()),
                            "{shape:?} {isa:?} {tokens} from {start}, cut {cuts:?}"
                        );
                    }
                }
            }
        }
    }
}
