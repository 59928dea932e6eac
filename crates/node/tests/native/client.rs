//! A small chain on revm's in-memory database: blocks of unsigned transactions, executed as `docs/native-integration.md` says.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, Log, TxKind, U256, keccak256};
use alloy::sol;
use alloy::sol_types::SolCall;
use cipherloom_contracts::{HostAddresses, NativeDeployment, SignerSet, development, native_deployment_steps};
use cipherloom_node::native::{
    BlockPlan, BlockSession, CheckInputs, Execution, FheGasExceeded, FheLib, NativeContracts, TransactionWork, read_ciphertext,
    write_ciphertexts,
};
use cipherloom_primitives::Handle;
use revm::context::result::{EVMError, ExecutionResult};
use revm::context::{BlockEnv, Context, TxEnv};
use revm::database::InMemoryDB;
use revm::handler::EthPrecompiles;
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, Bytecode, EvmState};
use revm::{DatabaseCommit, DatabaseRef, ExecuteEvm, InspectEvm, MainBuilder, MainContext};

use crate::hashing::{HashingExecutor, ToyInputs};

sol!(Batch, "../../contracts/test/artifacts/Batch.json");

/// Who sends everything.
pub(crate) const SENDER: Address = Address::repeat_byte(0xaa);

/// Executes scripts ([`Batch`]).
pub(crate) const BATCH: Address = Address::repeat_byte(0xba);

/// Stores its second word at the slot that its first word names.
pub(crate) const STORE: Address = Address::repeat_byte(0x57);

/// Code of [`STORE`]: `sstore(calldataload(0), calldataload(32))`.
const STORE_CODE: [u8; 8] = [0x60, 0x20, 0x35, 0x60, 0x00, 0x35, 0x55, 0x00];

const SPEC: SpecId = SpecId::PRAGUE;
const GAS_LIMIT: u64 = 200_000_000;

/// What a transaction did.
pub(crate) struct Done {
    pub(crate) result: ExecutionResult,
    pub(crate) work: TransactionWork,
}

impl Done {
    pub(crate) fn logs(&self) -> &[Log] {
        self.result.logs()
    }
}

/// The chain.
pub(crate) struct Client {
    pub(crate) database: InMemoryDB,
    pub(crate) number: u64,
    pub(crate) host: HostAddresses,
    pub(crate) fhe_gas_limit: u64,
    pub(crate) inputs: Arc<ToyInputs>,
    /// Whom the recorder takes for the executor contract.
    pub(crate) executor: Address,
    /// Whom the recorder takes for the contract that checks inputs.
    pub(crate) input_verifier: Address,
}

impl Client {
    /// A chain with the host contracts as they are on native chains.
    pub(crate) fn new() -> Self {
        let deployment = native_deployment();
        let host = development::addresses();
        let mut client = Self {
            database: InMemoryDB::default(),
            number: 0,
            host,
            fhe_gas_limit: 1_000_000_000,
            inputs: Arc::default(),
            executor: host.executor,
            input_verifier: host.input_verifier,
        };
        for sender in [SENDER, development::DEPLOYER] {
            let info = AccountInfo::default().with_balance(U256::from(10).pow(U256::from(24)));
            client.database.insert_account_info(sender, info);
        }
        client.insert_code(STORE, &STORE_CODE);
        for step in native_deployment_steps(&deployment) {
            let kind = step.to.map_or(TxKind::Create, TxKind::Call);
            let done = client.block(|block| block.transact(development::DEPLOYER, kind, step.data.clone()).unwrap());
            assert!(done.result.is_success(), "{}: {:?}", step.name, done.result);
        }
        let batch = client.block(|block| block.transact(SENDER, TxKind::Create, Batch::BYTECODE.clone()).unwrap());
        let created = batch.result.created_address().unwrap();
        let code = client.database.basic_ref(created).unwrap().unwrap().code.unwrap();
        client.insert_code(BATCH, &code.original_bytes());
        client
    }

    pub(crate) fn insert_code(&mut self, address: Address, code: &[u8]) {
        let code = Bytecode::new_raw(Bytes::copy_from_slice(code));
        self.database.insert_account_info(address, AccountInfo::from_bytecode(code));
    }

