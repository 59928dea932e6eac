-- Numbers are 63-bit. Hashes and handles are 32-byte blobs, addresses 20-byte blobs. Times end in their unit.

-- Blocks that were followed; the highest one is where following resumes.
CREATE TABLE blocks (
    chain_id     INTEGER NOT NULL,
    number       INTEGER NOT NULL CHECK (number >= 0),
    hash         BLOB    NOT NULL CHECK (length(hash) = 32),
    parent_hash  BLOB    NOT NULL CHECK (length(parent_hash) = 32),
    timestamp_s  INTEGER NOT NULL, -- as the block says, seconds since the Unix epoch
    PRIMARY KEY (chain_id, number)
) STRICT, WITHOUT ROWID;

-- Transactions of followed blocks. A lease is live while lease_expires_at_ms lies in the future.
CREATE TABLE transactions (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again, so that a lease cannot fit another transaction
    chain_id            INTEGER NOT NULL,
    block_number        INTEGER NOT NULL,
    transaction_index   INTEGER NOT NULL CHECK (transaction_index >= 0),
    hash                BLOB    NOT NULL CHECK (length(hash) = 32),
    computations        TEXT    NOT NULL, -- JSON list of computations, in event order
    state               TEXT    NOT NULL CHECK (state IN ('pending', 'done', 'poisoned')),
    attempts            INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0), -- leases that were not released
    lease_generation    INTEGER NOT NULL DEFAULT 0, -- counts leases; a lease is valid for its own number only
    lease_owner         TEXT,
    lease_expires_at_ms INTEGER, -- milliseconds since the Unix epoch
    UNIQUE (chain_id, block_number, transaction_index),
    FOREIGN KEY (chain_id, block_number) REFERENCES blocks (chain_id, number) ON DELETE CASCADE,
    CHECK ((lease_owner IS NULL) = (lease_expires_at_ms IS NULL)),
    CHECK (lease_owner IS NULL OR state = 'pending')
) STRICT;
CREATE INDEX pending_transactions ON transactions (chain_id, block_number, transaction_index) WHERE state = 'pending';

-- Computed handles of earlier transactions that a transaction needs.
CREATE TABLE transaction_boundary (
    transaction_id INTEGER NOT NULL REFERENCES transactions (id) ON DELETE CASCADE,
    handle         BLOB    NOT NULL CHECK (length(handle) = 32),
    PRIMARY KEY (transaction_id, handle)
) STRICT, WITHOUT ROWID;

-- Handles a transaction publishes; failure says why one never can be.
CREATE TABLE transaction_outputs (
    transaction_id INTEGER NOT NULL REFERENCES transactions (id) ON DELETE CASCADE,
    handle         BLOB    NOT NULL CHECK (length(handle) = 32),
    failure        TEXT,
    PRIMARY KEY (transaction_id, handle)
) STRICT, WITHOUT ROWID;
CREATE INDEX transaction_outputs_by_handle ON transaction_outputs (handle);

-- Rights to handles. An empty account means public decryption. The first block that grants is kept.
CREATE TABLE grants (
    chain_id     INTEGER NOT NULL,
    handle       BLOB    NOT NULL CHECK (length(handle) = 32),
    account      BLOB    NOT NULL CHECK (length(account) IN (0, 20)),
    block_number INTEGER NOT NULL,
    PRIMARY KEY (chain_id, handle, account),
    FOREIGN KEY (chain_id, block_number) REFERENCES blocks (chain_id, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_block ON grants (chain_id, block_number);

-- Changes of delegations; the one of the highest block holds. The ACL contract allows one per block.
CREATE TABLE delegations (
    chain_id     INTEGER NOT NULL,
    delegator    BLOB    NOT NULL CHECK (length(delegator) = 20),
    delegate     BLOB    NOT NULL CHECK (length(delegate) = 20),
    contract     BLOB    NOT NULL CHECK (length(contract) = 20),
    block_number INTEGER NOT NULL,
    expires_at_s BLOB    NOT NULL CHECK (length(expires_at_s) = 8), -- big-endian: "never" is 2^64-1; zero is revoked
    PRIMARY KEY (chain_id, delegator, delegate, contract, block_number),
    FOREIGN KEY (chain_id, block_number) REFERENCES blocks (chain_id, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX delegations_by_block ON delegations (chain_id, block_number);

-- Input lists whose proof was verified; values are expanded from the list when they are first used.
CREATE TABLE inputs (
    chain_id       INTEGER NOT NULL,
    digest         BLOB    NOT NULL CHECK (length(digest) = 32),
    contract       BLOB    NOT NULL CHECK (length(contract) = 20),
    user           BLOB    NOT NULL CHECK (length(user) = 20),
    acl            BLOB    NOT NULL CHECK (length(acl) = 20),
    types          BLOB    NOT NULL CHECK (length(types) BETWEEN 1 AND 255), -- one type number per value
    list           BLOB    NOT NULL,
    admitted_at_ms INTEGER NOT NULL,
    PRIMARY KEY (chain_id, digest)
) STRICT;

CREATE TABLE input_handles (
    chain_id INTEGER NOT NULL,
    handle   BLOB    NOT NULL CHECK (length(handle) = 32),
    digest   BLOB    NOT NULL,
    PRIMARY KEY (chain_id, handle),
    FOREIGN KEY (chain_id, digest) REFERENCES inputs (chain_id, digest)
) STRICT, WITHOUT ROWID;

-- Ciphertexts in canonical form. Written once; kept when their block is withdrawn, since a handle determines its value.
CREATE TABLE ciphertexts (
    chain_id             INTEGER NOT NULL,
    handle               BLOB    NOT NULL CHECK (length(handle) = 32),
    fhe_type             INTEGER NOT NULL CHECK (fhe_type BETWEEN 0 AND 8),
    key_set_id           BLOB    NOT NULL CHECK (length(key_set_id) = 32),
    digest               BLOB    NOT NULL CHECK (length(digest) = 32), -- Keccak hash of bytes
    bytes                BLOB    NOT NULL,
    created_block_number INTEGER, -- of the transaction that published it; none for inputs
    PRIMARY KEY (chain_id, handle)
) STRICT;
