//! `candor eval`: a task, or a file of questions, into a run folder.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::{ModelArgs, PipelineArgs, TaskDefaults};
use super::output::Output;
use super::progress::Steps;
use super::score;
use crate::error::{Error, Result};
use crate::eval::{self, FileTask, Map, Progress, Questions, Run, Scorer, Subset, TASKS};

/// Run a task into a run folder.
#[derive(Debug, Args)]
pub struct Eval {
    /// A task (see --list), or a .jsonl, .csv or .tsv file of questions
    #[arg(value_name = "TASK or FILE", required_unless_present = "list")]
    task: Option<String>,
    /// The run folder: a new one, or one where the same command stopped
    #[arg(short, long, value_name = "RUN", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// List the tasks with their licences
    #[arg(long)]
    list: bool,
    /// The folder with the tasks' files
    #[arg(long, env = "CANDOR_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Ask at most so many questions, drawn from all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Names the subset that --limit draws; --seed names the samples' random stream
    #[arg(long, default_value_t = 0, requires = "limit", value_name = "SEED")]
    subset_seed: u64,
    /// Which columns of a file hold what: question=C,answer=C,choices=C,id=C,answerable=C
    #[arg(long, value_name = "MAP")]
    map: Option<Map>,
    /// How answers to a file's questions are graded: exact, number or choice
    #[arg(long, value_name = "SCORER", value_parser = scorer)]
    scorer: Option<Scorer>,
    /// Questions that share a batch; no result depends on it
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch: usize,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

impl Eval {
    pub fn run(&self, output: &Output) -> Result<()> {
        let (Some(task), Some(out)) = (&self.task, &self.out) else { return output.answer(&list()) };
        let questions = self.questions(task)?;
        self.pipeline.check()?;
        let policy = self.pipeline.decision.policy_file()?;
        let loaded = self.model.load(output)?;
        let defaults = TaskDefaults { frame: &questions.frame, extractor: questions.extractor };
        let mut pipeline = self.pipeline.pipeline(&defaults, policy, &loaded)?;
        drop(loaded);
        let subset = Subset { limit: self.limit, seed: self.subset_seed };
        let run = Run { questions: &questions, subset, folder: out, in_flight: self.batch };
        let mut steps = None;
        let ended = eval::run(&mut pipeline, &run, &mut |progress| {
            let steps = steps.get_or_insert_with(|| begin(&questions.name, progress, output));
            steps.update(progress.done as u64);
        });
        if let Some(steps) = &mut steps {
            steps.finish();
        }
        ended?;
        score::show(std::slice::from_ref(out), self.json, output)
    }

    fn questions(&self, name: &str) -> Result<Questions> {
        if let Some(task) = eval::task(name) {
            if self.map.is_some() || self.scorer.is_some() {
                return Err(Error::usage(format!("--map and --scorer are for files; task {name} has its own")));
            }
            return task.open(self.data.as_deref());
        }
        let path = Path::new(name);
        if !path.exists() {
            let names: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
            return Err(Error::usage(format!("`{name}` is neither a file nor a task; tasks are {}", names.join(", "))));
        }
        FileTask { path: path.to_owned(), map: self.map.clone().unwrap_or_default(), scorer: self.scorer }.open()
    }
}

fn begin<'a>(name: &str, progress: Progress, output: &'a Output) -> Steps<'a> {
    if progress.torn_bytes > 0 {
        output.note(&format!("cut away {} bytes of a record that was not whole", progress.torn_bytes));
    }
    if progress.found > 0 {
        output.note(&format!("{} of {} questions are recorded already; going on", progress.found, progress.total));
    }
    Steps::new(output, name, progress.found as u64, progress.total as u64)
}

fn list() -> String {
    let line = |task: &&eval::Task| {
        format!("{:<14}{} [{}; {}; scored by {}]", task.name, task.summary, task.source, task.licence, task.scorer.name())
    };
    TASKS.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn scorer(text: &str) -> std::result::Result<Scorer, String> {
    Scorer::ALL.into_iter().find(|scorer| scorer.name() == text).ok_or_else(|| {
        let names = Scorer::ALL.map(Scorer::name);
        format!("`{text}` is unknown; use one of {}", names.join(", "))
    })
}
