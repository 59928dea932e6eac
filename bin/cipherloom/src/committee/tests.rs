//! The carrier between nodes that are honest, silent, slow, or lie. What nodes do with shares is played by counting them; everything that the carrier looks at
//! is real: seals, signatures, numbers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cipherloom_gateway::{Label, ServiceError};
use cipherloom_primitives::{
    Address, B256, FheType, Handle,
    decryption::{DecryptionPermit, PublicDecryptionRequest, RequestedValue, UnifiedPermit, UserDecryptionRequest, UserDecryptionShare},
    eip712::{SigningDomains, recover_signer},
};
use cipherloom_rpc::cipherloom::committee::v1 as wire;
use cipherloom_signcryption::{
    AnswerContext, CommitteeParty, Randomness, SigningKey, UserKeypair, node_address, open_shares, seal_shares, sign_digest,
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::watch;

use super::{
    carrier::{Carrier, ChainTerms, Member, Patience},
    client::{CommitteeClient, MadeWith, NodeError, PublicShares, PublicSignature, SealedShares},
};

const CHAIN: u64 = 31337;

/// Long enough that no test reaches it.
const NEVER: Duration = Duration::from_secs(600);

const PATIENCE: Patience = Patience {
    call: NEVER,
    stragglers: NEVER,
    suspects: NEVER,
    signers: NEVER,
    grace: Duration::from_millis(20),
};

/// How a node behaves.
#[derive(Clone)]
enum Manner {
    Honest,
    /// Never answers.
    Silent,
    /// Answers once it is let.
    Held(watch::Receiver<bool>),
    /// The host is away.
    Away,
    Refuses(ServiceError),
    /// Signs with somebody else's key.
    Impostor,
    /// Says to be another party.
    Misnumbered,
    /// Answers to another user's request.
    Misdirected,
    /// Gives wrong shares, rightly signed, and signs wrong values.
    Liar,
    /// Names an honest node as faulty.
    Slanderer,
    /// Gives shares, and then does not sign.
    Fickle,
    /// Gives shares, and then says nothing any more.
    Mute,
    /// Has shares of an epoch that is over.
    Outdated,
}

struct Node {
    party: u32,
    threshold: u32,
    nodes: usize,
    key: SigningKey,
    manner: Manner,
    asked_to_sign: AtomicUsize,
}

fn key(party: u32) -> SigningKey {
    SigningKey::from_slice(B256::with_last_byte(u8::try_from(party).unwrap()).as_slice()).unwrap()
}

fn domains() -> SigningDomains {
    SigningDomains {
        host_chain_id: CHAIN,
        gateway_chain_id: 10901,
        decryption: Address::repeat_byte(1),
        input_verification: Address::repeat_byte(2),
    }
}

fn handle() -> Handle {
    Handle::computed(B256::repeat_byte(7), CHAIN, FheType::Uint64)
}

/// What honest nodes agree on.
fn value() -> Bytes {
    Bytes::copy_from_slice(B256::with_last_byte(42).as_slice())
}

impl Node {
    fn seal(&self, request: &UserDecryptionRequest) -> UserDecryptionShare {
        let keys = cipherloom_signcryption::UserPublicKey::from_blob(&request.public_key).unwrap();
        let user = match self.manner {
            Manner::Misdirected => Address::repeat_byte(0xee),
            _ => request.user,
        };
        let domains = domains();
        let context = AnswerContext {
            domains: &domains,
            public_key: &keys,
            user,
            extra_data: &request.extra_data,
        };
        let place = CommitteeParty {
            number: match self.manner {
                Manner::Misnumbered => self.party % 4 + 1,
                _ => self.party,
            },
            threshold: self.threshold,
        };
        let handles = request.handles();
        let shares: Vec<_> = handles.iter().map(|handle| (*handle, self.words())).collect();
        let shares: Vec<_> = shares.iter().map(|(handle, share)| (*handle, share.as_slice())).collect();
        seal_shares(&context, &shares, place, &self.signing_key(), Randomness::generate).unwrap()
    }

    fn signing_key(&self) -> SigningKey {
        match self.manner {
            Manner::Impostor => key(99),
            _ => self.key.clone(),
        }
    }

    fn made_with(&self) -> MadeWith {
        MadeWith {
            key_set_id: B256::repeat_byte(1),
            context: B256::repeat_byte(2),
            epoch: B256::with_last_byte(match self.manner {
                Manner::Outdated => 6,
                _ => 7,
            }),
            committee: B256::repeat_byte(3),
        }
    }

    fn words(&self) -> Vec<u8> {
        let word = match self.manner {
            Manner::Liar => "wrong share",
            _ => "right share",
        };
        format!("{word} of {}", self.party).into_bytes()
    }

    /// Decodes as many errors as the number of shares allows.
    fn sign(&self, request: &PublicDecryptionRequest, shares: &[PublicShares]) -> Result<PublicSignature, NodeError> {
        self.asked_to_sign.fetch_add(1, Ordering::SeqCst);
        let wrong: Vec<u32> = shares
            .iter()
            .filter(|shares| shares.bundle.partials[0].starts_with(b"wrong"))
            .map(|shares| shares.party)
            .collect();
        let threshold = usize::try_from(self.threshold).unwrap();
        let (result, faulty) = match self.manner {
            Manner::Fickle => return Err(NodeError::Unreachable("it went away".into())),
            Manner::Liar => (Bytes::copy_from_slice(B256::repeat_byte(0xbb).as_slice()), vec![]),
            _ if shares.len() - wrong.len() < self.nodes - threshold => {
                let reason = format!("{} of {} shares agree", shares.len() - wrong.len(), shares.len());
                return Err(NodeError::MoreShares(reason));
            }
            Manner::Slanderer => (value(), vec![self.party % 4 + 1]),
            _ => (value(), wrong),
        };
        let digest = domains().public_decryption_digest(&request.handles, &result, &request.extra_data);
        let signature = sign_digest(&self.signing_key(), digest).unwrap();
        Ok(PublicSignature {
            decrypted_result: result,
            signature: Bytes::copy_from_slice(&signature),
            faulty,
        })
    }

    async fn before_answering(manner: &Manner) -> Result<(), NodeError> {
        match manner {
            Manner::Silent => std::future::pending().await,
            Manner::Held(gate) => gate
                .clone()
                .wait_for(|open| *open)
                .await
                .map(drop)
                .map_err(|_| NodeError::Unreachable("closed".into())),
            Manner::Away => Err(NodeError::Unreachable("connection refused".into())),
            Manner::Refuses(error) => Err(NodeError::Refused(error.clone())),
            _ => Ok(()),
        }
    }
}

/// A node behind a connection.
struct Connection(Arc<Node>);

impl Connection {
    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&Node) -> Result<T, NodeError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, NodeError>> {
        let node = Arc::clone(&self.0);
        async move {
            let manner = node.manner.clone();
            Node::before_answering(&manner).await?;
            answer(&node)
        }
        .boxed()
    }
}

