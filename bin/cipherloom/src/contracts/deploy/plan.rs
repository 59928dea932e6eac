//! What is deployed: of options, of the file about a deployment that was begun, of the environment, and of what is usual on the chain.

use alloy::primitives::Address;
use anyhow::{Result, bail, ensure};
use cipherloom_chain::{Deployment, LocalProfile};
use cipherloom_contracts::{DeploymentConfig, Face, GatewayPlan, HcuLimits, KmsConfig, SignerSet};
use cipherloom_primitives::eip712::SigningDomains;
use clap::Args;

use crate::contracts::{addresses::Profile, environment::Environment};

/// The largest gateway chain id: clients read 32 bits.
const MAX_GATEWAY_CHAIN_ID: u64 = u32::MAX as u64;

/// Who owns, signs, pauses and delivers, and where signatures are valid.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanOptions {
    /// Which domains signatures have [default: those that libraries know for the deployer's chain, or new ones].
    #[arg(long, value_enum)]
    pub(crate) profile: Option<Profile>,

    /// Who administers the contracts afterwards, for example a multisignature wallet; it has to accept [default: the deployer].
    #[arg(long, value_name = "ADDRESS")]
    owner: Option<Address>,

    /// A coprocessor's signing address; repeat it for several [default: ADDRESS_COPROCESSOR_ACCOUNT or ADDRESS_COPROCESSOR in the environment].
    #[arg(long, value_name = "ADDRESS")]
    coprocessor: Vec<Address>,

    /// How many coprocessors must sign an input [default: a third of them and one].
    #[arg(long, value_name = "N")]
    coprocessor_threshold: Option<u64>,

    /// A KMS node's signing address; repeat it for several [default: NUM_KMS_SIGNERS and ADDRESS_KMS_SIGNER_0 and so on in the environment].
    #[arg(long, value_name = "ADDRESS")]
    kms_signer: Vec<Address>,

    /// How many KMS nodes must sign a public decryption [default: a third of them and one].
    #[arg(long, value_name = "N")]
    kms_threshold: Option<u64>,

    /// How many KMS nodes must answer a user's request [default: as --kms-threshold].
    #[arg(long, value_name = "N")]
    user_decryption_threshold: Option<u64>,

    /// How many KMS nodes may be dishonest without harm [default: less than a third of them].
    #[arg(long, value_name = "N")]
    mpc_threshold: Option<u64>,

    /// Who may pause; repeat it for several [default: the deployer].
    #[arg(long, value_name = "ADDRESS")]
    pauser: Vec<Address>,

    /// Who delivers decrypted values through the GatewayContract; repeat it for several [default: ADDRESS_GATEWAY_RELAYER in the environment, or the
    /// deployer].
    #[arg(long, value_name = "ADDRESS")]
    relayer: Vec<Address>,

    /// Which version of the protocol the contracts speak for: 0.12 or 0.14 [default: 0.12].
    #[arg(long, value_name = "VERSION", value_parser = str::parse::<Face>)]
    face: Option<Face>,

    /// The chain id in the domains of answers [default: the profile's; for new deployments the chain's own].
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..=MAX_GATEWAY_CHAIN_ID))]
    gateway_chain_id: Option<u64>,

    /// The verifying contract of the "Decryption" domain [default: the profile's; for new deployments a hash].
    #[arg(long, value_name = "ADDRESS")]
    decryption_domain: Option<Address>,

    /// The verifying contract of the "InputVerification" domain [default: the profile's; for new deployments a hash].
    #[arg(long, value_name = "ADDRESS")]
    input_verification_domain: Option<Address>,

    /// The limit on the cost of a block's operations in HCU [default: none].
    #[arg(long, value_name = "HCU")]
    hcu_per_block: Option<u64>,

    /// The limit on the cost of a transaction's operations in HCU [default: 20000000].
    #[arg(long, value_name = "HCU")]
    hcu_per_transaction: Option<u64>,

    /// The limit on the cost of operations that depend on each other in HCU [default: 5000000].
    #[arg(long, value_name = "HCU")]
    hcu_depth: Option<u64>,
}

