//! The Solidity library against the real host contracts, next to the published library.
//!
//! `cargo xtask library-probe` compiles contracts that call every function of the library, once with our library and once with
//! the published one from npm (it installs both and needs Node). Here they run on development chains with the host
//! contracts, and what they ask of the host contracts is compared.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]

mod chain;
mod decryption;
mod expectation;

use std::{path::Path, process::Command, sync::LazyLock};

use chain::{Probes, TestChain};
use cipherloom_contracts::HostEvent;
use tempfile::TempDir;

/// The compiled probes.
static PROBES: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(env!("CARGO"))
        .args(["xtask", "library-probe", "--out"])
        .arg(folder.path())
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
});

fn ours() -> Probes {
    Probes::read(&PROBES.path().join("ours"))
}

fn published() -> Probes {
    Probes::read(&PROBES.path().join("published"))
}

#[test]
fn every_function_asks_the_host_contracts_the_same_as_the_published_library() {
    let (ours, published) = (ours(), published());
    let (our_chain, published_chain) = (TestChain::new(), TestChain::new());
    let mut compared = 0;
    for (name, probe) in published.iter() {
        let our_contract = our_chain.deploy(&ours.get(name).creation);
        let published_contract = published_chain.deploy(&probe.creation);
        assert_eq!(our_contract, published_contract, "equal histories give equal addresses");
        for function in probe.sequence() {
            let expected = published_chain.trace(published_contract, &function);
            assert_eq!(our_chain.trace(our_contract, &function), expected, "{name}.{function}");
            compared += 1;
        }
    }
    assert!(compared > 1400, "only {compared} probes were compared");
}

#[test]
fn every_function_requests_its_operation_with_casts_and_zeros_where_they_are_due() {
    let chain = TestChain::new();
    let mut checked = 0;
    for (name, probe) in ours()
        .iter()
        .filter(|(name, _)| name.starts_with("Probe") || name.starts_with("OwnProbe"))
    {
        let contract = chain.deploy(&probe.creation);
        for function in probe.sequence() {
            let logs = chain.execute(contract, &function);
            let computations: Vec<_> = chain
                .events(&logs)
                .into_iter()
                .filter_map(|event| match event {
                    HostEvent::Computation(computation) => Some(computation),
                    _ => None,
                })
                .collect();
            expectation::check(&function, &computations);
            let result = logs.last().unwrap();
            assert_eq!(result.address, contract, "{name}.{function} emits its result last");
            let computed = computations.last().unwrap().result;
            assert_eq!(
                result.data.data.as_ref(),
                computed.as_slice(),
                "{name}.{function} gives the operation's result"
            );
            checked += 1;
        }
    }
    assert!(checked > 1400, "only {checked} probes were checked");
}
