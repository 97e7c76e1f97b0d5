//! Encoding of a rendered chat: control strings of the template become control tokens, the same
//! strings in content stay text.
//!
//! The tokenizer gets the byte ranges of the template's own text and looks for control strings only
//! there. Text between two control strings, template and content together, is encoded as one piece,
//! as in the reference: a token may span both (`"\n"` and a content that begins with one). Every
//! token is mapped back to the bytes that it covers.

use std::collections::HashMap;
use std::ops::Range;

use super::provenance::Rendered;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// A control string found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) text: Range<usize>,
    pub(super) id: u32,
}

/// All control strings of a vocabulary as a byte trie, so that finding the longest match costs at
/// most its length.
pub(super) struct ControlTokens {
    edges: HashMap<(u32, u8), u32>,
    ids: HashMap<u32, u32>,
    texts: Vec<String>,
}

impl ControlTokens {
    /// Reads the special tokens of `tokenizer`.
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let mut controls = Self { edges: HashMap::new(), ids: HashMap::new(), texts: Vec::new() };
        for id in (0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.is_special(id)) {
            if let Some(text) = tokenizer.token(id).filter(|text| !text.is_empty()) {
                controls.insert(text, id);
            }
        }
        controls
    }

    fn insert(&mut self, text: &str, id: u32) {
        let mut node = 0;
        for byte in text.bytes() {
            let fresh = self.edges.len() as u32 + 1;
            node = *self.edges.entry((node, byte)).or_insert(fresh);
        }
        self.ids.entry(node).or_insert(id);
        self.texts.push(text.to_owned());
    }

    /// The control strings themselves.
    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The longest control string at the start of `bytes`: its length and id.
    fn at_start(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let mut node = 0;
        let mut longest = None;
        for (index, &byte) in bytes.iter().enumerate() {
            let Some(&next) = self.edges.get(&(node, byte)) else { break };
            node = next;
            longest = self.ids.get(&node).map(|&id| (index + 1, id)).or(longest);
        }
        longest
    }

    /// The control strings in `text[range]`, leftmost first, longest first, disjoint.
    fn find(&self, text: &str, range: Range<usize>) -> Vec<Control> {
        let bytes = text.as_bytes().get(range.clone()).unwrap_or_default();
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let Some((length, id)) = self.at_start(rest) {
                found.push(Control { text: range.start + at..range.start + at + length, id });
                at += length;
            } else {
                at += 1;
            }
        }
        found
    }
}

/// Tokens with the bytes of the text that each covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) tokens: Vec<u32>,
    /// Ascending; empty for a mark that the tokenizer adds.
    pub(super) spans: Vec<Range<usize>>,
}

/// Encodes a rendered chat, with control tokens everywhere except in the contents.
///
/// # Errors
/// Those of the tokenizer.
pub(super) fn encode(
    tokenizer: &Tokenizer,
    controls: &ControlTokens,
    rendered: &Rendered,
) -> Result<Encoded> {
    let gaps = gaps(rendered);
    let tokens = tokenizer.encode_trusted(&rendered.text, &gaps)?;
    let scaffolding = gaps.into_iter().flat_map(|gap| controls.find(&rendered.text, gap)).collect();
    let spans = align(tokenizer, &rendered.text, scaffolding, &tokens);
    Ok(Encoded { tokens, spans })
}

/// The text between the contents: the template's own.
fn gaps(rendered: &Rendered) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(rendered.spans.iter().map(|span| span.text.end));
    let ends = rendered.spans.iter().map(|span| span.text.start).chain([rendered.text.len()]);
    starts.zip(ends).map(|(start, end)| start..end).filter(|gap| !gap.is_empty()).collect()
}

