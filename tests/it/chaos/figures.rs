//! How a run went, for people.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    check::repeats,
    life::Ended,
    record::{Door, Record},
};

/// What was done to the bridges, and what came of the messages.
#[derive(Default)]
pub(super) struct Figures {
    /// Kills by the fault point at which the bridge killed itself.
    pub(super) at_points: BTreeMap<&'static str, usize>,
    pub(super) at_random: usize,
    pub(super) stops: usize,
    /// Writes that were set to fail.
    pub(super) failing: usize,
    /// Starts that were refused, since they could not be recorded.
    pub(super) refused_starts: usize,
    /// Restarts of the database.
    pub(super) restarts: usize,
    /// Times that a node was cut off from the database.
    pub(super) cuts: usize,
    pub(super) given_up: u32,
    pub(super) took: Duration,
}

impl Figures {
    /// A life ended.
    pub(super) fn count(&mut self, ended: Ended) {
        match ended {
            Ended::AtPoint(point) => *self.at_points.entry(point).or_default() += 1,
            Ended::Missed(_) | Ended::Killed => self.at_random += 1,
            Ended::Stopped => self.stops += 1,
            Ended::RefusedToStart(_) => self.refused_starts += 1,
            Ended::Wrong => {}
        }
    }

    /// The figures with those of the record.
    pub(super) fn told(&self, record: &Record) -> String {
        let accepted = |door: Door| {
            let items = record.items.values();
            items
                .filter(|item| item.door == door && item.is_accepted)
                .count()
        };
        let attempts: u32 = record.items.values().map(|item| item.attempts).sum();
        let repeats = repeats(record);
        format!(
            "{} messages: accepted {} by XDR, {} by Direct, {} for the postmaster, given up {}; {attempts} attempts\n\
             {} deliveries, of them repeated {}; {} notices, of them repeated {}; {} exchanges\n{self}",
            record.items.len(),
            accepted(Door::Xdr),
            accepted(Door::Direct),
            accepted(Door::Postmaster),
            self.given_up,
            record.arrivals.len(),
            repeats.deliveries,
            record.told.len(),
            repeats.notices,
            record.held.len(),
        )
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_points: usize = self.at_points.values().sum();
        writeln!(
            f,
            "killed {at_points} times at {} fault points, {} times at random; stopped {} times; {} failing writes; \
             {} starts refused; database restarted {} times, cut off {} times; {:.0} s",
            self.at_points.len(),
            self.at_random,
            self.stops,
            self.failing,
            self.refused_starts,
            self.restarts,
            self.cuts,
            self.took.as_secs_f64()
        )?;
        for (point, kills) in &self.at_points {
            writeln!(f, "  {point}: {kills}")?;
        }
        Ok(())
    }
}
