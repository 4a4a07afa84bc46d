//! Content-Type fields: RFC 2045 §5.1 as HTTP and MIME parts carry them (SOAP-7).

/// A media type with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    essence: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Reads a Content-Type field value: parameters in any order, quoted or not, folded lines allowed. `None` if it is
    /// no media type, or has one parameter twice (which parsers would read differently, T-11b).
    pub fn parse(text: &str) -> Option<Self> {
        let mut pieces = split_parameters(text)?.into_iter();
        let essence = pieces.next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        for piece in pieces {
            let piece = piece.trim();
            // A stray semicolon at the end is common.
            if piece.is_empty() {
                continue;
            }
            let (name, value) = piece.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            if !is_token(&name) || parameters.iter().any(|(known, _)| *known == name) {
                return None;
            }
            parameters.push((name, unquote(value.trim())?));
        }
        Some(Self {
            essence,
            parameters,
        })
    }

    /// multipart/related with that boundary and nothing else.
    pub(crate) fn related(boundary: &str) -> Self {
        Self {
            essence: "multipart/related".to_owned(),
            parameters: vec![("boundary".to_owned(), boundary.to_owned())],
        }
    }

    /// Type and subtype in lower case, such as `multipart/related`.
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// A parameter by its lower-case name, without its quotes.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Cuts at semicolons that are not within quotes.
fn split_parameters(text: &str) -> Option<Vec<String>> {
    let mut pieces = vec![String::new()];
    let mut is_quoted = false;
    let mut is_escaped = false;
    for c in text.chars() {
        if matches!(c, '\r' | '\n') && !is_quoted {
            continue;
        }
        let piece = pieces.last_mut()?;
        if c == ';' && !is_quoted {
            pieces.push(String::new());
            continue;
        }
        piece.push(c);
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
    }
    (!is_quoted).then_some(pieces)
}

fn unquote(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        // Some stacks leave `start=<cid>` and `type=application/xop+xml` bare.
        let is_bare = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '"');
        return is_bare.then(|| value.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next()?),
            '"' => return None,
            c if c.is_control() => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}

/// RFC 2045 §5.1 `token`.
fn is_token(text: &str) -> bool {
    let is_special = |c: char| r#"()<>@,;:\"/[]?="#.contains(c);
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !is_special(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: SOAP-7
    #[test]
    fn parameters_come_in_any_order_quoted_or_not_and_folded() {
        let media = MediaType::parse(
            "Multipart/Related; start=<r@x>;\r\n\ttype=\"application/xop+xml\"; Boundary=\"a;\\\"b\";",
        )
        .unwrap();
        assert_eq!(media.essence(), "multipart/related");
        assert_eq!(media.parameter("start"), Some("<r@x>"));
        assert_eq!(media.parameter("type"), Some("application/xop+xml"));
        assert_eq!(media.parameter("boundary"), Some("a;\"b"));
        assert_eq!(media.parameter("charset"), None);
    }

    // rule: T-11b
    #[test]
    fn what_two_parsers_could_read_differently_is_no_media_type() {
        for text in [
            "",
            "text",
            "text/",
            "a/b; c",
            "a/b; c=1; C=2",
            "a/b; c=\"1",
            "a/b; c=\"1\" \"2\"",
        ] {
            assert_eq!(MediaType::parse(text), None, "{text}");
        }
    }
}
