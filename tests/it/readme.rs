//! What README.md tells a newcomer to type works as it stands, in the order in which it stands there.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::folder::TestFolder;

/// The one command that runs the tests, and so cannot be run by one.
const GATE: &str = "tests/run";
/// How commands begin that run the binary; here it is there already.
const RUN: &str = "cargo run --release -- ";
/// Longest wait for the bridge to be ready.
const START: Duration = Duration::from_secs(120);

/// A command of README.md that runs the binary.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    arguments: Vec<String>,
    is_background: bool,
}

#[test]
fn every_command_of_the_readme_works() {
    let readme = fs::read_to_string("README.md").unwrap();
    let steps: Vec<Step> = commands(&readme).filter_map(step).collect();
    assert!(
        steps.iter().any(|step| step.is_background),
        "none serves: the commands were not found"
    );
    let folder = TestFolder::new();
    // What a checkout has that the commands name; cargo would have made the target folder.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["docs", "config", "fixtures"] {
        symlink(root.join(name), folder.path().join(name)).unwrap();
    }
    fs::create_dir(folder.path().join("target")).unwrap();
    for step in steps {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xdbridge"));
        command.args(&step.arguments).current_dir(folder.path());
        if step.is_background {
            free_the_ports(folder.path(), &step);
            serve_for_a_moment(&mut command);
        } else {
            if step.arguments == ["demo"] {
                if cfg!(not(feature = "demo")) {
                    continue;
                }
                command.arg("--once");
            }
            let output = command.output().unwrap();
            assert!(
                output.status.success(),
                "{step:?}: {}\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

#[test]
fn commands_are_found_and_unknown_ones_are_noticed() {
    let readme =
        "text\n```sh\ncargo run --release -- init target/x\ntests/run\n```\n```\nno\n```\n";
    let found: Vec<&str> = commands(readme).collect();
    assert_eq!(found, ["cargo run --release -- init target/x", GATE]);
    assert_eq!(step(GATE), None);
    let serve = step("cargo run --release -- serve --config a.toml &").unwrap();
    assert_eq!(serve.arguments, ["serve", "--config", "a.toml"]);
    assert!(serve.is_background);
    for unknown in ["make", "cargo run -- serve", "cargo run --release -- a > b"] {
        assert!(std::panic::catch_unwind(|| step(unknown)).is_err());
    }
}

/// The lines of the blocks that are marked as `sh`.
fn commands(readme: &str) -> impl Iterator<Item = &str> {
    readme
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .flat_map(str::lines)
        .filter(|line| !line.is_empty())
}

fn step(line: &str) -> Option<Step> {
    if line == GATE {
        return None;
    }
    let rest = line
        .strip_prefix(RUN)
        .unwrap_or_else(|| panic!("this test does not know how to run: {line}"));
    let (rest, is_background) = match rest.strip_suffix(" &") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:, ".contains(c);
    assert!(
        rest.chars().all(is_plain),
        "this test does not know what a shell would make of: {line}"
    );
    Some(Step {
        arguments: rest.split_whitespace().map(str::to_owned).collect(),
        is_background,
    })
}

/// Gives the configuration ports that are free, in place of those that README.md names.
fn free_the_ports(folder: &Path, step: &Step) {
    let at = step.arguments.iter().position(|word| word == "--config");
    let path = folder.join(&step.arguments[at.unwrap() + 1]);
    let mut text = fs::read_to_string(&path).unwrap();
    for named in ["127.0.0.1:8443", "127.0.0.1:9480"] {
        assert!(text.contains(named), "init writes no {named}");
        text = text.replace(named, "127.0.0.1:0");
    }
    fs::write(&path, text).unwrap();
}

/// Starts the bridge, asks it whether it is well once it listens, and ends it as an operator does.
fn serve_for_a_moment(command: &mut Command) {
    let mut serving = Serving(command.stderr(Stdio::piped()).spawn().unwrap());
    let log = BufReader::new(serving.0.stderr.take().unwrap());
    let (found, operator) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut whole = String::new();
        for line in log.lines().map_while(Result::ok) {
            whole.push_str(&line);
            whole.push('\n');
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(address) = text_field(&entry, "operator") {
                let _ = found.send(address);
            }
        }
        whole
    });
    let answers = operator
        .recv_timeout(START)
        .map(|address| ["/healthz", "/readyz"].map(|path| (path, get(&address, path))));
    kill_process(Pid::from_child(&serving.0), Signal::TERM).unwrap();
    let ended = serving.0.wait().unwrap();
    let log = reader.join().unwrap();
    let answers = answers.unwrap_or_else(|_| panic!("the bridge did not listen:\n{log}"));
    for (path, answer) in answers {
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "{path}: {answer}\n{log}"
        );
    }
    assert!(ended.success(), "{ended}\n{log}");
}

/// The field `name` of a log line, wherever the line keeps its fields.
fn text_field(entry: &serde_json::Value, name: &str) -> Option<String> {
    let field = entry.get(name).or_else(|| entry.get("fields")?.get(name))?;
    field.as_str().map(str::to_owned)
}

fn get(address: &str, path: &str) -> String {
    let mut answer = String::new();
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(START)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

/// Ends with the test, however that ends.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
