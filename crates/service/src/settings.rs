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
pub fn is_secret(argument: &Arg) -> bool {
    argument.get_value_parser().type_id() == TypeId::of::<DatabaseUrl>()
}

/// Where a value comes from, the strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
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
pub struct Setting {
    /// The option's name, without dashes in front.
    pub name: String,
    /// Its value as TOML has it; `None` if there is none or it is secret.
    value: Option<String>,
    /// Whether it has a value that is not shown.
    secret: bool,
    source: Source,
}

/// All options in effect.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    all: Vec<Setting>,
    /// The names of tables and what stands in them, without secrets.
    tables: Vec<(&'static str, String)>,
    /// Whether others can read a config file with a secret in it.
    pub exposes_secret: bool,
}

/// Returns the options that a config file can give.
pub fn configurable(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|argument| argument.get_long().is_some() && !ACTIONS.contains(&argument.get_id().as_str()))
}

impl Settings {
    /// Takes the options from what the command line was parsed to; the file's values are among them as defaults.
    pub fn new(command: &Command, matches: &ArgMatches, file: Option<&ConfigFile>) -> Self {
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
    pub fn iter(&self) -> std::slice::Iter<'_, Setting> {
        self.all.iter()
    }

    /// Tells whether somebody gave the option, which has this name, a value.
    pub fn is_given(&self, name: &str) -> bool {
        self.iter().any(|setting| setting.name == name && setting.source != Source::Default)
    }

    /// Writes a config file with these options and where each comes from.
    pub fn to_toml(&self) -> String {
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
