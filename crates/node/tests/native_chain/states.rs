//! Nodes that begin with a state of their data directory.

use std::path::{Path, PathBuf};

/// The states of a data directory, the newest one last.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files = paths.filter(|path| name(path).starts_with("state-")).collect::<Vec<_>>();
    files.sort();
    files
}

/// Removes all states of a data directory.
pub(crate) fn remove(dir: &Path) {
    for path in files(dir) {
        std::fs::remove_file(path).unwrap();
    }
}
