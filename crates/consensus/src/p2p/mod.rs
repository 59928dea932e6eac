//! The network between the nodes of a native chain: authenticated connections, messages, requests.
//!
//! # Roles
//! Every node has a *node key*, and the address of that key is its [`PeerId`](crate::network::PeerId). *Configured* peers are those of the configuration; *favoured* ones
//! are those and whoever is named with [`Network::favour`](crate::network::Network::favour), usually the validators; all others are *strangers*: anybody may run a node.
//!
//! # Messages and flow
//! A connection is TLS 1.3 with throw-away certificates, then a hello from both sides that is signed over the connection, the chain and its genesis
//! (`identity.rs`), then one byte from each: welcome, or why not. After that come frames (`frame.rs`) of several lanes at once: messages of the channels,
//! requests and answers, pings.
//!
//! [`Network::broadcast`](crate::network::Network::broadcast) gives a message to all connected peers that are not known to have it. Nothing is passed on by itself: whoever
//! uses the network checks a message first and then has it relayed, so that nonsense does not spread. Messages that were heard or said lately are not
//! delivered again; they are forgotten after a second on the channel for consensus, so that a vote can be repeated on purpose.
//!
//! Between `Connected` and `Disconnected` no message of consensus and no block is lost: a peer that does not take what it is sent is cut off, and when it is
//! back it has to be told what it missed. Nobody waits for a slow peer: what is sent goes into a queue per peer. Nobody waits for a fast one either: above its
//! rate it is read more slowly.
//!
//! # Restart
//! Bans are kept in a file, if the configuration names one; nothing else is. Configured peers are called again and again, with delays that grow to a limit;
//! other peers are found anew.

mod ban_file;
mod bans;
mod book;
mod channel;
mod config;
mod connection;
mod control;
mod delivery;
mod dial;
mod discovery;
mod error;
mod frame;
mod identity;
mod listen;
mod memory;
mod metrics;
mod network;
mod node;
mod outbox;
mod peer;
mod rate;
mod reader;
mod requests;

pub use channel::{CHANNELS, MAX_REQUEST_BYTES, max_message_bytes};
pub use config::{NetworkConfig, NetworkLimits};
pub use error::PeerError;
pub use network::PeerNetwork;
pub use peer::{Direction, Offence, PeerAddress, PeerInfo};
