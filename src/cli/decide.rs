//! `candor decide`: one of given options for a text.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::args::{ModelArgs, read_policy};
use super::ask::{MAX_PROMPT_BYTES, read_bounded};
use super::chart::{self, Bar};
use super::output::Output;
use super::terminal::sanitize;
use super::{ExitStatus, explain};
use crate::consensus::UNSURE;
use crate::engine::EngineOptions;
use crate::error::{Error, Result};
use crate::generation::Message;
use crate::pipeline::{Answered, DriveOptions, Outcome, Pipeline, Settings, Sink};
use crate::strategy::{Decide, OptionForm, Question, Strategy};

/// Choose one of given options for a text.
///
/// Neither the order of the options nor other texts in the batch change the result. Probabilities
/// are the model's own; a calibrated confidence needs a policy made from `candor eval FILE --scorer
/// loglikelihood --strategy decide`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct DecideCommand {
    /// The text; `-` or nothing reads it from stdin
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// What is asked about the text
    #[arg(short = 'Q', long)]
    question: Option<String>,
    /// An option, twice or more
    #[arg(short, long = "option", value_name = "OPTION")]
    options: Vec<String>,
    /// Offer `unsure` as one more option; candor abstains where it leads
    #[arg(long)]
    unsure: bool,
    /// Decide every line of a JSONL file: a string, or {"text": ..., "question": ..., "options":
    /// [...]}; other fields are carried into the output
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    input: Option<PathBuf>,
    /// What is scored: the options' letters, averaged over all rotations of the list, or their
    /// texts, by mean log-probability per token
    #[arg(long, default_value = "letters")]
    by: ByArg,
    /// Divide each probability by the one without a text (contextual calibration)
    #[arg(long)]
    prior: bool,
    /// Abstain if the letters together have less probability than this, 0 to 1
    #[arg(long, default_value_t = Decide::DEFAULT.min_mass, value_name = "MASS")]
    min_mass: f64,
    /// Abstain if the leading option has less probability than this, 0 to 1; uncalibrated
    #[arg(long, default_value_t = 0.5, value_name = "P", conflicts_with = "policy")]
    min_probability: f64,
    /// Decide by a policy file that `candor calibrate` made for this configuration
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print the decision as JSON, one line for each text
    #[arg(long)]
    json: bool,
    /// Exit with code 3 when abstaining
    #[arg(long)]
    exit_on_abstain: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// What stands for an option.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ByArg {
    Letters,
    Texts,
}

/// A text to decide, with what its line carries.
struct Row {
    question: Question,
    carried: Map<String, Value>,
}

impl DecideCommand {
    pub fn run(&self, output: &Output) -> Result<ExitStatus> {
        let by = match self.by {
            ByArg::Letters => OptionForm::Letters,
            ByArg::Texts => OptionForm::Texts,
        };
        let mut strategy = Strategy::Decide(Decide { by, prior: self.prior, ..Decide::DEFAULT });
        strategy.set("min_mass", &self.min_mass.to_string())?;
        let rows = self.rows()?;
        let policy = self.policy.as_deref().map(|path| Ok::<_, Error>((path, read_policy(path)?)));
        let policy = policy.transpose()?;
        let loaded = self.model.load(output)?;
        let min_vote_share = self.min_probability;
        let settings = Settings {
            strategy,
            policy: crate::decision::Policy::MinVoteShare { min_vote_share },
            ..Settings::for_model(&loaded)
        };
        let mut pipeline = Pipeline::new(&loaded, settings, EngineOptions::default())?;
        if let Some((path, file)) = policy {
            pipeline.bind_policy(file, path)?;
        }
        let mut printer =
            Printer { command: self, output, rows: &rows, abstained: false, failure: None };
        let mut questions = rows.iter().map(|row| row.question.clone());
        pipeline.drive(&mut questions, DriveOptions::default(), &mut printer)?;
        match printer.failure {
            Some(error) => Err(error),
            None if printer.abstained && self.exit_on_abstain => Ok(ExitStatus::Abstained),
            None => Ok(ExitStatus::Success),
        }
    }

    fn rows(&self) -> Result<Vec<Row>> {
        if let Some(path) = &self.input {
            let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
            let text = read_bounded(&mut file, path, 64 * MAX_PROMPT_BYTES)?;
            let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
            let rows: Vec<Row> = lines
                .map(|(line, number)| {
                    self.parse_line(line).map_err(|reason| {
                        Error::invalid_file(path, format!("line {number}: {reason}"))
                    })
                })
                .collect::<Result<_>>()?;
            return if rows.is_empty() {
                Err(Error::invalid_file(path, "no text in it; give one JSON value per line"))
            } else {
                Ok(rows)
            };
        }
        let text = match self.text.as_deref() {
            Some("-") | None => {
                if std::io::stdin().is_terminal() {
                    return Err(Error::usage(
                        "no text; give it as an argument, as in: candor decide \"The parcel never \
                         came.\" --option complaint --option praise",
                    ));
                }
                read_bounded(&mut std::io::stdin().lock(), Path::new("<stdin>"), MAX_PROMPT_BYTES)?
            }
            Some(text) => text.to_owned(),
        };
        let row = self.row(text.trim_end(), None, self.options.clone(), Map::new());
        row.map(|row| vec![row]).map_err(Error::usage)
    }

