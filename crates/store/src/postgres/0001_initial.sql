-- Numbers are 63-bit. Hashes and handles are 32 bytes, addresses 20 bytes, except in `tenants`. Times end in their unit.

-- Whom this deployment works for: one chain under one set of contracts. The columns up to is_admin have the names and meanings of the
-- 0.6 generation, so that its scripts can insert tenants; the trigger below fills in the rest and keeps no API key.
CREATE TABLE tenants (
    tenant_id                  SERIAL  PRIMARY KEY,
    tenant_api_key             UUID    DEFAULT gen_random_uuid() CHECK (tenant_api_key IS NULL), -- goes into api_key_digest
    chain_id                   BIGINT  NOT NULL CHECK (chain_id >= 0),
    verifying_contract_address TEXT    NOT NULL CHECK (verifying_contract_address ~ '^0x[0-9a-fA-F]{40}$'), -- InputVerifier
    acl_contract_address       TEXT    NOT NULL CHECK (acl_contract_address ~ '^0x[0-9a-fA-F]{40}$'),
    pks_key                    BYTEA,  -- accepted with sks_key and public_params, and not read: keys are in key_sets
    sks_key                    BYTEA,
    public_params              BYTEA,
    cks_key                    BYTEA   CHECK (cks_key IS NULL), -- a secret key has no place here
    is_admin                   BOOLEAN NOT NULL DEFAULT FALSE,
    name                       TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    api_key_digest             BYTEA   UNIQUE CHECK (length(api_key_digest) = 32), -- SHA-256 of the key's 36 characters
    disabled                   BOOLEAN NOT NULL DEFAULT FALSE,
    created_at                 TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE FUNCTION keep_no_api_key() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tenant_api_key IS NOT NULL THEN
        IF NEW.api_key_digest IS NULL OR TG_OP = 'UPDATE' THEN
            NEW.api_key_digest := sha256(convert_to(NEW.tenant_api_key::TEXT, 'UTF8'));
        END IF;
        NEW.tenant_api_key := NULL;
    END IF;
    IF NEW.name IS NULL THEN
        NEW.name := 'tenant-' || NEW.tenant_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_no_api_key BEFORE INSERT OR UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION keep_no_api_key();

-- Parts of keys by their SHA3-256 digest, each stored once however many key sets and tenants use it. Large: a server key has hundreds of
-- megabytes, so parts are cut into chunks and read once per process.
CREATE TABLE key_parts (
    digest     BYTEA  PRIMARY KEY CHECK (length(digest) = 32),
    size_bytes BIGINT NOT NULL CHECK (size_bytes >= 0)
);
CREATE TABLE key_part_chunks (
    digest BYTEA   NOT NULL REFERENCES key_parts ON DELETE CASCADE,
    index  INTEGER NOT NULL CHECK (index >= 0),
    bytes  BYTEA   NOT NULL,
    PRIMARY KEY (digest, index)
);
ALTER TABLE key_part_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL; -- random bytes do not compress

CREATE TABLE key_sets (
    key_set_id BYTEA PRIMARY KEY CHECK (length(key_set_id) = 32),
    manifest   TEXT  NOT NULL
);
CREATE TABLE key_set_parts (
    key_set_id BYTEA NOT NULL REFERENCES key_sets ON DELETE CASCADE,
    name       TEXT  NOT NULL,
    digest     BYTEA NOT NULL REFERENCES key_parts,
    PRIMARY KEY (key_set_id, name)
);
CREATE INDEX key_set_parts_by_digest ON key_set_parts (digest);
-- The key sets of a tenant; the newest is the one new ciphertexts are encrypted under.
CREATE TABLE tenant_key_sets (
    tenant_id      INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE,
    key_set_id     BYTEA   NOT NULL REFERENCES key_sets,
    attached_order BIGINT  GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (tenant_id, key_set_id)
);

-- Blocks that were followed; the highest one is where following resumes.
CREATE TABLE blocks (
    tenant_id    INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE,
    number       BIGINT  NOT NULL CHECK (number >= 0),
    hash         BYTEA   NOT NULL CHECK (length(hash) = 32),
    parent_hash  BYTEA   NOT NULL CHECK (length(parent_hash) = 32),
    timestamp_s  BIGINT  NOT NULL, -- as the block says, seconds since the Unix epoch
    PRIMARY KEY (tenant_id, number)
);

-- Transactions of followed blocks. A lease is live while lease_expires_at_ms lies in the future. waits_for counts the rows of
-- transaction_waits, so that what can run is found in an index.
CREATE TABLE transactions (
    id                  BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- never used again: a lease cannot fit another transaction
    tenant_id           INTEGER NOT NULL,
    block_number        BIGINT  NOT NULL,
    transaction_index   BIGINT  NOT NULL CHECK (transaction_index >= 0),
    hash                BYTEA   NOT NULL CHECK (length(hash) = 32),
    computations        TEXT    NOT NULL, -- JSON list of computations, in event order
    state               TEXT    NOT NULL CHECK (state IN ('pending', 'done', 'poisoned')),
    waits_for           INTEGER NOT NULL DEFAULT 0 CHECK (waits_for >= 0),
    attempts            INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0), -- leases that were not released
    lease_generation    BIGINT  NOT NULL DEFAULT 0, -- counts leases; a lease is valid for its own number only
    lease_owner         TEXT,
    lease_expires_at_ms BIGINT, -- milliseconds since the Unix epoch
    UNIQUE (tenant_id, block_number, transaction_index),
    FOREIGN KEY (tenant_id, block_number) REFERENCES blocks (tenant_id, number) ON DELETE CASCADE,
    CHECK ((lease_owner IS NULL) = (lease_expires_at_ms IS NULL)),
    CHECK (lease_owner IS NULL OR state = 'pending')
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- Not ordered as runnable_transactions is, so that nobody looks here for what can run.
CREATE INDEX pending_transactions ON transactions (tenant_id, block_number) WHERE state = 'pending';
CREATE INDEX runnable_transactions ON transactions (tenant_id, block_number, transaction_index)
    WHERE state = 'pending' AND waits_for = 0;

CREATE INDEX leased_transactions ON transactions (tenant_id, lease_expires_at_ms) WHERE lease_expires_at_ms IS NOT NULL;

-- Handles a transaction publishes; failure says why one never can be.
CREATE TABLE transaction_outputs (
    transaction_id BIGINT  NOT NULL REFERENCES transactions (id) ON DELETE CASCADE,
    tenant_id      INTEGER NOT NULL,
    handle         BYTEA   NOT NULL CHECK (length(handle) = 32),
    failure        TEXT,
    PRIMARY KEY (transaction_id, handle)
);
CREATE INDEX transaction_outputs_by_handle ON transaction_outputs (tenant_id, handle);

-- What a transaction still waits for: an earlier pending one that publishes a ciphertext it needs, or one it publishes too.
CREATE TABLE transaction_waits (
    transaction_id BIGINT  NOT NULL REFERENCES transactions (id) ON DELETE CASCADE,
    tenant_id      INTEGER NOT NULL,
    handle         BYTEA   NOT NULL CHECK (length(handle) = 32),
    publishes      BOOLEAN NOT NULL, -- the handle is an output of the transaction itself
    PRIMARY KEY (transaction_id, handle, publishes)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX transaction_waits_by_handle ON transaction_waits (tenant_id, handle);

-- Rights to handles. An empty account means public decryption. The first block that grants is kept.
CREATE TABLE grants (
    tenant_id    INTEGER NOT NULL,
    handle       BYTEA   NOT NULL CHECK (length(handle) = 32),
    account      BYTEA   NOT NULL CHECK (length(account) IN (0, 20)),
    block_number BIGINT  NOT NULL,
    PRIMARY KEY (tenant_id, handle, account),
    FOREIGN KEY (tenant_id, block_number) REFERENCES blocks (tenant_id, number) ON DELETE CASCADE
);
CREATE INDEX grants_by_block ON grants (tenant_id, block_number);

-- Changes of delegations; the one of the highest block holds. The ACL contract allows one per block.
CREATE TABLE delegations (
    tenant_id    INTEGER NOT NULL,
    delegator    BYTEA   NOT NULL CHECK (length(delegator) = 20),
    delegate     BYTEA   NOT NULL CHECK (length(delegate) = 20),
    contract     BYTEA   NOT NULL CHECK (length(contract) = 20),
    block_number BIGINT  NOT NULL,
    expires_at_s BYTEA   NOT NULL CHECK (length(expires_at_s) = 8), -- big-endian: "never" is 2^64-1; zero is revoked
    PRIMARY KEY (tenant_id, delegator, delegate, contract, block_number),
    FOREIGN KEY (tenant_id, block_number) REFERENCES blocks (tenant_id, number) ON DELETE CASCADE
);
CREATE INDEX delegations_by_block ON delegations (tenant_id, block_number);

-- Input lists whose proof was verified; values are expanded from the list when they are first used.
CREATE TABLE inputs (
    tenant_id      INTEGER NOT NULL REFERENCES tenants ON DELETE CASCADE,
    digest         BYTEA   NOT NULL CHECK (length(digest) = 32),
    contract       BYTEA   NOT NULL CHECK (length(contract) = 20),
    sender         BYTEA   NOT NULL CHECK (length(sender) = 20),
    acl            BYTEA   NOT NULL CHECK (length(acl) = 20),
    types          BYTEA   NOT NULL CHECK (length(types) BETWEEN 1 AND 255), -- one type number per value
    list           BYTEA   NOT NULL,
    admitted_at_ms BIGINT  NOT NULL,
    PRIMARY KEY (tenant_id, digest)
);
ALTER TABLE inputs ALTER COLUMN list SET STORAGE EXTERNAL;
CREATE TABLE input_handles (
    tenant_id INTEGER NOT NULL,
    handle    BYTEA   NOT NULL CHECK (length(handle) = 32),
    digest    BYTEA   NOT NULL,
    PRIMARY KEY (tenant_id, handle),
    FOREIGN KEY (tenant_id, digest) REFERENCES inputs (tenant_id, digest) ON DELETE CASCADE
);

-- Ciphertexts, one form of each: raw while packed_digest is absent, packed from when it is there. A handle that has one keeps it until
-- its block is withdrawn. `bytes` are absent where the object store has them, under the digest of the form.
CREATE TABLE ciphertexts (
    tenant_id            INTEGER  NOT NULL REFERENCES tenants ON DELETE CASCADE,
    handle               BYTEA    NOT NULL CHECK (length(handle) = 32),
    fhe_type             SMALLINT NOT NULL CHECK (fhe_type BETWEEN 0 AND 8),
    key_set_id           BYTEA    NOT NULL CHECK (length(key_set_id) = 32),
    digest               BYTEA    NOT NULL CHECK (length(digest) = 32), -- Keccak hash of the raw form
    packed_digest        BYTEA    CHECK (length(packed_digest) = 32),
    bytes                BYTEA,
    created_block_number BIGINT, -- of the transaction that published it; none for inputs
    PRIMARY KEY (tenant_id, handle)
);
ALTER TABLE ciphertexts ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE INDEX ciphertexts_by_object ON ciphertexts (coalesce(packed_digest, digest)) WHERE bytes IS NULL;
CREATE INDEX raw_ciphertexts_by_block ON ciphertexts (tenant_id, created_block_number, handle)
    WHERE packed_digest IS NULL AND created_block_number IS NOT NULL;
CREATE INDEX ciphertexts_by_block ON ciphertexts (tenant_id, created_block_number) WHERE created_block_number IS NOT NULL;
