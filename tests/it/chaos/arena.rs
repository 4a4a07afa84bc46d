//! Everything around the bridges of a run, and the traffic that goes on until the run is over.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    thread,
};

use openssl::x509::X509;
use xdbridge::bridge::exchange::{Exchange, Origin};

use super::{
    dice::Dice,
    edge::Edge,
    ground::{World, configure, direct_certificate},
    hisp::{Hisp, Post, refuse_some},
    record::Held,
    senders::{Senders, item_of_message_id, item_of_soap_id},
};
use crate::support::crossing_ground::{CrossingGround, Workshop};

const SENDERS: u64 = 6;
/// Threads of the HISP that send.
const NOTIFIERS: u64 = 4;

/// A bridge's directory, and everybody around it.
pub(super) struct Arena<'a> {
    pub(super) world: &'a World,
    pub(super) ground: &'a CrossingGround<'a>,
    pub(super) edge: &'a Edge,
    pub(super) post: &'a Post,
    pub(super) senders: &'a Senders<'a>,
}

impl Arena<'_> {
    /// Items that were begun so far.
    pub(super) fn made(&self) -> usize {
        usize::try_from(self.senders.made.load(Ordering::SeqCst)).unwrap()
    }

    /// Nothing new is sent from now on.
    pub(super) fn close(&self) {
        self.senders.is_enough.store(true, Ordering::SeqCst);
    }

    /// Whether nobody around the bridges has anything to do.
    pub(super) fn is_idle(&self) -> bool {
        self.senders.at_work.load(Ordering::SeqCst) == 0 && self.post.is_idle()
    }

    /// Waits until every connection that a dead bridge had to somebody has ended.
    pub(super) fn wait_for_silence(&self) {
        self.ground.wait_for_silence();
        self.edge.wait_for_silence();
    }
}

/// Ends the run with what holds it.
struct EndsTheRun<'a>(&'a World);

impl Drop for EndsTheRun<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The same, if it panics: the others must not wait for it.
struct EndsTheRunByPanic<'a>(&'a World);

impl Drop for EndsTheRunByPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end();
        }
    }
}

/// Does `run` among traffic, which ends with it. So many attempts in a hundred are made twice at once.
pub(super) fn among_traffic<T>(
    seed: u64,
    twice_percent: usize,
    run: impl FnOnce(&Arena<'_>) -> T,
) -> T {
    let world = World::new(seed);
    let workshop = Workshop::new();
    let post = Arc::new(Post::default());
    let taker = {
        let (world, post) = (Arc::clone(&world), Arc::clone(&post));
        let dice = Dice::new(seed, 1000);
        move |taken| post.take(&world, &dice, taken)
    };
    let ground = workshop.ground_with(|hop| hop.acts(|_, step| refuse_some(step)).gives_to(taker));
    let folder = ground.path();
    let ca = X509::from_pem(&fs::read(folder.join("ca/ca.pem")).unwrap()).unwrap();
    let edge = Edge::start(&world, &workshop, ca);
    configure(
        &folder,
        &edge.knowing.url(),
        &edge.once.url(),
        &edge.status.url(),
    );
    let hisp = Hisp {
        world: &world,
        post: &post,
        identity: workshop.hisp(),
        bridge: direct_certificate(&folder),
    };
    let senders = Senders {
        world: &world,
        ground: &ground,
        hisp: &hisp,
        twice_percent,
        made: AtomicU32::new(0),
        is_enough: AtomicBool::new(false),
        at_work: AtomicUsize::new(0),
        given_up: AtomicU32::new(0),
    };
    let arena = Arena {
        world: &world,
        ground: &ground,
        edge: &edge,
        post: &post,
        senders: &senders,
    };
    let (hisp, senders, world) = (&hisp, &senders, &*world);
    thread::scope(|scope| {
        let _ends = EndsTheRun(world);
        for number in 0..SENDERS {
            scope.spawn(move || {
                let _ends = EndsTheRunByPanic(world);
                senders.run(&Dice::new(seed, 10 + number));
            });
        }
        for number in 0..NOTIFIERS {
            scope.spawn(move || {
                let _ends = EndsTheRunByPanic(world);
                hisp.send(&Dice::new(seed, 100 + number));
            });
        }
        scope.spawn(move || {
            let _ends = EndsTheRunByPanic(world);
            hisp.read();
        });
        run(&arena)
    })
}

/// The exchanges of a store as they are judged.
pub(super) fn held(exchanges: &[Exchange]) -> Vec<Held> {
    let held = exchanges.iter().map(|exchange| {
        let (item, is_absorbed) = match &exchange.origin {
            Origin::Xdr {
                soap_message_id, ..
            } => {
                let id = soap_message_id.as_ref();
                (id.and_then(|id| item_of_soap_id(id.as_str())), false)
            }
            Origin::Direct { message_id, .. } => {
                let id = message_id.as_ref();
                let item = id.and_then(|id| item_of_message_id(id.as_str()));
                (item, exchange.legs.is_empty())
            }
        };
        Held {
            item,
            is_final: exchange.is_final(),
            is_absorbed,
            to: exchange
                .recipients
                .iter()
                .map(|recipient| recipient.address.to_string())
                .collect(),
        }
    });
    held.collect()
}
