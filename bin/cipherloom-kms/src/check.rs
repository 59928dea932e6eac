//! What has to be so before a node serves: keys, chains, its registration, and the coprocessor it gets ciphertexts from.

use std::{path::Path, sync::Arc};

use alloy::{primitives::U256, signers::local::PrivateKeySigner};
use anyhow::{Context, Result, ensure};
use cipherloom_chain::LightClient;
use cipherloom_fhe::KeySet;
use cipherloom_kms::{Clock, SystemClock};
use cipherloom_primitives::B256;
use cipherloom_service::{
    chains::{self, Chain},
    endpoints::{is_unanswered, with_causes},
    examination::Examination,
    key_file::{self, KeyFile},
};

use super::{options::NodeOptions, process::light_options};

const KEYS: &str = "keys";
const CHAIN: &str = "chain";
const COPROCESSOR: &str = "coprocessor";

/// What a node is made of.
pub(crate) struct Parts {
    pub(crate) keys: Arc<KeySet>,
    pub(crate) signer: PrivateKeySigner,
    pub(crate) chains: Vec<Chain>,
}

/// Looks at everything.
pub(crate) async fn look(options: &NodeOptions) -> (Examination, Option<Parts>) {
    let mut examination = Examination::default();
    let keys = keys(options, &mut examination);
    let signer = signer(options, &mut examination);
    let mut opened = Vec::new();
    let all = chains::all(&options.chain, &options.chains).unwrap_or_default();
    let parts_of = options;
    for options in &all {
        match Chain::open(options).await {
            Ok(chain) => {
                if opened.iter().any(|other: &Chain| other.id == chain.id) {
                    examination.wrong(CHAIN, format!("chain {} is named twice", chain.id), "leave one of them out");
                }
                check_chain(&chain, signer.as_ref(), keys.as_deref(), &mut examination).await;
                check_validators(&chain, parts_of, keys.as_deref(), &mut examination).await;
                opened.push(chain);
            }
            Err(trouble) => examination.trouble(CHAIN, &trouble, "check the options of the chain, and that its node runs"),
        }
    }
    let parts = match (keys, signer, opened.len() == all.len()) {
        (Some(keys), Some(signer), true) => Some(Parts {
            keys,
            signer,
            chains: opened,
        }),
        _ => None,
    };
    (examination, parts)
}

fn keys(options: &NodeOptions, examination: &mut Examination) -> Option<Arc<KeySet>> {
    let open = || -> Result<KeySet> {
        let directory = options.keys.as_deref().context("no directory is named")?;
        let keys = KeySet::open_public(directory).with_context(|| format!("cannot use the keys in {}", directory.display()))?;
        ensure!(
            keys.has_secret_key(),
            "{} has no secret key: it is a copy for coprocessors or clients",
            directory.display()
        );
        Ok(keys)
    };
    let keys = match open() {
        Ok(keys) => keys,
        Err(error) => {
            examination.wrong(
                KEYS,
                format!("{error:#}"),
                "name the directory that `cipherloom keys generate` made with --keys",
            );
            return None;
        }
    };
    let (id, parameters) = (keys.manifest().id, keys.parameters());
    examination.expect(
        KEYS,
        parameters.is_secure() || options.insecure_keys,
        format!("key set {id}, {parameters}; CENTRALISED: this process holds its whole secret key"),
        || {
            (
                format!("INSECURE: key set {id} is {parameters}, which hides nothing"),
                "make another one with `cipherloom keys generate`, or accept it with --insecure-keys".to_owned(),
            )
        },
    );
    if let Err(error) = keys.decryptor() {
        examination.wrong(
            KEYS,
            format!("the secret key cannot be used: {error}"),
            "restore it from its backup, readable by this user alone",
        );
    }
    Some(Arc::new(keys))
}

fn signer(options: &NodeOptions, examination: &mut Examination) -> Option<PrivateKeySigner> {
    match key_file::read(&options.signing_key_file, KeyFile::KMS) {
        Ok(signer) => {
            examination.ok(KEYS, format!("signs as {}", signer.address().to_checksum(None)));
            Some(signer)
        }
        Err(error) => {
            examination.wrong(KEYS, format!("{error:#}"), "name the file with --signing-key-file");
            None
        }
    }
}

