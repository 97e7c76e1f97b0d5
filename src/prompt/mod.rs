//! Prompts: chat template, prompt repetition, and encoding to token ids.
//!
//! Contract: the tokens are those of Hugging Face's `apply_chat_template`, except that a control
//! string in message content stays text: no message can open, close or forge a turn. A model
//! without a chat template, or a template that fails, is an error; sending text without a template
//! is a mode that the caller chooses ([`Mode::Raw`]). The same arguments give the same tokens on
//! every day and every machine.
//!
//! This module knows tokenizers and text; it does not know the model, its cache, or how the tokens
//! are used.

pub mod date;
mod encode;
mod provenance;
pub mod repetition;
mod sandbox;
pub mod template;
mod thinking;

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::date::Date;
use self::encode::{ControlTokens, Encoded};
use self::provenance::{Rendered, Rules, Span};
pub use self::repetition::{KvKeep, Repeated, Repetition};
pub use self::template::{BoundaryTokens, ChatTemplate, TemplateArguments, Variables};
pub use self::thinking::{Marker, Markers, Reasoning, ThinkingMode};
use crate::error::{Error, Result};
use crate::generation::{Message, Role};
use crate::tokenizer::Tokenizer;

/// Number of first prompt tokens that always stay in the cache as attention sinks (`StreamingLLM`,
/// arXiv 2309.17453).
pub const ATTENTION_SINK: usize = 4;
/// The largest total size of the messages in bytes, before repetition.
pub const CONTENT_LIMIT: usize = 1 << 20;

/// A prompt as the engine takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids, the beginning-of-text token included.
    pub tokens: Vec<u32>,
    /// Cache rows to drop after prefill, positions unchanged ([`KvKeep::Second`]).
    pub drop_after_prefill: Option<Range<usize>>,
    /// Token ranges that cover message content (except white space at its edges): ascending,
    /// disjoint. A token that spans template and content belongs to a range.
    pub content: Vec<Range<usize>>,
    /// The rendered text, before encoding; in raw mode without the beginning-of-text token.
    pub text: String,
    /// The repetition that was applied.
    pub repetition: Repetition,
    /// How the model's reasoning shows in the completion; `None` for a model that has no markers
    /// for it.
    pub reasoning: Option<Reasoning>,
    /// Deviations from the request, one sentence each for the user.
    pub notes: Vec<String>,
}

impl Prompt {
    /// A prompt of token ids without a text.
    pub fn from_tokens(tokens: Vec<u32>) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// Checks that the prompt and `max_tokens` more fit a context of `context` tokens. Dropped rows
    /// count, because positions are unchanged.
    ///
    /// # Errors
    /// A resources error with the sizes and the remedies.
    pub fn check_fits(&self, context: usize, max_tokens: usize) -> Result<()> {
        let prompt = self.tokens.len();
        if prompt.checked_add(max_tokens).is_some_and(|total| total <= context) {
            return Ok(());
        }
        let repeated = self.repetition != Repetition::Off;
        let repetition = if repeated {
            format!(" with prompt repetition {}", self.repetition)
        } else {
            String::new()
        };
        let mut remedies = Vec::new();
        if prompt < context {
            remedies.push(format!("set max_tokens to at most {}", context - prompt));
        }
        if repeated {
            remedies.push("set prompt repetition to off".to_owned());
        }
        remedies.push("shorten the prompt".to_owned());
        Err(Error::Resources(format!(
            "the prompt has {prompt} tokens{repetition} and up to {max_tokens} are to be \
             generated, {} together, but the context holds {context}; {}",
            prompt.saturating_add(max_tokens),
            remedies.join(", or ")
        )))
    }
}

/// Whether messages go through a chat template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Through the chat template; without one, an error.
    #[default]
    Chat,
    /// As they are, joined by an empty line, after the beginning-of-text token if the model adds
    /// it; for base models.
    Raw,
}

/// How messages become a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptOptions {
    /// Through the chat template or raw.
    pub mode: Mode,
    /// A chat template instead of the model's own.
    pub template: Option<String>,
    /// How the last user message is repeated.
    pub repetition: Repetition,
    /// Which copies stay in the cache.
    pub kv_keep: KvKeep,
    /// End with the opening of the assistant's turn, or, if the last message is the assistant's,
    /// within that message, so that it is continued. Otherwise the chat is rendered as finished.
    pub add_generation_prompt: bool,
    /// The caller's arguments to the template.
    pub arguments: TemplateArguments,
    /// The date for the template's `strftime_now`.
    pub date: Date,
}

