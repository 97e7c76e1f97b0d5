//! Short answers: phrases, and sentences that state a name.
//!
//! Contract: total and linear. The rules cover English sentences and know neither the question nor
//! the other samples, so they read only what means one thing: a text that is a phrase, or a first
//! sentence of the form `<description> is <Name or number>`. A sentence that denies or hedges
//! ("not", "never", "but", "or") or holds a bracket states nothing. Greetings and announcements
//! before it are skipped.
//!
//! | text | answer |
//! |---|---|
//! | "Paris", "The Beatles" | the phrase |
//! | "The capital of France is Paris.", "It is Paris, which ..." | Paris |
//! | "Yes, it is a mammal." | yes |
//! | "Paris is the capital of France.", "The color of the sky is blue." | none |
//!
//! A name is up to seven words, each capitalized or a number, joined by words such as "of"; a
//! description begins with "the", "this", "its" and the like and has a word in lower case, or is a
//! pronoun.

use super::announced::Announcement;
use super::answer::{Answer, AnswerKind};
use super::words::List;
use super::{canonical, words};

/// A longer text is not a phrase.
const MAX_PHRASE_WORDS: usize = 6;
/// A longer announced answer is an explanation.
const MAX_ANNOUNCED_WORDS: usize = 12;
/// A longer sentence states nothing.
const MAX_WORDS: usize = 80;

/// The answer that an announced span gives; `None` if it is an explanation or a guess.
pub(super) fn announced(announcement: &Announcement<'_>) -> Option<Answer> {
    let span = announcement.span.as_ref();
    if span.contains('\n') {
        return Answer::stated(span);
    }
    // "The answer is 4. Paris is another one."
    let number = span.find(". ").and_then(|at| span.get(..at)).filter(|head| {
        let digits = head.trim_start_matches('-');
        !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
    });
    let listed = !announcement.verb && canonical::list_item(span).is_some_and(is_item);
    if let Some(number) = number.filter(|_| !listed) {
        return Answer::stated(number);
    }
    let sentence = first_sentence(span);
    let following = sentence
        .split_once(": ")
        .filter(|(head, _)| head.ends_with("following") || head.ends_with("follows"));
    let sentence = following.map_or(sentence, |(_, tail)| tail);
    let sentence = without_reason(sentence);
    let sentence = canonical::strip(sentence);
    let words: Vec<&str> = sentence.split_whitespace().take(MAX_WORDS).collect();
    let guess = words.iter().any(|word| {
        matches!(
            word.to_lowercase().as_str(),
            "maybe" | "perhaps" | "probably" | "possibly" | "might" | "likely"
        )
    });
    if words.len() > MAX_ANNOUNCED_WORDS || guess {
        return None;
    }
    let filler = ["simply", "clearly", "just", "therefore", "indeed", "thus", "definitely"];
    let skipped =
        words.iter().take_while(|word| filler.contains(&word.trim_end_matches(','))).count();
    let skipped: usize = words.iter().take(skipped).map(|word| word.len()).sum::<usize>() + skipped;
    Answer::stated(sentence.get(skipped..).unwrap_or(sentence))
}

/// Whether what follows a number with a full stop is the item of a list, not another sentence.
pub(super) fn is_item(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let subject = words.next().is_some_and(is_subject);
    let count = 1 + words.by_ref().take(MAX_PHRASE_WORDS).filter(|word| !is_verb(word)).count();
    !subject && count <= MAX_PHRASE_WORDS && !text.split_whitespace().take(8).any(is_verb)
}

/// A sentence without the reason, relative clause or apposition behind its answer.
fn without_reason(sentence: &str) -> &str {
    let reasons = [" because ", ", because ", ", since ", ", so ", ", weil ", ", denn "];
    let cut = reasons.iter().filter_map(|reason| sentence.find(reason)).filter(|at| *at > 0).min();
    let sentence = cut.and_then(|at| sentence.get(..at)).unwrap_or(sentence);
    let words: Vec<&str> = sentence.split_whitespace().take(MAX_WORDS).collect();
    // "Paris, the capital of France", but "a house, with a garden" stays.
    let main = main_clause(&words);
    let Some(last) = main.last().filter(|_| is_name(main)) else { return sentence };
    let end = last.as_ptr() as usize - sentence.as_ptr() as usize + last.len();
    sentence.get(..end).unwrap_or(sentence)
}

