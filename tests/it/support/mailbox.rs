//! The recipient's side: what came by SMTP, and what is in it.

use std::io::Cursor;

use mail_parser::MessageParser;
use xdbridge::{
    bridge::to_xdr::{XdrSubmission, submission_from_xdm},
    formats::{
        document::{DocumentSource, DocumentsInMemory},
        limits::Limits,
        smime::{OpenOptions, SigningIdentity, open},
        xdm::{XdmDocuments, unpack},
    },
};

use super::scripted_smtp::{ScriptedSmtp, undotted};

/// One SMTP transaction that carried a message.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The recipients that were offered, refused ones too, as RCPT named them.
    pub(crate) recipients: Vec<String>,
    /// The message as it was before dots were doubled.
    pub(crate) message: Vec<u8>,
}

/// Every message that the server got, in order of its connections.
pub(crate) fn received(server: &ScriptedSmtp) -> Vec<Received> {
    let mut all = Vec::new();
    for transcript in server.transcripts() {
        let mut messages = transcript.messages.iter();
        let mut recipients = Vec::new();
        for command in &transcript.commands {
            if command.starts_with("MAIL ") {
                recipients.clear();
            } else if let Some(path) = command.strip_prefix("RCPT TO:<") {
                let address = path.split('>').next().unwrap_or_default();
                recipients.push(address.to_owned());
            } else if command == "DATA"
                && let Some(message) = messages.next()
            {
                all.push(Received {
                    recipients: std::mem::take(&mut recipients),
                    message: undotted(message),
                });
            }
        }
    }
    all
}

/// What a recipient finds in a mail: the inner message with its XDM package.
pub(crate) struct Unpacked {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) message_id: String,
    pub(crate) zip: Vec<u8>,
    pub(crate) submission: XdrSubmission,
    /// In the order of the DocumentEntries.
    pub(crate) documents: Vec<Vec<u8>>,
}

/// Opens a sealed mail with a recipient's key.
pub(crate) fn opened(message: &[u8], identity: &SigningIdentity) -> Unpacked {
    let identities = std::slice::from_ref(identity);
    let opened = open(message, identities, &OpenOptions::default()).unwrap();
    unpacked(&opened.entity)
}

/// Reads the signed entity, a wrapped message with an XDM package in it.
pub(crate) fn unpacked(entity: &[u8]) -> Unpacked {
    let inner = entity
        .strip_prefix(b"Content-Type: message/rfc822\r\n\r\n")
        .unwrap();
    let mail = MessageParser::default().parse(inner).unwrap();
    let addresses = |list: Option<&mail_parser::Address<'_>>| -> Vec<String> {
        let list = list.unwrap().iter();
        list.map(|one| one.address().unwrap().to_owned()).collect()
    };
    let zip = mail.attachment(0).unwrap().contents().to_vec();
    let limits = Limits::default();
    let package = unpack(Cursor::new(&zip), &limits).unwrap();
    assert_eq!(package.findings, []);
    let [set] = package.sets.as_slice() else {
        panic!("{} sets", package.sets.len());
    };
    let submission = submission_from_xdm(set).unwrap();
    let mut poured = DocumentsInMemory::default();
    XdmDocuments::open(Cursor::new(&zip), set, &limits)
        .unwrap()
        .pour(&mut poured)
        .unwrap();
    let documents = submission.documents.iter();
    let documents = documents
        .map(|(_, facts)| poured.find(facts.key).unwrap().to_vec())
        .collect();
    Unpacked {
        from: addresses(mail.from()).remove(0),
        to: addresses(mail.to()),
        message_id: mail.message_id().unwrap().to_owned(),
        zip,
        submission,
        documents,
    }
}
