//! Publishing: a policy set is read, compiled and tested, then put in force whole; or refused, and the old one stays.
//!
//! Crash order: the files of the new set are kept in the ledger, then `policy.updated` is durable, and only then is the set
//! in force, so that no call is ever decided by policies the ledger does not hold. A crash between the last two costs
//! nothing: the next start reads the same set. Calls under way finish on the set they began with.

mod hooks;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use crate::gate::Gate;
use crate::ledger::{Entry, Kind, LedgerError};
use crate::policy::explain::Condition;
use crate::policy::watch::Watch;
use crate::policy::{Changes, Finding, Limits, PolicySet, Source, TestOptions, TestOutcome, run_tests};
use crate::replay::Replayer;

pub use hooks::HookPublisher;

/// Changes of files are taken for one until nothing has changed for this long, in milliseconds.
const QUIET_MS: u64 = 300;
/// A set that could not be recorded is tried again after this long, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// Longest evaluation of one Rego test, in milliseconds.
const TEST_TIMEOUT_MS: u64 = 5_000;
/// Findings that are recorded of a refused set.
const MAX_FINDINGS: usize = 50;

/// Where the policy set comes from, and what it must satisfy.
#[derive(Clone, Debug)]
pub struct Origin {
    /// A directory, a `.rego` file or a bundle.
    pub path: PathBuf,
    /// Stands in while there is nothing at the path.
    pub built_in: Option<Source>,
    /// The one rule that decides, where the set is not written in docket's effects.
    pub entrypoint: Option<String>,
    /// Bounds on evaluating one call.
    pub limits: Limits,
    /// Whether the set's own Rego tests must pass.
    pub require_tests: bool,
}

impl Origin {
    /// Reads, compiles and, where that is wanted, tests the set. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<PolicySet, Vec<Finding>> {
        let source = match &self.built_in {
            Some(built_in) if !self.path.exists() => built_in.clone(),
            _ => Source::read(&self.path)
                .map_err(|error| vec![Finding::file("unreadable", "", error.to_string())])?,
        };
        let source = Source { entrypoint: self.entrypoint.clone(), ..source };
        if self.require_tests {
            passes_its_tests(&source)?;
        }
        PolicySet::compile(source, self.limits)
    }

    /// Where it comes from, in words.
    #[must_use]
    pub fn described(&self) -> String {
        match &self.built_in {
            Some(_) if !self.path.exists() => {
                format!("the built-in starter set (there is no `{}` folder here)", self.path.display())
            }
            _ => self.path.display().to_string(),
        }
    }
}

/// What made docket look at its policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// docket started.
    Start,
    /// A file changed.
    Watch,
    /// SIGHUP.
    Signal,
    /// `POST /v1/policies/reload`, with who asked and from where.
    Request {
        /// The caller.
        principal: String,
        /// Its address.
        peer: String,
    },
}

impl Cause {
    fn facts(&self) -> Value {
        match self {
            Self::Start => json!({"cause": "start"}),
            Self::Watch => json!({"cause": "watch"}),
            Self::Signal => json!({"cause": "SIGHUP"}),
            Self::Request { principal, peer } => {
                json!({"cause": "request", "principal": principal, "peer": peer})
            }
        }
    }
}

/// What came of looking.
#[derive(Clone, Debug)]
pub enum Published {
    /// The set in force is the one at its path.
    Unchanged {
        /// Digest of its manifest.
        manifest_sha: String,
    },
    /// Another set is in force now.
    Updated(Update),
    /// The set cannot be put in force; the old one stays.
    Rejected(Arc<Rejected>),
}

/// One set in another's place.
#[derive(Clone, Debug, Serialize)]
pub struct Update {
    /// Digest of the manifest that was in force.
    pub before: String,
    /// Digest of the manifest in force.
    pub after: String,
    /// Which policies are different; absent where the older set can no longer be read.
    #[serde(flatten)]
    pub changes: Option<Changes>,
}

/// A set that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// When, in milliseconds since the Unix epoch.
    #[serde(skip)]
    pub time_ms: i64,
    /// Digest of the manifest that stays in force.
    pub manifest_sha: String,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Puts policy sets in force, one at a time.
