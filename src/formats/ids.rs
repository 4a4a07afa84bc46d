//! Addresses and identifiers: each is parsed once, at the border, and trusted afterwards.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest local part in octets (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL_PART_BYTES: usize = 64;
/// Longest address in octets (RFC 5321 §4.5.3.1.3, a path without its angle brackets).
const MAX_ADDRESS_BYTES: usize = 254;
/// Longest domain name in its text form (RFC 1035 §2.3.4).
const MAX_DOMAIN_BYTES: usize = 253;
/// Longest Message-ID that is taken, in octets: one header line (RFC 5322 §2.1.1).
const MAX_MESSAGE_ID_BYTES: usize = 990;
/// Longest wsa:MessageID that is taken, in octets.
const MAX_SOAP_MESSAGE_ID_BYTES: usize = 1024;

/// Why a text is no usable Direct address (ADR-7). The text itself is not named: it may name a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`.
    #[error("an address needs the form local-part@domain")]
    NoAt,
    /// Nothing, or too much, stands before the `@`.
    #[error("the part before the @ must have 1 to 64 octets")]
    LocalPartLength,
    /// The whole is too long.
    #[error("an address may have 254 octets at most")]
    TooLong,
    /// White space, a control character, or a character that RFC 5322 asks to quote.
    #[error("the part before the @ may hold letters, digits, dots and !#$%&'*+-/=?^_`{{|}}~ only")]
    LocalPartCharacters,
    /// A character outside US-ASCII before the `@` (SMTPUTF8 is not spoken).
    #[error("the part before the @ must be US-ASCII")]
    NotAscii,
    /// The domain is no fully qualified host name.
    #[error("the domain must be a fully qualified DNS name, not an IP literal or a single label")]
    Domain,
}

/// A fully qualified DNS name, kept as lower-case A-labels without a trailing dot.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

impl DomainName {
    /// The name as lower-case A-labels without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DomainName {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let ascii = idna::domain_to_ascii_strict(text).map_err(|_| AddressError::Domain)?;
        let labels: Vec<&str> = ascii.split('.').collect();
        let all_digits = |label: &&str| label.bytes().all(|b| b.is_ascii_digit());
        // A name whose last label is a number would be read as an IPv4 address (RFC 3696 §2).
        let is_name = labels.len() >= 2
            && ascii.len() <= MAX_DOMAIN_BYTES
            && labels
                .iter()
                .all(|label| !label.is_empty() && label.len() <= 63)
            && !labels.last().is_some_and(all_digits);
        if is_name {
            Ok(Self(ascii))
        } else {
            Err(AddressError::Domain)
        }
    }
}

impl TryFrom<String> for DomainName {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A Direct address (ADR-1). `Display` gives it as it was written, except that a domain with characters outside
/// US-ASCII or a trailing dot is given as A-labels, so that every mail header and SMTP command can carry it; `Debug`
/// hides the local part (it may name a patient); `==` and `Hash` ignore ASCII case (ADR-4).
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DirectAddress {
    local: String,
    written_domain: String,
    domain: DomainName,
}

impl DirectAddress {
    /// The part before the `@`, as it was written.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The health domain name.
    pub fn domain(&self) -> &DomainName {
        &self.domain
    }

    /// The address as a `mailto:` URI, as the addressBlock carries it (ADR-6).
    pub fn to_mailto(&self) -> String {
        let mut uri = String::from("mailto:");
        for byte in self.local.bytes() {
            // RFC 6068 §2: what may stand bare before the `@`; everything else is percent-encoded.
            if byte.is_ascii_alphanumeric() || b"-._~!$'*+=".contains(&byte) {
                uri.push(char::from(byte));
            } else {
                uri.push_str(&format!("%{byte:02X}"));
            }
        }
        uri.push('@');
        uri.push_str(self.domain.as_str());
        uri
    }
}

impl FromStr for DirectAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (local, written_domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        if local.is_empty() || local.len() > MAX_LOCAL_PART_BYTES {
            return Err(AddressError::LocalPartLength);
        }
        if text.len() > MAX_ADDRESS_BYTES {
            return Err(AddressError::TooLong);
        }
        if !local.is_ascii() {
            return Err(AddressError::NotAscii);
        }
        let is_atom = |atom: &str| !atom.is_empty() && atom.bytes().all(is_atext);
        if !local.split('.').all(is_atom) {
            return Err(AddressError::LocalPartCharacters);
        }
        let domain: DomainName = written_domain.parse()?;
        // Mail without SMTPUTF8 carries ASCII only, and an RFC 5321 domain ends without a dot (SM-51).
        let is_mailable = written_domain.is_ascii() && !written_domain.ends_with('.');
        let written_domain = if is_mailable {
            written_domain
        } else {
            domain.as_str()
        };
        // The A-label form may be longer than what was written.
        if local.len() + 1 + written_domain.len() > MAX_ADDRESS_BYTES {
            return Err(AddressError::TooLong);
        }
        Ok(Self {
            local: local.to_owned(),
            written_domain: written_domain.to_owned(),
            domain,
        })
    }
}

