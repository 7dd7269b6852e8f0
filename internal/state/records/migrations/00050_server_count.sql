-- +goose Up
-- What quotas bound is asked at every registration: it is kept, not counted, as accounts have many servers. The statements
-- that write source_server and replication keep it true.
CREATE TABLE server_count (
    account     TEXT NOT NULL,
    service     TEXT NOT NULL,
    total       BIGINT NOT NULL,
    archived    BIGINT NOT NULL,
    replicating BIGINT NOT NULL,
    PRIMARY KEY (account, service)
);
INSERT INTO server_count (account, service, total, archived, replicating)
SELECT v.account, v.service, COUNT(*), SUM(v.archived), SUM(CASE WHEN r.state NOT IN ('STOPPED', 'DISCONNECTED') THEN 1 ELSE 0 END)
FROM source_server v LEFT JOIN replication r ON r.server_id = v.id
WHERE v.deleting = 0
GROUP BY v.account, v.service;

-- +goose Down
DROP TABLE server_count;
