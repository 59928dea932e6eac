//! What has to be computed for a request, and in what order.
//!
//! Computations may come in any order. They are sorted by what needs what, always in the same way, and split into *parts*: computations that need
//! each other's results, directly or through others. A part is compiled and evaluated as one graph. So the bytes of a result depend on its own
//! part alone and not on what else is in the block, and parts that are ready need not wait for others.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet},
};

use bytes::Bytes;
use cipherloom_engine::Groups;
use cipherloom_primitives::{Computation, Handle};
use cipherloom_rpc::fhevm::executor::SyncComputation;

use crate::{
    error::ComputeError,
    operands::{Requested, requested, result_handle},
};

/// What has to be computed for a request.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What becomes of each result, in the order of the computations.
    pub(crate) results: Vec<Planned>,
    /// The parts, in the order of their first computations.
    pub(crate) parts: Vec<Part>,
}

/// What becomes of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// The number of the computation, from 0; nothing for an output that no computation has.
    pub(crate) computation: Option<usize>,
    /// The handle as it was sent.
    pub(crate) handle: Bytes,
    /// Where the ciphertext comes from, or why there will be none.
    pub(crate) from: Result<Source, ComputeError>,
}

/// Where a ciphertext comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It was given under this handle.
    Outside(Handle),
    /// A part computes it under this handle.
    Part {
        /// The number of the part.
        part: usize,
        /// The handle.
        handle: Handle,
    },
}

/// Computations that need each other's results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// The computations, each after those it needs.
    pub(crate) computations: Vec<Computation>,
    /// The handles whose ciphertexts are needed from outside.
    pub(crate) boundary: BTreeSet<Handle>,
    /// The results it gives: their places in [`Plan::results`], and the handles they are computed under.
    pub(crate) results: Vec<(usize, Handle)>,
}

impl Plan {
    /// Plans computations, given which handles come from outside and which results are wanted; without any, all are.
    pub(crate) fn new(computations: &[SyncComputation], outside: &HashSet<Handle>, wanted: &[Bytes]) -> Self {
        let mut sorter = Sorter::new(computations, outside);
        sorter.sort();
        let mut plan = sorter.into_plan();
        if !wanted.is_empty() {
            plan.keep(wanted, outside);
        }
        plan.assign_results();
        plan
    }

    /// Drops results that are not wanted, and answers for handles that are wanted and no result.
    fn keep(&mut self, wanted: &[Bytes], outside: &HashSet<Handle>) {
        let mut wanted: BTreeSet<Bytes> = wanted.iter().cloned().collect();
        self.results.retain(|result| wanted.contains(&result.handle));
        for result in &self.results {
            wanted.remove(&result.handle);
        }
        self.results.extend(wanted.into_iter().map(|handle| Planned {
            computation: None,
            from: match Handle::try_from(&*handle) {
                Ok(handle) if outside.contains(&handle) => Ok(Source::Outside(handle)),
                Ok(handle) => Err(ComputeError::UnknownHandle(handle)),
                Err(error) => Err(ComputeError::BadResultHandles(error.to_string())),
            },
            handle,
        }));
    }

    /// Tells the parts which results they give.
    fn assign_results(&mut self) {
        for (position, result) in self.results.iter().enumerate() {
            if let Ok(Source::Part { part, handle }) = &result.from
                && let Some(part) = self.parts.get_mut(*part)
            {
                part.results.push((position, *handle));
            }
        }
    }
}

/// A computation on its way into the plan.
struct Item {
    handle: Bytes,
    requested: Result<Requested, ComputeError>,
    /// The items whose results it needs.
    needs: Vec<usize>,
}

/// Sorts computations by what needs what.
struct Sorter<'a> {
    outside: &'a HashSet<Handle>,
    items: Vec<Item>,
    producers: HashMap<Handle, usize>,
    /// The items in an order in which they can be done.
    order: Vec<usize>,
}

impl<'a> Sorter<'a> {
    fn new(computations: &[SyncComputation], outside: &'a HashSet<Handle>) -> Self {
        let mut sorter = Self {
            outside,
            items: Vec::with_capacity(computations.len()),
            producers: HashMap::new(),
            order: Vec::with_capacity(computations.len()),
        };
        for computation in computations {
            sorter.add(computation);
        }
        for item in 0..sorter.items.len() {
            sorter.connect(item);
        }
        sorter
    }

