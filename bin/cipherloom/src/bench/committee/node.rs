//! A node of the measured committee: the code of real nodes, around a chain and a coprocessor that answer at once.

use std::{
    collections::{BTreeSet, HashMap},
    io::BufRead,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use alloy::primitives::{Address, B256, Bytes};
use anyhow::{Context, Result};
use cipherloom_attest::Role;
use cipherloom_chain::{AclEvidence, CommitteeOnChain, ContextOnChain};
use cipherloom_contracts::development;
use cipherloom_kms::{
    AuditLog, BudgetLimits, Budgets, ChainViewError, Clock as _, CommitteeNode, CommitteeParts, CoprocessorSet, HeldShares, HostChainView,
    KmsError, KmsLimits, LogAlarms, NodeKey, PinnedBlock, PinnedView, Provenance, SignedSquashed, SourceError, SquashedLists,
    SquashedSource, SystemClock,
};
use cipherloom_kms_node::party::messages;
use cipherloom_primitives::{AclFacts, AclQuestion, Handle};
use cipherloom_rpc::cipherloom::committee::v1::{
    DescribeRequest, DescribeResponse, PublicSharesRequest, PublicSharesResponse, PublicSignRequest, PublicSignResponse, UserShareRequest,
    UserShareResponse,
    committee_server::{Committee, CommitteeServer},
};
use cipherloom_service::{
    attestation::committee_endpoint,
    attested::{AttestedIncoming, AttestedLimits, AttestedPort},
    messages::{address, read_evidence, read_public_request, read_user_request},
};
use cipherloom_threshold::KeyShare;
use clap::Args;
use futures_util::future::{BoxFuture, ready};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::Server};
use zeroize::Zeroizing;

use super::{
    message::{Assignment, Spent, read_frame},
    registered,
};
use crate::{
    bench::{clock, options::Parameters},
    committee::Attestation,
};

/// Options of a node; it is started by the benchmark, and told the rest on its standard input.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommitteeNodeOptions {
    /// The parameters of the key set.
    #[arg(long, value_enum)]
    parameters: Parameters,
}

/// Serves until nobody writes to its standard input any more.
///
/// # Errors
/// If it cannot be what it is told to be.
pub(crate) fn run(options: &CommitteeNodeOptions) -> Result<()> {
    let mut input = std::io::stdin().lock();
    let assignment: Assignment = serde_json::from_slice(&read_frame(&mut input)?).context("cannot read the assignment")?;
    let share = KeyShare::from_bytes(&read_frame(&mut input)?)?;
    let key = Zeroizing::new(<[u8; 32]>::try_from(read_frame(&mut input)?.as_slice()).context("a signing key has 32 bytes")?);
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let committee = registered(assignment.signers.clone(), share.scope().committee.size());
    let world = Arc::new(World::new(&assignment, &committee)?);
    let signing_key = Arc::new(NodeKey::from_bytes(&key).context("the signing key is no key of the curve")?);
    let held = Arc::new(HeldShares::new());
    held.activate(Arc::new(share))?;
    let service = Arc::new(Service {
        signer: signing_key.address(),
        node: CommitteeNode::new(CommitteeParts {
            parameters: options.parameters.set(),
            shares: Arc::clone(&held),
            signing_key,
            domains: development::signing_domains(),
            chain: Arc::new(Chain(Arc::clone(&world))),
            squashed: SquashedLists::Attested(Arc::new(Chain(world))),
            audit: Arc::new(AuditLog::open(&directory.path().join("audit.jsonl"))?),
            clock: Arc::new(SystemClock),
            limits: KmsLimits::default(),
            budgets: Arc::new(Budgets::new(BudgetLimits::default())),
            alarms: Arc::new(LogAlarms),
        }),
        held,
        received: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        in_progress: AtomicU32::new(0),
    });
    runtime.block_on(Box::pin(serve(Arc::clone(&service), &committee, assignment.party)))?;
    for line in input.lines() {
        line.context("cannot read what is asked")?;
        println!("{}", serde_json::to_string(&service.spent())?);
    }
    runtime.shutdown_background();
    Ok(())
}

