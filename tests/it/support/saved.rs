//! Messages saved in files, as they go over the wire: their Content-Type and their octets.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::request::Posted;

/// The project's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every message below `folders`, relative to the project, in order of their names. Expected readings and words about
/// the messages are none.
pub(crate) fn messages(folders: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = open.pop() {
        for item in fs::read_dir(root().join(&folder)).unwrap() {
            let item = item.unwrap();
            let path = folder.join(item.file_name());
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
            if item.file_type().unwrap().is_dir() {
                open.push(path);
            } else if !["expected", "md"].contains(&extension) {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What the sender of a saved message posted: by its HTTP head or MIME header, by its first boundary, or an envelope
/// alone as simple SOAP. A folded field is unfolded, as HTTP/1.1 demands of a sender (RFC 9112 §5.2).
pub(crate) fn as_posted(file: &[u8]) -> Posted {
    let gap = b"\r\n\r\n";
    let head = file.windows(gap.len()).position(|four| four == gap);
    let head = head.and_then(|at| Some((std::str::from_utf8(file.get(..at)?).ok()?, at)));
    if let Some((head, at)) = head
        && let Some(content_type) = field(head, "content-type")
    {
        return Posted {
            content_type,
            body: file[at + gap.len()..].to_vec(),
        };
    }
    let content_type = match file.strip_prefix(b"--") {
        Some(rest) => {
            let end = rest.iter().position(|octet| *octet == b'\r').unwrap();
            let boundary = std::str::from_utf8(&rest[..end]).unwrap();
            format!("multipart/related; boundary=\"{boundary}\"")
        }
        None => "application/soap+xml".to_owned(),
    };
    Posted {
        content_type,
        body: file.to_vec(),
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    unfolded.split("\r\n").find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}
