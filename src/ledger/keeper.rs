//! The keeper: pruning, erasing and holding, as an operator, a request or the clock asks for it.
//!
//! It chooses entries on a reader's connection, and has the writer remove them a few at a time: between two acts appends have
//! the writer for at least as long as the act took. What may not be touched is decided by the writer, in the act's own
//! transaction. What erasing does besides is told in `erasing`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::entry::{Entry, Kind};
use super::erasure::{self, Remains, SETTLE_ATTEMPTS};
use super::holds::{self, Hold, Placed, Scope};
use super::keeping::{self, Act, MAX_ACT_ENTRIES, Removed};
use super::reader::Reader;
use super::retention::{Cut, Plan, Retention};
use super::writer::Job;
use super::{Ledger, LedgerError};
use crate::call::RequestId;
use crate::clock::Clock;
use crate::json::Object;
use crate::redact::Redactor;

/// Entries that are chosen at once: with their company they are one act.
const MAX_DUE: usize = MAX_ACT_ENTRIES / 3;

/// Between two looks at the clock, in milliseconds.
const LOOK_MS: u64 = 500;

/// Between two sweeps, in milliseconds of the clock that entries have.
const SWEEP_EVERY_MS: i64 = 600_000;

/// Who asks, and why.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// `admin`, or what else may act.
    pub principal: String,
    /// Where the request came from.
    pub peer: Option<String>,
    /// As it was given.
    pub reason: Option<String>,
    /// The request.
    pub request_id: Option<RequestId>,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = Kept)]
pub struct Summary {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Payloads that were removed, or would be.
    pub removed: u64,
    /// Payloads that holds kept.
    pub skipped: u64,
    /// Which holds did.
    pub holds: BTreeSet<String>,
    /// Entries that say so.
    pub acts: u64,
    /// Of a prune: whether the write-ahead log was truncated, in which removed payloads may still stand. Where a reader kept it,
    /// that is done once the reader has gone and somebody prunes, sweeps or erases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_truncated: Option<bool>,
    /// Of an erasure: the subject's calls under way, which were left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// Of an erasure: what is left of the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remains: Option<Remains>,
}

