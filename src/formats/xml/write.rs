//! Writing XML: every value is escaped here and nowhere else.

use super::chars::is_xml_char;

/// Writes elements into a text. Names are ours and written as they are; values are escaped. Characters that no XML
/// document may hold become U+FFFD: they can only come from a peer, and an answer must stay readable.
#[derive(Debug, Default)]
pub struct XmlWriter {
    text: String,
    open: Vec<&'static str>,
}

impl XmlWriter {
    /// A writer for a fragment.
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer for a document: the XML declaration stands first.
    pub fn document() -> Self {
        Self {
            text: r#"<?xml version="1.0" encoding="UTF-8"?>"#.to_owned(),
            open: Vec::new(),
        }
    }

    /// Opens an element.
    pub fn start(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes);
        self.text.push('>');
        self.open.push(name);
    }

    /// Closes the element that was opened last.
    pub fn end(&mut self) {
        if let Some(name) = self.open.pop() {
            self.text.push_str("</");
            self.text.push_str(name);
            self.text.push('>');
        }
    }

    /// An element without content.
    pub fn empty(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes);
        self.text.push_str("/>");
    }

    /// An element that holds text.
    pub fn leaf(&mut self, name: &'static str, attributes: &[(&str, &str)], text: &str) {
        self.start(name, attributes);
        self.text(text);
        self.end();
    }

    /// Text.
    pub fn text(&mut self, text: &str) {
        escape(&mut self.text, text, false);
    }

    /// A well-formed fragment, as it is.
    pub fn raw(&mut self, fragment: &str) {
        self.text.push_str(fragment);
    }

    /// What was written since the last call: for a caller that streams something between two pieces.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// The text, with every open element closed.
    pub fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.text
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.text.push('<');
        self.text.push_str(name);
        for (name, value) in attributes {
            self.text.push(' ');
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(&mut self.text, value, true);
            self.text.push('"');
        }
    }
}

/// `value` as it may stand between double quotes.
pub fn escape_attribute(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    escape(&mut text, value, true);
    text
}

/// `value` as it may stand between two tags.
pub fn escape_text(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    escape(&mut text, value, false);
    text
}

fn escape(out: &mut String, value: &str, is_attribute: bool) {
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' if is_attribute => out.push_str("&quot;"),
            // These would be normalised away by the reader (XML 1.0 §2.11, §3.3.3).
            '\r' => out.push_str("&#13;"),
            '\n' if is_attribute => out.push_str("&#10;"),
            '\t' if is_attribute => out.push_str("&#9;"),
            c if is_xml_char(c) => out.push(c),
            _ => out.push('\u{FFFD}'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_written_reads_back(text in any::<String>(), value in any::<String>()) {
            let mut writer = XmlWriter::document();
            writer.start("a", &[("b", &value)]);
            writer.leaf("c", &[], &text);
            let xml = writer.finish();
            let read = roxmltree::Document::parse(&xml).unwrap();
            let legal = |text: &str| -> String {
                text.chars().map(|c| if is_xml_char(c) { c } else { '\u{FFFD}' }).collect()
            };
            prop_assert_eq!(read.root_element().attribute("b").unwrap(), legal(&value));
            let inner = read.root_element().first_element_child().unwrap();
            prop_assert_eq!(inner.text().unwrap_or_default(), legal(&text));
        }
    }
}
