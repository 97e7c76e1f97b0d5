//! The nouns that every layer shares: messages, sampling parameters, tokens with their statistics,
//! completions, generations.
//!
//! Plain data, serializable, without behavior that needs a model. Units go last in a name;
//! logarithms are natural.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The floor of every reported log-probability: JSON has no infinity, and this is OpenAI's
/// convention.
pub const LOGPROB_FLOOR: f64 = -9999.0;

/// Who speaks in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that frame the chat.
    System,
    /// The person asking.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The role's name in templates and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a chat. The content is untrusted text: it never becomes a control token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }

    /// A user message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }
}

/// How the random point that picks a token is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrawMode {
    /// A fresh uniform number per (seed, sample, step): samples are independent.
    #[default]
    Independent,
    /// Arithmetic sampling (Vilnis et al., arXiv 2210.15458): one point of a shifted
    /// low-discrepancy lattice per sample, carried through the distribution. Each sample alone is
    /// distributed as under `Independent`; together they spread evenly, which lowers the variance
    /// of a vote.
    Stratified,
    /// The most probable token of the distribution sampled from, the lower id of equals: for
    /// enumerating that distribution instead of drawing from it.
    MostProbable,
}

/// How samples are drawn from the model's distribution. Names follow vLLM and OpenAI. The steps
/// apply in the order of the fields from `logit_bias` to `mirostat`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    /// Number of samples, 1 to 4096.
    pub n: usize,
    /// Added to the logits of the named token ids.
    pub logit_bias: Vec<(u32, f32)>,
    /// Divides (positive) or multiplies (negative) the logits of tokens seen in prompt or output; 1
    /// is off, above 0.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of every token in the output so far; 0 is off, -2 to 2.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit once per occurrence in the output so far; 0 is off, -2 to 2.
    pub frequency_penalty: f32,
    /// DRY ("don't repeat yourself", as in llama.cpp): a token that would continue a repetition of
    /// m tokens loses `dry_multiplier` * `dry_base`^(m - `dry_allowed_length`); 0 is off.
    #[serde(skip_serializing_if = "equals::<0>")]
    pub dry_multiplier: f32,
    /// Growth of DRY's penalty with every repeated token, at least 1.
    #[serde(skip_serializing_if = "equals::<175>")]
    pub dry_base: f32,
    /// Repetitions of fewer tokens than this are free.
    #[serde(skip_serializing_if = "equals::<200>")]
    pub dry_allowed_length: u32,
    /// DRY looks at this many last tokens of prompt and output; -1 is all, 0 is off.
    #[serde(skip_serializing_if = "equals::<-100>")]
    pub dry_penalty_last_n: i32,
    /// The temperature follows the entropy H of the possible tokens after bias and penalties (as in
    /// llama.cpp; compare EDT, arXiv 2403.14541): from `temperature` - range, at least 0, to
    /// `temperature` + range by (H / `H_max`)^exponent; 0 is off, up to 100. Argmax stays argmax.
    #[serde(skip_serializing_if = "equals::<0>")]
    pub dynatemp_range: f32,
    /// How slowly the temperature rises with the entropy; 1 is linear, 0 or more.
    #[serde(skip_serializing_if = "equals::<100>")]
    pub dynatemp_exponent: f32,
    /// Divides the logits; 0 is argmax, the lowest id winning a tie.
    pub temperature: f32,
    /// Keep the k most probable tokens; 0 is off.
    pub top_k: usize,
    /// Keep the smallest most-probable set with at least this mass, the crossing token included; 1
    /// is off, above 0.
    pub top_p: f32,
    /// Keep tokens with at least this share of the most probable token's probability; 0 is off,
    /// below 1.
    pub min_p: f32,
    /// Keep tokens within this many standard deviations (over the vocabulary) of the largest logit;
    /// 0 is off.
    pub top_n_sigma: f32,
    /// Keep the tokens whose surprisal is nearest the entropy up to this mass; 1 is off, above 0.
    pub typical_p: f32,
    /// XTC ("exclude top choices", as in llama.cpp): the probability, per step of each sample, that
    /// of the tokens with at least `xtc_threshold` only the least probable one is kept; 0 is off.
    #[serde(skip_serializing_if = "equals::<0>")]
    pub xtc_probability: f32,
    /// What makes a token a top choice: its probability among those that the filters kept, 0 to 1.
    #[serde(skip_serializing_if = "equals::<10>")]
    pub xtc_threshold: f32,
    /// 2 is Mirostat 2.0 (arXiv 2007.14966) in place of the filters: drops tokens whose surprisal
    /// is above a bound that holds the mean surprisal of the drawn ones near `mirostat_tau`; 0 is
    /// off.
    #[serde(skip_serializing_if = "equals::<0>")]
    pub mirostat: u32,
    /// Mirostat's target surprisal in bits, above 0, at most 100.
    #[serde(skip_serializing_if = "equals::<500>")]
    pub mirostat_tau: f32,
    /// Mirostat's learning rate, above 0, at most 1: higher = the bound follows faster.
    #[serde(skip_serializing_if = "equals::<10>")]
    pub mirostat_eta: f32,
    /// How the random point is made.
    pub draw: DrawMode,
    /// Names the random stream: the same seed gives the same samples.
    pub seed: u64,
    /// At most this many tokens per sample, the end token included.
    pub max_tokens: usize,
    /// A sample ends before the first of these strings appears in its text.
    pub stop: Vec<String>,
    /// At most this many tokens of reasoning: then the closing marker is forced and the answer
    /// follows; `None` sets none. Without effect after a prompt without [markers].
    ///
    /// [markers]: crate::prompt::Prompt::reasoning
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<usize>,
    /// A sample ends with the line or sentence that announces its answer.
    #[serde(skip_serializing_if = "is_false")]
    pub stop_at_answer: bool,
    /// Record this many most probable tokens per step, 0 to 20.
    pub top_logprobs: usize,
    /// These are the tokens of the distribution sampled from, with their probability there, instead
    /// of the raw one.
    #[serde(skip_serializing_if = "is_false")]
    pub top_sampled: bool,
    /// Neither end tokens nor loops end a sample: for measuring speed at a fixed length.
    pub ignore_eos: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a setting has this value, in hundredths: then it is not written, so that the text of
