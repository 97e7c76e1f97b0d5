//! Likelihood: every choice of the question scored as the continuation of one prompt, which is
//! computed once.
//!
//! The scored tokens are those of prompt and choice together beyond their common prefix with the
//! prompt's own, so that a token across the seam counts as the choice's (as in
//! lm-evaluation-harness' `_encode_pair`). In raw mode a space stands between prompt and choice
//! unless the prompt ends in one.

use super::{Prefix, Question, Session};
use crate::error::{Error, Result};
use crate::generation::{Completion, Cost, FinishReason, Generation};
use crate::prompt::{KvKeep, Mode, Prompt};

pub(super) async fn run(session: &Session, question: &Question) -> Result<Generation> {
    let format = session.format();
    if format.options().kv_keep == KvKeep::Second {
        return Err(Error::usage(
            "kv-keep second forgets rows after the prompt, which scoring choices does not; use \
             kv-keep all",
        ));
    }
    if question.choices.is_empty() {
        return Err(Error::usage(
            "the strategy likelihood scores choices, and the question has none; ask a question \
             with choices",
        ));
    }
    let prompt = session.render(&question.messages)?.prompt;
    let raw = format.options().mode == Mode::Raw;
    let delimiter = if raw && !prompt.text.ends_with(char::is_whitespace) { " " } else { "" };
    let mut groups: Vec<(Vec<u32>, Vec<Vec<u32>>)> = Vec::new();
    for choice in &question.choices {
        let mut whole = format.render_with(&question.messages, &format!("{delimiter}{choice}"))?;
        whole.check_fits(session.context(), 0)?;
        let common = whole.tokens.iter().zip(&prompt.tokens).take_while(|(a, b)| a == b).count();
        let continuation = whole.tokens.split_off(common);
        if common == 0 || continuation.is_empty() {
            return Err(Error::usage(format!(
                "the choice {choice:?} adds no token to the prompt; give it a text"
            )));
        }
        match groups.last_mut().filter(|(prefix, _)| *prefix == whole.tokens) {
            Some((_, continuations)) => continuations.push(continuation),
            None => groups.push((whole.tokens, vec![continuation])),
        }
    }
    let (mut completions, mut cost) = (Vec::new(), Cost::default());
    for (prefix, continuations) in groups {
        let prefix = Prefix::new(Prompt::from_tokens(prefix));
        // The most probable token of each step tells whether greedy decoding gives the choice.
        let (scored, own) = session.score(&prefix, &continuations, 1).await?;
        cost.add(&own);
        for tokens in scored {
            let index = completions.len();
            let text = question.choices.get(index).cloned().unwrap_or_default();
            let finish_reason = FinishReason::Scored;
            completions.push(Completion {
                index,
                tokens,
                text,
                finish_reason,
                ..Completion::default()
            });
        }
    }
    cost.tokens.prompt_tokens = prompt.tokens.len();
    Ok(Generation { completions, cost, ..Generation::default() })
}
