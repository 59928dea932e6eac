//! What has to be so before a party serves: its hardware, its policy, its directory, its chains, and the coprocessors that it gets ciphertexts from, or the keys
//! that it squashes them with itself.

use std::io::ErrorKind;

use anyhow::ensure;
use cipherloom_attest::{DEVELOPMENT_CHAINS, Occasion, Role, Statement};
use cipherloom_ceremony::{CeremonyError, Store};
use cipherloom_chain::{AclSource, CommitteeOnChain};
use cipherloom_fhe::ParameterSet;
use cipherloom_kms::{Clock as _, SystemClock};
use cipherloom_primitives::{Address, B256};
use cipherloom_service::{
    chains::{self, Chain, ChainOptions},
    endpoints::with_causes,
    examination::Examination,
};
use cipherloom_threshold::CommitteeSize;

use super::Attestation;
use crate::{
    check::{check_followed, check_key_set},
    key_set::RecordedKeys,
    options::NodeOptions,
    process::light_options,
};

const ATTESTATION: &str = "attestation";
const PARTY: &str = "party";
const CHAIN: &str = "chain";
const COPROCESSOR: &str = "coprocessor";
const KEYS: &str = "keys";

/// What a party is made of.
pub(super) struct Parts {
    pub(super) attestation: Attestation,
    pub(super) store: Store,
    pub(super) parameters: ParameterSet,
    /// What ciphertexts of native chains are squashed with, if there are any.
    pub(super) key_set: Option<RecordedKeys>,
    pub(super) chains: Vec<(ChainOptions, Chain)>,
}

/// Looks at everything.
pub(super) async fn look(options: &NodeOptions) -> (Examination, Option<Parts>) {
    let mut examination = Examination::default();
    let parameters = parameters(options, &mut examination);
    let attestation = attestation(options, &mut examination);
    let store = match &attestation {
        Some(attestation) => store(options, attestation, &mut examination).await,
        None => None,
    };
    let signer = store.as_ref().map(|store| store.identity().address());
    let key_set = key_set(options, parameters, store.as_ref(), &mut examination);
    let node = options;
    let mut opened: Vec<(ChainOptions, Chain)> = Vec::new();
    let all = chains::all(&options.chain, &options.chains).unwrap_or_default();
    for options in &all {
        match Chain::open(options).await {
            Ok(chain) => {
                if opened.iter().any(|(_, other)| other.id == chain.id) {
                    examination.wrong(CHAIN, format!("chain {} is named twice", chain.id), "leave one of them out");
                }
                check_chain(&chain, signer, opened.is_empty(), &mut examination).await;
                check_key_set(&chain, key_set.as_ref().map(RecordedKeys::id), &mut examination);
                check_followed(&chain, chain.followed_from_genesis(light_options(node)), &mut examination).await;
                opened.push((options.clone(), chain));
            }
            Err(trouble) => examination.trouble(CHAIN, &trouble, "check the options of the chain, and that its node runs"),
        }
    }
    check_rights(options, &opened, &mut examination);
    if let Some(attestation) = &attestation {
        check_evidence(attestation, &opened, signer, &mut examination).await;
    }
    let complete = opened.len() == all.len() && key_set.is_some() == options.keys.is_some();
    let parts = match (parameters, attestation, store, complete) {
        (Some(parameters), Some(attestation), Some(store), true) => Some(Parts {
            attestation,
            store,
            parameters,
            key_set,
            chains: opened,
        }),
        _ => None,
    };
    (examination, parts)
}

/// Chooses the parameters of the key set: those that can be squashed, and are secure unless the operator says otherwise.
fn parameters(options: &NodeOptions, examination: &mut Examination) -> Option<ParameterSet> {
    let suits = |set: &&ParameterSet| set.can_squash_noise() && set.is_secure() != options.insecure_keys;
    let found = ParameterSet::ALL.iter().find(suits).copied();
    match found {
        Some(set) if set.is_secure() => {}
        Some(set) => examination.warn(
            PARTY,
            format!("INSECURE: the key set is {set}, which hides nothing"),
            "leave out --insecure-keys outside of tests",
        ),
        None => examination.wrong(
            PARTY,
            "this build has no insecure parameters",
            "leave out --insecure-keys, or take a build for development",
        ),
    }
    found
}

