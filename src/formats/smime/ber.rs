//! Counts what a CMS holds before libcrypto works on it (LIM-16): a bounded walk over BER, definite and indefinite
//! lengths alike (SM-24; X.690 §8.1).

use super::open::OpenError;
use crate::formats::limits::Limits;

/// Deepest nesting that is walked.
pub(super) const MAX_DEPTH: usize = 40;
/// Most attributes of one SignerInfo or envelope, signed, unsigned, authenticated or unprotected, each list for itself.
pub(super) const MAX_ATTRIBUTES: usize = 64;
/// Most values of one attribute.
const MAX_ATTRIBUTE_VALUES: usize = 64;
/// Most octets of one list: recipients, signers, certificates, revocation lists, attributes. What libcrypto makes of an
/// octet of these may take twenty.
const MAX_LIST_BYTES: usize = 1024 * 1024;
pub(super) const TAG_SEQUENCE: u8 = 0x30;
pub(super) const TAG_SET: u8 = 0x31;
pub(super) const TAG_OID: u8 = 0x06;
/// OCTET STRING.
pub(super) const TAG_OCTETS: u8 = 0x04;
/// `[0]`, constructed.
pub(super) const TAG_CONTEXT_0: u8 = 0xA0;
/// `[1]`, constructed.
const TAG_CONTEXT_1: u8 = 0xA1;
/// `[2]`, constructed.
const TAG_CONTEXT_2: u8 = 0xA2;

/// The kinds of CMS that are worked on, by the content type of the outer ContentInfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CmsKind {
    Signed,
    Enveloped,
    AuthEnveloped,
}

/// What was seen of a CMS before it is parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Survey<'a> {
    pub(super) kind: CmsKind,
    /// The content cipher's OID as its DER content octets; empty for a SignedData.
    pub(super) cipher: &'a [u8],
    /// How many recipients the RecipientInfos identify; 0 for a SignedData.
    pub(super) recipient_infos: usize,
}

/// One element: its tag and what is in it, without an end-of-contents mark.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

/// Reads the outer ContentInfo, counts its parts, and refuses octets after it (SM-25).
pub(super) fn survey<'a>(cms: &'a [u8], limits: &Limits) -> Result<Survey<'a>, OpenError> {
    let (outer, rest) = element(cms, 0)?;
    if !rest.is_empty() {
        return Err(malformed("octets follow the CMS"));
    }
    let mut parts = Children::of(expect(Some(outer), TAG_SEQUENCE)?);
    let kind = kind_of(expect(parts.next()?, TAG_OID)?)?;
    let mut content = Children::of(expect(parts.next()?, TAG_CONTEXT_0)?);
    let body = Children::of(expect(content.next()?, TAG_SEQUENCE)?);
    let (cipher, recipient_infos): (&[u8], usize) = match kind {
        CmsKind::Signed => {
            count_signed(body, limits)?;
            (&[], 0)
        }
        CmsKind::Enveloped | CmsKind::AuthEnveloped => count_enveloped(body, limits)?,
    };
    Ok(Survey {
        kind,
        cipher,
        recipient_infos,
    })
}

/// The kind that a whole element, an OID, names.
pub(super) fn kind_of_type(oid: &[u8]) -> Result<CmsKind, OpenError> {
    kind_of(element(oid, 0)?.0)
}

fn kind_of(oid: Element<'_>) -> Result<CmsKind, OpenError> {
    // smime.md section 1: id-signedData, id-envelopedData, id-ct-authEnvelopedData.
    const PKCS7: [u8; 8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07];
    const AUTH_ENVELOPED: [u8; 11] = [
        0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x10, 0x01, 0x17,
    ];
    match oid.content.strip_prefix(&PKCS7) {
        Some([2]) => Ok(CmsKind::Signed),
        Some([3]) => Ok(CmsKind::Enveloped),
        _ if oid.content == AUTH_ENVELOPED => Ok(CmsKind::AuthEnveloped),
        _ => Err(OpenError::ContentType),
    }
}

