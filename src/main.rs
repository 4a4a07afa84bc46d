//! The `xdbridge` command.

use std::{io, process::ExitCode};

use clap::Parser;
use xdbridge::app::commands::Cli;

fn main() -> ExitCode {
    Cli::parse().run(&mut io::stdout().lock())
}
