//! Many questions in flight: the one loop under `ask` and `eval`.
//!
//! Questions are taken from an iterator as slots become free, and outcomes go to a [`Sink`]. A
//! failed question reports its error, and the others continue; an error of the sink ends the loop
//! and cancels the questions in flight.

use std::collections::BTreeMap;

use super::{Core, Outcome, Pipeline};
use crate::engine::TokenEvent;
use crate::error::Result;
use crate::strategy::{Executor, Question, Session};

/// Look-ahead past the oldest unfinished question, in multiples of `in_flight`: bounds the outcomes
/// in memory where they are delivered in order.
const MAX_AHEAD: usize = 4;

/// How questions are run. None of it changes an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveOptions {
    /// Questions that share a batch, at least 1.
    pub in_flight: usize,
    /// Deliver outcomes in the order of the questions, instead of as they are ready.
    pub ordered: bool,
}

impl Default for DriveOptions {
    fn default() -> Self {
        Self { in_flight: 16, ordered: true }
    }
}

/// A question's result.
#[derive(Debug)]
pub struct Answered {
    /// SHA-256 of the rendered prompt's text; `None` if it could not be rendered.
    pub prompt_sha256: Option<String>,
    /// The outcome, or the error of a failed question.
    pub outcome: Result<Outcome>,
}

/// Receives tokens and outcomes. Questions are numbered from 0 in the order of the iterator.
pub trait Sink {
    /// A sample has drawn a token.
    fn on_token(&mut self, _question: usize, _event: &TokenEvent<'_>) {}

    /// A question is finished.
    ///
    /// # Errors
    /// An error ends the loop.
    fn on_outcome(&mut self, question: usize, answered: Answered) -> Result<()>;
}

impl Pipeline {
    /// Asks every question.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn drive(
        &mut self,
        questions: &mut dyn Iterator<Item = Question>,
        options: DriveOptions,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let Self { engine, core } = self;
        let core: &Core = core;
        let mut executor = Executor::new(engine.as_mut());
        let in_flight = options.in_flight.max(1);
        let mut questions = questions.fuse();
        let (mut asked, mut delivered) = (0, 0);
        let mut waiting: BTreeMap<usize, Answered> = BTreeMap::new();
        loop {
            // One slow question must not keep the outcomes of all others in memory.
            while executor.in_flight() < in_flight && asked < delivered + MAX_AHEAD * in_flight {
                let Some(question) = questions.next() else { break };
                let session = Session::new(&core.session);
                executor.spawn(asked, session.clone(), core.answer(session, question));
                asked += 1;
            }
            if executor.in_flight() == 0 {
                return Ok(());
            }
            for (question, answered) in executor.turn(&mut |question, event| {
                sink.on_token(question, event);
            }) {
                waiting.insert(question, answered);
            }
            while let Some(entry) = waiting.first_entry() {
                if options.ordered && *entry.key() != delivered {
                    break;
                }
                let (question, answered) = entry.remove_entry();
                sink.on_outcome(question, answered)?;
                delivered += 1;
            }
        }
    }
}
