//! Dealing a new key: whoever cheats is refused, and nobody has a share then.

use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B256};
use cipherloom_attest::{AttestError, Evidence, Policy};
use cipherloom_ceremony::{
    Acceptance, Accepted, Card, CeremonyError, Core, Dealer, Delivered, Letter, LocalLink, NodeLink, Proposal, Record,
};
use cipherloom_threshold::{EpochId, KeyId};
use futures_util::future::BoxFuture;

use crate::committee::{CHAIN, Deployment, KEY, epoch_id, now, verifier};

const ALL: [usize; 4] = [0, 1, 2, 3];

#[tokio::test]
async fn everybody_gets_a_share_and_anybody_can_check_the_record() {
    let deployment = Deployment::new(4).await;
    let outcome = deployment.deal(&ALL, 1).await;
    assert!(outcome.not_activated.is_empty());
    assert!(deployment.decrypts(&ALL, 1));
    assert!(deployment.decrypts(&[0, 2, 3], 1), "one may be missing");

    let record = Record::from_json(&outcome.record.to_json().unwrap()).unwrap();
    assert_eq!(record, outcome.record);
    record.check().unwrap();
    record.check_evidence(&verifier(), now()).unwrap();
    assert_eq!(record.core.key_id, KEY);
    for node in &deployment.nodes {
        let held = node.node.share(KeyId(KEY.0), EpochId(epoch_id(1).0)).unwrap().unwrap();
        assert_eq!(*held.record, record);
    }
}

#[tokio::test]
async fn committees_of_seven_and_thirteen_are_dealt_to() {
    for (parties, threshold) in [(7, 2), (13, 4)] {
        let deployment = Deployment::new(parties).await;
        let members: Vec<usize> = (0..parties).collect();
        deployment.deal(&members, threshold).await;
        assert!(deployment.decrypts(&members, 1), "{parties}");
    }
}

#[tokio::test]
async fn any_change_to_a_record_is_noticed() {
    let deployment = Deployment::new(4).await;
    let record = deployment.deal(&ALL, 1).await.record;
    let changes: Vec<(&str, Change<Record>)> = vec![
        ("key", Box::new(|record| record.core.key_id = B256::repeat_byte(1))),
        ("chain", Box::new(|record| record.core.chain_id += 1)),
        ("epoch", Box::new(|record| record.core.seats.epoch = epoch_id(2))),
        ("context", Box::new(|record| record.core.seats.context = B256::repeat_byte(2))),
        ("member", Box::new(|record| record.core.seats.members.swap(0, 1))),
        ("material", Box::new(|record| record.core.material[0].digest = B256::ZERO)),
        ("name", Box::new(|record| record.core.material[0].name = "other".into())),
        ("parameters", Box::new(|record| record.core.parameters = "other".into())),
        ("known", Box::new(|record| record.core.known[0].little_endian.0[0] ^= 1)),
        ("nonce", Box::new(|record| record.core.nonce = B256::ZERO)),
        ("previous", Box::new(|record| record.core.previous = Some(B256::ZERO))),
        ("dealer", Box::new(|record| record.core.dealer = None)),
        ("box key", Box::new(|record| record.core.cards[0].box_key = B256::repeat_byte(3))),
        ("card", Box::new(|record| drop(record.core.cards.pop()))),
        ("signature", Box::new(|record| drop(record.acceptances.pop()))),
        ("order", Box::new(|record| record.acceptances.swap(1, 2))),
        ("evidence", Box::new(|record| record.dealer_evidence = None)),
        ("broadcasts", Box::new(|record| record.core.broadcasts = B256::repeat_byte(4))),
        (
            "partial",
            Box::new(|record| record.acceptances[2].partials = record.acceptances[1].partials.clone()),
        ),
    ];
    for (what, change) in changes {
        let mut changed = record.clone();
        change(&mut changed);
        assert!(changed.check().is_err(), "{what}");
    }
    // The dealer's evidence is for this record alone.
    let other = Deployment::new(4).await.deal(&ALL, 1).await.record;
    let mut exchanged = record;
    exchanged.dealer_evidence = other.dealer_evidence;
    exchanged.check().unwrap();
    assert!(matches!(
        exchanged.check_evidence(&verifier(), now()),
        Err(CeremonyError::Evidence {
            source: AttestError::Binding { .. },
            ..
        })
    ));
}

