-- +goose Up
CREATE TABLE wave (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    name       TEXT NOT NULL,
    archived   BIGINT NOT NULL,
    body       TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE UNIQUE INDEX wave_by_name ON wave (account, service, name);
CREATE INDEX wave_by_scope ON wave (account, service, created_at, id);
CREATE INDEX wave_by_archived ON wave (account, service, archived);

CREATE TABLE application (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    name       TEXT NOT NULL,
    archived   BIGINT NOT NULL,
    wave_id    TEXT NOT NULL,
    body       TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE UNIQUE INDEX application_by_name ON application (account, service, name);
CREATE INDEX application_by_scope ON application (account, service, created_at, id);
CREATE INDEX application_by_archived ON application (account, service, archived);
CREATE INDEX application_by_wave ON application (account, service, wave_id, created_at, id) WHERE wave_id <> '';

-- What applications and waves are summed up from.
ALTER TABLE source_server ADD COLUMN application_id TEXT NOT NULL DEFAULT '';
CREATE INDEX source_server_by_application ON source_server (account, service, application_id, created_at, id) WHERE deleting = 0;
ALTER TABLE replication ADD COLUMN first_byte_at BIGINT NOT NULL DEFAULT 0;

CREATE TABLE connector (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE INDEX connector_by_scope ON connector (account, service, created_at, id);

CREATE TABLE vcenter_client (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE INDEX vcenter_client_by_scope ON vcenter_client (account, service, created_at, id);

CREATE INDEX initialisation_by_service ON initialisation (service, account);

-- +goose Down
DROP INDEX initialisation_by_service;
DROP TABLE vcenter_client;
DROP TABLE connector;
ALTER TABLE replication DROP COLUMN first_byte_at;
DROP INDEX source_server_by_application;
ALTER TABLE source_server DROP COLUMN application_id;
DROP TABLE application;
DROP TABLE wave;
