//! `candor ask`: answer or abstain.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::Value;

use super::args::{ModelArgs, PipelineArgs, TaskDefaults};
use super::output::Output;
use super::progress::SampleProgress;
use super::{ExitStatus, explain};
use crate::engine::TokenEvent;
use crate::error::{Error, Result};
use crate::generation::{Message, Role};
use crate::pipeline::{Answered, DriveOptions, Outcome, Sink};
use crate::strategy::Question;
use crate::tokenizer::Decoder;

/// Longest prompt read from stdin, and longest line of an input file.
pub(super) const MAX_PROMPT_BYTES: u64 = 16 << 20;

/// Ask a model many times and get one honest verdict.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Ask {
    /// The question; `-` or nothing reads it from stdin
    #[arg(value_name = "PROMPT")]
    prompt: Option<String>,
    /// The question, as a flag
    #[arg(short, long = "prompt", value_name = "PROMPT", conflicts_with = "prompt")]
    prompt_flag: Option<String>,
    /// Ask every line of a JSONL file: a string, {"prompt": ...} or {"messages": [...]}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "prompt_flag"])]
    input: Option<PathBuf>,
    /// Print the whole outcome as JSON
    #[arg(long)]
    json: bool,
    /// Print the outcome as one line of JSON per question
    #[arg(long, conflicts_with = "json")]
    jsonl: bool,
    /// Print the first sample's text on stderr as it is drawn; the verdict follows
    #[arg(long, conflicts_with_all = ["input", "json", "jsonl"])]
    stream: bool,
    /// Show every sample colored by entropy, where samples diverged, and what it cost
    #[arg(long)]
    explain: bool,
    /// Include times in JSON; without them the same seed gives the same bytes
    #[arg(long)]
    timings: bool,
    /// Exit with code 3 when abstaining
    #[arg(long)]
    exit_on_abstain: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

impl Ask {
    pub fn run(&self, output: &Output) -> Result<ExitStatus> {
        let questions = self.questions()?;
        self.pipeline.check()?;
        let policy = self.pipeline.decision.policy_file()?;
        let loaded = self.model.load(output)?;
        self.pipeline.prompt.warn_context(&loaded, output);
        let mut pipeline = self.pipeline.pipeline(
            &TaskDefaults::default(),
            policy,
            &loaded,
            &self.model.source.hub(),
        )?;
        let tokenizer = Arc::clone(&loaded.tokenizer);
        drop(loaded);
        let (lines, messages): (Vec<Option<usize>>, Vec<Vec<Message>>) =
            questions.into_iter().unzip();
        let stream = self.stream.then(|| tokenizer.decoder());
        let progress = SampleProgress::new(output, !self.stream && messages.len() == 1);
        let mut printer = Printer {
            ask: self,
            output,
            lines,
            messages: &messages,
            progress,
            stream,
            abstained: false,
            failure: None,
        };
        let mut asked =
            messages.iter().map(|m| Question { messages: m.clone(), ..Question::default() });
        pipeline.drive(&mut asked, DriveOptions::default(), &mut printer)?;
        match printer.failure {
            Some(error) => Err(error),
            None if printer.abstained && self.exit_on_abstain => Ok(ExitStatus::Abstained),
            None => Ok(ExitStatus::Success),
        }
    }

    /// The questions, each with its line number if it comes from a file.
    fn questions(&self) -> Result<Vec<(Option<usize>, Vec<Message>)>> {
        if let Some(path) = &self.input {
            let text = read_bounded(
                &mut std::fs::File::open(path).map_err(|e| Error::io(path, e))?,
                path,
                64 * MAX_PROMPT_BYTES,
            )?;
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let questions: Vec<_> = lines
                .map(|(i, line)| Ok((Some(i + 1), self.parse_line(line, i + 1, path)?)))
                .collect::<Result<_>>()?;
            return if questions.is_empty() {
                Err(Error::invalid_file(path, "no question in it; give one JSON value per line"))
            } else {
                Ok(questions)
            };
        }
        let text = match self.prompt.as_deref().or(self.prompt_flag.as_deref()) {
            Some("-") | None => {
                if std::io::stdin().is_terminal() {
                    return Err(Error::usage(
                        "no question; give it as an argument, as in: candor ask \"What is the \
                         capital of France?\"",
                    ));
                }
                read_bounded(&mut std::io::stdin().lock(), Path::new("<stdin>"), MAX_PROMPT_BYTES)?
            }
            Some(text) => text.to_owned(),
        };
        let text = text.trim_end_matches(['\n', '\r']);
        if text.trim().is_empty() {
            return Err(Error::usage("the question is empty; give it at least one word"));
        }
        Ok(vec![(None, self.question_messages(text))])
    }

    /// A question in its template.
    fn question_messages(&self, question: &str) -> Vec<Message> {
        self.pipeline.template(&TaskDefaults::default()).messages(question)
    }

    fn with_system(&self, mut messages: Vec<Message>) -> Vec<Message> {
        if let Some(system) = self
            .pipeline
            .prompt
            .system
            .as_ref()
            .filter(|_| messages.first().is_none_or(|m| m.role != Role::System))
        {
            messages.insert(0, Message::new(Role::System, system));
        }
        messages
    }

