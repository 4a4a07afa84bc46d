//! The picture of `lib.rs` and ARCHITECTURE.md is kept true: every path between modules runs one way.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers, lowest first. Each uses only those before it.
const LAYERS: [&str; 5] = ["formats", "bridge", "flows", "adapters", "app"];

/// What lies beside the adapters, for all of them.
const BESIDE_ADAPTERS: [&str; 2] = ["http_tls", "pem_files"];

/// What may name anything: the map and the binary.
const ABOVE_ALL: [&str; 2] = ["lib.rs", "main.rs"];

#[test]
fn no_import_climbs_a_layer_and_no_adapter_names_another() {
    let files = rust_files(Path::new("src"));
    assert!(files.len() > 20, "the sources were not found");
    let climbs: Vec<String> = files.iter().flat_map(|file| violations(file)).collect();
    assert!(
        climbs.is_empty(),
        "imports against the layers:\n{}",
        climbs.join("\n")
    );
}

#[test]
fn the_check_sees_a_climbing_import_and_a_neighbouring_adapter() {
    let climbing = violations_in("formats/x.rs", "use crate::{bridge::trust, formats::ids};");
    assert_eq!(climbing.len(), 1);
    let neighbour = violations_in(
        "adapters/dns/mx.rs",
        "fn f() { crate::adapters::store::open() }",
    );
    assert_eq!(neighbour.len(), 1);
    let fine = violations_in(
        "adapters/dns/mx.rs",
        "use crate::{flows::ports, adapters::{dns::x, pem_files}};",
    );
    assert_eq!(fine, Vec::<String>::new());
}

fn violations(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let relative = file
        .strip_prefix("src")
        .unwrap()
        .to_string_lossy()
        .into_owned();
    if ABOVE_ALL.contains(&relative.as_str()) {
        return Vec::new();
    }
    violations_in(&relative, &text)
}

fn violations_in(relative: &str, text: &str) -> Vec<String> {
    let own: Vec<&str> = relative.trim_end_matches(".rs").split('/').collect();
    let own_layer = LAYERS.iter().position(|layer| *layer == own[0]);
    let own_layer = own_layer.unwrap_or_else(|| panic!("{relative} lies in no layer"));
    crate_paths(text)
        .into_iter()
        .filter(|path| {
            let Some(layer) = LAYERS.iter().position(|layer| *layer == path[0]) else {
                return false;
            };
            let climbs = layer > own_layer;
            let neighbour = own[0] == "adapters"
                && path[0] == "adapters"
                && path.get(1).is_none_or(|to| {
                    !BESIDE_ADAPTERS.contains(&to.as_str())
                        && Some(to.as_str()) != own.get(1).copied()
                });
            climbs || neighbour
        })
        .map(|path| format!("src/{relative} names crate::{}", path.join("::")))
        .collect()
}

/// The first two segments of every path that begins with `crate::`, groups in braces opened.
fn crate_paths(text: &str) -> Vec<Vec<String>> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let is_word_before = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if is_word_before {
            continue;
        }
        collect(&code[at + "crate::".len()..], Vec::new(), &mut paths);
    }
    paths
}

fn collect(rest: &str, prefix: Vec<String>, paths: &mut Vec<Vec<String>>) {
    if prefix.len() == 2 {
        paths.push(prefix);
        return;
    }
    if let Some(group) = rest.strip_prefix('{') {
        for item in group_items(group) {
            collect(item.trim(), prefix.clone(), paths);
        }
        return;
    }
    let name: String = rest
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    if name.is_empty() {
        if !prefix.is_empty() {
            paths.push(prefix);
        }
        return;
    }
    let after = &rest[name.len()..];
    let mut path = prefix;
    path.push(name);
    match after.strip_prefix("::") {
        Some(after) => collect(after, path, paths),
        None => paths.push(path),
    }
}

/// The items of a brace group whose opening brace is already gone.
fn group_items(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

/// Every `.rs` file below `folder`.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
