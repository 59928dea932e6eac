//! A development chain in this process on which contracts run without a coprocessor: operations are recorded and nothing is computed.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy::{
    primitives::{Address, B256, Bytes, TxKind, keccak256},
    rpc::types::TransactionRequest,
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::SolCall,
};
use anyhow::{Context, Result, ensure};
use cipherloom_contracts::{HostAddresses, SignerSet, deployment_steps, development};
use cipherloom_node::{DevChain, DevChainConfig, MinedReceipt};
use cipherloom_primitives::{
    FheType, Handle,
    input::{encode_input_proof, input_handles},
};

use super::super::recording::Recording;

const GAS_LIMIT: u64 = 30_000_000;

/// The chain, with the host contracts.
pub(super) struct Chain {
    chain: DevChain,
    addresses: HostAddresses,
    /// Admits inputs as a coprocessor would, without looking at them.
    insecure_coprocessor: PrivateKeySigner,
    inputs: AtomicU64,
}

/// An encrypted argument of a transaction, or what is taken for one.
pub(super) struct Input {
    pub(super) handle: B256,
    pub(super) proof: Bytes,
}

impl Chain {
    /// Starts a chain and deploys the host contracts.
    pub(super) fn start() -> Result<Self> {
        let key = |name: &str| PrivateKeySigner::from_bytes(&keccak256(name)).context("a hash is a key");
        let (insecure_coprocessor, kms) = (key("statistics: coprocessor")?, key("statistics: KMS")?);
        let this = Self {
            chain: DevChain::new(DevChainConfig::default())?,
            addresses: development::addresses(),
            insecure_coprocessor,
            inputs: AtomicU64::new(0),
        };
        let signers = SignerSet::single(this.insecure_coprocessor.address());
        for step in deployment_steps(&development::deployment(signers, SignerSet::single(kms.address()))) {
            let to = step.to.map_or(TxKind::Create, TxKind::Call);
            this.send(development::DEPLOYER, to, step.data.clone()).context(step.name)?;
        }
        Ok(this)
    }

    /// Returns one of the people who use the contracts.
    pub(super) fn account(&self, index: usize) -> Result<Address> {
        let account = self.chain.accounts().get(index).context("the chain has too few accounts")?;
        Ok(account.address())
    }

    /// Deploys a contract.
    pub(super) fn deploy(&self, from: Address, creation: &Bytes, arguments: &[u8]) -> Result<Address> {
        let data = [creation.as_ref(), arguments].concat();
        let receipt = self.send(from, TxKind::Create, data.into())?;
        receipt.contract_address.context("the deployment created no contract")
    }

    /// Calls a contract in a transaction, and returns what that asks for.
    pub(super) fn call<C: SolCall>(&self, from: Address, contract: Address, call: &C) -> Result<Recording> {
        let receipt = self
            .send(from, TxKind::Call(contract), call.abi_encode().into())
            .with_context(|| C::SIGNATURE.to_owned())?;
        Recording::from_logs(receipt.logs(), &self.addresses)
    }

    /// Makes an encrypted argument for a contract.
    pub(super) fn input(&self, user: Address, contract: Address, ty: FheType) -> Result<Input> {
        let number = self.inputs.fetch_add(1, Ordering::Relaxed);
        let list = number.to_be_bytes();
        let handles: Vec<Handle> =
            input_handles(&list, &[ty], self.addresses.acl, development::HOST_CHAIN_ID).context("one value fits a list")?;
        let extra_data = [0];
        let digest = development::signing_domains().input_digest(&handles, user, contract, &extra_data);
        let signature = self.insecure_coprocessor.sign_hash_sync(&digest)?;
        let proof = encode_input_proof(&handles, &[signature], &extra_data).context("one value fits a proof")?;
        let handle = handles.first().context("one value has one handle")?;
        Ok(Input {
            handle: handle.as_b256(),
            proof: proof.into(),
        })
    }

    /// Lets time pass.
    pub(super) fn pass(&self, seconds: u64) -> Result<()> {
        self.chain.increase_time(seconds)?;
        Ok(self.chain.mine(1)?)
    }

    fn send(&self, from: Address, to: TxKind, data: Bytes) -> Result<MinedReceipt> {
        let hash = self.chain.send_transaction(TransactionRequest {
            from: Some(from),
            to: Some(to),
            input: data.into(),
            gas: Some(GAS_LIMIT),
            ..TransactionRequest::default()
        })?;
        let (block, index) = self.chain.mined_transaction(&hash)?.context("the chain mines every transaction")?;
        let receipt = block.receipts.get(index).context("every transaction has a receipt")?.clone();
        ensure!(receipt.is_success(), "the transaction was reverted");
        Ok(receipt)
    }
}
