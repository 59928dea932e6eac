//! Where the host contracts of a stack are, or will be: from a manifest, from an earlier start, or from the deployer's address.

use std::path::{Path, PathBuf};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::{Deployment, LocalProfile};
use cipherloom_contracts::{DeploymentConfig, Face, GatewayPlan, HostAddresses, SignerSet, development};
use cipherloom_primitives::eip712::SigningDomains;
use cipherloom_service::key_file::{self, KeyFile};

use super::{
    chain::Signers,
    network::{ChainOptions, Network},
};

/// A chain and a deployment of the host contracts on it, which need not be there yet.
pub(crate) struct Site {
    /// The chain.
    pub(crate) network: Network,
    /// Where the contracts are.
    pub(crate) addresses: HostAddresses,
    /// Where signatures are valid.
    pub(crate) domains: SigningDomains,
    /// The first block that can hold an event of theirs, if it is known.
    pub(crate) first_block: Option<u64>,
    /// Who may deploy them if they are not there.
    pub(crate) deployer: Option<Deployer>,
    /// The manifest that says so, if one does.
    pub(crate) manifest: Option<PathBuf>,
    /// Whether the manifest says that steps are missing.
    pub(crate) is_unfinished: bool,
    /// Which version of the protocol the contracts have to speak for, if one is asked for.
    pub(crate) face: Option<Face>,
}

/// An account that deploys the host contracts.
pub(crate) struct Deployer {
    /// Its key.
    pub(crate) signer: PrivateKeySigner,
    /// Whether everybody knows the key, so that development chains may fund it.
    pub(crate) is_public: bool,
}

impl Site {
    /// Finds the deployment that the options, the stack's directory or the chain's id tell. The chain is not asked.
    ///
    /// # Errors
    /// If a file cannot be used, or is of another chain, or nothing says where the contracts are.
    pub(crate) fn find(network: Network, options: &ChainOptions, state: &Path, signers: &Signers) -> Result<Self> {
        let chain_id = network.chain_id();
        let profile = LocalProfile::of_chain(chain_id);
        let deployer = match (&options.deployer_key_file, profile) {
            (Some(file), _) => Some(Deployer {
                signer: key_file::read(file, KeyFile::DEPLOYER)?,
                is_public: false,
            }),
            (None, Some(profile)) => Some(Deployer {
                signer: profile.insecure_deployer()?,
                is_public: true,
            }),
            (None, None) => None,
        };
        let remembered = network
            .is_external()
            .then(|| state.join(Deployment::file_name(chain_id)))
            .filter(|file| file.exists());
        if let Some(file) = options.deployment.clone().or(remembered) {
            return Self::of_manifest(network, file, deployer, options.face);
        }
        let Some(deployer) = deployer else {
            bail!(
                "nothing says where the host contracts are on chain {chain_id}. Let this stack deploy them with --deployer-key-file FILE; or deploy \
                 them for it with `cipherloom contracts deploy --rpc {} --coprocessor {} {} --deployer-key-file FILE`, and name the \
                 file that this writes with --deployment",
                options.rpc.first().map_or("URL", String::as_str),
                signers.coprocessor,
                signers.kms_options()
            );
        };
        let address = deployer.signer.address();
        Ok(Self {
            addresses: HostAddresses::of_deployer(address),
            domains: domains(chain_id, profile.filter(|profile| profile.deployer == address)),
            first_block: None,
            deployer: Some(deployer),
            manifest: None,
            is_unfinished: false,
            face: options.face,
            network,
        })
    }

    /// Says whether the chain is for development: its own, or one of those whose accounts everybody knows.
    pub(crate) fn is_development(&self) -> bool {
        LocalProfile::of_chain(self.network.chain_id()).is_some()
    }

    /// Returns the deployment that makes the contracts: its deployer owns them and may pause.
    pub(crate) fn deployment(&self, deployer: Address, signers: &Signers) -> DeploymentConfig {
        DeploymentConfig {
            deployer,
            owner: deployer,
            domains: self.domains,
            face: self.face.unwrap_or_default(),
            pausers: vec![deployer],
            gateway: GatewayPlan {
                deployer: None,
                relayers: vec![deployer],
            },
            ..development::deployment(SignerSet::single(signers.coprocessor), signers.kms_config())
        }
    }

    fn of_manifest(network: Network, file: PathBuf, deployer: Option<Deployer>, face: Option<Face>) -> Result<Self> {
        let chain_id = network.chain_id();
        let manifest = Deployment::read(&file).with_context(|| format!("cannot use the deployment in {}", file.display()))?;
        ensure!(
            manifest.chain_id == chain_id,
            "the deployment in {} is on chain {}, and the node serves chain {chain_id}",
            file.display(),
            manifest.chain_id
        );
        let addresses = manifest.addresses();
        // A deployer of other contracts must not add to these.
        let deployer = deployer.filter(|deployer| HostAddresses::of_deployer(deployer.signer.address()) == addresses);
        Ok(Self {
            network,
            addresses,
            domains: manifest.signing_domains(),
            first_block: manifest.first_block,
            deployer,
            manifest: Some(file),
            is_unfinished: !manifest.complete,
            face,
        })
    }
}

/// Returns where signatures are valid: in the published domains of a known chain, or in those of new deployments.
fn domains(chain_id: u64, known: Option<LocalProfile>) -> SigningDomains {
    known.map_or_else(|| LocalProfile::of_new_chain(chain_id), |profile| profile.domains)
}
