//! LaTeX as plain text in one spelling.
//!
//! Contract: total and linear; text without LaTeX comes back as it is. `\frac{1}{2}` and `\dfrac12`
//! are `1/2`, `\frac{a+b}{c}` is `(a+b)/c`, `x^{2}` is `x^2`, `\le` and `\leq` are `≤`, `\text{m}`
//! is `m`, rows of a matrix are separated by `;`; delimiters, sizes and spacing vanish. Unknown
//! commands stay with their braces. It knows neither numbers nor words.

use super::fold::THOUSANDS_SEP;
use super::words::List;

/// Commands that are one character in plain text, and that.
const SYMBOLS: List = List(
    "times ×|cdot ·|div ÷|pm ±|le ≤|leq ≤|leqslant ≤|ge ≥|geq ≥|geqslant ≥|lt <|gt >|ne ≠\
     |neq ≠|approx ≈|infty ∞|circ °|degree °|to →|rightarrow →|Rightarrow ⇒|implies ⇒|cup ∪\
     |cap ∩|in ∈|subset ⊂|emptyset ∅|varnothing ∅|ldots …|cdots …|dots …|mid ||prime '\
     |lbrace {|rbrace }|colon :|vert ||lvert ||rvert ||langle ⟨|rangle ⟩|alpha α|beta β\
     |gamma γ|delta δ|epsilon ε|varepsilon ε|theta θ|lambda λ|mu μ|pi π|rho ρ|sigma σ|tau τ\
     |phi φ|varphi φ|omega ω|Delta Δ|Omega Ω|Sigma Σ",
);

/// Commands whose argument is all there is to them.
const WRAPPERS: List = List(
    "text|textbf|textit|textrm|textsc|emph|mathrm|mathbf|mathit|mathsf|mathbb|mathcal|mbox\
     |operatorname|boxed|fbox|underline|boldsymbol|bf|rm|ensuremath|mathord",
);

/// Commands of layout.
const LAYOUT: List = List(
    "left|right|big|Big|bigg|Bigg|bigl|bigr|Bigl|Bigr|middle|displaystyle|textstyle|quad|qquad\
     |limits|hspace|space|thinspace",
);

/// Nested deeper, groups are read as text: recursion stays bounded.
const MAX_DEPTH: usize = 24;

/// Plain text for folded text with LaTeX in it.
pub(super) fn plain(folded: &str) -> String {
    let latex =
        folded.contains('\\') || ["^{", "_{", "{,}"].iter().any(|mark| folded.contains(mark));
    if !latex && !folded.contains('$') {
        return folded.to_owned();
    }
    let chars = without_delimiters(folded);
    if !latex {
        return chars.into_iter().collect();
    }
    let mut reader = Reader { chars: &chars, at: 0 };
    let mut out = String::with_capacity(folded.len());
    reader.sequence(&mut out, None, 0);
    out
}

