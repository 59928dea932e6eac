//! Whole resharings between committees of which some members lie, are silent or say different things to different parties.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use std::collections::VecDeque;

use cipherloom_threshold::{
    CommitteeSize, Contribution, Expected, KeyDimensions, KeyKind, KeyShare, PartialDecryption, PartyId, PartySet, SquashedCiphertext,
    ThresholdError, reconstruct,
    reshare::{KnownValue, Message, NewMember, OldMember, Outgoing, Plan, Recipient, Reshared, Sender},
};
use proptest::prelude::*;
use support::{SMALL, Secrets, Seeded, dealing, scope, value};

/// Where the kind of a message stands in its bytes, and the kinds that tests look for.
const KIND: usize = 40;
const SET_KEYS: u8 = 0;
const MASK_SHARE: u8 = 2;
const MASKED: u8 = 3;
const VOTES: u8 = 4;
const REQUEST: u8 = 5;
const CHECKS: u8 = 7;
const OUTCOME: u8 = 8;

/// A message on its way: from, to, bytes.
type Letter = (Sender, Sender, Vec<u8>);

/// Two committees and what is known of their key.
struct Resharing {
    secrets: Secrets,
    old: Vec<KeyShare>,
    plan: Plan,
    rng: Seeded,
}

impl Resharing {
    fn new(from: (u8, u8), to: (u8, u8), dimensions: KeyDimensions, seed: u64) -> Self {
        let mut rng = Seeded::new(seed);
        let secrets = Secrets::random(dimensions, &mut rng);
        let old = dealing(&scope(from.0, from.1, 1), &secrets, &mut rng).shares;
        let mut resharing = Self {
            plan: Plan::new(
                scope(from.0, from.1, 1),
                scope(to.0, to.1, 2),
                dimensions,
                known(&secrets, &mut rng),
            )
            .unwrap(),
            secrets,
            old,
            rng,
        };
        // The members of the new committee are others.
        let mut to = resharing.plan.to().clone();
        let members = to.committee.members().iter().map(|member| [member[0] + 100; 32]).collect();
        to.committee = cipherloom_threshold::Committee::new(to.committee.size().threshold(), members).unwrap();
        resharing.plan = Plan::new(
            scope(from.0, from.1, 1),
            to,
            dimensions,
            known(&resharing.secrets, &mut resharing.rng),
        )
        .unwrap();
        resharing
    }

    /// Runs it: every letter goes through `meddle`, which may change it or lose it.
    fn run(&mut self, mut meddle: impl FnMut(&mut Letter, &mut Seeded) -> bool) -> Vec<Result<Reshared, ThresholdError>> {
        let (plan, rng) = (&self.plan, &mut self.rng);
        let mut letters = VecDeque::new();
        let mut old: Vec<OldMember<_, _>> = self.old.iter().map(|share| OldMember::new(plan, share).unwrap()).collect();
        let mut new = Vec::new();
        let mut failures: Vec<Option<ThresholdError>> = Vec::new();
        for party in plan.to().committee.size().ids() {
            let (member, out) = NewMember::new(plan, party, rng).unwrap();
            new.push(member);
            failures.push(None);
            post(plan, Sender::New(party), out, &mut letters);
        }
        // Stages end when nothing is on its way any more; there are nine of them at most.
        for _ in 0..12 {
            while let Some(mut letter) = letters.pop_front() {
                if !meddle(&mut letter, rng) {
                    continue;
                }
                let (from, to, bytes) = letter;
                let Ok(message) = Message::from_bytes(plan, &bytes) else {
                    continue;
                };
                let result = match (from, to) {
                    (Sender::New(sender), Sender::Old(to)) => old[usize::from(to.number()) - 1].receive(sender, message),
                    (_, Sender::New(to)) => new[usize::from(to.number()) - 1].receive(from, message),
                    _ => continue,
                };
                settle(plan, to, result, &mut letters, &mut failures);
            }
            for (member, party) in old.iter_mut().zip(plan.from().committee.size().ids()) {
                settle(plan, Sender::Old(party), member.close(), &mut letters, &mut failures);
            }
            if letters.is_empty() {
                for (member, party) in new.iter_mut().zip(plan.to().committee.size().ids()) {
                    settle(plan, Sender::New(party), member.close_stage(), &mut letters, &mut failures);
                }
            }
        }
        let results = new.iter_mut().zip(failures);
        results
            .map(|(member, failure)| member.take_finished().ok_or_else(|| failure.expect("a member finishes or fails")))
            .collect()
    }

