-- What an attempt sent and where its time went, as JSON; absent where nothing is known.
ALTER TABLE attempt ADD COLUMN detail TEXT;
