//! Text-level marks around a completion's thoughts, and where a completion runs on.
//!
//! Contract: total and linear. The marks of published reasoning models count in any case:
//! `<think>`, `<thinking>`, `[THINK]`, `◁think▷`, `<seed:think>` and their like. A mark within a
//! sentence about it is text. Where an engine separates the thoughts by token ids, nothing is left
//! to find here.

use super::words::List;

const NAMES: List = List(
    "think|thinking|thought|thoughts|reasoning|reason|analysis|reflection|scratchpad|cot\
     |seed:think|seed:cot_budget_reflect",
);
const BRACKETS: &[(char, char)] = &[('<', '>'), ('[', ']'), ('◁', '▷')];

struct Tag {
    start: usize,
    end: usize,
    opening: bool,
    /// An opening tag stands before this closing one.
    paired: bool,
}

fn tags(text: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    for (start, c) in text.char_indices() {
        let Some((open, close)) = BRACKETS.iter().find(|(open, _)| *open == c) else { continue };
        let rest = text.get(start + open.len_utf8()..).unwrap_or_default();
        let length = rest.char_indices().take(28).find(|(_, c)| c == close).map(|(at, _)| at);
        let Some(name) = length.and_then(|length| rest.get(..length)) else { continue };
        let lower = name.to_ascii_lowercase();
        let name_only = lower.trim_matches('|');
        let bare = name_only.strip_prefix('/').unwrap_or(name_only);
        let special = match name_only {
            "begin_of_thought" => Some(true),
            "end_of_thought" => Some(false),
            _ => None,
        };
        if special.is_some() || NAMES.has(bare) {
            let end = start + open.len_utf8() + name.len() + close.len_utf8();
            tags.push(Tag {
                start,
                end,
                opening: special.unwrap_or(!name_only.starts_with('/')),
                paired: false,
            });
        }
    }
    tags
}

/// Whether a tag is named in a sentence or in quotes.
fn is_mention(text: &str, tag: &Tag) -> bool {
    let before = text.get(..tag.start).unwrap_or_default();
    let after = text.get(tag.end..).unwrap_or_default();
    let quote = |c: char| matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’');
    let quoted = before.ends_with(quote) && after.starts_with(quote);
    let word_before = before.ends_with(' ')
        && before.trim_end().ends_with(|c: char| c.is_alphanumeric() || c == ',');
    let word_after =
        after.starts_with(' ') && after.trim_start().starts_with(|c: char| c.is_lowercase());
    quoted || (word_before && (word_after || after.starts_with(['.', ',', '?'])))
}

/// The text after its thoughts; `None` if it ends within them. A closing tag without an opening
/// one counts, because the chat template may have put that into the prompt.
pub(super) fn after_thinking(text: &str) -> Option<&str> {
    let mut open = None;
    let mut closed: Vec<Tag> = Vec::new();
    for tag in tags(text) {
        if open.is_none() && is_mention(text, &tag) {
            continue;
        }
        if tag.opening {
            open = open.or(Some(tag.start));
        } else {
            closed.push(Tag { paired: open.take().is_some(), ..tag });
        }
    }
    if open.is_some() {
        return None;
    }
    // A closing tag may be doubled, with the answer between.
    let mut end = text.len();
    for tag in closed.iter().rev() {
        let part = text.get(tag.end..end)?;
        if !part.trim().is_empty() {
            return Some(part);
        }
        end = tag.start;
        // Only thoughts stand before a tag that an opening one belongs to.
        if tag.paired {
            return None;
        }
    }
    if closed.is_empty() { Some(text) } else { None }
}

/// Words that open a turn or a question which the model invents, lower case.
const TURNS: List = List(
    "question|q|user|human|problem|exercise|instruction|frage|pregunta|pergunta|domanda|вопрос\
     |问题|問題|질문|next question|new question",
);
const TURN_TOKENS: [&str; 6] = [
    "<|im_start|>",
    "<|user|>",
    "<|start_header_id|>",
    "[INST]",
    "<start_of_turn>",
    "<|endoftext|>",
];

/// The text before an invented next turn, if something stands before that.
pub(super) fn first_turn(text: &str) -> &str {
    let mut content = false;
    let mut numbered = false;
    let mut blank = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let item = is_numbered(trimmed);
        let turn = opens_turn(trimmed) || (item && blank && !numbered && trimmed.ends_with('?'));
        if content && turn {
            return text.get(..at).unwrap_or(text);
        }
        let token = TURN_TOKENS.iter().filter_map(|token| line.find(token)).min();
        if let Some(token) = token.filter(|token| content || *token > 0) {
            return text.get(..at + token).unwrap_or(text);
        }
        content |= !trimmed.is_empty();
        numbered |= item;
        blank = trimmed.is_empty();
        at += line.len();
    }
    text
}

fn is_numbered(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < line.len() && rest.starts_with(['.', ')'])
}

fn opens_turn(line: &str) -> bool {
    let line = line.trim_start_matches(['#', '*', ' ', '>', '[', '<']);
    let head: String =
        line.chars().take(24).take_while(|c| !matches!(c, ':' | '：' | ']' | '>')).collect();
    let ends = line.chars().nth(head.chars().count()).is_some_and(|c| matches!(c, ':' | '：'));
    let head = head.to_lowercase();
    let name =
        head.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '*' | ' ' | '#' | '.'));
    let numbered = name.len() < head.trim_end_matches(['*', ' ']).len();
    // A heading "Problem 2" needs no colon.
    let heading = numbered
        && line.trim_end_matches('*').chars().count() == head.trim_end_matches('*').chars().count();
    TURNS.has(name) && (ends || (heading && name != "q"))
}