/// The answer of a text that is nothing but a short phrase, or a list of such.
pub(super) fn phrase(text: &str) -> Option<Answer> {
    let text = text.trim();
    if text.len() > 2000 {
        return None;
    }
    if text.contains('\n') {
        let short = |line: &str| {
            canonical::list_item(line)
                .is_some_and(|item| item.split_whitespace().count() <= MAX_PHRASE_WORDS)
        };
        let items = text.lines().filter(|line| !line.trim().is_empty()).all(short);
        return if items { Answer::stated(text) } else { None };
    }
    let inner = canonical::strip(text);
    let quoted = text.len() > inner.len() && text.starts_with('"');
    let words: Vec<&str> = inner.split_whitespace().take(2 * MAX_PHRASE_WORDS + 1).collect();
    let clause = words.len() > 1
        && (words.iter().any(|word| is_verb(word) || is_guess(word))
            || words.first().is_some_and(|word| is_subject(word)));
    let whole = first_sentence(inner).len() == inner.len();
    if words.len() > 2 * MAX_PHRASE_WORDS
        || (clause && !quoted)
        || !whole
        || caseless_sentence(inner)
    {
        return None;
    }
    let answer = Answer::stated(text)?;
    (answer.canonical.split(' ').count() <= MAX_PHRASE_WORDS).then_some(answer)
}

/// A script without spaces has words of one or two characters.
fn caseless_sentence(text: &str) -> bool {
    let letters =
        text.chars().filter(|c| c.is_alphabetic() && !c.is_lowercase() && !c.is_uppercase());
    letters.count() > 16 && !text.contains(' ')
}

/// Verbs and auxiliaries that make a sentence.
fn is_verb(word: &str) -> bool {
    const VERBS: List = List(
        "is|are|was|were|be|been|has|have|had|do|does|did|can|could|will|would|should|may|might\
         |must|says|said|think|believe|guess|it's|that's|he's|she's|there's|i'm|don't|doesn't\
         |can't|isn't|aren't|ist|sind|est|sont|es|son|equals|equal|stands|stand|means|mean|refers\
         |refer|consists|contains|includes|gives|makes|costs|wrote|invented|discovered|painted\
         |comes|lies|uses|called",
    );
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    let lower = word.to_lowercase().replace('’', "'");
    // "May 5" and "Will Smith" are names.
    VERBS.has(&lower)
        && !(matches!(lower.as_str(), "may" | "will" | "can" | "es" | "est" | "son")
            && word.starts_with(char::is_uppercase))
}

fn is_guess(word: &str) -> bool {
    let lower = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    matches!(lower.as_str(), "maybe" | "perhaps" | "probably" | "possibly" | "likely")
}

fn is_subject(word: &str) -> bool {
    matches!(
        word,
        "I" | "We"
            | "You"
            | "They"
            | "He"
            | "She"
            | "It"
            | "There"
            | "i"
            | "we"
            | "you"
            | "they"
            | "it"
    )
}

/// Yes or no: the word alone, or followed by a reason.
pub(super) fn polarity(text: &str) -> Option<Answer> {
    let text = text.trim_start_matches(|c: char| {
        c.is_whitespace() || matches!(c, '*' | '"' | '_' | '-' | '#')
    });
    let end =
        text.find(|c: char| !c.is_alphabetic() && !is_mark_of_script(c)).unwrap_or(text.len());
    let word = text.get(..end)?;
    let polarity = words::polarity(word)?;
    let rest = text.get(end..)?.trim_start_matches(['*', '"', '_']);
    let next = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '.' | ',' | '!'));
    let ends = rest.is_empty()
        || rest.starts_with([',', '.', '!', ';', ':', '\n', '—', '–', '、', '，', '。', '(', '\r'])
        || rest.starts_with(" -")
        || rest.starts_with(" —")
        || REASONS.iter().any(|reason| begins(rest.trim_start(), reason));
    // "No. 5" is a number.
    if !ends || (rest.starts_with('.') && next.starts_with(|c: char| c.is_ascii_digit())) {
        return None;
    }
    let opposed = rest.split(['.', ',', '!', ';', '\n', '?']).take(40).any(|part| {
        let turn = |word: &&str| {
            matches!(*word, "wait" | "actually" | "or" | "and" | "but" | "rather" | "sorry")
        };
        let first = part.split_whitespace().find(|word| !turn(&word.to_lowercase().as_str()));
        first.and_then(words::polarity).is_some_and(|other| other != polarity)
    });
    (!opposed).then(|| Answer {
        canonical: polarity.to_owned(),
        display: word.to_owned(),
        kind: AnswerKind::Polarity,
        bare: None,
    })
}

