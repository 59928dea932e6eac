//! Parties as services: what they are before there is a committee, how they get their shares, what they keep, and whom they answer.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "../../../../crates/coprocessor/tests/prometheus/expressions.rs"]
mod expressions;
mod gateway;
mod ground;
mod key_set;
mod life;
#[path = "../../../../crates/coprocessor/tests/prometheus/pages.rs"]
mod pages;
mod strangers;
mod watched;