impl Default for PromptOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            template: None,
            repetition: Repetition::default(),
            kv_keep: KvKeep::default(),
            add_generation_prompt: true,
            arguments: TemplateArguments::default(),
            date: Date::default(),
        }
    }
}

/// Makes prompts for one model.
pub struct PromptFormat {
    tokenizer: Arc<Tokenizer>,
    controls: ControlTokens,
    template: Option<ChatTemplate>,
    boundary: BoundaryTokens,
    options: PromptOptions,
    thinking: Thinking,
    markers: Option<Arc<Markers>>,
}

/// How a template handles thinking, found by rendering a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Thinking {
    /// Whether `enable_thinking` changes the prompt.
    switchable: bool,
    /// Whether the template opens the reasoning whatever the arguments are.
    always: bool,
    /// Whether the model thinks under the format's arguments.
    on: bool,
}

/// The message that was repeated, and the start of its last copy if there are several.
#[derive(Clone, Copy, Debug)]
struct RepeatedMessage {
    message: usize,
    last_copy: Option<usize>,
}

impl PromptFormat {
    /// Reads the template of `options` or else of `tokenizer`, and compiles it.
    ///
    /// # Errors
    /// A usage error if there is no template in chat mode; an invalid-file error if it does not
    /// compile.
    pub fn new(tokenizer: Arc<Tokenizer>, options: PromptOptions) -> Result<Self> {
        options.arguments.validate()?;
        let own = || Some((tokenizer.chat_template()?, tokenizer.chat_template_file()?));
        let template = match (options.mode, &options.template, own()) {
            (Mode::Raw, ..) => None,
            (Mode::Chat, Some(source), _) => Some(ChatTemplate::new(source)?),
            (Mode::Chat, None, Some((source, file))) => {
                Some(ChatTemplate::from_file(source, file)?)
            }
            (Mode::Chat, None, None) => {
                return Err(Error::usage(
                    "this model has no chat template, as base models do not; use --raw to send the \
                     text as it is, or another model",
                ));
            }
        };
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).map(str::to_owned);
        let boundary = BoundaryTokens {
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.end_tokens().first().copied()),
        };
        let controls = ControlTokens::new(&tokenizer);
        let source = template.as_ref().map(ChatTemplate::source);
        let markers = Markers::find(&tokenizer, source).map(Arc::new);
        let mut format = Self {
            tokenizer,
            controls,
            template,
            boundary,
            options,
            thinking: Thinking::default(),
            markers,
        };
        format.thinking = format.detect_thinking();
        Ok(format)
    }

    /// How messages become a prompt.
    pub fn options(&self) -> &PromptOptions {
        &self.options
    }

    /// Lower-case hexadecimal SHA-256 of the chat template's text; `None` in raw mode.
    pub fn template_sha256(&self) -> Option<String> {
        self.template.as_ref().map(ChatTemplate::sha256)
    }

    /// The markers around the model's reasoning, if it has any.
    pub fn markers(&self) -> Option<&Arc<Markers>> {
        self.markers.as_ref()
    }

    /// Whether the model thinks before it answers, by `enable_thinking` or by its template's
    /// default.
    pub fn thinks(&self) -> bool {
        self.thinking.on
    }

    /// Renders and encodes `messages`.
    ///
    /// # Errors
    /// A usage error if the template rejects them (with its message), if there is nothing to
    /// answer, or if [`KvKeep::Second`] cannot find the copies; a resources error if they are too
    /// long; an invalid-file error if the template fails.
    pub fn render(&self, messages: &[Message]) -> Result<Prompt> {
        self.render_with(messages, "")
    }

    /// As [`Self::render`], with a text after the prompt, such as the beginning of its answer. The
    /// text is encoded with the prompt and, like message content, never as a control token.
    ///
    /// # Errors
    /// As for [`Self::render`].
    pub fn render_with(&self, messages: &[Message], ending: &str) -> Result<Prompt> {
        self.check(messages)?;
        let mut notes = Vec::new();
        let (messages, repeated) = self.repeat(messages, &mut notes)?;
        let mut rendered = match &self.template {
            Some(template) => self.render_chat(template, &messages)?,
            None => render_raw(&messages),
        };
        let reasoning = self.markers.as_ref().map(|markers| {
            let begun = messages.last().filter(|_| self.continues(&messages));
            let open = begun.map_or_else(
                || markers.end_of_prompt_opens(&rendered.text),
                |begun| markers.leaves_open(&begun.content),
            );
            Reasoning { markers: Arc::clone(markers), open }
        });
        if !ending.is_empty() {
            let start = rendered.text.len();
            rendered.text.push_str(ending);
            rendered.spans.push(Span {
                text: start..rendered.text.len(),
                message: messages.len(),
                source: 0..ending.len(),
            });
        }
        let Encoded { mut tokens, mut spans } =
            encode::encode(&self.tokenizer, &self.controls, &rendered)?;
        if tokens.is_empty() {
            let what = if rendered.text.is_empty() {
                "the chat template produces no text"
            } else {
                "the vocabulary encodes nothing of the prompt"
            };
            return Err(Error::invalid_file(
                "tokenizer",
                format!("{what}; check the file with `candor show`"),
            ));
        }
        if let (None, true, Some(bos)) =
            (&self.template, self.tokenizer.add_bos(), self.tokenizer.bos())
        {
            tokens.insert(0, bos);
            spans.insert(0, 0..0);
        }
        let drop_after_prefill =
            self.drop_range(&rendered, &spans, repeated.as_ref(), &mut notes)?;
        let content =
            if rendered.located { content_ranges(&rendered.spans, &spans) } else { Vec::new() };
        let repetition =
            if repeated.is_some() { self.options.repetition.clone() } else { Repetition::Off };
        Ok(Prompt {
            tokens,
            drop_after_prefill,
            content,
            text: rendered.text,
            repetition,
            reasoning,
            notes,
        })
    }

    fn check(&self, messages: &[Message]) -> Result<()> {
        let size: usize = messages.iter().map(|message| message.content.len()).sum();
        if size > CONTENT_LIMIT {
            return Err(Error::Resources(format!(
                "the messages have {size} bytes; the limit is {CONTENT_LIMIT}; shorten them"
            )));
        }
        match messages.last() {
            None => Err(Error::usage("there are no messages; give at least one")),
            Some(last) if self.continues(messages) && last.content.trim().is_empty() => {
                Err(Error::usage(
                    "the last message is the assistant's and empty: there is nothing to continue; \
                     leave it out",
                ))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether the last message is the assistant's and is continued.
    fn continues(&self, messages: &[Message]) -> bool {
        self.options.add_generation_prompt
            && messages.last().is_some_and(|message| message.role == Role::Assistant)
    }

    /// The messages with the last user message repeated; unchanged with a note if repetition does
    /// not apply.
    fn repeat(
        &self,
        messages: &[Message],
        notes: &mut Vec<String>,
    ) -> Result<(Vec<Message>, Option<RepeatedMessage>)> {
        let mut messages = messages.to_vec();
        let Thinking { switchable, always, on } = self.thinking;
        let requested = self.options.arguments.enable_thinking;
        if !switchable && requested.is_some_and(|requested| !(requested && always)) {
            notes.push(
                "the chat template has no thinking switch: enable_thinking changes nothing"
                    .to_owned(),
            );
        }
        let repetition = &self.options.repetition;
        if *repetition == Repetition::Off {
            return Ok((messages, None));
        }
        if on {
            notes.push(format!(
                "prompt repetition {repetition} is off because the model thinks first, which \
                 makes repetition useless"
            ));
            return Ok((messages, None));
        }
        let Some((index, message)) =
            messages.iter_mut().enumerate().rev().find(|(_, message)| message.role == Role::User)
        else {
            notes.push(format!(
                "prompt repetition {repetition} is off because there is no user message"
            ));
            return Ok((messages, None));
        };
        let repeated =
            repetition.apply(&message.content, |text| Ok(self.tokenizer.encode(text)?.len()))?;
        message.content = repeated.text;
        Ok((messages, Some(RepeatedMessage { message: index, last_copy: repeated.last_copy })))
    }

    fn variables<'a>(
        &'a self,
        arguments: &'a TemplateArguments,
        add_generation_prompt: bool,
    ) -> Variables<'a> {
        Variables {
            boundary: &self.boundary,
            arguments,
            add_generation_prompt,
            date: self.options.date,
        }
    }

    fn render_chat(&self, template: &ChatTemplate, messages: &[Message]) -> Result<Rendered> {
        let continues = self.continues(messages);
        let variables = self
            .variables(&self.options.arguments, self.options.add_generation_prompt && !continues);
        let rules = Rules { template: template.source(), controls: self.controls.texts() };
        let rendered =
            provenance::trace(messages, &rules, |messages| template.render(messages, variables))?;
        if continues { cut_after_last(rendered, messages) } else { Ok(rendered) }
    }

    /// Renders a probe with `enable_thinking` true, false and undefined, and compares. A template
    /// that rejects the probe counts as one without thinking.
    fn detect_thinking(&self) -> Thinking {
        let Some(template) = &self.template else { return Thinking::default() };
        let probe = [Message::user("x")];
        let with = |enable_thinking: Option<bool>| {
            let arguments = TemplateArguments { enable_thinking, ..self.options.arguments.clone() };
            template.render(&probe, self.variables(&arguments, true)).ok()
        };
        let (default, on, off) = (with(None), with(Some(true)), with(Some(false)));
        let switchable = on != off;
        let requested = match self.options.arguments.enable_thinking {
            Some(requested) => requested,
            None => switchable && default == on,
        };
        let opened = |text: &Option<String>| {
            let markers = self.markers.as_ref().zip(text.as_deref());
            markers.is_some_and(|(markers, text)| markers.end_of_prompt_opens(text))
        };
        let always = !switchable && opened(&default);
        Thinking { switchable, always, on: requested || always }
    }

    /// The rows of all copies but the last, whole tokens only.
    fn drop_range(
        &self,
        rendered: &Rendered,
        spans: &[Range<usize>],
        repeated: Option<&RepeatedMessage>,
        notes: &mut Vec<String>,
    ) -> Result<Option<Range<usize>>> {
        if self.options.kv_keep == KvKeep::All {
            return Ok(None);
        }
        let Some((message, last_copy)) =
            repeated.and_then(|repeated| Some((repeated.message, repeated.last_copy?)))
        else {
            notes.push("kv_keep second has no effect because nothing is repeated".to_owned());
            return Ok(None);
        };
        let copies = first_copies(rendered, message, last_copy).ok_or_else(|| {
            Error::usage(
                "kv_keep second needs to find the repeated message, but the chat template \
                 rewrites it; use kv_keep all",
            )
        })?;
        let start = spans.partition_point(|span| span.start < copies.start).max(ATTENTION_SINK);
        let end = spans.partition_point(|span| span.end <= copies.end);
        Ok((start < end).then_some(start..end))
    }
}

