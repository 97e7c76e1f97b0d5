//! Flags that several commands share, and the settings they make.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::Output;
use super::progress::Bars;
use crate::calibration::PolicyFile;
use crate::consensus::{AnswerMode, Equivalence, Extractor, Reader, VoteMode};
use crate::decision::Policy;
use crate::encoder::Encoder;
use crate::engine::EngineOptions;
use crate::error::{Error, Result};
use crate::generation::{DrawMode, SamplingParams};
use crate::hub;
use crate::manifest::{DEFAULT_MODEL, ResolvedModel};
use crate::model::{ComputeType, Device, LoadOptions};
use crate::pipeline::{LoadedModel, Pipeline, QUESTION, QuestionTemplate, Settings};
use crate::prompt::{KvKeep, Mode, PromptOptions, Repetition, ThinkingMode};
use crate::strategy::{STRATEGIES, Strategy};
use crate::uncertainty::{self, Estimator};

/// Which model, and where it comes from.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A known name, a path, or user/repo[:QUANT or file][@revision]
    #[arg(short, long, env = "CANDOR_MODEL", default_value = DEFAULT_MODEL)]
    pub model: String,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Whether the network may be used.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Never touch the network
    #[arg(long)]
    pub offline: bool,
}

/// Where to compute.
#[derive(Debug, Args)]
pub struct ComputeArgs {
    /// auto, cpu (or with given instructions: cpu:scalar, cpu:avx2, cpu:avx512vnni), portable,
    /// cuda:N or metal
    #[arg(long, env = "CANDOR_DEVICE", default_value = "auto")]
    pub device: Device,
    /// Type of activations and dense weights: auto, f32, f16 or bf16
    #[arg(long, default_value = "auto")]
    pub dtype: ComputeType,
    /// Threads to compute with, at most one per processor; default: the physical cores
    #[arg(short, long, env = "CANDOR_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

impl SourceArgs {
    pub fn hub(&self) -> hub::HubOptions {
        let mut options = hub::HubOptions::from_env();
        options.offline |= self.offline;
        options
    }
}

impl ModelArgs {
    /// Finds the model and downloads it if it is missing.
    pub fn resolve(&self, output: &Output) -> Result<ResolvedModel> {
        hub::resolve(&self.model, &self.source.hub(), &mut Bars::new(output))
    }

