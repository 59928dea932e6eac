//! Who is let in.

use std::collections::HashSet;

use alloy::primitives::keccak256;
use cipherloom_consensus::{
    Network, PeerId,
    p2p::{Direction, PeerAddress, PeerNetwork},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpListener,
};

use crate::{
    nodes::{Node, config, key},
    raw::{Claim, HELLO_BYTES, RawPeer},
};

#[tokio::test]
async fn both_sides_know_who_is_on_the_other() {
    let mut first = Node::start(config(1)).await;
    let mut second = Node::with_peers(2, &[&first]).await;
    first.connected(second.id()).await;
    second.connected(first.id()).await;
    let info = &first.network.peer_infos()[0];
    assert_eq!(
        (info.id, info.direction, info.favoured),
        (key(2).address(), Direction::Inbound, false)
    );
    let info = &second.network.peer_infos()[0];
    assert_eq!(
        (info.id, info.direction, info.favoured),
        (key(1).address(), Direction::Outbound, true)
    );
    second
        .until(|node| node.network.peer_infos()[0].round_trip.is_some(), "a ping")
        .await;
}

#[tokio::test]
async fn a_peer_without_an_id_is_whoever_answers() {
    let mut first = Node::start(config(1)).await;
    let mut config = config(2);
    config.peers = vec![first.network.local_address().unwrap().to_string().parse().unwrap()];
    let mut second = Node::start(config).await;
    second.connected(first.id()).await;
    first.connected(second.id()).await;
    assert!(
        second.network.peer_infos()[0].favoured,
        "whoever is found at a configured address is favoured"
    );
}

#[tokio::test]
async fn nodes_that_call_each_other_have_one_connection() {
    let mut first = Node::start(config(1)).await;
    let mut address: PeerAddress = first.address();
    let mut second_config = config(2);
    second_config.peers = vec![address.clone()];
    let mut second = Node::start(second_config).await;
    address = second.address();
    first.connected(second.id()).await;
    second.connected(first.id()).await;
    // The first node starts anew, under the same key, and calls too.
    let mut first_config = config(1);
    first_config.listen = first.network.local_address();
    first_config.peers = vec![address];
    first.network.shutdown().await;
    drop(first);
    let mut first = Node::start(first_config).await;
    second.disconnected(first.id()).await;
    first.connected(second.id()).await;
    second.connected(first.id()).await;
    first.has_peers(vec![second.id()]).await;
    second.has_peers(vec![first.id()]).await;
}

#[tokio::test]
async fn another_chain_another_genesis_and_another_key_are_refused() {
    let first = Node::start(config(1)).await;
    let mut other_chain = config(2);
    other_chain.chain_id += 1;
    other_chain.peers = vec![first.address()];
    let mut other_genesis = config(3);
    other_genesis.genesis_hash = keccak256("another genesis");
    other_genesis.peers = vec![first.address()];
    let mut other_key = config(4);
    let mut address = first.address();
    address.id = Some(key(9).address());
    other_key.peers = vec![address];
    for config in [other_chain, other_genesis, other_key] {
        let node = Node::start(config).await;
        node.counts("cipherloom_network_connections_total{result=\"failed\"}", 2).await;
        assert!(node.network.peers().is_empty());
    }
    first.counts("cipherloom_network_connections_total{result=\"not_taken\"}", 2).await;
}

#[tokio::test]
async fn a_node_does_not_connect_to_itself() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut config = config(1);
    config.listen = Some(address);
    config.peers = vec![address.to_string().parse().unwrap()];
    let node = Node::start(config).await;
    node.counts("cipherloom_network_connections_total{result=\"own\"}", 1).await;
    assert!(node.network.peers().is_empty());
}

