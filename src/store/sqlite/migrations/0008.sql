-- Since when a handler is closed (paused, not enabled, not configured), and for how long it was closed in all before, in milliseconds. A delivery
-- keeps what that sum was when it became due: the time that its handler was closed since is no part of its age.
ALTER TABLE handler ADD COLUMN closed_at INTEGER;
ALTER TABLE handler ADD COLUMN closed_for INTEGER NOT NULL DEFAULT 0;
ALTER TABLE delivery ADD COLUMN closed_before INTEGER NOT NULL DEFAULT 0;
