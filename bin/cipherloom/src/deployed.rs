//! Checks of what is written down for operators: every command line in `deploy/` and in their guide is one that this build takes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use yaml_rust2::{Yaml, YamlLoader};

use crate::{cli::Arguments, coprocessor::line::CoprocessorArguments};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Parses a command line of one of the two binaries. The database is in the environment, as operators have it.
fn parse(line: &[&str]) -> Result<(), String> {
    match parse_whole(line) {
        Err(error) if error.contains("--database-url <URL>") => {
            parse_whole(&[line, &["--database-url", "sqlite:in-the-environment"]].concat())
        }
        parsed => parsed,
    }
}

fn parse_whole(line: &[&str]) -> Result<(), String> {
    let parsed = match line.first() {
        Some(&"cipherloom") => Arguments::try_parse_from(line).map(|_| ()),
        Some(&"coprocessor") => CoprocessorArguments::try_parse_from(line).map(|_| ()),
        other => return Err(format!("{other:?} is no binary of ours")),
    };
    parsed.map_err(|error| format!("{line:?}: {error}"))
}

/// The parts of a file of the composition.
fn compose() -> Yaml {
    composition("deploy/compose.yaml")
}

fn composition(file: &str) -> Yaml {
    YamlLoader::load_from_str(&read(file)).unwrap().remove(0)
}

/// The services of the composition that run our image, by name, with their commands.
fn our_services(compose: &Yaml) -> Vec<(String, Vec<String>)> {
    let services = compose["services"].as_hash().unwrap();
    let ours = services.iter().filter(|(_, service)| {
        let image = |of: &Yaml| of["image"].as_str() == Some("cipherloom");
        image(service) || image(&service["<<"]) || image(&service["<<"]["<<"])
    });
    ours.map(|(name, service)| {
        let command = service["command"].as_vec().unwrap();
        let words = command.iter().map(|word| word.as_str().unwrap().to_owned());
        (name.as_str().unwrap().to_owned(), words.collect())
    })
    .collect()
}

#[test]
fn the_composition_gives_each_process_a_command_line_it_takes() {
    let compose = compose();
    let services = our_services(&compose);
    assert_eq!(services.len(), 4, "migration, server and two workers: {services:?}");
    for (name, command) in &services {
        let line: Vec<&str> = std::iter::once("cipherloom").chain(command.iter().map(String::as_str)).collect();
        parse(&line).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let with = |flag: &str| {
        services
            .iter()
            .filter(|(_, command)| command.iter().any(|word| word == flag))
            .count()
    };
    assert_eq!((with("--run-server"), with("--run-bg-worker")), (1, 2));
}

#[test]
fn the_composition_of_kms_and_gateway_gives_each_a_command_line_it_takes() {
    let services = our_services(&composition("deploy/compose-parts.yaml"));
    assert_eq!(services.len(), 3, "follower, KMS and gateway: {services:?}");
    for (name, command) in &services {
        let line: Vec<&str> = std::iter::once("cipherloom").chain(command.iter().map(String::as_str)).collect();
        parse(&line).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn prometheus_asks_every_process_of_the_composition() {
    let compose = compose();
    let prometheus = YamlLoader::load_from_str(&read("deploy/prometheus/prometheus.yml"))
        .unwrap()
        .remove(0);
    let targets = prometheus["scrape_configs"][0]["static_configs"][0]["targets"].as_vec().unwrap();
    let mut asked: Vec<&str> = targets
        .iter()
        .map(|target| target.as_str().unwrap().trim_end_matches(":9100"))
        .collect();
    let services = our_services(&compose);
    let mut running: Vec<&str> = services
        .iter()
        .filter(|(_, command)| command.iter().any(|word| word == "--metrics-addr=0.0.0.0:9100"))
        .map(|(name, _)| name.as_str())
        .collect();
    asked.sort_unstable();
    running.sort_unstable();
    assert_eq!(asked, running);
}

#[test]
fn what_the_composition_mounts_is_there() {
    let compose = compose();
    for (name, service) in compose["services"].as_hash().unwrap() {
        for volume in service["volumes"].as_vec().into_iter().flatten() {
            let volume = volume.as_str().unwrap();
            let Some((source, _)) = volume.split_once(':').filter(|(source, _)| source.starts_with('.')) else {
                continue;
            };
            assert!(repository().join("deploy").join(source).exists(), "{name:?} mounts {source}");
        }
    }
}

#[test]
fn the_units_start_what_there_is() {
    for unit in [
        "cipherloom-server.service",
        "cipherloom-worker.service",
        "cipherloom-kms.service",
        "cipherloom-gateway.service",
        "cipherloom-node.service",
    ] {
        let text = read(&format!("deploy/systemd/{unit}"));
        let command = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/"))
            .unwrap();
        parse(&command.split_whitespace().collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{unit}: {error}"));
    }
}

#[test]
fn the_commands_in_the_guide_are_ones_that_there_are() {
    let mut checked = 0;
    for document in [
        "docs/attach.md",
        "docs/contracts.md",
        "docs/coprocessor.md",
        "docs/database.md",
        "docs/deployment.md",
        "docs/following.md",
        "docs/sdks.md",
    ] {
        for command in commands(&read(document)) {
            let words: Vec<&str> = command.split_whitespace().collect();
            parse(&words).unwrap_or_else(|error| panic!("{document}: {error}"));
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} commands were found");
}

/// The whole command lines in a document's blocks. Those that leave something out say so with an ellipsis, or are a list of alternatives.
fn commands(document: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in document.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside && ["cipherloom ", "coprocessor "].iter().any(|binary| line.starts_with(binary)) && !line.contains(['…', '|', '─'])
        {
            found.push(line.to_owned());
        }
    }
    found
}

#[test]
fn the_tests_that_the_guide_names_are_there() {
    let guide = read("docs/coprocessor.md");
    let (_, threats) = guide.split_once("## Threats").unwrap();
    let mut checked = 0;
    // Each is written [`name`](../file).
    for link in threats.split("[`").skip(1) {
        let (name, rest) = link.split_once("`](../").unwrap();
        let (file, _) = rest.split_once(')').unwrap();
        assert!(read(file).contains(&format!("fn {name}(")), "{file} has no test {name}");
        checked += 1;
    }
    assert!(checked > 20, "{checked} tests were found");
}