/// Combining marks, which some scripts write vowels with.
fn is_mark_of_script(c: char) -> bool {
    !c.is_ascii() && !c.is_alphanumeric() && matches!(u32::from(c), 0x0900..=0x0dff)
}

const REASONS: List = List("because|since|as|it|that|this|they|there|he|she|you|weil|parce");

fn begins(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
        && !text.get(word.len()..).is_some_and(|rest| rest.starts_with(char::is_alphanumeric))
}

/// The name or number that the first sentence states.
pub(super) fn stated(text: &str) -> Option<Answer> {
    let sentence = first_sentence(text);
    let rest = text.get(sentence.len()..).unwrap_or_default();
    if takes_back(rest) {
        return None;
    }
    let plain = canonical::strip(sentence);
    let words: Vec<&str> = plain.split_whitespace().take(MAX_WORDS).collect();
    if words.len() == MAX_WORDS || plain.contains('(') || words.iter().any(|word| is_hedge(word)) {
        return None;
    }
    if let Some(found) = predicate(main_clause(&words)) {
        // "The first is Paris. The second is Lyon."
        let next = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
        let next: Vec<&str> = first_sentence(next).split_whitespace().take(MAX_WORDS).collect();
        let another = predicate(main_clause(&next));
        let same = another.is_none_or(|another| another.canonical == found.canonical);
        return same.then_some(found);
    }
    // "Paris. It lies on the Seine."
    let follows = ["It", "This", "That", "He", "She", "They", "The", "Explanation", "Because"];
    let next = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
    let short = words.len() <= 4
        && (is_name(&words) || phrase(plain).is_some_and(|a| a.kind == AnswerKind::Number));
    let repeated = words.first().is_some_and(|first| begins(next, first));
    (short
        && !plain.contains(':')
        && (repeated
            || follows.iter().any(|word| begins(next, word))
                && next.starts_with(char::is_uppercase)))
    .then(|| Answer::stated(plain))
    .flatten()
}

/// Whether a later sentence turns against the first one.
fn takes_back(rest: &str) -> bool {
    let mut starts = rest.split(['.', '!', '?', '\n']).take(200).map(str::trim);
    starts.any(|start| {
        [
            "but",
            "however",
            "actually",
            "no",
            "wait",
            "alternatively",
            "or",
            "correction",
            "although",
            "sorry",
        ]
        .iter()
        .any(|word| begins(start, word))
    })
}

/// The text behind greetings and announcements without content.
pub(super) fn without_openers(text: &str) -> &str {
    const INTERJECTIONS: List = List("well|so|okay|ok|sure|hmm|ah|oh|certainly|thus|therefore");
    let mut rest = text.trim();
    for _ in 0..4 {
        let spoken = rest
            .split_once(", ")
            .filter(|(head, _)| INTERJECTIONS.iter().any(|word| head.eq_ignore_ascii_case(word)));
        if let Some((_, tail)) = spoken
            && !is_opener(first_sentence(rest))
        {
            rest = tail.trim_start();
        }
        let sentence = first_sentence(rest);
        let after = rest.get(sentence.len()..).unwrap_or_default();
        let after = after.trim_start_matches(|c: char| {
            c.is_whitespace() || matches!(c, '.' | '!' | '。' | '！')
        });
        let colon = sentence.find(": ").filter(|at| sentence.get(..*at).is_some_and(is_opener));
        let next = match colon {
            Some(colon) => rest.get(colon + 2..),
            None if is_opener(sentence)
                || sentence.trim_end().trim_end_matches('*').ends_with([':', '：']) =>
            {
                Some(after)
            }
            None => None,
        };
        match next.map(str::trim) {
            Some(next) if !next.is_empty() => rest = next,
            _ => break,
        }
    }
    rest
}

