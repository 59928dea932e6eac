//! The transactions of a tenant, request after request.
//!
//! A transaction uses results of earlier requests alone, never of its own: what a server finds connected within a request is then exactly one
//! transaction, and counts can be compared.

use std::collections::HashMap;

use alloy_primitives::U256;
use bytes::Bytes;
use cipherloom_primitives::FheType;
use cipherloom_rpc::fhevm::coprocessor::{AsyncComputeRequest, TrivialEncryptRequestSingle};

use crate::{
    plain::{Plain, Value},
    random::Random,
    shapes::{self, Shape},
    transaction::{Transaction, name},
};

/// How many accounts a tenant's token has.
const ACCOUNTS: usize = 64;

/// How many values of a type are kept to be used later.
const KEPT: usize = 256;

/// Makes the transactions of one tenant.
#[derive(Debug)]
pub struct Traffic {
    random: Random,
    chain_id: u64,
    shapes: Vec<Shape>,
    accounts: Vec<Value>,
    counter: Option<Value>,
    bid: Option<(Value, Value)>,
    kept: HashMap<FheType, Vec<Value>>,
}

/// Transactions that go to the server in one request.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The request.
    pub request: AsyncComputeRequest,
    /// What it asks for, in its order.
    pub results: Vec<Value>,
    /// How many transactions they are.
    pub transactions: usize,
}

impl Traffic {
    /// Starts the traffic of a chain: the same seed makes the same, byte for byte.
    #[must_use]
    pub fn new(seed: u64, chain_id: u64) -> Self {
        Self::of_shapes(seed, chain_id, &Shape::MIXED)
    }

    /// Starts traffic of these shapes alone, each as often as it is listed.
    #[must_use]
    pub fn of_shapes(seed: u64, chain_id: u64, shapes: &[Shape]) -> Self {
        Self {
            // Two tenants with one seed must not do the same.
            random: Random::from_seed(seed ^ chain_id.rotate_left(32)),
            chain_id,
            shapes: shapes.to_vec(),
            accounts: Vec::new(),
            counter: None,
            bid: None,
            kept: HashMap::new(),
        }
    }

    /// Returns the request that has to come first: balances of accounts, a counter, a bid. Each is a transaction of its own.
    pub fn opening(&mut self) -> Batch {
        let mut computations = Vec::new();
        let mut results = Vec::new();
        let mut values = Vec::new();
        let types = std::iter::repeat_n(FheType::Uint64, ACCOUNTS + 2).chain([FheType::Address]);
        for ty in types {
            let mut transaction = Transaction::new(&mut self.random, self.chain_id);
            // Small enough that sums of balances and amounts wrap around seldom, and sometimes.
            let number = ty.truncate(transaction.random().plaintext(ty) >> 1);
            values.push(transaction.trivial(ty, number));
            let (asked, made) = transaction.finish();
            computations.extend(asked);
            results.extend(made);
        }
        let bidder = values.pop();
        self.bid = values.pop().zip(bidder);
        self.counter = values.pop();
        self.accounts = values;
        Batch {
            transactions: computations.len(),
            request: AsyncComputeRequest { computations },
            results,
        }
    }

    /// Starts from balances that are there already instead of from an opening: as many accounts as values, whose values are also amounts.
    /// Enough for transfers; shapes that count or bid need the opening.
    pub fn open_accounts(&mut self, balances: &[Value]) {
        self.accounts = balances.to_vec();
        balances.iter().for_each(|value| self.keep(value.clone()));
    }

    /// Returns public values to be stored by `TrivialEncryptCiphertexts`, and what they are. They can be used from then on.
    pub fn public_values(&mut self, count: usize) -> (Vec<TrivialEncryptRequestSingle>, Vec<Value>) {
        (0..count)
            .map(|_| {
                let ty = self.random.pick(&FheType::ALL).copied().unwrap_or(FheType::Bool);
                let number = self.random.plaintext(ty);
                let value = Value {
                    name: name(&mut self.random, self.chain_id, ty),
                    ty,
                    plain: Plain::Exactly(number),
                };
                self.keep(value.clone());
                let request = TrivialEncryptRequestSingle {
                    handle: value.name.clone(),
                    be_value: Bytes::from(number.to_be_bytes::<32>().to_vec()),
                    output_type: i32::from(ty.id()),
                };
                (request, value)
            })
            .unzip()
    }

    /// Lets later transactions use a value: an input that was admitted, for example.
    pub fn keep(&mut self, value: Value) {
        let kept = self.kept.entry(value.ty).or_default();
        if kept.len() < KEPT {
            kept.push(value);
        } else {
            let place = self.random.below(KEPT);
            if let Some(place) = kept.get_mut(place) {
                *place = value;
            }
        }
    }

    /// Returns plaintexts of a list of inputs for users to encrypt.
    pub fn plaintexts(&mut self, count: usize) -> Vec<(FheType, U256)> {
        let types = [FheType::Uint64, FheType::Uint64, FheType::Uint8, FheType::Bool];
        types
            .into_iter()
            .cycle()
            .take(count)
            .map(|ty| (ty, self.random.plaintext(ty)))
            .collect()
    }

