//! Progress of downloads and of runs: a bar on a terminal, else a line per ten percent.

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

/// Draws how many of a number of steps are done.
pub struct Steps<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    what: String,
    total: u64,
    tenths: u64,
}

impl<'a> Steps<'a> {
    /// Begins with `done` of `total` steps, which say nothing about speed.
    pub fn new(output: &'a Output, what: &str, done: u64, total: u64) -> Self {
        let what = terminal::sanitize(what).into_owned();
        let bar = output.is_interactive().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed}, {eta} to go") {
                bar.set_style(style);
            }
            bar.set_message(what.clone());
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        Self { output, bar, what, total, tenths: done.saturating_mul(10) / total.max(1) }
    }

    /// `done` steps are done.
    pub fn update(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let tenths = done.saturating_mul(10) / self.total.max(1);
        if tenths > self.tenths {
            self.tenths = tenths;
            self.output.note(&format!("{}: {} % ({done} of {})", self.what, tenths * 10, self.total));
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
