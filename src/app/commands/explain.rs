//! `xdbridge explain ADDRESS`: which certificate mail to an address would be encrypted to now, and why: every question,
//! every certificate, every check. It runs the search that a message's recipient goes through, with nothing remembered
//! from before, and shows its account; it asks no running bridge and changes nothing.

mod text;
mod view;

use std::{io::Write, path::PathBuf, sync::Arc};

use anyhow::{Context, anyhow};
use clap::Args;

use self::view::ExplainView;
use crate::{
    adapters::{certificates::CertificateFiles, clock::SystemClock},
    app::{
        config::Config,
        exit::{CommandError, Exit},
        process, wiring,
    },
    bridge::{discovery::Search, own_domain::OwnDomain},
    flows::{
        cpu::{CpuPool, Urgency},
        ports::Clock,
    },
    formats::ids::{DirectAddress, DomainName},
};

/// `xdbridge explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The recipient's Direct address.
    #[arg(value_name = "ADDRESS")]
    address: DirectAddress,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// For mail from this domain of ours alone. Default: from each of them, since each has anchors of its own.
    #[arg(long, value_name = "DOMAIN")]
    from: Option<DomainName>,
    /// Print one JSON document, nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs the command: 0 if a certificate serves, for each domain that was asked about; else 1.
pub fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let config = Config::read(&args.config).map_err(CommandError::unreadable)?;
    let config = config.resolved();
    process::harden()
        .context("core dumps could not be turned off")
        .map_err(CommandError::Failed)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    let fetched = Some(wiring::fetched(&config));
    let files = CertificateFiles::load_with(config.certificates.clone(), fetched, now);
    let files = files.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CommandError::unreadable(anyhow!("certificates: {}", lines.join("; ")))
    })?;
    let files = Arc::new(files);
    let domains = senders(&files, args.from.as_ref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the runtime could not be started")
        .map_err(CommandError::Failed)?;
    let _entered = runtime.enter();
    let cpu = CpuPool::start().map_err(CommandError::failed)?;
    let directory =
        wiring::directory(&config, &files, &cpu, &clock).map_err(CommandError::Failed)?;
    let limit = config.delivery.background_lookup;
    let search = |own: Arc<OwnDomain>| {
        let searching = directory.search(&args.address, &own, limit, Urgency::PeerWaits);
        let search = runtime.block_on(searching);
        (own, search)
    };
    let searches: Vec<(Arc<OwnDomain>, Search)> = domains.into_iter().map(search).collect();
    let view = ExplainView::of(&args.address, now, &searches);
    if args.json {
        let document = serde_json::to_value(&view).map_err(CommandError::failed)?;
        writeln!(out, "{document:#}")?;
    } else {
        text::write(&view, out)?;
    }
    let is_served = searches.iter().all(|(_, search)| search.outcome().is_ok());
    Ok(if is_served { Exit::Done } else { Exit::Refused })
}

/// Our domains that mail may come from, by name.
fn senders(
    files: &CertificateFiles,
    from: Option<&DomainName>,
) -> Result<Vec<Arc<OwnDomain>>, CommandError> {
    let mut domains = files.domains();
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(from) = from {
        domains.retain(|domain| domain.name == *from);
    }
    if domains.is_empty() {
        let problem = match from {
            Some(from) => anyhow!("--from {from}: one of certificates.domains"),
            None => anyhow!("certificates.domains: one at least, whose anchors decide"),
        };
        return Err(CommandError::unreadable(problem));
    }
    Ok(domains)
}
