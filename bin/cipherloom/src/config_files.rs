//! That what every process can be told stands in config files as it does on command lines, for the schemas that there are.

use std::{any::TypeId, ffi::OsString};

use anyhow::Result;
use cipherloom_service::{
    config_file::{ConfigFile, Kind, Schema},
    settings::{Settings, configurable},
};
use clap::CommandFactory;

use crate::coprocessor::line::{self, CoprocessorArguments};

fn parse(text: &str) -> Result<ConfigFile> {
    ConfigFile::parse(text, &Schema::flat(CoprocessorArguments::command()))
}

/// The whole chain of causes.
fn refusal(text: &str) -> String {
    format!("{:#}", parse(text).map(|file| file.values().to_vec()).unwrap_err())
}

#[test]
fn every_option_can_stand_in_a_file_under_its_name() {
    let command = CoprocessorArguments::command();
    let mut count = 0;
    for argument in configurable(&command) {
        let name = argument.get_long().unwrap();
        let value = match (Kind::of(argument), argument.get_value_parser().type_id()) {
            (Kind::Flag, _) => "true".to_owned(),
            (Kind::Number, _) => "17".to_owned(),
            (Kind::Text, parsed) if parsed == TypeId::of::<std::net::SocketAddr>() => "\"127.0.0.1:17\"".to_owned(),
            (Kind::Text, _) if name == "schedule" => "\"LOOP\"".to_owned(),
            (Kind::Text, parsed) if parsed == TypeId::of::<cipherloom_store::ObjectsUrl>() => "\"s3://bucket/prefix\"".to_owned(),
            (Kind::Text, _) => "\"some text\"".to_owned(),
        };
        for name in [name.to_owned(), name.replace('-', "_")] {
            let file = parse(&format!("{name} = {value}")).unwrap();
            assert_eq!(
                file.values(),
                [(argument.get_id().to_string(), vec![value.trim_matches('"').to_owned()])]
            );
        }
        count += 1;
    }
    assert!(count >= 17, "{count} options");
}

#[test]
fn an_unknown_name_is_refused_with_its_line_and_the_nearest_known_one() {
    let error = refusal("run-server = true\n\nsevrer-addr = \"127.0.0.1:1\"\n");
    assert!(
        error.contains("line 3") && error.contains("sevrer-addr") && error.contains("server-addr is meant"),
        "{error}"
    );
    let error = refusal("colour = 1");
    assert!(error.contains("no option colour") && error.contains("--help"), "{error}");
}

#[test]
fn a_value_of_another_kind_is_refused_with_its_line() {
    for (line, wanted) in [
        ("tokio-threads = \"4\"", "a whole number"),
        ("tokio-threads = 4.0", "a whole number"),
        ("tokio-threads = [4]", "a whole number"),
        ("run-server = 1", "true or false"),
        ("service-name = 7", "a text in quotes"),
        ("server-addr = 1979-05-27", "a text in quotes"),
    ] {
        let error = refusal(&format!("# first\n{line}"));
        assert!(error.contains("line 2") && error.contains(wanted), "{line}: {error}");
    }
}

#[test]
fn a_value_that_the_command_line_refuses_is_refused() {
    for (line, why) in [
        ("tokio-threads = 0", "1..=1024"),
        ("tokio-threads = -1", "1..=1024"),
        ("tokio-threads = 0xffffffff", "1..=1024"),
        ("maximum-handles-per-input = 256", "1..=255"),
        ("server-addr = \"localhost\"", "address"),
        ("schedule = \"FASTEST\"", "BATCHED"),
    ] {
        let error = refusal(line);
        assert!(error.contains("line 1") && error.contains(why), "{line}: {error}");
    }
}

#[test]
fn what_says_the_same_twice_or_what_to_do_once_is_refused() {
    let both = "maximum-compact-inputs-upload = 3\nmaximimum-compact-inputs-upload = 3";
    assert!(refusal(both).contains("line 2: maximimum-compact-inputs-upload is given twice"));
    assert!(refusal("tokio_threads = 3\ntokio-threads = 3").contains("twice"));
    assert!(refusal("tokio-threads = 3\ntokio-threads = 3").contains("line 2"));
    for action in ["generate-fhe-keys", "print-config"] {
        assert!(refusal(&format!("{action} = true")).contains("command line alone"), "{action}");
    }
    assert!(refusal("[server-addr]\nport = 1").contains("without sections"));
    assert!(refusal("tokio-threads = ").contains("line 1"));
}

