//! A node that lies. It proves what it runs as the others do and is registered under its own address, takes part in everything, and computes with a share of something else: what it answers is of the right form, rightly signed, and wrong.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cipherloom_attest::{
    CollateralStore, Policy, Role, Statement, Verifier,
    ra_tls::{Endpoint, Expected},
    simulated::InsecureSimulatedAttestor,
};
use cipherloom_ceremony::Store;
use cipherloom_chain::{HostChain, WitnessOptions, WitnessedChain};
use cipherloom_fhe::ParameterSet;
use cipherloom_kms::{
    AuditLog, BudgetLimits, Budgets, Clock as _, CommitteeNode, CommitteeParts, HeldShares, KmsLimits, LogAlarms, NodeKey, SquashedLists,
    SystemClock,
};
use cipherloom_kms_node::{
    party::messages,
    squashed::{OneCoprocessor, RemoteSquashed},
};
use cipherloom_rpc::cipherloom::committee::v1::{
    DescribeRequest, DescribeResponse, PublicSharesRequest, PublicSharesResponse, PublicSignRequest, PublicSignResponse, UserShareRequest,
    UserShareResponse,
    committee_server::{Committee, CommitteeServer},
};
use cipherloom_service::{
    attested::{AttestedIncoming, AttestedLimits, AttestedPort},
    coprocessor::{PART, RemoteCoprocessor},
    endpoints::Place,
    messages::{address, read_public_request, read_user_request},
};
use cipherloom_threshold::{KeyShare, SecretKeys, deal};
use getrandom::{SysRng, rand_core::UnwrapErr};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{Request, Response, Status, transport::Server};
use zeroize::Zeroizing;

/// What a liar takes over from an honest node that was ended.
pub(crate) struct Seat<'a> {
    /// The honest node's directory.
    pub(crate) party_dir: &'a Path,
    /// Where gateways look for it.
    pub(crate) port: u16,
    pub(crate) host: HostChain,
    pub(crate) coprocessor_url: String,
    pub(crate) api_key: PathBuf,
    pub(crate) parameters: ParameterSet,
}

/// A running liar; ended when it is dropped.
pub(crate) struct Liar {
    lies: Arc<AtomicUsize>,
    port: Arc<AttestedPort>,
    server: JoinHandle<()>,
}

impl Liar {
    /// Opens the directory of an honest node, whose process must have ended, and answers in its place.
    pub(crate) async fn start(place: Seat<'_>) -> Self {
        let attestor = Arc::new(InsecureSimulatedAttestor::new("cipherloom-kms").unwrap());
        let store = Store::open(place.party_dir, &*attestor).await.unwrap();
        let (key, epoch) = store.held()[0];
        let honest = store.share(key, epoch).unwrap().unwrap().share;
        let secret = Zeroizing::new(<[u8; 32]>::from(store.identity().signing_key().to_bytes()));
        let signing_key = Arc::new(NodeKey::from_bytes(&secret).unwrap());
        let committee = place.host.kms_committee().await.unwrap();
        let statement = Statement {
            role: Role::KmsNode,
            chain_id: committee.chain_id,
            context: committee.context_id,
            party: committee.party_of(signing_key.address()).unwrap(),
            signer: signing_key.address(),
        };
        let expected = Expected {
            chain_id: committee.chain_id,
            context: committee.context_id,
            roles: vec![Role::Gateway],
            members: committee.members(),
            party: None,
        };
        let verifier = Verifier::new(Policy::insecure_simulated_only(), Arc::new(CollateralStore::default())).unwrap();
        let clock = Arc::new(|| SystemClock.now_seconds());
        let endpoint = Box::pin(Endpoint::new(statement, attestor, verifier, expected, clock))
            .await
            .unwrap();
        let port = AttestedPort::new(AttestedLimits::default());
        port.open(Arc::new(endpoint));

        let shares = Arc::new(HeldShares::new());
        shares.activate(Arc::new(of_something_else(&honest))).unwrap();
        let coprocessor = RemoteCoprocessor::new(&Place {
            part: PART,
            urls: &[place.coprocessor_url],
            ca: None,
            key: Some(&place.api_key),
        });
        let lies = Arc::new(AtomicUsize::new(0));
        let service = Service {
            lies: Arc::clone(&lies),
            signer: signing_key.address(),
            chain_id: committee.chain_id,
            shares: Arc::clone(&shares),
            node: CommitteeNode::new(CommitteeParts {
                parameters: place.parameters,
                shares,
                signing_key,
                domains: place.host.signing_domains().await.unwrap(),
                chain: Arc::new(WitnessedChain::over(vec![place.host], WitnessOptions::default()).unwrap()),
                squashed: SquashedLists::Attested(Arc::new(RemoteSquashed::new(
                    vec![Arc::new(coprocessor.unwrap()) as Arc<dyn OneCoprocessor>],
                    1,
                ))),
                audit: Arc::new(AuditLog::open(&place.party_dir.join("audit-of-a-liar.jsonl")).unwrap()),
                clock: Arc::new(SystemClock),
                limits: KmsLimits::default(),
                budgets: Arc::new(Budgets::new(BudgetLimits::default())),
                alarms: Arc::new(LogAlarms),
            }),
        };
        let listener = TcpListener::bind(("127.0.0.1", place.port)).await.unwrap();
        let incoming = AttestedIncoming::new(listener, Arc::clone(&port));
        let server = tokio::spawn(async move {
            let router = Server::builder().add_service(CommitteeServer::new(service));
            router.serve_with_incoming(incoming).await.unwrap();
            drop(store);
        });
        Self { lies, port, server }
    }

