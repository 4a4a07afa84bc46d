//! `xdbridge smime open` and `xdbridge smime seal`: one mail, with keys and anchors from files, by the code that the
//! bridge opens and seals with. Neither needs a configuration or a network; revocation is not asked.

use std::{
    io::{Cursor, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use openssl::x509::X509;
use uuid::Uuid;

use super::{
    convert::write_whole,
    inspect::{json, open as open_file, text},
};
use crate::{
    adapters::{clock::SystemClock, pem_files},
    app::exit::{CommandError, Exit},
    bridge::trust::{Binding, CertificateCandidate, Purpose, Terms, TrustAnchors, judge},
    flows::{
        inspect::{InspectOptions, inspect},
        ports::Clock,
    },
    formats::{
        ids::{DirectAddress, MessageId},
        limits::Limits,
        mime::read::{self, MailHeader},
        smime::{
            self, OUTER_SUBJECT, OpenError, OpenOptions, Opened, SealHeader, SealOptions,
            SigningIdentity, seal_header,
        },
    },
};

/// `xdbridge smime`.
#[derive(Debug, Args)]
pub struct SmimeArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Decrypt and verify a mail, tell whether its sender is trusted, and inspect what is inside.
    Open(OpenArgs),
    /// Sign and encrypt a plain mail.
    Seal(SealArgs),
}

#[derive(Debug, Args)]
struct OwnKey {
    /// PEM file with the certificate, followed by its intermediates.
    #[arg(long, value_name = "PEM")]
    certificate: PathBuf,
    /// PEM file with its private key, readable by its owner alone.
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// File with the key's pass phrase.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct OpenArgs {
    /// The sealed mail.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    own: OwnKey,
    /// A trust anchor: a file or folder of certificates. May be repeated.
    #[arg(long, value_name = "PATH", required = true)]
    anchor: Vec<PathBuf>,
    /// Judge as at this time, such as 2026-11-22T08:00:00Z. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Where to write the message inside. An existing file is replaced.
    #[arg(short = 'o', long = "out", value_name = "OUT")]
    out: Option<PathBuf>,
    /// Print what is inside as one JSON document, as `inspect` does, nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct SealArgs {
    /// The plain mail: 7 bit, its sender in From, its recipients in To and Cc.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    own: OwnKey,
    /// PEM file with the certificate of a recipient. May be repeated.
    #[arg(long, value_name = "PEM", required = true)]
    recipient: Vec<PathBuf>,
    /// Where to write it. An existing file is replaced.
    #[arg(short = 'o', long = "out", value_name = "OUT")]
    out: PathBuf,
    /// Seal as at this time, such as 2026-11-22T08:00:00Z. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

/// Runs the command.
pub fn run(args: &SmimeArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match &args.action {
        Action::Open(args) => open(args, out),
        Action::Seal(args) => seal(args, out),
    }
}

fn open(args: &OpenArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let limits = Limits::default();
    let mail = read_file(&args.file, &limits)?;
    let identity = args.own.read().map_err(CommandError::Unreadable)?;
    let anchors = anchors(&args.anchor).map_err(CommandError::Unreadable)?;
    let now = args.at.unwrap_or_else(|| SystemClock.now());
    let options = OpenOptions::default();
    let opened = match smime::open(&mail, &[identity], &options) {
        Ok(opened) => opened,
        Err(error) => return Err(not_opened(&args.file, error)),
    };
    let unreadable = |error: read::MailError| {
        let context = args.file.display().to_string();
        CommandError::Failed(anyhow::Error::new(error).context(context))
    };
    let message = read::wrapped_message(&opened.entity, &limits).map_err(unreadable)?;
    let from = match &message {
        Some(message) => read::read(message, &limits),
        None => read::read_unwrapped(&opened.outer_header, &opened.entity, &limits),
    };
    let from = sender(&from.map_err(unreadable)?.header).map_err(CommandError::Failed)?;
    let trust = trust(&opened, &from, &anchors, now);
    let content: &[u8] = message.as_deref().unwrap_or(&opened.entity);
    if let Some(path) = &args.out {
        write_whole(path, |file| file.write_all(content))
            .map_err(|error: std::io::Error| CommandError::Failed(error.into()))?;
    }
    if !args.json {
        match &trust {
            Ok(binding) => writeln!(out, "signed, and trusted for {from} by {binding}")?,
            Err(cause) => writeln!(out, "signed, and not trusted for {from}: {cause}")?,
        }
    }
    if message.is_none() && !args.json {
        writeln!(
            out,
            "what was signed wraps no message; its header is unsigned"
        )?;
    }
    let mut is_accepted = trust.is_ok();
    // Without a wrapper there is no header to inspect that anybody signed.
    if message.is_some() {
        let inside = inspect(
            &mut Cursor::new(content),
            InspectOptions::default(),
            &limits,
            now,
        );
        let inside = inside.map_err(|error| CommandError::Failed(error.into()))?;
        is_accepted &= inside.is_accepted();
        if args.json {
            json::write(&inside, out)?;
        } else {
            text::write(&inside, out)?;
        }
    }
    Ok(if is_accepted {
        Exit::Done
    } else {
        Exit::Refused
    })
}

fn not_opened(file: &Path, error: OpenError) -> CommandError {
    let is_unreadable = matches!(error, OpenError::Malformed(_) | OpenError::OpenSsl(_));
    let error = anyhow::Error::new(error).context(file.display().to_string());
    if is_unreadable {
        CommandError::Unreadable(error)
    } else {
        CommandError::Failed(error)
    }
}

/// Whether a signer is trusted for `from`: by what its certificate is bound, or why none is.
fn trust(
    opened: &Opened,
    from: &DirectAddress,
    anchors: &TrustAnchors,
    now: Timestamp,
) -> Result<&'static str, String> {
    let signers = opened.signers.iter();
    let candidates: Vec<CertificateCandidate> = signers
        .map(|signer| CertificateCandidate {
            der: signer.certificate.to_der().unwrap_or_default(),
            origin: "signature".to_owned(),
        })
        .collect();
    let terms = Terms {
        anchors,
        intermediates: &opened.certificates,
        allow_legacy: &[],
        revocation: None,
        demands: None,
        fetched: None,
    };
    let judgement = judge(&candidates, from, Purpose::Verify, &terms, now);
    match judgement.chosen {
        Some(chosen) => Ok(match chosen.binding {
            Binding::Address => "a certificate of the address",
            Binding::Domain => "a certificate of the domain",
        }),
        None => {
            let faults = judgement.verdicts.iter().filter_map(|v| v.fault.as_ref());
            let faults: Vec<String> = faults.map(ToString::to_string).collect();
            Err(faults.join("; "))
        }
    }
}

fn seal(args: &SealArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let limits = Limits::default();
    let message = with_crlf(read_file(&args.file, &limits)?);
    let signer = args.own.read().map_err(CommandError::Unreadable)?;
    let recipients: anyhow::Result<Vec<X509>> =
        args.recipient.iter().map(|path| one(path)).collect();
    let recipients = recipients.map_err(CommandError::Unreadable)?;
    let now = args.at.unwrap_or_else(|| SystemClock.now());
    let mail = read::read(&message, &limits).map_err(|error| {
        let context = args.file.display().to_string();
        CommandError::Unreadable(anyhow::Error::new(error).context(context))
    })?;
    let header = outer_header(&mail.header, now).map_err(CommandError::Unreadable)?;
    let boundary = format!("=_signed_{}", Uuid::new_v4().simple());
    write_whole(&args.out, |file| {
        file.write_all(header.as_bytes())?;
        let sealed = smime::seal(
            file,
            &[signer],
            &recipients,
            &SealOptions::default(),
            now,
            &boundary,
            &mut |entity| {
                entity.write_all(b"Content-Type: message/rfc822\r\n\r\n")?;
                entity.write_all(&message)
            },
        );
        sealed.map_err(anyhow::Error::new)
    })
    .map_err(|error: anyhow::Error| {
        CommandError::Failed(error.context(args.file.display().to_string()))
    })?;
    writeln!(out, "wrote {}", args.out.display())?;
    Ok(Exit::Done)
}

/// A file with the line ends of this system alone gets those of mail; others stay as they are.
fn with_crlf(message: Vec<u8>) -> Vec<u8> {
    if message.contains(&b'\r') {
        return message;
    }
    let lines = message.split_inclusive(|octet| *octet == b'\n');
    lines
        .flat_map(|line| match line.strip_suffix(b"\n") {
            Some(line) => [line, b"\r\n"],
            None => [line, b""],
        })
        .flatten()
        .copied()
        .collect()
}

/// The header outside, with what the header inside tells of sender, recipients and threads.
fn outer_header(header: &MailHeader, now: Timestamp) -> anyhow::Result<String> {
    let from = sender(header)?;
    let addresses = |list: &[read::Mailbox]| -> Vec<DirectAddress> {
        list.iter().map(|mailbox| mailbox.address.clone()).collect()
    };
    let (to, cc) = (addresses(&header.to), addresses(&header.cc));
    if to.is_empty() && cc.is_empty() {
        bail!("the mail names no recipient; To or Cc is needed");
    }
    let made = || MessageId::from_uuid(Uuid::new_v4(), from.domain());
    let message_id = header.message_id.clone().unwrap_or_else(made);
    Ok(seal_header(&SealHeader {
        from: &from,
        to: &to,
        cc: &cc,
        date: header.date.unwrap_or(now),
        message_id: &message_id,
        in_reply_to: header.in_reply_to.as_ref(),
        references: &header.references,
        subject: OUTER_SUBJECT,
        cipher: SealOptions::default().cipher,
    }))
}

/// The one sender.
fn sender(header: &MailHeader) -> anyhow::Result<DirectAddress> {
    match header.from.as_slice() {
        [only] => Ok(only.address.clone()),
        several => Err(anyhow!("{} senders; one is accepted", several.len())),
    }
}

impl OwnKey {
    fn read(&self) -> anyhow::Result<SigningIdentity> {
        let place = || self.certificate.display().to_string();
        let mut chain = pem_files::certificates(&self.certificate).with_context(place)?;
        // `certificates` never gives an empty list.
        let certificate = chain.remove(0);
        let key = pem_files::private_key(&self.key, self.passphrase_file.as_deref());
        let key = key.with_context(|| self.key.display().to_string())?;
        if !certificate.public_key()?.public_eq(&key) {
            bail!(
                "{} is not the key of {}",
                self.key.display(),
                self.certificate.display()
            );
        }
        Ok(SigningIdentity {
            certificate,
            key,
            intermediates: chain,
        })
    }
}

/// The first certificate of a file.
fn one(path: &Path) -> anyhow::Result<X509> {
    let mut chain = pem_files::certificates(path).with_context(|| path.display().to_string())?;
    Ok(chain.remove(0))
}

fn anchors(paths: &[PathBuf]) -> anyhow::Result<TrustAnchors> {
    let mut all = Vec::new();
    for path in paths {
        let found = pem_files::certificates_under(path).map_err(|(path, error)| {
            anyhow::Error::new(error).context(path.display().to_string())
        })?;
        all.extend(found.into_iter().map(|(_, anchor)| anchor));
    }
    Ok(TrustAnchors::new(all))
}

fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>, CommandError> {
    let mut octets = Vec::new();
    let limit = limits.max_message_bytes;
    let read = open_file(path)?.take(limit + 1).read_to_end(&mut octets);
    read.map_err(|error| {
        let context = path.display().to_string();
        CommandError::Unreadable(anyhow::Error::new(error).context(context))
    })?;
    if octets.len() as u64 > limit {
        let text = format!("{}: larger than {limit} octets", path.display());
        return Err(CommandError::Failed(anyhow!(text)));
    }
    Ok(octets)
}
