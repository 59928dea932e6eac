//! Every option in effect, and where it comes from: for messages, and for `--print-config`.

use std::{any::TypeId, fmt::Write as _};

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};

use super::{
    config_file::{ConfigFile, Kind},
    database_url::DatabaseUrl,
};

/// Options that say what to do this once. They have no place in a file.
const ACTIONS: [&str; 8] = [
    "help",
    "version",
    "verbose",
    "config",
    "print_config",
    "generate_fhe_keys",
    "check",
    "new_client_key",
];

/// Says whether an option's value may hold a secret, which is never shown.
pub(super) fn is_secret(argument: &Arg) -> bool {
    argument.get_value_parser().type_id() == TypeId::of::<DatabaseUrl>()
}

/// Where a value comes from, the strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody gave one.
    Default,
    /// The config file.
    File,
    /// The environment.
    Environment,
    /// The command line.
    CommandLine,
}

impl Source {
    const fn describe(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::CommandLine => "command line",
        }
    }
}

/// One option in effect.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The option's name, without dashes in front.
    pub(crate) name: String,
    /// Its value as TOML has it; `None` if there is none or it is secret.
    value: Option<String>,
    /// Whether it has a value that is not shown.
    secret: bool,
    source: Source,
}

/// All options in effect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    all: Vec<Setting>,
    /// The names of tables and what stands in them, without secrets.
    tables: Vec<(&'static str, String)>,
    /// Whether others can read a config file with a secret in it.
    pub(crate) exposes_secret: bool,
}

/// Returns the options that a config file can give.
pub(crate) fn configurable(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|argument| argument.get_long().is_some() && !ACTIONS.contains(&argument.get_id().as_str()))
}

impl Settings {
    /// Takes the options from what the command line was parsed to; the file's values are among them as defaults.
    pub(crate) fn new(command: &Command, matches: &ArgMatches, file: Option<&ConfigFile>) -> Self {
        let setting = |argument: &Arg| {
            let id = argument.get_id().as_str();
            let source = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => Source::CommandLine,
                Some(ValueSource::EnvVariable) => Source::Environment,
                _ if file.is_some_and(|file| file.has(id)) => Source::File,
                _ => Source::Default,
            };
            let secret = is_secret(argument);
            Setting {
                name: argument.get_long().unwrap_or(id).to_owned(),
                value: value(argument, matches).filter(|_| !secret),
                secret: secret && matches.contains_id(id),
                source,
            }
        };
        Self {
            all: configurable(command).map(setting).collect(),
            tables: file
                .into_iter()
                .flat_map(ConfigFile::shown_tables)
                .map(|(name, shown)| (name, shown.to_owned()))
                .collect(),
            exposes_secret: file.is_some_and(|file| file.exposes_secret),
        }
    }

    /// Goes through all of them.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Setting> {
        self.all.iter()
    }

    /// Tells whether somebody gave the option, which has this name, a value.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.iter().any(|setting| setting.name == name && setting.source != Source::Default)
    }

    /// Writes a config file with these options and where each comes from.
    pub(crate) fn to_toml(&self) -> String {
        let mut page = String::from("# The options in effect, and where each comes from.\n");
        for setting in self.iter() {
            let (name, source) = (&setting.name, setting.source.describe());
            let written = match (&setting.value, setting.secret) {
                (_, true) => writeln!(page, "# {name} is set ({source}); it may hold a password and is not shown"),
                (Some(value), _) => writeln!(page, "{:<48} # {source}", format!("{name} = {value}")),
                (None, _) => writeln!(page, "# {name} is not set"),
            };
            debug_assert!(written.is_ok(), "writing to a string does not fail");
        }
        for (name, shown) in &self.tables {
            page += &format!("\n[[{name}]]\n{shown}");
        }
        page
    }
}

/// Returns an option's value as TOML.
fn value(argument: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = argument.get_id().as_str();
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        return Some(matches.get_flag(id).to_string());
    }
    let written = matches.get_raw(id)?.map(|raw| {
        let raw = raw.to_string_lossy().into_owned();
        match Kind::of(argument) {
            // A JSON string is a TOML string.
            Kind::Text => serde_json::Value::String(raw).to_string(),
            Kind::Number | Kind::Flag => raw,
        }
    });
    let written: Vec<String> = written.collect();
    match argument.get_action() {
        ArgAction::Append => Some(format!("[{}]", written.join(", "))),
        _ => written.into_iter().next(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{super::config_file::Schema, *};
    use crate::coprocessor::line::{self, CoprocessorArguments};

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
        let parsed = super::super::line::cipherloom(&["cipherloom", "coprocessor", "--config", config].map(Into::into)).unwrap();
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
}