#[tokio::test]
async fn a_peer_that_signs_for_another_connection_is_refused() {
    let node = Node::start(config(1)).await;
    let address = node.network.local_address().unwrap();
    let (liar, victim) = (key(7), key(8));
    // Another's name, another role, another connection.
    let claims: [fn(&mut Claim<'_>); 2] = [|claim| claim.id = key(8).address(), |claim| claim.role = "listener"];
    for change in claims {
        let mut peer = RawPeer::secure(address).await;
        let mut claim = Claim::of(&liar);
        change(&mut claim);
        let hello = claim.hello(peer.exporter());
        peer.write(&hello).await;
        peer.closed().await;
    }
    let mut peer = RawPeer::secure(address).await;
    let elsewhere = RawPeer::secure(address).await.exporter();
    let hello = Claim::of(&victim).hello(elsewhere);
    peer.write(&hello).await;
    peer.closed().await;
    node.counts("cipherloom_network_connections_total{result=\"not_taken\"}", 3).await;
    assert!(node.network.peers().is_empty());
    // The truth, for comparison.
    let _peer = RawPeer::connect(address, &victim).await;
    node.has_peers(vec![victim.address()]).await;
}

#[tokio::test]
async fn a_hello_that_is_sent_back_to_its_author_is_refused() {
    let node = Node::start(config(1)).await;
    let mut peer = RawPeer::secure(node.network.local_address().unwrap()).await;
    let mut hello = [0; HELLO_BYTES];
    peer.stream.read_exact(&mut hello).await.unwrap();
    peer.write(&hello).await;
    peer.closed().await;
    node.counts("cipherloom_network_connections_total{result=\"not_taken\"}", 1).await;
    assert_eq!(
        node.counted("cipherloom_network_connections_total{result=\"own\"}"),
        0,
        "it must fail before"
    );
}

#[tokio::test]
async fn somebody_in_the_middle_is_found_out_by_both_sides() {
    let server = Node::start(config(1)).await;
    let target = server.network.local_address().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let middle = listener.local_addr().unwrap();
    let relay = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut near = RawPeer::accept(stream).await;
            let mut far = RawPeer::secure(target).await;
            let _ = copy_bidirectional(&mut near.stream, &mut far.stream).await;
            let _ = near.stream.shutdown().await;
        }
    });
    let mut client_config = config(2);
    client_config.peers = vec![PeerAddress {
        id: Some(server.id()),
        host: middle.to_string(),
    }];
    let client = Node::start(client_config).await;
    client.counts("cipherloom_network_connections_total{result=\"failed\"}", 1).await;
    server.counts("cipherloom_network_connections_total{result=\"not_taken\"}", 1).await;
    assert!(client.network.peers().is_empty() && server.network.peers().is_empty());
    relay.abort();
}

#[tokio::test]
async fn a_closed_network_lets_in_nobody_but_the_configured_and_the_favoured() {
    let mut closed = config(1);
    closed.closed = true;
    closed.peers = vec![format!("{}@127.0.0.1:9", key(2).address()).parse().unwrap()];
    let first = Node::start(closed).await;
    let configured = Node::with_peers(2, &[&first]).await;
    let stranger = Node::with_peers(3, &[&first]).await;
    configured.has_peers(vec![first.id()]).await;
    stranger.counts("cipherloom_network_connections_total{result=\"closed\"}", 1).await;
    assert_eq!(first.network.peers(), [configured.id()]);
    first.network.favour(HashSet::from([stranger.id()]));
    stranger.has_peers(vec![first.id()]).await;
}

#[tokio::test]
async fn strangers_do_not_take_the_places_of_favoured_peers() {
    let mut full = config(1);
    full.limits.inbound = 1;
    let first = Node::start(full).await;
    let stranger = Node::with_peers(2, &[&first]).await;
    stranger.has_peers(vec![first.id()]).await;
    let validator = Node::with_peers(3, &[&first]).await;
    validator.counts("cipherloom_network_connections_total{result=\"full\"}", 1).await;
    first.network.favour(HashSet::from([validator.id()]));
    validator.has_peers(vec![first.id()]).await;
    first.has_peers(vec![stranger.id(), validator.id()]).await;
}

#[tokio::test]
async fn contradictions_in_the_configuration_are_refused() {
    let mut closed = config(1);
    closed.closed = true;
    closed.discovery = true;
    assert!(PeerNetwork::start(closed).await.is_err());
    let mut nameless = config(1);
    nameless.closed = true;
    nameless.peers = vec!["127.0.0.1:1".parse().unwrap()];
    assert!(PeerNetwork::start(nameless).await.is_err());
    let mut hasty = config(1);
    hasty.limits.idle_timeout = hasty.limits.ping_interval;
    assert!(PeerNetwork::start(hasty).await.is_err());
    let node = Node::start(config(1)).await;
    let mut taken = config(2);
    taken.listen = node.network.local_address();
    assert!(PeerNetwork::start(taken).await.is_err());
}

#[test]
fn addresses_of_peers_are_read_and_written() {
    let id: PeerId = key(1).address();
    for text in [
        format!("{id}@validator-1.example.org:26656"),
        format!("{id}@[::1]:1"),
        "10.0.0.1:65535".to_owned(),
        "node_a:30303".to_owned(),
    ] {
        assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "host",
        "host:",
        "host:0",
        "host:65536",
        ":1",
        "a b:1",
        "0x12@host:1",
        "::1:1",
        "[::1:1",
        "host/path:1",
        "@host:1",
    ] {
        assert!(text.parse::<PeerAddress>().is_err(), "{text:?}");
    }
    assert!(format!("{}:1", "a".repeat(300)).parse::<PeerAddress>().is_err());
}
