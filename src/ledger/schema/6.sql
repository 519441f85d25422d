-- Schema 6. Append-only: once landed, a step is never edited; the next change is the next file.

-- Operational state, as all rollups are: the decisions of a block, and what statistics and pickers group them by. A block without
-- a row here is grouped by its values.
CREATE TABLE op_rollup_decisions (
    block         INTEGER PRIMARY KEY,
    -- Which entries are decisions, as `bits` in op_rollup_values.
    places        BLOB NOT NULL,
    -- For each decision, in order, the number of its set, from 1, or 0 for none: a list of sets (32 bits with how many there are, 32
    -- bits with the length of each, then their members, 64 bits each), followed by one byte for each decision where there are fewer
    -- than 256 sets, else two. All little-endian. The members are values as in op_rollup_values; of `effect` flags (1 allow, 2 deny,
    -- 4 require_approval, 8 not evaluated completely); of times their classes, sixteen for each doubling.
    effect        BLOB NOT NULL,
    outcome       BLOB NOT NULL,
    server        BLOB NOT NULL,
    tool          BLOB NOT NULL,
    policy        BLOB NOT NULL,
    agent         BLOB NOT NULL,
    evaluation_us BLOB NOT NULL,
    duration_us   BLOB NOT NULL,
    team          BLOB NOT NULL,
    user          BLOB NOT NULL,
    subject       BLOB NOT NULL
) STRICT;

-- Entries of a block whose payload was removed since the block was stored, as `bits` in op_rollup_values: what the block says of
-- their payload is not true any more. The block is made again soon, and has none then.
ALTER TABLE op_rollup_blocks ADD COLUMN gone BLOB;