    /// Finds and loads the model.
    pub fn load(&self, output: &Output) -> Result<LoadedModel> {
        if let Some(threads) = self.compute.threads {
            crate::model::set_threads(threads.into());
        }
        let resolved = self.resolve(output)?;
        let sha256 = match &resolved.sha256 {
            Some(known) => Some(known.clone()),
            None if resolved.path.is_file() => {
                Some(hub::sha256_cached(&resolved.path, &self.source.hub(), &mut ())?)
            }
            None => None,
        };
        let options = LoadOptions {
            device: self.compute.device,
            dtype: self.compute.dtype,
            threads: self.compute.threads.map(usize::from),
        };
        let loaded = LoadedModel::load(&resolved, sha256, options)?;
        loaded.tokenizer.notes().iter().for_each(|note| output.warning(note));
        // This thread runs the steps; the loading threads are done.
        loaded.model.pool().inspect(|pool| pool.pin_caller());
        Ok(loaded)
    }
}

/// How tokens are sampled. Flags that are not given take the model card's values.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Samples to draw from the prompt
    #[arg(short = 'n', long = "samples", default_value_t = 8)]
    pub samples: usize,
    /// Divides the logits; 0 takes the most probable token
    #[arg(long)]
    pub temperature: Option<f32>,
    /// Keep the smallest most probable set of tokens with this mass
    #[arg(long)]
    pub top_p: Option<f32>,
    /// Keep the k most probable tokens; 0 keeps all
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Keep tokens with this share of the most probable one's probability
    #[arg(long)]
    pub min_p: Option<f32>,
    /// Keep tokens within this many standard deviations of the largest logit
    #[arg(long, value_name = "SIGMAS")]
    pub top_n_sigma: Option<f32>,
    /// Keep tokens whose surprisal is nearest the entropy, up to this mass
    #[arg(long)]
    pub typical_p: Option<f32>,
    /// Let the temperature follow the entropy: from --temperature - RANGE to --temperature + RANGE
    #[arg(long, value_name = "RANGE")]
    pub dynatemp_range: Option<f32>,
    /// How slowly the temperature rises with the entropy [default: 1, linear]
    #[arg(long, value_name = "EXPONENT")]
    pub dynatemp_exponent: Option<f32>,
    /// At this share of the steps, keep only the least probable of the top choices (XTC)
    #[arg(long, value_name = "PROBABILITY")]
    pub xtc_probability: Option<f32>,
    /// What makes a token a top choice for XTC: at least this probability [default: 0.1]
    #[arg(long, value_name = "PROBABILITY")]
    pub xtc_threshold: Option<f32>,
    /// 2 replaces the filters by Mirostat 2.0, which holds the mean surprisal of the drawn tokens;
    /// 0 is off
    #[arg(long, value_name = "VERSION")]
    pub mirostat: Option<u32>,
    /// Mirostat's target surprisal in bits [default: 5]
    #[arg(long, value_name = "BITS")]
    pub mirostat_tau: Option<f32>,
    /// Mirostat's learning rate [default: 0.1]
    #[arg(long, value_name = "RATE")]
    pub mirostat_eta: Option<f32>,
    /// Strength of DRY, the penalty on tokens that continue a repetition; 0 is off
    #[arg(long, value_name = "MULTIPLIER")]
    pub dry_multiplier: Option<f32>,
    /// Growth of DRY's penalty with every repeated token [default: 1.75]
    #[arg(long, value_name = "BASE")]
    pub dry_base: Option<f32>,
    /// DRY leaves shorter repetitions free [default: 2]
    #[arg(long, value_name = "TOKENS")]
    pub dry_allowed_length: Option<u32>,
    /// How many last tokens of prompt and output DRY looks at [default: -1, all]
    #[arg(long, value_name = "TOKENS", allow_negative_numbers = true)]
    pub dry_penalty_last_n: Option<i32>,
    /// Divide the logits of tokens seen so far
    #[arg(long)]
    pub repetition_penalty: Option<f32>,
    /// Subtract from the logits of tokens in the output
    #[arg(long)]
    pub presence_penalty: Option<f32>,
    /// Subtract from the logits of tokens in the output, per occurrence
    #[arg(long)]
    pub frequency_penalty: Option<f32>,
    /// Add BIAS to the logit of a token id; may be given several times
    #[arg(long, value_name = "ID=BIAS", value_parser = logit_bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// How random points are made: independent, or stratified (spread evenly over the samples)
    #[arg(long, default_value = "independent", value_parser = draw)]
    pub draw: DrawMode,
    /// Seed of the random stream: the same seed gives the same samples
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Maximum tokens per sample
    #[arg(long, default_value_t = 256)]
    pub max_tokens: usize,
    /// Where a sample may end before its end token: answer (after the line or sentence that
    /// announces its answer)
    #[arg(long, value_name = "PLACE", value_parser = stop_at)]
    pub stop_at: Option<()>,
    /// End a sample before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Record this many most probable tokens per step, 0 to 20
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub top_logprobs: usize,
}

