//! Public decryption: what the parties sign, with missing, wrong and too many wrong ones.

use super::*;

#[tokio::test]
async fn every_party_signs_values_of_every_type() {
    for size in COMMITTEES {
        let stage = Stage::new(size);
        let values: Vec<U256> = FheType::ALL.into_iter().map(some_value).collect();
        let handles: Vec<Handle> = (1..)
            .zip(FheType::ALL)
            .map(|(tag, ty)| stage.readable(tag, ty, some_value(ty)))
            .collect();
        let request = stage.public_request(&handles);
        let bundles = stage.bundles(&request).await;
        for (index, bundle) in bundles.iter().enumerate() {
            assert_eq!(bundle.made_with, share_ref(&stage, index));
            assert_eq!(bundle.request_digest, request_digest(&request));
            assert_eq!(bundle.signer(), Some(node_address(&stage.keys[index])));
            let answer = stage.sign(index, &request, bundles.clone()).await.unwrap();
            stage.assert_signed(index, &request, &answer, &values);
            assert!(answer.faults.is_empty() && answer.refused.is_empty());
        }
        assert_eq!(stage.records(), vec![1; stage.nodes.len()], "one decryption, one record");
        assert!((0..stage.nodes.len()).all(|node| stage.raised(node).is_empty()));
    }
}

type Lie = fn(&mut Bundle);

/// What corrupt parties do with their bundle.
const LIES: [(&str, Lie); 6] = [
    ("a changed share", flip),
    ("a zero divisor", |bundle| change_partials(bundle, |bytes| bytes[50] ^= 0x80)),
    ("a share that is cut short", |bundle| {
        change_partials(bundle, |bytes| bytes.truncate(bytes.len() - 1))
    }),
    ("too few shares", |bundle| drop(bundle.partials.pop())),
    ("somebody else's number", |bundle| {
        change_partials(bundle, |bytes| bytes[1] = if bytes[1] == 1 { 2 } else { 1 });
    }),
    ("a share of another ciphertext", |bundle| {
        change_partials(bundle, |bytes| bytes[3] ^= 1)
    }),
];

#[tokio::test]
async fn up_to_the_threshold_may_be_wrong_or_missing_and_wrong_ones_are_named_with_proof() {
    for size in COMMITTEES {
        let stage = Stage::new(size);
        let (values, n, t) = ([U256::from(1), U256::from(77)], stage.nodes.len(), stage.threshold());
        let handles = [
            stage.readable(1, FheType::Bool, values[0]),
            stage.readable(2, FheType::Uint64, values[1]),
        ];
        let request = stage.public_request(&handles);
        let honest = stage.bundles(&request).await;
        for ((what, lie), signer) in LIES.into_iter().zip((0..n).cycle()) {
            for wrong in 0..=t {
                let missing = t - wrong;
                // The parties after the one that signs lie; those after them are silent.
                let place = |index: usize| (index + n - signer) % n;
                let lies = |index: usize| (1..=wrong).contains(&place(index));
                let bundles: Vec<Bundle> = honest
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| !(wrong + 1..=wrong + missing).contains(&place(*index)))
                    .map(|(index, bundle)| if lies(index) { stage.lie(bundle, lie) } else { bundle.clone() })
                    .collect();
                let answer = stage.sign(signer, &request, bundles).await.unwrap();
                stage.assert_signed(signer, &request, &answer, &values);
                let mut named: Vec<u32> = answer.faults.iter().map(|fault| fault.party).collect();
                named.sort_unstable();
                let liars: Vec<u32> = (1..)
                    .zip(0..n)
                    .filter(|(_, index)| lies(*index))
                    .map(|(number, _)| number)
                    .collect();
                assert_eq!(named, liars, "{what}: {wrong} wrong, {missing} missing");
                for fault in &answer.faults {
                    let by = fault.evidence[0].check(&stage.scope, request_digest(&request)).unwrap();
                    assert_eq!(u32::from(by.number()), fault.party, "what a liar signed convicts it");
                }
                assert!(answer.refused.is_empty());
            }
        }
        let alarms = (0..n)
            .flat_map(|node| stage.raised(node))
            .filter(|name| *name == "wrong_shares")
            .count();
        assert_eq!(alarms, LIES.len() * (1..=t).sum::<usize>(), "one alarm for each wrong bundle");
    }
}

#[tokio::test]
async fn more_wrong_or_missing_ones_than_the_threshold_get_nothing_signed() {
    for size in COMMITTEES {
        let stage = Stage::new(size);
        let handle = stage.readable(1, FheType::Uint64, U256::from(42));
        let request = stage.public_request(&[handle]);
        let honest = stage.bundles(&request).await;
        let t = stage.threshold();
        for (what, lie) in LIES {
            for wrong in 0..=t + 1 {
                let missing = t + 1 - wrong;
                // Party 1 signs; the next ones lie, those after them are silent.
                let bundles: Vec<Bundle> = honest[1..honest.len() - missing]
                    .iter()
                    .enumerate()
                    .map(|(index, bundle)| if index < wrong { stage.lie(bundle, lie) } else { bundle.clone() })
                    .collect();
                let error = stage.sign(0, &request, bundles).await.unwrap_err();
                assert!(
                    matches!(*error, KmsError::MoreSharesNeeded { .. }),
                    "{what}: {wrong} wrong, {missing} missing: {error}"
                );
                assert_eq!((error.label(), error.is_retryable()), (cipherloom_kms::MORE_SHARES_NEEDED, true));
            }
        }
        let alone = stage.sign(0, &request, Vec::new()).await.unwrap_err();
        assert!(matches!(&*alone, KmsError::MoreSharesNeeded { refused, .. } if refused.is_empty()));
    }
}

