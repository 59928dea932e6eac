-- A ciphertext is stored in one form. `bytes` are the raw form while packed_digest is absent, and the packed form of the same value from
-- when it is there; `digest` stays the Keccak hash of the raw form, packed_digest is that of the packed one.
ALTER TABLE ciphertexts ADD COLUMN packed_digest BLOB CHECK (length(packed_digest) = 32);
-- Ciphertexts by age, for cooling and for the withdrawal of blocks.
CREATE INDEX raw_ciphertexts_by_block ON ciphertexts (chain_id, created_block_number, handle)
    WHERE packed_digest IS NULL AND created_block_number IS NOT NULL;
CREATE INDEX ciphertexts_by_block ON ciphertexts (chain_id, created_block_number) WHERE created_block_number IS NOT NULL;
