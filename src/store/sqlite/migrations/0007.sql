-- Where a seen key stands in the order of its stream's cursor: how a key of `detect = "new"` grows old enough to be forgotten.
ALTER TABLE record ADD COLUMN place INTEGER;
CREATE INDEX record_place ON record(stream_id, place) WHERE place IS NOT NULL;
ALTER TABLE stream ADD COLUMN placed_by TEXT;
ALTER TABLE stream ADD COLUMN forgotten_below INTEGER;

-- Why polls of a stream rest without anybody having paused them.
ALTER TABLE stream ADD COLUMN rests TEXT;

-- The address that a source's state comes from, and another one that no person has confirmed yet.
ALTER TABLE source ADD COLUMN address TEXT;
ALTER TABLE source ADD COLUMN new_address TEXT;
