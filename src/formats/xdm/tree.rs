//! The virtual tree of an archive: names become paths, broken habits of the field become Warnings (XDM-13), and the
//! submission set directories are found. Nothing is ever written to disk by these names (XDM-60).

use std::collections::{BTreeMap, HashMap};

use super::{
    directory::Member,
    error::XdmError,
    names::{EntryPath, INDEX_FILE, METADATA_FILE, README_FILE, XDM_DIRECTORY, parse_entry_name},
};
use crate::formats::{finding::Finding, limits::Limits};

/// One file of the archive.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) index: u32,
    pub(super) segments: Vec<String>,
    pub(super) bytes: u64,
}

/// One submission set directory.
#[derive(Clone, Debug)]
pub(super) struct SetDirectory {
    /// From the zip's root, in the spelling of its first file.
    pub(super) segments: Vec<String>,
    /// Its METADATA.XML, if it has one.
    pub(super) metadata: Option<File>,
}

/// All files, by path.
#[derive(Debug, Default)]
pub(super) struct Tree {
    by_path: HashMap<String, File>,
    /// From the path in lower case to the path.
    by_folded: HashMap<String, String>,
    pub(super) sets: Vec<SetDirectory>,
    pub(super) findings: Vec<Finding>,
}

/// How a path was found.
pub(super) enum Found<'t> {
    Exactly(&'t File),
    ByOtherCase(&'t File),
}

/// One entry, read as a path.
struct Entry {
    path: EntryPath,
    index: u32,
    bytes: u64,
}

impl Tree {
    /// Reads all names. Errors refuse the whole archive.
    pub(super) fn read(members: &[Member], limits: &Limits) -> Result<Self, XdmError> {
        let entries = read_paths(members, limits)?;
        let mut tree = Self::default();
        let mut odd = Oddities::default();

        let mut prefixes = HashMap::new();
        for entry in &entries {
            let mut prefix = String::new();
            for segment in entry
                .path
                .segments
                .split_last()
                .map_or(&[][..], |(_, above)| above)
            {
                if !prefix.is_empty() {
                    prefix.push('/');
                }
                prefix.push_str(segment);
                prefixes.insert(prefix.clone(), ());
            }
        }
        let mut listed = Vec::new();
        for entry in entries {
            odd.backslash |= entry.path.had_backslash;
            odd.dot |= entry.path.had_dot;
            let joined = entry.path.joined();
            // A zero-length entry that others lie below is a directory, slash or not.
            if entry.path.is_directory || (entry.bytes == 0 && prefixes.contains_key(&joined)) {
                odd.directory_without_slash |= !entry.path.is_directory;
                listed.push(entry.path.segments);
                continue;
            }
            if is_clutter(&entry.path.segments) {
                odd.clutter = true;
                continue;
            }
            tree.by_folded.insert(joined.to_lowercase(), joined.clone());
            tree.by_path.insert(
                joined,
                File {
                    index: entry.index,
                    segments: entry.path.segments,
                    bytes: entry.bytes,
                },
            );
        }
        tree.find_sets(&listed, &mut odd)?;
        odd.directory_missing = tree.sets.iter().any(|set| !listed.contains(&set.segments));
        tree.findings.extend(odd.into_findings());
        Ok(tree)
    }

    /// The file at a path; failing that, the one file whose path differs in case alone (XDM-25).
    pub(super) fn find(&self, segments: &[String]) -> Option<Found<'_>> {
        let path = segments.join("/");
        if let Some(file) = self.by_path.get(&path) {
            return Some(Found::Exactly(file));
        }
        // Two paths that differ in case alone were refused (XDM-63), so there is one at most.
        let other = self.by_folded.get(&path.to_lowercase())?;
        self.by_path.get(other).map(Found::ByOtherCase)
    }

    /// The files at any depth below `directory`, METADATA.XML left out, in the order of the archive.
    pub(super) fn files_below(&self, directory: &[String]) -> Vec<&File> {
        let mut files: Vec<&File> = self
            .by_path
            .values()
            .filter(|file| {
                file.segments.len() > directory.len()
                    && starts_with_folded(&file.segments, directory)
                    && !is_named(file.segments.last(), METADATA_FILE)
            })
            .collect();
        files.sort_by_key(|file| file.index);
        files
    }

    /// Finds the set directories, also those that hold nothing (XDM-44).
    fn find_sets(&mut self, listed: &[Vec<String>], odd: &mut Oddities) -> Result<(), XdmError> {
        let depth = self.xdm_depth().ok_or(XdmError::NotXdm)?;
        odd.wrapper = depth == 1;
        // By the folded path, so that a set keeps together whatever the case of its files.
        let mut sets: BTreeMap<String, SetDirectory> = BTreeMap::new();
        let mut files: Vec<&File> = self.by_path.values().collect();
        files.sort_by_key(|file| file.index);
        for file in files {
            let Some(segments) = file.segments.get(..depth + 2) else {
                continue;
            };
            if file.segments.len() < depth + 3 || !is_named(segments.get(depth), XDM_DIRECTORY) {
                continue;
            }
            let set = sets
                .entry(segments.join("/").to_lowercase())
                .or_insert_with(|| SetDirectory {
                    segments: segments.to_vec(),
                    metadata: None,
                });
            if file.segments.len() == depth + 3 && is_named(file.segments.last(), METADATA_FILE) {
                odd.case |= file
                    .segments
                    .last()
                    .is_some_and(|name| name != METADATA_FILE);
                odd.case |= segments
                    .get(depth)
                    .is_some_and(|name| name != XDM_DIRECTORY);
                set.metadata = Some(file.clone());
            }
        }
        for segments in listed {
            if segments.len() == depth + 2 && is_named(segments.get(depth), XDM_DIRECTORY) {
                sets.entry(segments.join("/").to_lowercase())
                    .or_insert_with(|| SetDirectory {
                        segments: segments.clone(),
                        metadata: None,
                    });
            }
        }
        self.sets = sets.into_values().collect();
        if !self.sets.iter().any(|set| set.metadata.is_some()) {
            return Err(XdmError::NotXdm);
        }
        odd.set_name = self.sets.iter().any(|set| {
            !set.segments.last().is_some_and(|name| {
                name.strip_prefix("SUBSET").is_some_and(|digits| {
                    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
                })
            })
        });
        for name in [INDEX_FILE, README_FILE] {
            let page = self.by_path.values().find(|file| {
                file.segments.len() == depth + 1 && is_named(file.segments.last(), name)
            });
            match page.and_then(|file| file.segments.last()) {
                None => self.findings.push(Finding::warning(
                    "XDM-32",
                    "zip",
                    format!("the medium has no {name}; it should have one"),
                )),
                Some(found) => odd.case |= found != name,
            }
        }
        Ok(())
    }

    /// Where `IHE_XDM` lies: at the root, or in one folder that wraps everything (XDM-13).
    fn xdm_depth(&self) -> Option<usize> {
        let at = |depth: usize| {
            self.by_path.values().filter(move |file| {
                file.segments.len() >= depth + 3
                    && is_named(file.segments.get(depth), XDM_DIRECTORY)
            })
        };
        if at(0).next().is_some() {
            return Some(0);
        }
        let wrappers: std::collections::HashSet<String> = at(1)
            .filter_map(|file| file.segments.first())
            .map(|name| name.to_lowercase())
            .collect();
        (wrappers.len() == 1).then_some(1)
    }
}

