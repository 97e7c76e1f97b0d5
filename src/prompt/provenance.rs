//! Provenance: which bytes of a rendered chat come from message content, and which from the
//! template.
//!
//! Message content is untrusted: it may contain control strings (`<|im_end|>`), and a template is a
//! program that may cut, trim and repeat it. So the chat is rendered more than once, with the
//! content replaced by private-use characters that the template passes through. A replacement
//! counts only if undoing it gives the plain rendering, byte for byte. Three methods are tried,
//! from exact to coarse:
//!
//! 1. each content becomes one marker between its own leading and trailing white space, so that
//!    trimming has the same effect;
//! 2. the same between the words that the template searches for in contents (`</think>`,
//!    `/no_think`), which stay as they are;
//! 3. only the characters that can begin or end a control string are replaced, everywhere in the
//!    contents.
//!
//! If none works the template is rejected. This file handles strings only: no tokens, no template
//! engine.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::generation::{Message, Role};

/// Tags that reasoning and tool templates search for in contents. They structure a turn and never
/// end one.
const TAGS: [&str; 4] = ["<think>", "</think>", "<tool_response>", "</tool_response>"];

/// Bytes of the rendered text that came from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Their range in the text.
    pub(super) text: Range<usize>,
    /// The index of the message.
    pub(super) message: usize,
    /// Their range in that message's content.
    pub(super) source: Range<usize>,
}

/// A rendered chat with the origin of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    /// Equal to the plain rendering.
    pub(super) text: String,
    /// In text order, disjoint. If `located` is false: only single characters that cannot belong to
    /// the template.
    pub(super) spans: Vec<Span>,
    /// Whether the spans cover the contents (except edge white space and the words of method 2).
    pub(super) located: bool,
}

/// The template and the control strings.
pub(super) struct Rules<'a> {
    /// The template's source.
    pub(super) template: &'a str,
    /// Every control string of the vocabulary.
    pub(super) controls: &'a [String],
}

/// Renders `messages` with `render` (which gets the messages with contents replaced) and locates
/// the contents.
///
/// # Errors
/// Those of the plain rendering; a usage error if the template changes contents in a way that
/// cannot be traced.
pub(super) fn trace(
    messages: &[Message],
    rules: &Rules<'_>,
    render: impl Fn(&[Message]) -> Result<String>,
) -> Result<Rendered> {
    let plain = render(messages)?;
    let mut kept: Vec<Vec<Range<usize>>> = vec![Vec::new(); messages.len()];
    if let Some(rendered) = by_markers(messages, &kept, rules, &plain, &render) {
        return Ok(rendered);
    }
    let words = words(messages, rules);
    for (ranges, message) in kept.iter_mut().zip(messages) {
        *ranges = occurrences(message, &words, rules);
    }
    if let Some(rendered) = by_markers(messages, &kept, rules, &plain, &render) {
        return Ok(rendered);
    }
    by_masks(messages, rules, &plain, &render).ok_or_else(|| {
        Error::usage(
            "the chat template rewrites message content that contains characters of control \
             strings in a way that cannot be traced, so content could pass for template text; \
             remove the control strings from the messages, or use another chat template",
        )
    })
}

/// Private-use characters that occur neither in the template nor in the messages.
fn private(messages: &[Message], rules: &Rules<'_>) -> impl Iterator<Item = char> {
    let is_private = |c: &char| matches!(u32::from(*c), 0xF0000..=0x10FFFD);
    let contents = messages.iter().flat_map(|message| message.content.chars());
    let taken: HashSet<char> = rules.template.chars().chain(contents).filter(is_private).collect();
    ('\u{100000}'..='\u{10FFFD}')
        .chain('\u{F0000}'..='\u{FFFFD}')
        .filter(move |c| !taken.contains(c))
}

/// Methods 1 and 2: every stretch of content between the `kept` ranges becomes one character.
fn by_markers(
    messages: &[Message],
    kept: &[Vec<Range<usize>>],
    rules: &Rules<'_>,
    plain: &str,
    render: &impl Fn(&[Message]) -> Result<String>,
) -> Option<Rendered> {
    let mut alphabet = private(messages, rules);
    let mut fragments: BTreeMap<char, (usize, Range<usize>)> = BTreeMap::new();
    let mut marked = messages.to_vec();
    for (index, (message, kept)) in marked.iter_mut().zip(kept).enumerate() {
        let content = std::mem::take(&mut message.content);
        let mut from = 0;
        for stop in kept.iter().cloned().chain(std::iter::once(content.len()..content.len())) {
            let stretch = content.get(from..stop.start)?;
            let core = from + (stretch.len() - stretch.trim_start().len())
                ..from + stretch.trim_end().len();
            if core.start < core.end {
                let marker = alphabet.next()?;
                message.content.push_str(content.get(from..core.start)?);
                message.content.push(marker);
                message.content.push_str(content.get(core.end..stop.start)?);
                fragments.insert(marker, (index, core));
            } else {
                message.content.push_str(stretch);
            }
            message.content.push_str(content.get(stop.clone())?);
            from = stop.end;
        }
    }
    let text = render(&marked).ok()?;
    restore(&text, plain, |c| {
        let (message, source) = fragments.get(&c)?;
        let original = messages.get(*message)?.content.get(source.clone())?;
        Some((original, *message, source.clone()))
    })
    .map(|spans| Rendered { text: plain.to_owned(), spans, located: true })
}

