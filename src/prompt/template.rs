//! Chat templates: the Jinja program inside a model file, run as untrusted code.
//!
//! The dialect is Hugging Face's (`jinja2.ext.loopcontrols`, `trim_blocks`, `lstrip_blocks`,
//! `raise_exception`, `strftime_now`, a `tojson` that is Python's `json.dumps`, Python's string
//! methods, an undefined value that prints as an empty string but fails on attribute access).
//! There is no loader, no file, no environment and no clock: a rendering depends on the template,
//! the messages, the arguments and the date. [`FUEL`] limits work and memory, [`OUTPUT_LIMIT`] the
//! text, and [`DEADLINE`] work that the engine does not charge for, such as comparing large values:
//! a rendering runs on its own thread, which is abandoned when it times out.
//!
//! A template that fails or rejects the messages is an error with the template's own message;
//! nothing is guessed. This file does not know tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Kwargs, Object, ValueKind};
use minijinja::{
    AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value, escape_formatter,
};
use minijinja_contrib::pycompat;
use serde::{Deserialize, Serialize};

use super::date::Date;
use super::sandbox;
use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::generation::Message;

/// Fuel of one rendering: one unit is one instruction, or 64 bytes written or read.
pub const FUEL: u64 = 200_000;
/// Additional fuel per byte of the messages: a template may copy them eight times.
const FUEL_PER_BYTE: f64 = 8.0 / 64.0;
/// Time limit of one rendering, not counted while this process gets no CPU time. The longest
/// published templates need a thousandth of it.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The longest output of a template, in bytes.
pub const OUTPUT_LIMIT: usize = 4 << 20;
/// The longest template that is compiled, in bytes. The longest published ones have about 30 kB.
pub const SOURCE_LIMIT: usize = 256 << 10;

/// The deepest value that a namespace or `tojson` accepts.
const MAX_DEPTH: usize = 32;

const NAME: &str = "chat_template";

/// The only arguments that a caller may pass to a template besides the messages. The list is
/// closed, because an argument named `messages` or `bos_token` would replace ours (as in
/// CVE-2025-62426).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemplateArguments {
    /// Asks a hybrid model to think first (`true`) or not (`false`); `None` leaves it to the
    /// template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_thinking: Option<bool>,
    /// How much to think: one lower-case word, as `low`, `medium`, `high`; `None` leaves it to the
    /// template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
}

impl TemplateArguments {
    /// Sets one argument from JSON, as `chat_template_kwargs` carries it.
    ///
    /// # Errors
    /// A usage error for a name that is not on the list, or a value of the wrong type.
    pub fn set(&mut self, name: &str, value: &serde_json::Value) -> Result<()> {
        match (name, value) {
            ("enable_thinking", serde_json::Value::Bool(on)) => self.enable_thinking = Some(*on),
            ("enable_thinking", _) => {
                return Err(Error::usage(format!(
                    "enable_thinking is {value}; it must be true or false"
                )));
            }
            ("reasoning_effort", serde_json::Value::String(word)) => {
                self.reasoning_effort = Some(word.clone());
            }
            ("reasoning_effort", _) => {
                return Err(Error::usage(format!(
                    "reasoning_effort is {value}; it must be a word in quotes"
                )));
            }
            _ => {
                return Err(Error::usage(format!(
                    "the template argument {name:?} is not allowed; only enable_thinking and \
                     reasoning_effort are"
                )));
            }
        }
        self.validate()
    }

