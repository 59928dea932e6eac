//! Answers of a committee: shares that are sealed by four nodes, opened by the user and put together.
//!
//! `vectors/threshold.json` has the answers of a committee of four with fixed keys and randomness, one of them also with a wrong share that is rightly signed. The published client
//! opens them in `cargo xtask e2e kms-wasm`. Run the test with `CIPHERLOOM_WRITE_VECTORS=1` to write the file anew, on purpose only.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

#[expect(dead_code, reason = "it has the values of a single node as well")]
mod support;

use cipherloom_primitives::{FheType, Handle, U256, decryption::UserDecryptionShare, eip712::SigningDomains};
use cipherloom_signcryption::{
    CommitteeParty, MAX_SHARE_BYTES, Randomness, SigncryptionError, SigningKey, UserKeypair, check_sealed_shares, node_address,
    open_shares, seal_shares, wire::Payload,
};
use cipherloom_threshold::{
    Committee, CommitteeSize, ContextId, Contribution, EpochId, KeyId, KeyKind, Reconstruction, Scope, SecretKeys, SquashedCiphertext,
    ThresholdError, ValueShape, deal, reconstruct,
};
use rand_core::{TryCryptoRng, TryRng};
use serde::{Deserialize, Serialize};
use shake::{ExtendableOutput, Shake256, Shake256Reader, Update, XofReader};
use support::{USER, context, domains, fixed_randomness, handle, user_keys};

/// Reproducible randomness.
struct Seeded(Shake256Reader);

impl Seeded {
    fn new(seed: u8) -> Self {
        let mut hasher = Shake256::default();
        hasher.update(&[seed]);
        Self(hasher.finalize_xof())
    }

