//! What our long-running processes have in common: options that can stand in a file, with where each comes from; the chains they serve and the parts they
//! call; findings and how they are printed; signing keys in files; an end when they are told to.
//!
//! # Parts that are processes of their own
//! They are called over gRPC, at one of several [`endpoints`]. A call that gets no answer is tried at the next endpoint; connections are made anew by
//! themselves, so that nothing has to be restarted when a part is back. Whatever a part refuses keeps its label on the way.
//!
//! # What is trusted
//! Nothing that is read here decides what may be decrypted: [`coprocessor`] brings ciphertexts that a KMS node checks by itself, and [`chains`] reads a
//! chain through endpoints of which a quorum must agree. Files with secrets are read whole, under a limit, and never shown.
#![expect(clippy::print_stdout, reason = "reports are what commands print")]

pub mod attestation;
pub mod attested;
pub mod ceremony;
pub mod chains;
pub mod config_file;
pub mod connections;
pub mod coprocessor;
pub mod database_url;
pub mod endpoints;
pub mod examination;
pub mod key_file;
pub mod line;
pub mod log;
pub mod messages;
pub mod process_options;
pub mod report;
pub mod runtime;
pub mod settings;
pub mod signals;
