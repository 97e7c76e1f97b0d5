//! What decoding allocates per step: a few short lists per layer, and growth.
//!
//! Every step allocates its lists (tokens, positions, the cache ranges of each row, queries): a
//! number of allocations per layer that must not depend on the number of tokens so far and, except
//! for the doubling of a list, not on the number of rows. Beyond that, two things grow by doubling,
//! so more and more rarely: each sample's list of tokens, and the newest keys and values of each
//! row and layer. A fork allocates too: it freezes a cache and starts two. So does each thread's
//! first task.
//!
//! Allocations of all threads are counted, so this is a separate binary, without the test harness
//! and its threads.

#[path = "../it/support/gguf_writer.rs"]
#[allow(dead_code)]
mod gguf_writer;
#[path = "../it/support/tiny.rs"]
#[allow(dead_code)]
mod tiny;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candor::internals::engine::{Engine, EngineOptions, LocalEngine, Request, StepControl};
use candor::internals::format::dtype::Dtype;
use candor::internals::format::gguf::Gguf;
use candor::internals::generation::SamplingParams;
use candor::internals::model::{LoadOptions, Model, WeightSource};
use candor::internals::prompt::Prompt;
use candor::internals::tokenizer::Tokenizer;

use tiny::Recipe;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

impl Counting {
    fn count() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

const SAMPLES: usize = 8;
const STEPS: usize = 200;
/// Tokens whose keys and values are stored together.
const TILE: usize = 16;

/// A run: the allocations of each step after the prompt's, and each sample's tokens.
struct Run {
    layers: usize,
    allocations: Vec<usize>,
    samples: Vec<Vec<u32>>,
}

/// Settings of a run.
struct Setup {
    family: &'static str,
    dtype: Dtype,
    prompt: usize,
    threads: usize,
    eager_forking: bool,
    params: SamplingParams,
}

fn run(setup: Setup) -> Run {
    let Setup { family, dtype, prompt, threads, eager_forking, params } = setup;
    let mut recipe = Recipe::load(family);
    recipe.config.insert("max_position_embeddings".into(), toml::Value::Integer(2048));
    let source = WeightSource::Gguf(Gguf::from_bytes("tiny", recipe.gguf(dtype)).unwrap());
    let WeightSource::Gguf(gguf) = &source else { panic!("a GGUF file") };
    let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.metadata()).unwrap());
    let model = Arc::new(
        Model::load(&source, LoadOptions { threads: Some(threads), ..LoadOptions::default() })
            .unwrap(),
    );
    let layers = model.config().layers.len();
    let mut engine = LocalEngine::new(
        model,
        tokenizer,
        EngineOptions { eager_forking, max_batch_tokens: 4096, ..EngineOptions::default() },
    )
    .unwrap();
    let prompt = Prompt::from_tokens((0..prompt as u32).map(|i| 97 + i % 26).collect());
    let params = SamplingParams { n: SAMPLES, max_tokens: STEPS, ignore_eos: true, ..params };
    engine.submit(Request::Sample { prompt, params, samples: 0..SAMPLES, hold: None }).unwrap();
    let mut samples: Vec<Vec<u32>> = (0..SAMPLES).map(|_| Vec::with_capacity(STEPS)).collect();
    let mut allocations = Vec::with_capacity(STEPS);
    for step in 0..STEPS {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let finished = engine.step(&mut |drawn| {
            samples[drawn.sample].push(drawn.token.id);
            StepControl::Continue
        });
        allocations.push(ALLOCATIONS.load(Ordering::Relaxed) - before);
        assert_eq!(finished.unwrap().len(), usize::from(step + 1 == STEPS));
    }
    // The last step makes the result.
    allocations.pop();
    Run { layers, allocations, samples }
}

impl Run {
    /// Allocations of a step in which nothing grows.
    fn steady(&self) -> usize {
        self.allocations[STEPS - 65..].iter().copied().min().unwrap_or(0)
    }

    fn steady_limit(&self) -> usize {
        PER_STEP + PER_LAYER * self.layers
    }

    /// The step at which a sample diverged from the last other one; 0 if it never was with another.
    fn parted(&self, sample: usize) -> usize {
        let own = &self.samples[sample];
        let common = |other: &Vec<u32>| own.iter().zip(other).take_while(|(a, b)| a == b).count();
        self.samples.iter().map(common).filter(|&common| common < STEPS).max().unwrap_or(0)
    }
}

/// Whether a vector that doubles when full may reallocate for its `len`-th element.
fn grows(len: usize) -> bool {
    len == 1 || (len > 1 && (len - 1).is_power_of_two())
}