#[tokio::test]
async fn nodes_agree_to_nothing_but_what_the_chain_says() {
    let deployment = Deployment::new(5).await;
    let seats = deployment.seats(&ALL, 1, 2);
    let registered = Deployment::registration(&seats, &[]);
    let refused = |seats: cipherloom_ceremony::Seats| {
        let links = deployment.links(&ALL, &registered);
        let deployment = &deployment;
        async move { deployment.try_deal(seats, &links).await.unwrap_err() }
    };
    let mut other = seats.clone();
    other.context = B256::repeat_byte(9);
    assert!(matches!(refused(other).await, CeremonyError::NotRegistered(_)));
    let mut earlier = seats.clone();
    earlier.epoch = epoch_id(1);
    assert!(matches!(refused(earlier).await, CeremonyError::OldEpoch { .. }));
    // Nor to an epoch that the chain will not reach, after which there could be no other.
    let mut far = seats.clone();
    far.epoch = epoch_id(4);
    assert!(matches!(refused(far).await, CeremonyError::NotRegistered(_)));
    let mut swapped = seats.clone();
    swapped.members.swap(0, 1);
    assert!(matches!(refused(swapped).await, CeremonyError::NotRegistered(_)));
    // Somebody else in place of one member.
    let links = deployment.links(&[0, 1, 2, 4], &registered);
    let error = deployment
        .try_deal(deployment.seats(&[0, 1, 2, 4], 1, 2), &links)
        .await
        .unwrap_err();
    assert!(matches!(error, CeremonyError::NotRegistered(_)));
    assert!(deployment.nodes.iter().all(|node| node.node.held().is_empty()));
}

#[tokio::test]
async fn a_dealer_whose_evidence_is_not_believed_gets_nothing() {
    let deployment = Deployment::new(4).await;
    let seats = deployment.seats(&ALL, 1, 1);
    let registration = Deployment::registration(&seats, &[]);
    let proposal = Proposal::deal(CHAIN, "toy", seats).unwrap();
    let dealer = Dealer::new(proposal.clone(), &*deployment.attestor).await.unwrap();
    let node = &deployment.nodes[0].node;

    // The evidence of another ceremony's dealer under this one's card.
    let other = Dealer::new(
        Proposal::deal(CHAIN, "toy", proposal.target.clone()).unwrap(),
        &*deployment.attestor,
    )
    .await
    .unwrap();
    let mut forged = dealer.card().clone();
    forged.evidence = other.card().evidence.clone();
    assert!(node.begin(proposal.clone(), Some(forged), &registration).await.is_err());
    assert!(
        node.begin(proposal.clone(), Some(other.card().clone()), &registration)
            .await
            .is_err()
    );
    assert!(node.begin(proposal.clone(), None, &registration).await.is_err());
    // A box key that the hardware did not vouch for.
    let mut forged = dealer.card().clone();
    forged.box_key = other.card().box_key;
    assert!(node.begin(proposal.clone(), Some(forged), &registration).await.is_err());
    // A member's card is no dealer's.
    let card = node
        .begin(proposal.clone(), Some(dealer.card().clone()), &registration)
        .await
        .unwrap();
    assert!(node.begin(proposal, Some(card), &registration).await.is_err());
    assert!(Policy::insecure_simulated_only().images.is_empty());
}

/// What somebody does to a document.
type Change<T> = Box<dyn Fn(&mut T) + Send + Sync>;

/// What a meddling carrier does to the calls of one node.
type Meddle = Box<dyn Fn(&mut Core, &mut Letter) + Send + Sync>;

/// A link whose carrier or node misbehaves.
struct Crooked {
    honest: LocalLink,
    dealt: Option<Meddle>,
    /// Entropy of others that this node gives as its own.
    entropy: Option<Arc<Mutex<Option<Letter>>>>,
    /// Cards of all, for a carrier that shows others.
    cards: Option<Change<Vec<Card>>>,
    acceptance: Option<Change<Acceptance>>,
}

impl Crooked {
    fn new(deployment: &Deployment, index: usize, registration: &cipherloom_ceremony::Registration) -> Self {
        Self {
            honest: LocalLink::new(Arc::clone(&deployment.nodes[index].node), registration.clone()),
            dealt: None,
            entropy: None,
            cards: None,
            acceptance: None,
        }
    }
}

impl NodeLink for Crooked {
    fn signer(&self) -> Address {
        self.honest.signer()
    }

