//! A chain with the host contracts, and scripts of calls that run in one transaction.

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256, Bytes, Log, U256, keccak256},
    rpc::types::TransactionRequest,
    signers::{SignerSync, local::PrivateKeySigner},
    sol,
    sol_types::{SolCall, SolError},
};
use cipherloom_contracts::{
    DeploymentConfig, DeploymentStep, Face, HcuLimits, HostAddresses, HostEvent, NativeDeployment, SignerSet,
    bindings::FHEVMExecutor as Executor, decode_log, deployment_steps, development, gateway_deployment_steps, native_deployment_steps,
};
use cipherloom_node::{DevChain, DevChainConfig, NodeError};
use cipherloom_primitives::{Computation, FheType, Handle, Operation, ciphertext_state::FHELIB, operation::Shape};

sol!(Batch, "../../contracts/test/artifacts/Batch.json");
sol!(FheLibDouble, "../../contracts/test/artifacts/FheLibDouble.json");

pub(crate) const LATEST: BlockId = BlockId::Number(BlockNumberOrTag::Latest);

/// What a reverted call returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revert(pub(crate) Bytes);

impl Revert {
    /// Asserts that the call reverted with exactly this error.
    #[track_caller]
    pub(crate) fn is<E: SolError>(&self, error: E) {
        assert_eq!(self.0, Bytes::from(error.abi_encode()), "expected {}", E::SIGNATURE);
    }

    /// Asserts that the call reverted with this error, with any arguments.
    #[track_caller]
    pub(crate) fn is_some<E: SolError>(&self) {
        assert_eq!(self.0.get(..4), Some(E::SELECTOR.as_slice()), "expected {}", E::SIGNATURE);
    }
}

/// Asserts that a result is a revert with exactly this error.
#[track_caller]
pub(crate) fn assert_reverts<T: std::fmt::Debug, E: SolError>(result: Result<T, Revert>, error: E) {
    result.expect_err(E::SIGNATURE).is(error);
}

/// An argument of a call in a script.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// A word known beforehand.
    Word(B256),
    /// The result of the script's call with this number.
    Result(usize),
}

impl From<Handle> for Arg {
    fn from(handle: Handle) -> Self {
        Self::Word(handle.as_b256())
    }
}

impl From<U256> for Arg {
    fn from(value: U256) -> Self {
        Self::Word(value.into())
    }
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        U256::from(value).into()
    }
}

impl From<FheType> for Arg {
    fn from(ty: FheType) -> Self {
        u64::from(ty.id()).into()
    }
}

impl From<Address> for Arg {
    fn from(address: Address) -> Self {
        Self::Word(B256::left_padding_from(address.as_slice()))
    }
}

/// A `bytes1` argument.
pub(crate) fn byte(value: u8) -> Arg {
    Arg::Word(B256::right_padding_from(&[value]))
}

/// Calls that run one after the other in one transaction, from the batch contract.
#[derive(Clone)]
pub(crate) struct Script {
    host: HostAddresses,
    calls: Vec<Batch::Call>,
}

impl Script {
    /// Adds a call given by its signature and the words of its arguments.
    pub(crate) fn call(&mut self, target: Address, signature: &str, arguments: &[Arg]) -> Arg {
        let mut data = keccak256(signature.as_bytes())[..4].to_vec();
        let mut patches = Vec::new();
        for argument in arguments {
            match argument {
                Arg::Word(word) => data.extend_from_slice(word.as_slice()),
                Arg::Result(source) => {
                    patches.push(Batch::Patch {
                        offset: U256::from(data.len()),
                        source: U256::from(*source),
                    });
                    data.extend_from_slice(&[0; 32]);
                }
            }
        }
        self.raw(target, data.into(), patches)
    }

    /// Adds a call whose data are known beforehand.
    pub(crate) fn typed(&mut self, target: Address, call: &impl SolCall) -> Arg {
        self.raw(target, call.abi_encode().into(), Vec::new())
    }

    pub(crate) fn calls(&self) -> &[Batch::Call] {
        &self.calls
    }

    fn raw(&mut self, target: Address, data: Bytes, patches: Vec<Batch::Patch>) -> Arg {
        self.calls.push(Batch::Call { target, data, patches });
        Arg::Result(self.calls.len() - 1)
    }