/// configurations that do not use it stays the same.
fn equals<const HUNDREDTHS: i32>(value: &(impl Copy + Into<f64>)) -> bool {
    ((*value).into() as f32 - HUNDREDTHS as f32 / 100.0).abs() <= 0.0
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            n: 1,
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: -1,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            top_n_sigma: 0.0,
            typical_p: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            draw: DrawMode::Independent,
            seed: 0,
            max_tokens: 256,
            stop: Vec::new(),
            thinking_budget: None,
            stop_at_answer: false,
            top_logprobs: 0,
            top_sampled: false,
            ignore_eos: false,
        }
    }
}

impl SamplingParams {
    /// Largest number of samples of one prompt.
    pub const MAX_SAMPLES: usize = 4096;

    /// Whether what was drawn before changes the logits.
    pub fn has_penalties(&self) -> bool {
        let off = |value: f32, neutral: f32| (value - neutral).abs() <= 0.0;
        !(off(self.repetition_penalty, 1.0)
            && off(self.presence_penalty, 0.0)
            && off(self.frequency_penalty, 0.0)
            && off(self.dry_multiplier, 0.0))
    }

    /// Temperature and filters in words, those that are off left out.
    pub fn summary(&self) -> String {
        let mut parts = vec![format!("temperature {}", self.temperature)];
        let mut add = |name: &str, value: f32, neutral: f32| {
            if (value - neutral).abs() > 0.0 {
                parts.push(format!("{name} {value}"));
            }
        };
        add("top-k", self.top_k as f32, 0.0);
        add("top-p", self.top_p, 1.0);
        add("min-p", self.min_p, 0.0);
        add("repetition penalty", self.repetition_penalty, 1.0);
        add("DRY multiplier", self.dry_multiplier, 0.0);
        add("temperature range", self.dynatemp_range, 0.0);
        add("XTC probability", self.xtc_probability, 0.0);
        if self.mirostat == 2 {
            parts.push(format!("Mirostat to {} bits", self.mirostat_tau));
        }
        parts.join(", ")
    }