/// Whether a sentence only leads to what follows.
pub(super) fn is_opener(sentence: &str) -> bool {
    const WHOLE: List = List(
        "sure|certainly|of course|okay|ok|great question|good question|hello|hi|thank you|thanks\
         |absolutely|sure thing|alright|well|hmm|great|no problem|interesting question",
    );
    const STARTS: List = List(
        "let me |lets |let us |heres |here is |here are |thats a great|thats a good\
         |that is a great|that is a good|thats an |what a great|what a good|thank you|thanks for\
         |im happy to|i am happy to|id be happy|i would be happy|happy to help|great question\
         |good question|sure |certainly |of course |okay |ok |alright |based on |to answer \
         |after careful|hello ",
    );
    if sentence.len() > 200 {
        return false;
    }
    let form: String = sentence
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || c.is_whitespace())
        .collect();
    let form = form.split_whitespace().collect::<Vec<_>>().join(" ");
    let colon = sentence.trim_end().ends_with(':');
    let states = form.split(' ').any(|word| matches!(word, "is" | "are" | "was"))
        && !form.starts_with("that")
        && !form.starts_with("here");
    WHOLE.has(&form)
        || STARTS.iter().any(|start| {
            let is = form.starts_with(start.trim_end())
                && (form.len() <= start.len() || form.starts_with(start));
            let here = start.starts_with("here");
            is && (colon || !(here || states))
                || (here && is && !sentence.contains('.') && form.len() > 12)
        })
}

/// Words before a full stop that does not end a sentence, lower case.
const ABBREVIATIONS: List = List(
    "mr|mrs|ms|dr|st|prof|jr|sr|vs|no|nos|mt|ft|gen|col|lt|sgt|capt|rev|gov|sen|e.g|i.e|approx\
     |ca|inc|ltd|co|corp|al|sec|fig|vol|ch|art|pp|eq|est|dept|univ|ave|blvd|a.m|p.m|jan|feb|mar\
     |apr|jun|jul|aug|sep|sept|oct|nov|dec|bzw|z.b|usw|nr",
);

/// The text up to the end of its first sentence or line, without its full stop. A question mark
/// does not end a sentence: the answer of "Lyon? Paris?" is not Lyon. Nor does a full stop before a
/// word in lower case.
pub(super) fn first_sentence(text: &str) -> &str {
    let mut word = 0;
    let mut line = 0;
    let mut content = false;
    for (at, c) in text.char_indices() {
        let after = || text.get(at + c.len_utf8()..).unwrap_or_default();
        let next = after().chars().next().unwrap_or(' ');
        let goes_on =
            || after().chars().find(|c| !c.is_whitespace()).is_some_and(char::is_lowercase);
        let ends = match c {
            '\n' | '\r' | '。' | '！' | '।' => content,
            '!' => next.is_whitespace(),
            '.' => next.is_whitespace() && !goes_on() && !is_abbreviation(text, line, word, at),
            _ => false,
        };
        if ends && at > 0 {
            return text.get(..at).unwrap_or(text);
        }
        content |= !c.is_whitespace();
        if c.is_whitespace() {
            word = at + c.len_utf8();
        }
        if c == '\n' {
            line = at + 1;
        }
    }
    text
}

