//! `candor eval`: a task, or a file of questions, into a run folder.

use std::path::{Path, PathBuf};

use clap::Args;

use super::args::{ModelArgs, PipelineArgs, TaskDefaults};
use super::output::Output;
use super::progress::{Bars, Steps};
use super::score;
use crate::calibration::PolicyFile;
use crate::error::{Error, Result};
use crate::eval::{
    self, FileTask, IfExists, Map, PLAIN, Progress, Questions, Run, RunRef, Scorer, Shard, Subset,
    TASKS, Variant,
};
use crate::generation::SamplingParams;
use crate::hub::{self, DatasetFile};
use crate::pipeline::{FewShot, LoadedModel, Pipeline, QUESTION, Settings};
use crate::strategy::Strategy;

/// Run a task into a run folder.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Eval {
    /// A task (see --list), or a .jsonl, .csv, .tsv or .parquet file of questions: a path, or
    /// datasets/user/repo/path/file[@revision] on the Hub
    #[arg(value_name = "TASK or FILE", required_unless_present = "list")]
    task: Option<String>,
    /// The run folder: a new one, or the one of an interrupted run to resume
    #[arg(short, long, value_name = "RUN", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// List the tasks with their licenses
    #[arg(long)]
    list: bool,
    /// The folder with the tasks' files
    #[arg(long, env = "CANDOR_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Ask at most N questions, drawn from all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Seed of the subset that --limit draws; --seed is for the samples
    #[arg(long, default_value_t = 0, requires = "limit", value_name = "SEED")]
    subset_seed: u64,
    /// Run several strategies over the same questions, each into its own folder below RUN: a
    /// strategy with settings that differ from the flags, as in
    /// greedy,self-consistency:samples=8,self-consistency:samples=8:repeat=x2
    #[arg(long, value_name = "STRATEGY[:KEY=VALUE...]", value_delimiter = ',', conflicts_with_all = ["strategy", "policy"])]
    compare: Vec<Variant>,
    /// Ask only part I of N of the questions, into its own folder below RUN; `candor score RUN`
    /// combines the parts
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Few-shot: put K other questions with their answers before each question; --subset-seed draws
    /// them too
    #[arg(long, default_value_t = 0, value_name = "K")]
    shots: usize,
    /// Which columns of a file hold what: question=C,answer=C,choices=C,labels=C,id=C,answerable=C;
    /// C may be a path with dots, as in choices=choices.text,labels=choices.label,answer=answerKey
    #[arg(long, value_name = "MAP")]
    map: Option<Map>,
    /// How answers to a file's questions are graded: exact, number or choice. For tasks with
    /// choices too: loglikelihood scores the choices' texts after the question instead of sampling,
    /// loglikelihood-letter their letters
    #[arg(long, value_name = "SCORER", value_parser = scorer)]
    scorer: Option<Scorer>,
    /// Questions that share a batch; results do not depend on it
    #[arg(long, default_value_t = eval::IN_FLIGHT, value_name = "N")]
    batch: usize,
    /// Stop with exit code 1 at the first question that fails, instead of recording the error
    #[arg(long)]
    fail_on_error: bool,
    /// Overwrite another run in RUN and lose its records; the same run still resumes
    #[arg(long)]
    force: bool,
    /// Print the metrics as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

impl Eval {
    pub fn run(&self, output: &Output) -> Result<()> {
        let (Some(task), Some(out)) = (&self.task, &self.out) else {
            return output.answer(&list());
        };
        let questions = self.questions(task, output)?;
        questions.notes.iter().for_each(|note| output.note(note));
        self.pipeline.check()?;
        let variants = self.variants(&questions, out)?;
        let policy = self.pipeline.decision.policy_file()?;
        let loaded = self.model.load(output)?;
        self.pipeline.prompt.warn_context(&loaded, output);
        let mut places = Vec::new();
        for PlannedRun { variant, folder } in &variants {
            let mut pipeline =
                self.pipeline(&questions, variant.as_ref(), policy.clone(), &loaded)?;
            let if_exists = if self.force { IfExists::Overwrite } else { IfExists::Refuse };
            let new = Run::new(&questions, folder);
            let (subset, fail_on_error) = (self.subset(), self.fail_on_error);
            let run = Run {
                subset,
                shard: self.shard,
                in_flight: self.batch,
                fail_on_error,
                if_exists,
                ..new
            };
            let what = variant.as_ref().map_or_else(
                || questions.name.clone(),
                |variant| format!("{} {variant}", questions.name),
            );
            watched(&mut pipeline, &run, &what, output)?;
            places.push(RunRef::open(&run.records_folder())?);
        }
        score::show(&places, self.json, output)
    }

    /// The runs and their folders. With --compare, every strategy has its own folder.
    fn variants(&self, questions: &Questions, out: &Path) -> Result<Vec<PlannedRun>> {
        if questions.scorer.is_likelihood() && !self.compare.is_empty() {
            return Err(Error::usage(format!(
                "--compare needs samples, and scorer {} draws none; run without it",
                questions.scorer.name()
            )));
        }
        if self.compare.is_empty() {
            return Ok(vec![PlannedRun { variant: None, folder: out.to_owned() }]);
        }
        let settings = self.pipeline.settings(&defaults(questions), &SamplingParams::default())?;
        let mut planned: Vec<PlannedRun> = Vec::new();
        for variant in &self.compare {
            variant.apply(&settings)?;
            let folder = out.join(variant.folder());
            if planned.iter().any(|other| other.folder == folder) {
                return Err(Error::usage(format!(
                    "--compare names {variant} twice; name each strategy once"
                )));
            }
            planned.push(PlannedRun { variant: Some(variant.clone()), folder });
        }
        Ok(planned)
    }

