//! What a start makes of what it finds: bodies that nobody owns, bodies that are gone.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use xdbridge::{
    bridge::exchange::{Reason, RecipientState},
    formats::ids::BodyId,
};

use crate::support::{
    crossing_ground::{Answered, CrossingGround, Letter, Workshop, files_below},
    scripted_smtp::{Act, Builder},
    wait_until,
};

/// Puts the first mail off, and takes what comes later.
fn puts_off_once(hop: Builder) -> Builder {
    let is_first = AtomicBool::new(true);
    hop.acts(move |_, step| {
        let puts_off = step == "END" && is_first.swap(false, Ordering::Relaxed);
        puts_off.then(|| Act::Say("451 4.3.0 later".to_owned()))
    })
}

/// One letter whose mail waits for its second attempt, in the store of a bridge that is stopped.
fn with_a_mail_that_waits(ground: &CrossingGround<'_>) {
    let bridge = ground.start();
    assert_eq!(ground.post(&bridge, &Letter::large()), Answered::Success);
    ground.wait_for_messages(1);
    ground.wait_until_quiet();
    bridge.stop();
}

// rule: T-24, Q-1
#[test]
fn a_start_sweeps_bodies_of_nobody_and_alarms_those_that_are_gone_before_they_are_needed() {
    let workshop = Workshop::new();
    let ground = workshop.ground_with(puts_off_once);
    with_a_mail_that_waits(&ground);
    let exchange = ground.exchanges().remove(0);
    let leg = exchange.mail_leg(exchange.legs[0].id).unwrap();
    let sealed = leg.sealed.as_ref().unwrap().body;
    let bodies = ground.path().join("data/bodies");
    let file_of = |body: BodyId| {
        let name = body.to_string();
        bodies.join(&name[..2]).join(&name)
    };
    fs::remove_file(file_of(sealed)).unwrap();
    let orphan = BodyId::random();
    let left = [file_of(orphan), file_of(orphan).with_extension("part")];
    fs::create_dir_all(left[0].parent().unwrap()).unwrap();
    for path in &left {
        fs::write(path, "left by a process that was killed").unwrap();
    }

    // The next attempt is a minute off: what is told now is told by the start itself.
    let bridge = ground.start();
    let line = bridge.wait_for_line(|line| line.contains("\"alarm\":\"body_lost\""));
    assert!(line.contains(&exchange.id.to_string()), "{line}");
    bridge.wait_for_measures(|measures| {
        measures.contains("xdbridge_alarms_total{alarm=\"body_lost\"} 1\n")
    });
    wait_until("what nobody owns is swept", || {
        left.iter().all(|path| !path.exists())
    });
    bridge.stop();
    let files = files_below(&bodies);
    assert_eq!(
        files,
        [file_of(exchange.body)],
        "the request is still there"
    );

    ground.let_retries_be_due();
    let bridge = ground.start();
    bridge.wait_for_line(|line| line.contains("\"alarm\":\"body_damaged\""));
    ground.wait_until_quiet();
    bridge.stop();
    for recipient in &ground.exchanges()[0].recipients {
        assert_eq!(recipient.state, RecipientState::Bounced);
        assert_eq!(recipient.reason, Some(Reason::Internal));
        assert!(recipient.outcome.is_some(), "the sender is told");
    }
    assert_eq!(ground.arrived().len(), 1, "nothing left a second time");
}