    /// Checks that `reasoning_effort` is a plain word: it becomes template text, so it must not
    /// hold a control string.
    pub fn validate(&self) -> Result<()> {
        match &self.reasoning_effort {
            Some(word)
                if word.is_empty()
                    || word.len() > 16
                    || !word.bytes().all(|b| b.is_ascii_lowercase()) =>
            {
                Err(Error::usage(format!(
                    "reasoning_effort is {word:?}; it must be one lower-case word such as low, \
                     medium or high"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// The texts of the first and last token of a text, for the template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundaryTokens {
    /// `bos_token`; undefined in the template if the model has none.
    pub bos: Option<String>,
    /// `eos_token`; undefined in the template if the model has none.
    pub eos: Option<String>,
}

/// The inputs of a rendering besides the messages.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// `bos_token` and `eos_token`.
    pub boundary: &'a BoundaryTokens,
    /// The caller's arguments.
    pub arguments: &'a TemplateArguments,
    /// End with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// The date for `strftime_now`.
    pub date: Date,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// The file that errors name.
    file: PathBuf,
    /// Renderings that timed out and still run. While there are any, no other starts.
    timed_out: Arc<AtomicUsize>,
    /// [`DEADLINE`], except in tests.
    deadline: Duration,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("sha256", &self.sha256()).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles `source`.
    ///
    /// # Errors
    /// An invalid-file error with the line and the parser's message, or for a source above
    /// [`SOURCE_LIMIT`].
    pub fn new(source: &str) -> Result<Self> {
        if source.len() > SOURCE_LIMIT {
            return Err(invalid(format!(
                "it has {} bytes; the limit is {SOURCE_LIMIT}",
                source.len()
            )));
        }
        let mut environment = environment();
        // Jinja2 makes every line end of the source a line feed.
        let lines = source.replace("\r\n", "\n").replace('\r', "\n");
        let prepared = sandbox::prepare(&lines).map_err(invalid)?;
        environment.add_template_owned(NAME, prepared).map_err(|error| failure(&error, FUEL))?;
        Ok(Self {
            environment,
            source: source.to_owned(),
            file: PathBuf::from(UNKNOWN_FILE),
            timed_out: Arc::default(),
            deadline: DEADLINE,
        })
    }

    /// Compiles the source from `file`.
    ///
    /// # Errors
    /// As [`Self::new`], with the file's name; so are those of rendering.
    pub fn from_file(source: &str, file: &Path) -> Result<Self> {
        Self::new(source)
            .map(|template| Self { file: file.to_owned(), ..template })
            .map_err(|error| with_file(error, file))
    }

    /// The template's text as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Lower-case hexadecimal SHA-256 of the template's text: part of a calibration's fingerprint.
    pub fn sha256(&self) -> String {
        sha256_hex(self.source.as_bytes())
    }

    /// Renders `messages`: deterministic, within [`FUEL`], [`OUTPUT_LIMIT`] and [`DEADLINE`].
    ///
    /// # Errors
    /// A usage error with the template's message if it rejects the messages (`raise_exception`); a
    /// resources error if fuel, output or time run out; an invalid-file error with the line if the
    /// template fails in any other way.
    pub fn render(&self, messages: &[Message], variables: Variables<'_>) -> Result<String> {
        self.rendered(messages, variables).map_err(|error| with_file(error, &self.file))
    }

    fn rendered(&self, messages: &[Message], variables: Variables<'_>) -> Result<String> {
        let timeout_error = || {
            Error::Resources(format!(
                "the chat template was stopped: it did not end within {} s",
                self.deadline.as_secs_f32()
            ))
        };
        if self.timed_out.load(Ordering::Acquire) > 0 {
            return Err(timeout_error());
        }
        let content_bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let fuel = FUEL + (content_bytes as f64 * FUEL_PER_BYTE) as u64;
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let context = context(messages, variables);
        let (sender, receiver) = mpsc::sync_channel(1);
        // The later of the two, the end of the rendering and the deadline, finds the other's mark.
        let marked = Arc::new(AtomicBool::new(false));
        let (mark, left) = (Arc::clone(&marked), Arc::clone(&self.timed_out));
        let work = move || {
            let _ = sender.send(render(&environment, context, fuel));
            if mark.swap(true, Ordering::AcqRel) {
                left.fetch_sub(1, Ordering::Release);
            }
        };
        let begun = process_time();
        let thread = thread::Builder::new().name("chat-template".into()).spawn(work);
        thread.map_err(|error| {
            Error::Resources(format!("no thread for the chat template: {error}"))
        })?;
        let failed = || invalid("the template engine failed on it");
        let mut rest = self.deadline;
        loop {
            let received = receiver.recv_timeout(rest);
            rest = self.deadline.saturating_sub(process_time().saturating_sub(begun));
            match received {
                Ok(text) => return text,
                // Dropped without a result: it panicked.
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(failed()),
                // The process was stopped or got no CPU time, so the template is not at fault.
                Err(mpsc::RecvTimeoutError::Timeout) if !rest.is_zero() => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.timed_out.fetch_add(1, Ordering::AcqRel);
                    if marked.swap(true, Ordering::AcqRel) {
                        // It has just ended.
                        self.timed_out.fetch_sub(1, Ordering::Release);
                        return receiver.recv().unwrap_or_else(|_| Err(failed()));
                    }
                    return Err(timeout_error());
                }
            }
        }
    }
}

/// CPU time of this process over all threads, so at least that of any one thread; wall time on
/// platforms without such a clock. The origin is arbitrary.
fn process_time() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::try_from(time).unwrap_or(Duration::MAX)
    }
    #[cfg(not(unix))]
    {
        static START: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed()
    }
}

fn render(environment: &Environment<'_>, context: Value, fuel: u64) -> Result<String> {
    let template = environment.get_template(NAME).map_err(|error| failure(&error, fuel))?;
    let mut text = LimitedWriter(Vec::new());
    match template.render_captured_to(context, &mut text) {
        Ok(_) => String::from_utf8(text.0).map_err(|_| invalid("its output is not UTF-8")),
        Err(error) => Err(failure(&error, fuel)),
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_formatter(format_value);
    environment.set_unknown_method_callback(python_method);
    environment.add_filter("tojson", to_json);
    // In Python texts and maps are sequences too.
    environment.add_test("sequence", |value: &Value| {
        value.as_str().is_some() || matches!(value.kind(), ValueKind::Seq | ValueKind::Map)
    });
    environment.add_function("raise_exception", raise_exception);
    environment.add_function(sandbox::PLAIN, plain);
    environment.add_filter(sandbox::PLAIN, plain);
    environment
}

fn context(messages: &[Message], variables: Variables<'_>) -> Value {
    let Variables { boundary, arguments, add_generation_prompt, date } = variables;
    let turns: Vec<Value> = messages
        .iter()
        .map(|message| {
            Value::from_object(Turn {
                role: message.role.as_str(),
                content: message.content.as_str().into(),
            })
        })
        .collect();
    let now = move |format: &str| {
        date.strftime(format).ok_or_else(|| {
            minijinja::Error::new(
                ErrorKind::InvalidOperation,
                format!("strftime_now does not support the date format {format:?}"),
            )
        })
    };
    let mut fields: Vec<(&str, Value)> = vec![
        ("messages", Value::from(turns)),
        ("tools", Value::from(())),
        ("documents", Value::from(())),
        ("add_generation_prompt", Value::from(add_generation_prompt)),
        ("strftime_now", Value::from_function(now)),
    ];
    fields.extend(boundary.bos.as_deref().map(|text| ("bos_token", Value::from(text))));
    fields.extend(boundary.eos.as_deref().map(|text| ("eos_token", Value::from(text))));
    // Templates of DeepSeek, Granite and Kimi spell it `thinking`.
    for name in ["enable_thinking", "thinking"] {
        fields.extend(arguments.enable_thinking.map(|on| (name, Value::from(on))));
    }
    fields.extend(
        arguments.reasoning_effort.as_deref().map(|word| ("reasoning_effort", Value::from(word))),
    );
    Value::from(fields.into_iter().collect::<BTreeMap<&str, Value>>())
}

/// A message as the template sees it: a map whose keys keep their order.
#[derive(Debug)]
struct Turn {
    role: &'static str,
    content: Arc<str>,
}

impl Object for Turn {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "role" => Some(Value::from(self.role)),
            "content" => Some(Value::from(self.content.clone())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["role", "content"])
    }
}

/// Collects at most [`OUTPUT_LIMIT`] bytes.
struct LimitedWriter(Vec<u8>);

impl std::io::Write for LimitedWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_LIMIT {
            return Err(std::io::Error::other(Rejection::Output));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A failure that is not a bug of the template; passed as the source of an engine error.
#[derive(Debug, thiserror::Error)]
enum Rejection {
    #[error("{0}")]
    Raised(String),
    #[error("its output is longer than {OUTPUT_LIMIT} bytes")]
    Output,
}

fn raise_exception(message: &str) -> Result<Value, minijinja::Error> {
    let raised = Rejection::Raised(message.to_owned());
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(raised))
}

/// Python's methods of strings, maps and lists. The engine charges for a method's result; a method
/// that reads much and returns little (`count` in a loop) is charged here for its input.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    let read: usize =
        std::iter::once(value).chain(arguments).filter_map(Value::as_str).map(str::len).sum();
    state.consume_fuel(read as u64 / 64)?;
    pycompat::unknown_method_callback(state, value, method, arguments)
}

/// A copy for a namespace: without lazy parts, nested at most [`MAX_DEPTH`] deep, without a
/// namespace in it. Namespaces are the only mutable values, and so the only way to nest without
/// limit.
fn plain(state: &State, value: &Value) -> Result<Value, minijinja::Error> {
    fn copy(state: &State, value: &Value, depth: usize) -> Result<Value, minijinja::Error> {
        let refused = |what: &str| {
            Err(minijinja::Error::new(
                ErrorKind::InvalidOperation,
                format!("a namespace cannot hold {what}"),
            ))
        };
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
            return Ok(value.clone());
        }
        if value.as_object().is_some_and(|object| object.type_name().contains("Namespace")) {
            return refused("a namespace");
        }
        if depth == MAX_DEPTH {
            return refused("values nested so deeply");
        }
        if value.downcast_object_ref::<Turn>().is_some() {
            return Ok(value.clone());
        }
        let items = value.try_iter()?.map(|item| state.consume_fuel(1).map(|()| item));
        if value.kind() == ValueKind::Map {
            let entry =
                |key: Value| Ok((key.clone(), copy(state, &value.get_item(&key)?, depth + 1)?));
            return Ok(Value::from_iter(
                items
                    .map(|key| entry(key?))
                    .collect::<Result<Vec<(Value, Value)>, minijinja::Error>>()?,
            ));
        }
        Ok(Value::from(
            items
                .map(|item| copy(state, &item?, depth + 1))
                .collect::<Result<Vec<Value>, minijinja::Error>>()?,
        ))
    }
    copy(state, value, 0)
}

