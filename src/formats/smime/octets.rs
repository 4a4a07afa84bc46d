//! The octets of a CMS that is read in one pass and never held whole.

use std::{cmp::Ordering, io::BufRead};

use super::{
    ber::{self, LengthForm, MAX_DEPTH, TAG_OCTETS, malformed},
    entity::bad_base64,
    open::OpenError,
};
use crate::formats::mime::read::{Base64Lines, DecodeError};

/// Most octets that are kept of one CMS: 64 RecipientInfos with long names and wrapped keys take a third.
const MAX_FRONT_BYTES: usize = 1024 * 1024;

/// What the tag of a constructed element has more.
const CONSTRUCTED: u8 = 0x20;

/// What the members of an element are, and how many are taken; `None`: any number.
pub(super) type Most = Option<(&'static str, usize)>;

/// An element that was begun and not yet ended: where its content ends, or that a mark ends it.
pub(super) enum Level {
    Until(u64),
    Marked,
}

/// The octets of a CMS, its transfer encoding taken away block by block, read element by element.
pub(super) struct Octets<R> {
    source: R,
    /// `None` where the body is as it is.
    base64: Option<Base64Lines>,
    is_at_end: bool,
    block: Vec<u8>,
    at: usize,
    /// Octets that were read.
    position: u64,
}

impl<R: BufRead> Octets<R> {
    pub(super) fn new(source: R, base64: Option<Base64Lines>) -> Self {
        Self {
            source,
            base64,
            is_at_end: false,
            block: Vec::new(),
            at: 0,
            position: 0,
        }
    }

    /// What is decoded and not yet read; empty at the end alone.
    fn ready(&mut self) -> Result<&[u8], OpenError> {
        while self.at == self.block.len() && !self.is_at_end {
            self.block.clear();
            self.at = 0;
            let block = &mut self.block;
            let mut out = |octets: &[u8]| {
                block.extend_from_slice(octets);
                Ok(())
            };
            let text = self.source.fill_buf()?;
            let length = text.len();
            self.is_at_end = length == 0;
            match &mut self.base64 {
                Some(base64) if length == 0 => base64.finish(&mut out),
                Some(base64) => base64.feed(text, &mut out),
                None => out(text).map_err(DecodeError::Io),
            }
            .map_err(|_| bad_base64())?;
            self.source.consume(length);
        }
        Ok(self.block.get(self.at..).unwrap_or_default())
    }

    /// Nothing may follow the CMS.
    pub(super) fn expect_end(&mut self) -> Result<(), OpenError> {
        match self.next()? {
            None => Ok(()),
            Some(_) => Err(malformed("octets follow the CMS")),
        }
    }

    fn next(&mut self) -> Result<Option<u8>, OpenError> {
        let next = self.ready()?.first().copied();
        self.at += usize::from(next.is_some());
        self.position += u64::from(next.is_some());
        Ok(next)
    }

    /// Passes `length` octets over, or adds them to `kept`.
    fn pass(&mut self, length: u64, kept: Option<&mut Vec<u8>>) -> Result<(), OpenError> {
        match kept {
            Some(kept) => self.take(length, &mut |run| keep(kept, run)),
            None => self.take(length, &mut |_| Ok(())),
        }
    }

    /// Hands `length` octets to `out`, as they become ready.
    fn take(
        &mut self,
        length: u64,
        out: &mut dyn FnMut(&[u8]) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let mut left = length;
        while left > 0 {
            let ready = self.ready()?;
            if ready.is_empty() {
                return Err(ber::truncated());
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let run = ready.get(..most).unwrap_or(ready);
            out(run)?;
            let length = run.len();
            self.at += length;
            self.position += length as u64;
            left -= length as u64;
        }
        Ok(())
    }

    /// Hands the octets of an octet string to `out`, whose parts may be nested (X.690 §8.7). `tag` is that of the
    /// primitive form; its head was read.
    pub(super) fn pour(
        &mut self,
        (found, length): (u8, Option<u64>),
        tag: u8,
        depth: usize,
        out: &mut dyn FnMut(&[u8]) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        if depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        match length {
            Some(length) if found == tag => return self.take(length, out),
            _ if found == tag | CONSTRUCTED => {}
            _ => return Err(ber::missing()),
        }
        let level = self.level(length);
        while let Some(part) = self.member(&level, None)? {
            self.pour(part, TAG_OCTETS, depth + 1, out)?;
        }
        Ok(())
    }

    /// Reads a tag and a length, `None` for one that a mark ends. Both go to `kept`.
    pub(super) fn head(
        &mut self,
        mut kept: Option<&mut Vec<u8>>,
    ) -> Result<(u8, Option<u64>), OpenError> {
        let mut octet = |octets: &mut Self| -> Result<u8, OpenError> {
            let octet = octets.next()?.ok_or_else(ber::truncated)?;
            if let Some(kept) = &mut kept {
                keep(kept, &[octet])?;
            }
            Ok(octet)
        };
        let (tag, first) = (octet(self)?, octet(self)?);
        let length = match ber::length_form(tag, first)? {
            LengthForm::Marked => None,
            LengthForm::Short(length) => Some(length),
            LengthForm::Long(octets) => {
                let mut length = 0;
                for _ in 0..octets {
                    length = length << 8 | u64::from(octet(self)?);
                }
                Some(length)
            }
        };
        Ok((tag, length))
    }

    /// Begins an element of this tag.
    pub(super) fn begin(&mut self, tag: u8) -> Result<Level, OpenError> {
        let (found, length) = self.head(None)?;
        if found != tag {
            return Err(ber::missing());
        }
        Ok(self.level(length))
    }

    fn level(&self, length: Option<u64>) -> Level {
        match length {
            Some(length) => Level::Until(self.position.saturating_add(length)),
            None => Level::Marked,
        }
    }

    /// Adds what is left of an element, which `depth` others are around, to `kept`, or passes over it. More members than
    /// `most` says are refused.
    pub(super) fn end(
        &mut self,
        level: &Level,
        depth: usize,
        most: Most,
        mut kept: Option<&mut Vec<u8>>,
    ) -> Result<(), OpenError> {
        if depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        let mut members = 0;
        while let Some((_, length)) = self.member(level, kept.as_deref_mut())? {
            members += 1;
            if let Some((what, limit)) = most
                && members > limit
            {
                return Err(ber::over(what, limit));
            }
            match length {
                Some(length) => self.pass(length, kept.as_deref_mut())?,
                None => {
                    let kept = kept.as_deref_mut();
                    self.end(&Level::Marked, depth + 1, None, kept)?;
                }
            }
        }
        Ok(())
    }

    /// The tag and the length of the next member of an element; `None` at its end. What was read goes to `kept`, the
    /// mark that ends an element too.
    pub(super) fn member(
        &mut self,
        level: &Level,
        kept: Option<&mut Vec<u8>>,
    ) -> Result<Option<(u8, Option<u64>)>, OpenError> {
        if let Level::Until(end) = level {
            match self.position.cmp(end) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(None),
                Ordering::Greater => return Err(ber::truncated()),
            }
        }
        let head = self.head(kept)?;
        let is_mark = matches!(level, Level::Marked) && head == (0, Some(0));
        Ok((!is_mark).then_some(head))
    }

    /// Adds a whole element to `kept`; gives its tag.
    pub(super) fn keep_any(&mut self, kept: &mut Vec<u8>) -> Result<u8, OpenError> {
        let (tag, length) = self.head(Some(kept))?;
        match length {
            Some(length) => self.pass(length, Some(kept))?,
            None => self.keep_content(None, None, kept)?,
        }
        Ok(tag)
    }

    /// Adds the content of an element to `kept`, member by member.
    pub(super) fn keep_content(
        &mut self,
        length: Option<u64>,
        most: Most,
        kept: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let level = self.level(length);
        self.end(&level, 0, most, Some(kept))
    }

    /// Adds the members that are left of an element to `kept`, none of them with more members than `most` says.
    pub(super) fn keep_members(
        &mut self,
        level: &Level,
        most: Most,
        kept: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        while let Some((tag, length)) = self.member(level, Some(kept))? {
            match length {
                Some(length) if tag & CONSTRUCTED == 0 => self.pass(length, Some(kept))?,
                _ => self.keep_content(length, most, kept)?,
            }
        }
        if let Level::Marked = level {
            // The mark that ends them is none of them.
            kept.truncate(kept.len().saturating_sub(2));
        }
        Ok(())
    }

    /// Adds a whole element, which must have this tag, to `kept`.
    pub(super) fn keep(&mut self, tag: u8, kept: &mut Vec<u8>) -> Result<(), OpenError> {
        if self.keep_any(kept)? == tag {
            Ok(())
        } else {
            Err(ber::missing())
        }
    }
}

fn too_deep() -> OpenError {
    malformed("elements are nested too deeply")
}

fn keep(kept: &mut Vec<u8>, octets: &[u8]) -> Result<(), OpenError> {
    if kept.len() + octets.len() > MAX_FRONT_BYTES {
        return Err(OpenError::TooMany {
            what: "octets around the encrypted content",
            limit: MAX_FRONT_BYTES,
        });
    }
    kept.extend_from_slice(octets);
    Ok(())
}
