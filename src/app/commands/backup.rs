//! `xdbridge backup`: a copy of the store on SQLite that another bridge can be started on, taken beside a running bridge
//! or without one.

use std::{io::Write, path::PathBuf};

use clap::Args;

use crate::{
    adapters::store::{BackedUp, back_up},
    app::{
        config::Config,
        exit::{CommandError, Exit},
    },
};

/// `xdbridge backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The folder to make: nothing is there yet, or it is empty.
    dest: PathBuf,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Makes the copy. 1 if there is none, or if the store had lost a body before.
pub fn run(args: &BackupArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let config = Config::read(&args.config).map_err(CommandError::unreadable)?;
    let config = config.resolved();
    let copied = back_up(&config.store, &args.dest).map_err(CommandError::failed)?;
    let BackedUp {
        exchanges,
        body_files,
        postmaster_files,
        missing,
    } = &copied;
    writeln!(
        out,
        "{}: {exchanges} exchanges, {body_files} body files, {postmaster_files} files of the postmaster.",
        args.dest.display()
    )?;
    writeln!(
        out,
        "Not in it, and needed with it: the configuration, and the keys and certificates that it names. Without the \
         store's keys nobody can read the copy; keep them elsewhere:"
    )?;
    for key in &config.store.key_files {
        writeln!(out, "  {}", key.display())?;
    }
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    for body in missing {
        eprintln!("xdbridge: body {body} is missing in the store itself, and so in the copy");
    }
    Ok(Exit::Refused)
}
