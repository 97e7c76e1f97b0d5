//! The outcome of one question, in the shape of its JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Calibration, Frame, Identity, Judge, Judgement, Settings};
use crate::calibration::Fingerprint;
use crate::consensus::{Extractor, Vote};
use crate::decision::{Decision, Policy};
use crate::error::{Error, Result};
use crate::generation::{Completion, FinishReason, Generation, SamplingParams, Token, TokenStats};
use crate::prompt::{Date, KvKeep, PromptFormat, Repetition};
use crate::strategy::Strategy;
use crate::tokenizer::Tokenizer;
use crate::uncertainty::Confidence;

/// The verdict on one question with everything it rests on.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Answer, or abstain with a reason.
    #[serde(flatten)]
    pub decision: Decision,
    /// The leading answer; `None` when abstaining.
    pub answer: Option<String>,
    /// The text of the first sample that words the answer so; `None` when abstaining.
    pub text: Option<String>,
    /// Calibrated probability of being right; `None` without a calibrator.
    pub confidence: Option<Confidence>,
    /// What the confidence rests on.
    pub calibration: Calibration,
    /// The chosen estimator's score.
    pub uncertainty: Option<ScoredUncertainty>,
    /// Every estimator's natural score.
    pub scores: BTreeMap<&'static str, f64>,
    /// The vote.
    pub vote: Vote,
    /// Every sample with its tokens.
    pub samples: Vec<Sample>,
    /// What it cost.
    pub cost: Cost,
    /// Deviations from what was asked, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Everything the result depends on.
    pub config: ResolvedConfig,
}

/// The uncertainty of an outcome, by the estimator that made it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoredUncertainty {
    /// The estimator's name.
    pub estimator: &'static str,
    /// Its natural score.
    pub value: f64,
    /// The score's unit.
    pub unit: &'static str,
}

/// One sample of an outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its index, which names its random stream.
    pub index: usize,
    /// Its text.
    pub text: String,
    /// Its answer; `None` if it did not vote.
    pub answer: Option<String>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Its tokens.
    pub tokens: Vec<SampleToken>,
}

/// One token of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `TokenStats`")]
pub struct SampleToken {
    pub id: u32,
    pub text: String,
    /// The token's bytes where they are no whole characters, which `text` cannot hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Vec<u8>>,
    pub logprob: f64,
    pub entropy: f64,
    pub varentropy: f64,
    pub margin: f64,
    pub max_prob: f64,
    pub self_certainty: f64,
    pub top_confidence: f64,
    pub sampling_logprob: f64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<(u32, f64)>,
}

/// What an outcome cost. Times differ from run to run, so they are there only when asked for: the
/// rest is identical to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: usize,
    /// How many of them came from the prefix cache.
    pub cached_tokens: usize,
    /// Tokens drawn over all samples.
    pub completion_tokens: usize,
    /// Rows really computed after the prompt.
    pub forward_tokens: usize,
    /// Time to the first token in milliseconds.
    pub prefill_ms: Option<f64>,
    /// Time from the first token to the last in milliseconds.
    pub decode_ms: Option<f64>,
}

/// Everything a result depends on.
#[derive(Clone, Debug, Serialize)]
pub struct ResolvedConfig {
    /// What the model is.
    #[serde(flatten)]
    pub identity: Identity,
    /// SHA-256 of the chat template; `None` for raw prompts.
    pub template_sha256: Option<String>,
    /// The day that the template is told.
    pub date: Date,
    /// What is sampled.
    pub strategy: Strategy,
    /// How tokens are drawn, the seed among it.
    #[serde(flatten)]
    pub params: SamplingParams,
    /// What stands around a question.
    pub frame: Frame,
    /// How the prompt is repeated.
    pub repeat: Repetition,
    /// Which copies stay in the cache.
    pub kv_keep: KvKeep,
    /// How answers are read.
    pub extractor: Extractor,
    /// When to answer.
    #[serde(flatten)]
    pub policy: Policy,
    /// Largest number of tokens of prompt and output together.
    pub context: usize,
    /// candor's version.
    pub version: &'static str,
}

