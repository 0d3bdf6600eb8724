-- What a change's parent handed down when it was found (JSON): names, order and ids may be made of it when the journal is released.
ALTER TABLE journal ADD COLUMN parent TEXT;
