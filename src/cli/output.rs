//! Output streams: results go to stdout, everything else to stderr, and no control sequence
//! reaches a terminal.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use super::chart::ChartStyle;
use super::terminal::{self, ColorChoice};
use crate::error::{Error, Result};

/// The two streams and how to write to them.
pub struct Output {
    color: ColorChoice,
    verbose: bool,
    quiet: bool,
    closed: Cell<bool>,
}

impl Output {
    pub fn new(color: ColorChoice, verbose: bool, quiet: bool) -> Self {
        Self { color, verbose, quiet, closed: Cell::new(false) }
    }

    /// Whether stdout was closed by its reader: the command ends quietly then.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether text on stderr is colored.
    pub fn colored(&self) -> bool {
        let var = |name| std::env::var(name).ok();
        self.color.enabled(
            var("NO_COLOR").as_deref(),
            var("TERM").as_deref(),
            io::stderr().is_terminal(),
        )
    }

    /// How charts are drawn on stderr: its terminal's width, and block characters where the locale
    /// has them.
    pub fn chart_style(&self) -> ChartStyle {
        let columns = rustix::termios::tcgetwinsize(io::stderr())
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|&c| c > 0);
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
        let unicode = locale.is_none_or(|l| l.to_lowercase().replace('-', "").contains("utf8"));
        ChartStyle { width: columns.unwrap_or(ChartStyle::default().width).clamp(20, 110), unicode }
    }

    /// Whether a person reads stderr.
    pub fn is_interactive(&self) -> bool {
        io::stderr().is_terminal() && !self.quiet
    }

    /// Prints a result line on stdout. Control sequences are kept only if stdout is not a terminal.
    pub fn answer(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        let written = if stdout.is_terminal() {
            writeln!(stdout, "{}", terminal::sanitize(text))
        } else {
            writeln!(stdout, "{text}")
        };
        written.and_then(|()| stdout.flush()).map_err(|e| self.failed(e))
    }

    /// Bytes for a program: JSON, scripts.
    pub fn raw(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: io::Error) -> Error {
        self.closed.set(error.kind() == io::ErrorKind::BrokenPipe);
        Error::io(Path::new("<stdout>"), error)
    }

    /// Prints a line on stderr. The caller sanitizes untrusted text.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
    }

    /// Prints part of a line on stderr.
    pub fn stream(&self, text: &str) {
        if !self.quiet {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "{}", terminal::sanitize(text)).and_then(|()| stderr.flush());
        }
    }

    /// Prints a line on stderr with --verbose.
    pub fn detail(&self, line: &str) {
        if self.verbose {
            self.note(line);
        }
    }

    /// Prints a warning or an error's text, even with --quiet.
    pub fn warning(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", terminal::sanitize(text));
    }

    pub fn error(&self, error: &Error) {
        self.warning(&format!("error: {error}"));
    }
}
