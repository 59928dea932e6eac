//! Limits on the cost of operations: per transaction, per chain of dependent operations, per block.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U256, Uint},
    rpc::types::TransactionRequest,
    sol_types::SolCall,
};
use cipherloom_contracts::bindings::HCULimit;
use cipherloom_primitives::{FheType, Operation};

use crate::stage::{Arg, Batch, Script, Stage, assert_reverts, byte};

/// A scalar multiplication of 128-bit values costs this, in HCU.
const MUL_HCU: usize = 696_000;

fn multiply(script: &mut Script, operand: Arg, factor: u64) -> Arg {
    script.operation(Operation::Mul, &[operand, factor.into(), byte(1)])
}

#[test]
fn independent_operations_are_limited_by_their_sum() {
    let stage = Stage::new();
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint128);
    let fitting = 20_000_000 / MUL_HCU;
    for factor in 0..fitting {
        multiply(&mut script, a, factor as u64);
    }
    stage.run(&script).unwrap();
    multiply(&mut script, a, 99);
    assert_reverts(stage.run(&script), HCULimit::HCUTransactionLimitExceeded {});
}

#[test]
fn a_transaction_may_cost_exactly_its_limits() {
    let stage = Stage::new();
    let limit = stage.host.hcu_limit;
    let mut script = stage.script();
    let a = script.value(1, FheType::Uint128);
    multiply(&mut script, a, 3);
    let cost = MUL_HCU as u64 + 32;
    let set_both = |depth: u64, sum: u64| {
        stage.administer(
            limit,
            &HCULimit::setMaxHCUDepthPerTxCall {
                maxHCUDepthPerTx: Uint::from(1),
            },
        );
        stage.administer(
            limit,
            &HCULimit::setMaxHCUPerTxCall {
                maxHCUPerTx: Uint::from(sum),
            },
        );
        stage.administer(
            limit,
            &HCULimit::setMaxHCUDepthPerTxCall {
                maxHCUDepthPerTx: Uint::from(depth),
            },
        );
    };
    set_both(cost, cost);
    stage.run(&script).unwrap();
    set_both(cost - 1, cost);
    assert_reverts(stage.run(&script), HCULimit::HCUTransactionDepthLimitExceeded {});
    set_both(cost - 1, cost - 1);
    assert_reverts(stage.run(&script), HCULimit::HCUTransactionLimitExceeded {});

    set_both(cost, cost);
    stage.administer(
        limit,
        &HCULimit::setHCUPerBlockCall {
            hcuPerBlock: Uint::from(cost),
        },
    );
    stage.run(&script).unwrap();
}

#[test]
fn dependent_operations_are_limited_by_their_depth() {
    let stage = Stage::new();
    let mut script = stage.script();
    let mut a = script.value(1, FheType::Uint128);
    for _ in 0..5_000_000 / MUL_HCU {
        a = multiply(&mut script, a, 3);
    }
    stage.run(&script).unwrap();
    // Whichever operand is the deepest counts.
    for position in 0..2 {
        let mut through_choice = script.clone();
        let (condition, fresh) = (through_choice.value(1, FheType::Bool), through_choice.value(2, FheType::Uint128));
        let mut operands = [condition, fresh, fresh];
        operands[position + 1] = a;
        let chosen = through_choice.operation(Operation::IfThenElse, &operands);
        multiply(&mut through_choice, chosen, 3);
        assert_reverts(stage.run(&through_choice), HCULimit::HCUTransactionDepthLimitExceeded {});
    }
    multiply(&mut script, a, 3);
    assert_reverts(stage.run(&script), HCULimit::HCUTransactionDepthLimitExceeded {});
}

#[test]
fn a_new_transaction_starts_at_zero() {
    let stage = Stage::new();
    let mut script = stage.script();
    let mut a = script.value(1, FheType::Uint128);
    for _ in 0..7 {
        a = multiply(&mut script, a, 3);
    }
    script.call(stage.host.acl, "allow(bytes32,address)", &[a, stage.batch.into()]);
    let mined = stage.mine(&script).unwrap();
    let result = stage.computations(&mined).last().unwrap().result;
    let mut next = stage.script();
    let mut a = Arg::from(result);
    for _ in 0..7 {
        a = multiply(&mut next, a, 3);
    }
    stage.run(&next).unwrap();
}

/// Sends two scripts into one block and returns whether each succeeded.
fn mine_together(stage: &Stage, scripts: [&Script; 2]) -> [bool; 2] {
    stage.chain.set_automine(false).unwrap();
    let hashes: Vec<B256> = scripts
        .iter()
        .enumerate()
        .map(|(index, script)| {
            let request = TransactionRequest {
                from: Some(stage.user(index + 1)),
                to: Some(stage.batch.into()),
                input: Bytes::from(
                    Batch::runCall {
                        calls: script.calls().to_vec(),
                    }
                    .abi_encode(),
                )
                .into(),
                gas: Some(5_000_000),
                ..Default::default()
            };
            stage.chain.send_transaction(request).unwrap()
        })
        .collect();
    stage.chain.mine(1).unwrap();
    stage.chain.set_automine(true).unwrap();
    let mut blocks = Vec::new();
    let outcomes: Vec<bool> = hashes
        .iter()
        .map(|hash| {
            let (block, index) = stage.chain.mined_transaction(hash).unwrap().unwrap();
            blocks.push(block.hash);
            block.receipts[index].is_success()
        })
        .collect();
    assert_eq!(blocks[0], blocks[1], "both in one block");
    outcomes.try_into().unwrap()
}

