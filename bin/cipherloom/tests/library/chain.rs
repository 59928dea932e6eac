//! A development chain with the host contracts, and the probes to deploy on it.

use std::{collections::BTreeMap, fs, path::Path};

use alloy::{
    eips::BlockId,
    json_abi::JsonAbi,
    primitives::{Address, B256, Bytes, Log, TxKind, keccak256},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};
use cipherloom_contracts::{HostAddresses, HostEvent, SignerSet, decode_log, deployment_steps, development};
use cipherloom_node::{DevChain, DevChainConfig, MinedReceipt, NodeError};
use cipherloom_primitives::{Computation, Handle, TypedOperation};
use serde::Deserialize;

const GAS_LIMIT: u64 = 30_000_000;

/// A compiled contract of the probes.
#[derive(Deserialize)]
pub(crate) struct Probe {
    abi: JsonAbi,
    /// What creates it.
    #[serde(rename = "bytecode")]
    pub(crate) creation: Bytes,
}

impl Probe {
    /// Lists the functions without parameters in the order in which they are to be called.
    pub(crate) fn sequence(&self) -> Vec<String> {
        if self.abi.functions.contains_key("delegate") {
            return ["store", "delegate", "report", "revoke", "report", "clean"]
                .map(str::to_owned)
                .to_vec();
        }
        let is_probe = |name: &&String| name.contains("__");
        self.abi.functions.keys().filter(is_probe).cloned().collect()
    }
}

/// The compiled contracts by name.
pub(crate) struct Probes(BTreeMap<String, Probe>);

impl Probes {
    pub(crate) fn read(folder: &Path) -> Self {
        let mut probes = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            probes.insert(name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap());
        }
        Self(probes)
    }

    pub(crate) fn get(&self, name: &str) -> &Probe {
        self.0.get(name).unwrap_or_else(|| panic!("no probe {name}"))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Probe)> {
        self.0.iter()
    }
}

/// The KMS nodes of the tests; two of the three must sign.
pub(crate) fn kms_signers() -> [PrivateKeySigner; 3] {
    [1, 2, 3].map(|seed| PrivateKeySigner::from_bytes(&keccak256([seed])).unwrap())
}

/// A development chain with the host contracts.
pub(crate) struct TestChain {
    chain: DevChain,
    addresses: HostAddresses,
}

impl TestChain {
    pub(crate) fn new() -> Self {
        let kms = SignerSet {
            signers: kms_signers().map(|signer| signer.address()).to_vec(),
            threshold: 2,
        };
        let coprocessor = PrivateKeySigner::from_bytes(&keccak256("coprocessor")).unwrap();
        let this = Self {
            chain: DevChain::new(DevChainConfig::default()).unwrap(),
            addresses: development::addresses(),
        };
        for step in deployment_steps(&development::deployment(SignerSet::single(coprocessor.address()), kms)) {
            let to = step.to.map_or(TxKind::Create, TxKind::Call);
            let receipt = this.send(development::DEPLOYER, to, step.data.clone());
            assert!(receipt.is_success(), "{}", step.name);
        }
        this
    }

    pub(crate) fn deploy(&self, creation: &Bytes) -> Address {
        let receipt = self.send(self.user(), TxKind::Create, creation.clone());
        assert!(receipt.is_success());
        receipt.contract_address.unwrap()
    }

    /// The account that sends the tests' transactions.
    pub(crate) fn user(&self) -> Address {
        self.chain.accounts()[0].address()
    }

    /// Calls a function without parameters in a transaction, which must succeed, and returns its logs.
    pub(crate) fn execute(&self, contract: Address, function: &str) -> Vec<Log> {
        let data = keccak256(format!("{function}()"))[..4].to_vec();
        let receipt = self.send(self.user(), TxKind::Call(contract), data.into());
        assert!(receipt.is_success(), "{function} reverts");
        receipt.logs().to_vec()
    }

    /// Reads what a call returns, or the data it reverts with.
    pub(crate) fn call(&self, contract: Address, data: Vec<u8>) -> Result<Bytes, Bytes> {
        let request = TransactionRequest {
            from: Some(self.user()),
            to: Some(TxKind::Call(contract)),
            input: Bytes::from(data).into(),
            ..TransactionRequest::default()
        };
        self.chain.call(&request, BlockId::latest()).map_err(|error| match error {
            NodeError::Reverted { data, .. } => data,
            other => panic!("{other}"),
        })
    }

    pub(crate) fn events(&self, logs: &[Log]) -> Vec<HostEvent> {
        logs.iter()
            .filter_map(|log| decode_log(log.address, log.topics(), &log.data.data, &self.addresses).unwrap())
            .collect()
    }

    /// Describes what a function without parameters does, in a form that does not depend on the chain's history: handles
    /// are numbered in the order of their appearance.
    pub(crate) fn trace(&self, contract: Address, function: &str) -> Vec<String> {
        let mut numbers = HandleNumbers::default();
        self.execute(contract, function)
            .iter()
            .map(
                |log| match decode_log(log.address, log.topics(), &log.data.data, &self.addresses).unwrap() {
                    Some(HostEvent::Computation(computation)) => numbers.computation(&computation),
                    _ => numbers.log(log),
                },
            )
            .collect()
    }

    fn send(&self, from: Address, to: TxKind, data: Bytes) -> MinedReceipt {
        let hash = self
            .chain
            .send_transaction(TransactionRequest {
                from: Some(from),
                to: Some(to),
                input: data.into(),
                gas: Some(GAS_LIMIT),
                ..TransactionRequest::default()
            })
            .unwrap();
        let (block, index) = self.chain.mined_transaction(&hash).unwrap().unwrap();
        block.receipts[index].clone()
    }
}

/// Handles in the order of their appearance.
#[derive(Default)]
struct HandleNumbers(Vec<B256>);

impl HandleNumbers {
    fn of(&mut self, word: B256) -> String {
        let position = self.0.iter().position(|known| *known == word).unwrap_or_else(|| {
            self.0.push(word);
            self.0.len() - 1
        });
        format!("#{position}:{}", word[30])
    }

    fn handle(&mut self, handle: Handle) -> String {
        self.of(B256::from_slice(handle.as_slice()))
    }

    fn computation(&mut self, computation: &Computation) -> String {
        let mut operation = computation.operation.clone();
        if let TypedOperation::Rand { seed, .. } = &mut operation {
            *seed = [0; 16];
        }
        let inputs: Vec<String> = computation.inputs.iter().map(|input| self.handle(*input)).collect();
        format!("{operation:?}({}) = {}", inputs.join(", "), self.handle(computation.result))
    }

    /// Writes the words of a log, those that were handles of this transaction as such.
    fn log(&mut self, log: &Log) -> String {
        let words = log
            .topics()
            .iter()
            .copied()
            .chain(log.data.data.chunks(32).map(B256::right_padding_from));
        let words: Vec<String> = words
            .map(|word| if self.0.contains(&word) { self.of(word) } else { word.to_string() })
            .collect();
        format!("{} {}", log.address, words.join(" "))
    }
}