/// Prints as Python does: `True`, `False`, `None`.
fn format_value(
    out: &mut Output,
    state: &mut State,
    value: &Value,
) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(out.write_str("None")?),
        _ => {
            charge(state, value, 0)?;
            escape_formatter(out, state, value)
        }
    }
}

/// Charges for the output of printing a value: a list of lists of lists prints more than its parts.
fn charge(state: &State, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
        || value.downcast_object_ref::<Turn>().is_some()
    {
        return state.consume_fuel(value.as_str().map_or(1, |text| 1 + text.len() as u64 / 64));
    }
    if depth == MAX_DEPTH {
        return Err(minijinja::Error::new(
            ErrorKind::InvalidOperation,
            "printing values nested so deeply",
        ));
    }
    for item in value.try_iter()? {
        charge(state, &item, depth + 1)?;
        if value.kind() == ValueKind::Map {
            charge(state, &value.get_item(&item)?, depth + 1)?;
        }
    }
    Ok(())
}

/// `tojson` of Hugging Face's templates: Python's `json.dumps(value, ensure_ascii=False,
/// indent=indent)`, not Jinja's HTML-escaped form.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands keyword arguments by value")]
fn to_json(state: &State, value: &Value, kwargs: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let ensure_ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let mut writer = JsonWriter {
        state,
        text: String::new(),
        indent: indent.map(|n| n.min(16)),
        ascii: ensure_ascii.unwrap_or(false),
    };
    writer.value(value, 1)?;
    Ok(writer.text)
}

