-- Work that nodes push, names of handles, limits of tenants.

ALTER TABLE tenants ADD COLUMN max_pending_transactions INTEGER CHECK (max_pending_transactions >= 0); -- none: no limit
ALTER TABLE tenants ADD COLUMN max_concurrent_transactions INTEGER CHECK (max_concurrent_transactions >= 0);

-- A block is one that was followed, or a request of a node to which the next number was given. A chain has blocks of one kind.
ALTER TABLE blocks ADD COLUMN pushed INTEGER NOT NULL DEFAULT 0 CHECK (pushed IN (0, 1));

-- Names that are not handles themselves, as the 0.6 generation allows, and the handles they stand for.
CREATE TABLE handle_names (
    chain_id INTEGER NOT NULL,
    name     BLOB    NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    handle   BLOB    NOT NULL CHECK (length(handle) = 32),
    PRIMARY KEY (name, chain_id)
) STRICT, WITHOUT ROWID;

-- Computations in binary form; `computations` is empty then. Rows of earlier versions keep theirs as JSON.
ALTER TABLE transactions ADD COLUMN work BLOB;

-- Who waits for a handle.
CREATE INDEX transaction_boundary_by_handle ON transaction_boundary (handle);
CREATE INDEX leased_transactions ON transactions (chain_id, lease_expires_at_ms) WHERE lease_expires_at_ms IS NOT NULL;
-- For operators: what has a hash, and what failed.
CREATE INDEX transactions_by_hash ON transactions (hash);
CREATE INDEX poisoned_transactions ON transactions (chain_id, block_number, transaction_index) WHERE state = 'poisoned';