    /// Checks every range.
    ///
    /// # Errors
    /// A usage error that names the first parameter out of range, its value and the range.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &str, value: f32, ok: bool, range: &str| {
            if ok && value.is_finite() {
                Ok(())
            } else {
                Err(Error::usage(format!("{name} is {value}; it must be {range}")))
            }
        };
        let count = |name: &str, value: usize, ok: bool, range: &str| {
            if ok {
                Ok(())
            } else {
                Err(Error::usage(format!("{name} is {value}; it must be {range}")))
            }
        };
        count("n", self.n, (1..=Self::MAX_SAMPLES).contains(&self.n), "1 to 4096")?;
        count("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1")?;
        if let Some(budget) = self.thinking_budget
            && budget >= self.max_tokens
        {
            return Err(Error::usage(format!(
                "thinking_budget is {budget} and max_tokens is {}, which leaves no token for the \
                 answer; raise max_tokens",
                self.max_tokens
            )));
        }
        count("top_logprobs", self.top_logprobs, self.top_logprobs <= 20, "0 to 20")?;
        check(
            "temperature",
            self.temperature,
            (0.0..=100.0).contains(&self.temperature),
            "0 to 100",
        )?;
        check("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0, at most 1")?;
        check("min_p", self.min_p, (0.0..1.0).contains(&self.min_p), "0 to below 1")?;
        check("top_n_sigma", self.top_n_sigma, self.top_n_sigma >= 0.0, "0 or more")?;
        check(
            "typical_p",
            self.typical_p,
            self.typical_p > 0.0 && self.typical_p <= 1.0,
            "above 0, at most 1",
        )?;
        check(
            "repetition_penalty",
            self.repetition_penalty,
            self.repetition_penalty > 0.0,
            "above 0",
        )?;
        check(
            "presence_penalty",
            self.presence_penalty,
            (-2.0..=2.0).contains(&self.presence_penalty),
            "-2 to 2",
        )?;
        check(
            "frequency_penalty",
            self.frequency_penalty,
            (-2.0..=2.0).contains(&self.frequency_penalty),
            "-2 to 2",
        )?;
        self.validate_adaptive(check)?;
        for (at, (id, bias)) in self.logit_bias.iter().enumerate() {
            check(&format!("logit_bias of token {id}"), *bias, bias.is_finite(), "finite")?;
            if self.logit_bias[..at].iter().any(|(other, _)| other == id) {
                return Err(Error::usage(format!(
                    "logit_bias names token {id} twice; give one bias per token"
                )));
            }
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::usage("a stop string is empty; give at least one character"));
        }
        Ok(())
    }

    /// Checks the steps that follow the text or the entropy.
    fn validate_adaptive(&self, check: impl Fn(&str, f32, bool, &str) -> Result<()>) -> Result<()> {
        let positive = |value: f32, most: f32| value > 0.0 && value <= most;
        check("dry_multiplier", self.dry_multiplier, self.dry_multiplier >= 0.0, "0 or more")?;
        check("dry_base", self.dry_base, self.dry_base >= 1.0, "1 or more")?;
        let last_n = self.dry_penalty_last_n;
        if last_n < -1 {
            let text = format!("dry_penalty_last_n is {last_n}; it must be -1 (all) or more");
            return Err(Error::usage(text));
        }
        let (range, exponent) = (self.dynatemp_range, self.dynatemp_exponent);
        check("dynatemp_range", range, (0.0..=100.0).contains(&range), "0 to 100")?;
        check("dynatemp_exponent", exponent, exponent >= 0.0, "0 or more")?;
        let (probability, threshold) = (self.xtc_probability, self.xtc_threshold);
        check("xtc_probability", probability, (0.0..=1.0).contains(&probability), "0 to 1")?;
        check("xtc_threshold", threshold, (0.0..=1.0).contains(&threshold), "0 to 1")?;
        let (tau, eta) = (self.mirostat_tau, self.mirostat_eta);
        check("mirostat_tau", tau, positive(tau, 100.0), "above 0, at most 100")?;
        check("mirostat_eta", eta, positive(eta, 1.0), "above 0, at most 1")?;
        if !matches!(self.mirostat, 0 | 2) {
            let text = format!("mirostat is {}; it must be 0 (off) or 2", self.mirostat);
            return Err(Error::usage(text));
        }
        let filters = [
            ("top_k", self.top_k as f32, 0.0),
            ("top_p", self.top_p, 1.0),
            ("min_p", self.min_p, 0.0),
            ("top_n_sigma", self.top_n_sigma, 0.0),
            ("typical_p", self.typical_p, 1.0),
            ("xtc_probability", probability, 0.0),
        ];
        let on = filters.iter().find(|(_, value, off)| (value - off).abs() > 0.0);
        match on.filter(|_| self.mirostat == 2) {
            Some((name, value, off)) => Err(Error::usage(format!(
                "mirostat is 2, which replaces the filters, and {name} is {value}; set {name} to \
                 {off} or mirostat to 0"
            ))),
            None => Ok(()),
        }
    }
}

