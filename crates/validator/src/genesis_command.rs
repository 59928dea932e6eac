//! `cipherloom node genesis`: the file that a chain begins with, and directories for its first nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use alloy::primitives::{Address, U256};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_contracts::{KmsConfig, development};
use cipherloom_fhe::KeySet;
use cipherloom_node::{DEPLOYER_MNEMONIC, DEV_MNEMONIC, DevAccount, native::Genesis};
use cipherloom_primitives::quorum::{Validator, ValidatorSet};
use clap::{Args, value_parser};
use serde_json::json;

use crate::{
    directory::{NodeDirectory, make_key, write_new},
    genesis::{ChainPlan, DEFAULT_FHE_GAS_LIMIT, DEFAULT_GAS_LIMIT},
};

/// What `node genesis --help` begins with.
pub(crate) const HELP: &str = "\
Make the genesis file of a new chain, and directories for its first nodes.

The file holds the first block's state: the host contracts, the set of validators, and the public key that inputs are encrypted to. All nodes have the same one; its \
hash is what light clients and peers know the chain by. Making it needs no chain and no network.

EACH VALIDATOR ITS OWN KEY: operators run `cipherloom node init` and tell you the addresses that it prints; name them with --validator, and send genesis.json back.

  cipherloom node genesis chain --chain-id 420 --keys ./keys --owner 0x… --kms-signer 0x… --validator 0x… --validator 0x… --validator 0x… --validator 0x…

ON ONE MACHINE, to try it out: --validators makes directories with keys for that many validators, --full-nodes for nodes that do not vote. Each runs with `cipherloom node \
run --dir DIR`.

  cipherloom node genesis chain --chain-id 420 --keys ./keys --validators 4 --full-nodes 1 --kms-signer 0x… --insecure-development

Whoever holds the owner's key can change the set of validators and upgrade the contracts. docs/validator.md tells more.";

/// Wei in one ether.
const ETHER: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// How much ether development accounts have.
const DEVELOPMENT_ETHER: u64 = 10_000;

/// How many accounts of each public mnemonic get some.
const DEVELOPMENT_ACCOUNTS: u32 = 10;

/// Ports of one node in directories for one machine: peers, JSON-RPC, metrics.
const PORTS_PER_NODE: u16 = 10;

/// Options of `node genesis`.
#[derive(Clone, Debug, Args)]
pub struct GenesisOptions {
    /// The directory to write genesis.json and the nodes' directories into; it must not hold them yet
    #[arg(value_name = "DIR")]
    out: PathBuf,

    /// The chain's id
    #[arg(long, value_name = "ID", value_parser = value_parser!(u64).range(1..))]
    chain_id: u64,

    /// The directory of the key set, as `cipherloom keys generate` makes it
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,

    /// Make keys and directories for this many validators of equal power
    #[arg(long, value_name = "N", conflicts_with = "validator", value_parser = value_parser!(u8).range(1..=128))]
    validators: Option<u8>,

    /// A validator with a key of its own, and its voting power if it is not 1. May be given several times
    #[arg(long, value_name = "ADDRESS[=POWER]", value_parser = parse_validator)]
    validator: Vec<Validator>,

    /// Make keys and directories for this many nodes that do not vote
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u8).range(0..=128))]
    full_nodes: u8,

    /// Who may change the set of validators and upgrade the contracts
    #[arg(long, value_name = "ADDRESS", required_unless_present = "insecure_development")]
    owner: Option<Address>,

    /// The address that a node of the KMS signs with. May be given several times
    #[arg(long, value_name = "ADDRESS", required = true)]
    kms_signer: Vec<Address>,

    /// How many nodes of the KMS may be corrupt [default: fewer than a third]
    #[arg(long, value_name = "N")]
    kms_corrupt: Option<u8>,

    /// An account that may deliver decryptions that contracts ask for, besides the owner; `cipherloom gateway --callbacks-relayer-key-file` has its key. May be
    /// given several times
    #[arg(long, value_name = "ADDRESS")]
    relayer: Vec<Address>,

    /// An account with ether in the first block. May be given several times
    #[arg(long, value_name = "ADDRESS=ETHER", value_parser = parse_funded)]
    fund: Vec<(Address, U256)>,

    /// Gas of a block
    #[arg(long, value_name = "GAS", default_value_t = DEFAULT_GAS_LIMIT, value_parser = value_parser!(u64).range(1_000_000..=300_000_000))]
    gas_limit: u64,

    /// FHE gas of a block, in HCU: it bounds what validators compute for one block
    #[arg(long, value_name = "HCU", default_value_t = DEFAULT_FHE_GAS_LIMIT, value_parser = value_parser!(u64).range(1_000_000..=75_000_000))]
    fhe_gas_limit: u64,

    /// The first port of nodes on one machine; each takes ten
    #[arg(long, value_name = "PORT", default_value_t = 30_300, value_parser = value_parser!(u16).range(1024..=60_000))]
    base_port: u16,

    /// INSECURE: accounts whose keys everybody knows own the contracts and have ether, and key sets that hide nothing are accepted
    #[arg(long)]
    insecure_development: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A node whose key and directory are made here.
