//! `docket openapi`: the contract of a plane, as a running docket serves it.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::api::contract::{self, Side};

/// Arguments of `docket openapi`.
#[derive(Debug, Args)]
pub struct Openapi {
    /// Whose side: `admin` is the audit API, `data` the proxy and the decision API.
    #[arg(long, value_enum, default_value_t = Plane::Admin)]
    plane: Plane,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Plane {
    Admin,
    Data,
}

impl Openapi {
    /// Runs the command.
    ///
    /// # Errors
    /// Nothing can be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let side = match self.plane {
            Plane::Admin => Side::Admin,
            Plane::Data => Side::Data,
        };
        std::io::stdout().lock().write_all(contract::text(side).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