/// Most allocations of a step with eight rows in which nothing grows: per layer, and the rest. One
/// more per row would be 8 more, which is over the limit.
const PER_LAYER: usize = 6;
const PER_STEP: usize = 14;

/// Checks a run whose rows start at the steps `parted`, and whose buffers have their final sizes
/// from step `warm` on. `once` bounds what workers allocate once, at any time.
fn check(name: &str, run: &Run, parted: &[usize], warm: usize, once: usize) {
    let of_caches = |tail: usize| {
        if tail % TILE == 1 && grows(tail.div_ceil(TILE)) { 2 * run.layers } else { 0 }
    };
    let allowed = |step: usize| {
        let of_tokens = if grows(step + 1) { SAMPLES } else { 0 };
        of_tokens + parted.iter().map(|parted| of_caches(step - parted)).sum::<usize>()
    };
    let steady = run.steady();
    assert!(
        steady <= run.steady_limit(),
        "{name}: {steady} allocations in a step in which nothing grows, at most {}",
        run.steady_limit()
    );
    let beyond = |from: usize| {
        (from..STEPS - 1)
            .map(|step| run.allocations[step].saturating_sub(steady + allowed(step)))
            .sum::<usize>()
    };
    assert!(
        beyond(warm) <= once,
        "{name}: {} allocations too many from step {warm} on: {:?}",
        beyond(warm),
        run.allocations
    );
    // Nothing grows in the last 64 steps.
    assert_eq!(
        (STEPS - 65..STEPS - 1).map(allowed).sum::<usize>(),
        0,
        "{name}: where growth falls"
    );
}

fn main() {
    let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let plain = SamplingParams { temperature: 1.0, ..SamplingParams::default() };
    let filtered = SamplingParams {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.95,
        min_p: 0.01,
        typical_p: 0.95,
        repetition_penalty: 1.1,
        presence_penalty: 0.1,
        ..SamplingParams::default()
    };
    let stopping = SamplingParams { stop: vec!["never said".into()], ..plain.clone() };
    let two = SamplingParams { temperature: 1.0, top_k: 2, ..SamplingParams::default() };
    let setup = |params: &SamplingParams| Setup {
        family: "llama",
        dtype: Dtype::Q8_0,
        prompt: 8,
        threads: 1,
        eager_forking: true,
        params: params.clone(),
    };
    let apart = [0; SAMPLES];
    for family in Recipe::ALL {
        for dtype in [Dtype::F32, Dtype::Q8_0] {
            let together = run(Setup { family, dtype, eager_forking: false, ..setup(&greedy) });
            check(&format!("{family} {dtype}, one row"), &together, &[0], 4, 0);
            let run = run(Setup { family, dtype, ..setup(&plain) });
            check(&format!("{family} {dtype}, eight rows"), &run, &apart, 4, 0);
        }
    }
    // The filters' lists grow with the number of kept tokens; the list of a sample's tokens, for
    // the penalties, doubles three more times.
    check("filters and penalties", &run(setup(&filtered)), &apart, 32, 3);
    // The texts that are searched for stop strings grow too.
    check("stop strings", &run(setup(&stopping)), &apart, 4, SAMPLES * 8);
    // Distant spans. A worker allocates one thing for itself and eight buffers.
    check("a long prompt", &run(Setup { prompt: 1050, ..setup(&plain) }), &apart, 4, 0);
    check(
        "a long prompt on two threads",
        &run(Setup { prompt: 1050, threads: 2, ..setup(&plain) }),
        &apart,
        4,
        20,
    );

    let forking = run(Setup { eager_forking: false, ..setup(&two) });
    let parted: Vec<usize> = (0..SAMPLES).map(|sample| forking.parted(sample)).collect();
    let last = *parted.iter().max().unwrap();
    assert!((1..20).contains(&last), "all samples part, but not at once: {parted:?}");
    // The filter's list may still double.
    check("forking", &forking, &parted, last + 3, 2);
    // A fork makes eight lists; its two rows start two lists per layer; buffers grow with the rows.
    let forks = SAMPLES - 1;
    let made: usize = forking.allocations[1..last + 3].iter().sum();
    let most = (last + 2) * forking.steady_limit()
        + forks * (8 + 4 * forking.layers + 8)
        + SAMPLES * (1..last + 3).filter(|&step| grows(step + 1)).count();
    assert!(
        made <= most,
        "{made} allocations for {forks} forks, at most {most}: {:?}",
        forking.allocations
    );
    println!(
        "a step allocates {} times and what grows; forking, {made} times for {forks} forks",
        forking.steady()
    );
}
