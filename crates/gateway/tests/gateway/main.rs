//! The gateway over real sockets, with small services behind it that sign for real.

mod client;
mod connections;
mod downloads;
mod jobs;
mod openapi;
mod refusals;
mod robustness;
mod sdks;
mod services;
