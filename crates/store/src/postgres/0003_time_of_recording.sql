-- When a block was recorded, for operators, who see how long work waits; the clock is the database's. Blocks of earlier versions have none.
ALTER TABLE blocks ADD COLUMN recorded_at_ms BIGINT; -- milliseconds since the Unix epoch
ALTER TABLE blocks ALTER COLUMN recorded_at_ms SET DEFAULT (extract(EPOCH FROM clock_timestamp()) * 1000)::BIGINT;
