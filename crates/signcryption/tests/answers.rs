//! Answers that open, and answers that must not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod support;

use cipherloom_primitives::{Address, FheType, Handle, U256, decryption::UserDecryptionShare};
use cipherloom_signcryption::{
    AnswerContext, Randomness, SigncryptionError, UserKeypair, UserPublicKey, node_address, open, seal, sign_digest,
    wire::{MAX_VALUES, Payload, Sealed},
};
use proptest::prelude::*;
use support::{context, domains, fixed_randomness, handle, node_key, user_keys, values};

fn handles(values: &[(Handle, U256)]) -> Vec<Handle> {
    values.iter().map(|(handle, _)| *handle).collect()
}

/// Changes the payload and signs it again, as a node that deviates would.
fn resign(context: &AnswerContext<'_>, handles: &[Handle], share: &UserDecryptionShare, payload: &Payload) -> UserDecryptionShare {
    let bytes = payload.to_bytes();
    let digest = context
        .domains
        .user_decryption_answer_digest(context.public_key.blob(), handles, &bytes, context.extra_data);
    UserDecryptionShare {
        payload: bytes.into(),
        signature: sign_digest(&node_key(), digest).unwrap().to_vec().into(),
        extra_data: share.extra_data.clone(),
    }
}

#[test]
fn values_of_every_type_come_back() {
    let (domains, keys, values) = (domains(), user_keys(), values());
    let context = context(&domains, &keys);
    let share = seal(&context, &values, &node_key(), Randomness::generate).unwrap();
    let opened = open(&context, &handles(&values), &share, &keys, node_address(&node_key())).unwrap();
    assert_eq!(opened, values.iter().map(|(_, value)| *value).collect::<Vec<_>>());
}

#[test]
fn plaintexts_are_padded_to_their_type_so_that_lengths_tell_nothing() {
    let (domains, keys) = (domains(), user_keys());
    let context = context(&domains, &keys);
    for ty in FheType::ALL {
        let length = |value| {
            seal(&context, &[(handle(1, ty), value)], &node_key(), Randomness::generate)
                .unwrap()
                .payload
                .len()
        };
        assert_eq!(length(U256::ZERO), length(ty.max_value()), "{ty}");
    }
}

