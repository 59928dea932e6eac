//! Ciphertexts in their packed form, values of lists expanded one by one, and re-randomisation.

use cipherloom_fhe::{Ciphertext, FheError, form_of};
use cipherloom_primitives::{B256, CiphertextForm, FheType, Operand, Operation, TypedOperation, U256};

use crate::fixture::{Fixture, TOY, both, values};

/// An encrypted value of every type, with its plaintext.
fn expanded(fixture: &Fixture) -> Vec<(Ciphertext, U256)> {
    let expanded = fixture.backend.expand_input(&fixture.list).unwrap();
    expanded.into_iter().zip(values().into_iter().map(|(_, value)| value)).collect()
}

fn decrypted(fixture: &Fixture, value: &Ciphertext) -> U256 {
    let raw = fixture.backend.serialize(value).unwrap();
    assert_eq!(form_of(&raw), Some(CiphertextForm::Raw));
    fixture.decryptor.decrypt(value.fhe_type(), &raw).unwrap()
}

fn public(fixture: &Fixture, ty: FheType, value: U256) -> Ciphertext {
    fixture
        .backend
        .evaluate(&TypedOperation::TrivialEncrypt { value, ty }, &[])
        .unwrap()
}

#[test]
fn packed_values_decrypt_to_their_plaintext_packed_and_unpacked() {
    for fixture in both() {
        for (value, plaintext) in expanded(fixture) {
            let ty = value.fhe_type();
            let packed = fixture.backend.pack(&value).unwrap();
            assert_eq!(form_of(&packed), Some(CiphertextForm::Packed));
            assert_eq!(
                fixture.decryptor.decrypt(ty, &packed).unwrap(),
                plaintext,
                "{} {ty} packed",
                fixture.name
            );
            let unpacked = fixture.backend.unpack(ty, &packed).unwrap();
            assert_eq!(decrypted(fixture, &unpacked), plaintext, "{} {ty} unpacked", fixture.name);
        }
    }
}

#[test]
fn packing_and_unpacking_give_the_same_bytes_every_time() {
    for fixture in both() {
        for (value, _) in expanded(fixture) {
            let ty = value.fhe_type();
            let packed = fixture.backend.pack(&value).unwrap();
            let stored = fixture.backend.serialize(&value).unwrap();
            let read_back = fixture.backend.deserialize(ty, &stored).unwrap();
            assert!(fixture.backend.pack(&read_back).unwrap() == packed, "{} {ty}", fixture.name);
            let unpack = || fixture.backend.serialize(&fixture.backend.unpack(ty, &packed).unwrap()).unwrap();
            assert!(unpack() == unpack(), "{} {ty}", fixture.name);
        }
    }
}

#[test]
fn unpacked_values_can_be_packed_again_and_computed_with() {
    for fixture in both() {
        let (value, plaintext) = expanded(fixture).swap_remove(1);
        assert_eq!(value.fhe_type(), FheType::Uint8);
        let round_trip = |value: &Ciphertext| {
            fixture
                .backend
                .unpack(FheType::Uint8, &fixture.backend.pack(value).unwrap())
                .unwrap()
        };
        let twice = round_trip(&round_trip(&value));
        let add = TypedOperation::Binary {
            operation: Operation::Add,
            ty: FheType::Uint8,
            rhs: Operand::Encrypted,
        };
        let sum = fixture.backend.evaluate(&add, &[&twice, &value]).unwrap();
        let expected = FheType::Uint8.truncate(plaintext + plaintext);
        assert_eq!(decrypted(fixture, &sum), expected, "{}", fixture.name);
    }
}

#[test]
fn packed_sizes_follow_from_the_type() {
    for (value, _) in expanded(&TOY) {
        let blocks = value.fhe_type().bits().div_ceil(2) as usize;
        let packed = TOY.backend.pack(&value).unwrap();
        // A byte per block, then 128 coefficients of the mask and one per block of the body, of 9 bits each.
        assert_eq!(packed.len(), 16 + blocks + ((128 + blocks) * 9).div_ceil(8), "{}", value.fhe_type());
    }
}

#[test]
fn public_values_stay_public() {
    for (ty, plaintext) in values() {
        let value = public(&TOY, ty, plaintext);
        let packed = TOY.backend.pack(&value).unwrap();
        assert_eq!(packed.len(), 16 + ty.bits().div_ceil(2) as usize, "{ty}: nothing is encrypted");
        assert_eq!(TOY.decryptor.decrypt(ty, &packed).unwrap(), plaintext, "{ty}");
        let mut unpacked = TOY.backend.unpack(ty, &packed).unwrap();
        let bytes = TOY.backend.serialize(&unpacked).unwrap();
        assert_eq!(TOY.decryptor.decrypt(ty, &bytes).unwrap(), plaintext, "{ty}");
        TOY.backend.rerandomise(&mut unpacked, &B256::repeat_byte(1)).unwrap();
        assert!(TOY.backend.serialize(&unpacked).unwrap() == bytes, "{ty} was randomised");
        let blocks = TOY.backend.blocks().unwrap().split(&unpacked).unwrap();
        assert!(blocks.iter().all(|block| block.public_value().is_some()), "{ty}");
    }
}

