//! Connections between attested processes.

use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B256};
use cipherloom_attest::{
    AttestError, Attestor, CollateralStore, Evidence, Policy, Role, SealingKey, Statement, TeeKind, Verifier,
    ra_tls::{Channel, Endpoint, Expected},
    simulated::InsecureSimulatedAttestor,
};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const NOW: u64 = 1_800_000_000;

fn statement(role: Role, party: u32) -> Statement {
    Statement {
        role,
        chain_id: 31337,
        context: B256::repeat_byte(7),
        party,
        signer: signer(party),
    }
}

fn signer(party: u32) -> Address {
    Address::repeat_byte(u8::try_from(party).unwrap())
}

fn expected() -> Expected {
    Expected {
        chain_id: 31337,
        context: B256::repeat_byte(7),
        roles: vec![Role::KmsNode, Role::Gateway],
        members: (1..=4).map(|party| (party, signer(party))).collect(),
        party: None,
    }
}

fn verifier() -> Verifier {
    Verifier::new(Policy::insecure_simulated_only(), Arc::new(CollateralStore::default())).unwrap()
}

async fn endpoint_with(attestor: Arc<dyn Attestor>, statement: Statement, expected: Expected) -> Endpoint {
    Endpoint::new(statement, attestor, verifier(), expected, Arc::new(|| NOW))
        .await
        .unwrap()
}

async fn endpoint(statement: Statement, expected: Expected) -> Endpoint {
    endpoint_with(Arc::new(InsecureSimulatedAttestor::new("node").unwrap()), statement, expected).await
}

type Opened = Result<Channel<DuplexStream>, AttestError>;

async fn open(client: &Endpoint, server: &Endpoint) -> (Opened, Opened) {
    let (near, far) = duplex(1 << 16);
    tokio::join!(client.connect(near), server.accept(far))
}

#[tokio::test]
async fn nodes_talk_once_they_believe_each_other() {
    let first = endpoint(statement(Role::KmsNode, 1), expected()).await;
    let second = endpoint(statement(Role::KmsNode, 2), expected()).await;
    let (near, far) = open(&first, &second).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert_eq!((near.peer().statement.party, far.peer().statement.party), (2, 1));
    assert_eq!(near.peer().claims.kind, TeeKind::InsecureSimulated);
    near.write_all(b"share").await.unwrap();
    near.flush().await.unwrap();
    let mut received = [0; 5];
    far.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"share");
}

#[tokio::test]
async fn a_peer_of_another_chain_committee_role_or_party_is_refused() {
    let here = endpoint(statement(Role::KmsNode, 1), expected()).await;
    let strangers = [
        Statement {
            chain_id: 12345,
            ..statement(Role::KmsNode, 2)
        },
        Statement {
            context: B256::repeat_byte(8),
            ..statement(Role::KmsNode, 2)
        },
        statement(Role::Dealer, 2),
        statement(Role::KmsNode, 5),
        Statement {
            signer: Address::repeat_byte(9),
            ..statement(Role::KmsNode, 2)
        },
    ];
    for stranger in strangers {
        let there = endpoint(stranger.clone(), expected()).await;
        let (near, _) = open(&here, &there).await;
        assert!(matches!(near, Err(AttestError::Channel(_))), "{stranger:?}");
        let (_, far) = open(&there, &here).await;
        assert!(matches!(far, Err(AttestError::Channel(_))), "{stranger:?}");
    }
}

#[tokio::test]
async fn only_the_party_that_was_called_may_answer() {
    let third_only = Expected {
        party: Some(3),
        ..expected()
    };
    let caller = endpoint(statement(Role::KmsNode, 1), third_only).await;
    let second = endpoint(statement(Role::KmsNode, 2), expected()).await;
    let third = endpoint(statement(Role::KmsNode, 3), expected()).await;
    assert!(open(&caller, &second).await.0.is_err());
    assert!(open(&caller, &third).await.0.is_ok());
}

/// Hardware whose answers somebody recorded: it gives the same evidence whatever it is asked to sign.
struct Replaying {
    genuine: InsecureSimulatedAttestor,
    /// How many requests are answered honestly first.
    honest: Mutex<u32>,
    recorded: Evidence,
}

impl Attestor for Replaying {
    fn kind(&self) -> TeeKind {
        TeeKind::InsecureSimulated
    }

    fn evidence(&self, report_data: [u8; 64]) -> BoxFuture<'_, Result<Evidence, AttestError>> {
        let mut honest = self.honest.lock().unwrap();
        let answer = if *honest > 0 {
            *honest -= 1;
            self.genuine.make(report_data)
        } else {
            Ok(self.recorded.clone())
        };
        Box::pin(async move { answer })
    }

    fn sealing_key<'a>(&'a self, purpose: &'a str) -> BoxFuture<'a, Result<SealingKey, AttestError>> {
        self.genuine.sealing_key(purpose)
    }
}

#[tokio::test]
async fn recorded_evidence_opens_neither_handshake_nor_channel() {
    let here = endpoint(statement(Role::KmsNode, 1), expected()).await;
    let genuine = InsecureSimulatedAttestor::new("node").unwrap();
    let recorded = genuine.make([1; 64]).unwrap();
    for honest in [0, 1] {
        // With one honest answer the certificate is genuine, and only the evidence for the connection is old.
        let thief = Replaying {
            genuine: genuine.clone(),
            honest: Mutex::new(honest),
            recorded: recorded.clone(),
        };
        let there = endpoint_with(Arc::new(thief), statement(Role::KmsNode, 2), expected()).await;
        let (near, _) = open(&here, &there).await;
        match (honest, near) {
            (0, Err(AttestError::Channel(_))) | (1, Err(AttestError::Binding { .. })) => {}
            (_, other) => panic!("after {honest} honest answers: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_not_tls_or_not_attested_gets_an_error() {
    let here = endpoint(statement(Role::KmsNode, 1), expected()).await;
    let (near, mut far) = duplex(1 << 16);
    let talk = async {
        far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(far);
    };
    let (result, ()) = tokio::join!(here.accept(near), talk);
    assert!(matches!(result, Err(AttestError::Channel(_))));
}