    fn begin<'a>(&'a self, proposal: &'a Proposal, dealer: Option<&'a Card>) -> BoxFuture<'a, Result<Card, CeremonyError>> {
        self.honest.begin(proposal, dealer)
    }

    fn cards<'a>(&'a self, session: B256, cards: &'a [Card]) -> BoxFuture<'a, Result<Delivered, CeremonyError>> {
        Box::pin(async move {
            let mut cards = cards.to_vec();
            if let Some(meddle) = &self.cards {
                meddle(&mut cards);
            }
            let mut delivered = self.honest.cards(session, &cards).await?;
            if let Some(stolen) = &self.entropy {
                let mut stolen = stolen.lock().unwrap();
                match stolen.clone() {
                    Some(letter) => delivered.letters = vec![letter],
                    None => *stolen = delivered.letters.first().cloned(),
                }
            }
            Ok(delivered)
        })
    }

    fn deal<'a>(
        &'a self,
        core: &'a Core,
        dealer_evidence: &'a Evidence,
        letter: &'a Letter,
    ) -> BoxFuture<'a, Result<Acceptance, CeremonyError>> {
        Box::pin(async move {
            let (mut core, mut letter) = (core.clone(), letter.clone());
            if let Some(meddle) = &self.dealt {
                meddle(&mut core, &mut letter);
            }
            let mut acceptance = self.honest.deal(&core, dealer_evidence, &letter).await?;
            if let Some(meddle) = &self.acceptance {
                meddle(&mut acceptance);
            }
            Ok(acceptance)
        })
    }

    fn deliver(&self, session: B256, letters: Vec<Letter>) -> BoxFuture<'_, Result<Delivered, CeremonyError>> {
        self.honest.deliver(session, letters)
    }

    fn close(&self, session: B256) -> BoxFuture<'_, Result<Delivered, CeremonyError>> {
        self.honest.close(session)
    }

    fn accept(&self, session: B256) -> BoxFuture<'_, Result<Accepted, CeremonyError>> {
        self.honest.accept(session)
    }

    fn activate<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), CeremonyError>> {
        self.honest.activate(record)
    }

    fn abort(&self, session: B256) -> BoxFuture<'_, Result<(), CeremonyError>> {
        self.honest.abort(session)
    }
}

/// Deals with one link that misbehaves; the ceremony must fail everywhere and leave nothing behind.
async fn fails_with(crook: impl FnOnce(&mut Crooked)) -> CeremonyError {
    let deployment = Deployment::new(4).await;
    let seats = deployment.seats(&ALL, 1, 1);
    let registration = Deployment::registration(&seats, &[]);
    let mut crooked = Crooked::new(&deployment, 2, &registration);
    crook(&mut crooked);
    let mut links = deployment.links(&ALL, &registration);
    links[2] = Arc::new(crooked);
    let error = deployment.try_deal(seats, &links).await.unwrap_err();
    for node in &deployment.nodes {
        assert!(node.node.held().is_empty());
        let left = std::fs::read_dir(&node.directory).unwrap();
        let names: Vec<String> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!names.iter().any(|name| name.starts_with("share-")), "{names:?}");
    }
    error
}

#[tokio::test]
async fn what_a_carrier_changes_of_a_dealing_is_refused() {
    let change_core: Vec<(&str, Meddle)> = vec![
        ("material", Box::new(|core, _| core.material[0].digest = B256::ZERO)),
        ("key", Box::new(|core, _| core.key_id = B256::ZERO)),
        ("known value", Box::new(|core, _| core.known[0].little_endian.0[0] ^= 1)),
        ("share", Box::new(|_, letter| letter.body[100] ^= 1)),
        ("reader", Box::new(|_, letter| letter.to = Address::repeat_byte(1))),
        ("number", Box::new(|_, letter| letter.number += 1)),
        ("short", Box::new(|_, letter| letter.body.truncate(20))),
    ];
    for (what, meddle) in change_core {
        let error = fails_with(|crooked| crooked.dealt = Some(meddle)).await;
        assert!(error.is_callers_fault(), "{what}: {error}");
    }
}

