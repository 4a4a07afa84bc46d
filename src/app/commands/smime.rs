//! `xdbridge smime seal|open`: a Direct mail made or read by the code that the server runs, with keys from files.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use mail_parser::{Message, MessageParser};
use openssl::x509::X509;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{
    adapters::{certificates::pem, clock::SystemClock},
    app::exit::{CommandError, Exit},
    bridge::trust::{CertificateCandidate, Purpose, TrustAnchors, judge},
    flows::ports::Clock,
    formats::{
        ids::{DirectAddress, MessageId},
        smime::{
            ContentCipher, Digest, Legacy, OpenError, OpenOptions, Opened, SealError, SealHeader,
            SealOptions, SigningIdentity, header::OUTER_SUBJECT, open, seal, seal_header,
        },
    },
};

/// Sign and encrypt, or decrypt and verify, a mail with given keys.
#[derive(Debug, Args)]
pub struct SmimeArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: SmimeAction,
}

/// What to do with the file.
#[derive(Debug, Subcommand)]
pub enum SmimeAction {
    /// Wrap, sign and encrypt a message (RFC 5322) as a Direct mail.
    Seal(SealArgs),
    /// Decrypt and verify a Direct mail, and judge its signer.
    Open(OpenArgs),
}

/// `smime seal`.
#[derive(Debug, Args)]
pub struct SealArgs {
    /// The message: header with From, To, Date and Message-ID, blank line, body. 7 bit.
    pub file: PathBuf,
    /// PEM file with a signer's certificate, its intermediates behind it. May be given again, each with its --key.
    #[arg(long = "signer", required = true)]
    pub signers: Vec<PathBuf>,
    /// PEM file with the private key of the --signer at the same place.
    #[arg(long = "key", required = true)]
    pub keys: Vec<PathBuf>,
    /// File with a recipient's certificate. May be given again.
    #[arg(long = "recipient", required = true)]
    pub recipients: Vec<PathBuf>,
    /// Content cipher: aes128-cbc, aes256-cbc, aes128-gcm, aes256-gcm.
    #[arg(long, default_value = "aes256-cbc", value_parser = by_name::<ContentCipher>)]
    pub cipher: ContentCipher,
    /// Digest: sha256, sha384, sha512.
    #[arg(long, default_value = "sha256", value_parser = by_name::<Digest>)]
    pub digest: Digest,
    /// Wrap the content key by RSAES-OAEP.
    #[arg(long)]
    pub oaep: bool,
    /// The time to sign at, such as 2026-11-22T12:00:00Z. Default: now.
    #[arg(long)]
    pub at: Option<Timestamp>,
    /// Where to write the mail. Default: standard output.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// `smime open`.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// The mail, with its outer header.
    pub file: PathBuf,
    /// PEM file with a certificate of ours. May be given again, each with its --key.
    #[arg(long = "certificate", required = true)]
    pub certificates: Vec<PathBuf>,
    /// PEM file with the private key of the --certificate at the same place.
    #[arg(long = "key", required = true)]
    pub keys: Vec<PathBuf>,
    /// File or folder with trust anchors. May be given again. None: nobody is trusted.
    #[arg(long = "anchor")]
    pub anchors: Vec<PathBuf>,
    /// File or folder with intermediates beside those in the mail. May be given again.
    #[arg(long = "intermediate")]
    pub intermediates: Vec<PathBuf>,
    /// A weak algorithm to allow: sha1, 3des, rsa1024, ed25519, sha1kdf. May be given again.
    #[arg(long = "allow-legacy", value_parser = by_name::<Legacy>)]
    pub allow_legacy: Vec<Legacy>,
    /// The time to judge certificates at, such as 2026-11-22T12:00:00Z. Default: now.
    #[arg(long)]
    pub at: Option<Timestamp>,
    /// Where to write the signed MIME entity. Default: standard output.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// Reads a value by the name that it has in settings.
fn by_name<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
}

/// Runs the command; its result goes to `out` unless a file is named.
pub fn run(args: &SmimeArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match &args.action {
        SmimeAction::Seal(args) => run_seal(args, out),
        SmimeAction::Open(args) => run_open(args, out),
    }
}

