//! The `theriac` command.

mod commands;
mod progress;
mod reference;
mod workbench;

use std::process::ExitCode;

use clap::Parser;
use commands::{Cli, Failure};

#[global_allocator]
static ALLOCATOR: theriac_nn::allocator::Allocator = theriac_nn::allocator::ALLOCATOR;

fn main() -> ExitCode {
    theriac_nn::allocator::hold_memory();
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
