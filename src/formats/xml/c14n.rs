//! Canonical XML, for digests and comparison: Exclusive XML Canonicalization 1.0 without comments.

use bergshamra_c14n::{C14nMode, canonicalize};

use super::{
    kept::KeptXml,
    scan::{Markup, markup_at},
};

/// The text is no well-formed XML; its content is not named, since it may hold patient data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the XML cannot be brought into canonical form: it is not well-formed")]
pub struct C14nError;

/// The octets of `xml` in exclusive canonical form, comments left out.
pub fn exclusive(xml: &KeptXml) -> Result<Vec<u8>, C14nError> {
    let text = normalize_attributes(xml.as_str()).ok_or(C14nError)?;
    // The library's error would quote the text.
    canonicalize::<&str>(&text, C14nMode::Exclusive, None, &[]).map_err(|_| C14nError)
}

/// Turns literal white space in attribute values into spaces, as every parser must (XML 1.0 section 3.3.3); the
/// canonicalization library's own parser does not. `None` if markup is left open.
fn normalize_attributes(text: &str) -> Option<String> {
    let mut normal = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(distance) = text.get(at..)?.find('<') {
        let start = at + distance;
        normal.push_str(text.get(at..start)?);
        let (markup, end) = markup_at(text, start)?;
        let written = text.get(start..end)?;
        match markup {
            // Between attributes white space means the same, whichever it is.
            Markup::Start(_) => normal.push_str(
                &written
                    .replace("\r\n", " ")
                    .replace(['\t', '\r', '\n'], " "),
            ),
            Markup::End | Markup::Other => normal.push_str(written),
            Markup::Declaration => return None,
        }
        at = end;
    }
    normal.push_str(text.get(at..)?);
    Some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let octets = exclusive(&KeptXml::from_checked(text.to_owned())).unwrap();
        String::from_utf8(octets).unwrap()
    }

    // The cases are those of Canonical XML 1.0 section 3 and Exclusive XML Canonicalization 1.0 section 2, in our words.
    #[test]
    fn what_means_the_same_has_one_form() {
        for (written, form) in [
            // Declarations appear where their prefix is first used, and nowhere else.
            (
                "<a:x xmlns:a='urn:a' xmlns:b='urn:b' xmlns:c='urn:c'><b:y><b:z/></b:y><b:y/></a:x>",
                r#"<a:x xmlns:a="urn:a"><b:y xmlns:b="urn:b"><b:z></b:z></b:y><b:y xmlns:b="urn:b"></b:y></a:x>"#,
            ),
            // The default namespace, and its absence.
            (
                "<x xmlns='urn:a'><y xmlns='urn:a'/><z xmlns=''/></x>",
                r#"<x xmlns="urn:a"><y></y><z xmlns=""></z></x>"#,
            ),
            // Attributes: those without a namespace first, then by namespace and name.
            (
                "<x xmlns:b='urn:1' xmlns:a='urn:2' a:p='1' b:q='2' z='3' c='4'/>",
                r#"<x xmlns:a="urn:2" xmlns:b="urn:1" c="4" z="3" b:q="2" a:p="1"></x>"#,
            ),
            // References, CDATA, comments, quotes.
            (
                "<x a='&#60;\"&amp;&#x9;&#10;'>&#65;<![CDATA[<&>]]><!-- gone -->&gt;&#xD;</x>",
                "<x a=\"&lt;&quot;&amp;&#x9;&#xA;\">A&lt;&amp;&gt;&gt;&#xD;</x>",
            ),
            // White space: attributes are normalized, line ends are line feeds.
            (
                "<x   a = 'b\tc\nd'\n>\r\n e\r</x  >",
                "<x a=\"b c d\">\n e\n</x>",
            ),
            ("<x>é\u{1f9ea}&#xe9;</x>", "<x>é\u{1f9ea}é</x>"),
        ] {
            assert_eq!(canonical(written), form, "{written}");
        }
    }

    #[test]
    fn canonical_form_is_its_own_canonical_form() {
        let once =
            canonical("<b:x xmlns:b='urn:b' z='1' a='&#13;'><c xmlns='urn:c'>\r\n</c></b:x>");
        assert_eq!(canonical(&once), once);
    }

    #[test]
    fn what_is_not_well_formed_has_no_form() {
        for text in [
            "",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<p:a/>",
            "<a b='1' b='2'/>",
        ] {
            let xml = KeptXml::from_checked(text.to_owned());
            assert_eq!(exclusive(&xml), Err(C14nError), "{text}");
        }
    }
}
