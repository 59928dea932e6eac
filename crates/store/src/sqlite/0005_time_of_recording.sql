-- When a block was recorded, for operators, who see how long work waits. Blocks of earlier versions have none.
ALTER TABLE blocks ADD COLUMN recorded_at_ms INTEGER; -- milliseconds since the Unix epoch
