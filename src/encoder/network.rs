//! Loading an encoder and computing with it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::BertModel;
use candle_transformers::models::debertav2::DebertaV2SeqClassificationModel;
use candle_transformers::models::modernbert::ModernBertForSequenceClassification;
use sha2::Digest as _;

use super::config::{Architecture, EncoderConfig};
use crate::digest::hex;
use crate::error::{Error, Result};
use crate::format::safetensors::SafeTensorFiles;
use crate::model;
use crate::tokenizer::EncoderTokenizer;

/// The cosine at which two answers are as probably the same as not, and the slope of the log-odds:
/// a logistic regression on 380 labeled pairs of two small models' answers, with all-MiniLM-L6-v2.
const COSINE_THRESHOLD: f64 = 0.68;
const COSINE_SLOPE: f64 = 4.6;

/// The network, by what it computes.
enum Network {
    Embedding(Box<BertModel>),
    DebertaV2(Box<DebertaV2SeqClassificationModel>),
    ModernBert(Box<ModernBertForSequenceClassification>),
}

/// An encoder in memory, in f32.
pub struct Encoder {
    name: String,
    sha256: String,
    tokenizer: EncoderTokenizer,
    network: Network,
    device: Device,
    max_tokens: usize,
    /// The index of the label `entailment`.
    entailment: usize,
}