/// The bytes of `text` that each token covers, piece by piece between the control tokens.
fn align(
    tokenizer: &Tokenizer,
    text: &str,
    scaffolding: Vec<Control>,
    tokens: &[u32],
) -> Vec<Range<usize>> {
    let mut spans = Vec::with_capacity(tokens.len());
    let mut scaffolding = scaffolding.into_iter();
    let (mut from, mut first) = (0, 0);
    for (index, &id) in tokens.iter().enumerate().filter(|&(_, &id)| tokenizer.is_special(id)) {
        // An unknown token covers text: it matches no control string and stays within its piece.
        let Some(control) = scaffolding.clone().find(|control| control.id == id) else { continue };
        let piece = tokens.get(first..index).unwrap_or_default();
        piece_spans(tokenizer, text, from..control.text.start, piece, &mut spans);
        spans.push(control.text.clone());
        scaffolding.by_ref().find(|passed| *passed == control);
        (from, first) = (control.text.end, index + 1);
    }
    piece_spans(
        tokenizer,
        text,
        from..text.len(),
        tokens.get(first..).unwrap_or_default(),
        &mut spans,
    );
    spans
}

/// Aligns the tokens' own bytes with `text[range]`. If they differ, because the tokenizer
/// normalizes or adds a space, the equal bytes at both ends are matched, and every token that
/// touches the middle covers all of it.
fn piece_spans(
    tokenizer: &Tokenizer,
    text: &str,
    range: Range<usize>,
    tokens: &[u32],
    spans: &mut Vec<Range<usize>>,
) {
    let source = text.as_bytes().get(range.clone()).unwrap_or_default();
    let mut made: Vec<u8> = Vec::with_capacity(source.len() + 1);
    let mut ends = Vec::with_capacity(tokens.len());
    for &id in tokens {
        made.extend_from_slice(&tokenizer.token_bytes(id));
        ends.push(made.len());
    }
    let head = source.iter().zip(&made).take_while(|(a, b)| a == b).count();
    let room = source.len().min(made.len()) - head;
    let tail =
        source.iter().rev().zip(made.iter().rev()).take(room).take_while(|(a, b)| a == b).count();
    let (middle_source, middle_made) = (source.len() - tail, made.len() - tail);
    let place = |at: usize, middle: usize| match at {
        at if at <= head && at < middle_made => at,
        at if at >= middle_made => middle_source + (at - middle_made),
        _ => middle,
    };
    let mut start = 0;
    for end in ends {
        let first = place(start, head);
        let last = place(end, middle_source).max(first);
        spans.push(range.start + first..range.start + last);
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls(texts: &[&str]) -> ControlTokens {
        let mut controls =
            ControlTokens { edges: HashMap::new(), ids: HashMap::new(), texts: Vec::new() };
        for (id, text) in texts.iter().enumerate() {
            controls.insert(text, id as u32);
        }
        controls
    }

    #[test]
    fn the_longest_control_string_is_found_leftmost_first() {
        let controls = controls(&["<s>", "<s>x", "</s>", "<|a|>", "a|"]);
        let check = |text: &str, expected: &[(usize, u32)]| {
            let found: Vec<(usize, u32)> =
                controls.find(text, 0..text.len()).iter().map(|c| (c.text.start, c.id)).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check("<s", &[]);
        check("<s><s>x</s>", &[(0, 0), (3, 1), (7, 2)]);
        check("<<s>><|a|", &[(1, 0), (7, 4)]);
        check("<|a|>é<s>", &[(0, 3), (7, 0)]);
    }

    #[test]
    fn a_control_string_across_a_seam_is_not_the_templates() {
        use super::super::provenance::Span;
        let controls = controls(&["<s>"]);
        let rendered = Rendered {
            text: "<s><s>".into(),
            spans: vec![Span { text: 4..5, message: 0, source: 0..1 }],
            located: true,
        };
        let found: Vec<Control> = gaps(&rendered)
            .into_iter()
            .flat_map(|gap| controls.find(&rendered.text, gap))
            .collect();
        assert_eq!(found, [Control { text: 0..3, id: 0 }]);
    }
}
