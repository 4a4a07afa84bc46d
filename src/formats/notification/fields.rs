//! The fields of a report part: `name: value` lines in blocks, read with the leniency of mdn.md section 5.

use memchr::memchr;

use super::super::ids::{DirectAddress, MessageId};

/// Longest report part that is read, in octets.
const MAX_REPORT_BYTES: usize = 64 * 1024;
/// Most fields of one report, blocks together.
const MAX_FIELDS: usize = 1_000;

/// Why a report part is not read. No received value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// More octets than a report has.
    #[error("the report part has more than {max_bytes} octets")]
    TooLarge {
        /// What would be accepted.
        max_bytes: usize,
    },
    /// More fields than a report has.
    #[error("the report part has more than {max_fields} fields")]
    TooManyFields {
        /// What would be accepted.
        max_fields: usize,
    },
}

/// The fields of one block, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    fields: Vec<(String, String)>,
}

impl Fields {
    /// Reads every block of a report. A line that is no field is passed over: the rest may still be understood.
    pub(super) fn read_blocks(report: &[u8]) -> Result<Vec<Self>, ReportError> {
        if report.len() > MAX_REPORT_BYTES {
            let max_bytes = MAX_REPORT_BYTES;
            return Err(ReportError::TooLarge { max_bytes });
        }
        let text = String::from_utf8_lossy(report);
        let mut blocks = Vec::new();
        let mut block = Self::default();
        let mut count = 0;
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.trim().is_empty() {
                blocks.push(std::mem::take(&mut block));
            } else if line.starts_with([' ', '\t']) && !block.fields.is_empty() {
                block.unfold(line);
            } else if let Some((name, value)) = field(line) {
                count += 1;
                if count > MAX_FIELDS {
                    let max_fields = MAX_FIELDS;
                    return Err(ReportError::TooManyFields { max_fields });
                }
                block.fields.push((name, value));
            }
        }
        blocks.push(block);
        blocks.retain(|block| !block.fields.is_empty());
        Ok(blocks)
    }

    /// Reads a report that has one block, whatever blank lines were put into it on the way (MDN-42).
    pub(super) fn read_all(report: &[u8]) -> Result<Self, ReportError> {
        let blocks = Self::read_blocks(report)?;
        let fields = blocks.into_iter().flat_map(|block| block.fields).collect();
        Ok(Self { fields })
    }

    fn unfold(&mut self, line: &str) {
        if let Some((_, value)) = self.fields.last_mut() {
            value.push(' ');
            value.push_str(line.trim());
        }
    }

    /// The value of the first field of this name, in any case (MDN-40).
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        let is_named = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.fields.iter().find(is_named).map(|(_, value)| &**value)
    }

    /// The values of all fields of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.fields.iter().filter(named).map(|(_, value)| &**value)
    }

    /// The mail addresses of all fields of this name, each once; a field of another address type names nobody.
    pub(super) fn addresses(&self, name: &str) -> Vec<DirectAddress> {
        let mut found: Vec<DirectAddress> = Vec::new();
        for address in self.all(name).filter_map(typed_address) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }

    /// The Message-ID in the field of this name, with or without brackets (MDN-50).
    pub(super) fn message_id(&self, name: &str) -> Option<MessageId> {
        self.first(name)?.parse().ok()
    }
}

/// A field line; white space may stand before the colon (MDN-41).
fn field(line: &str) -> Option<(String, String)> {
    let colon = memchr(b':', line.as_bytes())?;
    let (name, value) = line.split_at_checked(colon)?;
    let name = name.trim();
    let is_name = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic());
    let value = value.get(1..)?.trim();
    is_name.then(|| (name.to_owned(), value.to_owned()))
}

/// `rfc822; a@b` (RFC 8098 section 3.2.4). Without a type it is taken for a mail address; brackets are taken off.
fn typed_address(value: &str) -> Option<DirectAddress> {
    let address = match value.split_once(';') {
        Some((kind, address)) if is_mail_type(kind.trim()) => address,
        Some(_) => return None,
        None => value,
    };
    let address = address.trim();
    let bare = address
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap_or(address);
    bare.trim().parse().ok()
}

fn is_mail_type(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("rfc822") || kind.eq_ignore_ascii_case("utf-8")
}

/// The value without the comments in parentheses that RFC 5322 allows, spaces at its ends cut off.
pub(super) fn without_comments(value: &str) -> String {
    let mut depth = 0_usize;
    let mut kept = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(character),
            _ => {}
        }
    }
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: MDN-40, MDN-41, MDN-42
    #[test]
    fn fields_are_read_whatever_their_case_folds_and_blank_lines() {
        let report = b"\r\nREPORTING-ua : a; b\r\n\r\n\r\nFinal-Recipient\t: rfc822;\r\n\t ada@harbor.example\r\nno field\r\n";
        let fields = Fields::read_all(report).unwrap();
        assert_eq!(fields.first("Reporting-UA"), Some("a; b"));
        let ada: DirectAddress = "ada@harbor.example".parse().unwrap();
        assert_eq!(fields.addresses("final-recipient"), [ada]);
        assert_eq!(Fields::read_blocks(report).unwrap().len(), 2);
    }

    #[test]
    fn an_address_of_another_type_names_nobody() {
        assert!(typed_address("x400; /c=us/").is_none());
        assert!(typed_address("rfc822; nobody").is_none());
        for written in [
            "RFC822;ada@harbor.example",
            "ada@harbor.example",
            "rfc822 ; <ada@harbor.example>",
        ] {
            assert!(typed_address(written).is_some(), "{written}");
        }
    }

    #[test]
    fn what_is_too_much_for_a_report_is_refused() {
        let long = vec![b'a'; MAX_REPORT_BYTES + 1];
        let max_bytes = MAX_REPORT_BYTES;
        assert_eq!(
            Fields::read_all(&long),
            Err(ReportError::TooLarge { max_bytes })
        );
        let many = "a: b\n".repeat(MAX_FIELDS + 1);
        let max_fields = MAX_FIELDS;
        assert_eq!(
            Fields::read_all(many.as_bytes()),
            Err(ReportError::TooManyFields { max_fields })
        );
    }

    #[test]
    fn comments_are_taken_out_also_nested_and_unbalanced_ones() {
        assert_eq!(without_comments("processed (by (us)) "), "processed");
        assert_eq!(without_comments("a) b (c"), "a b");
    }
}