    /// Adds `trivialEncrypt`: an allowed handle of any type.
    pub(crate) fn value(&mut self, value: u64, ty: FheType) -> Arg {
        self.operation(Operation::TrivialEncrypt, &[value.into(), ty.into()])
    }

    /// Adds an operation of the executor; lists are given by [`list`].
    pub(crate) fn operation(&mut self, operation: Operation, arguments: &[Arg]) -> Arg {
        let signature = format!("{}({})", operation.spec().function, parameters(operation));
        self.call(self.host.executor, &signature, arguments)
    }
}

/// The ABI types of an operation's parameters.
fn parameters(operation: Operation) -> &'static str {
    match operation.spec().shape {
        Shape::Binary(_) => "bytes32,bytes32,bytes1",
        Shape::Unary => "bytes32",
        Shape::Input => "bytes32,address,bytes,uint8",
        Shape::Cast => "bytes32,uint8",
        Shape::Trivial | Shape::Random { bounded: true } => "uint256,uint8",
        Shape::Select => "bytes32,bytes32,bytes32",
        Shape::Random { bounded: false } => "uint8",
        Shape::List => "bytes32[],uint8",
        Shape::Membership => "bytes32,bytes32[],uint8",
        Shape::MulDiv => "bytes32,bytes32,bytes32,bytes1",
    }
}

/// The argument words of `fheSum`.
pub(crate) fn sum_arguments(values: &[Arg], ty: FheType) -> Vec<Arg> {
    let mut words = vec![Arg::from(64), ty.into(), (values.len() as u64).into()];
    words.extend_from_slice(values);
    words
}

/// The argument words of `fheIsIn`.
pub(crate) fn is_in_arguments(value: Arg, values: &[Arg], ty: FheType) -> Vec<Arg> {
    let mut words = vec![value, 96.into(), ty.into(), (values.len() as u64).into()];
    words.extend_from_slice(values);
    words
}

/// A mined script: what its calls returned cannot be seen from outside, but its logs can.
#[derive(Debug)]
pub(crate) struct Mined {
    pub(crate) logs: Vec<Log>,
    pub(crate) parent_hash: B256,
    pub(crate) timestamp: u64,
}

/// A fresh chain with the host contracts.
pub(crate) struct Stage {
    pub(crate) chain: DevChain,
    pub(crate) host: HostAddresses,
    pub(crate) batch: Address,
    pub(crate) coprocessors: Vec<PrivateKeySigner>,
    pub(crate) kms: Vec<PrivateKeySigner>,
}

impl Stage {
    /// Deploys with one coprocessor and one KMS node.
    pub(crate) fn new() -> Self {
        Self::with_signers(1, 1, 1)
    }

    /// Deploys with so many coprocessors and KMS nodes, and one threshold for both.
    pub(crate) fn with_signers(coprocessors: usize, kms: usize, threshold: u64) -> Self {
        let keys = |kind: u8, count: usize| -> Vec<PrivateKeySigner> {
            (1..=count)
                .map(|number| {
                    let secret = keccak256([b"insecure test signer".as_slice(), &[kind], &number.to_be_bytes()].concat());
                    PrivateKeySigner::from_bytes(&secret).unwrap()
                })
                .collect()
        };
        let (coprocessors, kms) = (keys(1, coprocessors), keys(2, kms));
        let set = |keys: &[PrivateKeySigner]| SignerSet {
            signers: keys.iter().map(PrivateKeySigner::address).collect(),
            threshold,
        };
        let chain = DevChain::new(DevChainConfig::default()).unwrap();
        deploy(&chain, &development::deployment(set(&coprocessors), set(&kms)));
        Self::over(chain, coprocessors, kms)
    }

    /// Deploys what native chains have, with one KMS node; where their nodes have a library, a contract stands that knows which lists are good.
    pub(crate) fn native() -> Self {
        let chain = DevChain::new(DevChainConfig::default()).unwrap();
        let deployer = development::DEPLOYER;
        let deployment = NativeDeployment {
            deployer,
            owner: deployer,
            domains: development::signing_domains(),
            face: Face::default(),
            kms: SignerSet::single(Address::repeat_byte(2)).into(),
            hcu_limits: HcuLimits::default(),
            pausers: vec![deployer],
            relayers: vec![deployer],
        };
        send_steps(&chain, deployer, native_deployment_steps(&deployment));
        let stage = Self::over(chain, Vec::new(), Vec::new());
        stage.set_code(FHELIB, &FheLibDouble::DEPLOYED_BYTECODE);
        stage
    }