    fn parse_line(&self, line: &str) -> Result<Row, String> {
        let mut carried = match serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))? {
            Value::String(text) => return self.row(&text, None, self.options.clone(), Map::new()),
            Value::Object(fields) => fields,
            _ => return Err("neither a string nor an object; give {\"text\": ...}".into()),
        };
        let mut text_of = |name: &str| match carried.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("`{name}` is not a string")),
        };
        let text = text_of("text")?.ok_or("no `text`; give the text to decide about")?;
        let question = text_of("question")?;
        let options = match carried.remove("options") {
            None => self.options.clone(),
            Some(options) => serde_json::from_value(options)
                .map_err(|_| "`options` is not a list of strings".to_owned())?,
        };
        self.row(&text, question, options, carried)
    }

    fn row(
        &self,
        text: &str,
        question: Option<String>,
        mut options: Vec<String>,
        carried: Map<String, Value>,
    ) -> Result<Row, String> {
        if text.trim().is_empty() {
            return Err("the text is empty; give it at least one word".into());
        }
        if let Some(empty) = options.iter().find(|option| option.trim().is_empty()) {
            return Err(format!("the option {empty:?} is empty; give it at least one word"));
        }
        if self.unsure && !options.iter().any(|option| option == UNSURE) {
            options.push(UNSURE.to_owned());
        }
        if options.len() < 2 {
            return Err(format!(
                "there are {} options; give at least two, as in --option yes --option no",
                options.len()
            ));
        }
        let asked = question.or_else(|| self.question.clone());
        let content = asked.map_or_else(|| text.to_owned(), |asked| format!("{text}\n\n{asked}"));
        let messages = vec![Message::user(content)];
        Ok(Row { question: Question { messages, choices: options.clone(), options }, carried })
    }
}

/// Prints decisions in the order of the texts.
struct Printer<'a> {
    command: &'a DecideCommand,
    output: &'a Output,
    rows: &'a [Row],
    abstained: bool,
    /// The error of the first failed text.
    failure: Option<Error>,
}

impl Sink for Printer<'_> {
    fn on_outcome(&mut self, at: usize, answered: Answered) -> Result<()> {
        match answered.outcome {
            Ok(outcome) => {
                self.abstained |= !outcome.decision.is_answer();
                if self.command.json {
                    let line = json_line(self.rows.get(at), &outcome);
                    return self.output.raw(format!("{line}\n").as_bytes());
                }
                if self.rows.len() > 1
                    && let Some(message) =
                        self.rows.get(at).and_then(|r| r.question.messages.last())
                {
                    self.output.note(&explain::question(&message.content));
                }
                match &outcome.answer {
                    Some(answer) => self.output.answer(answer)?,
                    None => self.output.note(&explain::abstention(&outcome)),
                }
                self.output.note(&view(&outcome, self.output));
                Ok(())
            }
            // One failed text does not stop the others.
            Err(error) => {
                if self.rows.len() > 1 {
                    self.output.warning(&format!("text {}: {error}", at + 1));
                }
                self.failure = self.failure.take().or(Some(error));
                Ok(())
            }
        }
    }
}

/// The probability of each option by its text, in the order of the vote.
fn probabilities(outcome: &Outcome) -> impl Iterator<Item = (&str, f64)> {
    let n = outcome.samples.len().max(1) as f64;
    outcome.vote.clusters.iter().map(move |cluster| (cluster.answer.as_str(), cluster.weight / n))
}

fn mass(outcome: &Outcome) -> Option<f64> {
    outcome.probes.iter().find(|probe| probe.name == "mass_on_labels").map(|probe| probe.value)
}

fn json_line(row: Option<&Row>, outcome: &Outcome) -> Value {
    let mut line = row.map(|row| row.carried.clone()).unwrap_or_default();
    let probabilities: Map<String, Value> =
        probabilities(outcome).map(|(option, p)| (option.to_owned(), json!(p))).collect();
    let decision = serde_json::to_value(&outcome.decision).unwrap_or_default();
    let Value::Object(decision) = decision else { return Value::Null };
    line.extend(decision);
    line.insert("answer".into(), json!(outcome.answer));
    line.insert("probabilities".into(), Value::Object(probabilities));
    line.insert("mass_on_labels".into(), json!(mass(outcome)));
    line.insert("confidence".into(), json!(outcome.confidence));
    line.insert("calibration".into(), json!(outcome.calibration));
    line.insert("cost".into(), json!(outcome.cost.tokens));
    Value::Object(line)
}

/// The options as bars, and what the probabilities are.
fn view(outcome: &Outcome, output: &Output) -> String {
    let style = output.chart_style();
    let labels: Vec<(String, f64)> =
        probabilities(outcome).map(|(option, p)| (sanitize(option).into_owned(), p)).collect();
    let bars: Vec<Bar<'_>> = labels
        .iter()
        .map(|(label, p)| Bar { label, share: *p, value: format!("{p:.2}") })
        .collect();
    let mut lines: Vec<String> =
        chart::bars(&bars, style).iter().map(|line| format!("  {line}")).collect();
    lines.push(match outcome.confidence {
        Some(confidence) => format!("right with probability {:.2}, calibrated", confidence.value()),
        None => "uncalibrated: the model's own probabilities".to_owned(),
    });
    lines.extend(
        mass(outcome).map(|mass| format!("{mass:.2} of the probability is on the letters")),
    );
    let wrapped = lines.iter().map(|line| super::terminal::wrap(line, style.width));
    wrapped.collect::<Vec<_>>().join("\n")
}
