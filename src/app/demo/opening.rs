//! Opens a mail as its recipient does: decrypts it with the recipient's own key, verifies who signed it, and takes out the
//! XDM or the notice inside.

use std::io::Cursor;

use anyhow::{Context, bail};
use jiff::Timestamp;
use mail_parser::{Address, Message, MessageParser, MimeHeaders};
use openssl::x509::X509;

use super::{compare::Submission, receiver::common_name};
use crate::{
    bridge::trust::{Binding, CertificateCandidate, Purpose, Terms, TrustAnchors, judge},
    formats::{
        document::{DocumentSource, DocumentsInMemory},
        ids::DirectAddress,
        limits::Limits,
        notification::mdn::ReceivedMdn,
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

/// A notice that was opened.
pub(super) struct OpenedNotice {
    /// From, in the message inside.
    pub(super) from: DirectAddress,
    /// Who signed it, as the certificate names it.
    pub(super) signer: String,
    /// The report.
    pub(super) report: ReceivedMdn,
}

/// Opens `mail` with `identity` at `now`, trusting `ca` alone.
pub(super) fn open(
    mail: &[u8],
    identity: &SigningIdentity,
    ca: &X509,
    now: Timestamp,
) -> anyhow::Result<OpenedMail> {
    let opened = decrypt(mail, identity)?;
    let entity = MessageParser::default().parse(&opened.entity);
    let entity = entity.context("the signed entity is no MIME")?;
    let message = wrapped(&entity)?;
    let from = sender(message)?;
    let (signer, binding) = judge_signers(&opened, &from, ca, now)?;
    let (package_name, zip) = package(message)?;
    let message_id = message.message_id().context("no Message-ID")?.to_owned();
    let recipients = addresses(message.to())?;
    let submission = unpack_one(&zip, recipients)?;
    Ok(OpenedMail {
        from,
        message_id,
        signer,
        binding,
        package_name,
        zip,
        submission,
    })
}

/// Opens `mail`, which is a notice, with `identity` at `now`, trusting `ca` alone.
pub(super) fn open_notice(
    mail: &[u8],
    identity: &SigningIdentity,
    ca: &X509,
    now: Timestamp,
) -> anyhow::Result<OpenedNotice> {
    let opened = decrypt(mail, identity)?;
    let entity = MessageParser::default().parse(&opened.entity);
    let entity = entity.context("the signed entity is no MIME")?;
    let message = wrapped(&entity)?;
    let from = sender(message)?;
    let (signer, _) = judge_signers(&opened, &from, ca, now)?;
    let report = message.parts.iter().find(|part| {
        let kind = part.content_type();
        kind.is_some_and(|kind| kind.subtype() == Some("disposition-notification"))
    });
    let report = report.context("no message/disposition-notification is in the notice")?;
    Ok(OpenedNotice {
        from,
        signer,
        report: ReceivedMdn::read(report.contents())?,
    })
}

fn decrypt(mail: &[u8], identity: &SigningIdentity) -> anyhow::Result<Opened> {
    let identities = std::slice::from_ref(identity);
    Ok(smime::open(mail, identities, &OpenOptions::default())?)
}

fn wrapped<'a>(entity: &'a Message<'_>) -> anyhow::Result<&'a Message<'a>> {
    let message = entity.attachment(0).and_then(|part| part.message());
    message.context("no message/rfc822 is in the signed entity")
}

/// The one sender.
fn sender(message: &Message<'_>) -> anyhow::Result<DirectAddress> {
    match addresses(message.from())?.as_slice() {
        [from] => Ok(from.clone()),
        several => bail!("{} senders in place of one", several.len()),
    }
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
    let terms = Terms {
        anchors: &anchors,
        intermediates: &opened.certificates,
        allow_legacy: &[],
        revocation: None,
        demands: None,
        fetched: None,
    };
    let judgement = judge(&candidates, from, Purpose::Verify, &terms, now);
    let Some(chosen) = judgement.chosen else {
        let faults = judgement.verdicts.iter().filter_map(|v| v.fault.as_ref());
        let texts: Vec<String> = faults.map(ToString::to_string).collect();
        bail!("no signer is trusted for the sender: {}", texts.join("; "));
    };
    let name = common_name(&chosen.certificate);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::{
            demo::{compare::compare, ehr::Referral},
            pki::{Authority, Profile},
        },
        bridge::{
            destination::MailPolicy,
            to_direct::{Conversion, write_message},
        },
        formats::{
            document::{DocumentKey, FactsSink},
            metadata::{Level, RECEIVED_URI},
            smime::{SealHeader, SealOptions, seal, seal_header},
            xdm::Institution,
        },
    };

    const TO: &str = "rui.silva@direct.harbor.example";

    /// Two parties below one CA, and a referral from one to the other.
    struct Parties {
        now: Timestamp,
        authority: Authority,
        recipient: SigningIdentity,
        referral: Referral,
    }

    impl Parties {
        fn new() -> Self {
            let now: Timestamp = "2026-11-22T08:05:09Z".parse().unwrap();
            let authority = Authority::root("Test CA", now).unwrap();
            let to: DirectAddress = TO.parse().unwrap();
            let recipient = authority.issue(&Profile::address(&to, now)).unwrap();
            let from = "ngozi.okafor@direct.elm.example".parse().unwrap();
            Self {
                now,
                authority,
                recipient,
                referral: Referral::new(from, vec![to], now).unwrap(),
            }
        }

        fn signer(&self, domain: &str) -> SigningIdentity {
            let profile = Profile::domain(&domain.parse().unwrap(), self.now);
            self.authority.issue(&profile).unwrap()
        }

        /// The mail that a bridge makes of `documents`, signed by `signer`.
        fn mail(&self, documents: &[(String, Vec<u8>)], signer: &SigningIdentity) -> Vec<u8> {
            let mut poured = DocumentsInMemory {
                documents: (1..)
                    .map(DocumentKey::Part)
                    .zip(documents.iter().map(|(_, octets)| octets.clone()))
                    .collect(),
            };
            let mut facts = FactsSink::default();
            poured.pour(&mut facts).unwrap();
            let ids = documents.iter().map(|(id, _)| id.clone());
            let documents: Vec<_> = ids.zip(facts.into_facts()).collect();
            let message_id = "1@direct.elm.example".parse().unwrap();
            let conversion = Conversion {
                metadata: &self.referral.submission.metadata,
                documents: &documents,
                level: Level::Full,
                from: &self.referral.from,
                to: &self.referral.submission.recipients,
                message_id: &message_id,
                date: self.now,
                policy: &MailPolicy::default(),
                wants_final_delivery: false,
                institution: &Institution::default(),
            };
            let mut entity = Vec::new();
            write_message(&conversion, &mut poured, &mut entity).unwrap();
            let header = SealHeader {
                from: &self.referral.from,
                to: &self.referral.submission.recipients,
                cc: &[],
                date: self.now,
                message_id: &message_id,
                in_reply_to: None,
                references: &[],
                subject: "",
                cipher: SealOptions::default().cipher,
            };
            let mut mail = seal_header(&header).into_bytes();
            seal(
                &mut mail,
                std::slice::from_ref(signer),
                std::slice::from_ref(&self.recipient.certificate),
                &SealOptions::default(),
                self.now,
                "b1",
                &mut |out| out.write_all(&entity),
            )
            .unwrap();
            mail
        }

        fn open(&self, mail: &[u8]) -> anyhow::Result<OpenedMail> {
            open(mail, &self.recipient, &self.authority.certificate, self.now)
        }
    }

    #[test]
    fn what_a_bridge_seals_opens_and_differs_in_nothing() {
        let parties = Parties::new();
        let sent = &parties.referral.submission;
        let mail = parties.mail(&sent.documents, &parties.signer("direct.elm.example"));
        let opened = parties.open(&mail).unwrap();
        assert_eq!(opened.from, parties.referral.from);
        assert_eq!(opened.message_id, "1@direct.elm.example");
        assert_eq!(opened.binding, Binding::Domain);
        let received = &opened.submission;
        let checks = compare(sent, &sent.recipients, received, RECEIVED_URI);
        assert!(checks.iter().all(|check| check.difference.is_none()));
    }

    #[test]
    fn a_document_that_was_changed_on_the_way_is_told() {
        let parties = Parties::new();
        let mut documents = parties.referral.submission.documents.clone();
        documents[0].1[100] ^= 1;
        let mail = parties.mail(&documents, &parties.signer("direct.elm.example"));
        // The hash in its metadata no longer fits: the package is refused before it is compared.
        let error = parties.open(&mail).err().unwrap();
        assert!(error.to_string().contains("XDM"), "{error:#}");
    }

    #[test]
    fn a_signer_of_another_domain_or_another_ca_is_not_trusted_for_the_sender() {
        let parties = Parties::new();
        let documents = &parties.referral.submission.documents;
        let stranger = parties.mail(documents, &parties.signer("direct.oak.example"));
        assert!(parties.open(&stranger).is_err());

        let others = Authority::root("Other CA", parties.now).unwrap();
        let own = "direct.elm.example".parse().unwrap();
        let forged = others.issue(&Profile::domain(&own, parties.now)).unwrap();
        let error = parties.open(&parties.mail(documents, &forged)).err();
        let text = error.unwrap().to_string();
        assert!(text.contains("no signer is trusted"), "{text}");
    }

    #[test]
    fn another_key_opens_nothing() {
        let parties = Parties::new();
        let documents = &parties.referral.submission.documents;
        let mail = parties.mail(documents, &parties.signer("direct.elm.example"));
        let ca = &parties.authority.certificate;
        let other = parties.signer("direct.harbor.example");
        assert!(open(&mail, &other, ca, parties.now).is_err());
    }
}
