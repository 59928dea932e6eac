//! Bans on the disk, so that a restart does not let everybody in again who was just shut out.
//!
//! A line for each: `peer ADDRESS UNTIL` or `address IP BANS UNTIL`, with the time in seconds since the Unix epoch, after a first line that names the form. The
//! file is replaced as a whole, seconds after a ban and at the end. It is of use and not of need: one that cannot be read is told of, and left
//! behind with the next ban. A clock that was put back makes no ban longer than a new one.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, timeout};

use super::{
    bans::{Kept, MAX_REMEMBERED},
    node::Node,
};

/// The first line.
const FORM: &str = "cipherloom bans 1";

/// The longest file that is read, in bytes: as many lines as are remembered need half of it.
const MAX_BYTES: u64 = 1 << 20;

/// How long bans are gathered before they are written.
const GATHER: Duration = Duration::from_secs(1);

/// Reads a file; nothing if there is none. Bans that are over are left out.
///
/// # Errors
/// If it cannot be read, is too long, or has a line that is none.
pub(super) fn read(path: &Path, now: SystemTime) -> io::Result<Kept> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    let wrong = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(wrong("it is too long"));
    }
    parse(&text, seconds(now)).ok_or_else(|| wrong("it is not of this form"))
}

fn parse(text: &str, now: u64) -> Option<Kept> {
    let mut lines = text.lines();
    lines.next().filter(|line| *line == FORM)?;
    let mut kept = Kept::default();
    let left = |until: &str| Some(Duration::from_secs(until.parse::<u64>().ok()?.saturating_sub(now)));
    for line in lines {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["peer", id, until] => {
                kept.peers.insert(id.parse().ok()?, left(until)?);
            }
            ["address", address, bans, until] => {
                kept.addresses.insert(address.parse().ok()?, (bans.parse().ok()?, left(until)?));
            }
            _ => return None,
        }
        if kept.peers.len().max(kept.addresses.len()) > MAX_REMEMBERED {
            return None;
        }
    }
    kept.peers.retain(|_, left| !left.is_zero());
    kept.addresses.retain(|_, (_, left)| !left.is_zero());
    Some(kept)
}

/// Writes a file: either all of it or nothing. Its directory must be there.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(path: &Path, kept: &Kept, now: SystemTime) -> io::Result<()> {
    let mut text = format!("{FORM}\n");
    // Rounded up, so that what is left is not lost by restarts.
    let until = |left: &Duration| seconds(now).saturating_add(left.as_secs()).saturating_add(1);
    let failed = |_| io::Error::other("a line cannot be written");
    for (id, left) in &kept.peers {
        writeln!(text, "peer {id} {}", until(left)).map_err(failed)?;
    }
    for (address, (bans, left)) in &kept.addresses {
        writeln!(text, "address {address} {bans} {}", until(left)).map_err(failed)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Writes bans soon after they happened, and when the network is shut down.
pub(super) async fn keep(node: Arc<Node>, path: PathBuf) {
    loop {
        tokio::select! {
            () = node.stop.cancelled() => {}
            () = node.banned.notified() => {}
        }
        let stopped = timeout(GATHER, node.stop.cancelled()).await.is_ok();
        let kept = node.kept_bans(Instant::now());
        if stopped && kept == Kept::default() {
            // What the file may hold is over.
            return;
        }
        let place = path.clone();
        let written = tokio::task::spawn_blocking(move || write(&place, &kept, SystemTime::now())).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "bans cannot be kept over a restart");
        }
        if stopped {
            return;
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::network::PeerId;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn kept() -> Kept {
        let left = Duration::from_secs(100);
        Kept {
            peers: [(PeerId::repeat_byte(1), left), (PeerId::repeat_byte(2), left * 2)].into(),
            addresses: [
                ("203.0.113.7".parse::<IpAddr>().unwrap(), (3, left)),
                ("2001:db8::1".parse::<IpAddr>().unwrap(), (4, left)),
            ]
            .into(),
        }
    }

    #[test]
    fn what_was_written_is_read_till_it_is_over() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("bans");
        assert_eq!(read(&path, UNIX_EPOCH + NOW).unwrap(), Kept::default(), "there is none yet");
        write(&path, &kept(), UNIX_EPOCH + NOW).unwrap();
        let later = |seconds: u64| read(&path, UNIX_EPOCH + NOW + Duration::from_secs(seconds)).unwrap();
        assert_eq!(later(1), kept());
        let found = later(150);
        assert_eq!(found.peers, [(PeerId::repeat_byte(2), Duration::from_secs(51))].into());
        assert!(found.addresses.is_empty());
        assert_eq!(later(300), Kept::default());
        write(&path, &Kept::default(), UNIX_EPOCH + NOW).unwrap();
        assert_eq!(later(0), Kept::default(), "the file was replaced");
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("bans");
        let peer = format!("peer {} 5", PeerId::repeat_byte(1));
        let many: String = (0..=MAX_REMEMBERED)
            .map(|number| format!("address 10.{}.{}.1 1 1900000000\n", number >> 8, number & 0xff))
            .collect();
        for text in [
            String::new(),
            "something else\n".to_owned(),
            format!("{FORM}\npeer"),
            format!("{FORM}\n{peer} 6\n"),
            format!("{FORM}\naddress 10.0.0.1 -1 5\n"),
            format!("{FORM}\n{}\n", peer.replace("0x", "0y")),
            format!("{FORM}\n{many}"),
            format!("{FORM}\n{}", " ".repeat(2 << 20)),
        ] {
            fs::write(&path, &text).unwrap();
            let beginning: String = text.chars().take(60).collect();
            assert!(read(&path, UNIX_EPOCH + NOW).is_err(), "{beginning}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read(&path, UNIX_EPOCH + NOW).is_err());
    }

    #[test]
    fn a_clock_that_was_put_back_makes_no_ban_longer() {
        let now = Instant::now();
        let mut bans = super::super::bans::Bans::default();
        let longest = Duration::from_secs(30);
        bans.restore(kept(), longest, now);
        let id = PeerId::repeat_byte(2);
        assert!(bans.banned(&id, now + longest / 2));
        assert!(!bans.banned(&id, now + longest));
        let address = "2001:db8::1".parse().unwrap();
        assert!(bans.shut_out(&address, now) && !bans.shut_out(&address, now + longest));
        assert!(!bans.shut_out(&"203.0.113.7".parse().unwrap(), now), "three bans are not enough");
        assert_eq!(bans.kept(now).peers[&id], longest);
        assert_eq!(bans.kept(now + longest), Kept::default());
    }
}
