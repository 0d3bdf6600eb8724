-- How a stream's changes are being found just now (`Detection`), waiting notices, and who saw its changes first.
ALTER TABLE stream ADD COLUMN retaken INTEGER;
ALTER TABLE stream ADD COLUMN recompare INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stream ADD COLUMN run_phase INTEGER;
ALTER TABLE stream ADD COLUMN run_listed_once INTEGER;
ALTER TABLE stream ADD COLUMN backfill TEXT;
ALTER TABLE stream ADD COLUMN notice INTEGER;
ALTER TABLE stream ADD COLUMN by_webhook INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stream ADD COLUMN by_poll INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stream ADD COLUMN by_both INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stream ADD COLUMN recovered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stream ADD COLUMN announced_in_row INTEGER NOT NULL DEFAULT 0;

-- Only of rows that a real webhook wrote, and of tombstones: how long a list may trail, and when a tombstone may go.
ALTER TABLE record ADD COLUMN written_at INTEGER;
UPDATE record SET written_at = CAST(strftime('%s', 'now') AS INTEGER) * 1000 WHERE flags & 9 <> 0;
CREATE INDEX record_gone ON record(written_at) WHERE flags & 1 = 1;

-- A key stands in a run's journal once: a later copy takes the place of an earlier one.
DELETE FROM journal WHERE id NOT IN (SELECT max(id) FROM journal GROUP BY stream_id, key);
CREATE UNIQUE INDEX journal_key ON journal(stream_id, key);

-- A record that cannot be read is kept once, however often it is shown.
ALTER TABLE set_aside ADD COLUMN hash BLOB;
ALTER TABLE set_aside ADD COLUMN member TEXT;
CREATE UNIQUE INDEX set_aside_once ON set_aside(stream_id, hash);

-- What a guard holds, and what a person decided about it.
ALTER TABLE problem ADD COLUMN held INTEGER;
ALTER TABLE problem ADD COLUMN approved INTEGER;
ALTER TABLE problem ADD COLUMN decided_held INTEGER;
ALTER TABLE problem ADD COLUMN decided_by TEXT;
ALTER TABLE problem ADD COLUMN decided_at INTEGER;

-- Deletions that rest on absence alone, of the last day.
CREATE TABLE absence (
    stream_id INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    gone      INTEGER NOT NULL,
    PRIMARY KEY (stream_id, at)
) STRICT, WITHOUT ROWID;

-- Changes that a poll found first and that wait for their real webhook.
CREATE TABLE awaited (
    stream_id INTEGER NOT NULL,
    key       TEXT NOT NULL,
    seen_at   INTEGER NOT NULL,
    PRIMARY KEY (stream_id, key)
) STRICT, WITHOUT ROWID;

-- The last decision of each kind for a key that was neither unchanged nor announced.
CREATE TABLE decision (
    stream_id INTEGER NOT NULL,
    key       TEXT NOT NULL,
    what      INTEGER NOT NULL,
    seen_by   INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    detail    TEXT NOT NULL,
    PRIMARY KEY (stream_id, key, what)
) STRICT, WITHOUT ROWID;
CREATE INDEX decision_age ON decision(at);

-- A ring of the last runs of each stream.
CREATE TABLE run (
    stream_id INTEGER NOT NULL,
    slot      INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    ended_at  INTEGER NOT NULL,
    result    INTEGER NOT NULL,
    records   INTEGER NOT NULL,
    changes   INTEGER NOT NULL,
    pages     INTEGER NOT NULL,
    duration  INTEGER NOT NULL,
    error     TEXT,
    PRIMARY KEY (stream_id, slot)
) STRICT, WITHOUT ROWID;