impl SamplingArgs {
    /// The given flags, over the model card's values.
    fn over(&self, card: &SamplingParams) -> SamplingParams {
        let off = SamplingParams::default();
        let mirostat = self.mirostat.unwrap_or(off.mirostat);
        // Mirostat replaces the card's filters; one that a flag sets is an error.
        let card = &if mirostat == 0 {
            card.clone()
        } else {
            SamplingParams { top_p: off.top_p, top_k: off.top_k, min_p: off.min_p, ..card.clone() }
        };
        SamplingParams {
            n: self.samples,
            temperature: self.temperature.unwrap_or(card.temperature),
            top_p: self.top_p.unwrap_or(card.top_p),
            top_k: self.top_k.unwrap_or(card.top_k),
            min_p: self.min_p.unwrap_or(card.min_p),
            top_n_sigma: self.top_n_sigma.unwrap_or(card.top_n_sigma),
            typical_p: self.typical_p.unwrap_or(card.typical_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(card.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(card.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(card.frequency_penalty),
            dry_multiplier: self.dry_multiplier.unwrap_or(off.dry_multiplier),
            dry_base: self.dry_base.unwrap_or(off.dry_base),
            dry_allowed_length: self.dry_allowed_length.unwrap_or(off.dry_allowed_length),
            dry_penalty_last_n: self.dry_penalty_last_n.unwrap_or(off.dry_penalty_last_n),
            dynatemp_range: self.dynatemp_range.unwrap_or(off.dynatemp_range),
            dynatemp_exponent: self.dynatemp_exponent.unwrap_or(off.dynatemp_exponent),
            xtc_probability: self.xtc_probability.unwrap_or(off.xtc_probability),
            xtc_threshold: self.xtc_threshold.unwrap_or(off.xtc_threshold),
            mirostat,
            mirostat_tau: self.mirostat_tau.unwrap_or(off.mirostat_tau),
            mirostat_eta: self.mirostat_eta.unwrap_or(off.mirostat_eta),
            logit_bias: self.logit_bias.clone(),
            draw: self.draw,
            seed: self.seed,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            stop_at_answer: self.stop_at.is_some(),
            top_logprobs: self.top_logprobs,
            ..off
        }
    }
}

fn logit_bias(text: &str) -> std::result::Result<(u32, f32), String> {
    let parsed =
        text.split_once('=').and_then(|(id, bias)| Some((id.parse().ok()?, bias.parse().ok()?)));
    parsed.ok_or_else(|| format!("`{text}` is not ID=BIAS, as in 1234=-5.0"))
}

fn stop_at(text: &str) -> std::result::Result<(), String> {
    if text == "answer" { Ok(()) } else { Err(format!("`{text}` is unknown; use answer")) }
}

fn draw(text: &str) -> std::result::Result<DrawMode, String> {
    match text {
        "independent" => Ok(DrawMode::Independent),
        "stratified" => Ok(DrawMode::Stratified),
        other => Err(format!("`{other}` is unknown; use independent or stratified")),
    }
}

/// How messages become a prompt.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prompt")]
pub struct PromptArgs {
    /// Instructions that come before the question
    #[arg(short, long)]
    pub system: Option<String>,
    /// Put the question into this text in place of {question}; default: the question alone or the
    /// task's own template
    #[arg(long, value_name = "TEXT")]
    pub question_template: Option<String>,
    /// Tell the model to answer only if it is more confident than this, 0 to below 1, and to say "I
    /// don't know" otherwise
    #[arg(long, value_name = "T")]
    pub confidence_target: Option<f64>,
    /// Repeat the question: off, x2, verbose, x3, pad, or a text with {query}
    #[arg(long, default_value = "off")]
    pub repeat: Repetition,
    /// Which copies stay in the cache: all, or second (the last one)
    #[arg(long, default_value = "all")]
    pub kv_keep: KvKeep,
    /// Whether a reasoning model thinks before it answers: on, off, or at most this many tokens;
    /// default: as its chat template has it
    #[arg(long, value_name = "on|off|TOKENS")]
    pub thinking: Option<ThinkingMode>,
    /// Send the text as it is, without a chat template: for base models
    #[arg(long)]
    pub raw: bool,
    /// Maximum tokens of prompt and output together; default: the model's own limit
    #[arg(short, long)]
    pub context: Option<usize>,
}

impl PromptArgs {
    pub fn options(&self) -> PromptOptions {
        PromptOptions {
            mode: if self.raw { Mode::Raw } else { Mode::Chat },
            repetition: self.repeat.clone(),
            kv_keep: self.kv_keep,
            ..PromptOptions::default()
        }
    }

    /// Warns if --context exceeds the model's own limit.
    pub fn warn_context(&self, loaded: &LoadedModel, output: &Output) {
        let most = loaded.model.config().max_position_embeddings;
        if let Some(context) = self.context.filter(|context| *context > most) {
            output.warning(&format!(
                "context is {context}, but the model supports {most} tokens; using {most}"
            ));
        }
    }
}

/// How answers are read, grouped and weighed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Vote")]
pub struct ReaderArgs {
    /// How an answer is found in a text: auto, number, choice, boxed, short-answer or last-line;
    /// default: auto, or the task's own
    #[arg(long)]
    pub extractor: Option<Extractor>,
    /// Whether a sample is asked for its short answer: auto (only if its text states none in a
    /// common form, or was cut), stated (never) or asked (always); default: auto
    #[arg(long)]
    pub answers: Option<AnswerMode>,
    /// What decides whether two answers mean the same beyond equal forms: rules, or what compares
    /// the answers that the rules leave open: self (the model) or encoder:REF (an entailment
    /// classifier or a sentence encoder, by path or Hub reference); default: rules
    #[arg(long)]
    pub equivalence: Option<Equivalence>,
    /// Compared answers are the same above this score; default: 0.5
    #[arg(long, value_name = "P")]
    pub same_above: Option<f64>,
    /// What a sample's vote weighs: count (one each), soft (divided among all answers by their
    /// probability after the sample) or weighted (by the sample's probability per token); default:
    /// count
    #[arg(long)]
    pub vote: Option<VoteMode>,
}

impl ReaderArgs {
    /// Whether any of the flags is given.
    pub fn is_given(&self) -> bool {
        let Self { extractor, answers, equivalence, same_above, vote } = self;
        let how = extractor.is_some() || answers.is_some() || vote.is_some();
        how || equivalence.is_some() || same_above.is_some()
    }

    /// The given flags, over what is there without them.
    pub fn over(&self, reader: Reader) -> Reader {
        Reader {
            extractor: self.extractor.unwrap_or(reader.extractor),
            answers: self.answers.unwrap_or(reader.answers),
            equivalence: self.equivalence.clone().unwrap_or(reader.equivalence),
            same_above: self.same_above.unwrap_or(reader.same_above),
            vote: self.vote.unwrap_or(reader.vote),
        }
    }
}

/// What is sampled, and when candor answers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Decision")]
pub struct DecisionArgs {
    /// What to sample, NAME[:KEY=VALUE...]
    #[arg(long, default_value = "self-consistency", help = strategy_help())]
    pub strategy: Strategy,
    #[command(flatten)]
    pub reader: ReaderArgs,
    /// The estimator whose score is reported as the uncertainty; by default the one of --policy, or
    /// discrete semantic entropy
    #[arg(long)]
    pub estimator: Option<String>,
    /// Answer only if this share of all samples agrees: an uncalibrated threshold
    #[arg(long, default_value_t = 0.5, value_name = "SHARE", conflicts_with = "policy")]
    pub min_vote_share: f64,
    /// Decide by a policy file that `candor calibrate` made for this configuration, and report its
    /// confidence
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

impl DecisionArgs {
    /// The estimator, if one is named.
    fn estimator(&self) -> Result<Option<&'static Estimator>> {
        self.estimator.as_deref().map(uncertainty::estimator).transpose()
    }

    /// The policy file, if one is given: read before a model is loaded for it.
    pub fn policy_file(&self) -> Result<Option<(&Path, PolicyFile)>> {
        let Some(path) = self.policy.as_deref() else { return Ok(None) };
        Ok(Some((path, read_policy(path)?)))
    }
}

/// The help of --strategy: a line for each.
fn strategy_help() -> String {
    let lines =
        STRATEGIES.iter().map(|(strategy, help)| format!("\n- {}: {help}", strategy.name()));
    std::iter::once("What to sample, NAME[:KEY=VALUE...]:".to_owned()).chain(lines).collect()
}

/// Reads a policy file.
pub fn read_policy(path: &Path) -> Result<PolicyFile> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    PolicyFile::parse(&text).map_err(|e| Error::invalid_file(path, e))
}

/// A task's defaults, used when no flag is given.
pub struct TaskDefaults<'a> {
    pub question_template: &'a str,
    pub extractor: Extractor,
}

impl Default for TaskDefaults<'_> {
    fn default() -> Self {
        Self { question_template: QUESTION, extractor: Extractor::default() }
    }
}

