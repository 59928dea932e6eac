//! Backup and recovery of a node whose machine is lost.

use cipherloom_ceremony::{Backup, CeremonyError, Piece, RecoveryCard, RecoveryKey, SealedPiece, Store};
use cipherloom_threshold::{EpochId, KeyId};

use crate::committee::{Deployment, KEY, TestNode, epoch_id, now, open, verifier};

const ALL: [usize; 4] = [0, 1, 2, 3];

async fn with_backup() -> (Deployment, Backup, Vec<Piece>) {
    let deployment = Deployment::new(4).await;
    deployment.deal(&ALL, 1).await;
    let (key, pieces) = RecoveryKey::generate(2, 3).unwrap();
    let key = RecoveryKey::from_json(&key.to_json().unwrap()).unwrap();
    let pieces = pieces
        .iter()
        .map(|piece| Piece::from_json(&piece.to_json().unwrap()).unwrap())
        .collect();
    let backup = deployment.nodes[1].node.backup(KeyId(KEY.0), EpochId(epoch_id(1).0), &key).unwrap();
    let backup = Backup::from_json(&backup.to_json().unwrap()).unwrap();
    backup.check(epoch_id(1)).unwrap();
    (deployment, backup, pieces)
}

fn sealed(card: &RecoveryCard, pieces: &[&Piece]) -> Vec<SealedPiece> {
    let seal = |piece: &&Piece| piece.seal_to(card, &verifier(), now()).unwrap();
    pieces.iter().map(seal).collect()
}

#[tokio::test]
async fn a_lost_node_comes_back_on_another_machine() {
    let (mut deployment, backup, pieces) = with_backup().await;
    let lost = deployment.nodes.remove(1);
    let directory = lost.directory.with_extension("new");
    let mut store = Store::open(&directory, &*deployment.attestor).await.unwrap();
    let card = store.begin_recovery(&backup, epoch_id(1), &*deployment.attestor).await.unwrap();
    let card = RecoveryCard::from_json(&card.to_json().unwrap()).unwrap();
    let sealed = sealed(&card, &[&pieces[2], &pieces[0]]);
    drop(store);
    // Between the two steps the machine may restart.
    let mut store = Store::open(&directory, &*deployment.attestor).await.unwrap();
    store.finish_recovery(&backup, epoch_id(1), &sealed).unwrap();
    assert_eq!(store.identity().address(), lost.node.identity().address());
    drop(store);
    let node = std::sync::Arc::new(open(&directory, &deployment.attestor).await.unwrap());
    deployment.nodes.insert(1, TestNode { node, directory });
    assert!(deployment.decrypts(&[0, 1, 2], 1));
}

#[tokio::test]
async fn a_backup_of_an_epoch_that_is_over_is_refused() {
    let (deployment, backup, pieces) = with_backup().await;
    let directory = deployment.nodes[1].directory.with_extension("new");
    let mut store = Store::open(&directory, &*deployment.attestor).await.unwrap();
    let refused = store.begin_recovery(&backup, epoch_id(2), &*deployment.attestor).await;
    assert!(matches!(refused, Err(CeremonyError::OldEpoch { .. })));
    let card = store.begin_recovery(&backup, epoch_id(1), &*deployment.attestor).await.unwrap();
    let sealed = sealed(&card, &[&pieces[0], &pieces[1]]);
    let refused = store.finish_recovery(&backup, epoch_id(2), &sealed);
    assert!(matches!(refused, Err(CeremonyError::OldEpoch { .. })));
    assert!(store.held().is_empty());
}

