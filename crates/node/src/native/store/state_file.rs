//! The state after a block, as a file.
//!
//! It begins with a mark, the hash of the chain's first block, and number and hash of the block. Then come the accounts: a byte of 1, address, nonce,
//! balance, the length of the code in 4 bytes, the code, and the slots that are not zero with their values, ended by a slot and value of zeros; a byte of 0
//! ends the accounts. Numbers have their most significant byte first. The last 32 bytes are the keccak-256 of all before them.
//!
//! The checksum tells damage; it does not tell who wrote the file. Whoever reads a state compares its root with a header that validators signed.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use alloy::primitives::{Address, B256, Keccak256, U256};

use crate::state::{AccountParts, WorldState};

/// The first bytes of the file; the last of them is the version of the format.
const MARK: &[u8; 8] = b"CLSTATE\x01";

/// Length of mark, genesis hash, number and block hash.
const PREAMBLE_BYTES: u64 = 80;

/// Length of the checksum.
const SUM_BYTES: u64 = 32;

/// How much is read or written at one time, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// Which state a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateOf {
    /// The first block of the chain.
    pub(crate) genesis: B256,
    /// The block after which it was.
    pub(crate) number: u64,
    /// That block's hash.
    pub(crate) hash: B256,
}

/// Writes a file and has it on the disk when it returns; an error of the kind [`io::ErrorKind::Interrupted`] if `stop` was set meanwhile.
pub(crate) fn write(path: &Path, of: StateOf, state: &WorldState, stop: &AtomicBool) -> io::Result<()> {
    let file = File::create(path)?;
    let mut out = Summed {
        inner: BufWriter::with_capacity(BUFFER_BYTES, &file),
        sum: Keccak256::new(),
    };
    out.put(MARK)?;
    out.put(of.genesis.as_slice())?;
    out.put(&of.number.to_be_bytes())?;
    out.put(of.hash.as_slice())?;
    let stopped = || match stop.load(Ordering::Relaxed) {
        true => Err(io::Error::from(io::ErrorKind::Interrupted)),
        false => Ok(()),
    };
    let mut written = Ok(());
    state.for_each_account(&mut |account| {
        if written.is_ok() {
            written = stopped().and_then(|()| put_account(&mut out, account));
        }
    });
    written?;
    out.put(&[0])?;
    let Summed { mut inner, sum } = out;
    inner.write_all(sum.finalize().as_slice())?;
    inner.flush()?;
    drop(inner);
    file.sync_all()
}

fn put_account(out: &mut Summed<impl Write>, account: AccountParts<'_>) -> io::Result<()> {
    let code = account.code.original_bytes();
    let length = u32::try_from(code.len()).map_err(io::Error::other)?;
    out.put(&[1])?;
    out.put(account.address.as_slice())?;
    out.put(&account.nonce.to_be_bytes())?;
    out.put(&account.balance.to_be_bytes::<32>())?;
    out.put(&length.to_be_bytes())?;
    out.put(&code)?;
    let mut written = Ok(());
    account.for_each_slot(&mut |slot, value| {
        if written.is_ok() {
            written = out
                .put(&slot.to_be_bytes::<32>())
                .and_then(|()| out.put(&value.to_be_bytes::<32>()));
        }
    });
    written?;
    out.put(&[0; 64])
}

struct Summed<W> {
    inner: W,
    sum: Keccak256,
}

impl<W: Write> Summed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }
}

/// Reads which state a file has, without looking at the rest.
pub(crate) fn read_preamble(path: &Path) -> Result<StateOf, String> {
    preamble(&mut File::open(path).map_err(|error| error.to_string())?)
}

fn preamble(file: &mut impl Read) -> Result<StateOf, String> {
    if take::<8>(file)? != *MARK {
        return Err("it is no state that this program reads".to_owned());
    }
    Ok(StateOf {
        genesis: take(file)?.into(),
        number: u64::from_be_bytes(take(file)?),
        hash: take(file)?.into(),
    })
}

