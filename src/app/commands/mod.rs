//! One file for each subcommand. A command writes its result to the output it is given; what went wrong is its error,
//! which the caller prints.

pub mod backup;
pub mod cert;
pub mod config;
pub mod convert;
#[cfg(feature = "demo")]
pub mod demo;
pub mod exchange;
mod exchange_text;
pub mod explain;
pub mod init;
pub mod inspect;
pub mod postmaster;
pub mod serve;
pub mod smime;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

use super::exit::{CommandError, Exit};

/// Bridge between XDR (IHE ITI-41 over SOAP and MTOM) and Direct (S/MIME over SMTP).
#[derive(Debug, Parser)]
#[command(name = "xdbridge", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch one submission cross two bridges on this machine, with its own CA, two small EHRs and a mailbox.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// Write a working configuration with fresh keys and a private CA for trying out.
    Init(init::InitArgs),
    /// Serve until a signal ends it.
    Serve(serve::ServeArgs),
    /// Check or print the configuration.
    Config(config::ConfigArgs),
    /// Tell what a file holds and whether the bridge would take it: exit code 0 if so, 1 if not, 2 if it is unreadable.
    Inspect(inspect::InspectArgs),
    /// Turn a request into an XDM package or a plain mail, a package into a request or a mail, a mail into a request or
    /// a package.
    Convert(convert::ConvertArgs),
    /// Copy the store on SQLite, beside a running bridge or without one, to where another bridge can be started on it.
    Backup(backup::BackupArgs),
    /// Tell which certificate mail to an address would be encrypted to, and why: each question, certificate and check.
    Explain(explain::ExplainArgs),
    /// Print what has to be published, so that others find our certificates.
    Cert(cert::CertArgs),
    /// Look at exchanges, and try again, hold, release or end one.
    Exchange(exchange::ExchangeArgs),
    /// Read and remove mail that came for whoever runs this bridge.
    Postmaster(postmaster::PostmasterArgs),
    /// Open or seal one mail with keys and trust anchors from files.
    Smime(smime::SmimeArgs),
}

impl Cli {
    /// Runs the command. What it has to say goes to `out`, why it failed to the error stream.
    pub fn run(self, out: &mut dyn Write) -> ExitCode {
        let ended = match self.command {
            #[cfg(feature = "demo")]
            Command::Demo(args) => demo::run(&args, out),
            Command::Init(args) => init::run(&args, out),
            Command::Serve(args) => serve::run(&args),
            Command::Config(args) => config::run(&args, out),
            Command::Inspect(args) => inspect::run(&args, out),
            Command::Convert(args) => convert::run(&args, out),
            Command::Backup(args) => backup::run(&args, out),
            Command::Explain(args) => explain::run(&args, out),
            Command::Cert(args) => cert::run(&args, out),
            Command::Exchange(args) => exchange::run(args, out),
            Command::Postmaster(args) => postmaster::run(&args, out),
            Command::Smime(args) => smime::run(&args, out),
        };
        exit_code(ended)
    }
}

fn exit_code(ended: Result<Exit, CommandError>) -> ExitCode {
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            let causes = match &error {
                CommandError::Failed(cause) | CommandError::Unreadable(cause) => cause,
            };
            eprintln!("xdbridge: {causes:#}");
            error.exit().into()
        }
    }
}