/// The flags that make a pipeline.
#[derive(Debug, Args)]
pub struct PipelineArgs {
    #[command(flatten)]
    pub prompt: PromptArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub decision: DecisionArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

impl PipelineArgs {
    /// Checks the flags before a model is downloaded or loaded.
    pub fn check(&self) -> Result<()> {
        self.sampling.over(&SamplingParams::default()).validate()?;
        self.decision.estimator()?;
        self.engine.options(self.prompt.context)?;
        self.template(&TaskDefaults::default()).validate()?;
        Policy::MinVoteShare { min_vote_share: self.decision.min_vote_share }.validate()
    }

    /// The settings over a model card's sampling.
    pub fn settings(&self, defaults: &TaskDefaults<'_>, card: &SamplingParams) -> Result<Settings> {
        let mut settings = Settings {
            params: self.sampling.over(card),
            strategy: self.decision.strategy,
            question_template: self.template(defaults),
            prompt: self.prompt.options(),
            reader: self.decision.reader.over(defaults.extractor.into()),
            estimator: self.decision.estimator()?,
            policy: Policy::MinVoteShare { min_vote_share: self.decision.min_vote_share },
        };
        if let Some(mode) = self.prompt.thinking {
            settings.set_thinking(mode);
        }
        Ok(settings)
    }

    /// A pipeline over a loaded model; the policy file decides, if one is given.
    pub fn pipeline(
        &self,
        defaults: &TaskDefaults<'_>,
        policy: Option<(&Path, PolicyFile)>,
        loaded: &LoadedModel,
        hub: &hub::HubOptions,
    ) -> Result<Pipeline> {
        self.build(self.settings(defaults, &loaded.sampling())?, policy, loaded, hub)
    }

