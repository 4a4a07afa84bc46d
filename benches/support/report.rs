//! What a bench is asked for, and how it tells what it found.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// Octets in a MiB.
pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// What the command line asks for.
pub(crate) struct Wanted {
    /// `quick`, or `cargo test --benches`: one short round of each.
    pub(crate) is_quick: bool,
    /// The programs that are measured in turn: each `bridge=PATH`, or this build's own.
    pub(crate) programs: Vec<PathBuf>,
    words: Vec<String>,
}

impl Wanted {
    /// Reads the arguments behind the program's name.
    pub(crate) fn read(arguments: &[String]) -> Self {
        let mut wanted = Self {
            // `cargo bench` passes --bench, and cargo test --benches passes --test.
            is_quick: arguments.iter().any(|word| word == "--test"),
            programs: Vec::new(),
            words: Vec::new(),
        };
        for word in arguments.iter().filter(|word| !word.starts_with("--")) {
            if word == "quick" {
                wanted.is_quick = true;
            } else if let Some(path) = word.strip_prefix("bridge=") {
                wanted.programs.push(path.into());
            } else {
                wanted.words.push(word.clone());
            }
        }
        if wanted.programs.is_empty() {
            let own = Path::new(env!("CARGO_BIN_EXE_xdbridge"));
            wanted.programs.push(own.to_owned());
        }
        wanted
    }

    /// Whether the row `name` is wanted: every row if no words were given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    /// What is put behind a row's name to tell the programs apart.
    pub(crate) fn label(&self, program: usize) -> String {
        match self.programs.get(program) {
            Some(path) if self.programs.len() > 1 => format!(" [{}]", path.display()),
            _ => String::new(),
        }
    }
}

/// What the rounds of one row gave.
#[derive(Default)]
pub(crate) struct Rounds {
    floors: Vec<f64>,
    costs: Vec<f64>,
    ratios: Vec<f64>,
    rates: Vec<f64>,
}

impl Rounds {
    /// Adds a round: CPU seconds of the floor and of the bridge for one message, and messages in a second.
    pub(crate) fn add(&mut self, floor: f64, cost: f64, rate: f64) {
        self.floors.push(floor * 1e3);
        self.costs.push(cost * 1e3);
        self.ratios.push(cost / floor);
        self.rates.push(rate);
    }

    /// Heads the table.
    pub(crate) fn say_head() -> anyhow::Result<()> {
        say(&format!(
            "\n{:<44} {:>9} {:>9} {:>18} {:>7} {:>8}",
            "row", "floor ms", "bridge ms", "ratio (spread)", "target", "msg/s"
        ))
    }

    /// Tells the row `name`.
    pub(crate) fn say(mut self, name: &str, target: Option<f64>) -> anyhow::Result<()> {
        let (low, ratio, high) = spread(&mut self.ratios)?;
        let target = target.map_or("-".to_owned(), |target| format!("{target:.1}"));
        say(&format!(
            "{name:<44} {:>9.3} {:>9.3} {:>18} {target:>7} {:>8.1}",
            spread(&mut self.floors)?.1,
            spread(&mut self.costs)?.1,
            format!("{ratio:.2} ({low:.2}-{high:.2})"),
            spread(&mut self.rates)?.1,
        ))
    }
}

/// Lowest, median and highest.
pub(crate) fn spread(values: &mut [f64]) -> anyhow::Result<(f64, f64, f64)> {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().context("no values");
    Ok((
        at(0)?,
        at(values.len() / 2)?,
        at(values.len().saturating_sub(1))?,
    ))
}

/// Tells a line at once.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