pub struct Publisher {
    gate: Arc<Gate>,
    origin: Origin,
    /// Held while a set is being published.
    turn: Mutex<()>,
    /// The newest set at the path, while it is not the one in force.
    rejected: ArcSwapOption<Rejected>,
}

impl Publisher {
    /// Publishes for a gate.
    #[must_use]
    pub fn new(gate: Arc<Gate>, origin: Origin) -> Self {
        Self { gate, origin, turn: Mutex::default(), rejected: ArcSwapOption::empty() }
    }

    /// The refusal of the newest set, while it is not the one in force.
    #[must_use]
    pub fn rejected(&self) -> Option<Arc<Rejected>> {
        self.rejected.load_full()
    }

    /// Where the set comes from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.origin.path
    }

    /// Reads the set again and puts it in force, or refuses it. Either way is recorded before anybody is told; a set that is
    /// refused for the same reasons as before is not recorded again unless somebody asked.
    ///
    /// # Errors
    /// The ledger could not record it: the old set stays in force.
    pub async fn publish(&self, cause: &Cause) -> Result<Published, LedgerError> {
        let _turn = self.turn.lock().await;
        let origin = self.origin.clone();
        let loaded = tokio::task::spawn_blocking(move || origin.load()).await;
        let loaded =
            loaded.unwrap_or_else(|error| Err(vec![Finding::file("internal", "", error.to_string())]));
        let published = match loaded {
            Ok(set) => self.put_in_force(Arc::new(set), cause).await?,
            Err(findings) => self.reject(findings, cause).await?,
        };
        let (word, refused) = match &published {
            Published::Unchanged { .. } => ("unchanged", false),
            Published::Updated(_) => ("updated", false),
            Published::Rejected(_) => ("rejected", true),
        };
        self.gate.metrics.publications.with_label_values(&[word]).inc();
        self.gate.metrics.policy_rejected.set(i64::from(refused));
        Ok(published)
    }

    async fn put_in_force(&self, set: Arc<PolicySet>, cause: &Cause) -> Result<Published, LedgerError> {
        let old = self.gate.policies.load_full();
        let (before, after) = (old.reference().manifest_sha.clone(), set.reference().manifest_sha.clone());
        if before == after {
            self.rejected.store(None);
            return Ok(Published::Unchanged { manifest_sha: after });
        }
        let changes = Some(Changes::between(&old, &set));
        let update = Update { before, after, changes };
        keep(&self.gate, &set).await?;
        self.record_update(&update, cause).await?;
        // From here the ledger holds everything the new set will be named by.
        self.gate.policies.store(set);
        self.rejected.store(None);
        tracing::info!(before = update.before, after = update.after, "a policy set was published");
        if let Err(error) = self.gate.ledger.checkpoint().await {
            tracing::warn!(error = %error, "no checkpoint could be signed");
        }
        Ok(Published::Updated(update))
    }

    async fn reject(&self, findings: Vec<Finding>, cause: &Cause) -> Result<Published, LedgerError> {
        let manifest_sha = self.gate.policies.load().reference().manifest_sha.clone();
        let time_ms = (self.gate.clock.now_ms)();
        let rejected = Arc::new(Rejected { time_ms, manifest_sha, findings });
        let known = self.rejected.load_full().is_some_and(|known| known.findings == rejected.findings);
        if !known || matches!(cause, Cause::Request { .. } | Cause::Signal) {
            let shown: Vec<&Finding> = rejected.findings.iter().take(MAX_FINDINGS).collect();
            let facts = json!({"findings": shown, "count": rejected.findings.len()});
            self.gate.ledger.append(entry(&self.gate, "policy.rejected", cause, facts)).await?;
            for finding in shown {
                tracing::error!("a policy set was refused: {finding}");
            }
        }
        self.rejected.store(Some(rejected.clone()));
        Ok(Published::Rejected(rejected))
    }

    /// Records that since the last run another set is in force. `before` is the manifest the ledger speaks of last; the first
    /// start has none, and says what is in force itself.
    ///
    /// # Errors
    /// The ledger could not record it.
    pub async fn note_restart(&self, before: Option<String>) -> Result<(), LedgerError> {
        let set = self.gate.policies.load_full();
        let after = set.reference().manifest_sha.clone();
        let Some(before) = before.filter(|before| *before != after) else { return Ok(()) };
        let replayer = Replayer::new(self.gate.ledger.reader(), self.origin.limits);
        let known = before.clone();
        let compare = move || replayer.set(&known).ok().map(|old| Changes::between(&old, &set));
        let changes = tokio::task::spawn_blocking(compare).await.ok().flatten();
        self.record_update(&Update { before, after, changes }, &Cause::Start).await
    }

    async fn record_update(&self, update: &Update, cause: &Cause) -> Result<(), LedgerError> {
        let entry = entry(&self.gate, "policy.updated", cause, json!(update));
        let entry = Entry { manifest_sha: Some(update.after.clone()), ..entry };
        self.gate.ledger.append(entry).await.map(drop)
    }

    /// Publishes whenever a file changes or somebody says so, until nobody can any more. What could not be recorded is
    /// tried again.
    pub async fn follow(self: Arc<Self>, mut watch: Option<Watch>, mut causes: mpsc::Receiver<Cause>) {
        let mut again = None;
        loop {
            let heard = async {
                match &mut watch {
                    Some(watch) => watch.changed(Duration::from_millis(QUIET_MS)).await,
                    None => std::future::pending().await,
                }
            };
            let cause = tokio::select! {
                cause = causes.recv() => match cause {
                    Some(cause) => cause,
                    None => return,
                },
                () = heard => Cause::Watch,
                () = tokio::time::sleep(Duration::from_millis(RETRY_MS)), if again.is_some() => {
                    again.take().unwrap_or(Cause::Watch)
                }
            };
            if let Err(error) = self.publish(&cause).await {
                tracing::error!(error = %error, "the policy set cannot be published; it is tried again");
                again = Some(cause);
            }
        }
    }
}

