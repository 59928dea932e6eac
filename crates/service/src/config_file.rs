//! The config file: TOML with the options' own names, and nothing of its own.
//!
//! What options there are, of what kind, and what they accept is read from the command line's description, so that the two cannot differ.
//! A file's values become the options' defaults. Therefore the command line comes before the environment, the environment before the
//! file, and the file before the defaults.
//!
//! What a process has several of, such as a gateway its chains, stands in tables of one name, `[[chain]]`. Each has options of its own, which are
//! described in the same way.

use std::{any::TypeId, ffi::OsString, fs::File, io::Read, path::Path};

use anyhow::{Context, Result, bail, ensure};
use clap::{
    Arg, ArgAction, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};
use toml::de::{DeTable, DeValue};

use super::settings::{configurable, is_secret};

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What kind of value an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number,
    /// Anything in quotes.
    Text,
}

impl Kind {
    /// Returns the kind of an option.
    pub fn of(argument: &Arg) -> Self {
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

/// What can stand in the file of a command.
pub struct Schema {
    /// The command, whose options stand at the top.
    pub command: Command,
    /// The names of tables of which there may be several, and the commands that describe what stands in one.
    pub tables: Vec<(&'static str, Command)>,
}

impl Schema {
    /// A file with options and no tables.
    pub const fn flat(command: Command) -> Self {
        Self {
            command,
            tables: Vec::new(),
        }
    }
}

/// The values of a file.
#[derive(Clone, Default)]
pub struct ConfigFile {
    /// The option's id and its values, as the command line would have them. Most options take one.
    values: Vec<(String, Vec<String>)>,
    /// The tables in order.
    tables: Vec<Table>,
    /// Whether others can read a file with a secret in it.
    pub exposes_secret: bool,
}

/// A table of a file.
#[derive(Clone)]
struct Table {
    name: &'static str,
    /// What stands in it, as the command line of the tables' command.
    line: Vec<OsString>,
    /// The same as it may be shown.
    shown: String,
}

impl ConfigFile {
    /// Reads a file for a command.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, names an option that the command has not, or gives one a value it does not take.
    pub fn read(path: &Path, schema: &Schema) -> Result<Self> {
        let cannot_read = || format!("cannot read the config file {}", path.display());
        let mut text = String::new();
        let file = File::open(path).with_context(cannot_read)?;
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).with_context(cannot_read)?;
        ensure!(
            u64::try_from(read).is_ok_and(|read| read <= MAX_BYTES),
            "{} is longer than {MAX_BYTES} bytes, which no config file is",
            path.display()
        );
        let mut parsed = Self::parse(&text, schema).with_context(|| format!("cannot use the config file {}", path.display()))?;
        let in_tables = |table: &Table| {
            let command = schema.tables.iter().find(|(name, _)| *name == table.name);
            command.is_some_and(|(_, command)| command.get_arguments().any(is_secret))
        };
        let has_secret = parsed.has_secret(&schema.command) || parsed.tables.iter().any(in_tables);
        parsed.exposes_secret = has_secret && others_can_read(path);
        Ok(parsed)
    }

    /// Reads the text of a file for a command.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &str, schema: &Schema) -> Result<Self> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            anyhow::anyhow!("line {line}: {}", error.message())
        })?;
        Self::take_table(text, table.get_ref(), schema)
    }

    fn take_table(text: &str, table: &DeTable<'_>, schema: &Schema) -> Result<Self> {
        let command = &schema.command;
        let mut entries: Vec<_> = table.iter().collect();
        // The table is ordered by name; the first error should be the first in the file.
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut values: Vec<(String, Vec<String>)> = Vec::with_capacity(entries.len());
        let mut tables = Vec::new();
        for (key, value) in entries {
            let line = line_of(text, key.span().start);
            let name = key.get_ref().replace('_', "-");
            if let Some((table, inner)) = schema.tables.iter().find(|(known, _)| *known == name) {
                let taken = Self::take_tables(text, value.get_ref(), table, inner).with_context(|| format!("line {line}: {name}"))?;
                tables.extend(taken);
                continue;
            }
            let argument = find(command, &name).with_context(|| format!("line {line}"))?;
            let id = argument.get_id().to_string();
            ensure!(
                values.iter().all(|(earlier, _)| *earlier != id),
                "line {line}: {name} is given twice"
            );
            let value = take(argument, value.get_ref()).with_context(|| format!("line {line}"))?;
            for one in &value {
                check(command, argument, one).with_context(|| format!("line {line}"))?;
            }
            values.push((id, value));
        }
        Ok(Self {
            values,
            tables,
            exposes_secret: false,
        })
    }

    fn take_tables(text: &str, value: &DeValue<'_>, name: &'static str, command: &Command) -> Result<Vec<Table>> {
        let schema = Schema::flat(command.clone());
        let DeValue::Array(all) = value else {
            bail!("begins with two brackets, because there may be several: [[{}]]", command.get_name());
        };
        let take = |value: &toml::Spanned<DeValue<'_>>| {
            let DeValue::Table(table) = value.get_ref() else {
                bail!("is a table of options");
            };
            let taken = Self::take_table(text, table, &schema)?;
            let line = line_of(text, value.span().start);
            let words = taken.as_line(command);
            // What belongs together, or must be there, the command line knows.
            if let Err(error) = command.clone().try_get_matches_from(&words) {
                let reason = error.to_string();
                let reason = reason
                    .lines()
                    .take_while(|line| !line.starts_with("Usage"))
                    .collect::<Vec<_>>()
                    .join(" ");
                bail!("line {line}: {}", reason.trim().trim_start_matches("error: ").replace("--", ""));
            }
            Ok(Table {
                name,
                line: words,
                shown: taken.shown(command),
            })
        };
        all.iter().map(take).collect()
    }

    /// Writes the values as lines of a file. Secrets are not shown.
    fn shown(&self, command: &Command) -> String {
        let mut lines = String::new();
        for (id, values) in &self.values {
            let Some(argument) = command.get_arguments().find(|argument| argument.get_id() == id.as_str()) else {
                continue;
            };
            let name = argument.get_long().unwrap_or_default();
            if is_secret(argument) {
                lines += &format!("# {name} is set (file); it may hold a password and is not shown\n");
                continue;
            }
            let written = values.iter().map(|value| match Kind::of(argument) {
                // A JSON string is a TOML string.
                Kind::Text => serde_json::Value::String(value.clone()).to_string(),
                Kind::Number | Kind::Flag => value.clone(),
            });
            let written = written.collect::<Vec<_>>().join(", ");
            lines += &match argument.get_action() {
                ArgAction::Append => format!("{name} = [{written}]\n"),
                _ => format!("{name} = {written}\n"),
            };
        }
        lines
    }

    /// Returns the tables as they may be shown, with their names.
    pub fn shown_tables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.tables.iter().map(|table| (table.name, table.shown.as_str()))
    }

    /// Writes the values as the command line of a command.
    fn as_line(&self, command: &Command) -> Vec<OsString> {
        let mut line = vec![OsString::from(command.get_name())];
        for (id, values) in &self.values {
            let Some(argument) = command.get_arguments().find(|argument| argument.get_id() == id.as_str()) else {
                continue;
            };
            let name = argument.get_long().unwrap_or_default();
            let flag = Kind::of(argument) == Kind::Flag;
            line.extend(values.iter().filter(|value| !flag || *value == "true").map(|value| match flag {
                true => OsString::from(format!("--{name}")),
                false => OsString::from(format!("--{name}={value}")),
            }));
        }
        line
    }

    /// Returns the command lines of the tables of a name, which their command takes.
    pub fn tables(&self, name: &str) -> impl Iterator<Item = &[OsString]> {
        self.tables
            .iter()
            .filter(move |table| table.name == name)
            .map(|table| table.line.as_slice())
    }

    fn has_secret(&self, command: &Command) -> bool {
        command
            .get_arguments()
            .any(|argument| is_secret(argument) && self.has(argument.get_id().as_str()))
    }

    /// Returns the options that the file gives and their values, as a command line would have them.
    pub fn values(&self) -> &[(String, Vec<String>)] {
        &self.values
    }

    /// Tells whether the file gives an option, which has this id, a value.
    pub fn has(&self, id: &str) -> bool {
        self.values.iter().any(|(given, _)| given == id)
    }

    /// Makes the values the defaults of a command's options; the command is found below the root by the names on its path. Options that the root has
    /// for all commands are set there.
    pub fn apply(self, mut root: Command, path: &[&str]) -> Command {
        for (id, values) in self.values {
            let at_root = root.get_arguments().any(|argument| argument.get_id() == id.as_str());
            root = set_default(root, if at_root { &[] } else { path }, &id, values);
        }
        root
    }
}

fn set_default(command: Command, path: &[&str], id: &str, values: Vec<String>) -> Command {
    match path {
        [] => command.mut_arg(id, |argument| argument.default_values(values)),
        [name, rest @ ..] => command.mut_subcommand(name, |inner| set_default(inner, rest, id, values)),
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
        None => bail!(
            "there is no option {name}; `{} --help` lists all, and a file has their names without dashes in front",
            command.get_name()
        ),
    }
}

/// Takes a value if it is of the option's kind; several of an option that may be given several times.
fn take(argument: &Arg, value: &DeValue<'_>) -> Result<Vec<String>> {
    match (value, argument.get_action()) {
        (DeValue::Array(all), ArgAction::Append) => all.iter().map(|value| take_one(argument, value.get_ref())).collect(),
        _ => Ok(vec![take_one(argument, value)?]),
    }
}

fn take_one(argument: &Arg, value: &DeValue<'_>) -> Result<String> {
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
    // What else must be there, or must not, is for the whole to say.
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return Ok(());
    }
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
