//! Sets of validators that change.

use alloy::primitives::Bytes;
use alloy::sol_types::SolCall;
use cipherloom_contracts::bindings::ValidatorSet as Contract;
use cipherloom_node::NodeError;
use cipherloom_node::native::{VALIDATOR_SET, Verdict};
use serde_json::{Value, json};

use crate::world::{World, key, set_of, soon};

fn add(index: usize) -> Bytes {
    let call = Contract::addValidatorCall {
        account: key("validator", index).address(),
        power: 1,
    };
    call.abi_encode().into()
}

fn ask(node: &crate::world::Node, method: &str, params: Value) -> Value {
    node.chain.rpc_call(method, params).unwrap()
}

#[tokio::test]
async fn the_block_after_a_change_is_signed_by_the_new_set() {
    let mut world = World::new();
    let (one, other) = (world.node(), world.node());
    world.decide(&[&one, &other]).await;
    let sent = world.send(&one, 0, VALIDATOR_SET, add(4));
    let refused = world.send(&one, 1, VALIDATOR_SET, add(5));
    world.decide(&[&one, &other]).await;
    assert!(one.succeeded(sent));
    assert!(!one.succeeded(refused), "only the owner changes the set");
    let (old, new) = (set_of(&world.keys), set_of(world.keys.iter().chain(&[key("validator", 4)])));
    for (height, set) in [(1, &old), (2, &old), (3, &new)] {
        assert_eq!(other.chain.validators_at(height).unwrap(), *set);
    }
    let header = one.chain.block(2.into()).unwrap().unwrap().header.clone();
    assert_eq!(header.extra_data.as_ref(), new.digest().as_slice());

    // Three of four were enough; of five it takes four.
    let (height, proposed) = world.propose(&one).await;
    let verdict = other
        .chain
        .validate(height, 0, world.proposer(height), proposed.bytes, soon())
        .await
        .unwrap();
    assert!(matches!(verdict, Verdict::Valid { .. }));
    let three = world.certificate_by(&world.keys[..3], &one, height, proposed.hash);
    assert!(matches!(
        one.chain.commit(proposed.hash, three).await,
        Err(NodeError::BlockRefused(_))
    ));
    world.keys.push(key("validator", 4));
    let four = world.certificate_by(&world.keys[1..], &one, height, proposed.hash);
    for node in [&one, &other] {
        node.chain.commit(proposed.hash, four.clone()).await.unwrap();
    }

    let late = world.node().without_executor();
    for number in 1..=3 {
        late.chain.apply(one.chain.decided(number).await.unwrap().unwrap()).await.unwrap();
    }
    assert_eq!(late.chain.validators_at(4).unwrap(), new);

    let changes = ask(&late, "cipherloom_validatorChanges", json!(["0x0"]));
    assert_eq!(changes.as_array().unwrap().len(), 1);
    assert_eq!(changes[0]["certificate"]["height"], json!(2));
    assert_eq!(changes[0]["validators"], json!(new));
    assert_eq!(ask(&late, "cipherloom_validatorChanges", json!(["0x3"])), json!([]));
    assert_eq!(ask(&late, "cipherloom_getValidatorSet", json!(["0x2"])), json!(old));
    assert_eq!(ask(&late, "cipherloom_getValidatorSet", json!([])), json!(new));
}
