//! From the computations of a request to transactions.
//!
//! Computations may come in any order. Names are counted once each, computations are sorted by what needs what, every one is checked against the
//! operation table, which also gives the types of names that the request itself introduces, and what hangs together becomes a transaction. All
//! this looks at each operand once, because requests have thousands of computations.

use std::collections::{BTreeMap, HashMap, HashSet};

use alloy::primitives::Keccak256;
use bytes::Bytes;
use cipherloom_engine::Groups;
use cipherloom_primitives::{B256, Computation, FheType, Given, Handle, HandleOrigin, Operation, TypedOperation, U256, given::big_endian};
use cipherloom_rpc::fhevm::coprocessor::{AsyncComputation, AsyncComputationInput, async_computation_input::Input};
use cipherloom_store::{NamedHandle, RecordedTransaction};

use super::{error::RequestError, names};

/// The longest scalar, that of the widest type of the generation.
const MAX_SCALAR_BYTES: usize = 256;

const TRANSACTION_DOMAIN: &[u8] = b"cipherloom pushed transaction 1";

/// The computations of a request, each after those it needs.
#[derive(Debug)]
pub(super) struct Requested {
    /// Every name that occurs, once.
    pub(super) names: Vec<Bytes>,
    computations: Vec<Asked>,
    /// By name, the computation that gives it.
    producers: Vec<Option<usize>>,
    /// The numbers of the computations, each after those it needs.
    order: Vec<usize>,
}

/// A computation as it was sent, with names counted.
#[derive(Debug)]
struct Asked {
    operation: Operation,
    output: usize,
    operands: Vec<Operand>,
}

#[derive(Clone, Copy, Debug)]
enum Operand {
    Name(usize),
    Scalar(U256),
}

impl Asked {
    fn names(&self) -> impl Iterator<Item = usize> {
        self.operands.iter().filter_map(|operand| match operand {
            Operand::Name(name) => Some(*name),
            Operand::Scalar(_) => None,
        })
    }
}

/// Counts names.
#[derive(Default)]
struct Counter<'a> {
    numbers: HashMap<&'a Bytes, usize>,
    names: Vec<Bytes>,
}

impl<'a> Counter<'a> {
    fn number(&mut self, name: &'a Bytes) -> Result<usize, RequestError> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        names::check(name)?;
        let number = self.names.len();
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        Ok(number)
    }
}

impl Requested {
    /// Reads computations and sorts them. Where there is a choice, their order stays as it was sent.
    pub(super) fn read(computations: &[AsyncComputation]) -> Result<Self, RequestError> {
        let mut counter = Counter::default();
        let computations = computations
            .iter()
            .map(|computation| asked(computation, &mut counter))
            .collect::<Result<Vec<_>, _>>()?;
        let mut requested = Self {
            producers: vec![None; counter.names.len()],
            names: counter.names,
            order: Vec::with_capacity(computations.len()),
            computations,
        };
        requested.find_producers()?;
        requested.sort()?;
        Ok(requested)
    }

    fn name(&self, number: usize) -> Bytes {
        self.names.get(number).cloned().unwrap_or_default()
    }

    fn producer(&self, name: usize) -> Option<usize> {
        self.producers.get(name).copied().flatten()
    }

    fn find_producers(&mut self) -> Result<(), RequestError> {
        for (number, computation) in self.computations.iter().enumerate() {
            if computation.names().any(|name| name == computation.output) {
                return Err(RequestError::OutputIsInput(self.name(computation.output)));
            }
            if let Some(producer) = self.producers.get_mut(computation.output)
                && producer.replace(number).is_some()
            {
                return Err(RequestError::Duplicate(self.name(computation.output)));
            }
        }
        Ok(())
    }

    fn sort(&mut self) -> Result<(), RequestError> {
        let mut waiting = vec![0usize; self.computations.len()];
        let mut dependents = vec![Vec::new(); self.computations.len()];
        for ((number, computation), waiting) in self.computations.iter().enumerate().zip(&mut waiting) {
            for producer in computation.names().filter_map(|name| self.producer(name)) {
                if let Some(list) = dependents.get_mut(producer) {
                    list.push(number);
                    *waiting += 1;
                }
            }
        }
        self.order.extend(
            waiting
                .iter()
                .enumerate()
                .filter(|(_, count)| **count == 0)
                .map(|(number, _)| number),
        );
        let mut next = 0;
        while let Some(number) = self.order.get(next).copied() {
            next += 1;
            for dependent in dependents.get_mut(number).map(std::mem::take).unwrap_or_default() {
                if let Some(count) = waiting.get_mut(dependent) {
                    *count -= 1;
                    if *count == 0 {
                        self.order.push(dependent);
                    }
                }
            }
        }
        match self.computations.iter().zip(&waiting).find(|(_, count)| **count > 0) {
            Some((computation, _)) => Err(RequestError::Circular(self.name(computation.output))),
            None => Ok(()),
        }
    }