#[tokio::test]
async fn parties_that_pretend_another_value_together_convince_nobody() {
    // All parties but one add the same to their share, which is a share of the same difference: the others agree, and on a plausible value.
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint8, U256::from(0x11));
    let request = stage.public_request(&[handle]);
    let honest = stage.bundles(&request).await;
    // The lowest coefficient of the first element: version, party, tag and count come before it. Delta is bit 123.
    let add_delta = |bundle: &mut Bundle| change_partials(bundle, |bytes| bytes[50] = bytes[50].wrapping_add(8));
    let colluding: Vec<Bundle> = honest[1..].iter().map(|bundle| stage.lie(bundle, add_delta)).collect();
    let error = stage.sign(0, &request, colluding).await.unwrap_err();
    assert!(matches!(*error, KmsError::OwnShareWrong), "{error}");
    assert_eq!(stage.raised(0), ["own_share_wrong"]);
}

#[tokio::test]
async fn a_party_whose_own_share_is_damaged_signs_nothing() {
    let stage = Stage::without_shares((4, 1), BudgetLimits::default());
    for (index, share) in deal_shares(&stage.scope).into_iter().enumerate().skip(1) {
        stage.held[index].activate(share).unwrap();
    }
    stage.held[0].activate(deal_shares(&stage.scope).swap_remove(0)).unwrap();
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let request = stage.public_request(&[handle]);
    let bundles = stage.bundles(&request).await;
    assert!(matches!(
        *stage.sign(0, &request, bundles.clone()).await.unwrap_err(),
        KmsError::OwnShareWrong
    ));
    let answer = stage.sign(1, &request, bundles).await.unwrap();
    stage.assert_signed(1, &request, &answer, &[U256::from(42)]);
    assert_eq!(
        answer.faults.iter().map(|fault| fault.party).collect::<Vec<_>>(),
        [1],
        "the others know whose it is"
    );
}

#[tokio::test]
async fn a_party_that_signs_two_answers_is_convicted_by_both() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let request = stage.public_request(&[handle]);
    let mut bundles = stage.bundles(&request).await;
    bundles.push(bundles[1].clone());
    let answer = stage.sign(0, &request, bundles.clone()).await.unwrap();
    assert!(answer.faults.is_empty() && answer.refused.is_empty(), "the same twice is no fault");
    bundles.push(stage.lie(&bundles[1], flip));
    let answer = stage.sign(0, &request, bundles).await.unwrap();
    stage.assert_signed(0, &request, &answer, &[U256::from(42)]);
    assert_eq!(
        (answer.faults.len(), answer.faults[0].party, answer.faults[0].evidence.len()),
        (1, 2, 2)
    );
}

#[tokio::test]
async fn a_party_that_was_not_asked_before_checks_everything_before_it_signs() {
    let stage = Stage::new((4, 1));
    let handle = stage.store(1, FheType::Uint64, U256::from(42));
    let request = stage.public_request(&[handle]);
    assert!(matches!(
        *stage.sign(3, &request, Vec::new()).await.unwrap_err(),
        KmsError::NotPublic(of) if of == handle
    ));
    stage.world.make_public(handle);
    let mut bundles = Vec::new();
    for node in &stage.nodes[..3] {
        bundles.push(node.public_shares(request.clone(), None).await.unwrap());
    }
    assert_eq!(stage.records(), [1, 1, 1, 0]);
    let answer = stage.sign(3, &request, bundles).await.unwrap();
    stage.assert_signed(3, &request, &answer, &[U256::from(42)]);
    assert_eq!(stage.records(), [1, 1, 1, 1], "recorded before it left");
}

#[tokio::test]
async fn asking_again_is_answered_the_same_without_another_record() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let request = stage.public_request(&[handle]);
    let first = stage.bundles(&request).await;
    assert_eq!(stage.bundles(&request).await, first);
    assert_eq!(stage.records(), [1, 1, 1, 1]);
    // As part of another request it is another decryption, with the same partial decryption: one ciphertext has one mask.
    let twice = stage.public_request(&[handle, handle]);
    let bundle = stage.nodes[0].public_shares(twice, None).await.unwrap();
    assert_eq!(bundle.partials, [first[0].partials[0].clone(), first[0].partials[0].clone()]);
    assert_eq!(stage.records(), [2, 1, 1, 1]);
    let log = std::fs::read_to_string(stage.world.directory.path().join("audit-2.jsonl")).unwrap();
    assert!(log.contains(&format!("\"epoch\":\"{}\",\"party\":3", epoch_id())), "{log}");
    assert!(!log.contains("42,"), "no plaintext");
}

#[tokio::test]
async fn two_bundles_of_each_party_are_looked_at_and_not_more() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let request = stage.public_request(&[handle]);
    let bundles = stage.bundles(&request).await;
    let twice = [bundles.clone(), bundles.clone()].concat();
    assert!(stage.sign(0, &request, twice.clone()).await.is_ok());
    let error = stage.sign(0, &request, [twice, bundles].concat()).await.unwrap_err();
    assert!(matches!(*error, KmsError::TooManyBundles { found: 12, most: 8 }), "{error}");
    assert_eq!((error.label(), error.field()), ("validation_failed", Some("bundles")));
}