/// RFC 5322 §3.2.3 `atext`.
fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

impl TryFrom<String> for DirectAddress {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<DirectAddress> for String {
    fn from(address: DirectAddress) -> Self {
        address.to_string()
    }
}

impl PartialEq for DirectAddress {
    fn eq(&self, other: &Self) -> bool {
        self.domain == other.domain && self.local.eq_ignore_ascii_case(&other.local)
    }
}

impl Eq for DirectAddress {}

impl Hash for DirectAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.local.to_ascii_lowercase().hash(state);
        self.domain.hash(state);
    }
}

impl fmt::Display for DirectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.written_domain)
    }
}

impl fmt::Debug for DirectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "…@{}", self.domain)
    }
}

/// Why a text is no usable identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("the identifier is empty")]
    Empty,
    /// More octets than a header line or a column should hold.
    #[error("the identifier is longer than {max_bytes} octets")]
    TooLong {
        /// What would be accepted.
        max_bytes: usize,
    },
    /// A control character or white space inside.
    #[error("the identifier holds white space or a control character")]
    Characters,
    /// Not in the form of its kind.
    #[error("not in the form of {expected}")]
    Form {
        /// What would be accepted.
        expected: &'static str,
    },
}

fn check_token(text: &str, max_bytes: usize) -> Result<(), IdError> {
    if text.is_empty() {
        Err(IdError::Empty)
    } else if text.len() > max_bytes {
        Err(IdError::TooLong { max_bytes })
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Err(IdError::Characters)
    } else {
        Ok(())
    }
}

/// An RFC 5322 Message-ID without its angle brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId(String);

impl MessageId {
    /// The id `uuid@domain` (MDN-1).
    pub fn from_uuid(uuid: Uuid, domain: &DomainName) -> Self {
        Self(format!("{uuid}@{domain}"))
    }

    /// The id without angle brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let text = text.trim();
        let bare = text
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix('>'))
            .unwrap_or(text);
        check_token(bare, MAX_MESSAGE_ID_BYTES)?;
        if !bare.is_ascii() || bare.contains(['<', '>']) {
            return Err(IdError::Form {
                expected: "a Message-ID, such as <1@host.example>",
            });
        }
        Ok(Self(bare.to_owned()))
    }
}

impl TryFrom<String> for MessageId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<MessageId> for String {
    fn from(id: MessageId) -> Self {
        id.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A wsa:MessageID. Opaque: senders use any IRI, and some use none (SOAP-63, NHIN-15).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SoapMessageId(String);

impl SoapMessageId {
    /// A new `urn:uuid:` id.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(format!("urn:uuid:{uuid}"))
    }

    /// The id as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SoapMessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let text = text.trim();
        check_token(text, MAX_SOAP_MESSAGE_ID_BYTES)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for SoapMessageId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<SoapMessageId> for String {
    fn from(id: SoapMessageId) -> Self {
        id.0
    }
}

impl fmt::Display for SoapMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A dotted object identifier (MD-49).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Oid(String);

impl Oid {
    /// The OID `2.25.<uuid as a decimal>` (MD-52, ITU-T X.667 §6.3).
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(format!("2.25.{}", uuid.as_u128()))
    }

    /// The dotted form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Oid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const MAX_OID_BYTES: usize = 64;
        check_token(text, MAX_OID_BYTES)?;
        let mut arcs = text.split('.');
        let is_first = matches!(arcs.next(), Some("0" | "1" | "2"));
        let is_arc = |arc: &str| {
            !arc.is_empty()
                && arc.bytes().all(|b| b.is_ascii_digit())
                && (arc == "0" || !arc.starts_with('0'))
        };
        if is_first && text.contains('.') && arcs.all(is_arc) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Form {
                expected: "an OID, such as 2.999.1",
            })
        }
    }
}

