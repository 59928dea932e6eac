//! Which block a light client takes.

use std::{path::Path, time::Duration};

use cipherloom_chain::{
    CallLimits, ChainError, LightClient, LightOptions, NativeGenesis,
    light::{LightError, TrustedState},
};
use cipherloom_primitives::{B256, quorum::QuorumError};

use crate::{
    chain::{Chain, START, set},
    node::{Lies, Node},
};

/// Some seconds after the newest block of every test.
const NOW: u64 = START + 60;

fn limits() -> CallLimits {
    CallLimits {
        attempts: 1,
        ..CallLimits::default()
    }
}

fn client_of(nodes: &[&Node], genesis: &NativeGenesis, options: LightOptions) -> LightClient {
    let urls: Vec<String> = nodes.iter().map(|node| node.url()).collect();
    LightClient::connect(&urls, genesis, limits(), options).unwrap()
}

fn client(node: &Node, chain: &Chain) -> LightClient {
    client_of(&[node], &chain.genesis(), LightOptions::default())
}

fn kept_in(file: &Path) -> LightOptions {
    LightOptions {
        trusted_file: Some(file.to_owned()),
        ..LightOptions::default()
    }
}

/// Block 3 and 6 and 7 and 9 change the set; block 10 is the newest one.
fn eventful() -> Chain {
    let mut chain = Chain::new(&[1, 2, 3, 4]);
    chain.idle(2);
    chain.extend(|_| {}, &[2, 3, 4, 5]);
    chain.idle(2);
    chain.extend(|_| {}, &[5, 6, 7, 8]);
    chain.extend(|_| {}, &[7, 8, 9, 10]);
    chain.idle(1);
    chain.extend(|_| {}, &[9, 10, 11]);
    chain.idle(1);
    chain
}

