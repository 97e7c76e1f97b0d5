//! The model: weights from a file, a decoder described by data, the KV cache, and the operations of
//! the compute backends.
//!
//! A [`Model`] is immutable and shared; the cache is an argument. It maps token ids to logits and
//! knows neither text nor sampling.

mod buffer;
mod candle;
mod config;
pub mod cpu;
mod decoder;
pub mod kv;
mod ops;
pub mod spec;
mod weights;

pub use config::RawConfig;
#[cfg(feature = "encoder")]
pub(crate) use config::{is_harmless, read_config};
pub use decoder::{Logits, Row};
pub use weights::WeightSource;

use std::sync::Arc;

use candle_core::{DType, Device as CandleDevice};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use cpu::{Isa, Pool};
use decoder::Decoder;
use ops::Ops;
use spec::ModelConfig;

/// A loaded model. Immutable: any number of threads may run it, each with its own caches.
pub struct Model {
    config: ModelConfig,
    backend: Backend,
}

/// The compute backend.
enum Backend {
    /// The CPU's own kernels.
    Cpu(Decoder<cpu::backend::Cpu>),
    /// candle's tensors, on any device.
    Candle(Decoder<candle::Candle>),
}

impl Model {
    /// Loads every weight of `source` onto the device.
    ///
    /// # Errors
    /// An invalid file, or a device that cannot be used.
    pub fn load(source: &WeightSource, options: LoadOptions) -> Result<Self> {
        let config = source.config()?;
        let device = options.device.open()?;
        let isa = if let Device::Cpu(Some(isa)) = options.device { Some(isa) } else { None };
        let quantized = matches!(source, WeightSource::Gguf(_))
            && source.dtypes()?.iter().any(|(dtype, _)| dtype.block_len() > 1);
        let dtype = if quantized { DType::F32 } else { options.dtype.resolve(&device) };
        let backend =
            if device.is_cpu() && dtype == DType::F32 && options.device != Device::Portable {
                Backend::Cpu(Decoder::load(
                    source,
                    &config,
                    cpu::backend::Cpu::new(options.threads, isa)?,
                )?)
            } else {
                Backend::Candle(Decoder::load(source, &config, candle::Candle::new(device, dtype))?)
            };
        Ok(Self { config, backend })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// An empty cache of this model's shape.
    pub fn new_kv(&self) -> kv::KvSeq {
        kv::KvSeq::new(self.config.layers.len())
    }

    /// Bytes that one token takes in the cache, over all layers.
    pub fn kv_bytes_per_token(&self) -> usize {
        let number = match &self.backend {
            Backend::Cpu(decoder) => decoder.ops().kv_element_bytes(),
            Backend::Candle(decoder) => decoder.ops().kv_element_bytes(),
        };
        2 * self.config.layers.len() * self.config.key_value_size() * number
    }

    /// The device and the types of activations and cache.
    pub fn compute(&self) -> Compute {
        let (device, dtype, kv_dtype) = match &self.backend {
            Backend::Cpu(_) => ("cpu", "f32", "f16, int8 beyond the latest"),
            Backend::Candle(decoder) => {
                let (device, dtype) = decoder.ops().device();
                (device, dtype, dtype)
            }
        };
        let [device, dtype, kv_dtype] = [device, dtype, kv_dtype].map(str::to_owned);
        Compute { device, dtype, kv_dtype }
    }

    /// The CPU backend's thread pool, for work on the logits; `None` for other backends.
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        match &self.backend {
            Backend::Cpu(decoder) => Some(decoder.ops().pool()),
            Backend::Candle(_) => None,
        }
    }

    /// Number of compute threads, including the caller's.
    pub fn threads(&self) -> usize {
        self.pool().map_or_else(candle_core::utils::get_num_threads, |pool| pool.threads())
    }

