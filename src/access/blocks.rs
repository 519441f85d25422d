//! Blocks as people add and release them: each durable with its entry before anybody is told, and in force from then on.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{AccessError, Tokens};
use crate::block::{Block, Stop};
use crate::clock::rfc3339;
use crate::gate::Gate;
use crate::json::Object;
use crate::ledger::{Actor, Change, Entry, Kind, LedgerError};
use crate::text::nearest;

/// Blocks in force at once: every call looks at each.
const MAX_BLOCKS: usize = 1_000;

/// A reason is this long at most, in bytes: agents are told.
const MAX_REASON_BYTES: usize = 500;

/// Adds and releases blocks. The gate looks at them.
pub struct Blocking {
    gate: Arc<Gate>,
    tokens: Arc<Tokens>,
    servers: Vec<String>,
    /// One change at a time: what is in memory follows what is durable.
    changing: Mutex<()>,
}

impl Blocking {
    /// Puts the blocks of an earlier run in force. To be called before the first call is accepted. `tokens` knows the agents, and
    /// `servers` are those of the configuration.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn open(
        gate: Arc<Gate>,
        tokens: Arc<Tokens>,
        servers: Vec<String>,
    ) -> Result<Self, LedgerError> {
        let reader = gate.ledger.reader();
        let read = tokio::task::spawn_blocking(move || reader.blocks()).await;
        let blocks = read.unwrap_or_else(|error| Err(LedgerError::Unreadable(error.to_string())))?;
        gate.blocks.store(Arc::new(blocks));
        Ok(Self { gate, tokens, servers, changing: Mutex::new(()) })
    }

    /// What is stopped now, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Block> {
        let now_ms = (self.gate.clock.now_ms)();
        self.gate.blocks.load().iter().filter(|block| !block.is_over(now_ms)).cloned().collect()
    }

    /// What is wrong with a block that stops nobody docket knows, and who may have been meant. It is in force all the same: a
    /// name may be configured later.
    #[must_use]
    pub fn warning(&self, stop: &Stop) -> Option<String> {
        let (known, name) = match stop {
            Stop::Agent(name) => (self.tokens.agents(), name),
            Stop::Server(name) => (self.servers.clone(), name),
            Stop::All => return None,
        };
        if known.contains(name) {
            return None;
        }
        let near = nearest(name, known.iter().map(String::as_str));
        let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Some(format!("docket knows no {stop}, and stops nobody else{meant}"))
    }

    /// Stops something until `until_ms`, or until it is released. In force for every call that comes after this returns; those
    /// under way are cut off.
    ///
    /// # Errors
    /// [`AccessError::Refused`] where the reason, the name or the time is none; the ledger cannot be written.
    pub async fn add(&self, stop: Stop, until_ms: Option<i64>, actor: &Actor) -> Result<Block, AccessError> {
        let reason = actor.reason.as_deref().unwrap_or_default().trim();
        let since_ms = (self.gate.clock.now_ms)();
        let refused = |why: &str| Err(AccessError::Refused(why.to_owned()));
        if reason.is_empty() || reason.len() > MAX_REASON_BYTES {
            return Err(AccessError::Refused(format!(
                "the reason must be 1 to {MAX_REASON_BYTES} bytes; agents are told it, and it is recorded"
            )));
        }
        if let Some(name) = stop.words().1 {
            if name.is_empty() || name.len() > 64 || name != name.trim() {
                return refused(
                    "the name must be 1 to 64 characters, as the configuration has it: no white space before or after it",
                );
            }
            if self.gate.redactor.is_credential(name) {
                return refused(
                    "the name looks like a credential, and would be written down; block what it is the name of",
                );
            }
        }
        if until_ms.is_some_and(|until_ms| until_ms <= since_ms) {
            return refused("the block would be over before it begins; give a time to come");
        }
        let _changing = self.changing.lock().await;
        let mut blocks: Vec<Block> = self.gate.blocks.load().as_ref().clone();
        if blocks.len() >= MAX_BLOCKS {
            return refused("too much is blocked already; release something, or block everything");
        }
        let id = self.gate.clock.ulid_at(since_ms).to_string();
        // Agents are told, and it lies in a table beside the entries: what is no entry's is redacted here.
        let reason = self.gate.redactor.plain(reason.to_owned());
        let block = Block { id, stop, reason, principal: actor.principal.clone(), since_ms, until_ms };
        let entry = self.entry("block.added", &block, Some(actor));
        self.gate.ledger.change(entry, Change::AddBlock(block.clone())).await?;
        blocks.push(block.clone());
        self.gate.blocks.store(Arc::new(blocks));
        self.gate.blocked_more.send_replace(());
        Ok(block)
    }

    /// Stops it no longer.
    ///
    /// # Errors
    /// [`AccessError::Unknown`]; the ledger cannot be written.
    pub async fn release(&self, id: &str, actor: &Actor) -> Result<Block, AccessError> {
        self.remove(id, "block.released", Some(actor)).await
    }

    /// Lets go of blocks whose time is over, and says so in the ledger. They stop nothing from that time on whether this has
    /// been called or not.
    pub async fn expire(&self) {
        let now_ms = (self.gate.clock.now_ms)();
        let over: Vec<String> = {
            let blocks = self.gate.blocks.load();
            blocks.iter().filter(|block| block.is_over(now_ms)).map(|block| block.id.clone()).collect()
        };
        for id in over {
            match self.remove(&id, "block.expired", None).await {
                Ok(_) | Err(AccessError::Unknown(_)) => {}
                Err(error) => tracing::warn!(id, error = %error, "the end of a block was not recorded"),
            }
        }
    }

    async fn remove(
        &self,
        id: &str,
        event_type: &'static str,
        actor: Option<&Actor>,
    ) -> Result<Block, AccessError> {
        let _changing = self.changing.lock().await;
        let mut blocks: Vec<Block> = self.gate.blocks.load().as_ref().clone();
        let Some(at) = blocks.iter().position(|block| block.id == id) else {
            let shown = crate::text::truncated(id, 64);
            return Err(AccessError::Unknown(format!(
                "there is no block `{shown}`; `docket block list` lists them"
            )));
        };
        let block = blocks.remove(at);
        let entry = self.entry(event_type, &block, actor);
        self.gate.ledger.change(entry, Change::RemoveBlock(block.id.clone())).await?;
        self.gate.blocks.store(Arc::new(blocks));
        Ok(block)
    }

    fn entry(&self, event_type: &'static str, block: &Block, actor: Option<&Actor>) -> Entry {
        let (what, name) = block.stop.words();
        let mut metadata = Object::new();
        metadata.insert("block_id".into(), block.id.clone().into());
        metadata.insert("stops".into(), json!({"what": what, "name": name}));
        if event_type == "block.added" {
            metadata.insert("until".into(), block.until_ms.map(rfc3339).into());
        }
        if let Some(actor) = actor {
            metadata.insert("principal".into(), actor.principal.clone().into());
            metadata.insert("peer".into(), actor.peer.clone().into());
            metadata.insert("reason".into(), actor.reason.clone().into());
        }
        let content = self.gate.redactor.record(vec![("metadata", Value::Object(metadata))]);
        Entry {
            request_id: actor.and_then(|actor| actor.request_id.clone()),
            ..Entry::event(Kind::Block, event_type, (self.gate.clock.now_ms)(), content)
        }
    }
}
