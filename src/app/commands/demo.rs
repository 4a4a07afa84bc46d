//! `xdbridge demo [--once] [--dir DIR]`: a whole crossing on loopback, over two bridges.

use std::{io::Write, path::PathBuf};

use clap::Args;

use crate::app::{
    demo,
    exit::{CommandError, Exit},
};

/// `xdbridge demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after the crossing: exit code 0 only if every check held.
    #[arg(long)]
    once: bool,
    /// Keep everything in this directory: a new one, or an empty one. Default: a temporary one, removed at the end.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let held = demo::run(args.dir.as_deref(), args.once, out).map_err(CommandError::Failed)?;
    Ok(if held { Exit::Done } else { Exit::Refused })
}