    /// Runs the new tokens of all rows through the model, appends them to their caches and returns
    /// the requested logits.
    ///
    /// A row's logits do not depend on the other rows or on how its past was chunked, bit for bit.
    ///
    /// # Errors
    /// A token id outside the vocabulary, or the tensor backend's error; the caches are then
    /// unusable.
    pub fn forward(&self, rows: &mut [Row<'_>]) -> Result<Logits> {
        match &self.backend {
            Backend::Cpu(decoder) => decoder.forward(&self.config, rows),
            Backend::Candle(decoder) => decoder.forward(&self.config, rows),
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let device = match &self.backend {
            Backend::Cpu(_) => "cpu",
            Backend::Candle(_) => "portable",
        };
        write!(
            f,
            "Model({}, {} layers, {} wide, {device})",
            self.config.architecture.name,
            self.config.layers.len(),
            self.config.hidden_size
        )
    }
}

/// The device and the types that rounding depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compute {
    /// `cpu` (the CPU's own kernels, the same bits with every instruction set), `portable`, `cuda`
    /// or `metal`.
    pub device: String,
    /// Type of activations.
    pub dtype: String,
    /// Type of cached keys and values.
    pub kv_dtype: String,
}

/// The device that computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// CUDA or Metal if both the build and the machine have it, else the CPU.
    #[default]
    Auto,
    /// The CPU's own kernels, with these instructions or the fastest available. The bits are the
    /// same with any.
    Cpu(Option<Isa>),
    /// The CPU through candle's tensors: the path that GPUs take, and the oracle of the kernels.
    Portable,
    /// The n-th NVIDIA GPU.
    Cuda(usize),
    /// The Apple GPU.
    Metal,
}

impl std::str::FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let ordinal = |n: &str| {
            n.parse().map(Self::Cuda).map_err(|_| {
                Error::usage(format!(
                    "device `cuda:{n}`: the number is a GPU's index, as in cuda:0"
                ))
            })
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu(None)),
            "portable" => Ok(Self::Portable),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            other => match other.split_once(':') {
                Some(("cuda", n)) => ordinal(n),
                Some(("cpu", isa)) => isa.parse().map(|isa| Self::Cpu(Some(isa))),
                _ => Err(Error::usage(format!(
                    "device `{other}` is unknown; use auto, cpu, cpu:avx2, portable, cuda:N or \
                     metal"
                ))),
            },
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu(None) => f.write_str("cpu"),
            Self::Cpu(Some(isa)) => write!(f, "cpu:{isa}"),
            Self::Portable => f.write_str("portable"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl Device {
    pub(crate) fn open(self) -> Result<CandleDevice> {
        let fail = |e: candle_core::Error| {
            Error::usage(format!(
                "device {self} cannot be used: {e}; build with `--features cuda` or `metal`, or \
                 use --device cpu"
            ))
        };
        match self {
            Self::Cuda(n) => CandleDevice::new_cuda(n).map_err(fail),
            Self::Metal => CandleDevice::new_metal(0).map_err(fail),
            Self::Auto if cfg!(feature = "cuda") => {
                Ok(CandleDevice::new_cuda(0).unwrap_or(CandleDevice::Cpu))
            }
            Self::Auto if cfg!(feature = "metal") => {
                Ok(CandleDevice::new_metal(0).unwrap_or(CandleDevice::Cpu))
            }
            Self::Auto | Self::Cpu(_) | Self::Portable => Ok(CandleDevice::Cpu),
        }
    }
}

/// Type of activations, dense weights and the cache. Quantized weights keep their own type and
/// compute in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComputeType {
    /// 32-bit floats on the CPU, bf16 elsewhere.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16.
    BF16,
}

impl std::str::FromStr for ComputeType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::BF16),
            other => {
                Err(Error::usage(format!("dtype `{other}` is unknown; use auto, f32, f16 or bf16")))
            }
        }
    }
}

impl ComputeType {
    fn resolve(self, device: &CandleDevice) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Auto if device.is_cpu() => DType::F32,
            Self::Auto | Self::BF16 => DType::BF16,
        }
    }
}

/// How to load a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// The device.
    pub device: Device,
    /// Type of activations, dense weights and the cache.
    pub dtype: ComputeType,
    /// Threads of the CPU's own kernels; `None` for one per physical core, shared by all models of
    /// the process.
    pub threads: Option<usize>,
}

/// Sets the number of threads of the tensor backend, whose pools are made once per process.
///
/// Call it at the start of `main`, before any other thread exists; later calls have no effect.
pub fn set_threads(threads: usize) {
    let count = threads.to_string();
    for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        // SAFETY: called while the process has one thread, so no other thread reads the
        // environment.
        unsafe { std::env::set_var(name, &count) };
    }
}
