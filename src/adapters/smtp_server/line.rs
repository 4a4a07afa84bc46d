//! Cuts what a peer sends into command lines, bounded however it comes (RX-5).

/// Longest command line with its line end, extensions included (RFC 5321 §4.5.3.1.4, RFC 3461 §4).
pub(super) const MAX_COMMAND_BYTES: usize = 2048;

/// One command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its CRLF.
    Whole(Vec<u8>),
    /// It was longer than [`MAX_COMMAND_BYTES`], and is gone.
    TooLong,
    /// It ended in an LF without CR, or had a CR inside: what another server would read there is not known.
    BadEnd,
}

/// Collects the line that is coming.
#[derive(Default)]
pub(super) struct LineReader {
    line: Vec<u8>,
    is_too_long: bool,
}

impl LineReader {
    /// Takes from `input` up to the end of the line that is coming: how many octets, and the line if that was all of
    /// it.
    pub(super) fn read(&mut self, input: &[u8]) -> (usize, Option<Line>) {
        let end = memchr::memchr(b'\n', input);
        let length = end.map_or(input.len(), |end| end + 1);
        let piece = input.get(..length).unwrap_or_default();
        if self.line.len() + piece.len() > MAX_COMMAND_BYTES {
            self.is_too_long = true;
            self.line.clear();
        }
        if !self.is_too_long {
            self.line.extend_from_slice(piece);
        }
        (length, end.map(|_| self.finish()))
    }

    fn finish(&mut self) -> Line {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_too_long) {
            return Line::TooLong;
        }
        if !line.ends_with(b"\r\n") {
            return Line::BadEnd;
        }
        line.truncate(line.len().saturating_sub(2));
        if line.contains(&b'\r') {
            return Line::BadEnd;
        }
        Line::Whole(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Line> {
        let mut reader = LineReader::default();
        let mut lines = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (used, line) = reader.read(rest);
                rest = &rest[used..];
                lines.extend(line);
            }
        }
        lines
    }

    // rule: RX-45
    #[test]
    fn lines_come_in_order_wherever_they_are_cut() {
        let sent = b"NOOP\r\n\r\nQUIT\r\nEH";
        for cut in 0..=sent.len() {
            let (first, second) = sent.split_at(cut);
            let expected = ["NOOP", "", "QUIT"].map(|line| Line::Whole(line.into()));
            assert_eq!(lines(&[first, second]), expected, "cut at {cut}");
        }
    }

    // rule: RX-5
    #[test]
    fn a_line_that_is_too_long_is_dropped_to_its_end_and_the_next_one_read() {
        let longest = [&vec![b'x'; MAX_COMMAND_BYTES - 2][..], b"\r\n"].concat();
        let longer = [b"y", &longest[..]].concat();
        let pieces: Vec<&[u8]> = longer.chunks(700).collect();
        assert_eq!(lines(&pieces), [Line::TooLong]);
        let both = [&longer[..], &longest, b"NOOP\r\n"].concat();
        assert_eq!(
            lines(&[&both]),
            [
                Line::TooLong,
                Line::Whole(longest[..MAX_COMMAND_BYTES - 2].to_vec()),
                Line::Whole(b"NOOP".to_vec()),
            ]
        );
    }

    // rule: RX-42
    #[test]
    fn only_crlf_ends_a_command() {
        assert_eq!(
            lines(&[b"NOOP\nRSET\r\n"]),
            [Line::BadEnd, Line::Whole(b"RSET".to_vec())]
        );
        assert_eq!(lines(&[b"NO\rOP\r\n"]), [Line::BadEnd]);
        assert_eq!(lines(&[b"NOOP\r\r\n"]), [Line::BadEnd]);
    }
}
