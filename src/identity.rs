//! Who is calling: tokens to callers on the data plane, the admin token on the admin plane.
//!
//! Tokens are known by their SHA-256 only. What a request *asserts* about itself never reaches this module; it looks at
//! the `Authorization` header and at the configuration, and at nothing else.

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::call::Caller;
use crate::clock::Clock;
use crate::files;

/// Bytes of entropy in a token that docket mints.
const TOKEN_BYTES: usize = 32;

/// SHA-256 of a token.
pub type TokenDigest = [u8; 32];

/// Why a request has no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no token, and callers without one are not accepted here.
    #[error("a token is required; send `Authorization: Bearer TOKEN`")]
    Missing,
    /// The `Authorization` header is not `Bearer TOKEN` or `Basic …`.
    #[error("the `Authorization` header cannot be read; send `Authorization: Bearer TOKEN`")]
    Malformed,
    /// Nobody has this token.
    #[error("the token is not known")]
    Unknown,
    /// The agent of this token is disabled.
    #[error("the agent of this token is disabled")]
    Disabled,
    /// Its time is over.
    #[error("the token has expired; ask an admin for a new one")]
    Expired,
    /// It is an agent's, and this is the admin plane.
    #[error("the token is an agent's, and is good on the data plane only")]
    Agents,
    /// It is a person's, and this is the data plane.
    #[error("the token is for the admin plane; agents have tokens of their own")]
    Peoples,
}

impl Rejection {
    /// The stable word for it, as recorded.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing_token",
            Self::Malformed => "malformed_authorization",
            Self::Unknown => "unknown_token",
            Self::Disabled => "agent_disabled",
            Self::Expired => "expired_token",
            Self::Agents => "agent_token",
            Self::Peoples => "admin_token",
        }
    }
}

/// The agents that may call, by the digest of their token.
#[derive(Debug, Default)]
pub struct Agents {
    by_token: HashMap<TokenDigest, (Arc<Caller>, bool)>,
    anonymous: Option<Arc<Caller>>,
}

impl Agents {
    /// `agents` are (token digest, caller, enabled). Callers without a token are `anonymous` where that is accepted:
    /// only while the data plane is bound to loopback.
    #[must_use]
    pub fn new(agents: Vec<(TokenDigest, Caller, bool)>, accept_anonymous: bool) -> Self {
        let by_token = agents
            .into_iter()
            .map(|(digest, caller, enabled)| (digest, (Arc::new(caller), enabled)))
            .collect();
        Self { by_token, anonymous: accept_anonymous.then(|| Arc::new(Caller::anonymous())) }
    }

    /// Whether a token is that of an agent.
    #[must_use]
    pub fn knows(&self, digest: &TokenDigest) -> bool {
        self.by_token.contains_key(digest)
    }

    /// Whether there is an agent of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.by_token.values().any(|(caller, _)| caller.agent == name)
    }

    /// The name of each, and that of callers without a token.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let callers = self.by_token.values().map(|(caller, _)| caller);
        callers.chain(&self.anonymous).map(|caller| caller.agent.as_str())
    }

    /// The caller of a request, by its `Authorization` header.
    ///
    /// # Errors
    /// [`Rejection`] where there is none: the request is refused with 401.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Rejection> {
        match presented_token(headers)? {
            None => self.anonymous.clone().ok_or(Rejection::Missing),
            Some(token) => match self.by_token.get(&digest_of(&token)) {
                Some((caller, true)) => Ok(caller.clone()),
                Some((_, false)) => Err(Rejection::Disabled),
                None => Err(Rejection::Unknown),
            },
        }
    }
}

/// The first admin's token, which lies in a file beside the ledger. Whoever may write the file may give the token away, so
/// another file in its place is taken up at once.
#[derive(Debug)]
pub struct AdminToken {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    digest: TokenDigest,
    stamp: Option<Stamp>,
    /// Turns true when another token takes its place.
    ended: watch::Sender<bool>,
}

/// What changes when a file is written: device, inode, size and time.
type Stamp = (u64, u64, u64, i64, i64);

impl AdminToken {
    /// Reads the token file, or mints a token and writes it with mode 0600.
    ///
    /// # Errors
    /// The file cannot be read or written, is empty, or others may read it.
    pub fn load_or_mint(path: &Path, clock: &Clock) -> std::io::Result<Self> {
        let stamp = stamp(path);
        let digest = match read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => digest_of(&write(path, clock)?),
            read => read?,
        };
        // A file that was made just now is looked at once more, and is the same.
        let known = Known { digest, stamp, ended: watch::channel(false).0 };
        Ok(Self { path: path.to_owned(), known: Mutex::new(known) })
    }

    /// Takes up the token of a file that was replaced; whether it is another. A file that is gone, or that others may read, takes
    /// nothing away: the token it had stays good.
    pub fn refresh(&self) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.path);
        if stamp == known.stamp {
            return false;
        }
        known.stamp = stamp;
        match read(&self.path) {
            Ok(digest) if digest != known.digest => {
                known.digest = digest;
                known.ended.send_replace(true);
                known.ended = watch::channel(false).0;
                true
            }
            Ok(_) => false,
            Err(error) => {
                let file = self.path.display();
                tracing::warn!("the admin token `{file}` cannot be used, and the one before stays: {error}");
                false
            }
        }
    }

    /// Where this is the token: what turns true when it is no longer.
    #[must_use]
    pub fn guest(&self, digest: &TokenDigest) -> Option<watch::Receiver<bool>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Comparing digests tells an observer of the timing nothing about the token.
        (known.digest == *digest).then(|| known.ended.subscribe())
    }
}

