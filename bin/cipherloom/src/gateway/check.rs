//! What has to be so before a gateway serves: that all parts are there and belong together.

use std::sync::Arc;

use alloy::primitives::{Address, U256};
use anyhow::{Context, Result};
use cipherloom_chain::SignerSetOnChain;
use cipherloom_fhe::KeySet;
use cipherloom_primitives::B256;
use cipherloom_service::{
    chains::{self, Chain},
    coprocessor,
    endpoints::{is_unanswered, with_causes},
    examination::Examination,
};
use tonic::Code;

use super::{kms::GatewayKms, options::GatewayOptions};
use crate::remote::keys::PublicKeys;

const CHAIN: &str = "chain";
const COPROCESSOR: &str = "coprocessor";
pub(super) const KMS: &str = "KMS";
const KEYS: &str = "keys";

/// What a gateway is made of.
pub(super) struct Parts {
    pub(super) chains: Vec<Chain>,
    pub(super) kms: GatewayKms,
    pub(super) keys: PublicKeys,
}

/// Looks at everything.
pub(super) async fn look(options: &GatewayOptions) -> (Examination, Option<Parts>) {
    let mut examination = Examination::default();
    let all = chains::all(&options.chain, &options.chains).unwrap_or_default();
    let mut opened: Vec<(Chain, Option<coprocessor::Described>)> = Vec::new();
    let deposits = &options.deposits;
    for options in &all {
        match Chain::open(options).await {
            Ok(chain) => {
                if opened.iter().any(|(other, _)| other.id == chain.id) {
                    examination.wrong(CHAIN, format!("chain {} is named twice", chain.id), "leave one of them out");
                }
                let described = check_chain(&chain, &mut examination).await;
                if chain.native().is_some() {
                    deposits.check(&chain, &mut examination).await;
                }
                opened.push((chain, described));
            }
            Err(trouble) => examination.trouble(CHAIN, &trouble, "check the options of the chain, and that its node runs"),
        }
    }
    let chains: Vec<&Chain> = opened.iter().map(|(chain, _)| chain).collect();
    if chains.is_empty() {
        return (examination, None);
    }
    let kms = match Box::pin(GatewayKms::open(options, &chains)).await {
        Ok(kms) => kms,
        Err(trouble) => {
            examination.trouble(
                KMS,
                &trouble,
                "check the options of the KMS, and what `cipherloom contracts status` says of its nodes",
            );
            return (examination, None);
        }
    };
    let of_kms = Box::pin(kms.check(options, &chains, &mut examination)).await;
    let keys = keys(options, &opened, of_kms, &mut examination).await;
    let complete = opened.len() == all.len();
    let parts = keys.filter(|_| complete).map(|keys| Parts {
        chains: opened.into_iter().map(|(chain, _)| chain).collect(),
        kms,
        keys,
    });
    (examination, parts)
}

/// Looks at a chain and at the coprocessor that works for it.
async fn check_chain(chain: &Chain, examination: &mut Examination) -> Option<coprocessor::Described> {
    let is_right = match chain.check().await {
        Ok(()) => {
            examination.ok(
                CHAIN,
                format!("chain {}: its contracts are at {}", chain.id, chain.host.addresses().acl),
            );
            true
        }
        Err(trouble) => {
            examination.trouble(CHAIN, &trouble, "check its node, and the file about the deployment");
            false
        }
    };
    let (coprocessor, at) = chain.coprocessor()?;
    let at = format!("chain {}, the coprocessor at {at}", chain.id);
    let described = match coprocessor.describe().await {
        Ok(described) => described,
        Err(status) if is_unanswered(&status) => {
            examination.not_yet(
                COPROCESSOR,
                format!("{at}: does not answer: {}", with_causes(&status)),
                "start it, or correct its URL",
            );
            return None;
        }
        Err(status) => {
            let remedy = match status.code() {
                Code::Unauthenticated => "check the API key; `cipherloom tenant rotate-api-key` makes a new one",
                Code::Unimplemented => "another program listens there, or an older coprocessor: update it",
                _ => "look at its log",
            };
            examination.wrong(COPROCESSOR, format!("{at}: {}", status.message()), remedy);
            return None;
        }
    };
    let addresses = chain.host.addresses();
    let belongs = described.chain_id == chain.id && described.acl == addresses.acl && described.input_verifier == addresses.input_verifier;
    examination.expect(COPROCESSOR, belongs, format!("{at}: works for the chain"), || {
        (
            format!(
                "{at}: the API key is of a tenant of chain {} with its access list at {} and its InputVerifier at {}; the deployment is on chain {} with {} and {}",
                described.chain_id, described.acl, described.input_verifier, chain.id, addresses.acl, addresses.input_verifier
            ),
            "use the API key of the chain's tenant; `cipherloom tenant list` shows them all".to_owned(),
        )
    });
    examination.expect(COPROCESSOR, described.followed, format!("{at}: follows the chain"), || {
        (
            format!("{at}: does not follow the chain, so that it learns of no computation"),
            "`cipherloom tenant follow NAME --rpc URL`".to_owned(),
        )
    });
    if is_right {
        match chain.host.coprocessor_signers().await {
            Ok(registered) => check_signer(COPROCESSOR, chain.id, described.signer, &registered, examination),
            Err(error) => examination.not_yet(CHAIN, format!("chain {}: {error}", chain.id), "check its node"),
        }
    }
    Some(described)
}

