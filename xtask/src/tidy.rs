//! `cargo xtask tidy`: the rules that no compiler checks.
//!
//! * Arrows between crates point down the layers of ARCHITECTURE.md, and only the crates named here may name heavy dependencies.
//! * Every crate has a line in ARCHITECTURE.md; no crate or module has a name that says nothing.
//! * Every path that a document mentions exists; notes of unfinished work name an issue.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command::{cargo, root};

/// The layers, lowest first. A crate may depend on crates of lower layers, and on no other.
const LAYERS: [&[&str]; 6] = [
    &["primitives", "private-anvil", "private-postgres"],
    &["attest", "contracts", "fhe", "rpc", "signcryption", "telemetry", "threshold"],
    &["ceremony", "chain", "engine", "load", "store"],
    &[
        "callbacks",
        "client",
        "consensus",
        "coprocessor",
        "executor",
        "gateway",
        "kms",
        "node",
    ],
    &["service"],
    &["kms-node", "validator"],
];

/// Which crates alone may depend on a library that must stay behind a wall.
const WALLS: [(&str, &[&str]); 4] = [
    ("tfhe", &["fhe"]),
    ("sqlx", &["store"]),
    ("revm", &["node"]),
    ("arc-malachitebft-core-consensus", &["consensus"]),
];

/// Names that say nothing about what is inside.
const BANNED_NAMES: [&str; 6] = ["common", "utils", "util", "helpers", "shared", "misc"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Checks all rules and lists every violation.
///
/// # Errors
/// If a rule is broken.
pub(crate) fn run() -> Result<()> {
    let root = root();
    let mut problems = layer_problems(&packages()?, &read(&root.join("ARCHITECTURE.md"))?);
    let files = tracked_files(&root)?;
    problems.extend(files.iter().filter_map(|file| name_problem(file)));
    for file in &files {
        let extension = file.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("md") => problems.extend(link_problems(&root, file, &read(&root.join(file))?)),
            Some("rs" | "sol" | "mjs") => problems.extend(todo_problems(file, &read(&root.join(file))?)),
            _ => {}
        }
    }
    if problems.is_empty() {
        println!("tidy: {} files, no problems", files.len());
        return Ok(());
    }
    bail!("tidy found {} problems:\n  {}", problems.len(), problems.join("\n  "))
}

fn packages() -> Result<Vec<Package>> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .context("cannot run cargo metadata")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice::<Metadata>(&output.stdout)
        .context("cargo metadata")?
        .packages)
}

fn layer_problems(packages: &[Package], architecture: &str) -> Vec<String> {
    let layers: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, names)| names.iter().map(move |name| (*name, layer)))
        .collect();
    let mut problems = Vec::new();
    for package in packages {
        let Some(name) = package.name.strip_prefix("cipherloom-") else {
            continue;
        };
        let Some(layer) = layers.get(name) else {
            problems.push(format!(
                "crate {name} is in no layer: add it to xtask's LAYERS and to ARCHITECTURE.md"
            ));
            continue;
        };
        if !architecture.contains(&format!("`{name}`")) {
            problems.push(format!("crate {name} has no line in ARCHITECTURE.md"));
        }
        for dependency in package.dependencies.iter().filter(|dependency| dependency.kind.is_none()) {
            if let Some(other) = dependency.name.strip_prefix("cipherloom-")
                && layers.get(other).is_none_or(|below| below >= layer)
            {
                problems.push(format!("{name} (layer {layer}) must not depend on {other}"));
            }
            if let Some((wall, allowed)) = WALLS.iter().find(|(wall, _)| *wall == dependency.name)
                && !allowed.contains(&name)
            {
                problems.push(format!("{name} must not name {wall}; only {} may", allowed.join(", ")));
            }
        }
    }
    problems
}

fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = crate::command::program("git", &["ls-files", "-z"])
        .output()
        .context("cannot run git ls-files")?;
    anyhow::ensure!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .filter(|file| root.join(file).is_file())
        .collect())
}

fn name_problem(file: &Path) -> Option<String> {
    let names = file
        .components()
        .filter_map(|part| Path::new(part.as_os_str()).file_stem()?.to_str());
    let banned = names.into_iter().find(|name| BANNED_NAMES.contains(name))?;
    Some(format!("{}: the name {banned} says nothing", file.display()))
}

/// Finds relative Markdown links and code-quoted paths that lead nowhere.
fn link_problems(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let dead_links = links
        .map(|link| link.split('#').next().unwrap_or_default())
        .filter(|link| !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:"))
        .filter(|link| !root.join(directory).join(link).exists())
        .map(|link| format!("{}: link to {link}, which does not exist", file.display()));
    let quoted = text.split('`').skip(1).step_by(2);
    let dead_paths = quoted
        .filter(|path| {
            ["crates/", "docs/", "contracts/", "examples/", "xtask/", "bin/", "e2e/", "spec/"]
                .iter()
                .any(|top| path.starts_with(top))
        })
        .filter(|path| !path.contains(['<', '*', '{', ' ', '…']) && !root.join(path).exists() && !root.join(directory).join(path).exists())
        .map(|path| format!("{}: mentions {path}, which does not exist", file.display()));
    dead_links.chain(dead_paths).collect()
}

fn todo_problems(file: &Path, text: &str) -> Vec<String> {
    // Spelled in two halves so that this file does not report itself.
    let marker = concat!("TO", "DO");
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| line.contains(marker) && !line.contains(&format!("{marker}(#")))
        .map(|(number, _)| format!("{}:{}: {marker} without an issue number", file.display(), number + 1))
        .collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|name| Dependency {
                name: (*name).to_owned(),
                kind: None,
            })
            .collect();
        Package {
            name: name.to_owned(),
            dependencies,
        }
    }

    #[test]
    fn arrows_point_down() {
        let architecture = "`fhe` `kms`";
        assert!(layer_problems(&[package("cipherloom-kms", &["cipherloom-fhe"])], architecture).is_empty());
        assert_eq!(
            layer_problems(&[package("cipherloom-fhe", &["cipherloom-kms"])], architecture).len(),
            1
        );
        assert_eq!(
            layer_problems(&[package("cipherloom-kms", &["cipherloom-gateway"])], architecture).len(),
            1
        );
        assert_eq!(layer_problems(&[package("cipherloom-kms", &["tfhe"])], architecture).len(), 1);
        assert_eq!(layer_problems(&[package("cipherloom-nowhere", &[])], architecture).len(), 1);
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        assert!(name_problem(Path::new("crates/fhe/src/utils.rs")).is_some());
        assert!(name_problem(Path::new("crates/common/src/lib.rs")).is_some());
        assert!(name_problem(Path::new("crates/fhe/src/clear.rs")).is_none());
    }

    #[test]
    fn dead_links_are_found() {
        let root = root();
        assert!(link_problems(&root, Path::new("README.md"), "[x](Cargo.toml) `crates/fhe`").is_empty());
        assert_eq!(
            link_problems(&root, Path::new("README.md"), "[x](nowhere.md) and `docs/nowhere.md`").len(),
            2
        );
    }

    #[test]
    fn unassigned_notes_are_found() {
        let note = format!("// {}: later", concat!("TO", "DO"));
        assert_eq!(todo_problems(Path::new("a.rs"), &note).len(), 1);
    }
}
