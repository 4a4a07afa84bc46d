//! Hardened pull reading (T-10, LIM-3, LIM-5, SOAP-43): what quick-xml lets pass is checked here, so that whatever
//! this reader accepts is a well-formed, namespace-well-formed document without DTD and processing instruction.

use std::{
    io::{self, BufRead},
    ops::Range,
    rc::Rc,
};

use quick_xml::{Reader, events::Event};

use super::{
    chars::{attribute_value, is_blank, is_xml_char, resolve_reference, trim},
    names::XSI,
    scopes::Scopes,
    source::{Source, XmlTooLarge},
    tag::{self, RawAttribute, TagError},
    write::escape_attribute,
};
use crate::formats::limits::Limits;

/// Why XML is refused.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// It is not well-formed, or holds what is never accepted.
    #[error("{text}")]
    Refused {
        /// The rule in docs/spec.
        rule: &'static str,
        /// What is wrong and what would be accepted; no received value in it.
        text: String,
    },
    /// The octets could not be read.
    #[error("the XML could not be read")]
    Io(#[source] io::Error),
}

impl XmlError {
    pub(crate) fn refused(rule: &'static str, text: impl Into<String>) -> Self {
        Self::Refused {
            rule,
            text: text.into(),
        }
    }
}

/// What comes next. Names, attributes and text are asked from the [`Pull`] itself. Comments never show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A start tag; an empty element gives a start and an end.
    Start,
    /// An end tag.
    End,
    /// A piece of text, references resolved; one text may come in several pieces.
    Text,
    /// The end of the document, after its root element.
    Eof,
}

/// One attribute with its namespace resolved.
struct Attribute {
    namespace: Rc<str>,
    local: Range<usize>,
    value: Range<usize>,
}

/// A pull reader over one document.
pub struct Pull<'a> {
    reader: Reader<Source<'a>>,
    limits: Limits,
    scopes: Scopes,
    event: Vec<u8>,
    /// The inside of the start tag that was read last.
    tag: String,
    namespace: Rc<str>,
    local: Range<usize>,
    raw_attributes: Vec<RawAttribute>,
    attributes: Vec<Attribute>,
    text: String,
    is_empty_element: bool,
    has_root: bool,
    has_begun: bool,
    is_watching: bool,
    /// Whether the event that was read last was a text, so that markup or a reference comes next.
    is_at_markup: bool,
    passes_instructions: bool,
}

impl<'a> Pull<'a> {
    /// A reader over `octets`, which may have `max_bytes` without document text.
    pub fn open(
        octets: Box<dyn BufRead + 'a>,
        max_bytes: u64,
        limits: &Limits,
    ) -> Result<Self, XmlError> {
        let source = Source::open(octets, max_bytes).map_err(XmlError::Io)?;
        let mut reader = Reader::from_reader(source);
        reader.config_mut().enable_all_checks(true);
        Ok(Self {
            reader,
            limits: limits.clone(),
            scopes: Scopes::default(),
            event: Vec::new(),
            tag: String::new(),
            namespace: "".into(),
            local: 0..0,
            raw_attributes: Vec::new(),
            attributes: Vec::new(),
            text: String::new(),
            is_empty_element: false,
            has_root: false,
            has_begun: false,
            is_watching: false,
            is_at_markup: false,
            passes_instructions: false,
        })
    }

    /// Whether the octets came as UTF-16.
    pub fn is_utf16(&self) -> bool {
        self.reader.get_ref().is_utf16()
    }

