//! Recorded calls as they were stored: text, for whoever replays many of them and parses only what is needed.

use rusqlite::params_from_iter;

use super::filter::Filter;
use super::{LedgerError, Reader};

/// A decision entry with what evaluating it again takes, each part as its stored JSON text. Parts that were erased are
/// absent.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Leaf index.
    pub seq: i64,
    /// ULID that joins the entries of one call; absent where no caller waited for the refusal.
    pub call_id: Option<String>,
    /// The caller's id for the request, or docket's.
    pub request_id: Option<String>,
    /// RFC 3339, UTC, milliseconds.
    pub occurred_at: String,
    /// `allow`, `deny` or `require_approval`.
    pub decision: String,
    /// Digest of the manifest in force.
    pub manifest_sha: Option<String>,
    /// `input.subject`.
    pub subject: Option<String>,
    /// `input.action`.
    pub action: Option<String>,
    /// `input.resource`.
    pub resource: Option<String>,
    /// `input.context` without its arguments.
    pub context: Option<String>,
    /// `input.context.arguments`.
    pub arguments: Option<String>,
    /// The policies that produced the effect.
    pub determining_policies: Option<String>,
    /// What the winning rules said.
    pub diagnostics: Option<String>,
    /// What redaction took away; absent where that is nothing.
    pub redactions: Option<String>,
}

const SELECT: &str = "SELECT l.seq, l.call_id, l.request_id, l.occurred_at, l.decision, l.manifest_sha, p.subject, p.action, \
     p.resource, p.context, p.arguments, p.determining_policies, p.diagnostics, p.redactions \
     FROM leaves l LEFT JOIN payloads p ON p.seq = l.seq";

impl Reader {
    /// Decisions that match, oldest first, `filter.limit` of them at most and beginning after `filter.after_seq`: a reader
    /// of everything asks again and again, so that no long transaction keeps the ledger's log from being folded in. Parts that
    /// are no text count as absent.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn recorded(&self, filter: &Filter) -> Result<Vec<Recorded>, LedgerError> {
        let compiled = filter.clone().decisions().compile();
        let limit = filter.limit.unwrap_or(u32::MAX);
        let sql =
            format!("{SELECT}{}{} ORDER BY l.seq LIMIT {limit}", compiled.outcome_join(), compiled.clauses);
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_and_then(params_from_iter(compiled.values.iter()), |row| {
                let text = |column: usize| -> rusqlite::Result<Option<String>> {
                    let value = row.get_ref(column)?;
                    Ok(value.as_str_or_null().ok().flatten().map(str::to_owned))
                };
                Ok(Recorded {
                    seq: row.get(0)?,
                    call_id: row.get(1)?,
                    request_id: row.get(2)?,
                    occurred_at: row.get(3)?,
                    decision: row.get(4)?,
                    manifest_sha: row.get(5)?,
                    subject: text(6)?,
                    action: text(7)?,
                    resource: text(8)?,
                    context: text(9)?,
                    arguments: text(10)?,
                    determining_policies: text(11)?,
                    diagnostics: text(12)?,
                    redactions: text(13)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Where a filter's decisions lie: the sequence numbers before the first that can match and after the last, and how many
    /// there are, counting the newest `count` only. Both bounds hold for [`Reader::recorded`] in place of the filter's times,
    /// which would be looked up for each batch.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn extent(&self, filter: &Filter, count: Option<u32>) -> Result<Extent, LedgerError> {
        let compiled = filter.clone().decisions().compile();
        let newest = count.map_or_else(String::new, |count| format!(" ORDER BY l.seq DESC LIMIT {count}"));
        let sql = format!(
            "SELECT coalesce(min(seq) - 1, -1), coalesce(max(seq) + 1, 0), count(*) FROM (SELECT l.seq AS seq FROM leaves l{}{}{newest})",
            compiled.joins(),
            compiled.clauses
        );
        self.with(|connection| {
            connection.prepare_cached(&sql)?.query_row(params_from_iter(compiled.values.iter()), |row| {
                let count = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
                Ok(Extent { after_seq: row.get(0)?, before_seq: row.get(1)?, count })
            })
        })
    }
}

/// Where matching decisions lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Before the first.
    pub after_seq: i64,
    /// After the last.
    pub before_seq: i64,
    /// How many match.
    pub count: u64,
}
