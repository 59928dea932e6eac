-- Chains that are followed, by whom, and how far that is; and results of withdrawn blocks, for blocks that come back.

CREATE TABLE followed_chains (
    tenant_id        INTEGER PRIMARY KEY REFERENCES tenants (tenant_id) ON DELETE CASCADE,
    urls             TEXT    NOT NULL, -- JSON list of the nodes' URLs; secret, since providers put keys into them
    executor         BLOB    NOT NULL CHECK (length(executor) = 20),
    first_block      INTEGER NOT NULL CHECK (first_block >= 0),
    finality_depth   INTEGER NOT NULL CHECK (finality_depth >= 0),
    checks_receipts  INTEGER NOT NULL CHECK (checks_receipts IN (0, 1)),
    owner            TEXT,
    claimed_until_ms INTEGER, -- milliseconds since the Unix epoch
    head             INTEGER, -- the numbers of blocks, as the owner saw them
    recorded         INTEGER,
    final_block      INTEGER,
    reached_at_ms    INTEGER,
    CHECK ((owner IS NULL) = (claimed_until_ms IS NULL))
) STRICT;

-- Ciphertexts as they were when their block was withdrawn. A block's hash determines everything that its transactions computed from, so that
-- the same block gets the same bytes when the chain returns to it.
CREATE TABLE withdrawn_ciphertexts (
    chain_id      INTEGER NOT NULL,
    block_hash    BLOB    NOT NULL CHECK (length(block_hash) = 32),
    block_number  INTEGER NOT NULL,
    handle        BLOB    NOT NULL CHECK (length(handle) = 32),
    fhe_type      INTEGER NOT NULL,
    key_set_id    BLOB    NOT NULL CHECK (length(key_set_id) = 32),
    digest        BLOB    NOT NULL CHECK (length(digest) = 32),
    packed_digest BLOB    CHECK (length(packed_digest) = 32),
    bytes         BLOB    NOT NULL,
    published     INTEGER NOT NULL CHECK (published IN (0, 1)),
    PRIMARY KEY (chain_id, block_hash, handle)
) STRICT;
CREATE INDEX withdrawn_ciphertexts_by_block ON withdrawn_ciphertexts (chain_id, block_number);