#[tokio::test]
async fn too_few_pieces_and_foreign_ones_open_nothing() {
    let (deployment, backup, pieces) = with_backup().await;
    let directory = deployment.nodes[1].directory.with_extension("new");
    let mut store = Store::open(&directory, &*deployment.attestor).await.unwrap();
    let card = store.begin_recovery(&backup, epoch_id(1), &*deployment.attestor).await.unwrap();
    let refused = |store: &mut Store, pieces: Vec<SealedPiece>| {
        let refused = store.finish_recovery(&backup, epoch_id(1), &pieces);
        assert!(matches!(refused, Err(CeremonyError::Pieces(_))), "{refused:?}");
        assert!(store.held().is_empty());
    };
    refused(&mut store, sealed(&card, &[&pieces[0]]));
    refused(&mut store, sealed(&card, &[&pieces[0], &pieces[0]]));
    let mut changed = sealed(&card, &[&pieces[0], &pieces[1]]);
    let mut body = changed[1].body.to_vec();
    body[40] ^= 1;
    changed[1].body = body.into();
    refused(&mut store, changed);
    // A custodian's file that was damaged is named.
    let json = String::from_utf8(pieces[1].to_json().unwrap().to_vec()).unwrap();
    let at = json.find("\"secret\":\"").unwrap() + 10;
    let damaged = [&json[..at], if &json[at..=at] == "0" { "1" } else { "0" }, &json[at + 1..]].concat();
    let damaged = Piece::from_json(damaged.as_bytes()).unwrap();
    refused(&mut store, sealed(&card, &[&pieces[0], &damaged]));
    // Pieces of another key are not even sealed, and pieces for another recovery not taken.
    let (_, foreign) = RecoveryKey::generate(2, 3).unwrap();
    assert!(foreign[0].seal_to(&card, &verifier(), now()).is_err());
    let again = store.begin_recovery(&backup, epoch_id(1), &*deployment.attestor).await.unwrap();
    refused(&mut store, sealed(&card, &[&pieces[0], &pieces[1]]));
    store
        .finish_recovery(&backup, epoch_id(1), &sealed(&again, &[&pieces[0], &pieces[1]]))
        .unwrap();
}

#[tokio::test]
async fn custodians_give_pieces_only_to_hardware_that_vouches_for_the_box_key() {
    let (deployment, backup, pieces) = with_backup().await;
    let directory = deployment.nodes[1].directory.with_extension("new");
    let mut store = Store::open(&directory, &*deployment.attestor).await.unwrap();
    let card = store.begin_recovery(&backup, epoch_id(1), &*deployment.attestor).await.unwrap();
    let changes: [fn(&mut RecoveryCard); 5] = [
        |card| card.box_key.0[0] ^= 1,
        |card| card.session.0[0] ^= 1,
        |card| card.chain_id = 1,
        |card| card.party += 1,
        |card| card.evidence.quote = Vec::new().into(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = card.clone();
        change(&mut changed);
        let refused = pieces[0].seal_to(&changed, &verifier(), now());
        assert!(matches!(refused, Err(CeremonyError::Evidence { .. })), "{index}");
    }
}

#[tokio::test]
async fn changed_backups_and_machines_that_hold_shares_are_refused() {
    let (mut deployment, backup, _) = with_backup().await;
    let changes: [fn(&mut Backup); 4] = [
        |backup| backup.recovery_key.needed = 1,
        |backup| backup.recovery_key.public_key.0[0] ^= 1,
        |backup| backup.one_time_key.0[0] ^= 1,
        |backup| backup.record.core.material.clear(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = backup.clone();
        change(&mut changed);
        assert!(changed.check(epoch_id(1)).is_err(), "{index}");
    }
    let directory = deployment.nodes[2].directory.clone();
    deployment.nodes.clear();
    let mut store = Store::open(&directory, &*deployment.attestor).await.unwrap();
    let refused = store.begin_recovery(&backup, epoch_id(1), &*deployment.attestor).await;
    assert!(matches!(refused, Err(CeremonyError::Refused(_))));
}

#[tokio::test]
async fn impossible_recovery_keys_are_refused() {
    for (needed, pieces) in [(0, 3), (4, 3), (1, 0)] {
        assert!(RecoveryKey::generate(needed, pieces).is_err());
    }
    let (mut key, _) = RecoveryKey::generate(2, 3).unwrap();
    key.needed = 4;
    assert!(RecoveryKey::from_json(&key.to_json().unwrap()).is_err());
}
