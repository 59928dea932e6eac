//! The workloads: what contracts ask for, operation by operation, as their authors write it.
//!
//! Nothing is arranged for the engine: comparisons, choices and sums stand as in the contracts of `examples/` and of the published token libraries.

use cipherloom_primitives::{FheType, Handle, Operation, U256};
use clap::ValueEnum;

use super::scenario::{Scenario, Writer};

/// A kind of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Token transfers between different accounts: nothing depends on anything.
    #[default]
    Transfers,
    /// Token transfers of one account: each needs the balance that the one before leaves.
    Dependent,
    /// Token transfers of many accounts to one: each adds to the same balance.
    Joined,
    /// Sealed bids: each is compared with the highest so far.
    Auction,
    /// Ballots: an encrypted choice moves an encrypted weight to one of two tallies.
    Voting,
    /// Exchanges of two tokens between two parties, both or none.
    Swap,
    /// Transfers, ballots, bids and exchanges in turn.
    Mixed,
}

const AMOUNT: FheType = FheType::Uint64;

impl Workload {
    /// The types of the values that workloads are given.
    pub(crate) const TYPES: [FheType; 2] = [FheType::Bool, AMOUNT];

    /// Returns the name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Transfers => "transfers",
            Self::Dependent => "dependent",
            Self::Joined => "joined",
            Self::Auction => "auction",
            Self::Voting => "voting",
            Self::Swap => "swap",
            Self::Mixed => "mixed",
        }
    }

    /// Returns what one transaction is called.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Transfers | Self::Dependent | Self::Joined => "transfer",
            Self::Auction => "bid",
            Self::Voting => "vote",
            Self::Swap => "swap",
            Self::Mixed => "transaction",
        }
    }

    /// Returns how many transactions a round has if nobody says: enough to fill the engine's batches, or a chain long enough to measure.
    pub(crate) const fn default_count(self) -> u16 {
        match self {
            Self::Transfers => 32,
            Self::Dependent | Self::Auction => 6,
            Self::Joined | Self::Swap => 16,
            Self::Voting => 12,
            Self::Mixed => 24,
        }
    }

    /// Writes so many transactions. The series makes their handles different from those of other rounds.
    pub(crate) fn scenario(self, series: u64, count: usize) -> Scenario {
        let mut writer = Writer::new(series);
        match self {
            Self::Transfers => (0..count).for_each(|_| Transfer::between_strangers(&mut writer).write(&mut writer)),
            Self::Dependent => dependent(&mut writer, count),
            Self::Joined => joined(&mut writer, count),
            Self::Auction => {
                let mut auction = Auction::open(&mut writer);
                (0..count).for_each(|bidder| auction.bid(&mut writer, bidder));
            }
            Self::Voting => {
                let mut tally = Tally::open(&mut writer);
                (0..count).for_each(|_| tally.vote(&mut writer));
            }
            Self::Swap => (0..count).for_each(|_| swap(&mut writer)),
            Self::Mixed => mixed(&mut writer, count),
        }
        writer.finish()
    }
}

/// What a transfer works on.
struct Transfer {
    amount: Handle,
    from: Handle,
    to: Handle,
}

/// What a transfer leaves.
struct Moved {
    amount: Handle,
    from: Handle,
    to: Handle,
}

impl Transfer {
    fn between_strangers(writer: &mut Writer) -> Self {
        Self {
            amount: writer.brought(AMOUNT),
            from: writer.given(AMOUNT),
            to: writer.given(AMOUNT),
        }
    }

    /// The pattern of the published token libraries: move the amount if there is enough, else nothing.
    fn compute(&self, writer: &mut Writer) -> Moved {
        let enough = writer.binary(Operation::Le, self.amount, self.from);
        let zero = writer.public(AMOUNT, U256::ZERO);
        let amount = writer.select(enough, self.amount, zero);
        Moved {
            amount,
            from: writer.binary(Operation::Sub, self.from, amount),
            to: writer.binary(Operation::Add, self.to, amount),
        }
    }

    fn write(&self, writer: &mut Writer) {
        let moved = self.compute(writer);
        writer.publish(&[moved.amount, moved.from, moved.to]);
    }
}

fn dependent(writer: &mut Writer, count: usize) {
    let mut from = writer.given(AMOUNT);
    for _ in 0..count {
        let (amount, to) = (writer.brought(AMOUNT), writer.given(AMOUNT));
        let moved = Transfer { amount, from, to }.compute(writer);
        writer.publish(&[moved.amount, moved.from, moved.to]);
        from = moved.from;
    }
}

fn joined(writer: &mut Writer, count: usize) {
    let mut to = writer.given(AMOUNT);
    for _ in 0..count {
        let (amount, from) = (writer.brought(AMOUNT), writer.given(AMOUNT));
        let moved = Transfer { amount, from, to }.compute(writer);
        writer.publish(&[moved.amount, moved.from, moved.to]);
        to = moved.to;
    }
}