fn render_raw(messages: &[Message]) -> Rendered {
    let mut text = String::new();
    let mut spans = Vec::new();
    for (message, Message { content, .. }) in messages.iter().enumerate() {
        if message > 0 {
            text.push_str("\n\n");
        }
        spans.push(Span {
            text: text.len()..text.len() + content.len(),
            message,
            source: 0..content.len(),
        });
        text.push_str(content);
    }
    Rendered { text, spans, located: true }
}

/// Ends the text with the content of the last message, and the white space after it if the template
/// kept that, so that the model continues from there.
fn cut_after_last(mut rendered: Rendered, messages: &[Message]) -> Result<Rendered> {
    match (rendered.spans.last(), messages.last()) {
        (Some(span), Some(Message { content, .. }))
            if rendered.located && span.message + 1 == messages.len() =>
        {
            let space = content.get(span.source.end..).unwrap_or_default();
            let kept =
                rendered.text.get(span.text.end..).is_some_and(|after| after.starts_with(space));
            rendered.text.truncate(span.text.end + if kept { space.len() } else { 0 });
            Ok(rendered)
        }
        _ => Err(Error::usage(
            "the chat template hides the last assistant message, so it cannot be continued; end \
             with a user message",
        )),
    }
}

/// Bytes of the text from the start of a message to its last copy; `None` unless the message occurs
/// exactly once.
fn first_copies(rendered: &Rendered, message: usize, last_copy: usize) -> Option<Range<usize>> {
    let spans: Vec<&Span> = rendered.spans.iter().filter(|span| span.message == message).collect();
    let ordered = spans.is_sorted_by(|a, b| a.source.end <= b.source.start);
    let last = spans.iter().find(|span| span.source.end > last_copy)?;
    let end = last.text.start + last_copy.saturating_sub(last.source.start);
    (rendered.located && ordered).then_some(spans.first()?.text.start..end)
}

/// The token ranges that cover `contents`; adjacent ones are merged.
fn content_ranges(contents: &[Span], spans: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for content in contents {
        let start = spans.partition_point(|span| span.end <= content.text.start);
        let end = spans.partition_point(|span| span.start < content.text.end);
        match ranges.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ if start < end => ranges.push(start..end),
            _ => {}
        }
    }
    ranges
}