    /// Executes a block and has it computed by the hashing executor.
    pub(crate) fn block<T>(&mut self, transactions: impl FnOnce(&mut Block<'_>) -> T) -> T {
        self.block_with(transactions, |plan| HashingExecutor.results(plan.work())).0
    }

    /// Executes a block, with results made by hand.
    pub(crate) fn block_with<T>(
        &mut self,
        transactions: impl FnOnce(&mut Block<'_>) -> T,
        compute: impl FnOnce(&BlockPlan) -> cipherloom_node::native::Results,
    ) -> (T, BlockPlan) {
        self.number += 1;
        let contracts = NativeContracts {
            executor: self.executor,
            acl: self.host.acl,
            input_verifier: self.input_verifier,
            chain_id: development::HOST_CHAIN_ID,
        };
        let session = BlockSession::new(contracts, self.fhe_gas_limit);
        let mut block = Block { client: self, session };
        let outcome = transactions(&mut block);
        let Block { session, .. } = block;
        let plan = session.plan(self.number, &self.database).unwrap();
        let stored = plan.settle(compute(&plan)).unwrap();
        let changes = write_ciphertexts(&stored, &self.database).unwrap();
        self.database.commit(changes);
        (outcome, plan)
    }

    /// Executes a call that changes nothing.
    pub(crate) fn call(&self, to: Address, data: impl Into<Bytes>) -> ExecutionResult {
        let tx = transaction(SENDER, TxKind::Call(to), data.into(), 0);
        self.execute(tx, Execution::Call).unwrap().0
    }

    /// The ciphertext that state has for a handle.
    pub(crate) fn ciphertext(&self, handle: Handle) -> Option<Bytes> {
        read_ciphertext(handle, &mut |account, slot| self.database.storage_ref(account, slot)).unwrap()
    }

    fn execute(&self, tx: TxEnv, execution: Execution) -> Result<(ExecutionResult, EvmState), EVMError<std::convert::Infallible>> {
        let precompiles = self.precompiles(execution);
        let context = self.context(execution);
        let done = context.build_mainnet().with_precompiles(precompiles).transact(tx)?;
        Ok((done.result, done.state))
    }

    fn precompiles(&self, execution: Execution) -> FheLib<EthPrecompiles> {
        let inputs: Arc<dyn CheckInputs> = Arc::<ToyInputs>::clone(&self.inputs);
        FheLib::new(EthPrecompiles::new(SPEC), development::HOST_CHAIN_ID, inputs, execution)
    }

    fn context(&self, execution: Execution) -> revm::handler::MainnetContext<revm::database::WrapDatabaseRef<&InMemoryDB>> {
        let block = BlockEnv {
            number: U256::from(self.number),
            timestamp: U256::from(1_700_000_000 + self.number),
            gas_limit: 100 * GAS_LIMIT,
            prevrandao: Some(B256::ZERO),
            ..BlockEnv::default()
        };
        Context::mainnet()
            .with_db(revm::database::WrapDatabaseRef(&self.database))
            .with_block(block)
            .modify_cfg_chained(|cfg| {
                cfg.set_spec_and_mainnet_gas_params(SPEC);
                cfg.chain_id = development::HOST_CHAIN_ID;
                cfg.tx_gas_limit_cap = Some(u64::MAX);
                cfg.disable_nonce_check = execution == Execution::Call;
            })
    }
}

/// A block under execution.
pub(crate) struct Block<'a> {
    client: &'a mut Client,
    session: BlockSession,
}

impl Block<'_> {
    /// Executes a script as a transaction.
    pub(crate) fn run(&mut self, calls: &[Batch::Call]) -> Result<Done, FheGasExceeded> {
        let run = Batch::runCall { calls: calls.to_vec() };
        self.send(BATCH, run.abi_encode())
    }

    /// Executes a script of which calls may fail.
    pub(crate) fn attempt(&mut self, calls: &[Batch::Call]) -> Result<Done, FheGasExceeded> {
        let attempt = Batch::attemptCall { calls: calls.to_vec() };
        self.send(BATCH, attempt.abi_encode())
    }

    /// Executes a transaction.
    pub(crate) fn send(&mut self, to: Address, data: impl Into<Bytes>) -> Result<Done, FheGasExceeded> {
        self.transact(SENDER, TxKind::Call(to), data.into())
    }

    pub(crate) fn transact(&mut self, sender: Address, kind: TxKind, data: Bytes) -> Result<Done, FheGasExceeded> {
        let nonce = self.client.database.basic_ref(sender).unwrap().unwrap().nonce;
        let tx = transaction(sender, kind, data, nonce);
        let mut recorder = self.session.recorder();
        let mut evm = self
            .client
            .context(Execution::Transaction)
            .build_mainnet_with_inspector(&mut recorder)
            .with_precompiles(self.client.precompiles(Execution::Transaction));
        let done = evm.inspect_tx(tx).unwrap();
        drop(evm);
        let work = recorder.finish();
        self.session.admit(work.clone(), &done.state)?;
        self.client.database.commit(done.state);
        Ok(Done { result: done.result, work })
    }

    pub(crate) fn fhe_gas_used(&self) -> u64 {
        self.session.fhe_gas_used()
    }
}

fn transaction(sender: Address, kind: TxKind, data: Bytes, nonce: u64) -> TxEnv {
    TxEnv {
        caller: sender,
        kind,
        data,
        nonce,
        gas_limit: GAS_LIMIT,
        chain_id: Some(development::HOST_CHAIN_ID),
        ..TxEnv::default()
    }
}

fn native_deployment() -> NativeDeployment {
    let set = |seed: u8| SignerSet {
        signers: vec![Address::from_word(keccak256([seed]))],
        threshold: 1,
    };
    let config = development::deployment(set(1), set(2));
    NativeDeployment {
        deployer: config.deployer,
        owner: config.owner,
        domains: config.domains,
        face: config.face,
        kms: config.kms,
        hcu_limits: config.hcu_limits,
        pausers: config.pausers,
        relayers: config.gateway.relayers,
    }
}
