//! What a block asks for, from its first transaction to its ciphertexts in state.
//!
//! A [`BlockSession`] lives as long as the execution of one block:
//!
//! 1. for each transaction, [`BlockSession::recorder`] watches it, and [`BlockSession::admit`] adds what it asked for and which handles it left in
//!    storage. A transaction that asks for more FHE gas than is left is not admitted, and must then not become part of the block;
//! 2. after the last one, [`BlockSession::plan`] says what has to be computed: [`BlockPlan::work`];
//! 3. [`BlockPlan::settle`] takes the results and gives what goes into state, by [`super::write_ciphertexts`], before the state root is computed.
//!
//! All of it is a function of the block and of the state before it.

use std::collections::{BTreeSet, HashMap, HashSet};

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use cipherloom_primitives::ciphertext_state::MAX_STORED_BYTES;
use cipherloom_primitives::{Computation, Handle};
use revm::DatabaseRef;
use revm::state::EvmState;

use super::ciphertexts::{ReadError, read_ciphertext, read_metadata};
use super::fhe_gas::{FheGasExceeded, fhe_gas};
use super::recorder::{NativeContracts, Noticed, Recorder, TransactionWork};
use super::work::{BlockWork, ProvenInput, Results};

/// The homomorphic side of a block being executed.
#[derive(Clone, Debug)]
pub struct BlockSession {
    contracts: NativeContracts,
    fhe_gas_limit: u64,
    fhe_gas_used: u64,
    computations: Vec<Computation>,
    /// Where each result is in [`Self::computations`].
    results: HashMap<Handle, usize>,
    lists: Vec<ProvenInput>,
    /// Where each list is in [`Self::lists`], by its hash.
    list_numbers: HashMap<B256, usize>,
    /// Which list each input is in.
    inputs: HashMap<Handle, usize>,
    /// What reached storage.
    stored: BTreeSet<Handle>,
}

impl BlockSession {
    /// Begins a block that may use so much FHE gas, in HCU.
    #[must_use]
    pub fn new(contracts: NativeContracts, fhe_gas_limit: u64) -> Self {
        Self {
            contracts,
            fhe_gas_limit,
            fhe_gas_used: 0,
            computations: Vec::new(),
            results: HashMap::new(),
            lists: Vec::new(),
            list_numbers: HashMap::new(),
            inputs: HashMap::new(),
            stored: BTreeSet::new(),
        }
    }

    /// Returns the inspector for the next transaction.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.contracts)
    }

    /// Returns the FHE gas of the transactions so far, in HCU.
    #[must_use]
    pub const fn fhe_gas_used(&self) -> u64 {
        self.fhe_gas_used
    }

    /// Adds a transaction: what it asked for, and what it changed.
    ///
    /// A handle reaches storage when a slot holds it after the transaction that held something else before, and an operation of this block made it
    /// or this block took it in.
    ///
    /// # Errors
    /// [`FheGasExceeded`]. Then nothing was added, and the transaction must not be part of the block.
    pub fn admit(&mut self, work: TransactionWork, changes: &EvmState) -> Result<(), FheGasExceeded> {
        let made: HashSet<Handle> = work.noticed.iter().map(handle_of).collect();
        let known = |handle: &Handle| made.contains(handle) || self.results.contains_key(handle) || self.inputs.contains_key(handle);
        let stored: BTreeSet<Handle> = written_handles(changes)
            .filter(|handle| known(handle) && !self.stored.contains(handle))
            .collect();

        let stored_count = u64::try_from(stored.len()).unwrap_or(u64::MAX);
        let needed_hcu = fhe_gas(work.computations(), work.proofs_checked, stored_count);
        let left_hcu = self.fhe_gas_limit.saturating_sub(self.fhe_gas_used);
        if needed_hcu > left_hcu {
            return Err(FheGasExceeded {
                needed_hcu,
                left_hcu,
                limit_hcu: self.fhe_gas_limit,
            });
        }
        self.fhe_gas_used = self.fhe_gas_used.saturating_add(needed_hcu);
        self.stored.extend(stored);
        work.noticed.into_iter().for_each(|noticed| self.add(noticed));
        Ok(())
    }

    /// Adds what was noticed. The same operation on the same operands has the same result all through a block and is computed once.
    fn add(&mut self, noticed: Noticed) {
        match noticed {
            Noticed::Computation(computation) => {
                let number = self.computations.len();
                if let std::collections::hash_map::Entry::Vacant(place) = self.results.entry(computation.result) {
                    place.insert(number);
                    self.computations.push(computation);
                }
            }
            Noticed::Input { handle, proven } => {
                let number = *self.list_numbers.entry(keccak256(&proven.list)).or_insert_with(|| {
                    self.lists.push(proven);
                    self.lists.len() - 1
                });
                self.inputs.entry(handle).or_insert(number);
            }
        }
    }

    /// Says what has to be computed, given the state before the block's ciphertexts are written.
    ///
    /// An operand that neither state nor the block has leaves its result, and what depends on it, without a ciphertext.
    ///
    /// # Errors
    /// That of the database. Damaged ciphertexts count as missing.
    pub fn plan<D: DatabaseRef>(&self, number: u64, state: &D) -> Result<BlockPlan, D::Error> {
        let mut planner = Planner {
            session: self,
            read: |account, slot| state.storage_ref(account, slot),
            in_state: HashMap::new(),
        };
        let wanted = planner.not_in_state(&self.stored)?;
        let mut missing = HashSet::new();
        planner.find_missing(&wanted, &mut missing)?;
        let (without, outputs): (Vec<Handle>, Vec<Handle>) = wanted.into_iter().partition(|handle| missing.contains(handle));
        // One line for all: anybody can store many of these.
        if let Some(first) = without.first() {
            let count = without.len();
            tracing::warn!(block = number, count, %first, "stored handles get no ciphertext: they depend on values that this chain does not have");
        }
        let work = planner.work(number, outputs)?;
        Ok(BlockPlan { work, without })
    }
}

