//! User decryption: what a user makes of the parties' answers, with missing, wrong and too many wrong ones.

use super::*;

#[tokio::test]
async fn a_user_opens_values_of_every_type() {
    for size in COMMITTEES {
        let stage = Stage::new(size);
        let values: Vec<U256> = FheType::ALL.into_iter().map(some_value).collect();
        let handles: Vec<Handle> = (1..)
            .zip(FheType::ALL.into_iter().zip(&values))
            .map(|(tag, (ty, value))| stage.readable(tag, ty, *value))
            .collect();
        let request = stage.world.request(&handles);
        let answers = stage.user_shares(&request).await;
        assert_eq!(stage.open(&request, &answers), Ok((values.clone(), Vec::new())));
        let enough = stage.nodes.len() - stage.threshold();
        assert_eq!(
            stage.open(&request, &answers[..enough]),
            Ok((values, Vec::new())),
            "the last ones are missing"
        );
        assert!(stage.open(&request, &answers[..enough - 1]).is_err(), "one more is missing");
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(answer.made_with, share_ref(&stage, index));
            assert_eq!(answer.signer(request_digest(&request)), Some(node_address(&stage.keys[index])));
            assert_ne!(
                answer.signer(B256::ZERO),
                Some(node_address(&stage.keys[index])),
                "signed for this request"
            );
        }
        assert_eq!(stage.records(), vec![1; stage.nodes.len()]);
    }
}

#[tokio::test]
async fn wrong_answers_up_to_the_threshold_are_located_and_more_give_no_value() {
    for size in COMMITTEES {
        let stage = Stage::new(size);
        let (n, t) = (stage.nodes.len(), stage.threshold());
        let value = U256::from(0xdead_beef_u64);
        let request = stage.world.request(&[stage.readable(1, FheType::Uint64, value)]);
        let honest = stage.user_shares(&request).await;
        let lies: [fn(&mut Vec<u8>); 4] = [
            |share| share[20] ^= 1,
            |share| share[23] ^= 0x80,
            |share| share.truncate(10),
            |share| share.fill(0xff),
        ];
        for lie in lies {
            for wrong in 0..=t + 1 {
                for missing in 0..=t + 1 {
                    let answers: Vec<UserShare> = honest[..n - missing]
                        .iter()
                        .enumerate()
                        .map(|(index, answer)| {
                            if index < wrong {
                                stage.lie_to_user(&request, answer, lie)
                            } else {
                                answer.clone()
                            }
                        })
                        .collect();
                    let opened = stage.open(&request, &answers);
                    if wrong + missing <= t {
                        let liars: Vec<u8> = (1..).take(wrong).collect();
                        assert_eq!(opened, Ok((vec![value], liars)), "{wrong} wrong, {missing} missing");
                    } else {
                        assert!(opened.is_err(), "{wrong} wrong, {missing} missing: {opened:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_delegate_opens_the_owners_values_and_the_log_names_both() {
    let stage = Stage::new((4, 1));
    let owner = Address::repeat_byte(0xab);
    let handle = stage.store(1, FheType::Uint32, U256::from(7));
    let delegate = stage.world.user_address();
    {
        let mut chain = stage.chain();
        chain.allowed.extend([(handle, owner), (handle, crate::support::CONTRACT)]);
        chain
            .delegated
            .insert((owner, delegate, crate::support::CONTRACT), crate::support::NOW + 100);
    }
    let unsigned = stage.world.unsigned_with(&[handle], |permit| permit.delegator = Some(owner));
    let request = stage.world.sign(unsigned);
    let answers = stage.user_shares(&request).await;
    assert_eq!(stage.open(&request, &answers), Ok((vec![U256::from(7)], Vec::new())));
    let log = std::fs::read_to_string(stage.world.directory.path().join("audit-0.jsonl")).unwrap();
    assert!(
        log.contains("\"kind\":\"delegated\"") && log.contains(&format!("\"owners\":[\"{owner:#x}\"]")),
        "{log}"
    );
    stage.chain().delegated.clear();
    assert!(
        stage
            .all_refuse_user(&request)
            .await
            .iter()
            .all(|error| matches!(**error, KmsError::NotDelegated { .. }))
    );
}