#[test]
fn randomness_is_drawn_anew_for_every_value_and_answer() {
    let (domains, keys) = (domains(), user_keys());
    let context = context(&domains, &keys);
    let value = (handle(1, FheType::Uint8), U256::ONE);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..2 {
        let share = seal(&context, &[value, value], &node_key(), Randomness::generate).unwrap();
        for item in Payload::from_bytes(&share.payload).unwrap().values {
            assert!(seen.insert(item.sealed));
        }
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn another_key_user_node_handle_order_or_domain_is_refused() {
    let (domains, keys, values) = (domains(), user_keys(), values());
    let context = context(&domains, &keys);
    let node = node_address(&node_key());
    let asked = handles(&values);
    let share = seal(&context, &values, &node_key(), Randomness::generate).unwrap();
    let refused =
        |context: &AnswerContext<'_>, asked: &[Handle], keys: &UserKeypair, node| open(context, asked, &share, keys, node).unwrap_err();

    assert!(matches!(
        refused(&context, &asked, &keys, Address::ZERO),
        SigncryptionError::WrongSigner { .. }
    ));
    let mut swapped = asked.clone();
    swapped.swap(0, 1);
    assert!(matches!(
        refused(&context, &swapped, &keys, node),
        SigncryptionError::WrongSigner { .. }
    ));
    assert!(matches!(
        refused(&context, &asked[1..], &keys, node),
        SigncryptionError::WrongSigner { .. }
    ));
    let other_user = AnswerContext {
        user: Address::repeat_byte(9),
        ..context
    };
    assert_eq!(refused(&other_user, &asked, &keys, node), SigncryptionError::WrongRequest);
    let other_domain = cipherloom_primitives::eip712::SigningDomains {
        gateway_chain_id: 1,
        ..domains
    };
    let other_domain = AnswerContext {
        domains: &other_domain,
        ..context
    };
    assert!(matches!(
        refused(&other_domain, &asked, &keys, node),
        SigncryptionError::WrongSigner { .. }
    ));
    let other_extra = AnswerContext {
        extra_data: &[1],
        ..context
    };
    assert_eq!(refused(&other_extra, &asked, &keys, node), SigncryptionError::ExtraData);
    let other_keys = UserKeypair::from_seed([0x18; 64].into());
    assert_eq!(
        refused(&context, &asked, &other_keys, node),
        SigncryptionError::Undecryptable(asked[0])
    );
}

#[test]
fn a_lone_zero_byte_and_empty_extra_data_are_signed_alike() {
    let (domains, keys) = (domains(), user_keys());
    let zero = context(&domains, &keys);
    let empty = AnswerContext { extra_data: &[], ..zero };
    let value = [(handle(1, FheType::Bool), U256::ONE)];
    let share = seal(&zero, &value, &node_key(), fixed_randomness()).unwrap();
    let other = seal(&empty, &value, &node_key(), fixed_randomness()).unwrap();
    assert_eq!((&share.signature, &share.payload), (&other.signature, &other.payload));
    assert_eq!(
        (share.extra_data.as_ref(), other.extra_data.as_ref()),
        ([0].as_slice(), [].as_slice())
    );
}

/// Inner checks matter when the outer signature holds: a node that signs anything must still not be able to move values.
#[test]
fn values_cannot_be_moved_between_handles_requests_and_users() {
    let (domains, keys) = (domains(), user_keys());
    let context = context(&domains, &keys);
    let node = node_address(&node_key());
    let first = [
        (handle(1, FheType::Uint8), U256::from(1)),
        (handle(2, FheType::Uint8), U256::from(2)),
    ];
    let share = seal(&context, &first, &node_key(), Randomness::generate).unwrap();
    let asked = handles(&first);

    let other = [
        (handle(3, FheType::Uint8), U256::from(3)),
        (handle(4, FheType::Uint8), U256::from(4)),
    ];
    let other = seal(&context, &other, &node_key(), Randomness::generate).unwrap();
    let mut payload = Payload::from_bytes(&share.payload).unwrap();
    payload.values[0].sealed = Payload::from_bytes(&other.payload).unwrap().values[0].sealed.clone();
    let moved = resign(&context, &asked, &share, &payload);
    assert_eq!(
        open(&context, &asked, &moved, &keys, node).unwrap_err(),
        SigncryptionError::InnerCheck {
            handle: asked[0],
            what: "the request"
        }
    );

    let stranger = AnswerContext {
        user: Address::repeat_byte(9),
        ..context
    };
    let foreign = seal(&stranger, &first, &node_key(), Randomness::generate).unwrap();
    let mut payload = Payload::from_bytes(&share.payload).unwrap();
    payload.values = Payload::from_bytes(&foreign.payload).unwrap().values;
    let moved = resign(&context, &asked, &share, &payload);
    assert_eq!(
        open(&context, &asked, &moved, &keys, node).unwrap_err(),
        SigncryptionError::InnerCheck {
            handle: asked[0],
            what: "the node's signature"
        }
    );

    let mut payload = Payload::from_bytes(&share.payload).unwrap();
    payload.values[0].handle = payload.values[1].handle;
    let relabelled = resign(&context, &asked, &share, &payload);
    assert_eq!(
        open(&context, &asked, &relabelled, &keys, node).unwrap_err(),
        SigncryptionError::WrongRequest
    );
    let mut payload = Payload::from_bytes(&share.payload).unwrap();
    payload.values[0].fhe_type = 5;
    let retyped = resign(&context, &asked, &share, &payload);
    assert_eq!(
        open(&context, &asked, &retyped, &keys, node).unwrap_err(),
        SigncryptionError::WrongRequest
    );
    let mut payload = Payload::from_bytes(&share.payload).unwrap();
    payload.link.0[0] ^= 1;
    let relinked = resign(&context, &asked, &share, &payload);
    assert_eq!(
        open(&context, &asked, &relinked, &keys, node).unwrap_err(),
        SigncryptionError::WrongRequest
    );
}

#[test]
fn what_does_not_fit_is_not_sealed() {
    let (domains, keys) = (domains(), user_keys());
    let context = context(&domains, &keys);
    let bool_handle = handle(1, FheType::Bool);
    assert_eq!(
        seal(&context, &[(bool_handle, U256::from(2))], &node_key(), Randomness::generate).unwrap_err(),
        SigncryptionError::ValueOutOfRange(bool_handle)
    );
    let many = vec![(bool_handle, U256::ONE); MAX_VALUES + 1];
    assert_eq!(
        seal(&context, &many, &node_key(), Randomness::generate).unwrap_err(),
        SigncryptionError::TooManyValues {
            max: MAX_VALUES,
            found: MAX_VALUES + 1
        }
    );
}

#[test]
fn a_full_request_of_booleans_fits_into_an_answer() {
    let (domains, keys) = (domains(), user_keys());
    let context = context(&domains, &keys);
    let values: Vec<_> = (0..MAX_VALUES)
        .map(|i| (handle(u8::try_from(i % 251).unwrap(), FheType::Bool), U256::from(i % 2)))
        .collect();
    let share = seal(&context, &values, &node_key(), Randomness::generate).unwrap();
    let opened = open(&context, &handles(&values), &share, &keys, node_address(&node_key())).unwrap();
    assert!(opened.iter().zip(&values).all(|(opened, (_, value))| opened == value));
}

#[test]
fn every_single_bit_flip_of_an_answer_is_noticed() {
    let (domains, keys) = (domains(), user_keys());
    let context = context(&domains, &keys);
    let node = node_address(&node_key());
    let value = [(handle(1, FheType::Uint64), U256::from(7))];
    let asked = handles(&value);
    let share = seal(&context, &value, &node_key(), fixed_randomness()).unwrap();
    for position in 0..share.payload.len() {
        let mut bytes = share.payload.to_vec();
        bytes[position] ^= 1 << (position % 8);
        let flipped = UserDecryptionShare {
            payload: bytes.clone().into(),
            ..share.clone()
        };
        assert!(open(&context, &asked, &flipped, &keys, node).is_err(), "payload byte {position}");
        // Signed again, so that the checks behind the signature see it. Party id and degree (the last 8 bytes), and the packing
        // factor before them, mean nothing for a single node.
        let Ok(payload) = Payload::from_bytes(&bytes) else { continue };
        let resigned = resign(&context, &asked, &share, &payload);
        let harmless = position >= share.payload.len() - 12;
        assert_eq!(
            open(&context, &asked, &resigned, &keys, node).is_ok(),
            harmless,
            "re-signed payload byte {position}"
        );
    }
    for position in 0..65 {
        let mut bytes = share.signature.to_vec();
        bytes[position] ^= 1;
        let flipped = UserDecryptionShare {
            signature: bytes.into(),
            ..share.clone()
        };
        assert!(open(&context, &asked, &flipped, &keys, node).is_err(), "signature byte {position}");
    }
}

proptest! {
    #[test]
    fn decoders_never_panic_and_read_back_only_what_they_would_write(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        if let Ok(payload) = Payload::from_bytes(&bytes) {
            prop_assert_eq!(payload.to_bytes(), bytes.clone());
        }
        if let Ok(sealed) = Sealed::from_bytes(&bytes) {
            prop_assert_eq!(sealed.to_bytes(), bytes.clone());
        }
        prop_assert!(UserPublicKey::from_blob(&bytes).is_err() || bytes.len() == 869);
    }

    #[test]
    fn truncated_and_spliced_payloads_are_refused(cut in 0usize..1200, junk in proptest::collection::vec(any::<u8>(), 0..64)) {
        let (domains, keys) = (domains(), user_keys());
        let context = context(&domains, &keys);
        let value = [(handle(1, FheType::Uint64), U256::from(7))];
        let share = seal(&context, &value, &node_key(), fixed_randomness()).unwrap();
        let cut = cut.min(share.payload.len());
        let spliced = [&share.payload[..cut], &junk].concat();
        prop_assume!(spliced != share.payload);
        if let Ok(payload) = Payload::from_bytes(&spliced) {
            prop_assert_eq!(payload.to_bytes(), spliced.clone());
        }
        let asked = [value[0].0];
        let answer = UserDecryptionShare { payload: spliced.into(), ..share };
        prop_assert!(open(&context, &asked, &answer, &keys, node_address(&node_key())).is_err());
    }
}
