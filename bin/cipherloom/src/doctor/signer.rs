//! The signing key, and whether the chains know it.

use alloy::primitives::Address;
use cipherloom_chain::{CallLimits, HostChain};
use cipherloom_contracts::HostAddresses;
use cipherloom_service::{
    key_file::{self, KeyFile},
    report::Report,
};

use super::{PATIENCE, Roles, tenants::Found};
use crate::coprocessor::CoprocessorOptions;

const AREA: &str = "signing key";

/// Reads the key file and says which address it is. Nothing of the key is kept.
pub(super) fn check(options: &CoprocessorOptions, roles: Roles, report: &mut Report) -> Option<Address> {
    let path = &options.coprocessor_private_key;
    if !roles.server {
        report.ok(AREA, "none is needed: this process serves no API");
        return None;
    }
    if !path.exists() {
        report.fail(
            AREA,
            format!("{} does not exist", path.display()),
            format!(
                "cipherloom keys signing-key {}; or name the right file with --coprocessor-private-key",
                path.display()
            ),
        );
        return None;
    }
    let address = match key_file::read(path, KeyFile::COPROCESSOR) {
        Ok(signer) => signer.address(),
        Err(error) => {
            report.fail(
                AREA,
                format!("{error:#}"),
                "restore the file from its backup; a new key has another address, which each chain must be told of",
            );
            return None;
        }
    };
    match others_can_read(path) {
        Some(mode) => report.warn(
            AREA,
            format!("others can read {} (mode {mode:o}), and sign as this coprocessor", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        None => report.ok(AREA, format!("address {}, in {}", address.to_checksum(None), path.display())),
    }
    Some(address)
}

#[cfg(unix)]
fn others_can_read(path: &std::path::Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn others_can_read(_: &std::path::Path) -> Option<u32> {
    None
}

/// Asks each chain that is given whether the tenants' contracts take this coprocessor's signatures.
pub(super) async fn check_on_chains(urls: &[String], signer: Option<Address>, found: &[Found], report: &mut Report) {
    let Some(signer) = signer else {
        return;
    };
    if urls.is_empty() {
        report.ok(AREA, "not compared with the chains: give --rpc-url for each of them");
    }
    for (index, url) in urls.iter().enumerate() {
        // The URL may hold an access token, so it is named by its place on the command line.
        let name = format!("the chain of --rpc-url number {}", index + 1);
        check_on_chain(url, &name, signer, found, report).await;
    }
}

async fn check_on_chain(url: &str, name: &str, signer: Address, found: &[Found], report: &mut Report) {
    let limits = CallLimits {
        timeout: PATIENCE,
        attempts: 1,
        ..CallLimits::default()
    };
    let connect = |input_verifier| HostChain::with_limits(url, addresses(input_verifier), limits);
    let chain_id = match connect(Address::ZERO) {
        Ok(chain) => chain.chain_id().await,
        Err(error) => Err(error),
    };
    let chain_id = match chain_id {
        Ok(chain_id) => chain_id,
        Err(_) => {
            report.fail(
                AREA,
                format!("{name} does not answer"),
                "check the URL and the network; nothing was compared there",
            );
            return;
        }
    };
    let mut tenants = found.iter().filter(|found| found.tenant.chain_id == chain_id).peekable();
    if tenants.peek().is_none() {
        report.warn(
            AREA,
            format!("{name} has id {chain_id}, and no tenant is of it"),
            "check the URL, or the chain id of the tenant: `cipherloom tenant list`",
        );
    }
    for tenant in tenants {
        let tenant = &tenant.tenant;
        let verifier = tenant.input_verifier.to_checksum(None);
        let Ok(chain) = connect(tenant.input_verifier) else {
            continue;
        };
        match chain.coprocessor_signers().await {
            Ok(registered) if registered.signers.contains(&signer) => report.ok(
                AREA,
                format!(
                    "tenant {}: InputVerifier {verifier} knows it, one of {} signers, {} needed",
                    tenant.name,
                    registered.signers.len(),
                    registered.threshold
                ),
            ),
            Ok(registered) => report.fail(
                AREA,
                format!(
                    "tenant {}: InputVerifier {verifier} does not know {}, but {} others: inputs this server admits are refused on chain",
                    tenant.name,
                    signer.to_checksum(None),
                    registered.signers.len()
                ),
                "register the address in the contract, or give this server the key that is registered",
            ),
            Err(_) => report.warn(
                AREA,
                format!(
                    "tenant {}: {verifier} does not say whose signatures it takes, as contracts of the 0.6 generation do not",
                    tenant.name
                ),
                format!(
                    "compare the coprocessor's address in the contract's source with {} by hand, and check the address of the contract",
                    signer.to_checksum(None)
                ),
            ),
        }
    }
}

/// The addresses of a chain of which only one contract is asked.
const fn addresses(input_verifier: Address) -> HostAddresses {
    HostAddresses {
        acl: Address::ZERO,
        executor: Address::ZERO,
        kms_verifier: Address::ZERO,
        input_verifier,
        hcu_limit: Address::ZERO,
        protocol_config: Address::ZERO,
        pauser_set: Address::ZERO,
        gateway_contract: Address::ZERO,
    }
}