impl CommitteeClient for Connection {
    fn user_share(&self, request: Arc<UserDecryptionRequest>, _: Bytes) -> BoxFuture<'static, Result<SealedShares, NodeError>> {
        self.answer(move |node| {
            Ok(SealedShares {
                made_with: node.made_with(),
                share: node.seal(&request),
            })
        })
    }

    fn public_shares(&self, _: Arc<PublicDecryptionRequest>, _: Bytes) -> BoxFuture<'static, Result<PublicShares, NodeError>> {
        self.answer(|node| {
            Ok(PublicShares {
                party: match node.manner {
                    Manner::Misnumbered => node.party % 4 + 1,
                    _ => node.party,
                },
                made_with: node.made_with(),
                bundle: wire::Bundle {
                    partials: vec![node.words().into()],
                    ..wire::Bundle::default()
                },
            })
        })
    }

    fn public_sign(
        &self,
        request: Arc<PublicDecryptionRequest>,
        _: Bytes,
        shares: Arc<[PublicShares]>,
    ) -> BoxFuture<'static, Result<PublicSignature, NodeError>> {
        if matches!(self.0.manner, Manner::Mute) {
            return std::future::pending().boxed();
        }
        self.answer(move |node| node.sign(&request, &shares))
    }
}

/// A committee of as many nodes as there are manners.
struct Committee {
    nodes: Vec<Arc<Node>>,
    carrier: Carrier,
}

