//! An anvil with host contracts, and a contract that uses them.

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    primitives::{Address, B256, U256, hex},
    rpc::types::Log,
    signers::local::MnemonicBuilder,
    sol_types::SolCall,
};
use cipherloom_chain::{HostChain, deploy};
use cipherloom_contracts::{
    HostEvent, SignerSet,
    bindings::{ACL, FHEVMExecutor},
    decode_log, deployment_steps, development,
};
use cipherloom_primitives::{Computation, FheType, Handle};
use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};
use serde_json::{Value, json};

/// What transactions may cost.
const GAS: &str = "0x1e8480";

/// Everything that a chain asked for and granted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    /// Block, index, hash and computations of each transaction with any.
    pub(crate) transactions: Vec<(u64, u64, B256, Vec<Computation>)>,
    /// Handle, account and the first block that grants; no account is public decryption.
    pub(crate) grants: BTreeMap<(Handle, Option<Address>), u64>,
}

/// A chain and calls to it.
pub(crate) struct Chain {
    pub(crate) anvil: PrivateAnvil,
    client: reqwest::Client,
    pub(crate) user: Address,
    requester: Address,
}

impl Chain {
    /// Starts a chain with the host contracts and a [`requester`], which makes blocks only when it is told to.
    pub(crate) async fn start() -> Self {
        let anvil = PrivateAnvil::start(&AnvilOptions::default()).unwrap();
        let mut chain = Self {
            anvil,
            client: reqwest::Client::new(),
            user: Address::ZERO,
            requester: Address::ZERO,
        };
        let accounts: Vec<Address> = serde_json::from_value(chain.call("eth_accounts", json!([])).await).unwrap();
        chain.user = accounts[0];
        let deployer = MnemonicBuilder::from_phrase(development::INSECURE_DEPLOYER_MNEMONIC)
            .index(development::DEPLOYER_INDEX)
            .unwrap()
            .build()
            .unwrap();
        chain
            .call("anvil_setBalance", json!([deployer.address(), "0x3635c9adc5dea00000"]))
            .await;
        let signers = || SignerSet::single(accounts[1]);
        let steps = deployment_steps(&development::deployment(signers(), signers()));
        deploy(&chain.host(), &steps, &deployer).await.unwrap();
        let hash = chain.send(json!({"data": creation(&requester())})).await;
        // Blocks are made in the background.
        let receipt = loop {
            let receipt = chain.call("eth_getTransactionReceipt", json!([hash])).await;
            if !receipt.is_null() {
                break receipt;
            }
        };
        chain.requester = serde_json::from_value(receipt["contractAddress"].clone()).unwrap();
        chain.call("evm_setAutomine", json!([false])).await;
        chain
    }

    pub(crate) fn host(&self) -> HostChain {
        HostChain::connect(&self.anvil.http_url(), development::addresses()).unwrap()
    }

