//! `docket serve`: the wiring. Reads clocks and signals so that nothing else has to.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use super::redactor::{self, Loader};
use super::{open_files, starter, terminal};
use crate::access::{Blocking, Tokens};
use crate::api::export::{self, Exports};
use crate::call::RequestId;
use crate::clock::Clock;
use crate::config::settings::{Change, changes, settings};
use crate::config::{Config, Flags, LogFormat, Raw, RawLedger, RawLog, RawPolicy, RawWatch};
use crate::flood::Flood;
use crate::gate::Gate;
use crate::identity::{AdminToken, Agents};
use crate::json::Object;
use crate::ledger::{Column, Entry, Filter, Keeper, Kind, Ledger, MAX_LIMIT, Queue, Signing, Stored};
use crate::masks::InForce;
use crate::metrics::Metrics;
use crate::planes::{AdminPlane, DataPlane};
use crate::policy::watch::{Method, Watch};
use crate::policy::{Limits, PolicySet};
use crate::proxy::{Proxy, Sessions};
use crate::publish::{Cause, HookPublisher, Origin, Publisher, keep};
use crate::redact::Redactor;
use crate::redact::hooks::HookHealth;
use crate::replay::Replayer;
use crate::trace::Tracer;
use crate::upstream::Upstream;
use crate::web::apart::Apart;
use crate::web::turns::{self, STACK_BYTES, Turns};
use crate::web::{self, Places, Reception};

/// The setting of how many connections there may be, for whoever meets it.
const CONNECTIONS: &str = "data.max_connections";

/// The setting of how much answers may hold, likewise.
const ANSWERS: &str = "admin.max_answer_bytes";

/// Those of one principal have this part of it.
const ANSWER_SHARE: usize = 4;

/// So many times as long as a question may take may a batch of an export: it is read only while nothing else would run.
const EXPORT_PATIENCE: u64 = 10;

/// Requests to read the policies again that may wait.
const MAX_CAUSES: usize = 4;

/// Arguments of `docket serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration file [default: ./docket.toml if present].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where agents call; `data.listen`.
    #[arg(long, value_name = "ADDRESS")]
    data_listen: Option<String>,
    /// Where people ask; `admin.listen`.
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// The ledger file; `ledger.path`.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The policy set; `policy.path`.
    #[arg(long, value_name = "PATH")]
    policy: Option<PathBuf>,
}

impl Serve {
    /// Runs docket until it is told to stop.
    ///
    /// # Errors
    /// The configuration, the policies, the ledger or an address cannot be used.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let flags = Flags {
            data_listen: self.data_listen,
            admin_listen: self.admin_listen,
            ledger: self.ledger,
            policy: self.policy,
        };
        let mut config = Raw::read(self.config.as_deref(), &flags)?.validate()?;
        trace(&config.log)?;
        let (connections, said) = open_files::connections(config.limits.max_connections, open_files::raise());
        if let Some(said) = said {
            tracing::warn!("{said}");
        }
        config.limits.max_connections = connections;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_stack_size(STACK_BYTES)
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            let running = start(config, system_clock()).await?;
            running.announce()?;
            let name = loop {
                tokio::select! {
                    _ = interrupt.recv() => break "SIGINT",
                    _ = terminate.recv() => break "SIGTERM",
                    _ = hangup.recv() => running.reload(Cause::Signal),
                }
            };
            tracing::info!(signal = name, "stopping");
            running.stop().await;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// The machine's clock and entropy.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the wiring is where the clock is read")]
pub fn system_clock() -> Clock {
    Clock {
        now_ms: || jiff::Timestamp::now().as_millisecond(),
        random: |buffer| {
            if let Err(error) = getrandom::fill(buffer) {
                // Predictable salts and ids would break what the ledger promises.
                eprintln!("docket: the system has no entropy: {error}");
                std::process::abort();
            }
        },
    }
}

/// A docket at work.
pub struct Running {
    /// Where agents call.
    pub data: SocketAddr,
    /// Where people ask.
    pub admin: SocketAddr,
    /// Digest of the manifest in force.
    pub manifest_sha: String,
    /// Where the admin token lies.
    pub token_file: PathBuf,
    servers: Vec<String>,
    policies: String,
    gate: Arc<Gate>,
    reload: mpsc::Sender<Cause>,
    reload_hooks: mpsc::Sender<Cause>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    _apart: Apart,
}

