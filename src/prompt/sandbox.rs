//! Makes a template's source safe for the template engine before it is compiled.
//!
//! The engine limits nesting, fuel and recursion, but three things would still overflow its stack
//! and end the process: chains of operators (`not not not x`, `x + x + x`), chains of `elif`, and
//! values that a namespace nests into itself (`set ns.a = [ns.a]` in a loop, or `set ns.a = ns`).
//! The first two are rejected by counting; for the third every assignment to a namespace is passed
//! through [`PLAIN`], which copies values of bounded depth. Hugging Face's `generation` tags become
//! blocks that are always taken.
//!
//! The scanner finds the end of a tag as the engine's lexer does. It has no grammar.

/// Name of the function and filter that copies a value for a namespace.
pub(super) const PLAIN: &str = "__plain";
/// The largest number of words and signs in one tag: half of what overflows a 1 MB stack in an
/// unoptimized build.
const MAX_LEXEMES: usize = 1000;
/// The largest number of `elif` in a template: half of what overflows a 1 MB stack in an
/// unoptimized build.
const MAX_ELIF: usize = 250;

/// Prepares `source`.
///
/// # Errors
/// The reason, if it is too deep.
pub(super) fn prepare(source: &str) -> Result<String, String> {
    let mut scanner = Scanner {
        source,
        at: 0,
        balance: 0,
        prepared: String::with_capacity(source.len()),
        elifs: 0,
    };
    while let Some(open) = scanner.next_tag() {
        match open {
            '#' => scanner.skip_past("#}"),
            '%' if scanner.is_basic_tag(scanner.at, "raw").is_some() => scanner.skip_raw(),
            _ => scanner.tag(open)?,
        }
    }
    Ok(scanner.prepared)
}

struct Scanner<'a> {
    source: &'a str,
    at: usize,
    /// Open brackets. As in the engine's lexer, this is not reset at the end of a tag.
    balance: isize,
    prepared: String,
    elifs: usize,
}

