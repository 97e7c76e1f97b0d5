//! Self-consistency: all samples are drawn, and then vote (Wang et al., arXiv 2203.11171).

use super::{Question, Session};
use crate::error::Result;
use crate::generation::Generation;

pub(super) async fn run(session: &Session, question: &Question) -> Result<Generation> {
    session.sample(&session.render(&question.messages)?, 0..session.params().n).await
}
