//! Certificates of validators: what is signed, and what is refused. The digests and signatures were computed by another implementation (Keccak, EIP-712 and
//! secp256k1 from their specifications) with the secret keys 1, 2, 3 and 4.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use alloy_primitives::{Address, B256, address, b256, hex};
use cipherloom_primitives::quorum::{
    CommitCertificate, CommitSignature, ConsensusDomain, MAX_TOTAL_POWER, MAX_VALIDATORS, QuorumError, Validator, ValidatorSet, VoteKind,
};

const DOMAIN: ConsensusDomain = ConsensusDomain {
    chain_id: 31338,
    genesis_hash: B256::repeat_byte(0x11),
};
const BLOCK: B256 = B256::repeat_byte(0x22);

const ADDRESSES: [Address; 4] = [
    address!("7e5f4552091a69125d5dfcb7b8c2659029395bdf"),
    address!("2b5ad5c4795c026514f8317c7a215e218dccd6cf"),
    address!("6813eb9362372eef6200f3b1dbc3f819671cba69"),
    address!("1eff47bc3a10a45d4b230b5d10e37751fe6aa718"),
];

/// Precommits for the block at height 7 in round 2.
const SIGNATURES: [&str; 4] = [
    "601224f6f60509cf70af39383c24ce90a5ada8541ad98fc841b4d0f3211b1b3e5565c92b9f61d48c491e8846b503a627e79e025614ab82c42384ad7e72fd2db81c",
    "41aaea4fb4e6a8ad9f30e096f8799c881fcea5016a5ab093c6e4c0fbfdc8019200b0419128ed93754274904969dccea742bff353fd8b145abef99ff60b901ddd1c",
    "09e1af04e6b301590c02da6eefc97630429d516f41fedae0059838122f4decf51ed8171b678bed2220e7823c98ecc194debd1c9eaea6d33782ae8db61cb012191c",
    "a12a881a966e03c4b4ba98190eeaa83738626b580072983a278e4143bb424602273f57f2e6222b28bb6f5f43af3db95ccad6240de423bd705049a8e3eb7980651c",
];

fn set_with(powers: [u64; 4]) -> ValidatorSet {
    let members = ADDRESSES
        .into_iter()
        .zip(powers)
        .map(|(address, power)| Validator { address, power });
    ValidatorSet::new(members.collect()).unwrap()
}

fn signed_by(signers: &[usize]) -> CommitCertificate {
    let signature = |index: &usize| CommitSignature {
        validator: ADDRESSES[*index],
        signature: hex::decode_to_array(SIGNATURES[*index]).unwrap(),
    };
    CommitCertificate {
        height: 7,
        round: 2,
        block_hash: BLOCK,
        signatures: signers.iter().map(signature).collect(),
    }
}

#[test]
fn digests_are_those_of_another_implementation() {
    let vote = |kind, block| DOMAIN.vote_digest(kind, 7, 2, block);
    assert_eq!(
        vote(VoteKind::Prevote, Some(BLOCK)),
        b256!("3688696821d303e5c34c99c89d6eeb80f593dd7dabca36a52aa8dadf278d665f")
    );
    assert_eq!(
        vote(VoteKind::Prevote, None),
        b256!("1d11afa2958fc59c989e6e40e329a580f2452db2aa4ba1a3de621af5d549c90c")
    );
    assert_eq!(
        vote(VoteKind::Precommit, Some(BLOCK)),
        b256!("c7c2ed13914ef7c03f5c84b5f68bc78107ab446d1ce6dd628de8a65f47a73c26")
    );
    assert_eq!(
        DOMAIN.proposal_digest(7, 2, None, BLOCK),
        b256!("34034d2f2ebf5cf4b05f1599f10f6b7692c52d8ecef2cfac0583b63422069807")
    );
    assert_eq!(
        DOMAIN.proposal_digest(7, 2, Some(1), BLOCK),
        b256!("b85818c7a6f3c40fa851def440fe7bdcacae2703422521961df06dcbc26ea40c")
    );
    // Proposed before in round 0 is not the same as never proposed before.
    assert_ne!(
        DOMAIN.proposal_digest(7, 2, Some(0), BLOCK),
        DOMAIN.proposal_digest(7, 2, None, BLOCK)
    );
    assert_eq!(
        set_with([11, 12, 13, 14]).digest(),
        b256!("be3cbcdb86453d43b0178c739bc95168f37e63400f2aaf0ee22e2ed1dab41692")
    );
}

