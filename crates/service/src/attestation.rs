//! What processes that talk to KMS nodes, and nodes themselves, prove and believe: what files and sockets hold, and endpoints made of it.

use std::{
    fs::File,
    io::Read as _,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy::primitives::{Address, B256};
use anyhow::{Context, Result};
use cipherloom_attest::{
    Attestor, CollateralStore, DstackAttestor, MAX_POLICY_BYTES, Policy, Role, Statement, Verifier,
    ra_tls::{Endpoint, Expected},
};
use cipherloom_chain::CommitteeOnChain;

/// Reads a policy.
///
/// # Errors
/// If the file cannot be read, is too long, or holds no policy that can be applied.
pub fn read_policy(path: &Path) -> Result<Policy> {
    let cannot_use = || format!("cannot use the policy {}", path.display());
    let mut text = Vec::new();
    let file = File::open(path).with_context(cannot_use)?;
    // One byte more of one that is too long, which its parser refuses.
    file.take(MAX_POLICY_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .with_context(cannot_use)?;
    Policy::from_json(&text).with_context(cannot_use)
}

/// Reads the manufacturer's statements in a directory; without one there are none.
///
/// # Errors
/// If the directory or one of them cannot be used.
pub fn read_collateral(directory: Option<&Path>) -> Result<CollateralStore> {
    match directory {
        Some(directory) => {
            CollateralStore::read_directory(directory).with_context(|| format!("cannot use the collateral in {}", directory.display()))
        }
        None => Ok(CollateralStore::default()),
    }
}

/// Returns the hardware below: dstack's guest agent at this socket, or where releases of dstack put it.
///
/// # Errors
/// If no socket is named and there is none.
pub fn hardware(socket: Option<&Path>) -> Result<Arc<dyn Attestor>> {
    Ok(match socket {
        Some(socket) => Arc::new(DstackAttestor::new(socket)),
        None => Arc::new(DstackAttestor::find()?),
    })
}

/// A committee as connections name it.
#[derive(Clone, Debug)]
pub struct CommitteeSeats {
    /// The chain that has it registered.
    pub chain_id: u64,
    /// Its context.
    pub context: B256,
    /// Its members: party and signer.
    pub members: Vec<(u32, Address)>,
}

impl From<&CommitteeOnChain> for CommitteeSeats {
    fn from(committee: &CommitteeOnChain) -> Self {
        Self {
            chain_id: committee.chain_id,
            context: committee.context_id,
            members: committee.members(),
        }
    }
}

/// Makes an end of connections with the members of a committee: of a `role`, with the party number and the signer of one that has those, for peers of these roles.
///
/// # Errors
/// If the hardware gives no evidence, or TLS cannot be set up.
pub async fn committee_endpoint(
    attestor: Arc<dyn Attestor>,
    verifier: Verifier,
    committee: CommitteeSeats,
    role: Role,
    member: Option<(u32, Address)>,
    peers: &[Role],
) -> Result<Arc<Endpoint>> {
    let CommitteeSeats {
        chain_id,
        context,
        members,
    } = committee;
    let (party, signer) = member.unwrap_or((0, Address::ZERO));
    let statement = Statement {
        role,
        chain_id,
        context,
        party,
        signer,
    };
    let expected = Expected {
        chain_id,
        context,
        roles: peers.to_vec(),
        members,
        party: None,
    };
    let endpoint = Endpoint::new(statement, attestor, verifier, expected, Arc::new(now_seconds));
    Ok(Arc::new(Box::pin(endpoint).await.context("cannot prove what runs here")?))
}

/// The seconds since 1970. A clock before that reads as 0, at which no evidence is valid yet.
fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