/// One word, string or sign of a tag.
#[derive(Clone, Copy)]
struct Lexeme<'a> {
    text: &'a str,
    /// Its end in the source.
    end: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.from(self.at)
    }

    fn from(&self, at: usize) -> &'a str {
        self.source.get(at..).unwrap_or_default()
    }

    /// Copies the source up to `end` and continues from there.
    fn copy_to(&mut self, end: usize) {
        self.prepared.push_str(self.source.get(self.at..end).unwrap_or_default());
        self.at = end;
    }

    /// Copies through the next opening (`{{`, `{%`, `{#` and a white-space sign) and returns its
    /// second character.
    fn next_tag(&mut self) -> Option<char> {
        let opening = |(at, _): (usize, &str)| {
            let kind = self.from(self.at + at + 1).chars().next().filter(|c| "{%#".contains(*c))?;
            Some((self.at + at + 2, kind))
        };
        let Some((end, kind)) = self.rest().match_indices('{').find_map(opening) else {
            self.copy_to(self.source.len());
            return None;
        };
        let sign = usize::from(self.from(end).starts_with(['-', '+']));
        self.copy_to(end + sign);
        Some(kind)
    }

    fn skip_past(&mut self, close: &str) {
        let end =
            self.rest().find(close).map_or(self.source.len(), |end| self.at + end + close.len());
        self.copy_to(end);
    }

    /// The end of the tag, if from `at` on it is only `name`.
    fn is_basic_tag(&self, at: usize, name: &str) -> Option<usize> {
        let rest = self.from(at).trim_ascii_start().strip_prefix(name)?.trim_ascii_start();
        let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")?;
        Some(self.source.len() - rest.len())
    }

    fn skip_raw(&mut self) {
        let end_of = |(at, _): (usize, &str)| {
            let inside = self.at + at + 2;
            let sign = usize::from(self.from(inside).starts_with(['-', '+']));
            self.is_basic_tag(inside + sign, "endraw")
        };
        let end = self.rest().match_indices("{%").find_map(end_of).unwrap_or(self.source.len());
        self.copy_to(end);
    }

    /// Reads the tag's lexemes, counts them, and writes the tag, changed if necessary.
    fn tag(&mut self, open: char) -> Result<(), String> {
        let close = if open == '{' { "}}" } else { "%}" };
        let mut lexemes: Vec<Lexeme<'a>> = Vec::new();
        let mut cursor = self.at;
        let end = loop {
            cursor = self.source.len() - self.from(cursor).trim_ascii_start().len();
            let rest = self.from(cursor);
            if rest.is_empty()
                || (self.balance == 0
                    && rest.strip_prefix(['-', '+']).unwrap_or(rest).starts_with(close))
            {
                break cursor;
            }
            let text = rest.get(..lexeme_len(rest)).unwrap_or_default();
            match text {
                "(" | "[" | "{" => self.balance += 1,
                ")" | "]" | "}" => self.balance -= 1,
                _ => {}
            }
            cursor += text.len();
            lexemes.push(Lexeme { text, end: cursor });
            if lexemes.len() > MAX_LEXEMES {
                return Err(format!(
                    "line {}: a tag has more than {MAX_LEXEMES} words and signs",
                    self.line()
                ));
            }
        };
        self.write(open, &lexemes, end)?;
        // The white-space sign and the closing belong to the tag, so no opening is read from them.
        let sign = usize::from(self.rest().starts_with(['-', '+']));
        self.copy_to((end + sign + close.len()).min(self.source.len()));
        Ok(())
    }

    fn write(&mut self, open: char, lexemes: &[Lexeme<'a>], end: usize) -> Result<(), String> {
        let Some(first) = lexemes.first().filter(|_| open == '%') else {
            self.copy_to(end);
            return Ok(());
        };
        match first.text {
            "generation" | "endgeneration" if lexemes.len() == 1 => {
                self.prepared.push_str(if first.text == "generation" {
                    " if true "
                } else {
                    " endif "
                });
                self.at = end;
            }
            "set" => self.write_set(lexemes, end),
            "elif" => {
                self.elifs += 1;
                if self.elifs > MAX_ELIF {
                    return Err(format!("line {}: it has more than {MAX_ELIF} elif", self.line()));
                }
                self.copy_to(end);
            }
            _ => self.copy_to(end),
        }
        Ok(())
    }

    /// `set ns.a = value` becomes `set ns.a = __plain((value))`; `set ns.a | filter` gets `__plain`
    /// as its last filter.
    fn write_set(&mut self, lexemes: &[Lexeme<'a>], end: usize) {
        let target = lexemes
            .iter()
            .position(|lexeme| matches!(lexeme.text, "=" | "|"))
            .unwrap_or(lexemes.len());
        let (target, value) = lexemes.split_at(target);
        match value.first() {
            Some(sign) if target.iter().any(|lexeme| lexeme.text == ".") => {
                let assigned = sign.text == "=";
                self.copy_to(sign.end);
                let (before, after) = if assigned {
                    (format!("{PLAIN}(("), "))".to_owned())
                } else {
                    (String::new(), format!("| {PLAIN}"))
                };
                self.prepared.push_str(&before);
                self.copy_to(end);
                self.prepared.push_str(&after);
            }
            _ => self.copy_to(end),
        }
    }

    fn line(&self) -> usize {
        1 + self.source.get(..self.at).unwrap_or_default().matches('\n').count()
    }
}

/// The length of the string, word or sign that `text` begins with.
fn lexeme_len(text: &str) -> usize {
    let first = text.chars().next().unwrap_or_default();
    if first == '\'' || first == '"' {
        let mut escaped = false;
        let close = text.char_indices().skip(1).find(|&(_, c)| {
            let closes = c == first && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        return close.map_or(text.len(), |(at, c)| at + c.len_utf8());
    }
    let word = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    match text.get(..2) {
        _ if word > 0 => word,
        Some("//" | "**" | "==" | "!=" | ">=" | "<=") => 2,
        _ => first.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_change_changes() {
        let check = |source: &str, expected: &str| {
            assert_eq!(prepare(source).as_deref(), Ok(expected), "{source}");
        };
        let same = |source: &str| check(source, source);
        same("");
        same("a { b } {{ x }} {%- if x -%} y {% endif %}");
        same("{{ {'a': {'b': 1}} }}{{ '}} {% set a.b = 1 %}' }}{% set x = 'a.b = 1' %}");
        same("{# {{ ' #}{% raw %}{% set a.b = 1 %}{{ '{% endraw %}{{ x }}");
        same("{{ unclosed");
        same("{% set x = a.b %}{{ \"it's\" ~ 'a\\'}}' }}");
        same("{{%}}{%{{%}{#}#}{");
        check("{%- set ns.a = [1, 2] -%}", "{%- set ns.a =__plain(( [1, 2] ))-%}");
        check("{% set (a.b, c) = 1, 2 %}", "{% set (a.b, c) =__plain(( 1, 2 ))%}");
        check("{% set ns.a %}x{% endset %}", "{% set ns.a %}x{% endset %}");
        check("{% set ns.a | upper %}", "{% set ns.a | upper | __plain%}");
        check("{# ' #}{% set ns.a = '%}' %}", "{# ' #}{% set ns.a =__plain(( '%}' ))%}");
        check("a{%- generation +%}b{% endgeneration %}", "a{%- if true +%}b{% endif %}");
    }

    #[test]
    fn chains_are_counted() {
        let check = |source: &str, expected: &str| {
            let reason = prepare(source).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        };
        check(
            &format!("\n{{{{ {}x }}}}", "not ".repeat(MAX_LEXEMES)),
            "line 2: a tag has more than 1000",
        );
        check(&format!("{{# ' #}}{{{{ x{} }}}}", "+x".repeat(MAX_LEXEMES)), "more than 1000");
        check(&format!("{{{{ '}}}}'{} }}}}", "+'}}'".repeat(MAX_LEXEMES)), "more than 1000");
        check(&format!("{{{{ {{}}{} }}}}", "+{}".repeat(MAX_LEXEMES)), "more than 1000");
        check(&"{% elif x %}".repeat(MAX_ELIF + 1), "more than 250 elif");
        assert!(prepare(&"{{ a + b }}".repeat(MAX_LEXEMES)).is_ok());
    }
}
