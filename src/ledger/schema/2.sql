-- Schema 2. Append-only: once landed, a step is never edited; the next change is the next file.

-- The RFC 6962 tree over the leaves. A row holds the hashes of the complete subtrees that the leaf of this number completes,
-- its own leaf hash first, each 32 bytes and the parent of the one before: node (level, index) is at offset 32 * level of row
-- ((index + 1) << level) - 1. Complete subtrees never change, so neither does a row.
CREATE TABLE nodes (
    seq    INTEGER PRIMARY KEY,
    hashes BLOB NOT NULL
) STRICT;

-- Signed tree heads: C2SP tlog-checkpoint bodies as signed-note. `size` repeats the second line.
CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;

CREATE TRIGGER nodes_are_append_only_update BEFORE UPDATE ON nodes BEGIN
    SELECT RAISE(ABORT, 'nodes are append-only');
END;
CREATE TRIGGER nodes_are_append_only_delete BEFORE DELETE ON nodes BEGIN
    SELECT RAISE(ABORT, 'nodes are append-only');
END;
CREATE TRIGGER nodes_are_append_only_insert BEFORE INSERT ON nodes
WHEN EXISTS (SELECT 1 FROM nodes WHERE seq = new.seq) BEGIN
    SELECT RAISE(ABORT, 'nodes are append-only');
END;
CREATE TRIGGER checkpoints_are_append_only_update BEFORE UPDATE ON checkpoints BEGIN
    SELECT RAISE(ABORT, 'checkpoints are append-only');
END;
CREATE TRIGGER checkpoints_are_append_only_delete BEFORE DELETE ON checkpoints BEGIN
    SELECT RAISE(ABORT, 'checkpoints are append-only');
END;
CREATE TRIGGER checkpoints_are_append_only_insert BEFORE INSERT ON checkpoints
WHEN EXISTS (SELECT 1 FROM checkpoints WHERE size = new.size) BEGIN
    SELECT RAISE(ABORT, 'checkpoints are append-only');
END;