    /// Decrypts a fresh value of each kind with these shares.
    fn check_decrypts(&mut self, shares: &[&KeyShare]) {
        for kind in KeyKind::ALL {
            let plain = value(64, &mut self.rng);
            let ciphertext = self.secrets.encrypt(kind, 64, &plain, &mut self.rng);
            let read = decrypt(self.plan.to().committee.size(), shares, &ciphertext).unwrap();
            assert_eq!(read, plain);
        }
    }
}

fn known(secrets: &Secrets, rng: &mut Seeded) -> Vec<KnownValue> {
    let one = |kind, rng: &mut Seeded| {
        let little_endian = value(32, rng);
        KnownValue {
            ciphertext: secrets.encrypt(kind, 32, &little_endian, rng),
            little_endian,
        }
    };
    KeyKind::ALL.iter().map(|kind| one(*kind, rng)).collect()
}

fn decrypt(size: CommitteeSize, shares: &[&KeyShare], ciphertext: &SquashedCiphertext) -> Result<[u8; 32], ThresholdError> {
    let expected = Expected {
        tag: ciphertext.tag(shares[0].scope()),
        shape: ciphertext.shape(),
    };
    let contributions: Vec<Contribution> = shares
        .iter()
        .map(|share| Contribution::of_partials(share.party(), &[expected], &[share.decrypt(ciphertext).unwrap()]))
        .collect();
    let read = reconstruct(size, &[expected.shape], &contributions)?;
    Ok(*read.values[0].little_endian())
}

fn post(plan: &Plan, from: Sender, out: Vec<Outgoing>, letters: &mut VecDeque<Letter>) {
    for outgoing in out {
        let bytes = outgoing.message.to_bytes(plan).to_vec();
        match outgoing.to {
            Recipient::Old(to) => letters.push_back((from, Sender::Old(to), bytes)),
            Recipient::New(to) => letters.push_back((from, Sender::New(to), bytes)),
            Recipient::AllNew => {
                let others = plan.to().committee.size().ids().filter(|to| from != Sender::New(*to));
                letters.extend(others.map(|to| (from, Sender::New(to), bytes.clone())));
            }
        }
    }
}

/// Sends what came of a step, or notes that a new member failed. Ignored messages are no failure.
fn settle(
    plan: &Plan,
    who: Sender,
    result: Result<Vec<Outgoing>, ThresholdError>,
    letters: &mut VecDeque<Letter>,
    failures: &mut [Option<ThresholdError>],
) {
    match (result, who) {
        (Ok(out), _) => post(plan, who, out, letters),
        (Err(ThresholdError::UnexpectedMessage(_)), _) | (Err(_), Sender::Old(_)) => {}
        (Err(error), Sender::New(party)) => failures[usize::from(party.number()) - 1] = Some(error),
    }
}

fn number(sender: Sender) -> u8 {
    match sender {
        Sender::Old(party) | Sender::New(party) => party.number(),
    }
}

fn is_old(sender: Sender) -> bool {
    matches!(sender, Sender::Old(_))
}

/// Changes elements at the end of a message.
fn garble(bytes: &mut [u8], rng: &mut Seeded) {
    let length = bytes.len();
    let number = rng.word() | 1;
    let last = &mut bytes[length - 16..];
    let changed = u128::from_le_bytes((&*last).try_into().unwrap()).wrapping_add(number);
    last.copy_from_slice(&changed.to_le_bytes());
}

/// All finished, with shares that the one manifest commits to and that decrypt.
fn assert_finished(resharing: &mut Resharing, results: Vec<Result<Reshared, ThresholdError>>) -> Vec<Reshared> {
    let results: Vec<Reshared> = results.into_iter().map(Result::unwrap).collect();
    for result in &results {
        assert_eq!(result.manifest, results[0].manifest);
        result.manifest.check(&result.share).unwrap();
        let file = KeyShare::from_bytes(&result.share.to_bytes()).unwrap();
        assert_eq!(file.digest(), result.share.digest());
    }
    let shares: Vec<&KeyShare> = results.iter().map(|result| &result.share).collect();
    resharing.check_decrypts(&shares);
    results
}

#[test]
fn committees_of_all_sizes_reshare_to_each_other() {
    for (from, to) in [
        ((4, 1), (4, 1)),
        ((4, 1), (7, 2)),
        ((7, 2), (4, 1)),
        ((7, 2), (13, 4)),
        ((13, 4), (7, 2)),
        ((5, 1), (15, 4)),
    ] {
        let mut resharing = Resharing::new(from, to, SMALL, u64::from(from.0) * 16 + u64::from(to.0));
        let results = resharing.run(|_, _| true);
        for result in assert_finished(&mut resharing, results) {
            assert!(result.wrong_old.is_empty() && result.missing_old.is_empty() && result.wrong_new.is_empty());
        }
    }
}

