//! A policy set, compiled: what is in force between two reloads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regorus::Engine;

use super::bundle::{Source, SourceFile, is_data, is_policy, is_test};
use super::deep;
use super::explain::Sources;
use super::finding::Finding;
use super::groups::{self, Group};
use super::library::Library;
use super::log::LogRules;
use super::manifest::{EntryPoint, File, Manifest, sha256, sha256_hex};
use super::targets::{Index, Targets};
use crate::decision::{Effect, PolicySetRef};

/// Bounds on evaluating one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time for all policies of a call together. A backstop: on a busy machine much less would fire falsely.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_millis(500) }
    }
}

/// Every policy in force, ready to decide. Shared by `Arc`; deciding takes no lock.
pub struct PolicySet {
    pub(super) policies: Vec<Policy>,
    pub(super) index: Index,
    pub(super) groups: Vec<Group>,
    pub(super) limits: Limits,
    /// Whether one rule decides everything, instead of effects that are combined.
    pub(super) has_entrypoint: bool,
    pub(super) reference: Arc<PolicySetRef>,
    manifest: Vec<u8>,
    files: Vec<StoredFile>,
    warnings: Vec<Finding>,
    /// What it says of its own record.
    pub(super) log: Option<LogRules>,
    /// For explanations.
    pub(super) sources: Sources,
}

struct StoredFile {
    path: String,
    digest: String,
    bytes: Vec<u8>,
}

/// One policy: a package that defines `allow`, `deny` or `require_approval`.
pub struct Policy {
    /// METADATA `custom.id`, else the package path.
    pub id: Arc<str>,
    /// METADATA `title`.
    pub title: Option<Arc<str>>,
    /// METADATA `description`.
    pub description: Option<String>,
    /// `sha256:` over the hex digests of [`Policy::files`], in their order, joined by newlines.
    pub version: Arc<str>,
    /// Package path without `data`.
    pub package: String,
    /// The effects it can produce.
    pub effects: Vec<Effect>,
    /// Its closure, sorted by path: every file whose change could change what it decides. The files of its package,
    /// of all packages its references lead to, and the data files those references could read from.
    pub files: Vec<String>,
    /// The calls it is evaluated for.
    pub targets: Targets,
    /// Its effect rules, with what their METADATA says.
    pub rules: Vec<RuleInfo>,
    /// Prepared with the closure; cloned for each call.
    pub(super) engine: Engine,
    pub(super) entries: Vec<Entry>,
    /// The group it is asked with, and its position there.
    pub(super) group: Option<(usize, usize)>,
}

/// One definition of an effect rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// What it argues for.
    pub effect: Effect,
    /// Its file and the line it begins at.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// METADATA `title` of the rule.
    pub title: Option<String>,
    /// METADATA `description` of the rule.
    pub description: Option<String>,
}

/// What to ask the engine for one effect.
pub(super) struct Entry {
    pub effect: Effect,
    /// `data.….deny`
    pub path: String,
    /// Full paths without `data` of the rules that explain the effect.
    pub explained: Vec<Vec<String>>,
    /// Name for the rule where its value is `true`: its METADATA title if it has but one, else the policy's.
    pub rule: Option<String>,
    pub file: String,
    pub line: u32,
    pub column: u32,
}

/// Why a stored set could not be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// The manifest cannot be read.
    #[error("stored manifest cannot be used: {0}")]
    Manifest(String),
    /// A file of the manifest is not there.
    #[error("file `{path}` with digest `{digest}` is not stored")]
    Missing {
        /// Its path in the set.
        path: String,
        /// `sha256:` and hex.
        digest: String,
    },
    /// What is stored under a digest has another.
    #[error("file `{path}` does not have the digest `{digest}` it is stored under")]
    Digest {
        /// Its path in the set.
        path: String,
        /// `sha256:` and hex.
        digest: String,
    },
    /// The files no longer compile, which another version of docket may cause.
    #[error("stored policies do not compile: {}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Compile(Vec<Finding>),
}

impl PolicySet {
    /// Compiles a source: parses, checks, and prepares an engine for each policy.
    ///
    /// # Errors
    /// Every error that was found, in file order; nothing is in force then.
    pub fn compile(source: Source, limits: Limits) -> Result<Self, Vec<Finding>> {
        Self::checked(source, limits, Library::check)
    }

    fn checked(
        source: Source,
        limits: Limits,
        check: fn(&Library) -> Vec<Finding>,
    ) -> Result<Self, Vec<Finding>> {
        let mut set = deep::run(|| compile(source, limits, check)).unwrap_or_else(|error| {
            Err(vec![Finding::file("internal", "", format!("cannot compile: {error}"))])
        })?;
        let missing = set.missing_lists();
        set.warnings.extend(missing);
        Ok(set)
    }

