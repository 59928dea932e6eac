//! A whole deployment with its file: both deployers, every transaction noted before it is waited for, and the code that stands there in the end.

use std::path::Path;

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, Bytes, U64, keccak256},
    signers::local::PrivateKeySigner,
};
use cipherloom_contracts::{DeploymentConfig, DeploymentStep, HostContract, deployment_steps, gateway_deployment_steps};

use crate::{
    deployment::{DeployEvent, deploy_steps, progress},
    error::ChainError,
    host_chain::HostChain,
    manifest::{Deployment, Implementation},
    proxy,
    sender::{SendEvent, SendOptions, TransactionSender},
};

/// A deployment to carry out or to go on with.
#[derive(Clone, Debug)]
pub struct DeploymentRun<'a> {
    /// What to deploy.
    pub config: &'a DeploymentConfig,
    /// How transactions are paid for and waited for.
    pub options: SendOptions,
    /// Where the deployment is recorded. A file that is there is gone on with.
    pub file: Option<&'a Path>,
}

/// The keys of a deployment.
#[derive(Clone, Debug)]
pub struct Deployers {
    /// The account that deploys.
    pub deployer: PrivateKeySigner,
    /// The account that deploys the GatewayContract, if it is another.
    pub gateway_deployer: Option<PrivateKeySigner>,
}

