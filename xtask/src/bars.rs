//! Tables of bars: what a run was to show, whether it did, and what was measured on the way.
//!
//! Tests assert, and print figures on lines that begin with [`MARK`]; both end up in the table. Times are never asserted: they are printed next
//! to their bar, for whoever knows what else the machine was doing.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

/// What test processes mark their figures with.
const MARK: &str = "E2E ";

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// What the bars say.
    Full,
    /// A few minutes' worth, to try it out.
    Reduced,
}

impl Scale {
    /// Returns the scale for a command line's switch.
    pub(crate) const fn reduced(reduced: bool) -> Self {
        if reduced { Self::Reduced } else { Self::Full }
    }

    /// Tells a test process how much to do.
    pub(crate) fn tell(self, command: &mut Command) {
        if self == Self::Full {
            command.env("CIPHERLOOM_E2E", "full");
        }
    }
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    bar: String,
    verdict: &'static str,
    value: String,
}

impl Line {
    /// A figure that was measured and is not judged.
    pub(crate) fn measured(bar: &str, value: String) -> Self {
        Self {
            bar: bar.to_owned(),
            verdict: "measured",
            value,
        }
    }

    /// What became of a check that took part of the run; `command` is how a reader would run it.
    pub(crate) fn checked(bar: &str, command: &str, check: impl FnOnce() -> Result<()>) -> Self {
        println!("+ {bar}");
        let start = Instant::now();
        let (verdict, value) = match check() {
            Ok(()) => ("passed", format!("{command}, {:.0} s", start.elapsed().as_secs_f64())),
            Err(error) => {
                eprintln!("error: {error:#}");
                ("FAILED", format!("{command}: {error}"))
            }
        };
        Self {
            bar: bar.to_owned(),
            verdict,
            value,
        }
    }

    #[cfg(test)]
    pub(crate) fn value(&self) -> &str {
        &self.value
    }
}

/// Runs a test process, shows what it prints, and collects the figures in it. `shown` is how a reader would run it.
///
/// # Errors
/// If it cannot be started or read. Tests that fail are a line of the table.
pub(crate) fn test(bar: &str, shown: &str, mut command: Command) -> Result<Vec<Line>> {
    println!("+ {shown}");
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let output = child.stdout.take().context("the tests have no output")?;
    let mut figures = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what the tests print")?;
        println!("  {line}");
        figures.extend(reported(&line));
    }
    let verdict = if child.wait()?.success() { "passed" } else { "FAILED" };
    let summary = Line {
        bar: bar.to_owned(),
        verdict,
        value: format!("{shown}, {:.0} s", start.elapsed().as_secs_f64()),
    };
    Ok(std::iter::once(summary).chain(figures).collect())
}

/// Reads a figure from a line of a test's output.
fn reported(line: &str) -> Option<Line> {
    let (_, report) = line.split_once(MARK)?;
    let (bar, value) = report.split_once(": ")?;
    Some(Line {
        bar: format!("  {bar}"),
        verdict: "asserted",
        value: value.to_owned(),
    })
}

/// Prints lines of the table before it is complete: what was measured took long, and what comes next may fail.
pub(crate) fn show(lines: Vec<Line>) -> Vec<Line> {
    for Line { bar, verdict, value } in &lines {
        println!("{bar:<52} {verdict:<9} {value}");
    }
    lines
}

/// Prints the table.
///
/// # Errors
/// If a bar that is no time is missed.
pub(crate) fn print(lines: Vec<Line>) -> Result<()> {
    println!();
    println!("{:<52} {:<9} measured", "bar", "");
    let lines = show(lines);
    let failed = lines.iter().filter(|line| line.verdict == "FAILED").count();
    ensure!(failed == 0, "{failed} of the bars above are missed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_wherever_they_stand_in_a_line() {
        let line = reported("test killed::workers ... E2E fair share: 33 %, 33 %, 34 %").unwrap();
        assert_eq!((line.bar.as_str(), line.value.as_str()), ("  fair share", "33 %, 33 %, 34 %"));
        assert!(reported("test killed::workers ... ok").is_none());
    }

    #[test]
    fn a_missed_bar_fails_the_table_and_a_figure_does_not() {
        let missed = Line::checked("a bar", "a command", || anyhow::bail!("no"));
        assert!(print(vec![missed]).is_err());
        let met = Line::checked("a bar", "a command", || Ok(()));
        assert!(print(vec![Line::measured("a time", "1 s".to_owned()), met]).is_ok());
    }

    #[test]
    fn tests_that_fail_are_a_line_and_their_figures_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'E2E depth: 8 blocks'; exit 1"]);
        let lines = test("reorganisations", "sh", command).unwrap();
        assert_eq!(lines[0].verdict, "FAILED");
        assert_eq!(lines[1].value(), "8 blocks");
    }
}
