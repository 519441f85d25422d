//! `docket policy`: what a policy set is made of, and putting it in force.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::EXIT_FINDINGS;
use super::cover::Cover;
use super::reload::Reload;
use super::test_from::TestFrom;
use crate::policy::{Limits, Policy as Prepared, PolicySet, Source};

/// Subcommands of `docket policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Show a policy set: its id, revision and manifest digest, and each policy with its version, effects and files.
    Show(Show),
    /// Count how often each rule fires over recorded calls, and find those that never do.
    Cover(Box<Cover>),
    /// Make a running docket read its policies again; those that do not hold together are refused.
    Reload(Reload),
    /// Write Rego unit tests from recorded decisions: what was decided stays decided.
    TestFrom(Box<TestFrom>),
}

impl Policy {
    /// Runs the command.
    ///
    /// # Errors
    /// The path cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Show(show) => show.run(),
            Self::Cover(cover) => cover.run(),
            Self::Reload(reload) => reload.run(),
            Self::TestFrom(test_from) => test_from.run(),
        }
    }
}

/// Arguments of `docket policy show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A directory of policies, or one `.rego` file.
    #[arg(default_value = "policies")]
    path: PathBuf,
    /// The one rule that decides, as `data.authz.decision`, where the policies are not written in docket's effects.
    #[arg(long, value_name = "RULE")]
    entrypoint: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Show {
    fn run(self) -> anyhow::Result<ExitCode> {
        let source = Source { entrypoint: self.entrypoint, ..Source::read(&self.path)? };
        let set = match PolicySet::compile(source, Limits::default()) {
            Ok(set) => set,
            Err(findings) => {
                for finding in &findings {
                    eprintln!("{finding}");
                }
                return Ok(ExitCode::from(EXIT_FINDINGS));
            }
        };
        let reference = set.reference();
        if self.json {
            let policies: Vec<Json> = set.policies().iter().map(as_json).collect();
            let shown = json!({
                "id": reference.id,
                "revision": reference.revision,
                "manifest_sha": reference.manifest_sha,
                "policies": policies,
            });
            println!("{}", serde_json::to_string_pretty(&shown)?);
            return Ok(ExitCode::SUCCESS);
        }
        println!("set       {}", reference.id);
        println!("revision  {}", reference.revision.as_deref().unwrap_or("none"));
        println!("manifest  {}", reference.manifest_sha);
        for policy in set.policies() {
            println!(
                "\n{}{}",
                policy.id,
                policy.title.as_ref().map(|title| format!("  {title}")).unwrap_or_default()
            );
            println!("  version  {}", policy.version);
            println!("  package  {}", policy.package);
            println!("  effects  {}", effects(policy).join(", "));
            println!("  files    {}", policy.files.join(", "));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn effects(policy: &Prepared) -> Vec<&'static str> {
    policy.effects.iter().map(|effect| effect.as_str()).collect()
}

fn as_json(policy: &Prepared) -> Json {
    let [servers, tools, actions] = policy.targets.written();
    let rules: Vec<Json> = policy
        .rules
        .iter()
        .map(|rule| json!({"effect": rule.effect.as_str(), "file": rule.file, "line": rule.line, "title": rule.title}))
        .collect();
    json!({
        "id": &*policy.id,
        "title": policy.title.as_deref(),
        "description": policy.description,
        "version": &*policy.version,
        "package": policy.package,
        "effects": effects(policy),
        "files": policy.files,
        "targets": {"servers": servers, "tools": tools, "actions": actions},
        "rules": rules,
    })
}
