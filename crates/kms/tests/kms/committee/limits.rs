//! How much is decrypted: budgets, requests that are the same, and a log that cannot be written.

use cipherloom_kms::{BudgetOf, Rate};
use futures_util::future::join_all;

use super::*;

fn two_values_a_minute(change: impl FnOnce(&mut BudgetLimits, Rate)) -> BudgetLimits {
    let mut limits = BudgetLimits::default();
    change(&mut limits, Rate { values: 2, seconds: 60 });
    limits
}

#[tokio::test]
async fn a_handle_is_decrypted_so_often_and_no_more() {
    let stage = Stage::with_budgets((4, 1), two_values_a_minute(|limits, two| limits.handle = two));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let other = stage.readable(2, FheType::Uint64, U256::from(43));
    let request = stage.world.request(&[handle]);
    stage.user_shares(&request).await;
    stage.user_shares(&request).await;
    for error in stage.all_refuse_user(&request).await {
        assert!(
            matches!(&*error, KmsError::Budget(exhausted) if exhausted.of == BudgetOf::Handle(handle)),
            "{error}"
        );
        assert_eq!((error.label(), error.is_retryable()), ("protocol_overload", true));
        assert!(error.retry_after_seconds().is_some_and(|wait| (30..=31).contains(&wait)));
    }
    // Not in company either, and not as a public value.
    stage.all_refuse_user(&stage.world.request(&[other, handle])).await;
    stage.all_refuse_public(&stage.public_request(&[handle]), &[]).await;
    stage.user_shares(&stage.world.request(&[other])).await;
    assert!(stage.raised(0).iter().all(|name| *name == "budget_exhausted"));
    assert_eq!(stage.raised(0).len(), 4);
}

#[tokio::test]
async fn an_account_uses_up_its_own_budget_and_nobody_elses() {
    let stage = Stage::with_budgets((4, 1), two_values_a_minute(|limits, two| limits.requester = two));
    let handles = [1, 2, 3].map(|tag| stage.readable(tag, FheType::Uint8, U256::from(tag)));
    stage.all_refuse_user(&stage.world.request(&handles)).await;
    assert!(stage.storage.fetched.lock().unwrap().is_empty(), "nothing was squashed for it");
    stage.user_shares(&stage.world.request(&handles[..2])).await;
    let user = stage.world.user_address();
    for error in stage.all_refuse_user(&stage.world.request(&handles[2..])).await {
        assert!(
            matches!(&*error, KmsError::Budget(exhausted) if exhausted.of == BudgetOf::Requester(user)),
            "{error}"
        );
    }
    stage.bundles(&stage.public_request(&handles)).await;
    let other = key(0x32);
    {
        let mut chain = stage.chain();
        chain.allowed.insert((handles[0], node_address(&other)));
    }
    let mut request = stage.world.unsigned_request(&handles[..1]);
    request.user = node_address(&other);
    request.values[0].owner = request.user;
    let request = stage.world.sign_with(request, &other, &stage.world.domains);
    stage.user_shares(&request).await;
}

#[tokio::test]
async fn refused_requests_pay_nothing_and_equal_public_ones_pay_once() {
    let stage = Stage::with_budgets((4, 1), two_values_a_minute(|limits, two| limits.key_set = two));
    let handle = stage.store(1, FheType::Uint64, U256::from(42));
    for _ in 0..5 {
        stage.all_refuse_user(&stage.world.request(&[handle])).await;
    }
    stage.world.allow(handle);
    stage.world.make_public(handle);
    stage.replace_list(handle, Err(SourceError::NotReady));
    stage.all_refuse_user(&stage.world.request(&[handle])).await;
    stage.replace_list(handle, Ok(stage.attest(handle, squashed_list(FheType::Uint64, U256::from(42)))));
    for _ in 0..5 {
        stage.bundles(&stage.public_request(&[handle])).await;
    }
    stage.user_shares(&stage.world.request(&[handle])).await;
    for error in stage.all_refuse_user(&stage.world.request(&[handle])).await {
        assert!(
            matches!(&*error, KmsError::Budget(exhausted) if exhausted.of == BudgetOf::KeySet),
            "{error}"
        );
    }
    assert_eq!(stage.raised(3), ["budget_running_out", "budget_exhausted"]);
}

#[tokio::test]
async fn equal_requests_at_the_same_time_are_one_decryption() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Uint64, U256::from(42));
    let (request, public) = (stage.world.request(&[handle]), stage.public_request(&[handle]));
    let node = &stage.nodes[0];
    let answers = join_all((0..20).map(|_| node.user_share(request.clone(), None))).await;
    let first = answers[0].as_ref().unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap() == first));
    let bundles = join_all((0..20).map(|_| node.public_shares(public.clone(), None))).await;
    assert!(
        bundles
            .iter()
            .all(|bundle| bundle.as_ref().unwrap() == bundles[0].as_ref().unwrap())
    );
    assert_eq!(stage.records()[0], 2);
    assert_eq!(stage.storage.fetched.lock().unwrap().len(), 2);
    // One bit of difference is another request.
    let other = stage.world.request(&[handle, handle]);
    let both = join_all([node.user_share(request, None), node.user_share(other, None)]).await;
    assert!(both.iter().all(Result::is_ok));
    assert_eq!(stage.records()[0], 4);
}

/// Tells the child that it is the one whose files cannot grow.
const FULL_DISK: &str = "CIPHERLOOM_TEST_FULL_DISK";

#[test]
fn what_cannot_be_recorded_is_not_answered() {
    if std::env::var_os(FULL_DISK).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        return runtime.block_on(ask_until_the_disk_is_full());
    }
    // The keys that the child reads must be there: it could not write them.
    insecure_test_keys().unwrap();
    // A limit on the length of files stands for the full disk; it is for the whole process, so it needs one of its own.
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "committee::limits::what_cannot_be_recorded_is_not_answered"])
        .env(FULL_DISK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn ask_until_the_disk_is_full() {
    let stage = Stage::new((4, 1));
    let handle = stage.readable(1, FheType::Bool, U256::ONE);
    let mut answers = 0;
    let error = loop {
        // Each is another request, and so another record.
        let request = stage
            .world
            .sign(stage.world.unsigned_with(&[handle], |permit| permit.start_timestamp -= answers));
        match stage.nodes[0].user_share(request, None).await {
            Ok(_) if answers < 1000 => answers += 1,
            Ok(_) => panic!("the disk never got full"),
            Err(error) => break error,
        }
    };
    assert!(matches!(*error, KmsError::Audit(_)), "{error}");
    assert_eq!(error.label(), "internal_server_error");
    assert_eq!(stage.records()[0], answers, "as many answers as records");
    // Ever after, until somebody makes room and restarts it.
    for error in [
        stage.nodes[0].user_share(stage.world.request(&[handle]), None).await.unwrap_err(),
        stage.nodes[0]
            .public_shares(stage.public_request(&[handle]), None)
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(*error, KmsError::Audit(_)), "{error}");
    }
}
