-- What was published to a mirror: the packed form, with a signed record.
ALTER TABLE ciphertexts ADD COLUMN published INTEGER NOT NULL DEFAULT 0 CHECK (published IN (0, 1));
CREATE INDEX ciphertexts_to_publish ON ciphertexts (chain_id, handle) WHERE packed_digest IS NOT NULL AND published = 0;
