//! Progress of downloads: a bar on a terminal, else a line per ten percent.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;
use super::terminal;
use crate::hub::Progress;

/// Draws what the hub reports.
pub struct Bars<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    what: String,
    total: Option<u64>,
    tenths: u64,
}

impl<'a> Bars<'a> {
    pub fn new(output: &'a Output) -> Self {
        Self { output, bar: None, what: String::new(), total: None, tenths: 0 }
    }
}

impl Progress for Bars<'_> {
    fn start(&mut self, what: &str, total: Option<u64>) {
        self.what = terminal::sanitize(what).into_owned();
        (self.total, self.tenths) = (total, 0);
        if !self.output.is_interactive() {
            return;
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {bytes} {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(self.what.clone());
        self.bar = Some(bar);
    }

    fn update(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let Some(total) = self.total.filter(|total| *total > 0) else { return };
        let tenths = done.saturating_mul(10) / total;
        if tenths > self.tenths {
            self.tenths = tenths;
            self.output.note(&format!("{}: {} %", self.what, tenths * 10));
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn notice(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.note(&terminal::sanitize(line))),
            None => self.output.note(&terminal::sanitize(line)),
        }
    }
}