/// Reads a file: first its checksum, then what it has.
pub(crate) fn read(path: &Path) -> Result<(StateOf, WorldState), String> {
    let failed = |error: io::Error| error.to_string();
    let length = std::fs::metadata(path).map_err(failed)?.len();
    let content = length.checked_sub(SUM_BYTES).filter(|content| *content > PREAMBLE_BYTES);
    let content = content.ok_or("it is too short")?;
    check_sum(&mut File::open(path).map_err(failed)?, content)?;
    let file = File::open(path).map_err(failed)?;
    // What the file has not, nobody asks for.
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file).take(content);
    let of = preamble(&mut file)?;
    let mut state = WorldState::default();
    while take::<1>(&mut file)? == [1] {
        read_account(&mut file, &mut state)?;
    }
    match file.limit() {
        0 => Ok((of, state)),
        left => Err(format!("{left} bytes too many")),
    }
}

fn check_sum(file: &mut File, content: u64) -> Result<(), String> {
    let mut sum = Keccak256::new();
    let mut chunk = vec![0; BUFFER_BYTES];
    let mut left = file.take(content);
    loop {
        match left.read(&mut chunk).map_err(|error| error.to_string())? {
            0 => break,
            read => sum.update(chunk.get(..read).unwrap_or_default()),
        }
    }
    if left.limit() > 0 || take::<32>(file)? != sum.finalize().0 {
        return Err("wrong checksum".to_owned());
    }
    Ok(())
}

fn read_account(file: &mut io::Take<impl Read>, state: &mut WorldState) -> Result<(), String> {
    let address = Address::from(take(file)?);
    let nonce = u64::from_be_bytes(take(file)?);
    let balance = take_word(file)?;
    let length = u32::from_be_bytes(take(file)?);
    if u64::from(length) > file.limit() {
        return Err(format!("the code of {address} is longer than the file"));
    }
    let mut code = vec![0; usize::try_from(length).map_err(|error| error.to_string())?];
    file.read_exact(&mut code).map_err(|error| error.to_string())?;
    let slots = std::iter::from_fn(|| {
        let slot = take_word(file).and_then(|slot| Ok((slot, take_word(file)?)));
        match slot {
            Ok((slot, value)) if slot.is_zero() && value.is_zero() => None,
            other => Some(other),
        }
    });
    state.insert_account(address, nonce, balance, code.into(), slots)
}

fn take_word(file: &mut impl Read) -> Result<U256, String> {
    Ok(U256::from_be_bytes(take::<32>(file)?))
}

fn take<const N: usize>(file: &mut impl Read) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Bytes;

    use super::*;

    fn state() -> WorldState {
        let mut state = WorldState::default();
        for byte in 1..9 {
            let address = Address::repeat_byte(byte);
            state.set_balance(address, U256::from(byte));
            state.set_nonce(address, u64::from(byte) * 3);
            state.set_code(address, Bytes::from(vec![byte; usize::from(byte % 5)])).unwrap();
            for slot in 0..u64::from(byte % 4) {
                state.set_storage(address, U256::from(slot), U256::from(byte));
            }
        }
        state
    }

    fn of() -> StateOf {
        StateOf {
            genesis: B256::repeat_byte(1),
            number: 7,
            hash: B256::repeat_byte(2),
        }
    }

    #[test]
    fn a_written_state_is_read_back_and_no_flipped_bit_cut_or_addition_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, of(), &state(), &AtomicBool::new(false)).unwrap();
        let (found, read_back) = read(&path).unwrap();
        assert_eq!((found, read_back.root_hash()), (of(), state().root_hash()));
        assert_eq!(read_back.dump(), state().dump());
        assert_eq!(read_preamble(&path).unwrap(), of());
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, damaged).unwrap();
            assert!(read(&path).is_err(), "byte {at}");
            if at % 7 == 0 {
                std::fs::write(&path, &whole[..at]).unwrap();
                assert!(read(&path).is_err(), "cut at {at}");
            }
        }
        std::fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn a_code_longer_than_the_file_is_refused_before_it_is_allocated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, of(), &WorldState::default(), &AtomicBool::new(false)).unwrap();
        let mut content = std::fs::read(&path).unwrap();
        content.truncate(80);
        content.push(1);
        content.extend([5; 20 + 8 + 32]);
        content.extend([0xff; 4]);
        content.extend(alloy::primitives::keccak256(&content).0);
        std::fs::write(&path, content).unwrap();
        assert!(read(&path).unwrap_err().contains("longer than the file"));
    }

    #[test]
    fn writing_stops_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let error = write(&dir.path().join("state"), of(), &state(), &AtomicBool::new(true)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }
}
