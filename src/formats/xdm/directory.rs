//! The structure of a zip, checked before anything is inflated (threats.md T-8, XDM-62 to XDM-64).
//!
//! The `zip` crate forgives much: it looks for older end records, keeps the last of two entries with one name, and
//! does not compare local headers with the central directory. What one reader forgives another reads differently, so
//! this module first reads the directory strictly, and then takes the crate's reading only where it is the same.

use std::io::{self, Read, Seek, SeekFrom};

use zip::{
    ZipArchive,
    read::{ArchiveOffset, Config},
};

use super::error::XdmError;
use crate::formats::limits::Limits;

pub(super) const END_SIGNATURE: &[u8; 4] = b"PK\x05\x06";
const ZIP64_LOCATOR_SIGNATURE: &[u8; 4] = b"PK\x06\x07";
const ZIP64_END_SIGNATURE: &[u8] = b"PK\x06\x06";
pub(super) const CENTRAL_SIGNATURE: &[u8; 4] = b"PK\x01\x02";
pub(super) const LOCAL_SIGNATURE: &[u8; 4] = b"PK\x03\x04";
pub(super) const END_BYTES: u64 = 22;
const ZIP64_LOCATOR_BYTES: u64 = 20;
/// Octets of the ZIP64 end record up to the number of all entries (APPNOTE 4.3.14).
const ZIP64_END_BYTES: u64 = 40;
const LOCAL_BYTES: usize = 30;
/// Room for one entry's names and extra fields in the central directory; real ones take some hundred octets.
const MAX_CENTRAL_BYTES_EACH: u64 = 4 * 1024;
/// Inflation is judged by its ratio beyond this size (LIM-12).
const RATIO_JUDGED_BEYOND_BYTES: u64 = 1024 * 1024;
/// Octets read at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// General purpose flags (APPNOTE 4.4.4): encrypted, strong encryption, masked headers.
const ENCRYPTION_FLAGS: u16 = 1 | 1 << 6 | 1 << 13;
/// Sizes follow the data.
const DESCRIPTOR_FLAG: u16 = 1 << 3;
const METHOD_STORED: u16 = 0;
const METHOD_DEFLATED: u16 = 8;
/// WinZip AES marks its members by the method.
const METHOD_AES: u16 = 99;
const MODE_TYPE_MASK: u32 = 0o170_000;
const MODE_SYMLINK: u32 = 0o120_000;
const ZIP64_EXTRA_ID: u16 = 1;

/// One entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its place in the central directory, from 0.
    pub index: u32,
    /// Its name as written.
    pub name: String,
    /// Its length in the archive.
    pub compressed_bytes: u64,
    /// Its length as the directory claims.
    pub claimed_bytes: u64,
    method: u16,
}

/// An archive whose structure was found sound.
pub struct Directory<R> {
    archive: ZipArchive<R>,
    members: Vec<Member>,
}

/// How much was inflated already, for the limit on all members together (LIM-11).
#[derive(Debug, Default)]
pub struct Inflated {
    total_bytes: u64,
}

/// The central directory's word on one entry.
struct CentralEntry {
    raw_name: Vec<u8>,
    flags: u16,
    method: u16,
    crc32: u32,
    compressed_bytes: u64,
    claimed_bytes: u64,
    external_attributes: u32,
    header_start: u64,
}

struct EndRecord {
    entries: u64,
    central_start: u64,
    central_bytes: u64,
}

impl<R: Read + Seek> Directory<R> {
    /// Checks the whole structure. Nothing is inflated yet.
    pub fn open(mut zip: R, limits: &Limits) -> Result<Self, XdmError> {
        let max_entries = limits.max_zip_entries as u64;
        let end = read_end_record(&mut zip, max_entries)?;
        let central = read_central_directory(&mut zip, &end)?;
        let mut ranges = Vec::with_capacity(central.len());
        for (index, entry) in (0..).zip(&central) {
            check_kind(index, entry)?;
            ranges.push((index, check_local_header(&mut zip, index, entry)?));
        }
        check_ranges(ranges, end.central_start)?;
        Self::agree(zip, central)
    }

