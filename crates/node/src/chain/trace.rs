//! The calls inside a mined transaction, found by executing it again.

use alloy::primitives::{Address, B256, Bytes, Log, U256};
use revm::Inspector;
use revm::context_interface::{ContextTr, CreateScheme};
use revm::interpreter::{CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome, InterpreterResult};

use super::Chain;
use crate::error::{NodeError, Result};
use crate::exec::{self, Sender};

/// Most calls in one trace.
const MAX_CALLS: usize = 10_000;

/// Deepest nesting of calls in one trace. Writing JSON takes stack per level; revm's 1024 would not fit.
const MAX_DEPTH: usize = 256;

/// One call or contract creation, with those made inside it.
#[derive(Debug)]
pub(crate) struct CallFrame {
    /// The opcode: `CALL`, `DELEGATECALL`, `CREATE2` and so on.
    pub(crate) kind: &'static str,
    pub(crate) from: Address,
    pub(crate) to: Option<Address>,
    pub(crate) value: U256,
    pub(crate) gas: u64,
    pub(crate) gas_used: u64,
    pub(crate) input: Bytes,
    pub(crate) output: Bytes,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
    /// Logs with the number of inner calls made before each.
    pub(crate) logs: Vec<(usize, Log)>,
    pub(crate) calls: Vec<CallFrame>,
}

impl Chain {
    /// Executes a mined transaction again, on the state it met, and returns its outermost call.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownTransaction`], [`NodeError::StatePruned`], or [`NodeError::LimitExceeded`] for
    /// traces too large to answer with.
    pub(crate) fn trace_transaction(&self, hash: &B256) -> Result<CallFrame> {
        let (block, index, context, mut state) = {
            let core = self.core()?;
            let (core, (block, index)) = match core.mined_transaction(hash) {
                Some(found) => (core, found),
                None => {
                    drop(core);
                    let found = self.mined_transaction(hash)?.ok_or(NodeError::UnknownTransaction(*hash))?;
                    (self.core()?, found)
                }
            };
            let parent = block.header.number.saturating_sub(1);
            let state = core.state_of(parent)?.clone();
            let context = core.context_of(&block);
            (block, index, context, state)
        };
        let env = |index: usize| {
            let transaction = block.transactions.get(index).ok_or(NodeError::UnknownTransaction(*hash))?;
            Ok::<_, NodeError>(exec::transaction_env(&transaction.envelope, transaction.sender))
        };
        for earlier in 0..index {
            let (_, changes) = exec::execute(&state, &context, env(earlier)?, Sender::Impersonated)?;
            state.apply(changes);
        }
        let env = env(index)?;
        let gas = env.gas_limit;
        let mut tracer = Tracer::new(self.limits().response_size_bytes);
        let (result, _) = exec::inspect(&state, &context, env, Sender::Impersonated, &mut tracer)?;
        if tracer.left_bytes == 0 || tracer.left_calls == 0 {
            return Err(NodeError::LimitExceeded("the trace is too large or too deep".to_owned()));
        }
        let mut root = tracer
            .root
            .ok_or_else(|| NodeError::Internal("a transaction without a call".to_owned()))?;
        root.gas = gas;
        root.gas_used = result.tx_gas_used();
        Ok(root)
    }
}

/// Collects call frames until a limit is reached; then it only counts on.
struct Tracer {
    open: Vec<CallFrame>,
    root: Option<CallFrame>,
    left_calls: usize,
    left_bytes: usize,
}

impl Tracer {
    fn new(most_bytes: usize) -> Self {
        Self {
            open: Vec::new(),
            root: None,
            left_calls: MAX_CALLS,
            left_bytes: most_bytes,
        }
    }

    /// Counts bytes; returns them, or nothing once the limit is reached.
    fn keep(&mut self, bytes: Bytes) -> Bytes {
        self.left_bytes = self.left_bytes.saturating_sub(bytes.len());
        if self.left_bytes == 0 { Bytes::new() } else { bytes }
    }

    fn begin(&mut self, kind: &'static str, from: Address, to: Option<Address>, value: U256, gas: u64, input: Bytes) {
        let input = self.keep(input);
        if self.open.len() >= MAX_DEPTH {
            self.left_calls = 0;
        }
        self.open.push(CallFrame {
            kind,
            from,
            to,
            value,
            gas,
            gas_used: 0,
            input,
            output: Bytes::new(),
            error: None,
            logs: Vec::new(),
            calls: Vec::new(),
        });
    }

    fn end(&mut self, result: &InterpreterResult, created: Option<Address>) {
        let Some(mut frame) = self.open.pop() else { return };
        frame.gas_used = result.gas.total_gas_spent();
        frame.output = self.keep(result.output.clone());
        frame.to = frame.to.or(created);
        if !result.result.is_ok() {
            frame.error = Some(if result.result.is_revert() {
                "execution reverted".to_owned()
            } else {
                format!("{:?}", result.result)
            });
        }
        self.left_calls = self.left_calls.saturating_sub(1);
        match self.open.last_mut() {
            Some(parent) if self.left_calls > 0 => parent.calls.push(frame),
            Some(_) => {}
            None => self.root = Some(frame),
        }
    }
}

impl<C: ContextTr> Inspector<C> for Tracer {
    fn call(&mut self, context: &mut C, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let kind = match inputs.scheme {
            CallScheme::Call => "CALL",
            CallScheme::CallCode => "CALLCODE",
            CallScheme::DelegateCall => "DELEGATECALL",
            CallScheme::StaticCall => "STATICCALL",
        };
        // For delegated code, "to" is whose code runs; the storage is the caller's.
        let from = if inputs.scheme.is_delegate_call() {
            inputs.target_address
        } else {
            inputs.caller
        };
        let input = inputs.input.bytes(context);
        self.begin(
            kind,
            from,
            Some(inputs.bytecode_address),
            inputs.value.get(),
            inputs.gas_limit,
            input,
        );
        None
    }

    fn call_end(&mut self, _context: &mut C, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.end(&outcome.result, None);
    }

    fn create(&mut self, _context: &mut C, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        let kind = match inputs.scheme() {
            CreateScheme::Create2 { .. } => "CREATE2",
            _ => "CREATE",
        };
        self.begin(
            kind,
            inputs.caller(),
            None,
            inputs.value(),
            inputs.gas_limit(),
            inputs.init_code().clone(),
        );
        None
    }

    fn create_end(&mut self, _context: &mut C, _inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        self.end(&outcome.result, outcome.address);
    }

    fn log(&mut self, _context: &mut C, log: Log) {
        self.left_bytes = self.left_bytes.saturating_sub(log.data.data.len());
        if self.left_bytes > 0
            && let Some(frame) = self.open.last_mut()
        {
            frame.logs.push((frame.calls.len(), log));
        }
    }
}
