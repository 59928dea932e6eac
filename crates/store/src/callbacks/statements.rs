//! The statements of [`super::Callbacks`]: the same text for both databases, which understand numbered parameters alike. The first is always the
//! site's name.

/// Claims or renews: name, owner, now, until.
pub(crate) const CLAIM: &str = "
    INSERT INTO callback_sites (site, owner, claimed_until_ms) VALUES ($1, $2, $4)
    ON CONFLICT (site) DO UPDATE SET owner = excluded.owner, claimed_until_ms = excluded.claimed_until_ms
    WHERE callback_sites.owner = excluded.owner OR callback_sites.claimed_until_ms <= $3";

/// Locks the site for its owner: name, owner, now.
pub(crate) const GUARD: &str = "UPDATE callback_sites SET owner = owner WHERE site = $1 AND owner = $2 AND claimed_until_ms > $3";

/// Notes the report: name, account, balance, condition, now.
pub(crate) const REPORT: &str = "UPDATE callback_sites SET account = $2, balance = $3, condition = $4, reported_at_ms = $5 WHERE site = $1";

/// Reads the site.
pub(crate) const SITE: &str = "SELECT * FROM callback_sites WHERE site = $1";

/// Moves the cursor: name, block, hash, next request.
pub(crate) const MOVE: &str = "UPDATE callback_sites SET block = $2, block_hash = $3, next_request = $4 WHERE site = $1";

/// Adds a request: name, id, handles, caller, selector, wei, max timestamp, passes signatures, block, hash, transaction, now.
pub(crate) const ADD: &str = "
    INSERT INTO callback_requests (site, request_id, handles, caller, selector, wei, max_timestamp, passes_signatures, block, block_hash,
        transaction_hash, state, tries, next_try_ms, seen_at_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'pending', 0, 0, $12)
    ON CONFLICT (site, request_id) DO UPDATE SET handles = excluded.handles, caller = excluded.caller, selector = excluded.selector,
        wei = excluded.wei, max_timestamp = excluded.max_timestamp, passes_signatures = excluded.passes_signatures, block = excluded.block,
        block_hash = excluded.block_hash, transaction_hash = excluded.transaction_hash, state = 'pending', reason = NULL, tries = 0,
        next_try_ms = 0, seen_at_ms = excluded.seen_at_ms, ended_at_ms = NULL, result_block = NULL, result_block_hash = NULL,
        result_transaction = NULL
    WHERE callback_requests.block_hash <> excluded.block_hash";

/// Notes a delivery: name, id, state, reason, block, hash, transaction, now.
pub(crate) const DELIVER: &str = "
    UPDATE callback_requests SET state = $3, reason = $4, result_block = $5, result_block_hash = $6, result_transaction = $7, ended_at_ms = $8
    WHERE site = $1 AND request_id = $2 AND (result_block_hash IS NULL OR result_block_hash <> $6)";

/// Ends what is out of time: name, the chain's time, now.
pub(crate) const EXPIRE: &str = "
    UPDATE callback_requests SET state = 'expired', ended_at_ms = $3
    WHERE site = $1 AND state IN ('pending', 'sent') AND max_timestamp < $2";

/// Lists blocks: name, below, limit.
pub(crate) const BLOCKS: &str = "
    SELECT block, block_hash FROM (
        SELECT block, block_hash FROM callback_requests WHERE site = $1 AND block < $2
        UNION SELECT result_block, result_block_hash FROM callback_requests WHERE site = $1 AND result_block < $2) AS blocks
    ORDER BY block DESC LIMIT $3";

/// Forgets requests after a block: name, block.
pub(crate) const WITHDRAW_REQUESTS: &str = "DELETE FROM callback_requests WHERE site = $1 AND block > $2";

/// Forgets deliveries after a block: name, block.
pub(crate) const WITHDRAW_DELIVERIES: &str = "
    UPDATE callback_requests SET reason = NULL, ended_at_ms = NULL, result_block = NULL, result_block_hash = NULL, result_transaction = NULL,
        next_try_ms = 0, state = CASE WHEN EXISTS (
            SELECT 1 FROM callback_attempts a WHERE a.site = callback_requests.site AND a.request_id = callback_requests.request_id
              AND a.outcome IS NULL) THEN 'sent' ELSE 'pending' END
    WHERE site = $1 AND result_block > $2";

/// What expired by the time of withdrawn blocks is open again; [`EXPIRE`] decides anew: name, block. The times of blocks are not kept, so all
/// that expired is looked at.
pub(crate) const WITHDRAW_EXPIRY: &str = "
    UPDATE callback_requests SET state = 'pending', ended_at_ms = NULL WHERE site = $1 AND state = 'expired' AND block <= $2";

/// Moves the cursor back to a block: name, block, hash. The next number follows from what is kept.
pub(crate) const MOVE_BACK: &str = "
    UPDATE callback_sites SET block = $2, block_hash = $3, next_request = coalesce((
        SELECT max(request_id) + 1 FROM callback_requests r WHERE r.site = callback_sites.site), 0)
    WHERE site = $1";

