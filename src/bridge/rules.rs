//! Every rule by which a message is judged, as one table: `inspect --rules` prints it.
//!
//! Metadata has its rows, each with the function that judges it, in [`validate`]. What is judged elsewhere (the
//! envelope, the documents, sender and recipients, a package, an answer) is judged by code that is no function over
//! metadata; its rows stand here and only describe. Tests hold both ends: whatever rule that code names must have a
//! row, and each row a test that shows its rule.

use crate::formats::{
    metadata::validate::{
        self, Consequence,
        Consequence::{Answered, NotRead, Refused, Told},
        ObjectKind::{
            Answer, Document, Envelope, Package, Recipient, Sender, Submission, SubmissionSet,
        },
        Rule,
    },
    xdr::ErrorCode,
};

/// The whole table: metadata first.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    validate::rules().chain(JUDGED_ELSEWHERE)
}

const METADATA: Consequence = Refused(ErrorCode::XdsRepositoryMetadataError);
const REPOSITORY: Consequence = Refused(ErrorCode::XdsRepositoryError);
const RESOURCES: Consequence = Refused(ErrorCode::XdsRepositoryOutOfResources);
const NO_METADATA: Consequence = Refused(ErrorCode::XdsMissingDocumentMetadata);
const NO_DOCUMENT: Consequence = Refused(ErrorCode::XdsMissingDocument);
const UNKNOWN_RECIPIENT: Consequence = Refused(ErrorCode::UnknownRecipient);

