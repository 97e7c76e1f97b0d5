//! Greedy decoding: one sample, the most probable token at each step.

use super::{Question, Session};
use crate::error::Result;
use crate::generation::Generation;

pub(super) async fn run(session: &Session, question: &Question) -> Result<Generation> {
    session.sample(&session.render(&question.messages)?, 0..1).await
}
