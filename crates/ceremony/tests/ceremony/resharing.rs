//! Resharing: to the same committee, to a larger one, and past a member that is gone; and carriers that cheat.

use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, B256};
use cipherloom_attest::Evidence;
use cipherloom_ceremony::{
    Acceptance, Accepted, Card, CeremonyError, Core, Delivered, Identity, Letter, LocalLink, NodeLink, Outcome, Proposal, Record,
    Registration, Seats, activate, carry_resharing,
};
use cipherloom_signcryption::sign_digest;
use cipherloom_threshold::{EpochId, KeyId, KeyKind};
use futures_util::future::BoxFuture;

use crate::committee::{Deployment, KEY, epoch_id, now, read, verifier};

const ALL: [usize; 4] = [0, 1, 2, 3];

async fn reshare(deployment: &Deployment, previous: &Record, seats: Seats, taking_part: &[usize]) -> Result<Outcome, CeremonyError> {
    let registration = Deployment::registration(&seats, &previous.core.seats.members);
    let links = deployment.links(taking_part, &registration);
    carry_resharing(Proposal::reshare(previous.clone(), seats).unwrap(), &links, |_| {}).await
}

fn share_files(deployment: &Deployment, index: usize) -> usize {
    let files = std::fs::read_dir(&deployment.nodes[index].directory).unwrap();
    files
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("share-"))
        .count()
}

#[tokio::test]
async fn the_same_committee_gets_new_shares_and_old_ones_are_useless() {
    let mut deployment = Deployment::new(4).await;
    let first = deployment.deal(&ALL, 1).await.record;
    let old: Vec<_> = ALL
        .iter()
        .map(|index| {
            let held = deployment.nodes[*index].node.share(KeyId(KEY.0), EpochId([0; 32]));
            held.unwrap().unwrap().share
        })
        .collect();
    let outcome = reshare(&deployment, &first, deployment.seats(&ALL, 1, 2), &ALL).await.unwrap();
    assert!(outcome.not_activated.is_empty());
    outcome.record.check_evidence(&verifier(), now()).unwrap();
    assert_eq!(outcome.record.core.previous, Some(first.digest().unwrap()));
    assert_eq!(outcome.record.core.material, first.core.material);
    assert!(deployment.decrypts(&ALL, 2));
    for index in ALL {
        assert_eq!(share_files(&deployment, index), 1);
        deployment.restart(index).await;
    }
    assert!(deployment.decrypts(&ALL, 2));
    // As many old shares as somebody may have stolen, among new ones: they are wrong ones.
    let new = |index: usize| {
        let held = deployment.nodes[index].node.share(KeyId(KEY.0), EpochId([0; 32]));
        held.unwrap().unwrap().share
    };
    let (ciphertext, _) = deployment.secrets.encrypt(KeyKind::Squashed);
    assert!(read(&[Arc::clone(&old[0]), Arc::clone(&old[1]), new(2), new(3)], &ciphertext).is_err());
    // What was over is not begun again.
    let error = reshare(&deployment, &first, deployment.seats(&ALL, 1, 2), &ALL).await.unwrap_err();
    assert!(matches!(error, CeremonyError::OldEpoch { .. }), "{error}");
    let error = reshare(&deployment, &first, deployment.seats(&ALL, 1, 3), &ALL).await.unwrap_err();
    assert!(
        matches!(error, CeremonyError::OldEpoch { .. } | CeremonyError::Refused(_)),
        "{error}"
    );
    // The first record cannot bring its shares back.
    for index in ALL {
        assert!(deployment.nodes[index].node.activate(&first).is_err());
    }
}

#[tokio::test]
async fn a_committee_of_four_becomes_one_of_seven_others() {
    let deployment = Deployment::new(9).await;
    let first = deployment.deal(&ALL, 1).await.record;
    let members = [2, 3, 4, 5, 6, 7, 8];
    let mut seats = deployment.seats(&members, 2, 2);
    seats.context = B256::with_last_byte(2);
    let everybody: Vec<usize> = (0..9).collect();
    let outcome = reshare(&deployment, &first, seats, &everybody).await.unwrap();
    assert!(outcome.not_activated.is_empty());
    assert!(deployment.decrypts(&members, 2));
    assert!(deployment.decrypts(&[2, 3, 4, 6, 8], 2), "two may be missing");
    for index in [0, 1] {
        assert!(deployment.nodes[index].node.held().is_empty());
        assert_eq!(share_files(&deployment, index), 0);
        assert!(
            deployment.nodes[index]
                .node
                .share(KeyId(KEY.0), EpochId([0; 32]))
                .unwrap()
                .is_none()
        );
    }
}

#[tokio::test]
async fn a_party_that_is_gone_is_replaced() {
    let deployment = Deployment::new(5).await;
    let first = deployment.deal(&ALL, 1).await.record;
    let members = [0, 1, 2, 4];
    let outcome = reshare(&deployment, &first, deployment.seats(&members, 1, 2), &members)
        .await
        .unwrap();
    assert!(outcome.not_activated.is_empty());
    assert!(deployment.decrypts(&members, 2));
    // The one that was gone is back with its old share: the chain's epoch makes it useless.
    let share = deployment.nodes[3].node.share(KeyId(KEY.0), EpochId(epoch_id(2).0));
    assert!(matches!(share, Err(CeremonyError::OldEpoch { .. })));
}

