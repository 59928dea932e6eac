//! Notices what a transaction asks the executor contract for.
//!
//! [`Recorder`] is a revm inspector. It looks at calls whose target is the executor contract, made by `CALL` or `STATICCALL`; the `DELEGATECALL` of the
//! contract's proxy is part of such a call and not another one, and code that is borrowed by `DELEGATECALL` or `CALLCODE` runs on the borrower's
//! storage and asks the executor for nothing. A frame that fails takes along what was noticed inside it.
//!
//! Inputs come with a call of the executor contract that brings their list, or are deposited before: then the contract that checks inputs says so in an
//! event, right after it had the list checked.
//!
//! It records nothing else and changes nothing: a transaction has the same outcome with and without it.

use alloy::primitives::{Address, Bytes, Log};
use alloy::sol_types::{SolCall, SolEvent};
use cipherloom_contracts::bindings::{FHEVMExecutor as Executor, FheLib, NativeInputVerifier};
use cipherloom_contracts::{ExecutorCall, HostEvent, decode_call};
use cipherloom_primitives::ciphertext_state::FHELIB;
use cipherloom_primitives::input::InputMetadata;
use cipherloom_primitives::native::NativeInputProof;
use cipherloom_primitives::{Computation, Handle};
use revm::Inspector;
use revm::context_interface::ContextTr;
use revm::interpreter::{CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome, InstructionResult};

use super::fhelib::verify_arguments;
use super::work::ProvenInput;

/// Where a proof has this instead of a list, its inputs were deposited before.
const NO_LIST: &[u8] = &[0];

/// What a recorder must know of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeContracts {
    /// The executor contract: its proxy.
    pub executor: Address,
    /// The access-control contract, to which input proofs are bound.
    pub acl: Address,
    /// The contract that checks inputs and takes deposits of them: its proxy.
    pub input_verifier: Address,
    /// The chain's id.
    pub chain_id: u64,
}

/// One thing a transaction asked the executor contract for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// An operation.
    Computation(Computation),
    /// The admission of an input.
    Input {
        /// Its handle.
        handle: Handle,
        /// The list it is in.
        proven: ProvenInput,
    },
}

/// What one transaction asked for, in order, without what it reverted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionWork {
    /// Operations and inputs.
    pub noticed: Vec<Noticed>,
    /// How many proofs of inputs were checked. Those of reverted frames count: they took as long.
    pub proofs_checked: u64,
}

impl TransactionWork {
    /// Returns the operations.
    pub fn computations(&self) -> impl Iterator<Item = &Computation> {
        self.noticed.iter().filter_map(|noticed| match noticed {
            Noticed::Computation(computation) => Some(computation),
            Noticed::Input { .. } => None,
        })
    }
}

/// An inspector for one transaction.
#[derive(Debug)]
pub struct Recorder {
    contracts: NativeContracts,
    frames: Vec<Frame>,
    work: TransactionWork,
    /// The list that the contract for inputs had checked last.
    checked: Option<ProvenInput>,
}

/// A call or creation under way.
#[derive(Debug)]
struct Frame {
    /// How many things had been noticed when it began.
    noticed_before: usize,
    of: FrameOf,
}

#[derive(Debug)]
enum FrameOf {
    /// A call of the executor contract.
    Executor {
        caller: Address,
        input: Bytes,
        seed: Option<[u8; 16]>,
    },
    /// A call of the precompiled contract that checks a proof; with the call data, if it is the contract for inputs that asks.
    ProofCheck(Option<Bytes>),
    Other,
}

impl Recorder {
    /// Makes a recorder for one transaction.
    #[must_use]
    pub fn new(contracts: NativeContracts) -> Self {
        Self {
            contracts,
            frames: Vec::new(),
            work: TransactionWork::default(),
            checked: None,
        }
    }

    /// Returns what the transaction asked for.
    #[must_use]
    pub fn finish(self) -> TransactionWork {
        self.work
    }

    fn begin(&mut self, of: FrameOf) {
        let noticed_before = self.work.noticed.len();
        self.frames.push(Frame { noticed_before, of });
    }

    fn end(&mut self, result: InstructionResult, output: &[u8]) {
        let Some(Frame { noticed_before, of }) = self.frames.pop() else {
            return;
        };
        if !result.is_ok() {
            self.work.noticed.truncate(noticed_before);
        }
        match of {
            FrameOf::Executor { caller, input, seed } if result.is_ok() => self.notice(ExecutorCall {
                caller,
                input: &input,
                output,
                seed,
            }),
            // Without the gas for it, no proof is checked; then the call does not end in a revert.
            FrameOf::ProofCheck(input) if result.is_ok() || result.is_revert() => {
                self.work.proofs_checked = self.work.proofs_checked.saturating_add(1);
                self.checked = input.filter(|_| result.is_ok()).and_then(|input| self.proven(&input));
            }
            FrameOf::Executor { .. } | FrameOf::ProofCheck(_) | FrameOf::Other => {}
        }
    }