impl Encoder {
    /// Loads the encoder in the folder at `path`, or in the folder of the file at `path`:
    /// `config.json`, `tokenizer.json`, and safetensors in one file or with an index.
    ///
    /// # Errors
    /// An invalid file, with the key or tensor and what is supported; a device that cannot be used.
    pub fn load(path: &Path, device: model::Device) -> Result<Self> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        let (config_path, tokenizer_path) =
            (folder.join("config.json"), folder.join("tokenizer.json"));
        let config = EncoderConfig::from_file(&config_path)?;
        let tokenizer = EncoderTokenizer::from_file(&tokenizer_path)?;
        if tokenizer.vocab_size > config.vocab_size {
            return Err(Error::invalid_file(
                tokenizer_path,
                format!(
                    "the tokenizer has ids up to {}, config.json has vocab_size {}",
                    tokenizer.vocab_size - 1,
                    config.vocab_size
                ),
            ));
        }
        check_pooling(&folder.join("1_Pooling").join("config.json"))?;
        let files = SafeTensorFiles::open(path)?;
        check_tensors(&files, &config)?;
        let device = device.open()?;
        let weights =
            VarBuilder::from_tensors(tensors(&files, &config, &device)?, DType::F32, &device);
        let network = match &config.architecture {
            Architecture::Bert(config) => {
                Network::Embedding(Box::new(BertModel::load(weights, config)?))
            }
            Architecture::DebertaV2(config) => Network::DebertaV2(Box::new(
                DebertaV2SeqClassificationModel::load(weights.set_prefix("deberta"), config, None)?,
            )),
            Architecture::ModernBert(config) => Network::ModernBert(Box::new(
                ModernBertForSequenceClassification::load(weights, config)?,
            )),
        };
        let paths = [config_path.as_path(), tokenizer_path.as_path()].into_iter();
        Ok(Self {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: sha256_of(paths.chain(files.files()))?,
            tokenizer,
            network,
            device,
            max_tokens: config.max_tokens,
            entailment: config.entailment,
        })
    }

    /// The folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of everything that the result depends on, lower-case hexadecimal: `config.json`,
    /// `tokenizer.json` and the weight files in order of name, one after the other, as
    /// `cat config.json tokenizer.json model.safetensors | sha256sum` prints.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// P(same meaning) in 0..=1 of each pair of answers to `question`. Symmetric in the two
    /// answers; the same bits whatever other pairs are in the call.
    ///
    /// An embedding model embeds "question answer", removes what lies in the direction of the
    /// question's embedding, and maps the cosine of two answers by [`same_by_cosine`]. On 380 other
    /// pairs the area under the ROC curve was 0.78 so, 0.72 for the answers alone and 0.66 with the
    /// question left in.
    ///
    /// An entailment model takes the smaller P(entailment) of both directions, each answer after
    /// the question (Kuhn et al., arXiv 2302.09664, section 4.2, with probabilities in place of the
    /// most probable class). Its scale is the model's: 0.5 need not be the threshold.
    ///
    /// # Errors
    /// A text that cannot be tokenized; a network that computes NaN.
    pub fn same(&self, question: &str, pairs: &[(String, String)]) -> Result<Vec<f64>> {
        let full = |answer: &str| format!("{question} {answer}");
        if !matches!(self.network, Network::Embedding(_)) {
            let both = |(a, b): &(String, String)| {
                let (a, b) = (full(a), full(b));
                Ok(self.entailment(&a, &b)?.min(self.entailment(&b, &a)?))
            };
            return pairs.iter().map(both).collect();
        }
        let direction = self.embedding(question)?;
        let mut embeddings: HashMap<&str, Vec<f64>> = HashMap::new();
        for answer in pairs.iter().flat_map(|(a, b)| [a.as_str(), b.as_str()]) {
            if !embeddings.contains_key(answer) {
                let embedding = self.embedding(&full(answer))?;
                embeddings.insert(answer, without(&embedding, &direction));
            }
        }
        let cosine = |(a, b): &(String, String)| {
            if a == b { 1.0 } else { dot(&embeddings[a.as_str()], &embeddings[b.as_str()]) }
        };
        Ok(pairs.iter().map(|pair| same_by_cosine(cosine(pair))).collect())
    }

    /// The mean of the last layer over all tokens of `[CLS] text [SEP]`, of length 1.
    ///
    /// # Errors
    /// As [`Self::same`]; an entailment model has no embedding.
    pub fn embedding(&self, text: &str) -> Result<Vec<f32>> {
        let Network::Embedding(bert) = &self.network else {
            return Err(Error::usage(format!("{} computes entailment, no embeddings", self.name)));
        };
        let [cls, sep] = [self.tokenizer.cls, self.tokenizer.sep];
        let ids = self.tokenizer.encode(text)?;
        let ids = [&[cls], tail(&ids, self.max_tokens - 2), &[sep]].concat();
        let ids = self.input(ids)?;
        let hidden = bert.forward(&ids, &ids.zeros_like()?, None)?; // [1, T, hidden]
        let mean: Vec<f32> = hidden.mean(1)?.squeeze(0)?.to_vec1()?;
        let norm = mean.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        self.finite(norm)?;
        Ok(mean.into_iter().map(|x| (f64::from(x) / norm.max(1e-12)) as f32).collect())
    }

    /// P(`premise` entails `hypothesis`) in 0..=1, of `[CLS] premise [SEP] hypothesis [SEP]`. Of
    /// texts that are too long together, the longer loses its start, since an answer follows its
    /// question.
    ///
    /// # Errors
    /// As [`Self::same`]; an embedding model computes no entailment.
    pub fn entailment(&self, premise: &str, hypothesis: &str) -> Result<f64> {
        let [cls, sep] = [self.tokenizer.cls, self.tokenizer.sep];
        let (a, b) = (self.tokenizer.encode(premise)?, self.tokenizer.encode(hypothesis)?);
        let room = self.max_tokens - 3;
        let for_a = a.len().min(room - b.len().min(room / 2));
        let (a, b) = (tail(&a, for_a), tail(&b, room - for_a));
        let ids = self.input([&[cls], a, &[sep], b, &[sep]].concat())?;
        let scores: Vec<f32> = match &self.network {
            Network::Embedding(_) => {
                return Err(Error::usage(format!(
                    "{} computes embeddings, no entailment",
                    self.name
                )));
            }
            Network::DebertaV2(deberta) => deberta.forward(&ids, None, None)?,
            // Probabilities, of which the logarithms are logits too.
            Network::ModernBert(bert) => bert.forward(&ids, &ids.ones_like()?)?.log()?,
        }
        .squeeze(0)?
        .to_vec1()?;
        let score = |index: usize| f64::from(scores.get(index).copied().unwrap_or(f32::NAN));
        let own = score(self.entailment);
        let sum: f64 = (0..scores.len()).map(|index| (score(index) - own).exp()).sum();
        self.finite(1.0 / sum)
    }

    /// Ids as a batch of one, `[1, T]`.
    fn input(&self, ids: Vec<u32>) -> Result<Tensor> {
        let len = ids.len();
        Ok(Tensor::from_vec(ids, (1, len), &self.device)?)
    }

    fn finite(&self, value: f64) -> Result<f64> {
        if value.is_finite() {
            return Ok(value);
        }
        let reason = format!("{} computed {value}; its weights may be damaged", self.name);
        Err(Error::Numerical(reason))
    }
}

