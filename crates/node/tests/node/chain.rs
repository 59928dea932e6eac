//! The chain in process: blocks, state, history, pool, time.

use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::{SignableTransaction, TxEip7702, TxEnvelope, TxLegacy};
use alloy::eips::eip7702::Authorization;
use alloy::eips::{BlockId, Encodable2718};
use alloy::primitives::{Address, B256, TxKind, U256, address, keccak256};
use alloy::rpc::types::{Filter, TransactionRequest};
use alloy::signers::SignerSync;
use cipherloom_node::{Clock, DevChain, DevChainConfig, Limits, NodeError};

use crate::support::*;

fn latest() -> BlockId {
    BlockId::latest()
}

#[test]
fn each_transaction_gets_a_block_with_true_roots() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    chain.send_transaction(call_to(register, word(7))).unwrap();
    assert_eq!(chain.block_number().unwrap(), 2);
    for number in 0..=2 {
        let block = chain.block(number.into()).unwrap().unwrap();
        assert_eq!(block.header.hash_slow(), block.hash);
        let transactions = block.transactions.iter().map(|found| found.envelope.clone()).collect::<Vec<_>>();
        assert_eq!(block.header.transactions_root, calculate_transaction_root(&transactions));
        let receipts = block.receipts.iter().map(|found| found.envelope.clone()).collect::<Vec<_>>();
        assert_eq!(block.header.receipts_root, calculate_receipt_root(&receipts));
        if number > 0 {
            assert_eq!(block.header.parent_hash, chain.block((number - 1).into()).unwrap().unwrap().hash);
            assert_eq!(block.transactions.len(), 1);
            assert_eq!(block.header.gas_used, block.receipts[0].gas_used);
        }
    }
    let last = chain.block(latest()).unwrap().unwrap();
    assert!(Filter::new().address(register).matches_bloom(last.header.logs_bloom));
    assert_eq!(last.receipts[0].logs()[0].data.topics(), [B256::from(U256::from(7))]);
}

#[test]
fn past_states_can_be_called_and_pruned_ones_say_so() {
    let config = DevChainConfig {
        limits: Limits {
            state_history_blocks: 3,
            ..Limits::default()
        },
        ..DevChainConfig::default()
    };
    let chain = DevChain::new(config).unwrap();
    let register = deploy(&chain, &REGISTER);
    for value in 2..=5 {
        chain.send_transaction(call_to(register, word(value))).unwrap();
    }
    let read = call_to(register, "".parse().unwrap());
    assert_eq!(chain.call(&read, latest()).unwrap(), word(5));
    assert_eq!(chain.call(&read, 3.into()).unwrap(), word(3));
    let by_hash = chain.block(4.into()).unwrap().unwrap().hash;
    assert_eq!(chain.call(&read, by_hash.into()).unwrap(), word(4));
    assert!(matches!(
        chain.call(&read, 2.into()),
        Err(NodeError::StatePruned { number: 2, oldest: 3 })
    ));
    assert!(matches!(chain.call(&read, 6.into()), Err(NodeError::UnknownBlock(_))));
    assert_eq!(
        chain.logs(&Filter::new().from_block(0u64)).unwrap().len(),
        4,
        "logs are kept for all blocks"
    );
}

#[test]
fn contracts_see_block_hashes_time_and_transient_storage() {
    let (chain, clock) = chain();
    let blockhash = deploy(&chain, &BLOCKHASH);
    let timestamp = deploy(&chain, &TIMESTAMP);
    let transient = deploy(&chain, &TRANSIENT);
    chain.mine(300).unwrap();
    let ask = |number: u64| B256::from_slice(&chain.call(&call_to(blockhash, word(number)), BlockId::pending()).unwrap());
    let head = chain.block(latest()).unwrap().unwrap();
    assert_eq!(ask(head.header.number), head.hash);
    let far = head.header.number - 255;
    assert_eq!(ask(far), chain.block(far.into()).unwrap().unwrap().hash);
    assert_eq!(ask(far - 1), B256::ZERO, "only 256 blocks back");
    clock.set(START + 100);
    assert_eq!(chain.call(&call_to(timestamp, "".parse().unwrap()), latest()).unwrap(), word(START));
    assert_eq!(
        chain.call(&call_to(timestamp, "".parse().unwrap()), BlockId::pending()).unwrap(),
        word(START + 100)
    );
    assert_eq!(chain.call(&call_to(transient, "".parse().unwrap()), latest()).unwrap(), word(1));
}

