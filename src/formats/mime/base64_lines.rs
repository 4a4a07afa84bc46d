//! base64 in lines of 76 columns with CRLF (RFC 2045 §6.8), written as the octets come.

use std::io::{self, Write};

use base64_simd::{Out, STANDARD};

/// Octets that make one line of 76 characters.
const LINE_BYTES: usize = 57;
/// Characters of a full line.
const LINE_CHARS: usize = 76;
/// Lines that are encoded at once.
const BLOCK_LINES: usize = 256;

/// Encodes what is written to it and passes the text on. [`Base64Lines::finish`] writes the last, short line.
pub struct Base64Lines<W: Write> {
    out: W,
    pending: Vec<u8>,
    /// Room for the characters of a block: in one piece, since a call for each line costs more than cutting them.
    chars: Vec<u8>,
    text: Vec<u8>,
}

impl<W: Write> Base64Lines<W> {
    /// A writer that passes its text to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            pending: Vec::with_capacity(LINE_BYTES * BLOCK_LINES),
            chars: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Writes what is pending; every line ends with CRLF.
    pub fn finish(mut self) -> io::Result<W> {
        self.encode_pending()?;
        Ok(self.out)
    }

    fn encode_pending(&mut self) -> io::Result<()> {
        self.text.clear();
        let lines = self.pending.len().div_ceil(LINE_BYTES);
        self.text.reserve(lines * (LINE_CHARS + 2));
        self.chars.resize(lines * LINE_CHARS, 0);
        // A whole number of lines is a whole number of groups of three: padding comes at the very end alone.
        let chars = STANDARD.encode(&self.pending, Out::from_slice(&mut self.chars));
        for line in chars.chunks(LINE_CHARS) {
            self.text.extend_from_slice(line);
            self.text.extend_from_slice(b"\r\n");
        }
        self.pending.clear();
        self.out.write_all(&self.text)
    }
}

impl<W: Write> Write for Base64Lines<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let room = LINE_BYTES * BLOCK_LINES - self.pending.len();
        let taken = octets.len().min(room);
        self.pending.extend_from_slice(&octets[..taken]);
        if taken == room {
            self.encode_pending()?;
        }
        Ok(taken)
    }

    /// Passes on whole blocks only: a line is never cut short before the end.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The length in octets of the text that [`Base64Lines`] makes of `bytes` octets.
pub fn encoded_len(bytes: u64) -> u64 {
    let lines = bytes.div_ceil(LINE_BYTES as u64);
    bytes
        .div_ceil(3)
        .saturating_mul(4)
        .saturating_add(lines * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(octets: &[u8], cut: usize) -> String {
        let mut writer = Base64Lines::new(Vec::new());
        for piece in octets.chunks(cut) {
            writer.write_all(piece).unwrap();
        }
        String::from_utf8(writer.finish().unwrap()).unwrap()
    }

    #[test]
    fn lines_have_76_columns_and_the_cut_of_the_input_does_not_show() {
        let octets: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
        let text = encode(&octets, 20_000);
        assert_eq!(text, encode(&octets, 7));
        assert!(text.ends_with("\r\n"));
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert!(lines[..lines.len() - 1].iter().all(|line| line.len() == 76));
        assert_eq!(STANDARD.decode_to_vec(lines.concat()).unwrap(), octets);
        assert_eq!(text.len() as u64, encoded_len(octets.len() as u64));
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(encode(b"", 1), "");
    }
}
