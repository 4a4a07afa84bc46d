//! S/MIME from outside: what can be told of it without a key. Whether the bridge would open and trust it is told by the
//! bridge that has the key.

use std::io::Read;

use super::{
    InspectError, Inspection, Kind,
    mail::{addresses, octets_of},
};
use crate::formats::{
    limits::Limits,
    mime::read::{self, refusal},
    smime::{self, Look, OpenError, SecuredForm},
};

/// A mail: its header, which nobody signed, names sender and recipients.
pub(super) fn inspect_mail(
    file: &mut dyn Read,
    limits: &Limits,
) -> Result<Inspection, InspectError> {
    let octets = octets_of(file, limits)?;
    let mut inspection = Inspection::of(Kind::Smime);
    match read::read(&octets, limits) {
        Ok(mail) => (inspection.from, inspection.recipients) = addresses(&mail),
        Err(error) => {
            inspection.findings.push(error.to_finding());
            return Ok(inspection);
        }
    }
    add(&mut inspection, smime::look(&octets, limits))?;
    Ok(inspection)
}

/// A CMS that no mail is around.
pub(super) fn inspect_cms(
    file: &mut dyn Read,
    limits: &Limits,
) -> Result<Inspection, InspectError> {
    let octets = octets_of(file, limits)?;
    let mut inspection = Inspection::of(Kind::Smime);
    if octets.len() as u64 > limits.max_message_bytes {
        let text = "the file is larger than the limit";
        inspection.findings.push(refusal("LIM-1", "", text));
        return Ok(inspection);
    }
    add(&mut inspection, smime::look_at_cms(&octets, limits))?;
    Ok(inspection)
}

/// What was seen, as the listener would judge it.
fn add(inspection: &mut Inspection, seen: Result<Look, OpenError>) -> Result<(), InspectError> {
    match seen {
        Ok(look) => {
            inspection.secured = Some(look);
            if look.form == SecuredForm::Signed {
                let text = "the mail is signed and not encrypted; application/pkcs7-mime with EnvelopedData is accepted";
                inspection.findings.push(refusal("RCV-R1", "", text));
            }
        }
        Err(error @ (OpenError::TooMany { .. } | OpenError::TooLong { .. })) => {
            let finding = refusal("LIM-16", "", error.to_string());
            inspection.findings.push(finding);
        }
        Err(error @ OpenError::ContentType) => {
            let finding = refusal("RCV-2", "", error.to_string());
            inspection.findings.push(finding);
        }
        Err(error) => return Err(InspectError::unreadable(error.to_string())),
    }
    Ok(())
}