    /// Calls the node itself, past every proxy.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.client.post(self.anvil.http_url()).json(&request).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        assert!(answer["error"].is_null(), "{method} {params}: {answer}");
        answer["result"].take()
    }

    pub(crate) async fn height(&self) -> u64 {
        let text = self.call("eth_blockNumber", json!([])).await;
        u64::from_str_radix(text.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }

    pub(crate) async fn head(&self) -> (u64, B256) {
        let block = self.call("eth_getBlockByNumber", json!(["latest", false])).await;
        let number = u64::from_str_radix(block["number"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
        (number, serde_json::from_value(block["hash"].clone()).unwrap())
    }

    /// Sends a transaction of the user.
    pub(crate) async fn send(&self, mut transaction: Value) -> Value {
        transaction["from"] = json!(self.user);
        transaction["gas"] = json!(GAS);
        self.call("eth_sendTransaction", json!([transaction])).await
    }

    pub(crate) async fn mine(&self) {
        self.call("evm_mine", json!([])).await;
    }

    /// A transaction that encrypts a public value.
    pub(crate) fn encrypt(&self, value: u64) -> Value {
        let call = FHEVMExecutor::trivialEncryptCall {
            pt: U256::from(value),
            toType: FheType::Uint64.id(),
        };
        self.request(&call.abi_encode())
    }

    /// A transaction that adds two values.
    pub(crate) fn add(&self, one: Handle, other: Handle) -> Value {
        let call = FHEVMExecutor::fheAddCall {
            lhs: one.as_b256(),
            rhs: other.as_b256(),
            scalarByte: [0].into(),
        };
        self.request(&call.abi_encode())
    }

    /// A transaction that lets anyone decrypt values.
    pub(crate) fn publish(&self, handles: &[Handle]) -> Value {
        let call = ACL::allowForDecryptionCall {
            handlesList: handles.iter().map(|handle| handle.as_b256()).collect(),
        };
        json!({"to": development::addresses().acl, "data": hex::encode_prefixed(call.abi_encode())})
    }

    fn request(&self, call: &[u8]) -> Value {
        let host = development::addresses();
        let data = [host.executor.into_word().as_slice(), host.acl.into_word().as_slice(), call].concat();
        json!({"to": self.requester, "data": hex::encode_prefixed(data)})
    }

    async fn logs(&self, filter: Value) -> Vec<Log> {
        let host = development::addresses();
        let mut filter = filter;
        filter["address"] = json!([host.executor, host.acl]);
        serde_json::from_value(self.call("eth_getLogs", json!([filter])).await).unwrap()
    }

    /// The values that the newest block made.
    pub(crate) async fn new_handles(&self) -> BTreeSet<Handle> {
        let (_, hash) = self.head().await;
        let mut truth = Truth::default();
        truth.take(&self.logs(json!({"blockHash": hash})).await);
        truth.grants.into_keys().map(|(handle, _)| handle).collect()
    }

    /// Reads the whole chain.
    pub(crate) async fn truth(&self) -> Truth {
        let mut truth = Truth::default();
        for number in 0..=self.height().await {
            let number = format!("{number:#x}");
            truth.take(&self.logs(json!({"fromBlock": number, "toBlock": number})).await);
        }
        truth
    }
}

impl Truth {
    /// Adds the logs of a block, which come in their order.
    fn take(&mut self, logs: &[Log]) {
        for log in logs {
            let (block, index, hash) = (
                log.block_number.unwrap(),
                log.transaction_index.unwrap(),
                log.transaction_hash.unwrap(),
            );
            let event = decode_log(log.address(), log.topics(), &log.data().data, &development::addresses()).unwrap();
            let mut grant = |handle, account| {
                self.grants.entry((handle, account)).or_insert(block);
            };
            match event {
                Some(HostEvent::Computation(computation)) => {
                    let place = (block, index, hash);
                    match self.transactions.last_mut() {
                        Some((block, index, hash, computations)) if (*block, *index, *hash) == place => computations.push(computation),
                        _ => self.transactions.push((block, index, hash, vec![computation])),
                    }
                }
                Some(HostEvent::Allowed { account, handle, .. }) => grant(handle, Some(account)),
                Some(HostEvent::AllowedForDecryption { handles, .. }) => handles.into_iter().for_each(|handle| grant(handle, None)),
                _ => {}
            }
        }
    }
}

/// Returns the code of a contract that calls the executor and allows the resulting handle to its caller and to itself.
///
/// Its input is the executor's address, the ACL's address (a word each) and the data of the call to the executor.
fn requester() -> Vec<u8> {
    let failed = 0x61;
    [
        // The call's data to memory 0; their length stays on the stack.
        &hex!("60403603 80 6040 6000 37")[..],
        // The selector of allow(bytes32,address) to memory 0x200, to be followed by the handle and an account.
        &hex!("63b9496b62 60e0 1b 610200 52"),
        // Call the executor; its answer, the handle, goes to 0x204.
        &hex!("6020 610204 82 6000 6000 6000 35 5a f1 15 60"),
        &[failed],
        // Allow it to the caller, and then to this contract.
        &hex!("57 33 610224 52"),
        &hex!("6000 6000 6044 610200 6000 6020 35 5a f1 15 60"),
        &[failed],
        &hex!("57 30 610224 52"),
        &hex!("6000 6000 6044 610200 6000 6020 35 5a f1 15 60"),
        &[failed],
        &hex!("57 6020 610204 f3"),
        &hex!("5b 6000 6000 fd"),
    ]
    .concat()
}

/// The data of a transaction that creates a contract with this code.
fn creation(code: &[u8]) -> String {
    let length = u8::try_from(code.len()).unwrap();
    // PUSH1 length, DUP1, PUSH1 where the code begins, PUSH1 0, CODECOPY, PUSH1 0, RETURN.
    let start = [0x60, length, 0x80, 0x60, 0x0b, 0x60, 0x00, 0x39, 0x60, 0x00, 0xf3];
    hex::encode_prefixed([start.as_slice(), code].concat())
}

#[test]
fn the_requester_jumps_to_where_it_fails() {
    let code = requester();
    assert_eq!(code[0x61..], hex!("5b60006000fd"));
}
