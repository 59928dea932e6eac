//! Looking at everything that a process needs before it serves: once for a report, or again until all is well.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use crate::{chains::Trouble, report::Report};

/// How long is waited before another look.
const PAUSE: Duration = Duration::from_millis(500);
/// How often what is waited for is told.
const TOLD: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Default)]
pub struct Examination {
    /// What there is to say.
    pub report: Report,
    /// Whether something is wrong that does not pass by itself.
    hopeless: bool,
}

impl Examination {
    /// Something is as it should be.
    pub fn ok(&mut self, area: &'static str, message: impl Into<String>) {
        self.report.ok(area, message);
    }

    /// Something works, and should not stay so.
    pub fn warn(&mut self, area: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.report.warn(area, message, remedy);
    }

    /// Something has to be changed.
    pub fn wrong(&mut self, area: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.hopeless = true;
        self.report.fail(area, message, remedy);
    }

    /// Something is not there yet.
    pub fn not_yet(&mut self, area: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.report.fail(area, message, remedy);
    }

    /// Something is not there yet, or has to be changed.
    pub fn trouble(&mut self, area: &'static str, trouble: &Trouble, remedy: &str) {
        match trouble {
            Trouble::NotYet(error) => self.not_yet(area, format!("{error:#}"), remedy),
            Trouble::Wrong(error) => self.wrong(area, format!("{error:#}"), remedy),
        }
    }

    /// Something is so, or has to be changed.
    pub fn expect(&mut self, area: &'static str, holds: bool, good: impl Into<String>, bad: impl FnOnce() -> (String, String)) {
        if holds {
            self.ok(area, good);
        } else {
            let (message, remedy) = bad();
            self.wrong(area, message, remedy);
        }
    }
}

/// Looks again and again until nothing fails, for as long as what fails may pass and patience lasts.
///
/// # Errors
/// What fails, with what to do about each.
pub async fn until_well<T>(patience: Duration, mut look: impl AsyncFnMut() -> (Examination, Option<T>)) -> Result<T> {
    let start = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        let (examination, found) = look().await;
        let failures = examination.report.failures();
        if let (true, Some(found)) = (failures.is_empty(), found) {
            examination.report.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
            return Ok(found);
        }
        if examination.hopeless || start.elapsed() >= patience {
            bail!("cannot start:\n  {}", failures.join("\n  "));
        }
        if told.is_none_or(|told| told.elapsed() >= TOLD) {
            tracing::warn!(
                seconds = patience.saturating_sub(start.elapsed()).as_secs(),
                "waiting: {}",
                failures.join("; ")
            );
            told = Some(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