    /// The next node.
    #[expect(
        clippy::should_implement_trait,
        reason = "a node is asked for its parts here, not there"
    )]
    pub fn next(&mut self) -> Result<Node, XmlError> {
        if self.is_empty_element {
            self.is_empty_element = false;
            self.scopes.close();
            return Ok(Node::End);
        }
        loop {
            if self.is_watching {
                self.reader.get_mut().record_from_here();
            }
            self.event.clear();
            let is_first = !std::mem::replace(&mut self.has_begun, true);
            let event = match self.reader.read_event_into(&mut self.event) {
                Ok(event) => event,
                Err(error) => return Err(self.failed(&error)),
            };
            let is_empty_element = matches!(event, Event::Empty(_));
            self.is_at_markup = matches!(event, Event::Text(_));
            match event {
                Event::Start(tag) | Event::Empty(tag) => {
                    self.tag.clear();
                    self.tag.push_str(&tag);
                    self.is_empty_element = is_empty_element;
                    self.open_element()?;
                    return Ok(Node::Start);
                }
                Event::End(_) => {
                    self.scopes.close();
                    return Ok(Node::End);
                }
                Event::Text(text) => {
                    self.text.clear();
                    self.text.push_str(&text);
                    if self.text.contains("]]>") {
                        return Err(XmlError::refused(
                            "SOAP-80",
                            "text holds ]]>, which must be escaped",
                        ));
                    }
                    if self.is_significant_text()? {
                        return Ok(Node::Text);
                    }
                }
                Event::CData(text) => {
                    self.text.clear();
                    self.text.push_str(&text);
                    if self.scopes.depth() == 0 {
                        return Err(outside_root());
                    }
                    if self.is_significant_text()? {
                        return Ok(Node::Text);
                    }
                }
                Event::GeneralRef(name) => {
                    let Some(c) = resolve_reference(&name) else {
                        return Err(XmlError::refused(
                            "SOAP-43",
                            "an entity other than amp, lt, gt, quot, apos and legal character references",
                        ));
                    };
                    if self.scopes.depth() == 0 {
                        return Err(outside_root());
                    }
                    self.text.clear();
                    self.text.push(c);
                    return Ok(Node::Text);
                }
                Event::Comment(text) => {
                    if !text.chars().all(is_xml_char) || text.ends_with('-') {
                        return Err(XmlError::refused(
                            "SOAP-80",
                            "a comment that is not well-formed",
                        ));
                    }
                }
                Event::Decl(declaration) if is_first => check_declaration(&declaration)?,
                Event::PI(_) if self.passes_instructions => {}
                Event::Decl(_) | Event::PI(_) => {
                    return Err(XmlError::refused(
                        "SOAP-43",
                        "a processing instruction; only an XML declaration at the very start is accepted",
                    ));
                }
                Event::DocType(_) => {
                    return Err(XmlError::refused("SOAP-43", "a DTD is never accepted"));
                }
                Event::Eof if self.scopes.depth() > 0 || !self.has_root => {
                    return Err(XmlError::refused(
                        "SOAP-80",
                        "the document ends before its root element does",
                    ));
                }
                Event::Eof => return Ok(Node::Eof),
            }
        }
    }

    /// From here on processing instructions are passed over, unread: documents name a stylesheet by one (CC-7). Messages
    /// never hold any (SOAP-43).
    pub fn pass_over_instructions(&mut self) {
        self.passes_instructions = true;
    }

    /// Whether the start tag read last is that of `local` in `namespace`.
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.local() == local && &*self.namespace == namespace
    }

    /// The namespace of the start tag read last; empty for none.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The local name of the start tag read last.
    pub fn local(&self) -> &str {
        self.tag.get(self.local.clone()).unwrap_or_default()
    }

    /// An attribute of the start tag read last. Attributes without a prefix have no namespace, the empty text.
    pub fn attribute(&self, namespace: &str, local: &str) -> Option<String> {
        self.attributes()
            .find(|(ns, name, _)| *ns == namespace && *name == local)
            .map(|(_, _, value)| value)
    }

    /// All attributes of the start tag read last but the namespace declarations: namespace, local name, value.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str, String)> {
        self.attributes.iter().map(|attribute| {
            let raw = self.tag.get(attribute.value.clone()).unwrap_or_default();
            (
                &*attribute.namespace,
                self.tag.get(attribute.local.clone()).unwrap_or_default(),
                attribute_value(raw).unwrap_or_default().into_owned(),
            )
        })
    }

    /// The text read last.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many elements are open.
    pub fn depth(&self) -> usize {
        self.scopes.depth()
    }

    /// Passes over the rest of the element whose start tag was read last.
    pub fn skip(&mut self) -> Result<(), XmlError> {
        let outside = self.depth().saturating_sub(1);
        while self.depth() > outside {
            self.next()?;
        }
        Ok(())
    }

    /// The text of the element whose start tag was read last, which may hold no element and `max_bytes` of text.
    pub fn read_text(&mut self, max_bytes: usize) -> Result<String, XmlError> {
        let mut text = String::new();
        loop {
            match self.next()? {
                Node::Text => text.push_str(&self.text),
                Node::End => return Ok(text),
                Node::Start | Node::Eof => {
                    return Err(XmlError::refused(
                        "SOAP-80",
                        "an element that may hold text only holds an element",
                    ));
                }
            }
            if text.len() > max_bytes {
                return Err(XmlError::refused(
                    "LIM-5",
                    "a text is longer than the limit",
                ));
            }
        }
    }

    /// From here on every start tag may be [kept](Self::keep).
    pub fn watch(&mut self) {
        self.is_watching = true;
    }

    /// The element whose start tag was read last is to be kept; [`Pull::watch`] was called before it was read.
    pub fn keep(&mut self) {
        self.is_watching = false;
        self.scopes.keep();
        // The names in the start tag itself were resolved before it was known that it is kept.
        let part = |range: &Range<usize>| self.tag.get(range.clone()).unwrap_or_default();
        let name = self.tag.get(..self.local.start).unwrap_or_default();
        self.scopes.resolve(name.trim_end_matches(':'));
        for raw in &self.raw_attributes {
            let prefix = part(&raw.name.prefix);
            if prefix.is_empty() || is_declaration(prefix, part(&raw.name.local)) {
                continue;
            }
            let namespace = self.scopes.resolve(prefix);
            if namespace.as_deref() == Some(XSI) && part(&raw.name.local) == "type" {
                self.scopes.resolve(type_prefix(part(&raw.value)));
            }
        }
    }

    /// Watches no longer.
    pub fn unwatch(&mut self) {
        self.is_watching = false;
        self.reader.get_mut().take_recorded();
    }

    /// The kept element, whose end was just read, as a document of its own: the text that was received, with the
    /// namespaces that it took from outside declared on its root.
    pub fn take_kept(&mut self) -> Result<String, XmlError> {
        let not_utf8 = |_| XmlError::refused("SOAP-8", "the text is not UTF-8");
        let mut text =
            String::from_utf8(self.reader.get_mut().take_recorded()).map_err(not_utf8)?;
        let taken = self.scopes.end_keep();
        let after_name = text
            .find([' ', '\t', '\r', '\n', '>', '/'])
            .unwrap_or(text.len());
        let declarations: String = taken
            .iter()
            .map(|(prefix, namespace)| {
                let colon = if prefix.is_empty() { "" } else { ":" };
                format!(" xmlns{colon}{prefix}=\"{}\"", escape_attribute(namespace))
            })
            .collect();
        text.insert_str(after_name, &declarations);
        Ok(text)
    }

    /// Hands on the raw text that follows, CDATA sections too, up to the next tag, comment or reference, piece by piece
    /// and without counting it towards the limit. To be called right after a start tag or a node that came after it in
    /// the same text. Whatever error `take` gives ends it.
    pub fn drain_text<E>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, XmlError> {
        const OPEN: &[u8] = b"<![CDATA[";
        const CLOSE: &[u8] = b"]]>";
        if self.is_empty_element {
            return Ok(Ok(()));
        }
        // After a text the reader below waits for markup, and must find it.
        let may_hold_cdata = !self.is_at_markup;
        let source = self.reader.get_mut();
        let mut is_cdata = false;
        loop {
            let buffered = match source.fill_buf() {
                Ok(buffered) => buffered,
                Err(error) => return Err(source_failed(source, &error)),
            };
            let mark = if is_cdata {
                memchr::memchr(b']', buffered)
            } else {
                memchr::memchr2(b'<', b'&', buffered)
            };
            let raw = buffered
                .get(..mark.unwrap_or(buffered.len()))
                .unwrap_or_default();
            let amount = raw.len();
            let is_end = buffered.is_empty();
            if amount > 0
                && let Err(error) = take(raw)
            {
                return Ok(Err(error));
            }
            source.consume_unmetered(amount);
            if is_end {
                return Ok(Ok(()));
            }
            if mark.is_none() {
                continue;
            }
            if !may_hold_cdata {
                return Ok(Ok(()));
            }
            let wanted = if is_cdata { CLOSE } else { OPEN };
            match source.is_next(wanted) {
                Err(error) => return Err(source_failed(source, &error)),
                Ok(true) => {
                    source.consume_unmetered(wanted.len());
                    is_cdata = !is_cdata;
                }
                Ok(false) if is_cdata => {
                    // A bracket that closes nothing.
                    if let Err(error) = take(b"]") {
                        return Ok(Err(error));
                    }
                    source.consume_unmetered(1);
                }
                Ok(false) => return Ok(Ok(())),
            }
        }
    }

    fn open_element(&mut self) -> Result<(), XmlError> {
        if self.scopes.depth() == 0 && std::mem::replace(&mut self.has_root, true) {
            return Err(XmlError::refused("SOAP-80", "a second root element"));
        }
        if self.scopes.depth() >= self.limits.max_xml_depth {
            return Err(XmlError::refused(
                "LIM-5",
                "elements are nested deeper than the limit",
            ));
        }
        let name = tag::parse(
            &self.tag,
            &mut self.raw_attributes,
            self.limits.max_xml_attributes,
            self.limits.max_xml_attribute_bytes,
        )
        .map_err(|error| match error {
            TagError::Grammar(text) => XmlError::refused("SOAP-80", text),
            TagError::Limit(text) => XmlError::refused("LIM-5", text),
        })?;
        self.scopes.open();
        self.declare_namespaces()?;
        let part = |range: &Range<usize>| self.tag.get(range.clone()).unwrap_or_default();
        let undeclared = || XmlError::refused("SOAP-80", "a prefix that is not declared");
        self.namespace = self
            .scopes
            .resolve(part(&name.prefix))
            .ok_or_else(undeclared)?;
        self.local = name.local;
        self.attributes.clear();
        for raw in &self.raw_attributes {
            let prefix = part(&raw.name.prefix);
            if is_declaration(prefix, part(&raw.name.local)) {
                continue;
            }
            let namespace = match prefix {
                "" => "".into(),
                prefix => self.scopes.resolve(prefix).ok_or_else(undeclared)?,
            };
            // The type of an element is a name too, and needs its prefix when it is kept.
            if &*namespace == XSI && part(&raw.name.local) == "type" {
                self.scopes.resolve(type_prefix(part(&raw.value)));
            }
            self.attributes.push(Attribute {
                namespace,
                local: raw.name.local.clone(),
                value: raw.value.clone(),
            });
        }
        self.refuse_duplicates()
    }

    fn declare_namespaces(&mut self) -> Result<(), XmlError> {
        for raw in &self.raw_attributes {
            let part = |range: &Range<usize>| self.tag.get(range.clone()).unwrap_or_default();
            let (prefix, local) = (part(&raw.name.prefix), part(&raw.name.local));
            if is_declaration(prefix, local) {
                let declared = if prefix.is_empty() { "" } else { local };
                let value = attribute_value(part(&raw.value)).unwrap_or_default();
                self.scopes
                    .declare(declared, &value)
                    .map_err(|text| XmlError::refused("SOAP-80", text))?;
            }
        }
        Ok(())
    }

    /// No two attributes of one name, neither as written nor after namespaces are resolved.
    fn refuse_duplicates(&self) -> Result<(), XmlError> {
        if self.raw_attributes.len() < 2 {
            return Ok(());
        }
        let part = |range: &Range<usize>| self.tag.get(range.clone()).unwrap_or_default();
        let mut names: Vec<(&str, &str)> = self
            .attributes
            .iter()
            .map(|a| (&*a.namespace, part(&a.local)))
            .collect();
        let mut declared: Vec<(&str, &str)> = self
            .raw_attributes
            .iter()
            .map(|raw| (part(&raw.name.prefix), part(&raw.name.local)))
            .filter(|(prefix, local)| is_declaration(prefix, local))
            .collect();
        for names in [&mut names, &mut declared] {
            names.sort_unstable();
            if names.windows(2).any(|pair| pair.first() == pair.last()) {
                return Err(XmlError::refused(
                    "SOAP-80",
                    "an element has one attribute twice",
                ));
            }
        }
        Ok(())
    }

    /// Whether the text counts: white space outside the root element does not.
    fn is_significant_text(&self) -> Result<bool, XmlError> {
        if !self.text.chars().all(is_xml_char) {
            return Err(XmlError::refused(
                "SOAP-80",
                "a character that no XML document may hold",
            ));
        }
        if self.scopes.depth() > 0 {
            Ok(!self.text.is_empty())
        } else if is_blank(&self.text) {
            Ok(false)
        } else {
            Err(outside_root())
        }
    }

    fn failed(&mut self, error: &quick_xml::Error) -> XmlError {
        if let quick_xml::Error::Io(error) = error {
            return source_failed(self.reader.get_mut(), error);
        }
        XmlError::refused(
            "SOAP-80",
            format!(
                "not well-formed XML near octet {}",
                self.reader.error_position()
            ),
        )
    }
}

