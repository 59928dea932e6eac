//! Carries found in few steps, for the latency profile: more bootstraps than a ripple, and a depth that grows with the logarithm of the width.
//!
//! A block's sum says whether it carries for itself, passes on what is carried into it, or stops it. Three such states, which count 1, 2 and 4 times, and
//! a carry are one lookup: the three carry if everything together is at least 8. So are the states of groups of blocks, and of groups of these.

use super::Blocks;
use crate::{builder::Builder, program::Form};

/// How many states one lookup takes beside a carry.
const GROUP: usize = 3;

/// Up to this many groups, carrying from one to the next is as quick as anything else.
const CHAIN: usize = 4;

/// Adds up a carry and sums of two blocks each, from 0 to 6. Gives the blocks and what is carried out of the last.
pub(super) fn add(builder: &mut Builder, sums: &[Form], carry: Form) -> (Blocks, Form) {
    let states = states(builder, sums);
    let carries = group_carries(builder, &states, carry);
    let mut blocks = Blocks::with_capacity(sums.len());
    let mut out = Form::known(0);
    // Within a group, message and carry come out of one bootstrap.
    for (group, carry) in sums.chunks(GROUP).zip(carries) {
        out = carry;
        for sum in group {
            let sum = builder.combine(&[(1, sum), (1, &out)], 0);
            blocks.push(builder.lookup(&sum, |value| value & 3));
            out = builder.lookup(&sum, |value| value >> 2);
        }
    }
    (blocks, out)
}

/// Gives only what is carried out of the last sum.
pub(super) fn carry_out(builder: &mut Builder, sums: &[Form], carry: &Form) -> Form {
    let mut states = states(builder, sums);
    while states.len() > GROUP {
        states = group_states(builder, &states);
    }
    carry_of(builder, &states, carry)
}

/// The state of each sum: 0 if it stops a carry, 1 if it passes it on, 2 if it carries for itself, times its weight in its group.
fn states(builder: &mut Builder, sums: &[Form]) -> Vec<Form> {
    let state = |(index, sum): (usize, &Form)| builder.lookup(sum, |sum| weighted(index, sum, 3));
    sums.iter().enumerate().map(state).collect()
}

/// The states of groups of states.
fn group_states(builder: &mut Builder, states: &[Form]) -> Vec<Form> {
    let state = |(index, group): (usize, &[Form])| {
        let sum = total(builder, group, &Form::known(0));
        builder.lookup(&sum, |sum| weighted(index, sum, threshold(group) - 1))
    };
    states.chunks(GROUP).enumerate().map(state).collect()
}

/// The state of a sum that passes a carry on if it has one value, and carries for itself above.
fn weighted(index: usize, sum: u8, passes: u8) -> u8 {
    (u8::from(sum >= passes) + u8::from(sum > passes)) << (index % GROUP)
}

/// What is carried into each group of states.
fn group_carries(builder: &mut Builder, states: &[Form], carry: Form) -> Vec<Form> {
    let mut carries = Vec::new();
    if states.len() <= CHAIN * GROUP {
        let mut next = carry;
        for group in states.chunks(GROUP) {
            carries.push(next.clone());
            next = carry_of(builder, group, &next);
        }
        return carries;
    }
    let groups = group_states(builder, states);
    for (outer, carry) in groups.chunks(GROUP).zip(group_carries(builder, &groups, carry)) {
        for before in 0..outer.len() {
            carries.push(carry_of(builder, outer.get(..before).unwrap_or_default(), &carry));
        }
    }
    carries
}

/// What a group of states carries out.
fn carry_of(builder: &mut Builder, group: &[Form], carry: &Form) -> Form {
    if group.is_empty() {
        return carry.clone();
    }
    let sum = total(builder, group, carry);
    builder.lookup(&sum, |sum| u8::from(sum >= threshold(group)))
}

fn total(builder: &mut Builder, group: &[Form], carry: &Form) -> Form {
    let terms: Vec<(i16, &Form)> = group.iter().chain([carry]).map(|term| (1, term)).collect();
    builder.combine(&terms, 0)
}

fn threshold(group: &[Form]) -> u8 {
    1 << group.len()
}
