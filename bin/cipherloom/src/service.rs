//! What every long-running process of ours has: options that can stand in a file, with where each comes from, and an end when it is told to.

pub(crate) mod chains;
pub(crate) mod config_file;
pub(crate) mod database_url;
pub(crate) mod examination;
pub(crate) mod line;
pub(crate) mod runtime;
pub(crate) mod settings;
pub(crate) mod signals;