    fn parse_line(&self, line: &str, number: usize, path: &Path) -> Result<Vec<Message>> {
        let bad = |reason: String| Error::invalid_file(path, format!("line {number}: {reason}"));
        let value: Value = serde_json::from_str(line.trim_start_matches('\u{feff}'))
            .map_err(|e| bad(format!("not JSON: {e}")))?;
        let messages = match &value {
            Value::String(prompt) => self.question_messages(prompt),
            Value::Object(row) => match (row.get("prompt"), row.get("messages")) {
                _ if row
                    .keys()
                    .any(|key| !["prompt", "messages", "id"].contains(&key.as_str())) =>
                {
                    let unknown = row
                        .keys()
                        .find(|key| !["prompt", "messages", "id"].contains(&key.as_str()));
                    return Err(bad(format!(
                        "the field {:?} is not supported; give `prompt` or `messages`",
                        unknown.map_or("", |key| key)
                    )));
                }
                (Some(Value::String(prompt)), None) => self.question_messages(prompt),
                // A calibration is bound to a question template, which custom messages do not use.
                (None, Some(_)) if self.pipeline.decision.policy.is_some() => {
                    return Err(bad(
                        "messages do not use the policy's question template; give a string \
                                    `prompt`, or leave --policy out"
                            .into(),
                    ));
                }
                (None, Some(_)) if self.pipeline.prompt.confidence_target.is_some() => {
                    return Err(bad(
                        "messages have no place for --confidence-target; give a string \
                                    `prompt`, or leave it out"
                            .into(),
                    ));
                }
                (None, Some(messages)) => serde_json::from_value(messages.clone())
                    .map_err(|e| bad(format!("messages: {e}")))?,
                _ => {
                    return Err(bad("neither a string `prompt` nor a list `messages`; give \
                                     exactly one of them"
                        .into()));
                }
            },
            _ => {
                return Err(bad(
                    "neither a string nor an object; give \"...\", {\"prompt\": ...} \
                                 or {\"messages\": [...]}"
                        .into(),
                ));
            }
        };
        if messages.is_empty() {
            return Err(bad("messages is empty; give at least one".into()));
        }
        Ok(self.with_system(messages))
    }

    fn show(
        &self,
        outcome: &Outcome,
        messages: &[Message],
        many: bool,
        output: &Output,
    ) -> Result<()> {
        if self.json || self.jsonl {
            let outcome =
                if self.timings { outcome.clone() } else { outcome.clone().without_times() };
            let text = if self.json {
                serde_json::to_string_pretty(&outcome)
            } else {
                serde_json::to_string(&outcome)
            };
            let text =
                text.map_err(|e| Error::Backend(format!("cannot write the outcome as JSON: {e}")))?;
            return output.raw(format!("{text}\n").as_bytes());
        }
        if many && let Some(question) = messages.last() {
            output.note(&explain::question(&question.content));
        }
        match &outcome.answer {
            Some(answer) => output.answer(answer)?,
            None => output.note(&explain::abstention(outcome)),
        }
        output.note(&explain::verdict(outcome, output));
        if self.explain {
            output.note(&explain::samples(outcome, output));
        }
        Ok(())
    }
}

/// Prints outcomes in the order of the questions.
struct Printer<'a> {
    ask: &'a Ask,
    output: &'a Output,
    /// The line number of each question that comes from a file.
    lines: Vec<Option<usize>>,
    messages: &'a [Vec<Message>],
    progress: SampleProgress,
    /// Prints the first sample as it is drawn.
    stream: Option<Decoder<'a>>,
    abstained: bool,
    /// The error of the first failed question.
    failure: Option<Error>,
}

impl Sink for Printer<'_> {
    fn on_token(&mut self, _: usize, event: &TokenEvent<'_>) {
        self.progress.on_token(event);
        if let Some(stream) = self.stream.as_mut().filter(|_| event.sample == 0) {
            let mut text = stream.push(event.token.id);
            if event.finished.is_some() {
                text += &stream.finish();
                text.push('\n');
            }
            self.output.stream(&text);
        }
    }

    fn on_outcome(&mut self, question: usize, answered: Answered) -> Result<()> {
        self.progress.finish();
        let (many, line) = (self.messages.len() > 1, self.lines.get(question).copied().flatten());
        match answered.outcome {
            Ok(outcome) => {
                self.abstained |= !outcome.decision.is_answer();
                let messages = self.messages.get(question).map_or(&[][..], Vec::as_slice);
                self.ask.show(&outcome, messages, many, self.output)
            }
            // One failed question does not stop the others.
            Err(error) => {
                if let Some(line) = line.filter(|_| self.ask.jsonl) {
                    let message = error.to_string();
                    let row = serde_json::json!({"line": line, "error": {"message": message}});
                    self.output.raw(format!("{row}\n").as_bytes())?;
                }
                if let Some(line) = line.filter(|_| many) {
                    self.output.warning(&format!("line {line}: {error}"));
                }
                self.failure = self.failure.take().or(Some(error));
                Ok(())
            }
        }
    }
}

pub(super) fn read_bounded(reader: &mut dyn Read, path: &Path, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Resources(format!(
            "{}: more than {} MB of text; split it",
            path.display(),
            limit >> 20
        )));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        Error::invalid_file(path, format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
    })?;
    // What a Windows shell or an editor adds does not belong to a question.
    Ok(text.trim_start_matches('\u{feff}').replace("\r\n", "\n"))
}
