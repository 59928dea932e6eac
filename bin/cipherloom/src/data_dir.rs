//! Where everything is kept on disk.
//!
//! ```text
//! DIR/keys/production/      the key set of the development stack
//! DIR/keys/production-gpu/  the same for GPUs
//! DIR/keys/production-0.6/  the same for clients of the 0.6 generation, which `dev --legacy-0.6` serves from STACK/legacy-0.6/
//! DIR/cpu/, gpu/ or clear/  one stack: chain/ (journal), store.sqlite, kms/ and coprocessor/ (signing keys, audit log)
//! DIR/cpu-4-nodes/          the stack with a committee of four: kms/1/ to kms/4/ (sealed key and share, audit log) in place of the one KMS
//! DIR/cpu/chain-ID/         the stack on a chain outside: the same, and deployment-ID.json (where the host contracts are) instead of chain/
//! ```
//!
//! Stacks of different backends are apart because a ciphertext of one means nothing to the others, and stacks of different chains and committees because
//! the contracts of a chain know their stack by its signing keys.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cipherloom_fhe::BackendKind;

use crate::{cli::StackOptions, stack::network::Network};

/// The directories of one stack.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    /// The key set.
    pub(crate) keys: PathBuf,
    /// Chain, store and signing keys.
    pub(crate) state: PathBuf,
}

impl DataDir {
    /// Lays out a stack on a chain in the directory of the options, or the user's.
    ///
    /// # Errors
    /// If the user has no home directory and none was given.
    pub(crate) fn new(options: &StackOptions, network: &Network) -> Result<Self> {
        let root = root(options.data_dir.as_deref())?;
        let own = root.join(match options.kms_nodes {
            None => options.family().to_owned(),
            Some(nodes) => format!("{}-{nodes}-nodes", options.family()),
        });
        let state = match network {
            Network::Embedded => own,
            Network::External { chain_id, .. } => own.join(format!("chain-{chain_id}")),
        };
        let keys = root.join("keys").join(kind(options));
        Ok(Self { keys, state })
    }

    /// Keeps the keys, and puts everything else into another directory.
    pub(crate) fn with_state(self, state: &Path) -> Self {
        Self {
            state: state.to_path_buf(),
            ..self
        }
    }
}

/// Returns the key set that `demo` and `dev` use by default.
///
/// # Errors
/// If the user has no home directory.
pub(crate) fn default_keys() -> Result<PathBuf> {
    Ok(root(None)?.join("keys").join("production"))
}

fn kind(options: &StackOptions) -> &'static str {
    let parameters = options.parameters();
    match parameters.backend() {
        BackendKind::Cpu if !parameters.is_secure() => parameters.name(),
        BackendKind::Clear => "insecure-clear",
        BackendKind::Cpu => "production",
        BackendKind::Gpu => "production-gpu",
    }
}

fn root(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return std::path::absolute(given).with_context(|| format!("cannot resolve {}", given.display()));
    }
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local").join("share")))
        .context("there is no home directory to keep data in; give one with --data-dir")?;
    Ok(base.join("cipherloom"))
}
