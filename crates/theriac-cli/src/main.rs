//! The `theriac` command.

mod commands;
mod progress;
mod reference;
mod workbench;

use std::process::ExitCode;

use clap::Parser;
use commands::{Cli, Failure};

/// Fast kernels leave page faults as the next cost of a training step; this allocator returns memory to itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::execute(cli) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {}", workbench::chain(&failure));
            failure.code()
        }
    }
}

impl Failure {
    fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::Usage(_) => 2,
            _ => 1,
        })
    }
}
