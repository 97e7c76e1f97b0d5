//! The command line: the only code that reads flags and prints.
//!
//! The answer goes to stdout, everything else to stderr. Exit codes: 0 answered, 1 error (or a
//! difference that `reproduce` or `policy check` found), 2 usage,
//! 3 abstained (only with `--exit-on-abstain`), 4 invalid model or data file, 5 offline or network,
//! 6 refused for resources, 100 a gate of `report` failed, 130 interrupted.

// The help texts have square brackets that are not links.
#![allow(rustdoc::broken_intra_doc_links)]

mod args;
mod ask;
mod bench;
mod calibrate;
pub mod chart;
mod completions;
mod decide;
mod doctor;
mod estimators;
mod eval;
mod explain;
mod ls;
mod metrics;
mod output;
mod policy;
mod progress;
mod pull;
mod report;
mod reproduce;
mod rm;
mod score;
mod show;
pub mod terminal;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use output::Output;
use terminal::ColorChoice;

/// A local LLM inference engine that knows when it does not know.
#[derive(Debug, Parser)]
#[command(name = "candor", version, about, max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Color: auto (if the terminal supports it), always or never; NO_COLOR is honored
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
    /// Print details
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Print only the answer, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask a model many times and get one honest verdict: an answer with its support, or an
    /// abstention with its reason
    Ask(Box<ask::Ask>),
    /// Choose one of given options for a text, with a probability for each, or abstain
    Decide(Box<decide::DecideCommand>),
    /// Run a task, or a file of questions, into a run folder; the same command resumes an
    /// interrupted run
    Eval(Box<eval::Eval>),
    /// Fit a confidence and a threshold with a guarantee from a run, into a policy file for `ask
    /// --policy`
    Calibrate(calibrate::Calibrate),
    /// Recompute votes, scores and metrics of runs from their stored samples, without the model
    Score(score::Score),
    /// Ask questions of a run again and compare the records, to the byte except for their timing
    Reproduce(Box<reproduce::Reproduce>),
    /// Show a policy file, or check whether it fits a run
    Policy(policy::Policy),
    /// List the uncertainty estimators by what they cost
    Estimators(estimators::Estimators),
    /// Compare runs on one self-contained page, or as tables; --fail-under turns metrics into gates
    Report(report::Report),
    /// Fetch a model and check it
    Pull(pull::Pull),
    /// List cached models
    Ls(ls::Ls),
    /// Show a model's metadata: shape, quantization, tokenizer, chat template
    Show(show::Show),
    /// Hash a cached model again and compare
    Verify(verify::Verify),
    /// Delete a cached model
    Rm(rm::Rm),
    /// Measure prefill, decode and n-sample speed
    Bench(Box<bench::Bench>),
    /// Show what this machine can run
    Doctor(doctor::Doctor),
    /// Print the completion script of a shell
    Completions(completions::Completions),
}

/// How a command ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitStatus {
    Success,
    Abstained,
    GateFailed,
    Differs,
}

/// Silences panic messages of the file decoder's thread; its error is reported instead.
fn quiet_decoders() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some(crate::eval::DECODER_THREAD) {
            usual(info);
        }
    }));
}

/// Parses the command line, runs the command and returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // Help goes to stdout, usage errors to stderr; a closed pipe is ignored.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    quiet_decoders();
    let output = Output::new(cli.color, cli.verbose, cli.quiet);
    match run(cli.command, &output) {
        Ok(ExitStatus::Success) => ExitCode::SUCCESS,
        Ok(ExitStatus::Abstained) => ExitCode::from(3),
        Ok(ExitStatus::Differs) => ExitCode::FAILURE,
        Ok(ExitStatus::GateFailed) => ExitCode::from(100),
        Err(_) if output.is_closed() => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command, output: &Output) -> Result<ExitStatus> {
    match command {
        Command::Ask(ask) => return ask.run(output),
        Command::Decide(decide) => return decide.run(output),
        Command::Eval(eval) => eval.run(output),
        Command::Calibrate(calibrate) => calibrate.run(output),
        Command::Score(score) => score.run(output),
        Command::Report(report) => return report.run(output),
        Command::Reproduce(reproduce) => return reproduce.run(output),
        Command::Policy(policy) => return policy.run(output),
        Command::Pull(pull) => pull.run(output),
        Command::Ls(ls) => ls.run(output),
        Command::Show(show) => show.run(output),
        Command::Verify(verify) => verify.run(output),
        Command::Rm(rm) => rm.run(output),
        Command::Bench(bench) => bench.run(output),
        Command::Doctor(doctor) => doctor.run(output),
        Command::Estimators(estimators) => estimators.run(output),
        Command::Completions(completions) => completions.run(output),
    }?;
    Ok(ExitStatus::Success)
}
