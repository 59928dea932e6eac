//! What is admitted as an input list, and what is not.

use cipherloom_fhe::{FheError, ParameterSet, encryptor_for_key_set, encryptor_from_bytes, parameters_of_public_key};
use cipherloom_primitives::{
    Address, FheType, U256,
    input::{InputMetadata, MAX_INPUT_LIST_BYTES},
};

use crate::fixture::{CLEAR, Fixture, TOY, both, metadata, positions, values};

fn refusal(fixture: &Fixture, list: &[u8], metadata: &InputMetadata) -> Option<FheError> {
    let refused = fixture.backend.verify_input(list, metadata).err();
    // Whoever has nothing but the public key comes to the same verdict.
    let told = |error: &FheError| error.to_string();
    let publicly = fixture.encryptor.check(list, metadata).err();
    assert_eq!(publicly.as_ref().map(told), refused.as_ref().map(told), "{}", fixture.name);
    refused
}

#[test]
fn values_of_every_type_arrive() {
    for fixture in both() {
        assert_eq!(fixture.through_everything(&fixture.list, &metadata()), values(), "{}", fixture.name);
    }
}

#[test]
fn smallest_and_largest_values_arrive() {
    for fixture in both() {
        for values in [FheType::ALL.map(|ty| (ty, U256::ZERO)), FheType::ALL.map(|ty| (ty, ty.max_value()))] {
            let list = fixture.encryptor.encrypt(&values, &metadata()).unwrap();
            assert_eq!(fixture.through_everything(&list, &metadata()), values, "{}", fixture.name);
        }
    }
}

#[test]
fn full_lists_arrive() {
    for fixture in both() {
        // 255 values, and 2048 bits.
        let bits: Vec<_> = (0..255).map(|index| (FheType::Bool, U256::from(index % 3 % 2))).collect();
        let words: Vec<_> = (0..8).map(|index| (FheType::Uint256, U256::MAX - U256::from(index))).collect();
        for values in [bits, words] {
            let list = fixture.encryptor.encrypt(&values, &metadata()).unwrap();
            assert_eq!(fixture.through_everything(&list, &metadata()), values, "{}", fixture.name);
        }
    }
}

#[test]
fn the_types_of_a_list_are_told_whomever_it_is_for_and_of_no_other_bytes() {
    for fixture in both() {
        let other = InputMetadata {
            user: Address::repeat_byte(0x44),
            ..metadata()
        };
        for metadata in [metadata(), other] {
            let list = fixture.encryptor.encrypt(&values(), &metadata).unwrap();
            assert_eq!(fixture.backend.list_types(&list).unwrap(), FheType::ALL, "{}", fixture.name);
            let truncated = fixture.backend.list_types(&list[..list.len() - 1]);
            assert!(matches!(truncated, Err(FheError::MalformedInput(_))), "{truncated:?}");
        }
        let oversized = fixture.backend.list_types(&vec![0; MAX_INPUT_LIST_BYTES + 1]);
        assert!(matches!(oversized, Err(FheError::MalformedInput(_))), "{oversized:?}");
    }
}

#[test]
fn what_does_not_fit_a_list_is_not_encrypted() {
    for fixture in both() {
        let encrypt = |values: &[(FheType, U256)]| fixture.encryptor.encrypt(values, &metadata());
        assert!(matches!(encrypt(&[]), Err(FheError::MalformedInput(_))));
        assert!(matches!(
            encrypt(&vec![(FheType::Bool, U256::ZERO); 256]),
            Err(FheError::TooManyInputs { count: 256, bits: 512 })
        ));
        let too_wide = [vec![(FheType::Uint256, U256::ZERO); 8], vec![(FheType::Bool, U256::ZERO)]].concat();
        assert!(matches!(encrypt(&too_wide), Err(FheError::TooManyInputs { count: 9, bits: 2050 })));
        for ty in FheType::ALL.into_iter().filter(|ty| *ty != FheType::Uint256) {
            let value = ty.max_value() + U256::ONE;
            assert!(matches!(encrypt(&[(ty, value)]), Err(FheError::ValueOutOfRange { .. })), "{ty}");
        }
    }
}

#[test]
fn a_list_for_another_contract_user_chain_or_acl_is_refused() {
    let good = metadata();
    let other = Address::repeat_byte(0x44);
    let wrong = [
        InputMetadata { contract: other, ..good },
        InputMetadata { user: other, ..good },
        InputMetadata { acl: other, ..good },
        InputMetadata { chain_id: 1, ..good },
        InputMetadata {
            contract: good.user,
            user: good.contract,
            ..good
        },
    ];
    for fixture in both() {
        assert!(refusal(fixture, &fixture.list, &good).is_none());
        for metadata in wrong {
            let refused = refusal(fixture, &fixture.list, &metadata);
            assert!(
                matches!(refused, Some(FheError::InvalidProof)),
                "{}: {metadata:?}: {refused:?}",
                fixture.name
            );
        }
    }
}

#[test]
fn a_truncated_list_is_refused_at_every_length() {
    for fixture in both() {
        for length in positions(fixture.list.len(), 300, 7) {
            let refused = refusal(fixture, &fixture.list[..length], &metadata());
            assert!(
                matches!(refused, Some(FheError::MalformedInput(_))),
                "{}: {length} bytes: {refused:?}",
                fixture.name
            );
            assert!(
                fixture.backend.expand_input(&fixture.list[..length]).is_err(),
                "{}: {length} bytes",
                fixture.name
            );
        }
    }
}

