//! The rules without time and network: messages come in any order, twice, or not at all, validators lose their memory at any instant, and one of
//! four may lie. Whatever happens, nobody contradicts itself and no two blocks are decided; and when the storm is over, one is.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::keccak256;
use arc_malachitebft_core_types::{NilOrVal, SignedMessage, VoteType};
use cipherloom_primitives::quorum::{ConsensusDomain, Validator};

use super::*;
use crate::{
    context::Vote,
    signing::{is_signed_by, sign},
};

const HEIGHT: u64 = 5;
const STORM: usize = 250;
const CALM: usize = 4_000;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % sides
    }
}

enum Event {
    Message(Message),
    Verdict(u32, B256),
}

struct Node {
    core: Core,
    inbox: Vec<Event>,
    disk: Vec<wire::LogEntry>,
    unwritten: Vec<wire::LogEntry>,
    decided: Option<B256>,
}

struct Storm {
    seed: u64,
    dice: Dice,
    keys: Vec<PrivateKeySigner>,
    set: ValidatorSet,
    digests: Digests,
    /// The honest ones.
    nodes: Vec<Node>,
    /// All blocks and the rounds they were made in.
    hashes: Vec<(u32, B256)>,
    said: BTreeMap<(usize, &'static str, u32), BTreeSet<Option<B256>>>,
}

impl Storm {
    fn new(seed: u64, honest: usize) -> Self {
        let keys: Vec<_> = (0..4)
            .map(|number| PrivateKeySigner::from_bytes(&keccak256([number])).expect("a key"))
            .collect();
        let members = keys.iter().map(|key| Validator {
            address: key.address(),
            power: 1,
        });
        let domain = ConsensusDomain {
            chain_id: 1,
            genesis_hash: B256::repeat_byte(1),
        };
        let mut storm = Self {
            seed,
            dice: Dice(seed),
            set: ValidatorSet::new(members.collect()).expect("a set"),
            keys,
            digests: Digests { domain },
            nodes: Vec::new(),
            hashes: Vec::new(),
            said: BTreeMap::new(),
        };
        for number in 0..honest {
            let core = storm.core(number);
            storm.nodes.push(Node {
                core,
                inbox: Vec::new(),
                disk: Vec::new(),
                unwritten: Vec::new(),
                decided: None,
            });
        }
        for number in 0..honest {
            storm.follow_up(number);
        }
        storm
    }

    fn core(&self, number: usize) -> Core {
        let mut core = Core::new(
            self.digests,
            self.keys[number].clone(),
            Timeouts::default(),
            HEIGHT,
            self.set.clone(),
        );
        core.begin(HEIGHT, self.set.clone()).expect("a height begins");
        core
    }

    /// Does what a node wants to be done, after writing what it wants to be written.
    fn follow_up(&mut self, number: usize) {
        loop {
            let node = &mut self.nodes[number];
            node.unwritten.extend(node.core.take_log());
            let actions = node.core.take_actions();
            if actions.is_empty() {
                return;
            }
            if actions
                .iter()
                .any(|action| matches!(action, Action::Publish(_) | Action::Decided(_)))
            {
                node.disk.append(&mut node.unwritten);
            }
            for action in actions {
                match action {
                    Action::Publish(message) => self.publish(number, &message),
                    Action::MakeBlock { round } => self.make_block(number, round),
                    Action::Decided(certificate) => {
                        certificate.check(&self.digests.domain, &self.set).expect("a certificate is good");
                        self.nodes[number].decided = Some(certificate.block_hash);
                    }
                    Action::SendBlock(_) | Action::RoundBegan { .. } | Action::Contradicted(_) => {}
                }
            }
        }
    }

    fn publish(&mut self, from: usize, message: &Message) {
        let said = match message {
            Message::Vote(vote) => {
                let block = match vote.message.value {
                    NilOrVal::Nil => None,
                    NilOrVal::Val(hash) => Some(hash.0),
                };
                let kind = if vote.message.kind == VoteType::Prevote {
                    "prevote"
                } else {
                    "precommit"
                };
                Some((kind, vote.message.round, block))
            }
            Message::Proposal(proposal) => Some(("proposal", proposal.message.round, Some(proposal.message.value.0))),
            _ => None,
        };
        if let Some((kind, round, block)) = said {
            let place = (from, kind, round.as_u32().unwrap_or_default());
            let blocks = self.said.entry(place).or_default();
            blocks.insert(block);
            assert_eq!(
                blocks.len(),
                1,
                "seed {}: node {from} said two things: {kind} of round {round}: {blocks:?}",
                self.seed
            );
        }
        for (to, node) in self.nodes.iter_mut().enumerate() {
            if to != from {
                node.inbox.push(Event::Message(message.clone()));
            }
        }
    }

    /// Each time another block, as from a chain that forgot the one before.
    fn make_block(&mut self, number: usize, round: u32) {
        if !self.nodes[number].core.waits_for_own_block(round) {
            return;
        }
        let hash = keccak256(format!("block {}", self.hashes.len()));
        self.hashes.push((round, hash));
        self.nodes[number].core.propose(round, hash).expect("it goes on");
        for (other, node) in self.nodes.iter_mut().enumerate() {
            if other != number {
                node.inbox.push(Event::Verdict(round, hash));
            }
        }
    }

