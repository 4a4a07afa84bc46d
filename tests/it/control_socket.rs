//! The control socket: who may connect, where it lies, and what it does with whatever comes.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, symlink},
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::Signal;

use crate::support::{
    bridge::{TestBridge, runtime},
    crossing_ground::Workshop,
    folder::TestFolder,
    operated::Operated,
    process::BridgeProcess,
};

fn bridge() -> TestBridge {
    TestBridge::start(runtime(), &[])
}

fn socket(bridge: &TestBridge) -> PathBuf {
    bridge.data().join("control.sock")
}

/// Sends octets and gives all that comes back.
fn exchanged(socket: &Path, octets: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    // Who refuses may close before all is sent.
    let _ = stream.write_all(octets);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(body: &str) -> Vec<u8> {
    request("POST", "/v1/exchange", body)
}

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

// rule: T-35
#[test]
fn whatever_comes_is_answered_and_the_next_order_is_served() {
    let bridge = bridge();
    let socket = socket(&bridge);
    let commands = Operated::on(bridge.data());
    let large = format!("{{\"show\":{{\"id\":\"{}\"}}}}", "x".repeat(70_000));
    let long = format!("{{\"show\":{{\"id\":\"{}\"}}}}", "x".repeat(999));
    let deep = "[".repeat(10_000);
    let wide = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(300_000));
    for (name, octets, status) in [
        ("another path", request("POST", "/v1/other", "{}"), "404"),
        ("another method", request("GET", "/v1/exchange", ""), "405"),
        ("no JSON", post("show me all"), "400"),
        ("nothing", post(""), "400"),
        (
            "an unknown order",
            post("{\"delete\":{\"id\":\"1\"}}"),
            "400",
        ),
        (
            "two orders",
            post("{\"show\":{\"id\":\"1\"},\"list\":{}}"),
            "400",
        ),
        ("a long id", post(&long), "400"),
        ("depth", post(&deep), "400"),
        ("a large order", post(&large), "413"),
        ("no exchange", post("{\"show\":{\"id\":\"1\"}}"), "404"),
        ("octets", vec![0, 255, 13, 10, 13, 10], "400"),
        ("a head without an end", wide.into_bytes(), ""),
        ("half an order", post("{\"list\":{}}")[..40].to_vec(), ""),
    ] {
        let answer = exchanged(&socket, &octets);
        let expected = format!("HTTP/1.1 {status}");
        assert!(
            status.is_empty() || answer.starts_with(&expected),
            "{name}: {answer}"
        );
        assert_eq!(
            commands.json(&["list"])["exchanges"],
            serde_json::json!([]),
            "{name}"
        );
    }
    // More than there are places for, which say nothing: they do not keep others out for long.
    let silent: Vec<_> = (0..24)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    commands.json(&["list"]);
    drop(silent);
    bridge.assert_nothing_stored();
}

// rule: T-35, T-31
#[test]
fn the_socket_is_its_owners_alone_and_goes_with_the_bridge() {
    let bridge = bridge();
    let socket = socket(&bridge);
    let found = fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let folder = bridge.stop_and_keep();
    assert!(!socket.exists());
    drop(folder);
}

/// Somebody who is neither the bridge's user nor root.
const NOBODY: u32 = 65_534;

