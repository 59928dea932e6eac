//! Decryption by committees of which some lie or are silent.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod support;

use cipherloom_threshold::{
    CommitteeSize, Contribution, ELEMENT_BYTES, Expected, KeyDimensions, KeyKind, KeyShare, PartialDecryption, PartyId, PartySet,
    Reconstruction, SquashedCiphertext, ThresholdError, ValueShape, reconstruct,
};
use proptest::prelude::*;
use support::{SMALL, Secrets, Seeded, dealing, scope, value};

/// How a party deviates from the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Random elements instead of a share.
    Random,
    /// Adds one and the same power of two to one coefficient of every element. From 2^1 on these are zero divisors.
    PowerOfTwo(u32),
    /// Changes one coefficient of one element of the whole answer.
    OneBit,
    /// An answer that is too short.
    Malformed,
}

const LIES: [Lie; 7] = [
    Lie::Random,
    Lie::PowerOfTwo(127),
    Lie::PowerOfTwo(123),
    Lie::PowerOfTwo(64),
    Lie::PowerOfTwo(0),
    Lie::OneBit,
    Lie::Malformed,
];

impl Lie {
    fn tell(self, size: CommitteeSize, partial: &PartialDecryption, rng: &mut Seeded) -> PartialDecryption {
        let mut bytes = partial.to_bytes();
        let start = bytes.len() - (bytes.len() - 35) / ELEMENT_BYTES * ELEMENT_BYTES;
        let (_, elements) = bytes.split_at_mut(start);
        let add = |word: &mut [u8], number: u128| {
            let sum = u128::from_le_bytes((&*word).try_into().unwrap()).wrapping_add(number);
            word.copy_from_slice(&sum.to_le_bytes());
        };
        match self {
            Self::Random => elements.chunks_exact_mut(16).for_each(|word| add(word, rng.word())),
            Self::PowerOfTwo(power) => {
                for element in elements.chunks_exact_mut(ELEMENT_BYTES) {
                    let coefficient = 16 * rng.below(4);
                    add(&mut element[coefficient..coefficient + 16], 1 << power);
                }
            }
            Self::OneBit => {
                let word = 16 * rng.below(elements.len() / 16);
                add(&mut elements[word..word + 16], 1 << rng.below(128));
            }
            Self::Malformed => {
                let shorter = bytes.len() - ELEMENT_BYTES;
                bytes.truncate(shorter);
                bytes[34] -= 1;
            }
        }
        PartialDecryption::from_bytes(size, &bytes).unwrap()
    }
}

/// A committee with a key.
struct Setting {
    size: CommitteeSize,
    secrets: Secrets,
    shares: Vec<KeyShare>,
    rng: Seeded,
}

impl Setting {
    fn new(parties: u8, threshold: u8, dimensions: KeyDimensions, seed: u64) -> Self {
        let mut rng = Seeded::new(seed);
        let secrets = Secrets::random(dimensions, &mut rng);
        let shares = dealing(&scope(parties, threshold, 1), &secrets, &mut rng).shares;
        let size = CommitteeSize::new(parties, threshold).unwrap();
        Self {
            size,
            secrets,
            shares,
            rng,
        }
    }

    fn values(&mut self, kind: KeyKind, bits: &[u16]) -> (Vec<[u8; 32]>, Vec<SquashedCiphertext>) {
        let values: Vec<[u8; 32]> = bits.iter().map(|bits| value(*bits, &mut self.rng)).collect();
        let ciphertexts = bits
            .iter()
            .zip(&values)
            .map(|(bits, value)| self.secrets.encrypt(kind, *bits, value, &mut self.rng))
            .collect();
        (values, ciphertexts)
    }

    /// Everybody's honest partial decryptions, party by party.
    fn partials(&self, ciphertexts: &[SquashedCiphertext]) -> Vec<Vec<PartialDecryption>> {
        let of = |share: &KeyShare| ciphertexts.iter().map(|ciphertext| share.decrypt(ciphertext).unwrap()).collect();
        self.shares.iter().map(of).collect()
    }

