-- +goose Up
-- For lists of servers by what few values tell apart, in the order of the list.
CREATE INDEX source_server_by_archived ON source_server (account, service, archived, created_at, id) WHERE deleting = 0;
CREATE INDEX source_server_by_kind ON source_server (account, service, archived, life_cycle, replication_type, created_at, id)
    WHERE deleting = 0;

-- +goose Down
DROP INDEX source_server_by_kind;
DROP INDEX source_server_by_archived;