    fn add(&mut self, computation: &SyncComputation) {
        let mut requested = requested(computation);
        let number = self.items.len();
        if let Ok(handle) = result_handle(computation) {
            let first = *self.producers.entry(handle).or_insert(number);
            // The same computation twice is one; two contracts may well ask for it.
            let taken = self.items.get(first).is_some_and(|first| first.requested != requested);
            if taken && requested.is_ok() {
                requested = Err(ComputeError::BadResultHandles(format!(
                    "{handle} is the result of another computation too"
                )));
            }
        }
        self.items.push(Item {
            handle: computation.result_handles.first().cloned().unwrap_or_default(),
            requested,
            needs: Vec::new(),
        });
    }

    /// Finds the producers of an item's operands.
    fn connect(&mut self, number: usize) {
        let Some(Item {
            requested: Ok(requested), ..
        }) = self.items.get(number)
        else {
            return;
        };
        // What is given is not computed again, so that it needs nothing.
        if self.outside.contains(&requested.result()) {
            return;
        }
        let copies = matches!(requested, Requested::Copy { .. });
        let mut needs = Vec::new();
        let mut missing = None;
        for operand in requested.operands() {
            if self.outside.contains(operand) {
                continue;
            }
            match self.producers.get(operand) {
                Some(producer) => needs.push(*producer),
                None if copies => missing = Some(ComputeError::UnknownHandle(*operand)),
                None => missing = Some(ComputeError::MissingProducer(*operand)),
            }
        }
        needs.sort_unstable();
        needs.dedup();
        if let Some(item) = self.items.get_mut(number) {
            match missing {
                Some(error) => item.requested = Err(error),
                None => item.needs = needs,
            }
        }
    }

