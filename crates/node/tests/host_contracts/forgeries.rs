//! Whatever is changed in what coprocessors or the KMS have signed, it never passes.

use alloy::{
    primitives::{Address, B256, U256},
    sol,
    sol_types::SolStruct,
};
use cipherloom_contracts::{
    bindings::{FHEVMExecutor as Executor, InputVerifier, KMSVerifier},
    development,
};
use cipherloom_primitives::{FheType, Handle, eip712::SigningDomains, input};
use proptest::{prelude::*, sample::Index};

use crate::stage::{Revert, Stage, sign};

sol! {
    /// What a coprocessor signs, of words that need be no handles.
    struct CiphertextVerification {
        bytes32[] ctHandles;
        address userAddress;
        address contractAddress;
        uint256 contractChainId;
        bytes extraData;
    }
}

const CHAIN_ID: u64 = development::HOST_CHAIN_ID;

/// Something done to bytes that arrive.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Append(Vec<u8>),
    Swap(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => proptest::collection::vec(any::<u8>(), 1..70).prop_map(Damage::Append),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Damage::Swap(a, b)),
    ]
}

fn damaged(bytes: &[u8], damage: &Damage) -> Vec<u8> {
    let length = bytes.len();
    let mut bytes = bytes.to_vec();
    match damage {
        Damage::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Damage::Cut(at) => bytes.truncate(at.index(length)),
        Damage::Append(more) => bytes.extend_from_slice(more),
        Damage::Swap(a, b) => bytes.swap(a.index(length), b.index(length)),
    }
    bytes
}

/// An encrypted input as a contract hands it to the executor.
#[derive(Clone)]
struct Submission {
    contract: Address,
    user: Address,
    handle: B256,
    proof: Vec<u8>,
    input_type: u8,
}

/// Three values that two of three coprocessors have signed, whatever their handles say.
fn submission(stage: &Stage, words: &[B256], chosen: usize, domains: &SigningDomains) -> Submission {
    let (contract, user) = (stage.user(3), stage.user(1));
    let message = CiphertextVerification {
        ctHandles: words.to_vec(),
        userAddress: user,
        contractAddress: contract,
        contractChainId: U256::from(domains.host_chain_id),
        extraData: [0].into(),
    };
    let digest = message.eip712_signing_hash(&domains.input_verification_domain());
    let mut proof = vec![u8::try_from(words.len()).unwrap(), 2];
    words.iter().for_each(|word| proof.extend_from_slice(word.as_slice()));
    stage.coprocessors[..2]
        .iter()
        .for_each(|key| proof.extend_from_slice(&sign(key, digest)));
    proof.push(0);
    Submission {
        contract,
        user,
        handle: words[chosen],
        proof,
        input_type: words[chosen][30],
    }
}

fn words(stage: &Stage) -> Vec<B256> {
    let types = [FheType::Uint64, FheType::Bool, FheType::Uint64];
    let handles = input::input_handles(b"an encrypted list", &types, stage.host.acl, CHAIN_ID).unwrap();
    handles.iter().map(Handle::as_b256).collect()
}

/// Asks the executor, in the contract's name.
fn submit(stage: &Stage, submission: &Submission) -> Result<B256, Revert> {
    let call = Executor::verifyInputCall {
        inputHandle: submission.handle,
        userAddress: submission.user,
        inputProof: submission.proof.clone().into(),
        inputType: submission.input_type,
    };
    stage.call(submission.contract, stage.host.executor, &call)
}

#[test]
fn a_signed_handle_of_another_version_chain_or_index_never_passes() {
    let stage = Stage::with_signers(3, 3, 2);
    let domains = development::signing_domains();
    let good = words(&stage);
    for chosen in 0..3 {
        assert_eq!(submit(&stage, &submission(&stage, &good, chosen, &domains)), Ok(good[chosen]));
    }
    let mut refused = 0;
    for at in 0..3 {
        // The whole list is signed as it stands, so nothing but the handle's own bytes can be wrong.
        let forge = |change: &dyn Fn(&mut [u8; 32])| {
            let mut forged = good.clone();
            change(&mut forged[at].0);
            submit(&stage, &submission(&stage, &forged, at, &domains)).unwrap_err()
        };
        for version in 1..=255 {
            forge(&|word| word[31] = version).is(InputVerifier::InvalidHandleVersion {});
        }
        for byte in 22..30 {
            for bit in 0..8 {
                forge(&|word| word[byte] ^= 1 << bit).is(InputVerifier::InvalidChainId {});
            }
        }
        for index in (0..=255).filter(|index| usize::from(*index) != at) {
            let revert = forge(&|word| word[21] = index);
            if usize::from(index) < good.len() {
                revert.is(InputVerifier::InvalidInputHandle {});
            } else {
                revert.is(InputVerifier::InvalidIndex {});
            }
            refused += 1;
        }
    }
    assert_eq!(refused, 3 * 255);
    // A bad version spoils the list for every other value in it too.
    let mut spoiled = good.clone();
    spoiled[2].0[31] = 1;
    let other = submit(&stage, &submission(&stage, &spoiled, 0, &domains));
    other.unwrap_err().is(InputVerifier::InvalidHandleVersion {});
}