#[test]
fn production_keys_reshare() {
    let mut resharing = Resharing::new((4, 1), (4, 1), KeyDimensions::PRODUCTION, 3);
    let results = resharing.run(|_, _| true);
    assert_finished(&mut resharing, results);
}

#[test]
fn a_party_is_replaced_without_its_help() {
    let mut rng = Seeded::new(4);
    let secrets = Secrets::random(SMALL, &mut rng);
    let from = scope(4, 1, 1);
    let old = dealing(&from, &secrets, &mut rng).shares;
    let mut to = scope(4, 1, 2);
    let mut members = to.committee.members().to_vec();
    members[2] = [77; 32];
    to.committee = cipherloom_threshold::Committee::new(1, members).unwrap();
    let plan = Plan::new(from, to, SMALL, known(&secrets, &mut rng)).unwrap();
    let mut resharing = Resharing { secrets, old, plan, rng };
    let results = resharing.run(|(from, to, _), _| [*from, *to].iter().all(|who| !is_old(*who) || number(*who) != 3));
    for result in assert_finished(&mut resharing, results) {
        assert_eq!(result.missing_old.to_string(), "3");
    }
}

#[test]
fn wrong_and_missing_old_members_are_named_and_do_no_harm() {
    for (from, to, wrong, silent) in [
        ((4, 1), (4, 1), vec![2], vec![]),
        ((4, 1), (7, 2), vec![4], vec![]),
        ((7, 2), (4, 1), vec![1, 7], vec![]),
        ((7, 2), (7, 2), vec![3], vec![5]),
        ((13, 4), (4, 1), vec![2, 11, 13], vec![1]),
    ] {
        for power in [0, 64, 127] {
            let mut resharing = Resharing::new(from, to, SMALL, 5);
            let results = resharing.run(|(from, _, bytes), _| {
                if is_old(*from) && bytes[KIND] == MASKED {
                    // One coefficient of one element, by a power of two.
                    if wrong.contains(&number(*from)) {
                        let place = bytes.len() - 64 * usize::from(number(*from)) - 16;
                        let changed = u128::from_le_bytes(bytes[place..place + 16].try_into().unwrap()).wrapping_add(1 << power);
                        bytes[place..place + 16].copy_from_slice(&changed.to_le_bytes());
                    }
                    return !silent.contains(&number(*from));
                }
                true
            });
            for result in assert_finished(&mut resharing, results) {
                let numbers = |set: PartySet| set.iter().map(PartyId::number).collect::<Vec<_>>();
                assert_eq!(
                    (numbers(result.wrong_old), numbers(result.missing_old)),
                    (wrong.clone(), silent.clone())
                );
            }
        }
    }
}

#[test]
fn more_wrong_old_members_than_the_threshold_make_it_fail() {
    for (size, wrong) in [((4, 1), 2), ((7, 2), 3), ((13, 4), 5)] {
        let mut resharing = Resharing::new(size, (4, 1), SMALL, 6);
        let mut seeds = Seeded::new(60);
        let errors: Vec<u128> = (0..=wrong).map(|_| seeds.word()).collect();
        let results = resharing.run(|(from, _, bytes), _| {
            if is_old(*from) && bytes[KIND] == MASKED && number(*from) <= wrong {
                let place = bytes.len() - 16;
                let changed = u128::from_le_bytes(bytes[place..].try_into().unwrap()).wrapping_add(errors[usize::from(number(*from))]);
                bytes[place..].copy_from_slice(&changed.to_le_bytes());
            }
            true
        });
        for result in results {
            assert!(matches!(result.err().unwrap(), ThresholdError::TooManyWrongShares { .. }));
        }
    }
}

#[test]
fn too_few_old_members_make_it_fail() {
    let mut resharing = Resharing::new((7, 2), (4, 1), SMALL, 7);
    let results = resharing.run(|(from, _, _), _| !is_old(*from) || number(*from) <= 4);
    for result in results {
        assert_eq!(result.err().unwrap(), ThresholdError::NotEnoughShares { present: 4, needed: 5 });
    }
}