#[tokio::test]
async fn too_few_old_members_leave_everything_as_it_was() {
    let deployment = Deployment::new(6).await;
    let first = deployment.deal(&ALL, 1).await.record;
    let members = [0, 1, 4, 5];
    reshare(&deployment, &first, deployment.seats(&members, 1, 2), &members)
        .await
        .unwrap_err();
    assert!(deployment.decrypts(&ALL, 1));
    assert_eq!(share_files(&deployment, 4), 0);
    // Begun anew with all of them.
    let everybody = [0, 1, 2, 3, 4, 5];
    reshare(&deployment, &first, deployment.seats(&members, 1, 2), &everybody)
        .await
        .unwrap();
    assert!(deployment.decrypts(&members, 2));
}

#[tokio::test]
async fn nodes_do_not_reshare_to_whom_the_chain_does_not_name() {
    let deployment = Deployment::new(8).await;
    let first = deployment.deal(&ALL, 1).await.record;
    let registered = deployment.seats(&ALL, 1, 2);
    let registration = Deployment::registration(&registered, &first.core.seats.members);
    let strangers = [4, 5, 6, 7];
    let everybody: Vec<usize> = (0..8).collect();
    let links = deployment.links(&everybody, &registration);
    let proposal = Proposal::reshare(first.clone(), deployment.seats(&strangers, 1, 2)).unwrap();
    let error = carry_resharing(proposal, &links, |_| {}).await.unwrap_err();
    assert!(matches!(error, CeremonyError::NotRegistered(_)), "{error}");
    // Nor to a new committee that is told of other old members.
    let registration = Deployment::registration(&registered, &deployment.seats(&strangers, 1, 1).members);
    let links = deployment.links(&ALL, &registration);
    let error = carry_resharing(Proposal::reshare(first, registered).unwrap(), &links, |_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, CeremonyError::NotRegistered(_)), "{error}");
    assert!(deployment.decrypts(&ALL, 1));
}

#[tokio::test]
async fn nobody_gives_up_a_share_for_a_record_of_a_ceremony_it_took_no_part_in() {
    let deployment = Deployment::new(8).await;
    let first = deployment.deal(&ALL, 1).await.record;
    // Four others deal among themselves a key of the same name, in a later epoch.
    let others = [4, 5, 6, 7];
    let seats = deployment.seats(&others, 1, 7);
    let links = deployment.links(&others, &Deployment::registration(&seats, &[]));
    let foreign = deployment.try_deal(seats, &links).await.unwrap().record;
    for index in ALL {
        let error = deployment.nodes[index].node.activate(&foreign).unwrap_err();
        assert!(matches!(error, CeremonyError::NoSession), "{error}");
    }
    assert!(deployment.decrypts(&ALL, 1));
    first.check().unwrap();
}

#[tokio::test]
async fn a_node_that_was_not_told_follows_the_record_later() {
    let mut deployment = Deployment::new(4).await;
    let first = deployment.deal(&ALL, 1).await.record;
    let seats = deployment.seats(&ALL, 1, 2);
    let registration = Deployment::registration(&seats, &first.core.seats.members);
    let mut links = deployment.links(&ALL, &registration);
    links[1] = Arc::new(Crooked::new(&deployment, 1, &registration, Fault::Deaf));
    let outcome = carry_resharing(Proposal::reshare(first, seats).unwrap(), &links, |_| {})
        .await
        .unwrap();
    assert_eq!(outcome.not_activated.len(), 1);
    assert_eq!(outcome.not_activated[0].0, deployment.address(1));
    drop(links);
    deployment.restart(1).await;
    let links = deployment.links(&ALL, &registration);
    let outcome = activate(outcome.record, &links).await.unwrap();
    assert!(outcome.not_activated.is_empty(), "{:?}", outcome.not_activated);
    assert!(deployment.decrypts(&ALL, 2));
}

/// How a carrier or a node misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The node is never told of the record.
    Deaf,
    /// What is sealed to the node is changed on its way.
    Alters,
    /// Letters to the node get lost.
    Drops,
    /// Letters come twice, and again later.
    Repeats,
    /// A letter is passed off as the reader's own.
    Passes,
    /// Another node says something else to this one than to the others, rightly signed.
    HearsOther,
    /// The same, and this one hears both.
    HearsBoth,
    /// The node publishes wrong shares, the same to all.
    PublishesWrong,
}

struct Crooked {
    honest: LocalLink,
    fault: Fault,
    seen: Mutex<Vec<Letter>>,
    /// Whoever is corrupt besides the carrier.
    corrupt: Arc<Identity>,
}

impl Crooked {
    fn new(deployment: &Deployment, index: usize, registration: &Registration, fault: Fault) -> Self {
        Self {
            honest: LocalLink::new(Arc::clone(&deployment.nodes[index].node), registration.clone()),
            fault,
            seen: Mutex::new(Vec::new()),
            corrupt: deployment.nodes[if fault == Fault::PublishesWrong { index } else { 0 }]
                .node
                .identity(),
        }
    }