    /// Returns the next request.
    pub fn batch(&mut self, transactions: usize) -> Batch {
        let mut batch = Batch {
            request: AsyncComputeRequest { computations: Vec::new() },
            results: Vec::new(),
            transactions,
        };
        let mut changes = Changes::default();
        for _ in 0..transactions {
            let shape = self.random.pick(&self.shapes).copied().unwrap_or(Shape::Single);
            let mut random = self.random.clone();
            let mut transaction = Transaction::new(&mut random, self.chain_id);
            let mut state = State {
                before: self,
                changes: &mut changes,
            };
            shape.write(&mut state, &mut transaction);
            let (computations, results) = transaction.finish();
            self.random = random;
            batch.request.computations.extend(computations);
            batch.results.extend(results);
        }
        for (account, balance) in changes.accounts {
            if let Some(place) = self.accounts.get_mut(account) {
                *place = balance;
            }
        }
        self.counter = changes.counter.or_else(|| self.counter.take());
        self.bid = changes.bid.or_else(|| self.bid.take());
        changes.kept.into_iter().for_each(|value| self.keep(value));
        batch
    }
}

/// What the transactions of a request change for those of later ones.
#[derive(Debug, Default)]
struct Changes {
    accounts: Vec<(usize, Value)>,
    counter: Option<Value>,
    bid: Option<(Value, Value)>,
    kept: Vec<Value>,
}

/// What a transaction finds and leaves.
#[derive(Debug)]
pub(crate) struct State<'a> {
    before: &'a Traffic,
    changes: &'a mut Changes,
}

impl State<'_> {
    pub(crate) fn two_accounts(&self, random: &mut Random) -> (usize, usize) {
        let accounts = self.before.accounts.len().max(1);
        let from = random.below(accounts);
        // Any other one.
        (from, (from + 1 + random.below(accounts - 1)) % accounts)
    }

    /// # Panics
    /// If [`Traffic::opening`] was never asked for.
    pub(crate) fn account(&self, number: usize) -> Value {
        let account = self.before.accounts.get(number);
        account.cloned().expect("the opening, which comes first, makes all accounts")
    }

    pub(crate) fn changed(&mut self, account: usize, balance: Value) {
        self.changes.accounts.push((account, balance));
    }

    pub(crate) fn counter(&self) -> Value {
        self.before
            .counter
            .clone()
            .expect("the opening, which comes first, makes a counter")
    }

    pub(crate) fn counted(&mut self, counter: Value) {
        self.changes.counter = Some(counter);
    }

    pub(crate) fn highest_bid(&self) -> (Value, Value) {
        self.before.bid.clone().expect("the opening, which comes first, makes a bid")
    }

    pub(crate) fn bid_placed(&mut self, price: Value, bidder: Value) {
        self.changes.bid = Some((price, bidder));
    }

    pub(crate) fn keep(&mut self, value: Value) {
        self.changes.kept.push(value);
    }

    /// Returns a value of a type: one of before, or a public one that the transaction makes.
    pub(crate) fn some(&self, ty: FheType, transaction: &mut Transaction<'_>) -> Value {
        let kept = self.before.kept.get(&ty).map_or(&[][..], Vec::as_slice);
        match transaction.random().pick(kept) {
            Some(value) => value.clone(),
            None => shapes::fresh(ty, transaction),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use cipherloom_rpc::fhevm::coprocessor::async_computation_input::Input;

    use super::*;

    #[test]
    fn a_seed_repeats_its_traffic() {
        let requests = |seed| {
            let mut traffic = Traffic::new(seed, 5);
            [traffic.opening().request, traffic.batch(50).request, traffic.batch(50).request]
        };
        assert_eq!(requests(3), requests(3));
        assert_ne!(requests(3)[2], requests(4)[2]);
    }

    #[test]
    fn transactions_of_a_request_are_not_connected_and_use_what_was_before() {
        let mut traffic = Traffic::new(1, 5);
        let mut known: HashSet<Bytes> = traffic.opening().results.iter().map(|value| value.name.clone()).collect();
        let (_, values) = traffic.public_values(40);
        known.extend(values.into_iter().map(|value| value.name));
        for _ in 0..20 {
            let batch = traffic.batch(30);
            let own: HashSet<Bytes> = batch.results.iter().map(|value| value.name.clone()).collect();
            assert_eq!(own.len(), batch.request.computations.len(), "every result has a name of its own");
            // Results of a transaction stand next to each other, so a use of an own result connects the range in between.
            let place: HashMap<&Bytes, usize> = batch
                .results
                .iter()
                .enumerate()
                .map(|(place, value)| (&value.name, place))
                .collect();
            let mut connected = vec![false; batch.results.len()];
            for (number, computation) in batch.request.computations.iter().enumerate() {
                for input in &computation.inputs {
                    if let Some(Input::InputHandle(name)) = &input.input {
                        match place.get(name) {
                            Some(&earlier) => {
                                assert!(earlier < number);
                                connected[earlier + 1..=number].iter_mut().for_each(|joined| *joined = true);
                            }
                            None => assert!(known.contains(name), "a value nobody made is used"),
                        }
                    }
                }
            }
            let parts = connected.iter().filter(|joined| !**joined).count();
            // A transaction of several unconnected parts would be counted twice by a server.
            assert_eq!(parts, 30);
            known.extend(own);
        }
    }

    #[test]
    fn every_shape_occurs_and_most_values_are_foreseen() {
        let mut traffic = Traffic::new(2, 5);
        traffic.opening();
        let batch = traffic.batch(500);
        let operations: HashSet<i32> = batch.request.computations.iter().map(|computation| computation.operation).collect();
        // All of the generation's but FHE_GET_CIPHERTEXT.
        assert_eq!(operations.len(), 27, "{operations:?}");
        let exact = batch
            .results
            .iter()
            .filter(|value| matches!(value.plain, Plain::Exactly(_)))
            .count();
        assert!(exact * 10 > batch.results.len() * 8, "{exact} of {}", batch.results.len());
    }
}
