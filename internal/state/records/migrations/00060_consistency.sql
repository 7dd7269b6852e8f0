-- +goose Up
-- '' is crash consistent, as every position is; 'application' adds that file systems were frozen and applications told.
ALTER TABLE recovery_point ADD COLUMN consistency TEXT NOT NULL DEFAULT '';

CREATE TABLE point_request (
    server_id TEXT NOT NULL PRIMARY KEY REFERENCES source_server (id) ON DELETE CASCADE,
    body      TEXT NOT NULL
);

-- +goose Down
DROP TABLE point_request;
ALTER TABLE recovery_point DROP COLUMN consistency;
