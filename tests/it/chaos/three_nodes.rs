//! Three bridges on one PostgreSQL: each lives and dies by itself, the database is restarted under them, and they are cut
//! off from it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;
use xdbridge::{
    adapters::{
        clock::SystemClock,
        store::{DatabaseTls, PostgresConfig, PostgresStore, StoreConfig, StoreKind},
    },
    bridge::exchange::Exchange,
    flows::ports::Clock,
};

use super::{
    arena::{Arena, among_traffic, held},
    check::problems,
    dice::Dice,
    figures::Figures,
    ground::{Node, mark, postmaster_has},
    life::{self, Ended},
    plan::Plan,
    senders::item_of_address,
};
use crate::support::{
    crossing_ground::every_exchange,
    cut_proxy::CutProxy,
    postgres::{PostgresServer, node_folder},
    process::BridgeProcess,
};

const NODES: usize = 3;
/// Longest that a node may take to start once nothing fails any more: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two starts of a node that does not start.
const START_PAUSE: Duration = Duration::from_millis(500);
/// Looks after which everything must have ended.
const MOST_LOOKS: usize = 12;
/// Work of the outbox that is not a matter of time.
const WORK: &str = "effect NOT LIKE '%Deadline%' AND effect NOT LIKE '%RemoveBodies%'";

/// What must have happened at the least before the run may end.
#[derive(Clone, Copy)]
pub(super) struct Least {
    pub(super) messages: usize,
    pub(super) lives: usize,
    pub(super) restarts: usize,
    pub(super) cuts: usize,
}

/// One node: its number, where its files are, and its way to the database.
struct Place {
    number: usize,
    folder: PathBuf,
    proxy: CutProxy,
}

/// Runs at least so much. What was wrong, and how it went.
pub(super) fn run(seed: u64, least: Least) -> (Vec<String>, String) {
    // On the thread that the test ends on.
    let server = PostgresServer::start("");
    let runtime = Runtime::new().unwrap();
    among_traffic(seed, 5, |arena| {
        let begun = Instant::now();
        let places: Vec<Place> = (0..NODES)
            .map(|number| place(arena, &server, number))
            .collect();
        let shared = Shared {
            arena,
            plan: Mutex::new(Plan::new(seed, least.messages)),
            figures: Mutex::default(),
            is_healed: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            lives: Mutex::new(0),
        };
        let mut database = Database {
            server,
            runtime,
            dice: Dice::new(seed, 2),
        };
        thread::scope(|scope| {
            let _ends = shared.ends();
            for place in &places {
                let shared = &shared;
                scope.spawn(move || {
                    let _ends = shared.ends_by_panic();
                    shared.live(place);
                });
            }
            database.disturb(&shared, &places, least);
            database.settle(&shared);
        });
        let mut figures = shared.figures.into_inner().unwrap();
        figures.took = begun.elapsed();
        figures.given_up = arena.senders.given_up.load(Ordering::SeqCst);
        let exchanges = database.exchanges(&places[0].folder);
        let mut record = arena.world.record();
        record.held = held(&exchanges);
        for place in &places {
            let kept = postmaster_has(&place.folder);
            record
                .kept
                .extend(kept.iter().filter_map(|from| item_of_address(from)));
        }
        (problems(&record, NODES), figures.told(&record))
    })
}

fn place(arena: &Arena<'_>, server: &PostgresServer, number: usize) -> Place {
    let proxy = CutProxy::start(server.socket());
    let way = PostgresConfig {
        host: proxy.address().ip().to_string(),
        port: proxy.address().port(),
        tls: DatabaseTls::Disable,
        ..server.settings()
    };
    let folder = node_folder(arena.ground, &way, &format!("node-{number}"));
    mark(&folder, number);
    Place {
        number,
        folder,
        proxy,
    }
}

/// What the nodes' threads share.
struct Shared<'a> {
    arena: &'a Arena<'a>,
    plan: Mutex<Plan>,
    figures: Mutex<Figures>,
    /// Nothing more is done to the nodes.
    is_healed: AtomicBool,
    /// The nodes stop.
    is_ending: AtomicBool,
    lives: Mutex<usize>,
}

struct Ends<'a>(&'a AtomicBool, bool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if !self.1 || thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

