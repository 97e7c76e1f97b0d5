//! The outcome of one question, in the shape of its JSON.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Calibration, Identity, LoadedModel, QuestionTemplate, Selector, Settings, Verdict};
use crate::calibration::Fingerprint;
use crate::consensus::{Reader, Vote};
use crate::decision::{Decision, Policy};
use crate::error::{Error, Result};
use crate::generation::{
    AnswerScore, AskedAnswer, Comparison, Completion, Cost, FinishReason, Generation, Probe,
    SamplingParams, Spans, Timing, Token, TokenStats, is_first,
};
use crate::model::Compute;
use crate::prompt::{
    Date, KvKeep, Mode, PromptFormat, PromptOptions, Repetition, TemplateArguments,
};
use crate::strategy::Strategy;
use crate::tokenizer::Tokenizer;
use crate::uncertainty::{Confidence, Estimator};

/// The verdict on one question with everything it is based on.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Answer, or abstain with a reason.
    #[serde(flatten)]
    pub decision: Decision,
    /// The leading answer; `None` when abstaining.
    pub answer: Option<String>,
    /// The text of the first sample with this answer; `None` when abstaining.
    pub text: Option<String>,
    /// Calibrated probability of being right; `None` without a calibrator.
    pub confidence: Option<Confidence>,
    /// What the confidence is based on.
    pub calibration: Calibration,
    /// The chosen estimator's score.
    pub uncertainty: Option<ScoredUncertainty>,
    /// Every estimator's natural score.
    pub scores: BTreeMap<&'static str, f64>,
    /// The vote.
    pub vote: Vote,
    /// Every sample with its tokens.
    pub samples: Vec<Sample>,
    /// Extra passes about the answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// Judged pairs of distinct answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
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
    /// Its index, which selects its random stream.
    pub index: usize,
    /// Its text.
    pub text: String,
    /// Its answer; `None` if it did not vote.
    pub answer: Option<String>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Its reasoning and its answer; `None` if it has no reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spans: Option<Spans>,
    /// Its tokens.
    pub tokens: Vec<SampleToken>,
    /// Which prompt it answers: 0 is the question's own.
    #[serde(default, skip_serializing_if = "is_first")]
    pub prompt: usize,
    /// Factor of its vote, 0 or more; `None` is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The tokens of the answer that its text states, by position, if they were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_span: Option<Range<usize>>,
    /// Its short answer, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<AskedAnswer>,
    /// How probable every distinct answer is after it, if that was scored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answer_scores: Vec<AnswerScore>,
}

/// One token of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleToken {
    /// Token id.
    pub id: u32,
    /// Its text, or the name of a control token.
    pub text: String,
    /// The token's bytes, if they are not valid UTF-8 and `text` cannot hold them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Vec<u8>>,
    /// Statistics of the step that drew it.
    #[serde(flatten)]
    pub stats: TokenStats,
    /// The most probable (id, ln p) of the raw distribution, best first; empty unless asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<(u32, f64)>,
}

