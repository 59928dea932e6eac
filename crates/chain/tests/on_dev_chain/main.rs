//! The host contracts on the embedded development chain, read, deployed and followed over JSON-RPC.

mod deployment;
mod fixture;
mod following;
mod reading;
mod unreliable_nodes;