    fn expected(&self, ciphertexts: &[SquashedCiphertext]) -> Vec<Expected> {
        let scope = self.shares[0].scope();
        let of = |ciphertext: &SquashedCiphertext| Expected {
            tag: ciphertext.tag(scope),
            shape: ciphertext.shape(),
        };
        ciphertexts.iter().map(of).collect()
    }

    /// Reconstructs from the honest partial decryptions with these parties lying and these leaving their answer out.
    fn read(
        &mut self,
        ciphertexts: &[SquashedCiphertext],
        partials: &[Vec<PartialDecryption>],
        liars: &[(PartyId, Lie)],
        missing: PartySet,
    ) -> Result<Reconstruction, ThresholdError> {
        let expected = self.expected(ciphertexts);
        let mut contributions = Vec::new();
        for (party, partials) in self.size.ids().zip(partials).filter(|(party, _)| !missing.contains(*party)) {
            contributions.push(match liars.iter().find(|(liar, _)| *liar == party) {
                Some((_, lie)) => {
                    let lies: Vec<_> = partials.iter().map(|partial| lie.tell(self.size, partial, &mut self.rng)).collect();
                    Contribution::of_partials(party, &expected, &lies)
                }
                None => Contribution::of_partials(party, &expected, partials),
            });
        }
        let shapes: Vec<ValueShape> = expected.iter().map(|expected| expected.shape).collect();
        reconstruct(self.size, &shapes, &contributions)
    }

    /// That many different parties.
    fn pick(&mut self, count: usize) -> Vec<PartyId> {
        let mut ids: Vec<PartyId> = self.size.ids().collect();
        (0..count).map(|_| ids.swap_remove(self.rng.below(ids.len()))).collect()
    }
}

fn assert_values(reconstruction: &Reconstruction, values: &[[u8; 32]]) {
    assert_eq!(reconstruction.values.len(), values.len());
    for (plaintext, value) in reconstruction.values.iter().zip(values) {
        assert_eq!(plaintext.little_endian(), value);
    }
}

/// The production shape: every number of wrong shares, every kind of lie, both keys, a boolean, 64 and 256 bits in one request.
fn every_number_of_wrong_shares(parties: u8, threshold: u8) {
    let mut setting = Setting::new(parties, threshold, KeyDimensions::PRODUCTION, u64::from(parties));
    for kind in KeyKind::ALL {
        let (values, ciphertexts) = setting.values(kind, &[64, 1, 256]);
        let partials = setting.partials(&ciphertexts);
        for wrong in 0..=threshold {
            for lie in LIES {
                let liars: Vec<_> = setting.pick(wrong.into()).into_iter().map(|party| (party, lie)).collect();
                let read = setting.read(&ciphertexts, &partials, &liars, PartySet::EMPTY).unwrap();
                assert_values(&read, &values);
                assert_eq!(read.wrong, liars.iter().map(|(party, _)| *party).collect(), "{lie:?}");
                assert!(read.missing.is_empty());
            }
        }
        for _ in 0..20 {
            for lie in [Lie::Random, Lie::PowerOfTwo(127), Lie::Malformed] {
                let liars: Vec<_> = setting
                    .pick(usize::from(threshold) + 1)
                    .into_iter()
                    .map(|party| (party, lie))
                    .collect();
                let refused = setting.read(&ciphertexts, &partials, &liars, PartySet::EMPTY);
                assert!(refused.is_err(), "{liars:?}");
            }
        }
    }
}

#[test]
fn four_parties_bear_one_wrong_share_and_refuse_two() {
    every_number_of_wrong_shares(4, 1);
}

#[test]
fn seven_parties_bear_two_wrong_shares_and_refuse_three() {
    every_number_of_wrong_shares(7, 2);
}