/// Whether the full stop at `end` belongs to the word from `start`: an initial (`F.`), initials
/// (`U.S.`), a title, the number of a list (`1.`), or a short word before a number (`Sec. 3`).
fn is_abbreviation(text: &str, line: usize, start: usize, end: usize) -> bool {
    let word = text.get(start..end).unwrap_or("");
    let first_of_line =
        text.get(line..start).is_some_and(|head| head.trim_matches(['*', ' ', '#']).is_empty());
    let number = first_of_line && word.len() <= 3 && word.chars().all(|c| c.is_ascii_digit());
    let roman =
        first_of_line && word.len() <= 4 && word.chars().all(|c| matches!(c, 'i' | 'v' | 'x'));
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let digit_follows = text
        .get(end + 1..)
        .and_then(|rest| rest.chars().find(|c| !c.is_whitespace()))
        .is_some_and(|c| c.is_ascii_digit());
    let short =
        (1..=4).contains(&word.len()) && word.chars().all(char::is_alphabetic) && digit_follows;
    let consonants = word.len() > 1
        && word.chars().all(|c| c.is_ascii_alphabetic() && !"aeiouyAEIOUY".contains(c));
    let initials = !word.is_empty()
        && word.len() <= 8
        && word
            .split('.')
            .all(|part| part.len() == 1 && part.starts_with(|c: char| c.is_ascii_uppercase()));
    number
        || roman
        || short
        || consonants
        || initials
        || ABBREVIATIONS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether a word turns a sentence into something other than a plain statement.
fn is_hedge(word: &str) -> bool {
    const WORDS: List = List(
        "not|never|no|nor|neither|none|without|except|but|however|although|though|or|either\
         |false|incorrect|wrong|unknown|unlike|rather|maybe|perhaps|possibly|probably|actually\
         |cannot|if",
    );
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    WORDS.has(&bare) || bare.ends_with("n't") || bare.ends_with("n’t")
}

/// The words before a comma that opens a relative clause or an apposition.
fn main_clause<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    const OPENERS: List = List(
        "which|who|where|whose|a|an|the|located|situated|also|known|with|reaching|home|making",
    );
    // "William Pitt, the Elder" is another person, so a lower-case word must follow an article.
    let apposition = |opener: &str, at: usize| {
        !matches!(opener, "a" | "an" | "the")
            || words.get(at).is_some_and(|next| next.starts_with(char::is_lowercase))
    };
    let opens = |pair: &[&str], at: usize| match pair {
        [left, opener] => left.ends_with(',') && OPENERS.has(opener) && apposition(opener, at + 2),
        _ => false,
    };
    let cut = words.windows(2).enumerate().position(|(at, pair)| opens(pair, at));
    cut.and_then(|at| words.get(..=at)).unwrap_or(words)
}

fn is_copula(word: &str) -> bool {
    matches!(word, "is" | "are" | "was" | "were")
}

/// The name or value on the right side of `<description> is <X>`.
fn predicate(words: &[&str]) -> Option<Answer> {
    let (left, right) = match words {
        [first, rest @ ..]
            if matches!(first.to_lowercase().replace('’', "'").as_str(), "it's" | "that's") =>
        {
            (None, rest)
        }
        words => {
            let copula = words.iter().rposition(|word| is_copula(word))?;
            (Some(words.get(..copula)?), words.get(copula + 1..)?)
        }
    };
    if !left.is_none_or(is_description) {
        return None;
    }
    let answer = Answer::stated(&right.join(" "))?;
    let value = matches!(answer.kind, AnswerKind::Number | AnswerKind::Date) && right.len() <= 5;
    (value || is_name(right)).then_some(answer)
}

/// Whether the words describe something that can have a name: "the largest planet", "its capital",
/// "it".
fn is_description(words: &[&str]) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    let first = first.to_lowercase();
    let pronoun =
        rest.is_empty() && matches!(first.as_str(), "it" | "this" | "that" | "he" | "she");
    let opener =
        matches!(first.as_str(), "the" | "this" | "that" | "its" | "their" | "his" | "her");
    pronoun
        || (opener
            && rest.iter().any(|word| word.starts_with(char::is_lowercase) && !is_connective(word)))
}

fn is_connective(word: &str) -> bool {
    matches!(
        word,
        "of" | "the"
            | "and"
            | "de"
            | "la"
            | "le"
            | "von"
            | "van"
            | "da"
            | "del"
            | "der"
            | "di"
            | "du"
            | "el"
            | "al"
            | "bin"
            | "do"
            | "dos"
    )
}

fn is_name(words: &[&str]) -> bool {
    let words = match words {
        [first, rest @ ..] if first.eq_ignore_ascii_case("the") => rest,
        words => words,
    };
    let (Some(first), Some(last)) = (words.first(), words.last()) else { return false };
    words.len() <= 7
        && is_proper(first)
        && is_proper(last)
        && words.iter().all(|word| is_proper(word) || is_connective(word))
}

/// Capitalized, a number, or a word of a script without case.
fn is_proper(word: &str) -> bool {
    let start = word.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '$').chars().next();
    start.is_some_and(|c| c == '$' || (c.is_alphanumeric() && !c.is_lowercase()))
        && !is_pronoun(word)
}

fn is_pronoun(word: &str) -> bool {
    matches!(
        word,
        "It" | "This"
            | "That"
            | "He"
            | "She"
            | "They"
            | "There"
            | "I"
            | "We"
            | "You"
            | "A"
            | "An"
            | "Its"
            | "Their"
            | "His"
            | "Her"
    )
}