/// Reads every name as a path; refuses duplicates, also by case (XDM-63), and deep paths (LIM-13).
fn read_paths(members: &[Member], limits: &Limits) -> Result<Vec<Entry>, XdmError> {
    let mut seen = HashMap::new();
    let mut entries = Vec::with_capacity(members.len());
    for member in members {
        let path = parse_entry_name(&member.name).map_err(|what| XdmError::Refused {
            rule: "XDM-60",
            entry: member.index,
            what,
        })?;
        if path.segments.len() > limits.max_zip_depth {
            return Err(XdmError::TooLarge {
                rule: "LIM-13",
                what: "a path in the zip is too deep",
                max: limits.max_zip_depth as u64,
            });
        }
        if seen.insert(path.joined().to_lowercase(), ()).is_some() {
            return Err(XdmError::Refused {
                rule: "XDM-63",
                entry: member.index,
                what: "another entry has the same name, but for the case of letters; it must have its own",
            });
        }
        entries.push(Entry {
            path,
            index: member.index,
            bytes: member.claimed_bytes,
        });
    }
    Ok(entries)
}

fn is_named(segment: Option<&String>, name: &str) -> bool {
    segment.is_some_and(|segment| segment.eq_ignore_ascii_case(name))
}

fn starts_with_folded(segments: &[String], directory: &[String]) -> bool {
    segments
        .iter()
        .zip(directory)
        .all(|(one, other)| one.to_lowercase() == other.to_lowercase())
}

/// What desktops leave in zips.
fn is_clutter(segments: &[String]) -> bool {
    is_named(segments.first(), "__MACOSX") || is_named(segments.last(), ".DS_Store")
}

/// What of XDM-13 was seen.
#[derive(Default)]
struct Oddities {
    backslash: bool,
    dot: bool,
    directory_without_slash: bool,
    directory_missing: bool,
    clutter: bool,
    wrapper: bool,
    case: bool,
    set_name: bool,
}

impl Oddities {
    fn into_findings(self) -> impl Iterator<Item = Finding> {
        [
            (self.backslash, "entry names use `\\`; the separator should be `/`"),
            (self.dot, "entry names hold `.` or empty segments; there should be none"),
            (
                self.directory_without_slash,
                "a directory entry lacks its final slash",
            ),
            (
                self.directory_missing,
                "a submission set directory has no entry of its own; it should have one",
            ),
            (
                self.clutter,
                "entries of a desktop system (__MACOSX, .DS_Store) were passed over; there should be none",
            ),
            (
                self.wrapper,
                "IHE_XDM lies in another folder; it should lie at the root",
            ),
            (
                self.case,
                "IHE_XDM, METADATA.XML, INDEX.HTM or README.TXT is not in upper case; it should be",
            ),
            (
                self.set_name,
                "a submission set directory is not named SUBSETnn; it should be",
            ),
        ]
        .into_iter()
        .filter(|(is_seen, _)| *is_seen)
        .map(|(_, text)| Finding::warning("XDM-13", "zip", text))
    }
}