    fn notice(&mut self, call: ExecutorCall<'_>) {
        match decode_call(call) {
            Ok(Some(HostEvent::Computation(computation))) => self.work.noticed.push(Noticed::Computation(computation)),
            Ok(Some(HostEvent::InputVerified {
                caller,
                user,
                handle,
                proof,
            })) => {
                let list = match NativeInputProof::parse(&proof) {
                    // The contract has looked whether the input was deposited: then it is known already.
                    Ok(parts) if parts.list == NO_LIST => return,
                    Ok(parts) => proof.slice_ref(parts.list),
                    Err(error) => {
                        tracing::warn!(%handle, %error, "an input was admitted without its list; it has no ciphertext on this chain");
                        return;
                    }
                };
                let context = InputMetadata {
                    contract: caller,
                    user,
                    acl: self.contracts.acl,
                    chain_id: self.contracts.chain_id,
                };
                let proven = ProvenInput { list, context };
                self.work.noticed.push(Noticed::Input { handle, proven });
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a call of the executor contract cannot be read; its result has no ciphertext"),
        }
    }

    /// The list in a call that checks its proof.
    fn proven(&self, call: &[u8]) -> Option<ProvenInput> {
        let (_, arguments) = call.split_first_chunk::<4>()?;
        let (acl, user, contract, list) = verify_arguments(arguments)?;
        let chain_id = self.contracts.chain_id;
        let context = InputMetadata {
            contract,
            user,
            acl,
            chain_id,
        };
        Some(ProvenInput { list, context })
    }

    /// Takes in what was deposited: the values of the list that was checked just before.
    fn deposited(&mut self, log: &Log) {
        let Ok(deposit) = NativeInputVerifier::InputDeposited::decode_log_data(&log.data) else {
            return;
        };
        let of_deposit =
            |proven: &ProvenInput| proven.context.contract == deposit.contractAddress && proven.context.user == deposit.userAddress;
        let Some(proven) = self.checked.take().filter(of_deposit) else {
            tracing::warn!("inputs were deposited without a list; they have no ciphertext on this chain");
            return;
        };
        let handles = deposit.handles.into_iter().filter_map(|handle| Handle::try_from(handle).ok());
        self.work.noticed.extend(handles.map(|handle| Noticed::Input {
            handle,
            proven: proven.clone(),
        }));
    }
}

impl<C: ContextTr> Inspector<C> for Recorder {
    fn call(&mut self, context: &mut C, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let direct = matches!(inputs.scheme, CallScheme::Call | CallScheme::StaticCall);
        let of = if direct && inputs.target_address == self.contracts.executor {
            FrameOf::Executor {
                caller: inputs.caller,
                input: inputs.input.bytes(context),
                seed: None,
            }
        } else if inputs.bytecode_address == FHELIB && inputs.input.as_bytes(context).starts_with(&FheLib::verifyInputCall::SELECTOR) {
            let asks = inputs.caller == self.contracts.input_verifier;
            FrameOf::ProofCheck(asks.then(|| inputs.input.bytes(context)))
        } else {
            FrameOf::Other
        };
        self.begin(of);
        None
    }

    fn call_end(&mut self, _context: &mut C, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.end(outcome.result.result, &outcome.result.output);
    }

    fn create(&mut self, _context: &mut C, _inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.begin(FrameOf::Other);
        None
    }

    fn create_end(&mut self, _context: &mut C, _inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        self.end(outcome.result.result, &[]);
    }

    fn log(&mut self, _context: &mut C, log: Log) {
        let topic = log.topics().first();
        if log.address == self.contracts.input_verifier && topic == Some(&NativeInputVerifier::InputDeposited::SIGNATURE_HASH) {
            return self.deposited(&log);
        }
        let random = [Executor::FheRand::SIGNATURE_HASH, Executor::FheRandBounded::SIGNATURE_HASH];
        if log.address != self.contracts.executor || !topic.is_some_and(|topic| random.contains(topic)) {
            return;
        }
        // The proxy's code runs in a frame of its own inside the call.
        let innermost = self.frames.iter_mut().rev().find_map(|frame| match &mut frame.of {
            FrameOf::Executor { seed, .. } => Some(seed),
            FrameOf::ProofCheck(_) | FrameOf::Other => None,
        });
        if let Some(seed) = innermost {
            *seed = seed_of(&log);
        }
    }
}

/// The seed in the event of a random value.
fn seed_of(log: &Log) -> Option<[u8; 16]> {
    Executor::FheRand::decode_log_data(&log.data)
        .map(|event| event.seed.0)
        .or_else(|_| Executor::FheRandBounded::decode_log_data(&log.data).map(|event| event.seed.0))
        .ok()
}
