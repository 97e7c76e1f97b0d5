//! Separates a sample's reasoning from its answer while it is drawn, and ends reasoning that has
//! used up its budget.
//!
//! Contract: a function of the sample's own tokens, so that samples of the same tokens are always
//! in the same state. Constant work per token. A closing marker without an opening one closes a
//! reasoning that began with the completion; after that only an opening one counts.

use std::sync::Arc;

use crate::generation::{Spans, Token};
use crate::prompt::{Marker, Markers, Reasoning};
use crate::tokenizer::Tokenizer;

/// Where a sample is in its reasoning.
#[derive(Clone)]
pub(super) struct ReasoningTracker {
    markers: Arc<Markers>,
    /// The next token belongs to the reasoning.
    open: bool,
    /// The first token of the reasoning, once there is any.
    start: Option<usize>,
    /// Where the reasoning ended last.
    closed: Closed,
    /// The last bytes, in which markers of several tokens are searched.
    window: Vec<u8>,
    /// How many tokens of the closing marker were forced.
    forced: usize,
}

#[derive(Clone, Default)]
struct Closed {
    /// The first token of the closing marker.
    marker: usize,
    /// The first token after it.
    answer: usize,
    /// Bytes of the marker's last token that belong to the answer.
    rest: usize,
}

impl ReasoningTracker {
    pub fn new(reasoning: &Reasoning) -> Self {
        Self {
            markers: Arc::clone(&reasoning.markers),
            open: reasoning.open,
            start: reasoning.open.then_some(0),
            closed: Closed::default(),
            window: Vec::new(),
            forced: 0,
        }
    }

    /// The tracker after a whole completion.
    #[cfg(feature = "internals")]
    pub fn after(reasoning: &Reasoning, tokens: &[Token], tokenizer: &Tokenizer) -> Self {
        let mut tracker = Self::new(reasoning);
        for end in 1..=tokens.len() {
            tracker.push(tokens.get(..end).unwrap_or_default(), tokenizer);
        }
        tracker
    }

    /// Whether the next token belongs to the reasoning.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether an end token does not end the sample, because it begins the closing marker.
    pub fn continues_after(&self, id: u32) -> bool {
        let close = &self.markers.close_tokens;
        self.open && close.len() > 1 && close.first() == Some(&id)
    }

    /// The token that must come next: the closing marker's, once the reasoning has `budget` tokens
    /// (budget forcing, Muennighoff et al., arXiv 2501.19393). Call it once per step.
    pub fn next_forced(&mut self, drawn: usize, budget: Option<usize>) -> Option<u32> {
        let used = drawn.saturating_sub(self.start?);
        if !self.open || (self.forced == 0 && used < budget?) {
            return None;
        }
        let next = self.markers.close_tokens.get(self.forced).copied();
        self.forced += 1;
        next
    }

    /// Takes the last of a sample's tokens into account. Returns how many of its bytes begin the
    /// answer, if it closed the reasoning.
    pub fn push(&mut self, tokens: &[Token], tokenizer: &Tokenizer) -> Option<usize> {
        let last = tokens.last()?;
        append_spelled(tokenizer, last.id, &mut self.window);
        let mut closed = None;
        while let Some((closes, first, rest)) = self.find(tokens, tokenizer) {
            self.window.drain(..self.window.len() - rest);
            if closes {
                self.start.get_or_insert(0);
                self.closed = Closed { marker: first, answer: tokens.len(), rest };
                self.forced = 0;
                closed = Some(rest);
            } else {
                self.start.get_or_insert(tokens.len());
                closed = None;
            }
            self.open = !closes;
        }
        let longest = self.markers.open.text.len().max(self.markers.close.text.len());
        self.window.drain(..self.window.len().saturating_sub(longest));
        closed
    }

    /// The marker that the last token completes: whether it closes, its first token, and how many
    /// bytes follow it.
    fn find(&self, tokens: &[Token], tokenizer: &Tokenizer) -> Option<(bool, usize, usize)> {
        let at = |closes: bool| {
            let marker = if closes { &self.markers.close } else { &self.markers.open };
            let (first, rest) = self.locate(marker, tokens, tokenizer)?;
            Some((closes, first, rest))
        };
        if self.open {
            return at(true);
        }
        at(false).or_else(|| if self.start.is_none() { at(true) } else { None })
    }

    fn locate(
        &self,
        marker: &Marker,
        tokens: &[Token],
        tokenizer: &Tokenizer,
    ) -> Option<(usize, usize)> {
        let last = tokens.len() - 1;
        if let Some(id) = marker.token {
            // The window is empty once this token has counted.
            let found = !self.window.is_empty() && tokens.get(last)?.id == id;
            return found.then_some((last, 0));
        }
        let text = marker.text.as_bytes();
        let start = self.window.windows(text.len()).position(|bytes| bytes == text)?;
        let mut left = self.window.len() - start;
        let mut bytes = Vec::new();
        let first = (0..=last).rev().find(|&at| {
            bytes.clear();
            append_spelled(tokenizer, tokens[at].id, &mut bytes);
            left = left.saturating_sub(bytes.len());
            left == 0
        });
        Some((first.unwrap_or(0), self.window.len() - start - text.len()))
    }

    /// The spans of the finished sample, `None` if it has no reasoning. `text` is the text of all
    /// its tokens.
    pub fn spans(
        &self,
        tokens: &[Token],
        end_tokens: &[u32],
        tokenizer: &Tokenizer,
        text: &str,
    ) -> Option<Spans> {
        let start = self.start?;
        let ended = tokens.last().is_some_and(|token| end_tokens.contains(&token.id));
        let end = tokens.len() - usize::from(ended);
        if self.open {
            return Some(Spans {
                reasoning: start.min(end)..end,
                answer: end..end,
                text_start: text.len(),
            });
        }
        let Closed { marker, answer, rest } = self.closed;
        let mut bytes = Vec::new();
        append_spelled(tokenizer, tokens.get(answer.checked_sub(1)?)?.id, &mut bytes);
        bytes.drain(..bytes.len() - rest.min(bytes.len()));
        for token in tokens.get(answer..end.max(answer))? {
            tokenizer.append_bytes(token.id, &mut bytes);
        }
        let answer_text = String::from_utf8_lossy(&bytes);
        Some(Spans {
            reasoning: start.min(marker)..marker,
            answer: answer..end.max(answer),
            text_start: text.len().saturating_sub(answer_text.len()),
        })
    }
}

/// Appends a token's bytes, or the name of a control token.
fn append_spelled(tokenizer: &Tokenizer, id: u32, out: &mut Vec<u8>) {
    if tokenizer.is_special(id) {
        out.extend_from_slice(tokenizer.token(id).unwrap_or_default().as_bytes());
    } else {
        tokenizer.append_bytes(id, out);
    }
}