/// P(same) of two answers from the cosine of their embeddings, a logistic function.
pub fn same_by_cosine(cosine: f64) -> f64 {
    1.0 / (1.0 + (-COSINE_SLOPE * (cosine - COSINE_THRESHOLD)).exp())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// What is left of `x` without its part along `direction`, which has length 1; of length 1 too.
fn without(x: &[f32], direction: &[f32]) -> Vec<f64> {
    let (x, direction): (Vec<f64>, Vec<f64>) =
        x.iter().zip(direction).map(|(x, d)| (f64::from(*x), f64::from(*d))).unzip();
    let along = dot(&x, &direction);
    let rest: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x - along * d).collect();
    let norm = dot(&rest, &rest).sqrt().max(1e-12);
    rest.into_iter().map(|x| x / norm).collect()
}

/// The last `len` ids.
fn tail(ids: &[u32], len: usize) -> &[u32] {
    &ids[ids.len().saturating_sub(len)..]
}

/// Refuses what sentence-transformers writes for a pooling other than the mean over all tokens.
fn check_pooling(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let pooling: serde_json::Value = serde_json::from_str(&model::read_config(path)?)
        .map_err(|error| Error::invalid_file(path, format!("invalid JSON: {error}")))?;
    let modes = pooling.as_object().into_iter().flatten();
    for (key, value) in modes.filter(|(key, _)| key.starts_with("pooling_mode_")) {
        if *value != (key == "pooling_mode_mean_tokens") {
            let reason = format!("{key} is {value}; supported is the mean over tokens alone");
            return Err(Error::invalid_file(path, reason));
        }
    }
    Ok(())
}

/// Compares the names and shapes in the file with those that `config.json` asks for.
fn check_tensors(files: &SafeTensorFiles, config: &EncoderConfig) -> Result<()> {
    let invalid = |reason: String| Error::invalid_file(files.path(), reason);
    for (name, shape) in &config.tensors {
        let stored = files.tensor(name)?.shape;
        if stored != *shape {
            return Err(invalid(format!(
                "tensor {name} has shape {stored:?}, config.json asks for {shape:?}"
            )));
        }
    }
    let used = |name: &str| config.tensors.iter().any(|(used, _)| used == name);
    let unused = |name: &str| config.unused.iter().any(|prefix| name.starts_with(prefix));
    match files.tensor_names().find(|name| !used(name) && !unused(name)) {
        Some(name) => Err(invalid(format!(
            "the encoder of config.json has no tensor {name}; the file is of another architecture, \
             or damaged"
        ))),
        None => Ok(()),
    }
}

/// The tensors that the network uses, in f32.
fn tensors(
    files: &SafeTensorFiles,
    config: &EncoderConfig,
    device: &Device,
) -> Result<HashMap<String, Tensor>> {
    let read = |(name, _): &(String, Vec<usize>)| {
        let raw = files.tensor(name)?;
        let values = raw.to_f32().unwrap_or_default();
        let tensor = Tensor::from_vec(values, raw.shape.clone(), device)?;
        files.release(&raw.bytes);
        Ok((name.clone(), tensor))
    };
    config.tensors.iter().map(read).collect()
}

/// The SHA-256 of the files at `paths`, one after the other.
fn sha256_of<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<String> {
    let (mut hasher, mut buffer) = (sha2::Sha256::new(), vec![0; 1 << 20]);
    for path in paths {
        let mut file = File::open(path).map_err(|source| Error::io(path, source))?;
        loop {
            match file.read(&mut buffer).map_err(|source| Error::io(path, source))? {
                0 => break,
                read => hasher.update(buffer.get(..read).unwrap_or_default()),
            }
        }
    }
    Ok(hex(&hasher.finalize()))
}
