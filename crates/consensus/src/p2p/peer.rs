//! Who peers are and where they are found.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use alloy::primitives::Address;

use super::PeerError;
use crate::network::PeerId;

/// Where a peer is reached, and who must answer there: `0xADDRESS@host:port`, or `host:port` for whoever has the chain's genesis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Who must answer. Without it, whoever answers is taken for this peer as long as it is of the same chain.
    pub id: Option<PeerId>,
    /// A host name, an IPv4 address, or an IPv6 address in brackets, with a port.
    pub host: String,
}

/// The longest host name of DNS, with brackets, a colon and a port.
const MAX_HOST_BYTES: usize = 253 + 8;

impl FromStr for PeerAddress {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |problem: &str| PeerError::PeerAddress {
            text: text.chars().take(MAX_HOST_BYTES + 64).collect(),
            problem: problem.to_owned(),
        };
        let (id, host) = match text.split_once('@') {
            Some((id, host)) => {
                let id = id.parse::<Address>();
                let id = id.map_err(|_| wrong("what stands before @ is no Ethereum address"))?;
                (Some(id), host)
            }
            None => (None, text),
        };
        let (name, port) = host.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        if port.parse::<u16>().ok().is_none_or(|port| port == 0) {
            return Err(wrong("the port is no number from 1 to 65535"));
        }
        if name.is_empty() || host.len() > MAX_HOST_BYTES {
            return Err(wrong("the host is missing or too long"));
        }
        let literal = name.starts_with('[') || name.contains(':');
        let plain = name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_'));
        if (literal && host.parse::<SocketAddr>().is_err()) || (!literal && !plain) {
            return Err(wrong(
                "the host is neither a name nor an IP address; IPv6 addresses stand in brackets",
            ));
        }
        Ok(Self { id, host: host.to_owned() })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.id {
            write!(formatter, "{id}@")?;
        }
        formatter.write_str(&self.host)
    }
}

/// Who made a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer did.
    Inbound,
    /// This node did.
    Outbound,
}

impl Direction {
    /// Returns the word for it in metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What is known about a connected peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Who it is.
    pub id: PeerId,
    /// The other end of the connection.
    pub address: SocketAddr,
    /// Who made the connection.
    pub direction: Direction,
    /// Whether it is one of the configured peers, or was favoured with [`Network::favour`](crate::network::Network::favour).
    pub favoured: bool,
    /// For how long it has been connected.
    pub connected_for: Duration,
    /// How long the last ping took, there and back.
    pub round_trip: Option<Duration>,
    /// How many bytes of messages came from it.
    pub received_bytes: u64,
    /// How many bytes of messages went to it.
    pub sent_bytes: u64,
}

/// What a peer did wrong. Offences add up, and are forgiven with time; a peer with too many is banned for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Offence {
    /// Sent what cannot be read, or breaks the protocol.
    Malformed,
    /// Sent something whose signature is wrong. Honest peers pass on only what they checked.
    WrongSignature,
    /// Sent more than it may.
    Excess,
    /// Sent a block or an answer that cannot be right.
    WrongContent,
    /// Did not answer, or sent what is of no use. May happen to honest peers.
    Useless,
}

impl Offence {
    /// Returns its weight; a peer with 100 points is banned.
    #[must_use]
    pub const fn points(self) -> u32 {
        match self {
            Self::Malformed | Self::WrongSignature => 100,
            Self::WrongContent => 50,
            Self::Excess => 25,
            Self::Useless => 10,
        }
    }

    /// Returns the word for it in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongSignature => "wrong_signature",
            Self::Excess => "excess",
            Self::WrongContent => "wrong_content",
            Self::Useless => "useless",
        }
    }
}