/// Starts docket: from when this returns it takes calls.
///
/// # Errors
/// The policies, the ledger, the admin token or an address cannot be used.
#[expect(clippy::too_many_lines, reason = "every part is made once, in the order in which the next needs it")]
pub async fn start(config: Config, clock: Clock) -> anyhow::Result<Running> {
    let origin = origin_of(&config.policy);
    let limits = origin.limits;
    let (policies, described) = (load_policies(&origin)?, origin.described());
    let policy_watch = watch_policies(&origin, config.policy.watch);
    let bind = async |section: &str, address: SocketAddr| {
        TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; set `{section}.listen`"))
    };
    let (data, admin) = (bind("data", config.data.listen).await?, bind("admin", config.admin.listen).await?);
    let (apart, admin) = (Apart::start().context("cannot start the admin plane")?, admin.into_std()?);
    let admin = {
        let _there = apart.handle().enter();
        TcpListener::from_std(admin)?
    };
    let ledger = open_ledger(&config.ledger, clock)?;
    let admin_token = AdminToken::load_or_mint(&config.token_file, &clock)
        .with_context(|| format!("the admin token `{}` cannot be used", config.token_file.display()))?;
    let needs_tls = config.servers.values().any(|server| server.url.scheme_str() == Some("https"));
    let (policies, metrics) = (Arc::new(ArcSwap::from_pointee(policies)), Metrics::new()?);
    let masks = InForce { policies: policies.clone(), clock, failures: metrics.mask_failures.clone() };
    let loader = Loader::new(Some(redactor::cache_beside(&config.ledger.path, ledger.hook_cache_key())));
    let hooks = loader.load(config.hooks, redactor::counting(&metrics))?;
    let redactor = Redactor::new(&config.redaction, ledger.hash_key());
    let redactor = Arc::new(redactor.with_masks(Box::new(masks)).with_hooks(hooks));
    let tracer = Tracer::start(ledger.clone(), redactor.clone(), clock).context("cannot start the tracer")?;
    let gate = Arc::new(Gate {
        policies,
        redactor,
        ledger,
        metrics,
        clock,
        flood: Mutex::new(Flood::default()),
        blocks: ArcSwap::default(),
        blocked_more: watch::channel(()).0,
        tracer,
    });
    let publisher = Arc::new(Publisher::new(gate.clone(), origin));
    let hook_publisher = Arc::new(HookPublisher::new(gate.clone(), loader.host, loader.cache));
    record_start(&gate, &publisher, &config.written).await?;
    let (reload, causes) = mpsc::channel(MAX_CAUSES);
    let (reload_hooks, hook_causes) = mpsc::channel(MAX_CAUSES);
    let (stop, stopping) = watch::channel(false);
    let proxy = Arc::new(Proxy {
        gate: gate.clone(),
        upstream: Upstream::new(needs_tls).context("the system's certificate authorities cannot be read")?,
        servers: config.servers.clone(),
        reception: Reception::new(config.limits),
        sessions: Sessions::default(),
        stopping: stopping.clone(),
    });
    let (data_address, admin_address) = (data.local_addr()?, admin.local_addr()?);
    if !admin_address.ip().is_loopback() {
        tracing::warn!(address = %admin_address, "the admin plane speaks plain HTTP beyond this machine; put TLS before it");
    }
    let agents = Agents::new(config.agents, data_address.ip().is_loopback());
    let tokens = Arc::new(Tokens::open(gate.clone(), admin_token, agents).await?);
    // Before the first call: a stop outlives a restart.
    let servers = config.servers.keys().cloned().collect();
    let blocking = Arc::new(Blocking::open(gate.clone(), tokens.clone(), servers).await?);
    let data_plane = DataPlane {
        proxy,
        tokens: tokens.clone(),
        plane: config.data,
        publisher: publisher.clone(),
        hooks: hook_publisher.clone(),
        requests: Places::new(
            "requests under way",
            (config.limits.max_connections, CONNECTIONS),
            (config.limits.max_requests_per_agent, "data.max_requests_per_agent"),
        ),
        stopping: stopping.clone(),
    };
    let keeper = Keeper::new(gate.ledger.clone(), gate.redactor.clone(), clock, config.retention);
    let sweeper = keeper.clone();
    let reader = gate.ledger.reader().pausing(turns::pass);
    let patient = reader.within(config.query_timeout_ms.saturating_mul(EXPORT_PATIENCE));
    let admin_plane = AdminPlane {
        gate: gate.clone(),
        reader: reader.clone(),
        queries: reader
            .within(config.query_timeout_ms)
            .with_pages_of(config.limits.max_answer_bytes / ANSWER_SHARE),
        exports: Exports::new(config.limits.max_exports, stopping.clone(), patient),
        requests: Places::new(
            "requests under way",
            (config.limits.max_connections, CONNECTIONS),
            (config.limits.max_requests_per_principal, "admin.max_requests_per_principal"),
        ),
        answers: Places::new(
            "bytes of answers that wait to be read",
            (config.limits.max_answer_bytes, ANSWERS),
            (config.limits.max_answer_bytes / ANSWER_SHARE, ANSWERS),
        ),
        turns: Turns::new(config.query_timeout_ms, &gate.ledger.calls_in_flight()),
        keeper,
        blocking: blocking.clone(),
        replayer: Arc::new(Replayer::new(reader, limits)),
        reception: Reception::new(config.limits),
        tokens: tokens.clone(),
        plane: config.admin,
        publisher: publisher.clone(),
        hooks: hook_publisher.clone(),
        stopping: stopping.clone(),
    };
    let manifest_sha = gate.policies.load().reference().manifest_sha.clone();
    Ok(Running {
        data: data_address,
        admin: admin_address,
        manifest_sha,
        token_file: config.token_file,
        servers: config.servers.into_keys().collect(),
        policies: described,
        tasks: vec![
            tokio::spawn(web::serve(Arc::new(data_plane), data, config.limits, stopping.clone())),
            apart.handle().spawn(web::serve(Arc::new(admin_plane), admin, config.limits, stopping.clone())),
            tokio::spawn(keep_house(gate.clone(), blocking, tokens, stopping.clone())),
            tokio::spawn(web::until_stopped(
                stopping.clone(),
                async move { sweeper.sweep_now_and_then().await },
            )),
            tokio::spawn(web::until_stopped(stopping.clone(), publisher.follow(policy_watch, causes))),
            tokio::spawn(web::until_stopped(stopping, hook_publisher.follow(hook_causes))),
        ],
        gate,
        reload,
        reload_hooks,
        stop,
        _apart: apart,
    })
}

