//! A development chain with host contracts, and a contract that uses them.

use alloy::eips::eip2718::Encodable2718;
use alloy::{
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::{Address, B256, Bytes, U256, address, hex},
    providers::{Provider, RootProvider},
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::{MnemonicBuilder, PrivateKeySigner},
    sol_types::SolCall,
};
use cipherloom_chain::{BlockId, FollowUpdate, Follower, FollowerConfig, HostChain, deploy};
use cipherloom_contracts::{DeploymentStep, HostAddresses, SignerSet, bindings::FHEVMExecutor, deployment_steps, development};
use cipherloom_node::{DevChain, DevChainConfig, DevChainHandle};
use cipherloom_primitives::{FheType, Handle};

pub(crate) const COPROCESSOR: Address = address!("0xc9990FEfE0c27D31D0C2aa36196b085c0c4d456c");
pub(crate) const KMS: Address = address!("0x0971C80fF03B428fD2094dd5354600ab103201C5");

/// Where the [`requester`] contract is put.
pub(crate) const REQUESTER: Address = address!("0x00000000000000000000000000000000000000f1");

/// A running chain and calls to it.
pub(crate) struct Bench {
    pub(crate) node: DevChainHandle,
    pub(crate) host: HostChain,
    provider: RootProvider,
}

impl Bench {
    /// Starts a chain without contracts.
    pub(crate) async fn bare() -> Self {
        let node = DevChain::start(DevChainConfig::default()).await.unwrap();
        let host = HostChain::connect(&node.rpc_url(), addresses()).unwrap();
        let provider = RootProvider::new_http(node.rpc_url().parse().unwrap());
        Self { node, host, provider }
    }

    /// Starts a chain with the host contracts and a [`requester`].
    pub(crate) async fn deployed() -> Self {
        let bench = Self::bare().await;
        deploy(&bench.host, &steps(), &deployer()).await.unwrap();
        bench.node.chain().set_code(REQUESTER, requester()).unwrap();
        bench
    }

    /// Sends a transaction of the first development account and returns its receipt.
    pub(crate) async fn send(&self, to: Address, data: Vec<u8>) -> TransactionReceipt {
        let key = self.node.accounts()[0].insecure_private_key_hex();
        let signer: PrivateKeySigner = key.trim_start_matches("0x").parse().unwrap();
        let nonce = self.provider.get_transaction_count(signer.address()).await.unwrap();
        let mut request = TransactionRequest::default()
            .to(to)
            .nonce(nonce)
            .max_fee_per_gas(10_000_000_000)
            .max_priority_fee_per_gas(0);
        request.set_input(data);
        request.set_chain_id(development::HOST_CHAIN_ID);
        request.set_gas_limit(2_000_000);
        let signed = request.build(&EthereumWallet::from(signer)).await.unwrap();
        let hash = *self.provider.send_raw_transaction(&signed.encoded_2718()).await.unwrap().tx_hash();
        let receipt = self.provider.get_transaction_receipt(hash).await.unwrap().unwrap();
        assert!(receipt.status(), "the transaction failed");
        receipt
    }

    /// Has the [`requester`] encrypt a public value and allow it to [`user`]; returns the handle and the transaction.
    pub(crate) async fn request_value(&self, value: u64) -> (Handle, B256) {
        let call = FHEVMExecutor::trivialEncryptCall {
            pt: U256::from(value),
            toType: FheType::Uint64.id(),
        };
        let receipt = self.send(REQUESTER, requester_data(&call.abi_encode())).await;
        let allowed = receipt.logs().last().unwrap();
        assert_eq!(allowed.address(), addresses().acl);
        (
            Handle::try_from(B256::from_slice(&allowed.data().data)).unwrap(),
            receipt.transaction_hash,
        )
    }

    /// The account that [`Self::send`] sends from.
    pub(crate) fn user(&self) -> Address {
        self.node.accounts()[0].address()
    }

    pub(crate) fn follower(&self) -> Follower {
        Follower::new(self.host.clone(), FollowerConfig::default())
    }
}

pub(crate) fn addresses() -> HostAddresses {
    development::addresses()
}

pub(crate) fn steps() -> Vec<DeploymentStep> {
    deployment_steps(&development::deployment(SignerSet::single(COPROCESSOR), SignerSet::single(KMS)))
}

pub(crate) fn deployer() -> PrivateKeySigner {
    MnemonicBuilder::from_phrase(development::INSECURE_DEPLOYER_MNEMONIC)
        .index(development::DEPLOYER_INDEX)
        .unwrap()
        .build()
        .unwrap()
}

/// Polls until everything is recorded, applying updates to `recorded` (newest first), and returns the blocks that came.
pub(crate) async fn follow_all(follower: &mut Follower, recorded: &mut Vec<BlockId>) -> Vec<cipherloom_chain::BlockEvents> {
    let mut all = Vec::new();
    for _ in 0..1000 {
        match follower.poll(recorded).await.unwrap() {
            FollowUpdate::UpToDate => return all,
            FollowUpdate::Blocks(blocks) => {
                for block in &blocks {
                    assert!(recorded.first().is_none_or(|newest| newest.number < block.number));
                    recorded.insert(
                        0,
                        BlockId {
                            number: block.number,
                            hash: block.hash,
                        },
                    );
                }
                all.extend(blocks);
            }
            FollowUpdate::Reorganised { first_removed } => recorded.retain(|block| block.number < first_removed),
        }
    }
    panic!("following does not end");
}

/// Returns the code of a contract that calls the executor and allows the resulting handle to its caller.
///
/// Its input is the executor's address, the ACL's address (a word each) and the data of the call to the executor.
fn requester() -> Bytes {
    let failed = 0x48;
    Bytes::from(
        [
            // The call's data to memory 0; their length stays on the stack.
            &hex!("60403603 80 6040 6000 37")[..],
            // The selector of allow(bytes32,address) to memory 0x200, to be followed by the handle and the caller.
            &hex!("63b9496b62 60e0 1b 610200 52"),
            // Call the executor; its answer, the handle, goes to 0x204.
            &hex!("6020 610204 82 6000 6000 6000 35 5a f1 15 60"),
            &[failed],
            &hex!("57 33 610224 52"),
            // Call the ACL.
            &hex!("6000 6000 6044 610200 6000 6020 35 5a f1 15 60"),
            &[failed],
            &hex!("57 6020 610204 f3"),
            &hex!("5b 6000 6000 fd"),
        ]
        .concat(),
    )
}

fn requester_data(call: &[u8]) -> Vec<u8> {
    let host = addresses();
    [host.executor.into_word().as_slice(), host.acl.into_word().as_slice(), call].concat()
}
