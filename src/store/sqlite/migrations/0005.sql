-- What an attempt sent and where its time went, as JSON; absent where nothing is known.
ALTER TABLE attempt ADD COLUMN detail TEXT;

-- What a handler that asks for its events was given and has not acknowledged: delivery numbers as a JSON list, the first of which has
-- the position `first`. Positions rise by one and never come back.
CREATE TABLE pull_page (
    handler_id INTEGER PRIMARY KEY,
    first      INTEGER NOT NULL,
    deliveries TEXT NOT NULL,
    handed_at  INTEGER NOT NULL
) STRICT;

-- Replays that were asked for. Their deliveries stand side by side (first_delivery, delivery_count), so progress is counted and never kept.
CREATE TABLE replay_job (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at     INTEGER NOT NULL,
    asked_by       TEXT NOT NULL,
    handler        TEXT,
    fresh          INTEGER NOT NULL,
    events         INTEGER NOT NULL,
    first_delivery INTEGER NOT NULL,
    delivery_count INTEGER NOT NULL,
    last_due_at    INTEGER NOT NULL,
    cancelled_by   TEXT,
    cancelled      INTEGER NOT NULL DEFAULT 0
) STRICT;
