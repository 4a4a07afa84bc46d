//! Entries in LDIF (RFC 2849): what the owner of a domain adds to a directory (LDAP-9, RFC 2798).

use std::fmt;

use super::MAIL;
use crate::formats::ids::DomainName;

/// Columns of a line (RFC 2849 §2, note 3).
const COLUMNS: usize = 76;

/// The name of the entry that stands for a domain (RFC 2247 §2).
pub fn base_of(domain: &DomainName) -> String {
    let labels = domain.as_str().split('.');
    let parts: Vec<String> = labels.map(|label| format!("dc={label}")).collect();
    parts.join(",")
}

/// The entry that stands for a domain (RFC 4524 §3.4).
pub struct BaseRecord<'a> {
    domain: &'a DomainName,
}

impl<'a> BaseRecord<'a> {
    /// That of `domain`.
    pub fn of(domain: &'a DomainName) -> Self {
        Self { domain }
    }
}

impl fmt::Display for BaseRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.domain.as_str();
        let first = name.split('.').next().unwrap_or(name);
        line(f, &format!("dn: {}", base_of(self.domain)))?;
        line(f, "objectClass: domain")?;
        line(f, &format!("dc: {first}"))?;
        f.write_str("\n")
    }
}

/// The entry of an address, or domain, and its certificates.
pub struct PersonRecord<'a> {
    /// The entry below which it goes.
    pub base: &'a str,
    /// The address, or domain: what it is found by (LDAP-6, LDAP-7).
    pub mail: &'a str,
    /// Its certificates, in DER form.
    pub certificates: &'a [Vec<u8>],
}

impl fmt::Display for PersonRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            base,
            mail,
            certificates,
        } = self;
        // Outside of ASCII, the name is written as base64 (RFC 2849 §4).
        let name = format!("{MAIL}={},{base}", InName(mail));
        if name.is_ascii() {
            line(f, &format!("dn: {name}"))?;
        } else {
            let base64 = base64_simd::STANDARD.encode_to_string(name);
            line(f, &format!("dn:: {base64}"))?;
        }
        line(f, "objectClass: inetOrgPerson")?;
        for attribute in ["cn", "sn", MAIL] {
            line(f, &format!("{attribute}: {mail}"))?;
        }
        for der in *certificates {
            let base64 = base64_simd::STANDARD.encode_to_string(der);
            line(f, &format!("userCertificate;binary:: {base64}"))?;
        }
        f.write_str("\n")
    }
}

/// A value in the name of an entry, with what would mean something there escaped (RFC 4514 §2.4).
struct InName<'a>(&'a str);

impl fmt::Display for InName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in self.0.char_indices() {
            let is_special = ",+\"\\<>;=".contains(character) || at == 0 && character == '#';
            if is_special {
                f.write_str("\\")?;
            }
            write!(f, "{character}")?;
        }
        Ok(())
    }
}

/// One line, folded where it is long: what follows begins with a space.
fn line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let (mut rest, mut room) = (text, COLUMNS);
    loop {
        let at = rest.floor_char_boundary(room);
        let (first, more) = rest.split_at(at);
        writeln!(f, "{first}")?;
        if more.is_empty() {
            return Ok(());
        }
        f.write_str(" ")?;
        (rest, room) = (more, COLUMNS - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: LDAP-7, LDAP-9
    #[test]
    fn entries_are_written_as_directories_take_them() {
        let domain = "direct.harbor.example".parse().unwrap();
        assert_eq!(
            BaseRecord::of(&domain).to_string(),
            "dn: dc=direct,dc=harbor,dc=example\nobjectClass: domain\ndc: direct\n\n"
        );
        let record = PersonRecord {
            base: "ou=a b,dc=harbor",
            mail: "#o'hara+x=y@direct.harbor.example",
            certificates: &[vec![0xff; 50], vec![1]],
        };
        assert_eq!(
            record.to_string(),
            "dn: mail=\\#o'hara\\+x\\=y@direct.harbor.example,ou=a b,dc=harbor\n\
             objectClass: inetOrgPerson\n\
             cn: #o'hara+x=y@direct.harbor.example\n\
             sn: #o'hara+x=y@direct.harbor.example\n\
             mail: #o'hara+x=y@direct.harbor.example\n\
             userCertificate;binary:: ///////////////////////////////////////////////////\n \
             ///////////////8=\n\
             userCertificate;binary:: AQ==\n\n"
        );
        let record = PersonRecord {
            base: "o=Hafen\u{e9}",
            mail: "a@b.example",
            certificates: &[],
        };
        assert!(record.to_string().starts_with("dn:: bWFpbD1h"));
    }
}