fn open_ledger(config: &RawLedger, clock: Clock) -> anyhow::Result<Ledger> {
    let queue =
        Queue { max_entries: config.max_queue_entries, enqueue_timeout_ms: config.enqueue_timeout_ms };
    let signing = Signing {
        key_file: config.key_file.clone(),
        origin: config.origin.clone(),
        checkpoint_file: config.checkpoint_file.clone(),
    };
    Ok(Ledger::open(&config.path, queue, signing, clock)?)
}

impl Running {
    /// The gate, for what is built on a running docket.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Reads the policy set and the redaction hooks again, and puts in force what can be. Several requests that wait become
    /// one.
    pub fn reload(&self, cause: Cause) {
        // Where the queue is full, they are read after this anyway.
        let _ = self.reload_hooks.try_send(cause.clone());
        let _ = self.reload.try_send(cause);
    }

    /// Stops accepting, finishes calls under way within the bound, commits the last entries.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(error = %error, "a task ended badly");
            }
        }
        self.gate.turn_flood();
        self.gate.metrics.traces_skipped.inc_by(self.gate.tracer.stop().await);
        if let Err(error) = self
            .gate
            .ledger
            .append(life_entry(&self.gate, Kind::Stop, "docket.stopped", life(&self.gate)))
            .await
        {
            tracing::error!(error = %error, "the stop was not recorded");
        }
        self.gate.ledger.close().await;
    }

    /// Says where it listens: one JSON line on stdout, or words on a terminal.
    fn announce(&self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if !out.is_terminal() {
            let line = json!({
                "event": "ready", "data": self.data, "admin": self.admin, "manifest_sha": self.manifest_sha,
            });
            writeln!(out, "{line}")?;
            return out.flush();
        }
        let server = self.servers.first().map_or("SERVER", String::as_str);
        writeln!(out, "docket is ready")?;
        writeln!(
            out,
            "  agents call   http://{}  (MCP at /mcp/NAME, AuthZEN at /access/v1/evaluation)",
            self.data
        )?;
        writeln!(out, "  people ask    http://{}  (`docket tail`, `docket explain REQUEST_ID`)", self.admin)?;
        writeln!(out, "  policies      {}", self.policies)?;
        writeln!(out, "  manifest      {}", self.manifest_sha)?;
        writeln!(out, "  admin token   {}", self.token_file.display())?;
        if self.servers.is_empty() {
            writeln!(out, "  no server is configured; add one to docket.toml:")?;
            writeln!(out, "    [servers.everything]\n    url = \"http://127.0.0.1:3001/mcp\"")?;
        }
        writeln!(out, "  paste into an MCP client's configuration:")?;
        writeln!(
            out,
            "    {{\"mcpServers\": {{\"{server}\": {{\"type\": \"http\", \"url\": \"http://{}/mcp/{server}\"}}}}}}",
            self.data
        )?;
        out.flush()
    }
}

