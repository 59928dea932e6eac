//! Transactions to measure: what they compute, from which values, and what must come out.

use std::collections::HashMap;

use anyhow::{Context, Result};
use cipherloom_contracts::development;
use cipherloom_fhe::clear;
use cipherloom_primitives::{B256, Computation, FheType, Handle, Operand, Operation, TypedOperation, U256};

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    /// What it computes, in the order of its events.
    pub(crate) computations: Vec<Computation>,
    /// Which results it publishes.
    pub(crate) outputs: Vec<Handle>,
}

/// A value that is encrypted before anything is measured, and is there when the first transaction runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    /// Its handle.
    pub(crate) handle: Handle,
    /// Which of the samples of its type it is.
    pub(crate) sample: usize,
    /// Whether it is what a user brings along, and not what a contract keeps.
    pub(crate) brought: bool,
}

/// Transactions, in the order of the chain, with the values they start from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scenario {
    /// What is there before.
    pub(crate) given: Vec<Given>,
    /// The transactions. A later one may use what an earlier one published.
    pub(crate) transactions: Vec<Transaction>,
}

/// The plaintexts of a type that are encrypted for benchmarks, the same every time. Scenarios use them over and over: bootstraps take the same time whatever
/// is in them.
pub(crate) fn sample_values(ty: FheType) -> Vec<U256> {
    match ty {
        FheType::Bool => vec![U256::ONE, U256::ZERO],
        FheType::Uint64 => [
            1_000_000_000_u64,
            250_000,
            77_000_000_123,
            3,
            12_345_678_901_234,
            999_999,
            u64::MAX / 3,
            40_000_000,
        ]
        .map(U256::from)
        .to_vec(),
        _ => [0x5a, 0xc3, 0x0f].map(|byte| ty.truncate(U256::from_be_bytes([byte; 32]))).to_vec(),
    }
}

impl Scenario {
    /// Computes what every handle must decrypt to.
    ///
    /// # Errors
    /// If a transaction uses what does not exist.
    pub(crate) fn expected(&self) -> Result<HashMap<Handle, U256>> {
        let mut values = HashMap::new();
        for given in &self.given {
            let samples = sample_values(given.handle.fhe_type());
            values.insert(given.handle, *samples.get(given.sample).context("there are fewer samples")?);
        }
        for computation in self.transactions.iter().flat_map(|transaction| &transaction.computations) {
            let operands = computation.inputs.iter().map(|input| values.get(input).copied());
            let operands = operands.collect::<Option<Vec<_>>>().context("an operand does not exist yet")?;
            values.insert(computation.result, clear::evaluate(&computation.operation, &operands));
        }
        Ok(values)
    }

    /// Groups the transactions into waves: those of a wave need only what is given or published by earlier ones.
    pub(crate) fn waves(&self) -> Vec<Vec<&Transaction>> {
        let mut made_in = HashMap::new();
        let mut waves: Vec<Vec<&Transaction>> = Vec::new();
        for transaction in &self.transactions {
            let operands = transaction.computations.iter().flat_map(|computation| &computation.inputs);
            let wave = operands
                .filter_map(|operand| made_in.get(operand))
                .max()
                .map_or(0, |latest| latest + 1);
            made_in.extend(transaction.outputs.iter().map(|output| (*output, wave)));
            if waves.len() <= wave {
                waves.resize_with(wave + 1, Vec::new);
            }
            if let Some(wave) = waves.get_mut(wave) {
                wave.push(transaction);
            }
        }
        waves
    }

    /// Returns the scenario of the first transactions alone.
    pub(crate) fn first(&self, count: usize) -> Self {
        Self {
            given: self.given.clone(),
            transactions: self.transactions.iter().take(count).cloned().collect(),
        }
    }
}

/// Writes a scenario down, transaction by transaction.
pub(crate) struct Writer {
    /// Makes the handles of this scenario other than those of all others.
    series: u64,
    handles: u64,
    given_of_type: HashMap<FheType, usize>,
    scenario: Scenario,
    current: Vec<Computation>,
}

impl Writer {
    /// Begins a scenario. Its handles are its own as long as its number is.
    pub(crate) fn new(series: u64) -> Self {
        Self {
            series,
            handles: 0,
            given_of_type: HashMap::new(),
            scenario: Scenario::default(),
            current: Vec::new(),
        }
    }

    fn handle(&mut self, ty: FheType) -> Handle {
        self.handles += 1;
        // Handles keep the first 21 bytes of what they are made from.
        let number = (U256::from(self.series) << 192) | (U256::from(self.handles) << 128);
        Handle::computed(B256::from(number), development::HOST_CHAIN_ID, ty)
    }

    /// Takes a value that a contract keeps: the samples of the type in turn.
    pub(crate) fn given(&mut self, ty: FheType) -> Handle {
        self.take(ty, false)
    }

    /// Takes a value that a user brings along: the samples of the type in turn.
    pub(crate) fn brought(&mut self, ty: FheType) -> Handle {
        self.take(ty, true)
    }

    fn take(&mut self, ty: FheType, brought: bool) -> Handle {
        let handle = self.handle(ty);
        let used = self.given_of_type.entry(ty).or_default();
        let count = sample_values(ty).len().max(1);
        self.scenario.given.push(Given {
            handle,
            sample: *used % count,
            brought,
        });
        *used += 1;
        handle
    }

    /// Asks for an operation.
    pub(crate) fn operation(&mut self, operation: TypedOperation, inputs: &[Handle]) -> Handle {
        let result = self.handle(operation.result_type());
        self.current.push(Computation {
            operation,
            inputs: inputs.to_vec(),
            result,
        });
        result
    }

    /// Asks for an operation on two ciphertexts.
    pub(crate) fn binary(&mut self, operation: Operation, left: Handle, right: Handle) -> Handle {
        let typed = TypedOperation::Binary {
            operation,
            ty: left.fhe_type(),
            rhs: Operand::Encrypted,
        };
        self.operation(typed, &[left, right])
    }

    /// Asks for a choice.
    pub(crate) fn select(&mut self, condition: Handle, if_true: Handle, if_false: Handle) -> Handle {
        let ty = if_true.fhe_type();
        self.operation(TypedOperation::IfThenElse { ty }, &[condition, if_true, if_false])
    }

    /// Asks for the ciphertext of a public value.
    pub(crate) fn public(&mut self, ty: FheType, value: U256) -> Handle {
        self.operation(TypedOperation::TrivialEncrypt { value, ty }, &[])
    }

    /// Ends the transaction, which publishes these handles.
    pub(crate) fn publish(&mut self, outputs: &[Handle]) {
        self.scenario.transactions.push(Transaction {
            computations: std::mem::take(&mut self.current),
            outputs: outputs.to_vec(),
        });
    }

    /// Returns what was written.
    pub(crate) fn finish(self) -> Scenario {
        self.scenario
    }
}