impl ResolvedConfig {
    /// The configuration that `settings` come to with this model.
    pub fn new(
        identity: &Identity,
        settings: &Settings,
        format: &PromptFormat,
        context: usize,
    ) -> Self {
        Self {
            identity: identity.clone(),
            template_sha256: format.template_sha256(),
            date: settings.prompt.date,
            strategy: settings.strategy,
            params: settings.strategy.params(&settings.params),
            frame: settings.frame.clone(),
            repeat: settings.prompt.repetition.clone(),
            kv_keep: settings.prompt.kv_keep,
            extractor: settings.extractor,
            policy: settings.policy,
            context,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// What a calibration of such a run is bound to. The seed is no part of it: other draws from
    /// the same distribution are as good.
    ///
    /// # Errors
    /// A model without a digest.
    pub fn fingerprint(&self, estimator: &str) -> Result<Fingerprint> {
        let Some(weights_sha256) = self.identity.model_sha256.clone() else {
            return Err(Error::usage(format!(
                "{} is a folder of several files without one digest that a calibration could be \
                 bound to; use a single file",
                self.identity.model
            )));
        };
        Ok(Fingerprint {
            weights_sha256,
            quantization: self.identity.quantization.clone(),
            template_sha256: self.template_sha256.clone().unwrap_or_else(|| "raw".to_owned()),
            frame: self.frame.name(),
            repetition: format!("{}, keep {}", self.repeat, self.kv_keep),
            sampler: sampler(&self.params)?,
            strategy: format!("{}, n = {}", self.strategy.name(), self.params.n),
            extractor: self.extractor.name().to_owned(),
            estimator: estimator.to_owned(),
        })
    }
}

/// Everything that shapes a sample's distribution, as `name=value`. Not how many samples there are,
/// nor which.
fn sampler(params: &SamplingParams) -> Result<String> {
    // Through text, since a value would widen f32: 0.7 has to stay 0.7.
    let fields = serde_json::to_string(params)
        .and_then(|text| serde_json::from_str::<serde_json::Map<String, Value>>(&text));
    let fields = fields.map_err(|e| Error::Backend(format!("the sampler is no JSON: {e}")))?;
    let shaping = fields
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "n" | "seed" | "top_logprobs" | "ignore_eos"));
    let texts: Vec<String> = shaping
        .map(|(name, value)| {
            format!("{name}={}", value.as_str().map_or(value.to_string(), str::to_owned))
        })
        .collect();
    Ok(texts.join(", "))
}

impl Outcome {
    /// Puts an outcome together.
    pub(super) fn new(
        judgement: Judgement,
        judge: &Judge,
        generation: Generation,
        tokenizer: &Tokenizer,
        config: ResolvedConfig,
        notes: Vec<String>,
    ) -> Self {
        let Judgement { vote, scores, confidence, decision, .. } = judgement;
        let estimator = judge.estimator;
        let answer =
            vote.leader().filter(|_| decision.is_answer()).map(|leader| leader.answer.clone());
        let speaker = vote.leader().and_then(|leader| {
            let words_it_so = |&&i: &&usize| {
                vote.answers.get(i).is_some_and(|a| a.as_ref() == Some(&leader.answer))
            };
            leader.samples.iter().find(words_it_so).copied()
        });
        let text = answer
            .as_ref()
            .and_then(|_| generation.completions.get(speaker?).map(|c| c.text.clone()));
        let value = scores.get(estimator.name).copied();
        let cost = generation.cost;
        let samples = generation
            .completions
            .into_iter()
            .zip(&vote.answers)
            .map(|(c, answer)| sample(c, answer.clone(), tokenizer))
            .collect();
        Self {
            decision,
            answer,
            text,
            confidence,
            calibration: judge.calibration(),
            uncertainty: value.map(|value| ScoredUncertainty {
                estimator: estimator.name,
                value,
                unit: estimator.unit,
            }),
            scores,
            samples,
            vote,
            cost: Cost {
                prompt_tokens: cost.prompt_tokens,
                cached_tokens: cost.cached_tokens,
                completion_tokens: cost.completion_tokens,
                forward_tokens: cost.forward_tokens,
                prefill_ms: Some(cost.prefill_ms),
                decode_ms: Some(cost.decode_ms),
            },
            notes,
            config,
        }
    }

    /// The outcome without what differs from run to run.
    #[must_use]
    pub fn without_times(mut self) -> Self {
        (self.cost.prefill_ms, self.cost.decode_ms) = (None, None);
        self
    }
}

impl Sample {
    /// The completion that it was: what votes and scores are made from.
    pub fn completion(&self) -> Completion {
        let tokens = self.tokens.iter().map(SampleToken::token).collect();
        Completion {
            index: self.index,
            tokens,
            text: self.text.clone(),
            finish_reason: self.finish_reason,
        }
    }
}

impl SampleToken {
    fn token(&self) -> Token {
        let stats = TokenStats {
            logprob: self.logprob,
            entropy: self.entropy,
            varentropy: self.varentropy,
            margin: self.margin,
            max_prob: self.max_prob,
            self_certainty: self.self_certainty,
            top_confidence: self.top_confidence,
            sampling_logprob: self.sampling_logprob,
        };
        Token { id: self.id, stats, top_logprobs: self.top_logprobs.clone() }
    }
}

fn sample(completion: Completion, answer: Option<String>, tokenizer: &Tokenizer) -> Sample {
    let Completion { index, tokens, text, finish_reason } = completion;
    Sample {
        index,
        text,
        answer,
        finish_reason,
        tokens: tokens.into_iter().map(|t| sample_token(t, tokenizer)).collect(),
    }
}

fn sample_token(Token { id, stats, top_logprobs }: Token, tokenizer: &Tokenizer) -> SampleToken {
    let bytes = tokenizer.token_bytes(id);
    let text = if bytes.is_empty() {
        tokenizer.token(id).unwrap_or_default().to_owned()
    } else {
        String::from_utf8_lossy(&bytes).into_owned()
    };
    SampleToken {
        id,
        text,
        bytes: std::str::from_utf8(&bytes).is_err().then(|| bytes.to_vec()),
        logprob: stats.logprob,
        entropy: stats.entropy,
        varentropy: stats.varentropy,
        margin: stats.margin,
        max_prob: stats.max_prob,
        self_certainty: stats.self_certainty,
        top_confidence: stats.top_confidence,
        sampling_logprob: stats.sampling_logprob,
        top_logprobs,
    }
}
