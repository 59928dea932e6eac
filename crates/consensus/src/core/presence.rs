//! Who of the validators is there, as far as this one can tell.
//!
//! Somebody is there who is connected, or whose signature came in this height or the one before, over whatever way. It decides about speed alone: a round does
//! not wait long for a proposer who is not there, once a quorum is; and while none is, it takes all the time that a block may take, since votes for no
//! block would only be in the way of the block that comes when the quorum does.

use std::collections::BTreeSet;

use alloy::primitives::Address;
use cipherloom_primitives::quorum::ValidatorSet;

/// Validators that are there.
#[derive(Debug, Default)]
pub(super) struct Presence {
    connected: BTreeSet<Address>,
    heard_now: BTreeSet<Address>,
    heard_before: BTreeSet<Address>,
}

impl Presence {
    /// Begins a height: who was heard in the one before is still there.
    pub(super) fn next_height(&mut self) {
        self.heard_before = std::mem::take(&mut self.heard_now);
    }

    /// Takes note of whose signature came.
    pub(super) fn heard(&mut self, validator: Address) {
        self.heard_now.insert(validator);
    }

    /// Takes note of who is connected now. Whose connection ended is not there till it is heard again.
    pub(super) fn connected(&mut self, peers: BTreeSet<Address>) {
        for gone in self.connected.difference(&peers) {
            self.heard_now.remove(gone);
            self.heard_before.remove(gone);
        }
        self.connected = peers;
    }

    pub(super) fn is_there(&self, validator: &Address) -> bool {
        [&self.connected, &self.heard_now, &self.heard_before]
            .iter()
            .any(|known| known.contains(validator))
    }

    /// Whether those who are there could decide, with the one whose own address this is.
    pub(super) fn is_quorum(&self, set: &ValidatorSet, own: &Address) -> bool {
        let there = set.iter().filter(|member| member.address == *own || self.is_there(&member.address));
        set.has_quorum(there.map(|member| member.power).sum())
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::quorum::Validator;

    use super::*;

    fn validator(number: u8) -> Address {
        Address::repeat_byte(number)
    }

    #[test]
    fn somebody_is_there_who_is_connected_or_was_heard_lately() {
        let mut presence = Presence::default();
        presence.heard(validator(1));
        presence.connected([validator(2)].into());
        presence.next_height();
        assert!(presence.is_there(&validator(1)) && presence.is_there(&validator(2)));
        presence.next_height();
        assert!(!presence.is_there(&validator(1)) && presence.is_there(&validator(2)));
        presence.heard(validator(2));
        presence.heard(validator(3));
        presence.connected(BTreeSet::new());
        assert!(!presence.is_there(&validator(2)), "its connection ended");
        assert!(
            presence.is_there(&validator(3)),
            "it was never connected, and is heard through others"
        );
        presence.heard(validator(2));
        assert!(presence.is_there(&validator(2)));
    }

    #[test]
    fn more_than_two_thirds_of_the_power_are_a_quorum_with_oneself() {
        let member = |number: u8, power: u64| Validator {
            address: validator(number),
            power,
        };
        let set = ValidatorSet::new(vec![member(1, 2), member(2, 2), member(3, 2), member(4, 1)]).unwrap();
        let mut presence = Presence::default();
        presence.connected([validator(2), validator(9)].into());
        assert!(!presence.is_quorum(&set, &validator(1)));
        presence.heard(validator(4));
        assert!(presence.is_quorum(&set, &validator(1)));
        assert!(!presence.is_quorum(&set, &validator(4)), "oneself does not count twice");
    }
}