/// Rules that other code judges: the readers of envelopes, packages and answers, [`super::judge`], [`super::routing`],
/// and the flows.
pub static JUDGED_ELSEWHERE: &[Rule] = &[
    // Documents and who they are from and for.
    Rule::of(
        "XDR-2",
        Submission,
        NotRead,
        "one lcm:SubmitObjectsRequest, then the documents, and nothing else",
    ),
    Rule::of(
        "XDR-8",
        Document,
        METADATA,
        "an id on every xds:Document that no other has",
    ),
    Rule::of(
        "XDR-26",
        SubmissionSet,
        REPOSITORY,
        "a sourceId that this partner may use",
    ),
    Rule::of(
        "XDR-27",
        Submission,
        Answered(ErrorCode::PartialFolderContentNotProcessed),
        "no folders, where a recipient gets the documents alone",
    ),
    Rule::of(
        "XDR-28",
        Submission,
        Answered(ErrorCode::PartialRelationshipContentNotProcessed),
        "no relationships, where a recipient gets the documents alone; each kind has its code",
    ),
    Rule::of(
        "XDR-29",
        Submission,
        Answered(ErrorCode::XdsExtraMetadataNotSaved),
        "no extra slots, where a recipient gets the documents alone",
    ),
    Rule::of(
        "XDR-32",
        Recipient,
        UNKNOWN_RECIPIENT,
        "recipients that can be served; one that can is enough",
    ),
    Rule::of(
        "XDR-34",
        Submission,
        METADATA,
        "no more findings than are listed",
    ),
    Rule::of(
        "XDR-60",
        Recipient,
        METADATA,
        "a recipient: direct:to, or intendedRecipient values that name an address",
    ),
    Rule::of(
        "XDR-65",
        Sender,
        METADATA,
        "a sender: direct:from, or authorTelecommunication of the SubmissionSet",
    ),
    Rule::of(
        "XDR-122",
        Document,
        Told,
        "a messageDisposition as base64, like every document",
    ),
    Rule::of(
        "XDR-125",
        Submission,
        REPOSITORY,
        "a delivery notification about a message that was delivered to the same partner",
    ),
    Rule::of(
        "ADR-7",
        Sender,
        METADATA,
        "an address in authorTelecommunication, where it names the sender",
    ),
    Rule::of(
        "LIM-1",
        Envelope,
        NotRead,
        "a message no larger than the limit",
    ),
    Rule::of(
        "LIM-2",
        Document,
        RESOURCES,
        "documents no larger than the limit",
    ),
    Rule::of(
        "LIM-9",
        Recipient,
        RESOURCES,
        "no more recipients than the limit",
    ),
    Rule::of(
        "LIM-14",
        Submission,
        RESOURCES,
        "a submission that fits into one mail",
    ),
    Rule::of(
        "SOAP-23",
        Document,
        REPOSITORY,
        "xop:Include alone in its document",
    ),
    Rule::of(
        "SOAP-24",
        Document,
        NO_DOCUMENT,
        "base64 or one xop:Include that names a part of the package",
    ),
    Rule::of(
        "SOAP-28",
        Document,
        NO_METADATA,
        "no part that no xop:Include names",
    ),
    Rule::of("SOAP-29", Document, METADATA, "base64 with valid padding"),
    Rule::of(
        "SOAP-32",
        Document,
        REPOSITORY,
        "one document for each part",
    ),
    Rule::of(
        "T-10c",
        Document,
        REPOSITORY,
        "xop:Include of a part that is not the root",
    ),
    // The envelope, its header and its package.
    Rule::of(
        "SOAP-3",
        Envelope,
        NotRead,
        "multipart/related with boundary, type, start and start-info",
    ),
    Rule::of(
        "SOAP-4",
        Envelope,
        NotRead,
        "application/xop+xml in UTF-8 as the root part",
    ),
    Rule::of(
        "SOAP-5",
        Envelope,
        Told,
        "application/soap+xml for SOAP 1.2",
    ),
    Rule::of(
        "SOAP-7",
        Envelope,
        NotRead,
        "a Content-Type of SOAP or MTOM, without Content-Encoding",
    ),
    Rule::of("SOAP-8", Envelope, NotRead, "UTF-8 or UTF-16 throughout"),
    Rule::of(
        "SOAP-11",
        Envelope,
        Told,
        "MTOM; a partner may be bound to it",
    ),
    Rule::of(
        "SOAP-20",
        Envelope,
        NotRead,
        "a root part, the one that start names",
    ),
    Rule::of("SOAP-21", Envelope, Told, "Content-IDs in angle brackets"),
    Rule::of(
        "SOAP-22",
        Document,
        Told,
        "an href that is the percent-encoded Content-ID",
    ),
    Rule::of(
        "SOAP-26",
        Envelope,
        NotRead,
        "parts in binary, 8bit, 7bit, base64 or quoted-printable",
    ),
    Rule::of(
        "SOAP-30",
        Envelope,
        NotRead,
        "a package that ends with its closing boundary",
    ),
    Rule::of("SOAP-31", Envelope, NotRead, "every Content-ID once"),
    Rule::of(
        "SOAP-40",
        Envelope,
        NotRead,
        "soap:Envelope with an optional Header, one Body, and nothing else",
    ),
    Rule::of(
        "SOAP-42",
        Envelope,
        NotRead,
        "xds:ProvideAndRegisterDocumentSetRequest alone in the Body",
    ),
    Rule::of(
        "SOAP-43",
        Envelope,
        NotRead,
        "no DTD and no processing instruction",
    ),
    Rule::of(
        "SOAP-44",
        Envelope,
        NotRead,
        "the SOAP 1.2 envelope namespace",
    ),
    Rule::of("SOAP-45", Envelope, NotRead, "SOAP 1.2, not 1.1"),
    Rule::of(
        "SOAP-46",
        Envelope,
        NotRead,
        "mustUnderstand as true, false, 1 or 0",
    ),
    Rule::of("SOAP-60", Envelope, NotRead, "wsa:Action, to be understood"),
    Rule::of(
        "SOAP-61",
        Envelope,
        Told,
        "wsa:Action without white space around it",
    ),
    Rule::of(
        "SOAP-63",
        Envelope,
        NotRead,
        "a wsa:MessageID that is an absolute IRI",
    ),
    Rule::of("SOAP-64", Envelope, Told, "wsa:ReplyTo"),
    Rule::of(
        "SOAP-66",
        Envelope,
        Told,
        "no FaultTo but the anonymous one",
    ),
    Rule::of(
        "SOAP-68",
        Envelope,
        NotRead,
        "each addressing header once, an endpoint with its Address",
    ),
    Rule::of(
        "SOAP-69",
        Envelope,
        NotRead,
        "a wsa:MessageID of its own, where the partner is bound to it",
    ),
    Rule::of("SOAP-80", Envelope, NotRead, "well-formed XML and MIME"),
    Rule::of(
        "SOAP-82",
        Envelope,
        NotRead,
        "no header that must be understood and is not",
    ),
    Rule::of("SOAP-84", Envelope, NotRead, "the Action of ITI-41"),
    Rule::of("SOAP-86", Envelope, NotRead, "a body that fits the Action"),
    Rule::of("SOAP-87", Envelope, NotRead, "the anonymous ReplyTo"),
    Rule::of(
        "SOAP-90",
        Envelope,
        NotRead,
        "nothing of the message: our own failure",
    ),
    Rule::of(
        "SOAP-110",
        Envelope,
        NotRead,
        "one direct:addressBlock at the most, in its namespace",
    ),
    Rule::of(
        "SOAP-111",
        Envelope,
        Told,
        "role and relay of the addressBlock; a partner may be bound to them",
    ),
    Rule::of(
        "SOAP-112",
        Envelope,
        NotRead,
        "one direct:from and a direct:to, each mailto: and an address",
    ),
    Rule::of("SOAP-114", Envelope, Told, "one address in each direct:to"),
    Rule::of(
        "SOAP-117",
        Submission,
        METADATA,
        "a metadata-level of minimal or XDS",
    ),
    Rule::of(
        "SOAP-119",
        Envelope,
        Told,
        "X-DIRECT-FINAL-DESTINATION-DELIVERY with the value true",
    ),
    Rule::of(
        "SOAP-120",
        SubmissionSet,
        Told,
        "an author and recipients that agree with the addressBlock",
    ),
    Rule::of(
        "SOAP-148",
        Envelope,
        Told,
        "no security header, where the partner's are ignored",
    ),
    Rule::of(
        "LIM-3",
        Envelope,
        NotRead,
        "a root part or METADATA.XML no larger than the limit",
    ),
    Rule::of(
        "LIM-5",
        Envelope,
        NotRead,
        "XML within the limits of depth, attributes and their values",
    ),
    Rule::of("LIM-6", Envelope, NotRead, "no more parts than the limit"),
    Rule::of(
        "LIM-7",
        Envelope,
        NotRead,
        "heads of parts no larger than the limit",
    ),
    Rule::of(
        "T-11",
        Envelope,
        NotRead,
        "each header field of a part once",
    ),
    // An XDM package.
    Rule::of(
        "XDM-13",
        Package,
        Told,
        "names and places as the layout has them",
    ),
    Rule::of("XDM-24", Package, Told, "a URI as one value"),
    Rule::of(
        "XDM-25",
        Package,
        Told,
        "a URI in the case of the file's name",
    ),
    Rule::of(
        "XDM-26",
        Package,
        METADATA,
        "no multipart/related documents",
    ),
    Rule::of("XDM-32", Package, Told, "README.TXT and INDEX.HTM"),
    Rule::of(
        "XDM-40",
        Package,
        METADATA,
        "files whose size and hash are those of the metadata",
    ),
    Rule::of(
        "XDM-41",
        Package,
        NotRead,
        "a zip archive with IHE_XDM/<dir>/METADATA.XML",
    ),
    Rule::of("XDM-42", Package, Told, "a URI for each document"),
    Rule::of(
        "XDM-43",
        Package,
        NO_DOCUMENT,
        "a file for each DocumentEntry",
    ),
    Rule::of(
        "XDM-44",
        Package,
        METADATA,
        "METADATA.XML in each directory of a submission set",
    ),
    Rule::of(
        "XDM-47",
        Package,
        NotRead,
        "Store or Deflate as the method of every file",
    ),
    Rule::of(
        "XDM-60",
        Package,
        NotRead,
        "paths that stay inside the archive",
    ),
    Rule::of("XDM-61", Package, METADATA, "relative URIs"),
    Rule::of(
        "XDM-62",
        Package,
        NotRead,
        "lengths that are what the directory says",
    ),
    Rule::of(
        "XDM-63",
        Package,
        NotRead,
        "every name once, and no overlapping entries",
    ),
    Rule::of(
        "XDM-64",
        Package,
        NotRead,
        "no encrypted entries and no symbolic links",
    ),
    Rule::of(
        "XDM-65",
        Package,
        METADATA,
        "METADATA.XML that is readable within the limits of XML",
    ),
    Rule::of("LIM-10", Package, NotRead, "no more entries than the limit"),
    Rule::of(
        "LIM-11",
        Package,
        NotRead,
        "unpacked sizes within the limits",
    ),
    Rule::of(
        "LIM-12",
        Package,
        NotRead,
        "a ratio of inflation within the limit",
    ),
    Rule::of(
        "LIM-13",
        Package,
        NotRead,
        "directories no deeper than the limit, and no package in a package",
    ),
    // An answer.
    Rule::of(
        "XDR-44",
        Answer,
        NotRead,
        "no entries: each is told as a finding with its own code",
    ),
    Rule::of(
        "SOAP-94",
        Answer,
        NotRead,
        "a RegistryResponse, not a fault",
    ),
    // Mail.
    Rule::of(
        "T-11b",
        Submission,
        NotRead,
        "mail that no two readers see differently",
    ),
    Rule::of(
        "LIM-15",
        Submission,
        NotRead,
        "parts and headers within the limits",
    ),
    Rule::of(
        "RCV-R1",
        Submission,
        NotRead,
        "mail that is encrypted, not only signed",
    ),
    Rule::of(
        "RCV-2",
        Submission,
        NotRead,
        "a CMS of EnvelopedData or AuthEnvelopedData",
    ),
    Rule::of(
        "LIM-16",
        Submission,
        NotRead,
        "recipients, signers and certificates of a CMS within the limits",
    ),
    Rule::of("MDN-20", Submission, Told, "a report in a notice"),
    Rule::of("MDN-44", Submission, Told, "a Disposition in an MDN"),
    Rule::of(
        "MDN-50",
        Submission,
        Told,
        "an Original-Message-ID in an MDN",
    ),
    Rule::of("WR-11", Submission, Told, "a Message-ID and a Date"),
    Rule::of("SM-55", Document, NotRead, "parts that can be decoded"),
    Rule::of(
        "MD-110",
        Document,
        Told,
        "a Content-Type that fits the content",
    ),
    Rule::of("MD-125", Submission, NotRead, "a document, or a text"),
    Rule::of(
        "CTX-1",
        Submission,
        Told,
        "X-Direct-Context once, naming one part of text/plain",
    ),
    Rule::of(
        "CTX-2",
        Submission,
        Told,
        "a context in the form of its elements",
    ),
    Rule::of(
        "CTX-3",
        Submission,
        Told,
        "X-Direct-Context where it was signed",
    ),
    Rule::of(
        "CTX-4",
        Submission,
        Told,
        "a context of known elements, in bounds",
    ),
    Rule::of(
        "CTX-5",
        Submission,
        Told,
        "a context about the patient of the documents beside it",
    ),
    Rule::of(
        "XDR-101",
        Document,
        Told,
        "nothing beside a package but copies",
    ),
    Rule::of(
        "XDR-103",
        Submission,
        NotRead,
        "metadata that can do without its URIs",
    ),
    Rule::of(
        "XDR-105",
        Submission,
        NotRead,
        "what the endpoint needs of metadata",
    ),
    Rule::of("DIR-8", Submission, NotRead, "what the endpoint takes"),
    Rule::of(
        "MD-170",
        Document,
        Told,
        "classCode and typeCode where an endpoint needs full metadata",
    ),
    Rule::of(
        "MD-171",
        Document,
        Told,
        "confidentialityCode where an endpoint needs full metadata",
    ),
    Rule::of(
        "MD-172",
        Document,
        Told,
        "languageCode where an endpoint needs full metadata",
    ),
    Rule::of(
        "MD-173",
        Document,
        Told,
        "facility and practice setting where an endpoint needs full metadata",
    ),
    Rule::of(
        "MD-174",
        Document,
        Told,
        "creationTime where an endpoint needs full metadata",
    ),
    Rule::of(
        "MD-175",
        SubmissionSet,
        Told,
        "contentTypeCode where an endpoint needs full metadata",
    ),
];