async fn check_chain(chain: &Chain, signer: Option<&PrivateKeySigner>, keys: Option<&KeySet>, examination: &mut Examination) {
    match chain.check().await {
        Ok(()) => examination.ok(
            CHAIN,
            format!("chain {}: its contracts are at {}", chain.id, chain.host.addresses().acl),
        ),
        Err(trouble) => return examination.trouble(CHAIN, &trouble, "check its node, and the file about the deployment"),
    }
    if let Some(signer) = signer {
        match chain.host.kms_signers().await {
            Ok(registered) => {
                let ours = signer.address();
                examination.expect(
                    CHAIN,
                    registered.signers.contains(&ours),
                    format!("chain {}: this node is registered as a KMS signer", chain.id),
                    || {
                        (
                            format!(
                                "chain {}: this node signs as {ours}, which is not registered as a KMS signer",
                                chain.id
                            ),
                            format!(
                                "register it with `cipherloom contracts signers`, or give the node the key of one of the {} that are",
                                registered.signers.len()
                            ),
                        )
                    },
                );
                if registered.threshold > U256::ONE {
                    examination.warn(
                        CHAIN,
                        format!(
                            "chain {} asks for {} signatures of KMS nodes, and one node gives one",
                            chain.id, registered.threshold
                        ),
                        "set the threshold to 1 for a centralised KMS",
                    );
                }
            }
            Err(error) => examination.not_yet(CHAIN, format!("chain {}: {error}", chain.id), "check its node"),
        }
    }
    check_coprocessor(chain, keys, examination).await;
}

/// Compares the key set of a native chain with this node's, and follows its validators up to now.
async fn check_validators(chain: &Chain, options: &NodeOptions, keys: Option<&KeySet>, examination: &mut Examination) {
    let directory = options.audit_dir.as_deref().unwrap_or(Path::new("."));
    check_key_set(chain, keys.map(|keys| B256::from(*keys.manifest().id.as_bytes())), examination);
    check_followed(chain, chain.followed(light_options(options), directory), examination).await;
}

/// Compares the key set of a native chain with this node's.
pub(crate) fn check_key_set(chain: &Chain, ours: Option<B256>, examination: &mut Examination) {
    let (Some(genesis), Some(ours)) = (chain.native(), ours) else {
        return;
    };
    examination.expect(
        CHAIN,
        genesis.key_set_id == ours,
        format!("native chain {}: its key set is this node's", chain.id),
        || {
            (
                format!(
                    "native chain {} is under key set {}, and this node has {ours}",
                    chain.id, genesis.key_set_id
                ),
                "name the directory of the chain's key set with --keys".to_owned(),
            )
        },
    );
}

/// Follows the validators of a native chain up to now.
pub(crate) async fn check_followed(chain: &Chain, followed: Result<Option<LightClient>>, examination: &mut Examination) {
    let followed = match followed {
        Ok(Some(followed)) => followed,
        Ok(None) => return,
        Err(error) => {
            let remedy = "check the file of the trusted validators, and the number of nodes that must agree";
            return examination.wrong(CHAIN, format!("{error:#}"), remedy);
        }
    };
    match followed.pin(SystemClock.now_seconds(), None).await {
        Ok(pinned) => examination.ok(
            CHAIN,
            format!(
                "native chain {}: block {} is certified; {} validators sign the next one",
                chain.id,
                pinned.number(),
                followed.trusted().validators().len()
            ),
        ),
        Err(error) => examination.not_yet(
            CHAIN,
            format!("native chain {}: {error}", chain.id),
            "check that its node follows the chain, and that enough validators run",
        ),
    }
}

/// A node starts without a coprocessor, and answers once it is there.
pub(crate) async fn check_coprocessor(chain: &Chain, keys: Option<&KeySet>, examination: &mut Examination) {
    let Some((coprocessor, at)) = chain.coprocessor() else { return };
    let at = format!("chain {}, the coprocessor at {at}", chain.id);
    let described = match coprocessor.describe().await {
        Ok(described) => described,
        Err(status) if is_unanswered(&status) => {
            return examination.warn(
                COPROCESSOR,
                format!("{at}: does not answer: {}", with_causes(&status)),
                "start it; nothing can be decrypted before",
            );
        }
        Err(status) => {
            return examination.wrong(
                COPROCESSOR,
                format!("{at}: {}", status.message()),
                "check the API key: `cipherloom tenant rotate-api-key` makes a new one",
            );
        }
    };
    examination.expect(
        COPROCESSOR,
        described.chain_id == chain.id && described.acl == chain.host.addresses().acl,
        format!("{at}: works for the chain"),
        || {
            (
                format!(
                    "{at}: works for chain {} with its access list at {}",
                    described.chain_id, described.acl
                ),
                "the API key is that of another tenant; `cipherloom tenant list` shows them all".to_owned(),
            )
        },
    );
    if let Some(ours) = keys.map(|keys| B256::from(*keys.manifest().id.as_bytes())) {
        examination.expect(
            COPROCESSOR,
            described.key_set_id == ours,
            format!("{at}: has the same key set"),
            || {
                (
                    format!(
                        "{at}: has key set {}, and this node has {}",
                        hex::encode(described.key_set_id),
                        hex::encode(ours)
                    ),
                    "give both the same: `cipherloom tenant set-keys`, or --keys".to_owned(),
                )
            },
        );
    }
}
