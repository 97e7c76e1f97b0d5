//! Detection of completions that say that the model does not know, or will not answer.
//!
//! Contract: total and linear. A statement is built from parts: openings ("sorry", "as an AI"), a
//! subject, a negated verb of knowing or of helping ("do not know", "cannot provide"), or a word
//! such as "unknown" alone, in several languages. A hedge around an answer is an answer: "I don't
//! know, but it may be Paris", and so is a title in quotes that a sentence is about. Such a
//! statement is a vote, not a measure of what the model knows.

use super::announced::announcements;
use super::words::List;

/// The canonical form of an abstention.
pub const ABSTENTION: &str = "i dont know";

/// Longer texts, in bytes, are not abstentions.
const MAX_BYTES: usize = 600;

/// Words and phrases that may come before and between the parts, in plain form.
const OPENINGS: List = List(
    "i apologize|i am sorry|im sorry|sorry|unfortunately|well|but|hmm|apologies|honestly\
     |to be honest|im afraid|i am afraid|as an ai language model|as an ai assistant\
     |as an ai model|as an ai|as a language model|as a large language model|as of now\
     |at this time|the answer is|the answer to this question is|leider|es tut mir leid\
     |tut mir leid|désolé|je suis désolé|lo siento|mi dispiace|desculpe|sinto muito|helaas\
     |извините|к сожалению|malheureusement|lamentablemente|however|and|for that|that\
     |based on the given information|based on the information provided\
     |from the given information|pero|mais|aber|ma|mas|no,|frankly",
);

/// Words that add nothing.
const FILLERS: List = List(
    "theres|its|i|we|really|just|simply|actually|currently|personally|truly|still|quite\
     |sincerely|too|it|there|also|ich|es|das|wir|je|yo|lo|io|eu|ik|het|я|мы|этого|honestly\
     |completely|entirely|absolutely|very|at|all|the|a|an|any|this|that|of|to|is|are|be|been\
     |here|definitively|accurately|answer|question|exactly|sure|directly|reliably|le|la|nicht_",
);

/// What follows openings and fillers: negated verbs that need nothing behind them.
const CORES: List = List(
    "wouldnt know|would not know|hard to say|who knows|dont possess|do not possess|beats me\
     |nobody knows|no one knows|noone knows|no way|must decline|decline|refuse to answer\
     |rather not|dont think i can|beyond my knowledge|outside my knowledge|lack the|lack\
     |dont know|do not know|not know|did not know|dont remember|do not remember|dont recall\
     |do not recall|cannot recall|cant recall|dont understand|do not understand|idk|dunno\
     |no idea|no clue|have no idea|have no clue|have no knowledge|have no information\
     |have no way|have no data|dont have|do not have|not sure|not certain|not confident|am not\
     |im not|unsure|am unsure|im unsure|uncertain|am uncertain|im uncertain|not enough\
     |not sufficient|insufficient information|insufficient data|insufficient context\
     |no information|no data|not possible|impossible|not known|not specified|not stated\
     |not given|not provided|not mentioned|not available|not applicable|not determinable\
     |not answerable|unable|am unable|im unable|not able|weiß nicht|weiss nicht\
     |weiß leider nicht|keine ahnung|habe keine|kann nicht beantworten|kann nicht sagen\
     |kann nicht helfen|kann leider nicht|kann frage nicht|kann diese frage nicht|kann dir nicht\
     |kann ihnen nicht|kann dabei nicht|nicht bekannt|bin nicht sicher|bin mir nicht sicher\
     |unklar|ne sais pas|sais pas|lignore|ignore|nai aucune|aucune idée|ne peux pas\
     |ne suis pas sûr|ne suis pas certain|no sé|no se sabe|no tengo|no puedo|no estoy seguro\
     |non so|non lo so|non posso|non ho|non sono sicuro|não sei|não posso|não tenho|weet niet\
     |geen idee|kan niet|kan vraag niet|не знаю|не могу|не уверен|понятия не имею|ne vem\
     |nie wiem|nevím|vet inte|bilmiyorum|tidak tahu|không biết|tôi không biết",
);

/// What "cannot" must be followed by, since "cannot help but" and the like are others.
const REFUSED: List = List(
    "answer|provide|help|assist|determine|say|tell|give|verify|confirm|comply|fulfill|identify\
     |know|find|share|discuss|access|offer|solve|respond|recall|determined|known|answered|found\
     |said|calculated|computed|concluded|inferred|deduced|established|verified|predict|browse\
     |engage|fulfil|do|complete|support|create|generate|be|make|definitively|speculate|look\
     |guess|figure|infer|calculate|compute",
);
const NEGATED: List = List(
    "cannot|cant|can not|could not|couldnt|wont|will not|am not able to|im not able to|unable to\
     |am unable to|im unable to|not able to",
);

