//! The policies a command asks in place of those in force.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde_json::{Map, Value};

use super::serve::{load_policies, origin_of};
use crate::config::{Flags, Raw};
use crate::policy::{Limits, PolicySet, Source};

/// A policy set, where another than the one in force is meant.
#[derive(Clone, Debug, Args)]
pub struct Candidate {
    /// The policies to ask: a directory, one `.rego` file or a bundle [default: those in force, or those configured].
    #[arg(long, value_name = "PATH")]
    policy: Option<PathBuf>,
    /// The one rule that decides, as `data.authz.decision`, where the policies are not written in docket's effects.
    #[arg(long, value_name = "RULE", requires = "policy")]
    entrypoint: Option<String>,
}

impl Candidate {
    /// Compiles the set; without one named, the configured one.
    ///
    /// # Errors
    /// It cannot be read, or does not compile.
    pub fn load(&self, config: Option<&Path>) -> anyhow::Result<PolicySet> {
        let Some(source) = self.source()? else {
            let config = Raw::read(config, &Flags::default())?.validate()?;
            return load_policies(&origin_of(&config.policy));
        };
        PolicySet::compile(source, Limits::default()).map_err(|findings| {
            let listed: Vec<String> = findings.iter().map(ToString::to_string).collect();
            anyhow!("the policies do not compile\n{}", listed.join("\n"))
        })
    }

    /// Whether a set was named.
    pub fn is_named(&self) -> bool {
        self.policy.is_some()
    }

    /// The set as members of a JSON body, `policies`, `id`, `revision` and `entrypoint`; none where the one in force is meant.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn members(&self) -> anyhow::Result<Map<String, Value>> {
        let mut members = Map::new();
        let Some(source) = self.source()? else { return Ok(members) };
        let mut files = Map::new();
        for file in source.files {
            let text = String::from_utf8(file.bytes).map_err(|_| anyhow!("`{}` is not UTF-8", file.path))?;
            files.insert(file.path, text.into());
        }
        members.insert("policies".into(), Value::Object(files));
        members.insert("id".into(), source.id.into());
        members.extend(source.revision.map(|revision| ("revision".to_owned(), revision.into())));
        members.extend(source.entrypoint.map(|rule| ("entrypoint".to_owned(), rule.into())));
        Ok(members)
    }

    fn source(&self) -> anyhow::Result<Option<Source>> {
        let Some(path) = &self.policy else { return Ok(None) };
        let source = Source::read(path)?;
        Ok(Some(Source { entrypoint: self.entrypoint.clone(), ..source }))
    }
}