impl DeploymentRun<'_> {
    /// Sends what is not on chain yet and returns what is there then.
    ///
    /// # Errors
    /// [`ChainError::Inconsistent`] if the file is about another deployment or a key is another account's, [`ChainError::DeploymentFile`] if it
    /// cannot be read or written, and as [`crate::deploy`].
    pub async fn execute(
        &self,
        chain: &HostChain,
        deployers: &Deployers,
        observer: &mut (dyn FnMut(DeployEvent<'_>) + Send),
    ) -> Result<Deployment, ChainError> {
        let config = self.config;
        let found = chain.chain_id().await?;
        if found != config.domains.host_chain_id {
            return Err(ChainError::WrongChain {
                expected: config.domains.host_chain_id,
                found,
            });
        }
        let mut record = self.record()?;
        let accounts = [
            (Some(&deployers.deployer), Some(config.deployer), deployment_steps(config)),
            (
                deployers.gateway_deployer.as_ref(),
                config.gateway.deployer,
                gateway_deployment_steps(config),
            ),
        ];
        for (signer, account, steps) in accounts {
            let Some(account) = account else { continue };
            let Some(signer) = signer else {
                // A key that is not there is not missed if nothing is left to sign.
                let done = progress(chain, &steps, account).await?.done;
                if done.len() < steps.len() {
                    return Err(inconsistent("the key of the gateway's deployer", account, "missing"));
                }
                note_done(chain, &mut record, account, &steps, &done).await?;
                continue;
            };
            if signer.address() != account {
                return Err(inconsistent("the account of a deployer's key", account, signer.address()));
            }
            let sender = TransactionSender::new(chain, signer.clone(), self.options.clone()).await?;
            Box::pin(self.run_steps(chain, &steps, sender, &mut record, observer)).await?;
        }
        self.complete(chain, &mut record).await?;
        Ok(record)
    }

    /// Reads the file, or begins one.
    fn record(&self) -> Result<Deployment, ChainError> {
        let planned = Deployment::planned(self.config);
        let Some(path) = self.file.filter(|path| path.exists()) else {
            return Ok(planned);
        };
        let recorded = Deployment::read(path)?;
        let differences = recorded.differences(&planned);
        if differences.is_empty() {
            return Ok(recorded);
        }
        Err(ChainError::DeploymentFile {
            path: path.to_owned(),
            reason: format!("it is about a deployment that differs in {}", differences.join(", ")),
        })
    }

    async fn run_steps(
        &self,
        chain: &HostChain,
        steps: &[DeploymentStep],
        mut sender: TransactionSender,
        record: &mut Deployment,
        observer: &mut (dyn FnMut(DeployEvent<'_>) + Send),
    ) -> Result<(), ChainError> {
        let account = sender.account();
        let mut written = Ok(());
        let done = {
            let mut note = |event: DeployEvent<'_>| {
                let noted = match event {
                    DeployEvent::Transaction(SendEvent::Sending { call, nonce, hash, .. }) => {
                        record.note_step(&call.name, account, nonce, Some(hash), None);
                        true
                    }
                    DeployEvent::Included { call, included, .. } => {
                        record.note_step(&call.name, account, included.nonce, None, Some(included));
                        true
                    }
                    DeployEvent::Transaction(_) => false,
                };
                if noted && written.is_ok() {
                    written = self.write(record);
                }
                observer(event);
            };
            Box::pin(deploy_steps(chain, steps, &mut sender, &mut note)).await
        };
        let done = done?;
        written?;
        note_done(chain, record, account, steps, &done).await
    }

    /// Notes what stands behind the proxies, and that nothing is left to do.
    async fn complete(&self, chain: &HostChain, record: &mut Deployment) -> Result<(), ChainError> {
        note_implementations(chain, record).await?;
        let first_known = record.steps.iter().filter_map(|step| step.block).min();
        let all_known = record.steps.iter().all(|step| step.block.is_some());
        record.first_block = match first_known {
            Some(block) if all_known => Some(block),
            _ => first_block_with_code(chain, record.deployer.create(0))
                .await?
                .or(record.first_block),
        };
        record.complete = true;
        record.software = Deployment::this_software();
        self.write(record)
    }

    fn write(&self, record: &Deployment) -> Result<(), ChainError> {
        self.file.map_or(Ok(()), |path| record.write(path))
    }
}

/// Notes what an earlier run did and could not note, because it was stopped or its file is lost.
async fn note_done(
    chain: &HostChain,
    record: &mut Deployment,
    account: Address,
    steps: &[DeploymentStep],
    done: &[u64],
) -> Result<(), ChainError> {
    for (step, nonce) in steps.iter().zip(done) {
        let noted = record.steps.iter_mut().find(|noted| noted.from == account && noted.nonce == *nonce);
        let Some(noted) = noted else {
            record.note_step(step.name, account, *nonce, None, None);
            continue;
        };
        if let (None, Some(hash)) = (noted.block, noted.transaction)
            && let Some(receipt) = chain.receipt(hash).await?
        {
            noted.block = receipt.block_number;
            noted.gas_used = Some(receipt.gas_used);
            noted.created = receipt.contract_address;
        }
    }
    record.steps.sort_by_key(|step| (step.from != record.deployer, step.nonce));
    Ok(())
}

/// Notes which code stands behind the proxies, with the storage layout if it is this build's.
///
/// # Errors
/// As all reads of a chain.
pub async fn note_implementations(chain: &HostChain, record: &mut Deployment) -> Result<(), ChainError> {
    let wiring = record.wiring();
    for contract in HostContract::ALL.into_iter().filter(|contract| contract.is_upgradeable()) {
        let Some(address) = proxy::implementation(chain, contract.address(&wiring.addresses)).await? else {
            continue;
        };
        let code = chain.code(address).await?;
        let code_hash = keccak256(&code);
        let is_ours = code == contract.runtime_code(&wiring, address);
        let known = record.implementations.get(&contract).filter(|known| known.code_hash == code_hash);
        let storage_layout = if is_ours {
            Some(contract.storage_layout())
        } else {
            known.and_then(|known| known.storage_layout.clone())
        };
        record.implementations.insert(
            contract,
            Implementation {
                address,
                code_hash,
                storage_layout,
            },
        );
    }
    Ok(())
}

/// Finds the block that brought code to an address, by halving; `None` if the node does not keep states that long.
///
/// # Errors
/// As all reads of a chain, but for refusals, which are how nodes say that they forgot.
pub async fn first_block_with_code(chain: &HostChain, address: Address) -> Result<Option<u64>, ChainError> {
    let Some(head) = chain.header(BlockNumberOrTag::Latest).await? else {
        return Ok(None);
    };
    let (mut without, mut with) = (0, head.number);
    while without < with {
        let middle = without + (with - without) / 2;
        let code: Bytes = match chain.request("eth_getCode", (address, U64::from(middle))).await {
            Ok(code) => code,
            Err(ChainError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if code.is_empty() {
            without = middle + 1;
        } else {
            with = middle;
        }
    }
    Ok(Some(with))
}

fn inconsistent(what: &'static str, expected: impl ToString, found: impl ToString) -> ChainError {
    ChainError::Inconsistent {
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    }
}
