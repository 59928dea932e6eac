//! Where signatures of a tenant's inputs are valid.
//!
//! The chain says it: the tenant's `InputVerifier` has it in its EIP-712 domain, and nobody else is asked. A gateway cannot have inputs signed for another
//! deployment, and an operator has nothing to write down twice. It is asked through the nodes that the tenant's chain is followed with.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cipherloom_chain::{CallLimits, HostChain};
use cipherloom_contracts::HostAddresses;
use cipherloom_primitives::{Address, eip712::SigningDomains};
use cipherloom_store::{Database, FollowedChain, Tenant};

use super::{error::RequestError, failure::PartFailure};

/// How long an answer is taken for true. Contracts are upgraded now and then; the domain is the last thing that would change.
const LIFETIME: Duration = Duration::from_secs(600);

/// How patient the calls are: somebody waits for the answer.
const LIMITS: CallLimits = CallLimits {
    timeout: Duration::from_secs(5),
    attempts: 2,
    first_pause: Duration::from_millis(100),
};

/// What is known about the tenants' domains.
#[derive(Default)]
pub(super) struct InputDomains {
    known: Mutex<HashMap<i32, Known>>,
}

#[derive(Clone, Copy)]
struct Known {
    input_verifier: Address,
    domains: SigningDomains,
    since: Instant,
}

impl InputDomains {
    /// Finds out where signatures of a tenant's inputs are valid.
    pub(super) async fn of(&self, database: &dyn Database, tenant: &Tenant) -> Result<SigningDomains, PartFailure> {
        let known = self.known().get(&tenant.id.number()).copied();
        let known = known.filter(|known| known.input_verifier == tenant.input_verifier);
        if let Some(known) = known.filter(|known| known.since.elapsed() < LIFETIME) {
            return Ok(known.domains);
        }
        match read(database, tenant).await {
            Ok(domains) => {
                let found = Known {
                    input_verifier: tenant.input_verifier,
                    domains,
                    since: Instant::now(),
                };
                self.known().insert(tenant.id.number(), found);
                Ok(domains)
            }
            // What was true ten minutes ago is better than no answer while the chain's nodes are away.
            Err(failure) => known.map(|known| known.domains).ok_or(failure),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<i32, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says how a tenant's chain is followed, if it is.
pub(super) async fn followed(database: &dyn Database, tenant: &Tenant) -> Result<Option<FollowedChain>, PartFailure> {
    let all = database.followed().await.map_err(RequestError::from)?;
    Ok(all
        .into_iter()
        .find(|(followed, _)| followed.id == tenant.id)
        .map(|(_, chain)| chain))
}

async fn read(database: &dyn Database, tenant: &Tenant) -> Result<SigningDomains, PartFailure> {
    let Some(chain) = followed(database, tenant).await? else {
        return Err(PartFailure::misconfigured(&format!(
            "the chain of tenant {} is not followed, so nobody says where signatures of inputs are valid; `cipherloom tenant follow {}`",
            tenant.name, tenant.name
        )));
    };
    let unreadable = |error: cipherloom_chain::ChainError| {
        tracing::warn!(tenant = tenant.name, %error, "the InputVerifier's domain cannot be read");
        PartFailure::unavailable("the coprocessor cannot read the host chain; try again")
    };
    let addresses = HostAddresses {
        acl: tenant.acl,
        input_verifier: tenant.input_verifier,
        // Nothing else is asked.
        ..HostAddresses::of_deployer(Address::ZERO)
    };
    let chain = HostChain::connect_all(&chain.urls, addresses, LIMITS, Some(tenant.chain_id)).map_err(unreadable)?;
    let domain = chain.input_verification_domain().await.map_err(unreadable)?;
    Ok(SigningDomains {
        host_chain_id: tenant.chain_id,
        gateway_chain_id: domain.chain_id,
        // Inputs are signed here and nothing else.
        decryption: Address::ZERO,
        input_verification: domain.verifying_contract,
    })
}
