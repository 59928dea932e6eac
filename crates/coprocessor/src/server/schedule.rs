//! `AsyncCompute`: computations are checked and recorded, and computed later.
//!
//! **Flow.** Names are resolved with one question to the store, the request is planned in memory, and recorded with one write: all of it or nothing.
//! The write checks again, under the tenant's lock, that operands from outside exist and that no result is known. Results that are known are left
//! out, and the rest is offered again; so sending a request again changes nothing, whatever became of it, and of two requests at the same time each
//! computation is recorded once.

use std::{collections::HashSet, time::SystemTime};

use bytes::Bytes;
use cipherloom_primitives::Handle;
use cipherloom_rpc::fhevm::coprocessor::{AsyncComputeRequest, GenericResponse};
use cipherloom_store::{PushedWork, StoreError};
use cipherloom_telemetry::transaction;
use tracing::{Instrument as _, Span, info_span};

use super::{
    authentication::Caller,
    error::RequestError,
    names,
    plan::{Plan, Requested},
    service::{Service, done},
};
use crate::recording::trace_recorded;

/// How often a request is offered that others interfere with.
const ATTEMPTS: usize = 32;

/// What became of an offer.
enum Offered {
    Recorded,
    /// A name got another handle meanwhile, so that the plan is not right any more.
    Outdated,
}

impl Service {
    /// Records computations.
    pub(super) async fn schedule(&self, caller: &Caller, request: AsyncComputeRequest) -> Result<GenericResponse, RequestError> {
        let chain_id = caller.tenant.chain_id;
        let requested = Requested::read(&request.computations)?;
        drop(request);
        for _ in 0..ATTEMPTS {
            let resolving = names::resolve(&*caller.store, chain_id, &requested.names);
            let handles = resolving.instrument(info_span!("resolve")).await?;
            let plan = info_span!("plan").in_scope(|| requested.plan(chain_id, &handles))?;
            let name_of = |handle| requested.name_of(handle, &handles);
            check_inputs(caller, &plan, name_of).await?;
            match self.offer(caller, &plan, name_of).await? {
                Offered::Recorded => return Ok(done()),
                Offered::Outdated => {}
            }
        }
        Err(RequestError::Contended)
    }

    /// Offers a plan to the store, without what turns out to be known.
    async fn offer(&self, caller: &Caller, plan: &Plan, name_of: impl Fn(Handle) -> Bytes) -> Result<Offered, RequestError> {
        let mut known = HashSet::new();
        for _ in 0..ATTEMPTS {
            let (transactions, names) = plan.transactions(&known);
            if transactions.is_empty() {
                return Ok(Offered::Recorded);
            }
            let work = PushedWork {
                transactions,
                names,
                received_at_s: (self.shared.config.clock)() / 1000,
                max_pending: caller.tenant.limits.max_pending_transactions,
            };
            let start = SystemTime::now();
            let recording = caller.store.record_pushed(caller.tenant.chain_id, &work);
            match recording.instrument(info_span!("record")).await {
                Ok(()) => {
                    tracing::debug!(transactions = work.transactions.len(), "recorded");
                    transaction::link(&Span::current(), work.transactions.iter().map(|recorded| &recorded.hash.0));
                    trace_recorded(&caller.tenant.name, start, &work.transactions);
                    return Ok(Offered::Recorded);
                }
                Err(StoreError::KnownHandles(handles)) => known.extend(handles),
                Err(StoreError::NameTaken(_)) => return Ok(Offered::Outdated),
                Err(StoreError::UnknownHandles(handles)) => return Err(RequestError::not_found(&handles, name_of)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(RequestError::Contended)
    }
}

/// Refuses inputs that are in no admitted list.
async fn check_inputs(caller: &Caller, plan: &Plan, name_of: impl Fn(Handle) -> Bytes) -> Result<(), RequestError> {
    let inputs = plan.inputs();
    if inputs.is_empty() {
        return Ok(());
    }
    let known = caller.store.known_handles(&inputs).await?;
    let unknown = inputs.iter().zip(known).filter(|(_, known)| !known);
    let unknown: Vec<Handle> = unknown.map(|(handle, _)| *handle).collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(RequestError::not_found(&unknown, name_of))
    }
}
