//! What SDKs have told: tables in Markdown, as docs/sdks.md shows them, or JSON.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The packages whose releases belong into the report.
const PACKAGES: [&str; 5] = ["@zama-fhe/relayer-sdk", "@fhevm/sdk", "@zama-fhe/sdk", "ethers", "viem"];

/// A step of the story, as scripts print it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Step {
    name: String,
    seconds: f64,
    /// For something that was refused as it has to be: how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Refused>,
}

/// What an SDK has shown.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Refused {
    /// The error's class.
    error: Option<String>,
    /// The SDK's own code of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The gateway's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// The status of the gateway's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// What it and its causes say.
    text: String,
}

/// What became of a part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Told {
    part: String,
    ok: bool,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    steps: Vec<Step>,
}

/// What a script prints on its last line.
#[derive(Deserialize)]
struct Printed {
    #[serde(default)]
    ok: bool,
    failure: Option<String>,
    #[serde(default)]
    steps: Vec<Step>,
}

impl Told {
    /// Runs a script that prints JSON on its last line, and shows its steps as they come on its standard error.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn by(part: String, mut command: Command) -> Result<Self> {
        eprintln!("+ {part}");
        let start = Instant::now();
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start the script of {part}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let printed = text.lines().last().and_then(|line| serde_json::from_str::<Printed>(line).ok());
        let printed = printed.unwrap_or(Printed {
            ok: false,
            failure: Some(format!("the script has printed no result: {}", output.status)),
            steps: Vec::new(),
        });
        Ok(Self {
            part,
            ok: printed.ok && output.status.success(),
            seconds: start.elapsed().as_secs_f64(),
            failure: printed.failure,
            steps: printed.steps,
        })
    }

    /// Runs something that is no script.
    pub(crate) fn of(part: String, run: impl FnOnce() -> Result<()>) -> Self {
        eprintln!("+ {part}");
        let start = Instant::now();
        let failure = run().err().map(|error| format!("{error:#}"));
        Self {
            part,
            ok: failure.is_none(),
            seconds: start.elapsed().as_secs_f64(),
            failure,
            steps: Vec::new(),
        }
    }
}

/// Everything that was told.
pub(crate) struct Report {
    versions: BTreeMap<String, String>,
    told: Vec<Told>,
}

impl Report {
    /// Begins a report on the packages that are installed in this folder.
    ///
    /// # Errors
    /// If their lock file cannot be read.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let lock: Value = serde_json::from_slice(&std::fs::read(folder.join("package-lock.json"))?)?;
        let version = |name: &str| {
            Some(
                lock.get("packages")?
                    .get(format!("node_modules/{name}"))?
                    .get("version")?
                    .as_str()?
                    .to_owned(),
            )
        };
        let versions = PACKAGES
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), version(name)?)))
            .collect();
        Ok(Self {
            versions,
            told: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, told: Told) {
        self.told.push(told);
    }

    /// Prints it.
    ///
    /// # Errors
    /// If something was not as it should be.
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", json!({ "versions": self.versions, "parts": self.told }));
        } else {
            println!("\n{}", self.page());
        }
        let failed: Vec<&str> = self.told.iter().filter(|told| !told.ok).map(|told| told.part.as_str()).collect();
        ensure!(failed.is_empty(), "not as it should be: {}", failed.join(", "));
        Ok(())
    }

    /// Writes it for people.
    fn page(&self) -> String {
        let mut page = String::from("| package | version |\n|---|---|\n");
        for (name, version) in &self.versions {
            page += &format!("| `{name}` | {version} |\n");
        }
        page += "\n| part | | seconds | refusals |\n|---|---|--:|--:|\n";
        for told in &self.told {
            let verdict = told
                .failure
                .as_ref()
                .map_or_else(|| "passed".to_owned(), |failure| format!("FAILED: {failure}"));
            let refusals = told.steps.iter().filter(|step| step.refused.is_some()).count();
            page += &format!("| {} | {verdict} | {:.0} | {refusals} |\n", told.part, told.seconds);
        }
        page += "\n";
        page += &self.table("seconds", "--:", |step| {
            step.refused.is_none().then(|| format!("{:.2}", step.seconds))
        });
        page += "\n";
        page += &self.table("what is refused", "---", |step| step.refused.as_ref().map(Refused::shown));
        page
    }

    /// A row for each step of which `cell` says something, with a column for each part that has told the story: it has refusals.
    fn table(&self, title: &str, alignment: &str, cell: impl Fn(&Step) -> Option<String>) -> String {
        let is_story = |told: &&Told| told.steps.iter().any(|step| step.refused.is_some());
        let told: Vec<&Told> = self.told.iter().filter(is_story).collect();
        if told.is_empty() {
            return String::new();
        }
        let mut names: Vec<&str> = Vec::new();
        for step in told.iter().flat_map(|told| &told.steps) {
            if cell(step).is_some() && !names.contains(&step.name.as_str()) {
                names.push(&step.name);
            }
        }
        let columns: Vec<&str> = told.iter().map(|told| told.part.as_str()).collect();
        let mut page = format!(
            "| {title} | {} |\n|---|{}\n",
            columns.join(" | "),
            format!("{alignment}|").repeat(columns.len())
        );
        for name in names {
            let cells = told.iter().map(|told| {
                let step = told.steps.iter().find(|step| step.name == name);
                step.and_then(&cell).unwrap_or_default()
            });
            page += &format!(
                "| {} | {} |\n",
                name.trim_start_matches("refused: "),
                cells.collect::<Vec<_>>().join(" | ")
            );
        }
        page
    }
}

impl Refused {
    /// The error in a cell: its class, and what else programs may look at.
    fn shown(&self) -> String {
        let class = self.error.as_deref().unwrap_or("an error");
        let more = self.label.as_deref().or(self.code.as_deref());
        more.map_or_else(|| format!("`{class}`"), |more| format!("`{class}` `{more}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str, status: u8) -> Told {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo noise; echo '{text}'; exit {status}")]);
        Told::by("a part".to_owned(), command).unwrap()
    }

    fn report(told: Vec<Told>) -> Report {
        Report {
            versions: BTreeMap::new(),
            told,
        }
    }

    #[test]
    fn steps_and_refusals_are_tables_of_their_own() {
        let told = script(
            r#"{"ok":true,"steps":[{"name":"open","seconds":0.25},{"name":"refused: no","seconds":1,"refused":{"error":"Denied","label":"not_allowed","text":""}}]}"#,
            0,
        );
        assert!(told.ok);
        let page = report(vec![told]).page();
        assert!(page.contains("| open | 0.25 |"), "{page}");
        assert!(page.contains("| no | `Denied` `not_allowed` |"), "{page}");
        assert!(page.contains("| a part | passed |"), "{page}");
    }

    #[test]
    fn a_part_that_fails_or_says_nothing_fails_the_report() {
        for told in [
            script(r#"{"ok":true,"steps":[]}"#, 1),
            script(r#"{"ok":false,"failure":"no","steps":[]}"#, 0),
            script("not JSON", 0),
            Told::of("a check".to_owned(), || anyhow::bail!("no")),
        ] {
            assert!(!told.ok, "{told:?}");
            assert!(report(vec![told]).print(true).is_err());
        }
        assert!(report(vec![script(r#"{"ok":true}"#, 0)]).print(false).is_ok());
    }
}
