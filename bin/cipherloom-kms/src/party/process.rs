//! A party as a process: started when all it needs is there, announced, and ended when it is told to.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use cipherloom_attest::CollateralStore;
use cipherloom_ceremony::RecoveryKey;
use cipherloom_kms::{HostChainView, KmsLimits, SquashedLists, Squashing};
use cipherloom_service::{
    attested::AttestedLimits,
    chains::{Chain, ChainOptions},
    connections::ConnectionLimits,
    coprocessor::{PART, RemoteCoprocessor},
    endpoints::{self, Place},
    examination::{self, Examination},
    signals::Signals,
};
use serde_json::json;

use super::{
    PartyChain, PartyConfig, PartySquashing, RunningParty,
    check::{self, Parts},
};
use crate::{
    options::NodeOptions,
    process::{light_options, witness_options},
    squashed::{OneCoprocessor, RemoteSquashed},
};

/// How often the chain is asked about the committee.
const POLL: Duration = Duration::from_secs(5);
/// How often collateral is read again.
const COLLATERAL: Duration = Duration::from_secs(300);

/// Looks at everything that a party needs.
pub(crate) async fn look(options: &NodeOptions) -> Examination {
    Box::pin(check::look(options)).await.0
}

/// Serves until told to stop.
///
/// # Errors
/// If something that the options name cannot be used, or an address is taken.
pub(crate) async fn run(options: &NodeOptions) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let patience = Duration::from_secs(options.process.startup_patience_seconds.into());
    let parts = tokio::select! {
        parts = examination::until_well(patience, async || Box::pin(check::look(options)).await) => parts?,
        () = signals.next() => return Ok(()),
    };
    let collateral = Arc::clone(&parts.attestation.collateral);
    let chain_ids: Vec<u64> = parts.chains.iter().map(|(_, chain)| chain.id).collect();
    let mut party = Box::pin(RunningParty::start(config(options, parts).await?)).await?;
    announce(options, &party, &chain_ids);
    tokio::select! {
        () = signals.next() => {}
        failed = party.failed() => return failed,
        () = refresh(options, &collateral) => {}
    }
    tracing::info!(
        drain_seconds = options.drain_seconds,
        "told to stop; a second signal ends the process at once"
    );
    tokio::select! {
        () = party.shutdown(Duration::from_secs(options.drain_seconds.into())) => {}
        () = signals.next() => tracing::warn!("told to stop at once"),
    }
    tracing::info!("stopped");
    Ok(())
}

async fn config(options: &NodeOptions, parts: Parts) -> Result<PartyConfig> {
    let directory = options.party.party_dir.as_deref().context("no directory is named")?;
    let squashing = parts.key_set.map(|keys| {
        let (keys, limits) = (Arc::new(keys), options.party.squashing());
        PartySquashing {
            service: Arc::new(Squashing::new(keys.id(), Arc::clone(&keys) as _, limits)),
            recorded: Some(keys),
        }
    });
    let mut chains = Vec::with_capacity(parts.chains.len());
    for (named, chain) in parts.chains {
        let (view, squashed): (Arc<dyn HostChainView>, _) = match chain.followed_from_genesis(light_options(options))? {
            Some(followed) => {
                let squashing = squashing.as_ref().context("a native chain needs keys to squash with")?;
                (Arc::new(followed), SquashedLists::MadeHere(Arc::clone(&squashing.service) as _))
            }
            None => (
                Arc::new(chain.witnessed(witness_options(options))?),
                squashed(&named, &chain).await?,
            ),
        };
        chains.push(PartyChain {
            id: chain.id,
            view,
            domains: chain.domains,
            squashed,
            host: chain.host,
        });
    }
    let handshakes: usize = options.party.maximum_handshakes.into();
    Ok(PartyConfig {
        store: parts.store,
        attestation: parts.attestation,
        chains,
        parameters: parts.parameters,
        audit_dir: options.audit_dir.clone().unwrap_or_else(|| directory.join("audit")),
        attested_addr: options.server_addr,
        public_addr: options.party.public_addr,
        metrics_addr: options.metrics_addr,
        limits: KmsLimits {
            requests: options.maximum_requests.into(),
            decryptions: options.concurrent_decryptions.into(),
        },
        budgets: options.party.budgets(),
        connections: AttestedLimits {
            attested: options.connection_limits(),
            handshakes: ConnectionLimits {
                connections: handshakes,
                per_address: handshakes.div_ceil(4),
            },
        },
        poll: POLL,
        recovery_key: options.party.recovery_key.as_deref().map(recovery_key).transpose()?,
        squashing,
    })
}

/// Reads to whom backups are sealed.
fn recovery_key(path: &Path) -> Result<RecoveryKey> {
    let key = endpoints::read(path)?;
    RecoveryKey::from_json(&key).with_context(|| format!("cannot use the recovery key {}", path.display()))
}

/// Where the squashed ciphertexts of a chain come from. As many coprocessors as the chain wants attestations of are asked; if it wants one, endpoints are
/// copies of the same coprocessor, of which one is asked after the other.
async fn squashed(options: &ChainOptions, chain: &Chain) -> Result<SquashedLists> {
    let registered = chain.host.coprocessor_signers().await.context("the chain's coprocessors")?;
    let enough = registered.threshold.saturating_to::<usize>();
    let coprocessors: Vec<Arc<dyn OneCoprocessor>> = if enough <= 1 {
        let (coprocessor, _) = chain.coprocessor().context("a chain that is not native has a coprocessor")?;
        vec![Arc::clone(coprocessor) as _]
    } else {
        let one = |url: &String| {
            let coprocessor = RemoteCoprocessor::new(&Place {
                part: PART,
                urls: std::slice::from_ref(url),
                ca: options.coprocessor_ca.as_deref(),
                key: options.coprocessor_api_key_file.as_ref(),
            });
            coprocessor.map(|coprocessor| Arc::new(coprocessor) as Arc<dyn OneCoprocessor>)
        };
        options.coprocessor_url.iter().map(one).collect::<Result<_>>()?
    };
    Ok(SquashedLists::Attested(Arc::new(RemoteSquashed::new(coprocessors, enough.max(1)))))
}

/// Reads collateral again and again. Never ends.
async fn refresh(options: &NodeOptions, collateral: &CollateralStore) {
    let Some(directory) = &options.party.collateral else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(COLLATERAL).await;
        match collateral.read_again(directory) {
            Ok(()) => tracing::debug!("read the collateral again"),
            Err(error) => tracing::warn!(%error, "cannot read the collateral again; what was read before counts until it expires"),
        }
    }
}

fn announce(options: &NodeOptions, party: &RunningParty, chain_ids: &[u64]) {
    let signer = party.signer().to_checksum(None);
    let (attested, public, metrics) = (party.attested_address(), party.public_address(), party.metrics_address());
    let state = party.state().state.as_str();
    if options.process.json {
        println!(
            "{}",
            json!({
                "serverAddress": attested.to_string(),
                "publicAddress": public.to_string(),
                "metricsAddress": metrics.to_string(),
                "signerAddress": signer,
                "chainIds": chain_ids,
                "centralised": false,
                "state": state,
            })
        );
        return;
    }
    let names: Vec<String> = chain_ids.iter().map(ToString::to_string).collect();
    println!(
        "KMS party on {attested} for chain {}, signing as {signer}: {state}",
        names.join(", ")
    );
    println!("anybody can check it on http://{public}: /attestation, /manifest, /status, /audit/head");
    println!("metrics on http://{metrics}/metrics, health on http://{metrics}/health");
}
