//! Reads the data of a mail: finds its end, takes the stuffed dots out, and sees what no mail may hold. Only
//! CRLF "." CRLF ends it; a CR or LF by itself never does, nor does it begin a line (RX-41 to RX-43).

use memchr::{memchr, memchr2, memchr3};

/// Reads one mail's data, in pieces of any size.
pub(super) struct DataReader {
    state: State,
    line_bytes: usize,
    max_line_bytes: usize,
    size: u64,
    fault: Option<DataFault>,
}

/// Where in a line the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// After CRLF, or before the first octet.
    LineStart,
    /// A dot begins the line.
    Dot,
    /// A dot, and a CR after it.
    DotCr,
    Text,
    /// A CR that is not yet known to be half of CRLF.
    Cr,
}

/// What no mail may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataFault {
    /// A CR without LF, or an LF without CR: another server might take what follows for commands (RX-42).
    BareLineEnd,
    /// NUL (RX-46).
    Nul,
    /// A line beyond the limit (RX-5).
    LongLine,
}

impl DataReader {
    /// A reader at the beginning of a mail. `max_line_bytes` counts the line end, but no stuffed dot.
    pub(super) fn new(max_line_bytes: usize) -> Self {
        Self {
            state: State::LineStart,
            line_bytes: 0,
            max_line_bytes,
            size: 0,
            fault: None,
        }
    }

    /// Reads `input` and adds the mail's octets to `out`. `Some` when the mail has ended: so many octets of `input`
    /// belonged to it. After a fault it goes on to the true end and adds nothing more.
    pub(super) fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut at = 0;
        while let Some(octet) = input.get(at) {
            if self.state == State::LineStart
                && let Some(line) = plain_line(input.get(at..).unwrap_or_default())
            {
                self.put(line, out);
                self.line_bytes = 0;
                at += line.len();
                continue;
            }
            match (self.state, octet) {
                (State::DotCr, b'\n') => return Some(at + 1),
                (State::Cr, b'\n') => {
                    self.put(b"\r\n", out);
                    self.line_bytes = 0;
                    self.state = State::LineStart;
                    at += 1;
                }
                // The octet is looked at once more: it may be a CR itself.
                (State::Cr | State::DotCr, _) => self.find_fault(DataFault::BareLineEnd),
                (State::Dot, b'\r') => {
                    self.state = State::DotCr;
                    at += 1;
                }
                (State::LineStart | State::Text, b'\r') => {
                    self.state = State::Cr;
                    at += 1;
                }
                (State::LineStart, b'.') => {
                    self.state = State::Dot;
                    at += 1;
                }
                (_, b'\n') => {
                    self.find_fault(DataFault::BareLineEnd);
                    at += 1;
                }
                (_, 0) => {
                    self.find_fault(DataFault::Nul);
                    at += 1;
                }
                _ => {
                    let rest = input.get(at..).unwrap_or_default();
                    let length = memchr3(b'\r', b'\n', 0, rest).unwrap_or(rest.len());
                    let run = rest.get(..length).unwrap_or_default();
                    self.state = State::Text;
                    self.put(run, out);
                    at += length;
                }
            }
        }
        None
    }

    /// The octets of the mail so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The first fault, if there is one.
    pub(super) fn fault(&self) -> Option<DataFault> {
        self.fault
    }

    fn put(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        self.line_bytes = self.line_bytes.saturating_add(octets.len());
        self.size = self.size.saturating_add(octets.len() as u64);
        if self.line_bytes > self.max_line_bytes {
            self.fault.get_or_insert(DataFault::LongLine);
        }
        if self.fault.is_none() {
            out.extend_from_slice(octets);
        }
    }

    fn find_fault(&mut self, fault: DataFault) {
        self.fault.get_or_insert(fault);
        // Not the start of a line: a dot after it is an octet like any other.
        self.state = State::Text;
    }
}

