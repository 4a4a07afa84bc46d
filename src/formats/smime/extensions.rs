//! Extensions of a certificate that the `openssl` crate does not read: lists of object identifiers (RFC 5280 §4.2).

use bcder::{
    Mode, Tag,
    decode::{Constructed, DecodeError, Source},
};
use bytes::Bytes;
use openssl::x509::X509Ref;

/// 2.5.29.32.
const CERTIFICATE_POLICIES: [u8; 3] = [0x55, 0x1d, 0x20];
/// 2.5.29.37.
const EXT_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x25];

/// The policies that `certificate` asserts, dotted; none where it has no such extension, or one that cannot be read.
pub fn policies(certificate: &X509Ref) -> Vec<String> {
    let value = extension(certificate, &CERTIFICATE_POLICIES);
    oids(value, |list| {
        // PolicyInformation: the policy, and qualifiers, which say nothing to machines.
        list.take_opt_sequence(|policy| {
            let oid = bcder::Oid::take_from(policy)?;
            policy.skip_all()?;
            Ok(oid)
        })
    })
}

/// The extended key usages that `certificate` names, in the same way.
pub fn extended_key_usages(certificate: &X509Ref) -> Vec<String> {
    let value = extension(certificate, &EXT_KEY_USAGE);
    oids(value, bcder::Oid::take_opt_from)
}

fn oids(
    value: Option<Bytes>,
    mut next: impl FnMut(
        &mut Constructed<'_, bcder::decode::BytesSource>,
    ) -> Result<Option<bcder::Oid>, DecodeError<std::convert::Infallible>>,
) -> Vec<String> {
    let Some(value) = value else {
        return Vec::new();
    };
    let read = Mode::Der.decode(value, |outer| {
        outer.take_sequence(|list| {
            let mut found = Vec::new();
            while let Some(oid) = next(list)? {
                found.push(oid.to_string());
            }
            Ok(found)
        })
    });
    read.unwrap_or_default()
}

/// The value of the extension `wanted`.
fn extension(certificate: &X509Ref, wanted: &[u8]) -> Option<Bytes> {
    let der = Bytes::from(certificate.to_der().ok()?);
    let read = Mode::Der.decode(der, |outer| {
        outer.take_sequence(|certificate| {
            let value = certificate.take_sequence(|body| take_extension(body, wanted))?;
            // The signature.
            certificate.skip_all()?;
            Ok(value)
        })
    });
    read.ok().flatten()
}

/// From a TBSCertificate: all but `extensions [3]` is passed over (RFC 5280 §4.1).
fn take_extension<S: Source>(
    body: &mut Constructed<'_, S>,
    wanted: &[u8],
) -> Result<Option<Bytes>, DecodeError<S::Error>> {
    let mut value = None;
    loop {
        let list = body.take_opt_constructed_if(Tag::CTX_3, |explicit| {
            explicit.take_sequence(|list| {
                while let Some(found) =
                    list.take_opt_sequence(|extension| take_value(extension, wanted))?
                {
                    value = value.take().or(found);
                }
                Ok(())
            })
        })?;
        if list.is_none() && body.skip_one()?.is_none() {
            return Ok(value);
        }
    }
}

fn take_value<S: Source>(
    extension: &mut Constructed<'_, S>,
    wanted: &[u8],
) -> Result<Option<Bytes>, DecodeError<S::Error>> {
    let oid = bcder::Oid::take_from(extension)?;
    extension.take_opt_bool()?;
    let value = bcder::OctetString::take_from(extension)?;
    let is_wanted = AsRef::<[u8]>::as_ref(&oid) == wanted;
    Ok(is_wanted.then(|| value.into_bytes()))
}
