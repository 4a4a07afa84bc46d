//! The `URI` attribute: from a relative reference to a path inside the zip (XDM-23 to XDM-25, XDM-60, XDM-61).

/// Longest URI that a creator may write (XDM-24).
pub(super) const MAX_URI_CHARS: usize = 256;

/// Why a URI means no file of this medium: the rule, and what is wrong.
pub(super) type UriFault = (&'static str, &'static str);

/// Resolves `uri` against the directory that holds METADATA.XML, given as its segments. The result stays inside the
/// zip's root. Nothing outside the zip is ever looked at.
pub(super) fn resolve(uri: &str, base: &[String]) -> Result<Vec<String>, UriFault> {
    if uri.contains(['?', '#']) {
        return Err((
            "XDM-61",
            "the URI has a query or a fragment; a relative path is accepted",
        ));
    }
    if has_scheme(uri) {
        return Err((
            "XDM-61",
            "the URI has a scheme; a relative path is accepted",
        ));
    }
    let path = percent_decode(uri)
        .ok_or(("XDM-25", "the URI must be percent-encoded UTF-8"))?
        .replace('\\', "/");
    if path.chars().any(char::is_control) {
        return Err(("XDM-60", "the URI must not hold control characters"));
    }
    // Once more, for what the encoding hid.
    if path.starts_with('/') || has_scheme(&path) {
        return Err(("XDM-61", "the URI is absolute; a relative path is accepted"));
    }
    let mut segments = base.to_vec();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                if segments.pop().is_none() {
                    return Err(("XDM-60", "the URI must not climb out of the medium"));
                }
            }
            name => segments.push(name.to_owned()),
        }
    }
    Ok(segments)
}

/// RFC 3986 §3.1: a letter, then letters, digits, `+`, `-`, `.`, then a colon, before any slash. A drive letter
/// looks the same.
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    })
}

/// Decodes once: `%2541` is `%41`, not `A`. A percent sign that starts no pair of digits stands for itself.
fn percent_decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after
            .get(..2)
            .filter(|pair| *first == b'%' && pair.iter().all(u8::is_ascii_hexdigit))
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(octet) = pair {
            octets.push(octet);
            rest = after.get(2..).unwrap_or_default();
        } else {
            octets.push(*first);
            rest = after;
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(uri: &str) -> Result<String, &'static str> {
        let base = ["IHE_XDM".to_owned(), "SUBSET01".to_owned()];
        resolve(uri, &base)
            .map(|segments| segments.join("/"))
            .map_err(|(rule, _)| rule)
    }

    // rule: XDM-23, XDM-25
    #[test]
    fn a_relative_uri_is_resolved_beside_the_metadata_and_decoded_once() {
        assert_eq!(resolved("DOC1.XML").unwrap(), "IHE_XDM/SUBSET01/DOC1.XML");
        assert_eq!(
            resolved("./A/../DOC1.XML").unwrap(),
            "IHE_XDM/SUBSET01/DOC1.XML"
        );
        assert_eq!(resolved("../../SHARED/X.PDF").unwrap(), "SHARED/X.PDF");
        assert_eq!(
            resolved("a%20b%2541%.xml").unwrap(),
            "IHE_XDM/SUBSET01/a b%41%.xml"
        );
        assert_eq!(resolved("%C3%A9.xml").unwrap(), "IHE_XDM/SUBSET01/é.xml");
        assert_eq!(
            resolved("SUB\\DOC.XML").unwrap(),
            "IHE_XDM/SUBSET01/SUB/DOC.XML"
        );
    }

    // rule: XDM-60, XDM-61, T-9
    #[test]
    fn a_uri_that_leaves_the_medium_is_refused() {
        for uri in [
            "http://evil.example/x",
            "file:///etc/passwd",
            "//host/x",
            "/etc/passwd",
            "C:\\x",
            "DOC.XML?x",
            "DOC.XML#x",
            "%2Fetc/passwd",
            "http%3A//x",
            "\\\\host\\x",
        ] {
            assert_eq!(resolved(uri), Err("XDM-61"), "{uri}");
        }
        for uri in [
            "../../../x",
            "..%2F..%2F../x",
            "%2e%2e/../../x",
            "a%00b",
            "a\nb",
        ] {
            assert_eq!(resolved(uri), Err("XDM-60"), "{uri}");
        }
        assert_eq!(resolved("%FF"), Err("XDM-25"));
    }
}
