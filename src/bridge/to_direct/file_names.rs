//! File names of attachments, from titles (XDR-87): safe for every system that may save them.

use std::collections::HashSet;

use crate::formats::xdm::names::extension_for;

/// Longest file name that is made from a title (XDR-87).
const MAX_NAME_CHARS: usize = 64;
/// What stands before a name that would be a device's.
const DEVICE_PREFIX: &str = "document_";
/// Names that mean a device in Windows, with any extension.
const DEVICES: [&str; 8] = [
    "con", "prn", "aux", "nul", "clock$", "conin$", "conout$", "config$",
];

/// A name of its own for each document, by title and media type: `[A-Za-z0-9._-]` only, with the extension of the
/// media type and a counter on a clash; equal but for case is a clash.
pub(super) fn file_names<'a>(
    documents: impl Iterator<Item = (Option<&'a str>, &'a str)>,
) -> Vec<String> {
    let mut taken = HashSet::new();
    (1..)
        .zip(documents)
        .map(|(number, (title, media_type))| {
            let extension = extension_for(media_type).map_or(String::new(), |extension| {
                format!(".{}", extension.to_ascii_lowercase())
            });
            let stem = stem(title, &extension).unwrap_or_else(|| format!("document{number}"));
            (1..)
                .map(|count| with_counter(&stem, count, &extension))
                .find(|name| taken.insert(name.to_ascii_lowercase()))
                .unwrap_or_default()
        })
        .collect()
}

/// The safe characters of a title, without the extension if the title has it already.
fn stem(title: Option<&str>, extension: &str) -> Option<String> {
    let mut safe = String::new();
    for character in title?.chars() {
        // A document without an extension of its own must not get one from its title: it would say how to open it.
        let is_dot = character == '.' && !extension.is_empty() && !safe.ends_with('.');
        if character.is_ascii_alphanumeric() || is_dot || "-_".contains(character) {
            safe.push(character);
        } else if !safe.ends_with(['_', '.']) {
            safe.push('_');
        }
    }
    let kept = safe.trim_matches(['.', '_', '-']);
    let cut = kept.len().saturating_sub(extension.len());
    let bare = match kept.split_at_checked(cut) {
        Some((bare, end)) if end.eq_ignore_ascii_case(extension) => bare,
        _ => kept,
    };
    let bare = bare.trim_end_matches(['.', '_', '-']);
    if bare.is_empty() {
        return None;
    }
    let prefix = if is_device(bare) { DEVICE_PREFIX } else { "" };
    Some(format!("{prefix}{bare}"))
}

/// Whether some systems open a device instead of a file with this name, whatever its extension.
fn is_device(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    let first = first.trim_end_matches('_').to_ascii_lowercase();
    let is_numbered = ["com", "lpt"].iter().any(|port| {
        first
            .strip_prefix(port)
            .is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']))
    });
    is_numbered || DEVICES.contains(&first.as_str())
}

fn with_counter(stem: &str, count: usize, extension: &str) -> String {
    let counter = if count == 1 {
        String::new()
    } else {
        format!("-{count}")
    };
    // All characters are ASCII, so that any cut is between two of them.
    let room = MAX_NAME_CHARS.saturating_sub(counter.len() + extension.len());
    let stem = stem.get(..room).unwrap_or(stem);
    format!("{}{counter}{extension}", stem.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(documents: &[(Option<&str>, &str)]) -> Vec<String> {
        file_names(documents.iter().copied())
    }

    // rule: XDR-87, T-9
    #[test]
    fn file_names_are_safe_short_and_distinct() {
        let long = "x".repeat(200);
        let named = names(&[
            (Some("Summary of care: Ada Quill"), "text/xml"),
            (Some("../../etc/passwd"), "text/plain"),
            (Some("Scan.PDF"), "application/pdf"),
            (Some("scan"), "application/pdf"),
            (Some("Résumé\r\nBcc: x"), "application/pdf"),
            (Some("…"), "text/xml"),
            (None, "application/dicom"),
            (Some(&long), "image/jpeg"),
            (Some(&long), "image/jpeg"),
        ]);
        assert_eq!(
            named,
            [
                "Summary_of_care_Ada_Quill.xml",
                "etc_passwd.txt",
                "Scan.pdf",
                "scan-2.pdf",
                "R_sum_Bcc_x.pdf",
                "document6.xml",
                "document7",
                &format!("{}.jpg", "x".repeat(60)),
                &format!("{}-2.jpg", "x".repeat(58)),
            ]
        );
    }

    // rule: XDR-87, T-9
    #[test]
    fn devices_and_programs_are_no_names() {
        let named = names(&[
            (Some("CON"), "text/plain"),
            (Some("nul.tar"), "application/gzip"),
            (Some("com7"), "application/dicom"),
            (Some("COM10"), "text/plain"),
            (Some("update.exe"), "application/dicom"),
            (Some("update.exe"), "text/plain"),
            (Some("C:\\Windows\\a..b"), "text/html"),
            (Some("photo\u{202e}gpj.exe"), "image/jpeg"),
            // A counter may not run into the name of another.
            (Some("note"), "text/xml"),
            (Some("note-2"), "text/xml"),
            (Some("Note"), "text/xml"),
            (Some("document13"), "text/xml"),
            (None, "text/xml"),
        ]);
        assert_eq!(
            named,
            [
                "document_CON.txt",
                "document_nul.tar.bin",
                "document_com7",
                "COM10.txt",
                "update_exe",
                "update.exe.txt",
                "C_Windows_a.b.htm",
                "photo_gpj.exe.jpg",
                "note.xml",
                "note-2.xml",
                "Note-3.xml",
                "document13.xml",
                "document13-2.xml",
            ]
        );
    }

    proptest! {
        // rule: XDR-87, T-9
        #[test]
        fn whatever_the_titles_names_are_safe_everywhere_and_distinct(
            documents in proptest::collection::vec(
                (
                    proptest::option::of(prop_oneof![
                        "\\PC{0,90}",
                        "[./\\\\ ~:-]{0,8}(con|aux|lpt1|x|note)?[./ _-]{0,4}",
                        any::<String>(),
                    ]),
                    proptest::sample::select(vec![
                        "text/xml",
                        "application/dicom",
                        "application/zip",
                        "text/plain; charset=utf-8",
                        "",
                    ]),
                ),
                0..20,
            ),
        ) {
            let given = documents.iter().map(|(title, kind)| (title.as_deref(), *kind));
            let named = file_names(given);
            prop_assert_eq!(named.len(), documents.len());
            let mut seen = HashSet::new();
            for (name, (_, kind)) in named.iter().zip(&documents) {
                prop_assert!((1..=MAX_NAME_CHARS).contains(&name.len()), "{}", name);
                prop_assert!(
                    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
                    "{}", name
                );
                prop_assert!(name.starts_with(|c: char| c.is_ascii_alphanumeric()), "{}", name);
                prop_assert!(!name.ends_with('.') && !name.contains(".."), "{}", name);
                prop_assert!(!is_device(name), "{}", name);
                prop_assert!(seen.insert(name.to_ascii_lowercase()), "{}", name);
                match extension_for(kind) {
                    Some(extension) => {
                        let end = format!(".{}", extension.to_ascii_lowercase());
                        prop_assert!(name.ends_with(&end), "{}", name);
                    }
                    None => prop_assert!(!name.contains('.'), "{}", name),
                }
                prop_assert!(name.parse::<crate::formats::mime::write::FileName>().is_ok());
            }
        }
    }
}
