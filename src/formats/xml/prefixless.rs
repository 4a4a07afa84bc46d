//! A form of XML in which neither prefixes nor indentation show, for digests that must know a message again when another
//! stack wrote it (SOAP-1, XDR-50). It is no XML, and nobody reads it.

use roxmltree::{Document, Node};

use super::{c14n::C14nError, kept::KeptXml};

/// Every element and attribute by its namespace and local name, attributes in order, texts as they are. White space
/// between elements, comments and the choice of prefixes leave no trace; anything else does.
pub fn prefixless(xml: &KeptXml) -> Result<Vec<u8>, C14nError> {
    let tree = Document::parse(xml.as_str()).map_err(|_| C14nError)?;
    let mut form = Vec::with_capacity(xml.as_str().len());
    // The depth is bounded: the text was read before (LIM-5).
    write(tree.root_element(), &mut form);
    Ok(form)
}

fn write(element: Node<'_, '_>, form: &mut Vec<u8>) {
    form.push(b'<');
    let name = element.tag_name();
    put(name.namespace().unwrap_or_default(), form);
    put(name.name(), form);
    let mut attributes: Vec<_> = element
        .attributes()
        .map(|each| {
            (
                each.namespace().unwrap_or_default(),
                each.name(),
                each.value(),
            )
        })
        .collect();
    attributes.sort_unstable();
    for (namespace, local, value) in attributes {
        form.push(b'@');
        put(namespace, form);
        put(local, form);
        put(value, form);
    }
    let holds_elements = element.children().any(|child| child.is_element());
    let mut text = String::new();
    for child in element.children() {
        if child.is_element() {
            end_text(&mut text, holds_elements, form);
            write(child, form);
        } else if child.is_text() {
            text.push_str(child.text().unwrap_or_default());
        }
    }
    end_text(&mut text, holds_elements, form);
    form.push(b'>');
}

/// A text that a comment cut in two is one text.
fn end_text(text: &mut String, is_between_elements: bool, form: &mut Vec<u8>) {
    let is_indentation = is_between_elements && text.trim().is_empty();
    if !text.is_empty() && !is_indentation {
        form.push(b'=');
        put(text, form);
    }
    text.clear();
}

/// A text after its length, so that no two sequences of texts have one form.
fn put(text: &str, form: &mut Vec<u8>) {
    form.extend_from_slice(&(text.len() as u64).to_be_bytes());
    form.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Vec<u8> {
        prefixless(&KeptXml::from_checked(text.to_owned())).unwrap()
    }

    // rule: XDR-50, SOAP-1
    #[test]
    fn what_another_stack_writes_otherwise_has_the_same_form() {
        let one =
            "<a:x xmlns:a='urn:a' xmlns:b='urn:b' b:p='1' q='2'><a:y>t &amp; u</a:y><a:z/></a:x>";
        for other in [
            "<x xmlns='urn:a' q='2' c:p='1' xmlns:c='urn:b' xmlns:unused='urn:u'><y>t &#38; u</y><z></z></x>",
            "<a:x xmlns:a='urn:a' xmlns:b='urn:b' b:p='1' q='2'>\n  <a:y>t <!-- c -->&amp; u</a:y>\n  <a:z/>\n</a:x>",
        ] {
            assert_eq!(form(one), form(other), "{other}");
        }
        for other in [
            "<a:x xmlns:a='urn:a' p='1' q='2'><a:y>t &amp; u</a:y><a:z/></a:x>",
            "<a:x xmlns:a='urn:c' xmlns:b='urn:b' b:p='1' q='2'><a:y>t &amp; u</a:y><a:z/></a:x>",
            "<a:x xmlns:a='urn:a' xmlns:b='urn:b' b:p='1' q='2'><a:z/><a:y>t &amp; u</a:y></a:x>",
            "<a:x xmlns:a='urn:a' xmlns:b='urn:b' b:p='1' q='2'><a:y>t &amp; u </a:y><a:z/></a:x>",
            "<a:x xmlns:a='urn:a' xmlns:b='urn:b' b:p='1' q='2'><a:y>t &amp; u</a:y><a:z> </a:z></a:x>",
        ] {
            assert_ne!(form(one), form(other), "{other}");
        }
    }
}