/// Mints an admin token and puts it in the place of the one in the file, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, clock: &Clock) -> std::io::Result<String> {
    let token = mint(clock);
    // Half a token, or none, would keep docket from starting again.
    files::replace(path, format!("{token}\n").as_bytes(), files::OWNER_ONLY)?;
    Ok(token)
}

fn read(path: &Path) -> std::io::Result<TokenDigest> {
    let text = std::fs::read_to_string(path)?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        let shown = path.display();
        return Err(std::io::Error::other(format!(
            "others may read it (mode {:o}); run `chmod 600 {shown}`, and replace it if it may have leaked",
            mode & 0o777
        )));
    }
    let token = text.trim();
    if token.is_empty() {
        return Err(std::io::Error::other("it is empty; remove it and docket mints a new token"));
    }
    Ok(digest_of(token))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

/// A new token: 32 random bytes as base64url with a recognisable beginning.
#[must_use]
pub fn mint(clock: &Clock) -> String {
    let mut bytes = [0; TOKEN_BYTES];
    (clock.random)(&mut bytes);
    format!("dkt_{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// SHA-256 of a token's bytes.
#[must_use]
pub fn digest_of(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

/// The token of `Bearer TOKEN`, or the password of `Basic` with any user name (RFC 7617).
///
/// # Errors
/// [`Rejection::Malformed`].
pub fn presented_token(headers: &HeaderMap) -> Result<Option<String>, Rejection> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Rejection::Malformed)?;
    let (scheme, rest) = text.split_once(' ').ok_or(Rejection::Malformed)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
        return Ok(Some(rest.to_owned()));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let credentials = decoded.ok_or(Rejection::Malformed)?;
        let (_, password) = credentials.split_once(':').ok_or(Rejection::Malformed)?;
        return Ok(Some(password.to_owned()));
    }
    Err(Rejection::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock { now_ms: || 0, random: |buffer| buffer.fill(3) }
    }

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn callers_are_known_by_their_token_only() {
        let caller = |agent: &str| Caller { agent: agent.into(), verified: true, ..Caller::anonymous() };
        let agents = Agents::new(
            vec![(digest_of("good"), caller("bot"), true), (digest_of("old"), caller("ex"), false)],
            false,
        );
        let basic = format!("Basic {}", STANDARD.encode("anyone:good"));
        for (header, expected) in [
            ("Bearer good", Ok("bot")),
            ("bearer  good ", Ok("bot")),
            (basic.as_str(), Ok("bot")),
            ("Bearer old", Err(Rejection::Disabled)),
            ("Bearer bad", Err(Rejection::Unknown)),
            ("Bearer", Err(Rejection::Malformed)),
            ("Digest x", Err(Rejection::Malformed)),
            ("Basic !!!", Err(Rejection::Malformed)),
        ] {
            let identified = agents.identify(&with(header));
            assert_eq!(
                identified.as_ref().map(|caller| caller.agent.as_str()),
                expected.as_ref().copied(),
                "{header}"
            );
        }
        assert_eq!(agents.identify(&HeaderMap::new()), Err(Rejection::Missing));
        let open = Agents::new(Vec::new(), true);
        assert_eq!(*open.identify(&HeaderMap::new()).unwrap(), Caller::anonymous());
        assert_eq!(open.identify(&with("Bearer x")), Err(Rejection::Unknown));
    }

    #[test]
    fn the_admin_token_is_minted_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        let minted = AdminToken::load_or_mint(&path, &clock()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let digest = digest_of(text.trim());
        assert!(minted.guest(&digest).is_some() && minted.guest(&digest_of("nope")).is_none());
        assert!(AdminToken::load_or_mint(&path, &clock()).unwrap().guest(&digest).is_some());
        // Another file is taken up, a bad one is not.
        let ended = minted.guest(&digest).unwrap();
        assert!(!minted.refresh());
        let other = write(&path, &Clock { random: |buffer| buffer.fill(4), ..clock() }).unwrap();
        assert!(minted.refresh() && !minted.refresh());
        assert!(*ended.borrow() && minted.guest(&digest).is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(!minted.refresh() && minted.guest(&digest_of(&other)).is_some());
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!minted.refresh() && minted.guest(&digest_of(&other)).is_some());
        assert!(AdminToken::load_or_mint(&path, &clock()).unwrap_err().to_string().contains("chmod 600"));
    }
}
