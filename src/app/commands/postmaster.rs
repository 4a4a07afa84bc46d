//! `xdbridge postmaster list|show|remove`: mail that came for whoever runs this bridge, read from the data directory with
//! the store's keys, beside a running bridge or without one. Each use is recorded before it shows or removes anything, for
//! the bridge's audit.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use crate::{
    adapters::{
        clock::SystemClock,
        store::{KeptMail, PostmasterAction, PostmasterBox},
    },
    app::{
        config::Config,
        exit::{CommandError, Exit},
        terminal::printable,
    },
    flows::ports::Clock,
    formats::{limits::Limits, mime::read},
};

/// Longest From or Subject in a list, in characters.
const MAX_LISTED_CHARS: usize = 60;

/// `xdbridge postmaster`.
#[derive(Debug, Args)]
pub struct PostmasterArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the mails that are kept, oldest first: id, time, size, sender, subject.
    List {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print one JSON document, nothing else.
        #[arg(long)]
        json: bool,
    },
    /// Show one mail as text; control characters are left out.
    Show {
        /// The mail's id, or its beginning.
        id: String,
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Write the mail as it came into a new file that its owner alone may read, instead.
        #[arg(short = 'o', long = "out", value_name = "OUT")]
        out: Option<PathBuf>,
    },
    /// Remove mails.
    Remove {
        /// Their ids, or the beginnings of them.
        #[arg(required = true)]
        ids: Vec<String>,
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: &PostmasterArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match &args.action {
        Action::List { config, json } => list(&open(config)?, *json, out),
        Action::Show {
            id,
            config,
            out: file,
        } => show(&open(config)?, id, file.as_deref(), out),
        Action::Remove { ids, config } => remove(&open(config)?, ids, out),
    }
}

fn open(config: &Path) -> Result<PostmasterBox, CommandError> {
    let config = Config::read(config).map_err(CommandError::unreadable)?;
    PostmasterBox::new(&config.resolved().store).map_err(CommandError::unreadable)
}

/// What a list tells of one mail.
struct Listed {
    from: Option<String>,
    subject: Option<String>,
    size_bytes: usize,
}

impl Listed {
    fn of(octets: &[u8]) -> Self {
        // What people write to a postmaster need not be a mail that we would read otherwise.
        let mail = read::read(octets, &Limits::default()).ok();
        let header = mail.map(|mail| mail.header);
        let from = header.as_ref().and_then(|header| header.from.first());
        Self {
            from: from.map(|from| from.address.to_string()),
            subject: header.as_ref().and_then(|header| header.subject.clone()),
            size_bytes: octets.len(),
        }
    }
}

fn list(mails: &PostmasterBox, as_json: bool, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let mut values = Vec::new();
    let all = mails.list().map_err(CommandError::failed)?;
    if !all.is_empty() {
        tell(mails, PostmasterAction::Listed, &all)?;
    }
    for mail in all {
        let octets = mails.read(&mail).map_err(CommandError::failed)?;
        let listed = Listed::of(&octets);
        let received_at = mail.received_at.to_string();
        if as_json {
            values.push(json!({
                "id": mail.id.to_string(),
                "received_at": received_at,
                "size_bytes": listed.size_bytes,
                "from": listed.from,
                "subject": listed.subject,
            }));
            continue;
        }
        let text = |value: Option<String>| {
            let value = printable(value.as_deref().unwrap_or("-"));
            value.chars().take(MAX_LISTED_CHARS).collect::<String>()
        };
        writeln!(
            out,
            "{}  {received_at}  {} octets  {}  {}",
            mail.id,
            listed.size_bytes,
            text(listed.from),
            text(listed.subject)
        )?;
    }
    if as_json {
        writeln!(out, "{:#}", serde_json::Value::Array(values))?;
    }
    Ok(Exit::Done)
}

fn show(
    mails: &PostmasterBox,
    id: &str,
    file: Option<&Path>,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let mail = find(mails, id)?;
    tell(mails, PostmasterAction::Read, std::slice::from_ref(&mail))?;
    let octets = mails.read(&mail).map_err(CommandError::failed)?;
    let Some(path) = file else {
        // Whoever wrote it must not command the terminal that it is read on.
        out.write_all(printable(&String::from_utf8_lossy(&octets)).as_bytes())?;
        return Ok(Exit::Done);
    };
    let mut options = OpenOptions::new();
    let new = options.write(true).create_new(true).mode(0o600).open(path);
    new.and_then(|mut file| file.write_all(&octets))
        .with_context(|| format!("{} cannot be written", path.display()))
        .map_err(CommandError::Failed)?;
    writeln!(out, "wrote {}", path.display())?;
    Ok(Exit::Done)
}

fn remove(
    mails: &PostmasterBox,
    ids: &[String],
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    // All are found before one goes.
    let found: Result<Vec<KeptMail>, CommandError> = ids.iter().map(|id| find(mails, id)).collect();
    let found = found?;
    tell(mails, PostmasterAction::Removed, &found)?;
    for mail in found {
        mails.remove(&mail).map_err(CommandError::failed)?;
        writeln!(out, "removed {}", mail.id)?;
    }
    Ok(Exit::Done)
}

/// Leaves a record of what is about to be done.
fn tell(
    mails: &PostmasterBox,
    action: PostmasterAction,
    of: &[KeptMail],
) -> Result<(), CommandError> {
    let ids: Vec<Uuid> = of.iter().map(|mail| mail.id).collect();
    let now = SystemClock.now();
    mails.tell(action, &ids, now).map_err(CommandError::failed)
}

/// The one mail whose id begins so.
fn find(mails: &PostmasterBox, id: &str) -> Result<KeptMail, CommandError> {
    let all = mails.list().map_err(CommandError::failed)?;
    let wanted = id.to_ascii_lowercase();
    let mut found = all
        .into_iter()
        .filter(|mail| mail.id.to_string().starts_with(&wanted));
    match (found.next(), found.next()) {
        (Some(mail), None) => Ok(mail),
        (None, _) => Err(CommandError::Failed(anyhow!("no mail has an id {id}"))),
        (Some(_), Some(_)) => Err(CommandError::Failed(anyhow!(
            "several mails have an id that begins with {id}; write more of it"
        ))),
    }
}