    /// Changes a letter as its own sender can.
    fn rewrite(&self, letter: &mut Letter) {
        let last = letter.body.len() - 1;
        letter.body[last] ^= 1;
        letter.signature = sign_digest(self.corrupt.signing_key(), letter.digest()).unwrap().to_vec();
    }

    /// What the node says to all about its old share, made wrong.
    fn made_wrong(&self, mut delivered: Delivered) -> Delivered {
        if self.fault == Fault::PublishesWrong {
            let of_old_member = |letter: &&mut Letter| letter.to == Address::ZERO && letter.body[0] == 0;
            delivered
                .letters
                .iter_mut()
                .filter(of_old_member)
                .for_each(|letter| self.rewrite(letter));
        }
        delivered
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
        self.honest.cards(session, cards)
    }

    fn deal<'a>(
        &'a self,
        core: &'a Core,
        dealer_evidence: &'a Evidence,
        letter: &'a Letter,
    ) -> BoxFuture<'a, Result<Acceptance, CeremonyError>> {
        self.honest.deal(core, dealer_evidence, letter)
    }

    fn deliver(&self, session: B256, mut letters: Vec<Letter>) -> BoxFuture<'_, Result<Delivered, CeremonyError>> {
        match self.fault {
            Fault::Alters => {
                for letter in letters.iter_mut().filter(|letter| letter.to != Address::ZERO) {
                    letter.body[40] ^= 1;
                }
            }
            Fault::Drops => letters.clear(),
            Fault::Repeats => {
                let mut seen = self.seen.lock().unwrap();
                seen.extend(letters.clone());
                letters = seen.iter().chain(&letters).cloned().collect();
            }
            Fault::Passes => {
                let mut seen = self.seen.lock().unwrap();
                if let Some(letter) = letters.iter().find(|letter| letter.to == Address::ZERO)
                    && seen.is_empty()
                {
                    // What the carrier makes of somebody's letter without its key is nobody's.
                    let mut other = letter.clone();
                    other.from = self.honest.signer();
                    seen.push(other.clone());
                    letters.push(other);
                }
            }
            Fault::HearsOther | Fault::HearsBoth => {
                let corrupt = self.corrupt.address();
                let said_to_all = |letter: &&mut Letter| letter.to == Address::ZERO && letter.from == corrupt;
                if let Some(letter) = letters.iter_mut().find(said_to_all) {
                    let said = letter.clone();
                    self.rewrite(letter);
                    if self.fault == Fault::HearsBoth {
                        letters.push(said);
                    }
                }
            }
            Fault::PublishesWrong => {}
            Fault::Deaf => {}
        }
        Box::pin(async move {
            self.honest
                .deliver(session, letters)
                .await
                .map(|delivered| self.made_wrong(delivered))
        })
    }

    fn close(&self, session: B256) -> BoxFuture<'_, Result<Delivered, CeremonyError>> {
        Box::pin(async move { self.honest.close(session).await.map(|delivered| self.made_wrong(delivered)) })
    }

    fn accept(&self, session: B256) -> BoxFuture<'_, Result<Accepted, CeremonyError>> {
        self.honest.accept(session)
    }

    fn activate<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), CeremonyError>> {
        match self.fault {
            Fault::Deaf => Box::pin(async {
                Err(CeremonyError::Link {
                    who: "node".into(),
                    reason: "gone".into(),
                })
            }),
            _ => self.honest.activate(record),
        }
    }

    fn abort(&self, session: B256) -> BoxFuture<'_, Result<(), CeremonyError>> {
        self.honest.abort(session)
    }
}

#[tokio::test]
async fn a_carrier_that_cheats_and_a_corrupt_node_get_a_refusal_or_nothing_out_of_it() {
    for (fault, works) in [
        (Fault::Alters, false),
        (Fault::Drops, false),
        (Fault::Repeats, true),
        (Fault::Passes, true),
        (Fault::HearsOther, false),
        (Fault::HearsBoth, false),
        (Fault::PublishesWrong, true),
    ] {
        let deployment = Deployment::new(4).await;
        let first = deployment.deal(&ALL, 1).await.record;
        let seats = deployment.seats(&ALL, 1, 2);
        let registration = Deployment::registration(&seats, &first.core.seats.members);
        let mut links = deployment.links(&ALL, &registration);
        links[2] = Arc::new(Crooked::new(&deployment, 2, &registration, fault));
        let outcome = carry_resharing(Proposal::reshare(first, seats).unwrap(), &links, |_| {}).await;
        if fault == Fault::HearsBoth {
            assert!(matches!(outcome, Err(CeremonyError::Equivocation { sender, .. }) if sender == deployment.address(0)));
        }
        assert_eq!(outcome.is_ok(), works, "{fault:?}: {:?}", outcome.err());
        assert!(deployment.decrypts(&ALL, if works { 2 } else { 1 }), "{fault:?}");
    }
}
