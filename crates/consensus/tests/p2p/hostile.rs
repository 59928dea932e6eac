//! Peers that break the protocol, stall, flood or do not listen: the others do not suffer.

use std::{collections::HashSet, time::Duration};

use alloy::primitives::{Bytes, keccak256};
use cipherloom_consensus::{
    Channel, Network, Received,
    p2p::{Offence, max_message_bytes},
};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{
    nodes::{Node, PATIENCE, config, key},
    raw::RawPeer,
};

const FIRST: u8 = 1;

#[tokio::test]
async fn breaking_the_protocol_ends_in_a_ban() {
    let mut node = Node::start(config(1)).await;
    let address = node.network.local_address().unwrap();
    let blocks = u32::try_from(max_message_bytes(Channel::Blocks)).unwrap();
    // Lane, flags, length, remaining; then what is wrong with it.
    let frames: [(u8, u8, u16, u32, &str); 9] = [
        (4, FIRST, 32 << 10, blocks + 1, "longer than a block may be"),
        (2, FIRST, 4097, 4097, "longer than a status may be"),
        (7, FIRST, 1, 1, "unknown lane"),
        (1, 0x80 | FIRST, 1, 1, "unknown flag"),
        (1, FIRST, 0, 0, "empty"),
        (1, FIRST, 1, 2, "cut smaller than it has to be"),
        (1, FIRST, 33 << 10, 100_000, "a frame that is too long"),
        (1, 0, 5, 5, "continues what was not begun"),
        (0, FIRST, 1, 1, "an unknown control message"),
    ];
    for (number, (lane, flags, length, remaining, what)) in frames.into_iter().enumerate() {
        let key = key(100 + u8::try_from(number).unwrap());
        let mut peer = RawPeer::connect(address, &key).await;
        node.connected(key.address()).await;
        peer.header(lane, flags, length, remaining).await;
        if what.contains("control") {
            peer.write(&[200]).await;
        }
        timeout(PATIENCE, peer.closed()).await.expect(what);
        node.disconnected(key.address()).await;
        let mut again = RawPeer::secure(address).await;
        let hello = crate::raw::Claim::of(&key).hello(again.exporter());
        again.write(&hello).await;
        let mut rest = [0; crate::raw::HELLO_BYTES];
        again.stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(again.stream.read_u8().await.unwrap(), 2, "{what}: the peer is not banned");
    }
    assert_eq!(node.counted("cipherloom_network_bans_total{peer=\"stranger\"}"), 9);
}

#[tokio::test]
async fn a_ban_outlives_a_restart_till_it_is_over() {
    let place = tempfile::tempdir().unwrap();
    let restarted = async |ban: Duration| {
        let mut config = config(1);
        config.bans = Some(place.path().join("bans"));
        config.limits.ban = ban;
        Node::start(config).await
    };
    let hour = Duration::from_secs(3600);
    let key = key(100);
    let answer = async |node: &Node| {
        let mut peer = RawPeer::secure(node.network.local_address().unwrap()).await;
        let hello = crate::raw::Claim::of(&key).hello(peer.exporter());
        peer.write(&hello).await;
        let mut rest = [0; crate::raw::HELLO_BYTES];
        peer.stream.read_exact(&mut rest).await.unwrap();
        peer.stream.read_u8().await.unwrap()
    };
    let mut node = restarted(hour).await;
    assert_eq!(answer(&node).await, 0, "nobody is banned yet");
    let mut peer = RawPeer::connect(node.network.local_address().unwrap(), &key).await;
    node.connected(key.address()).await;
    peer.header(7, FIRST, 1, 1).await;
    timeout(PATIENCE, peer.closed()).await.unwrap();
    node.counts("cipherloom_network_bans_total{peer=\"stranger\"}", 1).await;
    node.network.shutdown().await;

    for _ in 0..2 {
        let node = restarted(hour).await;
        assert_eq!(answer(&node).await, 2);
        node.network.shutdown().await;
    }
    // Whoever made bans shorter meanwhile means those, too.
    let node = restarted(Duration::from_millis(1)).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(answer(&node).await, 0);
    node.network.shutdown().await;
    // A file that is damaged keeps nobody from starting.
    std::fs::write(place.path().join("bans"), "nothing of the kind").unwrap();
    let node = restarted(hour).await;
    assert_eq!(answer(&node).await, 0);
    node.network.shutdown().await;
}