impl Summary {
    fn add(&mut self, removed: Removed) {
        self.removed += removed.count;
        self.skipped += removed.skipped;
        self.holds.extend(removed.holds);
        self.acts += u64::from(removed.act.is_some());
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum KeepingError {
    /// It must not be done so.
    #[error("{0}")]
    Refused(String),
    /// There is no such hold.
    #[error("there is no active hold `{0}`; `docket ledger hold list` lists them")]
    NoHold(String),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Prunes, erases and holds.
#[derive(Clone)]
pub struct Keeper {
    pub(super) ledger: Ledger,
    reader: Reader,
    redactor: Arc<Redactor>,
    pub(super) clock: Clock,
    retention: Arc<Retention>,
    /// One erasure at a time: each reads the whole file.
    pub(super) erasing: Arc<Mutex<()>>,
}

impl Keeper {
    /// Works on a ledger, within its retention.
    #[must_use]
    pub fn new(ledger: Ledger, redactor: Arc<Redactor>, clock: Clock, retention: Retention) -> Self {
        let (reader, retention) = (ledger.reader(), Arc::new(retention));
        Self { ledger, reader, redactor, clock, retention, erasing: Arc::default() }
    }

    /// Removes the payloads that a cut names.
    ///
    /// # Errors
    /// [`KeepingError::Refused`] where the cut undercuts the minimum retention; the ledger cannot be read or written. What was
    /// removed until then stays removed, and is recorded.
    pub async fn prune(&self, cut: Cut, actor: &Actor, dry_run: bool) -> Result<Summary, KeepingError> {
        let before_ms = cut.before_ms.unwrap_or(i64::MIN);
        self.retention.allows(before_ms, (self.clock.now_ms)()).map_err(KeepingError::Refused)?;
        let plan = Plan { cuts: vec![cut] };
        Ok(self.remove_due(plan, "payloads.pruned", Some(actor), dry_run).await?)
    }

    /// Removes the payloads that are older than the configured retention.
    ///
    /// # Errors
    /// The ledger cannot be read or written.
    pub async fn sweep(&self) -> Result<Summary, LedgerError> {
        match self.retention.due((self.clock.now_ms)()) {
            Some(plan) => self.remove_due(plan, "payloads.swept", None, false).await,
            None => Ok(Summary::default()),
        }
    }

    /// Sweeps and finishes erasures that were not, at once and now and then, for ever.
    pub async fn sweep_now_and_then(&self) {
        let (mut last_ms, mut unsettled) = (None, false);
        loop {
            let now_ms = (self.clock.now_ms)();
            if last_ms.is_none_or(|last_ms| now_ms >= last_ms + SWEEP_EVERY_MS || now_ms < last_ms) {
                last_ms = Some(now_ms);
                if let Err(error) = self.finish_erasures().await {
                    tracing::error!(error = %error, "an erasure is still not finished");
                }
                match self.sweep().await {
                    Ok(Summary { removed: 0, .. }) => {}
                    Ok(summary) => {
                        unsettled |= summary.log_truncated == Some(false);
                        tracing::info!(
                            removed = summary.removed,
                            held = summary.skipped,
                            "payloads were pruned"
                        );
                    }
                    Err(error) => tracing::error!(error = %error, "the retention sweep did not finish"),
                }
            }
            if unsettled && matches!(self.settle().await, Ok(true)) {
                unsettled = false;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    /// Keeps records until the hold is released, and says how many there are now.
    ///
    /// # Errors
    /// [`KeepingError::Refused`] where the scope cannot be recorded; the ledger cannot be written.
    pub async fn hold(&self, scope: Scope, actor: &Actor) -> Result<Placed, KeepingError> {
        let (Scope::RequestId(id) | Scope::Zone(id) | Scope::Subject(id)) = &scope;
        if id.trim().is_empty() {
            return Err(KeepingError::Refused("what is to be held is empty".into()));
        }
        let time_ms = (self.clock.now_ms)();
        let hold_id = self.clock.ulid_at(time_ms).to_string();
        let mut metadata = metadata_of(Some(actor));
        metadata.insert("hold_id".into(), hold_id.clone().into());
        let mut roots = Vec::new();
        let recorded = if let Scope::Subject(id) = &scope {
            roots.push(("subject", json!({"id": id})));
            json!({"subject": true})
        } else {
            json!(scope)
        };
        metadata.insert("scope".into(), recorded.clone());
        roots.push(("metadata", Value::Object(metadata)));
        let content = self.redactor.record(roots.clone());
        let is_kept = |root: &str, member: &str| {
            let given = roots.iter().find(|(name, _)| *name == root).and_then(|(_, value)| value.get(member));
            content.get(root).and_then(|value| value.get(member)) == given
        };
        if !is_kept("metadata", "scope") || !is_kept("subject", "id") {
            return Err(KeepingError::Refused(format!(
                "`{}` looks like a credential, which no entry of the ledger has",
                crate::text::truncated(id, 16)
            )));
        }
        let entry = Entry {
            request_id: actor.request_id.clone(),
            ..Entry::event(Kind::Hold, holds::ADDED, time_ms, content)
        };
        self.ledger.append(entry).await?;
        let hold = self.held(&hold_id).await?;
        let covers = self.blocking(move |reader| reader.covered(&scope)).await?;
        Ok(Placed { hold, covers })
    }

    /// Ends a hold; answers what it was.
    ///
    /// # Errors
    /// [`KeepingError::NoHold`]; the ledger cannot be read or written.
    pub async fn release(&self, hold_id: &str, actor: &Actor) -> Result<Hold, KeepingError> {
        let hold = self.held(hold_id).await?;
        let mut metadata = metadata_of(Some(actor));
        metadata.insert("hold_id".into(), hold_id.into());
        let content = self.redactor.record(vec![("metadata", Value::Object(metadata))]);
        let entry = Entry {
            request_id: actor.request_id.clone(),
            ..Entry::event(Kind::Hold, holds::RELEASED, (self.clock.now_ms)(), content)
        };
        self.ledger.append(entry).await?;
        Ok(hold)
    }

    /// The active holds, oldest first.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn holds(&self) -> Result<Vec<Hold>, LedgerError> {
        self.blocking(Reader::holds).await
    }

    async fn held(&self, hold_id: &str) -> Result<Hold, KeepingError> {
        let mut holds = self.holds().await?.into_iter();
        holds.find(|hold| hold.hold_id == hold_id).ok_or_else(|| KeepingError::NoHold(hold_id.into()))
    }

    /// Removes what a plan names, in the order of the ledger. Somebody who asked has an entry that says so, even of nothing.
    async fn remove_due(
        &self,
        plan: Plan,
        event_type: &'static str,
        actor: Option<&Actor>,
        dry_run: bool,
    ) -> Result<Summary, LedgerError> {
        let mut summary = Summary { dry_run, ..Summary::default() };
        let mut metadata = metadata_of(actor);
        metadata.insert("cuts".into(), plan.described());
        let plan = Arc::new(plan);
        let mut after = -1;
        loop {
            let due = plan.clone();
            let seqs = self.blocking(move |reader| reader.due(&due, after)).await?;
            let Some(last) = seqs.last() else { break };
            after = *last;
            let seqs = self.blocking(move |reader| reader.with_company(&seqs)).await?;
            self.remove(&seqs, Kind::Prune, event_type, &metadata, actor, &mut summary).await?;
        }
        if let (Some(actor), false) = (actor, dry_run) {
            self.conclude(Kind::Prune, event_type, metadata, actor, &mut summary).await?;
        }
        if summary.removed > 0 && !dry_run {
            self.give_back().await?;
            summary.log_truncated = Some(self.settle().await?);
        }
        Ok(summary)
    }

    /// One act, and a rest for everybody else.
    pub(super) async fn remove(
        &self,
        seqs: &[i64],
        kind: Kind,
        event_type: &'static str,
        metadata: &Object,
        actor: Option<&Actor>,
        summary: &mut Summary,
    ) -> Result<(), LedgerError> {
        if summary.dry_run {
            let seqs = seqs.to_vec();
            let (free, mut kept) = self.blocking(move |reader| reader.free(&seqs)).await?;
            kept.count = free.len() as u64;
            summary.add(kept);
            return Ok(());
        }
        let began = Instant::now();
        let act = Act {
            kind,
            event_type,
            request_id: actor.and_then(|actor| actor.request_id.clone()),
            metadata: metadata.clone(),
            seqs: seqs.to_vec(),
            even_if_empty: None,
            redactor: self.redactor.clone(),
        };
        let removed = self.ledger.ask(|reply| Job::Act(Box::new(act), reply)).await?;
        summary.add(removed);
        tokio::time::sleep(began.elapsed()).await;
        Ok(())
    }

    /// Records what was asked for where no act has done so.
    pub(super) async fn conclude(
        &self,
        kind: Kind,
        event_type: &'static str,
        metadata: Object,
        actor: &Actor,
        summary: &mut Summary,
    ) -> Result<(), LedgerError> {
        if summary.acts > 0 {
            return Ok(());
        }
        let act = Act {
            kind,
            event_type,
            request_id: actor.request_id.clone(),
            metadata,
            seqs: Vec::new(),
            even_if_empty: Some(Removed {
                skipped: summary.skipped,
                holds: summary.holds.clone(),
                ..Removed::default()
            }),
            redactor: self.redactor.clone(),
        };
        self.ledger.ask(|reply| Job::Act(Box::new(act), reply)).await?;
        summary.acts += 1;
        Ok(())
    }

    /// Gives free pages back, as long as that makes the file smaller.
    pub(super) async fn give_back(&self) -> Result<(), LedgerError> {
        let mut left = i64::MAX;
        loop {
            let began = Instant::now();
            let free = self.ledger.ask(Job::Reclaim).await?;
            if free == 0 || free >= left {
                return Ok(());
            }
            left = free;
            tokio::time::sleep(began.elapsed()).await;
        }
    }

    pub(super) async fn settle(&self) -> Result<bool, LedgerError> {
        let path = self.ledger.path.clone();
        self.blocking(move |_| Ok(erasure::settle(&path, SETTLE_ATTEMPTS))).await
    }

    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let reader = self.reader.clone();
        let task = tokio::task::spawn_blocking(move || work(&reader));
        task.await.unwrap_or_else(|error| Err(LedgerError::Unreadable(error.to_string())))
    }
}

impl Reader {
    /// The next entries of a plan, in the order of the ledger, and with each decision what else is recorded of its call: without
    /// the decision nobody could tell whose the rest is, neither to hold nor to erase it. Calls under way are left alone.
    fn due(&self, plan: &Plan, after: i64) -> Result<Vec<i64>, LedgerError> {
        let (before, mut values) = plan.before();
        values.insert(0, after.into());
        let beyond = plan.beyond_id();
        self.with(|connection| {
            let mut bound = connection.prepare_cached("SELECT seq FROM leaves WHERE id >= ? ORDER BY id LIMIT 1")?;
            let mut rows = bound.query([beyond])?;
            let end: i64 = rows.next()?.map_or(Ok(i64::MAX), |row| row.get(0))?;
            let mut select = connection.prepare(&format!(
                "SELECT p.seq FROM payloads p JOIN leaves l ON l.seq = p.seq WHERE p.seq > ? AND p.seq < {end} \
                 AND l.occurred_at < {before} \
                 AND (l.call_id IS NULL OR l.call_id NOT IN (SELECT call_id FROM op_open_calls)) \
                 ORDER BY p.seq LIMIT {MAX_DUE}"
            ))?;
            select.query_map(rusqlite::params_from_iter(values), |row| row.get(0))?.collect()
        })
    }

    /// Entries with the company their decisions have, in order.
    fn with_company(&self, seqs: &[i64]) -> Result<Vec<i64>, LedgerError> {
        let listed = json!(seqs).to_string();
        self.with(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT value FROM json_each(?1) UNION \
                 SELECT p.seq FROM json_each(?1) j JOIN leaves d ON d.seq = j.value AND d.kind = 'decision' \
                 JOIN leaves o ON o.call_id = d.call_id JOIN payloads p ON p.seq = o.seq \
                 WHERE o.kind IN ('outcome', 'trace') ORDER BY 1",
            )?;
            select.query_map([listed], |row| row.get(0))?.collect()
        })
    }

    fn free(&self, seqs: &[i64]) -> Result<(Vec<i64>, Removed), LedgerError> {
        self.with(|connection| keeping::free(connection, seqs))
    }
}

pub(super) fn metadata_of(actor: Option<&Actor>) -> Object {
    let mut metadata = Object::new();
    metadata.insert("principal".into(), actor.map_or("retention", |actor| &actor.principal).into());
    for (name, value) in [
        ("peer", actor.and_then(|actor| actor.peer.clone())),
        ("reason", actor.and_then(|actor| actor.reason.clone())),
    ] {
        if let Some(value) = value {
            metadata.insert(name.into(), value.into());
        }
    }
    metadata
}