impl Committee {
    fn of(manners: &[Manner]) -> Self {
        Self::with(manners, PATIENCE)
    }

    fn with(manners: &[Manner], patience: Patience) -> Self {
        let threshold = (manners.len() - 1) / 3;
        let node = |(party, manner): (u32, &Manner)| {
            Arc::new(Node {
                party,
                threshold: u32::try_from(threshold).unwrap(),
                nodes: manners.len(),
                key: key(party),
                manner: manner.clone(),
                asked_to_sign: AtomicUsize::new(0),
            })
        };
        let nodes: Vec<_> = (1..).zip(manners).map(node).collect();
        let members = nodes.iter().map(|node| Member {
            party: node.party,
            signer: node_address(&node.key),
            client: Arc::new(Connection(Arc::clone(node))),
        });
        let terms = ChainTerms {
            domains: domains(),
            signatures: threshold + 1,
        };
        let carrier = Carrier::new(
            members.rev().collect(),
            u8::try_from(threshold).unwrap(),
            HashMap::from([(CHAIN, terms)]),
            patience,
        );
        Self {
            carrier: carrier.unwrap(),
            nodes,
        }
    }

    /// Asks for a user's value and opens what comes: the numbers of the nodes whose shares are in it.
    async fn user(&self) -> Result<Vec<u32>, ServiceError> {
        let keys = UserKeypair::from_seed([5; 64].into());
        let request = UserDecryptionRequest {
            values: vec![RequestedValue {
                handle: handle(),
                contract_address: Address::repeat_byte(2),
                owner: Address::repeat_byte(3),
            }],
            user: Address::repeat_byte(3),
            permit: DecryptionPermit::Unified(UnifiedPermit {
                allowed_contracts: vec![],
                start_timestamp: 0,
                duration_seconds: 60,
            }),
            public_key: keys.public_key().blob().to_vec().into(),
            extra_data: vec![0].into(),
            signature: vec![9; 65].into(),
        };
        let shares = self.carrier.user_decrypt(&request, Bytes::new()).await?;
        let domains = domains();
        let context = AnswerContext {
            domains: &domains,
            public_key: keys.public_key(),
            user: request.user,
            extra_data: &request.extra_data,
        };
        let whose = |share: &UserDecryptionShare| {
            let node = self.nodes.iter().find(|node| {
                let place = CommitteeParty {
                    number: node.party,
                    threshold: node.threshold,
                };
                open_shares(&context, &[handle()], share, &keys, (place, node_address(&node.key))).is_ok()
            });
            node.expect("an answer that no node gave").party
        };
        Ok(shares.iter().map(whose).collect())
    }

    /// Asks for a public value: the numbers of the nodes that signed it.
    async fn public(&self) -> Result<Vec<u32>, ServiceError> {
        let request = PublicDecryptionRequest {
            handles: vec![handle()],
            extra_data: vec![0].into(),
        };
        let answer = self.carrier.public_decrypt(&request, Bytes::new()).await?;
        assert_eq!(answer.decrypted_result.0, value());
        assert_eq!(answer.extra_data, request.extra_data);
        let digest = domains().public_decryption_digest(&request.handles, &answer.decrypted_result, &request.extra_data);
        let whose = |signature: &cipherloom_primitives::Bytes| {
            let signer = recover_signer(digest, signature).unwrap();
            let node = self.nodes.iter().find(|node| node_address(&node.key) == signer);
            node.expect("a signature that no node made").party
        };
        Ok(answer.signatures.iter().map(whose).collect())
    }

