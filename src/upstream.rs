//! The HTTP client side: the servers docket stands in front of.
//!
//! [`Upstream::forward`] consumes a [`Permit`], and only a durable ledger entry (or the short list of plumbing) yields
//! one. Connections are pooled per server. It knows nothing of MCP or policies.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use crate::ledger::Permit;

/// How long a TCP and TLS handshake may take, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// How long an idle connection is kept, in milliseconds: less than the five seconds after which Node servers close one.
const IDLE_TIMEOUT_MS: u64 = 4_000;

/// Idle connections kept per server.
const MAX_IDLE_CONNECTIONS: usize = 64;

/// Why a permitted request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nothing listens there, the name does not resolve, or the handshake failed.
    #[error("cannot reach the server: {0}")]
    Unreachable(String),
    /// No response head within the server's time limit.
    #[error("the server did not answer within {0} ms")]
    Timeout(u64),
    /// The connection broke, or what came back is not HTTP.
    #[error("the server's answer broke off: {0}")]
    Broken(String),
}

/// One client for all servers.
#[derive(Clone)]
pub struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Upstream {
    /// A client for servers over HTTP, and over HTTPS by the system's certificate authorities where one `needs_tls`:
    /// reading those takes a while, and not every machine has any.
    ///
    /// # Errors
    /// The system's certificates cannot be read, or docket was built without a usable cipher suite.
    pub fn new(needs_tls: bool) -> std::io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_millis(CONNECT_TIMEOUT_MS)));
        let builder = hyper_rustls::HttpsConnectorBuilder::new();
        let roots = if needs_tls {
            builder.with_native_roots()?
        } else {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let config = config.map_err(std::io::Error::other)?;
            builder
                .with_tls_config(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        };
        let connector = roots.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(IDLE_TIMEOUT_MS))
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .build(connector);
        Ok(Self { client })
    }

    /// Sends the request and answers the response's head; its body follows as it comes.
    ///
    /// Dropping the future or the body closes the connection, which is how a caller's disconnect reaches the server.
    ///
    /// # Errors
    /// [`UpstreamError`]; nothing of a response has been seen then.
    pub async fn forward(
        &self,
        _permit: Permit,
        request: Request<Full<Bytes>>,
        timeout_ms: u64,
    ) -> Result<Response<Incoming>, UpstreamError> {
        match tokio::time::timeout(Duration::from_millis(timeout_ms), self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(UpstreamError::Timeout(timeout_ms)),
        }
    }
}

/// The innermost cause says most: "Connection refused", "invalid HTTP version parsed".
fn classify(error: &Error) -> UpstreamError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() {
        UpstreamError::Unreachable(cause.to_string())
    } else {
        UpstreamError::Broken(cause.to_string())
    }
}

/// Checks the URL of a configured server.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => {}
        _ => {
            return Err(format!(
                "`{text}` is not an absolute http:// or https:// URL, as `http://127.0.0.1:3001/mcp`"
            ));
        }
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a URL must not carry credentials; put them into `headers`".into());
    }
    Ok(uri)
}
