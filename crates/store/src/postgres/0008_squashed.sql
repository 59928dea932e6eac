-- Noise-squashed lists, which committees decrypt. Each is made of a ciphertext and goes with it.

CREATE TABLE squashed_ciphertexts (
    tenant_id      INTEGER NOT NULL,
    handle         BYTEA   NOT NULL CHECK (length(handle) = 32),
    key_set_id     BYTEA   NOT NULL CHECK (length(key_set_id) = 32),
    raw_digest     BYTEA   NOT NULL CHECK (length(raw_digest) = 32), -- of the ciphertext it was made of
    squashing_keys BYTEA   NOT NULL CHECK (length(squashing_keys) = 32), -- which keys it was made with
    digest         BYTEA   NOT NULL CHECK (length(digest) = 32), -- Keccak hash of the list
    attestation    BYTEA   NOT NULL CHECK (length(attestation) = 65), -- by the coprocessor that made it
    bytes          BYTEA, -- absent where the object store has them, under the digest
    squashed_at_ms BIGINT  NOT NULL, -- milliseconds since the Unix epoch
    PRIMARY KEY (tenant_id, handle),
    FOREIGN KEY (tenant_id, handle) REFERENCES ciphertexts (tenant_id, handle) ON DELETE CASCADE
);
ALTER TABLE squashed_ciphertexts ALTER COLUMN bytes SET STORAGE EXTERNAL; -- random bytes do not compress
CREATE INDEX squashed_ciphertexts_by_age ON squashed_ciphertexts (tenant_id, squashed_at_ms);
CREATE INDEX squashed_ciphertexts_by_object ON squashed_ciphertexts (digest) WHERE bytes IS NULL;
