//! Where PostgreSQL's programs are, and which account may run them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{PROGRAMS, PostgresError};

/// Where packages put the server's programs, one directory per major version below.
const PACKAGED: [&str; 2] = ["/usr/lib/postgresql", "/usr/pgsql"];

/// The programs of one PostgreSQL version.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Finds the newest version that is installed.
    ///
    /// # Errors
    /// [`PostgresError::NotInstalled`].
    pub fn find() -> Result<Self, PostgresError> {
        let named = std::env::var_os(PROGRAMS).map(PathBuf::from);
        named
            .into_iter()
            .chain(packaged())
            .chain(search_path())
            .find(|directory| ["initdb", "postgres", "psql"].iter().all(|name| directory.join(name).is_file()))
            .map(|directory| Self { directory })
            .ok_or(PostgresError::NotInstalled)
    }

    /// Returns the path of a program.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The directories of packaged versions, newest first.
fn packaged() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = PACKAGED
        .iter()
        .filter_map(|parent| std::fs::read_dir(parent).ok())
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, directory)| directory).collect()
}

fn search_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map_or_else(Vec::new, |path| std::env::split_paths(&path).collect())
}

/// The account a server runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub user: u32,
    /// The number of the user's main group.
    pub group: u32,
}

impl Account {
    /// Returns the account to run the server as, or none if this process may run it as it is. Root may not.
    ///
    /// # Errors
    /// [`PostgresError::NoAccount`], or [`PostgresError::Io`] if `id` cannot be run.
    pub fn to_run_as() -> Result<Option<Self>, PostgresError> {
        if id(&["-u"])? != Some(0) {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let (Some(user), Some(group)) = (id(&["-u", name])?, id(&["-g", name])?) {
                return Ok(Some(Self { user, group }));
            }
        }
        Err(PostgresError::NoAccount)
    }

    /// Gives a file or directory to the account.
    pub(crate) fn own(self, path: &Path) -> Result<(), PostgresError> {
        std::os::unix::fs::chown(path, Some(self.user), Some(self.group)).map_err(|source| PostgresError::Io {
            what: format!("cannot give {} to user {}", path.display(), self.user),
            source,
        })
    }
}

/// Asks `id` for a number; none if it knows no such account.
fn id(arguments: &[&str]) -> Result<Option<u32>, PostgresError> {
    let output = Command::new("id").args(arguments).output().map_err(|source| PostgresError::Io {
        what: "cannot run id".to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}