/// Statistics of one step's **raw** distribution (temperature 1, before penalties and filters, over
/// the real vocabulary), and of the token drawn from it. Natural logarithms; equal to a plain f64
/// computation within 1e-6 relative. See [`crate::logits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenStats {
    /// ln p(token) <= 0, floored at [`LOGPROB_FLOOR`].
    pub logprob: f64,
    /// Shannon entropy in nats, 0 to ln V; higher = less sure.
    pub entropy: f64,
    /// Variance of the log-probability in nats squared, >= 0.
    pub varentropy: f64,
    /// p1 - p2, the lead of the most probable token, 0 to 1.
    pub margin: f64,
    /// p1, the probability of the most probable token, 1/V to 1.
    pub max_prob: f64,
    /// KL(uniform || p) = LSE(z) - mean(z) - ln V in nats, >= 0 (arXiv 2502.18581);
    /// higher = more confident.
    pub self_certainty: f64,
    /// DeepConf's token confidence -mean ln p over the 20 most probable tokens (arXiv 2508.15260);
    /// higher = more confident.
    pub top_confidence: f64,
    /// ln of the token's probability in the distribution really sampled from (after penalties,
    /// temperature and filters), <= 0; 0 for a forced token.
    pub sampling_logprob: f64,
}

/// One drawn token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Token id.
    pub id: u32,
    /// Statistics of the step that drew it.
    pub stats: TokenStats,
    /// The most probable (id, ln p) of the raw distribution, best first; empty unless asked for.
    /// Another distribution's by [`SamplingParams::top_sampled`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<(u32, f64)>,
}

/// Why a sample ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token, a stop string, or a forced end.
    #[default]
    Stop,
    /// `max_tokens` or the context was reached: the text is truncated, and votes only if it gives
    /// its answer when asked for it.
    Length,
    /// It repeated the same few tokens over and over; it votes as with `Length`.
    Loop,
    /// A callback stopped it: it neither votes nor counts as failed.
    Cancelled,
    /// The model produced NaN logits.
    NumericalError,
    /// The text was given and scored, not drawn.
    Scored,
}

/// One finished sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The sample's index, 0 to n - 1: it names the random stream.
    pub index: usize,
    /// Every drawn token in order, the end token included.
    pub tokens: Vec<Token>,
    /// The decoded text without end token and stop string, reasoning included.
    pub text: String,
    /// Its reasoning and its answer; `None` if there is no reasoning and everything is the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spans: Option<Spans>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Which prompt it answers: 0 is the question's own, others are those of the strategy.
    #[serde(default, skip_serializing_if = "is_first")]
    pub prompt: usize,
    /// Factor of its vote, 0 or more; `None` is 1. All factors together are at most the number of
    /// samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The tokens of the answer that its text states, by position, if they were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_span: Option<Range<usize>>,
    /// Its short answer, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<AskedAnswer>,
    /// How probable every distinct answer is after this text, if that was scored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answer_scores: Vec<AnswerScore>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(crate) fn is_first(prompt: &usize) -> bool {
    *prompt == 0
}

/// Which tokens of a completion are its reasoning and which its answer. The markers around the
/// reasoning and the end token belong to neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    /// Indices of the reasoning's tokens.
    pub reasoning: Range<usize>,
    /// Indices of the answer's tokens; empty if the reasoning was never closed.
    pub answer: Range<usize>,
    /// The byte of the completion's text at which the answer begins.
    pub text_start: usize,
}

impl Spans {
    /// Whether the completion ended within its reasoning.
    pub fn is_open(&self) -> bool {
        // A closing marker would lie between them.
        self.reasoning.end == self.answer.start
    }
}

impl Completion {
    /// The text without its reasoning.
    pub fn answer_text(&self) -> &str {
        let start = self.spans.as_ref().map_or(0, |spans| spans.text_start);
        self.text.get(start..).unwrap_or_default()
    }

    /// The tokens of the reasoning.
    pub fn reasoning_tokens(&self) -> &[Token] {
        let spans = self.spans.as_ref();
        spans.and_then(|spans| self.tokens.get(spans.reasoning.clone())).unwrap_or_default()
    }

    /// The tokens that are not reasoning, with the end token. If the completion ended within its
    /// reasoning, those of the answer that it was asked for.
    pub fn tokens_after_reasoning(&self) -> &[Token] {
        match (&self.spans, &self.asked) {
            (Some(spans), Some(asked)) if spans.is_open() => &asked.tokens,
            (Some(spans), None) if spans.is_open() => &[],
            (Some(spans), _) => self.tokens.get(spans.answer.start..).unwrap_or_default(),
            (None, _) => &self.tokens,
        }
    }
}

