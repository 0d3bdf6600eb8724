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