/// Starts serving over attested connections, and says where.
async fn serve(service: Arc<Service>, committee: &CommitteeOnChain, party: u32) -> Result<()> {
    let attestation = Attestation::insecure_simulated("cipherloom-bench")?;
    let (attestor, member) = (attestation.attestor, Some((party, service.signer)));
    let peers = [Role::Gateway];
    let endpoint = committee_endpoint(attestor, attestation.verifier, committee.into(), Role::KmsNode, member, &peers).await?;
    let port = AttestedPort::new(AttestedLimits::default());
    port.open(endpoint);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen")?;
    println!("{}", listener.local_addr()?);
    let router = Server::builder().add_service(CommitteeServer::from_arc(service));
    tokio::spawn(router.serve_with_incoming(AttestedIncoming::new(listener, port)));
    Ok(())
}

/// The service of a node, which counts what goes in and out.
struct Service {
    signer: Address,
    node: CommitteeNode,
    held: Arc<HeldShares>,
    received: AtomicU64,
    sent: AtomicU64,
    in_progress: AtomicU32,
}

impl Service {
    fn spent(&self) -> Spent {
        #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
        let float = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) as f64;
        Spent {
            cpu_ms: clock::process_cpu().as_secs_f64() * 1e3,
            received: float(&self.received),
            sent: float(&self.sent),
            in_progress: self.in_progress.load(Ordering::Relaxed),
        }
    }

    async fn answer<T: Message, A: Message>(
        &self,
        request: Request<T>,
        work: impl AsyncFnOnce(T) -> Result<A, Status>,
    ) -> Result<Response<A>, Status> {
        let _in_progress = InProgress::begin(&self.in_progress);
        let request = request.into_inner();
        self.received.fetch_add(request.encoded_len() as u64, Ordering::Relaxed);
        let answer = work(request).await;
        if let Ok(answer) = &answer {
            self.sent.fetch_add(answer.encoded_len() as u64, Ordering::Relaxed);
        }
        answer.map(Response::new)
    }
}

/// A request being answered, until it is answered or nobody waits for it any more.
struct InProgress<'a>(&'a AtomicU32);