/// The short answer that a completion gave when it was asked for one: the greedy continuation of
/// its own text and a cue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedAnswer {
    /// The text between the completion and the reply.
    pub cue: String,
    /// The reply.
    pub text: String,
    /// Whether it ended by itself or with its line, instead of by the limit of tokens.
    pub complete: bool,
    /// The reply's tokens, without what ended it.
    pub tokens: Vec<Token>,
}

/// How probable an answer is after a completion and the cue that asks for its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerScore {
    /// The answer as written.
    pub answer: String,
    /// ln p of the answer and the end of its line, in nats, <= 0.
    pub logprob: f64,
}

/// How alike in meaning two distinct answers of a question are, as a model judged it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The first answer's canonical form, the smaller one.
    pub a: String,
    /// The second answer's canonical form.
    pub b: String,
    /// Probability that both mean the same, 0 to 1.
    pub same: f64,
    /// Its parts: the probability under each order and wording.
    pub parts: Vec<f64>,
}

impl Completion {
    /// The tokens of its short answer: of the reply, if it was asked for, else of the stated one.
    pub fn answer_tokens(&self) -> Option<&[Token]> {
        match (&self.asked, &self.answer_span) {
            (Some(asked), _) => Some(&asked.tokens),
            (None, Some(span)) => self.tokens.get(span.clone()),
            (None, None) => None,
        }
    }
}

/// What a question or a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// What was computed.
    #[serde(flatten)]
    pub tokens: TokenCounts,
    /// What depends on cache and clock.
    #[serde(flatten)]
    pub timing: Timing,
}

/// The part of a cost that is the same in every run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Tokens of the rendered prompts.
    pub prompt_tokens: usize,
    /// Tokens drawn or scored, over all samples.
    pub completion_tokens: usize,
    /// Rows really computed after the prompts: lazy forking makes it smaller than
    /// `completion_tokens`.
    pub forward_tokens: usize,
}

/// The part of a cost that depends on cache and clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// Prompt tokens that came from the prefix cache.
    pub cached_tokens: usize,
    /// Time to the first token in milliseconds, beside other questions.
    pub prefill_ms: Option<f64>,
    /// Time from the first token to the last in milliseconds, beside other questions.
    pub decode_ms: Option<f64>,
}

impl Cost {
    /// Adds what a later request of the same question cost.
    pub fn add(&mut self, later: &Self) {
        self.tokens.prompt_tokens += later.tokens.prompt_tokens;
        self.add_samples(later);
    }

    /// Adds what later samples of the same prompt cost.
    pub fn add_samples(&mut self, later: &Self) {
        self.add_tokens(later);
        let (own, later) = (&mut self.timing, later.timing);
        if let (Some(so_far), Some(prefill), Some(decode)) =
            (own.decode_ms, later.prefill_ms, later.decode_ms)
        {
            own.decode_ms = Some(so_far + prefill + decode);
        } else {
            (own.prefill_ms, own.decode_ms) = (later.prefill_ms, later.decode_ms);
        }
    }

    /// Adds what a request on the same prompt cost that ran at the same time.
    pub fn add_parallel(&mut self, other: &Self) {
        self.add_tokens(other);
        let own = &mut self.timing;
        let end = |timing: Timing| Some(timing.prefill_ms? + timing.decode_ms?);
        let last = end(*own).into_iter().chain(end(other.timing)).reduce(f64::max);
        own.prefill_ms = own.prefill_ms.or(other.timing.prefill_ms);
        own.decode_ms = last.zip(own.prefill_ms).map(|(last, prefill)| last - prefill);
    }

    fn add_tokens(&mut self, other: &Self) {
        self.tokens.completion_tokens += other.tokens.completion_tokens;
        self.tokens.forward_tokens += other.tokens.forward_tokens;
        self.timing.cached_tokens += other.timing.cached_tokens;
    }
}

/// What a probe found out: an extra forward pass about an answer, beside the samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// What was measured, as in `p_true`.
    pub name: String,
    /// The answer that it is about.
    pub answer: String,
    /// The result, 0 to 1.
    pub value: f64,
    /// Its parts: for `p_true` the probability under each order of the labels.
    pub parts: Vec<f64>,
    /// The answer is given only if the value is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<f64>,
}

/// All samples of one question, and what probes found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Finished samples by index.
    pub completions: Vec<Completion>,
    /// What they cost, probes included.
    pub cost: Cost,
    /// Extra passes about the answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// Judged pairs of distinct answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
}

impl Generation {
    /// Adds later samples of the same prompt.
    pub fn add_samples(&mut self, later: Self) {
        self.completions.extend(later.completions);
        self.cost.add_samples(&later.cost);
    }
}