/// SignedData: version, digestAlgorithms, encapContentInfo, certificates, crls, signerInfos (RFC 5652 §5.1).
fn count_signed(mut body: Children<'_>, limits: &Limits) -> Result<(), OpenError> {
    body.next()?;
    let digests = expect(body.next()?, TAG_SET)?;
    // Each digest is computed over the whole content, wanted or not.
    check_count("digest algorithms", digests, limits.max_signer_infos)?;
    expect(body.next()?, TAG_SEQUENCE)?;
    let mut next = body.next()?;
    for (tag, what) in CERTIFICATE_LISTS {
        if let Some(list) = next.filter(|part| part.tag == tag) {
            check_count(what, list, limits.max_cms_certificates)?;
            next = body.next()?;
        }
    }
    let signers = expect(next, TAG_SET)?;
    if body.next()?.is_some() {
        return Err(malformed("an unknown part of SignedData"));
    }
    check_number("SignerInfos", signers, limits.max_signer_infos)?;
    let mut each = Children::of(signers);
    while let Some(signer) = each.next()? {
        let mut parts = Children::of(expect(Some(signer), TAG_SEQUENCE)?);
        // version and sid, which may have the tag of attributes (RFC 5652 §5.3).
        parts.next()?;
        parts.next()?;
        count_attributes(parts)?;
    }
    // Last, since what is in it tells more.
    check_size("SignerInfos", signers)
}

/// What may stand before signers and in originatorInfo, once each and in this order (RFC 5652 §5.1, §6.1).
const CERTIFICATE_LISTS: [(u8, &str); 2] = [
    (TAG_CONTEXT_0, "certificates"),
    (TAG_CONTEXT_1, "revocation lists"),
];

/// Counts every list of attributes among `parts`, and the values of each attribute.
fn count_attributes(mut parts: Children<'_>) -> Result<(), OpenError> {
    while let Some(part) = parts.next()? {
        if !matches!(part.tag, TAG_CONTEXT_0 | TAG_CONTEXT_1 | TAG_CONTEXT_2) {
            continue;
        }
        check_number("attributes", part, MAX_ATTRIBUTES)?;
        let mut attributes = Children::of(part);
        while let Some(attribute) = attributes.next()? {
            let mut members = Children::of(expect(Some(attribute), TAG_SEQUENCE)?);
            expect(members.next()?, TAG_OID)?;
            let values = expect(members.next()?, TAG_SET)?;
            check_number("values of an attribute", values, MAX_ATTRIBUTE_VALUES)?;
        }
        check_size("attributes", part)?;
    }
    Ok(())
}

/// EnvelopedData and AuthEnvelopedData begin alike: version, originatorInfo, recipientInfos, encryptedContentInfo
/// (RFC 5652 §6.1, RFC 5083 §2.1). Gives the content cipher and the number of recipients.
fn count_enveloped<'a>(
    mut body: Children<'a>,
    limits: &Limits,
) -> Result<(&'a [u8], usize), OpenError> {
    body.next()?;
    let mut next = body.next()?;
    if let Some(originator) = next.filter(|part| part.tag == TAG_CONTEXT_0) {
        let mut lists = Children::of(originator);
        let mut list = lists.next()?;
        for (tag, what) in CERTIFICATE_LISTS {
            if let Some(found) = list.filter(|list| list.tag == tag) {
                check_count(what, found, limits.max_cms_certificates)?;
                list = lists.next()?;
            }
        }
        if list.is_some() {
            return Err(malformed("an unknown part of originatorInfo"));
        }
        next = body.next()?;
    }
    let recipients = expect(next, TAG_SET)?;
    let mut count = 0;
    let mut infos = Children::of(recipients);
    while let Some(info) = infos.next()? {
        count += recipients_in(info, limits)?;
        if count > limits.max_recipient_infos {
            return Err(over("RecipientInfos", limits.max_recipient_infos));
        }
    }
    check_size("RecipientInfos", recipients)?;
    let mut content = Children::of(expect(body.next()?, TAG_SEQUENCE)?);
    count_attributes(body)?;
    expect(content.next()?, TAG_OID)?;
    let mut algorithm = Children::of(expect(content.next()?, TAG_SEQUENCE)?);
    Ok((expect(algorithm.next()?, TAG_OID)?.content, count))
}