    fn suspects(&self) -> BTreeSet<u32> {
        self.carrier.standing().suspects(Instant::now())
    }
}

/// A committee of four honest nodes, but these.
fn four(others: &[(usize, Manner)]) -> Vec<Manner> {
    many(4, others)
}

fn many(count: usize, others: &[(usize, Manner)]) -> Vec<Manner> {
    let mut manners = vec![Manner::Honest; count];
    for (party, manner) in others {
        manners[party - 1] = manner.clone();
    }
    manners
}

#[tokio::test]
async fn honest_nodes_answer_with_all_shares_and_as_many_signatures_as_the_chain_asks_for() {
    for (count, signatures) in [(4, 2), (7, 3), (13, 5)] {
        let committee = Committee::of(&many(count, &[]));
        assert_eq!(committee.user().await.unwrap().len(), count);
        assert_eq!(committee.public().await.unwrap().len(), signatures);
        assert!(committee.suspects().is_empty());
    }
}

#[tokio::test]
async fn one_of_four_may_do_what_it_likes() {
    let refusal = ServiceError::new(Label::NotAllowedOnHostAcl, "a lie");
    for manner in [
        Manner::Silent,
        Manner::Away,
        Manner::Refuses(refusal),
        Manner::Impostor,
        Manner::Misnumbered,
        Manner::Misdirected,
        Manner::Liar,
        Manner::Slanderer,
        Manner::Fickle,
        Manner::Mute,
        Manner::Outdated,
    ] {
        for party in 1..=4u32 {
            let committee = Committee::of(&four(&[(party.try_into().unwrap(), manner.clone())]));
            let others: Vec<u32> = (1..=4).filter(|other| *other != party).collect();
            let shares = committee.user().await.unwrap();
            // Whether a sealed share is right nobody can see but the user.
            let sealed_rightly = matches!(manner, Manner::Liar | Manner::Slanderer | Manner::Fickle | Manner::Mute);
            match sealed_rightly {
                true => assert_eq!(shares, [1, 2, 3, 4]),
                false => assert_eq!(shares, others),
            }
            let signers = committee.public().await.unwrap();
            assert_eq!(signers.len(), 2);
            let may_sign = matches!(manner, Manner::Slanderer | Manner::Misdirected);
            assert!(may_sign || !signers.contains(&party), "{signers:?} with {party}");
            // Shares that come last are not needed, and so not looked at.
            let is_named = matches!(manner, Manner::Liar) && party != 4;
            let named = if is_named { BTreeSet::from([party]) } else { BTreeSet::new() };
            assert_eq!(committee.suspects(), named, "party {party}");
        }
    }
}

#[tokio::test]
async fn nobody_signs_whose_signature_is_not_needed() {
    for (count, asked_at_most) in [(4, 3), (7, 5), (13, 9)] {
        let committee = Committee::of(&many(count, &[]));
        committee.public().await.unwrap();
        let asked: usize = committee.nodes.iter().map(|node| node.asked_to_sign.load(Ordering::SeqCst)).sum();
        assert!(asked <= asked_at_most, "{asked} of {count}");
    }
}

#[tokio::test]
async fn when_those_who_were_asked_to_sign_take_long_the_others_are_asked_as_well() {
    let hasty = Patience {
        signers: Duration::from_millis(20),
        ..PATIENCE
    };
    // More than may be corrupt, so those who were asked first are too few.
    let committee = Committee::with(&four(&[(1, Manner::Mute), (2, Manner::Mute)]), hasty);
    assert_eq!(committee.public().await.unwrap(), [3, 4]);
}

