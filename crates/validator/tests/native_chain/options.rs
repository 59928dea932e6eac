//! What a node can be told, and the example that operators begin with.

use cipherloom_service::{
    config_file::{ConfigFile, Schema},
    settings::configurable,
};
use cipherloom_validator::{RunOptions, run_schema};

/// The example.
const EXAMPLE: &str = include_str!("../../../../deploy/validator.toml");

#[test]
fn the_example_has_every_option_with_its_default() {
    let Schema { command, .. } = run_schema();
    let is_setting = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(name, _)| name.bytes().all(|byte| byte == b'-' || byte == b'2' || byte.is_ascii_lowercase()))
    };
    let uncommented: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
        .collect();
    let all = ConfigFile::parse(&uncommented.join("\n"), &run_schema()).unwrap();
    let given = ConfigFile::parse(EXAMPLE, &run_schema()).unwrap();
    assert!(given.values().is_empty(), "the example changes nothing: {:?}", given.values());
    for argument in configurable(&command) {
        let (id, name) = (argument.get_id().as_str(), argument.get_long().unwrap());
        assert!(all.has(id), "{name} is not in the example");
        let shown = all
            .values()
            .iter()
            .find(|(given, _)| given == id)
            .map(|(_, values)| values[0].as_str());
        if let Some(default) = argument.get_default_values().first() {
            assert_eq!(shown, default.to_str(), "{name} is not shown with its default");
        }
    }
}

#[test]
fn a_directory_has_everything_that_is_not_named() {
    let options = RunOptions::of_line(&["--dir=/node", "--keys=/keys", "--embedded-executor"]).unwrap();
    options.check_together().unwrap();
    let files = options.files().unwrap();
    assert_eq!(files.genesis.to_str(), Some("/node/genesis.json"));
    assert_eq!(files.key.to_str(), Some("/node/node.key"));
    assert_eq!(files.keys.to_str(), Some("/keys"));
    assert_eq!(files.data.to_str(), Some("/node/data"));
}

#[test]
fn the_config_file_of_a_directory_counts_and_the_command_line_counts_more() {
    let place = tempfile::tempdir().unwrap();
    let directory = format!("--dir={}", place.path().display());
    let peer = "0x0123456789abcdef0123456789abcdef01234567@10.0.0.1:30333";
    let file = format!("full-node = true\npeer = [\"{peer}\"]\nblock-interval-ms = 250\n");
    std::fs::write(place.path().join("validator.toml"), file).unwrap();
    let options = RunOptions::of_line(&[&directory, "--block-interval-ms=500"]).unwrap();
    options.check_together().unwrap();
    assert!(options.full_node);
    assert_eq!(options.peers().unwrap()[0].to_string().to_lowercase(), peer);
    assert_eq!(options.timeouts().block_interval.as_millis(), 500);
}

#[test]
fn options_that_do_not_go_together_are_refused_with_what_to_do() {
    let peer = "0x0123456789abcdef0123456789abcdef01234567@10.0.0.1:30333";
    for (line, why) in [
        (vec!["--embedded-executor"], "--dir"),
        (vec!["--dir=/node"], "--executor-url"),
        (vec!["--dir=/node", "--full-node", "--peer=nowhere"], "--peer nowhere"),
        (
            vec!["--dir=/node", "--full-node", "--closed", "--peer=10.0.0.1:1"],
            "0xADDRESS@host:port",
        ),
    ] {
        let refused = RunOptions::of_line(&line).and_then(|options| options.check_together()).unwrap_err();
        assert!(format!("{refused:#}").contains(why), "{line:?}: {refused:#}");
    }
    let closed = format!("--peer={peer}");
    RunOptions::of_line(&["--dir=/node", "--full-node", "--closed", &closed])
        .and_then(|options| options.check_together())
        .unwrap();
    assert!(RunOptions::of_line(&["--dir=/node", "--closed", "--discovery"]).is_err());
    assert!(RunOptions::of_line(&["--dir=/node", "--embedded-executor", "--executor-url=http://a"]).is_err());
}