    fn over(chain: DevChain, coprocessors: Vec<PrivateKeySigner>, kms: Vec<PrivateKeySigner>) -> Self {
        let mut stage = Self {
            chain,
            host: development::addresses(),
            batch: Address::ZERO,
            coprocessors,
            kms,
        };
        stage.batch = stage.create(Batch::BYTECODE.clone());
        stage
    }

    /// Puts code at an address.
    pub(crate) fn set_code(&self, address: Address, code: &Bytes) {
        let request = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "anvil_setCode", "params": [address, code]});
        assert!(self.rpc(&request).get("error").is_none());
    }

    pub(crate) fn owner(&self) -> Address {
        development::DEPLOYER
    }

    /// A funded account without rights.
    pub(crate) fn user(&self, index: usize) -> Address {
        self.chain.accounts()[index].address()
    }

    pub(crate) fn script(&self) -> Script {
        Script {
            host: self.host,
            calls: Vec::new(),
        }
    }

    /// Deploys a contract and returns its address.
    pub(crate) fn create(&self, code: Bytes) -> Address {
        let request = TransactionRequest {
            from: Some(self.user(0)),
            input: code.into(),
            ..Default::default()
        };
        let hash = self.chain.send_transaction(request).unwrap();
        let (block, index) = self.chain.mined_transaction(&hash).unwrap().unwrap();
        assert!(block.receipts[index].is_success());
        block.receipts[index].contract_address.unwrap()
    }

    /// Runs a script without keeping what it does, and returns the first word that each call returned.
    pub(crate) fn run(&self, script: &Script) -> Result<Vec<B256>, Revert> {
        let call = Batch::runCall {
            calls: script.calls.clone(),
        };
        let results = self
            .call(self.user(0), self.batch, &call)
            .map_err(|revert| script_failure(script, &revert))?;
        Ok(results
            .iter()
            .map(|result| B256::right_padding_from(&result[..result.len().min(32)]))
            .collect())
    }

    /// Runs a script in a block.
    pub(crate) fn mine(&self, script: &Script) -> Result<Mined, Revert> {
        let call = Batch::runCall {
            calls: script.calls.clone(),
        };
        self.send(self.user(0), self.batch, &call)
            .map_err(|revert| script_failure(script, &revert))
    }

    /// Mines a script and returns the handle of its last operation.
    pub(crate) fn mine_handle(&self, script: &Script) -> Handle {
        self.computations(&self.mine(script).unwrap()).pop().unwrap().result
    }

    /// Calls a contract.
    pub(crate) fn call<C: SolCall>(&self, from: Address, to: Address, call: &C) -> Result<C::Return, Revert> {
        let output = self.call_raw(from, to, call.abi_encode().into())?;
        Ok(C::abi_decode_returns(&output).unwrap())
    }

    /// Calls a contract with any data.
    pub(crate) fn call_raw(&self, from: Address, to: Address, data: Bytes) -> Result<Bytes, Revert> {
        let request = TransactionRequest {
            from: Some(from),
            to: Some(to.into()),
            input: data.into(),
            ..Default::default()
        };
        self.chain.call(&request, LATEST).map_err(reverted)
    }

    /// Asks over JSON-RPC.
    pub(crate) fn rpc(&self, request: &serde_json::Value) -> serde_json::Value {
        serde_json::from_slice(&self.chain.rpc(request.to_string().as_bytes()).unwrap()).unwrap()
    }

    /// Returns the gas a script needs.
    pub(crate) fn gas(&self, script: &Script) -> u64 {
        let call = Batch::runCall {
            calls: script.calls.clone(),
        };
        self.chain.estimate_gas(&request(self.user(0), self.batch, &call), LATEST).unwrap()
    }

    /// Reads from a contract, which must not revert.
    #[track_caller]
    pub(crate) fn read<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        self.call(self.user(0), to, call).unwrap()
    }

    /// Sends a transaction.
    pub(crate) fn send(&self, from: Address, to: Address, call: &impl SolCall) -> Result<Mined, Revert> {
        let hash = self.chain.send_transaction(request(from, to, call)).map_err(reverted)?;
        let (block, index) = self.chain.mined_transaction(&hash).unwrap().unwrap();
        assert!(block.receipts[index].is_success());
        Ok(Mined {
            logs: block.receipts[index].logs().to_vec(),
            parent_hash: block.header.parent_hash,
            timestamp: block.header.timestamp,
        })
    }

    /// Sends a transaction of the contracts' owner, which must not revert.
    #[track_caller]
    pub(crate) fn administer(&self, to: Address, call: &impl SolCall) {
        self.send(self.owner(), to, call).unwrap();
    }

    /// Reads the host contracts' events.
    pub(crate) fn events(&self, mined: &Mined) -> Vec<HostEvent> {
        let read = |log: &Log| decode_log(log.address, log.topics(), &log.data.data, &self.host).unwrap();
        mined.logs.iter().filter_map(read).collect()
    }

    /// Reads the requested computations.
    pub(crate) fn computations(&self, mined: &Mined) -> Vec<Computation> {
        let events = self.events(mined).into_iter();
        events
            .filter_map(|event| match event {
                HostEvent::Computation(computation) => Some(computation),
                _ => None,
            })
            .collect()
    }

    /// The error for a handle that the batch contract may not use.
    pub(crate) fn not_allowed(&self, handle: Handle) -> Executor::ACLNotAllowed {
        Executor::ACLNotAllowed {
            handle: handle.as_b256(),
            account: self.batch,
        }
    }
}