#[tokio::test]
async fn cards_that_a_carrier_exchanges_or_holds_back_are_missed() {
    let swap_box_key = |cards: &mut Vec<Card>| cards[0].box_key = cards[1].box_key;
    let error = fails_with(|crooked| crooked.cards = Some(Box::new(swap_box_key))).await;
    assert!(matches!(error, CeremonyError::Signature { .. }), "{error}");
    let drop_one = |cards: &mut Vec<Card>| drop(cards.pop());
    let error = fails_with(|crooked| crooked.cards = Some(Box::new(drop_one))).await;
    assert!(matches!(error, CeremonyError::Missing { .. }), "{error}");
    let twice = |cards: &mut Vec<Card>| cards.push(cards[0].clone());
    let error = fails_with(|crooked| crooked.cards = Some(Box::new(twice))).await;
    assert!(matches!(error, CeremonyError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn an_acceptance_with_wrong_partial_decryptions_is_refused() {
    let meddle = |acceptance: &mut Acceptance| acceptance.partials.swap(0, 1);
    let error = fails_with(|crooked| crooked.acceptance = Some(Box::new(meddle))).await;
    assert!(matches!(error, CeremonyError::Signature { .. }), "{error}");
}

#[tokio::test]
async fn entropy_that_is_somebody_elses_is_refused() {
    let deployment = Deployment::new(4).await;
    let seats = deployment.seats(&ALL, 1, 1);
    let registration = Deployment::registration(&seats, &[]);
    let stolen = Arc::new(Mutex::new(None));
    let mut links = deployment.links(&ALL, &registration);
    for index in [1, 2] {
        let mut crooked = Crooked::new(&deployment, index, &registration);
        crooked.entropy = Some(Arc::clone(&stolen));
        links[index] = Arc::new(crooked);
    }
    let error = deployment.try_deal(seats, &links).await.unwrap_err();
    assert!(matches!(error, CeremonyError::Missing { what: "the entropy", .. }), "{error}");
}

#[tokio::test]
async fn a_dealer_that_deals_shares_of_another_key_is_found_by_the_known_values() {
    let deployment = Deployment::new(4).await;
    let seats = deployment.seats(&ALL, 1, 1);
    let links = deployment.links(&ALL, &Deployment::registration(&seats, &[]));
    let proposal = Proposal::deal(CHAIN, "toy", seats).unwrap();
    let verifier = verifier();
    let parts = cipherloom_ceremony::DealingParts {
        attestor: &*deployment.attestor,
        verifier: &verifier,
        now: now(),
    };
    let generate = |_| async {
        let mut keys = deployment.secrets.generated();
        keys.squashed[3] ^= 1;
        Ok(keys)
    };
    let error = cipherloom_ceremony::deal(proposal, &links, parts, generate, |_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, CeremonyError::Refused(_) | CeremonyError::Threshold(_)), "{error}");
    assert!(deployment.nodes.iter().all(|node| node.node.held().is_empty()));
}

#[tokio::test]
async fn a_node_that_restarts_after_accepting_still_follows_the_record() {
    let mut deployment = Deployment::new(4).await;
    let seats = deployment.seats(&ALL, 1, 1);
    let registration = Deployment::registration(&seats, &[]);
    let proposal = Proposal::deal(CHAIN, "toy", seats).unwrap();
    let mut dealer = Dealer::new(proposal.clone(), &*deployment.attestor).await.unwrap();
    let session = dealer.session();
    let mut cards = Vec::new();
    for node in &deployment.nodes {
        cards.push(
            node.node
                .begin(proposal.clone(), Some(dealer.card().clone()), &registration)
                .await
                .unwrap(),
        );
    }
    let cards = dealer.take_cards(cards, &verifier(), now()).unwrap().to_vec();
    let nodes = deployment.nodes.iter();
    let letters: Vec<Letter> = nodes
        .flat_map(|node| node.node.cards(session, cards.clone()).unwrap().letters)
        .collect();
    let seed = dealer.take_entropy(&letters).unwrap();
    let dealt = dealer
        .deal(&seed, deployment.secrets.generated(), &*deployment.attestor)
        .await
        .unwrap();
    // Another member's letter is of no use.
    assert!(
        deployment.nodes[1]
            .node
            .deal(&dealt.core, &dealt.evidence, &dealt.letters[0])
            .is_err()
    );
    let nodes = deployment.nodes.iter().zip(&dealt.letters);
    let acceptances: Vec<_> = nodes
        .map(|(node, letter)| node.node.deal(&dealt.core, &dealt.evidence, letter).unwrap())
        .collect();
    assert!(dealt.record(acceptances[..3].to_vec()).is_err(), "all must have signed");
    // The same again is harmless; another outcome of the same ceremony is not signed, even for the right dealer.
    deployment.nodes[0]
        .node
        .deal(&dealt.core, &dealt.evidence, &dealt.letters[0])
        .unwrap();
    let other = dealer
        .deal(&seed, deployment.secrets.generated(), &*deployment.attestor)
        .await
        .unwrap();
    assert_ne!(other.core, dealt.core);
    let refused = deployment.nodes[0].node.deal(&other.core, &other.evidence, &other.letters[0]);
    assert!(matches!(refused, Err(CeremonyError::Refused(_))));
    let record = dealt.record(acceptances).unwrap();
    for node in 0..3 {
        deployment.nodes[node].node.activate(&record).unwrap();
    }
    assert!(deployment.nodes[3].node.held().is_empty());
    deployment.restart(3).await;
    deployment.nodes[3].node.activate(&record).unwrap();
    deployment.nodes[3].node.activate(&record).unwrap();
    for index in ALL {
        deployment.restart(index).await;
    }
    assert!(deployment.decrypts(&ALL, 1));
}
