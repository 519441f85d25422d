-- Schema 1. Append-only: once landed, a step is never edited; the next change is the next file.
-- Parses in SQLite 3.40, the version of the `sqlite3` shell on common systems.

-- One row per entry, never updated, deleted or replaced. `leaf` holds the RFC 8785 bytes that are hashed into the tree; every other
-- column repeats a member of it, so that it can be searched, and is recomputed by verification.
CREATE TABLE leaves (
    seq               INTEGER PRIMARY KEY,
    leaf              TEXT NOT NULL,
    id                TEXT NOT NULL UNIQUE,
    kind              TEXT NOT NULL,
    event_type        TEXT NOT NULL,
    occurred_at       TEXT NOT NULL,
    call_id           TEXT,
    request_id        TEXT,
    zone              TEXT NOT NULL,
    mode              TEXT,
    decision          TEXT,
    evaluation_status TEXT,
    evaluation_us     INTEGER,
    outcome           TEXT,
    duration_us       INTEGER,
    forwarded         INTEGER NOT NULL,
    manifest_sha      TEXT
) STRICT;

CREATE INDEX leaves_request_id ON leaves (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX leaves_call_id ON leaves (call_id) WHERE call_id IS NOT NULL;
CREATE INDEX leaves_refused ON leaves (decision) WHERE decision IN ('deny', 'require_approval');

CREATE TRIGGER leaves_are_append_only_update BEFORE UPDATE ON leaves BEGIN
    SELECT RAISE(ABORT, 'leaves are append-only');
END;
CREATE TRIGGER leaves_are_append_only_delete BEFORE DELETE ON leaves BEGIN
    SELECT RAISE(ABORT, 'leaves are append-only');
END;
-- `INSERT OR REPLACE` deletes the row in its way without firing the trigger above.
CREATE TRIGGER leaves_are_append_only_insert BEFORE INSERT ON leaves
WHEN EXISTS (SELECT 1 FROM leaves WHERE seq = new.seq) OR EXISTS (SELECT 1 FROM leaves WHERE id = new.id) BEGIN
    SELECT RAISE(ABORT, 'leaves are append-only');
END;

-- The free-form parts of an entry, redacted, each committed to in the leaf as SHA-256(salt || bytes). `salts` holds 32
-- bytes for every part that is not NULL, in the order of the columns. Erasing an entry deletes this row.
CREATE TABLE payloads (
    seq                  INTEGER PRIMARY KEY REFERENCES leaves (seq),
    salts                BLOB NOT NULL,
    action               TEXT,
    arguments            TEXT,
    context              TEXT,
    determining_policies TEXT,
    diagnostics          TEXT,
    metadata             TEXT,
    redactions           TEXT,
    resource             TEXT,
    subject              TEXT,
    -- Repeat members of the parts above, for searching; they go with the row.
    agent                TEXT,
    user                 TEXT,
    team                 TEXT,
    server               TEXT,
    subject_id           TEXT,
    action_name          TEXT,
    resource_type        TEXT,
    resource_id          TEXT
) STRICT;

CREATE TRIGGER payloads_are_only_erased_update BEFORE UPDATE ON payloads BEGIN
    SELECT RAISE(ABORT, 'payloads are only erased');
END;
CREATE TRIGGER payloads_are_only_erased_insert BEFORE INSERT ON payloads
WHEN EXISTS (SELECT 1 FROM payloads WHERE seq = new.seq) BEGIN
    SELECT RAISE(ABORT, 'payloads are only erased');
END;

-- Manifests and policy files that any decision used, by the digest of their bytes (`sha256:…`).
CREATE TABLE digests (
    digest TEXT NOT NULL PRIMARY KEY,
    bytes  BLOB NOT NULL
) STRICT;

-- Operational state: forwarded calls whose outcome is not recorded yet.
CREATE TABLE op_open_calls (
    call_id TEXT NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIEW decisions AS
SELECT d.seq, d.id, d.call_id, d.event_type, d.occurred_at, d.request_id, d.mode, d.zone,
       p.subject_id AS subject, p.agent, p.user, p.team, p.server, p.action_name AS action,
       p.resource_type, p.resource_id AS resource,
       d.decision, d.evaluation_status, o.outcome, o.duration_us, d.evaluation_us, d.manifest_sha,
       p.determining_policies, p.diagnostics, p.arguments, p.context, p.metadata, p.redactions
FROM leaves d
LEFT JOIN payloads p ON p.seq = d.seq
LEFT JOIN leaves o ON o.call_id = d.call_id AND o.kind = 'outcome'
WHERE d.kind = 'decision';

CREATE VIEW outcomes AS
SELECT o.seq, o.id, o.call_id, o.event_type, o.occurred_at, o.request_id, o.mode, o.zone,
       p.subject_id AS subject, p.agent, p.user, p.team, p.server, p.action_name AS action,
       p.resource_type, p.resource_id AS resource, d.decision, o.outcome, o.duration_us, po.metadata
FROM leaves o
LEFT JOIN payloads po ON po.seq = o.seq
LEFT JOIN leaves d ON d.call_id = o.call_id AND d.kind = 'decision'
LEFT JOIN payloads p ON p.seq = d.seq
WHERE o.kind = 'outcome';
