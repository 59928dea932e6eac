//! The client against a gateway and a chain that can be told to misbehave.

mod honest;
mod server;
mod unreliable;
mod untrusted;
