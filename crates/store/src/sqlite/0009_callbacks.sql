-- Decryptions that contracts asked for, what became of each, and the transactions by which results are delivered.

-- A site is the gateway contract of one chain, under a name that the processes that serve it share.
CREATE TABLE callback_sites (
    site             TEXT   NOT NULL PRIMARY KEY,
    owner            TEXT   NOT NULL,
    claimed_until_ms INTEGER NOT NULL, -- milliseconds since the Unix epoch, as all times of this name
    block            INTEGER, -- the last block that was read
    block_hash       BLOB CHECK (length(block_hash) = 32),
    next_request     INTEGER, -- the number that the next request will have
    account          BLOB CHECK (length(account) = 20),
    balance          BLOB CHECK (length(balance) = 32), -- wei
    condition        TEXT,
    reported_at_ms   INTEGER,
    CHECK ((block IS NULL) = (block_hash IS NULL) AND (block IS NULL) = (next_request IS NULL))
) STRICT;

CREATE TABLE callback_requests (
    site               TEXT   NOT NULL,
    request_id         INTEGER NOT NULL,
    handles            BLOB  NOT NULL CHECK (length(handles) BETWEEN 32 AND 2048), -- 32 bytes each
    caller             BLOB  NOT NULL CHECK (length(caller) = 20),
    selector           BLOB  NOT NULL CHECK (length(selector) = 4),
    wei                BLOB  NOT NULL CHECK (length(wei) = 32),
    max_timestamp      INTEGER NOT NULL, -- seconds since the Unix epoch, by the chain's clock
    passes_signatures  INTEGER NOT NULL,
    block              INTEGER NOT NULL,
    block_hash         BLOB  NOT NULL CHECK (length(block_hash) = 32),
    transaction_hash   BLOB  NOT NULL CHECK (length(transaction_hash) = 32),
    state              TEXT   NOT NULL CHECK (state IN ('pending', 'sent', 'fulfilled', 'failed', 'expired')),
    reason             TEXT,
    tries              INTEGER NOT NULL,
    next_try_ms        INTEGER NOT NULL,
    seen_at_ms         INTEGER NOT NULL,
    ended_at_ms        INTEGER,
    result_block       INTEGER, -- where the contract announced the delivery, whoever sent it
    result_block_hash  BLOB  CHECK (length(result_block_hash) = 32),
    result_transaction BLOB  CHECK (length(result_transaction) = 32),
    PRIMARY KEY (site, request_id),
    CHECK ((result_block IS NULL) = (result_block_hash IS NULL))
) STRICT;
CREATE INDEX callback_requests_due ON callback_requests (site, next_try_ms) WHERE state = 'pending';
CREATE INDEX callback_requests_by_block ON callback_requests (site, block);
CREATE INDEX callback_requests_by_result ON callback_requests (site, result_block) WHERE result_block IS NOT NULL;

-- Signed transactions, written down before they are sent. They outlive the request if the chain withdraws it: the nonce is used all the same.
CREATE TABLE callback_attempts (
    site          TEXT   NOT NULL,
    account       BLOB  NOT NULL CHECK (length(account) = 20),
    nonce         INTEGER NOT NULL,
    hash          BLOB  NOT NULL CHECK (length(hash) = 32),
    request_id    INTEGER, -- none for a transaction that only uses its nonce up
    raw           BLOB  NOT NULL,
    max_fee       INTEGER NOT NULL, -- wei per unit of gas
    tip           INTEGER,
    created_at_ms INTEGER NOT NULL,
    outcome       TEXT, -- none while the nonce is not settled
    PRIMARY KEY (site, hash)
) STRICT;
CREATE INDEX callback_attempts_open ON callback_attempts (site, account, nonce) WHERE outcome IS NULL;
CREATE INDEX callback_attempts_by_request ON callback_attempts (site, request_id);
