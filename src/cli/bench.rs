//! `candor bench`: prefill, decode and n-sample speed, and what lazy forking saves.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::args::ModelArgs;
use super::output::Output;
use crate::engine::{EngineOptions, LocalEngine};
use crate::error::{Error, Result};
use crate::generation::{Cost, Generation, SamplingParams, TokenCounts};
use crate::machine;
use crate::pipeline::{Identity, LoadedModel};
use crate::prompt::{Prompt, PromptFormat, PromptOptions};
use crate::{generation::Message, hub::format_bytes};

/// Measure prefill, decode and n-sample speed.
#[derive(Debug, Args)]
pub struct Bench {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Repetitions; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
    /// Tokens of the prefill measurement
    #[arg(long, default_value_t = 512)]
    prefill_tokens: usize,
    /// Tokens of the single stream
    #[arg(long, default_value_t = 128)]
    decode_tokens: usize,
    /// Numbers of samples that share a prompt
    #[arg(long, value_delimiter = ',', default_value = "8,32")]
    samples: Vec<usize>,
    /// Tokens of the prompt that the samples share
    #[arg(long, default_value_t = 256)]
    shared_tokens: usize,
    /// Tokens of each sample
    #[arg(long, default_value_t = 64)]
    sample_tokens: usize,
    /// A question of the lazy-forking measurement; repeat it for more
    #[arg(
        long = "question",
        value_name = "QUESTION",
        default_value = "What is the capital of France? Answer with one word."
    )]
    questions: Vec<String>,
    /// Temperature of the questions' samples; without it, the model card's sampling
    #[arg(long)]
    temperature: Option<f32>,
    /// Top-p of the questions' samples, with --temperature
    #[arg(long, requires = "temperature", default_value_t = 1.0)]
    top_p: f32,
    #[command(flatten)]
    model: ModelArgs,
}

/// All metrics of one run. Rates are tokens per second.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    identity: Identity,
    version: &'static str,
    cpu: String,
    threads: usize,
    repeat: u16,
    load_ms: f64,
    prefill: Rate,
    decode: Rate,
    samples: Vec<SampleRate>,
    lazy_forking: Vec<Forking>,
    peak_memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Rate {
    tokens: usize,
    tokens_per_second: f64,
    time_to_first_token_ms: f64,
}

/// n samples of a shared prompt, every sample on its own row.
#[derive(Debug, Serialize)]
struct SampleRate {
    n: usize,
    tokens: usize,
    tokens_per_second: f64,
}

/// Questions asked one after another, with rows shared where samples agree. Tokens are sums over
/// the questions.
#[derive(Debug, Serialize)]
struct Forking {
    n: usize,
    questions: usize,
    prompt_tokens: usize,
    completion_tokens: usize,
    forward_tokens: usize,
    rows_per_token: f64,
    /// A question's mean time, prefill included.
    milliseconds_per_question: f64,
    /// The same with every sample on a row of its own.
    own_rows_milliseconds_per_question: f64,
}

/// Milliseconds to the first token.
fn prefill_ms(cost: &Cost) -> f64 {
    cost.timing.prefill_ms.unwrap_or_default()
}

/// Milliseconds from the first token to the last.
fn decode_ms(cost: &Cost) -> f64 {
    cost.timing.decode_ms.unwrap_or_default()
}

fn total_ms(cost: &Cost) -> f64 {
    prefill_ms(cost) + decode_ms(cost)
}

impl Bench {
    pub fn run(&self, output: &Output) -> Result<()> {
        let start = Instant::now();
        let loaded = self.model.load(output)?;
        let load_ms = start.elapsed().as_secs_f64() * 1e3;
        // First touch of weights and buffers.
        Self::run_tokens(&loaded, 16, 1, 1)?;
        output.detail("measuring prefill");
        let prefill = self.prefill(&loaded)?;
        output.detail("measuring a single stream");
        let decode = self.decode(&loaded)?;
        let mut samples = Vec::new();
        let mut lazy_forking = Vec::new();
        for &n in &self.samples {
            output.detail(&format!("measuring {n} samples"));
            samples.push(self.shared(&loaded, n)?);
            lazy_forking.extend(self.forking(&loaded, n)?);
        }
        let report = Report {
            identity: loaded.identity.clone(),
            version: env!("CARGO_PKG_VERSION"),
            cpu: machine::cpu_name(),
            threads: loaded.model.threads(),
            repeat: self.repeat,
            load_ms,
            prefill,
            decode,
            samples,
            lazy_forking,
            peak_memory_bytes: machine::peak_memory(),
        };
        if self.json {
            let text =
                serde_json::to_string_pretty(&report).map_err(|e| Error::Backend(e.to_string()))?;
            return output.raw(format!("{text}\n").as_bytes());
        }
        self.print(&report, output)
    }

    fn print(&self, report: &Report, output: &Output) -> Result<()> {
        let line = |name: String, value: String| output.answer(&format!("{name:<44}{value}"));
        let rate = |rate: f64| format!("{rate:>8.1} tokens/s");
        line(
            format!("{} {} ", report.identity.model, report.identity.quantization),
            format!("{}, {} threads", report.cpu, report.threads),
        )?;
        line("load".into(), format!("{:>8.0} ms", report.load_ms))?;
        line(
            format!("prefill of {} tokens", report.prefill.tokens),
            rate(report.prefill.tokens_per_second),
        )?;
        line(
            "time to first token".into(),
            format!("{:>8.0} ms", report.prefill.time_to_first_token_ms),
        )?;
        line(
            format!("one sample of {} tokens", report.decode.tokens),
            rate(report.decode.tokens_per_second),
        )?;
        for s in &report.samples {
            let what = format!(
                "{} samples of {} tokens, prompt of {}",
                s.n, self.sample_tokens, self.shared_tokens
            );
            line(what, rate(s.tokens_per_second))?;
        }
        for f in &report.lazy_forking {
            let value = format!(
                "{:>8.2} rows a token, {:.0} ms; on rows of their own {:.0} ms",
                f.rows_per_token, f.milliseconds_per_question, f.own_rows_milliseconds_per_question
            );
            line(format!("{} samples of a question, rows shared", f.n), value)?;
        }
        line(
            "peak memory".into(),
            report
                .peak_memory_bytes
                .map_or_else(|| "unknown".into(), |b| format!("{:>11}", format_bytes(b))),
        )
    }

