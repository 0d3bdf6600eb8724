-- Sources keep the identity they were first stored under: it is part of every event id.
CREATE TABLE source (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    identity      TEXT NOT NULL UNIQUE,
    paused_by     TEXT,
    paused_reason TEXT
) STRICT;

CREATE TABLE stream (
    id            INTEGER PRIMARY KEY,
    source_id     INTEGER NOT NULL REFERENCES source(id),
    name          TEXT NOT NULL,
    configured    INTEGER NOT NULL,
    polled        INTEGER NOT NULL,
    phase         INTEGER NOT NULL,
    definition    TEXT NOT NULL,
    comparison    TEXT NOT NULL,
    change_number INTEGER NOT NULL DEFAULT 0,
    next_number   INTEGER NOT NULL DEFAULT 0,
    live          INTEGER NOT NULL DEFAULT 0,
    mark          TEXT,
    validators    TEXT,
    resume        TEXT,
    started_at    INTEGER,
    listed_once   INTEGER NOT NULL DEFAULT 0,
    base_revision INTEGER NOT NULL DEFAULT 0,
    releasing     INTEGER NOT NULL DEFAULT 0,
    next_poll_at  INTEGER,
    last_poll_at  INTEGER,
    last_ok_at    INTEGER,
    failures      INTEGER NOT NULL DEFAULT 0,
    last_result   INTEGER,
    last_records  INTEGER NOT NULL DEFAULT 0,
    last_changes  INTEGER NOT NULL DEFAULT 0,
    last_duration INTEGER NOT NULL DEFAULT 0,
    last_error    TEXT,
    UNIQUE (source_id, name)
) STRICT;
CREATE INDEX stream_due ON stream(next_poll_at) WHERE polled = 1 AND configured = 1;

-- Small rows in key order: one look-up per record of every poll (hence WITHOUT ROWID and no body here).
CREATE TABLE record (
    stream_id       INTEGER NOT NULL,
    key             TEXT NOT NULL,
    number          INTEGER NOT NULL,
    fingerprint     BLOB NOT NULL,
    raw_hash        BLOB,
    webhook_form    BLOB,
    version         TEXT,
    version_changes INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    change_number   INTEGER NOT NULL,
    flags           INTEGER NOT NULL,
    absences        INTEGER NOT NULL,
    PRIMARY KEY (stream_id, key)
) STRICT, WITHOUT ROWID;