#[test]
fn thirteen_parties_bear_four_wrong_shares_and_refuse_five() {
    every_number_of_wrong_shares(13, 4);
}

#[test]
fn every_type_and_its_extremes_come_back() {
    let mut setting = Setting::new(4, 1, SMALL, 5);
    for bits in [1, 4, 8, 16, 32, 64, 128, 160, 256] {
        let mut ones = [0xff; 32];
        ones.iter_mut().skip(usize::from(bits).div_ceil(8)).for_each(|byte| *byte = 0);
        if bits < 8 {
            ones[0] = (1 << bits) - 1;
        }
        let values = [[0; 32], ones, value(bits, &mut setting.rng)];
        for kind in KeyKind::ALL {
            let ciphertexts: Vec<_> = values
                .iter()
                .map(|value| setting.secrets.encrypt(kind, bits, value, &mut setting.rng))
                .collect();
            let partials = setting.partials(&ciphertexts);
            let read = setting.read(&ciphertexts, &partials, &[], PartySet::EMPTY).unwrap();
            assert_values(&read, &values);
            let mut big_endian = values[2];
            big_endian.reverse();
            assert_eq!(read.values[2].big_endian(), big_endian);
        }
    }
}

#[test]
fn as_many_as_the_threshold_may_be_missing_and_no_more() {
    for (parties, threshold) in [(4, 1), (7, 2), (13, 4), (15, 4), (5, 1), (15, 1)] {
        let mut setting = Setting::new(parties, threshold, SMALL, 7);
        let (values, ciphertexts) = setting.values(KeyKind::Squashed, &[64]);
        let partials = setting.partials(&ciphertexts);
        for count in 0..=usize::from(threshold) {
            let missing = setting.pick(count).into_iter().collect();
            let read = setting.read(&ciphertexts, &partials, &[], missing).unwrap();
            assert_values(&read, &values);
            assert_eq!((read.missing, read.wrong), (missing, PartySet::EMPTY));
        }
        let too_many = usize::from(parties) - 2 * usize::from(threshold);
        let missing = setting.pick(too_many).into_iter().collect();
        let refused = setting.read(&ciphertexts, &partials, &[], missing).err().unwrap();
        assert_eq!(
            refused,
            ThresholdError::NotEnoughShares {
                present: 2 * usize::from(threshold),
                needed: usize::from(threshold) * 2 + 1
            }
        );
        assert!(refused.more_answers_can_help());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Wrong and missing together up to the threshold: the right values and the right names. More of them: those values or an error.
    #[test]
    fn wrong_and_missing_mixed(
        parties in 4..=15u8,
        threshold in 1..=4u8,
        kinds in prop::collection::vec(prop::sample::select(LIES.to_vec()), 0..=6),
        silent in 0..=5usize,
        bits in prop::collection::vec(1..=256u16, 1..5),
        compressed: bool,
        seed: u64,
    ) {
        let threshold = threshold.min((parties - 1) / 3);
        let mut setting = Setting::new(parties, threshold, SMALL, seed);
        let kind = if compressed { KeyKind::Compressed } else { KeyKind::Squashed };
        let (values, ciphertexts) = setting.values(kind, &bits);
        let partials = setting.partials(&ciphertexts);
        let (silent, lying) = (silent.min(usize::from(parties)), kinds.len().min(usize::from(parties)));
        let picked = setting.pick((silent + lying).min(parties.into()));
        let (silent, lying) = picked.split_at(silent);
        let missing: PartySet = silent.iter().copied().collect();
        let liars: Vec<(PartyId, Lie)> = lying.iter().copied().zip(kinds).collect();
        match setting.read(&ciphertexts, &partials, &liars, missing) {
            Ok(read) => {
                // Independent lies agree on a wrong value only by chance: with random elements never.
                if liars.len() <= usize::from(threshold) || liars.iter().all(|(_, lie)| matches!(lie, Lie::Random | Lie::Malformed)) {
                    assert_values(&read, &values);
                    prop_assert_eq!(read.wrong, liars.iter().map(|(party, _)| *party).collect());
                    prop_assert_eq!(read.missing, missing);
                }
            }
            Err(error) => {
                prop_assert!(liars.len() + missing.len() > usize::from(threshold), "{}", error);
            }
        }
    }
}

#[test]
fn the_same_ciphertext_always_gives_the_same_share() {
    let mut setting = Setting::new(7, 2, SMALL, 11);
    let (_, ciphertexts) = setting.values(KeyKind::Squashed, &[64]);
    let again = KeyShare::from_bytes(&setting.shares[2].to_bytes()).unwrap();
    let copy = SquashedCiphertext::from_bytes(&ciphertexts[0].to_bytes()).unwrap();
    let first = setting.shares[2].decrypt(&ciphertexts[0]).unwrap();
    assert_eq!(first.to_bytes(), again.decrypt(&copy).unwrap().to_bytes());
}

/// A mask that two ciphertexts have in common would cancel in the difference of their shares. Here two ciphertexts differ in one body by one.
#[test]
fn two_ciphertexts_never_have_a_mask_in_common() {
    let mut setting = Setting::new(4, 1, SMALL, 12);
    let (_, ciphertexts) = setting.values(KeyKind::Squashed, &[64]);
    let mut bytes = ciphertexts[0].to_bytes();
    let last = bytes.len() - 16;
    bytes[last] ^= 1;
    let changed = SquashedCiphertext::from_bytes(&bytes).unwrap();
    for share in &setting.shares {
        let (one, other) = (share.decrypt(&ciphertexts[0]).unwrap(), share.decrypt(&changed).unwrap());
        assert_ne!(one.tag(), other.tag());
        let (one, other) = (one.share_bytes(), other.share_bytes());
        let differences = one[8..].chunks(16).zip(other[8..].chunks(16)).map(|(a, b)| {
            let number = |bytes: &[u8]| u128::from_le_bytes(bytes.try_into().unwrap());
            number(a).wrapping_sub(number(b)).cast_signed().unsigned_abs()
        });
        // The phases differ by one at most; everything above is the difference of the masks.
        assert!(differences.into_iter().all(|difference| difference > 1 << 90));
    }
}

#[test]
fn shares_of_another_epoch_or_committee_are_wrong_shares() {
    let mut setting = Setting::new(4, 1, SMALL, 13);
    let (values, ciphertexts) = setting.values(KeyKind::Squashed, &[8]);
    let mut partials = setting.partials(&ciphertexts);
    let later = dealing(&scope(4, 1, 2), &setting.secrets, &mut setting.rng).shares;
    let strange = later[3].decrypt(&ciphertexts[0]).unwrap();
    assert_ne!(strange.tag(), partials[3][0].tag());
    partials[3] = vec![strange];
    let read = setting.read(&ciphertexts, &partials, &[], PartySet::EMPTY).unwrap();
    assert_values(&read, &values);
    assert_eq!(read.wrong.to_string(), "4");

    // The same with the tag forged: then the numbers do not fit.
    let mut forged = partials[3][0].to_bytes();
    forged[2..34].copy_from_slice(&partials[0][0].tag().0);
    partials[3] = vec![PartialDecryption::from_bytes(setting.size, &forged).unwrap()];
    let read = setting.read(&ciphertexts, &partials, &[], PartySet::EMPTY).unwrap();
    assert_values(&read, &values);
    assert_eq!(read.wrong.to_string(), "4");
}

#[test]
fn a_party_that_answers_twice_is_noticed() {
    let mut setting = Setting::new(4, 1, SMALL, 14);
    let (_, ciphertexts) = setting.values(KeyKind::Squashed, &[8]);
    let partials = setting.partials(&ciphertexts);
    let expected = setting.expected(&ciphertexts);
    let party = partials[1][0].party();
    let twice = [1, 1].map(|_| Contribution::of_partials(party, &expected, &partials[1]));
    let refused = reconstruct(setting.size, &[expected[0].shape], &twice).err().unwrap();
    assert_eq!(refused, ThresholdError::DuplicateParty(party));
    assert!(!refused.more_answers_can_help());
}

#[test]
fn a_ciphertext_that_nobody_encrypted_is_no_plaintext() {
    let mut setting = Setting::new(7, 2, SMALL, 15);
    let shape = ValueShape::new(64).unwrap();
    let words = (0..shape.lwe_count() * (SMALL.squashed + 1)).map(|_| setting.rng.word()).collect();
    let noise = vec![SquashedCiphertext::new(KeyKind::Squashed, shape, SMALL.squashed, words).unwrap()];
    let partials = setting.partials(&noise);
    let refused = setting.read(&noise, &partials, &[], PartySet::EMPTY).err().unwrap();
    assert!(matches!(refused, ThresholdError::NotAPlaintext { value: 0, .. }), "{refused}");
    assert!(!refused.more_answers_can_help());
}

#[test]
fn a_ciphertext_of_another_dimension_or_key_is_refused() {
    let setting = Setting::new(4, 1, SMALL, 16);
    let shape = ValueShape::new(4).unwrap();
    for (kind, dimension) in [(KeyKind::Squashed, 24), (KeyKind::Compressed, 16), (KeyKind::Squashed, 4096)] {
        let ciphertext = SquashedCiphertext::new(kind, shape, dimension, vec![0; dimension + 1]).unwrap();
        assert!(matches!(setting.shares[0].decrypt(&ciphertext), Err(ThresholdError::Ciphertext(_))));
    }
}

#[test]
fn fewer_than_the_quorum_learn_nothing_usable_from_their_shares() {
    // Two of four parties with threshold one know the key; one does not. Its own share decrypts to numbers without a plaintext.
    let mut setting = Setting::new(4, 1, SMALL, 17);
    let (_, ciphertexts) = setting.values(KeyKind::Squashed, &[64]);
    let partials = setting.partials(&ciphertexts);
    let alone: PartySet = setting.size.ids().skip(1).collect();
    assert!(matches!(
        setting.read(&ciphertexts, &partials, &[], alone).err().unwrap(),
        ThresholdError::NotEnoughShares { present: 1, needed: 3 }
    ));
}

#[test]
fn answers_to_users_are_a_count_and_the_elements() {
    let mut setting = Setting::new(4, 1, SMALL, 18);
    let (values, ciphertexts) = setting.values(KeyKind::Squashed, &[64, 1]);
    let partials = setting.partials(&ciphertexts);
    let shapes: Vec<ValueShape> = ciphertexts.iter().map(SquashedCiphertext::shape).collect();
    let bytes: Vec<Vec<_>> = partials
        .iter()
        .map(|partials| partials.iter().map(PartialDecryption::share_bytes).collect())
        .collect();
    assert_eq!(bytes[0][0].len(), 264, "sixteen LWE ciphertexts in four elements of 64 bytes");
    assert_eq!(bytes[0][0][..8], 4u64.to_le_bytes());
    assert_eq!(bytes[0][1].len(), 72);
    let contributions: Vec<Contribution> = setting
        .size
        .ids()
        .zip(&bytes)
        .map(|(party, shares)| Contribution::of_shares(party, &shapes, shares.iter().map(|share| share.as_slice())))
        .collect();
    assert_values(&reconstruct(setting.size, &shapes, &contributions).unwrap(), &values);
    let swapped = Contribution::of_shares(partials[0][0].party(), &shapes, bytes[0].iter().rev().map(|share| share.as_slice()));
    let mut contributions = contributions;
    contributions[0] = swapped;
    let read = reconstruct(setting.size, &shapes, &contributions).unwrap();
    assert_eq!(read.wrong.to_string(), "1");
}
