//! formatCode by the document's templateIds (MD-147, MD-160).

use super::{super::metadata::Code, Body, CdaHeader};

/// The coding scheme of IHE's format codes (MD-59).
const SCHEME: &str = "1.3.6.1.4.1.19376.1.2.3";
/// The code of a document whose mimeType says all (MD-116).
pub const MIME_TYPE_SUFFICIENT: &str = "urn:ihe:iti:xds:2017:mimeTypeSufficient";
/// C-CDA's US Realm Header.
const US_REALM_HEADER: &str = "2.16.840.1.113883.10.20.22.1.1";
/// The first version of that header which has a date.
const FIRST_DATED_VERSION: &str = "2014-06-09";
const XPHR: &str = "urn:ihe:pcc:xphr:2007";
/// What is looked for after C-CDA, in this order: templateId and code.
const TEMPLATES: [(&str, &str); 5] = [
    ("1.3.6.1.4.1.19376.1.5.3.1.1.5", XPHR),
    ("2.16.840.1.113883.10.20.1", XPHR),
    ("2.16.840.1.113883.3.88.11.32.1", XPHR),
    (XDS_SD, ""),
    ("1.3.6.1.4.1.19376.1.5.3.1.1.2", "urn:ihe:pcc:xds-ms:2007"),
];
/// A scanned document, whose code depends on what was scanned.
const XDS_SD: &str = "1.3.6.1.4.1.19376.1.2.20";

/// The formatCode of a document that is known by its media type alone.
pub fn mime_type_sufficient() -> Code {
    code(MIME_TYPE_SUFFICIENT)
}

/// A formatCode of IHE's coding scheme.
pub(crate) fn code(value: &str) -> Code {
    Code {
        code: value.to_owned(),
        scheme: Some(SCHEME.to_owned()),
        display: Some(value.to_owned()),
    }
}

pub(super) fn of(header: &CdaHeader) -> Code {
    code(&value(header))
}

fn value(header: &CdaHeader) -> String {
    let extensions = |root: &'static str| {
        let ids = header.root.all("templateId");
        ids.filter(move |id| id.attribute("root") == Some(root))
            .map(|id| id.attribute("extension"))
    };
    let mut of_header = extensions(US_REALM_HEADER).peekable();
    if of_header.peek().is_some() {
        // A document of 2.1 often names 1.1 as well: the dated version wins.
        let is_dated =
            of_header.any(|extension| extension.is_some_and(|date| date >= FIRST_DATED_VERSION));
        let version = if is_dated { "2.1" } else { "1.1" };
        let body = match header.body {
            Body::NonXml(_) => "nonXMLBody",
            Body::Structured | Body::Missing => "structuredBody",
        };
        return format!("urn:hl7-org:sdwg:ccda-{body}:{version}");
    }
    let found = TEMPLATES
        .iter()
        .find(|(root, _)| extensions(root).next().is_some());
    match found {
        Some((XDS_SD, _)) => scanned(&header.body).to_owned(),
        Some((_, code)) => (*code).to_owned(),
        None => MIME_TYPE_SUFFICIENT.to_owned(),
    }
}

fn scanned(body: &Body) -> &'static str {
    match body {
        Body::NonXml(Some(media_type)) if media_type.eq_ignore_ascii_case("text/plain") => {
            "urn:ihe:iti:xds-sd:text:2008"
        }
        _ => "urn:ihe:iti:xds-sd:pdf:2008",
    }
}