/// An auction under way.
struct Auction {
    highest: Handle,
    winner: Option<Handle>,
}

impl Auction {
    fn open(writer: &mut Writer) -> Self {
        Self {
            highest: writer.given(AMOUNT),
            winner: None,
        }
    }

    fn bid(&mut self, writer: &mut Writer, bidder: usize) {
        let bid = writer.brought(AMOUNT);
        let higher = writer.binary(Operation::Gt, bid, self.highest);
        self.highest = writer.select(higher, bid, self.highest);
        let address = U256::from(bidder + 1) * U256::from(0x0123_4567_89ab_cdef_u64);
        let bidder = writer.public(FheType::Address, address);
        let winner = match self.winner {
            Some(winner) => winner,
            None => writer.public(FheType::Address, U256::ZERO),
        };
        let winner = writer.select(higher, bidder, winner);
        self.winner = Some(winner);
        writer.publish(&[self.highest, winner]);
    }
}

/// A vote under way.
struct Tally {
    yes: Handle,
    no: Handle,
}

impl Tally {
    fn open(writer: &mut Writer) -> Self {
        Self {
            yes: writer.given(AMOUNT),
            no: writer.given(AMOUNT),
        }
    }

    fn vote(&mut self, writer: &mut Writer) {
        let (choice, weight) = (writer.brought(FheType::Bool), writer.given(AMOUNT));
        let zero = writer.public(AMOUNT, U256::ZERO);
        let for_yes = writer.select(choice, weight, zero);
        let for_no = writer.select(choice, zero, weight);
        self.yes = writer.binary(Operation::Add, self.yes, for_yes);
        self.no = writer.binary(Operation::Add, self.no, for_no);
        writer.publish(&[self.yes, self.no]);
    }
}

fn swap(writer: &mut Writer) {
    let (first, second) = (Transfer::between_strangers(writer), Transfer::between_strangers(writer));
    let first_has = writer.binary(Operation::Le, first.amount, first.from);
    let second_has = writer.binary(Operation::Le, second.amount, second.from);
    let both = writer.binary(Operation::BitAnd, first_has, second_has);
    let zero = writer.public(AMOUNT, U256::ZERO);
    let mut outputs = Vec::new();
    for side in [first, second] {
        let amount = writer.select(both, side.amount, zero);
        outputs.push(writer.binary(Operation::Sub, side.from, amount));
        outputs.push(writer.binary(Operation::Add, side.to, amount));
    }
    writer.publish(&outputs);
}

fn mixed(writer: &mut Writer, count: usize) {
    let mut auction = Auction::open(writer);
    let mut tally = Tally::open(writer);
    for number in 0..count {
        match number % 8 {
            3 => tally.vote(writer),
            5 => auction.bid(writer, number),
            7 => swap(writer),
            _ => Transfer::between_strangers(writer).write(writer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Workload] = &[
        Workload::Transfers,
        Workload::Dependent,
        Workload::Joined,
        Workload::Auction,
        Workload::Voting,
        Workload::Swap,
        Workload::Mixed,
    ];

    #[test]
    fn every_workload_has_its_transactions_and_results_of_its_own() {
        assert_eq!(ALL, Workload::value_variants());
        let mut handles = std::collections::BTreeSet::new();
        for (series, workload) in (0..).zip(ALL) {
            let scenario = workload.scenario(series, 9);
            assert_eq!(scenario.transactions.len(), 9, "{workload:?}");
            let expected = scenario.expected().unwrap();
            for output in scenario.transactions.iter().flat_map(|transaction| &transaction.outputs) {
                assert!(expected.contains_key(output), "{workload:?}");
                assert!(handles.insert(*output), "{workload:?} repeats a handle");
            }
        }
    }

    #[test]
    fn waves_follow_the_dependencies() {
        let waves = |workload: Workload| -> Vec<usize> { workload.scenario(0, 5).waves().iter().map(Vec::len).collect() };
        assert_eq!(waves(Workload::Transfers), [5]);
        assert_eq!(waves(Workload::Dependent), [1, 1, 1, 1, 1]);
        assert_eq!(waves(Workload::Voting), [1, 1, 1, 1, 1]);
        assert_eq!(waves(Workload::Swap), [5]);
    }

    #[test]
    fn transfers_both_succeed_and_fail() {
        let scenario = Workload::Transfers.scenario(0, 8);
        let expected = scenario.expected().unwrap();
        let moved = scenario.transactions.iter().map(|transaction| expected[&transaction.outputs[0]]);
        let (nothing, something): (Vec<U256>, Vec<U256>) = moved.partition(|amount| amount.is_zero());
        assert!(!nothing.is_empty() && !something.is_empty());
    }
}
