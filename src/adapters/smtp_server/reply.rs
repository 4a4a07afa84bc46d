//! What we answer: code, enhanced code and words, in the lines of RFC 5321 §4.2.1 and RFC 2034.

use std::borrow::Cow;

use crate::flows::ports::MailAnswer;

/// Longest line of a reply, with its line end (RX-7).
const MAX_LINE_BYTES: usize = 512;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// None on the greeting, the answers to EHLO and HELO, and 354 (RFC 2034 §3).
    pub(super) enhanced: Option<&'static str>,
    lines: Vec<Cow<'static, str>>,
}

impl Reply {
    pub(super) fn new(
        code: u16,
        enhanced: &'static str,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            enhanced: Some(enhanced),
            lines: vec![text.into()],
        }
    }

    /// One without an enhanced code, of as many lines as there are: at least one.
    pub(super) fn plain(code: u16, lines: Vec<Cow<'static, str>>) -> Self {
        Self {
            code,
            enhanced: None,
            lines,
        }
    }

    pub(super) fn is_refusal(&self) -> bool {
        self.code >= 400
    }

    /// As it goes on the wire.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (index, text) in self.lines.iter().enumerate() {
            let separator = if index == last { ' ' } else { '-' };
            let enhanced = self.enhanced.map(|code| format!("{code} "));
            let line = format!(
                "{}{separator}{}{text}",
                self.code,
                enhanced.unwrap_or_default()
            );
            let printable = line.bytes().map(|octet| match octet {
                b' '..=b'~' => octet,
                _ => b'?',
            });
            out.extend(printable.take(MAX_LINE_BYTES - 2));
            out.extend_from_slice(b"\r\n");
        }
    }

    /// For the audit: the last line, without its end.
    pub(super) fn summary(&self) -> String {
        let text = self.lines.last().map_or("", |text| text.as_ref());
        match self.enhanced {
            Some(enhanced) => format!("{} {enhanced} {text}", self.code),
            None => format!("{} {text}", self.code),
        }
    }

    /// The final reply to a mail. `None` when the flow's answer contradicts itself.
    pub(super) fn of(answer: &MailAnswer, id: &str) -> Option<Self> {
        let (wanted, code, enhanced, text) = match answer {
            MailAnswer::Accepted => {
                return Some(Self::new(250, "2.0.0", format!("Ok: queued as {id}")));
            }
            MailAnswer::Refused {
                code,
                enhanced,
                text,
            } => (5, *code, *enhanced, *text),
            MailAnswer::Deferred {
                code,
                enhanced,
                text,
            } => (4, *code, *enhanced, *text),
        };
        let is_sound =
            code / 100 == wanted && enhanced.starts_with(if wanted == 5 { "5." } else { "4." });
        is_sound.then(|| Self::new(code, enhanced, text))
    }
}

/// Our own trouble.
pub(super) fn unavailable() -> Reply {
    Reply::new(451, "4.3.0", "not possible now, try again later")
}

/// No room in the byte budget (LIM-17), or in the store (LIM-18 to LIM-20).
pub(super) fn no_room() -> Reply {
    Reply::new(452, "4.3.1", "no room for this mail now, try again later")
}

/// Over `limits.max_message_bytes` (LIM-1).
pub(super) fn too_large(max_bytes: u64) -> Reply {
    let text = format!("mail is larger than {max_bytes} octets");
    Reply::new(552, "5.3.4", text)
}

/// A command in the wrong place.
pub(super) fn out_of_order(text: &'static str) -> Reply {
    Reply::new(503, "5.5.1", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    // rule: RX-7
    #[test]
    fn all_lines_but_the_last_have_a_hyphen_and_none_is_too_long() {
        let reply = Reply::plain(
            250,
            vec!["mx".into(), "SIZE 1".into(), "x".repeat(900).into()],
        );
        let text = written(&reply);
        let lines: Vec<&str> = text.split_inclusive("\r\n").collect();
        assert_eq!(lines[..2], ["250-mx\r\n", "250-SIZE 1\r\n"]);
        assert!(lines[2].starts_with("250 xxx"));
        assert_eq!(lines[2].len(), 512);
    }

    // rule: RX-7
    #[test]
    fn nothing_in_a_text_can_begin_another_line() {
        let reply = Reply::new(550, "5.7.1", "a\r\n250 b\u{e9}");
        assert_eq!(written(&reply), "550 5.7.1 a??250 b??\r\n");
    }

    #[test]
    fn an_answer_whose_codes_contradict_it_is_no_reply() {
        let refused = |code, enhanced| MailAnswer::Refused {
            code,
            enhanced,
            text: "no",
        };
        assert_eq!(
            Reply::of(&refused(550, "5.7.1"), "1").map(|reply| reply.summary()),
            Some("550 5.7.1 no".to_owned())
        );
        assert_eq!(Reply::of(&refused(250, "2.0.0"), "1"), None);
        assert_eq!(Reply::of(&refused(550, "4.7.1"), "1"), None);
        assert_eq!(Reply::of(&refused(450, "4.7.1"), "1"), None);
        let accepted = Reply::of(&MailAnswer::Accepted, "7").unwrap();
        assert_eq!(written(&accepted), "250 2.0.0 Ok: queued as 7\r\n");
        for constant in [MailAnswer::NO_ROOM, MailAnswer::UNAVAILABLE] {
            assert!(Reply::of(&constant, "1").is_some());
        }
    }
}
