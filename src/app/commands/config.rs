//! `xdbridge config check|print`.

use std::{
    io::Write,
    net::{TcpListener, TcpStream, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};

use crate::{
    adapters::clock::SystemClock,
    app::{
        config::Config,
        exit::{CommandError, Exit},
    },
    flows::ports::Clock,
};

/// Longest wait for the smarthost to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which of the two.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do with the configuration.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// The commands about the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Tell every problem at once: file, key, and what would be accepted. Exit code 1 if there is one.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Also bind the listeners' addresses for a moment and connect to the smarthost. Not for a running node: it
        /// holds its addresses.
        #[arg(long)]
        online: bool,
    },
    /// Print every setting with its value, defaults included.
    Print {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: &ConfigArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match &args.command {
        ConfigCommand::Print { config } => {
            let config = Config::read(config).map_err(CommandError::unreadable)?;
            out.write_all(config.print().as_bytes())?;
            Ok(Exit::Done)
        }
        ConfigCommand::Check {
            config: path,
            online,
        } => {
            let (config, mut problems) =
                Config::check(path, SystemClock.now()).map_err(CommandError::unreadable)?;
            if *online {
                problems.extend(online_problems(&config));
            }
            for problem in &problems {
                writeln!(out, "{}: {problem}", path.display())?;
            }
            if problems.is_empty() {
                writeln!(out, "{}: no problem found", path.display())?;
                Ok(Exit::Done)
            } else {
                Ok(Exit::Refused)
            }
        }
    }
}

fn online_problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let binds = [
        ("soap.server.bind", config.soap.server.bind),
        ("operator.bind", config.operator.bind),
    ];
    for (key, address) in binds {
        if let Err(error) = TcpListener::bind(address) {
            problems.push(format!("{key}: {address} cannot be bound: {error}"));
        }
    }
    let smarthosts = config
        .smtp
        .client
        .domains
        .iter()
        .filter_map(|(domain, route)| {
            let key = format!("smtp.client.domains.\"{domain}\".smarthost");
            route.smarthost.as_ref().map(|host| (key, host))
        })
        .chain(
            config
                .smtp
                .client
                .smarthost
                .as_ref()
                .map(|host| ("smtp.client.smarthost".to_owned(), host)),
        );
    for (key, host) in smarthosts {
        let addresses = (host.host(), host.port()).to_socket_addrs();
        let is_reached = addresses.is_ok_and(|mut addresses| {
            addresses.any(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok())
        });
        if !is_reached {
            problems.push(format!("{key}: {host} takes no connection"));
        }
    }
    problems
}