    /// Checks the computations and finds their types. `known` has, for each name, the handle that it stands for already.
    pub(super) fn plan(&self, chain_id: u64, known: &[Option<Handle>]) -> Result<Plan, RequestError> {
        let known_or_computed = known.iter().zip(&self.producers).enumerate();
        let missing = known_or_computed.filter(|(_, (handle, producer))| handle.is_none() && producer.is_none());
        let missing: Vec<usize> = missing.map(|(number, _)| number).collect();
        if !missing.is_empty() {
            return Err(RequestError::not_found(&missing, |number| self.name(number)));
        }
        let mut plan = Plan {
            chain_id,
            computations: Vec::with_capacity(self.computations.len()),
        };
        let mut handles = known.to_vec();
        let mut results = HashSet::with_capacity(self.computations.len());
        // By the number of a computation, its place in the plan.
        let mut places = vec![0; self.computations.len()];
        for number in &self.order {
            let Some(computation) = self.computations.get(*number) else {
                continue;
            };
            let mut planned = self.planned(computation, chain_id, &handles)?;
            let producers = computation.names().filter_map(|name| self.producer(name));
            planned.needs = producers.filter_map(|producer| places.get(producer).copied()).collect();
            let result = planned.computation.result;
            if !results.insert(result) {
                return Err(RequestError::Duplicate(self.name(computation.output)));
            }
            if let Some(handle) = handles.get_mut(computation.output) {
                *handle = Some(result);
            }
            if let Some(place) = places.get_mut(*number) {
                *place = plan.computations.len();
            }
            plan.computations.push(planned);
        }
        Ok(plan)
    }

    fn planned(&self, asked: &Asked, chain_id: u64, handles: &[Option<Handle>]) -> Result<Planned, RequestError> {
        let name = self.name(asked.output);
        let given = |operand: &Operand| match operand {
            Operand::Scalar(value) => Ok(Given::Scalar(*value)),
            Operand::Name(number) => match handles.get(*number).copied().flatten() {
                Some(handle) => Ok(Given::Handle(handle)),
                None => Err(RequestError::not_found(&[*number], |number| self.name(number))),
            },
        };
        let given = asked.operands.iter().map(given).collect::<Result<Vec<_>, _>>()?;
        let stands_for = handles.get(asked.output).copied().flatten();
        let expected = stands_for.as_ref().map(Handle::fhe_type);
        let (operation, inputs) =
            TypedOperation::check_given(asked.operation, &given, expected).map_err(|source| RequestError::of_operation(&name, source))?;
        let ty = operation.result_type();
        let result = match stands_for {
            Some(handle) => existing(handle, ty, &name)?,
            None => Handle::named(&name, chain_id, ty),
        };
        Ok(Planned {
            operation: asked.operation,
            given,
            computation: Computation { operation, inputs, result },
            new_name: stands_for.is_none().then_some(name),
            needs: Vec::new(),
        })
    }

    /// Returns the name under which a handle was sent.
    pub(super) fn name_of(&self, handle: Handle, known: &[Option<Handle>]) -> Bytes {
        let named = self.names.iter().zip(known).find(|(_, known)| **known == Some(handle));
        named.map_or_else(|| Bytes::copy_from_slice(handle.as_slice()), |(name, _)| name.clone())
    }
}

/// Accepts a handle that exists as that of a result.
fn existing(handle: Handle, ty: FheType, name: &Bytes) -> Result<Handle, RequestError> {
    if handle.origin() != HandleOrigin::Computed {
        return Err(RequestError::ComputedInput(name.clone()));
    }
    if handle.fhe_type() != ty {
        return Err(RequestError::OtherType {
            output: name.clone(),
            given: ty,
            found: handle.fhe_type(),
        });
    }
    Ok(handle)
}

