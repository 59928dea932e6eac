//! Writing, cutting and damaging the file.

use super::*;

fn decided(number: u8) -> DecidedBlock {
    DecidedBlock {
        block: Bytes::from(vec![number; 40]),
        certificate: CommitCertificate {
            height: u64::from(number),
            round: 0,
            block_hash: B256::repeat_byte(number),
            signatures: Vec::new(),
        },
        sidecar: Bytes::from(vec![number; usize::from(number)]),
    }
}

fn open(dir: &Path) -> Result<(Store, Vec<DecidedBlock>)> {
    let mut found = Vec::new();
    let store = Store::open(dir, B256::repeat_byte(9), &mut |decided| {
        found.push(decided);
        Ok(())
    })?;
    Ok((store, found))
}

/// A directory with three blocks, and where each record ends in its file.
fn filled() -> (tempfile::TempDir, Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path()).unwrap();
    let mut ends = vec![40];
    for number in 1..=3 {
        store.append(decided(number)).unwrap();
        ends.push(std::fs::read(dir.path().join("blocks")).unwrap().len());
    }
    let content = std::fs::read(dir.path().join("blocks")).unwrap();
    (dir, content, ends)
}

#[test]
fn blocks_come_back_and_can_be_read_between_writes() {
    let (dir, _, _) = filled();
    let (mut store, found) = open(dir.path()).unwrap();
    assert_eq!(found, [decided(1), decided(2), decided(3)]);
    assert_eq!(store.get(2).unwrap(), Some(decided(2)));
    store.append(decided(4)).unwrap();
    assert_eq!(store.get(4).unwrap(), Some(decided(4)));
    assert_eq!((store.get(0).unwrap(), store.get(5).unwrap()), (None, None));
    assert!(matches!(open(dir.path()), Err(NodeError::DataDirLocked(_))));
    store.close();
    assert!(matches!(store.append(decided(5)), Err(NodeError::ShutDown)));
    assert_eq!(open(dir.path()).unwrap().1.len(), 4);
}

#[test]
fn a_cut_at_any_byte_loses_only_the_torn_block() {
    let (dir, content, ends) = filled();
    let path = dir.path().join("blocks");
    for cut in 0..content.len() {
        std::fs::write(&path, &content[..cut]).unwrap();
        let (mut store, found) = open(dir.path()).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        assert_eq!(found.len(), whole, "cut at {cut}");
        store.append(decided(7)).unwrap();
        drop(store);
        assert_eq!(open(dir.path()).unwrap().1.len(), whole + 1, "cut at {cut}, then another block");
    }
}

#[test]
fn zeros_at_the_end_are_what_a_power_failure_leaves() {
    let (dir, content, _) = filled();
    let path = dir.path().join("blocks");
    std::fs::write(&path, [&content[..], &[0; 100_000]].concat()).unwrap();
    assert_eq!(open(dir.path()).unwrap().1.len(), 3);
    assert_eq!(std::fs::read(&path).unwrap(), content);
}

#[test]
fn damage_before_the_last_block_is_an_error() {
    let (dir, content, ends) = filled();
    let path = dir.path().join("blocks");
    for at in [ends[0], ends[0] + 3, ends[0] + 5, ends[0] + 30, ends[1] + 11, ends[2] - 1] {
        let mut damaged = content.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(open(dir.path()), Err(NodeError::JournalCorrupt { .. })), "byte {at}");
    }
}

#[test]
fn the_file_of_another_chain_is_refused() {
    let (dir, _, _) = filled();
    let other = Store::open(dir.path(), B256::repeat_byte(8), &mut |_| Ok(()));
    assert!(matches!(other, Err(NodeError::JournalOfOtherChain { .. })));
}