    /// Opens the archive with the crate and holds its reading against ours.
    fn agree(zip: R, central: Vec<CentralEntry>) -> Result<Self, XdmError> {
        const OTHER_READING: XdmError = XdmError::NotZip {
            what: "its directory must be readable in one way only",
        };
        let config = Config {
            archive_offset: ArchiveOffset::Known(0),
        };
        let archive = ZipArchive::with_config(config, zip).map_err(|_| XdmError::NotZip {
            what: "its central directory must be whole",
        })?;
        if archive.len() != central.len() {
            // The crate keeps one of two entries with the same name.
            return Err(OTHER_READING);
        }
        let mut members = Vec::with_capacity(central.len());
        for (index, entry) in (0u32..).zip(central) {
            let theirs = archive
                .by_index_data(index as usize)
                .map_err(|_| OTHER_READING)?;
            let is_same = theirs.name_raw() == entry.raw_name
                && theirs.header_start() == entry.header_start
                && theirs.compressed_size() == entry.compressed_bytes
                && theirs.size() == entry.claimed_bytes
                && theirs.crc32() == entry.crc32
                && !theirs.is_symlink();
            if !is_same {
                return Err(OTHER_READING);
            }
            let name = theirs.name().map_err(|_| XdmError::Refused {
                rule: "XDM-60",
                entry: index,
                what: "its name must be in the character set that it claims",
            })?;
            members.push(Member {
                index,
                name: name.into_owned(),
                compressed_bytes: entry.compressed_bytes,
                claimed_bytes: entry.claimed_bytes,
                method: entry.method,
            });
        }
        Ok(Self { archive, members })
    }