    /// Rebuilds a set from what the ledger keeps: the manifest, and each file by its digest (`sha256:` and hex).
    ///
    /// # Errors
    /// See [`StoredError`]; every digest is verified.
    pub fn from_stored(
        manifest: &[u8],
        mut get: impl FnMut(&str) -> Option<Vec<u8>>,
        limits: Limits,
    ) -> Result<Self, StoredError> {
        let read = Manifest::from_bytes(manifest).map_err(StoredError::Manifest)?;
        let entrypoint = read.entrypoint();
        let mut files = Vec::with_capacity(read.files.len());
        for File { path, sha256 } in read.files {
            let digest = format!("sha256:{sha256}");
            let Some(bytes) = get(&digest) else { return Err(StoredError::Missing { path, digest }) };
            if sha256_hex(&bytes) != sha256 {
                return Err(StoredError::Digest { path, digest });
            }
            files.push(SourceFile { path, bytes });
        }
        let source = Source { id: read.id, revision: read.revision, files, entrypoint };
        let set = Self::checked(source, limits, Library::check_stored);
        let mut set = set.map_err(StoredError::Compile)?;
        if set.manifest != manifest {
            // The files are those of the manifest, so this is still the set it names.
            set.manifest = manifest.to_vec();
            let (id, revision) = (set.reference.id.clone(), set.reference.revision.clone());
            set.reference = Arc::new(PolicySetRef { id, revision, manifest_sha: sha256(manifest) });
        }
        Ok(set)
    }

    /// The name of the set, for entries.
    #[must_use]
    pub fn reference(&self) -> &Arc<PolicySetRef> {
        &self.reference
    }

    /// The canonical manifest (RFC 8785); its digest is in [`PolicySet::reference`].
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The files of the manifest in its order: path, `sha256:` digest, bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str, &[u8])> {
        self.files.iter().map(|file| (file.path.as_str(), file.digest.as_str(), file.bytes.as_slice()))
    }

    /// The policies, sorted by package.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// What is probably not as meant, though it compiles.
    #[must_use]
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }
}

fn compile(
    source: Source,
    limits: Limits,
    check: fn(&Library) -> Vec<Finding>,
) -> Result<PolicySet, Vec<Finding>> {
    let mut warnings = Vec::new();
    let (files, ignored): (Vec<SourceFile>, Vec<SourceFile>) =
        source.files.into_iter().partition(|file| is_policy(&file.path) || is_data(&file.path));
    for file in ignored.iter().filter(|file| !is_test(&file.path)) {
        let message = "file is not part of the set: data is read from `data.json` and `data.yaml` only";
        warnings.push(Finding::file("ignored_file", &file.path, message).warning());
    }
    let mut files = files;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let library = Library::read(&files)?;
    let mut findings = check(&library);
    let policies = match &source.entrypoint {
        None => library.policies(&mut findings),
        Some(path) => library.entrypoint(path, &mut findings),
    };
    if findings.is_empty() {
        findings.extend(library.prepare_all());
    }
    if policies.is_empty() && findings.is_empty() {
        let message =
            "no package defines `allow`, `deny` or `require_approval`, so every call would be denied";
        findings.push(Finding::file("no_policy", "", message));
    }
    let digests: BTreeMap<&str, String> =
        files.iter().map(|file| (file.path.as_str(), sha256_hex(&file.bytes))).collect();
    let (mut built, mut closures) = (Vec::new(), Vec::new());
    if findings.is_empty() {
        for draft in policies {
            match library.build(draft, &digests) {
                Ok((policy, closure)) => {
                    built.push(policy);
                    closures.push(closure);
                }
                Err(finding) => findings.push(finding),
            }
        }
    }
    if !findings.is_empty() {
        findings.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        findings.dedup();
        return Err(findings);
    }
    let entry = |policy: &Policy| {
        let rule = || policy.entries.first()?.explained.first()?.last().cloned();
        let rule = source.entrypoint.as_ref().and_then(|_| rule());
        EntryPoint { id: policy.id.to_string(), package: policy.package.clone(), rule }
    };
    let file = |(path, sha256): (&&str, &String)| File { path: (*path).to_owned(), sha256: sha256.clone() };
    let entry_points = built.iter().map(entry).collect();
    let (id, revision) = (source.id, source.revision);
    let manifest =
        Manifest::new(id.clone(), revision.clone(), entry_points, digests.iter().map(file).collect())
            .to_bytes();
    let reference = Arc::new(PolicySetRef { id, revision, manifest_sha: sha256(&manifest) });
    drop(digests);
    let stored =
        |file: SourceFile| StoredFile { digest: sha256(&file.bytes), path: file.path, bytes: file.bytes };
    let files = files.into_iter().map(stored).collect();
    let log = LogRules::of(&library).map_err(|finding| vec![finding])?;
    let groups = groups::group(&library, &mut built, &closures);
    let index = Index::new(built.iter().map(|policy| &policy.targets));
    Ok(PolicySet {
        policies: built,
        index,
        groups,
        limits,
        has_entrypoint: source.entrypoint.is_some(),
        reference,
        manifest,
        files,
        warnings,
        log,
        sources: Sources::default(),
    })
}
