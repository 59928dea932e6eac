//! One deployment of the host contracts behind a JSON-RPC URL.

use std::{future::Future, sync::Arc, time::Duration};

use alloy::{
    eips::BlockNumberOrTag,
    network::Ethereum,
    providers::{Provider, RootProvider},
    rpc::{
        client::RpcClient,
        json_rpc::{RpcRecv, RpcSend},
        types::{EIP1186AccountProofResponse, Filter, Header, Log, TransactionReceipt, TransactionRequest},
    },
    sol_types::SolCall,
    transports::{RpcError, TransportErrorKind},
};
use cipherloom_contracts::{
    HostAddresses,
    bindings::{ACL, FHEVMExecutor, InputVerifier, KMSVerifier},
};
use cipherloom_primitives::{Address, B256, Handle, U256, eip712::SigningDomains};

use tokio::sync::watch;

use crate::{
    error::ChainError,
    nodes::{Nodes, NodesTransport, PatientTransport},
};

/// How patient calls to the chain's node are.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How often a call is tried, at least 1. Only failures that may pass are repeated.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles each time.
    pub first_pause: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            attempts: 4,
            first_pause: Duration::from_millis(100),
        }
    }
}

/// The signers of a verifier contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerSetOnChain {
    /// Their addresses.
    pub signers: Vec<Address>,
    /// How many of them must sign.
    pub threshold: U256,
}

/// Where signatures of inputs are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputVerificationDomain {
    /// The chain id of the domain: that of the gateway chain.
    pub chain_id: u64,
    /// The verifying contract of the domain.
    pub verifying_contract: Address,
}

/// A host chain and the host contracts on it. Clones share their connections.
#[derive(Clone, Debug)]
pub struct HostChain {
    provider: RootProvider<Ethereum>,
    transport: NodesTransport,
    addresses: HostAddresses,
    limits: CallLimits,
}

impl HostChain {
    /// Sets up calls to a node with the usual limits; nothing is sent yet.
    ///
    /// # Errors
    /// [`ChainError::Url`] if this is no HTTP or WebSocket URL, [`ChainError::Tls`] if it needs TLS and the system trusts nobody.
    pub fn connect(url: &str, addresses: HostAddresses) -> Result<Self, ChainError> {
        Self::with_limits(url, addresses, CallLimits::default())
    }

