-- +goose Up
CREATE TABLE transfer (
    id           TEXT NOT NULL PRIMARY KEY,
    account      TEXT NOT NULL,
    service      TEXT NOT NULL,
    kind         TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    client_token TEXT NOT NULL,
    finished     BIGINT NOT NULL,
    body         TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE INDEX transfer_by_scope ON transfer (account, service, kind, created_at, id);
CREATE UNIQUE INDEX transfer_by_token ON transfer (account, service, client_token) WHERE client_token <> '';
CREATE INDEX transfer_unfinished ON transfer (created_at, id) WHERE finished = 0;

CREATE TABLE transfer_error (
    transfer_id TEXT NOT NULL REFERENCES transfer (id) ON DELETE CASCADE,
    seq         BIGINT NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (transfer_id, seq)
);

-- Network migrations need no initialised service.
CREATE TABLE network_migration (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL
);
CREATE INDEX network_migration_by_scope ON network_migration (account, service, created_at, id);

CREATE TABLE network_execution (
    id            TEXT NOT NULL PRIMARY KEY,
    account       TEXT NOT NULL,
    service       TEXT NOT NULL,
    definition_id TEXT NOT NULL REFERENCES network_migration (id) ON DELETE CASCADE,
    created_at    BIGINT NOT NULL,
    status        TEXT NOT NULL,
    body          TEXT NOT NULL
);
CREATE INDEX network_execution_by_definition ON network_execution (definition_id, created_at, id);

-- +goose Down
DROP TABLE network_execution;
DROP TABLE network_migration;
DROP TABLE transfer_error;
DROP TABLE transfer;