    /// All entries, in the order of the central directory.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Inflates one member into `take`, counting every octet: `max_bytes` bounds this member under the limit named
    /// `rule`. Gives its length.
    pub fn read(
        &mut self,
        index: u32,
        (rule, max_bytes): (&'static str, u64),
        limits: &Limits,
        inflated: &mut Inflated,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64, XdmError> {
        let fault = |rule, what| XdmError::Member {
            rule,
            entry: index,
            what,
        };
        let too_large = |rule, what, max| XdmError::TooLarge { rule, what, max };
        let member = self
            .members
            .get(index as usize)
            .ok_or_else(|| fault("XDM-43", "there is no such entry; there must be one"))?;
        if member.method != METHOD_STORED && member.method != METHOD_DEFLATED {
            return Err(fault("XDM-47", "its method must be Store or Deflate"));
        }
        let max_by_ratio = member
            .compressed_bytes
            .saturating_mul(limits.max_zip_ratio)
            .max(RATIO_JUDGED_BEYOND_BYTES);
        let claimed_bytes = member.claimed_bytes;
        let damaged = || {
            fault(
                "XDM-40",
                "its data is damaged; it must inflate to the octets of its checksum",
            )
        };
        let mut file = self
            .archive
            .by_index(index as usize)
            .map_err(|_| damaged())?;
        let mut block = vec![0; BLOCK_BYTES];
        let mut bytes = 0u64;
        loop {
            let count = match file.read(&mut block) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(damaged()),
            };
            bytes += count as u64;
            inflated.total_bytes = inflated.total_bytes.saturating_add(count as u64);
            if bytes > max_bytes {
                return Err(too_large(
                    rule,
                    "a zip member has too many octets",
                    max_bytes,
                ));
            }
            if inflated.total_bytes > limits.max_zip_total_bytes {
                return Err(too_large(
                    "LIM-11",
                    "the zip members together have too many octets",
                    limits.max_zip_total_bytes,
                ));
            }
            if bytes > max_by_ratio {
                return Err(too_large(
                    "LIM-12",
                    "a zip member inflates too much for its compressed octets",
                    limits.max_zip_ratio,
                ));
            }
            take(block.get(..count).unwrap_or_default())?;
        }
        if bytes != claimed_bytes {
            return Err(fault(
                "XDM-62",
                "its length must be what the directory says",
            ));
        }
        Ok(bytes)
    }
}

/// The last end record, which must end with the file and count no more than `max_entries`.
fn read_end_record<R: Read + Seek>(zip: &mut R, max_entries: u64) -> Result<EndRecord, XdmError> {
    let no = |what| XdmError::NotZip { what };
    let too_many = XdmError::TooLarge {
        rule: "LIM-10",
        what: "the zip has too many entries",
        max: max_entries,
    };
    let length = zip.seek(SeekFrom::End(0))?;
    let tail_bytes = length.min(END_BYTES + ZIP64_LOCATOR_BYTES + u64::from(u16::MAX));
    let tail_start = length - tail_bytes;
    zip.seek(SeekFrom::Start(tail_start))?;
    let mut tail = Vec::new();
    zip.by_ref().take(tail_bytes).read_to_end(&mut tail)?;
    // The last signature counts, as for the crate; one inside a comment leaves the record before it unread.
    let at = tail
        .windows(4)
        .rposition(|window| window == END_SIGNATURE)
        .ok_or_else(|| no("it must have an end record"))?;
    let cut = || no("its end record must be whole");
    let mut fields = Fields(tail.get(at + 4..).unwrap_or_default());
    let this_disk = fields.u16().ok_or_else(cut)?;
    let central_disk = fields.u16().ok_or_else(cut)?;
    let entries_here = fields.u16().ok_or_else(cut)?;
    let entries = fields.u16().ok_or_else(cut)?;
    let central_bytes = fields.u32().ok_or_else(cut)?;
    let central_start = fields.u32().ok_or_else(cut)?;
    let comment_bytes = fields.u16().ok_or_else(cut)?;
    if fields.0.len() != usize::from(comment_bytes) {
        return Err(no("nothing may follow its end record: it must be the last"));
    }
    let locator = at
        .checked_sub(ZIP64_LOCATOR_BYTES as usize)
        .and_then(|locator| tail.get(locator..at)?.strip_prefix(ZIP64_LOCATOR_SIGNATURE));
    let is_zip64 = entries == u16::MAX
        || central_bytes == u32::MAX
        || central_start == u32::MAX
        || locator.is_some();
    if is_zip64 {
        // More entries than an end record can count are the one good reason for it.
        let entries = locator.map(|locator| zip64_entries(zip, locator, length));
        return Err(match entries.transpose()?.flatten() {
            Some(entries) if entries > max_entries => too_many,
            _ => no("ZIP64 is not taken: no archive within the limits needs it"),
        });
    }
    if u64::from(entries) > max_entries {
        return Err(too_many);
    }
    if this_disk != 0 || central_disk != 0 || entries_here != entries {
        return Err(no("it must be on one disk"));
    }
    let end_start = tail_start + at as u64;
    let (central_start, central_bytes) = (u64::from(central_start), u64::from(central_bytes));
    if central_start + central_bytes != end_start {
        return Err(no("its central directory must end at its end record"));
    }
    Ok(EndRecord {
        entries: u64::from(entries),
        central_start,
        central_bytes,
    })
}

/// How many entries the ZIP64 end record counts that this locator, without its signature, points to.
fn zip64_entries<R: Read + Seek>(
    zip: &mut R,
    locator: &[u8],
    length: u64,
) -> io::Result<Option<u64>> {
    let mut fields = Fields(locator);
    let start = fields.take(4).and_then(|_disk| fields.u64());
    let is_inside = |start: &u64| {
        start
            .checked_add(ZIP64_END_BYTES)
            .is_some_and(|end| end <= length)
    };
    let Some(start) = start.filter(is_inside) else {
        return Ok(None);
    };
    zip.seek(SeekFrom::Start(start))?;
    let mut record = Vec::new();
    zip.by_ref()
        .take(ZIP64_END_BYTES)
        .read_to_end(&mut record)?;
    let mut fields = Fields(&record);
    if fields.take(4) != Some(ZIP64_END_SIGNATURE) {
        return Ok(None);
    }
    // Its size, versions, disks, and the entries of this disk.
    Ok(fields.take(28).and_then(|_| fields.u64()))
}

fn read_central_directory<R: Read + Seek>(
    zip: &mut R,
    end: &EndRecord,
) -> Result<Vec<CentralEntry>, XdmError> {
    let max = end.entries.saturating_mul(MAX_CENTRAL_BYTES_EACH);
    if end.central_bytes > max {
        return Err(XdmError::TooLarge {
            rule: "LIM-10",
            what: "the central directory of the zip has too many octets",
            max,
        });
    }
    zip.seek(SeekFrom::Start(end.central_start))?;
    let mut octets = Vec::new();
    zip.by_ref()
        .take(end.central_bytes)
        .read_to_end(&mut octets)?;
    let mut fields = Fields(&octets);
    let mut entries = Vec::new();
    for _ in 0..end.entries {
        entries.push(read_central_entry(&mut fields).ok_or(XdmError::NotZip {
            what: "its central directory must be whole",
        })?);
    }
    if !fields.0.is_empty() {
        return Err(XdmError::NotZip {
            what: "its central directory must hold just the entries that it counts",
        });
    }
    Ok(entries)
}

fn read_central_entry(fields: &mut Fields<'_>) -> Option<CentralEntry> {
    if fields.take(4)? != CENTRAL_SIGNATURE {
        return None;
    }
    fields.take(4)?; // Versions.
    let flags = fields.u16()?;
    let method = fields.u16()?;
    fields.take(4)?; // Time.
    let crc32 = fields.u32()?;
    let compressed_bytes = u64::from(fields.u32()?);
    let claimed_bytes = u64::from(fields.u32()?);
    let name_bytes = usize::from(fields.u16()?);
    let extra_bytes = usize::from(fields.u16()?);
    let comment_bytes = usize::from(fields.u16()?);
    fields.take(4)?; // Disk and internal attributes.
    let external_attributes = fields.u32()?;
    let header_start = u64::from(fields.u32()?);
    let raw_name = fields.take(name_bytes)?.to_vec();
    fields.take(extra_bytes)?;
    fields.take(comment_bytes)?;
    Some(CentralEntry {
        raw_name,
        flags,
        method,
        crc32,
        compressed_bytes,
        claimed_bytes,
        external_attributes,
        header_start,
    })
}

fn check_kind(index: u32, entry: &CentralEntry) -> Result<(), XdmError> {
    let refuse = |rule, what| {
        Err(XdmError::Refused {
            rule,
            entry: index,
            what,
        })
    };
    if entry.flags & ENCRYPTION_FLAGS != 0 || entry.method == METHOD_AES {
        return refuse("XDM-64", "it must not be encrypted");
    }
    if (entry.external_attributes >> 16) & MODE_TYPE_MASK == MODE_SYMLINK {
        return refuse("XDM-64", "it must be a file, and is a symbolic link");
    }
    let saturated = u64::from(u32::MAX);
    if entry.compressed_bytes == saturated
        || entry.claimed_bytes == saturated
        || entry.header_start == saturated
    {
        return refuse(
            "XDM-47",
            "it must not be a ZIP64 entry, which no archive within the limits needs",
        );
    }
    Ok(())
}

/// Holds the local header against the central directory (XDM-63). Gives where header and data lie.
fn check_local_header<R: Read + Seek>(
    zip: &mut R,
    index: u32,
    entry: &CentralEntry,
) -> Result<(u64, u64), XdmError> {
    let refuse = |what| XdmError::Refused {
        rule: "XDM-63",
        entry: index,
        what,
    };
    let cut = || refuse("its local header must be whole");
    zip.seek(SeekFrom::Start(entry.header_start))?;
    let mut header = [0; LOCAL_BYTES];
    match zip.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(cut()),
        Err(error) => return Err(error.into()),
    }
    let mut fields = Fields(&header);
    if fields.take(4).ok_or_else(cut)? != LOCAL_SIGNATURE {
        return Err(refuse(
            "its local header must stand where the directory says",
        ));
    }
    fields.take(2).ok_or_else(cut)?; // Version.
    let flags = fields.u16().ok_or_else(cut)?;
    let method = fields.u16().ok_or_else(cut)?;
    fields.take(4).ok_or_else(cut)?; // Time.
    let crc32 = fields.u32().ok_or_else(cut)?;
    let compressed_bytes = fields.u32().ok_or_else(cut)?;
    let claimed_bytes = fields.u32().ok_or_else(cut)?;
    let name_bytes = fields.u16().ok_or_else(cut)?;
    let extra_bytes = fields.u16().ok_or_else(cut)?;