#[tokio::test]
async fn a_frame_that_continues_another_message_is_found_out() {
    let mut node = Node::start(config(1)).await;
    let key = key(100);
    let mut peer = RawPeer::connect(node.network.local_address().unwrap(), &key).await;
    node.connected(key.address()).await;
    peer.header(4, FIRST, 32 << 10, 100_000).await;
    peer.write(&vec![0; 32 << 10]).await;
    // 67232 bytes are left.
    peer.header(4, 0, 32 << 10, 67_000).await;
    timeout(PATIENCE, peer.closed()).await.unwrap();
    node.counts("cipherloom_network_bans_total{peer=\"stranger\"}", 1).await;
}

#[tokio::test]
async fn noise_instead_of_frames_harms_nobody() {
    let node = Node::start(config(1)).await;
    let address = node.network.local_address().unwrap();
    let honest = Node::with_peers(2, &[&node]).await;
    honest.has_peers(vec![node.id()]).await;
    for number in 0..20 {
        let mut peer = RawPeer::connect(address, &key(100 + number)).await;
        let noise: Vec<u8> = (0..128_u8).flat_map(|block| keccak256([number, block]).0).collect();
        // The node may be gone before everything is written.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &noise).await;
        timeout(PATIENCE, peer.closed()).await.unwrap();
    }
    assert_eq!(honest.network.peers(), [node.id()]);
}