#[track_caller]
fn refused_as(error: &ChainError, expected: impl Fn(&LightError) -> bool) {
    match error {
        ChainError::Certificate { source, .. } if expected(source) => {}
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn changes_of_the_set_are_followed_from_the_genesis() {
    let mut chain = eventful();
    let node = Node::start(&chain).await;
    let client = client(&node, &chain);
    let pinned = client.pin(NOW, None).await.unwrap();
    assert_eq!((pinned.number(), pinned.hash()), (10, chain.head().hash));
    assert_eq!(pinned.timestamp(), START + 10);
    assert_eq!(*client.trusted().validators(), set(&[9, 10, 11]));
    // Blocks without changes cost one question each.
    let pages = node.change_pages();
    for _ in 0..3 {
        chain.idle(1);
        node.show(&chain);
        assert_eq!(client.pin(NOW, None).await.unwrap().hash(), chain.head().hash);
    }
    assert_eq!(node.change_pages(), pages);
    // The block that changes the set is itself signed by the set before it.
    chain.extend(|_| {}, &[1, 2]);
    node.show(&chain);
    assert_eq!(client.pin(NOW, None).await.unwrap().hash(), chain.head().hash);
    assert_eq!(*client.trusted().validators(), set(&[1, 2]));
}

#[tokio::test]
async fn forged_certificates_are_refused() {
    let mut chain = Chain::new(&[1, 2, 3, 4]);
    chain.idle(3);
    let honest = chain.clone();
    let node = Node::start(&chain).await;
    let forged = chain.draft(|_| {}, &[1, 2, 3, 4]);
    let shown = |block: crate::chain::Block| Lies {
        newest: Some(block.certified()),
        ..Lies::default()
    };
    let quorum = |expected: fn(&QuorumError) -> bool| move |error: &LightError| matches!(error, LightError::Quorum { source, .. } if expected(source));

    node.lie(shown(forged.clone()));
    refused_as(
        &client(&node, &honest).pin(NOW, None).await.unwrap_err(),
        quorum(|source| matches!(source, QuorumError::NotEnough { power: 0, .. })),
    );
    node.lie(shown(chain.signed(forged.clone(), &[1, 2])));
    refused_as(
        &client(&node, &honest).pin(NOW, None).await.unwrap_err(),
        quorum(|source| matches!(source, QuorumError::NotEnough { power: 2, total: 4 })),
    );
    node.lie(shown(chain.signed(forged.clone(), &[11, 12, 13, 14])));
    refused_as(
        &client(&node, &honest).pin(NOW, None).await.unwrap_err(),
        quorum(|source| matches!(source, QuorumError::NotAValidator(_))),
    );
    // Signatures of another block.
    let mut borrowed = forged.clone();
    borrowed.certificate.signatures.clone_from(&chain.head().certificate.signatures);
    node.lie(shown(borrowed));
    refused_as(
        &client(&node, &honest).pin(NOW, None).await.unwrap_err(),
        quorum(|source| matches!(source, QuorumError::WrongSignature(_))),
    );
    // Another header under a certificate that holds.
    let mut swapped = chain.head().certified();
    swapped.header = forged.certified().header;
    node.lie(Lies {
        newest: Some(swapped),
        ..Lies::default()
    });
    refused_as(&client(&node, &honest).pin(NOW, None).await.unwrap_err(), |error| {
        matches!(error, LightError::OtherBlock { certified: 3, header: 4 })
    });
    // Validators of a chain that began otherwise.
    let mut other = honest.genesis();
    other.hash = B256::repeat_byte(7);
    node.lie(Lies::default());
    let stranger = client_of(&[&node], &other, LightOptions::default());
    refused_as(
        &stranger.pin(NOW, None).await.unwrap_err(),
        quorum(|source| matches!(source, QuorumError::WrongSignature(_))),
    );
    // And what is right is taken.
    assert_eq!(client(&node, &honest).pin(NOW, None).await.unwrap().number(), 3);
}

#[tokio::test]
async fn validators_that_left_cannot_show_another_history() {
    let chain = eventful();
    let node = Node::start(&chain).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trusted.json");
    let client = client_of(&[&node], &chain.genesis(), kept_in(&file));
    client.pin(NOW, None).await.unwrap();

    // The first validators sign a history of their own, longer than the other one.
    let mut history = Chain {
        blocks: chain.blocks[..3].to_vec(),
    };
    history.extend(
        |state| state.set(alloy::primitives::Address::repeat_byte(1), B256::ZERO, alloy::primitives::U256::ONE),
        &[1, 2, 3, 4],
    );
    history.idle(20);
    node.show(&history);
    // Who knows the present set goes on with what it took.
    let pinned = client.pin(NOW, None).await.unwrap();
    assert_eq!(pinned.hash(), chain.head().hash);
    // So does one that starts again from what it kept, though it has no block any more to go on with.
    let restarted = client_of(&[&node], &chain.genesis(), kept_in(&file));
    assert_eq!(restarted.trusted().height(), 10);
    refused_as(&restarted.pin(NOW, None).await.unwrap_err(), |error| {
        matches!(error, LightError::Quorum { .. })
    });
    node.show(&chain);
    assert_eq!(restarted.pin(NOW, None).await.unwrap().hash(), chain.head().hash);
}

#[tokio::test]
async fn changes_cannot_be_hidden_or_made_up() {
    let chain = eventful();
    let node = Node::start(&chain).await;
    let fresh = || client(&node, &chain);
    let changes: Vec<_> = [3, 6, 7, 9].map(|number: usize| chain.blocks[number].change()).to_vec();
    let lie = |changes: Vec<_>| {
        node.lie(Lies {
            changes: Some(changes),
            ..Lies::default()
        });
    };
    lie(vec![]);
    refused_as(&fresh().pin(NOW, None).await.unwrap_err(), |error| {
        matches!(error, LightError::Quorum { .. })
    });
    // One in the middle is missing: the next one is not signed by the set that is known then.
    lie([&changes[..1], &changes[2..]].concat());
    refused_as(&fresh().pin(NOW, None).await.unwrap_err(), |error| {
        matches!(error, LightError::Quorum { .. })
    });
    // A set that the header does not name.
    let mut made_up = changes.clone();
    made_up[0].validators = set(&[21, 22, 23]);
    lie(made_up);
    refused_as(&fresh().pin(NOW, None).await.unwrap_err(), |error| {
        matches!(error, LightError::OtherSet { number: 3 })
    });
    // The newest block names other validators, of whom nothing is shown.
    let short = Chain {
        blocks: chain.blocks[..4].to_vec(),
    };
    node.show(&short);
    lie(vec![]);
    refused_as(&fresh().pin(NOW, None).await.unwrap_err(), |error| {
        matches!(error, LightError::OtherSet { number: 3 })
    });
    lie(changes);
    assert_eq!(fresh().pin(NOW, None).await.unwrap().number(), 3);
}

#[tokio::test]
async fn an_old_block_is_refused_by_its_time() {
    let chain = eventful();
    let node = Node::start(&chain).await;
    let options = LightOptions {
        max_age: Some(Duration::from_secs(30)),
        ..LightOptions::default()
    };
    let client = client_of(&[&node], &chain.genesis(), options);
    let head = chain.head().header.timestamp;
    client.pin(head + 30, None).await.unwrap();
    let error = client.pin(head + 31, None).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::StaleHead {
                number: 10,
                age_s: 31,
                limit_s: 30
            }
        ),
        "{error}"
    );
    // Nor is one taken that was taken before, when nodes go back to the past or away.
    let past = Chain {
        blocks: chain.blocks[..6].to_vec(),
    };
    node.show(&past);
    assert_eq!(client.pin(head + 30, None).await.unwrap().number(), 10);
    assert!(matches!(
        client.pin(head + 31, None).await,
        Err(ChainError::StaleHead { number: 10, .. })
    ));
}

