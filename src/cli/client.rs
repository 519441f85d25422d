//! What the client commands read from: the admin plane of a running docket, or a ledger file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::net::TcpStream;

use super::progress::Progress;
use crate::config::{Config, Flags, Raw};
use crate::text::percent_encoded;

/// How long docket may take to answer a query, in milliseconds.
const TIMEOUT_MS: u64 = 30_000;

/// How long it may take to remove payloads: a few at a time, from a ledger of any size.
const PATIENT_TIMEOUT_MS: u64 = 6 * 3_600_000;

/// Where a running docket is, and with which token it is asked.
#[derive(Clone, Debug, Args)]
pub struct Address {
    /// The admin plane of a running docket [default: the configured one, else `http://127.0.0.1:7411`].
    #[arg(long, env = "DOCKET_URL", value_name = "URL")]
    url: Option<String>,
    /// The admin token [default: the configuration's token file].
    #[arg(long, env = "DOCKET_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The configuration to take address and token file from [default: ./docket.toml if present].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Address {
    /// The URL that was named. An empty variable is how shells and service managers leave one out.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| !url.is_empty())
    }

    fn token(&self) -> Option<&str> {
        self.token.as_deref().filter(|token| !token.is_empty())
    }

    fn configured(&self) -> anyhow::Result<Config> {
        Ok(Raw::read(self.config.as_deref(), &Flags::default())?.validate()?)
    }
}

/// A docket to ask.
pub struct Client {
    base: Uri,
    token: String,
    timeout_ms: u64,
    /// What can be read instead, if nothing listens there.
    otherwise: &'static str,
}

impl Client {
    /// Finds address and token: flags and environment first, else the configuration.
    pub fn new(address: &Address) -> anyhow::Result<Self> {
        let base = if let Some(url) = address.url() {
            url.to_owned()
        } else {
            let listen = address.configured()?.admin.listen;
            if listen.port() == 0 {
                bail!(
                    "the configuration leaves the port of the admin plane open (`admin.listen` is {listen}); pass --url with \
                     the address in the line that `docket serve` prints when it is ready"
                );
            }
            format!("http://{listen}")
        };
        let token = if let Some(token) = address.token() {
            token.to_owned()
        } else {
            let file = address.configured()?.token_file;
            let text = std::fs::read_to_string(&file).with_context(|| {
                // Where it was looked for depends on the working directory, as it does for `docket serve`.
                let file = std::path::absolute(&file).unwrap_or(file);
                let shown = file.display();
                format!("cannot read the admin token from `{shown}`; pass --token or set DOCKET_TOKEN")
            })?;
            text.trim().to_owned()
        };
        let base: Uri = base.parse().with_context(|| format!("`{base}` is not a URL"))?;
        if base.scheme_str() != Some("http") {
            bail!("`{base}` is not an http:// URL; the admin plane speaks plain HTTP, on loopback");
        }
        Ok(Self { base, token, timeout_ms: TIMEOUT_MS, otherwise: "" })
    }

    /// For a command that reads a ledger file as well.
    #[must_use]
    pub fn or_file(self) -> Self {
        Self { otherwise: " `--ledger FILE` reads a file offline", ..self }
    }