/// What the source itself says of its failure.
fn source_failed(source: &mut Source<'_>, error: &io::Error) -> XmlError {
    match source.take_failure() {
        Some(failure)
            if failure
                .get_ref()
                .is_some_and(|inner| inner.is::<XmlTooLarge>()) =>
        {
            XmlError::refused(
                "LIM-3",
                "the XML without document text is larger than the limit",
            )
        }
        Some(failure) if failure.kind() == io::ErrorKind::InvalidData => XmlError::refused(
            "SOAP-8",
            "the octets are not in the encoding that their byte order mark names",
        ),
        Some(failure) => XmlError::Io(failure),
        None => XmlError::Io(io::Error::new(error.kind(), "reading failed")),
    }
}

fn outside_root() -> XmlError {
    XmlError::refused("SOAP-80", "text outside the root element")
}

fn is_declaration(prefix: &str, local: &str) -> bool {
    prefix == "xmlns" || (prefix.is_empty() && local == "xmlns")
}

/// The XML declaration: version 1.0, encoding UTF-8, UTF-16 or its subset US-ASCII (XML 1.0 §2.8, T-10).
fn check_declaration(declaration: &str) -> Result<(), XmlError> {
    let mut found = Vec::new();
    let malformed = || XmlError::refused("SOAP-80", "the XML declaration is not well-formed");
    tag::parse(declaration, &mut found, 3, 64).map_err(|_| malformed())?;
    let mut last = 0;
    for attribute in &found {
        let part = |range: &Range<usize>| declaration.get(range.clone()).unwrap_or_default();
        let value = part(&attribute.value);
        let order = match part(&attribute.name.local) {
            "version" if value.starts_with("1.") => 1,
            "encoding"
                if ["utf-8", "utf8", "utf-16", "us-ascii", "ascii"]
                    .iter()
                    .any(|known| value.eq_ignore_ascii_case(known)) =>
            {
                2
            }
            "encoding" => {
                return Err(XmlError::refused(
                    "SOAP-8",
                    "the encoding must be UTF-8, or UTF-16 with a byte order mark",
                ));
            }
            "standalone" if matches!(value, "yes" | "no") => 3,
            _ => return Err(malformed()),
        };
        if order <= last || (last == 0 && order != 1) {
            return Err(malformed());
        }
        last = order;
    }
    if last == 0 { Err(malformed()) } else { Ok(()) }
}

