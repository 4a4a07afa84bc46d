//! What was accepted is delivered or reported as failed, and told of once, whatever happens: many messages both ways, by
//! senders that repeat what was not answered, through bridges that are killed at random and at every fault point, whose
//! writes fail, whose database goes away (design.md section 1, points 3 and 4). `docs/chaos.md` says how to run it longer.
#![cfg(feature = "fault-points")]

mod arena;
mod check;
mod dice;
mod edge;
mod figures;
mod ground;
mod hisp;
mod life;
mod one_node;
mod plan;
mod record;
mod senders;
mod three_nodes;

/// Messages of the short form, unless `XDBRIDGE_CHAOS_MESSAGES` says otherwise.
const SHORT: usize = 300;

/// The seed of the short form: a gate that fails must make the same choices when it is run again.
const GATE_SEED: u64 = 5_003_843_370_436_872_553;

/// How many messages, and the seed of all choices: from the environment; the long form makes new choices in each run.
fn asked_for() -> (usize, u64) {
    let number = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(
            value
                .parse::<u64>()
                .unwrap_or_else(|_| panic!("{name} is a whole number")),
        )
    };
    let messages = number("XDBRIDGE_CHAOS_MESSAGES").map(|count| usize::try_from(count).unwrap());
    let seed = number("XDBRIDGE_CHAOS_SEED");
    let seed = seed.unwrap_or_else(|| match messages {
        None => GATE_SEED,
        Some(_) => uuid::Uuid::new_v4().as_u64_pair().0,
    });
    (messages.unwrap_or(SHORT), seed)
}

/// Judges a run, and says what is needed to repeat it.
fn assert_fine(seed: u64, (problems, figures): (Vec<String>, String)) {
    eprintln!("XDBRIDGE_CHAOS_SEED={seed}\n{figures}");
    assert!(
        problems.is_empty(),
        "XDBRIDGE_CHAOS_SEED={seed}: {} problems\n{}",
        problems.len(),
        problems.join("\n")
    );
}

// rule: COR-2, XDR-50, DST-6, MDN-15, STS-3, Q-6
#[test]
fn nothing_is_lost_or_doubled_on_a_node_that_dies_all_the_time() {
    let (messages, seed) = asked_for();
    eprintln!("XDBRIDGE_CHAOS_SEED={seed}");
    assert_fine(seed, one_node::run(seed, messages));
}

// rule: COR-2, XDR-50, DST-6, MDN-15, STS-3, Q-1, Q-6
#[test]
fn nothing_is_lost_or_doubled_on_three_nodes_that_die_under_a_database_that_goes_away() {
    let (messages, seed) = asked_for();
    eprintln!("XDBRIDGE_CHAOS_SEED={seed}");
    let least = three_nodes::Least {
        messages: messages / 2,
        lives: messages / 10,
        restarts: 2 + messages / 100,
        cuts: 3 + messages / 50,
    };
    assert_fine(seed, three_nodes::run(seed, least));
}
