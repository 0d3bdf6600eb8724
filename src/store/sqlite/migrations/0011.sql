-- What is due is looked for among the live deliveries first and then among replayed ones, however many of these there are.
DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery(handler_id, replay, due_at, first_due_at) WHERE state = 0;
