//! What EHR A was told of its recipients: the status submission that bridge A posted, taken apart by `receiver` and read
//! here by an XML reader that was written by others.

use anyhow::{Context, bail};
use roxmltree::Document;

use super::{compare::Check, ehr::Referral, receiver::Taken};
use crate::formats::{ids::DirectAddress, xml::names};

/// What one disposition says.
#[derive(Debug, PartialEq, Eq)]
struct Disposition {
    recipient: String,
    word: String,
    reason: Option<String>,
}

impl Disposition {
    fn read(octets: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(octets).context("the disposition is not UTF-8")?;
        let xml = Document::parse(text).context("the disposition is no XML")?;
        let root = xml.root_element();
        if !root.has_tag_name((names::DIRECT, "messageDisposition")) {
            bail!("the document is no messageDisposition");
        }
        let value = |name| {
            let mut children = root.children();
            let child = children.find(|child| child.has_tag_name((names::DIRECT, name)));
            child.map(|child| child.text().unwrap_or_default().to_owned())
        };
        Ok(Self {
            recipient: value("recipient").context("no recipient")?,
            word: value("disposition").context("no disposition")?,
            reason: value("reasonForFailure"),
        })
    }
}

/// Every check of what `taken` says about `referral`: success for `recipient`, posted by `bridge`, and nothing else.
pub(super) fn checks(
    taken: &Taken,
    referral: &Referral,
    recipient: &DirectAddress,
    bridge: &str,
) -> anyhow::Result<Vec<Check>> {
    let [(_, document)] = taken.submission.documents.as_slice() else {
        bail!(
            "{} documents in place of one",
            taken.submission.documents.len()
        );
    };
    let disposition = Disposition::read(document)?;
    let postmaster = format!("postmaster@{}", referral.from.domain());
    let to = std::slice::from_ref(&referral.from);
    let told = match &disposition.reason {
        None => disposition.word.clone(),
        Some(reason) => format!("{} ({reason})", disposition.word),
    };
    Ok(vec![
        Check::equal("client", bridge, &taken.client),
        Check::equal("from", &postmaster, &taken.from.to_string()),
        Check::same_addresses("to", to, &taken.submission.recipients),
        Check::equal(
            "relatesTo",
            referral.message_id.as_str(),
            taken.relates_to.as_deref().unwrap_or("nothing"),
        ),
        Check::equal("disposition", &format!("success of {recipient}"), &{
            let of = disposition.recipient.strip_prefix("mailto:");
            format!("{told} of {}", of.unwrap_or("nobody"))
        }),
    ])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const RECIPIENT: &str = "rui.silva@direct.harbor.example";

    fn disposition(word: &str, more: &str) -> String {
        format!(
            "<d:messageDisposition xmlns:d=\"urn:direct:addressing\">\
             <d:recipient>mailto:{RECIPIENT}</d:recipient><d:disposition>{word}</d:disposition>{more}\
             </d:messageDisposition>"
        )
    }

    /// What differs when EHR A is told `document` about `relates_to`.
    fn differing(document: &str, is_related: bool) -> Vec<String> {
        let from = "ngozi.okafor@direct.elm.example".parse().unwrap();
        let recipient: DirectAddress = RECIPIENT.parse().unwrap();
        let referral = Referral::new(from, vec![recipient.clone()], Timestamp::UNIX_EPOCH).unwrap();
        let relates_to = is_related.then(|| referral.message_id.to_string());
        let (media_type, body) = referral.to_mtom("https://127.0.0.1/xdr").unwrap();
        let taken = super::super::receiver::read("bridge".to_owned(), &media_type, &body).unwrap();
        let mut taken = Taken {
            from: "postmaster@direct.elm.example".parse().unwrap(),
            relates_to,
            ..taken
        };
        taken.submission.recipients = vec![referral.from.clone()];
        taken.submission.documents = vec![("1".to_owned(), document.as_bytes().to_vec())];
        let checks = checks(&taken, &referral, &recipient, "bridge").unwrap();
        let differing = checks.into_iter().filter(|check| !check.holds());
        differing.map(|check| check.subject).collect()
    }

    // rule: STS-1, STS-2
    #[test]
    fn success_about_the_referral_is_what_is_wanted_and_anything_else_is_noticed() {
        let none: [&str; 0] = [];
        assert_eq!(differing(&disposition("success", ""), true), none);
        assert_eq!(differing(&disposition("success", ""), false), ["relatesTo"]);
        let failed = disposition(
            "failure",
            "<d:reasonForFailure>mdnFailed</d:reasonForFailure>",
        );
        assert_eq!(differing(&failed, true), ["disposition"]);
        assert!(Disposition::read(b"<a/>").is_err());
    }
}
