//! How far long work is: a bar on standard error, on a terminal only.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A bar that is gone when it is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar that says what is being counted, as `verifying entries`.
    pub fn new(what: &'static str) -> Self {
        Self::of(what, "{msg} {bar:32} {human_pos} of {human_len} ({rate}, {eta} left)")
    }

    /// Bytes that arrive, nobody knows how many.
    pub fn open_ended() -> Self {
        Self::of("receiving", "{spinner} {msg} {binary_bytes} ({binary_bytes_per_sec})")
    }

    fn of(what: &'static str, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key("rate", rate));
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// So many of so many.
    pub fn show(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// So many bytes, and entries in them where they can be told apart.
    pub fn received(&self, entries: Option<u64>, bytes: u64) {
        if let Some(entries) = entries.filter(|_| !self.0.is_hidden()) {
            self.0.set_message(format!("received {} entries,", HumanCount(entries)));
        }
        self.0.set_position(bytes);
    }
}

/// How many a second, without a fraction.
fn rate(state: &ProgressState, out: &mut dyn Write) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is a small number from 0"
    )]
    let rate = state.per_sec() as u64;
    // Nobody can be told where a bar cannot be written.
    let _ = write!(out, "{}/s", HumanCount(rate));
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
