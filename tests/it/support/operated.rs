//! `xdbridge exchange` as an operator runs it, against the bridge of a test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// The commands, with a configuration that names the bridge's store and its socket.
pub(crate) struct Operated {
    config: PathBuf,
}

impl Operated {
    /// For the bridge whose data directory this is.
    pub(crate) fn on(data: &Path) -> Self {
        let config = data.parent().unwrap().join("operator.toml");
        let text =
            "[store]\npath = \"data\"\nkey_files = [\"store.key\"]\n[node]\nname = \"NODE\"\n";
        let node = xdbridge::app::config::Config::default().node.name;
        fs::write(&config, text.replace("NODE", &node)).unwrap();
        Self { config }
    }

    /// Runs `exchange` with these arguments.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same, not run yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xdbridge"));
        command.arg("exchange").args(arguments);
        command.arg("--config").arg(&self.config);
        command
    }

    /// What it prints for scripts; it must end well.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.text(&arguments)).unwrap()
    }

    /// What it prints for people; it must end well.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Why it was refused: exit code 1, and nothing on standard output.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        errors
    }
}

/// The texts at `pointer` below each element of the array at `list`.
pub(crate) fn texts(value: &Value, list: &str, pointer: &str) -> Vec<String> {
    let all = value.pointer(list).unwrap().as_array().unwrap().iter();
    all.map(|one| match one.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    })
    .collect()
}
