-- Times are Unix nanoseconds, UTC. body is the record as JSON; the columns beside it are those that
-- queries need. A record's column and body are written together and the body wins when read.
-- Every migration runs on SQLite and on PostgreSQL: TEXT, BIGINT and BYTEA only, truth as 0 or 1.

-- +goose Up
CREATE TABLE access_key (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL
);
CREATE INDEX access_key_by_account ON access_key (account, created_at, id);

CREATE TABLE initialisation (
    account TEXT NOT NULL,
    service TEXT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (account, service)
);

CREATE TABLE template (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE INDEX template_by_scope ON template (account, service, created_at, id);

CREATE TABLE source_server (
    id               TEXT NOT NULL PRIMARY KEY,
    account          TEXT NOT NULL,
    service          TEXT NOT NULL,
    identity         TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    archived         BIGINT NOT NULL,
    deleting         BIGINT NOT NULL,
    life_cycle       TEXT NOT NULL,
    replication_type TEXT NOT NULL,
    body             TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE UNIQUE INDEX source_server_by_identity ON source_server (account, service, identity) WHERE deleting = 0;
CREATE INDEX source_server_by_scope ON source_server (account, service, created_at, id) WHERE deleting = 0;

-- What a server can be found by besides its id: instance id, VMware uuid, MAC addresses.
CREATE TABLE server_hardware (
    value     TEXT NOT NULL,
    server_id TEXT NOT NULL REFERENCES source_server (id) ON DELETE CASCADE,
    PRIMARY KEY (value, server_id)
);
CREATE INDEX server_hardware_by_server ON server_hardware (server_id);

CREATE TABLE replication (
    server_id TEXT NOT NULL PRIMARY KEY REFERENCES source_server (id) ON DELETE CASCADE,
    state     TEXT NOT NULL,
    body      TEXT NOT NULL
);
CREATE INDEX replication_by_state ON replication (state, server_id);

CREATE TABLE recovery_point (
    id        TEXT NOT NULL PRIMARY KEY,
    account   TEXT NOT NULL,
    service   TEXT NOT NULL,
    server_id TEXT NOT NULL REFERENCES source_server (id) ON DELETE CASCADE,
    expected  BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    position  BIGINT NOT NULL -- the 64 bits of an unsigned number
);
CREATE UNIQUE INDEX recovery_point_by_server ON recovery_point (server_id, expected);

-- +goose Down
DROP TABLE recovery_point;
DROP TABLE replication;
DROP TABLE server_hardware;
DROP TABLE source_server;
DROP TABLE template;
DROP TABLE initialisation;
DROP TABLE access_key;
