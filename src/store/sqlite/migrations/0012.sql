-- A temporary handler came with a replay to an address (`target`) and is sent to as the handler `pattern`; without `target` it is at its end and
-- stays as a name for what it was sent. `refused`: why nothing can be sent to it under the present configuration.
ALTER TABLE handler ADD COLUMN pattern TEXT;
ALTER TABLE handler ADD COLUMN target TEXT;
ALTER TABLE handler ADD COLUMN refused TEXT;