/// The example that operators begin with.
const EXAMPLE: &str = include_str!("../../../deploy/coprocessor.toml");

#[test]
fn the_example_has_every_option_with_its_default() {
    let command = CoprocessorArguments::command();
    parse(EXAMPLE).unwrap();
    let is_setting = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(name, _)| name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()))
    };
    let uncommented: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
        .collect();
    let all = parse(&uncommented.join("\n")).unwrap();
    for argument in configurable(&command) {
        let (id, name) = (argument.get_id().as_str(), argument.get_long().unwrap());
        assert!(all.has(id), "{name} is not in the example");
        let default = argument.get_default_values().first().map(|value| value.to_str().unwrap());
        let shown = all
            .values()
            .iter()
            .find(|(given, _)| given == id)
            .and_then(|(_, values)| values.first())
            .map(String::as_str);
        if let Some(default) = default
            && !parse(EXAMPLE).unwrap().has(id)
        {
            assert_eq!(shown, Some(default), "{name} is not shown with its default");
        }
    }
}

/// The examples for the other processes, with what describes them and the heading of options that are for another form of the process.
fn examples() -> [(&'static str, Schema, &'static str); 3] {
    use cipherloom_kms_node::{CENTRALISED, party, schema};
    [
        (include_str!("../../../deploy/kms.toml"), schema(), party::HEADING),
        (include_str!("../../../deploy/kms-threshold.toml"), schema(), CENTRALISED),
        (include_str!("../../../deploy/gateway.toml"), crate::gateway::schema(), ""),
    ]
}

#[test]
fn the_examples_of_kms_and_gateway_have_every_option_and_a_chain() {
    for (example, schema, other_form) in examples() {
        let given = ConfigFile::parse(example, &schema).unwrap();
        assert_eq!(given.tables("chain").count(), 1);
        let of_a_table = |id: &str| {
            let mut commands = schema.tables.iter();
            commands.any(|(_, table)| table.get_arguments().any(|argument| argument.get_id() == id))
        };
        // What stands before the first table.
        let (options, _) = example.split_once("\n# Each host chain").unwrap();
        for argument in configurable(&schema.command) {
            let name = argument.get_long().unwrap();
            if argument.get_help_heading() == Some(other_form) {
                assert!(!given.has(argument.get_id().as_str()), "{name} is for another form of the process");
                continue;
            }
            let line = options
                .lines()
                .map(|line| line.trim_start_matches("# "))
                .find(|line| line.starts_with(&format!("{name} = ")));
            let callbacks = name.starts_with("callbacks-");
            assert!(
                callbacks || of_a_table(argument.get_id().as_str()) || line.is_some(),
                "{name} is not in the example"
            );
            let default = argument.get_default_values().first().and_then(|value| value.to_str());
            if let (Some(line), Some(default), false) = (line, default, given.has(argument.get_id().as_str())) {
                let shown = line.split_once(" = ").unwrap().1.trim_matches('"');
                assert_eq!(shown, default, "{name} is not shown with its default");
            }
        }
    }
}

#[test]
fn a_table_is_as_strict_as_the_command_line() {
    let refusal = |text: &str| {
        let parsed = ConfigFile::parse(text, &crate::gateway::schema());
        format!("{:#}", parsed.map(|_| ()).unwrap_err())
    };
    for (text, why) in [
        (
            "[[chain]]\nrcp-url = [\"http://a\"]",
            "line 2: there is no option rcp-url; rpc-url is meant",
        ),
        ("[[chain]]\nrpc-url = 5", "a text in quotes"),
        ("[chain]\nrpc-url = [\"http://a\"]", "two brackets"),
        ("[[client]]\nname = \"shop\"", "key-sha256"),
        ("[[client]]\nname = \"shop\"\nkey-sha256 = \"12\"", "64 hexadecimal digits"),
        ("[[chains]]\nrpc-url = [\"http://a\"]", "no option chains"),
    ] {
        let error = refusal(text);
        assert!(error.contains(why), "{text}: {error}");
    }
    let text = "[[chain]]\nrpc-url = [\"http://a\", \"http://b\"]\ncoprocessor-url = \"http://c\"\n[[chain]]\nrpc_url = \"ws://d\"\n";
    let file = ConfigFile::parse(text, &crate::gateway::schema()).unwrap();
    let lines: Vec<usize> = file.tables("chain").map(<[OsString]>::len).collect();
    assert_eq!(lines, [4, 2]);
}

