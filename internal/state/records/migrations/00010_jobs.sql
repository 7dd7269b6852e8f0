-- +goose Up
CREATE TABLE job (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    service    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    finished   BIGINT NOT NULL,
    body       TEXT NOT NULL,
    FOREIGN KEY (account, service) REFERENCES initialisation (account, service)
);
CREATE INDEX job_by_scope ON job (account, service, created_at, id);
CREATE INDEX job_unfinished ON job (created_at, id) WHERE finished = 0;

-- Who takes part in an unfinished job. The key is the rule that nobody is in two.
CREATE TABLE job_subject (
    subject TEXT NOT NULL PRIMARY KEY,
    job_id  TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    account TEXT NOT NULL,
    service TEXT NOT NULL
);
CREATE INDEX job_subject_by_job ON job_subject (job_id);
CREATE INDEX job_subject_by_scope ON job_subject (account, service, job_id);

CREATE TABLE job_event (
    job_id TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    seq    BIGINT NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
);

-- +goose Down
DROP TABLE job_event;
DROP TABLE job_subject;
DROP TABLE job;