/// The event of a start.
const STARTED: &str = "docket.started";

/// The member of its metadata that has the configuration.
const SETTINGS: &str = "settings";

/// Records the start with the policies and the configuration in force and what is different from the last time, and closes
/// what an earlier run left open.
async fn record_start(gate: &Arc<Gate>, publisher: &Publisher, written: &Raw) -> anyhow::Result<()> {
    let reader = gate.ledger.reader();
    let (before, last, exports) = tokio::task::spawn_blocking(move || {
        let starts = Filter { limit: Some(1), ..Filter::default().with(Column::EventType, STARTED) };
        let last = reader.entries(&starts)?;
        let exports = Filter {
            limit: Some(MAX_LIMIT),
            after_seq: last.first().map(|start| start.seq),
            ..Filter::default().with(Column::Kind, Kind::Export.as_str())
        };
        reader.newest_manifest().and_then(|manifest| Ok((manifest, last, reader.entries(&exports)?)))
    })
    .await??;
    keep(gate, &gate.policies.load_full()).await?;
    let mut metadata = life(gate);
    metadata.insert(SETTINGS.into(), settings(written, |bytes| gate.redactor.hashed(bytes).0));
    let start = life_entry(gate, Kind::Start, STARTED, metadata);
    // Both as they are recorded, and before the start is: whoever is killed in between says it again.
    let recorded = start.content.get("metadata").and_then(|metadata| metadata.get(SETTINGS));
    let earlier = last.first().and_then(|start| start.metadata.get(SETTINGS));
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (earlier, recorded) {
        for Change { event_type, metadata } in changes(before, after) {
            let content = gate.redactor.record(vec![("metadata", metadata)]);
            gate.ledger.append(Entry::event(Kind::Start, event_type, (gate.clock.now_ms)(), content)).await?;
        }
    }
    for broken in broken_off(exports) {
        let content = gate.redactor.record(vec![("metadata", Value::Object(broken.metadata))]);
        let entry = Entry::event(Kind::Export, export::INTERRUPTED, (gate.clock.now_ms)(), content);
        let request_id = broken.request_id.as_deref().and_then(RequestId::parse);
        gate.ledger.append(Entry { request_id, ..entry }).await?;
    }
    gate.ledger.append(start).await?;
    publisher.note_restart(before).await?;
    let closed = gate.ledger.close_open_calls().await?;
    if closed > 0 {
        tracing::warn!(calls = closed, "an earlier run left calls without an outcome; recorded as unknown");
    }
    Ok(())
}

/// Of the newest entries about exports, newest first, those that say that one began which docket ended under.
fn broken_off(mut exports: Vec<Stored>) -> Vec<Stored> {
    // By request; whoever chooses ids may have several under one, and the newest of them are under way. What waited for the
    // ledger can stand before what it ended.
    let mut under_way: HashMap<Option<String>, i64> = HashMap::new();
    for entry in &exports {
        let change = if entry.event_type == export::REQUESTED { 1 } else { -1 };
        *under_way.entry(entry.request_id.clone()).or_default() += change;
    }
    exports.retain(|entry| {
        entry.event_type == export::REQUESTED
            && under_way.get_mut(&entry.request_id).is_some_and(|left| {
                *left -= 1;
                *left >= 0
            })
    });
    exports
}

