//! `cipherloom dev --legacy-0.6`: beside the stack, what dApps of the 0.6 generation need: `fhevmjs` 0.6 unmodified against its own gateway.
//!
//! A stack of its own on the same chain, since nothing of that generation's fits today's: a key set whose public part tfhe 0.9 reads, a coprocessor
//! with that generation's gRPC interface, a KMS and a gateway. Its contracts are not ours to deploy. They are where that generation's deployer puts
//! them: at the addresses that follow from an account and its first ten transactions; whoever deploys the published contracts from that account
//! (`e2e/legacy` does) finds the stack waiting for them.
//!
//! ```text
//! DIR/keys/production-0.6/       the key set
//! STACK/legacy-0.6/              store.sqlite, api-key, coprocessor/signing-key, kms/signing-key, kms/audit.jsonl
//! ```

mod acl;
mod coprocessor;
mod events;
mod feeder;
mod services;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use anyhow::{Context, Result};
use cipherloom_fhe::{KeySet, ParameterSet};
use cipherloom_gateway::legacy::{LegacyConfig, LegacyGateway, LegacyGatewayHandle, LegacyServices};
use cipherloom_kms::{AuditLog, KmsLimits, LegacyKms, LegacyKmsParts, LegacySite, NodeKey, legacy::InputCheck};
use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::{acl::LegacyAcl, coprocessor::LegacyCoprocessor, feeder::Feeder, services::LegacyParts};
use crate::{data_dir::DataDir, keys, stack::Stack};

/// Options of `dev` for clients of the 0.6 generation.
#[derive(Clone, Debug, Args)]
pub(crate) struct LegacyOptions {
    /// Serve dApps of the 0.6 generation too: `fhevmjs` 0.6 through a gateway and a key set of its own, for that generation's contracts on the same
    /// chain. docs/legacy-0.6.md tells more.
    #[arg(long = "legacy-0.6")]
    pub(crate) enabled: bool,

    /// Port of the 0.6 generation's gateway; 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 7077, requires = "enabled")]
    legacy_gateway_port: u16,

    /// The account that deploys the 0.6 generation's contracts, with its first ten transactions [default: the last development account].
    #[arg(long, value_name = "ADDRESS", requires = "enabled")]
    legacy_deployer: Option<Address>,
}

/// Where the contracts of the 0.6 generation are on a chain, all deployed by one account: each is a proxy, deployed after its implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LegacyContracts {
    deployer: Address,
    acl: Address,
    executor: Address,
    kms_verifier: Address,
    input_verifier: Address,
    payment: Address,
}

impl LegacyContracts {
    /// Returns the addresses for an account whose first transactions deploy the contracts.
    fn of(deployer: Address) -> Self {
        Self {
            deployer,
            acl: deployer.create(1),
            executor: deployer.create(3),
            kms_verifier: deployer.create(5),
            input_verifier: deployer.create(7),
            payment: deployer.create(9),
        }
    }
}

/// A running stack of the 0.6 generation.
pub(crate) struct LegacyStack {
    gateway: LegacyGatewayHandle,
    coprocessor: LegacyCoprocessor,
    feeder: JoinHandle<()>,
    stop: CancellationToken,
    contracts: LegacyContracts,
    signers: [Address; 2],
}

