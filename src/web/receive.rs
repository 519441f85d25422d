//! A request's body, received within its bounds.
//!
//! It knows how much there is of it and whose it is, and nothing of what it says. A body that is larger than most counts
//! against what one holder may have on its way, from its first piece until nobody needs it any more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{Body, Full, Place, Places, Problem, ProblemType, Visit, too_many, unauthorized};
use crate::call::{Caller, Fault};
use crate::config::Limits;
use crate::gate::{Gate, Refused};
use crate::identity::Rejection;
use crate::ledger::Kind;

/// A body up to this size is not counted: most are smaller, and pass without a lock.
const UNCOUNTED_BYTES: usize = 64 * 1024;

/// The least room that is made for a body in pieces.
const FIRST_BYTES: usize = 8 * 1024;

/// One holder has this part of what may be on its way.
const SHARE: usize = 4;

/// The setting of how much may be, for whoever meets it.
const RECEIVING: &str = "data.max_receiving_bytes";

/// Where the bodies of a plane are received.
#[derive(Debug)]
pub struct Reception {
    limits: Limits,
    bytes: Arc<Places>,
}

/// Why a request's body could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreceived {
    /// It is larger than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// It did not arrive in time.
    #[error("the body did not arrive within {0} ms")]
    TooSlow(u64),
    /// The connection broke.
    #[error("the body broke off")]
    Broken,
    /// There is no room for it now.
    #[error(transparent)]
    Full(Full),
    /// Its token was taken back while it came.
    #[error("the token is no longer good")]
    Ended,
    /// Its agent was blocked while it came.
    #[error("{0}")]
    Blocked(Fault),
}

impl Unreceived {
    /// The HTTP status that says so.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
            Self::Full(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Ended => StatusCode::UNAUTHORIZED,
            Self::Blocked(_) => StatusCode::FORBIDDEN,
        }
    }

    /// What is noted of it, where that is about the request itself.
    #[must_use]
    pub fn refused(&self, visit: &Visit) -> Option<Refused> {
        let (event_type, reason) = match self {
            Self::TooLarge(_) | Self::TooSlow(_) | Self::Broken => ("request.unreadable", "unreadable"),
            Self::Blocked(fault) => ("request.blocked", fault.rule()),
            Self::Full(_) | Self::Ended => return None,
        };
        Some(visit.refused(Kind::Decision, event_type, reason, self.to_string()))
    }

    /// Says so.
    #[must_use]
    pub fn response(&self, gate: &Arc<Gate>, visit: &Visit) -> Response<Body> {
        let problem = match self {
            Self::Full(full) => return too_many(gate, visit, full),
            Self::Ended => return *unauthorized(gate, visit, Rejection::Unknown),
            Self::Blocked(_) => ProblemType::NotPermitted,
            Self::TooLarge(_) | Self::TooSlow(_) | Self::Broken => ProblemType::InvalidRequest,
        };
        Problem::new(self.status(), problem, self.to_string(), visit).response()
    }
}

impl Reception {
    /// Receives within these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let most = limits.max_receiving_bytes;
        let (all, each) = ((most, RECEIVING), (most.div_ceil(SHARE), RECEIVING));
        Self { limits, bytes: Places::new("bytes of request bodies under way", all, each) }
    }

    /// Reads the body of an agent's request. A block that comes meanwhile cuts it off; who is blocked already may send it, for
    /// what is refused then is recorded.
    ///
    /// # Errors
    /// [`Unreceived`]; what had arrived is dropped.
    pub async fn of_agent(
        &self,
        body: Incoming,
        gate: &Arc<Gate>,
        caller: &Arc<Caller>,
        visit: &Visit,
    ) -> Result<Bytes, Unreceived> {
        let was_blocked = gate.blocked(caller, None).is_some();
        let blocked = async {
            if was_blocked {
                return std::future::pending().await;
            }
            gate.clone().until_blocked(caller.clone(), None).await
        };
        let take = |bytes| self.bytes.take_for(&caller.agent, bytes);
        tokio::select! {
            // First: a body that is there already has nobody wait for anything.
            biased;
            received = self.receive(body, take, visit) => received,
            fault = blocked => Err(Unreceived::Blocked(fault)),
        }
    }

    /// Reads the body of a principal's request.
    ///
    /// # Errors
    /// [`Unreceived`]; what had arrived is dropped.
    pub async fn of_principal(&self, body: Incoming, visit: &Visit) -> Result<Bytes, Unreceived> {
        self.receive(body, |bytes| self.bytes.take(&visit.principal, bytes), visit).await
    }

    async fn receive(
        &self,
        body: Incoming,
        take: impl Fn(usize) -> Result<Place, Full>,
        visit: &Visit,
    ) -> Result<Bytes, Unreceived> {
        let timeout_ms = self.limits.body_timeout_ms;
        let collected = collect(body, self.limits.max_body_bytes, take);
        let collected = tokio::select! {
            biased;
            collected = tokio::time::timeout(Duration::from_millis(timeout_ms), collected) => collected,
            () = visit.until_ended() => return Err(Unreceived::Ended),
        };
        let body = collected.unwrap_or(Err(Unreceived::TooSlow(timeout_ms)))?;
        if visit.is_ended() { Err(Unreceived::Ended) } else { Ok(body) }
    }
}

/// Reads a body of at most `most` bytes; `take` answers the place of one that is counted.
async fn collect(
    mut body: Incoming,
    most: usize,
    take: impl Fn(usize) -> Result<Place, Full>,
) -> Result<Bytes, Unreceived> {
    let too_large = Err(Unreceived::TooLarge(most));
    let expected = body.size_hint();
    if expected.lower() > most as u64 {
        return too_large;
    }
    let largest = expected.upper().and_then(|upper| usize::try_from(upper).ok()).unwrap_or(most).min(most);
    let mut whole = Whole { bytes: Vec::new(), place: None };
    while let Some(frame) = body.frame().await {
        // What is no data are trailers, which nobody asks for.
        let Ok(piece) = frame.map_err(|_| Unreceived::Broken)?.into_data() else { continue };
        let length = whole.bytes.len() + piece.len();
        if length > most {
            return too_large;
        }
        if whole.bytes.is_empty() && body.is_end_stream() && length <= UNCOUNTED_BYTES {
            return Ok(piece);
        }
        // Copied: a piece may be a single byte, and keeps the buffer it was read into.
        let room = whole.bytes.capacity();
        if length > room {
            whole.grow((room * 2).max(FIRST_BYTES).min(largest).max(length), &take)?;
        }
        whole.bytes.extend_from_slice(&piece);
    }
    Ok(if whole.place.is_some() { Bytes::from_owner(whole) } else { whole.bytes.into() })
}

/// A body, and the place that is its own for as long as anybody has a part of it.
struct Whole {
    bytes: Vec<u8>,
    place: Option<Place>,
}

impl Whole {
    /// Makes room for `room` bytes in all, once there is a place for them.
    fn grow(&mut self, room: usize, take: impl Fn(usize) -> Result<Place, Full>) -> Result<(), Unreceived> {
        if room > UNCOUNTED_BYTES {
            match &mut self.place {
                Some(place) => place.widen(room).map_err(Unreceived::Full)?,
                None => self.place = Some(take(room).map_err(Unreceived::Full)?),
            }
        }
        self.bytes.reserve_exact(room.saturating_sub(self.bytes.len()));
        Ok(())
    }
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
