//! The outbox runs what is due in lanes: a destination that takes its time keeps nobody else waiting.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use xdbridge::{
    bridge::exchange::{Effect, MdnToSend, Scheduled},
    flows::{
        outbox::{Outbox, Prepared, RunEffect},
        ports::{Claim, Clock, Exchanges, StoreError},
    },
    formats::ids::LegId,
};

use crate::support::{
    bridge::runtime,
    store::{SqliteGround, done, exchange, insert, time},
    wait_until,
};

/// Where an effect leads, as the test names it.
fn name_of(effect: &Effect) -> String {
    match effect {
        Effect::Post { endpoint, .. } => format!("post to {endpoint}"),
        Effect::PostStatus { partner, .. } => format!("status to {partner}"),
        Effect::SendMdn { domain, .. } | Effect::Send { domain, .. } => format!("mail to {domain}"),
        Effect::LookUp { .. } => "look-up".to_owned(),
        _ => "own work".to_owned(),
    }
}

/// Runs effects: those of one name come to no end until they are let go.
struct Runner {
    store: Arc<dyn Exchanges>,
    stalls: &'static str,
    let_go: Semaphore,
    preparing: AtomicUsize,
    begun: Mutex<BTreeMap<String, usize>>,
    ended: Mutex<BTreeMap<String, usize>>,
}

fn count(counts: &Mutex<BTreeMap<String, usize>>, name: &str) -> usize {
    counts
        .lock()
        .unwrap()
        .get(name)
        .copied()
        .unwrap_or_default()
}

