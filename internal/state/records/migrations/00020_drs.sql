-- What only DRS has: launch configurations and actions, source networks, extended servers, recovery instances.

-- +goose Up
CREATE TABLE drs_launch_template (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE INDEX drs_launch_template_by_scope ON drs_launch_template (account, service, created_at, id);

CREATE TABLE drs_launch_config (
    server_id TEXT NOT NULL PRIMARY KEY REFERENCES source_server (id) ON DELETE CASCADE,
    body      TEXT NOT NULL
);

-- A resource is a server or a template; the column that it is in makes the action go with it.
CREATE TABLE drs_launch_action (
    resource    TEXT NOT NULL,
    id          TEXT NOT NULL,
    ord         BIGINT NOT NULL,
    server_id   TEXT REFERENCES source_server (id) ON DELETE CASCADE,
    template_id TEXT REFERENCES drs_launch_template (id) ON DELETE CASCADE,
    body        TEXT NOT NULL,
    PRIMARY KEY (resource, id)
);
CREATE INDEX drs_launch_action_by_order ON drs_launch_action (resource, ord, id);
CREATE INDEX drs_launch_action_by_server ON drs_launch_action (server_id);
CREATE INDEX drs_launch_action_by_template ON drs_launch_action (template_id);

CREATE TABLE source_network (
    id             TEXT NOT NULL PRIMARY KEY,
    account        TEXT NOT NULL,
    service        TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    origin_account TEXT NOT NULL,
    origin_region  TEXT NOT NULL,
    body           TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE INDEX source_network_by_scope ON source_network (account, service, created_at, id);

-- The staging server has no foreign key: an extension outlives it, and says so.
CREATE TABLE extension (
    server_id       TEXT NOT NULL PRIMARY KEY REFERENCES source_server (id) ON DELETE CASCADE,
    account         TEXT NOT NULL,
    service         TEXT NOT NULL,
    staging_account TEXT NOT NULL,
    staging_server  TEXT NOT NULL,
    body            TEXT NOT NULL
);
CREATE UNIQUE INDEX extension_by_staging_server ON extension (account, service, staging_account, staging_server);

CREATE TABLE recovery_instance (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    server_id  TEXT NOT NULL,
    body       TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE INDEX recovery_instance_by_scope ON recovery_instance (account, service, created_at, id);
CREATE INDEX recovery_instance_by_server ON recovery_instance (server_id);

-- +goose Down
DROP TABLE recovery_instance;
DROP TABLE extension;
DROP TABLE source_network;
DROP TABLE drs_launch_action;
DROP TABLE drs_launch_config;
DROP TABLE drs_launch_template;
