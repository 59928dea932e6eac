-- Chains that are followed, by whom, and how far that is; and results of withdrawn blocks, for blocks that come back.

CREATE TABLE followed_chains (
    tenant_id        INTEGER PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    urls             TEXT    NOT NULL, -- JSON list of the nodes' URLs; secret, since providers put keys into them
    executor         TEXT    NOT NULL CHECK (executor ~ '^0x[0-9a-fA-F]{40}$'),
    first_block      BIGINT  NOT NULL CHECK (first_block >= 0),
    finality_depth   BIGINT  NOT NULL CHECK (finality_depth >= 0),
    checks_receipts  BOOLEAN NOT NULL,
    owner            TEXT,
    claimed_until_ms BIGINT, -- milliseconds since the Unix epoch
    head             BIGINT, -- the numbers of blocks, as the owner saw them
    recorded         BIGINT,
    final_block      BIGINT,
    reached_at_ms    BIGINT,
    CHECK ((owner IS NULL) = (claimed_until_ms IS NULL))
);

-- Ciphertexts as they were when their block was withdrawn. A block's hash determines everything that its transactions computed from, so that
-- the same block gets the same bytes when the chain returns to it.
CREATE TABLE withdrawn_ciphertexts (
    tenant_id     INTEGER  NOT NULL REFERENCES tenants ON DELETE CASCADE,
    block_hash    BYTEA    NOT NULL CHECK (length(block_hash) = 32),
    block_number  BIGINT   NOT NULL,
    handle        BYTEA    NOT NULL CHECK (length(handle) = 32),
    fhe_type      SMALLINT NOT NULL,
    key_set_id    BYTEA    NOT NULL CHECK (length(key_set_id) = 32),
    digest        BYTEA    NOT NULL CHECK (length(digest) = 32),
    packed_digest BYTEA    CHECK (length(packed_digest) = 32),
    bytes         BYTEA,
    published     BOOLEAN  NOT NULL,
    PRIMARY KEY (tenant_id, block_hash, handle)
);
ALTER TABLE withdrawn_ciphertexts ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE INDEX withdrawn_ciphertexts_by_block ON withdrawn_ciphertexts (tenant_id, block_number);