fn run_seal(args: &SealArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let signers = identities(&args.signers, &args.keys)?;
    let mut recipients = Vec::new();
    for path in &args.recipients {
        // The first of a file is the recipient's; what follows are its intermediates.
        recipients.extend(certificates(path)?.into_iter().take(1));
    }
    let message = with_crlf(&read(&args.file)?);
    let header = outer_fields(&message).map_err(CommandError::Unreadable)?;
    let options = SealOptions {
        digest: args.digest,
        cipher: args.cipher,
        oaep: args.oaep,
        ..SealOptions::default()
    };
    let now = args.at.unwrap_or_else(|| SystemClock.now());
    let boundary = format!("=_{}", Uuid::new_v4().simple());
    // Whole before anything is written: a refused message leaves no half of one.
    let mut mail = header.write(options.cipher).into_bytes();
    let mut entity = |out: &mut dyn Write| {
        out.write_all(b"Content-Type: message/rfc822\r\n\r\n")?;
        out.write_all(&message)
    };
    let sealed = seal(
        &mut mail,
        &signers,
        &recipients,
        &options,
        now,
        &boundary,
        &mut entity,
    );
    sealed.map_err(|error| match error {
        SealError::NotCanonical => CommandError::unreadable(error),
        error => CommandError::failed(error),
    })?;
    put(&mail, args.output.as_deref(), out)?;
    Ok(Exit::Done)
}

fn run_open(args: &OpenArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let identities = identities(&args.certificates, &args.keys)?;
    let anchors = TrustAnchors::new(certificates_under(&args.anchors)?);
    let intermediates = certificates_under(&args.intermediates)?;
    let mail = read(&args.file)?;
    let options = OpenOptions {
        allow_legacy: args.allow_legacy.clone(),
        ..OpenOptions::default()
    };
    let opened = open(&mail, &identities, &options).map_err(|error| match error {
        OpenError::NotEncrypted | OpenError::ContentType | OpenError::Malformed(_) => {
            CommandError::unreadable(error)
        }
        error => CommandError::failed(error),
    })?;
    let sender = sender(&opened.entity, &mail).map_err(CommandError::Unreadable)?;
    let now = args.at.unwrap_or_else(|| SystemClock.now());
    judge_signers(
        &opened,
        &sender,
        &anchors,
        intermediates,
        &args.allow_legacy,
        now,
    )
    .map_err(CommandError::Failed)?;
    put(&opened.entity, args.output.as_deref(), out)?;
    Ok(Exit::Done)
}

/// One signer that is bound to the sender and leads to an anchor is enough (SM-22).
fn judge_signers(
    opened: &Opened,
    sender: &DirectAddress,
    anchors: &TrustAnchors,
    mut intermediates: Vec<X509>,
    allow_legacy: &[Legacy],
    now: Timestamp,
) -> anyhow::Result<()> {
    intermediates.extend(opened.certificates.iter().cloned());
    let mut candidates = Vec::new();
    for signer in &opened.signers {
        candidates.push(CertificateCandidate {
            der: signer.certificate.to_der()?,
            origin: "the mail".to_owned(),
        });
    }
    let verify = Purpose::Verify;
    let judgement = judge(
        &candidates,
        sender,
        verify,
        anchors,
        &intermediates,
        allow_legacy,
        now,
    );
    if judgement.chosen.is_some() {
        return Ok(());
    }
    let faults = judgement
        .verdicts
        .iter()
        .filter_map(|verdict| verdict.fault.as_ref());
    let faults: Vec<String> = faults.map(ToString::to_string).collect();
    Err(anyhow!(
        "no signer of the mail is trusted for its sender: {}",
        faults.join("; ")
    ))
}

/// The fields of a message that its outer header repeats.
struct OuterFields {
    from: DirectAddress,
    to: Vec<DirectAddress>,
    cc: Vec<DirectAddress>,
    date: Timestamp,
    message_id: MessageId,
}

impl OuterFields {
    fn write(&self, cipher: ContentCipher) -> String {
        seal_header(&SealHeader {
            from: &self.from,
            to: &self.to,
            cc: &self.cc,
            date: self.date,
            message_id: &self.message_id,
            in_reply_to: None,
            references: &[],
            subject: OUTER_SUBJECT,
            cipher,
        })
    }
}