#[tokio::test]
async fn offences_add_up_to_a_ban_which_is_short_for_favoured_peers() {
    let mut strict = config(1);
    strict.limits.ban = Duration::from_secs(60);
    let mut node = Node::start(strict).await;
    let (mut honest, mut validator) = (Node::with_peers(2, &[&node]).await, Node::with_peers(3, &[&node]).await);
    honest.connected(node.id()).await;
    validator.connected(node.id()).await;
    node.network.favour(HashSet::from([validator.id()]));
    node.has_peers(vec![honest.id(), validator.id()]).await;
    node.network.punish_for(honest.id(), Offence::Useless, "an answer nobody can use");
    node.network.punish(validator.id(), "a block that is wrong");
    assert_eq!(node.network.peers().len(), 2, "one offence is no ban");
    for id in [honest.id(), validator.id()] {
        node.network.punish(id, "a block that is wrong");
        node.network.punish(id, "and another");
    }
    honest.disconnected(node.id()).await;
    validator.disconnected(node.id()).await;
    node.disconnected(validator.id()).await;
    validator.connected(node.id()).await;
    honest.counts("cipherloom_network_connections_total{result=\"banned\"}", 1).await;
    assert!(honest.network.peers().is_empty());
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off_and_holds_up_nobody() {
    let mut impatient = config(1);
    impatient.limits.queue_bytes = 4 << 20;
    impatient.limits.ping_interval = Duration::from_secs(20);
    impatient.limits.idle_timeout = Duration::from_secs(60);
    let mut node = Node::start(impatient).await;
    let key = key(100);
    let deaf = RawPeer::connect(node.network.local_address().unwrap(), &key).await;
    node.connected(key.address()).await;
    let mut honest = Node::with_peers(2, &[&node]).await;
    node.connected(honest.id()).await;
    // More than all buffers on the way to the deaf peer hold.
    let rounds = 24_u8;
    for round in 0..rounds {
        let mut block = vec![round; 1 << 20];
        block[0] = round;
        node.network.broadcast(Channel::Blocks, block.into());
        let (_, channel, block) = honest.message().await;
        assert_eq!((channel, block[0], block.len()), (Channel::Blocks, round, 1 << 20));
    }
    node.disconnected(key.address()).await;
    assert_eq!(node.counted("cipherloom_network_disconnections_total{reason=\"slow\"}"), 1);
    assert_eq!(node.network.peers(), [honest.id()]);
    drop(deaf);
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up() {
    let mut impatient = config(1);
    impatient.limits.ping_interval = Duration::from_millis(100);
    impatient.limits.idle_timeout = Duration::from_millis(400);
    let mut node = Node::start(impatient).await;
    let key = key(100);
    let mut peer = RawPeer::connect(node.network.local_address().unwrap(), &key).await;
    node.connected(key.address()).await;
    timeout(PATIENCE, peer.closed()).await.unwrap();
    node.disconnected(key.address()).await;
    node.counts("cipherloom_network_disconnections_total{reason=\"timed_out\"}", 1)
        .await;
    assert_eq!(
        node.counted("cipherloom_network_bans_total{peer=\"stranger\"}"),
        0,
        "silence is no offence"
    );
}

#[tokio::test]
async fn a_message_that_never_ends_is_given_up_though_the_peer_talks() {
    let mut impatient = config(1);
    impatient.limits.message_timeout = Duration::from_millis(500);
    let mut node = Node::start(impatient).await;
    let key = key(100);
    let mut peer = RawPeer::connect(node.network.local_address().unwrap(), &key).await;
    node.connected(key.address()).await;
    peer.header(4, FIRST, 32 << 10, 1 << 20).await;
    peer.write(&vec![0; 32 << 10]).await;
    let talking = async {
        for number in 0_u32.. {
            let vote = [b"a vote ".as_slice(), &number.to_be_bytes()].concat();
            let mut frame = vec![
                1,
                FIRST,
                0,
                u8::try_from(vote.len()).unwrap(),
                0,
                0,
                0,
                u8::try_from(vote.len()).unwrap(),
            ];
            frame.extend(vote);
            if tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &frame).await.is_err() {
                return;
            }
            tokio::io::AsyncWriteExt::flush(&mut peer.stream).await.unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let heard = node.disconnected(key.address());
    tokio::select! {
        () = talking => {}
        () = heard => {}
    }
    node.counts("cipherloom_network_disconnections_total{reason=\"timed_out\"}", 1)
        .await;
}

#[tokio::test]
async fn strangers_cannot_fill_the_memory() {
    let mut small = config(1);
    small.limits.buffer_bytes = 2 << 20;
    let mut node = Node::start(small).await;
    let address = node.network.local_address().unwrap();
    // Three strangers with a block each of which almost everything has come: together more than the node keeps for strangers.
    let mut peers = Vec::new();
    for number in 100..103 {
        let key = key(number);
        let mut peer = RawPeer::connect(address, &key).await;
        node.connected(key.address()).await;
        let mut remaining = (1_u32 << 20) + 1;
        let mut flags = FIRST;
        let mut written = true;
        while remaining > 32 << 10 && written {
            let mut frame = vec![4, flags];
            frame.extend((32_u16 << 10).to_be_bytes());
            frame.extend(remaining.to_be_bytes());
            frame.extend(vec![0; 32 << 10]);
            written = tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &frame).await.is_ok();
            flags = 0;
            remaining -= 32 << 10;
        }
        let _ = tokio::io::AsyncWriteExt::flush(&mut peer.stream).await;
        peers.push(peer);
    }
    node.counts("cipherloom_network_disconnections_total{reason=\"lost\"}", 1).await;
    // Configured peers have memory that strangers cannot take.
    let mut validator = Node::with_peers(2, &[&node]).await;
    validator.connected(node.id()).await;
    node.network.favour(HashSet::from([validator.id()]));
    let block = Bytes::from(vec![9; 3 << 20]);
    validator.network.broadcast(Channel::Blocks, block.clone());
    assert!(node.message().await.2 == block);
    drop(peers);
}

#[tokio::test]
async fn connections_that_go_no_further_keep_nobody_out_for_long() {
    let mut narrow = config(1);
    narrow.limits.handshakes = 2;
    narrow.limits.handshake_timeout = Duration::from_millis(800);
    let node = Node::start(narrow).await;
    let address = node.network.local_address().unwrap();
    let idle = [
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
    ];
    let honest = Node::with_peers(2, &[&node]).await;
    honest.counts("cipherloom_network_connections_total{result=\"failed\"}", 1).await;
    honest.has_peers(vec![node.id()]).await;
    drop(idle);
}

#[tokio::test]
async fn a_flood_is_read_no_faster_than_allowed_while_others_are_heard() {
    let mut slow = config(1);
    slow.limits.messages_per_second = 25;
    let mut node = Node::start(slow).await;
    let key = key(100);
    let mut peer = RawPeer::connect(node.network.local_address().unwrap(), &key).await;
    node.connected(key.address()).await;
    let honest = Node::with_peers(2, &[&node]).await;
    node.connected(honest.id()).await;
    let since = tokio::time::Instant::now();
    for number in 0_u32..150 {
        peer.gossip(1, &number.to_be_bytes()).await;
    }
    honest
        .network
        .broadcast(Channel::Consensus, Bytes::from_static(b"from an honest node"));
    let mut flood = 0;
    let mut heard_after = None;
    while flood < 150 {
        let (from, _, _) = node.message().await;
        if from == honest.id() {
            heard_after = Some(flood);
        } else {
            flood += 1;
        }
    }
    // 100 at once, then 25 a second; with some room for what else counts.
    assert!(
        since.elapsed() >= Duration::from_millis(1500),
        "the flood took {:?}",
        since.elapsed()
    );
    assert!(
        heard_after.is_some_and(|after| after < 149),
        "the honest node had to wait for the flood"
    );
}

#[tokio::test]
async fn strangers_that_ask_and_do_not_read_cannot_fill_the_memory() {
    let mut small = config(1);
    small.limits.buffer_bytes = 24 << 20;
    small.limits.ping_interval = Duration::from_secs(20);
    small.limits.idle_timeout = Duration::from_secs(60);
    let mut node = Node::start(small).await;
    let address = node.network.local_address().unwrap();
    let mut deaf = Vec::new();
    // The answers to both are more than the node keeps for strangers.
    for number in 100..102 {
        let key = key(number);
        let mut peer = RawPeer::connect(address, &key).await;
        node.connected(key.address()).await;
        peer.header(3, FIRST, 9, 9).await;
        peer.write(&[0, 0, 0, 0, 0, 0, 0, 1, 0]).await;
        answer(&mut node, 16 << 20).await;
        deaf.push(peer);
    }
    // A third stranger is told that there is no answer, until it is favoured.
    let mut third = config(3);
    third.peers = vec![node.address()];
    let third = Node::start(third).await;
    node.connected(third.id()).await;
    let id = node.id();
    let ask = || {
        let network = third.network.clone();
        tokio::spawn(async move { network.request(id, Bytes::from_static(b"?")).await })
    };
    let asked = ask();
    answer(&mut node, 16 << 20).await;
    assert!(asked.await.unwrap().is_err());
    node.network.favour(HashSet::from([third.id()]));
    let asked = ask();
    answer(&mut node, 16 << 20).await;
    assert_eq!(asked.await.unwrap().unwrap().len(), 16 << 20);
    drop(deaf);
}

async fn answer(node: &mut Node, length: usize) {
    loop {
        if let Received::Request { answer, .. } = node.next().await {
            answer.send(vec![3; length].into()).unwrap();
            return;
        }
    }
}

#[tokio::test]
async fn a_peer_that_reads_too_slowly_is_cut_off() {
    let mut impatient = config(1);
    impatient.limits.message_timeout = Duration::from_millis(700);
    impatient.limits.idle_timeout = Duration::from_secs(60);
    let mut node = Node::start(impatient).await;
    let key = key(100);
    let mut peer = RawPeer::connect(node.network.local_address().unwrap(), &key).await;
    node.connected(key.address()).await;
    node.network.send(key.address(), Channel::Blocks, vec![1; 30 << 20].into());
    let trickle = async {
        let mut buffer = vec![0; 32 << 10];
        while matches!(peer.stream.read(&mut buffer).await, Ok(1..)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = trickle => {}
        () = node.disconnected(key.address()) => {}
    }
    node.counts("cipherloom_network_disconnections_total{reason=\"timed_out\"}", 1)
        .await;
}
