//! `cipherloom kms policy application`: what dstack measures of an application, made from files that people read.
//!
//! dstack takes one JSON file with the composition inside as text, and measures the SHA-256 digest of its bytes as `compose-hash`. The file is written
//! here in one way only, so that whoever has the two sources gets the same digest.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{ApplicationOptions, read_limited, write_whole};

/// What `--help` begins with.
pub(super) const HELP: &str = "\
Write the application that dstack measures, and print the digest that a policy lists for it.

  cipherloom kms policy application --compose deploy/dstack/docker-compose.yaml --settings deploy/dstack/app.json --output app-compose.json

The digest goes into compose-hashes of the policy. Everybody who has the two files gets the same, so that operators can check each other's. Images have to be named by digest: \
a tag can mean something else tomorrow. See docs/dstack.md.";

/// The longest file that is read.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Writes the application and prints its digest.
///
/// # Errors
/// If a file cannot be used, or what would be measured says nothing because an image is named by a tag.
pub(super) fn run(options: &ApplicationOptions) -> Result<()> {
    let text = |path| -> Result<String> {
        let bytes = read_limited(path, MAX_FILE_BYTES)?;
        ensure!(
            bytes.len() <= MAX_FILE_BYTES,
            "{} is longer than {MAX_FILE_BYTES} bytes",
            path.display()
        );
        String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))
    };
    let application = application(&text(&options.settings)?, text(&options.compose)?)?;
    write_whole(&options.output, &application)?;
    println!("0x{}", hex::encode(Sha256::digest(&application)));
    Ok(())
}

/// Puts the two together: members in the order of their names, indented by four spaces, without an end of line.
fn application(settings: &str, compose: String) -> Result<Vec<u8>> {
    let settings: Value = serde_json::from_str(settings).context("the settings are no JSON")?;
    let Value::Object(settings) = settings else {
        bail!("the settings are no JSON object")
    };
    ensure!(
        !settings.contains_key("docker_compose_file"),
        "the settings hold a composition already; give it as a file of its own"
    );
    let images: Vec<&str> = compose
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("image:"))
        .map(|image| image.trim().trim_matches(['"', '\'']))
        .collect();
    ensure!(!images.is_empty(), "the composition names no image");
    if let Some(image) = images.iter().find(|image| !is_pinned(image)) {
        bail!("the image {image} is not named by digest (NAME@sha256:…): what is measured would not say what runs");
    }
    // Sorted, whatever order the JSON library keeps.
    let mut members: Vec<(String, Value)> = settings.into_iter().collect();
    members.push(("docker_compose_file".to_owned(), Value::String(compose)));
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    let sorted: Map<String, Value> = members.into_iter().collect();
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    serde::Serialize::serialize(&sorted, &mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(bytes)
}

