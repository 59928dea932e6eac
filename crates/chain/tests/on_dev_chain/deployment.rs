//! Deployment: complete, resumable, repeatable.

use alloy::primitives::{Address, U256};
use cipherloom_chain::{ChainError, Fault, HostChain, SignerSetOnChain, deploy};
use cipherloom_contracts::{HostAddresses, development};

use crate::fixture::{Bench, COPROCESSOR, KMS, deployer, steps};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployed_chain_has_the_configured_contracts() {
    let bench = Bench::deployed().await;
    bench.host.check_deployment(development::HOST_CHAIN_ID).await.unwrap();
    assert_eq!(bench.host.signing_domains().await.unwrap(), development::signing_domains());
    let single = |signer| SignerSetOnChain {
        signers: vec![signer],
        threshold: U256::from(1),
    };
    assert_eq!(bench.host.coprocessor_signers().await.unwrap(), single(COPROCESSOR));
    assert_eq!(bench.host.kms_signers().await.unwrap(), single(KMS));
    // Context ids carry their kind in the highest byte (public protocol, section 1.7).
    assert_eq!(bench.host.kms_context_id().await.unwrap() >> 248, U256::from(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_deployment_is_resumed_and_a_finished_one_left_alone() {
    let bench = Bench::bare().await;
    let steps = steps();
    for done in [3, 11, steps.len()] {
        deploy(&bench.host, &steps[..done], &deployer()).await.unwrap();
    }
    bench.host.check_deployment(development::HOST_CHAIN_ID).await.unwrap();
    assert_eq!(deploy(&bench.host, &steps, &deployer()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployer_that_sent_something_else_is_refused() {
    let bench = Bench::bare().await;
    bench.node.chain().set_nonce(development::DEPLOYER, 5).unwrap();
    let error = deploy(&bench.host, &steps(), &deployer()).await.unwrap_err();
    assert!(matches!(error, ChainError::DeployerUsed { nonce: 5, .. }), "{error}");
    assert_eq!((error.fault(), error.is_retryable()), (Fault::Configuration, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_addresses_and_chains_are_told_apart() {
    let bench = Bench::deployed().await;
    let error = bench.host.check_deployment(1).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::WrongChain {
                expected: 1,
                found: development::HOST_CHAIN_ID
            }
        ),
        "{error}"
    );

    let nowhere = HostAddresses::of_deployer(Address::repeat_byte(1));
    let host = HostChain::connect(&bench.node.rpc_url(), nowhere).unwrap();
    let error = host.check_deployment(development::HOST_CHAIN_ID).await.unwrap_err();
    assert!(
        matches!(error, ChainError::Contract { contract, .. } if contract == nowhere.acl),
        "{error}"
    );
    assert_eq!((error.fault(), error.is_retryable()), (Fault::Configuration, false));

    let mixed = HostAddresses {
        input_verifier: nowhere.input_verifier,
        ..development::addresses()
    };
    let host = HostChain::connect(&bench.node.rpc_url(), mixed).unwrap();
    let error = host.check_deployment(development::HOST_CHAIN_ID).await.unwrap_err();
    assert!(matches!(error, ChainError::Inconsistent { .. }), "{error}");
}