#[test]
fn more_than_two_thirds_of_the_power_are_enough_and_two_thirds_are_not() {
    assert_eq!(signed_by(&[0, 1, 2]).check(&DOMAIN, &set_with([1; 4])), Ok(()));
    assert_eq!(signed_by(&[3, 2, 1, 0]).check(&DOMAIN, &set_with([1; 4])), Ok(()));
    let exactly_two_thirds = set_with([2, 2, 1, 1]);
    assert_eq!(
        signed_by(&[0, 1]).check(&DOMAIN, &exactly_two_thirds),
        Err(QuorumError::NotEnough { power: 4, total: 6 })
    );
    assert_eq!(signed_by(&[0, 1, 2]).check(&DOMAIN, &exactly_two_thirds), Ok(()));
    // Power counts, not heads.
    assert_eq!(signed_by(&[3]).check(&DOMAIN, &set_with([1, 1, 1, 7])), Ok(()));
    assert!(signed_by(&[0, 1, 2]).check(&DOMAIN, &set_with([1, 1, 1, 7])).is_err());
    assert!(signed_by(&[]).check(&DOMAIN, &set_with([1; 4])).is_err());
}

#[test]
fn a_certificate_is_of_one_chain_height_round_and_block() {
    let set = set_with([1; 4]);
    let refused = |certificate: &CommitCertificate, domain: &ConsensusDomain| {
        assert!(matches!(certificate.check(domain, &set), Err(QuorumError::WrongSignature(_))));
    };
    let good = signed_by(&[0, 1, 2]);
    refused(&CommitCertificate { height: 8, ..good.clone() }, &DOMAIN);
    refused(&CommitCertificate { round: 3, ..good.clone() }, &DOMAIN);
    let block_hash = B256::repeat_byte(0x23);
    refused(
        &CommitCertificate {
            block_hash,
            ..good.clone()
        },
        &DOMAIN,
    );
    refused(&good, &ConsensusDomain { chain_id: 1, ..DOMAIN });
    let genesis_hash = B256::repeat_byte(0x12);
    refused(&good, &ConsensusDomain { genesis_hash, ..DOMAIN });
    let no_block = CommitCertificate {
        block_hash: B256::ZERO,
        ..good
    };
    assert_eq!(no_block.check(&DOMAIN, &set), Err(QuorumError::NoBlock));
}

#[test]
fn one_signature_that_does_not_count_refuses_all() {
    let set = set_with([1; 4]);
    assert_eq!(
        signed_by(&[0, 1, 2, 0]).check(&DOMAIN, &set),
        Err(QuorumError::SignedTwice(ADDRESSES[0]))
    );
    // Three are enough; the fourth is somebody else's signature under a member's name.
    let mut certificate = signed_by(&[0, 1, 2, 3]);
    certificate.signatures[3].signature = certificate.signatures[0].signature;
    assert_eq!(certificate.check(&DOMAIN, &set), Err(QuorumError::WrongSignature(ADDRESSES[3])));
    let of_three = ValidatorSet::new(set.iter().filter(|member| member.address != ADDRESSES[3]).copied().collect()).unwrap();
    assert_eq!(
        signed_by(&[0, 1, 2, 3]).check(&DOMAIN, &of_three),
        Err(QuorumError::NotAValidator(ADDRESSES[3]))
    );
    // The same signature with s in the upper half is a second form of it, which nobody accepts.
    let mut certificate = signed_by(&[0, 1, 2]);
    certificate.signatures[0].signature[64] ^= 1;
    assert!(certificate.check(&DOMAIN, &set).is_err());
}

