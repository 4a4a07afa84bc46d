//! Each destination gets its mail as it wants it: packaging, Subject and text by recipient, and what is lost is told.

use std::fs;

use mail_parser::{Message, MessageParser, MimeHeaders as _};
use xdbridge::{
    app::config::Config,
    bridge::destination::{DestinationConfig, DirectPackaging},
    formats::{
        document::{DocumentsInMemory, hex},
        finding::Severity::Warning,
        limits::Limits,
        metadata::equal_metadata,
        smime::SigningIdentity,
        xdr::{
            request::{ReadOptions, read_file},
            response::{RegistryResponse, Status},
        },
    },
};

use crate::support::{
    bridge::{ELM, INTAKE, MEI, RUI, TestBridge, assert_plain_success, entries, pki},
    folder::TestFolder,
    mailbox::{Received, opened, received, unpacked},
    process,
    request::{Posted, TestRequest},
    scripted_smtp::ScriptedSmtp,
    soap_ground::every_octet,
    tools::{assert_tools_accept_the_package, opened_by_openssl},
};

const BODY_TEXT: &str = "Documents from Elm Street Clinic.\nFragen? Rufen Sie uns an: 555 0100.\n";
const TITLE: &str = "Referral for Ada Quill";

/// Rui gets a package and the title, the intake desk package and documents, Mei documents under the title.
fn three_ways(config: &mut Config) {
    config.destination = vec![
        DestinationConfig {
            recipients: vec![RUI.to_owned()],
            subject_title: Some(true),
            ..DestinationConfig::default()
        },
        DestinationConfig {
            recipients: vec!["direct.quay.example".to_owned()],
            packaging: Some(DirectPackaging::Documents),
            subject_title: Some(true),
            body_text: Some(BODY_TEXT.to_owned()),
            ..DestinationConfig::default()
        },
        DestinationConfig {
            recipients: vec![INTAKE.to_owned()],
            packaging: Some(DirectPackaging::XdmAndDocuments),
            ..DestinationConfig::default()
        },
    ];
}

fn ground(change: impl FnOnce(&mut Config)) -> (TestBridge, ScriptedSmtp) {
    TestBridge::beside_a_hop(&["direct.harbor.example", "direct.quay.example"], change)
}

/// The one mail that went to exactly these recipients.
fn mail_to<'a>(all: &'a [Received], to: &[&str]) -> &'a [u8] {
    let mut own = all.iter().filter(|mail| mail.recipients == to);
    let mail = own.next().unwrap_or_else(|| panic!("no mail to {to:?}"));
    assert!(own.next().is_none(), "two mails to {to:?}");
    &mail.message
}

fn inner(entity: &[u8]) -> Message<'_> {
    let wrapped = b"Content-Type: message/rfc822\r\n\r\n";
    let message = entity.strip_prefix(wrapped).unwrap();
    MessageParser::default().parse(message).unwrap()
}

/// Name and media type with its charset of each attachment from the `first` on, and its octets: decoded here, since the
/// parser would turn text into UTF-8.
fn attachments(message: &Message<'_>, first: usize) -> (Vec<(String, String)>, Vec<Vec<u8>>) {
    let parts = message.attachments().skip(first);
    let told = |part: &mail_parser::MessagePart<'_>| {
        let kind = part.content_type().unwrap();
        let charset = kind.attribute("charset");
        let charset = charset.map_or(String::new(), |name| format!("; charset={name}"));
        let subtype = kind.subtype().unwrap();
        let name = part.attachment_name().unwrap().to_owned();
        assert_eq!(part.content_transfer_encoding(), Some("base64"));
        let body = part.raw_body_offset() as usize..part.raw_end_offset() as usize;
        let encoded = String::from_utf8_lossy(&message.raw_message()[body]);
        let octets = openssl::base64::decode_block(&encoded.replace("\r\n", "")).unwrap();
        (
            (name, format!("{}/{subtype}{charset}", kind.ctype())),
            octets,
        )
    };
    parts.map(told).unzip()
}

/// Everything before the first empty line.
fn outer_header(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message).into_owned();
    text.split("\r\n\r\n").next().unwrap().to_owned()
}

