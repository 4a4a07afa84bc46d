//! What is done to a bridge, life by life.

use std::{collections::BTreeMap, time::Duration};

use xdbridge::flows::fault_points;

use super::dice::Dice;

/// How often a point that was not reached is tried again.
const MOST_TRIES: u32 = 6;

/// One life of a bridge.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// For `XDBRIDGE_FAULTS`.
    pub(super) faults: String,
    /// How many writes are to fail in it.
    pub(super) failing: usize,
    pub(super) end: End,
}

/// How it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It kills itself at this fault point.
    AtPoint(&'static str),
    /// It is killed after this time.
    After(Duration),
    /// It is stopped in order after this time.
    Stop(Duration),
}

/// The lives to come: every fault point so often, and others between.
pub(super) struct Plan {
    dice: Dice,
    points: Vec<&'static str>,
    /// How often all points are to come again.
    passes: usize,
    tries: BTreeMap<&'static str, u32>,
    /// The latest passage of a point at which it kills.
    passages: usize,
}

/// Every named fault point.
pub(super) fn every_point() -> Vec<&'static str> {
    let ways = [
        &fault_points::TO_DIRECT[..],
        &fault_points::TO_XDR,
        &fault_points::NOTICES,
        &fault_points::STATUS,
        &fault_points::BOUNCES,
        &fault_points::POSTMASTER,
        &fault_points::OWN_MAIL,
    ];
    ways.concat()
}

impl Plan {
    pub(super) fn new(seed: u64, messages: usize) -> Self {
        const MESSAGES_PER_PASS: usize = 500;
        let mut plan = Self {
            dice: Dice::new(seed, 1),
            points: Vec::new(),
            passes: messages.div_ceil(MESSAGES_PER_PASS),
            tries: BTreeMap::new(),
            passages: (messages / 100).clamp(3, 20),
        };
        plan.refill();
        plan
    }

    fn refill(&mut self) {
        if self.points.is_empty() && self.passes > 0 {
            self.passes -= 1;
            self.points = every_point();
            self.dice.shuffle(&mut self.points);
        }
    }

    /// Whether every point had its turns.
    pub(super) fn is_through(&self) -> bool {
        self.points.is_empty()
    }

    /// The next life.
    pub(super) fn next(&mut self) -> Life {
        const AT_POINT_PERCENT: usize = 80;
        const STOP_PERCENT: usize = 30;
        let point = if self.dice.percent(AT_POINT_PERCENT) {
            self.points.pop()
        } else {
            None
        };
        self.refill();
        if let Some(point) = point {
            let passage = 1 + self.dice.below(self.passages_of(point));
            let mut faults = vec![format!("{point}@{passage}=kill")];
            let failing = self.failing_writes(Some(point), &mut faults);
            return Life {
                faults: faults.join(","),
                failing,
                end: End::AtPoint(point),
            };
        }
        let mut faults = Vec::new();
        let failing = self.failing_writes(None, &mut faults);
        // The longer ones let everything come to its end before the next.
        let time = self
            .dice
            .millis(50, if self.is_through() { 3000 } else { 1000 });
        let end = if self.dice.percent(STOP_PERCENT) {
            End::Stop(time)
        } else {
            End::After(time)
        };
        Life {
            faults: faults.join(","),
            failing,
            end,
        }
    }

    /// What few messages pass is waited for less often.
    fn passages_of(&self, point: &str) -> usize {
        let is_rare = ["bounce.", "postmaster.", "own_mail."]
            .iter()
            .any(|way| point.starts_with(way));
        if is_rare {
            1 + self.passages / 10
        } else {
            self.passages
        }
    }

    fn failing_writes(&self, kills_at: Option<&str>, faults: &mut Vec<String>) -> usize {
        let mut points = every_point();
        points.retain(|point| Some(*point) != kills_at);
        self.dice.shuffle(&mut points);
        let count = self.dice.pick(&[0, 0, 1, 2]);
        for point in &points[..count] {
            let passage = 1 + self.dice.below(self.passages_of(point));
            let error = self.dice.pick(&["enospc", "eio"]);
            faults.push(format!("{point}@{passage}={error}"));
        }
        count
    }

    /// That life never began, through no fault of its plan: its point comes again.
    pub(super) fn was_not_begun(&mut self, point: &'static str) {
        self.points.insert(0, point);
    }

    /// The point was not reached in that life: it comes again, a few times.
    pub(super) fn was_missed(&mut self, point: &'static str) {
        let tries = self.tries.entry(point).or_default();
        *tries += 1;
        if *tries < MOST_TRIES {
            self.points.insert(0, point);
        }
    }
}