/// The first line of `input`, CRLF included, if it is whole and has nothing to be seen octet by octet: nearly all lines
/// of a mail are so.
fn plain_line(input: &[u8]) -> Option<&[u8]> {
    let end = memchr(b'\n', input)?;
    let text = input.get(..end)?.strip_suffix(b"\r")?;
    let is_plain = !text.starts_with(b".") && memchr2(b'\r', 0, text).is_none();
    is_plain.then(|| input.get(..=end)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Read {
        mail: Vec<u8>,
        rest: Vec<u8>,
        fault: Option<DataFault>,
    }

    /// Reads pieces; `None` when the mail has not ended.
    fn read(pieces: &[&[u8]]) -> Option<Read> {
        let mut reader = DataReader::new(1000);
        let mut mail = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            if let Some(used) = reader.read(piece, &mut mail) {
                let mut rest = piece[used..].to_vec();
                rest.extend(pieces[index + 1..].concat());
                let fault = reader.fault();
                return Some(Read { mail, rest, fault });
            }
        }
        None
    }

    // rule: RX-43
    #[test]
    fn dots_are_unstuffed_wherever_the_octets_are_cut() {
        let sent = b"..\r\n...a.\r\n.b\r\nc..\r\n\r\n..\r\n.\r\nQUIT\r\n";
        let mail = b".\r\n..a.\r\nb\r\nc..\r\n\r\n.\r\n";
        for cut in 0..=sent.len() {
            let (first, second) = sent.split_at(cut);
            let read = read(&[first, second]).unwrap();
            assert_eq!(read.mail, mail, "cut at {cut}");
            assert_eq!(read.rest, b"QUIT\r\n", "cut at {cut}");
            assert_eq!(read.fault, None);
        }
        let octets: Vec<&[u8]> = sent.chunks(1).collect();
        assert_eq!(read(&octets).unwrap().mail, mail);
    }

    // rule: RX-41
    #[test]
    fn an_empty_mail_ends_at_once() {
        let read = read(&[b".\r\nrest"]).unwrap();
        assert!(read.mail.is_empty() && read.fault.is_none());
        assert_eq!(read.rest, b"rest");
    }

    /// What some servers take for the end of a mail, and we do not.
    const FALSE_ENDS: [&[u8]; 13] = [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\r\r\n.\n",
        b"\n\n.\r\n",
        b"\r\n.\r\r\n",
        b"\n\r.\r\n",
        b"\r\n\0.\r\n",
        b"\n.\r",
        b"\r\n..\n",
    ];

    // rule: RX-41, RX-42, T-15
    #[test]
    fn no_other_end_ends_a_mail_and_each_makes_it_faulty_wherever_it_is_cut() {
        for end in FALSE_ENDS {
            let sent = [b"a", end, b"MAIL FROM:<x@evil.example>\r\n.\r\nQUIT"].concat();
            for cut in 0..=sent.len() {
                let (first, second) = sent.split_at(cut);
                let read = read(&[first, second]).unwrap();
                assert_eq!(read.rest, b"QUIT", "{end:?} cut at {cut}");
                assert!(read.fault.is_some(), "{end:?} cut at {cut}");
            }
        }
    }

    // rule: RX-46
    #[test]
    fn nul_is_a_fault() {
        let read = read(&[b"a\0b\r\n.\r\n"]).unwrap();
        assert_eq!(read.fault, Some(DataFault::Nul));
    }

    // rule: RX-5
    #[test]
    fn a_line_of_a_thousand_octets_is_taken_and_a_longer_one_is_not_split() {
        let line = |length: usize| [b"..", &vec![b'x'; length - 3][..], b"\r\n.\r\n"].concat();
        let longest = read(&[&line(1000)]).unwrap();
        assert_eq!(longest.fault, None, "the stuffed dot does not count");
        assert_eq!(longest.mail.len(), 1000);
        let longer = read(&[&line(1001)]).unwrap();
        assert_eq!(longer.fault, Some(DataFault::LongLine));
    }

    fn stuffed(mail: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        for line in mail.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                sent.push(b'.');
            }
            sent.extend_from_slice(line);
        }
        sent.extend_from_slice(b".\r\n");
        sent
    }

    proptest! {
        // rule: RX-43
        #[test]
        fn every_mail_arrives_octet_by_octet_however_it_is_cut(
            lines in prop::collection::vec("[.a\u{e9} -]{0,20}", 0..30),
            cuts in prop::collection::vec(0_usize..400, 0..8),
        ) {
            let mail: Vec<u8> = lines.iter().flat_map(|l| format!("{l}\r\n").into_bytes()).collect();
            let sent = stuffed(&mail);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(sent.len())).collect();
            cuts.sort_unstable();
            let ends = cuts.iter().copied().chain([sent.len()]);
            let starts = [0].into_iter().chain(cuts.iter().copied());
            let pieces: Vec<&[u8]> = starts.zip(ends).map(|(from, to)| &sent[from..to]).collect();
            let read = read(&pieces).unwrap();
            prop_assert_eq!(read.mail, mail);
            prop_assert_eq!(read.fault, None);
            prop_assert!(read.rest.is_empty());
        }

        // rule: RX-41, RX-42
        #[test]
        fn whatever_comes_is_cut_the_same_way_in_one_piece_and_octet_by_octet(
            sent in prop::collection::vec(prop::sample::select(b"\r\n.a\0".to_vec()), 0..60),
        ) {
            let octets: Vec<&[u8]> = sent.chunks(1).collect();
            let (whole, single) = (read(&[&sent]), read(&octets));
            prop_assert_eq!(whole.is_some(), single.is_some());
            let ends_at = memchr::memmem::find(&[b"\r\n", &sent[..]].concat(), b"\r\n.\r\n");
            prop_assert_eq!(whole.is_some(), ends_at.is_some());
            if let (Some(whole), Some(single)) = (whole, single) {
                prop_assert_eq!(whole.rest, single.rest);
                prop_assert_eq!(whole.fault, single.fault);
            }
        }
    }
}
