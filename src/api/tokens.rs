//! Tokens over HTTP: `GET` and `POST /v1/tokens`, `POST /v1/tokens/{name}/revoke` and `POST /v1/tokens/{name}/role`, on the admin
//! plane. A name or an id will do.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::audit::bad_parameter;
use super::blocks::{answered, until};
use super::keeping::{actor, read};
use crate::access::Tokens;
use crate::clock::rfc3339;
use crate::gate::Gate;
use crate::principal::{Principal, Role, Token};
use crate::web::{self, Body, Visit};

/// What a body looks like.
const SHAPE: &str = "{\"name\": NAME, \"role\": ROLE, \"zones\": [NAME], \"team\": NAME, \"user\": NAME, \"expires\": \"90d\"}";

/// What a body that changes a role looks like.
const ROLE_SHAPE: &str = "{\"role\": ROLE, \"zones\": [NAME], \"team\": NAME, \"user\": NAME}";

/// A token to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = TokenWanted)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Whose it is; no two tokens have one name.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._@-]+$", example = "carol")]
    name: String,
    /// What it may do.
    #[schema(value_type = Role)]
    role: String,
    /// Its tenants; the default one where none is given, and `*` for every one.
    #[serde(default)]
    zones: Vec<String>,
    /// Its team; a lead has one.
    team: Option<String>,
    /// The person it is, as decisions name it; a user is one.
    user: Option<String>,
    /// How long it lasts (`90d`), or until when (RFC 3339).
    #[schema(example = "90d")]
    expires: Option<String>,
}

/// Another role for a token.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = RoleWanted)]
#[serde(deny_unknown_fields)]
pub struct Another {
    /// What it may do from now on.
    #[schema(value_type = Role)]
    role: String,
    /// Its tenants; the default one where none is given, and `*` for every one.
    #[serde(default)]
    zones: Vec<String>,
    /// Its team; a lead has one.
    team: Option<String>,
    /// The person it is, as decisions name it; a user is one.
    user: Option<String>,
}

/// A token, as it is shown: whose it is, and never itself.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Token)]
pub struct Shown {
    /// Whose it is.
    #[serde(flatten)]
    principal: Principal,
    /// ULID; a path takes it as well as the name.
    key_id: String,
    /// When it was made: RFC 3339, UTC.
    created: String,
    /// Who made it.
    created_by: String,
    /// When it is over; `null` where it lasts until it is revoked.
    expires: Option<String>,
}

impl From<Token> for Shown {
    fn from(token: Token) -> Self {
        Self {
            principal: token.principal,
            key_id: token.id,
            created: rfc3339(token.created_ms),
            created_by: token.created_by,
            expires: token.expires_ms.map(rfc3339),
        }
    }
}

/// A token that was made, and itself: it is shown this once.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = NewToken)]
pub struct Created {
    #[serde(flatten)]
    kept: Shown,
    /// What to send as `Authorization: Bearer`.
    token: String,
}

/// Every token.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Tokens)]
pub struct Listed {
    /// The oldest first.
    tokens: Vec<Shown>,
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
        if name.is_empty() {
            return None;
        }
        let name = name.to_owned();
        match act {
            "revoke" => Some(Self::Revoke(name)),
            "role" => Some(Self::Role(name)),
            _ => None,
        }
    }
}

/// Answers `GET /v1/tokens`.
pub fn list(tokens: &Tokens, visit: &Visit) -> Response<Body> {
    visit.look("api_key.listed", "/v1/tokens", "");
    let tokens = tokens.list().into_iter().map(Shown::from).collect();
    web::json_response(StatusCode::OK, &Listed { tokens })
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
    Ok(answered(done, |(kept, token): (Token, String)| Created { kept: kept.into(), token }, visit))
}

async fn revoke(tokens: &Arc<Tokens>, name: String, visit: &Visit) -> Response<Body> {
    let (tokens, actor) = (tokens.clone(), actor(visit, None));
    let done = tokio::spawn(async move { tokens.revoke(&name, &actor).await }).await;
    answered(done, Shown::from, visit)
}

async fn change_role(tokens: &Arc<Tokens>, name: String, body: &Bytes, visit: &Visit) -> Answer {
    let Another { role, zones, team, user } = read(body, ROLE_SHAPE, visit)?;
    let role = role_of(&role).map_err(|detail| Box::new(bad_parameter(detail, visit)))?;
    let (tokens, actor) = (tokens.clone(), actor(visit, None));
    let scope = (zones, team, user);
    let done = tokio::spawn(async move { tokens.change_role(&name, role, scope, &actor).await }).await;
    Ok(answered(done, Shown::from, visit))
}

fn role_of(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| {
        let known = Role::ALL.map(Role::as_str).join("`, `");
        format!("`role` must be one of `{known}`, not `{}`", crate::text::truncated(word, 64))
    })
}

/// `90d` is how long it lasts; anything else is a time.
fn expiry(text: Option<&str>, now_ms: i64) -> Result<Option<i64>, String> {
    until(text, None, now_ms).or_else(|_| until(None, text, now_ms)).map_err(|_| {
        let shown = crate::text::truncated(text.unwrap_or_default(), 64);
        format!("`expires` must be how long it lasts (`90d`, `12h`) or a time to come (RFC 3339), and `{shown}` is neither")
    })
}