struct NewNode {
    directory: PathBuf,
    address: Address,
    ports: u16,
    votes: bool,
}

/// Makes the file and the directories.
///
/// # Errors
/// If something is there already, the keys cannot be used, or the options describe no chain.
pub(crate) fn run(options: &GenesisOptions) -> Result<()> {
    let keys = KeySet::open_public(&options.keys).with_context(|| format!("cannot use the keys in {}", options.keys.display()))?;
    ensure!(
        keys.parameters().is_secure() || options.insecure_development,
        "the key set in {} is {}, which hides nothing; --insecure-development accepts it",
        options.keys.display(),
        keys.parameters()
    );
    let file = options.out.join("genesis.json");
    ensure!(!file.exists(), "{} exists; a chain begins once", file.display());
    let nodes = make_nodes(options)?;
    let genesis = plan(options, &nodes)?.build(&keys)?;
    write_new(&file, &genesis.to_json()?)?;
    let key_directory = std::path::absolute(&options.keys)?;
    for node in &nodes {
        let directory = NodeDirectory::at(&node.directory);
        write_new(&directory.genesis, &genesis.to_json()?)?;
        write_new(
            &directory.config,
            config(node, &nodes, &key_directory, options.insecure_development).as_bytes(),
        )?;
    }
    tell(options, &genesis, &file, &nodes);
    Ok(())
}

fn make_nodes(options: &GenesisOptions) -> Result<Vec<NewNode>> {
    let validators = (1..=options.validators.unwrap_or(0)).map(|number| (format!("validator-{number}"), true));
    let others = (1..=options.full_nodes).map(|number| (format!("full-node-{number}"), false));
    let mut nodes = Vec::new();
    for ((name, votes), index) in validators.chain(others).zip(0u16..) {
        let directory = options.out.join(name);
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let ports = index
            .checked_mul(PORTS_PER_NODE)
            .and_then(|offset| options.base_port.checked_add(offset))
            .filter(|port| port.checked_add(PORTS_PER_NODE).is_some())
            .context("there are not so many ports: choose a smaller --base-port")?;
        nodes.push(NewNode {
            address: make_key(&NodeDirectory::at(&directory).key)?.address(),
            directory,
            ports,
            votes,
        });
    }
    Ok(nodes)
}

fn plan(options: &GenesisOptions, nodes: &[NewNode]) -> Result<ChainPlan> {
    let made = nodes.iter().filter(|node| node.votes).map(|node| Validator {
        address: node.address,
        power: 1,
    });
    let members: Vec<Validator> = made.chain(options.validator.iter().copied()).collect();
    ensure!(
        !members.is_empty(),
        "a chain has validators: name them with --validator, or have directories made for some with --validators"
    );
    let validators = ValidatorSet::new(members).context("the validators are no set")?;
    let owner = match (options.owner, options.insecure_development) {
        (Some(owner), _) => owner,
        (None, true) => development::DEPLOYER,
        (None, false) => bail!("name the owner of the contracts with --owner"),
    };
    let mut plan = ChainPlan::new(options.chain_id, validators, owner, kms(options)?)?;
    plan.gas_limit = options.gas_limit;
    plan.fhe_gas_limit = options.fhe_gas_limit;
    plan.relayers.clone_from(&options.relayer);
    ensure!(
        plan.relayers.iter().collect::<BTreeSet<_>>().len() == plan.relayers.len(),
        "--relayer names an account twice"
    );
    plan.funded = options.fund.iter().copied().collect();
    ensure!(
        plan.funded.len() == options.fund.len(),
        "--fund names an account twice; write all its ether at once"
    );
    if options.insecure_development {
        plan.funded.extend(insecure_development_funds()?);
    }
    Ok(plan)
}

