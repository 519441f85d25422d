-- Schema 5. Append-only: once landed, a step is never edited; the next change is the next file.

-- Operational state: what is stopped now. Entries of kind `block` say who stopped and released what, and when; a row is written and
-- removed in the transaction of its entry.
CREATE TABLE op_blocks (
    block_id  TEXT NOT NULL PRIMARY KEY,
    -- `agent`, `server` or `all`.
    what      TEXT NOT NULL,
    name      TEXT,
    reason    TEXT NOT NULL,
    principal TEXT NOT NULL,
    since_ms  INTEGER NOT NULL,
    until_ms  INTEGER
) STRICT, WITHOUT ROWID;

-- Operational state: who may look. `digest` is the SHA-256 of the token, which is nowhere; entries `api_key.*` say who made and
-- revoked which. A row is written and removed in the transaction of its entry.
CREATE TABLE op_tokens (
    token_id   TEXT NOT NULL PRIMARY KEY,
    digest     BLOB NOT NULL UNIQUE,
    name       TEXT NOT NULL UNIQUE,
    role       TEXT NOT NULL,
    -- A JSON array of tenants; NULL is every tenant.
    zones      TEXT,
    team       TEXT,
    user       TEXT,
    created_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_ms INTEGER
) STRICT, WITHOUT ROWID;