// rule: XDR-81, XDR-85, XDR-86, XDR-87, XDR-89, CC-2, CC-3, CC-4, WR-4, XDM-50, XDM-52
#[test]
fn three_recipients_of_three_policies_get_a_mail_each_as_they_want_it() {
    let (bridge, server) = ground(three_ways);
    let mut request = TestRequest::new(ELM, &[RUI, MEI, INTAKE]);
    let mut random = vec![0; 200_000];
    openssl::rand::rand_bytes(&mut random).unwrap();
    request.documents = vec![
        (
            "text/xml",
            "<a title=\"Überweisung\"/>\r\n.\r\nFrom x\r\n"
                .as_bytes()
                .to_vec(),
        ),
        (
            "text/plain; charset=iso-8859-1",
            vec![0xe4, b'\n', b'\r', 0xff],
        ),
        ("application/dicom", random),
        ("application/pdf", every_octet(70_000)),
        (
            "message/rfc822",
            b"Subject: nested\n\nNot ours to read.".to_vec(),
        ),
        ("text/xml", Vec::new()),
    ];
    let answer = bridge.submit(&request.mtom());
    assert_eq!(answer.status, Status::Success, "{:?}", entries(&answer));
    bridge.wait_until_sent();

    let all = received(&server);
    assert_eq!(all.len(), 3);
    let sent: Vec<&[u8]> = request
        .documents
        .iter()
        .map(|(_, octets)| &**octets)
        .collect();
    let named = [
        ("Referral_note_1.xml", "text/xml"),
        ("Referral_note_2.txt", "text/plain; charset=iso-8859-1"),
        ("Referral_note_3", "application/dicom"),
        ("Referral_note_4.pdf", "application/pdf"),
        ("Referral_note_5.bin", "application/octet-stream"),
        ("Referral_note_6.xml", "text/xml"),
    ];
    let named = named.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    let titled = format!("{TITLE} - XDM/1.0/DDM");
    let cases: [(&str, &SigningIdentity, &str, bool, bool); 3] = [
        (RUI, &pki().harbor, &titled, true, false),
        (INTAKE, &pki().harbor, "XDM/1.0/DDM", true, true),
        (MEI, &pki().mei, TITLE, false, true),
    ];
    for (to, identity, subject, has_package, has_documents) in cases {
        let message = mail_to(&all, &[to]);
        let header = outer_header(message);
        assert!(
            header.contains("\r\nSubject: Encrypted message"),
            "{header}"
        );
        for secret in ["Quill", "Referral", "XDM"] {
            assert!(!header.contains(secret), "{header}");
        }
        let folder = TestFolder::new();
        let entity = opened_by_openssl(folder.path(), message, identity);
        let mail = inner(&entity);
        assert_eq!(mail.subject(), Some(subject), "{to}");
        let recipients = mail.to().unwrap().iter();
        let recipients: Vec<_> = recipients.map(|one| one.address().unwrap()).collect();
        assert_eq!(recipients, [to]);
        if has_package {
            let unpacked = unpacked(&entity);
            assert_tools_accept_the_package(folder.path(), &unpacked.zip);
            assert_eq!(unpacked.documents, sent);
            let metadata = &unpacked.submission.metadata;
            assert!(equal_metadata(metadata.xml(), request.metadata().xml()));
            // The redundant copies are known by hash and size (XDR-101).
            for (entry, octets) in metadata.document_entries().iter().zip(&sent) {
                assert_eq!(
                    entry.hash.as_deref(),
                    Some(&*hex(&openssl::sha::sha1(octets)))
                );
            }
        }
        let (found, octets) = attachments(&mail, usize::from(has_package));
        if has_documents {
            assert_eq!(found, named, "{to}");
            for (number, (octets, sent)) in octets.iter().zip(&sent).enumerate() {
                assert!(octets == sent, "document {number} of {to}");
            }
        } else {
            assert_eq!(found, [], "{to}");
        }
        let text = mail.body_text(0).unwrap().replace("\r\n", "\n");
        assert_eq!(text.trim_end() == BODY_TEXT.trim_end(), to == MEI, "{text}");
        assert!(!text.contains("Quill"));
    }
    // One leg for each mail, with an id of its own.
    let exchange = bridge.exchange();
    let mut ids: Vec<&str> = exchange
        .legs
        .iter()
        .map(|leg| leg.as_mail().unwrap().message_id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    bridge.stop();
}

// rule: XDR-81, SND-6
#[test]
fn recipients_of_one_policy_share_a_mail_wherever_their_setting_stands() {
    let (bridge, server) = ground(|config| {
        config.delivery.packaging = DirectPackaging::Documents;
        // It says what [delivery] says already.
        config.destination = vec![DestinationConfig {
            recipients: vec![RUI.to_owned()],
            packaging: Some(DirectPackaging::Documents),
            ..DestinationConfig::default()
        }];
    });
    let request = TestRequest::new(ELM, &[RUI, INTAKE]);
    assert_plain_success(&bridge.submit(&request.mtom()));
    bridge.wait_until_sent();
    let all = received(&server);
    mail_to(&all, &[RUI, INTAKE]);
    assert_eq!(all.len(), 1);
    bridge.stop();
}

/// A submission with a relationship, a folder and extra metadata.
fn with_everything_to_lose(to: &[&str]) -> Posted {
    let mut request = TestRequest::new(ELM, to);
    request.extra_slot = Some(("urn:example:ward", "Ward 4"));
    let relationship = "<rim:Association id=\"Rel01\" \
        associationType=\"urn:ihe:iti:2007:AssociationType:XFRM\" sourceObject=\"Document1\" \
        targetObject=\"urn:uuid:0b3f6f9e-3f0c-4a53-9d0d-6f3a1f2b7c11\"/>";
    // The Folder of the fixture, about the same patient.
    let sample = include_str!("../../fixtures/metadata/full-with-folder.xml");
    let start = sample.find("<rim:RegistryPackage id=\"Folder01\"").unwrap();
    let close = "</rim:RegistryPackage>";
    let length = sample[start..].find(close).unwrap() + close.len();
    let folder = &sample[start..start + length];
    let label = "<rim:Classification id=\"label2\" \
        classificationNode=\"urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2\" \
        classifiedObject=\"Folder01\"/>";
    let member = "<rim:Association id=\"Member01\" \
        associationType=\"urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember\" \
        sourceObject=\"Set01\" targetObject=\"Folder01\"/>";
    let end = "</rim:RegistryObjectList>";
    let all = format!("{folder}{label}{member}{relationship}{end}");
    request.mtom().with(end, &all)
}

fn codes(response: &RegistryResponse) -> Vec<String> {
    let mut codes: Vec<String> = entries(response)
        .into_iter()
        .map(|(severity, code, _, _)| {
            assert_eq!(severity, Warning);
            code
        })
        .collect();
    codes.sort();
    codes
}

// rule: XDR-27, XDR-28, XDR-29, XDR-42, XDR-87
#[test]
fn what_some_destinations_lose_is_told_once_and_with_packages_nothing_is() {
    let (bridge, server) = ground(three_ways);
    let lossless = bridge.submit(&with_everything_to_lose(&[RUI, INTAKE]));
    assert_plain_success(&lossless);
    bridge.wait_until_sent();
    let unpacked = opened(mail_to(&received(&server), &[RUI]), &pki().harbor);
    assert_eq!(unpacked.submission.metadata.folders().len(), 1);
    let answer = bridge.submit(&with_everything_to_lose(&[RUI, MEI, INTAKE]));
    assert_eq!(answer.status, Status::Success);
    assert_eq!(
        codes(&answer),
        [
            "PartialFolderContentNotProcessed",
            "PartialTransformNotProcessed",
            "XDSExtraMetadataNotSaved"
        ]
    );
    bridge.wait_until_sent();
    bridge.stop();
}

/// Lets the second Document mean the first one's part, and takes its own part away.
fn sharing_one_part(posted: Posted) -> Posted {
    let text = String::from_utf8(posted.body).unwrap();
    let cids: Vec<String> = text
        .split("href=\"cid:")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    let [first, second] = cids.as_slice() else {
        panic!("{} Includes", cids.len());
    };
    let head = text.find(&format!("<{second}>")).unwrap();
    let start = text[..head].rfind("\r\n--").unwrap();
    let end = head + text[head..].find("\r\n--").unwrap();
    let body = format!("{}{}", &text[..start], &text[end..]);
    Posted {
        body: body
            .replace(&format!("cid:{second}"), &format!("cid:{first}"))
            .into_bytes(),
        ..posted
    }
}

// rule: SOAP-32, XDM-67, XDR-82, XDR-87
#[test]
fn documents_that_share_a_part_share_a_file_and_are_attached_for_each_entry() {
    let (bridge, server) = ground(|config| {
        three_ways(config);
        config.partner[0].shared_parts = true;
    });
    let mut request = TestRequest::new(ELM, &[RUI, MEI]);
    let note = b"<note>The same for both.</note>".to_vec();
    request.documents = vec![("text/xml", note.clone()), ("text/xml", note.clone())];
    let answer = bridge.submit(&sharing_one_part(request.mtom()));
    assert_eq!(answer.status, Status::Success, "{:?}", entries(&answer));
    bridge.wait_until_sent();

    let all = received(&server);
    let unpacked = opened(mail_to(&all, &[RUI]), &pki().harbor);
    assert_eq!(unpacked.documents, [note.clone(), note.clone()]);
    let members = zip::ZipArchive::new(std::io::Cursor::new(&unpacked.zip)).unwrap();
    let names = members.file_names().map(|name| name.unwrap().into_owned());
    let files: Vec<String> = names.filter(|name| name.contains("/DOC")).collect();
    assert_eq!(files, ["IHE_XDM/SUBSET01/DOC00001.XML"]);
    assert!(equal_metadata(
        unpacked.submission.metadata.xml(),
        request.metadata().xml()
    ));

    // On the way back to XDR, each Document carries the octets.
    let folder = TestFolder::new();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("package.zip"), &unpacked.zip).unwrap();
    let (package, request) = (path("package.zip"), path("request.http"));
    process::run(&["convert", &package, "--to", "xdr", "-o", &request]);
    let mut documents = DocumentsInMemory::default();
    let mut file = fs::File::open(&request).unwrap();
    let (limits, options) = (Limits::default(), ReadOptions::default());
    let read = read_file(&mut file, &limits, &options, &mut documents).unwrap();
    assert_eq!(read.documents.len(), 2);
    for part in &read.documents {
        assert_eq!(
            documents.find(part.key),
            Some(&*note),
            "{}",
            part.document_id
        );
    }

    let entity = opened_by_openssl(folder.path(), mail_to(&all, &[MEI]), &pki().mei);
    let (found, octets) = attachments(&inner(&entity), 0);
    let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["Referral_note_1.xml", "Referral_note_2.xml"]);
    assert_eq!(octets, [note.clone(), note]);
    bridge.stop();
}