/// What a committee signs with, and how many of it must.
fn kms(options: &GenesisOptions) -> Result<KmsConfig> {
    let count = options.kms_signer.len() as u64;
    let corrupt = options.kms_corrupt.map_or(count.saturating_sub(1) / 3, u64::from);
    ensure!(
        corrupt == 0 || corrupt.saturating_mul(3) < count,
        "--kms-corrupt {corrupt}: of {count} nodes, fewer than a third may be"
    );
    Ok(KmsConfig {
        signers: options.kms_signer.clone(),
        public_decryption_threshold: corrupt + 1,
        user_decryption_threshold: 2 * corrupt + 1,
        mpc_threshold: corrupt,
    })
}

/// Returns the accounts that development chains fund, and how much they get. Everybody knows their keys.
///
/// # Errors
/// None that can occur: the mnemonics are right.
pub fn insecure_development_funds() -> Result<BTreeMap<Address, U256>> {
    let mut funded = BTreeMap::new();
    for mnemonic in [DEV_MNEMONIC, DEPLOYER_MNEMONIC] {
        for index in 0..DEVELOPMENT_ACCOUNTS {
            let account = DevAccount::derive(mnemonic, &format!("m/44'/60'/0'/0/{index}"))?;
            funded.insert(account.address(), U256::from(DEVELOPMENT_ETHER) * ETHER);
        }
    }
    Ok(funded)
}

/// Writes the config file of a node on a machine with all the others.
fn config(node: &NewNode, nodes: &[NewNode], keys: &Path, insecure: bool) -> String {
    let text = |value: &dyn std::fmt::Display| serde_json::Value::String(value.to_string()).to_string();
    let peers: Vec<String> = nodes
        .iter()
        .filter(|other| other.address != node.address)
        .map(|other| text(&format!("{}@127.0.0.1:{}", other.address, other.ports)))
        .collect();
    let mut page = format!(
        "# A node of a chain whose nodes are all on this machine. `cipherloom node run --help` tells about each option.\n\
         keys = {}\np2p-addr = \"127.0.0.1:{}\"\npeer = [{}]\nrpc-addr = \"127.0.0.1:{}\"\nmetrics-addr = \"127.0.0.1:{}\"\n",
        text(&keys.display()),
        node.ports,
        peers.join(", "),
        node.ports + 1,
        node.ports + 2
    );
    page += if node.votes {
        "embedded-executor = true\n"
    } else {
        "full-node = true\n"
    };
    if insecure {
        page += "insecure-keys = true\n";
    }
    page
}

fn tell(options: &GenesisOptions, genesis: &Genesis, file: &Path, nodes: &[NewNode]) {
    let hash = genesis.hash.unwrap_or_default();
    if options.json {
        let nodes: Vec<serde_json::Value> = nodes
            .iter()
            .map(|node| {
                json!({
                    "directory": node.directory,
                    "address": node.address.to_checksum(None),
                    "validator": node.votes,
                    "rpcUrl": format!("http://127.0.0.1:{}", node.ports + 1),
                })
            })
            .collect();
        println!(
            "{}",
            json!({ "genesis": file, "hash": hash, "chainId": genesis.chain_id, "keySetId": genesis.key_set_id, "nodes": nodes })
        );
        return;
    }
    let mut page = format!("chain {} begins with {}, hash {hash}\n", genesis.chain_id, file.display());
    for validator in &genesis.validators {
        write_line(
            &mut page,
            format_args!("  validator {} with power {}", validator.address, validator.power),
        );
    }
    if options.insecure_development {
        page += "INSECURE: keys that everybody knows own its contracts and have ether.\n";
    }
    for node in nodes {
        write_line(&mut page, format_args!("  cipherloom node run --dir {}", node.directory.display()));
    }
    print!("{page}");
}