fn outer_fields(message: &[u8]) -> anyhow::Result<OuterFields> {
    let header = MessageParser::default()
        .parse_headers(message)
        .context("the file holds no message header")?;
    let date = header.date().context("the message has no Date (WR-11)")?;
    let to = addresses(header.to())?;
    if to.is_empty() {
        return Err(anyhow!("the message has no To (WR-11)"));
    }
    Ok(OuterFields {
        from: from_of(&header)?,
        to,
        cc: addresses(header.cc())?,
        date: Timestamp::from_second(date.to_timestamp())?,
        message_id: header
            .message_id()
            .context("the message has no Message-ID (WR-11)")?
            .parse()?,
    })
}

/// The authoritative sender: of the wrapped message, else of the outer header (WR-2, WR-5).
fn sender(entity: &[u8], mail: &[u8]) -> anyhow::Result<DirectAddress> {
    let wrapped = MessageParser::default().parse(entity);
    let inner = wrapped
        .as_ref()
        .and_then(|entity| entity.parts.first().and_then(|part| part.message()));
    match inner {
        Some(inner) => from_of(inner),
        None => from_of(
            &MessageParser::default()
                .parse_headers(mail)
                .context("the mail has no header")?,
        ),
    }
}

fn from_of(message: &Message<'_>) -> anyhow::Result<DirectAddress> {
    match addresses(message.from())?.as_slice() {
        [from] => Ok(from.clone()),
        _ => Err(anyhow!(
            "the message must have exactly one From mailbox (WR-11)"
        )),
    }
}

fn addresses(field: Option<&mail_parser::Address<'_>>) -> anyhow::Result<Vec<DirectAddress>> {
    let mailboxes = field.into_iter().flat_map(|field| field.iter());
    mailboxes
        .map(|mailbox| {
            let text = mailbox.address().context("an address is empty (ADR-7)")?;
            Ok(text.parse()?)
        })
        .collect()
}

fn identities(
    certificate_files: &[PathBuf],
    keys: &[PathBuf],
) -> Result<Vec<SigningIdentity>, CommandError> {
    if certificate_files.len() != keys.len() {
        return Err(CommandError::unreadable(anyhow!(
            "each certificate needs one --key, in the same order"
        )));
    }
    let mut identities = Vec::new();
    for (path, key) in certificate_files.iter().zip(keys) {
        let mut chain = certificates(path)?.into_iter();
        let certificate = chain.next().ok_or_else(|| {
            CommandError::unreadable(anyhow!("{} holds no certificate", path.display()))
        })?;
        let private = pem::private_key(key, None).map_err(|error| at(key, error))?;
        if !certificate
            .public_key()
            .is_ok_and(|public| public.public_eq(&private))
        {
            return Err(CommandError::unreadable(anyhow!(
                "the key in {} does not belong to the certificate in {}",
                key.display(),
                path.display()
            )));
        }
        identities.push(SigningIdentity {
            certificate,
            key: private,
            intermediates: chain.collect(),
        });
    }
    Ok(identities)
}

fn certificates(path: &Path) -> Result<Vec<X509>, CommandError> {
    pem::certificates(path).map_err(|error| at(path, error))
}

fn certificates_under(paths: &[PathBuf]) -> Result<Vec<X509>, CommandError> {
    let mut found = Vec::new();
    for path in paths {
        let certificates =
            pem::certificates_under(path).map_err(|(path, error)| at(&path, error))?;
        found.extend(certificates.into_iter().map(|(_, certificate)| certificate));
    }
    Ok(found)
}

fn at(path: &Path, error: pem::PemError) -> CommandError {
    CommandError::unreadable(anyhow!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let text = || format!("{} cannot be read", path.display());
    fs::read(path)
        .with_context(text)
        .map_err(CommandError::Unreadable)
}

/// A file on disk often has bare line feeds; what is signed must not (SM-51).
fn with_crlf(message: &[u8]) -> Vec<u8> {
    let mut crlf = Vec::with_capacity(message.len() + message.len() / 32);
    let mut last = 0;
    for octet in message {
        if *octet == b'\n' && last != b'\r' {
            crlf.push(b'\r');
        }
        crlf.push(*octet);
        last = *octet;
    }
    crlf
}

fn put(octets: &[u8], path: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    match path {
        Some(path) => {
            // What was opened may speak of a patient: nobody else reads it.
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(octets)
        }
        None => out.write_all(octets),
    }
}