impl LegacyStack {
    /// Starts it on the chain of a running stack.
    ///
    /// # Errors
    /// If there is no deployer, the keys cannot be made, a port is taken, or the directory belongs to another deployment.
    pub(crate) async fn start(stack: &Stack, data: &DataDir, options: &LegacyOptions) -> Result<Self> {
        let deployer = options
            .legacy_deployer
            .or_else(|| stack.accounts().last().map(cipherloom_node::DevAccount::address))
            .context("on this chain nobody knows who deploys the contracts of the 0.6 generation: give --legacy-deployer")?;
        let contracts = LegacyContracts::of(deployer);
        let state = data.state.join("legacy-0.6");
        let key_directory = data.keys.with_file_name("production-0.6");
        let keys = tokio::task::spawn_blocking(move || keys::open_or_generate(&key_directory, ParameterSet::Production06))
            .await
            .context("key generation was interrupted")??;

        let signer = signer(&state.join("coprocessor").join("signing-key"))?;
        let kms_key = NodeKey::open_or_generate(&state.join("kms").join("signing-key"))?;
        let signers = [signer.address(), kms_key.address()];
        let site = LegacySite {
            chain_id: stack.chain_id(),
            acl: contracts.acl,
            kms_verifier: contracts.kms_verifier,
            input_verifier: contracts.input_verifier,
            coprocessor: signer.address(),
        };
        let stop = CancellationToken::new();
        let coprocessor = LegacyCoprocessor::start(&state, Arc::clone(&keys), signer, site, stop.clone()).await?;
        let kms = Self::kms(&state, &keys, kms_key, site, stack, &coprocessor)?;
        let parts = Arc::new(LegacyParts {
            kms,
            coprocessor: coprocessor.client(),
        });
        let services = LegacyServices {
            keys: Arc::new(services::LegacyKeys::new(keys)),
            inputs: Arc::clone(&parts) as _,
            reencryption: parts,
        };
        let config = LegacyConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, options.legacy_gateway_port)));
        let gateway = LegacyGateway::start(config, services)
            .await
            .context("cannot start the gateway of the 0.6 generation")?;
        let feeder = Feeder::new(stack.host().provider(), contracts.executor, coprocessor.client());
        let feeder = tokio::spawn(feeder.run(stop.clone()));
        Ok(Self {
            gateway,
            coprocessor,
            feeder,
            stop,
            contracts,
            signers,
        })
    }

    fn kms(
        state: &Path,
        keys: &KeySet,
        signing_key: NodeKey,
        site: LegacySite,
        stack: &Stack,
        coprocessor: &LegacyCoprocessor,
    ) -> Result<Arc<LegacyKms>> {
        let audit = AuditLog::open(&state.join("kms").join("audit.jsonl"))?;
        Ok(Arc::new(LegacyKms::new(LegacyKmsParts {
            decrypt: keys.decryptor()?,
            // A second check of a proof would take a minute of CPU, in the process that has made the first.
            inputs: InputCheck::Coprocessor,
            signing_key,
            site,
            chain: Arc::new(LegacyAcl::new(stack.host().provider(), site.acl)),
            ciphertexts: Arc::new(coprocessor.client()),
            audit,
            clock: Arc::new(cipherloom_kms::SystemClock),
            limits: KmsLimits::default(),
        })))
    }

    /// Says what a dApp of the 0.6 generation has to know. The `deployer` deploys the contracts, `KMSVerifier` has to be told the KMS's signer, and
    /// the coprocessor's is compiled into `InputVerifier`.
    pub(crate) fn summary(&self) -> Value {
        let LegacyContracts {
            deployer,
            acl,
            executor,
            kms_verifier,
            input_verifier,
            payment,
        } = self.contracts;
        let [coprocessor, kms] = self.signers;
        let text = |address: Address| address.to_checksum(None);
        json!({
            "gatewayUrl": self.gateway.url(),
            "deployer": text(deployer),
            "contracts": {
                "ACL": text(acl),
                "TFHEExecutor": text(executor),
                "KMSVerifier": text(kms_verifier),
                "InputVerifier": text(input_verifier),
                "FHEPayment": text(payment),
            },
            "coprocessorSigner": text(coprocessor),
            "kmsSigner": text(kms),
        })
    }

    /// Stops it: no new requests, then no new work.
    pub(crate) async fn shutdown(self) {
        self.gateway.shutdown().await;
        self.stop.cancel();
        if let Err(error) = self.feeder.await {
            tracing::error!(%error, "what reads the events of the 0.6 generation ended with a panic");
        }
        self.coprocessor.shutdown().await;
    }
}

/// Reads a signing key, or makes it at the first start.
fn signer(path: &Path) -> Result<PrivateKeySigner> {
    let bytes = NodeKey::open_or_generate(path)?.to_bytes();
    PrivateKeySigner::from_slice(bytes.as_slice()).context("the coprocessor's signing key")
}

#[cfg(test)]
mod tests {
    use alloy::primitives::address;

    use super::*;

    #[test]
    fn contracts_are_where_the_generation_puts_them() {
        // The account that its development network deploys from.
        let contracts = LegacyContracts::of(address!("0xEA63e594De67C2B32545C4B8Fec9676285602852"));
        assert_eq!(contracts.acl, address!("0x339EcE85B9E11a3A3AA557582784a15d7F82AAf2"));
        assert_eq!(contracts.executor, address!("0x596E6682c72946AF006B27C131793F2b62527A4b"));
        assert_eq!(contracts.kms_verifier, address!("0x208De73316E44722e16f6dDFF40881A3e4F86104"));
        assert_eq!(contracts.input_verifier, address!("0x69dE3158643e738a0724418b21a35FAA20CBb1c5"));
        assert_eq!(contracts.payment, address!("0x6d5A11aC509C707c00bc3A0a113ACcC26c532547"));
    }
}
