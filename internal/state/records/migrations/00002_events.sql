-- Events, and what webhooks have still to be told of them.

-- +goose Up
CREATE TABLE sequence (
    name  TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO sequence (name, value) VALUES ('event', 0);

CREATE TABLE event (
    seq     BIGINT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    subject TEXT NOT NULL,
    at      BIGINT NOT NULL,
    body    TEXT NOT NULL
);
CREATE INDEX event_by_account ON event (account, seq);
CREATE INDEX event_by_subject ON event (account, subject, seq);
CREATE INDEX event_by_time ON event (at);

-- What is told of a server the first time only.
CREATE TABLE event_told (
    server_id TEXT NOT NULL REFERENCES source_server (id) ON DELETE CASCADE,
    what      TEXT NOT NULL,
    PRIMARY KEY (server_id, what)
);

CREATE TABLE webhook (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body       TEXT NOT NULL
);
CREATE INDEX webhook_by_account ON webhook (account, created_at, id);

CREATE TABLE webhook_lane (
    webhook   TEXT NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
    subject   TEXT NOT NULL,
    after_seq BIGINT NOT NULL,
    attempts  BIGINT NOT NULL,
    next_at   BIGINT NOT NULL,
    PRIMARY KEY (webhook, subject)
);
CREATE INDEX webhook_lane_by_time ON webhook_lane (webhook, next_at, subject);

-- +goose Down
DROP TABLE webhook_lane;
DROP TABLE webhook;
DROP TABLE event_told;
DROP TABLE event;
DROP TABLE sequence;