/// Everything a result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedConfig {
    /// The model's identity.
    #[serde(flatten)]
    pub identity: Identity,
    /// Where the model computes, and in which types.
    pub compute: Compute,
    /// SHA-256 of the chat template; `None` for raw prompts.
    pub template_sha256: Option<String>,
    /// The caller's arguments to the chat template.
    #[serde(default, skip_serializing_if = "is_default")]
    pub template_arguments: TemplateArguments,
    /// The date given to the chat template.
    pub date: Date,
    /// What is sampled.
    pub strategy: Strategy,
    /// How tokens are sampled, including the seed.
    #[serde(flatten)]
    pub params: SamplingParams,
    /// The text around a question.
    pub question_template: QuestionTemplate,
    /// How the prompt is repeated.
    pub repeat: Repetition,
    /// Which copies stay in the cache.
    pub kv_keep: KvKeep,
    /// How answers are read, grouped and weighed.
    #[serde(flatten)]
    pub reader: Reader,
    /// When to answer.
    #[serde(flatten)]
    pub policy: Policy,
    /// Largest number of tokens of prompt and output together.
    pub context: usize,
    /// candor's version.
    pub version: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ResolvedConfig {
    /// The configuration of `settings` with a model.
    pub fn new(
        loaded: &LoadedModel,
        settings: &Settings,
        format: &PromptFormat,
        context: usize,
    ) -> Self {
        Self {
            identity: loaded.identity.clone(),
            compute: loaded.model.compute(),
            template_sha256: format.template_sha256(),
            template_arguments: settings.prompt.arguments.clone(),
            date: settings.prompt.date,
            strategy: settings.strategy,
            params: settings.strategy.params(&settings.params),
            question_template: settings.question_template.clone(),
            repeat: settings.prompt.repetition.clone(),
            kv_keep: settings.prompt.kv_keep,
            reader: settings.reader.clone(),
            policy: settings.policy,
            context,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The settings that give this configuration with its model; a chat template other than the
    /// model's own is not among them.
    pub fn settings(&self, estimator: Option<&'static Estimator>) -> Settings {
        let mode = if self.template_sha256.is_some() { Mode::Chat } else { Mode::Raw };
        Settings {
            params: self.params.clone(),
            strategy: self.strategy,
            question_template: self.question_template.clone(),
            prompt: PromptOptions {
                mode,
                repetition: self.repeat.clone(),
                kv_keep: self.kv_keep,
                arguments: self.template_arguments.clone(),
                date: self.date,
                ..PromptOptions::default()
            },
            reader: self.reader.clone(),
            estimator,
            policy: self.policy,
        }
    }

    /// What a calibration of such a run is bound to. The seed is not part of it: other draws from
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
        let json =
            |e: serde_json::Error| Error::Backend(format!("the configuration is not JSON: {e}"));
        let template = |arguments: &TemplateArguments| {
            let template = self.template_sha256.clone().unwrap_or_else(|| "raw".to_owned());
            if is_default(arguments) {
                return Ok(template);
            }
            serde_json::to_string(arguments).map(|arguments| format!("{template} {arguments}"))
        };
        let Compute { device, dtype, kv_dtype } = &self.compute;
        Ok(Fingerprint {
            weights_sha256,
            quantization: self.identity.quantization.clone(),
            compute: format!("{device}, activations {dtype}, keys and values {kv_dtype}"),
            template_sha256: template(&self.template_arguments).map_err(json)?,
            question_template: self.question_template.name(),
            repetition: format!("{}, keep {}", self.repeat, self.kv_keep),
            sampler: sampler(&self.params)?,
            strategy: format!(
                "{}, n = {}",
                serde_json::to_string(&self.strategy).map_err(json)?,
                self.params.n
            ),
            extractor: self.reader.to_string(),
            estimator: estimator.to_owned(),
            context: self.context.to_string(),
            version: self.version.clone(),
        })
    }
}

/// Everything that shapes a sample's distribution, as `name=value`. The number of samples and
/// their indices are not part of it.
fn sampler(params: &SamplingParams) -> Result<String> {
    // Through text, since a value would widen f32: 0.7 has to stay 0.7.
    let fields = serde_json::to_string(params)
        .and_then(|text| serde_json::from_str::<serde_json::Map<String, Value>>(&text));
    let fields = fields.map_err(|e| Error::Backend(format!("the sampler is not JSON: {e}")))?;
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
    /// An outcome from its parts.
    pub(super) fn new(
        verdict: Verdict,
        selector: &Selector,
        generation: Generation,
        tokenizer: &Tokenizer,
        config: ResolvedConfig,
        notes: Vec<String>,
    ) -> Self {
        let Verdict { vote, scores, confidence, decision, .. } = verdict;
        let estimator = selector.estimator;
        let leader = vote.leader().filter(|_| decision.is_answer());
        // The leading answer as one of its samples words it.
        let text = leader.and_then(|leader| {
            let same = |&&i: &&usize| {
                vote.answers.get(i).is_some_and(|a| a.as_ref() == Some(&leader.answer))
            };
            let sample = leader.samples.iter().find(same)?;
            generation.completions.get(*sample).map(|completion| completion.text.clone())
        });
        let value = scores.get(estimator.name).copied();
        let Generation { completions, cost, probes, comparisons } = generation;
        let samples = completions.into_iter().zip(&vote.answers);
        let samples = samples.map(|(c, answer)| sample(c, answer.clone(), tokenizer)).collect();
        Self {
            decision,
            answer: leader.map(|leader| leader.answer.clone()),
            text,
            confidence,
            calibration: selector.calibration(),
            uncertainty: value.map(|value| ScoredUncertainty {
                estimator: estimator.name,
                value,
                unit: estimator.unit,
            }),
            scores,
            samples,
            probes,
            comparisons,
            vote,
            cost,
            notes,
            config,
        }
    }

    /// The outcome without what differs from run to run.
    #[must_use]
    pub fn without_times(mut self) -> Self {
        let timing = &mut self.cost.timing;
        *timing = Timing { cached_tokens: timing.cached_tokens, ..Timing::default() };
        self
    }
}

impl Sample {
    /// The completion behind this sample; votes and scores are computed from it.
    pub fn completion(&self) -> Completion {
        let tokens = self.tokens.iter().map(SampleToken::token).collect();
        Completion {
            index: self.index,
            tokens,
            text: self.text.clone(),
            spans: self.spans.clone(),
            finish_reason: self.finish_reason,
            prompt: self.prompt,
            weight: self.weight,
            answer_span: self.answer_span.clone(),
            asked: self.asked.clone(),
            answer_scores: self.answer_scores.clone(),
        }
    }
}

impl SampleToken {
    fn token(&self) -> Token {
        Token { id: self.id, stats: self.stats, top_logprobs: self.top_logprobs.clone() }
    }
}

fn sample(completion: Completion, answer: Option<String>, tokenizer: &Tokenizer) -> Sample {
    let Completion { index, tokens, text, spans, finish_reason, prompt, weight, .. } = completion;
    Sample {
        index,
        text,
        answer,
        finish_reason,
        spans,
        tokens: tokens.into_iter().map(|t| sample_token(t, tokenizer)).collect(),
        prompt,
        weight,
        answer_span: completion.answer_span,
        asked: completion.asked,
        answer_scores: completion.answer_scores,
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
        stats,
        top_logprobs,
    }
}