struct JsonWriter<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    text: String,
    indent: Option<usize>,
    ascii: bool,
}

impl JsonWriter<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
        let refused = |what: &str| {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("tojson of {what}")))
        };
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable if depth <= MAX_DEPTH => {
                self.items(value, depth, ['[', ']'])?;
            }
            ValueKind::Map if depth <= MAX_DEPTH => self.items(value, depth, ['{', '}'])?,
            ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
                return refused("a value nested so deeply");
            }
            other => return refused(&other.to_string()),
        }
        Ok(())
    }

    fn items(
        &mut self,
        value: &Value,
        depth: usize,
        [open, close]: [char; 2],
    ) -> Result<(), minijinja::Error> {
        self.text.push(open);
        let mut first = true;
        for item in value.try_iter()? {
            self.separate(first, depth);
            first = false;
            if open == '{' {
                self.string(item.as_str().unwrap_or(&item.to_string()))?;
                self.text.push_str(": ");
                self.value(&value.get_item(&item)?, depth + 1)?;
            } else {
                self.value(&item, depth + 1)?;
            }
        }
        if !first {
            self.line(depth - 1);
        }
        self.text.push(close);
        Ok(())
    }

    fn separate(&mut self, first: bool, depth: usize) {
        match (first, self.indent) {
            (true, _) => {}
            (false, Some(_)) => self.text.push(','),
            (false, None) => self.text.push_str(", "),
        }
        self.line(depth);
    }

    fn line(&mut self, depth: usize) {
        if let Some(width) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', width * depth));
        }
    }

    fn string(&mut self, text: &str) -> Result<(), minijinja::Error> {
        self.state.consume_fuel(text.len() as u64 / 16)?;
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    let mut units = [0; 2];
                    self.text.extend(
                        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")),
                    );
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
        Ok(())
    }
}