impl Shared<'_> {
    fn ends(&self) -> Ends<'_> {
        Ends(&self.is_ending, false)
    }

    fn ends_by_panic(&self) -> Ends<'_> {
        Ends(&self.is_ending, true)
    }

    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst) || self.arena.world.is_over()
    }

    /// One life of the node after the other.
    fn live(&self, place: &Place) {
        while !self.is_ending() {
            if self.is_healed.load(Ordering::SeqCst) {
                self.live_on(place);
            } else {
                self.live_once(place);
            }
        }
    }

    fn live_once(&self, place: &Place) {
        let world = self.arena.world;
        let life = self.plan.lock().unwrap().next();
        let ended = life::live(world, &life, (place.number, &place.folder), || {});
        let mut figures = self.figures.lock().unwrap();
        figures.failing += life.failing;
        figures.count(ended);
        drop(figures);
        match ended {
            Ended::Missed(point) => self.plan.lock().unwrap().was_missed(point),
            // Without its database no node starts, and whoever runs it tries again after a while.
            Ended::RefusedToStart(point) => {
                if let Some(point) = point {
                    self.plan.lock().unwrap().was_not_begun(point);
                }
                thread::sleep(START_PAUSE);
                return;
            }
            _ => {}
        }
        *self.lives.lock().unwrap() += 1;
    }

    /// The last life: until everything has ended.
    fn live_on(&self, place: &Place) {
        const LOOK: Duration = Duration::from_millis(50);
        let (world, begun) = (self.arena.world, Instant::now());
        // The database may not have seen yet that whoever had its name is dead.
        let bridge = loop {
            let bridge = BridgeProcess::start(&place.folder, "");
            if bridge.is_listening() {
                break bridge;
            }
            assert!(begun.elapsed() < PATIENCE, "{}", bridge.log_text());
        };
        let node = Node::of(&bridge);
        world.add_node(node);
        while !self.is_ending() {
            thread::sleep(LOOK);
        }
        world.remove_node(node);
        bridge.stop();
    }
}

struct Database {
    server: PostgresServer,
    runtime: Runtime,
    dice: Dice,
}

impl Database {
    /// Restarts the database and cuts nodes off until enough has happened.
    fn disturb(&mut self, shared: &Shared<'_>, places: &[Place], least: Least) {
        let (arena, world) = (shared.arena, shared.arena.world);
        loop {
            let (restarts, cuts) = {
                let figures = shared.figures.lock().unwrap();
                (figures.restarts, figures.cuts)
            };
            let lives = *shared.lives.lock().unwrap();
            let is_enough = restarts >= least.restarts && cuts >= least.cuts;
            if is_enough && lives >= least.lives && arena.made() >= least.messages {
                break;
            }
            assert!(!shared.is_ending(), "a thread ended before its time");
            thread::sleep(self.dice.millis(200, 1200));
            self.let_retries_be_due();
            // Over the whole run, or only its first messages would see any of it.
            let is_early = |done: usize, least_of_it: usize| {
                done * least.messages > least_of_it * arena.made()
            };
            if self.dice.percent(40) {
                if is_early(cuts, least.cuts) {
                    continue;
                }
                let place = &places[self.dice.below(places.len())];
                let cut_off = place.number..place.number + 1;
                world.begin_trouble(cut_off.clone());
                // At times for longer than a node counts as dead.
                place.proxy.cut_for(self.dice.millis(1, 2500));
                world.end_trouble(cut_off);
                shared.figures.lock().unwrap().cuts += 1;
            } else if self.dice.percent(30) && !is_early(restarts, least.restarts) {
                world.begin_trouble(0..NODES);
                self.server.kill();
                thread::sleep(self.dice.millis(0, 1000));
                self.server.start_again();
                world.end_trouble(0..NODES);
                shared.figures.lock().unwrap().restarts += 1;
            }
        }
        arena.close();
        shared.is_healed.store(true, Ordering::SeqCst);
    }

    /// Nothing fails any more: everything comes to its end.
    fn settle(&self, shared: &Shared<'_>) {
        let (arena, world) = (shared.arena, shared.arena.world);
        for _ in 0..MOST_LOOKS {
            self.let_retries_be_due();
            world.wait_until("everything is quiet", || {
                assert!(!shared.is_ending(), "a node ended before its time");
                arena.is_idle() && self.is_quiet() && arena.is_idle()
            });
            if world.record().waiting() == 0 && self.open_exchanges() == 0 {
                return;
            }
        }
    }

    /// What waits for another attempt does not wait for as long as it would.
    fn let_retries_be_due(&self) {
        self.sql(&format!(
            "UPDATE outbox SET next_at = 0 WHERE owner IS NULL AND {WORK}"
        ));
    }

    fn is_quiet(&self) -> bool {
        let soon = (SystemClock.now() + Duration::from_secs(15)).as_microsecond();
        let count = format!(
            "SELECT count(*) FROM outbox WHERE {WORK} AND (owner IS NOT NULL OR next_at < {soon})"
        );
        self.sql(&count) == ["0"]
    }

    fn open_exchanges(&self) -> usize {
        let rows = self.sql("SELECT count(*) FROM exchange WHERE NOT is_final");
        rows[0].parse().unwrap()
    }

    /// Before the first node has made the tables, there is nothing to ask.
    fn sql(&self, statement: &str) -> Vec<String> {
        self.runtime.block_on(async {
            let tables = self
                .server
                .sql("SELECT to_regclass('outbox') IS NOT NULL")
                .await;
            if tables == ["t"] {
                self.server.sql(statement).await
            } else {
                Vec::new()
            }
        })
    }

    fn exchanges(&self, folder: &Path) -> Vec<Exchange> {
        let config = StoreConfig {
            kind: StoreKind::Postgres,
            key_files: vec![folder.join("store.key")],
            postgres: self.server.settings(),
            ..StoreConfig::default()
        };
        self.runtime.block_on(async {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let store = PostgresStore::open(&config, clock, "reader").await.unwrap();
            let all = every_exchange(&*store).await;
            store.close().await;
            all
        })
    }
}