/// Opens what ciphertexts of native chains are squashed with, and compares it with what the party's shares came with.
fn key_set(
    options: &NodeOptions,
    parameters: Option<ParameterSet>,
    store: Option<&Store>,
    examination: &mut Examination,
) -> Option<RecordedKeys> {
    let directory = options.keys.as_deref()?;
    let remedy = "name with --keys what `cipherloom kms ceremony` wrote, or a copy of the key set that `cipherloom keys export` made";
    let opened = RecordedKeys::open(directory).and_then(|keys| {
        let of_node = parameters.unwrap_or(keys.parameters());
        ensure!(
            keys.parameters() == of_node,
            "the key set in {} is of parameters {}, and this node is for {of_node}",
            directory.display(),
            keys.parameters()
        );
        Ok(keys)
    });
    let keys = match opened {
        Ok(keys) => keys,
        Err(error) => {
            examination.wrong(KEYS, format!("{error:#}"), remedy);
            return None;
        }
    };
    examination.ok(
        KEYS,
        format!("key set {}, {}: squashes noise for native chains", keys.id(), keys.parameters()),
    );
    for (key, epoch) in store.into_iter().flat_map(Store::held) {
        let compared = store.map(|store| store.share(key, epoch));
        // A share that cannot be opened is told of when it is to be used.
        let Some(Ok(Some(held))) = compared else { continue };
        match keys.compare(&held.record) {
            Ok(()) => examination.ok(
                KEYS,
                "the record of the party's share names its keys; their digests are compared when they are read",
            ),
            Err(error) => examination.wrong(KEYS, format!("{error:#}"), remedy),
        }
    }
    Some(keys)
}

fn attestation(options: &NodeOptions, examination: &mut Examination) -> Option<Attestation> {
    let attestation = match Attestation::of_options(&options.party) {
        Ok(attestation) => attestation,
        Err(error) => {
            examination.wrong(
                ATTESTATION,
                format!("{error:#}"),
                "see --policy, --collateral and --dstack-socket, and docs/attestation.md",
            );
            return None;
        }
    };
    match attestation.verifier() {
        Ok(verifier) => {
            let policy = verifier.policy();
            let digest = policy.digest().unwrap_or_default();
            examination.ok(
                ATTESTATION,
                format!("the policy lists {} images; its digest is {digest}", policy.images.len()),
            );
        }
        Err(error) => {
            examination.wrong(ATTESTATION, format!("{error:#}"), "see docs/attestation.md");
            return None;
        }
    }
    Some(attestation)
}

async fn store(options: &NodeOptions, attestation: &Attestation, examination: &mut Examination) -> Option<Store> {
    let Some(directory) = options.party.party_dir.as_deref() else {
        examination.wrong(PARTY, "no directory is named", "name it with --party-dir");
        return None;
    };
    match Store::open(directory, &*attestation.attestor).await {
        Ok(store) => {
            examination.ok(PARTY, format!("signs as {}", store.identity().address().to_checksum(None)));
            for (key, epoch) in store.held() {
                let (key, epoch) = (B256::from(key.0), B256::from(epoch.0));
                examination.ok(PARTY, format!("has a share of key set {key} of epoch {epoch}"));
            }
            Some(store)
        }
        Err(CeremonyError::File { path, source, .. }) if source.kind() == ErrorKind::WouldBlock => {
            examination.not_yet(
                PARTY,
                format!("another process holds {path}"),
                "the node runs already, or the process before it has not ended yet",
            );
            None
        }
        Err(error) => {
            examination.wrong(
                PARTY,
                format!("cannot use the party's directory {}: {error}", directory.display()),
                "a directory opens only on the hardware and for the software that made it",
            );
            None
        }
    }
}