/// What is said of docket itself when it starts, stops, or can write again.
fn life(gate: &Gate) -> Object {
    let mut metadata = Object::new();
    metadata.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    // The key stands in the ledger too: a copy of the file alone says which key it claims.
    metadata.insert("signed_by".into(), gate.ledger.verifier().to_string().into());
    let hooks = gate.redactor.hooks().health();
    if !hooks.is_empty() {
        let named = |hook: HookHealth| json!({"name": hook.hook, "sha256": hook.sha256});
        metadata.insert("loaded_hooks".into(), hooks.into_iter().map(named).collect());
    }
    metadata
}

fn life_entry(gate: &Gate, kind: Kind, event_type: &'static str, metadata: Object) -> Entry {
    let content = gate.redactor.record(vec![("metadata", Value::Object(metadata))]);
    let manifest_sha = Some(gate.policies.load().reference().manifest_sha.clone());
    Entry { manifest_sha, ..Entry::event(kind, event_type, (gate.clock.now_ms)(), content) }
}

/// New leaves are under a checkpoint after this long at most, and a little less so as not to promise in vain.
const CHECKPOINT_MS: u64 = 900;

/// What has to happen now and then, until docket stops.
async fn keep_house(
    gate: Arc<Gate>,
    blocking: Arc<Blocking>,
    tokens: Arc<Tokens>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut recorded = 0;
    loop {
        let stops = tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(CHECKPOINT_MS)) => false,
            _ = stopping.wait_for(|stopping| *stopping) => true,
        };
        gate.turn_flood();
        blocking.expire().await;
        tokens.expire().await;
        recorded = record_gap(&gate, recorded).await;
        if stops {
            return;
        }
        if gate.ledger.is_checkpoint_due()
            && let Err(error) = gate.ledger.checkpoint().await
        {
            tracing::warn!(error = %error, "no checkpoint could be signed");
        }
    }
}

/// Once the ledger can be written again, says in it that for a while it could not. `recorded` is how many failures were
/// said already; answers how many are now. Trying is also what finds out, when no call comes to try.
async fn record_gap(gate: &Arc<Gate>, recorded: u64) -> u64 {
    let failures = gate.ledger.health().failures();
    if failures == recorded {
        return recorded;
    }
    let mut metadata = Object::new();
    metadata.insert("failed_transactions".into(), (failures - recorded).into());
    let entry = life_entry(gate, Kind::Start, "ledger.recovered", metadata);
    match gate.ledger.append(entry).await {
        Ok(_) => failures,
        Err(_) => recorded,
    }
}

/// Where the configured policy set comes from: the built-in one stands in where the default folder is absent.
pub(super) fn origin_of(config: &RawPolicy) -> Origin {
    Origin {
        path: config.path.clone(),
        built_in: (config.path == Path::new("policies")).then(starter::source),
        entrypoint: config.entrypoint.clone(),
        limits: Limits { timeout: Duration::from_millis(config.timeout_ms) },
        require_tests: config.require_tests,
    }
}

/// The set, with its warnings in the log.
pub(super) fn load_policies(origin: &Origin) -> anyhow::Result<PolicySet> {
    let policies = origin.load().map_err(|findings| {
        let listed: Vec<String> = findings.iter().map(ToString::to_string).collect();
        anyhow!("the policies in {} cannot be put in force\n{}", origin.described(), listed.join("\n"))
    })?;
    for warning in policies.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(policies)
}

/// Watches the set's files. Where that cannot be, docket runs on: the set can still be read again when somebody says so.
fn watch_policies(origin: &Origin, how: RawWatch) -> Option<Watch> {
    let method = match how {
        RawWatch::Off => return None,
        RawWatch::Auto => Method::Native,
        RawWatch::Poll => Method::Poll,
    };
    if origin.built_in.is_some() && !origin.path.exists() {
        return None;
    }
    let watch = Watch::new(&origin.path, method);
    watch.inspect_err(|error| tracing::warn!("{error}; send SIGHUP after a change of the policies")).ok()
}

/// Logs go to stderr: pretty on a terminal, JSON otherwise.
fn trace(config: &RawLog) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.level).with_context(|| {
        format!(
            "`log.level`: `{}` is not a level (error, warn, info, debug) or a filter of them",
            config.level
        )
    })?;
    let pretty = match config.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    // A log that cannot be written, for a disk that is full or a reader that has gone, is nothing to end a thread for.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(terminal::has_colours(&std::io::stderr()));
    let result = if pretty { builder.try_init() } else { builder.json().flatten_event(true).try_init() };
    result.map_err(|error| anyhow!("cannot start logging: {error}"))
}