impl PlanOptions {
    /// Puts the plan together. What the file says is the default of what no option says; what an option says otherwise is refused later, when
    /// the file is gone on with.
    ///
    /// # Errors
    /// If nobody says who signs, a threshold is impossible, or the profile is another chain's.
    pub(crate) fn config(
        &self,
        environment: &Environment,
        chain_id: u64,
        deployer: Address,
        gateway_deployer: Option<Address>,
        recorded: Option<&Deployment>,
    ) -> Result<DeploymentConfig> {
        let recorded = recorded.map(Deployment::config);
        let recorded = recorded.as_ref();
        let limits = recorded.map_or_else(HcuLimits::default, |config| config.hcu_limits);
        Ok(DeploymentConfig {
            deployer,
            owner: self.owner.or_else(|| recorded.map(|config| config.owner)).unwrap_or(deployer),
            domains: self.domains(chain_id, deployer, recorded)?,
            face: self.face.or_else(|| recorded.map(|config| config.face)).unwrap_or_default(),
            coprocessors: self.coprocessors(environment, recorded)?,
            kms: self.kms(environment, recorded)?,
            hcu_limits: HcuLimits {
                per_block_hcu: self.hcu_per_block.unwrap_or(limits.per_block_hcu),
                per_transaction_hcu: self.hcu_per_transaction.unwrap_or(limits.per_transaction_hcu),
                depth_hcu: self.hcu_depth.unwrap_or(limits.depth_hcu),
            },
            pausers: listed(&self.pauser, recorded.map(|config| config.pausers.clone())).unwrap_or_else(|| vec![deployer]),
            gateway: GatewayPlan {
                deployer: gateway_deployer.or_else(|| recorded.and_then(|config| config.gateway.deployer)),
                relayers: match listed(&self.relayer, recorded.map(|config| config.gateway.relayers.clone())) {
                    Some(relayers) => relayers,
                    None => vec![environment.address("ADDRESS_GATEWAY_RELAYER")?.unwrap_or(deployer)],
                },
            },
        })
    }

    fn domains(&self, chain_id: u64, deployer: Address, recorded: Option<&DeploymentConfig>) -> Result<SigningDomains> {
        let usual = match self.profile {
            Some(profile) => match profile.local() {
                Some(local) => {
                    ensure!(
                        local.chain_id() == chain_id,
                        "the profile is that of chain {}, and this is chain {chain_id}",
                        local.chain_id()
                    );
                    local.domains
                }
                None => LocalProfile::of_new_chain(chain_id),
            },
            // A published plan is that of one deployer; another one's contracts are elsewhere anyhow.
            None => match (recorded, LocalProfile::of_chain(chain_id)) {
                (Some(config), _) => config.domains,
                (None, Some(local)) if local.deployer == deployer => local.domains,
                (None, _) => LocalProfile::of_new_chain(chain_id),
            },
        };
        Ok(SigningDomains {
            host_chain_id: chain_id,
            gateway_chain_id: self.gateway_chain_id.unwrap_or(usual.gateway_chain_id),
            decryption: self.decryption_domain.unwrap_or(usual.decryption),
            input_verification: self.input_verification_domain.unwrap_or(usual.input_verification),
        })
    }

    fn coprocessors(&self, environment: &Environment, recorded: Option<&DeploymentConfig>) -> Result<SignerSet> {
        let recorded = recorded.map(|config| &config.coprocessors);
        let signers = match listed(&self.coprocessor, recorded.map(|set| set.signers.clone())) {
            Some(signers) => signers,
            None => environment.coprocessor()?.into_iter().collect(),
        };
        let unchanged = recorded.filter(|set| set.signers == signers).map(|set| set.threshold);
        let set = SignerSet {
            threshold: self
                .coprocessor_threshold
                .or(unchanged)
                .unwrap_or_else(|| usual_threshold(&signers)),
            signers,
        };
        check("coprocessor", "--coprocessor", &set.signers, set.threshold)?;
        Ok(set)
    }

