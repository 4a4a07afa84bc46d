//! `xdbridge exchange list|show|retry|hold|release|fail`: what the bridge has, and what an operator does to it. The order
//! goes to the running bridge by its control socket; where none runs, the store is opened in its place, under its lock.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::exchange_text;
use crate::{
    adapters::{
        clock::SystemClock,
        control::{self, Asked},
        store::{self, StoreKind},
    },
    app::{
        config::Config,
        exit::{CommandError, Exit},
        process,
    },
    bridge::overview::{Direction, Standing},
    flows::{
        operators::Operators,
        ports::{
            Asker, Clock, ListOrder, NotDone, Operator, Order, OrderId, OrderText, PageEnd,
            ServeOperators, Told,
        },
    },
    formats::{ids::DirectAddress, units},
};

/// `xdbridge exchange`.
#[derive(Debug, Args)]
pub struct ExchangeArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List exchanges, newest first; no person is named.
    List {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        filter: Filter,
    },
    /// Show everything about one exchange: recipients, legs, attempts, notices, and precisely why what failed did.
    Show {
        #[command(flatten)]
        one: One,
    },
    /// Try what waits now, in place of its time.
    Retry {
        #[command(flatten)]
        one: One,
    },
    /// Hand nothing of it on until it is released. Its deadlines go on: what they end is told to the sender as failed.
    Hold {
        #[command(flatten)]
        one: One,
        /// Why, for the audit: one line.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: Option<OrderText>,
    },
    /// Let it go on: what became due meanwhile is tried now.
    Release {
        #[command(flatten)]
        one: One,
    },
    /// End the delivery, and tell the sender that it failed.
    Fail {
        #[command(flatten)]
        one: One,
        /// Why, for the audit: one line. The sender learns the token `operator` and no more.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: OrderText,
        /// To this recipient alone, in place of everybody who is not settled; may be given again.
        #[arg(long = "recipient", value_name = "ADDRESS")]
        recipients: Vec<DirectAddress>,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON document, nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct One {
    /// The exchange: its id, wsa:MessageID, Message-ID or SubmissionSet.uniqueId.
    #[arg(value_parser = id)]
    id: OrderId,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Filter {
    /// Only those that stand so: open, held, delivered, partly-delivered, failed.
    #[arg(long, value_name = "STATE", value_parser = word::<Standing>)]
    state: Option<Standing>,
    /// Only those with a recipient that is not settled.
    #[arg(long, conflicts_with = "is_final")]
    open: bool,
    /// Only those whose recipients are all settled.
    #[arg(long = "final")]
    is_final: bool,
    /// Only those that cross this way: to-direct, to-xdr.
    #[arg(long, value_name = "WAY", value_parser = word::<Direction>)]
    direction: Option<Direction>,
    /// Only those that this partner submitted.
    #[arg(long, value_name = "NAME")]
    partner: Option<String>,
    /// Only those that are posted to this endpoint.
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Only those accepted since then: a time such as 2026-11-29T08:00:00Z, or so long ago, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// At most so many, up to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on after the page that ended so.
    #[arg(long, value_name = "PAGE", value_parser = word::<PageEnd>)]
    after: Option<PageEnd>,
}

/// Runs the command.
pub fn run(args: ExchangeArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let (common, order) = args.action.into_order();
    let config = Config::read(&common.config).map_err(CommandError::unreadable)?;
    let config = config.resolved();
    process::harden()
        .context("core dumps could not be turned off")
        .map_err(CommandError::Failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the runtime could not be started")
        .map_err(CommandError::Failed)?;
    let told = runtime.block_on(give(&config, order))?;
    let told = told.map_err(|refused| match refused {
        NotDone::BadOrder { .. } => CommandError::unreadable(refused),
        _ => CommandError::failed(refused),
    })?;
    if common.json {
        let document = match &told {
            Told::Page(page) => serde_json::to_value(page),
            Told::Exchange(exchange) => serde_json::to_value(exchange),
            Told::Done(done) => serde_json::to_value(done),
        };
        let document = document.map_err(CommandError::failed)?;
        writeln!(out, "{document:#}")?;
    } else {
        exchange_text::write(&told, out)?;
    }
    Ok(Exit::Done)
}

impl Action {
    fn into_order(self) -> (Common, Order) {
        match self {
            Self::List { common, filter } => (common, Order::List(filter.into_order())),
            Self::Show {
                one: One { id, common },
            } => (common, Order::Show { id }),
            Self::Retry {
                one: One { id, common },
            } => (common, Order::Retry { id }),
            Self::Hold {
                one: One { id, common },
                reason,
            } => (common, Order::Hold { id, reason }),
            Self::Release {
                one: One { id, common },
            } => (common, Order::Release { id }),
            Self::Fail {
                one: One { id, common },
                reason,
                recipients,
            } => {
                let order = Order::Fail {
                    id,
                    reason,
                    recipients,
                };
                (common, order)
            }
        }
    }
}

impl Filter {
    fn into_order(self) -> ListOrder {
        let is_final = match (self.open, self.is_final) {
            (true, _) => Some(false),
            (_, true) => Some(true),
            _ => None,
        };
        ListOrder {
            state: self.state,
            is_final,
            direction: self.direction,
            partner: self.partner,
            endpoint: self.endpoint,
            since: self.since,
            after: self.after,
            limit: usize::from(self.limit),
        }
    }
}

/// Gives the order to the bridge that runs by this configuration, or does what it says where none runs.
async fn give(config: &Config, order: Order) -> Result<Result<Told, NotDone>, CommandError> {
    let socket = config.control.path(&config.store.path);
    match control::ask(&socket, &order).await {
        Ok(Asked::Answered(answer)) => Ok(answer),
        Ok(Asked::NobodyListens) => by_itself(config, &socket, order).await,
        Err(error) => Err(CommandError::failed(error)),
    }
}

async fn by_itself(
    config: &Config,
    socket: &Path,
    order: Order,
) -> Result<Result<Told, NotDone>, CommandError> {
    let path = &config.store.path;
    let nobody = format!("no bridge listens on {}", socket.display());
    if config.store.kind == StoreKind::Sqlite && !path.exists() {
        return Err(CommandError::Failed(anyhow!(
            "{nobody}, and there is no data directory {}",
            path.display()
        )));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = store::open(&config.store, Arc::clone(&clock), &config.node.name)
        .await
        .with_context(|| format!("{nobody}, and its store cannot be opened in its place"))
        .map_err(CommandError::Failed)?;
    eprintln!(
        "xdbridge: {nobody}: its store was opened in its place; what is due now is done at the next start"
    );
    let operators = Operators {
        store: store.clone(),
        audit: store.clone(),
        clock,
    };
    let operator = Operator {
        uid: rustix::process::getuid().as_raw(),
        pid: i32::try_from(std::process::id()).ok(),
    };
    let told = operators.serve(&Asker::Local(operator), order).await;
    store.close().await;
    Ok(told)
}

fn id(text: &str) -> Result<OrderId, &'static str> {
    OrderId::try_from(text.to_owned())
}

fn reason(text: &str) -> Result<OrderText, &'static str> {
    OrderText::try_from(text.to_owned())
}

/// A word as the control socket has it.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = units::parse_duration(text)
        .map_err(|_| "a time such as 2026-11-29T08:00:00Z, or so long ago, such as 2h")?;
    let then = SystemClock.now().checked_sub(ago);
    then.map_err(|error| error.to_string())
}
