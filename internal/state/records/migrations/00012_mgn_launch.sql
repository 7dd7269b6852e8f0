-- +goose Up
CREATE TABLE mgn_launch_template (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE INDEX mgn_launch_template_by_scope ON mgn_launch_template (account, service, created_at, id);

CREATE TABLE mgn_launch_config (
    server_id TEXT NOT NULL PRIMARY KEY REFERENCES source_server (id) ON DELETE CASCADE,
    body      TEXT NOT NULL
);

-- One of server_id and template_id is the owner; the other is NULL.
CREATE TABLE post_launch_action (
    owner       TEXT NOT NULL,
    id          TEXT NOT NULL,
    place       BIGINT NOT NULL,
    server_id   TEXT REFERENCES source_server (id) ON DELETE CASCADE,
    template_id TEXT REFERENCES mgn_launch_template (id) ON DELETE CASCADE,
    body        TEXT NOT NULL,
    PRIMARY KEY (owner, id)
);
CREATE UNIQUE INDEX post_launch_action_by_place ON post_launch_action (owner, place);
CREATE INDEX post_launch_action_by_server ON post_launch_action (server_id) WHERE server_id IS NOT NULL;
CREATE INDEX post_launch_action_by_template ON post_launch_action (template_id) WHERE template_id IS NOT NULL;

-- +goose Down
DROP TABLE post_launch_action;
DROP TABLE mgn_launch_config;
DROP TABLE mgn_launch_template;