fn is_pinned(image: &str) -> bool {
    image
        .split_once("@sha256:")
        .is_some_and(|(name, digest)| !name.is_empty() && digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;
    use yaml_rust2::{Yaml, YamlLoader};

    use super::*;

    const COMPOSE: &str = include_str!("../../../../../deploy/dstack/docker-compose.yaml");
    const SETTINGS: &str = include_str!("../../../../../deploy/dstack/app.json");
    const DOCKERFILE: &str = include_str!("../../../../../deploy/dstack/Dockerfile");

    fn compose() -> Yaml {
        YamlLoader::load_from_str(COMPOSE).unwrap().remove(0)
    }

    fn texts(yaml: &Yaml) -> Vec<&str> {
        yaml.as_vec().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
    }

    #[test]
    fn the_application_has_one_form() {
        let text = application(
            r#"{"b": 1, "a": {"z": 1, "y": 2}}"#,
            "services:\n  x:\n    image: n@sha256:".to_owned() + &"a".repeat(64),
        )
        .unwrap();
        let read: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(read["b"], 1);
        let other = application(
            r#"{"a":{"y":2,"z":1},"b":1}"#,
            read["docker_compose_file"].as_str().unwrap().to_owned(),
        )
        .unwrap();
        assert_eq!(text, other);
        assert!(text.starts_with(b"{\n    \"a\"") && text.ends_with(b"}"));
    }

    #[test]
    fn images_without_a_digest_are_refused() {
        for image in ["name", "name:1.0", "name@sha256:1234", "@sha256:"] {
            assert!(
                application("{}", format!("services:\n  x:\n    image: {image}\n")).is_err(),
                "{image}"
            );
        }
        assert!(application("{}", "services: {}".to_owned()).is_err());
        assert!(application(r#"{"docker_compose_file":""}"#, COMPOSE.to_owned()).is_err());
        assert!(application("[]", COMPOSE.to_owned()).is_err());
    }

    #[test]
    fn the_files_of_a_deployment_make_an_application() {
        let bytes = application(SETTINGS, COMPOSE.to_owned()).unwrap();
        let read: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read["docker_compose_file"], COMPOSE);
        assert_eq!(read["runner"], "docker-compose");
        // Logs hold no secrets, and who asked for what all the same; keys come from outside the machine, for each application its own.
        assert_eq!(
            (&read["public_logs"], &read["kms_enabled"], &read["secure_time"]),
            (&false.into(), &true.into(), &true.into())
        );
    }

    #[test]
    fn the_node_of_the_composition_takes_its_command_line() {
        let compose = compose();
        let node = &compose["services"]["kms"];
        let line: Vec<&str> = std::iter::once("cipherloom-kms").chain(texts(&node["command"])).collect();
        let matches = cipherloom_kms_node::node_command().try_get_matches_from(&line).unwrap();
        assert_eq!(matches.get_many::<std::path::PathBuf>("party_dir").unwrap().count(), 1);
        for unwanted in ["insecure_simulated_attestation", "insecure_keys", "insecure_plaintext"] {
            assert!(!matches.get_flag(unwanted), "{unwanted}");
        }
        // What the command line names is there: volumes, configs and secrets.
        let mounted: Vec<&str> = texts(&node["volumes"]);
        for (option, volume) in [
            ("--party-dir=", "party:"),
            ("--collateral=", "collateral:"),
            ("--dstack-socket=", "/var/run/dstack.sock:"),
        ] {
            let path = line.iter().find_map(|argument| argument.strip_prefix(option)).unwrap();
            let is_mounted = |mount: &&str| mount.starts_with(volume) && mount.split(':').nth(1) == Some(path);
            assert!(mounted.iter().any(is_mounted), "{option}{path}");
        }
        let secrets: BTreeSet<&str> = texts(&node["secrets"]).into_iter().collect();
        let named: BTreeSet<&str> = line
            .iter()
            .filter_map(|argument| argument.split_once("/run/secrets/"))
            .map(|(_, name)| name)
            .collect();
        assert_eq!(secrets, named);
        let deployment = line.iter().find_map(|argument| argument.strip_prefix("--deployment=")).unwrap();
        assert_eq!(node["configs"][0]["target"].as_str(), Some(deployment));
        // Both ports are published, and the one with metrics is not.
        let ports: BTreeSet<&str> = texts(&node["ports"]).into_iter().collect();
        assert_eq!(ports, BTreeSet::from(["50061:50061", "50062:50062"]));
    }

    #[test]
    fn secrets_come_from_variables_that_the_application_allows() {
        let compose = compose();
        let settings: Value = serde_json::from_str(SETTINGS).unwrap();
        let allowed: BTreeSet<&str> = settings["allowed_envs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        let secrets = compose["secrets"].as_hash().unwrap();
        let used: BTreeSet<&str> = secrets.values().map(|secret| secret["environment"].as_str().unwrap()).collect();
        assert_eq!(used, allowed);
    }

    #[test]
    fn the_collateral_is_fetched_by_a_command_that_there_is() {
        let compose = compose();
        let script = texts(&compose["services"]["collateral"]["command"]).concat();
        let (_, rest) = script.split_once("cipherloom ").unwrap();
        let (command, _) = rest.split_once(';').unwrap();
        let line = std::iter::once("cipherloom").chain(command.split_whitespace());
        crate::cli::Arguments::command().try_get_matches_from(line).unwrap();
    }

    #[test]
    fn the_image_is_built_from_the_nodes_package_alone() {
        let build = DOCKERFILE.lines().find(|line| line.contains("cargo build")).unwrap();
        assert!(build.contains("--package cipherloom-kms-node") && build.contains("--bin cipherloom-kms") && build.contains("--locked"));
        assert!(!build.contains("features") && !build.contains("--workspace"), "{build}");
        assert_eq!(
            build.matches("--package").count(),
            1,
            "features of several packages are put together"
        );
    }
}
