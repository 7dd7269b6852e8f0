-- +goose Up
-- Servers that exist are found by it when they have been written again.
ALTER TABLE source_server ADD COLUMN user_provided_id TEXT NOT NULL DEFAULT '';
CREATE INDEX source_server_by_user_id ON source_server (account, service, user_provided_id, created_at, id)
    WHERE deleting = 0 AND user_provided_id <> '';

-- +goose Down
DROP INDEX source_server_by_user_id;
ALTER TABLE source_server DROP COLUMN user_provided_id;
