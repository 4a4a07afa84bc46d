//! A small EHR that sends: one submission of two documents, posted as ITI-41 over mutual TLS. It asks to be told of final
//! delivery.

use std::{io::Cursor, net::SocketAddr, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use openssl::{sha::Sha1, x509::X509};
use reqwest::{Certificate, Client, Identity, header::CONTENT_TYPE, redirect};
use uuid::Uuid;

use super::compare::Submission;
use crate::formats::{
    document::{DocumentKey, DocumentsInMemory, hex},
    ids::{DirectAddress, Oid, SoapMessageId},
    limits::Limits,
    metadata::Metadata,
    smime::SigningIdentity,
    soap::{AddressBlock, MetadataLevel, Packaging, REQUEST_ACTION},
    xdr::{
        request::{OutgoingDocument, OutgoingRequest, write_mtom},
        response::{self, ReceivedAnswer},
    },
    xml::kept::KeptXml,
};

/// A C-CDA R2.1 Progress Note.
const NOTE: &[u8] = include_bytes!("samples/progress-note.xml");
/// A PDF of one page.
const LETTER: &[u8] = include_bytes!("samples/letter.pdf");
/// The metadata of both, with `@NAME@` where each submission has a value of its own.
const METADATA: &str = include_str!("samples/metadata.template.xml");
/// Longest wait for the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What the EHR is about to send.
pub(super) struct Referral {
    /// The wsa:MessageID.
    pub(super) message_id: SoapMessageId,
    /// The sender.
    pub(super) from: DirectAddress,
    /// Recipients, metadata and documents.
    pub(super) submission: Submission,
}

impl Referral {
    /// A new referral of the sample patient, with ids of its own.
    pub(super) fn new(
        from: DirectAddress,
        recipients: Vec<DirectAddress>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let ids: [String; 5] = std::array::from_fn(|_| format!("urn:uuid:{}", Uuid::new_v4()));
        let [note, letter, set, note_member, letter_member] = ids;
        let xml = METADATA
            .replace("@NOTE_ENTRY@", &note)
            .replace("@LETTER_ENTRY@", &letter)
            .replace("@SET_ENTRY@", &set)
            .replace("@NOTE_MEMBER@", &note_member)
            .replace("@LETTER_MEMBER@", &letter_member)
            .replace("@NOTE_HASH@", &sha1(NOTE))
            .replace("@NOTE_SIZE@", &NOTE.len().to_string())
            .replace("@LETTER_HASH@", &sha1(LETTER))
            .replace("@LETTER_SIZE@", &LETTER.len().to_string())
            .replace(
                "@SUBMISSION_TIME@",
                &now.strftime("%Y%m%d%H%M%S").to_string(),
            )
            .replace("@SET_UNIQUE_ID@", Oid::from_uuid(Uuid::new_v4()).as_str());
        let limits = Limits::default();
        let metadata = Metadata::read(KeptXml::read(xml.as_bytes(), &limits)?, &limits)?;
        Ok(Self {
            message_id: SoapMessageId::from_uuid(Uuid::new_v4()),
            from,
            submission: Submission {
                recipients,
                metadata,
                documents: vec![(note, NOTE.to_vec()), (letter, LETTER.to_vec())],
            },
        })
    }

    /// The request as MTOM: its Content-Type and its octets.
    pub(super) fn to_mtom(&self, to: &str) -> anyhow::Result<(String, Vec<u8>)> {
        let entries = self.submission.metadata.document_entries();
        let media_type = |id: &str| {
            let entry = entries.iter().find(|entry| entry.id == id);
            entry.and_then(|entry| entry.mime_type.clone())
        };
        let mut outgoing = Vec::new();
        let mut poured = DocumentsInMemory::default();
        for (number, (id, octets)) in (0..).zip(&self.submission.documents) {
            let key = DocumentKey::Loose(number);
            outgoing.push(OutgoingDocument {
                document_id: id.clone(),
                key,
                mime_type: media_type(id).context("a document has no mimeType")?,
            });
            poured.documents.push((key, octets.clone()));
        }
        let address_block = AddressBlock {
            from: self.from.clone(),
            to: self.submission.recipients.clone(),
            relates_to: None,
            final_delivery: true,
        };
        let request = OutgoingRequest {
            message_id: &self.message_id,
            action: REQUEST_ACTION,
            to,
            address_block: Some(&address_block),
            metadata_level: Some(MetadataLevel::Xds),
            metadata: self.submission.metadata.xml(),
            documents: &outgoing,
        };
        let mut octets = Vec::new();
        write_mtom(&request, &mut poured, &mut octets)?;
        Ok((request.content_type(Packaging::Mtom), octets))
    }
}

/// The EHR's HTTP client.
pub(super) struct Ehr {
    client: Client,
    url: String,
}

/// What came back.
pub(super) struct Posted {
    /// How large the request was, in octets.
    pub(super) request_bytes: usize,
    /// HTTP status.
    pub(super) status: u16,
    /// The answer, whatever the status.
    pub(super) answer: ReceivedAnswer,
}

impl Ehr {
    /// A client that shows `identity`, and takes no server but one that `ca` calls `host`; it listens at `address`.
    pub(super) fn new(
        identity: &SigningIdentity,
        ca: &X509,
        host: &str,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let certificate = identity.certificate.to_pem()?;
        let key = identity.key.private_key_to_pem_pkcs8()?;
        let client = Client::builder()
            .identity(Identity::from_pkcs8_pem(&certificate, &key)?)
            .tls_certs_only([Certificate::from_der(&ca.to_der()?)?])
            .resolve(host, address)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        let url = format!("https://{host}:{}/xdr", address.port());
        Ok(Self { client, url })
    }

    /// Posts the referral and reads the answer.
    pub(super) async fn submit(&self, referral: &Referral) -> anyhow::Result<Posted> {
        let (content_type, body) = referral.to_mtom(&self.url)?;
        let request_bytes = body.len();
        let request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, content_type);
        let response = request.body(body).send().await.context("no answer came")?;
        let status = response.status().as_u16();
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let body = response.bytes().await.context("the answer broke off")?;
        let answer = response::read(&content_type, &mut Cursor::new(body), &Limits::default())
            .with_context(|| format!("HTTP {status}"))?;
        Ok(Posted {
            request_bytes,
            status,
            answer,
        })
    }
}