#[tokio::test]
async fn shares_that_are_too_few_because_one_is_wrong_are_made_up_for_by_the_one_that_comes_late() {
    let (open, gate) = watch::channel(false);
    let committee = Arc::new(Committee::of(&four(&[(1, Manner::Liar), (4, Manner::Held(gate))])));
    let asking = tokio::spawn({
        let committee = Arc::clone(&committee);
        async move { committee.public().await }
    });
    // Both honest ones say that three shares, one of them wrong, are too few.
    while committee.nodes[1..3]
        .iter()
        .any(|node| node.asked_to_sign.load(Ordering::SeqCst) == 0)
    {
        tokio::task::yield_now().await;
    }
    open.send_replace(true);
    let signers = asking.await.unwrap().unwrap();
    assert!(!signers.contains(&1) && signers.len() == 2, "{signers:?}");
    assert_eq!(committee.suspects(), BTreeSet::from([1]));
}

#[tokio::test]
async fn a_slow_node_is_waited_for_a_moment_and_not_longer() {
    let committee = Committee::of(&four(&[(2, Manner::Silent)]));
    assert_eq!(committee.user().await.unwrap(), [1, 3, 4]);
    let text = committee.carrier.standing().render();
    assert!(
        text.contains("cipherloom_gateway_kms_node_calls_total{party=\"2\",call=\"user_share\",outcome=\"left\"} 1"),
        "{text}"
    );
    // A node that is in time after all is in the answer.
    let (open, gate) = watch::channel(false);
    let patient = Patience { grace: NEVER, ..PATIENCE };
    let committee = Committee::with(&four(&[(2, Manner::Held(gate))]), patient);
    let (shares, ()) = tokio::join!(committee.user(), async {
        open.send_replace(true);
    });
    assert_eq!(shares.unwrap(), [1, 2, 3, 4]);
}

#[tokio::test]
async fn two_of_four_down_is_an_error_that_says_which_and_why() {
    let committee = Committee::of(&four(&[(1, Manner::Away), (3, Manner::Misnumbered)]));
    for error in [committee.user().await.unwrap_err(), committee.public().await.unwrap_err()] {
        assert_eq!(error.label, Label::GatewayNotReachable, "{error}");
        assert!(
            error.message.starts_with("3 of 4 KMS nodes have to give shares, and 2 did"),
            "{error}"
        );
        assert!(error.message.contains("node 1 does not answer: connection refused"), "{error}");
    }
    let hasty = Patience {
        stragglers: Duration::from_millis(20),
        ..PATIENCE
    };
    let committee = Committee::with(&four(&[(2, Manner::Silent), (4, Manner::Silent)]), hasty);
    for error in [committee.user().await.unwrap_err(), committee.public().await.unwrap_err()] {
        assert_eq!(error.label, Label::GatewayNotReachable);
        assert!(error.message.contains("node 2 has not answered within"), "{error}");
        assert!(error.message.contains("node 4 has not answered within"), "{error}");
    }
}

#[tokio::test]
async fn what_all_refuse_is_refused_with_their_reason() {
    let refusal = ServiceError::new(Label::NotAllowedOnHostAcl, "the access list does not allow it");
    let mut manners = vec![Manner::Refuses(refusal.clone()); 4];
    let committee = Committee::of(&manners);
    assert_eq!(committee.user().await.unwrap_err(), refusal);
    assert_eq!(committee.public().await.unwrap_err(), refusal);
    // One that says otherwise or nothing changes the label no more than it changes an answer.
    for other in [
        Manner::Silent,
        Manner::Honest,
        Manner::Refuses(ServiceError::new(Label::RequestError, "a lie")),
    ] {
        manners[2] = other;
        let committee = Committee::of(&manners);
        assert_eq!(committee.user().await.unwrap_err().label, Label::NotAllowedOnHostAcl);
        assert_eq!(committee.public().await.unwrap_err().label, Label::NotAllowedOnHostAcl);
    }
}

#[tokio::test]
async fn a_liar_and_a_silent_node_of_four_get_no_value_signed() {
    let hasty = Patience {
        stragglers: Duration::from_millis(20),
        ..PATIENCE
    };
    let committee = Committee::with(&four(&[(1, Manner::Liar), (2, Manner::Silent)]), hasty);
    let error = committee.public().await.unwrap_err();
    assert_eq!(error.label, Label::GatewayNotReachable);
    assert!(error.message.contains("2 of 3 shares agree"), "{error}");
}

