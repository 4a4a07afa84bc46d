//! One bridge on SQLite, life after life.

use std::{sync::atomic::Ordering, time::Instant};

use super::{
    arena::{Arena, among_traffic, held},
    check::problems,
    figures::Figures,
    ground::{Node, mark, postmaster_has},
    life::{self, Ended},
    plan::{Plan, every_point},
    senders::item_of_address,
};
use crate::support::crossing_ground::CrossingGround;

/// Starts after which everything must have ended.
const MOST_STARTS: usize = 12;

/// Runs at least so many messages through a bridge that dies all the time. What was wrong, and how it went.
pub(super) fn run(seed: u64, messages: usize) -> (Vec<String>, String) {
    among_traffic(seed, 5, |arena| {
        let begun = Instant::now();
        mark(&arena.ground.path(), 0);
        let mut driver = Driver {
            arena,
            plan: Plan::new(seed, messages),
            figures: Figures::default(),
        };
        while !driver.plan.is_through() || arena.made() < messages {
            assert!(!arena.world.is_over(), "a thread ended before its time");
            driver.live();
        }
        arena.close();
        driver.settle();
        let mut figures = driver.figures;
        figures.took = begun.elapsed();
        figures.given_up = arena.senders.given_up.load(Ordering::SeqCst);
        let kept = postmaster_has(&arena.ground.path());
        let mut record = arena.world.record();
        record.held = held(&arena.ground.all_exchanges());
        record.kept = kept
            .iter()
            .filter_map(|from| item_of_address(from))
            .collect();
        let mut problems = problems(&record, 1);
        let missed = every_point().into_iter();
        let missed = missed.filter(|point| !figures.at_points.contains_key(point));
        problems.extend(missed.map(|point| format!("never killed at {point}")));
        (problems, figures.told(&record))
    })
}

struct Driver<'a> {
    arena: &'a Arena<'a>,
    plan: Plan,
    figures: Figures,
}

impl Driver<'_> {
    fn ground(&self) -> &CrossingGround<'_> {
        self.arena.ground
    }

    /// What waits for another attempt does not wait for as long as it would.
    fn let_retries_be_due(&self) {
        if self.ground().path().join("data/xdbridge.db").exists() {
            self.ground().let_retries_be_due();
        }
    }

    /// One life of the bridge.
    fn live(&mut self) {
        let world = self.arena.world;
        let life = self.plan.next();
        self.let_retries_be_due();
        self.figures.failing += life.failing;
        let ended = life::live(world, &life, (0, &self.ground().path()), || {
            self.arena.wait_for_silence();
        });
        self.figures.count(ended);
        if let Ended::Missed(point) | Ended::RefusedToStart(Some(point)) = ended {
            self.plan.was_missed(point);
        }
        if matches!(ended, Ended::RefusedToStart(_)) && life.failing == 0 {
            world.complain(format!("{}: it does not start", life.faults));
        }
    }

    /// Nothing fails any more: everything comes to its end.
    fn settle(&mut self) {
        let (arena, world) = (self.arena, self.arena.world);
        for _ in 0..MOST_STARTS {
            self.let_retries_be_due();
            world.begin_era();
            let bridge = self.ground().start();
            let node = Node::of(&bridge);
            world.add_node(node);
            world.wait_until("everything is quiet", || {
                arena.is_idle() && self.ground().is_quiet() && arena.is_idle()
            });
            world.remove_node(node);
            bridge.stop();
            let is_open = || {
                let all = self.ground().all_exchanges();
                all.iter().any(|exchange| !exchange.is_final())
            };
            if world.record().waiting() == 0 && !is_open() {
                return;
            }
        }
    }
}
