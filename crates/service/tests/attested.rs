//! gRPC between attested processes: each knows who calls, and whoever has no evidence, the wrong one or too many connections is kept out.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::primitives::FixedBytes;
use cipherloom_attest::{
    AttestError, CollateralStore, Image, Policy, Role, Statement, Verifier,
    ra_tls::{Endpoint, Expected},
    simulated::InsecureSimulatedAttestor,
};
use cipherloom_primitives::{Address, B256};
use cipherloom_rpc::cipherloom::kms::v1::{
    DescribeRequest, DescribeResponse, PublicDecryptRequest, PublicDecryptResponse, UserDecryptRequest, UserDecryptResponse,
    kms_client::KmsClient,
    kms_server::{Kms, KmsServer},
};
use cipherloom_service::{
    attested::{AttestedIncoming, AttestedLimits, AttestedPeer, AttestedPort, attested_channel},
    connections::ConnectionLimits,
    endpoints::with_causes,
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tonic::{Request, Response, Status, transport::Server};

const CHAIN: u64 = 31337;
const CONTEXT: B256 = B256::repeat_byte(7);

/// Says who calls, in the place of the signer.
struct WhoCalls;

#[tonic::async_trait]
impl Kms for WhoCalls {
    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let caller = AttestedPeer::of(&request).ok_or_else(|| Status::internal("no peer"))?;
        Ok(Response::new(DescribeResponse {
            version: caller.peer.statement.role.as_str().to_owned(),
            ..DescribeResponse::default()
        }))
    }

    async fn public_decrypt(&self, _: Request<PublicDecryptRequest>) -> Result<Response<PublicDecryptResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn user_decrypt(&self, _: Request<UserDecryptRequest>) -> Result<Response<UserDecryptResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

fn signer(party: u32) -> Address {
    Address::with_last_byte(u8::try_from(party).unwrap())
}

fn node(party: u32) -> Statement {
    Statement {
        role: Role::KmsNode,
        chain_id: CHAIN,
        context: CONTEXT,
        party,
        signer: signer(party),
    }
}

fn gateway() -> Statement {
    Statement {
        role: Role::Gateway,
        chain_id: CHAIN,
        context: CONTEXT,
        party: 0,
        signer: Address::ZERO,
    }
}

/// An endpoint that talks to gateways and to nodes 1 to 4.
async fn endpoint(statement: Statement, policy: Policy) -> Arc<Endpoint> {
    let expected = Expected {
        chain_id: CHAIN,
        context: CONTEXT,
        roles: vec![Role::KmsNode, Role::Gateway],
        members: (1..=4).map(|party| (party, signer(party))).collect(),
        party: None,
    };
    let attestor = Arc::new(InsecureSimulatedAttestor::new("test").unwrap());
    let verifier = Verifier::new(policy, Arc::new(CollateralStore::default())).unwrap();
    let clock = Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    Arc::new(Endpoint::new(statement, attestor, verifier, expected, clock).await.unwrap())
}

/// A policy that lists one image, which simulated evidence cannot be of.
fn strict() -> Policy {
    let image = Image {
        name: "release".into(),
        mr_td: FixedBytes::repeat_byte(1),
        rtmr0: vec![FixedBytes::repeat_byte(2)],
        rtmr1: FixedBytes::repeat_byte(3),
        rtmr2: FixedBytes::repeat_byte(4),
        compose_hashes: vec![B256::repeat_byte(5)],
        app_ids: vec![FixedBytes::repeat_byte(6)],
        key_providers: vec![vec![7].into()],
    };
    Policy {
        images: vec![image],
        allow_insecure_simulated: false,
        ..Policy::insecure_simulated_only()
    }
}

struct Node {
    address: SocketAddr,
    port: Arc<AttestedPort>,
    server: JoinHandle<()>,
}

impl Node {
    /// Waits until this many connections were refused for want of evidence: the caller can see it before it is counted.
    async fn has_refused(&self, count: u64) {
        let counted = async {
            while self.port.counts().failed < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), counted).await.unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(endpoint: Arc<Endpoint>, limits: AttestedLimits) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let port = AttestedPort::new(limits);
    port.open(endpoint);
    let incoming = AttestedIncoming::new(listener, Arc::clone(&port));
    let server = tokio::spawn(async move {
        Server::builder()
            .add_service(KmsServer::new(WhoCalls))
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
    Node { address, port, server }
}

async fn insecure_node(party: u32) -> Node {
    let endpoint = endpoint(node(party), Policy::insecure_simulated_only()).await;
    serve(endpoint, AttestedLimits::default()).await
}

/// Asks a node who calls.
async fn ask(endpoint: &Arc<Endpoint>, address: SocketAddr, party: Option<u32>) -> Result<String, String> {
    let channel = attested_channel(Arc::clone(endpoint), &address.to_string(), party).unwrap();
    let answer = KmsClient::new(channel).describe(DescribeRequest {}).await;
    answer
        .map(|answer| answer.into_inner().version)
        .map_err(|status| with_causes(&status))
}

#[tokio::test]
async fn a_node_knows_who_calls() {
    let served = insecure_node(1).await;
    let caller = endpoint(gateway(), Policy::insecure_simulated_only()).await;
    assert_eq!(ask(&caller, served.address, Some(1)).await.unwrap(), "gateway");
    let other = endpoint(node(2), Policy::insecure_simulated_only()).await;
    assert_eq!(ask(&other, served.address, None).await.unwrap(), "kms-node");
    let counts = served.port.counts();
    assert_eq!((counts.attested.accepted, counts.failed), (2, 0));
}

#[tokio::test]
async fn a_caller_without_evidence_is_refused() {
    let served = insecure_node(1).await;
    let plain = tonic::transport::Endpoint::from_shared(format!("http://{}", served.address)).unwrap();
    let mut client = KmsClient::new(plain.connect_lazy());
    client.describe(DescribeRequest {}).await.unwrap_err();
    served.has_refused(1).await;
    assert_eq!(served.port.counts().attested.accepted, 0);
}

#[tokio::test]
async fn evidence_that_the_policy_does_not_list_is_refused_by_either_side() {
    let (lax, strict) = (Policy::insecure_simulated_only(), strict());
    let strict_node = serve(endpoint(node(1), strict.clone()).await, AttestedLimits::default()).await;
    let caller = endpoint(gateway(), lax).await;
    ask(&caller, strict_node.address, None).await.unwrap_err();
    strict_node.has_refused(1).await;
    assert_eq!(strict_node.port.counts().attested.accepted, 0);
    let lax_node = insecure_node(1).await;
    let caller = endpoint(gateway(), strict).await;
    let refused = ask(&caller, lax_node.address, None).await.unwrap_err();
    assert!(refused.contains("the policy does not allow it"), "{refused}");
}

#[tokio::test]
async fn another_member_or_none_of_the_committee_is_refused() {
    let served = insecure_node(1).await;
    let caller = endpoint(gateway(), Policy::insecure_simulated_only()).await;
    let refused = ask(&caller, served.address, Some(3)).await.unwrap_err();
    assert!(refused.contains("party 1, expected 3"), "{refused}");
    // Somebody with believable evidence, but not registered.
    let stranger = insecure_node(5).await;
    let refused = ask(&caller, stranger.address, None).await.unwrap_err();
    assert!(refused.contains("a member of the committee"), "{refused}");
    let impostor = Statement {
        signer: signer(3),
        ..node(2)
    };
    let impostor = endpoint(impostor, Policy::insecure_simulated_only()).await;
    ask(&impostor, served.address, None).await.unwrap_err();
}

#[tokio::test]
async fn strangers_who_say_nothing_keep_nobody_out() {
    let limits = AttestedLimits {
        handshakes: ConnectionLimits {
            connections: 8,
            per_address: 3,
        },
        ..AttestedLimits::default()
    };
    let served = serve(endpoint(node(1), Policy::insecure_simulated_only()).await, limits).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(served.address).await.unwrap());
    }
    // Two of them are above the limit of their address, and are closed.
    let mut last: TcpStream = silent.pop().unwrap();
    assert!(matches!(last.read(&mut [0]).await, Ok(0) | Err(_)));
    let caller = endpoint(gateway(), Policy::insecure_simulated_only()).await;
    assert_eq!(ask(&caller, served.address, None).await.unwrap(), "gateway");
    let counts = served.port.counts();
    assert_eq!((counts.handshakes.refused, counts.handshakes.open), (2, 3));
}

#[tokio::test]
async fn connections_of_a_former_endpoint_end_and_callers_come_back() {
    let served = insecure_node(1).await;
    let caller = endpoint(gateway(), Policy::insecure_simulated_only()).await;
    let channel = attested_channel(caller, &served.address.to_string(), Some(1)).unwrap();
    let mut client = KmsClient::new(channel);
    client.describe(DescribeRequest {}).await.unwrap();
    served.port.open(endpoint(node(1), strict()).await);
    client.describe(DescribeRequest {}).await.unwrap_err();
    served.port.open(endpoint(node(1), Policy::insecure_simulated_only()).await);
    // The first call may still find the connection that was refused.
    if client.describe(DescribeRequest {}).await.is_err() {
        client.describe(DescribeRequest {}).await.unwrap();
    }
    assert_eq!(served.port.counts().attested.accepted, 2);
}

#[tokio::test]
async fn a_port_that_is_closed_lets_nobody_in() {
    let served = insecure_node(1).await;
    let caller = endpoint(gateway(), Policy::insecure_simulated_only()).await;
    let channel = attested_channel(Arc::clone(&caller), &served.address.to_string(), Some(1)).unwrap();
    let mut client = KmsClient::new(channel);
    client.describe(DescribeRequest {}).await.unwrap();
    served.port.close();
    client.describe(DescribeRequest {}).await.unwrap_err();
    ask(&caller, served.address, None).await.unwrap_err();
    assert_eq!(served.port.counts().attested.accepted, 1);
}

#[tokio::test]
async fn what_is_no_address_is_said() {
    let caller = endpoint(gateway(), Policy::insecure_simulated_only()).await;
    for wrong in [
        "",
        "node-1",
        "https://node-1:7000",
        "node-1:7000/path",
        "user@node-1:7000",
        "node 1:7000",
    ] {
        let refused = attested_channel(Arc::clone(&caller), wrong, None);
        assert!(matches!(refused, Err(AttestError::Channel(_))), "{wrong:?}");
    }
}