#[test]
fn sets_have_one_form() {
    let sorted = set_with([1, 2, 3, 4]);
    let reversed = ValidatorSet::new(sorted.iter().rev().copied().collect()).unwrap();
    assert_eq!(sorted, reversed);
    assert_eq!(sorted.digest(), reversed.digest());
    assert!(sorted.iter().is_sorted_by_key(|member| member.address));
    assert_eq!(sorted.power_of(&ADDRESSES[2]), Some(3));
    assert_eq!(sorted.power_of(&Address::ZERO), None);
    assert_eq!(ValidatorSet::decode(&sorted.encode()), Ok(sorted.clone()));
    let mut swapped = sorted.encode();
    swapped.rotate_left(28);
    assert_eq!(ValidatorSet::decode(&swapped), Err(QuorumError::Malformed("order")));
    assert!(ValidatorSet::decode(&sorted.encode()[1..]).is_err());
    // Power moved from one to another is another set.
    assert_ne!(sorted.digest(), set_with([2, 1, 3, 4]).digest());
}

#[test]
fn sets_that_cannot_agree_are_refused() {
    let member = |index: usize, power| Validator {
        address: Address::left_padding_from(&index.to_be_bytes()),
        power,
    };
    assert_eq!(ValidatorSet::new(vec![]), Err(QuorumError::NoValidators));
    assert_eq!(ValidatorSet::new(vec![member(0, 1)]), Err(QuorumError::ZeroAddress));
    assert_eq!(ValidatorSet::new(vec![member(1, 0)]), Err(QuorumError::Power));
    assert_eq!(
        ValidatorSet::new(vec![member(1, 1), member(2, 1), member(1, 2)]),
        Err(QuorumError::DuplicateValidator(member(1, 1).address))
    );
    assert!(ValidatorSet::new(vec![member(1, MAX_TOTAL_POWER)]).is_ok());
    assert_eq!(
        ValidatorSet::new(vec![member(1, MAX_TOTAL_POWER), member(2, 1)]),
        Err(QuorumError::Power)
    );
    assert_eq!(
        ValidatorSet::new(vec![member(1, u64::MAX), member(2, u64::MAX)]),
        Err(QuorumError::Power)
    );
    let many = |count: usize| ValidatorSet::new((1..=count).map(|index| member(index, 1)).collect());
    assert!(many(MAX_VALIDATORS).is_ok());
    assert_eq!(many(MAX_VALIDATORS + 1), Err(QuorumError::TooManyValidators(MAX_VALIDATORS + 1)));
}

#[test]
fn bytes_of_certificates_survive_and_have_a_limit() {
    let certificate = signed_by(&[0, 1, 2]);
    let bytes = certificate.encode();
    assert_eq!(CommitCertificate::decode(&bytes), Ok(certificate.clone()));
    for length in 0..bytes.len() {
        let cut = CommitCertificate::decode(&bytes[..length]);
        assert!(cut.is_err() || cut.unwrap().signatures.len() < 3, "cut to {length} bytes");
    }
    let flood = [&bytes[..44], &vec![0; 85 * (MAX_VALIDATORS + 1)]].concat();
    assert_eq!(
        CommitCertificate::decode(&flood),
        Err(QuorumError::TooManyValidators(MAX_VALIDATORS + 1))
    );
}

#[test]
fn json_has_plain_numbers_and_hexadecimal_bytes() {
    let text = serde_json::to_string(&signed_by(&[0])).unwrap();
    assert!(text.starts_with(r#"{"height":7,"round":2,"blockHash":"0x2222"#), "{text}");
    assert!(text.contains(&format!("\"signature\":\"0x{}\"", SIGNATURES[0])), "{text}");
    assert_eq!(serde_json::from_str::<CommitCertificate>(&text).unwrap(), signed_by(&[0]));
    let set = set_with([1, 2, 3, 4]);
    let text = serde_json::to_string(&set).unwrap();
    assert_eq!(serde_json::from_str::<ValidatorSet>(&text).unwrap(), set);
    let twice = text.replace(&format!("{:#x}", ADDRESSES[0]), &format!("{:#x}", ADDRESSES[1]));
    assert!(serde_json::from_str::<ValidatorSet>(&twice).is_err());
}
