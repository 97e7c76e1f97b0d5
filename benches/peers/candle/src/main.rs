//! The speed of candle-transformers on a GGUF file, as one JSON object on stdout.
//!
//! ```sh
//! cargo build --release --manifest-path benches/peers/candle/Cargo.toml --target-dir target/peer
//! RAYON_NUM_THREADS=2 target/peer/release/candle-peer MODEL.gguf
//! ```
//!
//! The parts of `compare.py`, as far as the library can do them. It can neither share a prompt
//! between samples nor process several tokens of several rows at once. So samples start after a
//! prompt of 16 instead of 256, processed token by token outside the timed part, and are 16 tokens
//! long; this favors candle. Parts that a model's code cannot do are skipped, with a message on
//! stderr. The tokens are arbitrary, because their choice does not change the speed. One prefill
//! runs before the timed one.

use std::fs::File;
use std::io::Seek;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{D, Device, Error, Result, Tensor};
use candle_transformers::models::{quantized_gemma3, quantized_llama, quantized_qwen2};

const PREFILL: usize = 512;
const DECODE: usize = 128;
/// The prompt before a single stream and before samples, and the length of those.
const SHORT: usize = 16;

enum Model {
    Llama(quantized_llama::ModelWeights),
    Qwen2(quantized_qwen2::ModelWeights),
    Gemma3(quantized_gemma3::ModelWeights),
}

impl Model {
    fn load(path: &str) -> Result<Self> {
        let mut file = File::open(path)?;
        let content = Content::read(&mut file)?;
        let family = content
            .metadata
            .get("general.architecture")
            .map(|value| value.to_string().cloned())
            .transpose()?;
        file.rewind()?;
        let (file, device) = (&mut file, &Device::Cpu);
        Ok(match family.as_deref() {
            Some("llama") => {
                Self::Llama(quantized_llama::ModelWeights::from_gguf(content, file, device)?)
            }
            Some("qwen2") => {
                Self::Qwen2(quantized_qwen2::ModelWeights::from_gguf(content, file, device)?)
            }
            Some("gemma3") => {
                Self::Gemma3(quantized_gemma3::ModelWeights::from_gguf(content, file, device)?)
            }
            other => return Err(Error::Msg(format!("no model for {other:?}"))),
        })
    }

    /// Logits of the last of `tokens` tokens of each of `rows` rows, after `position` others; an
    /// empty cache at 0.
    fn step(&mut self, rows: usize, tokens: usize, position: usize) -> Result<Tensor> {
        let ids: Vec<u32> = (0..(rows * tokens) as u32)
            .map(|i| (position as u32 + i).wrapping_mul(2_654_435_761) % 40_000)
            .collect();
        let x = Tensor::from_vec(ids, (rows, tokens), &Device::Cpu)?;
        match self {
            Self::Llama(model) => model.forward(&x, position),
            Self::Qwen2(model) => model.forward(&x, position),
            Self::Gemma3(model) => model.forward(&x, position),
        }
    }

    /// Tokens per second of `steps` steps of `rows` rows after a short prompt.
    fn decode(&mut self, rows: usize, steps: usize) -> Result<f64> {
        for position in 0..SHORT {
            self.step(rows, 1, position)?;
        }
        let start = Instant::now();
        for step in 0..steps {
            self.step(rows, 1, SHORT + step)?.argmax(D::Minus1)?;
        }
        Ok((rows * steps) as f64 / start.elapsed().as_secs_f64())
    }
}

fn main() -> Result<()> {
    let path = std::env::args()
        .nth(1)
        .ok_or_else(|| Error::Msg("usage: candle-peer MODEL.gguf".into()))?;
    let mut model = Model::load(&path)?;
    let mut figures = Vec::new();
    let mut part = |name: &str, run: &mut dyn FnMut() -> Result<f64>| match run() {
        Ok(rate) => figures.push(format!("\"{name}\": {rate:.2}")),
        Err(error) => eprintln!("{name}: {}", error.to_string().lines().next().unwrap_or_default()),
    };
    part("prefill", &mut || {
        model.step(1, PREFILL, 0)?;
        let start = Instant::now();
        model.step(1, PREFILL, 0)?;
        Ok(PREFILL as f64 / start.elapsed().as_secs_f64())
    });
    part("single", &mut || model.decode(1, DECODE));
    for rows in [8, 32] {
        part(&format!("samples{rows}"), &mut || model.decode(rows, SHORT));
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok()
        });
        figures.extend(peak.map(|kilobytes| format!("\"memory\": {:.1}", kilobytes * 1.024e-3)));
    }
    println!("{{{}}}", figures.join(", "));
    Ok(())
}