impl TryFrom<String> for Oid {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Oid> for String {
    fn from(oid: Oid) -> Self {
        oid.0
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bridge's own id of one [`crate::bridge::exchange::Exchange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExchangeId(pub Uuid);

/// The id of one leg: one mail, or one ITI-41 request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LegId(pub Uuid);

/// The id of one body in the body store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BodyId(pub Uuid);

impl ExchangeId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl LegId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl BodyId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The SHA-256 fingerprint of a certificate's DER form. `Display` writes 64 lower-case hexadecimal digits; colons
/// and upper case are read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateFingerprint(pub [u8; 32]);

impl CertificateFingerprint {
    /// The fingerprint of a certificate in DER form.
    pub fn of_der(der: &[u8]) -> Self {
        Self(openssl::sha::sha256(der))
    }
}

impl FromStr for CertificateFingerprint {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const EXPECTED: IdError = IdError::Form {
            expected: "a SHA-256 fingerprint, 64 hexadecimal digits",
        };
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(EXPECTED);
        }
        let mut octets = [0; 32];
        for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| EXPECTED)?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| EXPECTED)?;
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for CertificateFingerprint {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<CertificateFingerprint> for String {
    fn from(fingerprint: CertificateFingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl fmt::Display for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::document::hex(&self.0))
    }
}

impl fmt::Debug for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: ADR-4
    #[test]
    fn addresses_compare_without_case_and_keep_the_case_they_were_written_in() {
        let written: DirectAddress = "DrLee@Hisp.Example".parse().unwrap();
        assert_eq!(written, "drlee@hisp.example".parse().unwrap());
        assert_eq!(written.to_string(), "DrLee@Hisp.Example");
    }

    // rule: ADR-7
    #[test]
    fn addresses_that_must_never_be_mended_are_refused() {
        for (text, reason) in [
            ("nobody", AddressError::NoAt),
            ("@hisp.example", AddressError::LocalPartLength),
            ("a@[192.0.2.1]", AddressError::Domain),
            ("a@192.0.2.1", AddressError::Domain),
            ("a@localhost", AddressError::Domain),
            ("a b@hisp.example", AddressError::LocalPartCharacters),
            ("a\r\nRCPT@hisp.example", AddressError::LocalPartCharacters),
            ("a..b@hisp.example", AddressError::LocalPartCharacters),
            ("ä@hisp.example", AddressError::NotAscii),
        ] {
            assert_eq!(
                text.parse::<DirectAddress>().unwrap_err(),
                reason,
                "{text:?}"
            );
        }
        let long = format!("{}@hisp.example", "a".repeat(65));
        assert_eq!(
            long.parse::<DirectAddress>().unwrap_err(),
            AddressError::LocalPartLength
        );
    }

    #[test]
    fn debug_hides_the_local_part() {
        let address: DirectAddress = "ada.quill@hisp.example".parse().unwrap();
        assert_eq!(format!("{address:?}"), "…@hisp.example");
    }

    #[test]
    fn international_domains_become_a_labels() {
        let address: DirectAddress = "a@müller.example".parse().unwrap();
        assert_eq!(address.domain().as_str(), "xn--mller-kva.example");
    }

    // rule: MD-49
    #[test]
    fn an_oid_has_arcs_without_leading_zeros() {
        assert!("2.999.1".parse::<Oid>().is_ok());
        for text in ["3.1", "2", "2.01", "2..1", "2.x", ""] {
            assert!(text.parse::<Oid>().is_err(), "{text}");
        }
    }

    // rule: ADR-4
    #[test]
    fn an_address_is_shown_in_a_form_that_mail_can_carry() {
        for (written, shown) in [
            ("Ada.Quill@Harbor.Example", "Ada.Quill@Harbor.Example"),
            ("ada@harbor.example.", "ada@harbor.example"),
            ("ada@h\u{e4}fen.example", "ada@xn--hfen-loa.example"),
        ] {
            let address: DirectAddress = written.parse().unwrap();
            let text = address.to_string();
            assert!(text.is_ascii() && !text.ends_with('.'), "{text}");
            assert_eq!(text.parse::<DirectAddress>().unwrap(), address);
            assert_eq!(text, shown);
        }
    }

    #[test]
    fn message_ids_lose_their_brackets_and_refuse_line_breaks() {
        let id: MessageId = "<1@host.example>".parse().unwrap();
        assert_eq!(id.as_str(), "1@host.example");
        assert!("<1@host\r\nTo: x>".parse::<MessageId>().is_err());
    }

    #[test]
    fn fingerprints_are_read_with_colons_and_in_upper_case() {
        let plain = CertificateFingerprint::of_der(b"der");
        let text = plain.to_string().to_uppercase();
        let colons: Vec<String> = text
            .as_bytes()
            .chunks(2)
            .map(|p| String::from_utf8_lossy(p).into_owned())
            .collect();
        assert_eq!(
            colons.join(":").parse::<CertificateFingerprint>().unwrap(),
            plain
        );
    }
}