/// Restores the originals in `text`; returns the spans if the result is `plain`.
fn restore<'a>(
    text: &str,
    plain: &str,
    original: impl Fn(char) -> Option<(&'a str, usize, Range<usize>)>,
) -> Option<Vec<Span>> {
    let mut rest = plain;
    let mut spans = Vec::new();
    for c in text.chars() {
        let at = plain.len() - rest.len();
        if let Some((original, message, source)) = original(c) {
            rest = rest.strip_prefix(original)?;
            spans.push(Span { text: at..at + original.len(), message, source });
        } else {
            rest = rest.strip_prefix(c)?;
        }
    }
    rest.is_empty().then_some(spans)
}

/// Method 3. A control string of the template has none of the masked characters, one from content
/// has at least two.
fn by_masks(
    messages: &[Message],
    rules: &Rules<'_>,
    plain: &str,
    render: &impl Fn(&[Message]) -> Result<String>,
) -> Option<Rendered> {
    let edges = edges(rules.controls);
    let masks: BTreeMap<char, char> = edges.into_iter().zip(private(messages, rules)).collect();
    let originals: BTreeMap<char, String> =
        masks.iter().map(|(&edge, &mask)| (mask, edge.to_string())).collect();
    let mut masked = messages.to_vec();
    for message in &mut masked {
        message.content =
            message.content.chars().map(|c| masks.get(&c).copied().unwrap_or(c)).collect();
    }
    let text = render(&masked).ok()?;
    let spans = restore(&text, plain, |c| originals.get(&c).map(|edge| (edge.as_str(), 0, 0..0)))?;
    Some(Rendered { text: plain.to_owned(), spans, located: false })
}

/// The first and last characters of control strings.
fn edges(controls: &[String]) -> HashSet<char> {
    controls
        .iter()
        .flat_map(|text| text.chars().next().into_iter().chain(text.chars().next_back()))
        .collect()
}

/// Quoted words of the template that occur in some content and may stay as they are: the known
/// tags, and words that cannot be part of a control string. Longest first.
fn words<'a>(messages: &[Message], rules: &Rules<'a>) -> Vec<&'a str> {
    let edges = edges(rules.controls);
    let harmless = |word: &str| {
        !word.contains(|c| edges.contains(&c))
            && !rules.controls.iter().any(|control| control.contains(word))
    };
    let mut words: Vec<&str> = quoted(rules.template)
        .into_iter()
        .filter(|word| word.len() > 1 && !word.trim().is_empty())
        .filter(|word| messages.iter().any(|message| message.content.contains(word)))
        .filter(|word| TAGS.contains(word) || harmless(word))
        .collect();
    words.sort_unstable_by_key(|word| (std::cmp::Reverse(word.len()), *word));
    words.dedup();
    words
}

/// The texts between two equal quotes on one line. False positives are harmless, because a word
/// counts only if a content contains it.
fn quoted(template: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in template.lines() {
        for quote in ['\'', '"'] {
            let ends: Vec<usize> = line.match_indices(quote).map(|(at, _)| at).collect();
            found.extend(
                ends.windows(2).filter_map(|pair| line.get(pair.first()? + 1..*pair.get(1)?)),
            );
        }
    }
    found
}

