-- Whom this deployment works for. At most one per chain, since the other tables are kept by chain.
CREATE TABLE tenants (
    tenant_id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    name                       TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    api_key_digest             BLOB    NOT NULL UNIQUE CHECK (length(api_key_digest) = 32), -- SHA-256 of the key's 36 characters
    chain_id                   INTEGER NOT NULL UNIQUE CHECK (chain_id >= 0),
    verifying_contract_address BLOB    NOT NULL CHECK (length(verifying_contract_address) = 20), -- InputVerifier
    acl_contract_address       BLOB    NOT NULL CHECK (length(acl_contract_address) = 20),
    is_admin                   INTEGER NOT NULL CHECK (is_admin IN (0, 1)),
    disabled                   INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT;

-- Parts of keys by their SHA3-256 digest, each stored once however many key sets and tenants use it.
CREATE TABLE key_parts (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    bytes  BLOB NOT NULL
) STRICT;
CREATE TABLE key_sets (
    key_set_id BLOB PRIMARY KEY CHECK (length(key_set_id) = 32),
    manifest   TEXT NOT NULL
) STRICT;
CREATE TABLE key_set_parts (
    key_set_id BLOB NOT NULL REFERENCES key_sets (key_set_id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    digest     BLOB NOT NULL REFERENCES key_parts (digest),
    PRIMARY KEY (key_set_id, name)
) STRICT, WITHOUT ROWID;
-- The key sets of a tenant; the newest is the one new ciphertexts are encrypted under.
CREATE TABLE tenant_key_sets (
    attached_order INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id      INTEGER NOT NULL REFERENCES tenants (tenant_id) ON DELETE CASCADE,
    key_set_id     BLOB    NOT NULL REFERENCES key_sets (key_set_id),
    UNIQUE (tenant_id, key_set_id)
) STRICT;