fn asked<'a>(computation: &'a AsyncComputation, counter: &mut Counter<'a>) -> Result<Asked, RequestError> {
    let output = counter.number(&computation.output_handle)?;
    let number = computation.operation;
    let operation = u8::try_from(number).ok().and_then(|id| Operation::try_from(id).ok());
    let operation = operation.ok_or_else(|| RequestError::UnknownOperation {
        output: computation.output_handle.clone(),
        number,
    })?;
    let operand = |(index, input): (usize, &'a AsyncComputationInput)| match &input.input {
        Some(Input::InputHandle(name)) => Ok(Operand::Name(counter.number(name)?)),
        Some(Input::Scalar(bytes)) if bytes.len() > MAX_SCALAR_BYTES => Err(RequestError::LongScalar { size: bytes.len() }),
        Some(Input::Scalar(bytes)) => Ok(Operand::Scalar(big_endian(bytes))),
        None => Err(RequestError::UndefinedInput {
            output: computation.output_handle.clone(),
            index,
        }),
    };
    let operands = computation.inputs.iter().enumerate().map(operand).collect::<Result<_, _>>()?;
    Ok(Asked {
        operation,
        output,
        operands,
    })
}

/// Checked computations, each after those it needs.
#[derive(Debug)]
pub(super) struct Plan {
    chain_id: u64,
    computations: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    operation: Operation,
    given: Vec<Given>,
    computation: Computation,
    /// The name that the result gets, if it has none yet and is not its handle itself.
    new_name: Option<Bytes>,
    /// The places in the plan of the computations whose results it needs.
    needs: Vec<usize>,
}

impl Plan {
    /// Lists the encrypted inputs that computations use.
    pub(super) fn inputs(&self) -> Vec<Handle> {
        let operands = self.computations.iter().flat_map(|planned| &planned.computation.inputs);
        let inputs: HashSet<Handle> = operands
            .filter(|handle| handle.origin() != HandleOrigin::Computed)
            .copied()
            .collect();
        inputs.into_iter().collect()
    }

    /// Makes transactions of the computations whose results are not known, in the order of their first computations, and lists the names that
    /// their results get.
    pub(super) fn transactions(&self, known: &HashSet<Handle>) -> (Vec<RecordedTransaction>, Vec<NamedHandle>) {
        let is_new = |planned: &Planned| !known.contains(&planned.computation.result);
        let mut groups = Groups::new(self.computations.len());
        for (place, planned) in self.computations.iter().enumerate().filter(|(_, planned)| is_new(planned)) {
            let needs = planned
                .needs
                .iter()
                .filter(|need| self.computations.get(**need).is_some_and(is_new));
            needs.for_each(|need| groups.join(*need, place));
        }
        // A group is numbered by its first computation, so that the map is in their order.
        let mut members = BTreeMap::<usize, Vec<&Planned>>::new();
        let mut names = Vec::new();
        for (place, planned) in self.computations.iter().enumerate().filter(|(_, planned)| is_new(planned)) {
            members.entry(groups.of(place)).or_default().push(planned);
            names.extend(planned.new_name.as_ref().map(|name| NamedHandle {
                name: name.to_vec(),
                handle: planned.computation.result,
            }));
        }
        let transactions = (0..).zip(members.into_values());
        (
            transactions.map(|(index, members)| self.transaction(index, &members)).collect(),
            names,
        )
    }

    fn transaction(&self, index: u64, members: &[&Planned]) -> RecordedTransaction {
        let mut own = HashSet::with_capacity(members.len());
        let mut boundary = Vec::new();
        for planned in members {
            let operands = planned.computation.inputs.iter();
            boundary.extend(operands.filter(|handle| handle.origin() == HandleOrigin::Computed && !own.contains(*handle)));
            own.insert(planned.computation.result);
        }
        boundary.sort_unstable();
        boundary.dedup();
        RecordedTransaction {
            hash: transaction_hash(self.chain_id, members),
            index,
            computations: members.iter().map(|planned| planned.computation.clone()).collect(),
            boundary,
            outputs: members.iter().map(|planned| planned.computation.result).collect(),
            grants: Vec::new(),
            delegations: Vec::new(),
        }
    }
}

/// The hash of a transaction that no chain has: Keccak over a tag, the chain id, and each computation's operation, result and operands.
fn transaction_hash(chain_id: u64, members: &[&Planned]) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(TRANSACTION_DOMAIN);
    hasher.update(chain_id.to_be_bytes());
    for planned in members {
        hasher.update([planned.operation.id()]);
        hasher.update(planned.computation.result.as_slice());
        hasher.update((planned.given.len() as u64).to_be_bytes());
        for given in &planned.given {
            match given {
                Given::Handle(handle) => {
                    hasher.update([0]);
                    hasher.update(handle.as_slice());
                }
                Given::Scalar(value) => {
                    hasher.update([1]);
                    hasher.update(value.to_be_bytes::<32>());
                }
            }
        }
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests;