    /// Waits as long as removing payloads may take.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { timeout_ms: PATIENT_TIMEOUT_MS, ..self }
    }

    /// Asks for a path and reads the JSON answer; `None` for 404.
    pub async fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        Self::read(self.open(path, &[]).await?).await
    }

    /// Asks for a path and reads the answer as text.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        let (status, body) = Self::collect(self.open(path, &[]).await?).await?;
        if status != StatusCode::OK {
            bail!("{}", refusal(&serde_json::from_slice(&body).unwrap_or_default()));
        }
        String::from_utf8(body.into()).context("docket's answer is not text")
    }

    async fn read(response: Response<Incoming>) -> anyhow::Result<Option<Value>> {
        let (status, body) = Self::collect(response).await?;
        Self::accept(status, serde_json::from_slice(&body).context("docket's answer is not JSON")?)
    }

    fn accept(status: StatusCode, value: Value) -> anyhow::Result<Option<Value>> {
        match status {
            StatusCode::OK => Ok(Some(value)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => bail!("{}", refusal(&value)),
        }
    }

    async fn collect(response: Response<Incoming>) -> anyhow::Result<(StatusCode, Bytes)> {
        let status = response.status();
        let body = response.into_body().collect();
        let body = tokio::time::timeout(Duration::from_millis(TIMEOUT_MS), body)
            .await
            .context("docket took too long")??;
        Ok((status, body.to_bytes()))
    }

    /// Sends a JSON body and reads the JSON answer; `None` for 404.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Option<Value>> {
        let (status, answer) = self.exchange(path, body).await?;
        Self::accept(status, answer)
    }

    /// Sends a JSON body and reads the JSON answer, whatever its status.
    pub async fn exchange(&self, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
        let (status, body) = Self::collect(self.stream(path, body).await?).await?;
        Ok((status, serde_json::from_slice(&body).context("docket's answer is not JSON")?))
    }

    /// Has something changed: docket's answer, or in its words that there is nothing of the kind.
    pub async fn change(&self, path: &str, body: &Value) -> anyhow::Result<Result<Value, String>> {
        let (status, answer) = self.exchange(path, body).await?;
        match status {
            StatusCode::OK => Ok(Ok(answer)),
            StatusCode::NOT_FOUND => Ok(Err(refusal(&answer).to_owned())),
            _ => bail!("{}", refusal(&answer)),
        }
    }

    /// Sends a JSON body; the answer is read as it comes.
    pub async fn stream(&self, path: &str, body: &Value) -> anyhow::Result<Response<Incoming>> {
        let body = Full::new(Bytes::from(serde_json::to_vec(body)?));
        self.send(http::Method::POST, path, &[("content-type", "application/json")], body).await
    }

    /// Sends a JSON body and reads JSON Lines: progress goes to its bar, each line before the last to `each`, until that
    /// answers `false`. Answers the last, which says what all came to; `None` where reading was ended.
    pub async fn lines(
        &self,
        path: &str,
        mut body: Map<String, Value>,
        progress: &Progress,
        mut each: impl FnMut(Value) -> bool,
    ) -> anyhow::Result<Option<Value>> {
        body.insert("progress".into(), true.into());
        let response = self.stream(path, &Value::Object(body)).await?;
        if response.status() != StatusCode::OK {
            let (_, problem) = Self::collect(response).await?;
            bail!("{}", refusal(&serde_json::from_slice(&problem).unwrap_or_default()));
        }
        let (mut body, mut buffer) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("docket broke off")?.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line: Value = serde_json::from_slice(&line).context("docket's answer is not JSON")?;
                let number = |name: &str| line.get(name).and_then(Value::as_u64).unwrap_or(0);
                let kind = line.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
                match kind.as_str() {
                    "totals" | "cover" => return Ok(Some(line)),
                    "error" => bail!("{}", line.get("message").and_then(Value::as_str).unwrap_or_default()),
                    "progress" => progress.show(number("done"), number("of")),
                    _ if each(line) => {}
                    _ => return Ok(None),
                }
            }
        }
        bail!("docket broke off before the end");
    }

    /// Opens a response whose body is read as it comes.
    pub async fn open(&self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response<Incoming>> {
        self.send(http::Method::GET, path, headers, Full::default()).await
    }

    /// Asks for a long answer, which is read as it comes.
    pub async fn body(&self, path: &str) -> anyhow::Result<Incoming> {
        let response = self.open(path, &[]).await?;
        if response.status() != StatusCode::OK {
            let (_, problem) = Self::collect(response).await?;
            bail!("{}", refusal(&serde_json::from_slice(&problem).unwrap_or_default()));
        }
        Ok(response.into_body())
    }

    async fn send(
        &self,
        method: http::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Full<Bytes>,
    ) -> anyhow::Result<Response<Incoming>> {
        let authority = self.base.authority().context("the URL names no host")?;
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let connect = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(&address));
        let stream =
            connect.await.map_err(|_| anyhow!("timed out")).and_then(|stream| Ok(stream?)).with_context(
                || format!("cannot reach docket at {address}; is `docket serve` running?{}", self.otherwise),
            )?;
        let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let prefix = self.base.path().trim_end_matches('/');
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(HOST, authority.as_str())
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(body)?;
        for (name, value) in headers {
            request.headers_mut().insert(http::HeaderName::try_from(*name)?, value.parse()?);
        }
        let response =
            tokio::time::timeout(Duration::from_millis(self.timeout_ms), sender.send_request(request));
        response.await.context("docket took too long")?.context("docket did not answer")
    }
}

/// What a problem document says.
pub fn refusal(problem: &Value) -> &str {
    problem.get("detail").and_then(Value::as_str).unwrap_or("docket refused to answer")
}

/// Percent-encodes one path segment or query value.
pub fn encode(text: &str) -> String {
    percent_encoded(text, b":")
}

/// A runtime for a command that asks one thing.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}
