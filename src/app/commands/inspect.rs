//! `xdbridge inspect`: what a file holds, and whether the bridge would take it.

pub(super) mod json;
mod rules;
pub(super) mod text;

use std::{
    fs::File,
    io::{BufReader, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use crate::{
    adapters::clock::SystemClock,
    app::exit::{CommandError, Exit},
    flows::{
        inspect::{InspectError, InspectOptions, inspect},
        ports::Clock,
    },
    formats::{limits::Limits, metadata::Level},
};
pub(super) use text::write_findings;

/// What to inspect, and how.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// An ITI-41 request (MTOM, SOAP, or what was saved of one), an XDM package, METADATA.XML, a RegistryResponse, or a
    /// mail: plain, S/MIME (without keys, from outside), MDN or DSN.
    #[arg(value_name = "FILE", required_unless_present = "rules")]
    pub file: Option<PathBuf>,
    /// Print the table of all rules by which messages are judged, instead of judging one.
    #[arg(long, conflicts_with_all = ["file", "level", "schema"])]
    pub rules: bool,
    /// Print one JSON document, nothing else.
    #[arg(long)]
    pub json: bool,
    /// Judge by this level instead of the one that the message claims.
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<LevelName>,
    /// Judge by our schemas as well, as for a partner with `validate_schema`.
    #[arg(long)]
    pub schema: bool,
}

/// A level as it is given on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LevelName {
    /// Every attribute of an XDR Document Source.
    Full,
    /// An XDR Metadata-Limited Source.
    Limited,
    /// Direct minimal metadata.
    Minimal,
}

impl From<LevelName> for Level {
    fn from(name: LevelName) -> Self {
        match name {
            LevelName::Full => Self::Full,
            LevelName::Limited => Self::Limited,
            LevelName::Minimal => Self::Minimal,
        }
    }
}

/// Runs the command.
pub fn run(args: &InspectArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let Some(path) = &args.file else {
        rules::write(args.json, out)?;
        return Ok(Exit::Done);
    };
    let mut file = open(path)?;
    let options = InspectOptions {
        level: args.level.map(Level::from),
        validate_schema: args.schema,
    };
    let inspection = inspect(&mut file, options, &Limits::default(), SystemClock.now())
        .map_err(|error| unreadable(path, error))?;
    if args.json {
        json::write(&inspection, out)?;
    } else {
        text::write(&inspection, out)?;
    }
    Ok(if inspection.is_accepted() {
        Exit::Done
    } else {
        Exit::Refused
    })
}

/// Opens an input file.
pub(super) fn open(path: &Path) -> Result<BufReader<File>, CommandError> {
    File::open(path).map(BufReader::new).map_err(|error| {
        let context = format!("{} cannot be opened", path.display());
        CommandError::Unreadable(anyhow::Error::new(error).context(context))
    })
}

/// An input file that cannot be read.
pub(super) fn unreadable(path: &Path, error: InspectError) -> CommandError {
    CommandError::Unreadable(anyhow::Error::new(error).context(path.display().to_string()))
}