#[test]
fn timestamps_follow_the_clock_and_never_go_back() {
    let (chain, clock) = chain();
    let mined_at = |chain: &DevChain| {
        chain.mine(1).unwrap();
        chain.block(latest()).unwrap().unwrap().header.timestamp
    };
    clock.set(START + 10);
    assert_eq!(mined_at(&chain), START + 10);
    clock.set(START);
    assert_eq!(mined_at(&chain), START + 10);
    assert_eq!(chain.increase_time(60).unwrap(), 60);
    assert_eq!(mined_at(&chain), START + 60);
    chain.set_next_block_timestamp(START + 1000).unwrap();
    assert_eq!(mined_at(&chain), START + 1000);
    clock.set(clock.now_unix_s() + 5);
    assert_eq!(mined_at(&chain), START + 1005, "time goes on from the set timestamp");
    assert!(matches!(chain.set_next_block_timestamp(START), Err(NodeError::InvalidParams(_))));
    assert!(matches!(chain.increase_time(u64::MAX), Err(NodeError::InvalidParams(_))));
}

#[test]
fn a_nonce_gap_waits_and_is_mined_when_it_closes() {
    let (chain, _) = chain();
    let to = TxKind::Call(Address::repeat_byte(9));
    for nonce in [2, 1] {
        chain
            .send_raw_transaction(&raw(&chain, 0, transaction(&chain, nonce, to, "".parse().unwrap())))
            .unwrap();
    }
    assert_eq!(chain.block_number().unwrap(), 0);
    assert_eq!(chain.nonce(account(&chain, 0), BlockId::pending()).unwrap(), 0);
    chain
        .send_raw_transaction(&raw(&chain, 0, transaction(&chain, 0, to, "".parse().unwrap())))
        .unwrap();
    assert_eq!(chain.block_number().unwrap(), 3);
    assert_eq!(chain.nonce(account(&chain, 0), latest()).unwrap(), 3);
}

#[test]
fn waiting_transactions_are_bounded_and_replaced_for_a_better_price() {
    let limits = Limits {
        pool_transactions: 3,
        pool_transactions_per_sender: 2,
        ..Limits::default()
    };
    let chain = DevChain::new(DevChainConfig {
        limits,
        ..DevChainConfig::default()
    })
    .unwrap();
    chain.set_automine(false).unwrap();
    let to = TxKind::Call(Address::repeat_byte(9));
    let send = |sender: usize, nonce: u64, fee: u128| {
        let mut transaction = transaction(&chain, nonce, to, "".parse().unwrap());
        (transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas) = (fee, fee);
        chain.send_raw_transaction(&raw(&chain, sender, transaction))
    };
    let first = send(0, 0, 2_000_000_000).unwrap();
    assert!(matches!(send(0, 0, 2_000_000_000), Err(NodeError::AlreadyKnown)));
    assert!(matches!(send(0, 0, 2_100_000_000), Err(NodeError::ReplacementUnderpriced)));
    let second = send(0, 0, 2_200_000_000).unwrap();
    send(0, 1, 2_000_000_000).unwrap();
    assert!(matches!(send(0, 2, 2_000_000_000), Err(NodeError::PoolFull)));
    send(1, 0, 2_000_000_000).unwrap();
    assert!(matches!(send(2, 0, 2_000_000_000), Err(NodeError::PoolFull)));
    assert_eq!(chain.nonce(account(&chain, 0), BlockId::pending()).unwrap(), 2);
    chain.mine(1).unwrap();
    assert_eq!(chain.block(latest()).unwrap().unwrap().transactions.len(), 3);
    assert!(chain.mined_transaction(&second).unwrap().is_some());
    assert!(chain.mined_transaction(&first).unwrap().is_none());
}

