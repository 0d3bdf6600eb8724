-- The replay that a delivery belongs to. A replay is made in small batches, so its deliveries need not stand side by side.
ALTER TABLE delivery ADD COLUMN job INTEGER;
UPDATE delivery SET job = j.id FROM replay_job j
    WHERE delivery.seq >= j.first_delivery AND delivery.seq < j.first_delivery + j.delivery_count AND delivery.replay = 1;
CREATE INDEX delivery_job ON delivery(job, state) WHERE job IS NOT NULL;

-- How far a replay is made: which events it wants (`wanted`, as JSON), those below `until_event`, at most so many, and after which of them it
-- goes on; no `position`: it is whole. `expected`: the deliveries that it was said to come to. `removing`: what waits of it is taken back.
ALTER TABLE replay_job DROP COLUMN first_delivery;
ALTER TABLE replay_job ADD COLUMN handler_id INTEGER;
ALTER TABLE replay_job ADD COLUMN wanted TEXT;
ALTER TABLE replay_job ADD COLUMN position INTEGER;
ALTER TABLE replay_job ADD COLUMN until_event INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replay_job ADD COLUMN event_limit INTEGER;
ALTER TABLE replay_job ADD COLUMN spacing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replay_job ADD COLUMN expected INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replay_job ADD COLUMN removing INTEGER NOT NULL DEFAULT 0;
UPDATE replay_job SET expected = delivery_count;