/// A KeyAgreeRecipientInfo, `[1]`, holds several recipients in its last member (RFC 5652 §6.2.2).
fn recipients_in(info: Element<'_>, limits: &Limits) -> Result<usize, OpenError> {
    if info.tag != TAG_CONTEXT_1 {
        return Ok(1);
    }
    let mut parts = Children::of(info);
    let mut last = None;
    while let Some(part) = parts.next()? {
        last = Some(part);
    }
    let keys = expect(last, TAG_SEQUENCE)?;
    Ok(count(keys, limits.max_recipient_infos)?.max(1))
}

/// Neither too many members nor too many octets.
fn check_count(what: &'static str, list: Element<'_>, limit: usize) -> Result<(), OpenError> {
    check_number(what, list, limit)?;
    check_size(what, list)
}

fn check_number(what: &'static str, list: Element<'_>, limit: usize) -> Result<(), OpenError> {
    if count(list, limit)? > limit {
        return Err(over(what, limit));
    }
    Ok(())
}

fn check_size(what: &'static str, list: Element<'_>) -> Result<(), OpenError> {
    if list.content.len() > MAX_LIST_BYTES {
        let limit = MAX_LIST_BYTES;
        return Err(OpenError::TooLong { what, limit });
    }
    Ok(())
}

/// The number of members, counted no further than one beyond `limit`.
fn count(list: Element<'_>, limit: usize) -> Result<usize, OpenError> {
    let mut members = Children::of(list);
    let mut count = 0;
    while count <= limit && members.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

pub(super) fn over(what: &'static str, limit: usize) -> OpenError {
    OpenError::TooMany { what, limit }
}

pub(super) fn malformed(what: &'static str) -> OpenError {
    OpenError::Malformed(what)
}

pub(super) fn missing() -> OpenError {
    malformed("a part of the CMS is missing or of another kind")
}

pub(super) fn truncated() -> OpenError {
    malformed("the CMS ends in the middle of an element")
}

fn expect(found: Option<Element<'_>>, tag: u8) -> Result<Element<'_>, OpenError> {
    found
        .filter(|element| element.tag == tag)
        .ok_or_else(missing)
}

/// How the length of an element is written.
pub(super) enum LengthForm {
    /// Not at all: a mark ends the content.
    Marked,
    /// In the octet after the tag.
    Short(u64),
    /// In so many octets after that one.
    Long(usize),
}

/// What the first two octets of an element say of its length (X.690 §8.1.3).
pub(super) fn length_form(tag: u8, first: u8) -> Result<LengthForm, OpenError> {
    if tag & 0x1F == 0x1F {
        return Err(malformed("a tag number that CMS does not use"));
    }
    let is_constructed = tag & 0x20 != 0;
    match first {
        0x80 if is_constructed => Ok(LengthForm::Marked),
        0x80 => Err(malformed("a primitive element of indefinite length")),
        // Four octets of length are more than any message has.
        0x85.. => Err(truncated()),
        0x81..=0x84 => Ok(LengthForm::Long(usize::from(first & 0x7F))),
        0..=0x7F => Ok(LengthForm::Short(u64::from(first))),
    }
}

/// Octets that [`head`] writes.
pub(super) const HEAD_BYTES: usize = 6;

/// Tag and length of an element whose content has `length` octets.
pub(super) fn head(tag: u8, length: usize) -> [u8; HEAD_BYTES] {
    // What is written is limited to far less than 4 GiB.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [tag, 0x84, a, b, c, d]
}

/// The members of a constructed element.
pub(super) struct Children<'a> {
    rest: &'a [u8],
}

impl<'a> Children<'a> {
    pub(super) fn of(parent: Element<'a>) -> Self {
        Self {
            rest: parent.content,
        }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn next(&mut self) -> Result<Option<Element<'a>>, OpenError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (element, rest) = element(self.rest, 0)?;
        self.rest = rest;
        Ok(Some(element))
    }
}

/// Reads one element at the start of `octets`; gives it and what follows.
pub(super) fn element(octets: &[u8], depth: usize) -> Result<(Element<'_>, &[u8]), OpenError> {
    let [tag, first, rest @ ..] = octets else {
        return Err(truncated());
    };
    let (length, rest) = match length_form(*tag, *first)? {
        LengthForm::Marked => {
            let (content, rest) = until_end_of_contents(rest, depth)?;
            return Ok((Element { tag: *tag, content }, rest));
        }
        LengthForm::Short(length) => (length, rest),
        LengthForm::Long(octets) => {
            let (length, rest) = rest.split_at_checked(octets).ok_or_else(truncated)?;
            let length = length
                .iter()
                .fold(0, |sum, octet| (sum << 8) | u64::from(*octet));
            (length, rest)
        }
    };
    let length = usize::try_from(length).map_err(|_| truncated())?;
    let (content, rest) = rest.split_at_checked(length).ok_or_else(truncated)?;
    Ok((Element { tag: *tag, content }, rest))
}

/// What stands before the end-of-contents mark that closes an element of indefinite length, and what follows it.
fn until_end_of_contents(octets: &[u8], depth: usize) -> Result<(&[u8], &[u8]), OpenError> {
    if depth >= MAX_DEPTH {
        return Err(malformed("elements are nested too deeply"));
    }
    let mut rest = octets;
    loop {
        if let [0, 0, after @ ..] = rest {
            let length = octets.len() - rest.len();
            let content = octets.get(..length).unwrap_or_default();
            return Ok((content, after));
        }
        rest = element(rest, depth + 1)?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        [&head(tag, content.len())[..], content].concat()
    }

    fn content_info(arc: u8, body: &[Vec<u8>]) -> Vec<u8> {
        let oid = [0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, arc];
        let body = tlv(TAG_SEQUENCE, &body.concat());
        tlv(
            TAG_SEQUENCE,
            &[&oid, tlv(TAG_CONTEXT_0, &body).as_slice()].concat(),
        )
    }

    fn version() -> Vec<u8> {
        vec![0x02, 1, 0]
    }

    fn encrypted() -> Vec<u8> {
        let oid = vec![TAG_OID, 1, 0x2A];
        tlv(
            TAG_SEQUENCE,
            &[oid.clone(), tlv(TAG_SEQUENCE, &oid)].concat(),
        )
    }

    fn enveloped(recipients: &[u8]) -> Vec<u8> {
        content_info(3, &[version(), tlv(TAG_SET, recipients), encrypted()])
    }

    // rule: LIM-16
    #[test]
    fn ten_thousand_recipients_are_refused_by_count() {
        let recipient = tlv(TAG_SEQUENCE, &[]);
        let limits = Limits::default();
        assert!(survey(&enveloped(&recipient.repeat(64)), &limits).is_ok());
        let refused = survey(&enveloped(&recipient.repeat(10_000)), &limits).unwrap_err();
        assert!(matches!(refused, OpenError::TooMany { limit: 64, .. }));
        // Hidden in one KeyAgreeRecipientInfo.
        let keys = tlv(TAG_SEQUENCE, &recipient.repeat(65));
        let agreement = tlv(TAG_CONTEXT_1, &[version(), keys].concat());
        let refused = survey(&enveloped(&agreement), &limits).unwrap_err();
        assert!(matches!(refused, OpenError::TooMany { limit: 64, .. }));
    }

    // rule: LIM-16
    #[test]
    fn a_hundred_thousand_certificates_are_refused_by_count() {
        let empty = tlv(TAG_SEQUENCE, &[]);
        let signed = |certificates: usize, signers: usize, digests: usize| {
            content_info(
                2,
                &[
                    version(),
                    tlv(TAG_SET, &empty.repeat(digests)),
                    empty.clone(),
                    tlv(TAG_CONTEXT_0, &empty.repeat(certificates)),
                    tlv(TAG_SET, &empty.repeat(signers)),
                ],
            )
        };
        let limits = Limits::default();
        assert!(survey(&signed(50, 16, 1), &limits).is_ok());
        for bomb in [signed(100_000, 1, 1), signed(1, 17, 1), signed(1, 1, 17)] {
            assert!(matches!(
                survey(&bomb, &limits),
                Err(OpenError::TooMany { .. })
            ));
        }
    }

    // rule: LIM-16
    #[test]
    fn members_are_counted_one_beyond_the_limit_and_never_looked_into() {
        let empty = tlv(TAG_SEQUENCE, &[]);
        // Whoever reads on beyond the first one too many, or reads one of them, finds no BER.
        let unreadable = tlv(TAG_SEQUENCE, &[0xDF; 100]);
        let crowd = |members: usize| {
            let mut list = unreadable.repeat(members);
            list.extend([0xDF; 100_000]);
            list
        };
        let signed = |digests: Vec<u8>, lists: Vec<u8>, signers: Vec<u8>| {
            let (digests, signers) = (tlv(TAG_SET, &digests), tlv(TAG_SET, &signers));
            content_info(2, &[version(), digests, empty.clone(), lists, signers])
        };
        let limits = Limits::default();
        let (certificates, signers) = (limits.max_cms_certificates, limits.max_signer_infos);
        let one = || empty.clone();
        let lists = |tag| tlv(tag, &crowd(certificates + 1));
        for (what, limit, bomb) in [
            (
                "RecipientInfos",
                limits.max_recipient_infos,
                enveloped(&crowd(limits.max_recipient_infos + 1)),
            ),
            (
                "digest algorithms",
                signers,
                signed(crowd(signers + 1), Vec::new(), one()),
            ),
            (
                "certificates",
                certificates,
                signed(one(), lists(TAG_CONTEXT_0), one()),
            ),
            (
                "revocation lists",
                certificates,
                signed(one(), lists(TAG_CONTEXT_1), one()),
            ),
            (
                "SignerInfos",
                signers,
                signed(one(), Vec::new(), crowd(signers + 1)),
            ),
        ] {
            let refused = survey(&bomb, &limits).unwrap_err();
            let OpenError::TooMany {
                what: told,
                limit: told_limit,
            } = refused
            else {
                panic!("{what}: {refused}");
            };
            assert_eq!((told, told_limit), (what, limit));
        }
        // Within the limit, the octets after them are seen.
        let fewer = signed(one(), tlv(TAG_CONTEXT_0, &crowd(certificates)), one());
        assert!(matches!(
            survey(&fewer, &limits),
            Err(OpenError::Malformed(_))
        ));
    }

    fn attributes(tag: u8, count: usize, values: &[u8]) -> Vec<u8> {
        let oid = vec![TAG_OID, 1, 0x2A];
        let attribute = tlv(TAG_SEQUENCE, &[oid, tlv(TAG_SET, values)].concat());
        tlv(tag, &attribute.repeat(count))
    }

    fn signed_with(attributes: &[u8]) -> Vec<u8> {
        let empty = tlv(TAG_SEQUENCE, &[]);
        // The sid is a subjectKeyIdentifier with the tag of attributes.
        let sid = tlv(TAG_CONTEXT_0, &[4, 1, 0]);
        let signer = [&version(), &sid, &empty, attributes, &empty].concat();
        let signers = tlv(TAG_SET, &tlv(TAG_SEQUENCE, &signer));
        content_info(2, &[version(), tlv(TAG_SET, &empty), empty, signers])
    }

    // rule: LIM-16
    #[test]
    fn attributes_and_their_values_are_counted_wherever_they_stand() {
        let limits = Limits::default();
        let enveloped_with = |kind: u8, attributes: Vec<u8>| {
            let recipients = tlv(TAG_SET, &tlv(TAG_SEQUENCE, &[]));
            content_info(kind, &[version(), recipients, encrypted(), attributes])
        };
        let one = [2, 1, 0];
        for tag in [TAG_CONTEXT_0, TAG_CONTEXT_1] {
            let with = |count, values: &[u8]| signed_with(&attributes(tag, count, values));
            assert!(survey(&with(64, &one.repeat(64)), &limits).is_ok());
            for bomb in [
                with(65, &one),
                with(1, &one.repeat(65)),
                with(100_000, &one),
            ] {
                let refused = survey(&bomb, &limits).unwrap_err();
                assert!(matches!(refused, OpenError::TooMany { limit: 64, .. }));
            }
            let huge = tlv(4, &vec![0; MAX_LIST_BYTES]);
            let refused = survey(&with(1, &huge), &limits).unwrap_err();
            assert!(matches!(refused, OpenError::TooLong { .. }));
            let nested = [TAG_SET, 0x80].repeat(MAX_DEPTH + 1);
            assert!(survey(&with(1, &nested), &limits).is_err());
        }
        for tag in [TAG_CONTEXT_1, TAG_CONTEXT_2] {
            assert!(survey(&enveloped_with(3, attributes(tag, 64, &one)), &limits).is_ok());
            let refused = survey(&enveloped_with(3, attributes(tag, 65, &one)), &limits).err();
            assert!(matches!(
                refused,
                Some(OpenError::TooMany { limit: 64, .. })
            ));
        }
    }

    // rule: LIM-16
    #[test]
    fn lists_come_once_and_are_bounded_in_octets() {
        let limits = Limits::default();
        let empty = tlv(TAG_SEQUENCE, &[]);
        let signed = |lists: &[u8]| {
            let parts = [
                version(),
                tlv(TAG_SET, &empty),
                empty.clone(),
                lists.to_vec(),
                tlv(TAG_SET, &[]),
            ];
            content_info(2, &parts)
        };
        let enveloped = |lists: &[u8]| {
            let recipients = tlv(TAG_SET, &empty);
            let originator = tlv(TAG_CONTEXT_0, lists);
            content_info(3, &[version(), originator, recipients, encrypted()])
        };
        let certificates = tlv(TAG_CONTEXT_0, &empty.repeat(50));
        let crls = tlv(TAG_CONTEXT_1, &empty.repeat(50));
        let large = tlv(TAG_CONTEXT_1, &tlv(TAG_SEQUENCE, &vec![0; MAX_LIST_BYTES]));
        for make in [&signed as &dyn Fn(&[u8]) -> Vec<u8>, &enveloped] {
            let both = [certificates.as_slice(), &crls].concat();
            assert!(survey(&make(&both), &limits).is_ok());
            // One after the other, without end, each within its count.
            let again = certificates.repeat(2_000);
            assert!(survey(&make(&again), &limits).is_err());
            let refused = survey(&make(&large), &limits).err();
            assert!(matches!(refused, Some(OpenError::TooLong { .. })));
            let many = tlv(TAG_CONTEXT_1, &empty.repeat(51));
            let refused = survey(&make(&many), &limits).err();
            assert!(matches!(refused, Some(OpenError::TooMany { .. })));
        }
    }

    // rule: SM-24, SM-25
    #[test]
    fn indefinite_lengths_are_read_and_octets_after_the_end_are_refused() {
        let inner = enveloped(&tlv(TAG_SEQUENCE, &[]));
        let content = inner.get(6..).unwrap();
        let mut indefinite = [&[TAG_SEQUENCE, 0x80], content, &[0, 0]].concat();
        assert!(survey(&indefinite, &Limits::default()).is_ok());
        indefinite.push(0);
        assert!(survey(&indefinite, &Limits::default()).is_err());
    }

    #[test]
    fn deep_nesting_and_short_input_are_refused() {
        let deep = [TAG_SEQUENCE, 0x80].repeat(1_000_000);
        assert!(survey(&deep, &Limits::default()).is_err());
        let whole = enveloped(&tlv(TAG_SEQUENCE, &[]));
        for length in 0..whole.len() {
            assert!(survey(&whole[..length], &Limits::default()).is_err());
        }
    }
}
