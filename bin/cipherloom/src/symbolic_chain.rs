//! A development chain in this process on which contracts run without a coprocessor: operations are recorded and nothing is computed.
//!
//! Its clock stands still and its keys are fixed, so that the same transactions give the same handles, signatures and gas each time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    rpc::types::TransactionRequest,
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::SolCall,
};
use anyhow::{Context, Result, ensure};
use cipherloom_contracts::{HostAddresses, SignerSet, deployment_steps, development};
use cipherloom_node::{DevChain, DevChainConfig, ManualClock, MinedReceipt};
use cipherloom_primitives::{
    FheType, Handle,
    decryption::abi_words,
    input::{encode_input_proof, input_handles},
};

const GAS_LIMIT: u64 = 30_000_000;

/// The time at which the chain begins, in seconds since 1970.
const BEGINNING: u64 = 1_800_000_000;

/// The chain.
pub(crate) struct SymbolicChain {
    chain: DevChain,
    addresses: HostAddresses,
    /// Admits inputs as a coprocessor would, without looking at them.
    insecure_coprocessor: PrivateKeySigner,
    /// Signs plaintexts as a KMS node would, without decrypting anything.
    insecure_kms: PrivateKeySigner,
    inputs: AtomicU64,
}

/// An encrypted argument of a transaction, or what is taken for one.
pub(crate) struct Input {
    pub(crate) handle: B256,
    pub(crate) proof: Bytes,
}

impl SymbolicChain {
    /// Starts a chain with our host contracts.
    ///
    /// # Errors
    /// If a step of the deployment fails.
    pub(crate) fn start() -> Result<Self> {
        let this = Self::bare()?;
        for step in deployment_steps(&development::deployment(this.coprocessors(), this.kms())) {
            let to = step.to.map_or(TxKind::Create, TxKind::Call);
            this.send(development::DEPLOYER, to, step.data.clone()).context(step.name)?;
        }
        Ok(this)
    }

    /// Starts a chain without host contracts. They are to be deployed by [`development::DEPLOYER`], with the signers of this chain.
    ///
    /// # Errors
    /// If the chain does not start.
    pub(crate) fn bare() -> Result<Self> {
        let key = |name: &str| PrivateKeySigner::from_bytes(&keccak256(name)).context("a hash is a key");
        Ok(Self {
            chain: DevChain::new(DevChainConfig {
                clock: Arc::new(ManualClock::new(BEGINNING)),
                ..DevChainConfig::default()
            })?,
            addresses: development::addresses(),
            insecure_coprocessor: key("statistics: coprocessor")?,
            insecure_kms: key("statistics: KMS")?,
            inputs: AtomicU64::new(0),
        })
    }

    /// Returns where the host contracts are, or are to be.
    pub(crate) const fn addresses(&self) -> &HostAddresses {
        &self.addresses
    }

    /// Returns who signs input handles.
    pub(crate) fn coprocessors(&self) -> SignerSet {
        SignerSet::single(self.insecure_coprocessor.address())
    }

    /// Returns who signs plaintexts.
    pub(crate) fn kms(&self) -> SignerSet {
        SignerSet::single(self.insecure_kms.address())
    }

    /// Returns one of the people who use the contracts.
    ///
    /// # Errors
    /// If there are not so many.
    pub(crate) fn account(&self, index: usize) -> Result<Address> {
        let account = self.chain.accounts().get(index).context("the chain has too few accounts")?;
        Ok(account.address())
    }

    /// Deploys a contract.
    ///
    /// # Errors
    /// If it refuses.
    pub(crate) fn deploy(&self, from: Address, creation: &Bytes, arguments: &[u8]) -> Result<Address> {
        let data = [creation.as_ref(), arguments].concat();
        let receipt = self.send(from, TxKind::Create, data.into())?;
        receipt.contract_address.context("the deployment created no contract")
    }

    /// Calls a contract in a transaction.
    ///
    /// # Errors
    /// If it reverts.
    pub(crate) fn call<C: SolCall>(&self, from: Address, contract: Address, call: &C) -> Result<MinedReceipt> {
        self.send(from, TxKind::Call(contract), call.abi_encode().into())
            .with_context(|| C::SIGNATURE.to_owned())
    }

    /// Asks a contract something.
    ///
    /// # Errors
    /// If it reverts, or answers something else.
    pub(crate) fn read<C: SolCall>(&self, contract: Address, call: &C) -> Result<C::Return> {
        let request = TransactionRequest {
            to: Some(TxKind::Call(contract)),
            input: call.abi_encode().into(),
            ..TransactionRequest::default()
        };
        let answer = self
            .chain
            .call(&request, BlockNumberOrTag::Latest.into())
            .with_context(|| C::SIGNATURE.to_owned())?;
        Ok(C::abi_decode_returns(&answer)?)
    }

    /// Makes an encrypted argument for a contract.
    ///
    /// # Errors
    /// If the signature cannot be made.
    pub(crate) fn input(&self, user: Address, contract: Address, ty: FheType) -> Result<Input> {
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

    /// Makes the proof that a handle's plaintext is this number.
    ///
    /// # Errors
    /// If the handle is none, or the signature cannot be made.
    pub(crate) fn decryption_proof(&self, handle: B256, plaintext: u64) -> Result<Bytes> {
        let handle = Handle::try_from(handle).context("the contract returned no handle")?;
        let result = abi_words(&[U256::from(plaintext)]);
        // No extra data: the current context.
        let digest = development::signing_domains().public_decryption_digest(&[handle], &result, &[]);
        let signature = self.insecure_kms.sign_hash_sync(&digest)?;
        Ok([[1].as_slice(), &signature.as_bytes()].concat().into())
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// If the chain cannot mine.
    pub(crate) fn pass(&self, seconds: u64) -> Result<()> {
        self.chain.increase_time(seconds)?;
        Ok(self.chain.mine(1)?)
    }

    /// Sends a transaction, which is mined at once.
    ///
    /// # Errors
    /// If it reverts.
    pub(crate) fn send(&self, from: Address, to: TxKind, data: Bytes) -> Result<MinedReceipt> {
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