/// Words that say it alone.
const ALONE: List = List(
    "unknown|n a|none of the information|undetermined|indeterminate|unanswerable|undeterminable\
     |not applicable|unbekannt|inconnu|inconnue|desconocido|desconocida|sconosciuto|desconhecido\
     |onbekend|неизвестно|no answer|insufficient information|no comment|unspecified\
     |not available|keine antwort|keine angabe|impossible to know",
);

/// Statements of scripts without spaces.
const UNSPACED: List = List(
    "不知道|不清楚|不确定|不確定|无法确定|無法確定|无法回答|無法回答|不能回答|无法提供|無法提供|未知|没有足够的信息|わかりません|分かりません|わからない|分からない\
     |知りません|知らない|不明|答えられません|お答えできません|모르겠|모릅니다|몰라요|몰라|알 수 없|알수없|답변할 수 없|ไม่ทราบ|ไม่รู้|لا أعرف\
     |لا أعلم|غير معروف|לא יודע|मुझे नहीं पता|मुझे नहीं मालूम|জানি না",
);

/// Words that introduce an answer after all.
const HEDGES: List = List(
    "but|however|though|although|think|guess|believe|assume|suppose|probably|perhaps|maybe\
     |likely|might|could|best|aber|vielleicht|mais|peut|pero|quizás|ma|forse|mas|talvez|но\
     |возможно",
);

/// Openings of sentences that may follow a refusal.
const OFFERS: List = List(
    "if|please|could|can|would|is|let|feel|for|you|my|it|this|that|the|i|im|however|but|perhaps\
     |maybe|thank|there|more|we|sorry|as|any|do|unfortunately",
);

/// Whether the text says that the model does not know.
pub(super) fn is_abstention(text: &str) -> bool {
    if text.len() > 4 * MAX_BYTES {
        return false;
    }
    if let Some(last) = announcements(text).pop() {
        return is_statement(&last.span);
    }
    is_statement(text)
}

fn is_statement(text: &str) -> bool {
    let text = text.trim();
    if text.len() > MAX_BYTES || text.is_empty() {
        return false;
    }
    let (first, rest) = sentences(text);
    let plain = plain(first);
    let mut alone = plain.as_str();
    while let Some((first, rest)) = alone.split_once(' ')
        && matches!(
            first,
            "its" | "it" | "is" | "this" | "that" | "currently" | "still" | "das" | "ist"
        )
    {
        alone = rest;
    }
    if ALONE.has(alone) && rest.trim().is_empty() {
        return true;
    }
    if unspaced(text) {
        return true;
    }
    if title_in_quotes(text) {
        return false;
    }
    let mut words = plain.as_str();
    let opened = without_openings(words);
    // An opening alone: "I'm sorry. I can't help with that."
    if opened.is_empty() && plain.len() > 3 && !rest.trim().is_empty() && plain != "the answer is" {
        return is_statement(rest);
    }
    words = opened;
    // German and the Romance languages put their pronouns within the verb.
    let joined: Vec<&str> = words
        .split(' ')
        .filter(|word| {
            !matches!(
                *word,
                "es" | "das"
                    | "ich"
                    | "wir"
                    | "het"
                    | "leider"
                    | "lo"
                    | "le"
                    | "la"
                    | "dir"
                    | "ihnen"
                    | "diese"
                    | "wirklich"
            )
        })
        .collect();
    let joined = joined.join(" ");
    let Some(after) = core(words).or_else(|| core(&joined)).or_else(|| passive(words)) else {
        return false;
    };
    if after.split(' ').any(|word| HEDGES.has(word)) && !is_contrast_of_offer(after) {
        return false;
    }
    // "I don't know is a song."
    let about = after
        .split(' ')
        .next()
        .is_some_and(|word| matches!(word, "is" | "was" | "by" | "means" | "means_"));
    !about && offers_only(rest)
}

fn is_contrast_of_offer(after: &str) -> bool {
    [" but i can ", " but i could help", " but i would be happy", " but feel free"]
        .iter()
        .any(|offer| after.contains(offer))
}

