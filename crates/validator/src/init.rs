//! `cipherloom node init`: a directory with a key, for a node whose chain may not have begun yet.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cipherloom_node::native::Genesis;
use clap::Args;
use serde_json::json;

use crate::directory::{NodeDirectory, make_key, write_new};

/// What `node init --help` begins with.
pub(crate) const HELP: &str = "\
Make the directory of a node: a key, a config file, and the genesis file if the chain has begun.

The address that it prints is what whoever makes the chain's genesis file needs of a validator (`cipherloom node genesis --validator`), and what others write in \
front of @ when they name this node as a peer. A node that joins a running chain votes once the chain's owner has added the address to the set of validators; until \
then, and without that, it is a full node.

  cipherloom node init /var/lib/cipherloom/node --genesis genesis.json
  cipherloom node run --dir /var/lib/cipherloom/node

The key cannot be made again: keep a copy in a safe place, and never let two processes sign with it.";

/// The config file that a new node begins with. What it leaves out are the defaults.
const CONFIG: &str = include_str!("../../../deploy/validator.toml");

/// Options of `node init`.
#[derive(Clone, Debug, Args)]
pub struct InitOptions {
    /// The directory; it must not hold a node yet
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// The chain's genesis file, to be copied there
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Makes the directory.
///
/// # Errors
/// If there is a key already, the genesis file is none, or files cannot be written.
pub(crate) fn run(options: &InitOptions) -> Result<()> {
    let directory = NodeDirectory::at(&options.directory);
    ensure!(
        !directory.key.exists(),
        "{} exists: this is the directory of a node already",
        directory.key.display()
    );
    let read = |path: &PathBuf| Genesis::read(path).with_context(|| format!("cannot use {}", path.display()));
    let genesis = options.genesis.as_ref().map(read).transpose()?;
    std::fs::create_dir_all(&options.directory).with_context(|| format!("cannot create {}", options.directory.display()))?;
    if let Some(genesis) = &genesis {
        write_new(&directory.genesis, &genesis.to_json()?)?;
    }
    if !directory.config.exists() {
        write_new(&directory.config, CONFIG.as_bytes())?;
    }
    let address = make_key(&directory.key)?.address();
    let chain = genesis.as_ref().map(|genesis| genesis.chain_id);
    let validates = genesis.as_ref().is_some_and(|genesis| genesis.validators.contains(&address));
    if options.json {
        println!(
            "{}",
            json!({ "directory": options.directory, "address": address.to_checksum(None), "chainId": chain, "validator": validates })
        );
        return Ok(());
    }
    println!("node {} in {}", address.to_checksum(None), options.directory.display());
    match chain {
        Some(id) => println!(
            "of chain {id}; put its key set, without the secret key, into {}",
            directory.keys.display()
        ),
        None => println!("put the chain's genesis.json and its key set, without the secret key, there when it begins"),
    }
    Ok(())
}