#[test]
fn a_block_limit_counts_transactions_together_but_not_exempt_contracts() {
    let stage = Stage::new();
    let limit = stage.host.hcu_limit;
    stage.administer(
        limit,
        &HCULimit::setMaxHCUDepthPerTxCall {
            maxHCUDepthPerTx: Uint::from(800_000),
        },
    );
    stage.administer(
        limit,
        &HCULimit::setMaxHCUPerTxCall {
            maxHCUPerTx: Uint::from(800_000),
        },
    );
    stage.administer(
        limit,
        &HCULimit::setHCUPerBlockCall {
            hcuPerBlock: Uint::from(1_000_000),
        },
    );
    let script = || {
        let mut script = stage.script();
        let a = script.value(1, FheType::Uint128);
        multiply(&mut script, a, 3);
        script
    };
    let (first, second) = (script(), script());
    let outcomes = mine_together(&stage, [&first, &second]);
    assert_eq!(
        outcomes.iter().filter(|success| **success).count(),
        1,
        "one fits into the block, not both"
    );
    let meter = stage.read(limit, &HCULimit::getBlockMeterCall {});
    let block = stage.chain.block(BlockNumberOrTag::Latest.into()).unwrap().unwrap();
    assert_eq!(meter.blockNumber.to::<u64>(), block.header.number);
    assert_eq!(meter.usedHCU.to::<u64>(), 696_032, "a multiplication and a trivial encryption");
    stage.mine(&first).expect("the next block starts at zero");

    let account = stage.batch;
    stage.administer(limit, &HCULimit::addToBlockHCUWhitelistCall { account });
    assert!(stage.read(limit, &HCULimit::isBlockHCUWhitelistedCall { account }));
    assert_eq!(mine_together(&stage, [&first, &second]), [true, true]);
    let again = stage.send(stage.owner(), limit, &HCULimit::addToBlockHCUWhitelistCall { account });
    assert_reverts(again, HCULimit::AlreadyBlockHCUWhitelisted { account });
    stage.administer(limit, &HCULimit::removeFromBlockHCUWhitelistCall { account });
    let again = stage.send(stage.owner(), limit, &HCULimit::removeFromBlockHCUWhitelistCall { account });
    assert_reverts(again, HCULimit::NotBlockHCUWhitelisted { account });
    assert_eq!(
        mine_together(&stage, [&first, &second]).iter().filter(|success| **success).count(),
        1
    );
}

#[test]
fn limits_stay_consistent_and_belong_to_the_owner() {
    let stage = Stage::new();
    let limit = stage.host.hcu_limit;
    assert_eq!(stage.read(limit, &HCULimit::getGlobalHCUCapPerBlockCall {}), Uint::MAX);
    assert_eq!(stage.read(limit, &HCULimit::getMaxHCUPerTxCall {}).to::<u64>(), 20_000_000);
    assert_eq!(stage.read(limit, &HCULimit::getMaxHCUDepthPerTxCall {}).to::<u64>(), 5_000_000);
    let sender = stage.user(1);
    let call = HCULimit::setMaxHCUPerTxCall {
        maxHCUPerTx: Uint::from(1),
    };
    assert_reverts(stage.send(sender, limit, &call), HCULimit::NotHostOwner { sender });
    stage
        .send(stage.owner(), limit, &call)
        .unwrap_err()
        .is_some::<HCULimit::InconsistentHCULimits>();
    let call = HCULimit::setHCUPerBlockCall {
        hcuPerBlock: Uint::from(19_999_999),
    };
    stage
        .send(stage.owner(), limit, &call)
        .unwrap_err()
        .is_some::<HCULimit::InconsistentHCULimits>();
    let call = HCULimit::setMaxHCUDepthPerTxCall {
        maxHCUDepthPerTx: Uint::from(20_000_001),
    };
    stage
        .send(stage.owner(), limit, &call)
        .unwrap_err()
        .is_some::<HCULimit::InconsistentHCULimits>();
}

#[test]
fn only_the_executor_counts_operations() {
    let stage = Stage::new();
    let call = HCULimit::checkHCUCall {
        operation: Operation::Add.id(),
        fheType: FheType::Uint8.id(),
        isScalar: false,
        operands: vec![],
        result: B256::ZERO,
        caller: Address::ZERO,
    };
    let refused = stage.send(stage.owner(), stage.host.hcu_limit, &call);
    assert_reverts(refused, HCULimit::CallerMustBeFHEVMExecutorContract {});
}

#[test]
fn operations_without_a_cost_are_unknown() {
    let stage = Stage::new();
    let cost = |operation: u8, ty: u8| {
        let call = HCULimit::getHCUCall {
            operation,
            fheType: ty,
            isScalar: false,
            collectionSize: U256::ZERO,
        };
        stage.call(stage.user(0), stage.host.hcu_limit, &call)
    };
    let mut unknown = 0;
    for operation in 0..=u8::MAX {
        for ty in [0, 1, 2, 5, 7, 8, 9, 255] {
            let known =
                Operation::try_from(operation).is_ok_and(|known| FheType::try_from(ty).is_ok_and(|ty| known.spec().types.contains(ty)));
            // An admission costs nothing, and a division by an encrypted value does not exist.
            let free = [Operation::VerifyInput, Operation::Div, Operation::Rem]
                .map(Operation::id)
                .contains(&operation);
            if known && !free {
                assert!(cost(operation, ty).unwrap() > U256::ZERO);
            } else {
                let error = HCULimit::UnsupportedOperation { operation, fheType: ty };
                assert_reverts(cost(operation, ty), error);
                unknown += 1;
            }
        }
    }
    assert!(unknown > 225 * 8);
}