impl<'a> InProgress<'a> {
    fn begin(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl Committee for Service {
    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let work = async |_| {
            Ok(DescribeResponse {
                signer: address(&self.signer),
                chain_ids: vec![development::HOST_CHAIN_ID],
                shares: self.held.list().iter().map(|share| messages::held_share(share)).collect(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                insecure_keys: false,
                simulated_attestation: true,
            })
        };
        self.answer(request, work).await
    }

    async fn user_share(&self, request: Request<UserShareRequest>) -> Result<Response<UserShareResponse>, Status> {
        let work = async |message: UserShareRequest| {
            let request = message.request.ok_or_else(|| Status::invalid_argument("there is no request"))?;
            let evidence = read_evidence(&request.acl_evidence).map_err(malformed)?;
            let request = read_user_request(request).map_err(malformed)?;
            let share = self.node.user_share(request, evidence).await.map_err(refused)?;
            Ok(messages::user_share(share))
        };
        Box::pin(self.answer(request, work)).await
    }

    async fn public_shares(&self, request: Request<PublicSharesRequest>) -> Result<Response<PublicSharesResponse>, Status> {
        let work = async |message: PublicSharesRequest| {
            let request = message.request.ok_or_else(|| Status::invalid_argument("there is no request"))?;
            let evidence = read_evidence(&request.acl_evidence).map_err(malformed)?;
            let request = read_public_request(request).map_err(malformed)?;
            let bundle = self.node.public_shares(request, evidence).await.map_err(refused)?;
            Ok(PublicSharesResponse {
                bundle: Some(messages::bundle(bundle)),
            })
        };
        Box::pin(self.answer(request, work)).await
    }

    async fn public_sign(&self, request: Request<PublicSignRequest>) -> Result<Response<PublicSignResponse>, Status> {
        let work = async |message: PublicSignRequest| {
            let request = message.request.ok_or_else(|| Status::invalid_argument("there is no request"))?;
            let evidence = read_evidence(&request.acl_evidence).map_err(malformed)?;
            let request = read_public_request(request).map_err(malformed)?;
            let bundles = message
                .bundles
                .into_iter()
                .map(messages::read_bundle)
                .collect::<Result<Vec<_>>>()
                .map_err(malformed)?;
            let places: Vec<u32> = (0..).take(bundles.len()).collect();
            let answer = self.node.public_sign(request, evidence, bundles).await.map_err(refused)?;
            Ok(messages::public_signature(answer, &places))
        };
        Box::pin(self.answer(request, work)).await
    }
}

fn malformed(error: anyhow::Error) -> Status {
    Status::invalid_argument(format!("{error:#}"))
}

fn refused(error: Arc<KmsError>) -> Status {
    Status::failed_precondition(error.to_string())
}

/// What the chain and the coprocessor have.
struct World {
    signers: Vec<Address>,
    coprocessor: Address,
    squashed: HashMap<Handle, SignedSquashed>,
}

impl World {
    fn new(assignment: &Assignment, committee: &CommitteeOnChain) -> Result<Self> {
        let signed = |(handle, attestation): &(B256, Bytes)| {
            let handle = Handle::try_from(*handle)?;
            let squashed = SignedSquashed {
                handle,
                key_set_id: assignment.key_set_id,
                bytes: assignment.list.to_vec(),
                attestations: vec![attestation.clone()],
            };
            Ok((handle, squashed))
        };
        Ok(Self {
            signers: committee.signers.clone(),
            coprocessor: assignment.coprocessor,
            squashed: assignment.attested.iter().map(signed).collect::<Result<_>>()?,
        })
    }
}

/// A chain on which everything is public, and a coprocessor that has everything.
#[derive(Clone)]
struct Chain(Arc<World>);

impl HostChainView for Chain {
    fn pin(&self, _: u64, _: Option<AclEvidence>) -> BoxFuture<'_, Result<Box<dyn PinnedView>, ChainViewError>> {
        Box::pin(ready(Ok(Box::new(self.clone()) as Box<dyn PinnedView>)))
    }
}

impl PinnedView for Chain {
    fn block(&self) -> PinnedBlock {
        PinnedBlock {
            number: 1,
            hash: B256::with_last_byte(1),
            timestamp: SystemClock.now_seconds(),
        }
    }

    fn acl<'a>(&'a self, questions: &'a BTreeSet<AclQuestion>) -> BoxFuture<'a, Result<AclFacts, ChainViewError>> {
        let answer = |question: &AclQuestion| (*question, u64::from(matches!(question, AclQuestion::AllowedForDecryption(_))));
        Box::pin(ready(Ok(questions.iter().map(answer).collect())))
    }

    fn provenance(&self) -> BoxFuture<'_, Result<Provenance, ChainViewError>> {
        Box::pin(ready(Ok(Provenance::Attestations(CoprocessorSet {
            signers: vec![self.0.coprocessor],
            threshold: 1,
        }))))
    }

    fn kms_context<'a>(&'a self, _: &'a [u8]) -> BoxFuture<'a, Result<ContextOnChain, ChainViewError>> {
        Box::pin(ready(Ok(ContextOnChain::Signers(self.0.signers.clone()))))
    }

    fn is_valid_signature<'a>(&'a self, _: Address, _: B256, _: &'a Bytes) -> BoxFuture<'a, Result<bool, ChainViewError>> {
        Box::pin(ready(Ok(false)))
    }
}

impl SquashedSource for Chain {
    fn squashed(&self, handle: Handle) -> BoxFuture<'_, Result<SignedSquashed, SourceError>> {
        Box::pin(ready(self.0.squashed.get(&handle).cloned().ok_or(SourceError::Unknown)))
    }
}