    fn kms(&self, environment: &Environment, recorded: Option<&DeploymentConfig>) -> Result<KmsConfig> {
        let recorded = recorded.map(|config| &config.kms);
        let signers = match listed(&self.kms_signer, recorded.map(|kms| kms.signers.clone())) {
            Some(signers) => signers,
            None => environment.kms_signers()?,
        };
        let unchanged = recorded.filter(|kms| kms.signers == signers);
        let public = self
            .kms_threshold
            .or_else(|| unchanged.map(|kms| kms.public_decryption_threshold))
            .unwrap_or_else(|| usual_threshold(&signers));
        check("KMS node", "--kms-signer", &signers, public)?;
        let user = self
            .user_decryption_threshold
            .or_else(|| unchanged.map(|kms| kms.user_decryption_threshold))
            .unwrap_or(public);
        check("KMS node", "--kms-signer", &signers, user)?;
        let mpc = self
            .mpc_threshold
            .or_else(|| unchanged.map(|kms| kms.mpc_threshold))
            .unwrap_or_else(|| usual_threshold(&signers).saturating_sub(1));
        ensure!(
            mpc < signers.len() as u64,
            "--mpc-threshold is {mpc}, and there are {} KMS nodes, of which one at least must be honest",
            signers.len()
        );
        Ok(KmsConfig {
            public_decryption_threshold: public,
            user_decryption_threshold: user,
            mpc_threshold: mpc,
            signers,
        })
    }
}

/// Returns what options list, or else what was recorded.
fn listed(options: &[Address], recorded: Option<Vec<Address>>) -> Option<Vec<Address>> {
    if options.is_empty() { recorded } else { Some(options.to_vec()) }
}

/// Returns the usual threshold of a set: more than a third of it, as the 0.6 generation's KMS had it.
pub(crate) fn usual_threshold(signers: &[Address]) -> u64 {
    (signers.len() as u64).saturating_sub(1) / 3 + 1
}

/// Refuses what the contracts would refuse, with words.
///
/// # Errors
/// If nobody signs, somebody signs twice, or the threshold is impossible.
pub(crate) fn check(role: &str, option: &str, signers: &[Address], threshold: u64) -> Result<()> {
    if signers.is_empty() {
        bail!("nobody says who signs as {role}: name the signing address with {option}");
    }
    ensure!(
        signers.len() <= 255,
        "there can be at most 255 signers, and {} are named",
        signers.len()
    );
    ensure!(!signers.contains(&Address::ZERO), "the zero address cannot sign");
    let mut sorted = signers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    ensure!(sorted.len() == signers.len(), "a {role} is named twice");
    ensure!(
        (1..=signers.len() as u64).contains(&threshold),
        "a threshold of {threshold} is impossible with {} signers",
        signers.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_threshold_is_a_third_and_one() {
        let expected = [(1, 1), (2, 1), (3, 1), (4, 2), (7, 3), (13, 5)];
        for (count, threshold) in expected {
            let signers: Vec<Address> = (1..=count).map(Address::repeat_byte).collect();
            assert_eq!(usual_threshold(&signers), threshold, "{count}");
        }
    }

    #[test]
    fn impossible_sets_are_refused_with_words() {
        let (one, two) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let refused =
            |signers: &[Address], threshold: u64| check("coprocessor", "--coprocessor", signers, threshold).unwrap_err().to_string();
        assert!(refused(&[], 1).contains("--coprocessor"));
        assert!(refused(&[one, two, one], 1).contains("twice"));
        assert!(refused(&[one, two], 3).contains("impossible"));
        assert!(refused(&[one], 0).contains("impossible"));
        assert!(refused(&[one, Address::ZERO], 1).contains("zero"));
        check("coprocessor", "--coprocessor", &[one, two], 2).unwrap();
    }
}
