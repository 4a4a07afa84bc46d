//! `xdbridge convert`: a request into a package or a plain mail, a package into a request or a mail, a mail into a
//! request or a package.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use uuid::Uuid;

use super::inspect::{open, unreadable, write_findings};
use crate::{
    adapters::clock::SystemClock,
    app::exit::{CommandError, Exit},
    bridge::destination::{DirectPackaging, MailPolicy},
    flows::{
        convert::{ConvertError, Converted, Order, Target, convert},
        ports::Clock,
    },
    formats::{ids::DirectAddress, limits::Limits, xdm::Institution},
};

/// What to convert into what.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// An ITI-41 request for `--to xdm`, an XDM package for `--to xdr`, either for `--to mail`; a mail that is neither
    /// signed nor sealed for `--to xdr` and `--to xdm`.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What to make: an XDM package; an ITI-41 request, which is MTOM with its HTTP head; or a mail, neither
    /// signed nor encrypted.
    #[arg(long, value_name = "FORM")]
    pub to: TargetName,
    /// Where to write it. An existing file is replaced once the result is complete.
    #[arg(short = 'o', long = "out", value_name = "OUT")]
    pub out: PathBuf,
    /// The sender, instead of the one that the file names.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<DirectAddress>,
    /// A recipient; all that are given replace those that the file names.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Vec<DirectAddress>,
    /// How a mail carries the documents. "documents" loses the metadata: a line on standard error tells what is lost.
    #[arg(long, value_name = "PACKAGING", default_value = "xdm")]
    pub packaging: PackagingName,
    /// Put the title of the submission set into the Subject of a mail. It may name the patient.
    #[arg(long)]
    pub subject_title: bool,
}

/// A form as it is given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// An XDM package.
    Xdm,
    /// An ITI-41 request.
    Xdr,
    /// A plain mail.
    Mail,
}

/// A packaging as it is given on the command line, and in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PackagingName {
    /// One XDM package.
    Xdm,
    /// The same, and each document once more as an attachment.
    #[value(name = "xdm+documents")]
    XdmAndDocuments,
    /// The documents alone.
    Documents,
}

impl From<PackagingName> for DirectPackaging {
    fn from(name: PackagingName) -> Self {
        match name {
            PackagingName::Xdm => Self::Xdm,
            PackagingName::XdmAndDocuments => Self::XdmAndDocuments,
            PackagingName::Documents => Self::Documents,
        }
    }
}

impl From<TargetName> for Target {
    fn from(name: TargetName) -> Self {
        match name {
            TargetName::Xdm => Self::Xdm,
            TargetName::Xdr => Self::Xdr,
            TargetName::Mail => Self::Mail,
        }
    }
}

/// Runs the command.
pub fn run(args: &ConvertArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let mut file = open(&args.file)?;
    let institution = Institution::default();
    let policy = MailPolicy {
        packaging: args.packaging.into(),
        subject_title: args.subject_title,
        ..MailPolicy::default()
    };
    let order = Order {
        target: args.to.into(),
        from: args.from.as_ref(),
        recipients: &args.recipient,
        now: SystemClock.now(),
        id: Uuid::new_v4(),
        policy: &policy,
        institution: &institution,
    };
    let limits = Limits::default();
    let made = write_whole(&args.out, |result| {
        convert(&mut file, &order, &limits, result)
    });
    match made {
        Ok(Converted {
            documents,
            findings,
        }) => {
            // What the result lost, or was made of in spite of: not the result itself.
            write_findings(&findings, &mut io::stderr().lock())?;
            writeln!(out, "wrote {} (documents: {documents})", args.out.display())?;
            Ok(Exit::Done)
        }
        Err(ConvertError::Refused { findings }) => {
            write_findings(&findings, out)?;
            let text = format!(
                "{}: the bridge would refuse it, so nothing was written",
                args.file.display()
            );
            Err(CommandError::Failed(anyhow::Error::msg(text)))
        }
        Err(ConvertError::Input(error)) => Err(unreadable(&args.file, error)),
        Err(error @ ConvertError::NotConvertible { .. }) => Err(CommandError::Unreadable(
            anyhow::Error::new(error).context(args.file.display().to_string()),
        )),
        Err(error) => Err(CommandError::Failed(
            anyhow::Error::new(error).context(args.out.display().to_string()),
        )),
    }
}

/// Writes `path` by a file beside it, which takes its place only when it is complete.
pub(super) fn write_whole<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(format!(".{}.part", Uuid::new_v4().simple()));
    let part = path.with_file_name(name);
    let written = write_part(&part, write);
    let finished = written.and_then(|made| {
        fs::rename(&part, path)?;
        Ok(made)
    });
    if finished.is_err() {
        // It may never have come to be.
        let _ = fs::remove_file(&part);
    }
    finished
}

fn write_part<T, E: From<io::Error>>(
    part: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let mut file = BufWriter::new(create_private(part)?);
    let made = write(&mut file)?;
    file.flush()?;
    Ok(made)
}

/// Creates a file for its owner alone: it holds health records in clear.
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