    /// A pipeline with these settings.
    pub fn build(
        &self,
        settings: Settings,
        policy: Option<(&Path, PolicyFile)>,
        loaded: &LoadedModel,
        hub: &hub::HubOptions,
    ) -> Result<Pipeline> {
        bound(settings, self.engine.options(self.prompt.context)?, policy, loaded, hub)
    }

    /// The text around a question.
    pub fn template(&self, defaults: &TaskDefaults<'_>) -> QuestionTemplate {
        QuestionTemplate {
            system: self.prompt.system.clone(),
            user: self
                .prompt
                .question_template
                .as_deref()
                .unwrap_or(defaults.question_template)
                .to_owned(),
            confidence_target: self.prompt.confidence_target,
            ..QuestionTemplate::default()
        }
    }
}

/// A pipeline with its encoder and its policy file, if the settings and the caller name them.
pub fn bound(
    settings: Settings,
    options: EngineOptions,
    policy: Option<(&Path, PolicyFile)>,
    loaded: &LoadedModel,
    hub: &hub::HubOptions,
) -> Result<Pipeline> {
    let equivalence = settings.reader.equivalence.clone();
    let mut pipeline = Pipeline::new(loaded, settings, options)?;
    if let Equivalence::Encoder { reference, .. } = &equivalence {
        let path = hub::resolve(reference, hub, &mut ())?.path;
        pipeline.bind_encoder(reference, Encoder::load(&path, Device::default())?);
    }
    if let Some((path, file)) = policy {
        pipeline.bind_policy(file, path)?;
    }
    Ok(pipeline)
}

/// How the engine runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Give every sample its own row instead of forking rows only where samples differ
    #[arg(long)]
    pub eager_forking: bool,
    /// Megabytes of KV cache kept for later prompts
    #[arg(long, default_value_t = 128, value_name = "MB")]
    pub prefix_cache: usize,
    /// KV-cache budget in megabytes, worst case over all running samples; others queue
    #[arg(long, default_value_t = 4096, value_name = "MB")]
    pub kv_budget: usize,
    /// Tokens of one forward pass, shared by samples and prompts
    #[arg(long, default_value_t = 256, value_name = "TOKENS")]
    pub max_batch_tokens: usize,
}

impl EngineArgs {
    pub fn options(&self, context: Option<usize>) -> Result<EngineOptions> {
        if self.max_batch_tokens == 0 {
            return Err(Error::usage("max-batch-tokens is 0; it must be at least 1"));
        }
        if context == Some(0) {
            return Err(Error::usage("context is 0; it must be at least 1"));
        }
        Ok(EngineOptions {
            context,
            max_batch_tokens: self.max_batch_tokens,
            eager_forking: self.eager_forking,
            prefix_cache_bytes: self.prefix_cache.saturating_mul(1 << 20),
            kv_budget_bytes: self.kv_budget.saturating_mul(1 << 20),
            end_tokens: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        sampling: SamplingArgs,
    }

    #[test]
    fn sampling_flags_go_over_the_cards_values() {
        let card = SamplingParams { top_p: 0.9, top_k: 20, min_p: 0.1, ..Default::default() };
        let read = |flags: &str| {
            let flags =
                Flags::parse_from(["candor", "-n", "1"].into_iter().chain(flags.split(' ')));
            flags.sampling.over(&card)
        };
        let check = |flags: &str, expected: SamplingParams| {
            let found = read(flags);
            assert_eq!(found, expected, "{flags}");
            found.validate().unwrap();
        };
        check("--seed 0", card.clone());
        check(
            "--dry-multiplier 0.8 --dry-base 2 --dry-allowed-length 3 --dry-penalty-last-n -1 \
             --dynatemp-range 0.5 --dynatemp-exponent 2 --xtc-probability 0.5 --xtc-threshold 0.2",
            SamplingParams {
                dry_multiplier: 0.8,
                dry_base: 2.0,
                dry_allowed_length: 3,
                dry_penalty_last_n: -1,
                dynatemp_range: 0.5,
                dynatemp_exponent: 2.0,
                xtc_probability: 0.5,
                xtc_threshold: 0.2,
                ..card.clone()
            },
        );
        // Mirostat takes the place of the card's filters.
        let mirostat = SamplingParams {
            mirostat: 2,
            mirostat_tau: 3.0,
            mirostat_eta: 0.2,
            ..SamplingParams::default()
        };
        check("--mirostat 2 --mirostat-tau 3 --mirostat-eta 0.2", mirostat);
        check("--mirostat 0", card.clone());
        let error = read("--mirostat 2 --top-k 5").validate().unwrap_err().to_string();
        assert!(error.contains("top_k is 5; set top_k to 0 or mirostat to 0"), "{error}");
    }
}