#[test]
fn a_list_with_bytes_behind_it_is_refused() {
    for fixture in both() {
        for tail in [&[0][..], &[1; 17], &fixture.list] {
            let refused = refusal(fixture, &[&fixture.list, tail].concat(), &metadata());
            assert!(
                matches!(refused, Some(FheError::MalformedInput(_))),
                "{}: {refused:?}",
                fixture.name
            );
        }
    }
}

#[test]
fn a_list_with_one_flipped_bit_is_refused_wherever_it_is() {
    for fixture in both() {
        for at in positions(fixture.list.len(), 80, 151) {
            let bit = 1u8 << (at % 8);
            let mut list = fixture.list.clone();
            list[at] ^= bit;
            let refused = refusal(fixture, &list, &metadata());
            let typed = matches!(refused, Some(FheError::MalformedInput(_) | FheError::InvalidProof));
            assert!(typed, "{}: byte {at} of {} xor {bit:#x}: {refused:?}", fixture.name, list.len());
        }
    }
}

#[test]
fn an_oversized_list_is_refused_before_it_is_read() {
    for fixture in both() {
        let mut list = fixture.list.clone();
        list.resize(MAX_INPUT_LIST_BYTES + 1, 0);
        let refused = refusal(fixture, &list, &metadata());
        assert!(
            matches!(&refused, Some(FheError::MalformedInput(reason)) if reason.contains("at most")),
            "{refused:?}"
        );
    }
}

#[test]
fn nothing_and_noise_are_no_lists() {
    for fixture in both() {
        for bytes in [
            &[][..],
            &[0; 64],
            &[0xff; 4096],
            b"insecure-clear-list\x01",
            &CLEAR.keys.public_key(),
            &TOY.keys.public_key(),
        ] {
            assert!(
                matches!(refusal(fixture, bytes, &metadata()), Some(FheError::MalformedInput(_))),
                "{}",
                fixture.name
            );
        }
    }
}

#[test]
fn lists_of_one_backend_mean_nothing_to_the_other() {
    assert!(matches!(refusal(&CLEAR, &TOY.list, &metadata()), Some(FheError::MalformedInput(_))));
    assert!(matches!(refusal(&TOY, &CLEAR.list, &metadata()), Some(FheError::MalformedInput(_))));
}

#[test]
fn equal_values_make_different_lists() {
    for fixture in both() {
        let values = [(FheType::Uint8, U256::from(7))];
        let encrypt = || fixture.encryptor.encrypt(&values, &metadata()).unwrap();
        assert_ne!(encrypt(), encrypt(), "{}", fixture.name);
    }
}

#[test]
fn an_encryptor_is_made_from_what_a_gateway_serves() {
    for fixture in both() {
        let (public_key, crs) = (fixture.keys.public_key(), fixture.keys.crs());
        let values = [(FheType::Uint16, U256::from(0xbeef))];
        for encryptor in [
            encryptor_from_bytes(&public_key, &crs).unwrap(),
            encryptor_for_key_set(fixture.keys.manifest().id, &public_key, &crs).unwrap(),
        ] {
            let list = encryptor.encrypt(&values, &metadata()).unwrap();
            assert_eq!(fixture.through_everything(&list, &metadata()), values, "{}", fixture.name);
        }
    }
}

#[test]
fn key_material_of_two_key_sets_makes_no_encryptor() {
    let (clear, toy) = (&CLEAR.keys, &TOY.keys);
    for (id, public_key, crs) in [
        (clear.manifest().id, clear.public_key(), toy.crs()),
        (toy.manifest().id, toy.public_key(), clear.crs()),
        (toy.manifest().id, clear.public_key(), clear.crs()),
    ] {
        let refused = encryptor_for_key_set(id, &public_key, &crs).map(|_| ());
        assert!(matches!(refused, Err(FheError::KeyMaterial { .. })), "{refused:?}");
    }
    assert!(matches!(
        encryptor_from_bytes(&clear.public_key(), &toy.crs()),
        Err(FheError::KeyMaterial { .. })
    ));
    assert!(matches!(
        encryptor_from_bytes(&toy.public_key(), &clear.crs()),
        Err(FheError::KeyMaterial { .. })
    ));
}

/// Clients of all generations read version 0 of the last field, those since tfhe 1.6 also version 1.
#[test]
fn public_keys_are_written_for_the_oldest_clients_and_read_from_the_newest() {
    let mut public_key = TOY.keys.public_key().to_vec();
    let at = public_key.len() - 28;
    assert_eq!(public_key[at..at + 4], [0; 4]);
    public_key[at] = 1;
    encryptor_from_bytes(&public_key, &TOY.keys.crs()).unwrap();
    public_key[at] = 2;
    assert!(encryptor_from_bytes(&public_key, &TOY.keys.crs()).is_err());
}

#[test]
fn a_client_can_tell_an_insecure_public_key() {
    for (fixture, parameters) in [(&*CLEAR, ParameterSet::InsecureClear), (&*TOY, ParameterSet::InsecureToy)] {
        assert_eq!(parameters_of_public_key(&fixture.keys.public_key()).unwrap(), parameters);
        assert!(!parameters.is_secure());
    }
    assert!(ParameterSet::Production.is_secure());
    assert!(parameters_of_public_key(b"no key").is_err());
}