    let mut rest = Vec::new();
    let rest_bytes = u64::from(name_bytes) + u64::from(extra_bytes);
    zip.by_ref().take(rest_bytes).read_to_end(&mut rest)?;
    if rest.len() as u64 != rest_bytes {
        return Err(cut());
    }
    let (name, extra) = rest.split_at(usize::from(name_bytes).min(rest.len()));
    if name != entry.raw_name {
        return Err(refuse(
            "local header and central directory must give it one name",
        ));
    }
    if flags & ENCRYPTION_FLAGS != 0 {
        return Err(XdmError::Refused {
            rule: "XDM-64",
            entry: index,
            what: "it must not be encrypted",
        });
    }
    if method != entry.method || (flags ^ entry.flags) & DESCRIPTOR_FLAG != 0 {
        return Err(refuse(
            "local header and central directory must agree on method and flags",
        ));
    }
    // Where the sizes follow the data, the local header may leave them at 0.
    let may_be_zero = flags & DESCRIPTOR_FLAG != 0;
    let (claimed_bytes, compressed_bytes) =
        local_sizes(claimed_bytes, compressed_bytes, extra).ok_or_else(cut)?;
    let fits = |local: u64, central: u64| local == central || (may_be_zero && local == 0);
    if !fits(u64::from(crc32), u64::from(entry.crc32))
        || !fits(compressed_bytes, entry.compressed_bytes)
        || !fits(claimed_bytes, entry.claimed_bytes)
    {
        return Err(refuse(
            "local header and central directory differ in size or checksum",
        ));
    }
    let data_start = entry.header_start + LOCAL_BYTES as u64 + rest_bytes;
    Ok((entry.header_start, data_start + entry.compressed_bytes))
}

