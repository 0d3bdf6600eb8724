-- How often in a row a handler had to be left alone: while it is above zero, one delivery at a time is its probe.
ALTER TABLE handler ADD COLUMN strain INTEGER NOT NULL DEFAULT 0;