fn handle_of(noticed: &Noticed) -> Handle {
    match noticed {
        Noticed::Computation(computation) => computation.result,
        Noticed::Input { handle, .. } => *handle,
    }
}

/// The handles that a transaction left in slots where something else was before, of all contracts.
fn written_handles(changes: &EvmState) -> impl Iterator<Item = Handle> {
    let accounts = changes
        .values()
        .filter(|account| account.is_touched() && !account.is_selfdestructed());
    let slots = accounts.flat_map(|account| account.storage.values().filter(|slot| slot.is_changed()));
    slots.filter_map(|slot| Handle::try_from(B256::from(slot.present_value)).ok())
}

/// Where an operand comes from.
enum Origin {
    State,
    List(usize),
    Result(usize),
    Nowhere,
}

struct Planner<'a, R> {
    session: &'a BlockSession,
    read: R,
    in_state: HashMap<Handle, bool>,
}

impl<E, R: FnMut(Address, U256) -> Result<U256, E>> Planner<'_, R> {
    fn has_state(&mut self, handle: Handle) -> Result<bool, E> {
        if let Some(known) = self.in_state.get(&handle) {
            return Ok(*known);
        }
        let found = match read_metadata(handle, &mut self.read) {
            Ok(metadata) => metadata.is_some(),
            Err(ReadError::Damaged(error)) => {
                tracing::error!(%handle, %error, "state has a damaged ciphertext");
                false
            }
            Err(ReadError::Database(error)) => return Err(error),
        };
        self.in_state.insert(handle, found);
        Ok(found)
    }

    fn not_in_state(&mut self, handles: &BTreeSet<Handle>) -> Result<Vec<Handle>, E> {
        let mut others = Vec::new();
        for handle in handles {
            if !self.has_state(*handle)? {
                others.push(*handle);
            }
        }
        Ok(others)
    }

    /// Where an operand of computation `before`, or an output, comes from. Only what was computed earlier counts.
    fn origin(&mut self, handle: Handle, before: usize) -> Result<Origin, E> {
        if self.has_state(handle)? {
            return Ok(Origin::State);
        }
        if let Some(list) = self.session.inputs.get(&handle) {
            return Ok(Origin::List(*list));
        }
        Ok(match self.session.results.get(&handle) {
            Some(number) if *number < before => Origin::Result(*number),
            _ => Origin::Nowhere,
        })
    }

    /// The computations that outputs need, by number. Operands come before what uses them, so that one pass from the end finds all.
    fn needed(&mut self, outputs: &[Handle]) -> Result<BTreeSet<usize>, E> {
        let end = self.session.computations.len();
        let mut needed = BTreeSet::new();
        for handle in outputs {
            if let Origin::Result(number) = self.origin(*handle, end)? {
                needed.insert(number);
            }
        }
        let session = self.session;
        for (number, computation) in session.computations.iter().enumerate().rev() {
            if !needed.contains(&number) {
                continue;
            }
            for operand in &computation.inputs {
                if let Origin::Result(earlier) = self.origin(*operand, number)? {
                    needed.insert(earlier);
                }
            }
        }
        Ok(needed)
    }

    /// Finds what cannot be computed, among outputs and what they need.
    fn find_missing(&mut self, outputs: &[Handle], missing: &mut HashSet<Handle>) -> Result<(), E> {
        let needed = self.needed(outputs)?;
        let session = self.session;
        for (number, computation) in session.computations.iter().enumerate() {
            if !needed.contains(&number) {
                continue;
            }
            for operand in &computation.inputs {
                let nowhere = matches!(self.origin(*operand, number)?, Origin::Nowhere);
                if nowhere || missing.contains(operand) {
                    missing.insert(computation.result);
                }
            }
        }
        Ok(())
    }

    /// Collects what `outputs` need; all of it is there.
    fn work(&mut self, block: u64, outputs: Vec<Handle>) -> Result<BlockWork, E> {
        let needed = self.needed(&outputs)?;
        let session = self.session;
        let computations: Vec<Computation> = needed
            .iter()
            .filter_map(|number| session.computations.get(*number))
            .cloned()
            .collect();
        let operands = needed
            .iter()
            .filter_map(|number| Some((*number, session.computations.get(*number)?)))
            .flat_map(|(number, computation)| computation.inputs.iter().map(move |operand| (*operand, number)));
        let (mut lists, mut from_state) = (BTreeSet::new(), BTreeSet::new());
        let end = session.computations.len();
        for (handle, before) in outputs.iter().map(|output| (*output, end)).chain(operands) {
            match self.origin(handle, before)? {
                Origin::List(list) => drop(lists.insert(list)),
                Origin::State => drop(from_state.insert(handle)),
                Origin::Result(_) | Origin::Nowhere => {}
            }
        }
        let mut ciphertexts = Vec::new();
        for handle in from_state {
            match read_ciphertext(handle, &mut self.read) {
                Ok(bytes) => ciphertexts.extend(bytes.map(|bytes| (handle, bytes))),
                Err(ReadError::Damaged(error)) => tracing::error!(%handle, %error, "state has a damaged ciphertext"),
                Err(ReadError::Database(error)) => return Err(error),
            }
        }
        Ok(BlockWork {
            number: block,
            computations,
            inputs: lists.iter().filter_map(|list| session.lists.get(*list)).cloned().collect(),
            ciphertexts,
            outputs,
        })
    }
}

