//! Cross-origin requests (the Fetch standard's CORS protocol): off, unless a plane's `allowed_origins` names the origin.
//!
//! Pages of loopback may call a plane, as programs of the same machine may, and browsers do not let them read the answers.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::Body;
use crate::config::Plane;

/// What a page may send.
const METHODS: &str = "GET, POST, DELETE";
const HEADERS: &str = "Authorization, Content-Type, If-None-Match, Last-Event-ID, X-Request-Id, Mcp-Session-Id, \
    Mcp-Protocol-Version, Mcp-Method, Mcp-Name";

/// What a page may read, besides what every page may.
const EXPOSED: &str =
    "Content-Disposition, ETag, Retry-After, WWW-Authenticate, X-Request-Id, Mcp-Session-Id";

/// How long a browser need not ask again, in seconds.
const MAX_AGE: &str = "600";

/// The origin of a request, where the plane's configuration names it.
#[must_use]
pub fn origin(plane: &Plane, asked: &HeaderMap) -> Option<HeaderValue> {
    let origin = asked.get(ORIGIN)?;
    let text = origin.to_str().ok()?;
    plane.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(text)).then(|| origin.clone())
}

/// The answer to a browser that asks whether a page of an allowed origin may send something; `None` for other requests.
#[must_use]
pub fn preflight(plane: &Plane, method: &Method, asked: &HeaderMap) -> Option<Response<Body>> {
    let is_asked = *method == Method::OPTIONS && asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    origin(plane, asked).filter(|_| is_asked)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    Some(response)
}

/// Lets pages of an allowed origin read a response.
#[must_use]
pub fn readable(mut response: Response<Body>, origin: Option<HeaderValue>) -> Response<Body> {
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    response
}