/// The entry of something that was, or was not, put in force.
fn entry(gate: &Gate, event_type: &'static str, cause: &Cause, facts: Value) -> Entry {
    let mut metadata = cause.facts();
    if let (Value::Object(metadata), Value::Object(facts)) = (&mut metadata, facts) {
        metadata.extend(facts);
    }
    let content = gate.redactor.record(vec![("metadata", metadata)]);
    let manifest_sha = Some(gate.policies.load().reference().manifest_sha.clone());
    Entry { manifest_sha, ..Entry::event(Kind::Policy, event_type, (gate.clock.now_ms)(), content) }
}

/// Keeps manifest and files of a set in the ledger, each by its digest.
///
/// # Errors
/// The ledger cannot be written.
pub async fn keep(gate: &Gate, set: &PolicySet) -> Result<(), LedgerError> {
    let manifest = (set.reference().manifest_sha.clone(), set.manifest().to_vec());
    let files = set.files().map(|(_, digest, bytes)| (digest.to_owned(), bytes.to_vec()));
    gate.ledger.keep(files.chain([manifest]).collect()).await
}

/// Runs the tests of a set; each that does not pass is a finding.
fn passes_its_tests(source: &Source) -> Result<(), Vec<Finding>> {
    let limits = Limits { timeout: Duration::from_millis(TEST_TIMEOUT_MS) };
    let report = run_tests(source, &TestOptions { limits, ..TestOptions::default() })?;
    let failed = |result: &crate::policy::TestResult| {
        let why = match &result.outcome {
            TestOutcome::Pass | TestOutcome::Todo => return None,
            TestOutcome::Fail => {
                let cases = result.cases.iter().flat_map(|case| &case.failures);
                let because = result.failures.iter().chain(cases).next().map(|failure| {
                    let inner = failure.because.as_ref().map(|because| &because.condition);
                    let Condition { file, line, column, condition, .. } = inner.unwrap_or(&failure.condition);
                    format!(", because of `{condition}` at {file}:{line}:{column}")
                });
                format!("does not hold{}", because.unwrap_or_default())
            }
            TestOutcome::Error(error) => format!("cannot be evaluated: {error}"),
        };
        let message = format!("test `{}` {why}; the policies are not put in force", result.name);
        let mut finding = Finding::file("test_failed", &result.file, message);
        (finding.line, finding.column) = (result.line, 1);
        Some(finding)
    };
    let failed: Vec<Finding> = report.results.iter().filter_map(failed).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}
