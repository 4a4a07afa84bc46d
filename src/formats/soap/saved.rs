//! Messages that were saved to a file: the HTTP head or MIME header that may stand before them, and packages without
//! any.

use super::media_type::MediaType;

/// What stands before a message in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedHeader {
    /// Its length in octets, the empty line included.
    pub(crate) length: usize,
    /// Whether it is an HTTP head; else it is a header as MIME has it.
    pub(crate) is_http: bool,
    /// Its Content-Type, if it is one.
    pub(crate) media: Option<MediaType>,
    /// Whether it has a Content-Type, usable or not.
    pub(crate) has_content_type: bool,
}

impl SavedHeader {
    /// The header at the beginning of `head`, if there is one.
    pub(crate) fn find(head: &[u8]) -> Option<Self> {
        let end = [&b"\r\n\r\n"[..], b"\n\n"]
            .iter()
            .filter_map(|gap| memchr::memmem::find(head, gap).map(|at| at + gap.len()))
            .min()?;
        let text = std::str::from_utf8(head.get(..end)?).ok()?;
        let mut lines = text.lines();
        let first = lines.next()?;
        let is_http = first.starts_with("HTTP/") || first.contains(" HTTP/1.");
        let is_field = |line: &str| {
            line.split_once(':').is_some_and(|(name, _)| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
        };
        if !is_http && !is_field(first) {
            return None;
        }
        let fields = std::iter::once(first).filter(|_| !is_http).chain(lines);
        let content_type = content_type(fields);
        Some(Self {
            length: end,
            is_http,
            media: content_type.as_deref().and_then(MediaType::parse),
            has_content_type: content_type.is_some(),
        })
    }
}

fn content_type<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut content_type: Option<String> = None;
    let mut is_inside = false;
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = content_type.as_mut().filter(|_| is_inside) {
                value.push_str(line);
            }
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        is_inside = name.eq_ignore_ascii_case("content-type");
        if is_inside {
            if content_type.is_some() {
                // Of two none counts (T-11b).
                return Some(String::new());
            }
            content_type = Some(value.to_owned());
        }
    }
    content_type
}

/// A package without any header: its first line is its boundary.
pub(crate) fn bare_package(head: &[u8]) -> Option<MediaType> {
    let line = head
        .trim_ascii_start()
        .strip_prefix(b"--")?
        .split(|b| *b == b'\n')
        .next()?;
    let boundary = std::str::from_utf8(line).ok()?.trim_end();
    Some(MediaType::related(boundary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_head_and_a_mime_header_are_told_from_content() {
        let http = b"POST /xdr HTTP/1.1\r\nHost: a\r\nContent-Type: a/b;\r\n c=d\r\n\r\nbody";
        let found = SavedHeader::find(http).unwrap();
        assert!(found.is_http);
        assert_eq!(found.media.unwrap().parameter("c"), Some("d"));
        assert_eq!(http.get(found.length..).unwrap(), b"body");
        let mime = SavedHeader::find(b"Content-Type: text/xml\n\n<a/>").unwrap();
        assert!(!mime.is_http);
        assert_eq!(mime.media.unwrap().essence(), "text/xml");
        let twice = SavedHeader::find(
            b"POST / HTTP/1.1\r\nContent-Type: text/xml\r\nContent-Type: a/b\r\n\r\n",
        );
        assert!(twice.is_some_and(|header| header.has_content_type && header.media.is_none()));
        assert_eq!(SavedHeader::find(b"<a>:</a>\n\n<b/>"), None);
        assert_eq!(SavedHeader::find(b"no end: of it"), None);
    }

    #[test]
    fn a_bare_package_begins_with_its_boundary() {
        let media = bare_package(b"\r\n--gw 1\r\nContent-ID: <a>\r\n").unwrap();
        assert_eq!(media.parameter("boundary"), Some("gw 1"));
        assert_eq!(bare_package(b"<a/>"), None);
    }
}