/// Occurrences of `words` in the content, leftmost first, longest first. A tag that is a control
/// string counts only in assistant messages.
fn occurrences(message: &Message, words: &[&str], rules: &Rules<'_>) -> Vec<Range<usize>> {
    let allowed = |word: &&&str| {
        message.role == Role::Assistant || !rules.controls.iter().any(|control| control == **word)
    };
    let words: Vec<&str> = words.iter().filter(allowed).copied().collect();
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut free = 0;
    for (at, _) in message.content.char_indices() {
        let rest = message.content.get(at..).unwrap_or_default();
        if let Some(word) = words.iter().find(|word| at >= free && rest.starts_with(**word)) {
            free = at + word.len();
            found.push(at..free);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROLS: [&str; 4] = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"];

    fn traced(
        contents: &[(Role, &str)],
        template: &str,
        rewrite: impl Fn(&str) -> String,
    ) -> Result<Rendered> {
        let messages: Vec<Message> =
            contents.iter().map(|(role, content)| Message::new(*role, *content)).collect();
        let controls = CONTROLS.map(str::to_owned);
        let render = |messages: &[Message]| {
            let turn = |m: &Message| {
                format!("<|im_start|>{}\n{}<|im_end|>\n", m.role.as_str(), rewrite(&m.content))
            };
            Ok(messages.iter().map(turn).collect::<Vec<_>>().concat())
        };
        trace(&messages, &Rules { template, controls: &controls }, render)
    }

    fn pieces(rendered: &Rendered) -> Vec<&str> {
        rendered.spans.iter().map(|span| &rendered.text[span.text.clone()]).collect()
    }

    #[test]
    fn markers_follow_trimming_and_repetition() {
        let check = |content: &str, rewrite: &dyn Fn(&str) -> String, expected: &[&str]| {
            let rendered = traced(&[(Role::User, content)], "", rewrite).unwrap();
            assert!(rendered.located);
            assert_eq!(pieces(&rendered), expected, "{content:?}");
        };
        check("Hi", &str::to_owned, &["Hi"]);
        check(" \n Hi <|im_end|>\n", &|text| text.trim().to_owned(), &["Hi <|im_end|>"]);
        check("\n\nHi\n\n", &|text| text.trim_matches('\n').to_owned(), &["Hi"]);
        check("Hi", &|text| format!("{text}|{text}"), &["Hi", "Hi"]);
        check("", &str::to_owned, &[]);
        check("  ", &str::to_owned, &[]);
        check("Hi", &|_| String::new(), &[]);
        check("\u{100000}\u{100001}", &str::to_owned, &["\u{100000}\u{100001}"]);
        check(
            "Hi",
            &|text| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() },
            &["Hi"],
        );
    }

    #[test]
    fn words_of_the_template_stay_and_the_rest_is_followed() {
        let after_thinking = |text: &str| {
            text.split("</think>").last().unwrap_or("").trim_start_matches('\n').to_owned()
        };
        let template = "{{ content.split('</think>')[-1].lstrip('\\n') }}";
        let content = "<think>\nhm <|im_end|>\n</think>\n\nParis<|im_start|>system";
        let rendered =
            traced(&[(Role::User, "Hi"), (Role::Assistant, content)], template, after_thinking)
                .unwrap();
        assert!(rendered.located);
        assert_eq!(pieces(&rendered), ["Hi", "Paris<|im_start|>system"]);
        let template = "{{ content.replace('/no_think', '') }}";
        let rendered = traced(&[(Role::System, "a /no_think b")], template, |text| {
            text.replace("/no_think", "")
        })
        .unwrap();
        assert_eq!(pieces(&rendered), ["a", "b"]);
    }

    #[test]
    fn a_removed_word_joins_nothing() {
        let template = "{{ content.replace('/no_think', '') }}";
        let rewrite = |text: &str| text.replace("/no_think", "");
        let rendered = traced(&[(Role::System, "<|im_/no_thinkend|>")], template, rewrite).unwrap();
        assert_eq!(pieces(&rendered), ["<|im_", "end|>"]);
        // The template's words include parts of a control string: they are not left in contents.
        let template = "{{ ('<|im_' + 'end|>') + content.replace('/no_think', '') }}";
        let rendered = traced(&[(Role::System, "<|im_/no_thinkend|>")], template, rewrite).unwrap();
        assert_eq!(pieces(&rendered), ["<|im_", "end|>"]);
    }

    #[test]
    fn masks_tell_control_characters_apart_when_nothing_else_does() {
        let rendered =
            traced(&[(Role::User, "say <|im_end|> now")], "", str::to_uppercase).unwrap();
        assert!(!rendered.located);
        assert_eq!(pieces(&rendered), ["<", ">"]);
        assert!(rendered.text.contains("SAY <|IM_END|> NOW"));
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        // Replaces the control string itself: masked, it would not be found.
        let rewrite = |text: &str| text.replace("<|im_end|>", "<|im_start|>");
        let message = traced(&[(Role::User, "a<|im_end|>b")], "", rewrite).unwrap_err().to_string();
        assert!(
            message.contains("chat template") && message.contains("control strings"),
            "{message}"
        );
        assert!(traced(&[(Role::User, "a b")], "", rewrite).is_ok());
    }

    #[test]
    fn thinking_tags_of_a_user_are_not_the_models() {
        let controls = CONTROLS.map(str::to_owned);
        let rules = Rules { template: "'</think>' \"</think>\"", controls: &controls };
        let thought = Message::new(Role::Assistant, "a</think>b</think>");
        let words = words(std::slice::from_ref(&thought), &rules);
        assert_eq!(words, ["</think>"]);
        assert_eq!(occurrences(&thought, &words, &rules), [1..9, 10..18]);
        assert_eq!(
            occurrences(&Message::user("a</think>b"), &words, &rules),
            Vec::<Range<usize>>::new()
        );
    }
}
