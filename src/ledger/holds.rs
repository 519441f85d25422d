//! Holds: records that no sweep, prune or erasure may touch, until they are released.
//!
//! There is no table of holds: which are active follows from the `hold` entries, so they survive whatever the entries survive,
//! and the writer reads them in the transaction that removes something. A hold is added and released like any entry.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::LedgerError;
use super::reader::Reader;

/// What a hold keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every entry of a request.
    RequestId(String),
    /// Every entry of a tenant.
    Zone(String),
    /// Every entry whose subject, user or agent this is, with the outcomes and traces of its calls.
    Subject(String),
}

/// How it is told: one of three members.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "a shape for the contract")]
struct HoldScope {
    /// Every entry of this request.
    request_id: Option<String>,
    /// Every entry of this tenant.
    zone: Option<String>,
    /// Every entry of this subject, user or agent.
    subject: Option<String>,
}

/// An active hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Hold {
    /// ULID; `docket ledger hold release` takes it.
    pub hold_id: String,
    /// What it keeps.
    #[serde(flatten)]
    #[schema(value_type = HoldScope)]
    pub scope: Scope,
    /// Why, as it was given.
    pub reason: Option<String>,
    /// Who placed it.
    pub principal: Option<String>,
    /// Since when, RFC 3339, UTC.
    pub since: String,
}

/// A hold as it was placed, with what it keeps at that moment. What is recorded later and matches, it keeps as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = PlacedHold)]
pub struct Placed {
    /// The hold.
    #[serde(flatten)]
    pub hold: Hold,
    /// None, where nothing recorded so far matches.
    pub covers: Covered,
}

/// How many payloads a hold keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = HoldCovers)]
pub struct Covered {
    /// Entries, apart from those that say what became of others.
    pub entries: u64,
    /// Calls they are of.
    pub calls: u64,
}

/// What an entry of kind `hold` says. The id of a held subject is not in it but in the part `subject`, where erasure finds it.
#[derive(Deserialize)]
struct Told {
    hold_id: String,
    scope: Option<BTreeMap<String, serde_json::Value>>,
    reason: Option<String>,
    principal: Option<String>,
}

/// The active holds, oldest first.
pub(super) fn active(connection: &Connection) -> rusqlite::Result<Vec<Hold>> {
    let mut select = connection.prepare_cached(
        "SELECT l.event_type, l.occurred_at, p.subject_id, p.metadata FROM leaves l JOIN payloads p ON p.seq = l.seq \
         WHERE l.kind = 'hold' ORDER BY l.seq",
    )?;
    let mut rows = select.query([])?;
    let mut holds: Vec<Hold> = Vec::new();
    while let Some(row) = rows.next()? {
        let metadata = row.get_ref(3)?.as_bytes().unwrap_or_default();
        follow(&mut holds, row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?, row.get(2)?, metadata);
    }
    Ok(holds)
}

/// Adds or ends a hold, as an entry of kind `hold` says.
pub(super) fn follow(
    holds: &mut Vec<Hold>,
    event_type: &str,
    occurred_at: &str,
    subject: Option<String>,
    metadata: &[u8],
) {
    // What cannot be read was written over, which `docket verify` names.
    let Ok(Told { hold_id, scope, reason, principal }) = serde_json::from_slice(metadata) else { return };
    if event_type == RELEASED {
        holds.retain(|hold| hold.hold_id != hold_id);
        return;
    }
    let text = |name: &str| scope.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let named = text("request_id").map(Scope::RequestId).or_else(|| text("zone").map(Scope::Zone));
    if let Some(scope) = named.or_else(|| subject.map(Scope::Subject)) {
        holds.push(Hold { hold_id, scope, reason, principal, since: occurred_at.to_owned() });
    }
}

/// `event_type` of an entry that places a hold.
pub(super) const ADDED: &str = "hold.added";

/// `event_type` of an entry that ends one.
pub(super) const RELEASED: &str = "hold.released";

/// The first hold that keeps an entry.
pub(super) fn keeping<'a>(
    connection: &Connection,
    holds: &'a [Hold],
    seq: i64,
) -> rusqlite::Result<Option<&'a Hold>> {
    if holds.is_empty() {
        return Ok(None);
    }
    // A call's outcome and trace do not name its subject; its decision does.
    let mut select = connection.prepare_cached(
        "SELECT l.request_id, l.zone, p.subject_id, p.user, p.agent, dp.subject_id, dp.user, dp.agent \
         FROM leaves l LEFT JOIN payloads p ON p.seq = l.seq \
         LEFT JOIN leaves d ON d.call_id = l.call_id AND d.kind = 'decision' AND d.seq <> l.seq \
         LEFT JOIN payloads dp ON dp.seq = d.seq WHERE l.seq = ?",
    )?;
    let marks = select
        .query_row(params![seq], |row| {
            (0..8).map(|column| row.get::<_, Option<String>>(column)).collect::<rusqlite::Result<Vec<_>>>()
        })
        .optional()?
        .unwrap_or_default();
    Ok(holds.iter().find(|hold| {
        let (wanted, columns) = match &hold.scope {
            Scope::RequestId(id) => (id, 0..1),
            Scope::Zone(zone) => (zone, 1..2),
            Scope::Subject(id) => (id, 2..8),
        };
        marks.get(columns).is_some_and(|marks| marks.iter().any(|mark| mark.as_ref() == Some(wanted)))
    }))
}

impl Reader {
    /// The active holds, oldest first.
    ///
    /// # Errors
    /// [`LedgerError`] when the file cannot be opened or read.
    pub fn holds(&self) -> Result<Vec<Hold>, LedgerError> {
        self.with(active)
    }

    /// What a scope matches now, by the rules of [`keeping`].
    pub(super) fn covered(&self, scope: &Scope) -> Result<Covered, LedgerError> {
        let (matches, wanted) = match scope {
            Scope::RequestId(id) => ("l.request_id = ?1", id),
            Scope::Zone(zone) => ("l.zone = ?1", zone),
            Scope::Subject(id) => (
                "(?1 IN (p.subject_id, p.user, p.agent) OR l.call_id IN (SELECT d.call_id FROM leaves d \
                 JOIN payloads dp ON dp.seq = d.seq WHERE d.kind = 'decision' \
                 AND ?1 IN (dp.subject_id, dp.user, dp.agent)))",
                id,
            ),
        };
        let sql = format!(
            "SELECT count(*), count(DISTINCT l.call_id) FROM leaves l JOIN payloads p ON p.seq = l.seq \
             WHERE l.kind NOT IN ('prune', 'erase', 'hold') AND {matches}"
        );
        self.with(|connection| {
            connection.query_row(&sql, [wanted], |row| {
                let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
                Ok(Covered { entries: count(0)?, calls: count(1)? })
            })
        })
    }
}
