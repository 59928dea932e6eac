//! What the network itself says to a peer: pings, and where other peers are.

use std::net::{Ipv6Addr, SocketAddr};

use bytes::Bytes;

use super::{PeerError, identity::mapped};
use crate::network::PeerId;

/// The most addresses in one message.
pub(super) const MAX_ADDRESSES: usize = 32;

/// Node, address and port.
const ADDRESS_BYTES: usize = 20 + 16 + 2;

/// A message of the network itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// To be answered with the same number.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// A question for addresses of peers.
    AskAddresses,
    /// Addresses of peers, at most [`MAX_ADDRESSES`].
    Addresses(Vec<(PeerId, SocketAddr)>),
}

impl Control {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        match self {
            Self::Ping(number) => {
                bytes.push(0);
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            Self::Pong(number) => {
                bytes.push(1);
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            Self::AskAddresses => bytes.push(2),
            Self::Addresses(addresses) => {
                bytes.push(3);
                for (id, address) in addresses.iter().take(MAX_ADDRESSES) {
                    bytes.extend_from_slice(id.as_slice());
                    bytes.extend_from_slice(&mapped(address.ip()).octets());
                    bytes.extend_from_slice(&address.port().to_be_bytes());
                }
            }
        }
        bytes.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, PeerError> {
        let wrong = || PeerError::Protocol("a control message that cannot be read".to_owned());
        let (kind, rest) = bytes.split_first().ok_or_else(wrong)?;
        let number = || rest.try_into().map(u64::from_be_bytes).map_err(|_| wrong());
        match kind {
            0 => Ok(Self::Ping(number()?)),
            1 => Ok(Self::Pong(number()?)),
            2 if rest.is_empty() => Ok(Self::AskAddresses),
            3 => {
                let (entries, []) = rest.as_chunks::<ADDRESS_BYTES>() else {
                    return Err(wrong());
                };
                if entries.len() > MAX_ADDRESSES {
                    return Err(wrong());
                }
                let address = |entry: &[u8; ADDRESS_BYTES]| {
                    let (id, rest) = entry.split_first_chunk::<20>()?;
                    let (ip, port) = rest.split_first_chunk::<16>()?;
                    let port = u16::from_be_bytes(port.try_into().ok()?);
                    let address = SocketAddr::new(Ipv6Addr::from(*ip).to_canonical(), port);
                    (port != 0).then_some((PeerId::from(*id), address))
                };
                entries
                    .iter()
                    .map(address)
                    .collect::<Option<_>>()
                    .map(Self::Addresses)
                    .ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}
