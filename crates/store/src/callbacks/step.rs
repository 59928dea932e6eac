//! [`super::Callbacks`] for a database: the steps are the same, the drivers' types are not.

use cipherloom_primitives::{B256, U256};

use super::{CallbackRequest, MAX_CALLBACK_HANDLES, MAX_REASON_CHARACTERS};
use crate::{StoreError, columns::text};

/// Writes a reason: not too long, and without what a database refuses.
pub(crate) fn reason(words: &str) -> String {
    text(&words.chars().take(MAX_REASON_CHARACTERS).collect::<String>())
}

/// Writes handles one after the other.
pub(crate) fn joined(request: &CallbackRequest) -> Vec<u8> {
    request.handles.iter().flat_map(|handle| handle.0).collect()
}

/// Reads what [`joined`] wrote.
pub(crate) fn handles(bytes: &[u8]) -> Result<Vec<B256>, StoreError> {
    let (words, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || words.is_empty() || words.len() > MAX_CALLBACK_HANDLES {
        return Err(StoreError::corrupt("handles of a request", "their number is not possible"));
    }
    Ok(words.iter().map(|word| B256::from(*word)).collect())
}

/// Reads a selector.
pub(crate) fn selector(bytes: &[u8]) -> Result<[u8; 4], StoreError> {
    bytes
        .try_into()
        .map_err(|_| StoreError::corrupt("selector of a request", "it has not four bytes"))
}

/// Reads a number of wei.
pub(crate) fn wei(bytes: &[u8]) -> Result<U256, StoreError> {
    U256::try_from_be_slice(bytes).ok_or_else(|| StoreError::corrupt("wei", "more than 32 bytes"))
}

/// Implements [`super::Callbacks`] for a type with the fields `readers`, `writer` and `site`, given how its driver calls rows and how a write begins.
macro_rules! implement_callbacks {
    ($implementation:ident, $row:ty, $begin:path) => {
        use cipherloom_primitives::{Address, B256};
        use sqlx::Row;

        use crate::{
            CallbackAttempt, CallbackClaim, CallbackCursor, CallbackFilter, CallbackProgress, CallbackRecord, CallbackReport,
            CallbackRequest, CallbackSite, CallbackState, Callbacks, StoreError, StoreFuture,
            callbacks::{statements as sql, step},
            columns::{address, hash, integer, number, optional_integer, optional_number},
        };

        /// Begins a write under a claim.
        macro_rules! guarded {
            ($this:expr, $claim:expr) => {{
                let mut write = $begin(&$this.writer).await?;
                let held = sqlx::query(sql::GUARD)
                    .bind(&$this.site)
                    .bind($claim.owner)
                    .bind(integer("time", $claim.now_ms)?)
                    .execute(&mut *write)
                    .await?;
                if held.rows_affected() != 1 {
                    return Err(StoreError::ClaimLost($this.site.clone()));
                }
                write
            }};
        }

        impl Callbacks for $implementation {
            fn claim<'a>(&'a self, claim: CallbackClaim<'a>, until_ms: u64) -> StoreFuture<'a, bool> {
                Box::pin(async move {
                    let claimed = sqlx::query(sql::CLAIM)
                        .bind(&self.site)
                        .bind(claim.owner)
                        .bind(integer("time", claim.now_ms)?)
                        .bind(integer("claim end", until_ms)?)
                        .execute(&self.writer)
                        .await?;
                    Ok(claimed.rows_affected() == 1 && until_ms > claim.now_ms)
                })
            }

            fn report<'a>(&'a self, claim: CallbackClaim<'a>, report: &'a CallbackReport) -> StoreFuture<'a, ()> {
                Box::pin(async move {
                    let mut write = guarded!(self, claim);
                    sqlx::query(sql::REPORT)
                        .bind(&self.site)
                        .bind(report.account.as_slice())
                        .bind(report.balance.to_be_bytes::<32>().as_slice())
                        .bind(step::reason(&report.condition))
                        .bind(integer("time", claim.now_ms)?)
                        .execute(&mut *write)
                        .await?;
                    Ok(write.commit().await?)
                })
            }

            fn site(&self) -> StoreFuture<'_, Option<CallbackSite>> {
                Box::pin(async move {
                    let row = sqlx::query(sql::SITE).bind(&self.site).fetch_optional(&self.readers).await?;
                    row.as_ref().map(site).transpose()
                })
            }

            fn record<'a>(&'a self, claim: CallbackClaim<'a>, progress: &'a CallbackProgress<'a>) -> StoreFuture<'a, ()> {
                Box::pin(async move {
                    let now = integer("time", claim.now_ms)?;
                    let mut write = guarded!(self, claim);
                    for request in progress.requests {
                        sqlx::query(sql::ADD)
                            .bind(&self.site)
                            .bind(integer("request number", request.id)?)
                            .bind(step::joined(request))
                            .bind(request.caller.as_slice())
                            .bind(request.selector.as_slice())
                            .bind(request.wei.to_be_bytes::<32>().as_slice())
                            .bind(integer("time limit", request.max_timestamp)?)
                            .bind(request.passes_signatures)
                            .bind(integer("block", request.block)?)
                            .bind(request.block_hash.as_slice())
                            .bind(request.transaction.as_slice())
                            .bind(now)
                            .execute(&mut *write)
                            .await?;
                    }
                    for delivery in progress.deliveries {
                        let state = match delivery.failure {
                            None => CallbackState::Fulfilled,
                            Some(_) => CallbackState::Failed,
                        };
                        sqlx::query(sql::DELIVER)
                            .bind(&self.site)
                            .bind(integer("request number", delivery.request)?)
                            .bind(state.name())
                            .bind(delivery.failure.as_deref().map(step::reason))
                            .bind(integer("block", delivery.block)?)
                            .bind(delivery.block_hash.as_slice())
                            .bind(delivery.transaction.as_slice())
                            .bind(now)
                            .execute(&mut *write)
                            .await?;
                    }
                    sqlx::query(sql::EXPIRE)
                        .bind(&self.site)
                        .bind(integer("time of the chain", progress.chain_time)?)
                        .bind(now)
                        .execute(&mut *write)
                        .await?;
                    sqlx::query(sql::MOVE)
                        .bind(&self.site)
                        .bind(integer("block", progress.cursor.block)?)
                        .bind(progress.cursor.block_hash.as_slice())
                        .bind(integer("request number", progress.cursor.next_request)?)
                        .execute(&mut *write)
                        .await?;
                    Ok(write.commit().await?)
                })
            }

            fn recorded_blocks(&self, below: Option<u64>, limit: u32) -> StoreFuture<'_, Vec<(u64, B256)>> {
                Box::pin(async move {
                    let rows = sqlx::query(sql::BLOCKS)
                        .bind(&self.site)
                        .bind(optional_integer("block", below)?.unwrap_or(i64::MAX))
                        .bind(i64::from(limit))
                        .fetch_all(&self.readers)
                        .await?;
                    rows.iter()
                        .map(|row| {
                            Ok((
                                number("block", row.try_get("block")?)?,
                                hash("block hash", row.try_get("block_hash")?)?,
                            ))
                        })
                        .collect()
                })
            }

            fn withdraw<'a>(&'a self, claim: CallbackClaim<'a>, last_kept: Option<(u64, B256)>) -> StoreFuture<'a, ()> {
                Box::pin(async move {
                    let mut write = guarded!(self, claim);
                    let block = match last_kept {
                        Some((block, _)) => integer("block", block)?,
                        None => -1,
                    };
                    for statement in [sql::WITHDRAW_REQUESTS, sql::WITHDRAW_DELIVERIES, sql::WITHDRAW_EXPIRY] {
                        sqlx::query(statement)
                            .bind(&self.site)
                            .bind(block)
                            .execute(&mut *write)
                            .await?;
                    }
                    match last_kept {
                        Some((_, hash)) => {
                            let back = sqlx::query(sql::MOVE_BACK).bind(&self.site).bind(block).bind(hash.as_slice());
                            back.execute(&mut *write).await?;
                        }
                        None => {
                            sqlx::query(sql::MOVE_TO_START).bind(&self.site).execute(&mut *write).await?;
                        }
                    }
                    Ok(write.commit().await?)
                })
            }

            fn due(&self, now_ms: u64, limit: u32) -> StoreFuture<'_, Vec<CallbackRecord>> {
                Box::pin(async move {
                    let rows = sqlx::query(sql::DUE)
                        .bind(&self.site)
                        .bind(integer("time", now_ms)?)
                        .bind(i64::from(limit))
                        .fetch_all(&self.readers)
                        .await?;
                    rows.iter().map(record).collect()
                })
            }

            fn postpone<'a>(&'a self, claim: CallbackClaim<'a>, request: u64, next_try_ms: u64, reason: &'a str) -> StoreFuture<'a, ()> {
                Box::pin(async move {
                    let mut write = guarded!(self, claim);
                    sqlx::query(sql::POSTPONE)
                        .bind(&self.site)
                        .bind(integer("request number", request)?)
                        .bind(integer("time", next_try_ms)?)
                        .bind(step::reason(reason))
                        .execute(&mut *write)
                        .await?;
                    Ok(write.commit().await?)
                })
            }

            fn fail<'a>(&'a self, claim: CallbackClaim<'a>, request: u64, reason: &'a str) -> StoreFuture<'a, ()> {
                Box::pin(async move {
                    let mut write = guarded!(self, claim);
                    sqlx::query(sql::FAIL)
                        .bind(&self.site)
                        .bind(integer("request number", request)?)
                        .bind(step::reason(reason))
                        .bind(integer("time", claim.now_ms)?)
                        .execute(&mut *write)
                        .await?;
                    Ok(write.commit().await?)
                })
            }

            fn add_attempt<'a>(&'a self, claim: CallbackClaim<'a>, attempt: &'a CallbackAttempt) -> StoreFuture<'a, bool> {
                Box::pin(async move {
                    let request = optional_integer("request number", attempt.request)?;
                    let mut write = guarded!(self, claim);
                    if let Some(request) = request {
                        let sent = sqlx::query(sql::SENT)
                            .bind(&self.site)
                            .bind(request)
                            .execute(&mut *write)
                            .await?;
                        if sent.rows_affected() != 1 {
                            return Ok(false);
                        }
                    }
                    sqlx::query(sql::ATTEMPT)
                        .bind(&self.site)
                        .bind(attempt.account.as_slice())
                        .bind(integer("nonce", attempt.nonce)?)
                        .bind(attempt.hash.as_slice())
                        .bind(request)
                        .bind(attempt.raw.as_slice())
                        .bind(integer("fee", attempt.max_fee)?)
                        .bind(optional_integer("tip", attempt.tip)?)
                        .bind(integer("time", attempt.created_at_ms)?)
                        .execute(&mut *write)
                        .await?;
                    write.commit().await?;
                    Ok(true)
                })
            }

            fn open_attempts(&self) -> StoreFuture<'_, Vec<CallbackAttempt>> {
                Box::pin(async move {
                    let rows = sqlx::query(sql::OPEN).bind(&self.site).fetch_all(&self.readers).await?;
                    rows.iter().map(attempt).collect()
                })
            }

            fn settle<'a>(&'a self, claim: CallbackClaim<'a>, account: Address, nonce: u64, outcome: &'a str) -> StoreFuture<'a, ()> {
                Box::pin(async move {
                    let nonce = integer("nonce", nonce)?;
                    let mut write = guarded!(self, claim);
                    sqlx::query(sql::SETTLE)
                        .bind(&self.site)
                        .bind(account.as_slice())
                        .bind(nonce)
                        .bind(step::reason(outcome))
                        .execute(&mut *write)
                        .await?;
                    sqlx::query(sql::REOPEN)
                        .bind(&self.site)
                        .bind(account.as_slice())
                        .bind(nonce)
                        .bind(step::reason(outcome))
                        .bind(integer("time", claim.now_ms)?)
                        .execute(&mut *write)
                        .await?;
                    Ok(write.commit().await?)
                })
            }

            fn take_over<'a>(&'a self, claim: CallbackClaim<'a>, account: Address, signed_before_ms: u64) -> StoreFuture<'a, u64> {
                Box::pin(async move {
                    let mut write = guarded!(self, claim);
                    let taken = sqlx::query(sql::TAKE_OVER)
                        .bind(&self.site)
                        .bind(account.as_slice())
                        .bind(integer("time", signed_before_ms)?)
                        .execute(&mut *write)
                        .await?;
                    write.commit().await?;
                    Ok(taken.rows_affected())
                })
            }

            fn forget<'a>(&'a self, claim: CallbackClaim<'a>, ended_before_ms: u64) -> StoreFuture<'a, u64> {
                Box::pin(async move {
                    let time = integer("time", ended_before_ms)?;
                    let mut write = guarded!(self, claim);
                    let forgotten = sqlx::query(sql::FORGET)
                        .bind(&self.site)
                        .bind(time)
                        .execute(&mut *write)
                        .await?;
                    sqlx::query(sql::FORGET_ATTEMPTS)
                        .bind(&self.site)
                        .bind(time)
                        .execute(&mut *write)
                        .await?;
                    write.commit().await?;
                    Ok(forgotten.rows_affected())
                })
            }

            fn clear(&self) -> StoreFuture<'_, ()> {
                Box::pin(async move {
                    let mut write = $begin(&self.writer).await?;
                    for statement in sql::CLEAR {
                        sqlx::query(statement).bind(&self.site).execute(&mut *write).await?;
                    }
                    Ok(write.commit().await?)
                })
            }

            fn list(&self, filter: CallbackFilter) -> StoreFuture<'_, Vec<CallbackRecord>> {
                Box::pin(async move {
                    let rows = sqlx::query(sql::LIST)
                        .bind(&self.site)
                        .bind(filter.state.map_or("", CallbackState::name))
                        .bind(optional_integer("request number", filter.before)?.unwrap_or(i64::MAX))
                        .bind(i64::from(filter.limit))
                        .fetch_all(&self.readers)
                        .await?;
                    rows.iter().map(record).collect()
                })
            }

            fn find(&self, request: u64) -> StoreFuture<'_, Option<(CallbackRecord, Vec<CallbackAttempt>)>> {
                Box::pin(async move {
                    let id = integer("request number", request)?;
                    let row = sqlx::query(sql::FIND)
                        .bind(&self.site)
                        .bind(id)
                        .fetch_optional(&self.readers)
                        .await?;
                    let Some(row) = row else { return Ok(None) };
                    let attempts = sqlx::query(sql::ATTEMPTS)
                        .bind(&self.site)
                        .bind(id)
                        .fetch_all(&self.readers)
                        .await?;
                    Ok(Some((record(&row)?, attempts.iter().map(attempt).collect::<Result<_, _>>()?)))
                })
            }

            fn retry(&self, request: Option<u64>) -> StoreFuture<'_, u64> {
                Box::pin(async move {
                    let retried = sqlx::query(sql::RETRY)
                        .bind(&self.site)
                        .bind(optional_integer("request number", request)?.unwrap_or(-1))
                        .execute(&self.writer)
                        .await?;
                    Ok(retried.rows_affected())
                })
            }

            fn totals(&self) -> StoreFuture<'_, Vec<(CallbackState, u64)>> {
                Box::pin(async move {
                    let rows = sqlx::query(sql::TOTALS).bind(&self.site).fetch_all(&self.readers).await?;
                    let mut totals: Vec<(CallbackState, u64)> = CallbackState::ALL.into_iter().map(|state| (state, 0)).collect();
                    for row in &rows {
                        let found = state(row)?;
                        let count = number("number of requests", row.try_get("requests")?)?;
                        totals
                            .iter_mut()
                            .filter(|(state, _)| *state == found)
                            .for_each(|total| total.1 = count);
                    }
                    Ok(totals)
                })
            }
        }

        pub(super) fn site(row: &$row) -> Result<CallbackSite, StoreError> {
            let block = optional_number("block", row.try_get("block")?)?;
            let next_request = optional_number("request number", row.try_get("next_request")?)?;
            let block_hash: Option<&[u8]> = row.try_get("block_hash")?;
            let cursor = match (block, block_hash, next_request) {
                (Some(block), Some(block_hash), Some(next_request)) => Some(CallbackCursor {
                    block,
                    block_hash: hash("block hash", block_hash)?,
                    next_request,
                }),
                _ => None,
            };
            let account: Option<&[u8]> = row.try_get("account")?;
            let balance: Option<&[u8]> = row.try_get("balance")?;
            let condition: Option<String> = row.try_get("condition")?;
            let reported = optional_number("time", row.try_get("reported_at_ms")?)?;
            let report = match (account, balance, condition, reported) {
                (Some(account), Some(balance), Some(condition), Some(at)) => Some((
                    CallbackReport {
                        account: address("account", account)?,
                        balance: step::wei(balance)?,
                        condition,
                    },
                    at,
                )),
                _ => None,
            };
            Ok(CallbackSite {
                name: row.try_get("site")?,
                owner: row.try_get("owner")?,
                claimed_until_ms: number("claim end", row.try_get("claimed_until_ms")?)?,
                cursor,
                report,
            })
        }

        fn state(row: &$row) -> Result<CallbackState, StoreError> {
            let name: &str = row.try_get("state")?;
            CallbackState::of_name(name).ok_or_else(|| StoreError::corrupt("state of a request", "there is no such state"))
        }

        fn record(row: &$row) -> Result<CallbackRecord, StoreError> {
            let delivered_by: Option<&[u8]> = row.try_get("result_transaction")?;
            Ok(CallbackRecord {
                request: CallbackRequest {
                    id: number("request number", row.try_get("request_id")?)?,
                    handles: step::handles(row.try_get("handles")?)?,
                    caller: address("caller", row.try_get("caller")?)?,
                    selector: step::selector(row.try_get("selector")?)?,
                    wei: step::wei(row.try_get("wei")?)?,
                    max_timestamp: number("time limit", row.try_get("max_timestamp")?)?,
                    passes_signatures: row.try_get("passes_signatures")?,
                    block: number("block", row.try_get("block")?)?,
                    block_hash: hash("block hash", row.try_get("block_hash")?)?,
                    transaction: hash("transaction hash", row.try_get("transaction_hash")?)?,
                },
                state: state(row)?,
                reason: row.try_get("reason")?,
                tries: u32::try_from(row.try_get::<i64, _>("tries")?).map_err(|_| StoreError::corrupt("tries", "too many"))?,
                next_try_ms: number("time", row.try_get("next_try_ms")?)?,
                seen_at_ms: number("time", row.try_get("seen_at_ms")?)?,
                ended_at_ms: optional_number("time", row.try_get("ended_at_ms")?)?,
                delivered_by: delivered_by.map(|bytes| hash("transaction hash", bytes)).transpose()?,
            })
        }

        fn attempt(row: &$row) -> Result<CallbackAttempt, StoreError> {
            Ok(CallbackAttempt {
                account: address("account", row.try_get("account")?)?,
                nonce: number("nonce", row.try_get("nonce")?)?,
                hash: hash("transaction hash", row.try_get("hash")?)?,
                request: optional_number("request number", row.try_get("request_id")?)?,
                raw: row.try_get("raw")?,
                max_fee: number("fee", row.try_get("max_fee")?)?,
                tip: optional_number("tip", row.try_get("tip")?)?,
                created_at_ms: number("time", row.try_get("created_at_ms")?)?,
                outcome: row.try_get("outcome")?,
            })
        }
    };
}

pub(crate) use implement_callbacks;