#[test]
fn new_members_that_send_wrong_masks_checks_or_outcomes_are_borne() {
    for kind in [MASK_SHARE, CHECKS, OUTCOME] {
        for silent in [false, true] {
            let mut resharing = Resharing::new((4, 1), (7, 2), SMALL, 8);
            let results = resharing.run(|(from, _, bytes), rng| {
                if !is_old(*from) && [2, 6].contains(&number(*from)) && bytes[KIND] == kind {
                    garble(bytes, rng);
                    return !silent;
                }
                true
            });
            let honest: Vec<Reshared> = results
                .into_iter()
                .enumerate()
                .filter(|(index, _)| ![1, 5].contains(index))
                .map(|(_, result)| result.unwrap())
                .collect();
            let shares: Vec<&KeyShare> = honest.iter().map(|result| &result.share).collect();
            resharing.check_decrypts(&shares);
            for result in &honest {
                assert_eq!(result.manifest, honest[0].manifest);
                if kind == OUTCOME || (kind == CHECKS && !silent) {
                    assert_eq!(result.wrong_new.to_string(), "2, 6");
                }
            }
        }
    }
}

/// An old party tells one new party something else than the others: what most got counts, and is fetched.
#[test]
fn an_old_member_cannot_tell_new_members_different_things() {
    let mut resharing = Resharing::new((4, 1), (7, 2), SMALL, 9);
    let mut requested = 0;
    let results = resharing.run(|(from, to, bytes), rng| {
        if is_old(*from) && number(*from) == 2 && number(*to) == 5 && bytes[KIND] == MASKED {
            garble(bytes, rng);
        }
        requested += usize::from(bytes[KIND] == REQUEST);
        true
    });
    assert_eq!(requested, 6, "party 5 asks all others");
    for result in assert_finished(&mut resharing, results) {
        assert!(result.wrong_old.is_empty());
    }
}