/// Sizes in a local header: writers that cannot seek put them into a ZIP64 extra field, needed or not.
fn local_sizes(claimed: u32, compressed: u32, extra: &[u8]) -> Option<(u64, u64)> {
    if claimed != u32::MAX && compressed != u32::MAX {
        return Some((u64::from(claimed), u64::from(compressed)));
    }
    let mut fields = Fields(extra);
    loop {
        let id = fields.u16()?;
        let length = fields.u16()?;
        let mut body = Fields(fields.take(usize::from(length))?);
        if id == ZIP64_EXTRA_ID {
            let claimed = if claimed == u32::MAX {
                body.u64()?
            } else {
                u64::from(claimed)
            };
            let compressed = if compressed == u32::MAX {
                body.u64()?
            } else {
                u64::from(compressed)
            };
            return Some((claimed, compressed));
        }
    }
}

/// No octet belongs to two entries, nor to an entry and the directory (XDM-63).
fn check_ranges(mut ranges: Vec<(u32, (u64, u64))>, central_start: u64) -> Result<(), XdmError> {
    ranges.sort_by_key(|(_, range)| *range);
    let mut free_from = 0;
    for (index, (start, end)) in ranges {
        if start < free_from || end > central_start {
            return Err(XdmError::Refused {
                rule: "XDM-63",
                entry: index,
                what: "it must not overlap another entry or the central directory",
            });
        }
        free_from = end;
    }
    Ok(())
}

/// Little-endian fields, taken one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}