// rule: T-35
#[test]
fn another_user_is_not_served_even_where_the_socket_lets_it_in() {
    if !rustix::process::geteuid().is_root() {
        // Only root can be somebody else.
        eprintln!("not run: it needs root");
        return;
    }
    let open = TestFolder::new();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = open.path().join("c.sock");
    let bridge = {
        let socket = socket.clone();
        let clock = std::sync::Arc::new(xdbridge::adapters::clock::SystemClock);
        TestBridge::start_with(runtime(), &[], clock, move |config| {
            config.control.socket = Some(socket);
        })
    };
    let config = open.path().join("c.toml");
    let text = format!(
        "[store]\npath = \"{}\"\n[control]\nsocket = \"{}\"\n",
        bridge.data().display(),
        socket.display()
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    // The program itself may lie where nobody else may go.
    let program = open.path().join("xdbridge");
    fs::copy(env!("CARGO_BIN_EXE_xdbridge"), &program).unwrap();
    let as_nobody = || {
        let mut command = Command::new(&program);
        command.args(["exchange", "list", "--config"]).arg(&config);
        let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let refused = "open to the bridge's own user and to root alone";
    let told = as_nobody();
    assert!(told.contains(refused), "the mode keeps it out: {told}");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let told = as_nobody();
    assert!(told.contains(refused), "the kernel says who it is: {told}");
    assert!(
        bridge
            .audit_of(xdbridge::formats::audit::AuditKind::Operator)
            .is_empty()
    );
    let root = Command::new(&program)
        .args(["exchange", "list", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(root.status.success());
}

// rule: T-35
#[test]
fn a_bridge_does_not_start_where_its_socket_could_be_replaced_or_is_taken() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let folder = ground.path().to_owned();
    let place = TestFolder::new();
    let starts = |socket: &Path| {
        let config = folder.join("xdbridge.toml");
        let before = fs::read_to_string(&config).unwrap();
        let text = format!("{before}\n[control]\nsocket = \"{}\"\n", socket.display());
        fs::write(&config, text).unwrap();
        let bridge = BridgeProcess::start(&folder, "");
        fs::write(&config, before).unwrap();
        (bridge.is_listening(), bridge.log_text())
    };
    let mode = |mode| fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
    let socket = place.path().join("c.sock");
    mode(0o777);
    let (is_up, log) = starts(&socket);
    assert!(
        !is_up && log.contains("may be written by others (mode 777"),
        "{log}"
    );
    mode(0o700);
    let listener = UnixListener::bind(&socket).unwrap();
    let (is_up, log) = starts(&socket);
    assert!(!is_up && log.contains("another process listens"), "{log}");
    drop(listener);
    // What a bridge left behind is replaced.
    let (is_up, log) = starts(&socket);
    assert!(is_up, "{log}");
    let file = place.path().join("notes");
    fs::write(&file, "mine").unwrap();
    symlink(&file, place.path().join("link")).unwrap();
    for taken in ["notes", "link"] {
        let (is_up, log) = starts(&place.path().join(taken));
        assert!(!is_up && log.contains("is there and no socket"), "{log}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let (is_up, log) = starts(&place.path().join("x".repeat(120)));
    assert!(
        !is_up && log.contains("a path of at most 107 octets"),
        "{log}"
    );
}

/// `exchange` on a configuration directory.
fn exchange(folder: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xdbridge"));
    command.arg("exchange").args(arguments).stdin(Stdio::null());
    let config = folder.join("xdbridge.toml");
    command.arg("--config").arg(config).output().unwrap()
}

#[test]
fn the_command_finds_the_daemon_and_says_so_when_it_is_not_there() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let folder = &ground.path();
    fs::remove_dir_all(folder.join("data")).unwrap();
    let never = exchange(folder, &["list"]);
    let told = String::from_utf8_lossy(&never.stderr);
    assert_eq!(never.status.code(), Some(1), "{told}");
    assert!(
        told.contains("no bridge listens on ") && told.contains("no data directory"),
        "{told}"
    );

    let mut bridge = BridgeProcess::start(folder, "");
    assert!(bridge.is_listening(), "{}", bridge.log_text());
    let running = exchange(folder, &["list", "--json"]);
    assert!(
        running.status.success(),
        "{}",
        String::from_utf8_lossy(&running.stderr)
    );
    assert!(running.stderr.is_empty(), "the running one was asked");
    // Stopped in its tracks it is no bridge, and its store is opened; its socket is replaced at the next start.
    bridge.signal(Signal::KILL);
    bridge.ended();
    let after = exchange(folder, &["list", "--json"]);
    let told = String::from_utf8_lossy(&after.stderr);
    assert!(
        after.status.success() && told.contains("no bridge listens"),
        "{told}"
    );
    let again = BridgeProcess::start(folder, "");
    assert!(again.is_listening(), "{}", again.log_text());
    let running = exchange(folder, &["list"]);
    assert!(running.status.success() && running.stderr.is_empty());
    again.stop();

    let missing = exchange(folder, &["show", "1", "--config"]);
    assert_eq!(missing.status.code(), Some(2));
}
