//! Transactions that are not included at once, dropped, or overtaken; and deployments that meet them.

use std::{sync::Mutex, time::Duration};

use alloy::primitives::{Address, Bytes, U256};
use cipherloom_chain::{Call, ChainError, DeployEvent, Fees, SendEvent, SendOptions, TransactionSender, deploy, deploy_steps, proxy};
use cipherloom_contracts::{HostContract, development};

use crate::fixture::{Bench, addresses, deployer, steps};

fn options() -> SendOptions {
    SendOptions {
        stuck_after: Duration::from_millis(100),
        patience: Duration::from_secs(20),
        ..SendOptions::default()
    }
}

async fn sender(bench: &Bench, options: SendOptions) -> TransactionSender {
    TransactionSender::new(&bench.host, deployer(), options).await.unwrap()
}

/// A call that does nothing, to an account without code.
fn nothing() -> Call {
    Call {
        name: "nothing".to_owned(),
        to: Some(Address::repeat_byte(0xdd)),
        data: Bytes::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_out_is_replaced_by_one_that_pays_more() {
    let bench = Bench::bare().await;
    let chain = bench.node.chain().clone();
    chain.set_automine(false).unwrap();
    let fees = Mutex::new(Vec::new());
    let mut sender = sender(&bench, options()).await;
    let included = {
        let mut observer = |event: SendEvent<'_>| {
            if let SendEvent::Sending { fees: offered, .. } = event {
                let mut seen = fees.lock().unwrap();
                seen.push(offered);
                // The third attempt is the one that is mined.
                if seen.len() == 3 {
                    let chain = chain.clone();
                    tokio::spawn(async move {
                        while chain.block_number().unwrap() == 0 {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                            chain.mine(1).unwrap();
                        }
                    });
                }
            }
        };
        Box::pin(sender.send(&nothing(), 0, &mut observer)).await.unwrap()
    };
    let fees = fees.into_inner().unwrap();
    assert!(fees.len() >= 3, "{fees:?}");
    assert!(
        fees.windows(2).all(|pair| pair[1].most() >= pair[0].most() + pair[0].most() / 8),
        "{fees:?}"
    );
    assert_eq!(included.nonce, 0);
    assert_eq!(bench.host.sent_by(development::DEPLOYER).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reorganisation_drops_is_sent_again() {
    let bench = Bench::bare().await;
    let chain = bench.node.chain().clone();
    let confirmed = SendOptions {
        confirmations: 3,
        ..options()
    };
    let mut sender = sender(&bench, confirmed).await;
    for nonce in 0..2 {
        Box::pin(sender.send(&nothing(), nonce, &mut |_| {})).await.unwrap();
    }
    chain.reorganize(2).unwrap();
    assert_eq!(bench.host.sent_by(development::DEPLOYER).await.unwrap(), 0);
    let dropped = Mutex::new(0);
    let mining = tokio::spawn({
        let chain = chain.clone();
        async move {
            while chain.block_number().unwrap() < 40 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                chain.mine(1).unwrap();
            }
        }
    });
    let mut observer = |event: SendEvent<'_>| {
        if matches!(event, SendEvent::Dropped { .. }) {
            *dropped.lock().unwrap() += 1;
        }
    };
    Box::pin(sender.confirm(&mut observer)).await.unwrap();
    mining.abort();
    assert_eq!(dropped.into_inner().unwrap(), 2);
    assert_eq!(bench.host.sent_by(development::DEPLOYER).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_the_same_key_is_noticed() {
    let bench = Bench::bare().await;
    let mut sender = sender(&bench, options()).await;
    Box::pin(sender.send(&nothing(), 0, &mut |_| {})).await.unwrap();
    let mut other = Call {
        name: "something else".to_owned(),
        ..nothing()
    };
    other.data = Bytes::from_static(&[1]);
    let error = Box::pin(sender.send(&other, 0, &mut |_| {})).await.unwrap_err();
    assert!(matches!(error, ChainError::NonceUsed { nonce: 0, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_fees_is_kept() {
    let bench = Bench::bare().await;
    let limited = SendOptions {
        max_fee_per_gas: Some(1),
        patience: Duration::from_millis(300),
        ..options()
    };
    let mut sender = sender(&bench, limited).await;
    let waited = Mutex::new(false);
    let mut observer = |event: SendEvent<'_>| *waited.lock().unwrap() |= matches!(event, SendEvent::TooExpensive { .. });
    let error = Box::pin(sender.send(&nothing(), 0, &mut observer)).await.unwrap_err();
    assert!(matches!(error, ChainError::FeesAboveLimit { .. }), "{error}");
    assert!(waited.into_inner().unwrap());
    assert_eq!(bench.host.sent_by(development::DEPLOYER).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_without_a_base_fee_get_transactions_with_a_price() {
    let bench = Bench::bare().await;
    assert!(matches!(Fees::quote(&bench.host, false).await.unwrap(), Fees::Dynamic { .. }));
    let legacy = SendOptions {
        force_legacy: true,
        ..options()
    };
    let mut sender = sender(&bench, legacy).await;
    let included = Box::pin(sender.send(&nothing(), 0, &mut |_| {})).await.unwrap();
    let mined = bench.node.chain().mined_transaction(&included.hash).unwrap().unwrap();
    assert!(mined.0.transactions[mined.1].envelope.is_legacy());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_would_fail_is_not_paid_for() {
    let bench = Bench::deployed().await;
    let nonce = bench.host.sent_by(development::DEPLOYER).await.unwrap();
    let call = Call {
        name: "an upgrade to nothing".to_owned(),
        to: Some(addresses().acl),
        data: cipherloom_contracts::upgrade_call(Address::repeat_byte(1), Bytes::new()),
    };
    let mut sender = sender(&bench, options()).await;
    let error = Box::pin(sender.send(&call, nonce, &mut |_| {})).await.unwrap_err();
    assert!(matches!(error, ChainError::Refused { .. }), "{error}");
    assert_eq!(bench.host.sent_by(development::DEPLOYER).await.unwrap(), nonce);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_that_was_lost_after_the_addresses_are_taken_moves_implementations_and_nothing_else() {
    let bench = Bench::bare().await;
    let steps = steps();
    // Everything that has a planned address is there, and so are two implementations.
    let first_call = steps.iter().position(|step| step.to.is_some()).unwrap();
    for done in [first_call, first_call + 2] {
        deploy(&bench.host, &steps[..done], &deployer()).await.unwrap();
        // A transaction of the account that does nothing of the deployment's, as one that failed on chain.
        let nonce = bench.host.sent_by(development::DEPLOYER).await.unwrap();
        let mut sender = sender(&bench, options()).await;
        Box::pin(sender.send(&nothing(), nonce, &mut |_| {})).await.unwrap();
    }
    let mut nonces = Vec::new();
    let mut sender = sender(&bench, options()).await;
    let mut observer = |event: DeployEvent<'_>| {
        if let DeployEvent::Included { included, .. } = event {
            nonces.push(included.nonce);
        }
    };
    let done = Box::pin(deploy_steps(&bench.host, &steps, &mut sender, &mut observer))
        .await
        .unwrap();
    assert_eq!(done.len(), steps.len());
    assert_eq!(*done.last().unwrap(), u64::try_from(steps.len()).unwrap() + 1);
    bench.host.check_deployment(development::HOST_CHAIN_ID).await.unwrap();
    for contract in HostContract::ALL.into_iter().filter(|contract| contract.is_upgradeable()) {
        let proxy = contract.address(&addresses());
        let behind = proxy::implementation(&bench.host, proxy).await.unwrap().unwrap();
        let wiring = cipherloom_contracts::Wiring::new(addresses(), cipherloom_contracts::Face::default());
        assert_eq!(
            bench.host.code(behind).await.unwrap(),
            contract.runtime_code(&wiring, behind),
            "{contract}"
        );
    }
    assert_eq!(deploy(&bench.host, &steps, &deployer()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_an_earlier_run_left_pending_is_not_doubled() {
    let bench = Bench::bare().await;
    let chain = bench.node.chain().clone();
    let steps = steps();
    chain.set_automine(false).unwrap();
    // The earlier run is dropped in the middle of its first wait.
    let earlier = tokio::time::timeout(Duration::from_millis(150), async {
        let patient = SendOptions {
            stuck_after: Duration::from_secs(60),
            ..options()
        };
        let mut sender = sender(&bench, patient).await;
        Box::pin(deploy_steps(&bench.host, &steps, &mut sender, &mut |_| {})).await
    });
    assert!(earlier.await.is_err());
    chain.set_automine(true).unwrap();
    chain.mine(1).unwrap();
    deploy(&bench.host, &steps, &deployer()).await.unwrap();
    assert_eq!(
        bench.host.sent_by(development::DEPLOYER).await.unwrap(),
        u64::try_from(steps.len()).unwrap()
    );
    assert!(bench.host.balance(development::DEPLOYER).await.unwrap() > U256::ZERO);
}
