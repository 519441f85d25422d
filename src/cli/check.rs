//! `docket check PATH`: does this policy set compile, and what is wrong with it?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::EXIT_FINDINGS;
use crate::policy::{Limits, PolicySet, Source};

/// Arguments of `docket check`.
#[derive(Debug, Args)]
pub struct Check {
    /// A directory of `.rego` and data files, or one `.rego` file.
    #[arg(default_value = "policies")]
    path: PathBuf,
}

impl Check {
    /// Runs the command.
    ///
    /// # Errors
    /// The path cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let source = Source::read(&self.path)?;
        let (set, findings) = match PolicySet::compile(source, Limits::default()) {
            Ok(set) => (Some(set), Vec::new()),
            Err(findings) => (None, findings),
        };
        let warnings = set.as_ref().map_or(&[][..], PolicySet::warnings);
        for finding in findings.iter().chain(warnings) {
            println!("{finding}");
        }
        match set {
            Some(set) => {
                println!(
                    "{} policies hold together, manifest {}",
                    set.policies().len(),
                    set.reference().manifest_sha
                );
                Ok(if set.warnings().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FINDINGS) })
            }
            None => Ok(ExitCode::from(EXIT_FINDINGS)),
        }
    }
}
