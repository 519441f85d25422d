//! What is changed together with the entry that says so: blocks and tokens, which live in `op_*` tables.
//!
//! One transaction writes both, so that neither is there without the other after a crash. Who may change what is decided above.

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::entry::{Entry, Sealed};
use super::writer::Job;
use super::{Ledger, LedgerError, Reader};
use crate::block::{Block, Stop};
use crate::principal::{Principal, Role, Token};

/// One change of what is in force.
pub enum Change {
    /// Stop something.
    AddBlock(Block),
    /// Stop it no longer.
    RemoveBlock(String),
    /// Keep a token, in place of what was kept of it.
    AddToken(Token),
    /// Keep it no longer.
    RemoveToken(String),
}

/// A change and its entry, for the writer.
pub(super) struct Changing {
    pub entry: Sealed,
    pub change: Change,
}

impl Change {
    pub(super) fn apply(&self, connection: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::AddBlock(block) => {
                let (what, name) = block.stop.words();
                connection.execute(
                    "INSERT INTO op_blocks (block_id, what, name, reason, principal, since_ms, until_ms) \
                     VALUES (?,?,?,?,?,?,?)",
                    params![
                        block.id,
                        what,
                        name,
                        block.reason,
                        block.principal,
                        block.since_ms,
                        block.until_ms
                    ],
                )?;
            }
            Self::RemoveBlock(id) => {
                connection.execute("DELETE FROM op_blocks WHERE block_id = ?", [id])?;
            }
            Self::AddToken(token) => {
                let Principal { name, role, zones, team, user } = &token.principal;
                connection.execute(
                    "INSERT OR REPLACE INTO op_tokens (token_id, digest, name, role, zones, team, user, created_ms, \
                     created_by, expires_ms) VALUES (?,?,?,?,?,?,?,?,?,?)",
                    params![
                        token.id,
                        token.digest,
                        name,
                        role.as_str(),
                        zones.as_ref().map(|zones| serde_json::json!(zones).to_string()),
                        team,
                        user,
                        token.created_ms,
                        token.created_by,
                        token.expires_ms
                    ],
                )?;
            }
            Self::RemoveToken(id) => {
                connection.execute("DELETE FROM op_tokens WHERE token_id = ?", [id])?;
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// Appends an entry and makes the change it speaks of, both or neither. Durable when this returns.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub async fn change(&self, entry: Entry, change: Change) -> Result<(), LedgerError> {
        let changing = Box::new(Changing { entry: entry.seal(&self.clock), change });
        let job = |reply: oneshot::Sender<Result<i64, LedgerError>>| Job::Change(changing, reply);
        self.ask(job).await.map(drop)
    }
}

impl Reader {
    /// Everything that is stopped, oldest first.
    ///
    /// # Errors
    /// [`LedgerError`] when the file cannot be opened or read.
    pub fn blocks(&self) -> Result<Vec<Block>, LedgerError> {
        self.with(|connection| {
            let mut select = connection.prepare(
                "SELECT block_id, what, name, reason, principal, since_ms, until_ms FROM op_blocks ORDER BY block_id",
            )?;
            let mut rows = select.query([])?;
            let mut blocks = Vec::new();
            while let Some(row) = rows.next()? {
                let what: String = row.get(1)?;
                // What cannot be read stops everything: somebody wrote over a stop, and nobody knows which.
                let stop = Stop::parse(&what, row.get(2)?).unwrap_or(Stop::All);
                blocks.push(Block {
                    id: row.get(0)?,
                    stop,
                    reason: row.get(3)?,
                    principal: row.get(4)?,
                    since_ms: row.get(5)?,
                    until_ms: row.get(6)?,
                });
            }
            Ok(blocks)
        })
    }

    /// Every token, oldest first. One that cannot be read was written over, and is nobody's.
    ///
    /// # Errors
    /// [`LedgerError`] when the file cannot be opened or read.
    pub fn tokens(&self) -> Result<Vec<Token>, LedgerError> {
        self.with(|connection| {
            let mut select = connection.prepare(
                "SELECT token_id, digest, name, role, zones, team, user, created_ms, created_by, expires_ms \
                 FROM op_tokens ORDER BY token_id",
            )?;
            let mut rows = select.query([])?;
            let mut tokens = Vec::new();
            while let Some(row) = rows.next()? {
                let zones: Option<String> = row.get(4)?;
                let zones = zones.map(|text| serde_json::from_str::<Vec<String>>(&text));
                let (digest, role): (Vec<u8>, String) = (row.get(1)?, row.get(3)?);
                let (Ok(digest), Some(role), Ok(zones)) =
                    (digest.try_into(), Role::parse(&role), zones.transpose())
                else {
                    continue;
                };
                let (name, team, user) = (row.get(2)?, row.get(5)?, row.get(6)?);
                tokens.push(Token {
                    id: row.get(0)?,
                    digest,
                    principal: Principal { name, role, zones, team, user },
                    created_ms: row.get(7)?,
                    created_by: row.get(8)?,
                    expires_ms: row.get(9)?,
                });
            }
            Ok(tokens)
        })
    }
}