/// Makes sure that a chain accepts what a part signs, alone.
pub(super) fn check_signer(area: &'static str, chain: u64, signer: Address, registered: &SignerSetOnChain, examination: &mut Examination) {
    examination.expect(
        area,
        registered.signers.contains(&signer),
        format!("chain {chain}: its signer {signer} is registered"),
        || {
            (
                format!(
                    "chain {chain}: it signs as {signer}, which is not registered; the contracts know {:?}",
                    registered.signers
                ),
                "register it with `cipherloom contracts signers`, or give it the key that is registered".to_owned(),
            )
        },
    );
    examination.expect(
        area,
        registered.threshold <= U256::ONE,
        format!("chain {chain}: one signature is enough"),
        || {
            (
                format!(
                    "chain {chain} asks for {} signatures, and there is one signer behind this gateway",
                    registered.threshold
                ),
                "set the threshold to 1".to_owned(),
            )
        },
    );
}

/// Finds the public files, and compares whose they are.
async fn keys(
    options: &GatewayOptions,
    chains: &[(Chain, Option<coprocessor::Described>)],
    of_kms: Option<B256>,
    examination: &mut Examination,
) -> Option<PublicKeys> {
    for (chain, described) in chains {
        if let (Some(described), Some(of_kms)) = (described, of_kms) {
            examination.expect(
                KEYS,
                described.key_set_id == of_kms,
                format!("the coprocessor of chain {} and the KMS have the same key set", chain.id),
                || {
                    (
                        format!(
                            "the coprocessor of chain {} has key set {}, and the KMS has {}: what one encrypts the other cannot decrypt",
                            chain.id,
                            hex::encode(described.key_set_id),
                            hex::encode(of_kms)
                        ),
                        "give the tenant the KMS's key set with `cipherloom tenant set-keys`, or start the KMS with the tenant's --keys"
                            .to_owned(),
                    )
                },
            );
        }
    }
    let told = |(chain, described): &'_ (Chain, Option<coprocessor::Described>)| {
        let (coprocessor, _) = chain.coprocessor()?;
        Some((Arc::clone(coprocessor), described.clone()?))
    };
    let found = match &options.keys {
        Some(directory) => of_directory(directory),
        None => match chains.iter().find_map(told) {
            Some((coprocessor, described)) => PublicKeys::of(&coprocessor, &described, options.key_cache.as_deref()).await,
            None if chains.iter().all(|(chain, _)| chain.native().is_some()) => Err(anyhow::anyhow!(
                "no coprocessor works for a native chain, so that nobody says what clients encrypt with"
            )),
            None => return None,
        },
    };
    let keys = match found {
        Ok(keys) => keys,
        Err(error) => {
            examination.wrong(
                KEYS,
                format!("{error:#}"),
                "look at the coprocessor, or name a directory with --keys",
            );
            return None;
        }
    };
    examination.expect(
        KEYS,
        keys.is_secure() || options.insecure_keys,
        format!("key set {}, {}", hex::encode(keys.id()), keys.parameters()),
        || {
            (
                format!(
                    "INSECURE: key set {} is {}, which hides nothing",
                    hex::encode(keys.id()),
                    keys.parameters()
                ),
                "give the deployment another one, or accept it with --insecure-keys".to_owned(),
            )
        },
    );
    for genesis in chains.iter().filter_map(|(chain, _)| chain.native()) {
        let (id, of_chain) = (genesis.chain_id, genesis.key_set_id);
        examination.expect(
            KEYS,
            keys.id() == of_chain,
            format!("native chain {id} has the same key set"),
            || {
                (
                    format!(
                        "native chain {id} is under key set {}, and the one served is {}",
                        hex::encode(of_chain),
                        hex::encode(keys.id())
                    ),
                    "name the directory of the chain's key set with --keys".to_owned(),
                )
            },
        );
    }
    if let Some(of_kms) = of_kms {
        examination.expect(KEYS, keys.id() == of_kms, "what is served is the KMS's", || {
            (
                format!(
                    "the key set served is {}, and the KMS has {}",
                    hex::encode(keys.id()),
                    hex::encode(of_kms)
                ),
                "name the right directory with --keys".to_owned(),
            )
        });
    }
    Some(keys)
}

fn of_directory(directory: &std::path::Path) -> Result<PublicKeys> {
    let keys = KeySet::open_public(directory).with_context(|| format!("cannot use the keys in {}", directory.display()))?;
    PublicKeys::new(keys.manifest(), keys.public_key(), keys.crs())
}