/// Sends the transactions of a deployment and checks that each succeeds.
pub(crate) fn deploy(chain: &DevChain, config: &DeploymentConfig) {
    send_steps(chain, config.deployer, deployment_steps(config));
    if let Some(gateway_deployer) = config.gateway.deployer {
        send_steps(chain, gateway_deployer, gateway_deployment_steps(config));
    }
}

fn send_steps(chain: &DevChain, from: Address, steps: Vec<DeploymentStep>) {
    for (nonce, step) in steps.into_iter().enumerate() {
        let request = TransactionRequest {
            from: Some(from),
            to: step.to.map(Into::into),
            input: step.data.into(),
            nonce: Some(nonce as u64),
            ..Default::default()
        };
        let hash = chain
            .send_transaction(request)
            .unwrap_or_else(|error| panic!("{}: {error}", step.name));
        let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
        assert!(block.receipts[index].is_success(), "{}", step.name);
        if let Some(creation) = step.creates {
            assert_eq!(block.receipts[index].contract_address, Some(creation.address), "{}", step.name);
        }
    }
}

/// Signs a digest as coprocessors and KMS nodes do: 65 bytes, v of 27 or 28.
pub(crate) fn sign(key: &PrivateKeySigner, digest: B256) -> [u8; 65] {
    key.sign_hash_sync(&digest).unwrap().as_bytes()
}

/// A handle that nobody was allowed, with any type number.
pub(crate) fn foreign_handle(type_number: u8) -> B256 {
    let mut word = Handle::computed(B256::repeat_byte(0x5a), development::HOST_CHAIN_ID, FheType::Bool).as_b256();
    word.0[30] = type_number;
    word
}

fn request(from: Address, to: Address, call: &impl SolCall) -> TransactionRequest {
    TransactionRequest {
        from: Some(from),
        to: Some(to.into()),
        input: Bytes::from(call.abi_encode()).into(),
        ..Default::default()
    }
}

#[track_caller]
fn reverted(error: NodeError) -> Revert {
    match error {
        NodeError::Reverted { data, .. } => Revert(data),
        other => panic!("expected success or a revert, got {other}"),
    }
}

/// Unwraps the failure of a script's last call; an earlier one is a mistake in the test.
#[track_caller]
fn script_failure(script: &Script, revert: &Revert) -> Revert {
    let failure = Batch::CallFailed::abi_decode(&revert.0).unwrap_or_else(|_| panic!("batch failed: {revert:?}"));
    assert_eq!(
        failure.index,
        U256::from(script.calls.len() - 1),
        "an earlier call failed with {}",
        failure.reason
    );
    Revert(failure.reason)
}
