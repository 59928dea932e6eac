//! What an attached stack refuses, and whether its words help.

use cipherloom_private_anvil::{AnvilOptions, PrivateAnvil};

use crate::foreign_chain::{ForeignChain, errors, run};

/// A key that has nothing anywhere.
const POOR: &str = "1111111111111111111111111111111111111111111111111111111111111111";

#[test]
fn a_node_that_is_not_there_or_not_a_url_is_named() {
    let chain = ForeignChain::start(31337);
    let mut arguments = chain.arguments("dev", &[]);
    arguments[3] = "http://127.0.0.1:1".to_owned();
    let output = run(&arguments);
    assert!(!output.status.success());
    assert!(
        errors(&output).contains("cannot attach to the chain at http://127.0.0.1:1"),
        "{}",
        errors(&output)
    );

    arguments[3] = "ftp://127.0.0.1".to_owned();
    let output = run(&arguments);
    assert!(!output.status.success());
    assert!(errors(&output).contains("ftp://127.0.0.1"), "{}", errors(&output));
}

#[test]
fn a_chain_that_nobody_knows_needs_a_deployment_or_a_deployer() {
    let chain = ForeignChain::start(424_242);
    let output = run(&chain.arguments("dev", &["--gateway-port", "0"]));
    let said = errors(&output);
    assert!(!output.status.success());
    for part in ["chain 424242", "--deployment", "--deployer-key-file"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_deployer_without_ether_is_told_how_much_it_takes() {
    let chain = ForeignChain::start(424_242);
    let key = chain.file("deployer.key", POOR);
    let output = run(&chain.arguments("dev", &["--deployer-key-file", key.to_str().unwrap()]));
    let said = errors(&output);
    assert!(!output.status.success());
    assert!(said.contains("has 0 ether, and deploying the host contracts may cost 0."), "{said}");
}

#[test]
fn a_demo_that_nobody_can_pay_for_says_so() {
    // A development chain whose accounts are somebody else's.
    let chain = ForeignChain::with(AnvilOptions {
        chain_id: 31337,
        more: [
            "--mnemonic",
            "legal winner thank year wave sausage worth useful legal winner thank yellow",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..AnvilOptions::default()
    });
    let output = chain.demo(&[]);
    let said = errors(&output);
    assert!(!output.status.success());
    assert!(
        said.contains("none of the accounts that development chains fund can spare it"),
        "{said}"
    );
}

#[test]
fn the_contracts_of_another_stack_are_left_alone() {
    let chain = ForeignChain::start(31337);
    let (dev, _) = chain.dev(&[]);
    assert!(dev.interrupt());

    let other = tempfile::tempdir().unwrap();
    let mut arguments = chain.arguments("dev", &[]);
    arguments[5] = other.path().to_str().unwrap().to_owned();
    let output = run(&arguments);
    let said = errors(&output);
    assert!(!output.status.success());
    for part in ["belong to another stack", "--data-dir", "contracts signers add"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_manifest_of_another_chain_or_of_a_chain_that_began_anew_is_refused() {
    let chain = ForeignChain::start(31337);
    let (dev, _) = chain.dev(&[]);
    assert!(dev.interrupt());
    let manifest = chain.file("elsewhere.json", &std::fs::read_to_string(chain.manifest()).unwrap());
    let manifest = manifest.to_str().unwrap();

    let other = ForeignChain::start(12345);
    let said = errors(&run(&other.arguments("dev", &["--deployment", manifest])));
    assert!(said.contains("is on chain 31337, and the node serves chain 12345"), "{said}");

    let anew = ForeignChain::start(31337);
    let key = anew.file("deployer.key", POOR);
    let said = errors(&run(
        &anew.arguments("dev", &["--deployment", manifest, "--deployer-key-file", key.to_str().unwrap()])
    ));
    assert!(said.contains("cannot be used with"), "{said}");
}

#[test]
fn options_of_attached_chains_need_one() {
    for option in [["--deployment", "x.json"], ["--deployer-key-file", "key"], ["--finality", "3"]] {
        let arguments: Vec<String> = ["dev"].iter().chain(&option).map(|word| (*word).to_owned()).collect();
        let said = errors(&run(&arguments));
        assert!(said.contains("--rpc <URL>"), "{said}");
    }
    let said = errors(&run(&["dev", "--rpc", "http://x", "--rpc-port", "1"].map(str::to_owned)));
    assert!(said.contains("cannot be used with"), "{said}");
}

#[test]
fn two_stacks_in_one_directory_are_refused_on_one_chain_and_allowed_on_two() {
    let chain = ForeignChain::start(31337);
    let (dev, _) = chain.dev(&[]);
    let second = run(&chain.arguments("dev", &["--gateway-port", "0"]));
    assert!(errors(&second).contains("another process"), "{}", errors(&second));

    let other = PrivateAnvil::start(&AnvilOptions {
        chain_id: 12345,
        ..AnvilOptions::default()
    })
    .unwrap();
    let mut arguments = chain.arguments("demo", &[]);
    arguments[3] = other.http_url();
    let output = run(&arguments);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(dev.interrupt());
}
