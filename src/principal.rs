//! Who looks, and what they may see. Pure data.
//!
//! A principal is a person or a program with a token for the admin plane; agents have theirs for the data plane, and are
//! [`crate::call::Caller`]s there.

use std::sync::{Arc, LazyLock};

use serde::{Serialize, Serializer};

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Read and export what is in its zones.
    Auditor,
    /// Likewise, of its own team.
    Lead,
    /// Likewise, of its own.
    User,
    /// See what waits for a person.
    Approver,
    /// Try policies on recorded calls, without the content of others'.
    Author,
    /// Call tools: the data plane only.
    Agent,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] =
        [Self::Admin, Self::Auditor, Self::Lead, Self::User, Self::Approver, Self::Author, Self::Agent];

    /// The role of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Lead => "lead",
            Self::User => "user",
            Self::Approver => "approver",
            Self::Author => "author",
            Self::Agent => "agent",
        }
    }
}

/// Who looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Principal {
    /// The name of its token; `admin` for the one in the token file.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its tenants; `*` in JSON, and `None` here, where it is all of them.
    #[serde(serialize_with = "zones")]
    pub zones: Option<Vec<String>>,
    /// Its team.
    pub team: Option<String>,
    /// The person it is, as decisions name it.
    pub user: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde hands a reference to the field")]
fn zones<S: Serializer>(zones: &Option<Vec<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    match zones {
        Some(zones) => zones.serialize(serializer),
        None => [EVERY_ZONE].serialize(serializer),
    }
}

/// How every tenant is written.
pub const EVERY_ZONE: &str = "*";

/// The tenant of what names none.
pub const DEFAULT_ZONE: &str = "default";

/// As long as a name may be, in bytes.
const MAX_NAME_BYTES: usize = 64;

static NOBODY: LazyLock<Arc<Principal>> = LazyLock::new(|| {
    let (name, zones) = (String::new(), Some(Vec::new()));
    Arc::new(Principal { name, role: Role::Agent, zones, team: None, user: None })
});

impl Principal {
    /// Somebody whom nobody has asked who they are: they see nothing.
    #[must_use]
    pub fn nobody() -> Arc<Self> {
        NOBODY.clone()
    }

    /// Who has the token in the token file.
    #[must_use]
    pub fn first_admin() -> Self {
        Self { name: Role::Admin.as_str().into(), role: Role::Admin, zones: None, team: None, user: None }
    }

    /// Makes a principal. Without zones it is of the default one; `*` is every one.
    ///
    /// # Errors
    /// Says what the role cannot be without, or cannot have.
    pub fn new(
        name: &str,
        role: Role,
        zones: Vec<String>,
        team: Option<String>,
        user: Option<String>,
    ) -> Result<Self, String> {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_letter) {
            return Err(format!(
                "`name` must be 1 to {MAX_NAME_BYTES} of `A-Z a-z 0-9 . _ - @`, not `{}`",
                crate::text::truncated(name, MAX_NAME_BYTES)
            ));
        }
        if name == "admin" || name == "anonymous" {
            return Err(format!("`name`: `{name}` is taken; choose another"));
        }
        let is_word = |text: &String| {
            !text.trim().is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)
        };
        for (member, values) in
            [("zone", zones.as_slice()), ("team", team.as_slice()), ("user", user.as_slice())]
        {
            if !values.iter().all(is_word) {
                return Err(format!("`{member}` must be 1 to {MAX_NAME_BYTES} printable bytes"));
            }
        }
        let word = role.as_str();
        match (role, &team, &user) {
            (Role::Admin, None, None) if zones.is_empty() => {}
            (Role::Admin, ..) => {
                return Err("an `admin` sees everything; leave out zone, team and user".into());
            }
            (Role::Lead, None, _) => return Err("a `lead` needs a `team`: whose entries it sees".into()),
            (Role::User, _, None) => return Err("a `user` needs a `user`: whose entries it sees".into()),
            (Role::Lead, Some(_), Some(_)) => return Err("a `lead` sees its team; leave out `user`".into()),
            (Role::User | Role::Author, Some(_), _) => {
                return Err(format!("a role of `{word}` has no `team`; leave it out"));
            }
            (Role::Auditor | Role::Approver, ..) if team.is_some() || user.is_some() => {
                return Err(format!("a role of `{word}` sees whole zones; leave out `team` and `user`"));
            }
            _ => {}
        }
        let every = zones.iter().any(|zone| zone == EVERY_ZONE);
        if role == Role::Agent && (every || zones.len() > 1) {
            return Err("an `agent` is of one zone".into());
        }
        let zones = match role {
            Role::Admin => None,
            _ if every => None,
            _ if zones.is_empty() => Some(vec![DEFAULT_ZONE.to_owned()]),
            _ => Some(zones),
        };
        Ok(Self { name: name.to_owned(), role, zones, team, user })
    }
}

/// A token as it is kept: without the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// ULID.
    pub id: String,
    /// SHA-256 of the token.
    pub digest: [u8; 32],
    /// Whose it is.
    pub principal: Principal,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// When it ends; never if not set.
    pub expires_ms: Option<i64>,
}

impl Token {
    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| now_ms >= expires_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_what_its_role_needs_and_nothing_else() {
        let make = |role, zones: &[&str], team: Option<&str>, user: Option<&str>| {
            let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
            Principal::new("it", role, zones, team.map(Into::into), user.map(Into::into))
        };
        assert_eq!(make(Role::Auditor, &[], None, None).unwrap().zones, Some(vec!["default".into()]));
        assert_eq!(make(Role::Auditor, &["a", "*"], None, None).unwrap().zones, None);
        assert_eq!(make(Role::Admin, &[], None, None).unwrap().zones, None);
        assert!(make(Role::Lead, &["a"], Some("t"), None).is_ok());
        assert!(make(Role::User, &["a"], None, Some("u")).is_ok());
        assert!(make(Role::Author, &["a"], None, None).is_ok());
        for wrong in [
            make(Role::Admin, &["a"], None, None),
            make(Role::Lead, &[], None, None),
            make(Role::User, &[], None, None),
            make(Role::Auditor, &[], Some("t"), None),
            make(Role::Agent, &["*"], None, None),
            make(Role::Agent, &["a", "b"], None, None),
            make(Role::User, &[], None, Some(" ")),
        ] {
            assert!(wrong.is_err(), "{wrong:?}");
        }
        for name in ["", "a b", "admin", "anonymous", &"x".repeat(65)] {
            assert!(Principal::new(name, Role::Admin, Vec::new(), None, None).is_err(), "{name}");
        }
    }
}
