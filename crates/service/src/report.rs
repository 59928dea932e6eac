//! Findings, and how they are printed.

use std::fmt;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and should not stay so.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    area: &'static str,
    level: Level,
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Everything that was looked at, in order.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Something is as it should be.
    pub fn ok(&mut self, area: &'static str, message: impl Into<String>) {
        self.add(area, Level::Ok, message.into(), None);
    }

    /// Something works and should not stay so.
    pub fn warn(&mut self, area: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(area, Level::Warn, message.into(), Some(remedy.into()));
    }

    /// Something does not work.
    pub fn fail(&mut self, area: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(area, Level::Fail, message.into(), Some(remedy.into()));
    }

    /// Something is as it should be, or is not, with this to do.
    pub fn expect(&mut self, area: &'static str, holds: bool, good: impl Into<String>, bad: (Level, String, String)) {
        let (level, message, remedy) = bad;
        if holds {
            self.ok(area, good);
        } else {
            self.add(area, level, message, Some(remedy));
        }
    }

    /// Adds what another report has.
    pub fn append(&mut self, mut other: Self) {
        self.findings.append(&mut other.findings);
    }

    fn add(&mut self, area: &'static str, level: Level, message: String, remedy: Option<String>) {
        // Messages quote what servers say; a terminal must not obey them.
        let message = message.replace(|char: char| char.is_control() && char != '\n', "");
        self.findings.push(Finding {
            area,
            level,
            message,
            remedy,
        });
    }

    /// Tells what does not work, a line for each with what to do.
    pub fn failures(&self) -> Vec<String> {
        self.told(Level::Fail)
    }

    /// Tells what should not stay so, a line for each with what to do.
    pub fn warnings(&self) -> Vec<String> {
        self.told(Level::Warn)
    }

    fn told(&self, level: Level) -> Vec<String> {
        let found = self.findings.iter().filter(|finding| finding.level == level);
        found
            .map(|finding| match &finding.remedy {
                Some(remedy) => format!("{}: {} ({remedy})", finding.area, finding.message),
                None => format!("{}: {}", finding.area, finding.message),
            })
            .collect()
    }

    /// Returns how bad the worst finding is.
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// Prints all findings, and returns the exit code of the worst: 0, 1 for warnings, 2 for what does not work.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub fn print(&self, as_json: bool) -> Result<u8> {
        let worst = self.worst();
        if as_json {
            println!(
                "{}",
                serde_json::to_string_pretty(&json!({ "level": worst, "findings": self.findings }))?
            );
        } else {
            self.lines().iter().for_each(|line| println!("{line}"));
        }
        Ok(match worst {
            Level::Ok => 0,
            Level::Warn => 1,
            Level::Fail => 2,
        })
    }

    /// Writes findings by area, in the order in which areas were first looked at.
    fn lines(&self) -> Vec<String> {
        let mut areas: Vec<&str> = Vec::new();
        for finding in &self.findings {
            if !areas.contains(&finding.area) {
                areas.push(finding.area);
            }
        }
        let mut lines = Vec::new();
        for area in areas {
            lines.push(area.to_owned());
            let of_area = self.findings.iter().filter(|finding| finding.area == area);
            lines.extend(of_area.flat_map(Finding::lines));
        }
        lines.push(format!(
            "{} ok, {} to look at, {} that do not work",
            self.count(Level::Ok),
            self.count(Level::Warn),
            self.count(Level::Fail)
        ));
        lines
    }
}

impl Finding {
    fn lines(&self) -> Vec<String> {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        let remedy = self.remedy.as_ref().map(|remedy| format!("        → {remedy}"));
        std::iter::once(format!("  {level:<5} {}", self.message)).chain(remedy).collect()
    }
}

/// What a doctor ends with that found something: it was printed, and only the exit code is left to say.
#[derive(Debug)]
pub struct Unwell {
    /// 1 for warnings, 2 for what does not work.
    pub exit_code: u8,
}

impl fmt::Display for Unwell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.exit_code == 1 {
            "there are warnings"
        } else {
            "something does not work"
        })
    }
}

impl std::error::Error for Unwell {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_write_to_the_terminal() {
        let mut report = Report::default();
        report.ok("server", "it says \u{1b}[2J\rnothing\u{7}");
        assert_eq!(report.lines()[1], "  ok    it says [2Jnothing");
    }

    #[test]
    fn the_worst_finding_counts_and_each_bad_one_has_something_to_do() {
        let mut report = Report::default();
        assert_eq!(report.worst(), Level::Ok);
        report.ok("database", "reachable");
        report.warn("database", "far away", "move it");
        assert_eq!(report.worst(), Level::Warn);
        report.fail("keys", "none", "make some");
        report.expect("keys", true, "fine", (Level::Fail, String::new(), String::new()));
        report.ok("database", "awake");
        assert_eq!(report.worst(), Level::Fail);
        assert_eq!(
            report.lines(),
            [
                "database",
                "  ok    reachable",
                "  warn  far away",
                "        → move it",
                "  ok    awake",
                "keys",
                "  FAIL  none",
                "        → make some",
                "  ok    fine",
                "3 ok, 1 to look at, 1 that do not work"
            ]
        );
    }
}