    /// Sets up calls to a node with these limits; nothing is sent yet.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn with_limits(url: &str, addresses: HostAddresses, limits: CallLimits) -> Result<Self, ChainError> {
        Self::connect_all(&[url], addresses, limits, None)
    }

    /// Sets up calls to several nodes of one chain, the preferred one first; nothing is sent yet. While one fails the next is asked. If the chain's id is
    /// given, each node is asked for it before it is used for the first time.
    ///
    /// # Errors
    /// As [`Self::connect`], and [`ChainError::NoNodes`] if there are no URLs or too many.
    pub fn connect_all(
        urls: &[impl AsRef<str>],
        addresses: HostAddresses,
        limits: CallLimits,
        chain_id: Option<u64>,
    ) -> Result<Self, ChainError> {
        let transport = NodesTransport {
            nodes: Nodes::new(urls, limits, chain_id)?,
            only: None,
        };
        Ok(Self::over(transport, addresses, limits))
    }

    fn over(transport: NodesTransport, addresses: HostAddresses, limits: CallLimits) -> Self {
        Self {
            provider: RootProvider::new(RpcClient::new(transport.clone(), true)),
            transport,
            addresses,
            limits,
        }
    }

    /// The same chain, with all calls to the node that is preferred now: answers of one node fit together.
    pub(crate) fn on_one_node(&self) -> Self {
        let transport = NodesTransport {
            nodes: Arc::clone(&self.transport.nodes),
            only: Some(self.transport.nodes.preferred()),
        };
        Self::over(transport, self.addresses, self.limits)
    }

    /// Lets the node that this talks to rest, if there is another one.
    pub(crate) fn distrust_node(&self) {
        if let Some(index) = self.transport.only {
            self.transport.nodes.distrust(index);
        }
    }

    /// Returns how the node that this talks to may be named in logs.
    pub(crate) fn node_label(&self) -> &str {
        self.transport.only.map_or("", |index| self.transport.nodes.label(index))
    }

    /// Says whether a node announces new blocks by itself now, which one behind a WebSocket URL does.
    #[must_use]
    pub fn announces_blocks(&self) -> bool {
        self.transport.nodes.announces_heads()
    }

    /// Counts the blocks that nodes announce. What they announce is only a hint that there is something to read.
    #[must_use]
    pub fn announced_blocks(&self) -> watch::Receiver<u64> {
        self.transport.nodes.heads()
    }

    /// Returns the way to the nodes, for calls and transactions that are about other contracts. While one node fails the next is asked.
    #[must_use]
    pub fn provider(&self) -> RootProvider<Ethereum> {
        RootProvider::new(RpcClient::new(PatientTransport(self.transport.clone()), true))
    }

    /// Returns the addresses of the host contracts.
    #[must_use]
    pub const fn addresses(&self) -> &HostAddresses {
        &self.addresses
    }

    /// Returns the chain id the node reports.
    ///
    /// # Errors
    /// As all reads: [`ChainError::Timeout`], [`ChainError::Transport`] or [`ChainError::Refused`].
    pub async fn chain_id(&self) -> Result<u64, ChainError> {
        self.rpc("eth_chainId", || async { self.provider.get_chain_id().await }).await
    }

    /// Returns the header of a block, or `None` if the node does not have it.
    ///
    /// # Errors
    /// As [`Self::chain_id`].
    pub async fn header(&self, block: BlockNumberOrTag) -> Result<Option<Header>, ChainError> {
        let block = self
            .rpc("eth_getBlockByNumber", || async { self.provider.get_block_by_number(block).await })
            .await?;
        Ok(block.map(|block| block.header))
    }

    /// Returns the header of the block with this hash, or `None` if the node does not have it.
    ///
    /// # Errors
    /// As [`Self::chain_id`].
    pub async fn header_with_hash(&self, hash: B256) -> Result<Option<Header>, ChainError> {
        let block = self
            .rpc("eth_getBlockByHash", || async { self.provider.get_block_by_hash(hash).await })
            .await?;
        Ok(block.map(|block| block.header))
    }

    /// Returns the receipts of exactly this block, or `None` if the node does not have it.
    pub(crate) async fn receipts_of_block(&self, hash: B256) -> Result<Option<Vec<TransactionReceipt>>, ChainError> {
        self.rpc("eth_getBlockReceipts", || async {
            self.provider.get_block_receipts(hash.into()).await
        })
        .await
    }

    /// Returns storage of a contract after a block, with proofs.
    pub(crate) async fn storage_proof(
        &self,
        contract: Address,
        slots: &[B256],
        block: B256,
    ) -> Result<EIP1186AccountProofResponse, ChainError> {
        self.rpc("eth_getProof", || async {
            self.provider.get_proof(contract, slots.to_vec()).hash(block).await
        })
        .await
    }

    /// Returns the logs of the executor and the ACL in one block, exactly this one.
    pub(crate) async fn logs_of_block(&self, hash: B256) -> Result<Vec<Log>, ChainError> {
        self.logs(&self.filter().at_block_hash(hash)).await
    }

    /// Returns the logs of the executor and the ACL in a range of blocks, both ends included.
    pub(crate) async fn logs_of_range(&self, first: u64, last: u64) -> Result<Vec<Log>, ChainError> {
        self.logs(&self.filter().from_block(first).to_block(last)).await
    }

    fn filter(&self) -> Filter {
        Filter::new().address(vec![self.addresses.executor, self.addresses.acl])
    }

    async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, ChainError> {
        self.rpc("eth_getLogs", || async { self.provider.get_logs(filter).await }).await
    }

    /// Says whether anyone may decrypt a handle.
    ///
    /// # Errors
    /// As [`Self::chain_id`], and [`ChainError::Contract`] if no ACL answers at the configured address.
    pub async fn is_allowed_for_decryption(&self, handle: Handle) -> Result<bool, ChainError> {
        self.read(self.addresses.acl, ACL::isAllowedForDecryptionCall { handle: handle.as_b256() })
            .await
    }

    /// Says whether an account was allowed a handle for good; rights for one transaction do not count.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn persist_allowed(&self, handle: Handle, account: Address) -> Result<bool, ChainError> {
        self.read(
            self.addresses.acl,
            ACL::persistAllowedCall {
                handle: handle.as_b256(),
                account,
            },
        )
        .await
    }

    /// Says whether a delegate may decrypt a handle of a delegator in a contract now.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn is_handle_delegated_for_user_decryption(
        &self,
        delegator: Address,
        delegate: Address,
        contract: Address,
        handle: Handle,
    ) -> Result<bool, ChainError> {
        let call = ACL::isHandleDelegatedForUserDecryptionCall {
            delegator,
            delegate,
            contractAddress: contract,
            handle: handle.as_b256(),
        };
        self.read(self.addresses.acl, call).await
    }

    /// Returns the time before which an account's decryption signatures are void, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn decryption_signatures_invalidated_before(&self, account: Address) -> Result<U256, ChainError> {
        self.read(self.addresses.acl, ACL::decryptionSignatureInvalidatedBeforeCall { account })
            .await
    }

    /// Says whether an account is on the ACL's deny list.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn is_account_denied(&self, account: Address) -> Result<bool, ChainError> {
        self.read(self.addresses.acl, ACL::isAccountDeniedCall { account }).await
    }

    /// Returns the coprocessors whose signatures over inputs the chain accepts.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn coprocessor_signers(&self) -> Result<SignerSetOnChain, ChainError> {
        let contract = self.addresses.input_verifier;
        let signers = self.read(contract, InputVerifier::getCoprocessorSignersCall {}).await?;
        let threshold = self.read(contract, InputVerifier::getThresholdCall {}).await?;
        Ok(SignerSetOnChain { signers, threshold })
    }

    /// Returns the KMS nodes whose signatures over decryptions the chain accepts.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn kms_signers(&self) -> Result<SignerSetOnChain, ChainError> {
        let contract = self.addresses.kms_verifier;
        let signers = self.read(contract, KMSVerifier::getKmsSignersCall {}).await?;
        let threshold = self.read(contract, KMSVerifier::getThresholdCall {}).await?;
        Ok(SignerSetOnChain { signers, threshold })
    }

    /// Returns the id of the current KMS context.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn kms_context_id(&self) -> Result<U256, ChainError> {
        self.read(self.addresses.kms_verifier, KMSVerifier::getCurrentKmsContextIdCall {})
            .await
    }

    /// Returns the ids of the current KMS context and of its current epoch.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn kms_context_and_epoch(&self) -> Result<(U256, U256), ChainError> {
        let current = self
            .read(self.addresses.kms_verifier, KMSVerifier::getCurrentKmsContextAndEpochCall {})
            .await?;
        Ok((current.contextId, current.epochId))
    }

    /// Reads where signatures are valid from the verifiers' EIP-712 domains.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`], and [`ChainError::Inconsistent`] if the two verifiers contradict each other.
    pub async fn signing_domains(&self) -> Result<SigningDomains, ChainError> {
        let input = self.read(self.addresses.input_verifier, InputVerifier::eip712DomainCall {}).await?;
        let decryption = self.read(self.addresses.kms_verifier, KMSVerifier::eip712DomainCall {}).await?;
        expect_equal(
            "the name of the InputVerifier's domain",
            &"InputVerification".to_owned(),
            &input.name,
        )?;
        expect_equal("the name of the KMSVerifier's domain", &"Decryption".to_owned(), &decryption.name)?;
        expect_equal("the gateway chain id of the KMSVerifier", &input.chainId, &decryption.chainId)?;
        let gateway_chain_id = u64::try_from(input.chainId).map_err(|_| ChainError::Inconsistent {
            what: "the gateway chain id",
            expected: "at most 64 bits".to_owned(),
            found: input.chainId.to_string(),
        })?;
        Ok(SigningDomains {
            host_chain_id: self.chain_id().await?,
            gateway_chain_id,
            decryption: decryption.verifyingContract,
            input_verification: input.verifyingContract,
        })
    }

    /// Reads where signatures of inputs are valid from the InputVerifier's EIP-712 domain alone.
    ///
    /// # Errors
    /// As [`Self::signing_domains`].
    pub async fn input_verification_domain(&self) -> Result<InputVerificationDomain, ChainError> {
        let input = self.read(self.addresses.input_verifier, InputVerifier::eip712DomainCall {}).await?;
        expect_equal(
            "the name of the InputVerifier's domain",
            &"InputVerification".to_owned(),
            &input.name,
        )?;
        Ok(InputVerificationDomain {
            chain_id: u64::try_from(input.chainId).map_err(|_| ChainError::Inconsistent {
                what: "the gateway chain id",
                expected: "at most 64 bits".to_owned(),
                found: input.chainId.to_string(),
            })?,
            verifying_contract: input.verifyingContract,
        })
    }

    /// Checks that the node serves the expected chain and that the host contracts at the configured addresses know each other.
    ///
    /// # Errors
    /// As all reads, and [`ChainError::WrongChain`] or [`ChainError::Inconsistent`] if a check fails.
    pub async fn check_deployment(&self, chain_id: u64) -> Result<(), ChainError> {
        let found = self.chain_id().await?;
        if found != chain_id {
            return Err(ChainError::WrongChain { expected: chain_id, found });
        }
        let host = &self.addresses;
        let executor = host.executor;
        let knows = self.read(host.acl, ACL::getFHEVMExecutorAddressCall {}).await?;
        expect_equal("the executor that the ACL knows", &executor, &knows)?;
        let knows = self.read(executor, FHEVMExecutor::getACLAddressCall {}).await?;
        expect_equal("the ACL that the executor knows", &host.acl, &knows)?;
        let knows = self.read(executor, FHEVMExecutor::getInputVerifierAddressCall {}).await?;
        expect_equal("the InputVerifier that the executor knows", &host.input_verifier, &knows)?;
        let knows = self.read(executor, FHEVMExecutor::getHCULimitAddressCall {}).await?;
        expect_equal("the HCULimit that the executor knows", &host.hcu_limit, &knows)
    }

    /// Returns the executor that the ACL knows.
    ///
    /// # Errors
    /// As [`Self::is_allowed_for_decryption`].
    pub async fn executor_of_acl(&self) -> Result<Address, ChainError> {
        self.read(self.addresses.acl, ACL::getFHEVMExecutorAddressCall {}).await
    }

    /// Says whether there is code at an address.
    pub(crate) async fn has_code(&self, address: Address) -> Result<bool, ChainError> {
        let code = self
            .rpc("eth_getCode", || async { self.provider.get_code_at(address).await })
            .await?;
        Ok(!code.is_empty())
    }

    /// Returns how many transactions of an account are included.
    pub(crate) async fn nonce(&self, account: Address) -> Result<u64, ChainError> {
        self.rpc("eth_getTransactionCount", || async {
            self.provider.get_transaction_count(account).await
        })
        .await
    }

    pub(crate) async fn gas_price(&self) -> Result<u128, ChainError> {
        self.rpc("eth_gasPrice", || async { self.provider.get_gas_price().await }).await
    }

    pub(crate) async fn estimate_gas(&self, request: &TransactionRequest) -> Result<u64, ChainError> {
        self.rpc("eth_estimateGas", || async { self.provider.estimate_gas(request.clone()).await })
            .await
    }

    /// Sends a signed transaction. Sending the same one again changes nothing, so it may be repeated.
    pub(crate) async fn send_raw(&self, encoded: &[u8]) -> Result<(), ChainError> {
        self.rpc("eth_sendRawTransaction", || async {
            self.provider.send_raw_transaction(encoded).await.map(|pending| *pending.tx_hash())
        })
        .await
        .map(|_| ())
    }

    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, ChainError> {
        self.rpc("eth_getTransactionReceipt", || async {
            self.provider.get_transaction_receipt(hash).await
        })
        .await
    }

    pub(crate) async fn read<C: SolCall>(&self, contract: Address, call: C) -> Result<C::Return, ChainError> {
        let request = TransactionRequest::default().to(contract).input(call.abi_encode().into());
        let answer = self
            .rpc(C::SIGNATURE, || async { self.provider.call(request.clone()).await })
            .await?;
        C::abi_decode_returns(&answer).map_err(|error| ChainError::Contract {
            method: C::SIGNATURE,
            contract,
            reason: error.to_string(),
        })
    }

    /// Asks for a method that has no function of its own here.
    pub(crate) async fn request<P, R>(&self, method: &'static str, params: P) -> Result<R, ChainError>
    where
        P: RpcSend + Clone + 'static,
        R: RpcRecv,
    {
        self.rpc(method, || async { self.provider.raw_request(method.into(), params.clone()).await })
            .await
    }

    /// Calls the node with time limit and retries.
    async fn rpc<T, F>(&self, method: &'static str, call: impl Fn() -> F) -> Result<T, ChainError>
    where
        F: Future<Output = Result<T, RpcError<TransportErrorKind>>>,
    {
        let mut pause = self.limits.first_pause;
        let mut attempt = 1;
        loop {
            let result = match tokio::time::timeout(self.limits.timeout, call()).await {
                Ok(result) => result.map_err(|error| ChainError::rpc(method, error)),
                Err(_) => Err(ChainError::Timeout {
                    method,
                    limit: self.limits.timeout,
                }),
            };
            match result {
                Err(error) if error.is_retryable() && attempt < self.limits.attempts => {
                    tracing::debug!(%error, attempt, "trying again");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}

fn expect_equal<T: PartialEq + ToString>(what: &'static str, expected: &T, found: &T) -> Result<(), ChainError> {
    if expected == found {
        return Ok(());
    }
    Err(ChainError::Inconsistent {
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}