/// What a block asks an executor for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockPlan {
    work: BlockWork,
    without: Vec<Handle>,
}

impl BlockPlan {
    /// Returns what has to be computed.
    #[must_use]
    pub const fn work(&self) -> &BlockWork {
        &self.work
    }

    /// Returns the handles that contracts stored and nobody can compute, because something they depend on is not on this chain.
    #[must_use]
    pub fn without(&self) -> &[Handle] {
        &self.without
    }

    /// Returns what goes into state, in ascending order of the handles.
    ///
    /// An output that failed, or is not among the results, gets no ciphertext: only a caller that has the results from somebody whom the state root
    /// proves right may leave some out.
    ///
    /// # Errors
    /// [`ResultsRefused`] if the results are not those of this block.
    pub fn settle(&self, results: Results) -> Result<Vec<(Handle, Bytes)>, ResultsRefused> {
        let mut seen = HashSet::new();
        let mut stored = Vec::new();
        for (handle, result) in results {
            if self.work.outputs.binary_search(&handle).is_err() {
                return Err(ResultsRefused::NotAsked(handle));
            }
            if !seen.insert(handle) {
                return Err(ResultsRefused::Twice(handle));
            }
            match result {
                Ok(bytes) if bytes.is_empty() || u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_STORED_BYTES) => {
                    let size_bytes = bytes.len();
                    return Err(ResultsRefused::Size { handle, size_bytes });
                }
                Ok(bytes) => stored.push((handle, bytes)),
                Err(reason) => {
                    tracing::warn!(block = self.work.number, %handle, reason, "a stored handle gets no ciphertext: it cannot be computed");
                }
            }
        }
        stored.sort_by_key(|(handle, _)| *handle);
        Ok(stored)
    }
}

/// Results are not those of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResultsRefused {
    /// A value that the block does not store.
    #[error("{0} is not among what the block stores")]
    NotAsked(Handle),
    /// A value is there twice.
    #[error("{0} has two results")]
    Twice(Handle),
    /// A ciphertext is empty, or longer than any.
    #[error("the ciphertext of {handle} has {size_bytes} bytes")]
    Size {
        /// Whose it is.
        handle: Handle,
        /// How many bytes it has.
        size_bytes: usize,
    },
}
