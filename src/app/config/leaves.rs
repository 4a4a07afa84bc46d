//! Tells every unknown key and every value of a wrong kind at once, where serde stops at the first.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A value that is not taken.
pub(super) struct BadLeaf {
    /// Its key, such as `partner[0].name`.
    pub(super) key: String,
    /// What is wrong, and what would be accepted.
    pub(super) problem: String,
}

/// Everything in `table` that `T` does not take, and the table without it. Each value is tried alone, so that
/// what fails is that value.
pub(super) fn sort_out<T: DeserializeOwned>(mut table: Table) -> (Vec<BadLeaf>, Table) {
    let mut bad = Vec::new();
    let mut bad_paths = Vec::new();
    let whole = Value::Table(table.clone());
    visit(&mut Vec::new(), &whole, &mut |path, value| {
        if let Err(error) = alone(path, value).try_into::<T>() {
            // What is missing is missing because the value stands alone here.
            if error.message().starts_with("missing field") {
                return;
            }
            bad.push(BadLeaf {
                key: key(path),
                problem: error.message().trim().to_owned(),
            });
            bad_paths.push(path.to_vec());
        }
    });
    for path in bad_paths {
        remove(&mut table, &path);
    }
    (bad, table)
}

fn remove(table: &mut Table, path: &[Step]) {
    match path {
        [Step::Key(key)] => {
            table.remove(key);
        }
        [Step::Key(key), rest @ ..] => match (table.get_mut(key), rest) {
            (Some(Value::Table(inner)), rest) => remove(inner, rest),
            (Some(Value::Array(items)), [Step::Index(index), rest @ ..]) => {
                if let Some(Value::Table(inner)) = items.get_mut(*index) {
                    remove(inner, rest);
                }
            }
            _ => {}
        },
        _ => {}
    }
}

#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

fn visit(path: &mut Vec<Step>, value: &Value, leaf: &mut impl FnMut(&[Step], &Value)) {
    match value {
        Value::Table(table) if !table.is_empty() => {
            for (key, value) in table {
                path.push(Step::Key(key.clone()));
                visit(path, value, leaf);
                path.pop();
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Index(index));
                visit(path, item, leaf);
                path.pop();
            }
        }
        // The whole file may be empty.
        _ if path.is_empty() => {}
        _ => leaf(path, value),
    }
}

fn alone(path: &[Step], value: &Value) -> Value {
    path.iter()
        .rev()
        .fold(value.clone(), |inner, step| match step {
            Step::Key(key) => Value::Table(Table::from_iter([(key.clone(), inner)])),
            Step::Index(_) => Value::Array(vec![inner]),
        })
}

fn key(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let is_bare = key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                if is_bare {
                    text.push_str(key);
                } else {
                    text.push_str(&format!("\"{key}\""));
                }
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::Config;

    fn told(text: &str) -> Vec<String> {
        let (bad, rest) = sort_out::<Config>(toml::from_str(text).unwrap());
        assert!(rest.try_into::<Config>().is_ok(), "the rest is taken");
        let tell = |leaf: BadLeaf| format!("{}: {}", leaf.key, leaf.problem);
        bad.into_iter().map(tell).collect()
    }

    #[test]
    fn every_unknown_key_and_every_wrong_value_is_told_with_what_would_be_accepted() {
        let problems = told(
            r#"
            colour = "red"
            log.level = "loud"
            soap.server = { bind = "everywhere", prot = 1, workers = 3 }
            dns.timeout = 5
            [smtp.client.domains."hisp.example"]
            tls = "perhaps"
            [[partner]]
            name = "a"
            [[partner]]
            nmae = "b"
            certificates = [{ sha256 = "00" }, { sha1 = "00" }]
            "#,
        );
        let keys: Vec<&str> = problems
            .iter()
            .filter_map(|problem| Some(problem.split_once(": ")?.0))
            .collect();
        assert_eq!(
            keys,
            [
                "colour",
                "dns.timeout",
                "log.level",
                "partner[1].certificates[1].sha1",
                "partner[1].nmae",
                "smtp.client.domains.\"hisp.example\".tls",
                "soap.server.bind",
                "soap.server.prot",
            ]
        );
        assert!(problems[2].contains("`info`"), "{}", problems[2]);
        assert!(problems[4].contains("`name`"), "{}", problems[4]);
    }

    #[test]
    fn what_is_taken_is_not_told() {
        assert_eq!(told(""), Vec::<String>::new());
        assert_eq!(
            told("[log]\n[[partner]]\nname = \"a\""),
            Vec::<String>::new()
        );
    }
}