#[test]
fn values_with_public_and_secret_blocks_keep_both_kinds() {
    let (value, plaintext) = expanded(&TOY).swap_remove(1);
    let cast = TypedOperation::Cast {
        from: FheType::Uint8,
        to: FheType::Uint32,
    };
    let mut wide = TOY.backend.evaluate(&cast, &[&value]).unwrap();
    let packed = TOY.backend.pack(&wide).unwrap();
    // Four of its sixteen blocks are secret.
    assert_eq!(packed.len(), 16 + 16 + ((128 + 4) * 9usize).div_ceil(8));
    assert_eq!(TOY.decryptor.decrypt(FheType::Uint32, &packed).unwrap(), plaintext);
    TOY.backend.rerandomise(&mut wide, &B256::repeat_byte(1)).unwrap();
    let unpacked = TOY.backend.unpack(FheType::Uint32, &packed).unwrap();
    for value in [wide, unpacked] {
        assert_eq!(decrypted(&TOY, &value), plaintext);
        let blocks = TOY.backend.blocks().unwrap().split(&value).unwrap();
        let public: Vec<bool> = blocks.iter().map(|block| block.public_value().is_some()).collect();
        assert_eq!(public, [[false; 4], [true; 4], [true; 4], [true; 4]].concat());
    }
}

#[test]
fn damaged_packed_bytes_are_refused() {
    let refused = |fixture: &Fixture, ty, bytes: &[u8], what: &str| {
        for result in [
            fixture.backend.unpack(ty, bytes).map(|_| ()),
            fixture.decryptor.decrypt(ty, bytes).map(|_| ()),
        ] {
            assert!(
                matches!(result, Err(FheError::MalformedCiphertext { .. })),
                "{} {ty} {what}: {result:?}",
                fixture.name
            );
        }
    };
    for fixture in both() {
        for (value, _) in expanded(fixture) {
            let ty = value.fhe_type();
            let packed = fixture.backend.pack(&value).unwrap();
            for at in (0..16).filter(|at| *at != 7) {
                let mut bad = packed.clone();
                bad[at] ^= 1;
                refused(fixture, ty, &bad, &format!("header byte {at}"));
            }
            refused(fixture, ty, &packed[..packed.len() - 1], "cut");
            refused(fixture, ty, &packed[..20.min(packed.len() - 1)], "cut in the blocks");
            refused(fixture, ty, &[&packed[..], &[0]].concat(), "extended");
            let raw = fixture.backend.serialize(&value).unwrap();
            assert!(fixture.backend.unpack(ty, &raw).is_err() && fixture.backend.deserialize(ty, &packed).is_err());
        }
    }
    for (value, _) in expanded(&TOY) {
        let ty = value.fhe_type();
        let packed = TOY.backend.pack(&value).unwrap();
        let mut bad = packed.clone();
        bad[16] = if ty == FheType::Bool { 2 } else { 4 };
        refused(&TOY, ty, &bad, "a digit that is none");
        bad[16] = 0;
        refused(&TOY, ty, &bad, "more coefficients than secret blocks");
        let spare = (128 + ty.bits().div_ceil(2) as usize) * 9 % 8;
        if spare != 0 {
            let mut bad = packed.clone();
            *bad.last_mut().unwrap() |= 0x80;
            refused(&TOY, ty, &bad, "bits after the last coefficient");
        }
    }
}

#[test]
fn values_are_expanded_one_by_one_to_the_same_bytes() {
    for fixture in both() {
        let all: Vec<_> = expanded(fixture)
            .iter()
            .map(|(value, _)| fixture.backend.serialize(value).unwrap())
            .collect();
        let positions = [3, 0, 7, 3];
        let some = fixture.backend.expand_values(&fixture.list, &positions).unwrap();
        assert_eq!(some.len(), positions.len());
        for (value, position) in some.iter().zip(positions) {
            let bytes = fixture.backend.serialize(value).unwrap();
            assert!(bytes == all[usize::from(position)], "{} value {position}", fixture.name);
        }
        assert!(fixture.backend.expand_values(&fixture.list, &[]).unwrap().is_empty());
        let beyond = fixture.backend.expand_values(&fixture.list, &[0, 8]).map(|_| ());
        assert!(matches!(beyond, Err(FheError::MalformedInput(_))), "{}: {beyond:?}", fixture.name);
    }
}

#[test]
fn randomised_values_have_other_bytes_for_every_seed_and_the_same_plaintext() {
    for (value, plaintext) in expanded(&TOY) {
        let ty = value.fhe_type();
        let randomised = |seed: u8| {
            let mut value = value.clone();
            TOY.backend.rerandomise(&mut value, &B256::repeat_byte(seed)).unwrap();
            assert_eq!(decrypted(&TOY, &value), plaintext, "{ty}");
            // Everything that is stored or computed with is checked for noise and carries here.
            TOY.backend.blocks().unwrap().split(&value).unwrap();
            TOY.backend.serialize(&value).unwrap()
        };
        assert!(randomised(1) == randomised(1), "{ty}");
        assert!(randomised(1) != randomised(2), "{ty}");
        assert!(randomised(1) != TOY.backend.serialize(&value).unwrap(), "{ty}");
    }
}

#[test]
fn the_clear_backend_has_nothing_to_randomise() {
    let fixture = both()[0];
    for (value, _) in expanded(fixture) {
        let mut randomised = value.clone();
        fixture.backend.rerandomise(&mut randomised, &B256::repeat_byte(1)).unwrap();
        assert_eq!(
            fixture.backend.serialize(&randomised).unwrap(),
            fixture.backend.serialize(&value).unwrap()
        );
        let mut foreign = expanded(&TOY).swap_remove(0).0;
        assert!(fixture.backend.rerandomise(&mut foreign, &B256::ZERO).is_err());
    }
}
