//! Writing, cutting and damaging the file.

use std::path::Path;

use alloy::primitives::B256;

use super::log::{PREAMBLE_BYTES, Place};
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

/// The file with its blocks, and the blocks.
fn open(dir: &Path) -> Result<(BlockLog, Vec<DecidedBlock>)> {
    let mut found = Vec::new();
    let mut log = BlockLog::open(dir, B256::repeat_byte(9))?;
    log.read_on(0, PREAMBLE_BYTES, &mut |decided, place| {
        assert_eq!(place.number, u64::try_from(found.len()).unwrap() + 1);
        found.push(decided);
        Ok(())
    })?;
    Ok((log, found))
}

/// A directory with three blocks, and where each record ends in its file.
fn filled() -> (tempfile::TempDir, Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path()).unwrap();
    let mut ends = vec![40];
    for number in 1..=3 {
        store.append(&decided(number)).unwrap();
        ends.push(std::fs::read(dir.path().join("blocks")).unwrap().len());
    }
    let content = std::fs::read(dir.path().join("blocks")).unwrap();
    (dir, content, ends)
}

#[test]
fn blocks_come_back_and_can_be_read_between_writes() {
    let (dir, content, ends) = filled();
    let (mut log, found) = open(dir.path()).unwrap();
    assert_eq!(found, [decided(1), decided(2), decided(3)]);
    let reader = log.reader();
    let fourth = log.append(&decided(4)).unwrap();
    assert_eq!(fourth.number, 4);
    assert_eq!(reader.decided(fourth).unwrap(), decided(4));
    assert_eq!(reader.block(fourth).unwrap(), decided(4).block);
    log.append(&decided(5)).unwrap();
    let second = Place {
        number: 2,
        start: u64::try_from(ends[1]).unwrap() + 16,
        length: u32::try_from(ends[2] - ends[1] - 16).unwrap(),
    };
    assert_eq!(reader.decided(second).unwrap(), decided(2));
    assert_eq!(reader.block(second).unwrap(), decided(2).block);
    drop(log);
    assert_eq!(open(dir.path()).unwrap().1.len(), 5);
    assert!(std::fs::read(dir.path().join("blocks")).unwrap().starts_with(&content));
}

#[test]
fn a_block_that_is_taken_back_makes_room_for_the_next_one() {
    let (dir, content, _) = filled();
    let (mut log, _) = open(dir.path()).unwrap();
    let place = log.append(&decided(9)).unwrap();
    log.take_back(place);
    assert_eq!(std::fs::read(dir.path().join("blocks")).unwrap(), content);
    assert_eq!(log.append(&decided(4)).unwrap().number, 4);
    drop(log);
    assert_eq!(open(dir.path()).unwrap().1.last(), Some(&decided(4)));
}

#[test]
fn reading_goes_on_after_any_block() {
    let (dir, _, ends) = filled();
    let mut log = BlockLog::open(dir.path(), B256::repeat_byte(9)).unwrap();
    let mut numbers = Vec::new();
    log.read_on(2, u64::try_from(ends[2]).unwrap(), &mut |found, place| {
        assert_eq!(found, decided(3));
        numbers.push(place.number);
        Ok(())
    })
    .unwrap();
    assert_eq!(numbers, [3]);
}

#[test]
fn records_that_are_none_or_longer_than_the_file_are_refused() {
    let (dir, content, ends) = filled();
    let place = |start: usize, length: u32| Place {
        number: 1,
        start: u64::try_from(start).unwrap(),
        length,
    };
    let reader = BlockLog::open(dir.path(), B256::repeat_byte(9)).unwrap().reader();
    let rest = u32::try_from(content.len() - 56).unwrap();
    for wrong in [
        place(0, 4),
        place(56, rest + 1),
        place(56, u32::MAX),
        place(57, 60),
        place(content.len(), 1),
    ] {
        assert!(matches!(reader.decided(wrong), Err(NodeError::JournalCorrupt { .. })), "{wrong:?}");
    }
    for wrong in [
        place(56, rest + 1),
        place(56, u32::MAX),
        place(content.len(), 1),
        place(56, 5),
        place(40, 30),
    ] {
        assert!(matches!(reader.block(wrong), Err(NodeError::JournalCorrupt { .. })), "{wrong:?}");
    }
    let mut damaged = content;
    damaged[ends[1] - 1] ^= 1;
    std::fs::write(dir.path().join("blocks"), damaged).unwrap();
    let reader = BlockLog::open(dir.path(), B256::repeat_byte(9)).unwrap().reader();
    let first = place(56, u32::try_from(ends[1] - 56).unwrap());
    assert!(matches!(reader.decided(first), Err(NodeError::JournalCorrupt { .. })));
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
        store.append(&decided(7)).unwrap();
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
    let other = BlockLog::open(dir.path(), B256::repeat_byte(8));
    assert!(matches!(other, Err(NodeError::JournalOfOtherChain { .. })));
}
