//! Progress of downloads and of runs: a bar on a terminal, else a line per ten percent.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;
use super::terminal;
use crate::engine::TokenEvent;
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
    /// When it began, and with how many steps done.
    began: (Instant, u64),
}

impl<'a> Steps<'a> {
    /// Starts with `done` of `total` steps, which do not count for the speed.
    pub fn new(output: &'a Output, what: &str, done: u64, total: u64) -> Self {
        let what = terminal::sanitize(what).into_owned();
        let bar = output.is_interactive().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(
                "{msg} {bar:30} {pos}/{len} {per_sec}, {elapsed}, {eta} to go",
            ) {
                bar.set_style(style);
            }
            bar.set_message(what.clone());
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        Self {
            output,
            bar,
            what,
            total,
            tenths: done.saturating_mul(10) / total.max(1),
            began: (Instant::now(), done),
        }
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
            let speed = speed(
                done.saturating_sub(self.began.1),
                self.total.saturating_sub(done),
                self.began.0.elapsed(),
            );
            self.output.note(&format!(
                "{}: {} % ({done} of {}{speed})",
                self.what,
                tenths * 10,
                self.total
            ));
        }
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Counts finished samples and tokens of one question on one terminal line, which is removed
/// before the verdict. Draws nothing in a pipe.
pub struct SampleProgress {
    bar: Option<ProgressBar>,
    tokens: u64,
    finished: usize,
}

impl SampleProgress {
    pub fn new(output: &Output, wanted: bool) -> Self {
        let bar = (wanted && output.is_interactive()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, tokens: 0, finished: 0 }
    }

    pub fn on_token(&mut self, event: &TokenEvent<'_>) {
        let Some(bar) = &self.bar else { return };
        self.tokens += 1;
        self.finished += usize::from(event.finished.is_some());
        let samples = if self.finished == 1 { "sample" } else { "samples" };
        bar.set_message(format!("{} {samples} finished, {} tokens", self.finished, self.tokens));
        bar.tick();
    }

    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Steps per second and the estimated seconds left; empty before the first step.
fn speed(done: u64, left: u64, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64();
    if done == 0 || !rate.is_finite() {
        return String::new();
    }
    let to_go =
        if left > 0 { format!(", {:.0} s to go", left as f64 / rate) } else { String::new() };
    format!("; {rate:.1} a second{to_go}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_of_what_was_done_here() {
        let check = |done, left, seconds, expected: &str| {
            assert_eq!(speed(done, left, Duration::from_secs(seconds)), expected);
        };
        check(10, 20, 5, "; 2.0 a second, 10 s to go");
        check(30, 0, 60, "; 0.5 a second");
        check(0, 20, 5, "");
        check(5, 5, 0, "");
    }
}
