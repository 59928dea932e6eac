-- What was published to a mirror.

ALTER TABLE ciphertexts ADD COLUMN published BOOLEAN NOT NULL DEFAULT FALSE; -- the packed form, with a signed record
CREATE INDEX ciphertexts_to_publish ON ciphertexts (tenant_id, handle) WHERE packed_digest IS NOT NULL AND NOT published;

-- Who publishes for a tenant, so that two processes do not both do it.
CREATE TABLE publishers (
    tenant_id        INTEGER PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    owner            TEXT    NOT NULL,
    claimed_until_ms BIGINT  NOT NULL -- milliseconds since the Unix epoch
);
