//! The certificates among the values of entries (LDAP-9).

use std::fmt;

use crate::formats::{
    ldap::{Attribute, Entry},
    limits::Limits,
    smime,
};

/// The attributes that are asked for, the usual ones first.
pub(super) const WANTED: [&str; 4] = [
    "userCertificate;binary",
    "userCertificate",
    "userSMIMECertificate;binary",
    "userSMIMECertificate",
];
const CERTIFICATE: &str = "userCertificate";
const SMIME_CERTIFICATE: &str = "userSMIMECertificate";

/// What entries hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Values {
    /// How many entries were found.
    pub(super) entries: usize,
    /// DER, or what ought to be: which of it is a certificate is for the checks. In one order, each once: that of a
    /// server means nothing.
    pub(super) certificates: Vec<Vec<u8>>,
    /// Values of `userSMIMECertificate` that hold no certificates that can be read.
    unreadable: usize,
}

impl Values {
    /// Takes what `entries` hold.
    pub(super) fn take(&mut self, entries: &[Entry]) {
        self.entries += entries.len();
        for entry in entries {
            let der = values(entry, CERTIFICATE).filter(|value| !value.is_empty());
            self.certificates.extend(der.cloned());
            for cms in values(entry, SMIME_CERTIFICATE) {
                match smime::certificates_in(cms, &Limits::default()) {
                    Ok(found) => self.certificates.extend(found),
                    Err(_) => self.unreadable += 1,
                }
            }
        }
        self.certificates.sort();
        self.certificates.dedup();
    }
}

/// The values of `name`: those with the option `binary`, if there are any, else those without options.
fn values<'a>(entry: &'a Entry, name: &'static str) -> impl Iterator<Item = &'a Vec<u8>> {
    let with = move |is_wanted: fn(&str) -> bool| {
        let attributes = entry.attributes.iter();
        attributes.filter(move |attribute: &&Attribute| {
            let (bare, options) = attribute
                .description
                .split_once(';')
                .unwrap_or((&attribute.description, ""));
            bare.eq_ignore_ascii_case(name) && is_wanted(options) && !attribute.values.is_empty()
        })
    };
    let is_binary = |options: &str| options.eq_ignore_ascii_case("binary");
    let has_binary = with(is_binary).next().is_some();
    with(if has_binary {
        is_binary
    } else {
        |options: &str| options.is_empty()
    })
    .flat_map(|attribute| &attribute.values)
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entries {
            0 => return f.write_str("no entry"),
            1 => f.write_str("1 entry")?,
            count => write!(f, "{count} entries")?,
        }
        match self.certificates.len() {
            0 => f.write_str(", no certificate")?,
            1 => f.write_str(", 1 certificate")?,
            count => write!(f, ", {count} certificates")?,
        }
        match self.unreadable {
            0 => Ok(()),
            count => write!(
                f,
                "; skipped: {count} of {SMIME_CERTIFICATE} that is no readable SignedData"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(attributes: &[(&str, &[&[u8]])]) -> Entry {
        let attributes = attributes.iter().map(|(name, values)| Attribute {
            description: (*name).to_owned(),
            values: values.iter().map(|value| value.to_vec()).collect(),
        });
        Entry {
            attributes: attributes.collect(),
        }
    }

    fn taken(entries: &[Entry]) -> (Vec<Vec<u8>>, String) {
        let mut values = Values::default();
        values.take(entries);
        let told = values.to_string();
        (values.certificates, told)
    }

    // rule: LDAP-9
    #[test]
    fn binary_goes_before_plain_and_names_are_compared_without_case() {
        let both = entry(&[
            ("userCertificate", &[b"plain"]),
            ("USERCERTIFICATE;Binary", &[b"b", b"a", b"a"]),
            ("mail", &[b"anna@hisp.example"]),
            ("userCertificate;lang-de", &[b"other"]),
        ]);
        let expected = vec![b"a".to_vec(), b"b".to_vec()];
        assert_eq!(
            taken(&[both]),
            (expected, "1 entry, 2 certificates".to_owned())
        );
        let plain = entry(&[
            ("usercertificate", &[b"plain"]),
            ("userCertificate;binary", &[]),
        ]);
        assert_eq!(taken(&[plain]).0, [b"plain".to_vec()]);
        let none = entry(&[("mail", &[b"anna@hisp.example"])]);
        let told = "2 entries, no certificate";
        assert_eq!(taken(&[none.clone(), none]), (Vec::new(), told.to_owned()));
        assert_eq!(taken(&[]).1, "no entry");
    }

    // rule: LDAP-9
    #[test]
    fn what_is_no_signed_data_is_skipped() {
        let smime = entry(&[
            ("userSMIMECertificate;binary", &[b"\x30\x00", b""]),
            ("userCertificate", &[b"good"]),
        ]);
        let told = "1 entry, 1 certificate; skipped: 2 of userSMIMECertificate that is no readable SignedData";
        assert_eq!(taken(&[smime]), (vec![b"good".to_vec()], told.to_owned()));
    }
}
