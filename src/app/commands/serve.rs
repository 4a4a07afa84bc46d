//! `xdbridge serve`: the daemon. SIGTERM and SIGINT drain it, SIGHUP reads keys, anchors and certificates anew.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::{
    adapters::{clock::SystemClock, operator::Measured},
    app::{
        config::Config,
        exit::{CommandError, Exit},
        logging, process,
        wiring::Bridge,
    },
    flows::ports::Clock,
};

/// Blocking threads beside those of bodies and deliveries: for the store and the resolver.
const SPARE_BLOCKING_THREADS: usize = 64;

/// `xdbridge serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Serves until a signal ends it.
pub fn run(args: &ServeArgs) -> Result<Exit, CommandError> {
    let (config, problems) =
        Config::check(&args.config, SystemClock.now()).map_err(CommandError::unreadable)?;
    if !problems.is_empty() {
        let all = problems.join("\n");
        return Err(CommandError::Failed(anyhow::anyhow!(
            "{}:\n{all}",
            args.config.display()
        )));
    }
    let config = config.resolved();
    serve(&config).map_err(CommandError::Failed)?;
    Ok(Exit::Done)
}

fn serve(config: &Config) -> anyhow::Result<()> {
    process::harden().context("core dumps could not be turned off")?;
    logging::init(config.log).context("log")?;
    let measured = Measured::install()?;
    // A body on its way to disk holds a blocking thread until it ends, however slow its sender is; the store and the
    // mail sender must find one all the same.
    let blocking_threads =
        config.soap.server.max_connections + config.delivery.workers + SPARE_BLOCKING_THREADS;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(blocking_threads)
        .thread_name("flow")
        .build()
        .context("the runtime could not be started")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let bridge = Bridge::start(config, Arc::new(SystemClock), measured).await?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => reload(&bridge),
            }
        }
        info!("draining: no more requests are taken");
        bridge.stop().await?;
        info!("stopped");
        Ok(())
    })
}

fn reload(bridge: &Bridge) {
    match bridge.reload_certificates() {
        Ok(()) => info!("keys, anchors and certificates were read anew"),
        Err(problems) => {
            for problem in problems {
                crate::flows::measures::count_alarm("reload");
                error!(alarm = "reload", problem, "nothing was reloaded: {problem}");
            }
        }
    }
}