/// Drops `$` and `$$` around mathematics: the opening one stands before, and the closing one after,
/// something other than a space, and no digit follows the closing one (the rule of pandoc).
fn without_delimiters(text: &str) -> Vec<char> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or(' ');
    let before = |i: usize| i.checked_sub(1).map_or(' ', &at);
    let dollars: Vec<usize> =
        (0..chars.len()).filter(|i| at(*i) == '$' && before(*i) != '\\').collect();
    let mut dropped = vec![false; chars.len()];
    let mut pairs = dollars.windows(2).peekable();
    while let Some(pair) = pairs.next() {
        let [open, close] = *pair else { continue };
        let double = close == open + 1;
        let opens = !at(open + 1).is_whitespace();
        let closes = !before(close).is_whitespace() && !at(close + 1).is_ascii_digit();
        if double || (opens && closes) {
            for place in [open, close] {
                if let Some(flag) = dropped.get_mut(place) {
                    *flag = true;
                }
            }
            pairs.next();
        }
    }
    chars.into_iter().zip(dropped).filter(|(_, dropped)| !dropped).map(|(c, _)| c).collect()
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Writes up to the closing brace of a group, or all; `rows` is what separates the rows of the
    /// matrix around, if there is one.
    fn sequence(&mut self, out: &mut String, rows: Option<&str>, depth: usize) {
        while let Some(c) = self.peek(0) {
            match c {
                '}' if depth > 0 => return,
                '\\' => {
                    if !self.command(out, rows, depth) {
                        return;
                    }
                }
                '{' if self.peek(1) == Some(',') && self.peek(2) == Some('}') => {
                    out.push(',');
                    self.at += 3;
                }
                '{' => {
                    let group = self.group(depth);
                    out.push_str(&group);
                }
                '^' | '_' => {
                    self.at += 1;
                    self.script(c, out, depth);
                }
                '&' if rows.is_some() => {
                    out.push(',');
                    self.at += 1;
                }
                c => {
                    out.push(c);
                    self.at += 1;
                }
            }
        }
    }

    /// The plain text of the group at `{`, without its braces.
    fn group(&mut self, depth: usize) -> String {
        self.at += 1;
        let mut inner = String::new();
        if depth >= MAX_DEPTH {
            return inner;
        }
        self.sequence(&mut inner, None, depth + 1);
        if self.peek(0) == Some('}') {
            self.at += 1;
        }
        inner
    }

    /// An exponent or index: braces go, more than one token gets brackets.
    fn script(&mut self, mark: char, out: &mut String, depth: usize) {
        let command = if self.peek(0) == Some('\\') { self.word(1) } else { String::new() };
        if let Some((_, symbol)) =
            [("circ", '°'), ("prime", '\'')].iter().find(|(name, _)| *name == command)
        {
            self.at += 1 + command.len();
            out.push(*symbol);
            return;
        }
        let argument = if self.peek(0) == Some('{') {
            let argument = self.group(depth);
            atom_or_brackets(argument.trim())
        } else {
            String::new()
        };
        match argument.as_str() {
            "°" => out.push('°'),
            "'" => out.push('\''),
            argument => {
                out.push(mark);
                out.push_str(argument);
            }
        }
    }

    fn word(&self, ahead: usize) -> String {
        let letters = self.chars.get(self.at + ahead..).unwrap_or_default().iter();
        letters.take(16).take_while(|c| c.is_ascii_alphabetic()).collect()
    }

    /// Writes the command at the backslash; false at the end of the environment.
    fn command(&mut self, out: &mut String, rows: Option<&str>, depth: usize) -> bool {
        let name = self.word(1);
        if name.is_empty() {
            self.escape(out, rows);
            return true;
        }
        self.at += 1 + name.len();
        let symbol = SYMBOLS.iter().filter_map(|pair| pair.split_once(' '));
        if let Some((_, symbol)) = symbol.into_iter().find(|(command, _)| *command == name) {
            out.push_str(symbol);
        } else if WRAPPERS.has(&name) {
            if self.peek(0) == Some('{') {
                let group = self.group(depth);
                out.push_str(&group);
            }
        } else if !LAYOUT.has(&name) {
            match name.as_str() {
                "frac" | "dfrac" | "tfrac" | "cfrac" => self.fraction(out, depth),
                "sqrt" => self.root(out, depth),
                "begin" => self.environment(out, depth),
                "end" if rows.is_some() => return false,
                _ => {
                    out.push('\\');
                    out.push_str(&name);
                    while self.peek(0) == Some('{') && depth < MAX_DEPTH {
                        let group = self.group(depth);
                        out.push('{');
                        out.push_str(&group);
                        out.push('}');
                    }
                }
            }
        }
        true
    }

    fn escape(&mut self, out: &mut String, rows: Option<&str>) {
        let digits = out.ends_with(|c: char| c.is_ascii_digit())
            && self.peek(2).is_some_and(|c| c.is_ascii_digit());
        match self.peek(1) {
            Some('\\') => out.push_str(rows.unwrap_or(" ")),
            Some(',') if digits => out.push(THOUSANDS_SEP),
            Some('!') => {}
            Some(',' | ';' | ':' | ' ' | '\n' | '(' | ')' | '[' | ']') => out.push(' '),
            Some(c) if c.is_ascii_punctuation() => out.push(c),
            Some(_) | None => {
                out.push('\\');
                self.at += 1;
                return;
            }
        }
        self.at += 2;
    }

    /// One argument: a group, a command, or one character.
    fn argument(&mut self, depth: usize) -> String {
        while self.peek(0) == Some(' ') {
            self.at += 1;
        }
        match self.peek(0) {
            Some('{') => self.group(depth).trim().to_owned(),
            Some('\\') if depth < MAX_DEPTH => {
                let mut out = String::new();
                self.command(&mut out, None, depth + 1);
                out.trim().to_owned()
            }
            Some('}') | None => String::new(),
            Some(c) => {
                self.at += 1;
                c.to_string()
            }
        }
    }

    fn fraction(&mut self, out: &mut String, depth: usize) {
        let (top, bottom) = (self.argument(depth), self.argument(depth));
        let numeric = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
        };
        let sign = if top.starts_with('-') { "-" } else { "" };
        let top = top.strip_prefix('-').unwrap_or(&top);
        // A product needs brackets only below the bar.
        let product = !top.is_empty() && top.chars().all(|c| c.is_alphanumeric() || c == '√');
        let top = if product { top.to_owned() } else { atom_or_brackets(top) };
        let fraction = format!("{sign}{top}/{}", atom_or_brackets(&bottom));
        match out.chars().next_back() {
            Some(c) if c.is_ascii_digit() && numeric(&top) && sign.is_empty() => {
                out.push(' ');
                out.push_str(&fraction);
            }
            Some(c) if c.is_alphanumeric() || matches!(c, '^' | '_' | '√' | ')') => {
                out.push('(');
                out.push_str(&fraction);
                out.push(')');
            }
            _ => out.push_str(&fraction),
        }
    }

    fn root(&mut self, out: &mut String, depth: usize) {
        out.push('√');
        if self.peek(0) == Some('[') {
            let end = (1..8).find(|i| self.peek(*i) == Some(']')).unwrap_or(0);
            out.extend(self.chars.get(self.at..=self.at + end).unwrap_or_default());
            self.at += end + 1;
        }
        if self.peek(0).is_some_and(|c| c.is_ascii_digit()) {
            return;
        }
        let argument = self.argument(depth);
        out.push_str(&atom_or_brackets(&argument));
    }

    /// A matrix in the brackets of its kind, or the name of another environment before its content.
    fn environment(&mut self, out: &mut String, depth: usize) {
        let name = if self.peek(0) == Some('{') { self.group(depth) } else { String::new() };
        let (open, close) = match name.trim_end_matches('*') {
            "pmatrix" | "smallmatrix" => ("(", ")"),
            "bmatrix" | "matrix" | "array" => ("[", "]"),
            "vmatrix" => ("|", "|"),
            "cases" => ("{", "}"),
            _ => ("", ""),
        };
        if depth >= MAX_DEPTH {
            return;
        }
        if name == "array" && self.peek(0) == Some('{') {
            self.group(depth);
        }
        out.push_str(open);
        self.sequence(out, Some(";"), depth + 1);
        if self.peek(0) == Some('{') {
            self.group(depth);
        }
        out.push_str(close);
    }
}

/// A number, a letter or a root alone, anything else in brackets.
fn atom_or_brackets(text: &str) -> String {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    // With the sign of a charge behind it.
    let digits = body.strip_suffix(['-', '+']).unwrap_or(body);
    let number = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let root = body.strip_prefix('√').is_some_and(|under| {
        under.chars().count() == 1 || under.chars().all(|c| c.is_ascii_digit())
    });
    let whole = body.starts_with('(') && body.ends_with(')') && body.matches('(').count() == 1;
    if number || root || whole || body.chars().count() == 1 {
        text.to_owned()
    } else {
        format!("({text})")
    }
}
