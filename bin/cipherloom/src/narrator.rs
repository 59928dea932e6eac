//! Telling people what happens, step by step, with the time each step takes.

use std::time::Instant;

use serde::Serialize;

/// A finished step.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// What was done.
    pub(crate) name: String,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
}

/// Prints steps as they finish, and keeps them for the summary.
#[derive(Debug)]
pub(crate) struct Narrator {
    quiet: bool,
    steps: Vec<Step>,
}

impl Narrator {
    /// Makes a narrator; a quiet one only keeps the steps.
    pub(crate) const fn new(quiet: bool) -> Self {
        Self { quiet, steps: Vec::new() }
    }

    /// Says something between steps.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            println!("{text}");
        }
    }

    /// Adds a remark to the step before.
    pub(crate) fn remark(&self, text: &str) {
        self.say(&format!("           {text}"));
    }

    /// Runs a step, and prints its name with the time it took once it has succeeded.
    ///
    /// # Errors
    /// The step's own.
    pub(crate) async fn step<T>(&mut self, name: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let start = Instant::now();
        let result = work.await.map_err(|error| error.context(format!("could not {name}")))?;
        let seconds = start.elapsed().as_secs_f64();
        self.say(&format!("  {seconds:>7.2} s  {name}"));
        self.steps.push(Step {
            name: name.to_owned(),
            seconds,
        });
        Ok(result)
    }

    /// Returns the steps so far.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }
}