/// The prefix of the name that an `xsi:type` holds.
fn type_prefix(value: &str) -> &str {
    value.split_once(':').map_or("", |(prefix, _)| trim(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<(), XmlError> {
        let limits = Limits::default();
        let mut pull = Pull::open(Box::new(text), limits.max_metadata_bytes, &limits)?;
        while pull.next()? != Node::Eof {}
        Ok(())
    }

    // rule: T-10, SOAP-43, SOAP-80, LIM-5
    #[test]
    fn what_the_reader_underneath_lets_pass_is_refused() {
        let deep = "<a>".repeat(129) + &"</a>".repeat(129);
        let cases: [&[u8]; 29] = [
            b"",
            b" ",
            b"<a>",
            b"<a/><b/>",
            b"<a/>x",
            b"x<a/>",
            b"<a/>&amp;",
            b"<a>\0</a>",
            b"<a>&#0;</a>",
            b"<a b='1'c='2'/>",
            b"<a b=1/>",
            b"<a b/>",
            b"<a b='<'/>",
            b"<a b='&x;'/>",
            b"<a b='1' b='2'/>",
            b"<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>",
            b"<p:a/>",
            b"<a xmlns:p=''/>",
            b"<a xmlns:xmlns='u'/>",
            b"<a xmlns:xml='u'/>",
            b"<a xmlns:p='http://www.w3.org/2000/xmlns/'/>",
            b"<1a/>",
            b"<a:b:c xmlns:a='u'/>",
            b"<a>]]></a>",
            b"<a><!-- -- --></a>",
            b" <?xml version='1.0'?><a/>",
            b"<?xml encoding='UTF-8'?><a/>",
            b"<?xml version='1.0' encoding='latin1'?><a/>",
            b"<a>\xFF</a>",
        ];
        for text in cases.into_iter().chain([deep.as_bytes()]) {
            assert!(
                matches!(read(text), Err(XmlError::Refused { .. })),
                "{}",
                String::from_utf8_lossy(text)
            );
        }
        for text in [
            "<a/>",
            "<?xml version=\"1.0\" encoding='utf-8' standalone='yes'?>\n<!-- c --><a b = '&#x41;>' xml:lang=''> ]] &gt; <![CDATA[<&]]> </a >\n",
        ] {
            read(text.as_bytes()).unwrap();
            roxmltree::Document::parse(text).unwrap();
        }
    }

    // rule: SOAP-80, XDR-89
    #[test]
    fn what_is_kept_takes_along_the_namespaces_of_its_own_start_tag() {
        let outside = "<o xmlns='urn:d' xmlns:l='urn:l' xmlns:a='urn:a' xmlns:t='urn:t' xmlns:u='urn:u' \
                       xmlns:i='http://www.w3.org/2001/XMLSchema-instance'>";
        for (element, taken) in [
            ("<l:k/>", vec!["l"]),
            ("<l:k a:b='1'><x/></l:k>", vec!["", "a", "l"]),
            ("<k i:type=' t:T'/>", vec!["", "i", "t"]),
            ("<l:k xmlns:l='urn:m' b='1'/>", vec![]),
        ] {
            let text = format!("{outside}{element}</o>");
            let limits = Limits::default();
            let mut pull = Pull::open(
                Box::new(text.as_bytes()),
                limits.max_metadata_bytes,
                &limits,
            )
            .unwrap();
            pull.next().unwrap();
            pull.watch();
            pull.next().unwrap();
            pull.keep();
            pull.skip().unwrap();
            let kept = pull.take_kept().unwrap();
            let declared: Vec<_> = ["", "a", "i", "l", "t", "u"]
                .into_iter()
                .filter(|prefix| {
                    let colon = if prefix.is_empty() { "" } else { ":" };
                    kept.contains(&format!(" xmlns{colon}{prefix}=\""))
                })
                .collect();
            assert_eq!(declared, taken, "{kept}");
            roxmltree::Document::parse(&kept).unwrap();
        }
    }
}
