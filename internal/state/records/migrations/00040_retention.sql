-- +goose Up
-- A pin on a recovery point keeps the point: the reference has no ON DELETE. A server's end takes both.
CREATE TABLE recovery_pin (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    server_id  TEXT NOT NULL REFERENCES source_server (id) ON DELETE CASCADE,
    point_id   TEXT REFERENCES recovery_point (id),
    position   BIGINT NOT NULL, -- the 64 bits of an unsigned number
    owner      TEXT NOT NULL,
    purpose    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL
);
CREATE INDEX recovery_pin_by_scope ON recovery_pin (account, service, created_at, id);
CREATE INDEX recovery_pin_by_server ON recovery_pin (server_id, created_at, id);
CREATE INDEX recovery_pin_by_point ON recovery_pin (point_id);
CREATE UNIQUE INDEX recovery_pin_by_owner ON recovery_pin (owner, server_id, position);

CREATE TABLE journal_settings (
    server_id TEXT NOT NULL PRIMARY KEY REFERENCES source_server (id) ON DELETE CASCADE,
    body      TEXT NOT NULL
);

-- +goose Down
DROP TABLE journal_settings;
DROP TABLE recovery_pin;
