-- What polling remembers of a stream beside its mark, of its own making.
ALTER TABLE stream ADD COLUMN memory TEXT;

-- What each credential has spent and how long it keeps quiet: a restart must not forget it.
CREATE TABLE budget (
    key    TEXT PRIMARY KEY,
    state  TEXT NOT NULL,
    put_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
