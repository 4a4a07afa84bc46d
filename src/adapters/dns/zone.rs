//! CERT records in the form of zone files (RFC 4398 §2.2, RFC 1035 §5.1): what the owner of a domain publishes.

use std::fmt;

use hickory_resolver::proto::rr::Name;

use super::cert::{domain_name, owner_name};
use crate::formats::ids::{DirectAddress, DomainName};

/// Seconds for which others may keep a record (DNS-9).
const TTL: u32 = 1_800;
/// Characters of base64 in a line, so that the file can be read and mailed.
const LINE: usize = 64;

/// A CERT record of type PKIX. Key tag and algorithm are 0: a reader needs neither (DNS-5).
pub struct CertRecord<'a> {
    owner: Name,
    der: &'a [u8],
}

impl<'a> CertRecord<'a> {
    /// The record of an address's certificate. `None`: no such name can be published (DNS-2).
    pub fn of_address(address: &DirectAddress, der: &'a [u8]) -> Option<Self> {
        let owner = owner_name(address)?;
        Some(Self { owner, der })
    }

    /// The record of a domain's certificate.
    pub fn of_domain(domain: &DomainName, der: &'a [u8]) -> Option<Self> {
        let owner = domain_name(domain)?;
        Some(Self { owner, der })
    }
}

impl fmt::Display for CertRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What means something in a zone file is escaped in the owner's name.
        writeln!(f, "{} {TTL} IN CERT PKIX 0 0 (", ZoneName(&self.owner))?;
        let base64 = base64_simd::STANDARD.encode_to_string(self.der);
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(LINE));
            writeln!(f, "    {line}")?;
            rest = more;
        }
        f.write_str(")\n")
    }
}

/// A name in a zone file: each octet that is no letter, digit, hyphen or underscore as `\DDD` (RFC 1035 §5.1).
struct ZoneName<'a>(&'a Name);

impl fmt::Display for ZoneName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.0 {
            for octet in label {
                if octet.is_ascii_alphanumeric() || b"-_".contains(octet) {
                    write!(f, "{}", char::from(*octet))?;
                } else {
                    write!(f, "\\{octet:03}")?;
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: DNS-1, DNS-5
    #[test]
    fn a_record_is_written_as_zone_files_have_it() {
        let address: DirectAddress = "o'hara+x.d@direct.harbor.example".parse().unwrap();
        let record = CertRecord::of_address(&address, &[0xff; 50]).unwrap();
        assert_eq!(
            record.to_string(),
            "o\\039hara\\043x.d.direct.harbor.example. 1800 IN CERT PKIX 0 0 (\n    \
             ////////////////////////////////////////////////////////////////\n    \
             //8=\n)\n"
        );
        let domain = "direct.harbor.example".parse().unwrap();
        let record = CertRecord::of_domain(&domain, b"x").unwrap();
        assert!(
            record
                .to_string()
                .starts_with("direct.harbor.example. 1800 IN CERT PKIX 0 0 (\n")
        );
    }
}