    /// Puts the items in order, by their handles where there is a choice, so that it does not matter in which order they came. What is left
    /// needs itself.
    fn sort(&mut self) {
        let rank =
            |number: &usize, items: &[Item]| Reverse((items.get(*number).map(|item| item.handle.clone()).unwrap_or_default(), *number));
        let mut waiting: Vec<usize> = self.items.iter().map(|item| item.needs.len()).collect();
        let mut dependents = vec![Vec::new(); self.items.len()];
        for (number, item) in self.items.iter().enumerate() {
            for need in &item.needs {
                if let Some(list) = dependents.get_mut(*need) {
                    list.push(number);
                }
            }
        }
        let ready = waiting.iter().enumerate().filter(|(_, count)| **count == 0);
        let mut ready: BinaryHeap<Reverse<(Bytes, usize)>> = ready.map(|(number, _)| rank(&number, &self.items)).collect();
        while let Some(Reverse((_, number))) = ready.pop() {
            self.order.push(number);
            for dependent in dependents.get_mut(number).map(std::mem::take).unwrap_or_default() {
                if let Some(count) = waiting.get_mut(dependent) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(rank(&dependent, &self.items));
                    }
                }
            }
        }
        for (item, waiting) in self.items.iter_mut().zip(waiting) {
            if waiting > 0 {
                item.requested = Err(ComputeError::UnsatisfiedDependence);
            }
        }
    }

    fn into_plan(self) -> Plan {
        let mut groups = Groups::new(self.items.len());
        let mut sources: HashMap<Handle, Result<Placed, ComputeError>> = HashMap::new();
        let mut placed: BTreeMap<usize, Computation> = BTreeMap::new();
        for number in &self.order {
            let Some(Item {
                requested: Ok(requested), ..
            }) = self.items.get(*number)
            else {
                continue;
            };
            let result = requested.result();
            if self.outside.contains(&result) || sources.contains_key(&result) {
                continue;
            }
            let source = self.place(*number, requested, &sources, &mut groups);
            if let (Ok(_), Requested::Operation(computation)) = (&source, requested) {
                placed.insert(*number, renamed(computation, &sources));
            }
            sources.insert(result, source);
        }
        let (parts, part_of) = self.parts(&mut groups, placed);
        let results = self.results(&sources, &part_of);
        Plan { results, parts }
    }

    /// Finds out where the result of a computation comes from, given that of its operands.
    fn place(
        &self,
        number: usize,
        requested: &Requested,
        sources: &HashMap<Handle, Result<Placed, ComputeError>>,
        groups: &mut Groups,
    ) -> Result<Placed, ComputeError> {
        let mut last = None;
        for operand in requested.operands() {
            let source = if self.outside.contains(operand) {
                Placed::Outside(*operand)
            } else {
                match sources.get(operand) {
                    Some(Ok(source)) => *source,
                    Some(Err(error)) => return Err(error.through(*operand)),
                    None => return Err(self.fault_of(operand).through(*operand)),
                }
            };
            if let (Placed::Item { item, .. }, Requested::Operation(_)) = (source, requested) {
                groups.join(item, number);
            }
            last = Some(source);
        }
        match (requested, last) {
            (Requested::Copy { .. }, Some(source)) => Ok(source),
            _ => Ok(Placed::Item {
                item: number,
                handle: requested.result(),
            }),
        }
    }

    /// Says why a handle has no source.
    fn fault_of(&self, handle: &Handle) -> ComputeError {
        let item = self.producers.get(handle).and_then(|producer| self.items.get(*producer));
        match item.map(|item| &item.requested) {
            Some(Err(error)) => error.clone(),
            _ => ComputeError::MissingProducer(*handle),
        }
    }

    /// Gathers the computations of each group.
    fn parts(&self, groups: &mut Groups, mut placed: BTreeMap<usize, Computation>) -> (Vec<Part>, HashMap<usize, usize>) {
        let mut number_of_group = HashMap::new();
        let mut part_of = HashMap::new();
        let mut parts: Vec<Part> = Vec::new();
        for item in placed.keys() {
            let part = *number_of_group.entry(groups.of(*item)).or_insert_with(|| {
                parts.push(Part::default());
                parts.len() - 1
            });
            part_of.insert(*item, part);
        }
        for item in &self.order {
            let part = part_of.get(item).and_then(|part| parts.get_mut(*part));
            if let (Some(computation), Some(part)) = (placed.remove(item), part) {
                let given = computation.inputs.iter().filter(|input| self.outside.contains(*input));
                part.boundary.extend(given.copied());
                part.computations.push(computation);
            }
        }
        (parts, part_of)
    }

    /// Lists what becomes of each result; the first of several with one handle and computation stands for all.
    fn results(&self, sources: &HashMap<Handle, Result<Placed, ComputeError>>, part_of: &HashMap<usize, usize>) -> Vec<Planned> {
        let mut listed = HashSet::new();
        let mut results = Vec::with_capacity(self.items.len());
        for (number, item) in self.items.iter().enumerate() {
            let from = match &item.requested {
                Err(error) => Err(error.clone()),
                Ok(requested) => {
                    let result = requested.result();
                    if !listed.insert(result) {
                        continue;
                    }
                    self.source(result, sources, part_of)
                }
            };
            results.push(Planned {
                computation: Some(number),
                handle: item.handle.clone(),
                from,
            });
        }
        results
    }

    fn source(
        &self,
        result: Handle,
        sources: &HashMap<Handle, Result<Placed, ComputeError>>,
        part_of: &HashMap<usize, usize>,
    ) -> Result<Source, ComputeError> {
        if self.outside.contains(&result) {
            return Ok(Source::Outside(result));
        }
        match sources.get(&result) {
            Some(Ok(Placed::Outside(handle))) => Ok(Source::Outside(*handle)),
            Some(Ok(Placed::Item { item, handle })) => {
                let part = *part_of.get(item).ok_or(ComputeError::MissingProducer(*handle))?;
                Ok(Source::Part { part, handle: *handle })
            }
            Some(Err(error)) => Err(error.clone()),
            None => Err(self.fault_of(&result)),
        }
    }
}

/// Where a value comes from, before the parts have numbers.
#[derive(Clone, Copy, Debug)]
enum Placed {
    Outside(Handle),
    Item { item: usize, handle: Handle },
}

/// Puts the handles that copies stand for in the place of theirs.
fn renamed(computation: &Computation, sources: &HashMap<Handle, Result<Placed, ComputeError>>) -> Computation {
    let mut computation = computation.clone();
    for input in &mut computation.inputs {
        if let Some(Ok(Placed::Outside(handle) | Placed::Item { handle, .. })) = sources.get(input) {
            *input = *handle;
        }
    }
    computation
}