    /// A fresh engine: nothing is cached.
    fn engine(loaded: &LoadedModel, eager_forking: bool) -> Result<LocalEngine> {
        let options = EngineOptions {
            eager_forking,
            prefix_cache_bytes: 0,
            end_tokens: loaded.stop_tokens.clone(),
            ..EngineOptions::default()
        };
        LocalEngine::new(Arc::clone(&loaded.model), Arc::clone(&loaded.tokenizer), options)
    }

    fn run_tokens(
        loaded: &LoadedModel,
        prompt: usize,
        n: usize,
        max_tokens: usize,
    ) -> Result<Generation> {
        let vocab = loaded.tokenizer.vocab_size() as u32;
        // The token values do not affect speed; these do not repeat within a vocabulary.
        let tokens = (0..prompt as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocab).collect();
        let params =
            SamplingParams { n, max_tokens, ignore_eos: true, ..SamplingParams::default() };
        Self::engine(loaded, true)?.generate(Prompt::from_tokens(tokens), params)
    }

    /// The generation with the median metric.
    fn median(
        &self,
        mut run: impl FnMut() -> Result<Generation>,
        metric: impl Fn(&Generation) -> f64,
    ) -> Result<Generation> {
        let mut all: Vec<Generation> = (0..self.repeat).map(|_| run()).collect::<Result<_>>()?;
        all.sort_by(|a, b| metric(a).total_cmp(&metric(b)));
        Ok(all.swap_remove(usize::from(self.repeat) / 2))
    }

    fn prefill(&self, loaded: &LoadedModel) -> Result<Rate> {
        let tokens = self.prefill_tokens;
        let generation =
            self.median(|| Self::run_tokens(loaded, tokens, 1, 1), |g| prefill_ms(&g.cost))?;
        let ms = prefill_ms(&generation.cost);
        Ok(Rate { tokens, tokens_per_second: tokens as f64 / ms * 1e3, time_to_first_token_ms: ms })
    }

    fn decode(&self, loaded: &LoadedModel) -> Result<Rate> {
        let tokens = self.decode_tokens;
        let generation =
            self.median(|| Self::run_tokens(loaded, 16, 1, tokens + 1), |g| decode_ms(&g.cost))?;
        let cost = generation.cost;
        Ok(Rate {
            tokens,
            tokens_per_second: tokens as f64 / decode_ms(&cost) * 1e3,
            time_to_first_token_ms: prefill_ms(&cost),
        })
    }

    fn shared(&self, loaded: &LoadedModel, n: usize) -> Result<SampleRate> {
        let generation = self.median(
            || Self::run_tokens(loaded, self.shared_tokens, n, self.sample_tokens + 1),
            |g| decode_ms(&g.cost),
        )?;
        let tokens = n * self.sample_tokens;
        Ok(SampleRate {
            n,
            tokens,
            tokens_per_second: tokens as f64 / decode_ms(&generation.cost) * 1e3,
        })
    }

    /// The questions, asked one after another; `None` for a base model, which takes no questions.
    fn forking(&self, loaded: &LoadedModel, n: usize) -> Result<Option<Forking>> {
        if loaded.tokenizer.chat_template().is_none() {
            return Ok(None);
        }
        let format = PromptFormat::new(Arc::clone(&loaded.tokenizer), PromptOptions::default())?;
        let sampling = match self.temperature {
            Some(temperature) => {
                SamplingParams { temperature, top_p: self.top_p, ..SamplingParams::default() }
            }
            None => loaded.sampling(),
        };
        let params = SamplingParams { n, max_tokens: self.sample_tokens, ..sampling };
        let (mut total, mut milliseconds) = (TokenCounts::default(), [0.0; 2]);
        for question in &self.questions {
            for (milliseconds, own_rows) in milliseconds.iter_mut().zip([false, true]) {
                let run = || {
                    Self::engine(loaded, own_rows)?
                        .generate(format.render(&[Message::user(question)])?, params.clone())
                };
                let cost = self.median(run, |g| total_ms(&g.cost))?.cost;
                *milliseconds += total_ms(&cost);
                if !own_rows {
                    total.prompt_tokens += cost.tokens.prompt_tokens;
                    total.completion_tokens += cost.tokens.completion_tokens;
                    total.forward_tokens += cost.tokens.forward_tokens;
                }
            }
        }
        let [shared, own] = milliseconds.map(|sum| sum / self.questions.len() as f64);
        Ok(Some(Forking {
            n,
            questions: self.questions.len(),
            prompt_tokens: total.prompt_tokens,
            completion_tokens: total.completion_tokens,
            forward_tokens: total.forward_tokens,
            rows_per_token: total.forward_tokens as f64 / total.completion_tokens as f64,
            milliseconds_per_question: shared,
            own_rows_milliseconds_per_question: own,
        }))
    }
}