#[test]
fn invalid_transactions_are_refused_in_words_that_clients_know() {
    let (chain, _) = chain();
    let to = TxKind::Call(Address::repeat_byte(9));
    let base = || transaction(&chain, 0, to, "".parse().unwrap());
    chain.send_raw_transaction(&raw(&chain, 0, base())).unwrap();
    let refused = |transaction, words: &str| {
        let error = chain.send_raw_transaction(&raw(&chain, 0, transaction)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(base(), "nonce too low");
    let next = |change: fn(&mut alloy::consensus::TxEip1559)| {
        let mut transaction = transaction(&chain, 1, to, "".parse().unwrap());
        change(&mut transaction);
        transaction
    };
    refused(next(|tx| tx.value = U256::MAX), "insufficient funds for gas * price + value");
    refused(next(|tx| tx.gas_limit = 20_000), "intrinsic gas too low");
    refused(next(|tx| tx.gas_limit = 60_000_001), "exceeds block gas limit");
    refused(next(|tx| tx.chain_id = 1), "invalid chain id");
    refused(
        next(|tx| (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (1, 0)),
        "max fee per gas less than block base fee",
    );
    refused(
        next(|tx| tx.max_priority_fee_per_gas = u128::MAX),
        "max priority fee per gas higher than max fee per gas",
    );
    assert_eq!(chain.block_number().unwrap(), 1, "none of them was mined");
    assert!(chain.send_raw_transaction(&[3, 0xc0]).unwrap_err().to_string().contains("blob"));
    assert!(
        chain
            .send_raw_transaction(&[])
            .unwrap_err()
            .to_string()
            .contains("failed to decode")
    );
    assert!(matches!(
        chain.send_raw_transaction(&vec![2; 600_000]),
        Err(NodeError::LimitExceeded(_))
    ));
}

#[test]
fn a_reverting_transaction_is_mined_and_an_invalid_opcode_takes_all_gas() {
    let (chain, _) = chain();
    let reverter = deploy(&chain, &reverter());
    let hash = chain
        .send_raw_transaction(&raw(&chain, 0, transaction(&chain, 1, TxKind::Call(reverter), "".parse().unwrap())))
        .unwrap();
    let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
    assert!(!block.receipts[index].is_success());
    assert!(block.receipts[index].gas_used < 100_000);
    match chain.call(&call_to(reverter, "".parse().unwrap()), latest()) {
        Err(NodeError::Reverted { message, data }) => {
            assert_eq!(message, "execution reverted: nope");
            assert_eq!(data.len(), 100);
        }
        other => panic!("{other:?}"),
    }
    let endless = deploy(&chain, &ENDLESS);
    assert!(matches!(
        chain.call(&call_to(endless, "".parse().unwrap()), latest()),
        Err(NodeError::Halted(_))
    ));
    assert!(matches!(
        chain.estimate_gas(&call_to(endless, "".parse().unwrap()), latest()),
        Err(NodeError::Halted(_))
    ));
}

#[test]
fn estimates_suffice_and_are_close() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    let transfer = TransactionRequest {
        from: Some(account(&chain, 1)),
        value: Some(U256::from(1)),
        ..call_to(Address::repeat_byte(1), "".parse().unwrap())
    };
    assert_eq!(chain.estimate_gas(&transfer, latest()).unwrap(), 21_000);
    let write = TransactionRequest {
        from: Some(account(&chain, 1)),
        ..call_to(register, word(3))
    };
    let estimate = chain.estimate_gas(&write, latest()).unwrap();
    let hash = chain
        .send_transaction(TransactionRequest {
            gas: Some(estimate),
            ..write
        })
        .unwrap();
    let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
    assert!(block.receipts[index].is_success());
    assert!(estimate <= block.receipts[index].gas_used + block.receipts[index].gas_used / 50 + 1);
}

#[test]
fn the_deployer_reaches_the_published_addresses() {
    let (chain, _) = chain();
    let deployer = chain.deployer().unwrap().address();
    let mut created = Vec::new();
    for _ in 0..4 {
        let request = TransactionRequest {
            from: Some(deployer),
            input: creation(&REGISTER).into(),
            ..TransactionRequest::default()
        };
        let hash = chain.send_transaction(request).unwrap();
        let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
        created.push(block.receipts[index].contract_address.unwrap());
    }
    assert_eq!(created[1], address!("50157CFfD6bBFA2DECe204a89ec419c23ef5755D"), "ACL");
    assert_eq!(created[3], address!("e3a9105a3a932253A70F126eb1E3b589C643dD24"), "FHEVMExecutor");
}

#[test]
fn contracts_can_be_deployed_at_addresses_known_in_advance() {
    let (chain, _) = chain();
    let proxy = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
    let salt = B256::repeat_byte(7);
    let code = creation(&REGISTER);
    let sent = call_to(proxy, [salt.to_vec(), code.to_vec()].concat().into());
    chain.send_transaction(sent).unwrap();
    let expected = proxy.create2_from_code(salt, &code);
    assert_eq!(chain.code(expected, latest()).unwrap(), REGISTER);
}

#[test]
fn snapshots_bring_back_state_blocks_pool_and_time() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    chain.send_transaction(call_to(register, word(1))).unwrap();
    let id = chain.snapshot().unwrap();
    let before = chain.block(latest()).unwrap().unwrap().hash;
    chain.increase_time(500).unwrap();
    let hash = chain.send_transaction(call_to(register, word(2))).unwrap();
    chain.set_balance(account(&chain, 5), U256::ZERO).unwrap();
    assert!(chain.revert(id).unwrap());
    assert_eq!(chain.block(latest()).unwrap().unwrap().hash, before);
    assert_eq!(chain.call(&call_to(register, "".parse().unwrap()), latest()).unwrap(), word(1));
    assert!(chain.mined_transaction(&hash).unwrap().is_none());
    assert!(!chain.balance(account(&chain, 5), latest()).unwrap().is_zero());
    chain.mine(1).unwrap();
    assert_eq!(chain.block(latest()).unwrap().unwrap().header.timestamp, START);
    assert!(!chain.revert(id).unwrap(), "a snapshot is used up");
}

#[test]
fn edits_reach_the_next_state_root_and_impersonation_needs_no_key() {
    let (chain, _) = chain();
    let contract = deploy(&chain, &REGISTER);
    chain.set_storage(contract, U256::ZERO, U256::from(42)).unwrap();
    assert_eq!(chain.call(&call_to(contract, "".parse().unwrap()), latest()).unwrap(), word(42));
    let root = |chain: &DevChain| chain.block(latest()).unwrap().unwrap().header.state_root;
    let before = root(&chain);
    chain.mine(1).unwrap();
    assert_ne!(root(&chain), before);

    let request = || TransactionRequest {
        from: Some(contract),
        value: Some(U256::from(5)),
        ..call_to(Address::repeat_byte(3), "".parse().unwrap())
    };
    assert!(matches!(chain.send_transaction(request()), Err(NodeError::UnknownAccount(_))));
    chain.set_balance(contract, U256::from(10u64.pow(18))).unwrap();
    chain.impersonate(contract, true).unwrap();
    let hash = chain.send_transaction(request()).unwrap();
    let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
    assert_eq!(block.transactions[index].sender, contract);
    assert_eq!(chain.balance(Address::repeat_byte(3), latest()).unwrap(), U256::from(5));
}

#[test]
fn the_base_fee_follows_eip_1559() {
    let (chain, _) = chain();
    let fee = |number: u64| chain.block(number.into()).unwrap().unwrap().header.base_fee_per_gas.unwrap();
    chain.mine(2).unwrap();
    assert_eq!(fee(0), 1_000_000_000);
    assert_eq!(fee(1), 875_000_000, "an empty block lowers it by an eighth");
    chain.set_next_block_base_fee(5).unwrap();
    chain.mine(1).unwrap();
    assert_eq!(fee(3), 5);
}

#[test]
fn legacy_transactions_without_a_chain_id_are_accepted() {
    let (chain, _) = chain();
    let transaction = TxLegacy {
        gas_price: 2_000_000_000,
        gas_limit: 21_000,
        to: TxKind::Call(Address::repeat_byte(4)),
        value: U256::from(9),
        ..TxLegacy::default()
    };
    let signature = signer(&chain, 2).sign_hash_sync(&transaction.signature_hash()).unwrap();
    let envelope = TxEnvelope::from(transaction.into_signed(signature));
    let hash = chain.send_raw_transaction(&envelope.encoded_2718()).unwrap();
    assert_eq!(hash, keccak256(envelope.encoded_2718()));
    let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
    assert_eq!(block.transactions[index].sender, account(&chain, 2));
}

#[test]
fn a_reorganization_replaces_blocks_and_drops_their_transactions() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    let hash = chain.send_transaction(call_to(register, word(1))).unwrap();
    chain.mine(1).unwrap();
    let before = (1..=3u64)
        .map(|number| chain.block(number.into()).unwrap().unwrap().hash)
        .collect::<Vec<_>>();
    chain.reorganize(2).unwrap();
    let after = (1..=3u64)
        .map(|number| chain.block(number.into()).unwrap().unwrap().hash)
        .collect::<Vec<_>>();
    assert_eq!(before[0], after[0]);
    assert!(before[1] != after[1] && before[2] != after[2]);
    assert!(chain.mined_transaction(&hash).unwrap().is_none());
    assert!(chain.block(before[1].into()).unwrap().is_none());
    assert_eq!(chain.call(&call_to(register, "".parse().unwrap()), latest()).unwrap(), word(0));
    chain.rollback(3).unwrap();
    assert_eq!(chain.block_number().unwrap(), 0);
    assert!(matches!(chain.rollback(1), Err(NodeError::InvalidParams(_))));
}