#[tokio::test]
async fn the_newest_block_that_any_node_can_show_counts() {
    let chain = eventful();
    let behind = Chain {
        blocks: chain.blocks[..5].to_vec(),
    };
    let (ahead, late, liar, gone) = tokio::join!(Node::start(&chain), Node::start(&behind), Node::start(&chain), Node::start(&chain));
    let mut boast = chain.draft(|_| {}, &[9, 10, 11]);
    boast.certificate.height += 1000;
    liar.lie(Lies {
        newest: Some(boast.certified()),
        ..Lies::default()
    });
    gone.lie(Lies {
        is_gone: true,
        ..Lies::default()
    });
    let client = client_of(&[&late, &liar, &gone, &ahead], &chain.genesis(), LightOptions::default());
    // All are asked at once, and those that come later are waited for a moment only.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while client.pin(NOW, None).await.unwrap().number() != 10 {
        assert!(tokio::time::Instant::now() < deadline, "the newest block is never taken");
    }
}

#[tokio::test]
async fn two_histories_stop_the_client_for_good() {
    let mut chain = Chain::new(&[1, 2, 3, 4]);
    chain.idle(3);
    let common = chain.clone();
    chain.idle(1);
    // More than a third sign a second block 4.
    let second = common.signed(
        common.draft(
            |state| state.set(alloy::primitives::Address::ZERO, B256::ZERO, alloy::primitives::U256::ONE),
            &[1, 2, 3, 4],
        ),
        &[1, 2, 3],
    );
    let node = Node::start(&chain).await;
    let at_the_same_height = client(&node, &chain);
    at_the_same_height.pin(NOW, None).await.unwrap();
    node.lie(Lies {
        newest: Some(second.certified()),
        ..Lies::default()
    });
    let forked = |result: Result<_, ChainError>, at| match result {
        Err(ChainError::Forked { number }) if number == at => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a second history was taken"),
    };
    forked(at_the_same_height.pin(NOW, None).await.map(|_| ()), 4);
    // Neither of them counts from now on.
    node.lie(Lies::default());
    forked(at_the_same_height.pin(NOW, None).await.map(|_| ()), 4);

    // A block that does not follow the one that was taken.
    let one_above = client(&node, &chain);
    one_above.pin(NOW, None).await.unwrap();
    let mut other = common.clone();
    other.blocks.push(second);
    other.idle(1);
    node.show(&other);
    forked(one_above.pin(NOW, None).await.map(|_| ()), 5);
}

#[tokio::test]
async fn what_was_kept_is_of_this_chain_or_refused() {
    let chain = eventful();
    let node = Node::start(&chain).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trusted.json");
    client_of(&[&node], &chain.genesis(), kept_in(&file)).pin(NOW, None).await.unwrap();
    let kept = TrustedState::open(&file, chain.domain()).unwrap().unwrap();
    assert_eq!((kept.height(), kept.hash()), (10, chain.head().hash));

    let refused = |genesis: &NativeGenesis| {
        let connected = LightClient::connect(&[node.url()], genesis, limits(), kept_in(&file));
        assert!(matches!(connected.unwrap_err(), ChainError::NativeFile { .. }));
    };
    let mut other = chain.genesis();
    other.hash = B256::repeat_byte(1);
    refused(&other);
    let text = std::fs::read_to_string(&file).unwrap();
    for damaged in [text.replace("\"format\": 1", "\"format\": 2"), text[..text.len() / 2].to_owned()] {
        std::fs::write(&file, damaged).unwrap();
        refused(&chain.genesis());
    }
}

#[test]
fn a_genesis_names_the_chain_and_who_signs_first() {
    let chain = Chain::new(&[1, 2, 3]);
    let genesis = chain.genesis();
    assert_eq!(genesis.consensus_domain(), chain.domain());
    assert_eq!(genesis.trusted().validators().digest(), chain.head().header.extra_data.as_ref());
    assert_eq!(genesis.signing_domains().host_chain_id, genesis.chain_id);
}
