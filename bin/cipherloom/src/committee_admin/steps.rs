//! How far a ceremony has come, for people: a bar on a terminal, lines elsewhere. All of it goes to standard error.

use std::time::Duration;

use cipherloom_ceremony::Step;
use indicatif::{ProgressBar, ProgressStyle};

/// Steps of a full bar.
const STEPS: u64 = 6;

/// Shows the steps of a ceremony.
pub(super) struct Steps {
    bar: ProgressBar,
}

impl Steps {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(STEPS);
        let style = ProgressStyle::with_template("  ceremony  [{bar:32}] {elapsed_precise}  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    pub(super) fn show(&self, step: Step) {
        let (position, message) = match step {
            Step::Cards => (0, "nodes show who they are and what they run"),
            Step::Entropy => (1, "nodes contribute randomness"),
            Step::Keys => (2, "the key is made"),
            Step::Shares => (3, "shares are dealt"),
            Step::Acceptance => (4, "nodes check their shares and sign"),
            Step::Activation => (5, "nodes put their shares into use"),
        };
        if self.bar.is_hidden() {
            eprintln!("  ceremony: {message}");
        }
        self.bar.set_position(position);
        self.bar.set_message(message);
    }

    /// Makes room for another bar.
    pub(super) fn pause(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
