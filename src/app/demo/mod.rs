//! `xdbridge demo`: one submission crosses on loopback, from XDR by Direct to XDR, among parties that are made on the
//! spot.
//!
//! The two bridges are what `serve` runs, each started from a configuration file of its own; they find each other's
//! certificates in the DNS (`name_server`). A small EHR (`ehr`) posts to
//! bridge A over mutual TLS; A sends one sealed mail by SMTP to bridge B and to a mailbox (`mailbox`) on an SMTP server
//! that was written by others. B posts what it opened to another small EHR (`receiver`), and tells A by MDNs (`notices`);
//! A tells the first EHR by a status submission (`status`).
//! What arrived in the mailbox is opened with the recipient's own key (`opening`); both are compared (`compare`) with
//! what the first EHR holds. Nothing is called a success that was not computed from what arrived.

mod compare;
mod crossing;
mod ehr;
mod folder;
mod ground;
mod mailbox;
mod name_server;
mod notices;
mod opening;
mod receiver;
mod status;
mod story;

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Mutex};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    logging::{self, LogConfig},
    process,
};
use crate::adapters::operator::Measured;
use crossing::Crossing;
use folder::DemoFolder;
use story::Story;

/// Runs the demo in `dir`, or in a temporary directory, and tells it to `out`. `once` ends it after the crossing, else it
/// stays up until Ctrl-C. Whether every check held.
pub fn run(dir: Option<&Path>, once: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
    process::harden().context("core dumps could not be turned off")?;
    let folder = DemoFolder::make(dir)?;
    log_to(&folder.path().join("log.json"))?;
    let measured = Measured::install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("flow")
        .build()
        .context("the runtime could not be started")?;
    let mut story = Story::begin(out)?;
    runtime.block_on(async {
        let mut ended = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut end = async || {
            tokio::select! {
                _ = ended.recv() => {}
                _ = terminated.recv() => {}
            }
        };
        let mut crossing = Crossing::prepare(folder.path(), measured, &mut story).await?;
        let crossed = tokio::select! {
            crossed = crossing.run(&mut story) => crossed,
            () = end() => Err(anyhow!("interrupted")),
        };
        if crossed.is_ok() {
            story.tell_verdict()?;
            if !once {
                story.look_here(&crossing.places(folder.path()))?;
                end().await;
            }
        }
        // The bridges are drained whatever became of the crossing.
        let stopped = crossing.stop().await;
        crossed.and(stopped)
    })?;
    Ok(story.all_held())
}

/// Logs to a new file, so that the story stays readable.
fn log_to(path: &Path) -> anyhow::Result<()> {
    let opened = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = opened.with_context(|| format!("cannot write {}", path.display()))?;
    logging::init_to(LogConfig::default(), Mutex::new(file)).context("log")
}
