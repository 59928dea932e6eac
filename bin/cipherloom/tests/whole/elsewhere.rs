//! The examples do the same elsewhere: compiled with the published Solidity library from npm, and on a chain that is not ours.

use std::{path::PathBuf, sync::LazyLock};

use crate::{
    auction, ballot,
    dapp::{Examples, Stack, compile},
    process, token,
};

static RELEASE_0_11: LazyLock<PathBuf> = LazyLock::new(|| compile("examples-0.11", &["examples-npm", "--release", "0.11.1"]));
static RELEASE_0_13: LazyLock<PathBuf> = LazyLock::new(|| compile("examples-0.13", &["examples-npm", "--release", "0.13.2"]));

async fn everything_works(stack: &Stack, examples: &Examples) {
    token::circulate(stack, examples).await;
    token::spend_allowances(stack, examples).await;
    token::publish_the_total(stack, examples).await;
    auction::play(stack, examples).await;
    auction::play_with_callback(stack, examples).await;
    ballot::hold(stack, examples).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_do_the_same_with_release_0_11_of_the_published_library() {
    let examples = Examples::In(RELEASE_0_11.clone());
    everything_works(&Stack::start().await, &examples).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_do_the_same_with_release_0_13_of_the_published_library() {
    let examples = Examples::In(RELEASE_0_13.clone());
    everything_works(&Stack::start().await, &examples).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_do_the_same_on_a_chain_that_is_not_ours() {
    everything_works(&Stack::attached().await, &Examples::Ours).await;
}

#[test]
fn the_token_compiled_with_the_published_library_passes_the_same_demo() {
    let directory = tempfile::tempdir().unwrap();
    let artifact = RELEASE_0_13.join("confidential-token/ConfidentialToken.json");
    let summary = process::demo(
        &directory.path().join("data"),
        &["--insecure-clear", "--token-artifact", artifact.to_str().unwrap()],
    );
    assert_eq!(summary["ok"], true);
    assert_eq!(
        (summary["balances"]["alice"].as_u64(), summary["balances"]["bob"].as_u64()),
        (Some(750), Some(250))
    );
}
