-- Tokens that providers gave, sealed; by a hash over the credential they belong to.
CREATE TABLE token (
    credential TEXT NOT NULL PRIMARY KEY,
    sealed     BLOB NOT NULL,
    put_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How it stands with the webhooks that we registered at providers by ourselves.
CREATE TABLE registration (
    source TEXT NOT NULL PRIMARY KEY,
    state  TEXT NOT NULL,
    put_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
