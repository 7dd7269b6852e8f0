-- Who may do what: accounts, their users, roles and policies, and temporary credentials.

-- +goose Up
CREATE TABLE account (
    id   TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE access_user (
    account TEXT NOT NULL,
    name    TEXT NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (account, name)
);

CREATE TABLE access_role (
    account TEXT NOT NULL,
    name    TEXT NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (account, name)
);

CREATE TABLE access_policy (
    account TEXT NOT NULL,
    name    TEXT NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (account, name)
);

CREATE TABLE access_session (
    key_id     TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    body       TEXT NOT NULL
);
CREATE INDEX access_session_by_account ON access_session (account, key_id);
CREATE INDEX access_session_by_expiry ON access_session (expires_at);

-- +goose Down
DROP TABLE access_session;
DROP TABLE access_policy;
DROP TABLE access_role;
DROP TABLE access_user;
DROP TABLE account;
