//! Tests of the development chain through its public interfaces.

mod chain;
mod fuzz;
mod http;
mod restart;
mod rpc;
mod support;
mod websocket;