/// The first sentence, and the rest.
fn sentences(text: &str) -> (&str, &str) {
    let end = text
        .char_indices()
        .find(|(at, c)| {
            let next = text.get(at + c.len_utf8()..).and_then(|rest| rest.chars().next());
            matches!(c, '.' | '!' | '?' | '\n' | ';' | ':')
                && next.is_none_or(char::is_whitespace)
                && *at > 0
        })
        .map_or(text.len(), |(at, c)| at + c.len_utf8());
    (text.get(..end).unwrap_or(text), text.get(end..).unwrap_or_default())
}

/// Lower case, without punctuation and quotes.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            '\'' | '’' | '‘' | '"' | '“' | '”' | '*' | '`' => {}
            c if c.is_alphanumeric() => out.push(c),
            _ => out.push(' '),
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn after_words<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(words)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(' ') }
}

fn without_openings(mut words: &str) -> &str {
    while let Some(after) = OPENINGS
        .iter()
        .filter_map(|opening| after_words(words, opening))
        .min_by_key(|rest| rest.len())
    {
        words = after;
    }
    words
}

/// What follows a statement of not knowing or not helping.
fn core(words: &str) -> Option<&str> {
    let mut rest = words;
    for _ in 0..8 {
        for negated in NEGATED.iter() {
            if let Some(verb) = after_words(rest, negated) {
                let verb = skip_fillers(verb);
                let found =
                    REFUSED.iter().find_map(|refused| Some((refused, after_words(verb, refused)?)));
                if let Some((refused, after)) = found {
                    // "Can't help falling in love", "cannot be Paris".
                    let object = |list: &'static str| {
                        let mut words = List(list).iter();
                        after.is_empty() || words.any(|word| after_words(after, word).is_some())
                    };
                    return match refused {
                        "help" => object("with|you|that|this|on").then_some(after),
                        "do" | "make" | "say" | "tell" | "look" => object("that|this|for|with|you|what|whether|if|it|how|so|which|who|when|where|why|certain|up|a|the")
                        .then_some(after),
                        "be" => {
                            let verb = skip_fillers(after);
                            REFUSED.iter().find_map(|refused| after_words(verb, refused))
                        }
                        _ => Some(after),
                    };
                }
            }
        }
        let found = CORES
            .iter()
            .filter_map(|core| Some((core, after_words(rest, core)?)))
            .min_by_key(|(_, rest)| rest.len());
        if let Some((core, after)) = found {
            return needs_object(core, after).then_some(after);
        }
        let (first, tail) = rest.split_once(' ')?;
        if !FILLERS.has(first) {
            return None;
        }
        rest = tail;
    }
    None
}

/// Verbs that deny knowing only with the right object.
fn needs_object(core: &str, after: &str) -> bool {
    let mut words = after.split(' ').take(10);
    let mut has = |list: &'static str| words.any(|word| List(list).has(word));
    let nothing = after.is_empty();
    match core {
        "dont have" | "do not have" | "no tengo" | "habe keine" | "non ho" | "não tenho"
        | "nai aucune" | "have no way" => has(
            "information|info|access|knowledge|data|answer|details|idea|context|enough|sufficient|ability|capability|clue|knowing|idea|información|acceso|ahnung|informationen|informazioni|informação|informações|information|idée|respuesta|antwort|browsing|memory",
        ),
        "am not" | "im not" if after.contains(|c: char| c.is_ascii_digit()) => false,
        "am not" | "im not" => has("sure|certain|confident|aware|able|familiar|knowledgeable"),
        "not enough" | "not sufficient" | "no information" | "no data" => {
            nothing
                || has(
                    "information|info|data|context|details|evidence|available|provided|given|about|on|to",
                )
        }
        "not possible" | "impossible" => has(
            "determine|say|know|tell|answer|identify|calculate|determiner|déterminer|conclude|find|saber|dire",
        ),
        "unable" | "am unable" | "im unable" | "not able" => has(REFUSED.0),
        "ignore" => nothing,
        "no way" => has("know|knowing|tell|determine|say"),
        "lack" | "lack the" => has("information|knowledge|data|context|access|ability"),
        "decline" | "rather not" => has("answer|say|respond|comment"),
        // "I'm not sure about the year, it was 1990."
        "not sure" | "not certain" => !after.contains(|c: char| c.is_ascii_digit()),
        "not given" | "not available" | "not stated" | "not provided" | "not mentioned"
        | "not specified" | "not known" => {
            (nothing && core != "not given") || has("in|by|for|enough|information|here|the")
        }
        "ne peux pas" | "no puedo" | "non posso" | "não posso" | "не могу" | "kan niet"
        | "kann leider nicht" => {
            nothing
                || has(
                    "répondre|aider|dire|fournir|déterminer|responder|ayudar|proporcionar|decir|determinar|ayudarte|rispondere|aiutare|aiutarti|fornire|ajudar|fornecer|dizer|ответить|помочь|сказать|определить|предоставить|antwoorden|helpen|beantworten|helfen|sagen|bestimmen|zeggen|répondre|vous|beantwoorden|с",
                )
        }
        _ => true,
    }
}

