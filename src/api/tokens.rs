//! Tokens over HTTP: `GET` and `POST /v1/tokens`, `POST /v1/tokens/{name}/revoke` and `POST /v1/tokens/{name}/role`, on the admin
//! plane. A name or an id will do.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::audit::{bad_parameter, record_access};
use super::blocks::{answered, until};
use super::keeping::{actor, read};
use super::query::decode;
use crate::access::Tokens;
use crate::clock::rfc3339;
use crate::gate::Gate;
use crate::principal::{Principal, Role, Token};
use crate::web::{self, Body, Visit};

/// What a body looks like.
const SHAPE: &str = "{\"name\": NAME, \"role\": ROLE, \"zones\": [NAME], \"team\": NAME, \"user\": NAME, \"expires\": \"90d\"}";

/// What a body that changes a role looks like.
const ROLE_SHAPE: &str = "{\"role\": ROLE, \"zones\": [NAME], \"team\": NAME, \"user\": NAME}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    role: String,
    #[serde(default)]
    zones: Vec<String>,
    team: Option<String>,
    user: Option<String>,
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Another {
    role: String,
    #[serde(default)]
    zones: Vec<String>,
    team: Option<String>,
    user: Option<String>,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Make a token.
    Create,
    /// End the token of this name or id.
    Revoke(String),
    /// Give it another role.
    Role(String),
}

impl Asked {
    /// What a POST to a path asks for; `None` where it asks for something else.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/tokens")?;
        if rest.is_empty() {
            return Some(Self::Create);
        }
        let (name, act) = rest.strip_prefix('/')?.split_once('/')?;
        let name = decode(name).filter(|name| !name.is_empty())?;
        match act {
            "revoke" => Some(Self::Revoke(name)),
            "role" => Some(Self::Role(name)),
            _ => None,
        }
    }
}

/// Answers `GET /v1/tokens`.
pub async fn list(gate: &Arc<Gate>, tokens: &Tokens, visit: &Visit) -> Response<Body> {
    record_access(gate, "api_key.listed", "/v1/tokens", "", visit).await;
    let tokens: Vec<Value> = tokens.list().iter().map(shown).collect();
    web::json_response(StatusCode::OK, &json!({ "tokens": tokens }))
}

/// Answers a request to make, end or change a token.
pub async fn answer(
    gate: &Gate,
    tokens: &Arc<Tokens>,
    asked: Asked,
    body: &Bytes,
    visit: &Visit,
) -> Response<Body> {
    let done = match asked {
        Asked::Create => create(gate, tokens, body, visit).await,
        Asked::Revoke(name) => Ok(revoke(tokens, name, visit).await),
        Asked::Role(name) => change_role(tokens, name, body, visit).await,
    };
    done.unwrap_or_else(|refused| *refused)
}

type Answer = Result<Response<Body>, Box<Response<Body>>>;

async fn create(gate: &Gate, tokens: &Arc<Tokens>, body: &Bytes, visit: &Visit) -> Answer {
    let Wanted { name, role, zones, team, user, expires } = read(body, SHAPE, visit)?;
    let wrong = |detail: String| Box::new(bad_parameter(detail, visit));
    let role = role_of(&role).map_err(wrong)?;
    let principal = Principal::new(&name, role, zones, team, user).map_err(wrong)?;
    let expires_ms = expiry(expires.as_deref(), (gate.clock.now_ms)()).map_err(wrong)?;
    let (tokens, actor) = (tokens.clone(), actor(visit, None));
    // Once begun, it goes on although its caller hangs up.
    let done = tokio::spawn(async move { tokens.create(principal, expires_ms, &actor).await }).await;
    let told = |(token, text): (Token, String)| {
        let mut told = shown(&token);
        if let Some(members) = told.as_object_mut() {
            members.insert("token".into(), text.into());
        }
        told
    };
    Ok(answered(done, told, visit))
}

async fn revoke(tokens: &Arc<Tokens>, name: String, visit: &Visit) -> Response<Body> {
    let (tokens, actor) = (tokens.clone(), actor(visit, None));
    let done = tokio::spawn(async move { tokens.revoke(&name, &actor).await }).await;
    answered(done, |token| shown(&token), visit)
}

async fn change_role(tokens: &Arc<Tokens>, name: String, body: &Bytes, visit: &Visit) -> Answer {
    let Another { role, zones, team, user } = read(body, ROLE_SHAPE, visit)?;
    let role = role_of(&role).map_err(|detail| Box::new(bad_parameter(detail, visit)))?;
    let (tokens, actor) = (tokens.clone(), actor(visit, None));
    let scope = (zones, team, user);
    let done = tokio::spawn(async move { tokens.change_role(&name, role, scope, &actor).await }).await;
    Ok(answered(done, |token| shown(&token), visit))
}

fn role_of(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| {
        let known = Role::ALL.map(Role::as_str).join("`, `");
        format!("`role` must be one of `{known}`, not `{}`", crate::text::truncated(word, 64))
    })
}

/// `90d` is how long it lasts; anything else is a time.
fn expiry(text: Option<&str>, now_ms: i64) -> Result<Option<i64>, String> {
    until(text, None, now_ms)
        .or_else(|_| until(None, text, now_ms))
        .map_err(|error| error.replacen("`until`", "`expires`", 1))
}

fn shown(token: &Token) -> Value {
    let mut shown = json!(token.principal);
    if let Some(members) = shown.as_object_mut() {
        members.insert("key_id".into(), token.id.clone().into());
        members.insert("created".into(), rfc3339(token.created_ms).into());
        members.insert("created_by".into(), token.created_by.clone().into());
        members.insert("expires".into(), token.expires_ms.map(rfc3339).into());
    }
    shown
}
