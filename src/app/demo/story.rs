//! What the demo prints: one line for each step with its time, one for each check with what was found.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use super::compare::Check;

/// Tells the crossing, and keeps count of what held.
pub(super) struct Story<'a> {
    out: &'a mut dyn Write,
    started: Instant,
    last: Instant,
    held: usize,
    differed: usize,
}

impl<'a> Story<'a> {
    /// Begins the clock.
    pub(super) fn begin(out: &'a mut dyn Write) -> io::Result<Self> {
        writeln!(
            out,
            "xdbridge demo: one submission crosses two bridges, from XDR by Direct to XDR"
        )?;
        writeln!(out)?;
        writeln!(out, "  at/ms  took/ms")?;
        let now = Instant::now();
        Ok(Self {
            out,
            started: now,
            last: now,
            held: 0,
            differed: 0,
        })
    }

    /// Tells a step that has just ended; the next one begins now.
    pub(super) fn step(&mut self, name: &str, text: &str) -> io::Result<()> {
        let now = Instant::now();
        let at = milliseconds(now - self.started);
        let took = milliseconds(now - self.last);
        self.last = now;
        writeln!(self.out, "{at:>7}{took:>9}  {name:<9} {text}")?;
        self.out.flush()
    }

    /// Tells one check, and counts it.
    pub(super) fn check(&mut self, check: &Check) -> io::Result<()> {
        let (word, text) = match &check.difference {
            None => {
                self.held += 1;
                ("ok", short(&check.evidence))
            }
            Some(difference) => {
                self.differed += 1;
                ("DIFFERS", difference.clone())
            }
        };
        writeln!(self.out, "{word:>16}  {:<22} {text}", check.subject)
    }

    /// Tells how it ended.
    pub(super) fn tell_verdict(&mut self) -> io::Result<()> {
        let took = milliseconds(self.started.elapsed());
        writeln!(self.out)?;
        match self.differed {
            0 => writeln!(self.out, "All {} checks held; {took} ms.", self.held),
            differed => writeln!(
                self.out,
                "{differed} of {} checks did not hold.",
                self.held + differed
            ),
        }
    }

    /// Tells where to look while the demo stays up.
    pub(super) fn look_here(&mut self, places: &[(&str, String)]) -> io::Result<()> {
        writeln!(self.out)?;
        for (name, place) in places {
            writeln!(self.out, "  {name:<14} {place}")?;
        }
        writeln!(self.out)?;
        writeln!(self.out, "Both bridges stay up until Ctrl-C.")?;
        self.out.flush()
    }

    /// Whether there were checks, and every one of them held.
    pub(super) fn all_held(&self) -> bool {
        self.held > 0 && self.differed == 0
    }
}

/// Text that stays on one line. What differs is told in full.
fn short(text: &str) -> String {
    const MAX_CHARS: usize = 100;
    if text.chars().count() <= MAX_CHARS {
        return text.to_owned();
    }
    let kept: String = text.chars().take(MAX_CHARS - 1).collect();
    format!("{kept}…")
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_check_that_differs_spoils_the_verdict_and_says_what_differed() {
        let mut out = Vec::new();
        let mut story = Story::begin(&mut out).unwrap();
        assert!(!story.all_held(), "nothing was checked yet");
        story.check(&Check::held("size", "12 octets")).unwrap();
        assert!(story.all_held());
        let lost = Check::of("hash", "abc", Some("abd".to_owned()));
        story.check(&lost).unwrap();
        assert!(!story.all_held());
        story.tell_verdict().unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("DIFFERS  hash"), "{text}");
        assert!(text.contains("abd"), "{text}");
        assert!(text.contains("1 of 2 checks did not hold"), "{text}");
    }
}