fn skip_fillers(mut words: &str) -> &str {
    while let Some((first, rest)) = words.split_once(' ') {
        if !matches!(
            first,
            "really"
                | "just"
                | "actually"
                | "accurately"
                | "definitively"
                | "reliably"
                | "currently"
                | "directly"
                | "possibly"
                | "to"
                | "be"
                | "confidently"
        ) {
            break;
        }
        words = rest;
    }
    words
}

/// "The passage does not say", "The answer is not mentioned in the text".
fn passive(words: &str) -> Option<&str> {
    let subject = List("passage|text|question|answer|context|information|article|problem|document");
    let list: Vec<&str> = words.split(' ').take(9).collect();
    // "The author is unknown."
    let ends = List("is unknown|is not known|remains unknown|is not specified|is not mentioned");
    let described = words
        .split(' ')
        .next()
        .is_some_and(|first| matches!(first, "the" | "its" | "his" | "her" | "this"));
    let missing = List("not available|not found|not provided|not specified");
    let short = words.split(' ').count() <= 4;
    if short && missing.iter().any(|end| words.ends_with(end)) {
        return Some("");
    }
    if described && ends.iter().any(|end| words.ends_with(end)) {
        return Some("");
    }
    let at = list.iter().position(|word| subject.has(word)).filter(|at| *at <= 2)?;
    let rest = list.get(at + 1..)?.join(" ");
    let verbs = List(
        "does not say|does not mention|does not provide|does not specify|does not state|doesnt say|doesnt mention|doesnt provide|doesnt specify|doesnt state|does not contain|doesnt contain|does not give|doesnt give|is not provided|is not given|is not mentioned|is not specified|is not stated|is unknown|is not known|cannot be determined|cant be determined|cannot be answered|cannot be found|is not available|is not in|is unclear|is not clear|is not enough|is insufficient|is not answerable|is unanswerable|is not possible|needed is not|required is not",
    );
    verbs.iter().any(|verb| after_words(&rest, verb).is_some()).then_some("")
}

/// A title in quotes that something is said about.
fn title_in_quotes(text: &str) -> bool {
    let quote = |c: char| matches!(c, '"' | '“' | '”' | '«' | '»');
    let Some(inner) = text.strip_prefix(quote) else { return false };
    let Some(end) = inner.find(quote) else { return false };
    inner.get(end..).is_some_and(|rest| rest.contains(char::is_alphanumeric))
}

/// A short statement of a script without spaces, without a contrast behind it.
fn unspaced(text: &str) -> bool {
    let found =
        UNSPACED.iter().find_map(|phrase| text.find(phrase).map(|at| (at, at + phrase.len())));
    let Some((start, end)) = found else { return false };
    let (head, tail) = (text.get(..start).unwrap_or_default(), text.get(end..).unwrap_or_default());
    let contrast = List("但|可能|しかし|ですが|かもしれ|하지만|아마|แต่|而是|لكن|लेकिन|是");
    head.chars().count() <= 24
        && tail.chars().count() <= 30
        && !contrast.iter().any(|word| tail.contains(word))
        && !text.contains(['"', '「', '《', '『'])
}

/// Whether the sentences after a refusal offer help or explain, and hold no answer.
fn offers_only(rest: &str) -> bool {
    let mut sentences =
        rest.split(['.', '!', '?', '\n']).map(plain).filter(|sentence| !sentence.is_empty());
    sentences.all(|sentence| {
        let opened = without_openings(&sentence);
        let first = sentence.split(' ').next().unwrap_or_default();
        let answers = sentence.contains("answer is")
            || after_words(&sentence, "it is").is_some()
            || sentence.contains("my guess");
        let again = core(opened).is_some() || opened.is_empty();
        again || (OFFERS.has(first) && !answers && sentence.split(' ').count() > 2)
    })
}