/// The file in errors if none is known.
const UNKNOWN_FILE: &str = "tokenizer.chat_template";

fn invalid(reason: impl fmt::Display) -> Error {
    Error::invalid_file(UNKNOWN_FILE, format!("the model's chat template cannot be used: {reason}"))
}

/// The error with the name of the template's file.
fn with_file(error: Error, file: &Path) -> Error {
    match error {
        Error::InvalidFile { reason, .. } => Error::invalid_file(file, reason),
        other => other,
    }
}

/// The longest quote of a template in an error, in characters.
const MAX_QUOTE: usize = 300;

/// Classifies an error: the template's own (`raise_exception`), a limit (fuel, output), or Jinja's.
fn failure(error: &minijinja::Error, fuel: u64) -> Error {
    let quote = |text: &str| match text.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inside = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let rejection = inner
            .downcast_ref::<Rejection>()
            .or_else(|| inside.and_then(|inner| inner.downcast_ref()));
        match rejection {
            Some(Rejection::Raised(rule)) => {
                return Error::usage(format!(
                    "the chat template rejects these messages: {}",
                    quote(rule)
                ));
            }
            Some(Rejection::Output) => {
                return Error::Resources(format!(
                    "the chat template was stopped: {}",
                    Rejection::Output
                ));
            }
            None => source = inner.source(),
        }
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return Error::Resources(format!(
            "the chat template was stopped: it needs more than {fuel} units of work"
        ));
    }
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    let detail = error.detail().map_or(String::new(), |detail| format!(": {}", quote(detail)));
    invalid(format!("{line}{}{detail}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::Role;

    fn render(source: &str) -> Result<String> {
        let messages = [Message::new(Role::System, "be <b>"), Message::user(" Hi\n")];
        let boundary = BoundaryTokens { bos: Some("<s>".into()), eos: None };
        let arguments = TemplateArguments { enable_thinking: Some(false), reasoning_effort: None };
        let variables = Variables {
            boundary: &boundary,
            arguments: &arguments,
            add_generation_prompt: true,
            date: Date::default(),
        };
        ChatTemplate::new(source)?.render(&messages, variables)
    }

    #[test]
    fn errors_name_the_rule() {
        let check = |source: &str, expected: &[&str]| {
            let message = render(source).unwrap_err().to_string();
            assert!(expected.iter().all(|part| message.contains(part)), "{source}: {message}");
        };
        check(
            "{{ raise_exception('roles must alternate') }}",
            &["the chat template rejects these messages: roles must alternate"],
        );
        check(
            "{% macro f() %}{{ raise_exception('deep') }}{% endmacro %}{{ f() }}",
            &["rejects these messages: deep"],
        );
        check("a\n{% if %}", &["chat template cannot be used", "line 2", "syntax error"]);
        check("{{ nothing.attribute }}", &["line 1", "undefined"]);
        check("{% include 'other' %}", &["template not found"]);
        check("{{ strftime_now('%Q') }}", &["strftime_now", "%Q"]);
        check(&"x".repeat(SOURCE_LIMIT + 1), &["262145 bytes", "262144"]);
        check("{{ open('/etc/passwd') }}", &["open", "unknown"]);
        check("{{ messages | tojson(sort_keys=true) }}", &["sort_keys"]);
        check(
            "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
            &["cannot hold a namespace"],
        );
        check(
            "{% set ns = namespace() %}{% set ns.a | default(ns, true) %}{% endset %}",
            &["cannot hold a namespace"],
        );
        check(
            "{% set ns = namespace() %}{% set ns.a = [1, {'b': [ns]}] %}",
            &["cannot hold a namespace"],
        );
    }

    #[test]
    fn work_that_the_engine_does_not_charge_for_ends_too() {
        let check = |source: &str| {
            let started = std::time::Instant::now();
            let error = render(source).unwrap_err();
            assert!(error.to_string().contains("chat template"), "{error}");
            // Twice the deadline, for a busy machine.
            assert!(started.elapsed() < 2 * DEADLINE, "{source} took {:?}", started.elapsed());
        };
        let doubled = "{% macro f(x, y, n) %}{% if n > 0 %}{{ f([x, x], [y, y], n - 1) }}{% else \
                       %}{{ WHAT }}{% endif %}{% endmacro %}";
        for what in ["x", "x == y", "x < y", "x in [y]"] {
            check(&format!("{}{{{{ f([1], [1], 40) }}}}", doubled.replace("WHAT", what)));
        }
        check(
            "{% set a = 'a' * 9000000 %}{% set b = 'a' * 9000000 %}{% for i in range(90000) %}{% \
             if a == b %}{% endif %}{% endfor %}",
        );
        let long = render(&format!("{{{{ raise_exception('{}') }}}}", "a".repeat(10_000)))
            .unwrap_err()
            .to_string();
        assert!(long.len() < 500, "{}", long.len());
    }

    #[test]
    fn a_template_that_was_late_is_used_again_when_it_has_ended() {
        // Slow for some words only: comparing is work that fuel does not measure.
        let slow = "{% set a = 'a' * 4000000 %}{% set b = 'a' * 4000000 %}{% for i in range(2000) \
                    %}{% if a == b %}{% endif %}{% endfor %}";
        let source = format!(
            "{{% if messages[0].content == 'slow' %}}{slow}{{% endif %}}{{{{ messages[0].content \
             }}}}"
        );
        let template = ChatTemplate {
            deadline: Duration::from_millis(20),
            ..ChatTemplate::new(&source).unwrap()
        };
        let render = |words: &str| {
            let (boundary, arguments) =
                (BoundaryTokens { bos: None, eos: None }, TemplateArguments::default());
            let variables = Variables {
                boundary: &boundary,
                arguments: &arguments,
                add_generation_prompt: false,
                date: Date::default(),
            };
            template.render(&[Message::user(words)], variables).map_err(|error| error.to_string())
        };
        assert_eq!(render("quick").unwrap(), "quick");
        let error = render("slow").unwrap_err();
        assert!(error.contains("did not end within 0.02 s"), "{error}");
        while let Err(error) = render("quick") {
            assert!(error.contains("did not end within 0.02 s"), "{error}");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(template.timed_out.load(Ordering::Acquire), 0);
    }

    #[test]
    fn python_internals_are_not_there() {
        // CVE-2024-34359 climbed from a string to the interpreter; here the first step is an
        // undefined value.
        assert_eq!(render("{{ ''.__class__ }}").unwrap(), "");
        for source in [
            "{{ ''.__class__.__mro__ }}",
            "{{ cycler.__init__.__globals__ }}",
            "{{ self._TemplateReference__context }}",
        ] {
            assert!(render(source).is_err(), "{source}");
        }
    }

    #[test]
    fn arguments_are_a_closed_list() {
        let set = |name: &str, json: &str| {
            let mut arguments = TemplateArguments::default();
            arguments.set(name, &serde_json::from_str(json).unwrap()).map(|()| arguments)
        };
        assert_eq!(set("enable_thinking", "true").unwrap().enable_thinking, Some(true));
        assert_eq!(
            set("reasoning_effort", "\"low\"").unwrap().reasoning_effort.as_deref(),
            Some("low")
        );
        for (name, json) in [
            ("tokenize", "true"),
            ("messages", "[]"),
            ("bos_token", "\"x\""),
            ("enable_thinking", "1"),
            ("reasoning_effort", "\"<|im_end|>\""),
            ("reasoning_effort", "\"\""),
            ("reasoning_effort", "3"),
        ] {
            let message = set(name, json).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
