-- A launch template lives as long as its source server; one without a server is a user's own.

-- +goose Up
CREATE TABLE launch_template (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    name       TEXT NOT NULL,
    service    TEXT NOT NULL,
    server_id  TEXT REFERENCES source_server (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL
);
CREATE UNIQUE INDEX launch_template_by_name ON launch_template (account, name);
CREATE UNIQUE INDEX launch_template_by_server ON launch_template (server_id);
CREATE INDEX launch_template_by_account ON launch_template (account, created_at, id);

CREATE TABLE launch_template_version (
    template_id TEXT NOT NULL REFERENCES launch_template (id) ON DELETE CASCADE,
    number      BIGINT NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (template_id, number)
);

-- +goose Down
DROP TABLE launch_template_version;
DROP TABLE launch_template;
