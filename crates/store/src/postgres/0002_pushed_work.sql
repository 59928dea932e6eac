-- Work that nodes push, names of handles, limits of tenants.

ALTER TABLE tenants
    ADD COLUMN max_pending_transactions    BIGINT  CHECK (max_pending_transactions >= 0), -- none: no limit
    ADD COLUMN max_concurrent_transactions INTEGER CHECK (max_concurrent_transactions >= 0);

-- A block is one that was followed, or a request of a node to which the next number was given. A tenant has blocks of one kind.
ALTER TABLE blocks ADD COLUMN pushed BOOLEAN NOT NULL DEFAULT FALSE;

-- Names that are not handles themselves, as the 0.6 generation allows, and the handles they stand for.
CREATE TABLE handle_names (
    tenant_id INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name      BYTEA   NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    handle    BYTEA   NOT NULL CHECK (length(handle) = 32),
    PRIMARY KEY (tenant_id, name)
);

-- Computations in binary form. Rows of the first version keep theirs as JSON.
ALTER TABLE transactions
    ADD COLUMN work BYTEA,
    ALTER COLUMN work SET STORAGE EXTERNAL, -- hashes do not compress
    ALTER COLUMN computations DROP NOT NULL,
    ADD CHECK ((work IS NULL) <> (computations IS NULL));

-- How many transactions of a tenant are pending, so that nobody needs to count them. It is written under the lock that orders waits.
CREATE TABLE tenant_work (
    tenant_id INTEGER PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    pending   BIGINT  NOT NULL CHECK (pending >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO tenant_work (tenant_id, pending)
    SELECT tenant_id, count(*) FROM transactions WHERE state = 'pending' GROUP BY tenant_id;

-- What belongs to a transaction goes with it, for all transactions of a statement at once. A foreign key would do the same, but look at a
-- transaction again for every row that is added.
ALTER TABLE transaction_outputs DROP CONSTRAINT transaction_outputs_transaction_id_fkey;
ALTER TABLE transaction_waits DROP CONSTRAINT transaction_waits_transaction_id_fkey;
CREATE FUNCTION remove_parts_of_transactions() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM transaction_outputs WHERE transaction_id = ANY (ARRAY(SELECT id FROM removed));
    DELETE FROM transaction_waits WHERE transaction_id = ANY (ARRAY(SELECT id FROM removed));
    RETURN NULL;
END $$;
CREATE TRIGGER remove_parts_of_transactions AFTER DELETE ON transactions
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION remove_parts_of_transactions();

-- For operators: what has a hash, and what failed.
CREATE INDEX transactions_by_hash ON transactions USING hash (hash);
CREATE INDEX poisoned_transactions ON transactions (tenant_id, block_number, transaction_index) WHERE state = 'poisoned';