    fn pipeline(
        &self,
        questions: &Questions,
        variant: Option<&Variant>,
        policy: Option<(&Path, PolicyFile)>,
        loaded: &LoadedModel,
    ) -> Result<Pipeline> {
        let mut settings = self.pipeline.settings(&defaults(questions), &loaded.sampling())?;
        if questions.scorer.is_likelihood() {
            if !settings.strategy.scores_choices() {
                settings.strategy = Strategy::Likelihood;
            }
            if settings.strategy.lists_choices() && self.pipeline.prompt.question_template.is_none()
            {
                QUESTION.clone_into(&mut settings.question_template.user);
            }
        }
        if self.shots > 0 {
            self.show(questions, &mut settings)?;
        }
        let settings =
            variant.map_or_else(|| Ok(settings.clone()), |variant| variant.apply(&settings))?;
        self.pipeline.build(settings, policy, loaded, &self.model.source.hub())
    }

    /// Puts examples before every question. As one text, an answer ends where the next example
    /// would begin.
    fn show(&self, questions: &Questions, settings: &mut Settings) -> Result<()> {
        let plain = self.pipeline.prompt.raw;
        if plain && self.pipeline.prompt.question_template.is_none() {
            PLAIN.clone_into(&mut settings.question_template.user);
        }
        if plain && settings.params.stop.is_empty() {
            settings.params.stop.push("\n\n".into());
        }
        let asked = questions.subset(self.subset())?;
        let shown = Questions {
            question_template: settings.question_template.user.clone(),
            ..questions.clone()
        };
        settings.question_template.few_shot =
            Some(FewShot { plain, examples: shown.shots(self.shots, &asked, self.subset_seed)? });
        Ok(())
    }

    fn subset(&self) -> Subset {
        Subset { limit: self.limit, seed: self.subset_seed }
    }

    fn questions(&self, name: &str, output: &Output) -> Result<Questions> {
        let fetch = |reference: &str| {
            hub::resolve_dataset(
                &reference.parse()?,
                &self.model.source.hub(),
                &mut Bars::new(output),
            )
        };
        if let Some(task) = eval::task(name) {
            if self.map.is_some() {
                return Err(Error::usage(format!(
                    "--map is for files; task {name} has its own columns"
                )));
            }
            let questions = task.open_with(self.data.as_deref(), &mut { fetch })?;
            return self.scorer.map_or_else(
                || Ok(questions.clone()),
                |scorer| questions.clone().by_likelihood(scorer),
            );
        }
        let path = Path::new(name);
        if DatasetFile::is_meant(name) && !path.exists() {
            let questions = self.file(fetch(name)?).open()?;
            return Ok(Questions { name: name.to_owned(), ..questions });
        }
        if !path.exists() {
            let names: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
            return Err(Error::usage(format!(
                "`{name}` is neither a file nor a task; tasks are {}",
                names.join(", ")
            )));
        }
        self.file(path.to_owned()).open()
    }

    fn file(&self, path: PathBuf) -> FileTask {
        FileTask { path, map: self.map.clone().unwrap_or_default(), scorer: self.scorer }
    }
}

/// One run of several.
struct PlannedRun {
    /// The strategy; `None` means the one of the flags.
    variant: Option<Variant>,
    folder: PathBuf,
}

fn defaults(questions: &Questions) -> TaskDefaults<'_> {
    TaskDefaults { question_template: &questions.question_template, extractor: questions.extractor }
}

/// Runs and shows the progress.
fn watched(pipeline: &mut Pipeline, run: &Run<'_>, what: &str, output: &Output) -> Result<()> {
    let mut steps = None;
    let ended = eval::run(pipeline, run, &mut |progress| {
        let steps = steps.get_or_insert_with(|| begin(what, progress, output));
        steps.update(progress.done as u64);
    });
    if let Some(steps) = &mut steps {
        steps.finish();
    }
    if let Err(Error::Io { .. }) = &ended {
        output.warning("the records are kept; run the same command again to resume");
    }
    ended.map(drop)
}

fn begin<'a>(name: &str, progress: Progress, output: &'a Output) -> Steps<'a> {
    if progress.torn_bytes > 0 {
        output.note(&format!("removed {} bytes of an incomplete record", progress.torn_bytes));
    }
    if progress.found > 0 {
        output.note(&format!(
            "{} of {} questions are already recorded; resuming",
            progress.found, progress.total
        ));
    }
    Steps::new(output, name, progress.found as u64, progress.total as u64)
}

fn list() -> String {
    let line = |task: &&eval::Task| {
        format!(
            "{:<17}{} [{}; {}; scored by {}]",
            task.name,
            task.summary,
            task.source,
            task.license,
            task.scorer.name()
        )
    };
    TASKS.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn scorer(text: &str) -> std::result::Result<Scorer, String> {
    Scorer::ALL.into_iter().find(|scorer| scorer.name() == text.replace('-', "_")).ok_or_else(
        || {
            let names = Scorer::ALL.map(|scorer| scorer.name().replace('_', "-"));
            format!("`{text}` is unknown; use one of {}", names.join(", "))
        },
    )
}
