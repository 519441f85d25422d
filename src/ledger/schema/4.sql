-- Schema 4. Append-only: once landed, a step is never edited; the next change is the next file.

-- Rollups: what finds the entries of a filter, and counts them, without an index that every append would have to keep. They are
-- operational state, made from leaves and payloads after the fact, and can be emptied at any time: docket makes them again.
-- A block is 4,096 entries, numbered from 0. One that has no row here is read entry by entry.
CREATE TABLE op_rollup_blocks (
    block       INTEGER PRIMARY KEY,
    -- The earliest and the latest time in it, in milliseconds since the Unix epoch.
    first_ms    INTEGER NOT NULL,
    last_ms     INTEGER NOT NULL,
    -- One LEB128 number for each entry: zigzag steps from first_ms on; microseconds plus one, or zero where there are none.
    times       BLOB NOT NULL,
    evaluations BLOB NOT NULL,
    durations   BLOB NOT NULL
) STRICT;

-- Which entries of a block have a value: 512 bytes with a bit for each, or, where that is shorter, two bytes little-endian with
-- the place of each. `value` is the start of the salted digest of column and text: no text that may have to be erased is in here.
CREATE TABLE op_rollup_values (
    block INTEGER NOT NULL,
    value INTEGER NOT NULL,
    bits  BLOB NOT NULL,
    PRIMARY KEY (block, value)
) STRICT, WITHOUT ROWID;

-- An entry that has the value, from which its text can be read.
CREATE TABLE op_rollup_names (
    value INTEGER PRIMARY KEY,
    name  TEXT NOT NULL,
    seq   INTEGER NOT NULL
) STRICT;

CREATE TABLE op_rollup_salt (salt BLOB NOT NULL) STRICT;
INSERT INTO op_rollup_salt VALUES (randomblob(16));