fn sha1(octets: &[u8]) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(octets);
    hex(&sha1.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{
        metadata::{
            Level,
            validate::{Context, validate},
        },
        soap::Packaging,
        xdr::request::{ReadOptions, read},
    };

    fn referral() -> Referral {
        let from = "ngozi.okafor@direct.elm.example".parse().unwrap();
        let to = vec!["rui.silva@direct.harbor.example".parse().unwrap()];
        Referral::new(from, to, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn the_sample_is_metadata_at_full_level_in_which_every_place_is_filled() {
        let metadata = referral().submission.metadata;
        assert_eq!(metadata.level(false), Level::Full);
        assert_eq!(validate(&metadata, &Context::at(Level::Full)), []);
        let text = metadata.xml().as_str();
        // What is left are addresses.
        assert_eq!(text.matches('@').count(), text.matches("@direct.").count());
        assert_ne!(
            referral().submission.metadata.xml().as_str(),
            text,
            "each submission has ids of its own"
        );
    }

    #[test]
    fn the_request_is_mtom_that_reads_back_without_findings() {
        let referral = referral();
        let (content_type, octets) = referral.to_mtom("https://xdr.elm.example/xdr").unwrap();
        let mut documents = DocumentsInMemory::default();
        let received = read(
            &content_type,
            &mut Cursor::new(octets),
            &Limits::default(),
            &ReadOptions::default(),
            &mut documents,
        )
        .unwrap();
        assert_eq!(received.findings, []);
        assert_eq!(received.packaging, Packaging::Mtom);
        assert_eq!(received.metadata_level, Some(MetadataLevel::Xds));
        let octets = documents.documents.iter().map(|(_, o)| o.as_slice());
        assert_eq!(octets.collect::<Vec<_>>(), [NOTE, LETTER]);
    }
}