/// Forgets how far the chain was read: name.
pub(crate) const MOVE_TO_START: &str = "UPDATE callback_sites SET block = NULL, block_hash = NULL, next_request = NULL WHERE site = $1";

/// Lists what is due: name, now, limit.
pub(crate) const DUE: &str =
    "SELECT * FROM callback_requests WHERE site = $1 AND state = 'pending' AND next_try_ms <= $2 ORDER BY next_try_ms, request_id LIMIT $3";

/// Postpones: name, id, when, reason.
pub(crate) const POSTPONE: &str = "
    UPDATE callback_requests SET tries = tries + 1, next_try_ms = $3, reason = $4 WHERE site = $1 AND request_id = $2 AND state = 'pending'";

/// Fails: name, id, reason, now.
pub(crate) const FAIL: &str = "
    UPDATE callback_requests SET state = 'failed', reason = $3, ended_at_ms = $4 WHERE site = $1 AND request_id = $2 AND state = 'pending'";

/// Marks as sent: name, id.
pub(crate) const SENT: &str =
    "UPDATE callback_requests SET state = 'sent' WHERE site = $1 AND request_id = $2 AND state IN ('pending', 'sent')";

/// Adds an attempt: name, account, nonce, hash, request, raw, max fee, tip, now.
pub(crate) const ATTEMPT: &str = "
    INSERT INTO callback_attempts (site, account, nonce, hash, request_id, raw, max_fee, tip, created_at_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (site, hash) DO UPDATE SET outcome = NULL";

/// Lists open attempts: name.
pub(crate) const OPEN: &str =
    "SELECT * FROM callback_attempts WHERE site = $1 AND outcome IS NULL ORDER BY account, nonce, created_at_ms, max_fee";

/// Settles the attempts of a nonce: name, account, nonce, outcome.
pub(crate) const SETTLE: &str =
    "UPDATE callback_attempts SET outcome = $4 WHERE site = $1 AND account = $2 AND nonce = $3 AND outcome IS NULL";

/// Makes requests pending that no open attempt delivers: name, account, nonce, outcome, now.
pub(crate) const REOPEN: &str = "
    UPDATE callback_requests SET state = 'pending', reason = $4, tries = tries + 1, next_try_ms = $5
    WHERE site = $1 AND state = 'sent'
      AND request_id IN (SELECT request_id FROM callback_attempts WHERE site = $1 AND account = $2 AND nonce = $3)
      AND NOT EXISTS (
          SELECT 1 FROM callback_attempts a WHERE a.site = $1 AND a.request_id = callback_requests.request_id AND a.outcome IS NULL)";

/// Makes requests pending that others sent: name, account, signed before.
pub(crate) const TAKE_OVER: &str = "
    UPDATE callback_requests SET state = 'pending', next_try_ms = 0
    WHERE site = $1 AND state = 'sent' AND NOT EXISTS (
        SELECT 1 FROM callback_attempts a WHERE a.site = $1 AND a.request_id = callback_requests.request_id AND a.outcome IS NULL
          AND (a.account = $2 OR a.created_at_ms >= $3))";

/// Forgets ended requests: name, time.
pub(crate) const FORGET: &str = "DELETE FROM callback_requests WHERE site = $1 AND ended_at_ms < $2";

/// Forgets settled attempts: name, time.
pub(crate) const FORGET_ATTEMPTS: &str = "DELETE FROM callback_attempts WHERE site = $1 AND outcome IS NOT NULL AND created_at_ms < $2";

/// Forgets everything about a site, one statement after the other: name.
pub(crate) const CLEAR: [&str; 3] = [
    "DELETE FROM callback_attempts WHERE site = $1",
    "DELETE FROM callback_requests WHERE site = $1",
    "DELETE FROM callback_sites WHERE site = $1",
];

/// Lists requests: name, state, below, limit. An empty state is any.
pub(crate) const LIST: &str = "
    SELECT * FROM callback_requests WHERE site = $1 AND ($2 = '' OR state = $2) AND request_id < $3 ORDER BY request_id DESC LIMIT $4";

/// Finds a request: name, id.
pub(crate) const FIND: &str = "SELECT * FROM callback_requests WHERE site = $1 AND request_id = $2";

/// Lists a request's attempts: name, id.
pub(crate) const ATTEMPTS: &str =
    "SELECT * FROM callback_attempts WHERE site = $1 AND request_id = $2 ORDER BY created_at_ms, nonce, max_fee";

/// Has failed requests tried again: name, id or -1 for all.
pub(crate) const RETRY: &str = "
    UPDATE callback_requests SET state = 'pending', tries = 0, next_try_ms = 0, reason = NULL, ended_at_ms = NULL
    WHERE site = $1 AND state = 'failed' AND result_block IS NULL AND ($2 = -1 OR request_id = $2)";

/// Counts by state: name.
pub(crate) const TOTALS: &str = "SELECT state, count(*) AS requests FROM callback_requests WHERE site = $1 GROUP BY state";

/// Lists all sites.
pub(crate) const SITES: &str = "SELECT * FROM callback_sites ORDER BY site";