/// A decryption as anybody hands it to the verifier.
#[derive(Clone)]
struct Decryption {
    handles: Vec<B256>,
    values: Vec<u8>,
    proof: Vec<u8>,
}

fn decryption(stage: &Stage, extra_data: &[u8]) -> Decryption {
    let handles: Vec<Handle> = [(1, FheType::Uint64), (2, FheType::Bool)]
        .map(|(seed, ty)| Handle::computed(B256::repeat_byte(seed), CHAIN_ID, ty))
        .to_vec();
    let values = [U256::from(7).to_be_bytes::<32>(), U256::ONE.to_be_bytes::<32>()].concat();
    let digest = development::signing_domains().public_decryption_digest(&handles, &values, extra_data);
    let mut proof = vec![2];
    stage.kms[1..].iter().for_each(|key| proof.extend_from_slice(&sign(key, digest)));
    proof.extend_from_slice(extra_data);
    Decryption {
        handles: handles.iter().map(Handle::as_b256).collect(),
        values,
        proof,
    }
}

fn is_accepted(stage: &Stage, decryption: &Decryption) -> bool {
    let call = KMSVerifier::verifyDecryptionEIP712KMSSignaturesCall {
        handlesList: decryption.handles.clone(),
        decryptedResult: decryption.values.clone().into(),
        decryptionProof: decryption.proof.clone().into(),
    };
    stage.call(stage.user(0), stage.host.kms_verifier, &call).unwrap_or(false)
}

/// The version, and the first identifier of each of these kinds.
fn extra_data(version: u8, tags: &[u64]) -> Vec<u8> {
    let words = tags
        .iter()
        .map(|tag| ((U256::from(*tag) << 248usize) | U256::ONE).to_be_bytes::<32>().to_vec());
    std::iter::once(vec![version]).chain(words).flatten().collect()
}

/// Which part of a submission is damaged.
#[derive(Clone, Copy, Debug)]
enum Part {
    Contract,
    User,
    Handle,
    Type,
    Proof,
}

fn flipped(address: Address, damage: &Damage) -> Address {
    let bytes = damaged(address.as_slice(), damage);
    // Cut or prolonged addresses are read as some other ones.
    Address::from_word(B256::left_padding_from(&bytes[bytes.len().saturating_sub(20)..]))
}

fn damaged_submission(mut submission: Submission, part: Part, damage: &Damage) -> Submission {
    match part {
        Part::Contract => submission.contract = flipped(submission.contract, damage),
        Part::User => submission.user = flipped(submission.user, damage),
        Part::Handle => {
            let bytes = damaged(submission.handle.as_slice(), damage);
            submission.handle = B256::right_padding_from(&bytes[..bytes.len().min(32)]);
        }
        Part::Type => {
            if let Damage::Flip(_, bit) = damage {
                submission.input_type ^= 1 << bit;
            }
        }
        Part::Proof => submission.proof = damaged(&submission.proof, damage),
    }
    submission
}

fn same(a: &Submission, b: &Submission) -> bool {
    (a.contract, a.user, a.handle, a.input_type, &a.proof) == (b.contract, b.user, b.handle, b.input_type, &b.proof)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_input_never_passes(
        cases in proptest::collection::vec(
            (proptest::sample::select(vec![Part::Contract, Part::User, Part::Handle, Part::Type, Part::Proof, Part::Proof]), damage(), 0..3usize),
            600..601,
        )
    ) {
        let stage = Stage::with_signers(3, 3, 2);
        let words = words(&stage);
        let mut tried = 0;
        for (part, damage, chosen) in cases {
            let good = submission(&stage, &words, chosen, &development::signing_domains());
            let bad = damaged_submission(good.clone(), part, &damage);
            if same(&good, &bad) {
                prop_assert!(submit(&stage, &bad).is_ok());
                continue;
            }
            tried += 1;
            prop_assert!(submit(&stage, &bad).is_err(), "{part:?} {damage:?}");
        }
        prop_assert!(tried > 300, "only {tried} cases were damaged");
    }

    #[test]
    fn a_damaged_decryption_never_passes(
        cases in proptest::collection::vec((0..3usize, damage(), 0..3usize, any::<Index>()), 600..601)
    ) {
        let stage = Stage::with_signers(3, 3, 2);
        let context = extra_data(1, &[7]);
        let epoch = extra_data(2, &[7, 8]);
        let mut tried = 0;
        for (part, damage, form, which) in cases {
            let good = decryption(&stage, [[].as_slice(), &context, &epoch][form]);
            let mut bad = good.clone();
            match part {
                0 => {
                    let at = which.index(bad.handles.len());
                    let bytes = damaged(bad.handles[at].as_slice(), &damage);
                    bad.handles[at] = B256::right_padding_from(&bytes[..bytes.len().min(32)]);
                }
                1 => bad.values = damaged(&bad.values, &damage),
                _ => bad.proof = damaged(&bad.proof, &damage),
            }
            prop_assert!(is_accepted(&stage, &good));
            if (&good.handles, &good.values, &good.proof) != (&bad.handles, &bad.values, &bad.proof) {
                tried += 1;
                prop_assert!(!is_accepted(&stage, &bad), "part {part}, {damage:?}");
            }
        }
        prop_assert!(tried > 300, "only {tried} cases were damaged");
    }
}
