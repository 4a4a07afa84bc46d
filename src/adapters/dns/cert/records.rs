//! What the DNS says of one name.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// The certificate type of an X.509 certificate (RFC 4398 §2.1).
const PKIX: u16 = 1;

/// What is known of a name, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) known: Known,
    /// Seconds for which it may be kept; `None`: nobody said.
    pub(super) ttl: Option<u32>,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// NXDOMAIN.
    NoSuchName,
    /// The name exists, and has no CERT record.
    NoRecord,
    /// It has CERT records.
    Records(Arc<CertRecords>),
}

/// The CERT records of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CertRecords {
    /// What those of type PKIX hold: DER, or what ought to be.
    certificates: Vec<Vec<u8>>,
    /// How many there are of each other type.
    of_other_types: BTreeMap<u16, usize>,
    /// How many are too short to hold anything.
    too_short: usize,
}

impl CertRecords {
    /// Takes what a record of type `cert_type` holds.
    pub(super) fn take(&mut self, cert_type: u16, data: Vec<u8>) {
        if cert_type == PKIX {
            self.certificates.push(data);
        } else {
            *self.of_other_types.entry(cert_type).or_default() += 1;
        }
    }

    /// Takes the whole RDATA of a record: type, key tag and algorithm, of which only the type says anything (DNS-5), and
    /// what it holds.
    pub(super) fn take_rdata(&mut self, rdata: &[u8]) {
        match rdata {
            [high, low, _, _, _, data @ ..] if !data.is_empty() => {
                self.take(u16::from_be_bytes([*high, *low]), data.to_vec());
            }
            _ => self.too_short += 1,
        }
    }

    /// The same in one order: that of an RRset means nothing (RFC 2181 §5), and servers turn it.
    pub(super) fn sorted(mut self) -> Self {
        self.certificates.sort();
        self.certificates.dedup();
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Known {
    pub(super) fn certificates(&self) -> &[Vec<u8>] {
        match self {
            Self::NoSuchName | Self::NoRecord => &[],
            Self::Records(records) => &records.certificates,
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("NXDOMAIN: no such name"),
            Self::NoRecord => f.write_str("NODATA: no CERT record"),
            Self::Records(records) => records.fmt(f),
        }
    }
}

impl fmt::Display for CertRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.certificates.len() {
            1 => f.write_str("1 certificate")?,
            count => write!(f, "{count} certificates")?,
        }
        let mut before = "; skipped: ";
        for (cert_type, count) in &self.of_other_types {
            write!(f, "{before}{count} of type {}", TypeName(*cert_type))?;
            before = ", ";
        }
        match self.too_short {
            0 => Ok(()),
            count => write!(f, "{before}{count} with fewer than 6 octets"),
        }
    }
}

/// A certificate type, and why it is not used.
struct TypeName(u16);

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0;
        match number {
            2 => f.write_str("SPKI (no X.509 certificate)"),
            3 => f.write_str("PGP (no X.509 certificate)"),
            4 => f.write_str("IPKIX (a URL, which is not followed)"),
            5 => f.write_str("ISPKI (no X.509 certificate)"),
            6 => f.write_str("IPGP (no X.509 certificate)"),
            7 | 8 => write!(f, "{number} (an attribute certificate)"),
            253 => f.write_str("URI (a URL, which is not followed)"),
            254 => f.write_str("OID (a private form)"),
            _ => write!(f, "{number} (not known)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: DNS-5, DNS-7
    #[test]
    fn each_record_is_read_on_its_own_whatever_its_length_and_key_tag() {
        let mut records = CertRecords::default();
        for rdata in [
            &[][..],
            &[0],
            &[0, 1, 0, 0, 0],
            &[0, 1, 0xab, 0xcd, 8, 0x30],
            &[0, 1, 0, 0, 0, 0x04],
            &[0, 4, 0, 0, 0, b'h'],
            &[0, 253, 0, 0, 0, b'h'],
            &[0xff, 0xff, 0, 0, 0, 0x30],
            // The same once more: a set has no doubles.
            &[0, 1, 0, 0, 5, 0x30],
        ] {
            records.take_rdata(rdata);
        }
        let records = records.sorted();
        assert_eq!(records.certificates, [vec![0x04], vec![0x30]]);
        assert_eq!(
            records.to_string(),
            "2 certificates; skipped: 1 of type IPKIX (a URL, which is not followed), 1 of type URI (a URL, which is \
             not followed), 1 of type 65535 (not known), 3 with fewer than 6 octets"
        );
    }
}
