//! What a bridge does when its store has no room left, over the real file system: thresholds above what the disk has
//! stand for a disk that is full.

use std::{
    fs,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use xdbridge::bridge::exchange::RecipientState;

use crate::support::{
    crossing_ground::{Answered, CrossingGround, Letter, OWN_DOMAIN, Workshop},
    process::BridgeProcess,
    scripted_smtp::Act,
    smtp_server_ground::Peer,
    tls::connect_plain,
};

/// More than any disk has.
const NO_DISK_HAS: &str = "9000000000000000000";

fn receives_mail(ground: &CrossingGround<'_>) {
    ground.add_settings(&format!(
        "\n[smtp.server]\nbind = \"127.0.0.1:0\"\ntls = \"may\"\nhost_name = \"{OWN_DOMAIN}\"\n\
         certificate = \"tls/server.pem\"\nkey = \"tls/server.key\"\n"
    ));
}

fn smtp_of(bridge: &BridgeProcess) -> SocketAddr {
    let line = bridge.wait_for_line(|line| line.contains("\"smtp\":\"127.0.0.1:"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    line["smtp"].as_str().unwrap().parse().unwrap()
}

// rule: LIM-18, LIM-19, T-26, SOAP-91, RX-21
#[test]
fn a_bridge_without_room_takes_nothing_and_finishes_what_it_took() {
    let workshop = Workshop::new();
    let is_first = AtomicBool::new(true);
    let ground = workshop.ground_with(|hop| {
        hop.acts(move |_, step| {
            let is_end = step == "END";
            let defers = is_end && is_first.swap(false, Ordering::Relaxed);
            defers.then(|| Act::Say("451 4.3.0 later".to_owned()))
        })
    });
    receives_mail(&ground);
    let bridge = ground.start();
    assert!(bridge.operator("/readyz").contains("ready\n"));
    assert_eq!(ground.post(&bridge, &Letter::large()), Answered::Success);
    ground.wait_until_quiet();
    bridge.stop();
    assert_eq!(ground.arrived().len(), 1, "taken, and put off");
    ground.let_retries_be_due();

    ground.add_settings(&format!(
        "\n[store.room]\nmin_free_bytes = {NO_DISK_HAS}\nmin_free_inodes = {NO_DISK_HAS}\ninterval = \"100ms\"\n"
    ));
    let bridge = ground.start();
    let told = bridge.operator("/readyz");
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert!(told.contains("disk: less is free than store.room.min_free_bytes"));
    let counts_inodes = bridge
        .operator("/metrics")
        .contains("xdbridge_store_free_inodes");
    let names_inodes = told.contains("inodes: less are free than store.room.min_free_inodes");
    assert_eq!(names_inodes, counts_inodes, "{told}");
    assert!(!told.contains("bodies:"), "no budget is set: {told}");
    assert!(!told.contains(ground.path().to_str().unwrap()));

    let Answered::Refused(503, _) = ground.post(&bridge, &Letter::small()) else {
        panic!("the submission must be put off");
    };
    let mut peer = Peer {
        stream: connect_plain(smtp_of(&bridge)),
    };
    peer.reply();
    peer.ask("EHLO mx.hisp.example");
    assert_eq!(peer.code("MAIL FROM:<>"), "452 4.3.1");

    // What was accepted before goes on.
    ground.wait_for_messages(2);
    ground.wait_until_quiet();
    let alarms = if counts_inodes { 2 } else { 1 };
    bridge.wait_for_measures(|measures| {
        measures.contains(&format!("xdbridge_alarms_total{{alarm=\"room\"}} {alarms}"))
    });
    let log = bridge.log_text();
    assert_eq!(log.matches("\"alarm\":\"room\"").count(), alarms, "{log}");
    bridge.stop();
    let exchanges = ground.exchanges();
    assert_eq!(exchanges.len(), 1);
    for recipient in &exchanges[0].recipients {
        assert_eq!(recipient.state, RecipientState::Relayed);
    }
}

// rule: LIM-20, T-26
#[test]
fn octets_of_bodies_have_a_budget_that_is_used_up_while_the_bridge_works() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    ground.add_settings("\n[store.room]\nmax_body_bytes = 100000\ninterval = \"100ms\"\n");
    let bridge = ground.start();
    assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);
    ground.wait_for_messages(1);
    assert!(bridge.operator("/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(ground.post(&bridge, &Letter::large()), Answered::Success);
    bridge.wait_for_line(|line| line.contains("\"budget\":\"bodies\""));
    let told = bridge.operator("/readyz");
    let expected =
        "not ready\nbodies: more are kept than store.room.max_body_bytes: nothing is accepted\n";
    assert!(told.ends_with(expected), "{told}");
    let answered = ground.post(&bridge, &Letter::small());
    assert!(
        matches!(answered, Answered::Refused(503, _)),
        "{answered:?}"
    );
    bridge.wait_for_measures(|measures| {
        measures.contains("xdbridge_room_short{budget=\"bodies\"} 1")
            && measures.contains("xdbridge_room_short{budget=\"disk\"} 0")
            && measures.contains("xdbridge_store_body_bytes ")
    });
    ground.wait_for_messages(2);
    bridge.stop();
    assert!(
        fs::read_dir(ground.path().join("data/bodies"))
            .unwrap()
            .count()
            > 0
    );
}
