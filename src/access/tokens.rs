//! Tokens as people make and revoke them, and who a request is from.
//!
//! A token is shown once and known by its SHA-256 from then on. Whatever ends it, being revoked, given another role or running
//! out, also ends what was begun with it: streams and exports watch [`Guest::ended`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use super::AccessError;
use crate::call::Caller;
use crate::clock::rfc3339;
use crate::gate::Gate;
use crate::identity::{self, AdminToken, Agents, Rejection, TokenDigest};
use crate::json::Object;
use crate::ledger::{Actor, Change, Entry, Kind, LedgerError};
use crate::principal::{DEFAULT_ZONE, Principal, Role, Token};
use crate::text::truncated;

/// Tokens at once.
const MAX_TOKENS: usize = 10_000;

/// A first use of a token is recorded once a day.
const DAY_MS: i64 = 86_400_000;

/// Somebody who was let in.
#[derive(Clone)]
pub struct Guest {
    /// Who.
    pub principal: Arc<Principal>,
    /// Turns true when that ends.
    pub ended: watch::Receiver<bool>,
}

/// A token in use.
struct Held {
    token: Token,
    principal: Arc<Principal>,
    ended: watch::Sender<bool>,
    /// The day of the last login that was recorded.
    login_day: AtomicI64,
}

impl Held {
    fn new(token: Token) -> Arc<Self> {
        let principal = Arc::new(token.principal.clone());
        Arc::new(Self { token, principal, ended: watch::channel(false).0, login_day: AtomicI64::new(-1) })
    }
}

type ByDigest = HashMap<TokenDigest, Arc<Held>>;

/// Everybody who may look.
pub struct Tokens {
    gate: Arc<Gate>,
    admin: AdminToken,
    admin_login_day: AtomicI64,
    agents: Agents,
    by_digest: ArcSwap<ByDigest>,
    /// One change at a time: what is in memory follows what is durable.
    changing: Mutex<()>,
}

/// Who calls, and what turns true when the token may no longer be used; a configured agent's lasts as long as docket runs.
pub type Called = (Arc<Caller>, Option<watch::Receiver<bool>>);

