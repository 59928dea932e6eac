//! The progress bar of key generation.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use cipherloom_fhe::GenerationProgress;
use indicatif::{ProgressBar, ProgressStyle};

/// Ticks of a full bar.
const LENGTH: u64 = 1000;

/// How long a whole generation is expected to take on an ordinary core. Only the pace of the bar inside a stage depends on it.
const EXPECTED: Duration = Duration::from_secs(15);

/// How long the keys of noise squashing are expected to take.
const EXPECTED_OF_SQUASHING: Duration = Duration::from_secs(30);

/// Shows key generation on standard error: a bar on a terminal, a line per stage elsewhere.
///
/// The longest stage is a single call that cannot say how far it is. The bar therefore moves by time inside a stage, ever slower, and never past
/// the stage's share: it shows life, and it does not claim to be done before it is.
pub(crate) struct KeyGenerationBar {
    bar: ProgressBar,
    expected: Duration,
    stage: Mutex<Stage>,
}

#[derive(Default)]
struct Stage {
    /// The share of the stages before, between 0 and 1.
    before: f32,
    /// This stage's share.
    share: f32,
    /// Moves the bar until it is told to stop.
    mover: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Stage {
    fn stop(&mut self) {
        if let Some((stop, mover)) = self.mover.take() {
            drop(stop);
            // A mover that panicked has only stopped moving the bar.
            let _ = mover.join();
        }
    }
}

impl KeyGenerationBar {
    /// Makes a bar that appears with the first stage.
    pub(crate) fn new() -> Self {
        Self::expecting(EXPECTED)
    }

    /// Makes a bar for the keys of noise squashing alone.
    pub(crate) fn of_noise_squashing() -> Self {
        Self::expecting(EXPECTED_OF_SQUASHING)
    }

    fn expecting(expected: Duration) -> Self {
        let bar = ProgressBar::new(LENGTH);
        let style = ProgressStyle::with_template("  generating keys  [{bar:32}] {percent:>3} %  {elapsed_precise}  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        bar.set_style(style);
        Self {
            bar,
            expected,
            stage: Mutex::default(),
        }
    }
}

impl GenerationProgress for KeyGenerationBar {
    fn stage(&self, name: &str, index: usize, total: usize, estimated_share: f32) {
        if self.bar.is_hidden() {
            eprintln!("  generating keys: {name} (stage {} of {total})", index + 1);
        }
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        stage.stop();
        stage.before += stage.share;
        stage.share = estimated_share;
        self.bar.set_message(name.to_owned());
        let (stop, stopped) = mpsc::channel::<()>();
        let (bar, before, share, expected) = (self.bar.clone(), stage.before, estimated_share, self.expected);
        let mover = std::thread::spawn(move || {
            let start = Instant::now();
            while stopped.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(position(before, share, expected, start.elapsed()));
            }
        });
        stage.mover = Some((stop, mover));
    }

    fn finished(&self) {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner).stop();
        self.bar.finish_and_clear();
    }
}

impl Drop for KeyGenerationBar {
    fn drop(&mut self) {
        self.finished();
    }
}

/// Returns where the bar stands: the stages before, and a part of this stage that approaches its share but never reaches it.
fn position(before: f32, share: f32, whole: Duration, elapsed: Duration) -> u64 {
    let expected = whole.as_secs_f32() * share.max(0.001);
    let part = 1.0 - (-1.5 * elapsed.as_secs_f32() / expected).exp();
    let done = (before + share * part).clamp(0.0, 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and 1000"
    )]
    let position = (done * LENGTH as f32) as u64;
    position
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_moves_but_never_past_the_stage() {
        let at = |seconds| position(0.2, 0.5, EXPECTED, Duration::from_secs(seconds));
        assert_eq!(at(0), 200);
        assert!(at(5) > at(1));
        assert!(at(100_000) <= 700);
    }
}
