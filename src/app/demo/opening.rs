//! The counterpart opens a mail: decrypts it with its own key, verifies who signed it, and unpacks the XDM inside.

use std::io::Cursor;

use anyhow::{Context, bail};
use jiff::Timestamp;
use mail_parser::{Address, Message, MessageParser, MimeHeaders};
use openssl::x509::X509;

use super::compare::Submission;
use crate::{
    bridge::trust::{Binding, CertificateCandidate, Purpose, TrustAnchors, judge},
    formats::{
        document::{DocumentSource, DocumentsInMemory},
        ids::DirectAddress,
        limits::Limits,
        smime::{self, OpenOptions, Opened, SigningIdentity},
        xdm::{XdmDocuments, unpack},
    },
};

/// A mail that was opened.
pub(super) struct OpenedMail {
    /// From, in the message inside.
    pub(super) from: DirectAddress,
    /// Its Message-ID.
    pub(super) message_id: String,
    /// Who signed it, as the certificate names it.
    pub(super) signer: String,
    /// How the signer's certificate is bound to From.
    pub(super) binding: Binding,
    /// The package's file name.
    pub(super) package_name: String,
    /// The package itself.
    pub(super) zip: Vec<u8>,
    /// What was in it; the recipients are those of To.
    pub(super) submission: Submission,
}

/// Opens `mail` with `identity` at `now`, trusting `ca` alone.
pub(super) fn open(
    mail: &[u8],
    identity: &SigningIdentity,
    ca: &X509,
    now: Timestamp,
) -> anyhow::Result<OpenedMail> {
    let opened = smime::open(
        mail,
        std::slice::from_ref(identity),
        &OpenOptions::default(),
    )?;
    let entity = MessageParser::default().parse(&opened.entity);
    let entity = entity.context("the signed entity is no MIME")?;
    let message = entity.attachment(0).and_then(|part| part.message());
    let message = message.context("no message/rfc822 is in the signed entity")?;

    let from = addresses(message.from())?;
    let [from] = from.as_slice() else {
        bail!("{} senders in place of one", from.len());
    };
    let (signer, binding) = judge_signers(&opened, from, ca, now)?;
    let (package_name, zip) = package(message)?;
    let message_id = message.message_id().context("no Message-ID")?.to_owned();
    let recipients = addresses(message.to())?;
    let submission = unpack_one(&zip, recipients)?;
    Ok(OpenedMail {
        from: from.clone(),
        message_id,
        signer,
        binding,
        package_name,
        zip,
        submission,
    })
}

fn addresses(field: Option<&Address<'_>>) -> anyhow::Result<Vec<DirectAddress>> {
    let field = field.context("From or To is missing")?;
    field
        .iter()
        .map(|address| {
            let text = address.address().context("an address is empty")?;
            text.parse().context("no Direct address")
        })
        .collect()
}

/// The first signer whose certificate is bound to `from` and leads to `ca`.
fn judge_signers(
    opened: &Opened,
    from: &DirectAddress,
    ca: &X509,
    now: Timestamp,
) -> anyhow::Result<(String, Binding)> {
    let candidates: Vec<CertificateCandidate> = opened
        .signers
        .iter()
        .map(|signer| {
            Ok(CertificateCandidate {
                der: signer.certificate.to_der()?,
                origin: "signature".to_owned(),
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let anchors = TrustAnchors::new([ca.clone()]);
    let others = &opened.certificates;
    let judgement = judge(
        &candidates,
        from,
        Purpose::Verify,
        &anchors,
        others,
        &[],
        now,
    );
    let Some(chosen) = judgement.chosen else {
        let faults = judgement.verdicts.iter().filter_map(|v| v.fault.as_ref());
        let texts: Vec<String> = faults.map(ToString::to_string).collect();
        bail!("no signer is trusted for the sender: {}", texts.join("; "));
    };
    let mut names = chosen.certificate.subject_name().entries();
    let name = names.next().and_then(|entry| entry.data().to_string().ok());
    let name = name.map_or_else(|| "without a name".to_owned(), |name| name.to_string());
    Ok((name, chosen.binding))
}

fn package(message: &Message<'_>) -> anyhow::Result<(String, Vec<u8>)> {
    let part = message.attachment(0).context("no attachment")?;
    let name = part.attachment_name().unwrap_or("without a name");
    Ok((name.to_owned(), part.contents().to_vec()))
}

fn unpack_one(zip: &[u8], recipients: Vec<DirectAddress>) -> anyhow::Result<Submission> {
    let limits = Limits::default();
    let package = unpack(Cursor::new(zip), &limits)?;
    let findings = package.sets.iter().flat_map(|set| &set.findings);
    if let Some(finding) = package.findings.iter().chain(findings).next() {
        bail!(
            "the XDM is not as it should be: {} {}",
            finding.rule,
            finding.text
        );
    }
    let [set] = package.sets.as_slice() else {
        bail!("{} submission sets in place of one", package.sets.len());
    };
    let mut poured = DocumentsInMemory::default();
    XdmDocuments::open(Cursor::new(zip), set, &limits)?.pour(&mut poured)?;
    let mut documents = Vec::new();
    for document in &set.documents {
        let octets = poured.find(document.facts.key);
        let octets = octets.context("a document is not in the package")?;
        documents.push((document.entry_id.clone(), octets.to_vec()));
    }
    Ok(Submission {
        recipients,
        metadata: set.metadata.clone(),
        documents,
    })
}
