-- Decryptions that contracts asked for, what became of each, and the transactions by which results are delivered.

-- A site is the gateway contract of one chain, under a name that the processes that serve it share.
CREATE TABLE callback_sites (
    site             TEXT   NOT NULL PRIMARY KEY,
    owner            TEXT   NOT NULL,
    claimed_until_ms BIGINT NOT NULL, -- milliseconds since the Unix epoch, as all times of this name
    block            BIGINT, -- the last block that was read
    block_hash       BYTEA CHECK (length(block_hash) = 32),
    next_request     BIGINT, -- the number that the next request will have
    account          BYTEA CHECK (length(account) = 20),
    balance          BYTEA CHECK (length(balance) = 32), -- wei
    condition        TEXT,
    reported_at_ms   BIGINT,
    CHECK ((block IS NULL) = (block_hash IS NULL) AND (block IS NULL) = (next_request IS NULL))
);

CREATE TABLE callback_requests (
    site               TEXT   NOT NULL,
    request_id         BIGINT NOT NULL,
    handles            BYTEA  NOT NULL CHECK (length(handles) BETWEEN 32 AND 2048), -- 32 bytes each
    caller             BYTEA  NOT NULL CHECK (length(caller) = 20),
    selector           BYTEA  NOT NULL CHECK (length(selector) = 4),
    wei                BYTEA  NOT NULL CHECK (length(wei) = 32),
    max_timestamp      BIGINT NOT NULL, -- seconds since the Unix epoch, by the chain's clock
    passes_signatures  BOOLEAN NOT NULL,
    block              BIGINT NOT NULL,
    block_hash         BYTEA  NOT NULL CHECK (length(block_hash) = 32),
    transaction_hash   BYTEA  NOT NULL CHECK (length(transaction_hash) = 32),
    state              TEXT   NOT NULL CHECK (state IN ('pending', 'sent', 'fulfilled', 'failed', 'expired')),
    reason             TEXT,
    tries              BIGINT NOT NULL,
    next_try_ms        BIGINT NOT NULL,
    seen_at_ms         BIGINT NOT NULL,
    ended_at_ms        BIGINT,
    result_block       BIGINT, -- where the contract announced the delivery, whoever sent it
    result_block_hash  BYTEA  CHECK (length(result_block_hash) = 32),
    result_transaction BYTEA  CHECK (length(result_transaction) = 32),
    PRIMARY KEY (site, request_id),
    CHECK ((result_block IS NULL) = (result_block_hash IS NULL))
);
CREATE INDEX callback_requests_due ON callback_requests (site, next_try_ms) WHERE state = 'pending';
CREATE INDEX callback_requests_by_block ON callback_requests (site, block);
CREATE INDEX callback_requests_by_result ON callback_requests (site, result_block) WHERE result_block IS NOT NULL;

-- Signed transactions, written down before they are sent. They outlive the request if the chain withdraws it: the nonce is used all the same.
CREATE TABLE callback_attempts (
    site          TEXT   NOT NULL,
    account       BYTEA  NOT NULL CHECK (length(account) = 20),
    nonce         BIGINT NOT NULL,
    hash          BYTEA  NOT NULL CHECK (length(hash) = 32),
    request_id    BIGINT, -- none for a transaction that only uses its nonce up
    raw           BYTEA  NOT NULL,
    max_fee       BIGINT NOT NULL, -- wei per unit of gas
    tip           BIGINT,
    created_at_ms BIGINT NOT NULL,
    outcome       TEXT, -- none while the nonce is not settled
    PRIMARY KEY (site, hash)
);
CREATE INDEX callback_attempts_open ON callback_attempts (site, account, nonce) WHERE outcome IS NULL;
CREATE INDEX callback_attempts_by_request ON callback_attempts (site, request_id);
