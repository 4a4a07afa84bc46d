//! Names inside the zip: those that we write, and how those that others wrote become paths.

/// The directory that holds the submission set directories (XDM-1).
pub const XDM_DIRECTORY: &str = "IHE_XDM";
/// The directory of the one submission set that we write (XDM-2).
pub const SET_DIRECTORY: &str = "SUBSET01";
/// The metadata of a submission set (XDM-3).
pub const METADATA_FILE: &str = "METADATA.XML";
/// The page that lists the documents (XDM-1).
pub const INDEX_FILE: &str = "INDEX.HTM";
/// What the medium is and who made it (XDM-1).
pub const README_FILE: &str = "README.TXT";

/// The file name of document `number`, counted from 1, by its media type: never made from a title or an id
/// (XDM-14, XDM-15).
pub fn document_file_name(number: usize, media_type: &str) -> String {
    match extension_for(media_type) {
        Some(extension) => format!("DOC{number:05}.{extension}"),
        None => format!("DOC{number:05}"),
    }
}

/// The extension of a file of this media type; DICOM files have none (XDM-14). Parameters and case do not count.
pub fn extension_for(media_type: &str) -> Option<&'static str> {
    let bare = media_type.split(';').next().unwrap_or_default().trim();
    let extension = match bare.to_ascii_lowercase().as_str() {
        "text/xml" | "application/xml" | "text/cda+xml" => "XML",
        "application/pdf" => "PDF",
        "text/plain" => "TXT",
        "text/html" => "HTM",
        "image/jpeg" => "JPG",
        "image/png" => "PNG",
        "image/tiff" => "TIF",
        "application/dicom" => return None,
        _ => "BIN",
    };
    Some(extension)
}

/// Whether `name` is a file name of ISO 9660 level 1 (XDM-10, XDM-11).
pub fn is_iso9660_file_name(name: &str) -> bool {
    match name.split_once('.') {
        Some((stem, extension)) => is_iso9660(stem, 8) && is_iso9660(extension, 3),
        None => is_iso9660(name, 8),
    }
}

fn is_iso9660(text: &str, max_chars: usize) -> bool {
    (1..=max_chars).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// The path of an entry: its segments, and what was odd about the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryPath {
    /// Its segments; none is empty, `.` or `..`.
    pub segments: Vec<String>,
    /// Ended with a slash.
    pub is_directory: bool,
    /// Its name was written with `\`.
    pub had_backslash: bool,
    /// `./` in front, `.` or nothing between two slashes.
    pub had_dot: bool,
}

impl EntryPath {
    /// The path as one text without a final slash.
    pub(super) fn joined(&self) -> String {
        self.segments.join("/")
    }
}

/// Reads an entry's name as a path, `\` as `/`. The error says why the whole archive is refused (XDM-60).
pub(super) fn parse_entry_name(name: &str) -> Result<EntryPath, &'static str> {
    if name.chars().any(char::is_control) {
        return Err("its name holds a control character");
    }
    let had_backslash = name.contains('\\');
    let name = name.replace('\\', "/");
    if name.starts_with('/') {
        return Err("its name is an absolute path");
    }
    let is_drive = |text: &str| {
        let mut octets = text.bytes();
        octets.next().is_some_and(|b| b.is_ascii_alphabetic()) && octets.next() == Some(b':')
    };
    if name.split('/').any(is_drive) {
        return Err("its name holds a drive letter");
    }
    let is_directory = name.ends_with('/');
    let trimmed = name.strip_suffix('/').unwrap_or(&name);
    if trimmed.split('/').any(|segment| segment == "..") {
        return Err("its name climbs with `..`");
    }
    let all = trimmed.split('/').count();
    let segments: Vec<String> = trimmed
        .split('/')
        .filter(|segment| !segment.is_empty() && *segment != ".")
        .map(str::to_owned)
        .collect();
    if segments.is_empty() {
        return Err("its name is empty");
    }
    Ok(EntryPath {
        had_dot: segments.len() < all,
        segments,
        is_directory,
        had_backslash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: XDM-10, XDM-11, XDM-14, XDM-15
    #[test]
    fn document_names_count_up_and_are_iso_9660_names() {
        let cases = [
            ("text/xml", "DOC00001.XML"),
            ("application/xml", "DOC00001.XML"),
            ("text/cda+xml", "DOC00001.XML"),
            ("Application/PDF; x=1", "DOC00001.PDF"),
            ("text/plain", "DOC00001.TXT"),
            ("text/html", "DOC00001.HTM"),
            ("image/jpeg", "DOC00001.JPG"),
            ("image/png", "DOC00001.PNG"),
            ("image/tiff", "DOC00001.TIF"),
            ("application/dicom", "DOC00001"),
            ("application/zip", "DOC00001.BIN"),
            ("../../etc/passwd", "DOC00001.BIN"),
        ];
        for (media_type, name) in cases {
            assert_eq!(document_file_name(1, media_type), name);
            assert!(is_iso9660_file_name(name));
        }
        assert_eq!(document_file_name(12, "text/xml"), "DOC00012.XML");
        for bad in [
            "doc.xml",
            "DOC.XML.XML",
            "",
            ".XML",
            "DOC.",
            "DOC000001.XML",
            "DOC-1.XML",
        ] {
            assert!(!is_iso9660_file_name(bad), "{bad}");
        }
    }

    // rule: XDM-60, T-9
    #[test]
    fn names_that_leave_the_archive_are_refused() {
        for bad in [
            "../x",
            "a/../../x",
            "a\\..\\x",
            "/etc/passwd",
            "\\\\host\\share",
            "C:\\x",
            "c:x",
            "a/C:/x",
            "a\0b",
            "a\nb",
            "a\u{85}b",
            "",
            "./",
            "..",
            "a/..",
            "//",
        ] {
            assert!(parse_entry_name(bad).is_err(), "{bad:?}");
        }
    }

    // rule: XDM-13
    #[test]
    fn odd_but_harmless_names_are_read_and_told() {
        let path = parse_entry_name(".\\IHE_XDM\\SUBSET01\\").unwrap();
        assert_eq!(path.joined(), "IHE_XDM/SUBSET01");
        assert!(path.is_directory && path.had_backslash && path.had_dot);
        let path = parse_entry_name("IHE_XDM/..x/a..b").unwrap();
        assert!(!path.had_dot && !path.had_backslash && !path.is_directory);
    }
}