-- Bodies by (stream, record number, way) packed into one integer: new records are appended, whatever their keys.
CREATE TABLE record_body (
    id   INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE set_aside (
    id        INTEGER PRIMARY KEY,
    stream_id INTEGER NOT NULL,
    seen_at   INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    raw       BLOB NOT NULL
) STRICT;

CREATE TABLE journal (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    stream_id INTEGER NOT NULL,
    time      INTEGER,
    place     INTEGER NOT NULL,
    key       TEXT NOT NULL,
    asked_at  INTEGER NOT NULL,
    record    BLOB
) STRICT;
CREATE INDEX journal_release ON journal(stream_id, time, place);

-- Deliveries made with an event stand side by side (first_delivery, delivery_count); replays are found by their own index.
CREATE TABLE event (
    seq            INTEGER PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    stream_id      INTEGER NOT NULL,
    event_type     TEXT NOT NULL,
    kind           INTEGER NOT NULL,
    key            TEXT NOT NULL,
    revision       INTEGER NOT NULL,
    time           INTEGER NOT NULL,
    seen_at        INTEGER NOT NULL,
    seen_by        INTEGER NOT NULL,
    first_sight    INTEGER NOT NULL,
    test           INTEGER NOT NULL,
    fingerprint    BLOB NOT NULL,
    inbound_id     INTEGER,
    first_delivery INTEGER NOT NULL,
    delivery_count INTEGER NOT NULL
) STRICT;
CREATE INDEX event_inbound ON event(inbound_id) WHERE inbound_id IS NOT NULL;

CREATE TABLE event_body (
    seq      INTEGER PRIMARY KEY,
    data     BLOB,
    previous BLOB,
    changed  BLOB
) STRICT;

CREATE TABLE handler (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    configured    INTEGER NOT NULL,
    enabled       INTEGER NOT NULL,
    paused_by     TEXT,
    paused_reason TEXT,
    wait_until    INTEGER,
    pending       INTEGER NOT NULL DEFAULT 0,
    held          INTEGER NOT NULL DEFAULT 0,
    delivered     INTEGER NOT NULL DEFAULT 0,
    failed        INTEGER NOT NULL DEFAULT 0,
    last_attempt  INTEGER
) STRICT;

-- state: 0 pending, 1 queued behind an earlier one of its order, 2 held, 3 delivered, 4 failed; below 3 is unsettled.
CREATE TABLE delivery (
    seq          INTEGER PRIMARY KEY,
    event_seq    INTEGER NOT NULL,
    handler_id   INTEGER NOT NULL,
    order_hash   INTEGER,
    state        INTEGER NOT NULL,
    hold         INTEGER,
    due_at       INTEGER NOT NULL,
    first_due_at INTEGER NOT NULL,
    counted      INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    replay       INTEGER NOT NULL,
    settled_at   INTEGER
) STRICT;
CREATE INDEX delivery_due ON delivery(handler_id, due_at, first_due_at) WHERE state = 0;
CREATE INDEX delivery_order ON delivery(handler_id, order_hash) WHERE state < 3 AND order_hash IS NOT NULL;
CREATE INDEX delivery_held ON delivery(handler_id, hold) WHERE state = 2;
CREATE INDEX delivery_failed ON delivery(event_seq) WHERE state = 4;
CREATE INDEX delivery_replay ON delivery(event_seq) WHERE replay = 1;

-- Orders whose later deliveries are held, because one of them failed and the handler says so.
CREATE TABLE held_order (
    handler_id INTEGER NOT NULL,
    order_hash INTEGER NOT NULL,
    PRIMARY KEY (handler_id, order_hash)
) STRICT, WITHOUT ROWID;

-- seq is the order of visibility: what `tail` follows.
CREATE TABLE attempt (
    seq             INTEGER PRIMARY KEY,
    delivery_seq    INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    started_at      INTEGER NOT NULL,
    duration        INTEGER NOT NULL,
    result          INTEGER NOT NULL,
    status          INTEGER,
    state           INTEGER NOT NULL,
    next_attempt_at INTEGER,
    error           TEXT,
    answer          BLOB NOT NULL
) STRICT;
CREATE INDEX attempt_delivery ON attempt(delivery_seq);

-- state: 0 pending, 1 done, 2 ignored, 3 unreadable.
CREATE TABLE inbound (
    id          INTEGER PRIMARY KEY,
    source_id   INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    reason      TEXT
) STRICT;
CREATE INDEX inbound_pending ON inbound(source_id) WHERE state = 0;
CREATE INDEX inbound_odd ON inbound(state) WHERE state > 1;

CREATE TABLE inbound_body (
    id      INTEGER PRIMARY KEY,
    method  TEXT NOT NULL,
    target  TEXT NOT NULL,
    headers TEXT NOT NULL,
    body    BLOB NOT NULL
) STRICT;

-- Message ids outlive the inbounds they came with, so that a late copy is still known.
CREATE TABLE inbound_message (
    id          INTEGER PRIMARY KEY,
    source_id   INTEGER NOT NULL,
    message_id  TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    UNIQUE (source_id, message_id)
) STRICT;

CREATE TABLE problem (
    kind         TEXT NOT NULL,
    subject      TEXT NOT NULL,
    message      TEXT NOT NULL,
    opened_at    INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

-- Numbers that must not come back after the rows that had them are pruned.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