    /// Returns how many wrong answers were given.
    pub(crate) fn lies(&self) -> usize {
        self.lies.load(Ordering::SeqCst)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        // Connections that there are would go on.
        self.port.close();
        self.server.abort();
    }
}

/// Deals another secret to the same committee, and takes the same party's share of it.
fn of_something_else(honest: &KeyShare) -> KeyShare {
    let dimensions = honest.dimensions();
    let secrets = SecretKeys {
        squashed: &vec![1; dimensions.squashed],
        compressed: &vec![1; dimensions.compressed],
    };
    let dealing = deal(honest.scope(), secrets, &mut UnwrapErr(SysRng)).unwrap();
    dealing.shares.into_iter().find(|share| share.party() == honest.party()).unwrap()
}

struct Service {
    lies: Arc<AtomicUsize>,
    signer: alloy::primitives::Address,
    chain_id: u64,
    shares: Arc<HeldShares>,
    node: CommitteeNode,
}

#[tonic::async_trait]
impl Committee for Service {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(DescribeResponse {
            signer: address(&self.signer),
            chain_ids: vec![self.chain_id],
            shares: self.shares.list().iter().map(|share| messages::held_share(share)).collect(),
            version: "a liar".to_owned(),
            insecure_keys: true,
            simulated_attestation: true,
        }))
    }

    async fn user_share(&self, request: Request<UserShareRequest>) -> Result<Response<UserShareResponse>, Status> {
        let request = read_user_request(request.into_inner().request.unwrap()).unwrap();
        let share = Box::pin(self.node.user_share(request, None))
            .await
            .map_err(|error| refused(&error))?;
        self.lies.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(messages::user_share(share)))
    }

    async fn public_shares(&self, request: Request<PublicSharesRequest>) -> Result<Response<PublicSharesResponse>, Status> {
        let request = read_public_request(request.into_inner().request.unwrap()).unwrap();
        let bundle = Box::pin(self.node.public_shares(request, None))
            .await
            .map_err(|error| refused(&error))?;
        self.lies.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(PublicSharesResponse {
            bundle: Some(messages::bundle(bundle)),
        }))
    }

    /// It says that its own share, which it knows to be wrong, stands in the way.
    async fn public_sign(&self, request: Request<PublicSignRequest>) -> Result<Response<PublicSignResponse>, Status> {
        let PublicSignRequest { request, bundles } = request.into_inner();
        let request = read_public_request(request.unwrap()).unwrap();
        let bundles = bundles.into_iter().map(|bundle| messages::read_bundle(bundle).unwrap()).collect();
        let answer = Box::pin(self.node.public_sign(request, None, bundles)).await;
        Ok(Response::new(messages::public_signature(
            answer.map_err(|error| refused(&error))?,
            &[],
        )))
    }
}

fn refused(error: &cipherloom_kms::KmsError) -> Status {
    Status::failed_precondition(error.to_string())
}