/// Makes evidence, and judges it as others would who have the same policy.
async fn check_evidence(
    attestation: &Attestation,
    opened: &[(ChainOptions, Chain)],
    signer: Option<Address>,
    examination: &mut Examination,
) {
    let (Some((_, home)), Some(signer), Ok(verifier)) = (opened.first(), signer, attestation.verifier()) else {
        return;
    };
    if attestation.is_simulated() {
        for (_, chain) in opened {
            examination.expect(
                ATTESTATION,
                DEVELOPMENT_CHAINS.contains(&chain.id),
                format!("SIMULATED: proves nothing, which chain {} allows", chain.id),
                || {
                    (
                        format!("attestation is simulated, and chain {} is not one for development", chain.id),
                        "run the node in trusted hardware, without --insecure-simulated-attestation".to_owned(),
                    )
                },
            );
        }
    }
    let statement = Statement {
        role: Role::KmsNode,
        chain_id: home.id,
        context: B256::ZERO,
        party: 0,
        signer,
    };
    let occasion = Occasion::Challenge(B256::ZERO);
    let evidence = match attestation.attestor.evidence(statement.report_data(&[], &occasion)).await {
        Ok(evidence) => evidence,
        Err(error) => {
            return examination.wrong(
                ATTESTATION,
                format!("the hardware makes no evidence: {error}"),
                "see docs/attestation.md",
            );
        }
    };
    match verifier.verify(&evidence, &statement, &[], &occasion, SystemClock.now_seconds()) {
        Ok(claims) => {
            let image = claims.image.unwrap_or_else(|| "nothing that is real".to_owned());
            examination.ok(ATTESTATION, format!("the policy recognises what runs here: {image}"));
        }
        Err(error) => examination.warn(
            ATTESTATION,
            format!("by its own policy this node would not be believed: {error}"),
            "add what runs here to the policy, or refresh the collateral; other parties with this policy refuse the node",
        ),
    }
}

async fn check_chain(chain: &Chain, signer: Option<Address>, is_home: bool, examination: &mut Examination) {
    match chain.check().await {
        Ok(()) => examination.ok(
            CHAIN,
            format!("chain {}: its contracts are at {}", chain.id, chain.host.addresses().acl),
        ),
        Err(trouble) => return examination.trouble(CHAIN, &trouble, "check its node, and the file about the deployment"),
    }
    match (is_home, chain.host.kms_committee().await) {
        (true, Ok(committee)) => check_committee(&committee, signer, examination),
        (false, Ok(_)) => {}
        (_, Err(error)) => examination.not_yet(CHAIN, format!("chain {}: {error}", chain.id), "check its node"),
    }
    check_coprocessor(chain, examination).await;
}

/// A party starts without a coprocessor: it gets its key set from the same ceremony.
async fn check_coprocessor(chain: &Chain, examination: &mut Examination) {
    let Some((coprocessor, at)) = chain.coprocessor() else { return };
    let at = format!("chain {}, the coprocessor at {at}", chain.id);
    match coprocessor.describe().await {
        Ok(described) => examination.expect(
            COPROCESSOR,
            described.chain_id == chain.id && described.acl == chain.host.addresses().acl,
            format!("{at}: works for the chain, with key set {}", described.key_set_id),
            || {
                (
                    format!(
                        "{at}: works for chain {} with its access list at {}",
                        described.chain_id, described.acl
                    ),
                    "the API key is that of another tenant; `cipherloom tenant list` shows them all".to_owned(),
                )
            },
        ),
        Err(status) => examination.warn(
            COPROCESSOR,
            format!("{at}: {}", with_causes(&status)),
            "start it, and give it the key set of the ceremony; nothing can be decrypted before",
        ),
    }
}

/// A party starts before it is registered: its address has to be known for that.
fn check_committee(committee: &CommitteeOnChain, signer: Option<Address>, examination: &mut Examination) {
    let context = committee.context_id;
    if let Some(signer) = signer {
        match committee.party_of(signer) {
            Some(party) => examination.ok(PARTY, format!("is party {party} of KMS context {context}")),
            None => examination.warn(
                PARTY,
                format!("awaits registration: KMS context {context} does not list {signer}"),
                "register the addresses of all parties with `cipherloom contracts signers`",
            ),
        }
    }
    let parties = u8::try_from(committee.signers.len()).unwrap_or(u8::MAX);
    let corrupt = u8::try_from(committee.mpc_threshold).unwrap_or(u8::MAX);
    match CommitteeSize::new(parties, corrupt) {
        Ok(size) => examination.ok(PARTY, format!("the committee: {size}")),
        Err(error) => examination.warn(
            PARTY,
            format!("KMS context {context} is no committee: {error}"),
            "register it with a threshold below a third of its members",
        ),
    }
}

/// Says where one endpoint alone decides what may be decrypted. On native chains rights are proven.
fn check_rights(options: &NodeOptions, opened: &[(ChainOptions, Chain)], examination: &mut Examination) {
    if options.acl_check == AclSource::Call
        && options.rpc_quorum < 2
        && !opened
            .iter()
            .all(|(_, chain)| chain.native().is_some() || DEVELOPMENT_CHAINS.contains(&chain.id))
    {
        examination.warn(
            CHAIN,
            "whoever runs the chain's endpoint decides what this party decrypts",
            "name endpoints of several operators and give --rpc-quorum 2, or --acl-check both",
        );
    }
}