#[tokio::test]
async fn shares_of_two_epochs_are_never_mixed() {
    let half = four(&[(1, Manner::Outdated), (2, Manner::Outdated)]);
    let committee = Committee::of(&half);
    for error in [committee.user().await.unwrap_err(), committee.public().await.unwrap_err()] {
        assert_eq!(error.label, Label::GatewayNotReachable);
        assert!(
            error
                .message
                .contains("3 of 4 KMS nodes have to give shares, and 2 did: node 1 has shares of epoch 0x"),
            "{error}"
        );
    }
    let most = vec![Manner::Outdated, Manner::Outdated, Manner::Honest, Manner::Outdated];
    let committee = Committee::of(&most);
    assert_eq!(committee.user().await.unwrap(), [1, 2, 4]);
    assert!(!committee.public().await.unwrap().contains(&3));
}

#[tokio::test]
async fn suspects_are_not_counted_as_enough() {
    let (open, gate) = watch::channel(true);
    let committee = Arc::new(Committee::of(&four(&[(1, Manner::Liar), (4, Manner::Held(gate))])));
    committee.public().await.unwrap();
    assert_eq!(committee.suspects(), BTreeSet::from([1]));
    // The grace is over long before node 4 answers, and still its share is in what the user gets.
    open.send_replace(false);
    let asking = tokio::spawn({
        let committee = Arc::clone(&committee);
        async move { committee.user().await }
    });
    tokio::time::sleep(PATIENCE.grace * 3).await;
    assert!(!asking.is_finished());
    open.send_replace(true);
    assert_eq!(asking.await.unwrap().unwrap(), [1, 2, 3, 4]);
}

#[tokio::test]
async fn what_a_chain_asks_for_can_change() {
    let committee = Committee::of(&four(&[]));
    let terms = |signatures| ChainTerms {
        domains: domains(),
        signatures,
    };
    committee.carrier.set_terms(CHAIN, terms(4));
    assert_eq!(committee.public().await.unwrap(), [1, 2, 3, 4]);
    committee.carrier.set_terms(CHAIN, terms(5));
    let error = committee.public().await.unwrap_err();
    assert!(error.message.starts_with("5 of 4 KMS nodes have to give signatures"), "{error}");
    let elsewhere = PublicDecryptionRequest {
        handles: vec![Handle::computed(B256::ZERO, CHAIN + 1, FheType::Bool)],
        extra_data: vec![].into(),
    };
    let error = committee.carrier.public_decrypt(&elsewhere, Bytes::new()).await.unwrap_err();
    assert_eq!(error.label, Label::RequestError);
}

#[test]
fn nodes_that_are_no_committee_are_refused() {
    let try_with = |parties: &[(u32, u32)], threshold| {
        let committee = Committee::of(&four(&[]));
        let member = |(party, signer): &(u32, u32)| Member {
            party: *party,
            signer: node_address(&key(*signer)),
            client: Arc::new(Connection(Arc::clone(&committee.nodes[0]))),
        };
        let outcome = Carrier::new(parties.iter().map(member).collect(), threshold, HashMap::new(), PATIENCE);
        outcome.err().map(|error| error.to_string())
    };
    assert_eq!(try_with(&[(2, 2), (1, 1), (4, 4), (3, 3)], 1), None);
    assert!(try_with(&[(1, 1), (2, 2), (4, 4), (5, 5)], 1).unwrap().contains("numbered from 1"));
    assert!(try_with(&[(1, 1), (2, 2), (2, 3), (4, 4)], 1).unwrap().contains("numbered from 1"));
    assert!(
        try_with(&[(1, 1), (2, 2), (3, 2), (4, 4)], 1)
            .unwrap()
            .contains("two nodes sign as")
    );
    assert!(try_with(&[(1, 1), (2, 2), (3, 3), (4, 4)], 2).unwrap().contains("a third"));
}