#[async_trait]
impl RunEffect for Runner {
    async fn prepare(&self, claim: &Claim) -> Result<Prepared, StoreError> {
        if name_of(&claim.effect).starts_with(PREPARED_FOR_EVER) {
            self.preparing.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        Ok(Prepared::Ready)
    }

    async fn run(&self, claim: &Claim) -> Result<(), StoreError> {
        let name = name_of(&claim.effect);
        *self.begun.lock().unwrap().entry(name.clone()).or_default() += 1;
        if name == self.stalls {
            self.let_go.acquire().await.unwrap().forget();
        }
        self.store.commit(done(claim)).await?;
        *self.ended.lock().unwrap().entry(name).or_default() += 1;
        Ok(())
    }
}

/// What waits for a destination that stalls, many times what the workers have room for.
const STALLED: usize = 700;
const WORKERS: usize = 8;
/// What never gets ready to be handed over.
const PREPARED_FOR_EVER: &str = "mail to direct.silent";

fn post(endpoint: &str) -> Effect {
    Effect::Post {
        leg: LegId::random(),
        endpoint: endpoint.to_owned(),
        attempt: 1,
    }
}

fn status(partner: &str) -> Effect {
    Effect::PostStatus {
        recipient: 0,
        partner: partner.to_owned(),
        attempt: 1,
    }
}

fn mail(domain: &str) -> Effect {
    Effect::SendMdn {
        recipient: 0,
        disposition: MdnToSend::Processed,
        domain: domain.parse().unwrap(),
        until: time(3600),
    }
}

/// A store in which these effects of one exchange are due.
fn store_with(
    effects: impl IntoIterator<Item = Effect>,
) -> (Runtime, SqliteGround, Arc<dyn Exchanges>) {
    let runtime = runtime();
    let ground = SqliteGround::new();
    let store: Arc<dyn Exchanges> = runtime.block_on(ground.open());
    let written = exchange("edge", time(0));
    let mut unit = insert(&written, vec![]);
    let due = |effect| (written.id, Scheduled::new(effect, time(0)));
    unit.effects = effects.into_iter().map(due).collect();
    runtime.block_on(store.commit(unit)).unwrap();
    (runtime, ground, store)
}

/// An outbox at work, whose effects of the name `stalls` wait until they are let go.
fn run(
    runtime: &Runtime,
    ground: &SqliteGround,
    store: &Arc<dyn Exchanges>,
    stalls: &'static str,
) -> (Arc<Runner>, watch::Sender<bool>, JoinHandle<()>) {
    let runner = Arc::new(Runner {
        store: Arc::clone(store),
        stalls,
        let_go: Semaphore::new(0),
        preparing: AtomicUsize::new(0),
        begun: Mutex::default(),
        ended: Mutex::default(),
    });
    let outbox = Arc::new(Outbox {
        store: Arc::clone(store),
        effects: runner.clone(),
        clock: ground.clock.clone(),
        wake: store.due_changed(),
        workers: WORKERS,
        lease: Duration::from_secs(30_000),
        longest_effect: Duration::from_secs(20_000),
    });
    let (stop, stopping) = watch::channel(false);
    (runner, stop, runtime.spawn(outbox.run(stopping)))
}

/// Nothing but `stalled` waits for the destination that stalls: all else ends, and the rest ends once it goes on.
fn others_go_on(stalls: &'static str, stalled: impl Fn() -> Effect) {
    let slow = std::iter::repeat_with(stalled).take(STALLED);
    let others = [
        post("quick"),
        mail("direct.quick.example"),
        status("quick"),
        Effect::DeadlineQueue,
    ];
    let (runtime, ground, store) = store_with(slow.chain(others.clone()));

    let (runner, stop, running) = run(&runtime, &ground, &store, stalls);
    for effect in &others {
        let name = name_of(effect);
        wait_until("the others are done", || count(&runner.ended, &name) == 1);
    }
    // It takes no more than the places of one destination, and ends nothing.
    assert!((1..=3).contains(&count(&runner.begun, stalls)));
    assert_eq!(count(&runner.ended, stalls), 0);

    // What was given back comes again when its time comes.
    runner.let_go.add_permits(STALLED);
    wait_until("all is done", || {
        ground.clock.advance(Duration::from_secs(1));
        store.due_changed().notify_one();
        count(&runner.ended, stalls) == STALLED
    });
    assert_eq!(count(&runner.begun, stalls), STALLED);
    stop.send(true).unwrap();
    runtime.block_on(running).unwrap();
}

// rule: Q-6
#[test]
fn what_was_under_way_while_the_store_failed_comes_again_long_before_its_lease_ends() {
    let (runtime, ground, store) = store_with([status("elm")]);
    let (runner, stop, running) = run(&runtime, &ground, &store, "status to elm");
    let begun = |count_of| {
        wait_until("it runs", || {
            count(&runner.begun, "status to elm") == count_of
        })
    };
    begun(1);
    let change = |statements: &str| {
        let database = rusqlite::Connection::open(ground.config.path.join("xdbridge.db")).unwrap();
        database.execute_batch(statements).unwrap();
    };
    change(
        "CREATE TRIGGER no_end BEFORE DELETE ON outbox BEGIN SELECT RAISE(ABORT, 'broken'); END;
         CREATE TRIGGER no_change BEFORE UPDATE ON outbox BEGIN SELECT RAISE(ABORT, 'broken'); END;",
    );
    runner.let_go.add_permits(2);
    // It fails, and so does giving it back: at most the first attempt at that is over when the store is well again.
    std::thread::sleep(Duration::from_millis(500));
    change("DROP TRIGGER no_end; DROP TRIGGER no_change;");
    wait_until("it is done", || {
        ground.clock.advance(Duration::from_secs(1));
        store.due_changed().notify_one();
        count(&runner.ended, "status to elm") == 1
    });
    begun(2);
    assert!(ground.clock.now() < time(20_000), "by its lease");
    stop.send(true).unwrap();
    runtime.block_on(running).unwrap();
}

#[test]
fn a_stalling_endpoint_delays_no_other_endpoint_no_mail_and_no_deadline() {
    others_go_on("post to slow", || post("slow"));
}

// rule: STS-3
#[test]
fn a_stalling_status_endpoint_delays_no_other_partner_no_endpoint_no_mail_and_no_deadline() {
    others_go_on("status to slow", || status("slow"));
}

#[test]
fn a_stalling_next_hop_delays_no_endpoint_no_other_domain_and_no_deadline() {
    others_go_on("mail to direct.slow.example", || {
        mail("direct.slow.example")
    });
}

// rule: DISC-5
#[test]
fn look_ups_that_stall_take_no_room_of_others() {
    let look_up = Effect::LookUp {
        recipient: 0,
        attempt: 1,
    };
    let others = [
        post("quick"),
        mail("direct.quick.example"),
        status("quick"),
        Effect::DeadlineQueue,
    ];
    let stalled = std::iter::repeat_n(look_up, STALLED);
    let (runtime, ground, store) = store_with(stalled.chain(others.clone()));
    let (runner, stop, running) = run(&runtime, &ground, &store, "look-up");
    for effect in &others {
        let name = name_of(effect);
        wait_until("the others are done", || count(&runner.ended, &name) == 1);
    }
    assert_eq!(count(&runner.ended, "look-up"), 0);
    runner.let_go.add_permits(STALLED);
    wait_until("all is done", || count(&runner.ended, "look-up") == STALLED);
    stop.send(true).unwrap();
    runtime.block_on(running).unwrap();
}

// rule: DISC-5, MDN-28
#[test]
fn notices_that_wait_for_name_servers_hold_no_place_of_a_hand_over() {
    // More domains than there are places for hand-overs.
    let silent = (0..WORKERS * 2).map(|n| mail(&format!("direct.silent{n}.example")));
    let quick = mail("direct.quick.example");
    let (runtime, ground, store) = store_with(silent.chain([quick]));
    let (runner, _stop, running) = run(&runtime, &ground, &store, "nobody");
    wait_until("all are being prepared", || {
        runner.preparing.load(Ordering::SeqCst) == WORKERS * 2
    });
    wait_until("the other notice is handed over", || {
        count(&runner.ended, "mail to direct.quick.example") == 1
    });
    running.abort();
}
