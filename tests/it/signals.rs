//! What signals do to a running bridge: SIGTERM drains it, SIGHUP reads its certificates anew.

use std::{
    fs,
    sync::{Mutex, mpsc},
    time::Duration,
};

use rustix::process::Signal;
use xdbridge::bridge::exchange::RecipientState;

use super::support::{
    crl::{crl_of, place},
    crossing_ground::{Answered, Letter, Workshop, address, post_head},
    scripted_smtp::Act,
};

/// Longest wait for what must come: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn sigterm_lets_a_request_under_way_be_answered_and_delivered() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let mut bridge = ground.start();
    let (content_type, body) = Letter::large().request();
    let mut connection = ground.connect(&bridge).unwrap();
    let (first, rest) = body.split_at(body.len() / 2);
    connection
        .send(post_head("/xdr", &content_type, body.len()))
        .unwrap();
    connection.send(first).unwrap();
    let idle = "xdbridge_bytes_in_flight 0\n";
    bridge.wait_for_measures(|measures| !measures.contains(idle));

    bridge.signal(Signal::TERM);
    bridge.wait_for_line(|line| line.contains("draining"));
    connection.send(rest).unwrap();
    let answer = connection.answer().unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.contains("ResponseStatusType:Success"), "{text}");
    assert_eq!(bridge.ended().code(), Some(0));

    // What was not sent before the end is sent after the next start.
    let bridge = ground.start();
    ground.wait_for_messages(1);
    bridge.stop();
    let exchanges = ground.exchanges();
    assert_eq!(exchanges.len(), 1);
    for recipient in &exchanges[0].recipients {
        assert_eq!(recipient.state, RecipientState::Relayed);
    }
    assert_eq!(ground.arrived().len(), 1);
}

#[test]
fn sigterm_lets_a_delivery_under_way_end() {
    let workshop = Workshop::new();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let ground = workshop.ground_with(|hop| {
        hop.acts(move |_, step| {
            if step == "END" {
                // The reply to the final dot waits until the test says so.
                let _ = released.lock().unwrap().recv_timeout(PATIENCE);
            }
            None::<Act>
        })
    });
    let mut bridge = ground.start();
    assert_eq!(ground.post(&bridge, &Letter::large()), Answered::Success);
    ground.wait_for_messages(1);
    bridge.signal(Signal::TERM);
    bridge.wait_for_line(|line| line.contains("draining"));
    assert!(bridge.is_alive());
    release.send(()).unwrap();
    assert_eq!(bridge.ended().code(), Some(0));
    let exchanges = ground.exchanges();
    for recipient in &exchanges[0].recipients {
        assert_eq!(recipient.state, RecipientState::Relayed);
    }
    assert_eq!(ground.arrived().len(), 1);
}

#[test]
fn sighup_makes_a_new_certificate_of_a_recipient_known() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let bridge = ground.start();
    let letter = || {
        let mut letter = Letter::small();
        letter.to = vec![address("intake", "second.example")];
        letter
    };
    let answered = ground.post(&bridge, &letter());
    let Answered::Refused(200, text) = answered else {
        panic!("{answered:?}");
    };
    assert!(text.contains("noCertificate"), "{text}");

    let second = workshop.issue_for("second.example");
    let path = ground.path().join("peers/second.pem");
    fs::write(path, second.certificate.to_pem().unwrap()).unwrap();
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| line.contains("were read anew"));
    assert_eq!(ground.post(&bridge, &letter()), Answered::Success);
    ground.wait_for_messages(1);

    // A reload that fails changes nothing.
    fs::write(
        ground.path().join("peers/second.pem"),
        "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| line.contains("nothing was reloaded"));
    assert_eq!(ground.post(&bridge, &letter()), Answered::Success);
    ground.wait_for_messages(2);
    bridge.stop();
}

// rule: REV-1, REV-2, REV-5
#[test]
fn sighup_reads_revocation_lists_and_a_broken_one_leaves_the_last_in_force() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let list = ground.go_by_crls().join("list.pem");
    let authority = workshop.hisp_authority();
    place(&list, &crl_of(authority).pem());
    let bridge = ground.start();
    bridge.wait_for_measures(|measures| measures.contains("xdbridge_crl_days_left"));
    assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);

    let hisp = workshop.hisp_certificate();
    place(&list, &crl_of(authority).revoking(hisp).pem());
    // Not looked at yet.
    assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| line.contains("were read anew"));
    let assert_revoked = || {
        let answered = ground.post(&bridge, &Letter::small());
        let Answered::Refused(200, text) = answered else {
            panic!("{answered:?}");
        };
        assert!(text.contains("certificateRevoked"), "{text}");
    };
    assert_revoked();

    fs::remove_file(&list).unwrap();
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| {
        line.contains("nothing was reloaded") && line.contains("holds no file whose name ends in")
    });
    assert_revoked();
    bridge.stop();
}