/// An old party tells half of the new ones something else: then it counts as missing.
#[test]
fn an_old_member_that_splits_the_committee_is_left_out() {
    let mut resharing = Resharing::new((4, 1), (7, 2), SMALL, 10);
    let results = resharing.run(|(from, to, bytes), _| {
        if is_old(*from) && number(*from) == 2 && number(*to) > 3 && bytes[KIND] == MASKED {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        true
    });
    for result in assert_finished(&mut resharing, results) {
        assert_eq!(result.missing_old.to_string(), "2");
    }
}

#[test]
fn a_member_that_got_another_set_key_stops_everybody_and_the_picker_is_suspected() {
    let mut resharing = Resharing::new((4, 1), (4, 1), SMALL, 11);
    let results = resharing.run(|(from, to, bytes), _| {
        if bytes[KIND] == SET_KEYS && number(*from) == 1 && number(*to) == 3 {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        true
    });
    for result in results {
        let ThresholdError::Resharing { suspects, .. } = result.err().unwrap() else {
            panic!("another error");
        };
        assert!(suspects.iter().any(|party| party.number() == 1), "{suspects}");
    }
}

#[test]
fn a_new_committee_that_is_not_complete_does_not_begin() {
    let mut resharing = Resharing::new((4, 1), (4, 1), SMALL, 12);
    let results = resharing.run(|(from, _, _), _| is_old(*from) || number(*from) != 4);
    for result in results.into_iter().take(3) {
        let ThresholdError::Resharing { suspects, .. } = result.err().unwrap() else {
            panic!("another error");
        };
        assert_eq!(suspects.to_string(), "4");
    }
}

/// Votes that differ from receiver to receiver make the members count different things; they notice at the end.
#[test]
fn a_broadcast_that_is_none_is_noticed_before_anybody_finishes() {
    let mut resharing = Resharing::new((4, 1), (4, 1), SMALL, 13);
    let results = resharing.run(|(from, to, bytes), _| {
        // Old member 4 reaches two of three honest parties, and the corrupt new member 4 adds its vote for some only.
        if is_old(*from) && number(*from) == 4 && bytes[KIND] == MASKED {
            return number(*to) != 3;
        }
        if !is_old(*from) && number(*from) == 4 && bytes[KIND] == VOTES && number(*to) <= 2 {
            let last = bytes.len() - 33;
            bytes[last..].fill(0);
        }
        true
    });
    for result in results.into_iter().take(3) {
        assert!(matches!(
            result.err().unwrap(),
            ThresholdError::Resharing { .. } | ThresholdError::NotEnoughShares { .. }
        ));
    }
}

#[test]
fn shares_that_do_not_decrypt_the_known_value_are_not_taken() {
    let mut resharing = Resharing::new((4, 1), (4, 1), SMALL, 14);
    let mut known = known(&resharing.secrets, &mut resharing.rng);
    known[0].little_endian[0] ^= 1;
    resharing.plan = Plan::new(resharing.plan.from().clone(), resharing.plan.to().clone(), SMALL, known).unwrap();
    for result in resharing.run(|_, _| true) {
        assert!(matches!(result.err().unwrap(), ThresholdError::Resharing { .. }));
    }
}

#[test]
fn old_shares_are_of_no_use_with_new_ones() {
    let mut resharing = Resharing::new((7, 2), (7, 2), SMALL, 15);
    let results = resharing.run(|_, _| true);
    let new = assert_finished(&mut resharing, results);
    let size = resharing.plan.to().committee.size();
    let plain = value(64, &mut resharing.rng);
    let ciphertext = resharing.secrets.encrypt(KeyKind::Squashed, 64, &plain, &mut resharing.rng);
    let tag = ciphertext.tag(resharing.plan.to());
    let expected = Expected {
        tag,
        shape: ciphertext.shape(),
    };
    // Every mixture, with the old ones' tags forged: they are wrong shares, and with more of them than the threshold nothing comes out.
    for from_old in 0..=7usize {
        let contributions: Vec<Contribution> = (0..7)
            .map(|index| {
                let share = if index < from_old {
                    &resharing.old[index]
                } else {
                    &new[index].share
                };
                let mut bytes = share.decrypt(&ciphertext).unwrap().to_bytes();
                bytes[2..34].copy_from_slice(&tag.0);
                Contribution::of_partials(share.party(), &[expected], &[PartialDecryption::from_bytes(size, &bytes).unwrap()])
            })
            .collect();
        match reconstruct(size, &[expected.shape], &contributions) {
            Ok(read) => {
                assert!(from_old <= 2 || from_old >= 5, "{from_old} old shares");
                assert_eq!(*read.values[0].little_endian(), plain);
                assert_eq!(read.wrong.len(), from_old.min(7 - from_old));
            }
            Err(error) => {
                assert!((3..=4).contains(&from_old), "{from_old} old shares: {error}");
            }
        }
    }
    // And without forging, an answer of the old epoch is not even looked at.
    assert_ne!(resharing.old[0].decrypt(&ciphertext).unwrap().tag(), tag);
}

#[test]
fn epochs_only_go_up() {
    let mut rng = Seeded::new(16);
    let secrets = Secrets::random(SMALL, &mut rng);
    let plan = |from, to, known| Plan::new(scope(4, 1, from), scope(4, 1, to), SMALL, known);
    for (from, to) in [(2, 1), (2, 2)] {
        assert_eq!(
            plan(from, to, known(&secrets, &mut rng)).unwrap_err(),
            ThresholdError::EpochNotLater
        );
    }
    assert!(matches!(plan(1, 2, Vec::new()), Err(ThresholdError::Resharing { .. })));
    let plan = plan(3, 4, known(&secrets, &mut rng)).unwrap();
    let share = &dealing(&scope(4, 1, 1), &secrets, &mut rng).shares[0];
    assert!(matches!(OldMember::new(&plan, share), Err(ThresholdError::OtherScope(_))));
}

#[test]
fn a_message_of_another_resharing_is_refused() {
    let resharing = Resharing::new((4, 1), (4, 1), SMALL, 17);
    let other = Resharing::new((4, 1), (4, 1), SMALL, 18);
    let party = resharing.plan.to().committee.size().ids().next().unwrap();
    let (_, out) = NewMember::new(&resharing.plan, party, &mut Seeded::new(1)).unwrap();
    let bytes = out[0].message.to_bytes(&resharing.plan);
    assert!(Message::from_bytes(&resharing.plan, &bytes).is_ok());
    assert!(matches!(
        Message::from_bytes(&other.plan, &bytes),
        Err(ThresholdError::OtherScope("resharing"))
    ));
    for length in 0..bytes.len() {
        assert!(Message::from_bytes(&resharing.plan, &bytes[..length]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Letters of one corrupt new and one corrupt old member are garbled at random places: members finish with shares that decrypt, or fail.
    #[test]
    fn garbled_messages_never_give_wrong_shares(seed: u64, corrupt_old in 1..=4u8, corrupt_new in 1..=4u8, every in 1..4usize) {
        let mut resharing = Resharing::new((4, 1), (4, 1), SMALL, seed);
        let results = resharing.run(|(from, _, bytes), rng| {
            let corrupt = if is_old(*from) { corrupt_old } else { corrupt_new };
            if number(*from) == corrupt && rng.below(every) == 0 {
                let place = rng.below(bytes.len());
                bytes[place] ^= 1 << rng.below(8);
            }
            true
        });
        let finished: Vec<Reshared> = results.into_iter().filter_map(Result::ok).collect();
        let honest: Vec<&KeyShare> = finished.iter().map(|result| &result.share).filter(|share| share.party().number() != corrupt_new).collect();
        if honest.len() == 3 {
            resharing.check_decrypts(&honest);
        }
    }
}
