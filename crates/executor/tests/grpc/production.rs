//! One block on the parameters of real deployments.

use cipherloom_fhe::production_test_keys;
use cipherloom_primitives::{FheType, U256};
use cipherloom_rpc::fhevm::common::FheOperation;

use crate::fixture::{Block, Served, input, scalar};

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_computed_on_production_parameters() {
    let keys = production_test_keys().unwrap();
    let served = Served::start(keys.clone()).await;
    let (u8_, bool_) = (FheType::Uint8, FheType::Bool);
    let mut block = Block::default();
    let values = block.proven(&keys, &[(u8_, 200), (u8_, 55)]);
    let enough = block.compute(FheOperation::FheLe, vec![input(values[1]), input(values[0])], bool_);
    let moved = block.compute(FheOperation::FheSub, vec![input(values[0]), input(values[1])], u8_);
    block.compute(
        FheOperation::FheIfThenElse,
        vec![input(enough), input(moved), input(values[0])],
        u8_,
    );
    let first = served.compute(&block).await;
    let values: Vec<U256> = first
        .iter()
        .map(|result| served.decrypt(&result.handle, &result.serialization))
        .collect();
    assert_eq!(values, [1u64, 145, 145].map(U256::from));
    assert!(first.iter().all(|result| result.serialization.len() < 4096), "results are packed");

    // The next block starts from what this one gave.
    let mut next = Block::default();
    let balance = next.given_bytes(u8_, first[2].serialization.clone());
    next.compute(FheOperation::FheAdd, vec![input(balance), scalar(U256::from(5))], u8_);
    assert_eq!(served.values(&next).await, [U256::from(150)]);
}
