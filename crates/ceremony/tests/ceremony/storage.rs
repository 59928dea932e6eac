//! What a node keeps: files that were put back, exchanged or damaged.

use std::{fs, path::Path};

use cipherloom_attest::simulated::InsecureSimulatedAttestor;
use cipherloom_ceremony::{CeremonyError, Proposal, Store, carry_resharing};
use cipherloom_threshold::{EpochId, KeyId};

use crate::committee::{Deployment, KEY, epoch_id, open};

const ALL: [usize; 4] = [0, 1, 2, 3];
const FLOOR: EpochId = EpochId([0; 32]);

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Deals, copies the files of node 0, and reshares.
async fn with_old_copy() -> (Deployment, std::path::PathBuf) {
    let deployment = Deployment::new(4).await;
    let first = deployment.deal(&ALL, 1).await.record;
    let directory = deployment.nodes[0].directory.clone();
    let copied = directory.with_extension("copy");
    copy(&directory, &copied);
    let seats = deployment.seats(&ALL, 1, 2);
    let links = deployment.links(&ALL, &Deployment::registration(&seats, &first.core.seats.members));
    carry_resharing(Proposal::reshare(first, seats).unwrap(), &links, |_| {})
        .await
        .unwrap();
    (deployment, copied)
}

#[tokio::test]
async fn an_old_share_file_that_is_put_back_is_erased_or_refused() {
    let (mut deployment, copied) = with_old_copy().await;
    let directory = deployment.nodes[0].directory.clone();
    deployment.nodes.remove(0);
    for entry in fs::read_dir(&copied).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("share-") {
            fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
        }
    }
    let node = open(&directory, &deployment.attestor).await.unwrap();
    let held = node.share(KeyId(KEY.0), FLOOR).unwrap().unwrap();
    assert_eq!(held.share.scope().epoch.0, epoch_id(2).0);
    let shares = fs::read_dir(&directory).unwrap();
    let names = shares.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("share-")).count(), 1);
}

#[tokio::test]
async fn an_old_share_in_the_place_of_the_new_one_is_refused() {
    let (mut deployment, copied) = with_old_copy().await;
    let directory = deployment.nodes[0].directory.clone();
    deployment.nodes.remove(0);
    let find = |directory: &Path| {
        let mut entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries
            .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("share-"))
            .unwrap()
    };
    fs::copy(find(&copied), find(&directory)).unwrap();
    let node = open(&directory, &deployment.attestor).await.unwrap();
    assert!(matches!(node.share(KeyId(KEY.0), FLOOR), Err(CeremonyError::Attest(_))));
}

#[tokio::test]
async fn a_whole_old_directory_is_refused_by_the_epoch_of_the_chain() {
    let (mut deployment, copied) = with_old_copy().await;
    let directory = deployment.nodes[0].directory.clone();
    deployment.nodes.remove(0);
    copy(&copied, &directory);
    let node = open(&directory, &deployment.attestor).await.unwrap();
    let refused = node.share(KeyId(KEY.0), EpochId(epoch_id(2).0));
    assert!(matches!(refused, Err(CeremonyError::OldEpoch { .. })));
}

#[tokio::test]
async fn files_of_another_node_or_other_software_are_refused() {
    let mut deployment = Deployment::new(4).await;
    deployment.deal(&ALL, 1).await;
    let directories: Vec<_> = deployment.nodes.iter().map(|node| node.directory.clone()).collect();
    deployment.nodes.clear();
    // Other software derives other keys.
    let other = InsecureSimulatedAttestor::new("something else").unwrap();
    assert!(matches!(Store::open(&directories[0], &other).await, Err(CeremonyError::Attest(_))));
    // Another node's ledger and share under this one's name.
    let identity = fs::read(directories[0].join("identity.sealed")).unwrap();
    copy(&directories[1], &directories[0]);
    fs::write(directories[0].join("identity.sealed"), identity).unwrap();
    assert!(matches!(
        Store::open(&directories[0], &*deployment.attestor).await,
        Err(CeremonyError::Refused(_))
    ));
    // A directory that lost its identity does not quietly get a new one.
    fs::remove_file(directories[2].join("identity.sealed")).unwrap();
    assert!(Store::open(&directories[2], &*deployment.attestor).await.is_err());
}

#[tokio::test]
async fn one_process_has_a_directory_at_a_time() {
    let deployment = Deployment::new(1).await;
    let second = Store::open(&deployment.nodes[0].directory, &*deployment.attestor).await;
    assert!(matches!(second, Err(CeremonyError::File { .. })));
}
