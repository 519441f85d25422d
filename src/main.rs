//! The `docket` command: parse, trace, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use docket::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
