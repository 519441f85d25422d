-- Schema 3. Append-only: once landed, a step is never edited; the next change is the next file.

-- The few entries that say what became of others: which payloads were pruned or erased, and which are held. A query that is to
-- use this index names the kinds one by one, as here.
CREATE INDEX leaves_acts ON leaves (kind) WHERE kind = 'prune' OR kind = 'erase' OR kind = 'hold';