    fn word(&mut self) -> u128 {
        let mut bytes = [0; 16];
        self.0.read(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}

impl TryRng for Seeded {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.0.read(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.0.read(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

/// A value of several types, each with its top bit set.
fn values() -> Vec<(Handle, U256)> {
    let types = [
        FheType::Bool,
        FheType::Uint8,
        FheType::Uint64,
        FheType::Uint128,
        FheType::Address,
        FheType::Uint256,
    ];
    let of = |ty: FheType| (handle(ty.id(), ty), ty.max_value() - (ty.max_value() >> 3));
    types.into_iter().map(of).collect()
}

fn shape(handle: &Handle) -> ValueShape {
    ValueShape::new(u16::try_from(handle.fhe_type().bits()).unwrap()).unwrap()
}

/// Four nodes and their shares of [`values`], made with real key shares of a small dimension: what shares look like does not depend on it.
struct Nodes {
    domains: SigningDomains,
    keys: UserKeypair,
    size: CommitteeSize,
    handles: Vec<Handle>,
    values: Vec<U256>,
    shares: Vec<Vec<Vec<u8>>>,
}

impl Nodes {
    fn new() -> Self {
        const DIMENSION: usize = 8;
        let mut rng = Seeded::new(1);
        let secret: Vec<u128> = (0..DIMENSION).map(|_| rng.word() & 1).collect();
        let scope = Scope {
            key: KeyId([1; 32]),
            context: ContextId([2; 32]),
            epoch: EpochId([3; 32]),
            committee: Committee::new(1, (1..=4).map(|member| [member; 32]).collect()).unwrap(),
        };
        let secrets = SecretKeys {
            squashed: &secret,
            compressed: &secret,
        };
        let parties = deal(&scope, secrets, &mut rng).unwrap().shares;
        let ciphertexts: Vec<SquashedCiphertext> = values()
            .iter()
            .map(|(handle, value)| {
                let bytes = value.to_le_bytes::<32>();
                let mut words = Vec::new();
                for index in 0..shape(handle).lwe_count() {
                    let digit = u128::from(bytes[index / 2] >> (4 * (index % 2)) & 15);
                    let noise = (rng.word() >> 57).wrapping_sub(1 << 70);
                    let mask: Vec<u128> = secret.iter().map(|_| rng.word()).collect();
                    let product = mask
                        .iter()
                        .zip(&secret)
                        .fold(0u128, |sum, (a, s)| sum.wrapping_add(a.wrapping_mul(*s)));
                    words.extend(mask);
                    words.push((digit << 123).wrapping_add(noise).wrapping_add(product));
                }
                SquashedCiphertext::new(KeyKind::Squashed, shape(handle), DIMENSION, words).unwrap()
            })
            .collect();
        let decrypt = |one: &SquashedCiphertext, party: &cipherloom_threshold::KeyShare| party.decrypt(one).unwrap().share_bytes().to_vec();
        Self {
            domains: domains(),
            keys: user_keys(),
            size: scope.committee.size(),
            handles: values().iter().map(|(handle, _)| *handle).collect(),
            values: values().iter().map(|(_, value)| *value).collect(),
            shares: parties
                .iter()
                .map(|party| ciphertexts.iter().map(|one| decrypt(one, party)).collect())
                .collect(),
        }
    }

    fn key(party: usize) -> SigningKey {
        SigningKey::from_slice(&[0x40 + u8::try_from(party).unwrap(); 32]).unwrap()
    }

    fn place(party: usize) -> CommitteeParty {
        CommitteeParty {
            number: u32::try_from(party).unwrap(),
            threshold: 1,
        }
    }

    /// What node `party`, counted from 1, sends if these are its shares.
    fn answer(
        &self,
        party: usize,
        shares: &[Vec<u8>],
        randomness: impl FnMut() -> Result<Randomness, SigncryptionError>,
    ) -> UserDecryptionShare {
        let shares: Vec<(Handle, &[u8])> = self.handles.iter().copied().zip(shares.iter().map(Vec::as_slice)).collect();
        seal_shares(
            &context(&self.domains, &self.keys),
            &shares,
            Self::place(party),
            &Self::key(party),
            randomness,
        )
        .unwrap()
    }

    fn honest(&self, party: usize) -> UserDecryptionShare {
        self.answer(party, &self.shares[party - 1], fixed_randomness())
    }

    /// The answer of a node that changes one bit of every share, high enough to change the value.
    fn lying(&self, party: usize) -> UserDecryptionShare {
        let mut shares = self.shares[party - 1].clone();
        shares.iter_mut().for_each(|share| share[8 + 15] ^= 0x20);
        self.answer(party, &shares, fixed_randomness())
    }

    /// What the user makes of answers, each from the node it should be from.
    fn read(&self, answers: &[(usize, UserDecryptionShare)]) -> Result<Reconstruction, ThresholdError> {
        let shapes: Vec<ValueShape> = self.handles.iter().map(shape).collect();
        let contributions: Vec<Contribution> = answers
            .iter()
            .map(|(party, answer)| {
                let id = self.size.party(Self::place(*party).number).unwrap();
                match self.open(*party, answer) {
                    Ok(shares) => Contribution::of_shares(id, &shapes, shares.iter().map(|share| share.as_slice())),
                    Err(_) => Contribution::unusable(id),
                }
            })
            .collect();
        reconstruct(self.size, &shapes, &contributions)
    }

    fn open(&self, party: usize, answer: &UserDecryptionShare) -> Result<Vec<zeroize::Zeroizing<Vec<u8>>>, SigncryptionError> {
        let context = context(&self.domains, &self.keys);
        open_shares(
            &context,
            &self.handles,
            answer,
            &self.keys,
            (Self::place(party), node_address(&Self::key(party))),
        )
    }

    fn assert_values(&self, read: &Reconstruction) {
        let values: Vec<U256> = read
            .values
            .iter()
            .map(|value| U256::from_le_bytes(*value.little_endian()))
            .collect();
        assert_eq!(values, self.values);
    }
}

#[test]
fn four_answers_give_the_values() {
    let nodes = Nodes::new();
    let answers: Vec<_> = (1..=4).map(|party| (party, nodes.honest(party))).collect();
    let read = nodes.read(&answers).unwrap();
    nodes.assert_values(&read);
    assert!(read.wrong.is_empty() && read.missing.is_empty());
}

#[test]
fn one_answer_may_be_wrong_tampered_with_or_missing() {
    let nodes = Nodes::new();
    for bad in 1..=4 {
        let others = || (1..=4).filter(|party| *party != bad).map(|party| (party, nodes.honest(party)));
        let without: Vec<_> = others().collect();
        let read = nodes.read(&without).unwrap();
        nodes.assert_values(&read);
        assert_eq!(read.missing.to_string(), bad.to_string());

        let mut tampered = nodes.honest(bad);
        let mut payload = tampered.payload.to_vec();
        payload[300] ^= 1;
        tampered.payload = payload.into();
        for answer in [nodes.lying(bad), tampered] {
            let all: Vec<_> = others().chain([(bad, answer)]).collect();
            let read = nodes.read(&all).unwrap();
            nodes.assert_values(&read);
            assert_eq!(read.wrong.to_string(), bad.to_string());
        }
    }
}

#[test]
fn two_bad_answers_of_four_give_an_error_and_no_value() {
    let nodes = Nodes::new();
    let two = [(1, nodes.honest(1)), (2, nodes.honest(2))];
    assert!(matches!(
        nodes.read(&two).err().unwrap(),
        ThresholdError::NotEnoughShares { present: 2, needed: 3 }
    ));
    let missing_and_wrong = [(1, nodes.honest(1)), (2, nodes.lying(2)), (4, nodes.honest(4))];
    assert!(matches!(
        nodes.read(&missing_and_wrong).err().unwrap(),
        ThresholdError::TooManyWrongShares { present: 3, threshold: 1 }
    ));
    // Both add the same multiple of 2^126, by chance on no line with an honest share.
    let both_wrong = [(1, nodes.honest(1)), (2, nodes.lying(2)), (3, nodes.lying(3)), (4, nodes.honest(4))];
    assert!(nodes.read(&both_wrong).is_err());
}

#[test]
fn an_answer_of_another_node_number_or_committee_is_refused() {
    let nodes = Nodes::new();
    let answer = nodes.honest(2);
    assert!(matches!(nodes.open(3, &answer), Err(SigncryptionError::WrongSigner { .. })));
    let context = context(&nodes.domains, &nodes.keys);
    let node = node_address(&Nodes::key(2));
    for (number, threshold, what) in [(3, 1, "number"), (2, 2, "threshold"), (2, 0, "threshold")] {
        let refused = open_shares(
            &context,
            &nodes.handles,
            &answer,
            &nodes.keys,
            (CommitteeParty { number, threshold }, node),
        );
        assert_eq!(refused.unwrap_err(), SigncryptionError::WrongParty { expected: number, what });
    }
    // An answer with whole values, as a single node sends it.
    let single = cipherloom_signcryption::seal(&context, &values(), &Nodes::key(2), Randomness::generate).unwrap();
    let party = CommitteeParty { number: 1, threshold: 0 };
    assert_eq!(
        open_shares(&context, &nodes.handles, &single, &nodes.keys, (party, node)).unwrap_err(),
        SigncryptionError::WrongParty {
            expected: 1,
            what: "packing"
        }
    );
    // And the other way round: a share is no value.
    let values = cipherloom_signcryption::open(&context, &nodes.handles, &answer, &nodes.keys, node);
    assert_eq!(values.unwrap_err(), SigncryptionError::Malformed("plaintext"));
}

#[test]
fn whoever_carries_answers_sees_which_are_none() {
    let nodes = Nodes::new();
    let context = context(&nodes.domains, &nodes.keys);
    let place = |party| (Nodes::place(party), node_address(&Nodes::key(party)));
    let check = |handles: &[Handle], answer: &UserDecryptionShare, place| check_sealed_shares(&context, handles, answer, place);
    // What is sealed nobody sees but the user.
    for answer in [nodes.honest(2), nodes.lying(2)] {
        check(&nodes.handles, &answer, place(2)).unwrap();
    }
    let answer = nodes.honest(2);
    let (party, node) = place(2);
    assert!(matches!(
        check(&nodes.handles, &answer, place(3)),
        Err(SigncryptionError::WrongSigner { .. })
    ));
    let renumbered = (CommitteeParty { number: 3, ..party }, node);
    assert!(matches!(
        check(&nodes.handles, &answer, renumbered),
        Err(SigncryptionError::WrongParty { .. })
    ));
    let fewer = &nodes.handles[1..];
    assert!(matches!(
        check(fewer, &answer, place(2)),
        Err(SigncryptionError::WrongSigner { .. })
    ));
    // Rightly signed, for this request, and with the values of its handles exchanged.
    let shares: Vec<(Handle, &[u8])> = nodes
        .handles
        .iter()
        .rev()
        .copied()
        .zip(nodes.shares[1].iter().map(Vec::as_slice))
        .collect();
    let exchanged = seal_shares(&context, &shares, party, &Nodes::key(2), Randomness::generate).unwrap();
    let reversed: Vec<Handle> = nodes.handles.iter().rev().copied().collect();
    check(&reversed, &exchanged, place(2)).unwrap();
    assert!(check(&nodes.handles, &exchanged, place(2)).is_err());
    let mut tampered = answer.clone();
    tampered.extra_data = vec![1].into();
    assert_eq!(check(&nodes.handles, &tampered, place(2)), Err(SigncryptionError::ExtraData));
}

#[test]
fn every_changed_byte_of_an_answer_is_noticed() {
    let nodes = Nodes::new();
    let answer = nodes.honest(1);
    for position in (0..answer.payload.len()).step_by(7) {
        let mut payload = answer.payload.to_vec();
        payload[position] ^= 4;
        let changed = UserDecryptionShare {
            payload: payload.into(),
            ..answer.clone()
        };
        assert!(nodes.open(1, &changed).is_err(), "byte {position}");
    }
    for position in 0..answer.signature.len() {
        let mut signature = answer.signature.to_vec();
        signature[position] ^= 4;
        let changed = UserDecryptionShare {
            signature: signature.into(),
            ..answer.clone()
        };
        assert!(nodes.open(1, &changed).is_err(), "byte {position} of the signature");
    }
}

#[test]
fn shares_have_one_length_per_type_and_a_limit() {
    let nodes = Nodes::new();
    let payload = Payload::from_bytes(&nodes.honest(1).payload).unwrap();
    assert_eq!((payload.party_id, payload.degree), (1, 1));
    for (value, share) in payload.values.iter().zip(&nodes.shares[0]) {
        assert_eq!(value.packing_factor, 2);
        // Nonce, lengths, encapsulation, tag, inner signature and fingerprint, type and link.
        assert_eq!(value.sealed.len(), 12 + 8 + 768 + 8 + 8 + share.len() + 4 + 8 + 32 + 64 + 32 + 16);
    }
    let long = vec![0; MAX_SHARE_BYTES + 1];
    let refused = seal_shares(
        &context(&nodes.domains, &nodes.keys),
        &[(nodes.handles[0], &long)],
        Nodes::place(1),
        &Nodes::key(1),
        Randomness::generate,
    );
    assert_eq!(
        refused.unwrap_err(),
        SigncryptionError::Malformed("the share of a value is too long")
    );
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
struct Vector {
    comment: String,
    nodes: Vec<String>,
    user: String,
    decryption: String,
    handles: Vec<Handle>,
    values: Vec<U256>,
    extra_data: String,
    answers: Vec<VectorAnswer>,
    wrong_answer_of_party_3: VectorAnswer,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct VectorAnswer {
    payload: String,
    signature: String,
}

impl VectorAnswer {
    fn of(answer: &UserDecryptionShare) -> Self {
        Self {
            payload: hex::encode(&answer.payload),
            signature: hex::encode(&answer.signature),
        }
    }
}

#[test]
fn answers_with_fixed_randomness_are_the_committed_ones() {
    let nodes = Nodes::new();
    let made = Vector {
        comment: "keys of the user as in centralised.json; domains likewise; node i signs with 32 bytes of 0x40 + i; threshold 1".into(),
        nodes: (1..=4).map(|party| node_address(&Nodes::key(party)).to_checksum(None)).collect(),
        user: USER.to_checksum(None),
        decryption: nodes.domains.decryption.to_checksum(None),
        handles: nodes.handles.clone(),
        values: nodes.values.clone(),
        extra_data: "00".into(),
        answers: (1..=4).map(|party| VectorAnswer::of(&nodes.honest(party))).collect(),
        wrong_answer_of_party_3: VectorAnswer::of(&nodes.lying(3)),
    };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/threshold.json");
    if std::env::var_os("CIPHERLOOM_WRITE_VECTORS").is_some() {
        std::fs::write(path, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let committed: Vector = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(made, committed);
}