#[test]
fn what_is_printed_is_a_config_file_and_shows_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("coprocessor.toml");
    std::fs::write(
        &path,
        "run_server = true\ntokio-threads = 3\nservice-name = \"a \\\"b\\\"\"\nlog-json = true\nmaximum-compact-inputs-upload = 4\n",
    )
    .unwrap();
    let arguments = [
        "coprocessor",
        "--tokio-threads",
        "2",
        "--database-url",
        "postgres://user:geheim@host/db",
        "--config",
        path.to_str().unwrap(),
    ]
    .map(Into::into);
    let parsed = line::coprocessor(&arguments).unwrap();
    assert_eq!(
        (parsed.options.tokio_threads, parsed.options.maximimum_compact_inputs_upload),
        (2, 4)
    );
    assert!(parsed.options.run_server && parsed.log.log_json && !parsed.options.run_bg_worker);
    assert!(!format!("{parsed:?}").contains("geheim"));
    let settings = &parsed.options.settings;
    assert!(settings.is_given("tokio-threads") && settings.is_given("run-server") && !settings.is_given("coprocessor-fhe-threads"));

    let page = settings.to_toml();
    assert!(!page.contains("geheim"), "{page}");
    for (start, end) in [
        ("tokio-threads = 2 ", "# command line"),
        ("run-server = true ", "# file"),
        ("service-name = \"a \\\"b\\\"\" ", "# file"),
        ("maximimum-compact-inputs-upload = 4 ", "# file"),
        ("coprocessor-fhe-threads = 8 ", "# default"),
    ] {
        assert!(page.lines().any(|line| line.starts_with(start) && line.ends_with(end)), "{page}");
    }
    // It can be read again, and says the same.
    let again = ConfigFile::parse(&page, &Schema::flat(CoprocessorArguments::command())).unwrap();
    assert!(again.has("tokio_threads") && again.has("run_server") && !again.has("database_url"));
}

#[test]
fn both_binaries_read_a_config_file_alike() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("coprocessor.toml");
    std::fs::write(&path, "run-bg-worker = true\nlog-json = true\nwork-items-batch-size = 3\n").unwrap();
    let config = path.to_str().unwrap();
    let parsed = crate::line::cipherloom(&["cipherloom", "coprocessor", "--config", config].map(Into::into)).unwrap();
    let crate::cli::Command::Coprocessor(options) = parsed.command else {
        panic!("another command was parsed")
    };
    assert!(parsed.log.log_json && options.run_bg_worker);
    assert_eq!(options.work_items_batch_size, 3);
    let other = line::coprocessor(&["coprocessor", "--config", config].map(Into::into)).unwrap();
    assert_eq!(options.settings.to_toml(), other.options.settings.to_toml());
}

#[test]
fn tables_are_printed_without_their_secrets() {
    let text = "[[chain]]\nrpc-url = [\"https://rpc.example/geheim\"]\ncoprocessor-url = [\"http://a\", \"http://b\"]\n";
    let file = ConfigFile::parse(text, &crate::gateway::schema()).unwrap();
    let command = crate::gateway::gateway_command();
    let matches = command.clone().get_matches_from(["cipherloom gateway"]);
    let page = Settings::new(&command, &matches, Some(&file)).to_toml();
    assert!(!page.contains("geheim"), "{page}");
    assert!(
        page.contains("[[chain]]\n# rpc-url is set") && page.contains("coprocessor-url = [\"http://a\", \"http://b\"]"),
        "{page}"
    );
}
