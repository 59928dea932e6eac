//! Waiting for handles: many of them with one call, which ends as soon as one of them is done.

use std::time::Duration;

use cipherloom_primitives::Handle;
use cipherloom_rpc::cipherloom::coprocessor::v1::{HandleProgress, HandleState};
use cipherloom_store::HandleState as Stored;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use super::{authentication::Caller, error::RequestError, failure::PartFailure, parts::state};
use crate::{CoprocessorConfig, HandleStatus};

/// How many handles are looked up at the same time.
const CONCURRENT: usize = 4;

/// How often what takes a query per handle is asked again: whether it failed, or is recorded.
const FULL_LOOK: Duration = Duration::from_secs(2);

/// Says what became of handles, as soon as one of them is computed or failed, and at the latest after this time.
pub(super) async fn watch(
    caller: &Caller,
    config: &CoprocessorConfig,
    handles: &[Handle],
    at_most: Duration,
) -> Result<Vec<HandleState>, PartFailure> {
    let deadline = Instant::now() + at_most;
    // Before the first look: what changes after it is not missed.
    let mut changes = caller.store.changes();
    let mut states = look(caller, handles).await?;
    let mut looked = Instant::now();
    while !states.iter().any(is_over) && Instant::now() < deadline {
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            _ = changes.next() => {}
            // Hints may be missing.
            () = tokio::time::sleep(config.idle_poll) => {}
        }
        if looked.elapsed() >= FULL_LOOK {
            states = look(caller, handles).await?;
            looked = Instant::now();
        } else {
            find_computed(caller, handles, &mut states).await?;
        }
    }
    Ok(states)
}

fn is_over(state: &HandleState) -> bool {
    matches!(state.progress(), HandleProgress::Computed | HandleProgress::Failed)
}

/// Asks for everything.
async fn look(caller: &Caller, handles: &[Handle]) -> Result<Vec<HandleState>, PartFailure> {
    let states = stream::iter(handles.to_vec()).map(|handle| async move {
        if handle.chain_id() != caller.tenant.chain_id {
            return Ok(state(HandleStatus::Unknown));
        }
        Ok::<_, RequestError>(state(match caller.store.handle_state(handle).await? {
            Stored::Unknown => HandleStatus::Unknown,
            Stored::Pending => HandleStatus::Pending,
            // An admitted input is computed by expanding its list, which always succeeds.
            Stored::Stored | Stored::Admitted => HandleStatus::Computed,
            Stored::Failed(reason) => HandleStatus::Failed(reason),
        }))
    });
    Ok(states.buffered(CONCURRENT).try_collect().await?)
}

/// Finds those whose ciphertexts are there by now, with one query.
async fn find_computed(caller: &Caller, handles: &[Handle], states: &mut [HandleState]) -> Result<(), PartFailure> {
    let heads = caller.store.ciphertext_heads(handles).await.map_err(RequestError::from)?;
    for (found, _) in states.iter_mut().zip(heads).filter(|(_, head)| head.is_some()) {
        *found = state(HandleStatus::Computed);
    }
    Ok(())
}
