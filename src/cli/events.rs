//! `docket events`: the catalogue of event types.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::EXIT_NOT_FOUND;
use crate::api::events::EVENTS;
use crate::text::nearest;

/// Arguments of `docket events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Only this event, or those that begin with this, as `policy.`.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

impl Events {
    /// Runs the command.
    ///
    /// # Errors
    /// Nothing can be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let wanted = self.name.as_deref().unwrap_or_default();
        let found: Vec<_> = EVENTS.iter().filter(|event| event.event_type.starts_with(wanted)).collect();
        if found.is_empty() {
            let near = nearest(wanted, EVENTS.iter().map(|event| event.event_type));
            let meant = near.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            eprintln!("docket: there is no event `{wanted}`{meant}");
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        for event in found {
            writeln!(out, "{:<24} {:<9} {}", event.event_type, event.kind, event.about)?;
            if !event.fields.is_empty() {
                writeln!(out, "{:<34} metadata: {}", "", event.fields.join(", "))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
