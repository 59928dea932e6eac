//! What is written is read again, and whatever peers send is read or refused.

use proptest::prelude::*;

use super::*;

fn hash() -> impl Strategy<Value = B256> {
    any::<[u8; 32]>().prop_filter_map("the hash of zeros names nothing", |bytes| {
        bytes.iter().any(|byte| *byte != 0).then_some(B256::new(bytes))
    })
}

fn signature() -> impl Strategy<Value = Signature> {
    proptest::collection::vec(any::<u8>(), 65).prop_map(|bytes| Signature(bytes.try_into().unwrap()))
}

fn name() -> impl Strategy<Value = Name> {
    any::<[u8; 20]>().prop_map(|bytes| Name(bytes.into()))
}

fn value() -> impl Strategy<Value = NilOrVal<BlockHash>> {
    proptest::option::of(hash()).prop_map(|hash| hash.map_or(NilOrVal::Nil, |hash| NilOrVal::Val(BlockHash(hash))))
}

fn kind() -> impl Strategy<Value = VoteType> {
    prop_oneof![Just(VoteType::Prevote), Just(VoteType::Precommit)]
}

fn place() -> impl Strategy<Value = (Height, Round)> {
    (0..=MAX_HEIGHT, 0..=MAX_ROUND).prop_map(|(height, round)| (Height(height), Round::new(round)))
}

fn vote() -> impl Strategy<Value = Message> {
    (kind(), place(), value(), name(), signature()).prop_map(|(kind, (height, round), value, validator, signature)| {
        let vote = Vote {
            kind,
            height,
            round,
            value,
            validator,
        };
        Message::Vote(SignedMessage::new(vote, signature))
    })
}

fn proposal() -> impl Strategy<Value = Message> {
    let valid_round = proptest::option::of(0..=MAX_ROUND).prop_map(|round| round.map_or(Round::Nil, Round::new));
    (place(), valid_round, hash(), name(), signature()).prop_map(|((height, round), valid_round, hash, validator, signature)| {
        let proposal = Proposal {
            height,
            round,
            valid_round,
            value: BlockHash(hash),
            validator,
        };
        Message::Proposal(SignedMessage::new(proposal, signature))
    })
}

fn polka(most: usize) -> impl Strategy<Value = Message> {
    let prevotes = proptest::collection::vec(
        (name(), signature()).prop_map(|(name, signature)| PolkaSignature::new(name, signature)),
        0..=most,
    );
    (place(), hash(), prevotes).prop_map(|((height, round), hash, polka_signatures)| {
        Message::Polka(PolkaCertificate {
            height,
            round,
            value_id: BlockHash(hash),
            polka_signatures,
        })
    })
}

fn round_certificate() -> impl Strategy<Value = Message> {
    let vote = (kind(), value(), name(), signature());
    let votes = proptest::collection::vec(
        vote.prop_map(|(kind, value, name, signature)| RoundSignature::new(kind, value, name, signature)),
        0..8,
    );
    (place(), any::<bool>(), votes).prop_map(|((height, round), skip, round_signatures)| {
        let cert_type = if skip {
            RoundCertificateType::Skip
        } else {
            RoundCertificateType::Precommit
        };
        Message::RoundCertificate(RoundCertificate {
            height,
            round,
            cert_type,
            round_signatures,
        })
    })
}

fn working() -> impl Strategy<Value = Message> {
    (0..=MAX_HEIGHT, 0..=MAX_ROUND, signature())
        .prop_map(|(height, round, signature)| Message::Working(Working { height, round, signature }))
}

proptest! {
    #[test]
    fn messages_are_read_as_they_were_written(
        message in prop_oneof![vote(), proposal(), polka(8), round_certificate(), working()],
        repetition in any::<u64>(),
    ) {
        prop_assert_eq!(Message::decode(&message.encode(repetition)), Ok(message));
    }

    #[test]
    fn whatever_peers_send_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        // What can be read can be written, and is the same again.
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode(1)), Ok(message));
        }
        if let Ok(block) = SignedBlock::decode(bytes.clone().into()) {
            prop_assert_eq!(SignedBlock::decode(block.encode()), Ok(block));
        }
        if let Ok(question) = Question::decode(&bytes) {
            prop_assert_eq!(Question::decode(&question.encode()), Ok(question));
        }
        if let Ok(answer) = Answer::decode(bytes.clone().into()) {
            prop_assert_eq!(Answer::decode(answer.clone().encode()), Ok(answer));
        }
        if let Ok((height, hash)) = decode_status(&bytes) {
            prop_assert_eq!(decode_status(&encode_status(height, hash)), Ok((height, hash)));
        }
    }
}

#[test]
fn certificates_of_more_votes_than_there_may_be_validators_are_refused() {
    let with = |votes: usize| {
        let signed = PolkaSignature::new(Name(Address::ZERO), Signature([0; 65]));
        let polka = PolkaCertificate {
            height: Height(1),
            round: Round::new(0),
            value_id: BlockHash(B256::repeat_byte(1)),
            polka_signatures: vec![signed; votes],
        };
        Message::decode(&Message::Polka(polka).encode(0))
    };
    assert!(with(MAX_VALIDATORS).is_ok());
    assert_eq!(with(MAX_VALIDATORS + 4), Err(Malformed("too many parts")));
}

#[test]
fn rounds_and_heights_that_cannot_be_reached_and_blocks_without_a_hash_are_refused() {
    let working = |height, round| {
        let signature = Signature([0; 65]);
        Message::decode(&Message::Working(Working { height, round, signature }).encode(0))
    };
    assert!(working(MAX_HEIGHT, MAX_ROUND).is_ok());
    assert!(working(MAX_HEIGHT + 1, 0).is_err());
    assert!(working(1, MAX_ROUND + 1).is_err());
    assert!(decode_status(&encode_status(1, B256::ZERO)).is_err());
    let question = |count| Question::decode(&Question::Decided { from: 1, count }.encode());
    assert!(question(MAX_RANGE).is_ok());
    assert!(question(0).is_err() && question(MAX_RANGE + 1).is_err());
}