    fn deliver(&mut self, number: usize, event: Event) {
        let core = &mut self.nodes[number].core;
        match event {
            Event::Message(message) => core.message(message),
            Event::Verdict(round, hash) => core.verdict(round, hash, true),
        }
        .expect("it goes on");
        self.follow_up(number);
    }

    /// Lets some or all timeouts of a node elapse.
    fn elapse(&mut self, number: usize, all: bool) {
        let core = &mut self.nodes[number].core;
        let at = if all {
            core.shell.timers.values().max().copied()
        } else {
            core.next_timeout()
        };
        if let Some(at) = at {
            core.elapse(at).expect("it goes on");
            self.follow_up(number);
        }
    }

    /// A node loses everything but its disk.
    fn crash(&mut self, number: usize) {
        let mut core = self.core(number);
        core.replay(&self.nodes[number].disk)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        let node = &mut self.nodes[number];
        (node.core, node.decided) = (core, None);
        node.unwritten.clear();
        self.follow_up(number);
    }

    /// Who lies votes for anything in any round, differently to different nodes.
    fn lie(&mut self) {
        let liar = self.keys.last().expect("four keys");
        let kind = if self.dice.roll(2) == 0 {
            VoteType::Prevote
        } else {
            VoteType::Precommit
        };
        let value = match self.dice.roll(self.hashes.len() + 1).checked_sub(1) {
            None => NilOrVal::Nil,
            Some(which) => NilOrVal::Val(BlockHash(self.hashes[which].1)),
        };
        let vote = Vote {
            kind,
            height: Height(HEIGHT),
            round: Round::new(u32::try_from(self.dice.roll(4)).expect("small")),
            value,
            validator: Name(liar.address()),
        };
        let signature = sign(liar, self.digests.vote(&vote).expect("it has a round")).expect("a key signs");
        let to = self.dice.roll(self.nodes.len());
        self.deliver(to, Event::Message(Message::Vote(SignedMessage::new(vote, signature))));
    }

    fn rage(&mut self, lies: bool) {
        for _ in 0..STORM {
            let number = self.dice.roll(self.nodes.len());
            let waiting = self.nodes[number].inbox.len();
            match self.dice.roll(24) {
                0 => self.crash(number),
                1 => self.elapse(number, false),
                2 => self.elapse(number, true),
                3 | 4 if lies => self.lie(),
                5 if waiting > 0 => {
                    let lost = self.dice.roll(waiting);
                    self.nodes[number].inbox.swap_remove(lost);
                }
                _ if waiting > 0 => {
                    let which = self.dice.roll(waiting);
                    let event = self.nodes[number].inbox.swap_remove(which);
                    self.deliver(number, event);
                }
                _ => {}
            }
            self.check();
        }
    }

    /// Everything arrives in order, and time goes by where nothing is left to be delivered.
    fn calm_down(&mut self) {
        // Blocks that got lost are asked for.
        for node in &mut self.nodes {
            node.inbox
                .extend(self.hashes.iter().map(|(round, hash)| Event::Verdict(*round, *hash)));
        }
        for _ in 0..CALM {
            let Some(number) = (0..self.nodes.len()).find(|number| !self.nodes[*number].inbox.is_empty()) else {
                // Who lacks something of a round that others left takes the block from them.
                if self.nodes.iter().any(|node| node.decided.is_some()) {
                    return;
                }
                for number in 0..self.nodes.len() {
                    self.elapse(number, true);
                }
                continue;
            };
            let event = self.nodes[number].inbox.remove(0);
            self.deliver(number, event);
            self.check();
        }
        let rounds: Vec<_> = self
            .nodes
            .iter()
            .map(|node| (node.core.round(), node.core.step(), node.decided))
            .collect();
        panic!("seed {}: nothing is decided: {rounds:?}", self.seed);
    }

    fn check(&self) {
        let decided: BTreeSet<B256> = self.nodes.iter().filter_map(|node| node.decided).collect();
        assert!(decided.len() <= 1, "seed {}: two blocks are decided", self.seed);
    }
}

#[test]
fn four_honest_validators_with_bad_memories_agree_in_any_storm() {
    for seed in 0..40 {
        let mut storm = Storm::new(seed, 4);
        storm.rage(false);
        storm.calm_down();
    }
}

#[test]
fn a_liar_cannot_make_three_honest_ones_disagree() {
    for seed in 100..140 {
        let mut storm = Storm::new(seed, 3);
        storm.rage(true);
        storm.calm_down();
    }
}

#[test]
fn a_restart_votes_again_as_before_wherever_the_log_ends() {
    let mut storm = Storm::new(7, 4);
    storm.calm_down();
    let digests = storm.digests;
    for number in 0..4 {
        let name = Name(storm.keys[number].address());
        for end in 0..=storm.nodes[number].disk.len() {
            let mut core = storm.core(number);
            core.replay(&storm.nodes[number].disk[..end])
                .expect("any beginning of a log is a log");
            for action in core.take_actions() {
                let Action::Publish(Message::Vote(vote)) = action else { continue };
                assert!(is_signed_by(
                    digests.vote(&vote.message).expect("it has a round"),
                    &vote.signature,
                    name
                ));
                storm.publish(number, &Message::Vote(vote));
            }
        }
    }
}
