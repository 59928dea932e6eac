//! How the slots of a process are shared among tenants.
//!
//! A slot is a transaction under way. Each free one goes to the tenant with the fewest; among equals to the one whose turn it is, as the store has it. A tenant
//! that has none gets one even if there is no free slot, so that it never waits behind another one's backlog: what is under way is bounded by the number of
//! slots plus one per tenant.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::Hash,
};

/// What a process has under way, by tenant.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    limit: usize,
    under_way: HashMap<T, usize>,
    total: usize,
}

impl<T: Copy + Eq + Hash> Slots<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            under_way: HashMap::new(),
            total: 0,
        }
    }

    /// Returns how many transactions are under way.
    pub(crate) const fn total(&self) -> usize {
        self.total
    }

    /// Says whether every slot is taken.
    pub(crate) const fn is_full(&self) -> bool {
        self.total >= self.limit
    }

    /// Says whether a tenant has something under way.
    pub(crate) fn has(&self, tenant: T) -> bool {
        self.under_way.contains_key(&tenant)
    }

    pub(crate) fn begin(&mut self, tenant: T) {
        *self.under_way.entry(tenant).or_default() += 1;
        self.total += 1;
    }

    pub(crate) fn end(&mut self, tenant: T) {
        let Some(count) = self.under_way.get_mut(&tenant) else { return };
        *count -= 1;
        self.total = self.total.saturating_sub(1);
        if *count == 0 {
            self.under_way.remove(&tenant);
        }
    }

    /// Says how many transactions each tenant may begin now, at most `batch`. `turns` are those that have work, in the order of their turns.
    pub(crate) fn shares(&self, turns: &[T], batch: usize) -> Vec<(T, usize)> {
        let mut free = self.limit.saturating_sub(self.total);
        let mut shares: Vec<(T, usize)> = turns.iter().map(|tenant| (*tenant, 0)).collect();
        let count = |tenant: &T| self.under_way.get(tenant).copied().unwrap_or_default();
        let mut line: BinaryHeap<Reverse<(usize, usize)>> = turns
            .iter()
            .enumerate()
            .map(|(turn, tenant)| Reverse((count(tenant), turn)))
            .collect();
        while let Some(Reverse((count, turn))) = line.pop() {
            let Some((_, share)) = shares.get_mut(turn) else { continue };
            if *share >= batch {
                continue;
            }
            if free > 0 {
                free -= 1;
                *share += 1;
                line.push(Reverse((count + 1, turn)));
            } else if count == 0 {
                *share += 1;
            }
        }
        shares.retain(|(_, share)| *share > 0);
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(limit: usize, under_way: &[(char, usize)]) -> Slots<char> {
        let mut slots = Slots::new(limit);
        for (tenant, count) in under_way {
            (0..*count).for_each(|_| slots.begin(*tenant));
        }
        slots
    }

    #[test]
    fn free_places_go_to_those_with_the_fewest() {
        let slots = slots(10, &[('a', 5), ('b', 1)]);
        assert_eq!(slots.shares(&['a', 'b', 'c'], 100), [('b', 2), ('c', 2)]);
    }

    #[test]
    fn equals_get_equal_shares_in_the_order_of_their_turns() {
        assert_eq!(slots(7, &[]).shares(&['b', 'a', 'c'], 100), [('b', 3), ('a', 2), ('c', 2)]);
    }

    #[test]
    fn a_tenant_alone_gets_everything_up_to_a_batch() {
        assert_eq!(slots(64, &[]).shares(&['a'], 100), [('a', 64)]);
        assert_eq!(slots(64, &[('a', 1)]).shares(&['a'], 10), [('a', 10)]);
    }

    #[test]
    fn a_tenant_with_nothing_under_way_gets_a_place_also_when_all_are_taken() {
        let mut slots = slots(4, &[('a', 4)]);
        assert!(slots.is_full());
        assert_eq!(slots.shares(&['a', 'b', 'c'], 100), [('b', 1), ('c', 1)]);
        slots.begin('b');
        assert_eq!(slots.shares(&['a', 'b', 'c'], 100), [('c', 1)]);
    }

    #[test]
    fn places_are_free_again_after_the_end() {
        let mut slots = slots(2, &[('a', 2)]);
        slots.end('a');
        slots.end('b');
        assert_eq!(slots.total(), 1);
        assert_eq!(slots.shares(&['b', 'a'], 100), [('b', 1)]);
    }
}
