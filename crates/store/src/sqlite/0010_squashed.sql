-- Noise-squashed lists, which committees decrypt. Each is made of a ciphertext and goes with it.
CREATE TABLE squashed_ciphertexts (
    chain_id       INTEGER NOT NULL,
    handle         BLOB    NOT NULL CHECK (length(handle) = 32),
    key_set_id     BLOB    NOT NULL CHECK (length(key_set_id) = 32),
    raw_digest     BLOB    NOT NULL CHECK (length(raw_digest) = 32), -- of the ciphertext it was made of
    squashing_keys BLOB    NOT NULL CHECK (length(squashing_keys) = 32), -- which keys it was made with
    digest         BLOB    NOT NULL CHECK (length(digest) = 32), -- Keccak hash of the list
    attestation    BLOB    NOT NULL CHECK (length(attestation) = 65), -- by the coprocessor that made it
    bytes          BLOB    NOT NULL,
    squashed_at_ms INTEGER NOT NULL, -- milliseconds since the Unix epoch
    PRIMARY KEY (chain_id, handle),
    FOREIGN KEY (chain_id, handle) REFERENCES ciphertexts (chain_id, handle) ON DELETE CASCADE
) STRICT;
CREATE INDEX squashed_ciphertexts_by_age ON squashed_ciphertexts (chain_id, squashed_at_ms);