impl Tokens {
    /// Reads the tokens of earlier runs. `agents` are those of the configuration.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn open(gate: Arc<Gate>, admin: AdminToken, agents: Agents) -> Result<Self, LedgerError> {
        let reader = gate.ledger.reader();
        let read = tokio::task::spawn_blocking(move || reader.tokens()).await;
        let tokens = read.unwrap_or_else(|error| Err(LedgerError::Unreadable(error.to_string())))?;
        let by_digest: ByDigest = tokens.into_iter().map(|token| (token.digest, Held::new(token))).collect();
        Ok(Self {
            gate,
            admin,
            admin_login_day: AtomicI64::new(-1),
            agents,
            by_digest: ArcSwap::from_pointee(by_digest),
            changing: Mutex::new(()),
        })
    }

    /// Who sends a request to the admin plane.
    ///
    /// # Errors
    /// [`Rejection`]: the request is refused with 401.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Guest, Rejection> {
        let token = identity::presented_token(headers)?.ok_or(Rejection::Missing)?;
        let digest = identity::digest_of(&token);
        self.look_at_file();
        if let Some(ended) = self.admin.guest(&digest) {
            return Ok(Guest { principal: Arc::new(Principal::first_admin()), ended });
        }
        if self.agents.knows(&digest) {
            return Err(Rejection::Agents);
        }
        let held = self.held(&digest)?;
        if held.principal.role == Role::Agent {
            return Err(Rejection::Agents);
        }
        Ok(Guest { principal: held.principal.clone(), ended: held.ended.subscribe() })
    }

    /// The caller of a request to the data plane: an agent of the configuration, or one with a token that was made since, and
    /// then what says that it ended.
    ///
    /// # Errors
    /// [`Rejection`]: the request is refused with 401.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Called, Rejection> {
        let unknown = match self.agents.identify(headers) {
            Err(Rejection::Unknown) => identity::presented_token(headers)?.ok_or(Rejection::Missing)?,
            known => return known.map(|caller| (caller, None)),
        };
        let held = self.held(&identity::digest_of(&unknown))?;
        let Principal { name, role, zones, team, user } = &*held.principal;
        if *role != Role::Agent {
            return Err(Rejection::Peoples);
        }
        let zone = zones.iter().flatten().next().map_or(DEFAULT_ZONE, String::as_str);
        let caller = Caller {
            agent: name.clone(),
            user: user.clone(),
            team: team.clone(),
            zone: zone.to_owned(),
            roles: vec![role.as_str().to_owned()],
            verified: true,
        };
        Ok((Arc::new(caller), Some(held.ended.subscribe())))
    }

    fn held(&self, digest: &TokenDigest) -> Result<Arc<Held>, Rejection> {
        let held = self.by_digest.load().get(digest).cloned().ok_or(Rejection::Unknown)?;
        if held.token.is_over((self.gate.clock.now_ms)()) { Err(Rejection::Expired) } else { Ok(held) }
    }

    /// Whether this is the first time today, since docket started, that a principal looks at something.
    #[must_use]
    pub fn is_login(&self, principal: &Principal) -> bool {
        let today = (self.gate.clock.now_ms)().div_euclid(DAY_MS);
        let tokens = self.by_digest.load();
        let held = tokens.values().find(|held| held.token.principal.name == principal.name);
        let day = held.map_or(&self.admin_login_day, |held| &held.login_day);
        day.swap(today, Ordering::Relaxed) != today
    }

    /// Every token, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.by_digest.load().values().map(|held| held.token.clone()).collect();
        tokens.sort_by(|one, other| one.id.cmp(&other.id));
        tokens
    }

    /// Every agent there is: of the configuration, with a token that was made since, and the one without a token.
    #[must_use]
    pub fn agents(&self) -> Vec<String> {
        let tokens = self.by_digest.load();
        let made = tokens.values().filter(|held| held.principal.role == Role::Agent);
        let made = made.map(|held| held.principal.name.clone());
        self.agents.names().map(str::to_owned).chain(made).collect()
    }

    /// Makes a token; answers what is kept of it, and itself, which is nowhere from then on.
    ///
    /// # Errors
    /// [`AccessError::Refused`] where the name is taken or the time over; the ledger cannot be written.
    pub async fn create(
        &self,
        principal: Principal,
        expires_ms: Option<i64>,
        actor: &Actor,
    ) -> Result<(Token, String), AccessError> {
        let refused = |why: String| Err(AccessError::Refused(why));
        self.check_names(&principal)?;
        let created_ms = (self.gate.clock.now_ms)();
        if expires_ms.is_some_and(|expires_ms| expires_ms <= created_ms) {
            return refused("the token would be over before it is used; give a time to come".into());
        }
        let _changing = self.changing.lock().await;
        let mut tokens = self.by_digest.load().as_ref().clone();
        // An id names a token too.
        let is_taken = |held: &Arc<Held>| [&held.principal.name, &held.token.id].contains(&&principal.name);
        if tokens.values().any(is_taken) || self.agents.has(&principal.name) {
            let name = &principal.name;
            return refused(format!(
                "`name`: there is a `{name}` already; choose another, or revoke it first"
            ));
        }
        if tokens.len() >= MAX_TOKENS {
            return refused(format!("there are {MAX_TOKENS} tokens already; revoke those nobody uses"));
        }
        let text = identity::mint(&self.gate.clock);
        let token = Token {
            id: self.gate.clock.ulid_at(created_ms).to_string(),
            digest: identity::digest_of(&text),
            principal,
            created_ms,
            created_by: actor.principal.clone(),
            expires_ms,
        };
        let mut facts = facts_of(&token);
        facts.insert("expires".into(), expires_ms.map(rfc3339).into());
        self.change("api_key.created", facts, Change::AddToken(token.clone()), Some(actor)).await?;
        tokens.insert(token.digest, Held::new(token.clone()));
        self.by_digest.store(Arc::new(tokens));
        Ok((token, text))
    }

    /// Refuses names that look like credentials: a slip of the hand, and they are written down wherever the token is used.
    fn check_names(&self, principal: &Principal) -> Result<(), AccessError> {
        let Principal { name, zones, team, user, .. } = principal;
        let named = [("name", std::slice::from_ref(name)), ("zone", zones.as_deref().unwrap_or_default())];
        let named = named.into_iter().chain([("team", team.as_slice()), ("user", user.as_slice())]);
        for (member, values) in named {
            if values.iter().any(|value| self.gate.redactor.is_credential(value)) {
                return Err(AccessError::Refused(format!(
                    "`{member}` looks like a credential, and would be written down; choose another"
                )));
            }
        }
        Ok(())
    }

    /// Ends a token, by its id or its name.
    ///
    /// # Errors
    /// [`AccessError::Unknown`]; the ledger cannot be written.
    pub async fn revoke(&self, name: &str, actor: &Actor) -> Result<Token, AccessError> {
        self.remove(name, "api_key.revoked", Some(actor)).await
    }

    /// Gives a token another role and scope; what was begun with it ends.
    ///
    /// # Errors
    /// [`AccessError::Unknown`]; [`AccessError::Refused`] where the role does not go with the scope, or would make an agent of a
    /// person or a person of an agent; the ledger cannot be written.
    pub async fn change_role(
        &self,
        name: &str,
        role: Role,
        (zones, team, user): (Vec<String>, Option<String>, Option<String>),
        actor: &Actor,
    ) -> Result<Token, AccessError> {
        let _changing = self.changing.lock().await;
        let mut tokens = self.by_digest.load().as_ref().clone();
        let held = find(&tokens, name)?;
        let before = &held.token.principal;
        if (before.role == Role::Agent) != (role == Role::Agent) {
            let why = "an agent's token does not become a person's, nor the other way; make a new one";
            return Err(AccessError::Refused(why.into()));
        }
        let after = Principal::new(&before.name, role, zones, team, user).map_err(AccessError::Refused)?;
        self.check_names(&after)?;
        let token = Token { principal: after, ..held.token.clone() };
        let mut facts = Object::new();
        facts.insert("key_id".into(), token.id.clone().into());
        facts.insert("before".into(), json!(before));
        facts.insert("after".into(), json!(token.principal));
        self.change("token.role_changed", facts, Change::AddToken(token.clone()), Some(actor)).await?;
        held.ended.send_replace(true);
        tokens.insert(token.digest, Held::new(token.clone()));
        self.by_digest.store(Arc::new(tokens));
        Ok(token)
    }

    /// Lets go of tokens that have run out, and of what was begun with them.
    pub async fn expire(&self) {
        self.look_at_file();
        let now_ms = (self.gate.clock.now_ms)();
        let over: Vec<String> = {
            let tokens = self.by_digest.load();
            let over = tokens.values().filter(|held| held.token.is_over(now_ms));
            over.map(|held| {
                held.ended.send_replace(true);
                held.token.id.clone()
            })
            .collect()
        };
        for id in over {
            match self.remove(&id, "api_key.expired", None).await {
                Ok(_) | Err(AccessError::Unknown(_)) => {}
                Err(error) => tracing::warn!(id, error = %error, "the end of a token was not recorded"),
            }
        }
    }

    /// Takes up another admin token, where the file has one.
    fn look_at_file(&self) {
        if self.admin.refresh() {
            let metadata = json!({"name": Role::Admin.as_str(), "role": Role::Admin.as_str()});
            let content = self.gate.redactor.record(vec![("metadata", metadata)]);
            self.gate.ledger.note(Entry::event(
                Kind::Auth,
                "api_key.reset",
                (self.gate.clock.now_ms)(),
                content,
            ));
        }
    }

    async fn remove(
        &self,
        name: &str,
        event_type: &'static str,
        actor: Option<&Actor>,
    ) -> Result<Token, AccessError> {
        let _changing = self.changing.lock().await;
        let mut tokens = self.by_digest.load().as_ref().clone();
        let held = find(&tokens, name)?;
        let token = held.token.clone();
        let change = Change::RemoveToken(token.id.clone());
        self.change(event_type, facts_of(&token), change, actor).await?;
        held.ended.send_replace(true);
        tokens.remove(&token.digest);
        self.by_digest.store(Arc::new(tokens));
        Ok(token)
    }

    async fn change(
        &self,
        event_type: &'static str,
        mut metadata: Object,
        change: Change,
        actor: Option<&Actor>,
    ) -> Result<(), LedgerError> {
        if let Some(actor) = actor {
            metadata.insert("principal".into(), actor.principal.clone().into());
            metadata.insert("peer".into(), actor.peer.clone().into());
        }
        let content = self.gate.redactor.record(vec![("metadata", Value::Object(metadata))]);
        let entry = Entry {
            request_id: actor.and_then(|actor| actor.request_id.clone()),
            ..Entry::event(Kind::Auth, event_type, (self.gate.clock.now_ms)(), content)
        };
        self.gate.ledger.change(entry, change).await
    }
}

/// The token with this id, or else with this name.
fn find(tokens: &ByDigest, name: &str) -> Result<Arc<Held>, AccessError> {
    let by_id = tokens.values().find(|held| held.token.id == name);
    let found = by_id.or_else(|| tokens.values().find(|held| held.principal.name == name));
    found.cloned().ok_or_else(|| {
        let shown = truncated(name, 64);
        AccessError::Unknown(format!("there is no token `{shown}`; `docket token list` lists them"))
    })
}

fn facts_of(token: &Token) -> Object {
    let mut facts = Object::new();
    facts.insert("key_id".into(), token.id.clone().into());
    if let Value::Object(principal) = json!(token.principal) {
        facts.extend(principal);
    }
    facts
}
