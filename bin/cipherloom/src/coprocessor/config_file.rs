//! The config file: TOML with the options' own names, and nothing of its own.
//!
//! What options there are, of what kind, and what they accept is read from the command line's description, so that the two cannot differ.
//! A file's values become the options' defaults. Therefore the command line comes before the environment, the environment before the
//! file, and the file before the defaults.

use std::{any::TypeId, fs::File, io::Read, path::Path};

use anyhow::{Context, Result, bail, ensure};
use clap::{
    Arg, ArgAction, Command,
    error::{ContextKind, ContextValue},
};
use toml::de::{DeTable, DeValue};

use super::settings::configurable;

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What kind of value an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number,
    /// Anything in quotes.
    Text,
}

impl Kind {
    /// Returns the kind of an option.
    pub(super) fn of(argument: &Arg) -> Self {
        let parsed = argument.get_value_parser().type_id();
        let numbers = [
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
        ];
        match argument.get_action() {
            ArgAction::SetTrue => Self::Flag,
            _ if numbers.iter().any(|number| parsed == *number) => Self::Number,
            _ => Self::Text,
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::Number => "a whole number",
            Self::Text => "a text in quotes",
        }
    }
}

/// The values of a file.
#[derive(Clone, Default)]
pub(crate) struct ConfigFile {
    /// The option's id and its value, as the command line would have it.
    values: Vec<(String, String)>,
    /// Whether others can read a file that names the database.
    pub(super) exposes_secret: bool,
}

impl ConfigFile {
    /// Reads a file for a command.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, names an option that the command has not, or gives one a value it does not take.
    pub(super) fn read(path: &Path, command: &Command) -> Result<Self> {
        let cannot_read = || format!("cannot read the config file {}", path.display());
        let mut text = String::new();
        let file = File::open(path).with_context(cannot_read)?;
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).with_context(cannot_read)?;
        ensure!(
            u64::try_from(read).is_ok_and(|read| read <= MAX_BYTES),
            "{} is longer than {MAX_BYTES} bytes, which no config file is",
            path.display()
        );
        let mut parsed = Self::parse(&text, command).with_context(|| format!("cannot use the config file {}", path.display()))?;
        parsed.exposes_secret = parsed.has("database_url") && others_can_read(path);
        Ok(parsed)
    }

    /// Reads the text of a file for a command.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn parse(text: &str, command: &Command) -> Result<Self> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            anyhow::anyhow!("line {line}: {}", error.message())
        })?;
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        // The table is ordered by name; the first error should be the first in the file.
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut values: Vec<(String, String)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let line = line_of(text, key.span().start);
            let name = key.get_ref().replace('_', "-");
            let argument = find(command, &name).with_context(|| format!("line {line}"))?;
            let id = argument.get_id().to_string();
            ensure!(
                values.iter().all(|(earlier, _)| *earlier != id),
                "line {line}: {name} is given twice"
            );
            let value = take(argument, value.get_ref()).with_context(|| format!("line {line}"))?;
            check(command, argument, &value).with_context(|| format!("line {line}"))?;
            values.push((id, value));
        }
        Ok(Self {
            values,
            exposes_secret: false,
        })
    }

    /// Tells whether the file gives an option, which has this id, a value.
    pub(super) fn has(&self, id: &str) -> bool {
        self.values.iter().any(|(given, _)| given == id)
    }

    /// Makes the values the defaults of a command's options, or of its subcommand's.
    pub(super) fn apply(self, mut root: Command, subcommand: Option<&str>) -> Command {
        for (id, value) in self.values {
            let with_default = |argument: Arg| argument.default_value(value);
            let at_root = root.get_arguments().any(|argument| argument.get_id() == id.as_str());
            root = match subcommand {
                Some(name) if !at_root => root.mut_subcommand(name, |command| command.mut_arg(&id, with_default)),
                _ => root.mut_arg(&id, with_default),
            };
        }
        root
    }
}

/// Finds an option by its name.
fn find<'command>(command: &'command Command, name: &str) -> Result<&'command Arg> {
    let is_named = |argument: &&Arg| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        argument.get_long() == Some(name) || aliases.contains(&name)
    };
    if let Some(argument) = configurable(command).find(is_named) {
        return Ok(argument);
    }
    if command.get_arguments().any(|argument| argument.get_long() == Some(name)) {
        bail!("--{name} says what to do this once; it is for the command line alone");
    }
    // The command line knows which of its options is meant.
    let option = format!("--{name}");
    let suggestion = command
        .clone()
        .try_get_matches_from([command.get_name(), &option])
        .err()
        .and_then(|error| match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(suggested)) => Some(suggested.trim_start_matches('-').to_owned()),
            _ => None,
        })
        .filter(|suggested| configurable(command).any(|argument| argument.get_long() == Some(suggested)));
    match suggestion {
        Some(suggestion) => bail!("there is no option {name}; {suggestion} is meant, perhaps"),
        None => bail!("there is no option {name}; `coprocessor --help` lists all, and a file has their names without dashes in front"),
    }
}

/// Takes a value if it is of the option's kind.
fn take(argument: &Arg, value: &DeValue<'_>) -> Result<String> {
    let name = argument.get_long().unwrap_or_default();
    let (found, text) = match value {
        DeValue::Boolean(flag) => (Some(Kind::Flag), flag.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => (Some(Kind::Number), number.as_str().to_owned()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).with_context(|| format!("{name} is too large"))?;
            (Some(Kind::Number), number.to_string())
        }
        DeValue::String(text) => (Some(Kind::Text), text.clone().into_owned()),
        DeValue::Table(_) => bail!("{name} stands in a table; options stand at the top, without sections"),
        _ => (None, String::new()),
    };
    let wanted = Kind::of(argument);
    ensure!(found == Some(wanted), "{name} takes {}", wanted.describe());
    Ok(text)
}

/// Has the command line say whether it takes a value.
fn check(command: &Command, argument: &Arg, value: &str) -> Result<()> {
    let name = argument.get_long().unwrap_or_default();
    if Kind::of(argument) == Kind::Flag {
        return Ok(());
    }
    let Err(error) = command
        .clone()
        .try_get_matches_from([command.get_name(), &format!("--{name}={value}")])
    else {
        return Ok(());
    };
    let reason = std::error::Error::source(&error).map_or_else(|| "is no value it takes".to_owned(), ToString::to_string);
    bail!("{name} is {value:?}: {reason}")
}

/// Returns the number of the line that a place in a text is in.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(unix)]
fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
const fn others_can_read(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{super::line::CoprocessorArguments, *};

    fn parse(text: &str) -> Result<ConfigFile> {
        ConfigFile::parse(text, &CoprocessorArguments::command())
    }

    /// The whole chain of causes.
    fn refusal(text: &str) -> String {
        format!("{:#}", parse(text).map(|file| file.values).unwrap_err())
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
                assert_eq!(file.values, [(argument.get_id().to_string(), value.trim_matches('"').to_owned())]);
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
    const EXAMPLE: &str = include_str!("../../../../deploy/coprocessor.toml");

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
            let shown = all.values.iter().find(|(given, _)| given == id).map(|(_, value)| value.as_str());
            if let Some(default) = default
                && !parse(EXAMPLE).unwrap().has(id)
            {
                assert_eq!(shown, Some(default), "{name} is not shown with its default");
            }
        }
    }
}