fn write_line(page: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(page, "{line}");
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

fn parse_validator(text: &str) -> Result<Validator, String> {
    let (address, power) = text.split_once('=').unwrap_or((text, "1"));
    let address = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let power = power.parse().ok().filter(|power| *power > 0);
    Ok(Validator {
        address,
        power: power.ok_or("the power is a whole number above 0")?,
    })
}

fn parse_funded(text: &str) -> Result<(Address, U256), String> {
    let wrong = || format!("{text:?} is no account with ether: ADDRESS=ETHER, such as 0x…=100");
    let (address, ether) = text.split_once('=').ok_or_else(wrong)?;
    let address = address.parse().map_err(|_| wrong())?;
    let ether: u64 = ether.parse().map_err(|_| wrong())?;
    Ok((address, U256::from(ether).saturating_mul(ETHER)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: GenesisOptions,
    }

    const SIGNER: &str = "--kms-signer=0x1111111111111111111111111111111111111111";

    fn options(more: &[&str]) -> Result<GenesisOptions> {
        let line = ["genesis", "out", "--chain-id=420", "--keys=keys", SIGNER];
        Ok(Line::try_parse_from(line.iter().chain(more))?.options)
    }

    #[test]
    fn a_plan_names_validators_owner_and_funds() {
        let (one, two) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let owner = format!("--owner={two}");
        let validator = [format!("--validator={one}"), format!("--validator={two}=3")];
        let fund = format!("--fund={one}=5");
        let relayer = [format!("--relayer={one}"), format!("--relayer={two}")];
        let given = options(&[&owner, &validator[0], &validator[1], &fund, &relayer[0], &relayer[1]]).unwrap();
        let made = plan(&given, &[]).unwrap();
        assert_eq!(made.validators.power_of(&two), Some(3));
        assert_eq!(made.validators.total_power(), 4);
        assert_eq!(made.owner, two);
        assert_eq!(made.funded, BTreeMap::from([(one, U256::from(5) * ETHER)]));
        assert_eq!(made.kms.public_decryption_threshold, 1);
        // The owner is one in any case, and registered once.
        assert_eq!(made.deployment().relayers, [two, one]);
    }

    #[test]
    fn what_describes_no_chain_is_refused() {
        let one = "--validator=0x0101010101010101010101010101010101010101";
        let owner = "--owner=0x0202020202020202020202020202020202020202";
        let refused = |more: &[&str]| {
            options(more)
                .and_then(|options| plan(&options, &[]))
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&[owner]).contains("--validators"));
        assert!(refused(&[one]).contains("--owner"));
        assert!(refused(&[owner, one, one]).contains("no set"));
        assert!(refused(&[owner, "--validator=0x0101010101010101010101010101010101010101=0"]).contains("above 0"));
        assert!(refused(&[owner, one, "--kms-corrupt=1"]).contains("fewer than a third"));
        assert!(refused(&[owner, one, "--fund=nobody"]).contains("ADDRESS=ETHER"));
        let relayer = "--relayer=0x0101010101010101010101010101010101010101";
        assert!(refused(&[owner, one, relayer, relayer]).contains("twice"));
        let twice = "--fund=0x0101010101010101010101010101010101010101=1";
        assert!(refused(&[owner, one, twice, twice]).contains("twice"));
    }

    #[test]
    fn nodes_of_one_machine_know_each_other() {
        let node = |number: u8, votes| NewNode {
            directory: PathBuf::new(),
            address: Address::repeat_byte(number),
            ports: 30_300 + 10 * u16::from(number),
            votes,
        };
        let nodes = [node(1, true), node(2, true), node(3, false)];
        let first = config(&nodes[0], &nodes, Path::new("/keys \"of\" a chain"), true);
        assert!(first.contains("keys = \"/keys \\\"of\\\" a chain\""), "{first}");
        assert!(!first.contains(&nodes[0].address.to_string()), "{first}");
        assert!(first.contains(&format!("\"{}@127.0.0.1:30320\"", nodes[1].address)), "{first}");
        assert!(
            first.contains("embedded-executor = true") && first.contains("insecure-keys = true"),
            "{first}"
        );
        let last = config(&nodes[2], &nodes, Path::new("/keys"), false);
        assert!(
            last.contains("full-node = true") && !last.contains("executor") && !last.contains("insecure"),
            "{last}"
        );
    }
}