#[test]
fn the_greatest_nonce_is_refused() {
    let (chain, _) = chain();
    let transaction = transaction(&chain, u64::MAX, TxKind::Call(Address::ZERO), "".parse().unwrap());
    let error = chain.send_raw_transaction(&raw(&chain, 0, transaction)).unwrap_err();
    assert!(error.to_string().contains("EIP-2681"), "{error}");
    let tiny = DevChainConfig {
        block_gas_limit: 0,
        ..DevChainConfig::default()
    };
    assert!(matches!(DevChain::new(tiny), Err(NodeError::InvalidConfig(_))));
}

#[test]
fn an_account_can_delegate_to_a_contract() {
    let (chain, _) = chain();
    let register = deploy(&chain, &REGISTER);
    let authority = signer(&chain, 2);
    let authorization = Authorization {
        chain_id: U256::from(chain.chain_id()),
        address: register,
        nonce: 0,
    };
    let signature = authority.sign_hash_sync(&authorization.signature_hash()).unwrap();
    let transaction = TxEip7702 {
        chain_id: chain.chain_id(),
        nonce: 1,
        gas_limit: 500_000,
        max_fee_per_gas: 10_000_000_000,
        to: authority.address(),
        input: word(8),
        authorization_list: vec![authorization.into_signed(signature)],
        ..TxEip7702::default()
    };
    let signature = signer(&chain, 0).sign_hash_sync(&transaction.signature_hash()).unwrap();
    let hash = chain
        .send_raw_transaction(&TxEnvelope::from(transaction.into_signed(signature)).encoded_2718())
        .unwrap();
    let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
    assert!(block.receipts[index].is_success());
    assert_eq!(chain.storage(authority.address(), U256::ZERO, latest()).unwrap(), U256::from(8));
    assert_eq!(chain.code(authority.address(), latest()).unwrap()[..3], [0xef, 0x01, 0x00]);
}
